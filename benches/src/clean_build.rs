//! `core-bench clean-build`: what it takes to build `distcache-core` where nothing is built yet.

use std::{
    env,
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::{records, stats};

/// What it took to build the crate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CleanBuild {
    /// The seconds of each build.
    pub seconds: Vec<f64>,
    /// How many crates it needs beside itself.
    pub dependencies: usize,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many times it is built.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
}

/// Measures, tells about it, and stores it.
///
/// # Errors
///
/// Cargo cannot be run, or the crate not be built.
pub fn run(args: &Args, workspace: &Path, out: &Path) -> anyhow::Result<()> {
    let folder = out.join("clean-build");
    let mut seconds = Vec::new();
    for _ in 0..args.rounds {
        let built = build(workspace, &folder);
        // Whether or not it was built, the next is to start from nothing.
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        seconds.push(built?);
    }
    let tree = output(cargo(workspace, &["tree", "--package", CRATE, "--edges", "normal,build", "--prefix", "none"]))?;
    let build = CleanBuild { seconds, dependencies: tree.lines().count().saturating_sub(1) };
    println!("\n{CRATE}: {:.2} s, {} dependencies", stats::median(&build.seconds), build.dependencies);
    records::write(out, records::CLEAN_BUILD, &[build])
}

fn build(workspace: &Path, folder: &Path) -> anyhow::Result<f64> {
    let mut command = cargo(workspace, &["build", "--package", CRATE, "--release", "--quiet", "--target-dir"]);
    command.arg(folder);
    let start = Instant::now();
    output(command)?;
    Ok(start.elapsed().as_secs_f64())
}

fn cargo(workspace: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(args).current_dir(workspace);
    command
}

fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

const CRATE: &str = "distcache-core";
