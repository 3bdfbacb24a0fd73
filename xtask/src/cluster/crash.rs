//! An owner that ends, and one that stands still, both under load.

use std::{os::unix::process::ExitStatusExt, thread, time::Duration};

use anyhow::Context;
use serde_json::{Value, json};

use super::{
    fleet::Fleet,
    report::{Bound, Report},
    scenario::{BEFORE, KEYS, MESSAGE, NODES, PATIENCE, RATE, Stage},
    traffic::{Class, Traffic, now},
};

/// A cluster under load at all nodes but the last, over all keys; those the last one owns are counted apart.
struct Loaded {
    fleet: Fleet,
    others: Vec<usize>,
    owned: Vec<u64>,
    /// Loads when all was cached.
    fetches: u64,
    since: u64,
}

const VICTIM: usize = NODES - 1;

fn load(stage: &Stage) -> anyhow::Result<Loaded> {
    let mut fleet = stage.start(NODES)?;
    fleet.warm(KEYS)?;
    let owned = fleet.owned(VICTIM, KEYS)?;
    let others: Vec<_> = (0..VICTIM).collect();
    let fetches = fleet.fetches()?;
    fleet.load(&others, KEYS, &owned, RATE)?;
    // The first reads find cold paths, and would make what follows look fast.
    thread::sleep(MESSAGE);
    let since = now();
    thread::sleep(BEFORE);
    Ok(Loaded { fleet, others, owned, fetches, since })
}

pub(super) fn kill(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let Loaded { mut fleet, others, owned, fetches, since } = load(stage)?;
    let killed = now();
    let status = stage.with_fault.then(|| fleet.kill(VICTIM)).transpose()?;
    report.void_unless(status.is_some_and(|status| status.signal() == Some(9)), "nobody was killed");

    // The dead one's count is gone with it, so that only the others' counts can be compared.
    let survivors = fleet.fetches()?;
    // A key of the dead node, asked for on every other: how long until the last of them has its answer.
    let first = fleet.ask_all(&others, &json!({ "do": "scan", "numbers": [owned[0]] }))?;
    let answered = now() - killed;
    report.require("faults of the first reads of its key", faults(&first), Bound::Exactly(0.0));
    report.aim("first correct answers, seconds", seconds(answered), Bound::AtMost(1.0));
    if !report.void.is_empty() {
        return Ok(report);
    }

    let views = fleet.wait_views(&others, &others, PATIENCE)?;
    report.views("out of every view, seconds", seconds(now() - killed), views.is_some());
    thread::sleep(MESSAGE);
    fleet.stop_load(&others)?;
    let (ended, samples) = (now(), fleet.take_samples());
    Traffic::between(&samples, &BOTH, since, killed).tell(&mut report, "before");
    Traffic::between(&samples, &[Class::Marked], killed, ended).tell(&mut report, "its keys, after");
    Traffic::between(&samples, &[Class::Others], killed, ended).tell(&mut report, "other keys, after");
    let after = Traffic::between(&samples, &BOTH, killed, ended);
    report.require("caller errors after", after.errors as f64, Bound::Exactly(0.0));
    report.note(format!(
        "source loads: {fetches} to warm up, {} since the kill",
        fleet.fetches()?.saturating_sub(survivors)
    ));
    report.note(format!("{} of {KEYS} keys were its own", owned.len()));
    Ok(report)
}

/// As [`kill`], of nodes whose values have copies in case they die.
pub(super) fn backups(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut fleet = Fleet::lay(&stage.network, &stage.program, NODES, Duration::ZERO)?;
    fleet.set_options(["--backup-bytes", BACKUP_BYTES]);
    fleet.start_all()?;
    fleet.warm(KEYS)?;
    let owned = fleet.owned(VICTIM, KEYS)?;
    let (everyone, others): (_, Vec<_>) = (fleet.all(), (0..VICTIM).collect());
    fleet.load(&others, KEYS, &owned, RATE)?;
    // Copies are made of what is hot, every second.
    thread::sleep(BEFORE);
    let copies = fleet.count(&everyone, "reserve_entries")?;
    report.note(format!("{copies} copies of {KEYS} values, {} of them of the node that dies", owned.len()));
    report.void_unless(copies > 0, "there are no copies");
    let (loads, killed) = (fleet.count(&others, "fetches")?, now());
    let status = stage.with_fault.then(|| fleet.kill(VICTIM)).transpose()?;
    report.void_unless(status.is_some_and(|status| status.signal() == Some(9)), "nobody was killed");
    if !report.void.is_empty() {
        return Ok(report);
    }
    let views = fleet.wait_views(&others, &others, PATIENCE)?;
    report.views("out of every view, seconds", seconds(now() - killed), views.is_some());
    thread::sleep(MESSAGE);
    let (ended, samples) = (now(), fleet.take_samples());
    fleet.stop_load(&others)?;
    let meanwhile = fleet.count(&others, "fetches")?.saturating_sub(loads);
    // What was not asked for meanwhile would be loaded now.
    let scan = fleet.ask_all(&others[..1], &json!({ "do": "scan", "numbers": owned, "readers": 8 }))?;
    report.require("faults of reads of its keys after", faults(&scan), Bound::Exactly(0.0));
    let loads = fleet.count(&others, "fetches")?.saturating_sub(loads);
    report.note(format!("source loads: {meanwhile} until then, {loads} with a read of each of its keys"));
    let share = 100.0 * loads as f64 / owned.len() as f64;
    report.aim("source loads, % of its share", share, Bound::AtMost(25.0));
    let traffic = Traffic::between(&samples, &BOTH, killed, ended);
    traffic.tell(&mut report, "after");
    report.require("caller errors after", traffic.errors as f64, Bound::Exactly(0.0));
    Ok(report)
}

