//! Rule R1: what was read before a write, a removal or a clear is not stored after it.

use std::time::Duration;

use distcache_core::{Cache, Expiry, InsertError, Installed};

use crate::support::{PATIENCE, assert_exact, cache, follow, handed, lead, roomy, value, weight};

#[test]
fn a_removal_during_a_load_wins() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let before = follow(cache.lookup("a"));
    assert!(!fill.is_poisoned());
    assert_eq!(cache.remove("a"), None);
    assert!(fill.is_poisoned());
    assert_eq!(fill.install(vec![1], Expiry::Default), Installed::Poisoned);
    assert_eq!(value(before.wait(PATIENCE)), [1], "who asked before the removal is served");
    assert_eq!((cache.get("a"), cache.len(), cache.weight()), (None, 0, 0));
    assert_eq!(cache.stats().poisoned, 1);
}

#[test]
fn a_lookup_after_a_removal_starts_a_new_load() {
    let (cache, _) = roomy();
    let old = lead(cache.lookup("a"));
    cache.remove("a");
    let new = lead(cache.lookup("a"));
    let after = follow(cache.lookup("a"));
    // The new one lands first, the old one must not touch it; nor its registration, while it flies.
    assert_eq!(old.install(vec![1], Expiry::Default), Installed::Poisoned);
    let after_too = follow(cache.lookup("a"));
    assert_eq!(new.install(vec![2], Expiry::Default), Installed::Stored);
    assert_eq!((value(after.wait(PATIENCE)), value(after_too.wait(PATIENCE))), (vec![2], vec![2]));
    assert_eq!(cache.get("a"), Some(vec![2]));
}

#[test]
fn an_old_load_that_lands_last_does_not_overwrite_a_newer_one() {
    let (cache, _) = roomy();
    let old = lead(cache.lookup("a"));
    cache.remove("a");
    let new = lead(cache.lookup("a"));
    assert_eq!(new.install(vec![2], Expiry::Default), Installed::Stored);
    assert_eq!(old.install(vec![1], Expiry::Default), Installed::Poisoned);
    assert_eq!(cache.get("a"), Some(vec![2]));
}

#[test]
fn a_write_during_a_load_wins() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let before = follow(cache.lookup("a"));
    cache.insert("a".into(), vec![2]).unwrap();
    assert_eq!(cache.get("a"), Some(vec![2]), "the write is read while the load goes on");
    assert_eq!(fill.install(vec![1], Expiry::Default), Installed::Poisoned);
    assert_eq!(value(before.wait(PATIENCE)), [1]);
    assert_eq!(cache.get("a"), Some(vec![2]));
}

#[test]
fn a_write_that_stores_nothing_fences_as_well() {
    let (cache, _) = cache(weight(10));
    let fill = lead(cache.lookup("large"));
    assert!(matches!(cache.insert("large".into(), vec![0; 11]), Err(InsertError::TooLarge { .. })));
    assert_eq!(fill.install(vec![1], Expiry::Default), Installed::Poisoned);

    let fill = lead(cache.lookup("short"));
    cache.insert_with("short".into(), vec![2], Expiry::After(Duration::ZERO)).unwrap();
    assert_eq!(fill.install(vec![1], Expiry::Default), Installed::Poisoned);
    assert!(cache.is_empty());
}

#[test]
fn a_fence_concerns_one_key() {
    let (cache, _) = roomy();
    let (a, b) = (lead(cache.lookup("a")), lead(cache.lookup("b")));
    cache.remove("a");
    assert!(a.is_poisoned() && !b.is_poisoned());
    assert_eq!(b.install(vec![1], Expiry::Default), Installed::Stored);
}

#[test]
fn a_clear_during_a_load_wins() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let before = follow(cache.lookup("a"));
    cache.clear();
    assert!(fill.is_poisoned());
    assert_eq!(fill.install(vec![1], Expiry::Default), Installed::Stale);
    assert_eq!(value(before.wait(PATIENCE)), [1]);
    assert_eq!(cache.get("a"), None);
    assert_eq!(cache.stats().poisoned, 1);
}

#[test]
fn a_lookup_after_a_clear_starts_a_new_load() {
    let (cache, _) = roomy();
    let old = lead(cache.lookup("a"));
    cache.clear();
    let new = lead(cache.lookup("a"));
    assert!(old.is_poisoned() && !new.is_poisoned());
    assert_ne!(old.install(vec![1], Expiry::Default), Installed::Stored);
    assert_eq!(new.install(vec![2], Expiry::Default), Installed::Stored);
    assert_eq!(cache.get("a"), Some(vec![2]));
}

#[test]
fn a_handed_on_load_keeps_its_fence() {
    let (cache, _) = roomy();
    let first = lead(cache.lookup("a"));
    let follower = follow(cache.lookup("a"));
    cache.remove("a");
    drop(first);
    let second = handed(follower.wait(PATIENCE));
    assert!(second.is_poisoned());
    assert_eq!(second.install(vec![1], Expiry::Default), Installed::Poisoned);
    assert_eq!(cache.get("a"), None);
}

#[test]
fn a_clear_serves_nothing_of_before_and_counts_no_entries() {
    let (cache, _) = cache(weight(10) * 100);
    for key in 0..100 {
        cache.insert(format!("{key}"), vec![0; 10]).unwrap();
    }
    let epoch = cache.epoch();
    cache.clear();
    assert!(cache.epoch() > epoch);
    assert_eq!((cache.len(), cache.is_empty(), cache.hottest(10).len()), (0, true, 0));
    assert_eq!((cache.get("7"), cache.peek("8"), cache.remove("9"), cache.contains("10")), (None, None, None, false));
    // The space comes back with the writes, without counting as eviction.
    for key in 0..100 {
        cache.insert(format!("new-{key}"), vec![0; 10]).unwrap();
        assert!(cache.weight() <= cache.capacity());
    }
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.weight, stats.evictions, stats.removals), (100, weight(10) * 100, 0, 100));
    assert_exact(stats);
}

#[test]
fn a_cleared_key_can_be_written_at_once() {
    let (cache, _) = roomy();
    cache.insert("a".into(), vec![1]).unwrap();
    cache.clear();
    cache.insert("a".into(), vec![2]).unwrap();
    assert_eq!((cache.get("a"), cache.len(), cache.stats().updates), (Some(vec![2]), 1, 0));
    cache.clear();
    cache.clear();
    assert_eq!((cache.get("a"), cache.len()), (None, 0));
}

#[test]
fn a_clear_costs_the_same_for_any_number_of_entries() {
    let cache = Cache::<u64, u64>::builder(1 << 30).build().unwrap();
    (0..100_000).for_each(|key| cache.insert(key, key).unwrap());
    let weight = cache.weight();
    cache.clear();
    // Nothing was touched: all of the space is still to be given back.
    assert_eq!((cache.len(), cache.weight()), (0, weight));
    assert_eq!((cache.purge_expired(), cache.weight()), (100_000, 0));
}
