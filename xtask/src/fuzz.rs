//! How the fuzz targets are run: by CI, and for what attacks do to the transport.
//!
//! With no sanitizer, so that it runs on every toolchain: the libraries are safe Rust, and it is their own checks that can fail.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::Context;

use crate::workspace::{cargo, root};

/// Every target.
pub(crate) const TARGETS: &[&str] = &["core_calls", "frames", "handshake", "connection"];
/// Those that feed bytes of a peer to the transport.
pub(crate) const OF_TRANSPORT: &[&str] = &["frames", "handshake", "connection"];

/// Says why nothing can be fuzzed, if it cannot.
///
/// # Errors
/// Cargo cannot be started.
pub(crate) fn missing() -> anyhow::Result<Option<&'static str>> {
    let installed = cargo(&["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
    Ok((!installed).then_some("cargo-fuzz is not installed (cargo install cargo-fuzz)"))
}

/// Makes the command that builds a target.
pub(crate) fn build(target: &str) -> Command {
    cargo(&["fuzz", "build", "--sanitizer", "none", target])
}

/// Makes the command that runs a target for some seconds, and fails if anything is found.
///
/// What was found before lies in `corpus` and stays on this machine; what is known to be of interest lies in `seeds` and is checked in.
///
/// # Errors
/// The folder of the corpus cannot be made.
pub(crate) fn command(target: &str, seconds: u32) -> anyhow::Result<Command> {
    let [corpus, seeds] = ["corpus", "seeds"].map(|folder| root().join("fuzz").join(folder).join(target));
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let mut command = cargo(&["fuzz", "run", "--sanitizer", "none", target]);
    command.arg(corpus);
    if seeds.exists() {
        command.arg(seeds);
    }
    command.args(["--", &format!("-max_total_time={seconds}"), "-max_len=600", "-verbosity=0"]);
    Ok(command)
}
