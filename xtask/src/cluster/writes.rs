//! Deletions of many keys, and of whole keyspaces: with a peer that is dead or silent, and on both sides of a split.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Value, json};

use super::{
    crash::{faults, seconds},
    fleet::{Clock, Fleet, name},
    report::{Bound, Report},
    scenario::{KEYS, MESSAGE, NODES, ONE_MESSAGE_MS, PATIENCE, Stage},
    traffic::now,
};

pub(super) fn delete_many(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut fleet = stage.start(NODES)?;
    fleet.warm(KEYS)?;
    let owned = fleet.owned(VICTIM, MANY)?.len();
    report.note(format!(
        "{owned} of the {MANY} keys are of the node that is killed, and then of the one that is stopped"
    ));

    let killed = if stage.with_fault { Some(fleet.kill(VICTIM)?) } else { None };
    report.void_unless(killed.is_some(), "nobody was killed");
    delete(&mut fleet, &mut report, "dead")?;
    if !report.void.is_empty() {
        return Ok(report);
    }
    fleet.launch(VICTIM, Clock::Right)?;
    fleet.wait_ready()?;
    converge(&mut fleet, &mut report, "dead")?;

    let everyone = fleet.all();
    fleet.wait_views(&everyone, &everyone, PATIENCE)?.context("they are no cluster again")?;
    fleet.warm(KEYS)?;
    fleet.node(VICTIM)?.signal("STOP")?;
    delete(&mut fleet, &mut report, "silent")?;
    report.void_unless(fleet.node(VICTIM)?.is_stopped()?, "the process was not stopped");
    fleet.node(VICTIM)?.signal("CONT")?;
    converge(&mut fleet, &mut report, "silent")?;
    Ok(report)
}

/// Changes many rows and deletes their keys on the first node, while the last one cannot hear of it.
fn delete(fleet: &mut Fleet, report: &mut Report, how: &str) -> anyhow::Result<()> {
    fleet.ask(0, &json!({ "do": "raise", "numbers": MANY }))?;
    let deleted = fleet.ask(0, &json!({ "do": "forget", "numbers": MANY }))?;
    report.aim(format!("delete of 1,000 keys, a peer {how}, seconds"), took_ms(&deleted)? / 1e3, Bound::AtMost(1.0));
    let is_named = deleted["pending"] == json!([name(VICTIM)]);
    report.require(format!("{how}: it is named as pending"), f64::from(u8::from(is_named)), Bound::Exactly(1.0));
    Ok(())
}

/// Reads all of them on all nodes until none is old.
fn converge(fleet: &mut Fleet, report: &mut Report, how: &str) -> anyhow::Result<()> {
    let (everyone, back) = (fleet.all(), now());
    let mut scans = 0;
    let clean = loop {
        let start = now();
        let reads = fleet.ask_all(&everyone, &json!({ "do": "scan", "numbers": MANY, "readers": 8 }))?;
        scans += 1;
        let is_clean = faults(&reads) == 0.0;
        if is_clean || start - back > PATIENCE.as_millis() as u64 {
            // By the time of the first of its reads everything was there.
            break is_clean.then_some(start);
        }
    };
    let took = clean.unwrap_or_else(now) - back;
    report.aim(format!("converged after it is back, {how}, seconds"), seconds(took), Bound::AtMost(10.0));
    report.require(
        format!("{how}: no key is old in the end"),
        f64::from(u8::from(clean.is_some())),
        Bound::Exactly(1.0),
    );
    report.note(format!("{how}: {scans} scans until nothing was old"));
    Ok(())
}

