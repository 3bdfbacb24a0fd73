//! `cargo xtask cluster`: real processes, one script, and a line for every check. The first mismatch ends it.

mod node;
mod script;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    time::Instant,
};

use anyhow::Context;
use serde_json::Value;

use crate::workspace::{cargo, output};
use script::Script;

/// How to run the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=32))]
    pub(crate) nodes: u8,
    /// Runs an optimised build.
    #[arg(long)]
    pub(crate) release: bool,
}

/// Builds the node program, and runs the script.
///
/// # Errors
/// A check does not hold, a deadline passed, or a process could not be built or run. No process is left behind.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let program = build(args.release)?;
    let folder = Folder::create()?;
    let start = Instant::now();
    Script::new(&program, &folder.path.join("cities.db"), usize::from(args.nodes))?.run()?;
    println!("every check holds for {} nodes, in {:.1} s", args.nodes, start.elapsed().as_secs_f64());
    Ok(())
}

/// Builds the node program and returns where cargo put it.
fn build(release: bool) -> anyhow::Result<PathBuf> {
    let mut command = cargo(&["build", "--package", "distcache-examples", "--bin", PROGRAM]);
    command.arg("--message-format=json-render-diagnostics");
    if release {
        command.arg("--release");
    }
    let messages = output(command)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built = messages.filter(|message| message["target"]["name"] == PROGRAM);
    let program = built.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.context("cargo did not say where it put the node program")
}

/// A new folder, removed with all it holds when this is dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        // Folders of runs that were killed stay behind, and process ids come again: try the next name.
        for number in 0.. {
            let path: PathBuf = parent.join(format!("distcache-xtask-{}-{number}", process::id()));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self { path }),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        eprintln!("{} was not removed: {error}", path.display());
    }
}

const PROGRAM: &str = "distcache-node";
