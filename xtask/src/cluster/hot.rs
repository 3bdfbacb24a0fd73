//! One key that is asked for at every node all the time.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use super::{
    fleet::{Fleet, name},
    report::{Bound, Report},
    scenario::Stage,
    throttle::Throttle,
};

/// Each node has the same small share of a processor, so that three of them can do what three machines would; and one alone has it too.
pub(super) fn hot_key(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let one = Hammered::of(stage, "", &[OWNER])?;
    report.note(one.note("one node, which owns it"));
    let with = if stage.with_fault { "" } else { NO_COPIES };
    let all = Hammered::of(stage, with, &[0, 1, 2])?;
    report.note(all.note("three nodes"));
    let without = Hammered::of(stage, NO_COPIES, &[0, 1, 2])?;
    report.note(without.note("three nodes that keep no copies of what others own"));
    report.void_unless(all.near_hits > 0, "no node kept a copy of what another owns");
    report.aim("reads a second, times those of one node", all.per_second / one.per_second, Bound::AtLeast(2.5));
    // Callers that are spread evenly wait for the slowest node.
    report.aim("evenly spread, times those without copies", all.least / without.least, Bound::AtLeast(2.5));
    report.tell("reads that reached the owner, % of all", 100.0 * all.peer_reads as f64 / all.reads.max(1) as f64);
    report.require("errors", (one.errors + all.errors + without.errors) as f64, Bound::Exactly(0.0));
    Ok(report)
}

/// What so many nodes did at the same time.
#[derive(Default)]
struct Hammered {
    reads: u64,
    errors: u64,
    per_second: f64,
    /// Of the node that did least.
    least: f64,
    near_hits: u64,
    /// What the nodes asked each other.
    peer_reads: u64,
}

impl Hammered {
    /// Starts three nodes, with an option or none, and hammers some of them.
    fn of(stage: &Stage, option: &str, hammered: &[usize]) -> anyhow::Result<Self> {
        let throttles: Vec<_> = (0..NODES).map(|node| Throttle::new(&name(node), PERCENT)).collect::<Result<_, _>>()?;
        // Declared later, so that the processes are gone when the groups go.
        let mut fleet = Fleet::lay(&stage.network, &stage.program, NODES, Duration::ZERO)?;
        fleet.set_options(option.split_whitespace());
        fleet.start_all()?;
        let key = fleet.owned(OWNER, FEW)?[0];
        for (node, throttle) in throttles.iter().enumerate() {
            throttle.hold(fleet.node(node)?.pid())?;
        }
        let hammer = |millis: u64| json!({ "do": "hammer", "number": key, "callers": CALLERS, "for_ms": millis });
        fleet.ask_all(hammered, &hammer(WARM_MS))?;
        let everyone = fleet.all();
        let counts = |fleet: &mut Fleet| {
            anyhow::Ok((fleet.count(&everyone, "near_hits")?, fleet.count(&everyone, "peer_reads")?))
        };
        let before = counts(&mut fleet)?;
        let done = fleet.ask_all(hammered, &hammer(MEASURED_MS))?;
        let after = counts(&mut fleet)?;
        let mut all = Self { least: f64::INFINITY, ..Self::default() };
        for answer in &done {
            let count = |what: &str| answer[what].as_u64().with_context(|| format!("{answer} has no {what}"));
            let per_second = count("reads")? as f64 / (count("took_us")? as f64 / 1e6);
            (all.reads, all.errors) = (all.reads + count("reads")?, all.errors + count("errors")?);
            (all.per_second, all.least) = (all.per_second + per_second, all.least.min(per_second));
        }
        ensure!(all.reads > 0, "nothing was read");
        (all.near_hits, all.peer_reads) = (after.0 - before.0, after.1 - before.1);
        Ok(all)
    }

    fn note(&self, what: &str) -> String {
        let Self { per_second, least, near_hits, peer_reads, .. } = self;
        format!(
            "{what}: {per_second:.0} reads/s, {least:.0} of the least; {near_hits} by copies, {peer_reads} of peers"
        )
    }
}

const NO_COPIES: &str = "--near-ttl-ms 0";
const NODES: usize = 3;
const OWNER: usize = 0;
const FEW: u32 = 100;
const CALLERS: u32 = 4;
/// Of one processor. All three together leave most of two to whoever else is there.
const PERCENT: u32 = 20;
/// A key is hot after some tens of reads; then every node gets its copy.
const WARM_MS: u64 = 1_000;
const MEASURED_MS: u64 = 5_000;
