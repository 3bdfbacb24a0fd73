//! The time to idle.

use std::time::Duration;

use distcache_core::{BuildError, Cache, Expiry, ManualClock};

const IDLE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

fn cache() -> (Cache<u64, u64>, ManualClock) {
    let clock = ManualClock::new();
    let builder = Cache::bounded_by_entries(10_000).shards(1).time_to_idle(IDLE).clock(clock.clone());
    (builder.build().unwrap(), clock)
}

#[test]
fn what_is_read_stays_and_what_is_not_goes() {
    let (cache, clock) = cache();
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    for _ in 0..5 {
        clock.advance(IDLE - SECOND);
        assert_eq!(cache.get(&1), Some(1));
    }
    assert_eq!((cache.get(&2), cache.stats().expired), (None, 1));
    clock.advance(IDLE - Duration::from_nanos(1));
    assert!(cache.contains(&1));
    clock.advance(Duration::from_nanos(1));
    assert!(!cache.contains(&1), "to look whether it is there is no use of it");
    assert_eq!(cache.get(&1), None);
}

#[test]
fn reading_many_is_a_use_and_peeking_is_none() {
    let (cache, clock) = cache();
    (1..=3).for_each(|key| cache.insert(key, key).unwrap());
    clock.advance(IDLE - SECOND);
    assert_eq!(cache.get_many([&1, &9]), [Some(1), None]);
    assert_eq!(cache.peek(&2), Some(2));
    assert_eq!(cache.get_or_insert_with(&3, || unreachable!("it is there")), 3);
    clock.advance(SECOND);
    assert_eq!([1, 2, 3].map(|key| cache.contains(&key)), [true, false, true]);
}

#[test]
fn a_time_to_live_ends_it_however_often_it_is_read() {
    let (cache, clock) = cache();
    cache.insert_with(1, 1, Expiry::After(IDLE + SECOND)).unwrap();
    clock.advance(IDLE - SECOND);
    assert_eq!(cache.get(&1), Some(1));
    clock.advance(SECOND * 2);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn a_write_starts_the_time_anew() {
    let (cache, clock) = cache();
    cache.insert(1, 1).unwrap();
    clock.advance(IDLE - SECOND);
    cache.insert(1, 2).unwrap();
    clock.advance(IDLE - SECOND);
    assert_eq!(cache.get(&1), Some(2));
}

#[test]
fn writes_give_back_what_idles_and_spare_what_is_read() {
    let (cache, clock) = cache();
    (0..1_000).for_each(|key| cache.insert(key, key).unwrap());
    clock.advance(IDLE - SECOND);
    (0..100).for_each(|key| assert!(cache.get(&key).is_some()));
    clock.advance(SECOND);
    (5_000..6_000).for_each(|key| cache.insert(key, key).unwrap());
    assert_eq!((cache.len(), cache.stats().expired), (1_100, 900));
    assert!((0..100).all(|key| cache.contains(&key)));
}

#[test]
fn purging_finds_what_idles_behind_what_is_read() {
    let (cache, clock) = cache();
    (0..1_000).for_each(|key| cache.insert(key, key).unwrap());
    clock.advance(IDLE - SECOND);
    // The first of them would be due first, had they not been read.
    (0..900).for_each(|key| assert!(cache.get(&key).is_some()));
    clock.advance(SECOND);
    assert_eq!((cache.purge_expired(), cache.len()), (100, 900));
}

#[test]
fn an_idle_time_of_nothing_is_refused() {
    let refused = Cache::<u64, u64>::bounded_by_entries(10).time_to_idle(Duration::ZERO).build();
    assert!(matches!(refused, Err(BuildError::ZeroTtl)));
}
