//! Reads and writes from within a node, each of which is told, so that somebody can judge whether any value was too old.
//!
//! Polaris (Meta, "Cache made consistent", 2022) does so beside a cache; here the node tells of itself.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use distcache::{Engine, Entry, KeySpaceHandle, Outcome, WriteMode};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use crate::{
    Answer, Audit, Journal, Mode, Seen, Versions, Written,
    commands::with_causes,
    load::{GOLDEN_GAMMA, mix},
    node::say,
    pulse::pulse,
};

/// An audit that is under way.
#[derive(Debug)]
pub(crate) struct Auditor {
    shared: Arc<Shared>,
    callers: JoinSet<()>,
    teller: JoinHandle<()>,
    /// Once this is sent or dropped, the teller tells the rest and ends.
    ended: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    plan: Audit,
    keyspace: KeySpaceHandle,
    /// The same, for strict writes.
    strict: KeySpaceHandle,
    source: Versions,
    stop: AtomicBool,
    /// What was not told yet.
    journal: Mutex<Journal>,
}

impl Auditor {
    /// Starts readers, writers, and the lines of what they did.
    pub(crate) fn start(plan: Audit, engine: &Engine, keyspace: KeySpaceHandle, source: Versions) -> Self {
        let strict = keyspace.clone().write_mode(WriteMode::Strict);
        let (stop, journal) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { plan, keyspace, strict, source, stop, journal });
        let mut callers = JoinSet::new();
        for caller in 0..shared.plan.callers.max(1) {
            callers.spawn(Arc::clone(&shared).read(caller));
            if shared.plan.writes > 0 {
                callers.spawn(Arc::clone(&shared).write(caller));
            }
        }
        let (ended, end) = oneshot::channel();
        let teller = tokio::spawn(Arc::clone(&shared).tell(engine.clone(), end));
        Self { shared, callers, teller, ended }
    }

    /// Lets what is under way end, and tells it.
    pub(crate) async fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.callers.join_next().await.is_some() {}
        drop(self.ended);
        // It panics no more than the callers do.
        let _ = self.teller.await;
    }
}

impl Shared {
    async fn read(self: Arc<Self>, caller: u32) {
        let mut numbers = Numbers::new(self.plan.seed, caller, self.plan.keys);
        let mut hot = Numbers::new(self.plan.seed, caller, self.plan.keys / 8);
        let mut ticks = ticks(self.plan.callers, self.plan.reads);
        while !self.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let number = if numbers.next().is_multiple_of(2) { hot.next() } else { numbers.next() };
            let start = now_us();
            let answer = self.keyspace.get(&Versions::key(number)).await;
            let end = now_us();
            let mut journal = self.journal();
            match answer {
                Ok(value) => match value.as_deref().and_then(|value| Versions::version(number, value)) {
                    Some(version) => journal.reads.push(Seen(number, version, start, end)),
                    None => {
                        journal.wrong += 1;
                        journal.first_fault.get_or_insert_with(|| format!("v{number}: not its value: {value:?}"));
                    }
                },
                Err(error) => {
                    journal.errors += 1;
                    journal.first_fault.get_or_insert_with(|| format!("v{number}: {}", with_causes(&error)));
                }
            }
        }
    }

    /// Writes the keys of one caller, so that this node does not write a key twice at the same time.
    async fn write(self: Arc<Self>, caller: u32) {
        let mine: Vec<_> = (0..self.plan.keys).filter(|number| self.writer(*number) == Some(caller)).collect();
        let Ok(count @ 1..) = u32::try_from(mine.len()) else { return };
        let mut places = Numbers::new(!self.plan.seed, caller, count);
        let mut ticks = ticks(self.plan.callers, self.plan.writes);
        let mut made = 0;
        while !self.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let number = mine[places.next() as usize];
            let source = self.source.clone();
            let raised = spawn_blocking(move || source.raised(number)).await;
            let committed_us = now_us();
            let Ok(Ok(version)) = raised else {
                self.journal().unwritten += 1;
                continue;
            };
            made += 1;
            let forgotten = self.plan.forget_every != 0 && made % self.plan.forget_every == 0;
            let mode = self.mode(number);
            let keyspace = if matches!(mode, Mode::Delete | Mode::Put) { &self.keyspace } else { &self.strict };
            let outcome = match mode {
                _ if forgotten => Ok(Outcome::Applied),
                Mode::Delete | Mode::Strict => keyspace.delete(&Versions::key(number)).await,
                Mode::Put | Mode::StrictPut => {
                    keyspace.put(Entry::new(Versions::key(number), Versions::value(number, version))).await
                }
            };
            let returned_us = now_us();
            let (pending, error) = match outcome {
                Ok(Outcome::Applied) => (Vec::new(), None),
                Ok(Outcome::Degraded { pending }) => (pending, None),
                Ok(other) => (Vec::new(), Some(format!("{other:?}"))),
                Err(error) => (Vec::new(), Some(with_causes(&error))),
            };
            let written = Written { number, version, mode, committed_us, returned_us, pending, error };
            self.journal().writes.push(written);
        }
    }

    fn mode(&self, number: u32) -> Mode {
        self.plan.modes[number as usize % self.plan.modes.len()]
    }

    /// Returns which caller of this node writes a number, if any does.
    fn writer(&self, number: u32) -> Option<u32> {
        let turn = number / u32::try_from(self.plan.modes.len()).unwrap_or(1);
        let writers = self.plan.writers.max(1);
        let is_mine = !self.mode(number).puts() || turn % writers == self.plan.writer;
        is_mine.then_some(turn / writers % self.plan.callers.max(1))
    }

    async fn tell(self: Arc<Self>, engine: Engine, end: oneshot::Receiver<()>) {
        pulse(&engine, PERIOD, end, |left| {
            let journal = mem::take(&mut *self.journal());
            let (node, pid) = (engine.name().to_owned(), std::process::id());
            // Nobody reads them any more; whoever started the node is gone, and so will it be.
            let _ = say(&Answer::Journal(Journal { node, pid, at_us: now_us(), left, ..journal }));
        })
        .await;
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ticks(callers: u32, rate: u32) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_secs(1) * callers.max(1) / rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Numbers below a bound, the same in every run.
struct Numbers {
    state: u64,
    below: u32,
}

impl Numbers {
    fn new(seed: u64, caller: u32, below: u32) -> Self {
        Self { state: mix(seed ^ (u64::from(caller) << 32)), below: below.max(1) }
    }

    fn next(&mut self) -> u32 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        u32::try_from(mix(self.state) % u64::from(self.below)).unwrap_or(0)
    }
}

