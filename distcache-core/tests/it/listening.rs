//! The listener: who left, why, once each, and under no lock.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use distcache_core::{Cache, Cause, Eviction, Expiry, Installed, ManualClock};

use crate::support::lead;

type Told = Arc<Mutex<Vec<(u64, u64, Cause)>>>;

fn cache(entries: u64) -> (Cache<u64, u64>, ManualClock, Told) {
    let (clock, told) = (ManualClock::new(), Told::default());
    let heard = Arc::clone(&told);
    let builder = Cache::bounded_by_entries(entries).shards(1).eviction(Eviction::Lru).clock(clock.clone());
    let listener = move |key: &u64, value: &u64, cause| heard.lock().unwrap().push((*key, *value, cause));
    (builder.listener(listener).build().unwrap(), clock, told)
}

fn take(told: &Told) -> Vec<(u64, u64, Cause)> {
    std::mem::take(&mut told.lock().unwrap())
}

const TTL: Duration = Duration::from_secs(1);

#[test]
fn every_way_out_has_its_cause() {
    let (cache, clock, told) = cache(2);
    cache.insert(1, 10).unwrap();
    cache.insert(1, 11).unwrap();
    assert_eq!(take(&told), [(1, 10, Cause::Replaced)]);
    cache.insert(2, 20).unwrap();
    cache.insert(3, 30).unwrap();
    assert_eq!(take(&told), [(1, 11, Cause::Evicted)]);
    assert_eq!(cache.remove(&2), Some(20));
    assert_eq!(take(&told), [(2, 20, Cause::Removed)]);
    cache.retain(|_, _| false);
    assert_eq!(take(&told), [(3, 30, Cause::Removed)]);

    cache.insert_with(4, 40, Expiry::After(TTL)).unwrap();
    cache.insert_with(5, 50, Expiry::After(TTL)).unwrap();
    clock.advance(TTL);
    assert_eq!(cache.get(&4), None);
    assert_eq!(take(&told), [(4, 40, Cause::Expired)]);
    cache.purge_expired();
    assert_eq!(take(&told), [(5, 50, Cause::Expired)]);

    cache.insert(6, 60).unwrap();
    cache.insert_with(6, 61, Expiry::After(Duration::ZERO)).unwrap();
    assert_eq!(take(&told), [(6, 60, Cause::Removed)], "what was never stored does not leave");
    cache.insert(7, 70).unwrap();
    cache.clear();
    assert_eq!(take(&told), [], "it costs the same for any number of entries");
    cache.purge_expired();
    assert_eq!(take(&told), [(7, 70, Cause::Cleared)]);

    cache.insert(8, 80).unwrap();
    cache.insert(9, 90).unwrap();
    cache.resize(1);
    assert_eq!(take(&told), [(8, 80, Cause::Evicted)]);
    assert_eq!(cache.stats().evictions, 2);
}

#[test]
fn loads_replace_and_fence_like_writes() {
    let (cache, _, told) = cache(10);
    let fill = lead(cache.lookup(&1));
    cache.insert(1, 10).unwrap();
    assert_eq!(fill.install(11, Expiry::Default), Installed::Poisoned);
    assert_eq!(take(&told), []);
    cache.invalidate_where(|key| *key == 1);
    assert_eq!(take(&told), [(1, 10, Cause::Removed)]);
}

#[test]
fn the_listener_may_call_the_cache() {
    let handle: Arc<OnceLock<Cache<u64, u64>>> = Arc::default();
    let inside = Arc::clone(&handle);
    let listener = move |key: &u64, value: &u64, cause| {
        let cache = inside.get().unwrap();
        // What is evicted gets a second life under another key, once.
        if cause == Cause::Evicted && *key < 1_000 {
            cache.insert(key + 1_000, *value).unwrap();
        }
        let _ = (cache.len(), cache.get(key), cache.remove(key));
    };
    let cache = Cache::bounded_by_entries(4).shards(1).listener(listener).build().unwrap();
    handle.set(cache.clone()).unwrap();
    (0..100).for_each(|key| cache.insert(key, key).unwrap());
    assert!(cache.len() <= 4);
}

#[test]
fn a_listener_that_panics_is_told_of_all_that_left_and_harms_nothing() {
    let told = Arc::new(Mutex::new(0));
    let heard = Arc::clone(&told);
    let listener = move |_: &u64, _: &u64, _| {
        *heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
        panic!("a listener with a bug");
    };
    let cache = Cache::bounded_by_entries(100).shards(1).listener(listener).build().unwrap();
    (0..100).for_each(|key| cache.insert(key, key).unwrap());
    assert!(catch_unwind(AssertUnwindSafe(|| cache.resize(50))).is_err());
    assert_eq!(*told.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), 50);
    assert_eq!((cache.len(), cache.weight(), cache.capacity()), (50, 50, 50));
    assert!(catch_unwind(AssertUnwindSafe(|| cache.insert(1_000, 1))).is_err());
    assert_eq!(cache.get(&1_000), Some(1), "the write took effect before the listener was told");
}
