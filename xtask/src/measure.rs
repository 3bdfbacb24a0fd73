//! The measurements of an area, release-built and run one after the other: what `bench` and `targets` share.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::Context;
use clap::ValueEnum;

use crate::{
    attacks, tools,
    workspace::{built, cargo, root, run as run_command},
};

/// What is measured together.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Area {
    /// The in-process cache.
    Core,
    /// The peer link.
    Transport,
    /// Who owns a key.
    Cluster,
}

/// What was measured.
pub(crate) struct Measured {
    program: PathBuf,
    out: PathBuf,
    /// The measurements that ended with an error.
    pub(crate) failed: Vec<&'static str>,
}

/// Stores its results in a folder, those of a short run if it is to be quick.
type Task = fn(&Path, bool) -> anyhow::Result<()>;

struct Step {
    name: &'static str,
    /// What makes it short.
    quick: &'static [&'static str],
}

impl Area {
    /// Measures everything of the area, or a little of everything.
    ///
    /// # Errors
    /// The measurements cannot be built. One that fails does not keep the others from being made.
    pub(crate) fn measure(self, quick: bool) -> anyhow::Result<Measured> {
        let start = Instant::now();
        println!("== build of {}", self.program());
        let program = build(self.package(), self.program())?;
        tools::provide(self.tools())?;
        // A folder of their own for quick figures, so that they are never shown as real ones.
        let out = root().join("target").join(if quick { self.quick_folder() } else { self.folder() });
        remove_old(&out)?;
        let mut measured = Measured { program, out, failed: Vec::new() };
        for (at, step) in self.steps().iter().enumerate() {
            let passed = start.elapsed().as_secs();
            println!("\n== {} ({} of {}, {passed} s so far)", step.name, at + 1, self.steps().len());
            let mut command = measured.command(step.name);
            if quick {
                command.args(step.quick);
            }
            if let Err(error) = run_command(command) {
                eprintln!("{}: {error:#}", step.name);
                measured.failed.push(step.name);
            }
        }
        if let Some((name, task)) = self.task() {
            println!("\n== {name} ({} s so far)", start.elapsed().as_secs());
            if let Err(error) = task(&measured.out, quick) {
                eprintln!("{name}: {error:#}");
                measured.failed.push(name);
            }
        }
        println!("\n== measured in {} s", start.elapsed().as_secs());
        Ok(measured)
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Core => "core-bench",
            Self::Transport => "transport-bench",
            Self::Cluster => "cluster-bench",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Core => "distcache-benches",
            Self::Transport => "distcache-transport-benches",
            Self::Cluster => "distcache-cluster-benches",
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Core => "bench-core",
            Self::Transport => "bench-transport",
            Self::Cluster => "bench-cluster",
        }
    }

    const fn quick_folder(self) -> &'static str {
        match self {
            Self::Core => "bench-core-quick",
            Self::Transport => "bench-transport-quick",
            Self::Cluster => "bench-cluster-quick",
        }
    }

    /// The programs that are measured beside ours and are no Rust.
    const fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Core | Self::Cluster => &[],
            Self::Transport => &["redis-server", "groupcache-go"],
        }
    }

    /// What is no step of the program but runs tests.
    fn task(self) -> Option<(&'static str, Task)> {
        match self {
            Self::Core | Self::Cluster => None,
            Self::Transport => Some(("attacks", attacks::run)),
        }
    }

    const fn steps(self) -> &'static [Step] {
        match self {
            Self::Core => CORE,
            Self::Transport => TRANSPORT,
            Self::Cluster => CLUSTER,
        }
    }
}

impl Measured {
    /// Returns the command that does something with what was measured.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(subcommand).arg("--out").arg(&self.out).env("PATH", tools::path()).current_dir(root());
        command
    }
}

/// What is left of an earlier run must not be taken for a result of this one.
fn remove_old(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Builds a program of the benches, and returns where cargo put it.
fn build(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    built(cargo(&["build", "--release", "--package", package]), name)
}

/// Those that need the machine for themselves go before the one that takes all of it.
const CORE: &[Step] = &[
    Step { name: "clean-build", quick: &["--rounds", "1"] },
    Step { name: "flight", quick: &["--rounds", "3", "--storms", "500"] },
    Step { name: "collide", quick: &["--rounds", "3", "--time", "100"] },
    Step { name: "throughput", quick: &["--rounds", "3", "--time", "50", "--entries", "200000"] },
    Step { name: "latency", quick: &["--rounds", "3", "--time", "50", "--entries", "200000"] },
    Step { name: "memory", quick: &["--rounds", "1", "--entries", "200000"] },
    Step { name: "hit-ratio", quick: &["--quick"] },
];

const TRANSPORT: &[Step] = &[
    Step { name: "idle", quick: &["--links", "100", "--time", "2"] },
    Step { name: "round-trips", quick: &["--rounds", "2", "--time", "50"] },
    Step { name: "batch", quick: &["--rounds", "2", "--time", "50"] },
    Step { name: "large", quick: &["--rounds", "2", "--time", "200"] },
    Step { name: "engine", quick: &["--rounds", "2", "--time", "50"] },
];

const CLUSTER: &[Step] = &[
    Step { name: "speed", quick: &["--rounds", "3"] },
    Step { name: "spread", quick: &["--keys", "20000"] },
    Step { name: "join", quick: &["--keys", "20000"] },
];
