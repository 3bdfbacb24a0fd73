//! `Eviction::S3Fifo`: what the default policy keeps, whatever its settings are.

use distcache_core::{Cache, Eviction};

fn cache(entries: u64) -> Cache<u64, u64> {
    Cache::bounded_by_entries(entries).shards(1).build().unwrap()
}

/// Reads through, and says whether it was a hit.
fn read(cache: &Cache<u64, u64>, key: u64) -> bool {
    let hit = cache.get(&key).is_some();
    if !hit {
        cache.insert(key, key).unwrap();
    }
    hit
}

#[test]
fn a_scan_does_not_wash_out_what_is_used() {
    let cache = cache(1_000);
    for _ in 0..5 {
        (0..500).for_each(|key| _ = read(&cache, key));
    }
    (10_000..60_000).for_each(|key| _ = read(&cache, key));
    let kept = (0..500).filter(|key| cache.contains(key)).count();
    assert!(kept >= 450, "{kept} of 500 are left after a scan");
}

#[test]
fn a_loop_larger_than_the_cache_keeps_a_part_of_itself() {
    let cache = cache(1_000);
    let lap = || (0..1_200).filter(|key| read(&cache, *key)).count();
    (0..20).for_each(|_| _ = lap());
    let hits = (0..10).map(|_| lap()).sum::<usize>() / 10;
    // An LRU of this size never hits.
    assert!(hits >= 500, "{hits} hits a lap of 1,200");
}

#[test]
fn what_is_used_no_more_leaves_in_the_end() {
    let cache = cache(1_000);
    for _ in 0..10 {
        (0..900).for_each(|key| _ = read(&cache, key));
    }
    for _ in 0..10 {
        (5_000..5_900).for_each(|key| _ = read(&cache, key));
    }
    let kept = (5_000..5_900).filter(|key| cache.contains(key)).count();
    assert!(kept >= 800, "{kept} of 900 of what is used now");
}

#[test]
fn what_was_just_stored_is_there() {
    for entries in [1, 2, 3, 10, 100] {
        let cache = cache(entries);
        for key in 0..1_000 {
            cache.insert(key % 37, key).unwrap();
            assert_eq!(cache.get(&(key % 37)), Some(key), "{entries} entries");
            (0..key % 5).for_each(|other| _ = cache.get(&other));
        }
        assert_eq!(cache.len() as u64, entries.min(37));
    }
}

#[test]
fn a_large_value_is_there_though_much_must_go_for_it() {
    let cache = Cache::<u64, Vec<u8>>::builder(100_000).shards(1).build().unwrap();
    for round in 0..50 {
        (0..200).for_each(|key| cache.insert(round * 1_000 + key, vec![0; 300]).unwrap());
        cache.insert(round, vec![0; 90_000]).unwrap();
        assert_eq!(cache.get(&round).map(|value| value.len()), Some(90_000));
        assert!(cache.weight() <= cache.capacity());
    }
}

#[test]
fn the_hottest_are_what_was_read_most() {
    let cache = cache(1_000);
    (0..1_000).for_each(|key| cache.insert(key, key).unwrap());
    (0..3).for_each(|_| (100..150).for_each(|key| _ = cache.get(&key)));
    let hottest: Vec<_> = cache.hottest(50).into_iter().map(|(key, ..)| key).collect();
    let read = hottest.iter().filter(|key| (100..150).contains(*key)).count();
    assert!(read >= 45, "{read} of the 50 hottest were read: {hottest:?}");
}

#[test]
fn the_default_is_better_than_lru_where_popularity_is_skewed() {
    let hits = |eviction| {
        let cache = Cache::bounded_by_entries(500).shards(1).eviction(eviction).build().unwrap();
        let mut state = 7_u64;
        (0..200_000)
            .filter(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // The reciprocal of a uniform number: popularity falls with the rank, as in Zipf's law.
                let uniform = ((state >> 40) + 1) as f64 / (1_u64 << 24) as f64;
                read(&cache, (20_000_f64.powf(1.0 - uniform)) as u64)
            })
            .count()
    };
    let (ours, lru) = (hits(Eviction::default()), hits(Eviction::Lru));
    assert!(ours > lru + lru / 50, "{ours} hits, and {lru} of an LRU");
}
