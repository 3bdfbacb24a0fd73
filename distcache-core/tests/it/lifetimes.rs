//! Times to live.

use std::time::Duration;

use distcache_core::{Cache, Expiry, InsertError, ManualClock};

use crate::support::{assert_exact, cache, mortal_weight, roomy, weight};

const TTL: Duration = Duration::from_secs(60);
const NANO: Duration = Duration::from_nanos(1);

#[test]
fn an_entry_is_served_to_the_last_nanosecond_and_not_in_it() {
    let (cache, clock) = roomy();
    cache.insert_with("a".into(), vec![1], Expiry::After(TTL)).unwrap();
    clock.advance(TTL - NANO);
    assert_eq!((cache.get("a"), cache.peek("a"), cache.contains("a")), (Some(vec![1]), Some(vec![1]), true));
    clock.advance(NANO);
    assert_eq!((cache.peek("a"), cache.contains("a"), cache.get("a")), (None, false, None));
    let stats = cache.stats();
    assert_eq!((stats.expired, stats.evictions, stats.removals, cache.weight()), (1, 0, 0, 0));
    assert_exact(stats);
}

#[test]
fn an_entry_without_an_end_survives_a_century() {
    let (cache, clock) = roomy();
    cache.insert("a".into(), vec![1]).unwrap();
    clock.advance(TTL * 60 * 24 * 365 * 100);
    assert_eq!(cache.get("a"), Some(vec![1]));
    clock.advance(Duration::MAX);
    assert_eq!(cache.get("a"), Some(vec![1]), "the end of the clock is no deadline");
}

#[test]
fn the_longest_ttl_is_for_ever_and_does_not_panic() {
    let (cache, clock) = roomy();
    clock.advance(TTL);
    cache.insert_with("a".into(), vec![1], Expiry::After(Duration::MAX)).unwrap();
    clock.advance(Duration::MAX);
    assert_eq!(cache.get("a"), Some(vec![1]));
}

#[test]
fn a_replacement_brings_its_own_time_to_live() {
    let (cache, clock) = roomy();
    cache.insert_with("longer".into(), vec![1], Expiry::After(TTL)).unwrap();
    cache.insert_with("shorter".into(), vec![1], Expiry::After(TTL * 3)).unwrap();
    clock.advance(TTL / 2);
    cache.insert_with("longer".into(), vec![2], Expiry::After(TTL * 2)).unwrap();
    cache.insert_with("shorter".into(), vec![2], Expiry::After(TTL / 4)).unwrap();
    clock.advance(TTL);
    assert_eq!((cache.get("longer"), cache.get("shorter")), (Some(vec![2]), None));
}

#[test]
fn an_entry_can_be_stored_again_after_its_end() {
    let (cache, clock) = roomy();
    cache.insert_with("a".into(), vec![1], Expiry::After(TTL)).unwrap();
    clock.advance(TTL);
    cache.insert("a".into(), vec![2]).unwrap();
    assert_eq!(cache.get("a"), Some(vec![2]));
    let stats = cache.stats();
    assert_eq!((stats.inserts, stats.updates, stats.expired), (2, 0, 1), "what is over is not there to be updated");
}

#[test]
fn the_default_applies_unless_the_entry_says_otherwise() {
    let clock = ManualClock::new();
    let builder = Cache::<String, u64>::builder(1 << 20).default_ttl(TTL);
    let cache = builder.clock(clock.clone()).build().unwrap();
    cache.insert("default".into(), 1).unwrap();
    cache.insert_with("never".into(), 2, Expiry::Never).unwrap();
    cache.insert_with("longer".into(), 3, Expiry::After(TTL * 2)).unwrap();
    clock.advance(TTL);
    assert_eq!((cache.get("default"), cache.get("never"), cache.get("longer")), (None, Some(2), Some(3)));
}

#[test]
fn a_ttl_of_zero_removes_and_stores_nothing() {
    let (cache, _) = roomy();
    cache.insert("a".into(), vec![1]).unwrap();
    cache.insert_with("a".into(), vec![2], Expiry::After(Duration::ZERO)).unwrap();
    assert_eq!((cache.get("a"), cache.len(), cache.weight()), (None, 0, 0));
    assert_eq!(cache.stats().removals, 1);
}

#[test]
fn removing_what_is_over_returns_nothing() {
    let (cache, clock) = roomy();
    cache.insert_with("a".into(), vec![1], Expiry::After(TTL)).unwrap();
    clock.advance(TTL);
    assert_eq!(cache.remove("a"), None);
    let stats = cache.stats();
    assert_eq!((stats.expired, stats.removals), (1, 0));
}

#[test]
fn what_is_over_makes_room_before_what_is_alive() {
    let (cache, clock) = cache(weight(10) + mortal_weight(10) * 3);
    cache.insert("oldest".into(), vec![0; 10]).unwrap();
    for key in ["a", "b", "c"] {
        cache.insert_with(key.into(), vec![0; 10], Expiry::After(TTL)).unwrap();
    }
    clock.advance(TTL);
    for key in ["x", "y", "z"] {
        cache.insert(key.into(), vec![0; 10]).unwrap();
    }
    assert!(cache.contains("oldest"), "it was evicted though others were over");
    let stats = cache.stats();
    assert_eq!((stats.evictions, stats.expired, stats.entries), (0, 3, 4));
}

#[test]
fn writes_give_the_space_of_the_dead_back_though_nobody_reads_them() {
    let (cache, clock) = roomy();
    for key in 0..1_000 {
        cache.insert_with(format!("{key}"), vec![0; 10], Expiry::After(TTL)).unwrap();
    }
    clock.advance(TTL);
    for _ in 0..250 {
        cache.insert("writes".into(), vec![0; 10]).unwrap();
    }
    assert_eq!((cache.len(), cache.weight(), cache.stats().expired), (1, weight(10), 1_000));
}

#[test]
fn an_oversize_value_takes_its_predecessor_along_and_nothing_else() {
    let (cache, _) = cache(weight(10) * 3);
    for key in ["a", "b", "c"] {
        cache.insert(key.into(), vec![0; 10]).unwrap();
    }
    let error = cache.insert("b".into(), vec![0; 10_000]).unwrap_err();
    assert_eq!(error, InsertError::TooLarge { weight: weight(10_000), limit: weight(10) * 3 });
    assert_eq!((cache.contains("a"), cache.contains("b"), cache.contains("c")), (true, false, true));
    let stats = cache.stats();
    assert_eq!((stats.rejected, stats.evictions, stats.removals, stats.weight), (1, 0, 1, weight(10) * 2));
    assert_exact(stats);
}
