//! Packets that do not arrive: between two sides, in one direction, and now and then.

use std::{thread, time::Duration};

use serde_json::json;

use super::{
    crash::{faults, seconds},
    fleet::{Fleet, name},
    nft::Rule,
    report::{Bound, Report},
    scenario::{BEFORE, KEYS, MESSAGE, NODES, PATIENCE, RATE, Stage},
    traffic::{Class, Traffic, now, removals},
};

pub(super) fn full(stage: &Stage) -> anyhow::Result<Report> {
    let (one, other) = ([0, 1], [2, 3, 4]);
    split(
        stage,
        |fleet| {
            fleet.cut(&one, &other)?;
            fleet.cut(&other, &one)
        },
        &[&one, &other],
        &[0, 1, 2, 3, 4],
    )
}

pub(super) fn one_way(stage: &Stage) -> anyhow::Result<Report> {
    let (hearing, deaf) = ([0, 1, 2, 3], [4]);
    split(stage, |fleet| fleet.cut(&hearing, &deaf), &[&hearing, &deaf], &deaf)
}

/// Cuts a cluster under load, waits until the sides have given each other up, deletes keys on one of them, heals, and reads.
fn split(
    stage: &Stage,
    cut: impl Fn(&Fleet) -> anyhow::Result<()>,
    sides: &[&[usize]],
    losing: &[usize],
) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut fleet = stage.start(NODES)?;
    fleet.warm(KEYS)?;
    let (everyone, warm) = (fleet.all(), fleet.fetches()?);
    fleet.load(&everyone, KEYS, &[], RATE)?;
    let since = now();
    thread::sleep(BEFORE);

    let split = now();
    if stage.with_fault {
        cut(&fleet)?;
    }
    let mut parted = stage.with_fault;
    for side in sides {
        parted &= parted && fleet.wait_views(side, side, PATIENCE)?.is_some();
    }
    if parted {
        report.tell("each side sees itself alone, seconds", seconds(now() - split));
    } else {
        report.note("the sides did not give each other up".to_owned());
    }
    // What the other side holds grows old, and nobody can tell it.
    let numbers: Vec<_> = (0..RAISED).collect();
    fleet.ask(0, &json!({ "do": "raise", "numbers": numbers }))?;
    let forgotten = fleet.ask(0, &json!({ "do": "forget", "numbers": numbers }))?;
    report.note(format!("{RAISED} keys were deleted on one side; pending: {}", forgotten["pending"]));
    thread::sleep(MESSAGE);

    let mut dropped = 0;
    for node in losing {
        let counted = fleet.heal(*node)?;
        report.void_unless(counted.dropped > 0, format!("{} lost no packet", name(*node)));
        dropped += counted.dropped;
    }
    let healed = now();
    report.note(format!("packets dropped: {dropped}"));
    if !report.void.is_empty() {
        return Ok(report);
    }
    let agreed = fleet.wait_views(&everyone, &everyone, PATIENCE)?;
    report.void_unless(parted || agreed.is_some(), "the views never changed");
    report.views("views agree after the heal, seconds", seconds(now() - healed), agreed.is_some());
    thread::sleep(MESSAGE);
    let reads = fleet.ask_all(&everyone, &json!({ "do": "scan", "numbers": numbers }))?;
    report.require("faults of reads of the deleted keys", faults(&reads), Bound::Exactly(0.0));
    fleet.stop_load(&everyone)?;

    let (ended, samples) = (now(), fleet.take_samples());
    let others = &[Class::Others];
    Traffic::between(&samples, others, since, split).tell(&mut report, "before");
    let during = Traffic::between(&samples, others, split, healed);
    during.tell(&mut report, "while split");
    let after = Traffic::between(&samples, others, healed, ended);
    after.tell(&mut report, "after the heal");
    report.tell("caller errors while split", during.errors as f64);
    report.tell("caller errors after the heal", after.errors as f64);
    report.note(format!("source loads: {warm} to warm up, {} since", fleet.fetches()?.saturating_sub(warm)));
    Ok(report)
}

pub(super) fn loss(stage: &Stage) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut fleet = stage.start(NODES)?;
    fleet.warm(KEYS)?;
    let (everyone, warm) = (fleet.all(), fleet.fetches()?);
    fleet.load(&everyone, KEYS, &[], RATE)?;
    let since = now();
    thread::sleep(BEFORE);
    let lossy = now();
    if stage.with_fault {
        everyone.iter().try_for_each(|node| fleet.set_rule(*node, &Rule::Lose(PERCENT)))?;
    }
    thread::sleep(LOSSY);
    let (mut seen, mut dropped) = (0, 0);
    for node in &everyone {
        let counted = fleet.heal(*node)?;
        report.void_unless(counted.dropped > 0, format!("{} lost no packet", name(*node)));
        seen += counted.seen;
        dropped += counted.dropped;
    }
    let healed = now();
    let share = 100.0 * dropped as f64 / (seen as f64).max(1.0);
    report.note(format!("{dropped} of {seen} packets were lost, {share:.1} %"));
    report.void_unless(
        (share - f64::from(PERCENT)).abs() < 5.0,
        format!("{share:.1} % is another fault than {PERCENT} %"),
    );
    if !report.void.is_empty() {
        return Ok(report);
    }
    thread::sleep(MESSAGE);
    fleet.stop_load(&everyone)?;
    let samples = fleet.take_samples();
    report.require("members that any node gave up", removals(&samples, since) as f64, Bound::Exactly(0.0));
    Traffic::between(&samples, &[Class::Others], since, lossy).tell(&mut report, "before");
    let during = Traffic::between(&samples, &[Class::Others], lossy, healed);
    during.tell(&mut report, "with loss");
    report.require("caller errors with loss", during.errors as f64, Bound::Exactly(0.0));
    report.require("stale values with loss", during.stale as f64, Bound::Exactly(0.0));
    let reads = fleet.ask_all(&everyone, &json!({ "do": "scan", "numbers": KEYS, "readers": 8 }))?;
    report.require("faults of reads of all keys after", faults(&reads), Bound::Exactly(0.0));
    report.note(format!("source loads: {warm} to warm up, {} since", fleet.fetches()?.saturating_sub(warm)));
    Ok(report)
}

const PERCENT: u8 = 20;
const LOSSY: Duration = Duration::from_secs(10);
/// Enough that one of them would be found stale.
const RAISED: u32 = 50;