pub(super) fn stop(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let Loaded { mut fleet, others, owned, fetches, since } = load(stage)?;
    let everyone = fleet.all();
    let stopped = now();
    if stage.with_fault {
        fleet.node(VICTIM)?.signal("STOP")?;
    }
    report.void_unless(fleet.node(VICTIM)?.is_stopped()?, "the process was not stopped");
    if !report.void.is_empty() {
        return Ok(report);
    }

    let scanned: Vec<_> = owned.iter().take(SCAN).collect();
    let scan = fleet.ask_all(&others[..1], &json!({ "do": "scan", "numbers": scanned }))?;
    report.require("faults of a 30-key scan of its keys", faults(&scan), Bound::Exactly(0.0));
    report.void_unless(scanned.len() == SCAN, "it owns too few keys for a scan");
    let took = scan[0]["took_ms"].as_u64().context("a scan has its time")?;
    report.aim("30-key scan of its keys, seconds", seconds(took), Bound::AtMost(1.0));

    // What it still holds grows old while it stands still.
    let raised: Vec<_> = owned.iter().take(RAISED).collect();
    fleet.ask(others[0], &json!({ "do": "raise", "numbers": raised }))?;
    let forgotten = fleet.ask(others[0], &json!({ "do": "forget", "numbers": raised }))?;
    report.note(format!("{} of its keys were deleted meanwhile; pending: {}", raised.len(), forgotten["pending"]));

    let views = fleet.wait_views(&others, &others, PATIENCE)?;
    report.views("out of every view, seconds", seconds(now() - stopped), views.is_some());
    report.void_unless(fleet.node(VICTIM)?.is_stopped()?, "the process did not stay stopped");

    let went_on = now();
    fleet.node(VICTIM)?.signal("CONT")?;
    let views = fleet.wait_views(&everyone, &everyone, PATIENCE)?;
    report.views("back in every view, seconds", seconds(now() - went_on), views.is_some());
    thread::sleep(MESSAGE);
    let reads = fleet.ask_all(&everyone, &json!({ "do": "scan", "numbers": raised }))?;
    report.require("faults of reads of the deleted keys", faults(&reads), Bound::Exactly(0.0));
    fleet.stop_load(&others)?;

    let (ended, samples) = (now(), fleet.take_samples());
    let before = Traffic::between(&samples, &[Class::Others], since, stopped);
    let during = Traffic::between(&samples, &[Class::Others], stopped, went_on);
    before.tell(&mut report, "other keys, before");
    during.tell(&mut report, "other keys, while stopped");
    Traffic::between(&samples, &[Class::Marked], stopped, went_on).tell(&mut report, "its keys, while stopped");
    let after = Traffic::between(&samples, &BOTH, went_on, ended);
    after.tell(&mut report, "all keys, after");
    let ratio = during.percentile(99.0) / before.percentile(99.0);
    report.aim("p99 of other keys, times that before", ratio, Bound::AtMost(1.5));
    let since = Traffic::between(&samples, &BOTH, stopped, ended);
    report.require("caller errors since", since.errors as f64, Bound::Exactly(0.0));
    report.require("stale values since", since.stale as f64, Bound::Exactly(0.0));
    report.note(format!("source loads: {fetches} to warm up, {} since", fleet.fetches()?.saturating_sub(fetches)));
    Ok(report)
}

/// How many reads of reports were wrong or failed.
pub(super) fn faults(reports: &[Value]) -> f64 {
    let count = |report: &Value, name: &str| report[name].as_u64().unwrap_or(1);
    reports.iter().map(|report| count(report, "wrong") + count(report, "errors")).sum::<u64>() as f64
}

pub(super) fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

const BOTH: [Class; 2] = [Class::Others, Class::Marked];
const SCAN: usize = 30;
/// Room for all that a node of the scenario owns: whatever is not there was not copied in time.
const BACKUP_BYTES: &str = "4194304";
/// Enough that one of them would be found stale.
const RAISED: usize = 20;