pub(super) fn delete_keyspace(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut fleet = Fleet::lay(&stage.network, &stage.program, FEW_NODES, Duration::ZERO)?;
    fleet.set_options(["--max-bytes", "1073741824"]);
    fleet.start_all()?;
    let (everyone, others) = (fleet.all(), [1, 2]);
    let filling = Instant::now();
    // Each node asks for a share, whoever owns it.
    let keys = if stage.with_fault { LARGE } else { KEYS };
    for node in &everyone {
        let share: Vec<_> = (0..keys).skip(*node).step_by(everyone.len()).collect();
        fleet.node(*node)?.send(&json!({ "do": "fill", "numbers": share }))?;
    }
    for node in &everyone {
        let filled = fleet.node(*node)?.receive_within(FILL)?;
        report.require("faults while filling", faults(&[filled]), Bound::Exactly(0.0));
    }
    let entries = fleet.ask(0, &json!({ "do": "version-stats" }))?["entries"].as_u64().context("it counts entries")?;
    report.note(format!(
        "{keys} keys cached in {:.1} s, {entries} of them on the caller",
        filling.elapsed().as_secs_f64()
    ));
    report.void_unless(entries >= 1_000_000, format!("{entries} entries are no million"));
    fleet.ask(0, &json!({ "do": "raise", "numbers": RAISED }))?;
    for node in others {
        fleet.node(node)?.send(&json!({ "do": "wait-dropped" }))?;
    }
    // So that they wait when it happens.
    thread::sleep(Duration::from_millis(200));
    let dropped = fleet.ask(0, &json!({ "do": "drop-versions" }))?;
    report.aim("delete_keyspace at the caller, ms", took_ms(&dropped)?, Bound::AtMost(10.0));
    report.require("nodes pending", pending(&dropped), Bound::Exactly(0.0));
    let returned = dropped["at_us"].as_u64().context("it has a time")?;
    let mut latest = 0;
    for node in others {
        let gone = fleet.node(node)?.receive()?;
        latest = latest.max(gone["at_us"].as_u64().context("it has a time")?.saturating_sub(returned));
    }
    report.aim("gone everywhere after that, ms", latest as f64 / 1e3, Bound::AtMost(ONE_MESSAGE_MS));
    fleet.ask_all(&everyone, &json!({ "do": "define-versions" }))?;
    let reads = fleet.ask_all(&everyone, &json!({ "do": "scan", "numbers": RAISED, "readers": 8 }))?;
    report.require("faults of reads once it is defined again", faults(&reads), Bound::Exactly(0.0));
    Ok(report)
}

/// Deletes a keyspace on both sides of a split: what the one side has loaded since its own deletion is gone by the other's.
pub(super) fn delete_keyspace_split(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut fleet = stage.start(NODES)?;
    fleet.warm(KEYS)?;
    let everyone = fleet.all();
    let (one, other): (&[usize], &[usize]) = (&[0, 1], &[2, 3, 4]);
    if stage.with_fault {
        fleet.cut(one, other)?;
        fleet.cut(other, one)?;
    }
    for side in [one, other] {
        if fleet.wait_views(side, side, PATIENCE)?.is_none() {
            report.void_unless(false, "the sides did not give each other up");
            return Ok(report);
        }
    }
    let raise = json!({ "do": "raise", "numbers": RAISED });
    let scan = json!({ "do": "scan", "numbers": RAISED, "readers": 8 });
    // The side that deletes last has what is right; the other loads in between.
    for (side, node) in [(other, other[0]), (one, one[0])] {
        fleet.ask(node, &raise)?;
        let dropped = fleet.ask(node, &json!({ "do": "drop-versions" }))?;
        report.note(format!("deleted on {}; pending: {}", name(node), dropped["pending"]));
        fleet.ask_all(side, &json!({ "do": "wait-dropped" }))?;
        fleet.ask_all(side, &json!({ "do": "define-versions" }))?;
        let reads = fleet.ask_all(side, &scan)?;
        report.require(format!("faults of reads on the side of {}", name(node)), faults(&reads), Bound::Exactly(0.0));
    }
    let mut dropped = 0;
    for node in &everyone {
        dropped += fleet.heal(*node)?.dropped;
    }
    report.void_unless(dropped > 0, "no packet was dropped");
    let healed = now();
    let agreed = fleet.wait_views(&everyone, &everyone, PATIENCE)?;
    report.views("views agree after the heal, seconds", seconds(now() - healed), agreed.is_some());
    thread::sleep(MESSAGE);
    // A node that hears late of a deletion has no such keyspace any more, unless it was defined after that.
    for node in &everyone {
        let defined = fleet.ask(*node, &json!({ "do": "define-versions" })).is_ok();
        report.note(format!("{} had {} keyspace", name(*node), if defined { "lost its" } else { "a" }));
    }
    let reads = fleet.ask_all(&everyone, &scan)?;
    report.require("faults of reads after the heal", faults(&reads), Bound::Exactly(0.0));
    Ok(report)
}

fn took_ms(answer: &Value) -> anyhow::Result<f64> {
    Ok(answer["took_us"].as_u64().with_context(|| format!("{answer} has no time"))? as f64 / 1e3)
}

fn pending(answer: &Value) -> f64 {
    answer["pending"].as_array().map_or(0, Vec::len) as f64
}

const VICTIM: usize = NODES - 1;
const MANY: u32 = 1_000;
const RAISED: u32 = 100;
const FEW_NODES: usize = 3;
/// Of three nodes each has a million and some more.
const LARGE: u32 = 3_300_000;
const FILL: Duration = Duration::from_secs(180);
