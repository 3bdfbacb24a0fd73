//! Many threads at once: few keys used again and again, deletes, times to live, loads that are given up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use distcache_core::{Cache, ENTRY_OVERHEAD, Expiry, Fill, Lookup, ManualClock, Outcome};

use crate::support::{PATIENCE, assert_exact, lead, value};

/// A number that tells what a value is of: its key, the version that was current when it was read, and a check on both.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    key: u64,
    version: u64,
    check: u64,
}

impl Stamp {
    fn new(key: u64, version: u64) -> Self {
        Self { key, version, check: key ^ version.rotate_left(17) }
    }

    fn assert_of(self, key: u64) {
        assert_eq!((self.key, self.check), (key, key ^ self.version.rotate_left(17)), "a value of another key");
    }
}

/// A small generator of numbers, so that a thread's steps are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

const THREADS: u64 = 8;
const STEPS: u64 = 30_000;
const KEYS: u64 = 200;

/// The true data. Every writer changes it first and tells the cache then.
struct Source(Vec<AtomicU64>);

impl Source {
    fn read(&self, key: u64) -> Stamp {
        Stamp::new(key, self.0[key as usize].load(Ordering::SeqCst))
    }

    /// Returns the new version.
    fn change(&self, key: u64) -> u64 {
        self.0[key as usize].fetch_add(1, Ordering::SeqCst) + 1
    }
}

struct Storm {
    cache: Cache<u64, Stamp>,
    clock: ManualClock,
    source: Source,
    gets: AtomicU64,
}

impl Storm {
    fn run(&self, dice: &mut Dice) {
        for _ in 0..STEPS {
            let key = dice.roll(KEYS);
            match dice.roll(100) {
                0..45 => self.get(key),
                45..80 => self.read_through(key, dice),
                80..90 => self.delete_and_read(key, dice),
                90..97 => self.write_ttl(key, dice),
                97 => self.clock.advance(Duration::from_millis(dice.roll(20))),
                98 => _ = self.cache.purge_expired(),
                _ if dice.roll(20) == 0 => self.cache.clear(),
                _ => _ = self.cache.invalidate_where(|other| other % 16 == key % 16),
            }
        }
    }

    fn get(&self, key: u64) {
        self.gets.fetch_add(1, Ordering::Relaxed);
        if let Some(stamp) = self.cache.get(&key) {
            stamp.assert_of(key);
        }
    }

    fn read_through(&self, key: u64, dice: &mut Dice) {
        // The version is never older than what was deleted before the read began: see `delete_and_read`.
        if let Some(stamp) = self.read(key, dice) {
            stamp.assert_of(key);
        }
    }

    /// Reads through; gives up now and then, at every point where one can.
    fn read(&self, key: u64, dice: &mut Dice) -> Option<Stamp> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        let fill = match self.cache.lookup(&key) {
            Lookup::Hit(stamp) => return Some(stamp),
            Lookup::Lead(fill) => fill,
            Lookup::Follow(_) if dice.roll(20) == 0 => return None,
            Lookup::Follow(follower) => match follower.wait(PATIENCE).expect("nobody is left waiting") {
                Outcome::Value(stamp) => return Some(stamp),
                Outcome::Failed(_) => return None,
                Outcome::Lead(fill) => fill,
            },
        };
        if dice.roll(20) == 0 {
            return None; // The lead passes on.
        }
        let stamp = self.source.read(key);
        if dice.roll(4) == 0 {
            thread::yield_now(); // What is read gets older before it is stored.
        }
        match dice.roll(20) {
            0 => fill.fail("no luck"),
            1 => fill.deliver(stamp),
            2..6 => _ = fill.install(stamp, Expiry::After(Duration::from_millis(dice.roll(20)))),
            _ => _ = fill.install(stamp, Expiry::Never),
        }
        Some(stamp)
    }

    /// Changes the source, deletes, and reads: what is read must not be older than the change.
    fn delete_and_read(&self, key: u64, dice: &mut Dice) {
        let version = self.source.change(key);
        self.cache.remove(&key);
        if let Some(stamp) = self.read(key, dice) {
            stamp.assert_of(key);
            assert!(stamp.version >= version, "version {} was read after {version} deleted it", stamp.version);
        }
    }

    /// Deletes and stores again what is sure to be of another lifetime, to reuse slots and places.
    fn write_ttl(&self, key: u64, dice: &mut Dice) {
        // One thread at a time owns a key above those that are read through, so its own write is the last.
        let key = KEYS + key;
        let expiry = Expiry::After(Duration::from_millis(1 + dice.roll(5)));
        self.cache.insert_with(key, Stamp::new(key, 0), expiry).expect("a shard has room for hundreds");
    }
}

#[test]
fn nothing_stale_is_read_nothing_is_lost_and_bytes_stay_bounded() {
    // Room for half of the keys, so that evictions are frequent.
    let capacity = KEYS / 2 * ENTRY_OVERHEAD as u64;
    let clock = ManualClock::new();
    let cache = Cache::builder(capacity).shards(2).weigher(|_, _| 0).clock(clock.clone()).build().unwrap();
    let source = Source((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let storm = Arc::new(Storm { cache, clock, source, gets: AtomicU64::new(0) });
    thread::scope(|scope| {
        for seed in 1..=THREADS {
            let storm = Arc::clone(&storm);
            scope.spawn(move || storm.run(&mut Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))));
        }
    });
    let (cache, stats) = (&storm.cache, storm.cache.stats());
    assert!(stats.weight <= capacity, "{} of {capacity} bytes", stats.weight);
    assert_eq!(stats.hits + stats.misses, storm.gets.load(Ordering::Relaxed));
    // Everything that was to happen did happen.
    let happened =
        [stats.hits, stats.evictions, stats.expired, stats.removals, stats.updates, stats.coalesced, stats.poisoned];
    assert!(happened.iter().all(|times| *times > 20), "{stats:?}");
    // No flight was left behind: everybody can lead, and everything can go.
    for key in 0..2 * KEYS {
        cache.remove(&key);
        assert!(matches!(cache.lookup(&key), Lookup::Lead(_)), "a flight of {key} is left");
    }
    cache.purge_expired();
    assert_eq!((cache.len(), cache.weight()), (0, 0));
    assert_exact(cache.stats());
}

#[test]
fn a_wait_that_meets_the_end_of_its_load_is_not_missed() {
    // The follower looks, the leader ends, the follower takes its seat: whoever comes last must see the other.
    let cache = Cache::<u64, u64>::builder(1 << 20).build().unwrap();
    let (fills, inbox) = mpsc::sync_channel::<Fill<u64, u64>>(1);
    let leader = thread::spawn(move || inbox.into_iter().for_each(|fill| fill.deliver(7)));
    for round in 0..20_000_u64 {
        let fill = lead(cache.lookup(&round));
        let follower = fill.follower();
        fills.send(fill).unwrap();
        // From round to round, a little later.
        (0..round % 200).for_each(|_| std::hint::spin_loop());
        assert_eq!(value(follower.wait(PATIENCE)), 7);
    }
    drop(fills);
    leader.join().unwrap();
}
