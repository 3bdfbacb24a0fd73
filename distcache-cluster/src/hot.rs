//! Which keys are asked for most at this node lately: the heavy hitters of its requests.
//!
//! # Who is counted
//! There are counters for some keys only, in sets of [`WAYS`]; a key belongs to one set. A key that has a counter adds to it. A
//! stranger competes for the least counter `c` of its set, and wins with probability `1 / (c + 1)`: the Randomized Admission Policy in
//! its d-way form (Ben Basat, Einziger, Friedman and Kassner, INFOCOM 2017). As in Space-Saving (Metwally, Agrawal and El Abbadi,
//! ICDT 2005), from which it comes, the winner inherits `c`, which says how hard it is to push out, and which is remembered as what
//! it is not known to have earned. So:
//!
//! * **A key is never said to be hotter than it is.** Only what it has earned is told.
//! * **A new hot key gets in**, within about as many requests as the coldest key of its set has had, whether or not the counters
//!   are full of keys that were hot once.
//! * **A flood of keys that are asked for once leaves the hot ones alone.** Most strangers lose, and those that win contend for one
//!   counter of a set, which mostly is another stranger's.
//!
//! Not taken: Space-Saving itself, where every stranger takes the least counter, so that a flood washes out all that is not hotter
//! than the flood is wide; HeavyKeeper (Gong et al., USENIX ATC 2018), where strangers wear a counter down with a probability that
//! falls exponentially in it, so that a set of large counters learns nothing until they cool; count-min, which counts a flood as
//! hits of every key that shares its cells, and does not know keys.
//!
//! # Cooling
//! Counts halve every half-life, in [`STEPS`] steps. Each set does it for itself when it is touched, so nothing sweeps.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::placement::KeyHash;

/// Counts requests, and knows the keys that had most of the recent ones.
///
/// Memory is fixed: [`HotKeys::bytes`]. A touch locks one set, takes some tens of nanoseconds, and allocates nothing.
#[derive(Debug)]
pub(crate) struct HotKeys {
    /// A power of two of them.
    sets: Box<[Mutex<Set>]>,
    secret: [u64; 2],
    start: Instant,
    steps_per_second: f64,
}

impl HotKeys {
    /// Makes counters for about so many keys, rounded up to a power of two of at least eight. Hardly any set is full of hot keys as long as
    /// there are eight times as many counters as keys are hot.
    ///
    /// Counts halve in `half_life`. A key of a steady rate settles at its requests in 1.44 half-lives; one whose rate rises tenfold
    /// has doubled its count after a sixth of a half-life.
    ///
    /// `seed` makes the secret that places keys, so that nobody can choose strangers for the set of one key, and all chances. The
    /// same seed repeats a run.
    pub(crate) fn new(counters: usize, half_life: Duration, seed: u64, now: Instant) -> Self {
        let mut random = SplitMix(seed);
        let secret = [random.next(), random.next() | 1];
        let set = || Mutex::new(Set::new(SplitMix(random.next())));
        Self {
            sets: std::iter::repeat_with(set).take(Self::sets(counters)).collect(),
            secret,
            start: now,
            steps_per_second: f64::from(STEPS) / half_life.max(MIN_HALF_LIFE).as_secs_f64(),
        }
    }

    /// The bytes that so many counters take: 19 each.
    #[cfg(test)]
    pub(crate) fn bytes(counters: usize) -> usize {
        size_of::<Self>() + Self::sets(counters) * size_of::<Mutex<Set>>()
    }

    fn sets(counters: usize) -> usize {
        counters.div_ceil(WAYS).next_power_of_two()
    }

    /// Counts a request, and returns how many there were for its key: this one, and the recent ones, older ones for less. It is no
    /// more than there were, give or take the 9 % of a step, and less by what came before the key had a counter.
    ///
    /// A `now` before the latest one counts as that. Stays at 2²⁴ once it is there.
    pub(crate) fn touch(&self, key: KeyHash, now: Instant) -> u32 {
        let step = self.step(now);
        let mut set = self.lock(self.place(key));
        set.cool(step);
        set.touch(key) as u32
    }

    /// Returns up to `n` keys and their counts, most first: those of which at least one recent request is known. Looks at every counter.
    #[cfg(test)]
    pub(crate) fn hottest(&self, n: usize, now: Instant) -> Vec<(KeyHash, u32)> {
        let step = self.step(now);
        let mut all = Vec::new();
        for at in 0..self.sets.len() {
            let mut set = self.lock(at);
            set.cool(step);
            let counts = set.keys.into_iter().zip(set.earned).map(|(key, earned)| (key, earned as u32));
            all.extend(counts.filter(|(_, count)| *count > 0));
        }
        // By key where counts are equal, so that equal counters give equal lists.
        all.sort_unstable_by_key(|(key, count)| (std::cmp::Reverse(*count), key.as_u64()));
        all.truncate(n);
        all
    }

    /// The set of a key: a folded multiplication under secrets, as the hash of the in-process cache has it.
    fn place(&self, key: KeyHash) -> usize {
        let wide = u128::from(key.as_u64() ^ self.secret[0]) * u128::from(self.secret[1]);
        ((wide >> 64) as u64 ^ wide as u64) as usize & (self.sets.len() - 1)
    }

    fn step(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.start).as_secs_f64() * self.steps_per_second) as u64
    }

    fn lock(&self, at: usize) -> MutexGuard<'_, Set> {
        // Plain numbers, whole at any time.
        self.sets[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters of keys that compete. A free one is that of any key, with a count of nothing.
#[derive(Debug)]
struct Set {
    keys: [KeyHash; WAYS],
    /// The requests that are known to be the key's.
    earned: [f32; WAYS],
    /// Those of the keys that had the counter before.
    inherited: [f32; WAYS],
    /// Up to when it is cooled.
    step: u64,
    random: SplitMix,
}

impl Set {
    const fn new(random: SplitMix) -> Self {
        Self { keys: [KeyHash(0); WAYS], earned: [0.0; WAYS], inherited: [0.0; WAYS], step: 0, random }
    }

    fn cool(&mut self, step: u64) {
        let Some(steps @ 1..) = step.checked_sub(self.step) else {
            return;
        };
        let factor = (-(steps as f32) / STEPS as f32).exp2();
        self.earned.iter_mut().chain(&mut self.inherited).for_each(|count| *count *= factor);
        self.step = step;
    }

    fn touch(&mut self, key: KeyHash) -> f32 {
        if let Some(way) = self.keys.iter().position(|held| *held == key) {
            self.earned[way] += 1.0;
            return self.earned[way];
        }
        let count = |way: usize| self.earned[way] + self.inherited[way];
        let coldest = (1..WAYS).fold(0, |least, way| if count(way) < count(least) { way } else { least });
        let least = count(coldest);
        if self.random.unit() * (least + 1.0) < 1.0 {
            (self.keys[coldest], self.earned[coldest], self.inherited[coldest]) = (key, 1.0, least);
        }
        1.0
    }
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): enough for chances, and the same in every build.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to 1, which it never is.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 24) as f32
    }
}

/// Counters of a set: its keys fill a cache line.
const WAYS: usize = 8;
/// Steps of a half-life: a count is 9 % off at most.
const STEPS: u32 = 8;
/// A half-life of nothing would divide by it.
const MIN_HALF_LIFE: Duration = Duration::from_millis(1);

#[cfg(test)]
#[path = "hot_tests.rs"]
mod tests;
