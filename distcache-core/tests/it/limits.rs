//! The capacity.

use distcache_core::{Cache, ENTRY_OVERHEAD, InsertError};

use crate::support::{assert_exact, cache, weight};

#[test]
fn the_least_recently_used_entries_go_first() {
    // Twenty-two into twenty.
    let (cache, _) = cache(weight(10) * 20);
    for key in 0..22 {
        cache.insert(format!("{key}"), vec![0; 10]).unwrap();
    }
    let gone: Vec<_> = (0..22).filter(|key| !cache.contains(&*format!("{key}"))).collect();
    assert_eq!(gone, [0, 1]);
    assert_eq!((cache.stats().evictions, cache.weight()), (2, weight(10) * 20));
}

#[test]
fn a_read_saves_an_entry_and_a_peek_does_not() {
    let (cache, _) = cache(weight(10) * 3);
    for key in ["a", "b", "c"] {
        cache.insert(key.into(), vec![0; 10]).unwrap();
    }
    let _ = (cache.get("a"), cache.peek("b"), cache.contains("b"));
    cache.insert("d".into(), vec![0; 10]).unwrap();
    assert_eq!((cache.contains("a"), cache.contains("b")), (true, false));
}

#[test]
fn a_flood_pushes_old_keys_out_and_stays_within_the_capacity() {
    let (cache, _) = cache(50_000);
    cache.insert("old".into(), vec![0; 10]).unwrap();
    for key in 0..5_000 {
        cache.insert(format!("{key}"), vec![0; key % 700]).unwrap();
        assert!(cache.weight() <= 50_000);
    }
    assert!(!cache.contains("old"));
    assert_exact(cache.stats());
}

#[test]
fn one_large_entry_takes_the_place_of_as_many_as_it_needs() {
    let (cache, _) = cache(weight(0) * 10);
    for key in 0..10 {
        cache.insert(format!("{key}"), vec![]).unwrap();
    }
    cache.insert("large".into(), vec![0; 2 * ENTRY_OVERHEAD]).unwrap();
    assert_eq!((cache.len(), cache.stats().evictions, cache.weight()), (8, 3, weight(0) * 10));
}

#[test]
fn growing_a_value_in_place_evicts_others_and_not_itself() {
    let (cache, _) = cache(weight(10) * 3);
    for key in ["a", "b", "c"] {
        cache.insert(key.into(), vec![0; 10]).unwrap();
    }
    cache.insert("a".into(), vec![0; 10 + weight(10) as usize]).unwrap();
    assert_eq!((cache.contains("a"), cache.contains("b"), cache.contains("c")), (true, false, true));
    cache.insert("a".into(), vec![0; weight(10) as usize * 3 - ENTRY_OVERHEAD]).unwrap();
    assert_eq!((cache.len(), cache.contains("a"), cache.weight()), (1, true, weight(10) * 3));
}

#[test]
fn tiny_limits_bind() {
    for capacity in 1..weight(0) {
        let (cache, _) = cache(capacity);
        let limit = capacity;
        assert_eq!(cache.insert("a".into(), vec![]), Err(InsertError::TooLarge { weight: weight(0), limit }));
        assert_eq!((cache.weight(), cache.len()), (0, 0));
    }
    let (cache, _) = cache(weight(0));
    cache.insert("a".into(), vec![]).unwrap();
    assert_eq!(cache.weight(), weight(0));
}

#[test]
fn a_weigher_of_zero_still_bounds_the_number_of_entries() {
    let capacity = 100 * ENTRY_OVERHEAD as u64;
    let cache = Cache::<u64, u64>::builder(capacity).weigher(|_, _| 0).build().unwrap();
    (0..1_000).for_each(|key| cache.insert(key, key).unwrap());
    assert_eq!((cache.len(), cache.weight()), (100, capacity));
}

#[test]
fn the_parts_of_the_shards_add_up_to_the_capacity() {
    // Three bytes do not go into four shards evenly, and every entry needs one.
    let capacity = 4 * weight(0) + 3;
    let cache = Cache::<u64, u64>::builder(capacity).shards(4).weigher(|_, _| 1).build().unwrap();
    let refused = (0..1_000).filter(|key| cache.insert(*key, 0).is_err()).count();
    // Three shards have room for one entry each, the fourth lacks a byte.
    assert_eq!((cache.len(), cache.weight()), (3, 3 * weight(1)));
    assert!((100..500).contains(&refused), "{refused} of 1000 refused instead of about 250");
}

#[test]
fn an_infinite_weight_is_refused() {
    let cache = Cache::<u64, u64>::builder(u64::MAX).weigher(|_, _| usize::MAX).build().unwrap();
    assert!(matches!(cache.insert(1, 1), Err(InsertError::TooLarge { weight: u64::MAX, .. })));
    assert_eq!(cache.weight(), 0);
}
