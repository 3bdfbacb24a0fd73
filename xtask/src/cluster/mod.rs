//! `cargo xtask cluster`: real processes. A script with a line for every check, whose first mismatch ends it; and scenarios, each
//! a fault under load, with what callers saw of it.

mod check;
mod crash;
mod discovery;
mod fleet;
mod guard;
mod hot;
mod lifecycle;
mod netns;
mod nft;
mod node;
mod partition;
mod report;
mod scenario;
mod script;
mod targets;
mod throttle;
mod traffic;
mod writes;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    time::Instant,
};

use anyhow::ensure;
use clap::ValueEnum as _;

use crate::{
    sim,
    workspace::{built, cargo},
};
use scenario::{Outcome, SCENARIOS, Scenario, Stage};
use script::Script;

pub(crate) use check::{Args as CheckArgs, run as check};
pub(crate) use targets::run as targets;

/// How to run the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=32))]
    pub(crate) nodes: u8,
    /// Runs an optimised build.
    #[arg(long)]
    pub(crate) release: bool,
    /// Lists the scenarios, and runs nothing.
    #[arg(long)]
    pub(crate) list: bool,
    /// Runs a scenario in the place of the script. May be given several times.
    #[arg(long, value_name = "NAME", conflicts_with = "nodes")]
    pub(crate) scenario: Vec<String>,
    /// Runs the script, and then every scenario.
    #[arg(long, conflicts_with_all = ["nodes", "scenario"])]
    pub(crate) all: bool,
    /// Has three nodes find each other by a provider, at a real server which goes away and comes back, in the place of the script. May be given
    /// several times.
    #[arg(long, value_enum, value_name = "PROVIDER", conflicts_with_all = ["nodes", "scenario", "all", "release"])]
    pub(crate) discovery: Vec<discovery::Way>,
    /// Makes no fault: every scenario must find that it proves nothing.
    #[arg(long)]
    pub(crate) without_fault: bool,
}

impl Args {
    /// The script alone.
    pub(crate) const fn script(nodes: u8) -> Self {
        Self {
            nodes,
            release: false,
            list: false,
            scenario: Vec::new(),
            all: false,
            discovery: Vec::new(),
            without_fault: false,
        }
    }

    /// Each way to find peers.
    pub(crate) fn every_way() -> Self {
        Self { discovery: discovery::Way::value_variants().to_vec(), ..Self::script(3) }
    }
}

/// Builds the node program, and runs the script or scenarios.
///
/// # Errors
/// A check does not hold, a deadline passed, a scenario is void or found what must not be, or a process could not be built or run. A time that
/// is over its target is told, and no error. No process is left behind.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:<17}{}", scenario.name, scenario.what));
        return Ok(());
    }
    if !args.discovery.is_empty() {
        return discovery::run(&args.discovery);
    }
    let named: Vec<_> = args.scenario.iter().map(|name| scenario::named(name)).collect::<Result<_, _>>()?;
    let scenarios = if args.all { SCENARIOS.iter().collect() } else { named };
    let program = build(if args.release { Build::Release } else { Build::Debug })?;
    if args.all || scenarios.is_empty() {
        run_script(&program, args)?;
    }
    if scenarios.is_empty() { Ok(()) } else { run_scenarios(&scenarios, program, !args.without_fault) }
}

fn run_scenarios(scenarios: &[&Scenario], program: PathBuf, with_fault: bool) -> anyhow::Result<()> {
    let stage = Stage::set(program, with_fault)?;
    let (mut faults, mut skipped) = (Vec::new(), 0);
    for scenario in scenarios {
        // One that cannot be run does not keep the others from it.
        let fault = match scenario.run(&stage) {
            Ok(Outcome::Done(report)) => report.fault(),
            Ok(Outcome::Skipped(_)) => {
                skipped += 1;
                None
            }
            Err(error) => {
                println!("  {error:#}");
                Some(format!("{error:#}"))
            }
        };
        faults.extend(fault.map(|fault| format!("{}: {fault}", scenario.name)));
    }
    println!();
    ensure!(faults.is_empty(), "of {} scenarios, these failed:\n  {}", scenarios.len(), faults.join("\n  "));
    println!("{} scenarios hold, {skipped} were skipped", scenarios.len() - skipped);
    Ok(())
}

fn run_script(program: &Path, args: &Args) -> anyhow::Result<()> {
    let folder = Folder::create()?;
    let start = Instant::now();
    Script::new(program, &folder.path.join("cities.db"), usize::from(args.nodes))?.run()?;
    println!("every check holds for {} nodes, in {:.1} s", args.nodes, start.elapsed().as_secs_f64());
    Ok(())
}

/// How to build the node program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    Debug,
    Release,
    /// With defects that it can be started with.
    Defects,
    /// With every way to find peers.
    Discovery,
}

/// Builds the node program and returns where cargo put it.
fn build(how: Build) -> anyhow::Result<PathBuf> {
    let mut command = cargo(&["build", "--package", "distcache-examples"]);
    match how {
        Build::Debug => {}
        Build::Discovery => _ = command.args(["--features", "discovery"]),
        Build::Release => _ = command.arg("--release"),
        Build::Defects => sim::with_defects(command.arg("--release")),
    }
    built(command, PROGRAM)
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
