//! What entries count, beside what the allocator was really asked for.
//!
//! A binary of its own, with one test, so that nothing else allocates.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests may")]
#![allow(unsafe_code, reason = "the trait of allocators is unsafe to implement; the library forbids unsafe code")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use distcache_core::{Cache, Expiry, ManualClock};

/// Passes everything to the system's allocator, and sums up.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to `System` unchanged, which keeps the trait's promises; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated() -> usize {
    ALLOCATED.load(Ordering::Relaxed)
}

const ENTRIES: usize = 100_000;
const CAPACITY: u64 = 1 << 40;

/// Fills a cache and compares. Returns what it holds beyond what it counts once it has been emptied.
fn compare(what: &str, value_bytes: usize, expiry: Expiry, shards: usize) {
    let before = allocated();
    let clock = ManualClock::new();
    let cache = Cache::<String, Vec<u8>>::builder(CAPACITY).shards(shards).clock(clock.clone()).build().unwrap();
    let empty = allocated() - before;
    for key in 0..ENTRIES {
        cache.insert_with(format!("key-{key:020}"), vec![0; value_bytes], expiry).unwrap();
    }
    let (counted, real) = (cache.weight() as f64, (allocated() - before) as f64);
    let ratio = counted / real;
    println!(
        "{what}: {:.1} bytes counted, {:.1} allocated, {ratio:.3}",
        counted / ENTRIES as f64,
        real / ENTRIES as f64
    );
    assert!((0.9..=1.5).contains(&ratio), "{what}: counted bytes are {ratio:.3} of the real ones");

    // And it is all given back, by whatever it goes.
    match expiry {
        Expiry::After(ttl) => clock.advance(ttl),
        _ => cache.clear(),
    }
    cache.purge_expired();
    let left = allocated() - before - empty;
    assert_eq!(cache.weight(), 0);
    assert!(left < 1_024 * shards, "{what}: {left} bytes are left of an empty cache");

    // A cache that was large and is small now does not hold the memory of the large one.
    (0..ENTRIES).for_each(|key| cache.insert(format!("key-{key:020}"), vec![0; value_bytes]).unwrap());
    cache.resize(cache.weight() / 100);
    let (counted, real) = (cache.weight() as f64, (allocated() - before - empty) as f64);
    assert!(counted >= 0.7 * real, "{what}: {counted} bytes counted and {real} held after shrinking");
}

#[test]
fn counted_bytes_are_real_bytes() {
    let ttl = Expiry::After(Duration::from_secs(60));
    for (what, value_bytes, expiry, shards) in [
        ("small values, no end", 16, Expiry::Never, 1),
        ("small values, with an end", 16, ttl, 1),
        ("values of 100 bytes, no end", 100, Expiry::Never, 8),
        ("values of 100 bytes, with an end", 100, ttl, 8),
        ("large values, with an end", 1_000, ttl, 4),
    ] {
        compare(what, value_bytes, expiry, shards);
    }
}