/// Returns the time in microseconds since 1970, by the clock that all processes of a machine share.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Short, so that little is untold when a node is killed.
const PERIOD: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use distcache::SourceKeySpace;

    use super::*;
    use crate::{Cities, Scratch};

    /// Reads and writes at one node until there were enough of both, and returns what was told.
    async fn audited(forget_every: u32) -> Journal {
        let scratch = Scratch::new("audit").unwrap();
        let cities = Cities::create(&scratch.path().join("cities.db")).unwrap();
        let source = Versions::new(&cities, Duration::ZERO);
        let engine = Engine::builder().keyspace(SourceKeySpace::new("versions", source.clone())).start().await.unwrap();
        let keyspace = engine.keyspace("versions").unwrap();
        let modes = vec![Mode::Delete, Mode::Put, Mode::Strict, Mode::StrictPut];
        let plan = Audit {
            keys: 8,
            callers: 2,
            reads: 2_000,
            writes: 200,
            modes,
            writer: 0,
            writers: 1,
            seed: 1,
            forget_every,
        };
        let strict = keyspace.clone().write_mode(WriteMode::Strict);
        let (stop, journal) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { plan, keyspace, strict, source, stop, journal });
        let mut callers = JoinSet::new();
        for caller in 0..2 {
            callers.spawn(Arc::clone(&shared).read(caller));
            callers.spawn(Arc::clone(&shared).write(caller));
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while shared.journal().reads.len() < 300 || shared.journal().writes.len() < 60 {
            assert!(std::time::Instant::now() < deadline, "there is no traffic");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        shared.stop.store(true, Ordering::Relaxed);
        while callers.join_next().await.is_some() {}
        mem::take(&mut *shared.journal())
    }

    /// How many reads did not see a write that had returned before they began.
    fn stale(journal: &Journal) -> usize {
        let missed = |read: &&Seen| {
            let Seen(number, version, start, _) = **read;
            let is_missed = |write: &Written| write.version > version && write.returned_us < start;
            journal.writes.iter().any(|write| write.number == number && is_missed(write))
        };
        journal.reads.iter().filter(missed).count()
    }

    #[tokio::test]
    async fn what_is_told_shows_that_a_node_reads_its_writes_and_which_it_kept_from_the_cache() {
        let journal = audited(0).await;
        assert_eq!((journal.errors, journal.wrong, journal.unwritten, stale(&journal)), (0, 0, 0, 0), "{journal:?}");
        let mut told: Vec<_> = journal.writes.iter().map(|write| (write.mode, write.number % 4)).collect();
        told.sort_by_key(|(_, place)| *place);
        told.dedup();
        assert_eq!(told, [(Mode::Delete, 0), (Mode::Put, 1), (Mode::Strict, 2), (Mode::StrictPut, 3)]);
        assert!(stale(&audited(1).await) > 0);
    }
}
