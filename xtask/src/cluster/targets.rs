//! `cargo xtask targets cluster`: the scenarios, some of them several times, and a line for each target.

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{
    Build, build,
    report::{Bound, Report},
    scenario::{self, ONE_MESSAGE_MS, Outcome, Stage},
};
use crate::{measure::Area, sim, workspace::output};

/// A target, and how far it is.
struct Target {
    number: &'static str,
    name: &'static str,
    bound: Bound,
    /// Or why there is no figure.
    figure: Result<f64, String>,
}

/// Makes the lines of some targets. A further measurement is a further function in [`PRODUCERS`].
type Producer = fn(&Stage) -> Vec<Target>;

/// Runs every producer, and prints the lines of all.
///
/// # Errors
/// The node program cannot be built. A target that is missed is no error, nor is a scenario that fails: its targets are skipped.
pub(crate) fn run() -> anyhow::Result<()> {
    let stage = Stage::set(build(Build::Release)?, true)?;
    let targets: Vec<_> = PRODUCERS.iter().flat_map(|producer| producer(&stage)).collect();
    println!();
    targets.iter().for_each(|target| println!("{}", target.line()));
    Ok(())
}

const PRODUCERS: &[Producer] = &[
    start,
    start_simulated,
    kill,
    stop,
    loss_simulated,
    ring,
    storm,
    rolling,
    backups,
    fresh,
    delete_many,
    delete_keyspace,
    heal,
    hot_key,
];

fn start(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("start", 1, stage);
    vec![runs.worst("1", "one-cluster-of-5-real", "tries that were one cluster in 10 s", Bound::Exactly(10.0))]
}

fn start_simulated(_: &Stage) -> Vec<Target> {
    let figure = simulated("starts", STARTS, |figures| Some(figures["seeds"].as_f64()? - figures["failed"].as_f64()?));
    vec![Target { number: "1", name: "one-cluster-sim", bound: Bound::Exactly(STARTS as f64), figure }]
}

fn kill(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("kill", ROUNDS, stage);
    vec![
        runs.median("2", "kill-first-answer-s", "first correct answers, seconds", Bound::AtMost(1.0)),
        runs.worst("2", "kill-caller-errors", "caller errors after", Bound::Exactly(0.0)),
        runs.median("2", "kill-out-of-views-s", "out of every view, seconds", Bound::AtMost(10.0)),
    ]
}

fn stop(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("stop", ROUNDS, stage);
    vec![
        runs.median("3", "stop-30-key-scan-s", "30-key scan of its keys, seconds", Bound::AtMost(1.0)),
        runs.median("3", "stop-others-p99-x", "p99 of other keys, times that before", Bound::AtMost(1.5)),
    ]
}

fn loss_simulated(_: &Stage) -> Vec<Target> {
    let rate = |figures: &Value| Some(figures["false_removals"].as_f64()? / figures["node_hours"].as_f64()?);
    let figure = simulated("loss,freeze", LOSSES, rate);
    vec![Target { number: "4", name: "false-removals-per-node-hour", bound: Bound::AtMost(1.0), figure }]
}

/// A figure of so many seeds of some kinds.
fn simulated(kinds: &str, seeds: u64, figure: impl Fn(&Value) -> Option<f64>) -> Result<f64, String> {
    let figures = sim::figures(kinds, seeds).map_err(|error| format!("{error:#}"))?;
    if figures["seeds"].as_u64() != Some(seeds) {
        return Err("there are too few seeds of that kind".to_owned());
    }
    figure(&figures).ok_or_else(|| "the simulation does not tell it".to_owned())
}

fn ring(_: &Stage) -> Vec<Target> {
    let measure = || {
        let measured = Area::Cluster.measure(false)?;
        ensure!(measured.failed.is_empty(), "these measurements failed: {}", measured.failed.join(", "));
        Ok(serde_json::from_str(&output(measured.command("figures"))?)?)
    };
    ring_of(&measure().map_err(|error: anyhow::Error| format!("{error:#}")))
}

/// The targets of the ring, from the figures that its bench prints.
fn ring_of(figures: &Result<Value, String>) -> Vec<Target> {
    let target = |name: &'static str, bound| {
        let figure = figures.as_ref().map_err(Clone::clone);
        let figure = figure.and_then(|all| all[name].as_f64().ok_or_else(|| format!("the bench does not tell {name}")));
        Target { number: "5", name, bound, figure }
    };
    vec![
        target("look-up-ns", Bound::AtMost(100.0)),
        target("rebuild-ms", Bound::AtMost(20.0)),
        target("busiest-of-mean", Bound::AtMost(1.1)),
        target("join-takes-of-share", Bound::AtMost(1.2)),
        target("join-moves-between-others", Bound::Exactly(0.0)),
    ]
}

