//! What clients read, judged as each read ends.

use std::time::Duration;

use distcache::{ErrorKind, Outcome};

use crate::{
    network::Micros,
    node::WRITE_TIMEOUT,
    rules::Rule,
    source::parse,
    talk::VIEW_SPREAD,
    world::{Life, Truth},
};

/// What the clients of a process are reading of one key.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Open {
    count: usize,
    ended: Option<Micros>,
}

/// A read of one key that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    life: Life,
    pub(crate) key: usize,
    /// The version it may not go behind.
    floor: u64,
    /// The version that no node may go behind.
    delivered: u64,
    /// The version that no node may go behind whatever is broken, for its write was strict.
    strict: u64,
    /// The version that this node may not go behind with what it holds itself.
    memory: u64,
    /// As the reader's node saw the ring.
    ring: Ring,
}

/// How a node sees the ring, as far as it is about one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ring {
    pub(crate) ordinal: u64,
    pub(crate) owns: bool,
}

impl Truth {
    pub(crate) fn begin_read(&mut self, life: Life, key: usize, ring: Ring) -> Reading {
        self.open.entry((life, key)).or_default().count += 1;
        let own = self.floors.get(&(life, key)).copied().unwrap_or_default();
        // At rest everyone has heard of every write.
        let floor = if self.calm && !self.rows[key].tainted { own.max(self.rows[key].returned) } else { own };
        let (delivered, strict, memory) = (self.delivered(key), self.rows[key].strict, self.memory_floor(life, key));
        Reading { life, key, floor, delivered, strict, memory, ring }
    }

    /// A read is over, however it ended: before it is judged. Says whether it was the only one of its key at its node.
    pub(crate) fn end_read(&mut self, reading: &Reading) -> bool {
        let now = self.now;
        let open = self.open.entry((reading.life, reading.key)).or_default();
        open.count -= 1;
        let was_last = open.ended.replace(now);
        open.count == 0 && was_last != Some(now)
    }

    /// Whether a client of a process reads a key, or has until so lately that the node may still be at it.
    pub(crate) fn is_read_by_client(&self, life: Life, key: usize) -> bool {
        let open = self.open.get(&(life, key));
        open.is_some_and(|open| open.count > 0 || open.ended.is_some_and(|at| self.now < at + LINGERING))
    }

    /// A read ended with a value. `at_once` says that it took no time and had no company: it was answered from memory.
    pub(crate) fn check_value(&mut self, reading: &Reading, ring: Ring, at_once: bool, value: Option<&[u8]>) {
        let Reading { life, key, floor, .. } = *reading;
        self.counts.reads += 1;
        let said = value.and_then(parse);
        let Some((of, version)) = said else {
            return self
                .violate(Rule::Truth, format!("node {} read of key {key} what nobody wrote: {value:?}", life.0));
        };
        self.trace.note(&[life.0 as u64, life.1, key as u64, version]);
        let now = self.rows[key].version;
        if self.loud {
            let at = self.now as f64 / 1e6;
            println!("{at:>11.6}  node {} read key {key} version {version} of {now}", life.0);
        }
        if of != key {
            self.violate(Rule::Truth, format!("node {} read key {of} for key {key}", life.0));
        } else if version > now {
            self.violate(
                Rule::Truth,
                format!("node {} read version {version} of key {key}, which is at {now}", life.0),
            );
        } else if self.is_behind(key, version, floor) {
            let is_of_epoch = self.calm && self.is_behind(key, version, self.rows[key].cleared);
            let rule = match self.calm {
                true if is_of_epoch => Rule::Epoch,
                true => Rule::Convergence,
                false => Rule::ReadYourWrites,
            };
            let what = format!("node {} read version {version} of key {key}, and {floor} is the oldest it may", life.0);
            self.violate(rule, what);
        }
        if self.is_behind(key, version, reading.strict) {
            let what =
                format!("node {} read version {version} of key {key}, and {} was strict", life.0, reading.strict);
            self.violate(Rule::Strict, what);
        }
        if self.is_behind(key, version, reading.delivered) {
            let (node, known) = (life.0, reading.delivered);
            let what =
                format!("node {node} read version {version} of key {key}, and {known} should be known everywhere");
            self.violate(Rule::Delivery, what);
        }
        self.counts.stale += u64::from(version < now);
        self.check_own(reading, ring, at_once, version);
    }

    /// What a node gives its own clients without asking anybody.
    fn check_own(&mut self, reading: &Reading, ring: Ring, at_once: bool, version: u64) {
        let Reading { life, key, memory, .. } = *reading;
        if reading.ring != ring {
            return;
        }
        // An owner that has not heard yet may give out an old value even to a node that has: for the time of a lease.
        if ring.owns || at_once && !self.may_hold_copy(life, key) {
            self.check_memory(life, key, version, memory);
        }
        if at_once && self.beliefs[life.0].since + VIEW_SPREAD < self.now {
            self.counts.memory_reads += 1;
            self.check_held(life, key, version, ring.owns);
        }
    }

    pub(crate) fn check_error(&mut self, reading: &Reading, kind: ErrorKind, message: &str) {
        let Reading { life, key, .. } = *reading;
        self.counts.reads += 1;
        self.trace.note(&[life.0 as u64, life.1, key as u64, u64::MAX]);
        *self.counts.errors.entry(format!("{kind:?}")).or_default() += 1;
        if self.calm {
            self.violate(Rule::Convergence, format!("node {} cannot read key {key} at rest: {message}", life.0));
        }
        if kind == ErrorKind::Internal {
            self.violate(Rule::Truth, format!("node {}: {message}", life.0));
        }
    }

    /// A write is over. Says whether it is known to be applied.
    pub(crate) fn check_write(
        &mut self,
        life: Life,
        took: Duration,
        slept: bool,
        written: &Result<Outcome, distcache::Error>,
    ) -> bool {
        if took > WRITE_TIMEOUT + WRITE_GRACE && !slept {
            self.violate(Rule::Deadlines, format!("node {}: a write took {took:?}", life.0));
        }
        match written {
            Ok(outcome) => *outcome == Outcome::Applied,
            Err(error) => {
                self.violate(Rule::DeleteNeverFails, format!("node {}: a write failed: {error}", life.0));
                false
            }
        }
    }

    pub(crate) fn check_time(&mut self, life: Life, took: Duration, allowed: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.counts.slowest_read_ms = self.counts.slowest_read_ms.max(took_ms);
        if took > allowed + GRACE {
            let what = format!("node {}: a read took {took:?}, and {allowed:?} is allowed", life.0);
            self.violate(Rule::Deadlines, what);
        }
    }
}

/// A put over several hops and the timers of two nodes.
const WRITE_GRACE: Duration = Duration::from_millis(100);
/// A load that nobody waits for any more goes on for the rest of its time.
const LINGERING: Micros = 2_100_000;
/// A deadline is a timer, and a timer ends with the millisecond; a step may lie before that.
const GRACE: Duration = Duration::from_millis(50);
