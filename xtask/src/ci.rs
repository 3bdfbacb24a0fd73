//! `cargo xtask ci`: every gate, in the order in which a fault is cheapest to find.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{
    cluster, external, fuzz, sim, tidy,
    workspace::{cargo, output, run as run_command},
};

/// How to run the gates.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs the gates after one that failed, too.
    #[arg(long)]
    keep_going: bool,
}

/// Runs the gates and prints a table of them.
///
/// # Errors
/// A gate failed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut done: Vec<(&Gate, Verdict, Duration)> = Vec::new();
    for gate in GATES {
        println!("\n== {}: {}", gate.name, gate.what);
        let start = Instant::now();
        let verdict = (gate.run)().unwrap_or_else(|error| Verdict::Failed(format!("{error:#}")));
        match &verdict {
            Verdict::Passed => {}
            Verdict::Skipped(reason) => println!("SKIPPED {}: {reason}", gate.name),
            Verdict::Failed(reason) => println!("FAILED {}: {reason}", gate.name),
        }
        let failed = matches!(verdict, Verdict::Failed(_));
        done.push((gate, verdict, start.elapsed()));
        if failed && !args.keep_going {
            break;
        }
    }

    println!("\n{:<12}{:>9}  result", "gate", "seconds");
    for (gate, verdict, took) in &done {
        println!("{:<12}{:>9.1}  {}", gate.name, took.as_secs_f64(), verdict.word());
    }
    for gate in &GATES[done.len()..] {
        println!("{:<12}{:>9}  not run", gate.name, "");
    }
    let total: Duration = done.iter().map(|(_, _, took)| *took).sum();
    println!("{:<12}{:>9.1}", "all", total.as_secs_f64());

    let failed: Vec<_> = done
        .iter()
        .filter(|(_, verdict, _)| matches!(verdict, Verdict::Failed(_)))
        .map(|(gate, ..)| gate.name)
        .collect();
    if !failed.is_empty() {
        bail!("these gates failed: {}", failed.join(", "));
    }
    Ok(())
}

struct Gate {
    name: &'static str,
    what: &'static str,
    run: fn() -> anyhow::Result<Verdict>,
}

enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped(_) => "SKIPPED",
            Self::Failed(_) => "FAILED",
        }
    }
}

const GATES: &[Gate] = &[
    Gate { name: "format", what: "cargo fmt --all --check", run: format },
    Gate { name: "tidy", what: "cargo xtask tidy", run: tidy },
    Gate { name: "core alone", what: "cargo tree -p distcache-core -e normal,build prints one line", run: core_alone },
    Gate { name: "licences", what: "cargo deny --offline check licenses bans sources", run: licences },
    Gate { name: "clippy", what: "cargo clippy --workspace --all-targets -- -D warnings", run: clippy },
    Gate { name: "doc", what: "RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps", run: doc },
    Gate { name: "test", what: "cargo test --workspace", run: test },
    Gate {
        name: "features",
        what: "cargo clippy and cargo test -p distcache-transport --features aws-lc-rs; cargo check -p distcache with it",
        run: features,
    },
    Gate {
        name: "discovery",
        what: "each provider's feature alone and all together: check, clippy, doc; cargo xtask test --external",
        run: discovery,
    },
    Gate { name: "sim", what: "cargo xtask sim --self-test --seeds 0..200 --seconds 30", run: simulation },
    Gate { name: "fuzz", what: "cargo fuzz run --sanitizer none, each target for 20 seconds", run: fuzz },
    Gate { name: "examples", what: "cargo run -p distcache-examples --example quickstart, cluster", run: examples },
    Gate {
        name: "cluster",
        what: "cargo xtask cluster --nodes 3; the same --discovery static, dns, nats, kubernetes; cargo xtask check-consistency --nodes 3 --seconds 20 --seed 1",
        run: real_cluster,
    },
];

fn format() -> anyhow::Result<Verdict> {
    passes(cargo(&["fmt", "--all", "--check"]))
}

fn tidy() -> anyhow::Result<Verdict> {
    tidy::run().map(|()| Verdict::Passed)
}

fn core_alone() -> anyhow::Result<Verdict> {
    let tree = output(cargo(&["tree", "--package", "distcache-core", "--edges", "normal,build"]))?;
    print!("{tree}");
    ensure!(tree.lines().count() == 1, "distcache-core has dependencies");
    Ok(Verdict::Passed)
}

