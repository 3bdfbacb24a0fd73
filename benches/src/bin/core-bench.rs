//! `core-bench`: the measurements of `distcache-core`, a subcommand each. Each stores what it measured; `report` shows it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use distcache_benches::{
    clean_build, collide, flight, hit_ratio, latency, memory, report, targets, throughput, traces,
};

#[derive(Debug, Parser)]
#[command(name = "core-bench", about = "Measures distcache-core beside its peers.")]
struct Cli {
    /// Where measurements are stored. Defaults to `target/bench-core` in the workspace.
    #[arg(long, global = true, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, clap::Subcommand)]
enum Measure {
    /// Hits on real traces.
    HitRatio(hit_ratio::Args),
    /// Operations per second.
    Throughput(throughput::Args),
    /// The time of single gets.
    Latency(latency::Args),
    /// Bytes of memory that an entry costs.
    Memory(memory::Args),
    /// What one process of `memory` does.
    #[command(name = memory::CHILD, hide = true)]
    MemoryChild(memory::ChildArgs),
    /// Many tasks that ask for one key.
    Flight(flight::Args),
    /// Keys that were chosen to collide.
    Collide(collide::Args),
    /// The build of the crate from nothing.
    CleanBuild(clean_build::Args),
    /// A line for each target, from what was measured.
    Targets,
    /// Writes `benches/RESULTS.md` and its plots, from what was measured.
    Report,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = cli.out.unwrap_or_else(|| workspace().join("target/bench-core"));
    let done = match cli.measure {
        Measure::HitRatio(args) => hit_ratio::run(&args, &traces::folder(), &out),
        Measure::Throughput(args) => throughput::run(&args, &out),
        Measure::Latency(args) => latency::run(&args, &out),
        Measure::Memory(args) => memory::run(&args, &out),
        Measure::MemoryChild(args) => memory::run_child(&args),
        Measure::Flight(args) => flight::run(&args, &out),
        Measure::Collide(args) => collide::run(&args, &out),
        Measure::CleanBuild(args) => clean_build::run(&args, workspace(), &out),
        Measure::Targets => targets::run(&out),
        Measure::Report => report::run(&out, Path::new(env!("CARGO_MANIFEST_DIR"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the benches are a folder of the workspace")
}
