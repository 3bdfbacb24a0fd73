//! `Eviction::Lru`: exactly what the `lru` crate does, operation by operation.

use std::num::NonZeroUsize;

use distcache_core::{Cache, Eviction};
use lru::LruCache;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Get(u8),
    Peek(u8),
    Insert(u8, u32),
    Remove(u8),
    Resize(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..24_u8).prop_map(Step::Get),
        1 => (0..24_u8).prop_map(Step::Peek),
        6 => (0..24_u8, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (0..24_u8).prop_map(Step::Remove),
        1 => (1..16_usize).prop_map(Step::Resize),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_cache_of_one_shard_is_an_exact_lru(capacity in 1..16_usize, steps in prop::collection::vec(step(), 1..150)) {
        let ours = Cache::<u8, u32>::bounded_by_entries(capacity as u64).shards(1).eviction(Eviction::Lru).build().unwrap();
        let mut theirs = LruCache::new(NonZeroUsize::new(capacity).unwrap());
        for step in steps {
            match step {
                Step::Get(key) => prop_assert_eq!(ours.get(&key), theirs.get(&key).copied()),
                Step::Peek(key) => prop_assert_eq!(ours.peek(&key), theirs.peek(&key).copied()),
                Step::Insert(key, value) => {
                    ours.insert(key, value).unwrap();
                    theirs.put(key, value);
                }
                Step::Remove(key) => prop_assert_eq!(ours.remove(&key), theirs.pop(&key)),
                Step::Resize(capacity) => {
                    ours.resize(capacity as u64);
                    theirs.resize(NonZeroUsize::new(capacity).unwrap());
                }
            }
            let hottest: Vec<_> = ours.hottest(usize::MAX).into_iter().map(|(key, value, _)| (key, value)).collect();
            let order: Vec<_> = theirs.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(hottest, order);
            prop_assert_eq!(ours.weight(), theirs.len() as u64);
        }
    }
}
