//! Which reads were older than was promised.
//!
//! A read is held against every write whose version it did not see and that had returned before it began. Such a write has a time by
//! which each node must have it:
//!
//! * on its writer, whatever its outcome, and everywhere if it was strict and applied: when it had returned;
//! * elsewhere: [`MESSAGE`] later, or [`REPLAY`] later if somebody was pending. Each fault that begins before that time, and that was not over when the
//!   write returned, puts it off until the fault is over and [what may be left of it](Fault::recovery) too.

use std::collections::BTreeMap;

use super::record::{Micros, Read, Records, Write};

/// Something that was done to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) kind: Kind,
    pub(super) from: Micros,
    /// When it was undone: the process serves again, or all packets arrive again.
    pub(super) to: Micros,
    /// Whether somebody saw a member go.
    pub(super) gave_up: bool,
}

/// What kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A node takes its leave, and starts again in its place.
    Restart,
    /// SIGKILL, and a new process.
    Kill,
    /// SIGSTOP and SIGCONT.
    Stop,
    /// Two sides do not hear each other.
    Partition,
    /// One side does not hear the other, which hears it.
    OneWay,
}

/// A read that did not see a write that had returned.
#[derive(Debug)]
pub(super) struct Stale<'a> {
    pub(super) read: &'a Read,
    /// Of the writes that it did not see, the one that had to be there first.
    pub(super) missed: &'a Write,
    pub(super) due: Micros,
    pub(super) whose: Whose,
}

/// Whose promise about the write it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Writer,
    Strict,
    Others,
}

impl Stale<'_> {
    /// How old the value was: how long the write had returned when the read began.
    pub(super) fn age(&self) -> Micros {
        self.read.start - self.missed.returned
    }

    pub(super) fn is_violation(&self) -> bool {
        self.read.start > self.due
    }
}

impl Fault {
    /// How long after its end stale values are within the contract.
    fn recovery(&self) -> Micros {
        match self.kind {
            // Copies of hot values, and rings that do not agree yet.
            Kind::Restart => NEAR_TTL,
            // A dead process holds nothing; whoever acted for it may, for a while.
            Kind::Kill => FAILOVER_TTL + NEAR_TTL,
            Kind::Stop | Kind::Partition | Kind::OneWay if self.gave_up => HEAL_TTL + REPLAY,
            Kind::Stop | Kind::Partition | Kind::OneWay => FAILOVER_TTL + NEAR_TTL,
        }
    }

    /// When no trace of it may be left.
    pub(super) fn over(&self) -> Micros {
        self.to + self.recovery()
    }
}

/// Returns all stale reads, those within the contract too, in order of their times.
pub(super) fn stale<'a>(records: &'a Records, faults: &[Fault]) -> Vec<Stale<'a>> {
    let mut faults: Vec<_> = faults.iter().collect();
    faults.sort_by_key(|fault| fault.from);
    let mut writes = BTreeMap::<u64, Vec<&Write>>::new();
    records.writes.iter().for_each(|write| writes.entry(write.number).or_default().push(write));
    let keys: BTreeMap<_, _> = writes.into_iter().map(|(number, writes)| (number, History::of(writes))).collect();
    let mut stale: Vec<_> = records
        .reads
        .iter()
        .filter_map(|read| {
            let missed = keys.get(&read.number)?.missed(read);
            missed.map(|write| judge(read, write, &faults)).min_by_key(|stale| stale.due)
        })
        .collect();
    stale.sort_by_key(|stale| stale.read.start);
    stale
}

fn judge<'a>(read: &'a Read, missed: &'a Write, faults: &[&Fault]) -> Stale<'a> {
    let (whose, due) = match () {
        () if missed.by == read.by => (Whose::Writer, missed.returned),
        () if missed.pending.is_empty() && missed.mode.starts_with(STRICT) => (Whose::Strict, missed.returned),
        () => (Whose::Others, due(missed, faults)),
    };
    Stale { read, missed, due, whose }
}

/// When every node must have a write.
fn due(write: &Write, faults: &[&Fault]) -> Micros {
    let mut due = write.returned + if write.pending.is_empty() { MESSAGE } else { REPLAY };
    for fault in faults {
        if fault.from <= due && fault.over() >= write.committed {
            due = due.max(fault.over());
        }
    }
    due
}

/// The writes of a key, by when they returned.
struct History<'a> {
    writes: Vec<&'a Write>,
    /// The highest version of each and those before.
    highest: Vec<u64>,
}

impl<'a> History<'a> {
    fn of(mut writes: Vec<&'a Write>) -> Self {
        writes.sort_by_key(|write| write.returned);
        let mut highest = 0;
        let rising = writes.iter().map(|write| {
            highest = write.version.max(highest);
            highest
        });
        Self { highest: rising.collect(), writes }
    }

    /// Returns the writes that a read should have seen, and did not.
    fn missed(&self, read: &Read) -> impl Iterator<Item = &'a Write> + use<'a, '_> {
        let returned = self.writes.partition_point(|write| write.returned < read.start);
        let is_fresh = returned == 0 || self.highest[returned - 1] <= read.version;
        let candidates = if is_fresh { &[] } else { &self.writes[..returned] };
        let version = read.version;
        candidates.iter().copied().filter(move |write| write.version > version)
    }
}

