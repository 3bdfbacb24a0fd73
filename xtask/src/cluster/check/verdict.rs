//! What came of it: counts, and the history of each violation.

use std::{collections::BTreeMap, fmt};

use super::{
    judge::{Fault, Kind, MESSAGE, Stale, Whose, stale},
    record::{Micros, Records},
    seconds,
};
use crate::cluster::{
    report::{Bound, Report},
    scenario::ONE_MESSAGE_MS,
};

/// How many reads were too old, and those that were.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Violations of the writer's promise.
    pub(super) writers: usize,
    /// Of the promise of strict writes.
    pub(super) strict: usize,
    /// Of all other promises.
    pub(super) others: usize,
    /// Stale reads within the contract.
    within: usize,
    /// How many of them were later than a message after the write, and the oldest, by the kind of the latest fault before them.
    excused: BTreeMap<Option<Kind>, (usize, Micros)>,
    /// The oldest value that was read on another node than the writer's.
    oldest: Micros,
    histories: Vec<String>,
}

impl Verdict {
    pub(super) fn on(records: &Records, faults: &[Fault], since: Micros, names: &[String]) -> Self {
        let mut verdict = Self::default();
        for stale in stale(records, faults) {
            if stale.whose == Whose::Others {
                verdict.oldest = verdict.oldest.max(stale.age());
            }
            if !stale.is_violation() {
                verdict.within += 1;
                if stale.age() > MESSAGE {
                    let before = faults.iter().rfind(|fault| fault.from <= stale.read.start);
                    let (count, oldest) = verdict.excused.entry(before.map(|fault| fault.kind)).or_default();
                    (*count, *oldest) = (*count + 1, stale.age().max(*oldest));
                }
                continue;
            }
            match stale.whose {
                Whose::Writer => verdict.writers += 1,
                Whose::Strict => verdict.strict += 1,
                Whose::Others => verdict.others += 1,
            }
            if verdict.histories.len() < TOLD {
                verdict.histories.push(history(&stale, records, faults, since, names));
            }
        }
        verdict
    }

    pub(super) fn tell(&self, report: &mut Report) {
        report.require("stale reads on the writer", self.writers as f64, Bound::Exactly(0.0));
        report.require("stale reads after a strict write", self.strict as f64, Bound::Exactly(0.0));
        report.require("stale reads beyond their bound elsewhere", self.others as f64, Bound::Exactly(0.0));
        report.note(format!("stale reads within their bounds: {}", self.within));
        for (kind, (count, oldest)) in &self.excused {
            let kind = kind.map_or_else(|| "no fault".to_owned(), |kind| format!("{kind:?}"));
            report.note(format!(
                "  {count} of them later than a message, after {kind}: the oldest value was {:.2} s old",
                seconds(*oldest)
            ));
        }
    }

    /// Tells how long values stayed on other nodes than the writer's.
    pub(super) fn latest(&self, report: &mut Report) {
        report.aim("oldest value read elsewhere, ms", self.oldest as f64 / 1e3, Bound::AtMost(ONE_MESSAGE_MS));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.histories.iter().try_for_each(|history| writeln!(f, "\n{history}"))?;
        let untold = self.writers + self.strict + self.others - self.histories.len();
        if untold > 0 { writeln!(f, "\nand {untold} more") } else { Ok(()) }
    }
}

