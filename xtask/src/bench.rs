//! `cargo xtask bench`: every measurement of an area, and the page that shows them.

use anyhow::ensure;

use crate::{measure::Area, workspace::run as run_command};

/// How to run the measurements.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure.
    area: Area,
    /// Measures less of everything, for a look: the figures are no good for anything else, and the page is not written.
    #[arg(long)]
    quick: bool,
}

/// Measures everything, and writes the page of results and its plots.
///
/// # Errors
/// The measurements cannot be built, or one of them fails, or the page cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let measured = args.area.measure(args.quick)?;
    ensure!(measured.failed.is_empty(), "these measurements failed: {}", measured.failed.join(", "));
    if args.quick {
        return Ok(());
    }
    run_command(measured.command("report"))
}
