//! `cargo xtask test`: the tests, and with `--external` those that need servers of others, which it gets.

use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{
    tools,
    workspace::{cargo, run as run_command},
};

/// Which tests to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs the tests of discovery against real servers in the place of all others: nats-server and dnsmasq, which are installed where they can
    /// be had, and kube-apiserver where `KUBEBUILDER_ASSETS` names the folder of it and etcd, or `cargo xtask install kube-apiserver etcd`
    /// built them.
    #[arg(long)]
    external: bool,
}

/// Runs tests.
///
/// # Errors
/// A test failed, or could not be built.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.external { external() } else { run_command(cargo(&["test", "--workspace"])) }
}

/// Runs the tests of discovery with all features, and prints a table of what the conformance suite found at which server.
pub(crate) fn external() -> anyhow::Result<()> {
    let missing = tools::provide(SERVERS)?;
    let mut command = cargo(&["test", "--package", "distcache-discovery", "--features", "dns,kubernetes,nats"]);
    command.args(["--", "--nocapture"]).env("PATH", tools::path());
    let assets = assets();
    match &assets {
        Some(assets) => _ = command.env(ASSETS, assets),
        None => println!(
            "skipped: kube-apiserver, {ASSETS} names no folder, and `cargo xtask install` was not asked for it"
        ),
    }
    if missing.is_empty() && assets.is_some() {
        command.env("DISTCACHE_EXTERNAL", "required");
    }
    let (passed, said) = echoed(command)?;
    table(&said);
    ensure!(passed, "tests failed");
    let seen = |server: &str| said.iter().any(|line| line.starts_with(CASE) && line.contains(&format!("| {server} ")));
    let silent: Vec<_> = SERVERS.iter().filter(|server| !missing.contains(server) && !seen(server)).collect();
    ensure!(silent.is_empty(), "these servers were had, and no case says that it asked them: {silent:?}");
    Ok(())
}

/// The folder with kube-apiserver and etcd, where there is one.
fn assets() -> Option<PathBuf> {
    let named = env::var_os(ASSETS).map(PathBuf::from);
    let has_both = |folder: &PathBuf| ["kube-apiserver", "etcd"].iter().all(|name| folder.join(name).is_file());
    named.or_else(|| Some(tools::programs()).filter(has_both))
}

/// Runs a command, passes on what it prints, and returns whether it passed and what cases and skips it told of.
fn echoed(mut command: Command) -> anyhow::Result<(bool, Vec<String>)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("standard output was asked for")?;
    let mut said = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        // The name of a test may stand before what it prints.
        let told = [CASE, SKIP].iter().filter_map(|word| line.find(word)).min();
        said.extend(told.map(|at| line[at..].to_owned()));
    }
    Ok((child.wait()?.success(), said))
}

fn table(said: &[String]) {
    let rows: Vec<Vec<_>> = said
        .iter()
        .filter_map(|line| line.strip_prefix(CASE))
        .map(|line| line.split(" | ").map(str::to_owned).collect())
        .collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    println!();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths.into_iter().chain([0])) {
            print!("{cell:<width$}  ");
        }
        println!();
    }
    for skip in said.iter().filter(|line| line.starts_with(SKIP)) {
        println!("{skip}");
    }
    let kept = rows.iter().filter(|row| row.last().is_some_and(|verdict| verdict == "kept")).count();
    println!("{} cases: {kept} kept", rows.len());
}

const CASE: &str = "conformance | ";
const SKIP: &str = "skipped: ";
const SERVERS: &[&str] = &["dnsmasq", "nats-server"];
const ASSETS: &str = "KUBEBUILDER_ASSETS";
