//! Many keys at once, all entries, and keys that were chosen to meet.

use std::{
    collections::{BTreeMap, HashSet},
    hash::BuildHasher,
};

use distcache_core::{Cache, Expiry, SecretState};

use crate::support::{assert_exact, roomy};

#[test]
fn many_keys_are_read_in_their_order_and_counted_one_by_one() {
    let cache = Cache::<u64, u64>::bounded_by_entries(100_000).shards(16).build().unwrap();
    (0..1_000).step_by(2).for_each(|key| cache.insert(key, key * 10).unwrap());
    let keys: Vec<u64> = (0..1_000).rev().chain([4, 4, 5]).collect();
    let got = cache.get_many(&keys);
    let wanted = keys.iter().map(|key| (key % 2 == 0).then_some(key * 10));
    assert!(got.into_iter().eq(wanted));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (502, 501));
    assert_eq!(cache.get_many([0; 0].iter()), []);
}

#[test]
fn many_keys_of_which_some_are_over() {
    let (cache, clock) = roomy();
    let second = std::time::Duration::from_secs(1);
    for key in 0..100 {
        let expiry = if key % 2 == 0 { Expiry::After(second) } else { Expiry::Never };
        cache.insert_with(format!("{key}"), vec![key], expiry).unwrap();
    }
    clock.advance(second);
    let keys: Vec<_> = (0..100).map(|key| format!("{key}")).collect();
    let got = cache.get_many(keys.iter().map(String::as_str));
    assert!(got.iter().enumerate().all(|(key, value)| value.is_some() == (key % 2 == 1)));
    assert_eq!(cache.stats().expired, 50);
    assert_exact(cache.stats());
}

#[test]
fn walking_meets_every_entry_that_is_alive_once() {
    let (cache, clock) = roomy();
    let second = std::time::Duration::from_secs(1);
    for key in 0..3_000_u32 {
        let expiry = if key % 3 == 0 { Expiry::After(second) } else { Expiry::Never };
        cache.insert_with(format!("{key}"), key.to_le_bytes().into(), expiry).unwrap();
    }
    clock.advance(second);
    let snapshot: BTreeMap<_, _> = cache.iter().collect();
    assert_eq!((cache.iter().count(), snapshot.len()), (2_000, 2_000));
    assert!((0..3_000_u32).filter(|key| key % 3 != 0).all(|key| snapshot[&format!("{key}")] == key.to_le_bytes()));
    assert_eq!((&cache).into_iter().count(), 2_000);
    assert_eq!(cache.stats().hits, 0);
    cache.clear();
    assert_eq!(cache.iter().next(), None);
}

#[test]
fn a_walk_goes_on_while_entries_come_and_go() {
    let cache = Cache::<u64, u64>::bounded_by_entries(10_000).shards(1).build().unwrap();
    (0..5_000).for_each(|key| cache.insert(key, key).unwrap());
    let mut met = HashSet::new();
    for (nth, (key, _)) in cache.iter().enumerate() {
        met.insert(key);
        // Nine of ten go, which moves the others together.
        if nth == 300 {
            (0..5_000).filter(|key| key % 10 != 0).for_each(|key| _ = cache.remove(&key));
            cache.purge_expired();
        }
    }
    assert!((0..5_000).step_by(10).all(|key| met.contains(&key)), "an entry was moved past the walk");
}

/// Returns the share of the busiest of 64 shards among keys, as a multiple of the mean.
fn busiest(keys: impl Iterator<Item = u64>) -> f64 {
    let (state, mut shards, mut all) = (SecretState::new(), [0_u32; 64], 0);
    for key in keys {
        shards[(state.hash_one(key) >> 58) as usize] += 1;
        all += 1;
    }
    f64::from(*shards.iter().max().unwrap()) * 64.0 / f64::from(all)
}

#[test]
fn regular_keys_are_spread_like_random_ones() {
    for (what, shift) in [("sequence", 0), ("multiples of 2^16", 16), ("multiples of 2^32", 32), ("upper bits", 48)] {
        let share = busiest((0..60_000_u64).map(|key| key << shift));
        assert!(share < 1.25, "{what}: the busiest shard has {share} times the mean");
    }
}
