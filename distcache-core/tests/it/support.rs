//! What the tests share: caches of known size, and futures without a runtime.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use distcache_core::{
    Cache, ENTRY_OVERHEAD, EXPIRY_OVERHEAD, Eviction, Fill, Follower, Lookup, ManualClock, Outcome, Stats,
};

/// Longer than any test may take; a wait that reaches it has failed.
pub(crate) const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

/// Says what an entry with a value of that many bytes counts in caches of this module, whose keys weigh nothing.
pub(crate) fn weight(bytes: usize) -> u64 {
    (bytes + ENTRY_OVERHEAD) as u64
}

/// As [`weight`], of an entry that expires.
pub(crate) fn mortal_weight(bytes: usize) -> u64 {
    weight(bytes) + EXPIRY_OVERHEAD as u64
}

/// A cache of one shard, which evicts in exact order and stands still in time.
pub(crate) fn cache(capacity: u64) -> (Cache<String, Vec<u8>>, ManualClock) {
    let clock = ManualClock::new();
    let builder =
        Cache::builder(capacity).shards(1).eviction(Eviction::Lru).weigher(|_: &String, value: &Vec<u8>| value.len());
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

/// A cache with room for anything.
pub(crate) fn roomy() -> (Cache<String, Vec<u8>>, ManualClock) {
    cache(1 << 30)
}

pub(crate) fn lead<K, V>(lookup: Lookup<K, V>) -> Fill<K, V> {
    match lookup {
        Lookup::Lead(fill) => fill,
        Lookup::Hit(_) => panic!("a hit instead of a lead"),
        Lookup::Follow(_) => panic!("a load is under way already"),
    }
}

pub(crate) fn follow<K, V>(lookup: Lookup<K, V>) -> Follower<K, V> {
    match lookup {
        Lookup::Follow(follower) => follower,
        Lookup::Hit(_) => panic!("a hit instead of a load under way"),
        Lookup::Lead(_) => panic!("no load is under way"),
    }
}

pub(crate) fn value<K, V>(outcome: Option<Outcome<K, V>>) -> V {
    match outcome {
        Some(Outcome::Value(value)) => value,
        Some(Outcome::Failed(_)) => panic!("a failure instead of a value"),
        Some(Outcome::Lead(_)) => panic!("the lead instead of a value"),
        None => panic!("no value in time"),
    }
}

pub(crate) fn handed<K, V>(outcome: Option<Outcome<K, V>>) -> Fill<K, V> {
    match outcome {
        Some(Outcome::Lead(fill)) => fill,
        Some(Outcome::Value(_)) => panic!("a value instead of the lead"),
        Some(Outcome::Failed(_)) => panic!("a failure instead of the lead"),
        None => panic!("no lead in time"),
    }
}

/// What every test may ask of a cache at rest: all that came is there or was counted as gone.
pub(crate) fn assert_exact(stats: Stats) {
    let gone = stats.evictions + stats.expired + stats.removals;
    assert_eq!(stats.inserts - gone, stats.entries, "an entry came or went uncounted: {stats:?}");
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// Counts how often it was woken.
#[derive(Debug, Default)]
pub(crate) struct Alarm(AtomicUsize);

impl Alarm {
    pub(crate) fn rings(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls a future once.
pub(crate) fn poll<F: Future + ?Sized>(future: Pin<&mut F>, alarm: &Arc<Alarm>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(alarm))))
}
