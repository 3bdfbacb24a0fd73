//! `cargo xtask targets`: every measurement of an area, and for each target whether it is reached.

use clap::ValueEnum;

use crate::{cluster, measure, workspace::run as run_command};

/// Which targets to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure.
    area: Area,
}

/// What has targets.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Area {
    /// The in-process cache.
    Core,
    /// The peer link.
    Transport,
    /// A cluster of real processes.
    Cluster,
}

/// Measures everything, and ends with a line for each target.
///
/// # Errors
/// The measurements cannot be built. A target that is missed is no error, nor is a measurement that fails: its targets are skipped.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let measured = match args.area {
        Area::Core => measure::Area::Core.measure(false)?,
        Area::Transport => measure::Area::Transport.measure(false)?,
        Area::Cluster => return cluster::targets(),
    };
    println!();
    run_command(measured.command("targets"))
}