/// How the names of the modes begin in which no node may serve an old value.
const STRICT: &str = "strict";
const SECOND: Micros = 1_000_000;
/// One message, on a machine on which more processes than processors want to run.
pub(super) const MESSAGE: Micros = SECOND / 2;
/// How long copies of hot values are kept where nothing can be told. The limit of an owner's silence is shorter.
const NEAR_TTL: Micros = 2 * SECOND;
/// How long whoever acts for an owner keeps what it loaded.
const FAILOVER_TTL: Micros = 10 * SECOND;
/// How long what was given up serves what it held: the default and half of it again.
const HEAL_TTL: Micros = 45 * SECOND;
/// Within that, sides that are whole again agree, and have told each other what they missed.
const REPLAY: Micros = 10 * SECOND;

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn write(node: usize, version: u64, returned: Micros, mode: &str) -> Write {
        let committed = returned - 1;
        Write { by: (node, 1), number: 4, version, mode: mode.to_owned(), committed, returned, pending: Vec::new() }
    }

    fn read(node: usize, version: u64, start: Micros) -> Read {
        Read { by: (node, 1), number: 4, version, start, end: start + 1 }
    }

    /// The stale reads among `reads`: whose promise, and whether it is broken.
    fn judged(writes: &[Write], reads: &[Read], faults: &[Fault]) -> Vec<(Micros, Whose, bool)> {
        let records = Records { reads: reads.to_vec(), writes: writes.to_vec(), ..Records::default() };
        stale(&records, faults).iter().map(|stale| (stale.read.start, stale.whose, stale.is_violation())).collect()
    }

    fn fault(kind: Kind, from: Micros, to: Micros, gave_up: bool) -> Fault {
        Fault { what: String::new(), kind, from, to, gave_up }
    }

    #[test]
    fn writer_reads_its_write_at_once_and_others_a_message_later() {
        let writes = [write(0, 1, SECOND, "delete")];
        let late = SECOND + MESSAGE + 1;
        let reads = [read(0, 0, SECOND), read(0, 0, SECOND + 1), read(1, 0, SECOND + 1), read(1, 0, late)];
        let found = judged(&writes, &reads, &[]);
        let others = Whose::Others;
        assert_eq!(found, [(SECOND + 1, Whose::Writer, true), (SECOND + 1, others, false), (late, others, true)]);
        assert!(judged(&writes, &[read(0, 1, late), read(1, 2, late)], &[]).is_empty(), "these are fresh");
    }

    #[test]
    fn next_process_of_the_writer_s_node_is_another() {
        let again = Read { by: (0, 2), ..read(0, 0, SECOND + 1) };
        assert_eq!(judged(&[write(0, 1, SECOND, "put")], &[again], &[]), [(SECOND + 1, Whose::Others, false)]);
    }

    #[test]
    fn strict_write_is_everywhere_unless_somebody_was_pending_and_on_its_writer_even_then() {
        let strict = write(0, 1, SECOND, STRICT);
        assert_eq!(judged(from_ref(&strict), &[read(1, 0, SECOND + 1)], &[]), [(SECOND + 1, Whose::Strict, true)]);
        let degraded = Write { pending: vec!["node-2".to_owned()], ..strict };
        assert_eq!(judged(from_ref(&degraded), &[read(1, 0, SECOND + 1)], &[]), [(SECOND + 1, Whose::Others, false)]);
        assert_eq!(judged(from_ref(&degraded), &[read(0, 0, SECOND + 1)], &[]), [(SECOND + 1, Whose::Writer, true)]);
        let late = SECOND + REPLAY + 1;
        assert_eq!(judged(&[degraded], &[read(1, 0, late)], &[]), [(late, Whose::Others, true)]);
    }

    #[test]
    fn fault_puts_off_what_was_not_settled_when_it_began_and_no_more() {
        let split = fault(Kind::Partition, 5 * SECOND, 7 * SECOND, false);
        let over = split.over();
        let (settled, caught) = (write(0, 1, SECOND, "delete"), write(0, 1, 6 * SECOND, "delete"));
        let found = |write: &Write, at| judged(from_ref(write), &[read(1, 0, at)], from_ref(&split))[0].2;
        assert!(found(&settled, 6 * SECOND), "what everybody had is not to come back");
        assert!(!found(&caught, over) && found(&caught, over + 1));
        let after = write(0, 1, over + 1, "delete");
        assert!(found(&after, over + 2 * SECOND), "the fault is over");
    }

    #[test]
    fn faults_that_follow_each_other_put_off_one_after_the_other_in_any_order_told() {
        let (one, two) = (fault(Kind::Kill, 0, SECOND, false), fault(Kind::Stop, 10 * SECOND, 12 * SECOND, true));
        let late = two.over();
        let writes = [write(0, 1, SECOND, "delete")];
        let found = |at| judged(&writes, &[read(1, 0, at)], &[two.clone(), one.clone()])[0].2;
        assert!(!found(late) && found(late + 1));
    }

    #[test]
    fn newest_version_counts_whichever_write_returned_last() {
        let writes = [write(0, 2, SECOND, STRICT), write(1, 1, 2 * SECOND, STRICT)];
        assert_eq!(judged(&writes, &[read(2, 1, 3 * SECOND)], &[]), [(3 * SECOND, Whose::Strict, true)]);
    }

    #[test]
    fn missed_write_that_had_to_be_there_first_is_the_one_that_is_named() {
        let writes = [write(1, 1, SECOND, "delete"), write(0, 2, 2 * SECOND, "delete")];
        let records = Records { reads: vec![read(0, 0, 3 * SECOND)], writes: writes.into(), ..Records::default() };
        let found = stale(&records, &[]);
        assert_eq!((found.len(), found[0].missed.version, found[0].age()), (1, 1, 2 * SECOND));
    }
}
