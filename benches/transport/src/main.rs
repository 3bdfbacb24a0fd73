//! `transport-bench`: the measurements of `distcache-transport`, a subcommand each. Each stores what it measured; `report` shows it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use distcache_transport_benches::{batch, engine, idle, large, node, report, round_trips, serve, targets};

#[derive(Debug, Parser)]
#[command(name = "transport-bench", about = "Measures distcache-transport beside its peers.")]
struct Cli {
    /// Where measurements are stored. Defaults to `target/bench-transport` in the workspace.
    #[arg(long, global = true, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, clap::Subcommand)]
enum Measure {
    /// Answers a second.
    RoundTrips(round_trips::Args),
    /// A hundred keys in one call.
    Batch(batch::Args),
    /// A small call beside large ones.
    Large(large::Args),
    /// Links on which nothing happens.
    Idle(idle::Args),
    /// Gets of another node's keys, through whole caches.
    Engine(engine::Args),
    /// What a node's process does.
    #[command(hide = true)]
    Node(node::Args),
    /// What a server's process does.
    #[command(hide = true)]
    Serve(serve::Args),
    /// A line for each target, from what was measured.
    Targets,
    /// Writes `benches/TRANSPORT.md`, from what was measured.
    Report,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = cli.out.unwrap_or_else(|| benches.join("../../target/bench-transport"));
    let done = match cli.measure {
        Measure::RoundTrips(args) => round_trips::run(&args, &out),
        Measure::Batch(args) => batch::run(&args, &out),
        Measure::Large(args) => large::run(&args, &out),
        Measure::Idle(args) => idle::run(&args, &out),
        Measure::Engine(args) => engine::run(&args, &out),
        Measure::Node(args) => node::run(&args),
        Measure::Serve(args) => serve::run(&args),
        Measure::Targets => targets::run(&out),
        Measure::Report => report::run(&out, &benches.join("..")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
