//! Where the workspace is, and how cargo is called in it.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::Value;

/// Returns the folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask is a folder of the workspace").to_owned()
}

/// Makes a command of the cargo that runs this task, in the workspace's root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(args).current_dir(root());
    // This program runs under cargo, which told it about its own package. A build script that asks for such a variable would
    // find it changed, and with every change of hands between this and a plain cargo half the tree would be built anew.
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
        command.env_remove(name);
    }
    command
}

fn is_of_this_package(variable: &OsStr) -> bool {
    let variable = variable.as_encoded_bytes();
    variable.starts_with(b"CARGO_PKG_") || variable.starts_with(b"CARGO_MANIFEST_")
}

/// Runs a command, which prints what it likes.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// Runs a command and returns its standard output. What it says on standard error is passed on.
///
/// # Errors
/// It cannot be started, or fails, or its output is not UTF-8.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(output.status.success(), "{} ended with {}", command.get_program().display(), output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Has a `cargo build` build a program, and returns where cargo put it.
///
/// # Errors
/// It cannot be built, or cargo did not say.
pub(crate) fn built(mut build: Command, name: &str) -> anyhow::Result<PathBuf> {
    build.args(["--bin", name, "--message-format=json-render-diagnostics"]);
    let messages = output(build)?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter(|message| message["target"]["name"] == name);
    let program = programs.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.with_context(|| format!("cargo did not say where it put {name}"))
}
