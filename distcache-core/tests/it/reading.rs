//! Storing, reading, replacing, removing, and what is counted meanwhile.

use std::sync::Arc;

use distcache_core::{BuildError, Cache, ENTRY_OVERHEAD, Stats};

use crate::support::{assert_exact, roomy, weight};

#[test]
fn a_value_is_read_until_it_is_removed() {
    let (cache, _) = roomy();
    assert_eq!(cache.get("a"), None);
    cache.insert("a".into(), vec![1]).unwrap();
    assert_eq!(cache.get("a"), Some(vec![1]));
    assert_eq!((cache.contains("a"), cache.len(), cache.is_empty()), (true, 1, false));
    assert_eq!(cache.remove("a"), Some(vec![1]));
    assert_eq!((cache.get("a"), cache.remove("a")), (None, None));
    assert_eq!((cache.contains("a"), cache.len(), cache.is_empty()), (false, 0, true));
}

#[test]
fn clones_are_the_same_cache() {
    let (cache, _) = roomy();
    let clone = cache.clone();
    cache.insert("a".into(), vec![1]).unwrap();
    assert_eq!(clone.get("a"), Some(vec![1]));
}

#[test]
fn bytes_are_exact_on_insert_and_on_replacement_by_shorter_and_longer() {
    let (cache, _) = roomy();
    cache.insert("a".into(), vec![0; 100]).unwrap();
    assert_eq!(cache.weight(), weight(100));
    cache.insert("a".into(), vec![0; 10]).unwrap();
    assert_eq!(cache.weight(), weight(10));
    cache.insert("a".into(), vec![0; 1_000]).unwrap();
    assert_eq!(cache.weight(), weight(1_000));
    cache.insert("b".into(), vec![0; 7]).unwrap();
    assert_eq!(cache.weight(), weight(1_000) + weight(7));
    cache.remove("a");
    assert_eq!(cache.weight(), weight(7));
    cache.remove("b");
    assert_eq!(cache.weight(), 0);
}

#[test]
fn keys_and_values_weigh_what_their_types_say() {
    let cache = Cache::<String, Arc<[u8]>>::builder(1 << 20).build().unwrap();
    cache.insert("key".into(), Arc::from([0; 100])).unwrap();
    assert_eq!(cache.weight(), (3 + 100 + 16 + ENTRY_OVERHEAD) as u64);
}

#[test]
fn every_counter_counts_its_own_events_only() {
    let (cache, _) = roomy();
    let _ = cache.get("a");
    cache.insert("a".into(), vec![1]).unwrap();
    cache.insert("a".into(), vec![2]).unwrap();
    let _ = (cache.get("a"), cache.get("a"));
    cache.insert("b".into(), vec![3]).unwrap();
    cache.remove("b");
    cache.remove("never there");
    let stats = cache.stats();
    let counted =
        (stats.hits, stats.misses, stats.inserts, stats.updates, stats.removals, stats.evictions, stats.expired);
    // Replacing and removing are no evictions.
    assert_eq!(counted, (2, 1, 2, 1, 1, 0, 0));
    assert_eq!((stats.entries, stats.weight), (1, weight(1)));
    assert_exact(stats);
}

#[test]
fn peeking_leaves_no_trace() {
    let (cache, _) = roomy();
    cache.insert("a".into(), vec![1]).unwrap();
    let before = cache.stats();
    assert_eq!((cache.peek("a"), cache.peek("b"), cache.contains("b")), (Some(vec![1]), None, false));
    assert_eq!(cache.stats(), before);
}

#[test]
fn a_new_cache_has_counted_nothing() {
    let (cache, _) = roomy();
    assert_eq!(cache.stats(), Stats::default());
    assert_eq!(cache.capacity(), 1 << 30);
}

#[test]
fn settings_of_zero_are_refused() {
    let builder = || Cache::<String, String>::builder(1 << 20);
    assert_eq!(Cache::<String, String>::builder(0).build().unwrap_err(), BuildError::ZeroCapacity);
    assert_eq!(builder().shards(0).build().unwrap_err(), BuildError::ZeroShards);
    assert_eq!(builder().default_ttl(std::time::Duration::ZERO).build().unwrap_err(), BuildError::ZeroTtl);
    assert!(builder().shards(1).build().is_ok());
}

#[test]
fn chosen_keys_stay_spread_over_shards() {
    // Keys whose unseeded FNV-1a hashes agree in the bits that would pick a shard or a bucket.
    let fnv = |key: &str| {
        key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    };
    let keys = (0..).map(|at: u64| format!("key-{at}")).filter(|key| fnv(key) % 64 == 0).take(6_400);
    // Room for two hundred entries in each of sixty-four shards, and a hundred to put there.
    let cache =
        Cache::<String, ()>::builder(64 * 200 * (ENTRY_OVERHEAD as u64)).shards(64).weigher(|_, ()| 0).build().unwrap();
    keys.for_each(|key| cache.insert(key, ()).unwrap());
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.evictions), (6_400, 0), "some shard was given twice its part");
}
