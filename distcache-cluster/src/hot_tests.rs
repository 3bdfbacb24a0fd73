//! The counters of hot keys, beside exact ones.
#![expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be made by reading the clock; the tests step it themselves"
)]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::placement::KeyspaceSeed;

const HALF_LIFE: Duration = Duration::from_secs(8);
const SEED: u64 = 42;

fn key(n: usize) -> KeyHash {
    KeyspaceSeed::of("users").hash(&format!("user:{n}"))
}

fn hot_keys(counters: usize) -> (HotKeys, Instant) {
    let now = Instant::now();
    (HotKeys::new(counters, HALF_LIFE, SEED, now), now)
}

/// What one counter a key would say, if it cooled all the time.
#[derive(Default)]
struct Exact(HashMap<KeyHash, (f64, Duration)>);

impl Exact {
    fn touch(&mut self, key: KeyHash, now: Duration) -> f64 {
        let (count, at) = self.0.entry(key).or_insert((0.0, now));
        *count = *count * cooled(now - *at) + 1.0;
        *at = now;
        *count
    }

    fn hottest(&self, n: usize, now: Duration) -> Vec<(KeyHash, f64)> {
        let mut all: Vec<_> = self.0.iter().map(|(key, (count, at))| (*key, count * cooled(now - *at))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(n);
        all
    }
}

fn cooled(after: Duration) -> f64 {
    (-after.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2()
}

/// How far apart counts may be that cool all the time and in steps.
fn a_step() -> f64 {
    (1.0 / f64::from(STEPS)).exp2()
}

#[test]
fn a_key_that_becomes_hot_is_learned_though_all_counters_are_taken_by_warm_ones() {
    let (hot, now) = hot_keys(64);
    (0..100).for_each(|_| (0..1_000).for_each(|n| _ = hot.touch(key(n), now)));
    let newcomer = key(1_000_000);
    let counts: Vec<_> = (0..100_000).map(|_| hot.touch(newcomer, now)).collect();
    assert!(counts[99_999] >= 95_000, "of 100,000 requests {} are known", counts[99_999]);
    assert_eq!(hot.hottest(1, now), [(newcomer, counts[99_999])]);
}

#[test]
fn a_key_that_was_hot_cools_by_half_in_a_half_life_and_gives_its_counter_back() {
    let (hot, now) = hot_keys(8);
    (0..8).for_each(|n| (0..100_000).for_each(|_| _ = hot.touch(key(n), now)));
    for (half_lives, left) in [(1, 50_000), (2, 25_000), (5, 3_125)] {
        let later = now + HALF_LIFE * half_lives;
        assert_eq!(hot.hottest(9, later).iter().map(|(_, count)| *count).collect::<Vec<_>>(), [left; 8]);
    }
    let later = now + HALF_LIFE * 30;
    assert_eq!(hot.hottest(9, later), []);
    // Its neighbours are cold, so a stranger need not be lucky.
    assert_eq!([1, 2, 3].map(|_| hot.touch(key(9), later)), [1, 2, 3]);
}

#[test]
fn a_steady_rate_settles_at_its_requests_in_1_44_half_lives() {
    let (hot, mut now) = hot_keys(8);
    let mut counts = Vec::new();
    for _ in 0..100 * HALF_LIFE.as_secs() * 20 {
        now += Duration::from_millis(10);
        counts.push(f64::from(hot.touch(key(0), now)));
    }
    let settled = 100.0 * HALF_LIFE.as_secs_f64() / std::f64::consts::LN_2;
    let last = &counts[counts.len() - 10_000..];
    assert!(last.iter().all(|count| (count / settled - 1.0).abs() < a_step() - 1.0), "settled at {:?}", last.last());
}

#[test]
fn the_hottest_keys_of_skewed_traffic_are_known_nearly_as_if_all_were_counted() {
    const KEYS: usize = 20_000;
    let (hot, start) = hot_keys(1_024);
    let mut exact = Exact::default();
    let weights: Vec<f64> = (1..=KEYS).map(|rank| (rank as f64).powf(-0.99)).collect();
    let chances = rand::distr::weighted::WeightedIndex::new(&weights).unwrap();
    let mut random: rand::rngs::StdRng = rand::SeedableRng::seed_from_u64(7);
    let mut at = Duration::ZERO;
    for _ in 0..300_000 {
        at += Duration::from_micros(100);
        let key = key(rand::distr::Distribution::sample(&chances, &mut random));
        let (told, true_count) = (f64::from(hot.touch(key, start + at)), exact.touch(key, at));
        assert!(told <= true_count * a_step(), "{told} told of {true_count}");
    }
    let told: HashMap<_, _> = hot.hottest(200, start + at).into_iter().collect();
    let lost = exact.hottest(100, at).into_iter().filter(|(key, count)| {
        let told = told.get(key).map_or(0.0, |told| f64::from(*told));
        told < 0.8 * count
    });
    let lost: Vec<_> = lost.collect();
    assert!(lost.len() <= 3, "of the hottest hundred these are not known well: {lost:?}");
}

#[test]
fn keys_become_hot_and_stay_so_amid_a_flood_of_keys_that_are_asked_for_once_and_do_not() {
    let (hot, mut now) = hot_keys(64);
    let mut strangers = SplitMix(1);
    let mut known = HashMap::new();
    for round in 0..600 {
        now += Duration::from_millis(1);
        if round >= 100 {
            (0..8).for_each(|n| _ = known.insert(n, hot.touch(key(n), now)));
        }
        for _ in 0..2_000 {
            assert_eq!(hot.touch(KeyHash(strangers.next()), now), 1);
        }
    }
    // Of 500, less what a set full of strangers' counts is worth.
    assert!(known.values().all(|count| *count >= 200), "{known:?}");
}

#[test]
fn touches_of_many_threads_are_all_counted() {
    let (hot, now) = hot_keys(64);
    std::thread::scope(|scope| {
        (0..4).for_each(|_| _ = scope.spawn(|| (0..10_000).for_each(|_| _ = hot.touch(key(0), now))));
    });
    assert_eq!(hot.hottest(2, now), [(key(0), 40_000)]);
}

#[test]
fn strangers_that_crowd_the_set_of_a_key_do_not_under_another_secret() {
    let crowd = |hot: &HotKeys| {
        let set = hot.place(key(0));
        (1..100_000).filter(|n| hot.place(key(*n)) == set).count()
    };
    let now = Instant::now();
    let (known, secret) = (HotKeys::new(1_024, HALF_LIFE, 1, now), HotKeys::new(1_024, HALF_LIFE, 2, now));
    assert!(crowd(&known) > 600, "an eighth of a thousandth of them");
    let set = known.place(key(0));
    let chosen: Vec<_> = (1..100_000).filter(|n| known.place(key(*n)) == set).collect();
    let together = chosen.iter().filter(|n| secret.place(key(**n)) == secret.place(key(0))).count();
    assert!(together < 30, "{together} of {} are still together", chosen.len());
}

#[test]
fn a_clock_that_goes_back_counts_as_one_that_stands() {
    let (hot, now) = hot_keys(8);
    let later = now + HALF_LIFE;
    assert_eq!([later, now, now, later].map(|now| hot.touch(key(0), now)), [1, 2, 3, 4]);
}

#[test]
fn memory_is_19_bytes_a_counter() {
    assert!(HotKeys::bytes(1_024) <= 19 * 1_024 + 64, "{}", HotKeys::bytes(1_024));
    assert_eq!(HotKeys::bytes(1), HotKeys::bytes(8));
}

/// Which key is asked for, and how long after the one before.
fn requests(keys: usize) -> impl Strategy<Value = Vec<(usize, u64)>> {
    prop::collection::vec((0..keys, prop_oneof![8 => 0_u64..50, 1 => 0_u64..5_000]), 0..2_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_key_is_told_to_be_hotter_than_it_is(requests in requests(60), seed in any::<u64>()) {
        let start = Instant::now();
        let (hot, mut exact, mut at) = (HotKeys::new(16, HALF_LIFE, seed, start), Exact::default(), Duration::ZERO);
        for (n, after) in requests {
            at += Duration::from_millis(after);
            let (told, true_count) = (f64::from(hot.touch(key(n), start + at)), exact.touch(key(n), at));
            prop_assert!((1.0..=true_count * a_step()).contains(&told), "{} told of {}", told, true_count);
        }
        let truth: HashMap<_, _> = exact.hottest(60, at).into_iter().collect();
        for (key, told) in hot.hottest(60, start + at) {
            prop_assert!(f64::from(told) <= truth[&key] * a_step());
        }
    }

    #[test]
    fn keys_that_need_not_compete_are_counted_as_they_are(requests in requests(WAYS), seed in any::<u64>()) {
        let start = Instant::now();
        let (hot, mut exact, mut at) = (HotKeys::new(8, HALF_LIFE, seed, start), Exact::default(), Duration::ZERO);
        for (n, after) in requests {
            at += Duration::from_millis(after);
            let (told, true_count) = (f64::from(hot.touch(key(n), start + at)), exact.touch(key(n), at));
            prop_assert!(told > true_count / a_step() - 1.0, "{} told of {}", told, true_count);
        }
    }
}
