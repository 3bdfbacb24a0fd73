//! The default policy, on slots that are their own keys.

use super::*;
use crate::policy::{MOST_HITS, Node};

struct Slots(Vec<Node>);

impl Nodes for Slots {
    fn node(&self, at: u32) -> &Node {
        &self.0[at as usize]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        &mut self.0[at as usize]
    }

    fn expect(&self, _: u32) {}
}

/// A cache of keys that are their own slots.
struct Cache {
    policy: S3Fifo,
    slots: Slots,
    resident: Vec<bool>,
    capacity: u64,
}

impl Cache {
    fn new(capacity: u64, keys: u32) -> Self {
        // The hash spreads like a real one, and is the same in every run.
        let tag = |key: u32| (u64::from(key) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) as u32;
        let slots = Slots((0..keys).map(|key| Node::new(tag(key), 1, 0)).collect());
        let mut policy = S3Fifo::new();
        policy.set_capacity(capacity);
        Self { policy, slots, resident: vec![false; keys as usize], capacity }
    }

    /// Gets a key, or else inserts it. Returns whether it was a hit.
    fn get(&mut self, key: u32) -> bool {
        if self.resident[key as usize] {
            self.slots.node(key).touch();
            return true;
        }
        self.policy.insert(&mut self.slots, key);
        self.resident[key as usize] = true;
        self.evict_what_is_too_much();
        assert!(self.resident[key as usize], "what was inserted is there");
        false
    }

    fn insert(&mut self, key: u32, weight: u32) {
        self.slots.node_mut(key).weight = weight;
        self.get(key);
    }

    fn evict_what_is_too_much(&mut self) {
        while self.policy.weight() > self.capacity {
            let at = self.policy.evict(&mut self.slots).expect("what is empty weighs nothing");
            assert!(std::mem::replace(&mut self.resident[at as usize], false));
        }
    }

    fn remove(&mut self, key: u32) {
        if std::mem::replace(&mut self.resident[key as usize], false) {
            self.policy.remove(&mut self.slots, key);
        }
    }

    fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.policy.set_capacity(capacity);
        self.evict_what_is_too_much();
    }

    fn hits(&mut self, keys: impl Iterator<Item = u32>) -> usize {
        keys.filter(|key| self.get(*key)).count()
    }

    fn validate(&self) {
        let mut slots = self.policy.validate(&self.slots);
        slots.sort_unstable();
        let resident: Vec<_> = (0..self.resident.len() as u32).filter(|key| self.resident[*key as usize]).collect();
        assert_eq!(slots, resident);
    }
}

/// Numbers that look random and are the same in every run.
fn numbers() -> impl FnMut(u32) -> u32 {
    let mut state = 1_u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(below)) as u32
    }
}

#[test]
fn a_node_is_no_larger_than_24_bytes() {
    assert!(size_of::<Node>() <= 24);
}

#[test]
fn what_was_inserted_last_is_evicted_last() {
    let mut cache = Cache::new(1, 3);
    (0..3).for_each(|key| assert!(!cache.get(key)));
    assert!(cache.get(2));
    cache.set_capacity(0);
    assert_eq!(cache.policy.len(), 0);
    assert_eq!(cache.policy.evict(&mut cache.slots), None);
}

#[test]
fn what_is_hot_outlives_a_scan() {
    let mut cache = Cache::new(1_000, 100_000);
    for _ in 0..5 {
        cache.hits(0..500);
    }
    cache.hits(1_000..100_000);
    assert!(cache.hits(0..500) > 450);
    cache.validate();
}

#[test]
fn a_loop_that_is_too_large_keeps_a_part_of_itself() {
    let mut cache = Cache::new(1_000, 1_200);
    let hits = cache.hits((0..20).flat_map(|_| 0..1_200));
    // The best there is hits five times of six.
    assert!(hits > 20 * 1_200 * 7 / 10, "{hits}");
}

#[test]
fn new_habits_replace_old_ones() {
    let mut cache = Cache::new(1_000, 3_000);
    let mut number = numbers();
    cache.hits((0..50_000).map(|_| number(900)));
    let hits = cache.hits((0..50_000).map(|_| 2_000 + number(900)));
    assert!(hits > 40_000, "{hits}");
}

