//! `cargo xtask targets`: every measurement of an area, and for each target whether it is reached.

use crate::{measure::Area, workspace::run as run_command};

/// Which targets to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure.
    area: Area,
}

/// Measures everything, and ends with a line for each target.
///
/// # Errors
/// The measurements cannot be built. A target that is missed is no error, nor is a measurement that fails: its targets are skipped.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let measured = args.area.measure(false)?;
    println!();
    run_command(measured.command("targets"))
}
