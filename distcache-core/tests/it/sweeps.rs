//! The calls that walk through a whole cache.

use std::time::Duration;

use distcache_core::{Cache, Expiry, Installed, ManualClock};

use crate::support::{PATIENCE, assert_exact, cache, follow, lead, mortal_weight, roomy, value, weight};

const TTL: Duration = Duration::from_secs(60);

fn numbers(count: u64, shards: usize) -> Cache<u64, u64> {
    let cache = Cache::builder(1 << 30).shards(shards).build().unwrap();
    (0..count).for_each(|key| cache.insert(key, key * 10).unwrap());
    cache
}

#[test]
fn retain_removes_what_is_not_kept_and_counts_it() {
    let cache = numbers(2_000, 4);
    assert_eq!(cache.retain(|key, value| key % 2 == 0 && *value < 10_000), 1_500);
    assert_eq!((cache.len(), cache.get(&2), cache.get(&3), cache.get(&1_000)), (500, Some(20), None, None));
    let stats = cache.stats();
    assert_eq!((stats.removals, stats.evictions), (1_500, 0));
    assert_exact(stats);
}

#[test]
fn retain_judges_every_entry_once_and_no_load() {
    let cache = numbers(1_000, 1);
    let fill = lead(cache.lookup(&5_000_u64));
    let mut judged = vec![0; 1_000];
    cache.retain(|key, _| {
        judged[usize::try_from(*key).unwrap()] += 1;
        true
    });
    assert!(judged.iter().all(|times| *times == 1));
    assert_eq!(fill.install(1, Expiry::Default), Installed::Stored);
}

#[test]
fn retain_leaves_a_value_alone_that_was_written_after_the_judgement() {
    let cache = numbers(1, 1);
    let removed = cache.retain(|key, value| {
        cache.insert(*key, value + 1).unwrap();
        false
    });
    assert_eq!((removed, cache.get(&0)), (0, Some(1)));
}

#[test]
fn the_judges_may_use_the_cache() {
    let cache = numbers(1_000, 2);
    // Removes the odd neighbour of every even key it meets, and keeps whatever is judged.
    let removed = cache.retain(|key, _| {
        if key % 2 == 0 {
            cache.remove(&(key + 1));
        }
        cache.contains(key) || key % 2 == 1
    });
    assert_eq!((removed, cache.len()), (0, 500));
    assert_eq!(cache.invalidate_where(|key| cache.get(key).is_some()), 500);
    assert!(cache.is_empty());
}

#[test]
fn invalidate_where_removes_entries_and_fences_loads() {
    let (cache, _) = roomy();
    for key in ["moved-1", "moved-2", "stays"] {
        cache.insert(key.into(), vec![1]).unwrap();
    }
    let (moved, stays) = (lead(cache.lookup("moved-3")), lead(cache.lookup("stays-too")));
    let before = follow(cache.lookup("moved-3"));
    assert_eq!(cache.invalidate_where(|key| key.starts_with("moved")), 2);
    assert_eq!((cache.len(), cache.contains("stays")), (1, true));
    assert!(moved.is_poisoned() && !stays.is_poisoned());
    let anew = lead(cache.lookup("moved-3"));
    assert_eq!(moved.install(vec![2], Expiry::Default), Installed::Poisoned);
    assert_eq!(value(before.wait(PATIENCE)), [2]);
    assert_eq!(stays.install(vec![3], Expiry::Default), Installed::Stored);
    assert_eq!(anew.install(vec![4], Expiry::Default), Installed::Stored);
}

#[test]
fn retain_does_not_take_a_write_after_a_clear_for_the_one_it_judged() {
    let (cache, _) = roomy();
    cache.insert("a".into(), vec![1]).unwrap();
    let removed = cache.retain(|key, _| {
        cache.clear();
        cache.insert(key.clone(), vec![2]).unwrap();
        false
    });
    assert_eq!((removed, cache.get("a")), (0, Some(vec![2])));
}

