//! Caches that are filled once and then run side by side: in each round each of them once, so that what disturbs the machine disturbs
//! all.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    dataset::{Blob, Requests, blob, key},
    parallel,
    peers::{Bound, Candidate, Peer, Visit},
};

/// What threads do in a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Gets of keys that are all there.
    GetHit,
    /// 19 gets and an insert, with room for half of the keys.
    #[value(name = "mix-95")]
    #[serde(rename = "mix-95")]
    Mix95,
    /// 3 gets and an insert, with room for half of the keys.
    #[value(name = "mix-75")]
    #[serde(rename = "mix-75")]
    Mix75,
    /// Inserts of keys that never were there, into a full cache.
    InsertEvict,
}

/// A filled cache in the contest.
pub struct Contender {
    /// Which it is.
    pub candidate: Candidate,
    cache: Box<dyn Run>,
    /// How many blocks of keys were inserted that no other insert has.
    fresh: AtomicU64,
}

/// What one pass over one cache needs.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'s> {
    /// What the threads do.
    pub workload: Workload,
    /// How many threads do it.
    pub threads: usize,
    /// For how long.
    pub time: Duration,
    /// What they ask for.
    pub requests: &'s Requests,
    /// Which pass over this cache it is: each starts elsewhere in the requests.
    pub number: usize,
}

impl Workload {
    /// Every workload.
    pub const ALL: &[Self] = &[Self::GetHit, Self::Mix95, Self::Mix75, Self::InsertEvict];

    /// Returns the name that tables and targets show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GetHit => "get-hit",
            Self::Mix95 => "mix-95",
            Self::Mix75 => "mix-75",
            Self::InsertEvict => "insert-evict",
        }
    }

    /// Returns how many operations one insert comes with, if any.
    const fn insert_each(self) -> Option<usize> {
        match self {
            Self::GetHit => None,
            Self::Mix95 => Some(20),
            Self::Mix75 => Some(4),
            Self::InsertEvict => Some(1),
        }
    }
}

impl Contender {
    /// Builds a cache, and fills it with the keys from 0 on.
    #[must_use]
    pub fn new(candidate: Candidate, capacity: u64, entries: u64) -> Self {
        let cache = candidate.build(Bound::Entries(capacity), Fill(entries));
        Self { candidate, cache, fresh: AtomicU64::new(FRESH_KEYS) }
    }

    /// Builds and fills several caches, as many at once as there are processors.
    #[must_use]
    pub fn fill_all(candidates: &[Candidate], capacity: u64, entries: u64) -> Vec<Self> {
        parallel::map(candidates, |candidate| Self::new(*candidate, capacity, entries))
    }

    /// Inserts keys beside those it is filled with.
    pub fn insert_all(&self, keys: &[String]) {
        self.cache.insert_all(keys);
    }

    /// Asks for keys, and inserts those that are missed.
    pub fn read_through(&self, keys: &[String]) {
        self.cache.read_through(keys);
    }

    /// Runs all threads, and returns how many million operations they did in a second.
    pub fn speed(&self, pass: &Pass<'_>) -> f64 {
        self.warm_up(pass);
        let (operations, took) =
            together(pass.threads, pass.time, |thread, stop| self.cache.count(&self.part(pass, thread), stop));
        operations.iter().sum::<u64>() as f64 / took.as_secs_f64() / 1e6
    }

    /// Runs all threads, and returns how many nanoseconds each get took.
    pub fn latencies(&self, pass: &Pass<'_>) -> Vec<u32> {
        self.warm_up(pass);
        let (latencies, _) =
            together(pass.threads, pass.time, |thread, stop| self.cache.time(&self.part(pass, thread), stop));
        latencies.concat()
    }

    /// Brings what is asked for often into the processors' caches, from where the turns of the others have driven it.
    fn warm_up(&self, pass: &Pass<'_>) {
        let pass = Pass { time: pass.time / WARM_UP, number: pass.number + ELSEWHERE, ..*pass };
        together(pass.threads, pass.time, |thread, stop| self.cache.count(&self.part(&pass, thread), stop));
    }