fn storm(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("storm", ROUNDS, stage);
    vec![runs.worst("6", "cold-key-loads", "source loads", Bound::Exactly(1.0))]
}

fn rolling(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("rolling", 1, stage);
    vec![
        runs.worst("7", "rolling-restart-errors", "caller errors", Bound::Exactly(0.0)),
        runs.median("7", "rolling-restart-loads-%", "source loads, % of the working set", Bound::AtMost(2.0)),
    ]
}

fn backups(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("backups", FEW_ROUNDS, stage);
    vec![
        runs.median("8", "crash-with-backups-loads-%", "source loads, % of its share", Bound::AtMost(25.0)),
        runs.worst("8", "crash-with-backups-errors", "caller errors after", Bound::Exactly(0.0)),
    ]
}

fn fresh(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("fresh", FEW_ROUNDS, stage);
    vec![
        runs.worst("9", "stale-reads-on-writer", "stale reads on the writer", Bound::Exactly(0.0)),
        runs.worst("9", "stale-reads-strict", "stale reads after a strict write", Bound::Exactly(0.0)),
        runs.worst("9", "oldest-read-elsewhere-ms", "oldest value read elsewhere, ms", Bound::AtMost(ONE_MESSAGE_MS)),
    ]
}

fn delete_many(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("delete-many", FEW_ROUNDS, stage);
    let delete = |how| format!("delete of 1,000 keys, a peer {how}, seconds");
    let named = |how| format!("{how}: it is named as pending");
    let converged = |how| format!("converged after it is back, {how}, seconds");
    vec![
        runs.median("10", "delete-many-peer-dead-s", &delete("dead"), Bound::AtMost(1.0)),
        runs.worst("10", "delete-many-peer-dead-degraded", &named("dead"), Bound::Exactly(1.0)),
        runs.median("10", "delete-many-peer-dead-converged-s", &converged("dead"), Bound::AtMost(10.0)),
        runs.median("10", "delete-many-peer-silent-s", &delete("silent"), Bound::AtMost(1.0)),
        runs.worst("10", "delete-many-peer-silent-degraded", &named("silent"), Bound::Exactly(1.0)),
        runs.median("10", "delete-many-peer-silent-converged-s", &converged("silent"), Bound::AtMost(10.0)),
    ]
}

fn delete_keyspace(stage: &Stage) -> Vec<Target> {
    let large = Runs::of("delete-keyspace", 1, stage);
    let split = Runs::of("delete-split", FEW_ROUNDS, stage);
    vec![
        large.median("11", "delete-keyspace-1M-ms", "delete_keyspace at the caller, ms", Bound::AtMost(10.0)),
        large.median("11", "delete-keyspace-gone-ms", "gone everywhere after that, ms", Bound::AtMost(ONE_MESSAGE_MS)),
        split.worst("11", "delete-keyspace-split-stale", "faults of reads after the heal", Bound::Exactly(0.0)),
    ]
}

fn heal(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("partition", 1, stage);
    vec![
        runs.median("12", "heal-views-agree-s", "views agree after the heal, seconds", Bound::AtMost(10.0)),
        runs.worst("12", "heal-stale-reads", "faults of reads of the deleted keys", Bound::Exactly(0.0)),
    ]
}

fn hot_key(stage: &Stage) -> Vec<Target> {
    let runs = Runs::of("hot-key", FEW_ROUNDS, stage);
    vec![
        runs.median("13", "hot-key-x-one-node", "reads a second, times those of one node", Bound::AtLeast(2.5)),
        runs.median("13", "hot-key-x-no-copies", "evenly spread, times those without copies", Bound::AtLeast(2.5)),
    ]
}

/// Some runs of a scenario, or why there are none.
struct Runs(Result<Vec<Report>, String>);

impl Runs {
    fn of(name: &str, rounds: usize, stage: &Stage) -> Self {
        let run = || {
            let scenario = scenario::named(name)?;
            let reports = (0..rounds).map(|_| match scenario.run(stage)? {
                Outcome::Done(report) if report.void.is_empty() => Ok(report),
                Outcome::Done(report) => Err(anyhow::anyhow!("void: {}", report.void.join("; "))),
                Outcome::Skipped(why) => Err(anyhow::anyhow!(why)),
            });
            reports.collect::<anyhow::Result<Vec<_>>>()
        };
        Self(run().map_err(|error| format!("{error:#}")))
    }