#[test]
fn purging_takes_what_is_over_and_nothing_else() {
    let (cache, clock) = roomy();
    for key in 0..1_000 {
        let expiry = if key % 4 == 0 { Expiry::Never } else { Expiry::After(TTL * (key % 4)) };
        cache.insert_with(format!("{key}"), vec![0; 10], expiry).unwrap();
    }
    assert_eq!(cache.purge_expired(), 0);
    clock.advance(TTL * 2);
    assert_eq!(cache.purge_expired(), 500);
    let left = weight(10) * 250 + mortal_weight(10) * 250;
    assert_eq!((cache.len(), cache.weight(), cache.stats().expired), (500, left, 500));
    assert_eq!((cache.contains("3"), cache.contains("4"), cache.contains("5")), (true, true, false));
    assert_exact(cache.stats());
}

#[test]
fn a_smaller_capacity_keeps_the_most_recently_used() {
    let (cache, _) = cache(weight(10) * 1_000);
    for key in 0..1_000 {
        cache.insert(format!("{key}"), vec![0; 10]).unwrap();
    }
    let _ = cache.get("0");
    cache.resize(weight(10) * 10);
    assert_eq!((cache.capacity(), cache.len(), cache.weight()), (weight(10) * 10, 10, weight(10) * 10));
    assert!(cache.contains("0") && cache.contains("999") && cache.contains("991") && !cache.contains("990"));
    assert_eq!(cache.stats().evictions, 990);
    cache.resize(weight(10) * 20);
    (0..100).for_each(|key| cache.insert(format!("new-{key}"), vec![0; 10]).unwrap());
    assert_eq!(cache.len(), 20);
}

#[test]
fn no_capacity_stores_nothing() {
    let (cache, _) = roomy();
    cache.insert("a".into(), vec![1]).unwrap();
    cache.resize(0);
    assert_eq!((cache.len(), cache.weight()), (0, 0));
    assert!(cache.insert("a".into(), vec![1]).is_err());
    assert_eq!(cache.get_or_insert_with("a", || vec![2]), [2], "reading through still works");
}

#[test]
fn the_hottest_come_first_with_the_time_they_have_left() {
    let (cache, clock) = roomy();
    for (key, expiry) in
        [("a", Expiry::Never), ("b", Expiry::After(TTL)), ("c", Expiry::After(TTL * 3)), ("d", Expiry::Never)]
    {
        cache.insert_with(key.into(), key.into(), expiry).unwrap();
    }
    clock.advance(TTL);
    let _ = cache.get("a");
    let hottest = |count| cache.hottest(count).into_iter().map(|(key, _, left)| (key, left)).collect::<Vec<_>>();
    let all = [("a".into(), None), ("d".into(), None), ("c".into(), Some(TTL * 2))];
    assert_eq!(hottest(10), all, "what is over is not handed off");
    assert_eq!(hottest(2), all[..2]);
    assert_eq!(hottest(0), []);
    assert_eq!(cache.hottest(1)[0].1, b"a");
}

#[test]
fn as_many_of_the_hottest_are_found_as_there_are_in_any_shards() {
    let clock = ManualClock::new();
    let cache = Cache::<u64, u64>::builder(1 << 30).shards(16).clock(clock).build().unwrap();
    (0..5_000).for_each(|key| cache.insert(key, key).unwrap());
    for wanted in [1, 7, 16, 1_000, 4_990, 5_000] {
        assert_eq!(cache.hottest(wanted).len(), wanted);
    }
    assert_eq!(cache.hottest(usize::MAX).len(), 5_000);
    // About the newer half, whatever the shard: each shard's order is exact.
    let older = cache.hottest(2_500).into_iter().filter(|(key, ..)| *key < 2_000).count();
    assert!(older < 50, "{older} of the oldest 2000 are among the 2500 hottest of 5000");
}