    /// Returns the share of the keys asked for that are there, from a sample.
    #[must_use]
    pub fn resident(&self, requests: &Requests) -> f64 {
        self.cache.resident(requests.probes())
    }

    fn part<'p>(&self, pass: &Pass<'p>, thread: usize) -> Part<'p> {
        let keys = pass.requests.keys();
        let from = pass.number * STRIDE + thread * (keys.len() / pass.threads);
        Part {
            workload: pass.workload,
            keys,
            from: from % keys.len(),
            fresh: self.fresh.fetch_add(1, Ordering::Relaxed) << 32,
        }
    }
}

impl std::fmt::Debug for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contender").field("candidate", &self.candidate).finish_non_exhaustive()
    }
}

/// What one thread does in a pass.
struct Part<'p> {
    workload: Workload,
    keys: &'p [String],
    from: usize,
    fresh: u64,
}

/// A cache of whatever type: its loops are compiled for it, and only the call of a whole loop is dynamic.
trait Run: Send + Sync {
    /// Works until it is told to stop, and returns the number of operations.
    fn count(&self, part: &Part<'_>, stop: &AtomicBool) -> u64;

    /// Works until it is told to stop, and returns the nanoseconds of each get.
    fn time(&self, part: &Part<'_>, stop: &AtomicBool) -> Vec<u32>;

    fn insert_all(&self, keys: &[String]);

    fn read_through(&self, keys: &[String]);

    fn resident(&self, keys: &[String]) -> f64;
}

struct Filled<P>(P);

struct Fill(u64);

impl Visit<String, Blob> for Fill {
    type Output = Box<dyn Run>;

    fn visit<P: Peer<String, Blob>>(self, cache: P) -> Box<dyn Run> {
        (0..self.0).for_each(|number| cache.insert(key(number), blob()));
        cache.settle();
        Box::new(Filled(cache))
    }
}

impl<P: Peer<String, Blob>> Run for Filled<P> {
    fn count(&self, part: &Part<'_>, stop: &AtomicBool) -> u64 {
        let mut turns = Turns::new(part);
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..BATCH {
                match turns.next() {
                    Turn::Get(key) => {
                        self.0.get(key);
                    }
                    Turn::Insert(key) => self.0.insert(key, blob()),
                }
            }
        }
        turns.done
    }

    fn time(&self, part: &Part<'_>, stop: &AtomicBool) -> Vec<u32> {
        let mut latencies = Vec::with_capacity(LATENCIES);
        let mut turns = Turns::new(part);
        while !stop.load(Ordering::Relaxed) && latencies.len() < LATENCIES {
            match turns.next() {
                Turn::Get(key) => {
                    let start = Instant::now();
                    self.0.get(key);
                    latencies.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
                }
                Turn::Insert(key) => self.0.insert(key, blob()),
            }
        }
        latencies
    }

    fn insert_all(&self, keys: &[String]) {
        keys.iter().for_each(|key| self.0.insert(key.clone(), blob()));
    }

    fn read_through(&self, keys: &[String]) {
        for key in keys {
            if !self.0.get(key) {
                self.0.insert(key.clone(), blob());
            }
        }
    }

    fn resident(&self, keys: &[String]) -> f64 {
        keys.iter().filter(|key| self.0.get(key)).count() as f64 / keys.len() as f64
    }
}

enum Turn<'p> {
    Get(&'p String),
    Insert(String),
}

/// The operations of a thread, one after the other and round and round.
struct Turns<'p> {
    keys: &'p [String],
    at: usize,
    insert_each: usize,
    insert_in: usize,
    only_fresh: bool,
    fresh: u64,
    done: u64,
}

impl<'p> Turns<'p> {
    fn new(part: &Part<'p>) -> Self {
        let insert_each = part.workload.insert_each().unwrap_or(usize::MAX);
        Self {
            keys: part.keys,
            at: part.from,
            insert_each,
            insert_in: insert_each,
            only_fresh: part.workload == Workload::InsertEvict,
            fresh: part.fresh,
            done: 0,
        }
    }

