//! What no cache can exceed: Belady's choice, which knows the future.

use std::collections::{BinaryHeap, HashMap};

/// A sequence of requests, of which it is known when each key is asked for next.
#[derive(Debug, Clone)]
pub struct Future {
    /// The number of the key, and the place of its next request.
    requests: Vec<(u32, u32)>,
    keys: usize,
}

impl Future {
    /// Looks through a sequence of keys.
    ///
    /// # Panics
    ///
    /// Panics if there are more than 2³² - 1 of them.
    pub fn new(keys: impl Iterator<Item = u64>) -> Self {
        let mut numbers = HashMap::new();
        let mut requests: Vec<(u32, u32)> = Vec::new();
        let mut last = Vec::new();
        for (at, key) in keys.enumerate() {
            let at = u32::try_from(at).expect("a trace of this length is not measured with");
            let number = *numbers.entry(key).or_insert(last.len() as u32);
            match last.get_mut(number as usize) {
                Some(last) => requests[std::mem::replace(last, at) as usize].1 = at,
                None => last.push(at),
            }
            requests.push((number, NEVER));
        }
        Self { requests, keys: last.len() }
    }

    /// Counts the hits of a cache that keeps, of what it has and what it is asked for, what is asked for again the soonest (Belady,
    /// IBM Systems Journal 1966). It may keep a newcomer out, as caches with admission do.
    #[must_use]
    pub fn optimal_hits(&self, capacity: usize) -> u64 {
        // When a resident is asked for next: its claim. Claims in the heap that were met meanwhile are passed over.
        let mut claims = vec![NEVER; self.keys];
        let mut latest: BinaryHeap<(u32, u32)> = BinaryHeap::new();
        let (mut hits, mut residents) = (0, 0);
        for &(key, next) in &self.requests {
            if claims[key as usize] != NEVER {
                hits += 1;
                residents -= 1;
            }
            claims[key as usize] = next;
            if next == NEVER {
                continue;
            }
            residents += 1;
            latest.push((next, key));
            while residents > capacity {
                let (claim, key) = latest.pop().expect("every resident has its claim in the heap");
                if claims[key as usize] == claim {
                    claims[key as usize] = NEVER;
                    residents -= 1;
                }
            }
        }
        hits
    }
}

/// The place of a request that does not come.
const NEVER: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn optimal_hits(keys: &[u64], capacity: usize) -> u64 {
        Future::new(keys.iter().copied()).optimal_hits(capacity)
    }

    #[test]
    fn what_is_asked_for_again_soonest_stays() {
        // With room for two: 3 never comes again and is kept out, 1 and 2 stay.
        assert_eq!(optimal_hits(&[1, 2, 3, 1, 2], 2), 2);
        // With room for one: 1 waits for its second use, past the 2s; or a 2 for the next: one hit each way.
        assert_eq!(optimal_hits(&[1, 2, 1], 1), 1);
        assert_eq!(optimal_hits(&[1, 2, 2, 1], 1), 1);
    }

    #[test]
    fn a_loop_over_more_than_fits_hits_for_all_places_but_one_turn() {
        let keys: Vec<u64> = (0..10).flat_map(|_| 0..5).collect();
        assert_eq!(optimal_hits(&keys, 5), 45);
        // Some three stay in each turn, and the requests just past them profit from what is not needed again.
        assert_eq!(optimal_hits(&keys, 3), 27);
        assert_eq!(optimal_hits(&[1, 1, 1], 1), 2);
    }

    #[test]
    fn no_choice_is_better_on_any_short_sequence() {
        // All sequences of seven requests of three keys, against the best of all ways to choose.
        for code in 0..3_u64.pow(7) {
            let keys: Vec<u64> = (0..7).map(|at| code / 3_u64.pow(at) % 3).collect();
            assert_eq!(optimal_hits(&keys, 1), best_of_all(&keys, &[], 1), "{keys:?}");
            assert_eq!(optimal_hits(&keys, 2), best_of_all(&keys, &[], 2), "{keys:?}");
        }
    }

    fn best_of_all(keys: &[u64], residents: &[u64], capacity: usize) -> u64 {
        let Some((key, rest)) = keys.split_first() else { return 0 };
        if residents.contains(key) {
            return 1 + best_of_all(rest, residents, capacity);
        }
        let mut best = best_of_all(rest, residents, capacity);
        let with = [residents, &[*key]].concat();
        if with.len() <= capacity {
            return best.max(best_of_all(rest, &with, capacity));
        }
        for out in residents {
            let without: Vec<u64> = with.iter().copied().filter(|key| key != out).collect();
            best = best.max(best_of_all(rest, &without, capacity));
        }
        best
    }
}