    /// Makes a target of the median, which one odd run does not move.
    fn median(&self, number: &'static str, name: &'static str, of: &str, bound: Bound) -> Target {
        let figure = self.ascending(of).map(|figures| figures[(figures.len() - 1) / 2]);
        Target { number, name, bound, figure }
    }

    /// Makes a target of the worst run: for what must hold every time.
    fn worst(&self, number: &'static str, name: &'static str, of: &str, bound: Bound) -> Target {
        let figure = self.ascending(of).map(|figures| {
            let missed = figures.iter().find(|figure| !bound.holds(**figure));
            *missed.unwrap_or(&figures[0])
        });
        Target { number, name, bound, figure }
    }

    fn ascending(&self, of: &str) -> Result<Vec<f64>, String> {
        let figures = self.0.as_ref().map_err(Clone::clone)?.iter();
        let figures = figures.map(|report| report.figure(of).with_context(|| format!("it does not tell {of}")));
        let mut figures = figures.collect::<anyhow::Result<Vec<_>>>().map_err(|error| error.to_string())?;
        figures.sort_by(f64::total_cmp);
        if figures.is_empty() { Err("it was not run".to_owned()) } else { Ok(figures) }
    }
}

impl Target {
    fn line(&self) -> String {
        let Self { number, name, bound, figure } = self;
        match figure {
            Err(why) => format!("target cluster.{number} {name} - {bound} skipped: {why}"),
            Ok(figure) => {
                let verdict = if bound.holds(*figure) { "reached" } else { "missed" };
                format!("target cluster.{number} {name} {figure:.2} {bound} {verdict}")
            }
        }
    }
}

/// What the target asks for.
const STARTS: u64 = 100;
/// Some twelve node-hours.
const LOSSES: u64 = 100;
/// As many as a median takes to mean something.
const ROUNDS: usize = 5;
/// For what differs little from run to run; all scenarios together have a quarter of an hour.
const FEW_ROUNDS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(figures: &[f64]) -> Runs {
        let report = |figure: &f64| {
            let mut report = Report::default();
            report.tell("seconds", *figure);
            report
        };
        Runs(Ok(figures.iter().map(report).collect()))
    }

    #[test]
    fn a_line_says_what_was_measured_and_whether_that_is_enough() {
        let runs = runs(&[0.5, 3.0, 0.7]);
        let median = runs.median("2", "first", "seconds", Bound::AtMost(1.0));
        assert_eq!(median.line(), "target cluster.2 first 0.70 <=1.00 reached");
        let worst = runs.worst("2", "first", "seconds", Bound::AtMost(1.0));
        assert_eq!(worst.line(), "target cluster.2 first 3.00 <=1.00 missed");
    }

    #[test]
    fn what_was_not_measured_is_skipped_with_the_reason() {
        let none = runs(&[1.0]).median("2", "first", "minutes", Bound::AtMost(1.0));
        assert!(none.line().ends_with("skipped: it does not tell minutes"));
        let failed = Runs(Err("no root".to_owned())).worst("2", "first", "seconds", Bound::AtMost(1.0));
        assert!(failed.line().ends_with("skipped: no root"));
    }
    #[test]
    fn the_ring_s_lines_are_made_of_what_its_bench_prints() {
        let figures = serde_json::json!({ "look-up-ns": 48.2, "rebuild-ms": 30, "join-moves-between-others": 0 });
        let lines: Vec<_> = ring_of(&Ok(figures)).iter().map(Target::line).collect();
        assert_eq!(lines[0], "target cluster.5 look-up-ns 48.20 <=100.00 reached");
        assert_eq!(lines[1], "target cluster.5 rebuild-ms 30.00 <=20.00 missed");
        assert_eq!(
            lines[2],
            "target cluster.5 busiest-of-mean - <=1.10 skipped: the bench does not tell busiest-of-mean"
        );
        assert_eq!(lines[4], "target cluster.5 join-moves-between-others 0.00 ==0.00 reached");
        assert!(
            ring_of(&Err("no compiler".to_owned()))
                .iter()
                .all(|target| target.line().ends_with("skipped: no compiler"))
        );
    }
}
