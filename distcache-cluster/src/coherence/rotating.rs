//! A set of keys that forgets them after a while, in fixed memory: [`RotatingSet`].

use std::time::Duration;

use tokio::time::Instant;

use crate::placement::KeyHash;

/// Two Bloom filters (Bloom, 1970) that take turns: what is put in is found for at least `keep` and at most twice that.
///
/// It never forgets sooner. It may find what was not put in: of 200,000 keys a turn, one in seventy; of a million, most.
#[derive(Debug)]
pub(crate) struct RotatingSet {
    keep: Duration,
    /// The one that is filled, and the one of before. Empty until something is put in.
    turns: [Vec<u64>; 2],
    turned: Option<Instant>,
}

impl RotatingSet {
    pub(crate) const fn new(keep: Duration) -> Self {
        Self { keep, turns: [Vec::new(), Vec::new()], turned: None }
    }

    pub(crate) fn insert(&mut self, key: KeyHash, now: Instant) {
        self.turn(now);
        let [filled, _] = &mut self.turns;
        filled.resize(WORDS, 0);
        for bit in bits(key) {
            filled[bit / 64] |= 1 << (bit % 64);
        }
    }

    pub(crate) fn contains(&mut self, key: KeyHash, now: Instant) -> bool {
        self.turn(now);
        let has = |turn: &Vec<u64>| !turn.is_empty() && bits(key).all(|bit| turn[bit / 64] & 1 << (bit % 64) != 0);
        self.turns.iter().any(has)
    }

    fn turn(&mut self, now: Instant) {
        let turned = *self.turned.get_or_insert(now);
        let passed = now.saturating_duration_since(turned);
        if passed < self.keep {
            return;
        }
        self.turns.swap(0, 1);
        self.turns[0] = Vec::new();
        if passed >= 2 * self.keep {
            self.turns[1] = Vec::new();
        }
        self.turned = Some(now);
    }
}

/// The places of a key: by double hashing (Kirsch and Mitzenmacher, 2006), from a hash that is as good as random.
fn bits(key: KeyHash) -> impl Iterator<Item = usize> {
    let hash = key.as_u64();
    let (first, step) = (hash, hash.rotate_left(32) | 1);
    (0..PROBES).map(move |probe| (first.wrapping_add(step.wrapping_mul(probe)) >> (64 - BITS_LOG2)) as usize)
}

/// 256 KiB a turn.
const BITS_LOG2: u32 = 21;
const WORDS: usize = (1 << BITS_LOG2) / 64;
const PROBES: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::KeyspaceSeed;

    const KEEP: Duration = Duration::from_secs(60);

    fn key(n: u32) -> KeyHash {
        KeyspaceSeed::of("rows").hash(&n.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_put_in_is_found_for_its_time_and_gone_after_twice_that() {
        let start = Instant::now();
        for offset in [0, 1, 30, 59] {
            let (mut set, put) = (RotatingSet::new(KEEP), start + Duration::from_secs(offset));
            set.insert(key(0), start);
            set.insert(key(1), put);
            for after in 0..60 {
                assert!(set.contains(key(1), put + Duration::from_secs(after)), "put at {offset}, after {after}");
            }
            assert!(!set.contains(key(1), put + 2 * KEEP));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hardly_any_other_is_found() {
        let (mut set, now) = (RotatingSet::new(KEEP), Instant::now());
        assert!(!set.contains(key(1), now));
        (0..200_000).for_each(|n| set.insert(key(n), now));
        assert!((0..200_000).all(|n| set.contains(key(n), now)));
        let wrong = (200_000..300_000).filter(|n| set.contains(key(*n), now)).count();
        assert!(wrong < 1_500, "{wrong} of 100,000");
    }
}