#[test]
fn small_grows_for_keys_that_come_back_in_time_and_shrinks_for_those_that_do_not() {
    let mut cache = Cache::new(1_000, 1 << 20);
    cache.hits(0..2_000);
    let first = cache.policy.small_target;
    // Every key comes twice, 100 others between: small is too small to see it.
    cache.hits((10_000..20_000).flat_map(|key| [key, key - 100]));
    assert!(cache.policy.small_target > 2 * first, "{}", cache.policy.small_target);
    cache.hits((0..40).flat_map(|_| 500_000..501_400));
    assert!(cache.policy.small_target < 2 * first, "{}", cache.policy.small_target);
}

#[test]
fn a_heavy_entry_does_not_spare_itself_at_the_cost_of_what_is_hot() {
    let mut cache = Cache::new(1_000, 2_000);
    for _ in 0..4 {
        cache.hits(0..500);
    }
    cache.hits(500..1_000);
    cache.insert(1_999, 300);
    let hot = (0..500).filter(|key| cache.resident[*key as usize]).count();
    assert!(hot > 400, "what was never hit makes room first: {hot}");
    cache.validate();
}

#[test]
fn light_entries_are_kept_rather_than_heavy_ones_that_are_asked_for_as_often() {
    let mut cache = Cache::new(20_000, 2_000);
    (0..2_000).for_each(|key| cache.slots.node_mut(key).weight = if key % 2 == 0 { 10 } else { 100 });
    let mut number = numbers();
    cache.hits((0..50_000).map(|_| number(2_000)));
    let resident = |odd: usize| cache.resident.iter().skip(odd).step_by(2).filter(|is| **is).count();
    let (light, heavy) = (resident(0), resident(1));
    assert!(light > 3 * heavy, "{light} light and {heavy} heavy ones");
}

#[test]
fn equal_weights_of_any_size_change_nothing() {
    let run = |weight: u32| {
        let mut cache = Cache::new(200 * u64::from(weight), 1_000);
        cache.slots.0.iter_mut().for_each(|node| node.weight = weight);
        let mut number = numbers();
        cache.hits((0..20_000).map(|_| number(30) * number(34)))
    };
    assert_eq!(run(1), run(4_096));
}

#[test]
fn one_eviction_looks_at_few_entries_even_if_all_are_hot() {
    let mut cache = Cache::new(1_000, 2_000);
    for _ in 0..4 {
        cache.hits(0..1_000);
    }
    let hot =
        |cache: &Cache| cache.slots.0.iter().filter(|node| node.hits.load(Ordering::Relaxed) == MOST_HITS).count();
    let before = hot(&cache);
    cache.get(1_999);
    assert!(before - hot(&cache) <= CHANCES + 1);
}

#[test]
fn the_capacity_can_change() {
    let mut cache = Cache::new(0, 10_000);
    cache.set_capacity(1_000);
    cache.hits(0..5_000);
    assert_eq!(cache.policy.len(), 1_000);
    cache.set_capacity(10);
    assert_eq!(cache.policy.len(), 10);
    cache.hits(5_000..6_000);
    cache.set_capacity(2_000);
    cache.hits(0..5_000);
    assert_eq!(cache.policy.len(), 2_000);
    cache.validate();
}

#[test]
fn every_counter_holds_whatever_is_done() {
    let (mut cache, mut number) = (Cache::new(300, 1_000), numbers());
    for round in 0..50_000 {
        let key = number(1_000).min(number(1_000));
        match number(20) {
            0 => cache.remove(key),
            1 if cache.resident[key as usize] => {
                cache.policy.reweigh(&mut cache.slots, key, 1 + number(20));
                cache.evict_what_is_too_much();
                assert!(cache.resident[key as usize], "what was overwritten is there");
            }
            2 if number(50) == 0 => cache.set_capacity(20 + u64::from(number(600))),
            3 if !cache.resident[key as usize] => cache.insert(key, 1 + number(20)),
            _ => {
                cache.get(key);
            }
        }
        if round % 64 == 0 {
            cache.validate();
        }
    }
}

#[test]
fn the_hottest_come_first() {
    let mut cache = Cache::new(100, 200);
    cache.hits(0..100);
    (0..2).for_each(|_| assert!(cache.get(7)));
    assert!(cache.get(3));
    assert_eq!(cache.policy.hottest(&cache.slots, 3, |_| true), [7, 3, cache.policy.main.newest().unwrap()]);
    assert_eq!(cache.policy.hottest(&cache.slots, 1, |at| at == 99), [99]);
}
