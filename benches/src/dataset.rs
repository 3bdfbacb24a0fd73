//! Keys and values of the speed measurements, and the order in which they are asked for.

use std::sync::Arc;

use crate::{
    rng::{Rng, mix},
    zipf::Zipf,
};

/// A value: 100 bytes that many may hold.
pub type Blob = Arc<[u8]>;

/// The keys that are asked for, one after the other and round and round; each thread starts elsewhere. They lie in memory in that
/// order, so that a request costs what the cache costs, not what it takes to find the key.
#[derive(Debug)]
pub struct Requests {
    keys: Vec<String>,
    probes: Vec<String>,
}

impl Requests {
    /// Draws keys by Zipf's law, from as many as given.
    #[must_use]
    pub fn new(keys: u64) -> Self {
        // Rank and number of a key have nothing to do with each other, so that popular keys do not lie side by side.
        let mut numbers: Vec<u32> = (0..u32::try_from(keys).expect("keys fit in memory")).collect();
        let mut rng = Rng::new(SEED);
        rng.shuffle(&mut numbers);
        let zipf = Zipf::new(keys, EXPONENT);
        let mut draw = || key(numbers[zipf.draw(&mut rng) as usize].into());
        let probes = (0..PROBES).map(|_| draw()).collect();
        let times = usize::try_from(keys).expect("keys fit in memory").saturating_mul(ASKED_EACH).min(MOST_REQUESTS);
        Self { keys: (0..next_prime(times)).map(|_| draw()).collect(), probes }
    }

    /// Takes keys as they are.
    #[must_use]
    pub fn of_keys(keys: Vec<String>) -> Self {
        let probes = keys.iter().take(PROBES).cloned().collect();
        Self { keys, probes }
    }

    /// Returns all keys in their order.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Returns keys that are drawn in the same way, and are none of the requests: what share of them is cached tells what share of
    /// requests are hits.
    #[must_use]
    pub fn probes(&self) -> &[String] {
        &self.probes
    }
}

/// Requests are a prime number, so that the keys that a thread inserts on its way, each 20th or each 4th, are others each time round.
fn next_prime(from: usize) -> usize {
    let is_prime = |number: &usize| {
        (2..).take_while(|factor| factor * factor <= *number).all(|factor| !number.is_multiple_of(factor))
    };
    (from.max(2)..).find(is_prime).expect("there is always one more")
}

/// Creates the key of a number: 24 to 40 bytes, of which the last 16 differ.
#[must_use]
pub fn key(number: u64) -> String {
    let bits = mix(number);
    let prefix = &PREFIX[..MIN_KEY - DIGITS + (bits % SPREAD) as usize];
    let mut key = String::with_capacity(prefix.len() + DIGITS);
    key.push_str(prefix);
    for at in 0..DIGITS {
        key.push(char::from(HEX[((bits >> (4 * at)) & 15) as usize]));
    }
    key
}

/// Creates a value.
#[must_use]
pub fn blob() -> Blob {
    Arc::from([7; BLOB_BYTES])
}

/// Bytes of a value.
pub const BLOB_BYTES: usize = 100;
/// The skew that is measured with most often, from YCSB (Cooper et al., SoCC 2010).
const EXPONENT: f64 = 0.99;
/// So often that more keys are asked for in a round than a cache with room for half of them holds, and hits are not the echo of the
/// round before.
const ASKED_EACH: usize = 4;
/// What memory is there for: some 600 MB.
const MOST_REQUESTS: usize = 8_000_000;
/// Enough for a third of a percent.
const PROBES: usize = 20_000;
const SEED: u64 = 0x5eed;
const MIN_KEY: usize = 24;
const DIGITS: usize = 16;
const SPREAD: u64 = 17;
const PREFIX: &str = "tenants/users/profiles/v";
const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_of_the_lengths_that_are_promised_and_all_different() {
        let keys: HashSet<String> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
        let lengths: HashSet<usize> = keys.iter().map(String::len).collect();
        assert_eq!(lengths, (24..=40).collect());
        assert!(keys.iter().all(|key| key.capacity() == key.len()), "no byte is spare");
    }

    #[test]
    fn few_keys_are_asked_for_often() {
        let requests = Requests::new(1_000);
        assert_eq!(requests.keys().len(), 4_001);
        assert_ne!(requests.keys()[..10], requests.probes()[..10]);
        let different: HashSet<_> = requests.keys()[..1_000].iter().collect();
        assert!((100..700).contains(&different.len()), "{}", different.len());
    }

    #[test]
    fn the_next_prime_may_be_the_number_itself() {
        assert_eq!([0, 3, 4, 9, 4_000].map(next_prime), [2, 3, 5, 11, 4_001]);
    }
}
