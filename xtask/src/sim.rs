//! `cargo xtask sim`: whole clusters in virtual time, from seeds.

use std::{ffi::OsString, path::PathBuf, process::Command};

use anyhow::Context;
use serde_json::Value;

use crate::workspace::{built, cargo, root, run as run_command};

/// How to run the simulation.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the simulation is told: `--seeds A..B`, `--seed N --trace`, `--planted`; `--help` tells all of it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Builds the simulation, and runs it.
///
/// # Errors
/// It cannot be built, or a seed failed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut command = Command::new(build()?);
    command.args(&args.args);
    run_command(command)
}

/// Runs so many seeds whose faults are of these kinds, and returns what came of them: `seeds`, `failed`, `false_removals`, `node_hours`.
///
/// # Errors
/// It cannot be built, or did not say. Seeds that failed are no error.
pub(crate) fn figures(kinds: &str, seeds: u64) -> anyhow::Result<Value> {
    let mut command = Command::new(build()?);
    command.args(["--seeds", "0..100000", "--figures", "--kinds", kinds, "--most", &seeds.to_string()]);
    let said = command.output().context("the simulation does not run")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let figures = said.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    figures.filter(Value::is_object).context("the simulation did not say what came of it")
}

/// What CI runs of it: the same seed twice, a planted defect, and as many seeds as there is time for.
///
/// # Errors
/// As [`run`].
pub(crate) fn gate() -> anyhow::Result<()> {
    let args = ["--self-test", "--seeds", "0..200", "--seconds", "30"].map(OsString::from).into();
    run(&Args { args })
}

/// Builds it with what it needs beyond a normal build, and returns where cargo put it.
///
/// Tokio lets its choices be seeded only under a flag, and the defects are planted under another. Both change every crate, so that
/// there is a folder of its own for them: other builds stay as they are.
fn build() -> anyhow::Result<PathBuf> {
    let mut command = cargo(&["build", "--release", "--package", "distcache-sim"]);
    with_defects(&mut command);
    built(command, "distcache-sim")
}

/// Has cargo build with defects that can be planted, in the folder for that.
pub(crate) fn with_defects(command: &mut Command) {
    command.env("RUSTFLAGS", FLAGS).arg("--target-dir").arg(root().join("target/sim"));
}

const FLAGS: &str = "--cfg tokio_unstable --cfg distcache_defects";