/// Tells what was read and written, and voids what is too little of it.
pub(super) fn tell(records: &Records, seconds: f64, report: &mut Report) {
    let degraded = records.writes.iter().filter(|write| !write.pending.is_empty()).count();
    let (reads, writes) = (records.reads.len(), records.writes.len());
    let mut modes = BTreeMap::<&str, usize>::new();
    records.writes.iter().for_each(|write| *modes.entry(&write.mode).or_default() += 1);
    report.note(format!("{reads} reads, {writes} writes ({modes:?}), {degraded} of them degraded, in {seconds:.0} s"));
    report.void_unless(reads as f64 / seconds >= FLOOR, format!("{reads} reads are too few"));
    report.void_unless(writes as f64 / seconds >= FLOOR_OF_WRITES, format!("{writes} writes are too few"));
    report.note(format!("{} writes that the database did not take", records.unwritten));
    report.tell("reads that failed", records.read_errors as f64);
    report.require("wrong values", records.wrong as f64, Bound::Exactly(0.0));
    report.require("writes that failed", records.write_errors.len() as f64, Bound::Exactly(0.0));
    let faults = records.first_fault.iter().chain(records.write_errors.first());
    faults.for_each(|fault| report.note(format!("the first fault: {fault}")));
}

/// Tells of a violation what happened to its key, and to the cluster, around it.
fn history(stale: &Stale<'_>, records: &Records, faults: &[Fault], since: Micros, names: &[String]) -> String {
    let at = |time: Micros| format!("{:>10.4} s", seconds(time.saturating_sub(since)));
    let (read, missed) = (stale.read, stale.missed);
    let promise = match stale.whose {
        Whose::Writer => "on its writer",
        Whose::Strict => "though it was strict",
        Whose::Others => "elsewhere",
    };
    let mut lines = vec![
        (
            read.start,
            format!(
                "{} reads version {} <== {:.4} s after it had to be gone",
                names[read.by.0],
                read.version,
                seconds(read.start - stale.due)
            ),
        ),
        (stale.due, "the write that it missed has to be there".to_owned()),
    ];
    let from = missed.committed.saturating_sub(BEFORE);
    for write in records.writes.iter().filter(|write| write.number == read.number && write.returned >= from) {
        let by = &names[write.by.0];
        lines.push((write.committed, format!("{by} (process {}) writes version {}", write.by.1, write.version)));
        let outcome =
            if write.pending.is_empty() { "applied".to_owned() } else { format!("pending {:?}", write.pending) };
        lines.push((write.returned, format!("{by} is told: version {} {outcome}", write.version)));
    }
    let is_near = |time: Micros| time >= from && time <= read.end + AFTER;
    // Of reads of the same version one after the other, the first tells enough.
    let mut last = BTreeMap::new();
    let mut of_key: Vec<_> = records.reads.iter().filter(|other| other.number == read.number).collect();
    of_key.sort_by_key(|other| other.start);
    for other in of_key.into_iter().filter(|other| is_near(other.start) && *other != read) {
        if last.insert(other.by, other.version) != Some(other.version) {
            lines.push((other.start, format!("{} reads version {}", names[other.by.0], other.version)));
        }
    }
    for fault in faults.iter().filter(|fault| fault.from <= read.end && fault.over() >= missed.committed) {
        let given_up = if fault.gave_up { ", and members were given up" } else { "" };
        lines.push((fault.from, format!("begins: {}", fault.what)));
        lines.push((fault.to, format!("ends: {}{given_up}", fault.what)));
    }
    lines.retain(|(time, _)| is_near(*time));
    lines.sort();
    let told: Vec<_> = lines.into_iter().map(|(time, line)| format!("  {}  {line}", at(time))).collect();
    format!(
        "VIOLATION: v{} ({}): version {} of {} was not seen {promise}, {:.4} s after it had returned; on {} (process {})\n{}",
        read.number,
        missed.mode,
        missed.version,
        names[missed.by.0],
        seconds(stale.age()),
        names[read.by.0],
        read.by.1,
        told.join("\n")
    )
}

/// Further ones are mostly of the same cause.
const TOLD: usize = 8;
/// How much of a key's history is told before the write and after the read.
const BEFORE: Micros = 1_000_000;
const AFTER: Micros = 300_000;
/// etcd's robustness tests take a run below 50 to 100 requests a second for none.
const FLOOR: f64 = 100.0;
const FLOOR_OF_WRITES: f64 = 5.0;
