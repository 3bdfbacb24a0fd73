//! The scenarios: what a cluster of real processes is put through, one fault at a time.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    check, crash,
    fleet::Fleet,
    hot, lifecycle,
    netns::{self, Kind},
    partition,
    report::Report,
    throttle::Throttle,
    writes,
};
use crate::tools;

/// A scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    needs: Needs,
    run: fn(&Stage) -> anyhow::Result<Report>,
}

/// What a scenario cannot do without.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Processes and signals.
    Nothing,
    /// Packets that can be dropped.
    Packets,
    /// A process that believes another time.
    Clock,
    /// Processes that get a part of a processor.
    Shares,
}

/// Where scenarios run.
pub(crate) struct Stage {
    pub(super) program: PathBuf,
    pub(super) network: Kind,
    faketime: bool,
    /// Whether faults are made. Without, every scenario must find that it proves nothing.
    pub(super) with_fault: bool,
}

/// How a scenario ended.
pub(crate) enum Outcome {
    Done(Report),
    Skipped(String),
}

impl Stage {
    /// Finds out what this machine allows, and says what it does not.
    pub(crate) fn set(program: PathBuf, with_fault: bool) -> anyhow::Result<Self> {
        let network = netns::probe();
        if let Kind::Loopback(why) = &network {
            println!("no network namespaces, so no partition, no loss: {why}");
        }
        let faketime = tools::provide(&[tools::FAKETIME])?.is_empty();
        if !faketime {
            println!("no libfaketime, so no jump of a clock");
        }
        Ok(Self { program, network, faketime, with_fault })
    }

    /// Starts a cluster of that many nodes.
    pub(super) fn start(&self, nodes: usize) -> anyhow::Result<Fleet> {
        Fleet::start(&self.network, &self.program, nodes)
    }
}

impl Scenario {
    /// Runs it, and prints what it found.
    ///
    /// # Errors
    /// A process or a rule failed. What the scenario found is no error here.
    pub(crate) fn run(&self, stage: &Stage) -> anyhow::Result<Outcome> {
        println!("\n== {}: {}", self.name, self.what);
        if let Some(why) = self.lacking(stage) {
            println!("  skipped: {why}");
            return Ok(Outcome::Skipped(why));
        }
        let start = Instant::now();
        let report = (self.run)(stage).with_context(|| format!("scenario {}", self.name))?;
        print!("{report}");
        println!("  ({:.1} s)", start.elapsed().as_secs_f64());
        Ok(Outcome::Done(report))
    }

    fn lacking(&self, stage: &Stage) -> Option<String> {
        match (self.needs, &stage.network) {
            (Needs::Packets, Kind::Loopback(why)) => Some(format!("packets cannot be dropped: {why}")),
            (Needs::Clock, _) if !stage.faketime => Some("there is no libfaketime".to_owned()),
            (Needs::Shares, _) => Throttle::new("probe", 20).err().map(|error| format!("{error:#}")),
            _ => None,
        }
    }
}

/// Returns the scenario of that name.
pub(crate) fn named(name: &str) -> anyhow::Result<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name).with_context(|| format!("there is no scenario {name}"))
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "start",
        what: "5 nodes at once, in random order, 10 times: one cluster each time",
        needs: Needs::Nothing,
        run: lifecycle::start,
    },
    Scenario {
        name: "storm",
        what: "64 callers on each of 3 nodes ask for one cold key: one load",
        needs: Needs::Nothing,
        run: lifecycle::storm,
    },
    Scenario { name: "kill", what: "an owner ends by SIGKILL under load", needs: Needs::Nothing, run: crash::kill },
    Scenario {
        name: "backups",
        what: "an owner ends by SIGKILL whose values have copies in case it dies",
        needs: Needs::Nothing,
        run: crash::backups,
    },
    Scenario {
        name: "stop",
        what: "an owner is stopped by SIGSTOP under load, and goes on after it was given up",
        needs: Needs::Nothing,
        run: crash::stop,
    },
    Scenario {
        name: "partition",
        what: "2 nodes and 3 nodes do not hear each other, and then do again",
        needs: Needs::Packets,
        run: partition::full,
    },
    Scenario {
        name: "one-way",
        what: "a node does not hear the others, who hear it, and then does again",
        needs: Needs::Packets,
        run: partition::one_way,
    },
    Scenario {
        name: "loss",
        what: "every node loses 20 % of what comes in, for 10 s",
        needs: Needs::Packets,
        run: partition::loss,
    },
    Scenario {
        name: "clock",
        what: "a node that crashed starts again a day earlier",
        needs: Needs::Clock,
        run: lifecycle::clock,
    },
    Scenario {
        name: "delete-many",
        what: "1,000 keys are deleted while a peer is dead, and again while one is silent",
        needs: Needs::Nothing,
        run: writes::delete_many,
    },
    Scenario {
        name: "delete-keyspace",
        what: "a keyspace of a million entries on each of 3 nodes is deleted",
        needs: Needs::Nothing,
        run: writes::delete_keyspace,
    },
    Scenario {
        name: "delete-split",
        what: "a keyspace is deleted on both sides of a split",
        needs: Needs::Packets,
        run: writes::delete_keyspace_split,
    },
    Scenario {
        name: "hot-key",
        what: "3 nodes read one key, each with a fifth of a processor",
        needs: Needs::Shares,
        run: hot::hot_key,
    },
    Scenario {
        name: "fresh",
        what: "5 nodes read and write the same keys, and nothing else happens: how old what they read is",
        needs: Needs::Nothing,
        run: check::healthy,
    },
    Scenario {
        name: "rolling",
        what: "5 nodes restart one after the other, under load over 100,000 keys",
        needs: Needs::Nothing,
        run: lifecycle::rolling,
    },
];

/// How many nodes most scenarios take.
pub(super) const NODES: usize = 5;
/// How many keys their traffic is over.
pub(super) const KEYS: u32 = 2_000;
/// Reads a second of each class at each node: far above what makes a scenario void, far below what two cores do.
pub(super) const RATE: u32 = 100;
/// How long traffic runs before the fault: enough reads for a percentile to compare with.
pub(super) const BEFORE: Duration = Duration::from_secs(4);
/// What is promised of views and half of it again, so that a miss is a figure.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// "One message later", on a machine that may be busy.
pub(super) const MESSAGE: Duration = Duration::from_secs(2);
/// The same, where it is measured. It takes a millisecond or so; a node that waits for a processor takes longer.
pub(super) const ONE_MESSAGE_MS: f64 = 50.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert!(names.iter().all(|name| named(name).unwrap().name == *name));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(named("dance").is_err());
    }
}
