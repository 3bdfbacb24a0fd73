//! `cluster-bench`: the measurements of `distcache-cluster`, a subcommand each. Each stores what it measured; `report` shows it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use distcache_cluster_benches::{join, report, speed, spread};

#[derive(Debug, Parser)]
#[command(name = "cluster-bench", about = "Measures distcache-cluster's placement beside its peers.")]
struct Cli {
    /// Where measurements are stored. Defaults to `target/bench-cluster` in the workspace.
    #[arg(long, global = true, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, clap::Subcommand)]
enum Measure {
    /// The time of a look-up, and of a rebuild.
    Speed(speed::Args),
    /// How much more than its share the busiest node has.
    Spread(spread::Args),
    /// How many keys move when a node joins, and between whom.
    Join(join::Args),
    /// Prints the figures that have targets, as JSON.
    Figures,
    /// Writes `benches/CLUSTER.md`, from what was measured.
    Report,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let out = cli.out.unwrap_or_else(|| benches.join("../target/bench-cluster"));
    let done = match cli.measure {
        Measure::Speed(args) => speed::run(&args, &out),
        Measure::Spread(args) => spread::run(&args, &out),
        Measure::Join(args) => join::run(&args, &out),
        Measure::Figures => report::figures(&out),
        Measure::Report => report::run(&out, &benches),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