fn licences() -> anyhow::Result<Verdict> {
    let installed = cargo(&["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success();
    if !installed {
        return Ok(Verdict::Skipped("cargo-deny is not installed (cargo install cargo-deny)".to_owned()));
    }
    // The advisories need the network, and change without a change of ours: they are not a gate.
    passes(cargo(&["deny", "--offline", "check", "licenses", "bans", "sources"]))
}

fn clippy() -> anyhow::Result<Verdict> {
    passes(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn doc() -> anyhow::Result<Verdict> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-Dwarnings");
    passes(command)
}

fn test() -> anyhow::Result<Verdict> {
    passes(cargo(&["test", "--workspace"]))
}

/// What is no default: the cryptography of aws-lc-rs, in a tree that has *ring* as well.
fn features() -> anyhow::Result<Verdict> {
    const FEATURE: [&str; 2] = ["--features", "aws-lc-rs"];
    run_command(cargo(&[&["test", "--package", "distcache-transport"], &FEATURE[..]].concat()))?;
    run_command(cargo(&[&["check", "--package", "distcache"], &FEATURE[..]].concat()))?;
    let lint = ["clippy", "--package", "distcache-transport", "--all-targets"];
    passes(cargo(&[&lint[..], &FEATURE, &["--", "-D", "warnings"]].concat()))
}

/// The providers that are no default, at real servers where these can be had.
fn discovery() -> anyhow::Result<Verdict> {
    const ALL: [&str; 2] = ["--features", "dns,kubernetes,nats"];
    for feature in ["dns", "kubernetes", "nats"] {
        run_command(cargo(&["check", "--package", "distcache", "--features", feature]))?;
    }
    let lint = ["clippy", "--package", "distcache-discovery", "--package", "distcache", "--all-targets"];
    run_command(cargo(&[&lint[..], &ALL, &["--", "-D", "warnings"]].concat()))?;
    let node = ["clippy", "--package", "distcache-examples", "--features", "discovery"];
    run_command(cargo(&[&node[..], &["--", "-D", "warnings"]].concat()))?;
    let mut doc = cargo(
        &[&["doc", "--no-deps", "--package", "distcache-discovery", "--package", "distcache"], &ALL[..]].concat(),
    );
    doc.env("RUSTDOCFLAGS", "-Dwarnings");
    run_command(doc)?;
    // With two providers of cryptography in one program, rustls panics unless somebody chooses.
    let both = "distcache-discovery/kubernetes,distcache-transport/aws-lc-rs";
    let packages = ["test", "--package", "distcache-discovery", "--package", "distcache-transport"];
    run_command(cargo(&[&packages[..], &["--features", both, "--test", "it", "--", "kubernetes::found"]].concat()))?;
    external::external().map(|()| Verdict::Passed)
}

fn simulation() -> anyhow::Result<Verdict> {
    sim::gate().map(|()| Verdict::Passed)
}

fn fuzz() -> anyhow::Result<Verdict> {
    if let Some(why) = fuzz::missing()? {
        return Ok(Verdict::Skipped(why.to_owned()));
    }
    for target in fuzz::TARGETS {
        let start = Instant::now();
        run_command(fuzz::command(target, FUZZ_SECONDS)?).with_context(|| format!("fuzz target {target}"))?;
        println!("fuzz target {target}: nothing found, {:.0} seconds with its build", start.elapsed().as_secs_f64());
    }
    Ok(Verdict::Passed)
}

/// In the profile of the tests, which is built already: the README's command differs in speed only.
fn examples() -> anyhow::Result<Verdict> {
    for example in ["quickstart", "cluster"] {
        run_command(cargo(&["run", "--package", "distcache-examples", "--example", example]))?;
    }
    Ok(Verdict::Passed)
}

fn real_cluster() -> anyhow::Result<Verdict> {
    cluster::run(&cluster::Args::script(3))?;
    cluster::run(&cluster::Args::every_way())?;
    cluster::check(&cluster::CheckArgs::short(3)).map(|()| Verdict::Passed)
}

fn passes(command: Command) -> anyhow::Result<Verdict> {
    run_command(command).map(|()| Verdict::Passed)
}

/// Enough to find again what was found before; longer runs are for whoever changes what is fuzzed.
const FUZZ_SECONDS: u32 = 20;