    #[inline]
    fn next(&mut self) -> Turn<'p> {
        self.done += 1;
        if self.only_fresh {
            return Turn::Insert(key(self.fresh + self.done));
        }
        let key = &self.keys[self.at];
        self.at = if self.at + 1 == self.keys.len() { 0 } else { self.at + 1 };
        self.insert_in -= 1;
        if self.insert_in > 0 {
            return Turn::Get(key);
        }
        self.insert_in = self.insert_each;
        Turn::Insert(key.clone())
    }
}

/// Has threads work at the same time, until the time is over, and returns what they return, and how long it was.
pub fn together<T: Send>(
    threads: usize,
    time: Duration,
    work: impl Fn(usize, &AtomicBool) -> T + Sync,
) -> (Vec<T>, Duration) {
    let (start, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let (start, stop, work) = (&start, &stop, &work);
    thread::scope(|scope| {
        let working: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    start.wait();
                    work(thread, stop)
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let took = began.elapsed();
        (working.into_iter().map(|thread| thread.join().expect("no cache panics")).collect(), took)
    })
}

/// Operations between two looks at whether the time is over: few enough that they take no time, and enough that looking costs none.
const BATCH: usize = 64;
/// The most samples of one thread in a pass: more than any does.
const LATENCIES: usize = 4_000_000;
/// The first block of numbers that no filled key has.
const FRESH_KEYS: u64 = 1;
/// The part of a pass that is run before it: enough to ask for most of what is asked for often.
const WARM_UP: u32 = 4;
/// How far in the requests one pass starts after the other: further than a thread gets in one.
const STRIDE: usize = 1_299_709;
/// A number that no pass has, so that what is warmed up with is not what is measured with.
const ELSEWHERE: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(workload: Workload, keys: &[String], number: usize) -> String {
        let mut turns = Turns::new(&Part { workload, keys, from: 1, fresh: 1 << 32 });
        (0..number).map(|_| if matches!(turns.next(), Turn::Get(_)) { 'g' } else { 'i' }).collect()
    }

    #[test]
    fn workloads_insert_as_often_as_they_say() {
        let keys: Vec<String> = (0..3).map(key).collect();
        assert_eq!(turns(Workload::GetHit, &keys, 8), "gggggggg");
        assert_eq!(turns(Workload::Mix75, &keys, 8), "gggigggi");
        assert_eq!(turns(Workload::Mix95, &keys, 40), format!("{0}i{0}i", "g".repeat(19)));
        assert_eq!(turns(Workload::InsertEvict, &keys, 3), "iii");
    }

    #[test]
    fn a_thread_goes_round_and_round_from_where_it_starts() {
        let keys: Vec<String> = (0..3).map(key).collect();
        let mut turns = Turns::new(&Part { workload: Workload::GetHit, keys: &keys, from: 2, fresh: 0 });
        let asked: Vec<&String> = (0..4)
            .filter_map(|_| match turns.next() {
                Turn::Get(key) => Some(key),
                Turn::Insert(_) => None,
            })
            .collect();
        assert_eq!(asked, [&keys[2], &keys[0], &keys[1], &keys[2]]);
    }

    #[test]
    fn threads_work_together_until_the_time_is_over() {
        let (done, took) = together(3, Duration::from_millis(5), |thread, stop| {
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            thread
        });
        assert_eq!(done, [0, 1, 2]);
        assert!(took >= Duration::from_millis(5));
    }

    #[test]
    fn a_filled_cache_has_what_it_was_filled_with() {
        let contender = Contender::new(Candidate::Ours, 10_000, 1_000);
        let requests = Requests::new(1_000);
        assert_eq!(contender.resident(&requests), 1.0);
        let time = Duration::from_millis(5);
        let pass = Pass { workload: Workload::GetHit, threads: 1, time, requests: &requests, number: 0 };
        assert!(contender.speed(&pass) > 0.0);
        assert!(!contender.latencies(&pass).is_empty());
    }
}
