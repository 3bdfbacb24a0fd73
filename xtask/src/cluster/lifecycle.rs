//! Nodes that start: together, again, at another time of day, one after the other; and a cluster that was just started cold.

use std::{
    hash::{BuildHasher, RandomState},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::json;

use super::{
    crash::{faults, seconds},
    fleet::{Clock, Fleet, name},
    report::{Bound, PROMISED_VIEWS, Report},
    scenario::{KEYS, MESSAGE, NODES, PATIENCE, RATE, Stage},
    traffic::{Class, Traffic, now, removals},
};

pub(super) fn start(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let (mut formed, mut slowest) = (0, Duration::ZERO);
    let (mut tries, mut apart) = (0, 0);
    while tries < TRIES && report.void.is_empty() {
        let mut fleet = Fleet::lay(&stage.network, &stage.program, NODES, Duration::ZERO)?;
        let (everyone, order) = (fleet.all(), shuffled(NODES));
        let start = Instant::now();
        for node in &order {
            fleet.launch(*node, Clock::Right)?;
            if !stage.with_fault {
                fleet.wait_ready()?;
            }
        }
        // Starting a process takes a millisecond or two; nobody serves within that times five.
        let launched = start.elapsed();
        let together = !fleet.serves(order[0])?;
        if !together {
            // Not what was to be tried: on a busy machine the last may be launched late.
            apart += 1;
            report.void_unless(apart < TRIES, format!("{apart} times the nodes did not start together"));
            continue;
        }
        tries += 1;
        let served = fleet.wait_ready();
        let views = served.and_then(|()| fleet.wait_views(&everyone, &everyone, PATIENCE));
        let took = views.and_then(|views| views.context("no cluster")).map(|_| start.elapsed());
        let told = match &took {
            Ok(took) => format!("one cluster after {:.2} s", took.as_secs_f64()),
            Err(error) => format!("{error:#}"),
        };
        let order: Vec<_> = order.into_iter().map(name).collect();
        report.note(format!("try {tries}: {} within {launched:.0?}: {told}", order.join(", ")));
        if let Ok(took) = took {
            formed += u32::from(took.as_secs_f64() <= PROMISED_VIEWS);
            slowest = slowest.max(took);
        }
    }
    if !report.void.is_empty() {
        return Ok(report);
    }
    report.note(format!("{apart} more times the nodes did not start together"));
    report.require("tries that were one cluster in 10 s", f64::from(formed), Bound::Exactly(f64::from(TRIES)));
    report.aim("the slowest, seconds", slowest.as_secs_f64(), Bound::AtMost(PROMISED_VIEWS));
    Ok(report)
}

pub(super) fn storm(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut fleet = Fleet::lay(&stage.network, &stage.program, STORMED, SLOW_SOURCE)?;
    fleet.start_all()?;
    let everyone = fleet.all();
    let request = json!({ "do": "storm", "number": 7, "callers": STORM });
    let reads = if stage.with_fault {
        fleet.ask_all(&everyone, &request)?
    } else {
        everyone.iter().map(|node| fleet.ask(*node, &request)).collect::<anyhow::Result<_>>()?
    };
    for (node, report_of) in everyone.iter().zip(&reads) {
        let p50 = Duration::from_nanos(report_of["p50_ns"].as_u64().context("a storm has its times")?);
        report.note(format!("{}: {} reads, p50 {p50:.1?}", name(*node), report_of["reads"]));
        let waited = p50 > SLOW_SOURCE / 2;
        report.void_unless(waited, format!("the callers of {} did not wait for the load", name(*node)));
    }
    report.require("faults of the reads", faults(&reads), Bound::Exactly(0.0));
    report.require("source loads", fleet.fetches()? as f64, Bound::Exactly(1.0));
    Ok(report)
}

pub(super) fn clock(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut fleet = stage.start(NODES)?;
    fleet.warm(KEYS)?;
    let (everyone, back) = (fleet.all(), NODES - 1);
    let others: Vec<_> = (0..back).collect();
    fleet.kill(back)?;
    fleet.wait_views(&others, &others, PATIENCE)?.context("the dead node is a member still")?;
    let survivors = fleet.fetches()?;
    fleet.load(&others, KEYS, &[], RATE)?;
    let since = now();
    fleet.launch(back, if stage.with_fault { Clock::Yesterday } else { Clock::Right })?;
    fleet.wait_ready()?;
    let behind = now() as f64 - fleet.node(back)?.clock_ms as f64;
    report.note(format!("its clock is {:.1} s behind", behind / 1_000.0));
    report.void_unless((behind - DAY_MS).abs() < 60_000.0, "its clock did not jump");
    if !report.void.is_empty() {
        return Ok(report);
    }
    let views = fleet.wait_views(&everyone, &everyone, PATIENCE)?;
    report.views("accepted by all, seconds", seconds(now() - since), views.is_some());
    // Longer than a suspicion takes: it was not let in to be thrown out.
    let accepted = now();
    thread::sleep(SUSPICION);
    fleet.stop_load(&others)?;
    let samples = fleet.take_samples();
    Traffic::between(&samples, &[Class::Others], since, now()).tell(&mut report, "meanwhile");
    report.require("members that any node gave up", removals(&samples, accepted) as f64, Bound::Exactly(0.0));
    let reads = fleet.ask_all(&everyone, &json!({ "do": "scan", "numbers": KEYS, "readers": 8 }))?;
    report.require("faults of reads of all keys after", faults(&reads), Bound::Exactly(0.0));
    let loads = fleet.fetches()?.saturating_sub(survivors);
    report.note(format!("source loads since the start, with the reads of all keys: {loads}"));
    let owned = fleet.owned(back, KEYS)?.len();
    report.require("keys that it owns", owned as f64, Bound::AtLeast(1.0));
    Ok(report)
}

pub(super) fn rolling(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut fleet = stage.start(NODES)?;
    let warming = Instant::now();
    fleet.warm(WORKING_SET)?;
    let warm = fleet.fetches()?;
    report.note(format!("{WORKING_SET} keys cached in {:.1} s by {warm} loads", warming.elapsed().as_secs_f64()));
    let everyone = fleet.all();
    fleet.load(&everyone, WORKING_SET, &[], RATE * 2)?;
    let (since, mut samples, mut of_the_gone, mut restarted) = (now(), Vec::new(), 0, 0);
    for node in &everyone {
        thread::sleep(MESSAGE);
        if !stage.with_fault {
            continue;
        }
        let pid = fleet.node(*node)?.pid();
        fleet.stop_load(&[*node])?;
        of_the_gone += fleet.ask(*node, &json!({ "do": "version-stats" }))?["fetches"].as_u64().unwrap_or(0);
        samples.extend(fleet.take_samples());
        fleet.shut_down(*node)?;
        fleet.launch(*node, Clock::Right)?;
        fleet.wait_ready()?;
        fleet.load(&[*node], WORKING_SET, &[], RATE * 2)?;
        fleet.wait_views(&everyone, &everyone, PATIENCE)?.context("the restarted node is no member")?;
        restarted += usize::from(fleet.node(*node)?.pid() != pid);
    }
    report.void_unless(restarted == NODES, format!("{restarted} of {NODES} nodes were restarted"));
    thread::sleep(MESSAGE);
    fleet.stop_load(&everyone)?;
    samples.extend(fleet.take_samples());
    let traffic = Traffic::between(&samples, &[Class::Others], since, now());
    traffic.tell(&mut report, "meanwhile");
    report.require("caller errors", traffic.errors as f64, Bound::Exactly(0.0));
    report.require("stale values", traffic.stale as f64, Bound::Exactly(0.0));
    if !report.void.is_empty() {
        return Ok(report);
    }
    let during = (of_the_gone + fleet.fetches()?).saturating_sub(warm);
    report.tell("source loads while rolling", during as f64);
    // What is gone and was not asked for meanwhile is loaded now.
    let scan = fleet.ask_all(&everyone[..1], &json!({ "do": "scan", "numbers": WORKING_SET, "readers": 16 }))?;
    report.require("faults of reads of all keys after", faults(&scan), Bound::Exactly(0.0));
    let loads = (of_the_gone + fleet.fetches()?).saturating_sub(warm);
    let share = 100.0 * loads as f64 / f64::from(WORKING_SET);
    report.aim("source loads, % of the working set", share, Bound::AtMost(2.0));
    Ok(report)
}

/// An order that differs from run to run.
fn shuffled(count: usize) -> Vec<usize> {
    let random = RandomState::new();
    let mut order: Vec<_> = (0..count).collect();
    order.sort_by_key(|node| random.hash_one(node));
    order
}

const TRIES: u32 = 10;
const STORM: usize = 64;
const STORMED: usize = 3;
/// Long enough that all callers of all nodes are there before the load ends.
const SLOW_SOURCE: Duration = Duration::from_millis(500);
const DAY_MS: f64 = 86_400_000.0;
const WORKING_SET: u32 = 100_000;
/// A suspect has 3 s to refute; half a second or so until it is one, and as much again for a busy machine.
const SUSPICION: Duration = Duration::from_secs(5);
