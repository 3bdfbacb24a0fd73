//! `core-bench collide`: gets of keys that an adversary chose, beside gets of random keys.
//!
//! The adversary knows the usual hashes without a secret, and has keys whose hashes agree in their lower bits. A cache that takes a shard
//! or a bucket by such a hash would have them all in one place.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    contest::{Contender, Pass, Workload},
    dataset::Requests,
    parallel,
    peers::Candidate,
    records,
    rng::{Rng, mix},
    stats,
};

/// How long gets of some keys took in our cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spread {
    /// Which keys.
    pub keys: Choice,
    /// The 99th percentile of each round, in nanoseconds.
    pub p99: Vec<f64>,
}

/// How keys were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// By chance.
    Random,
    /// To collide under XXH3 without a seed.
    Xxh3,
    /// To collide under FNV-1a of 64 bits.
    Fnv,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many times each set of keys is asked for.
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// For how long each time.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 250)]
    pub time: u64,
    /// How many keys are chosen.
    #[arg(long, default_value_t = 20_000)]
    pub keys: usize,
}

impl Choice {
    /// Every choice, the random one first.
    pub const ALL: &[Self] = &[Self::Random, Self::Xxh3, Self::Fnv];

    /// Returns the name that tables and targets show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Xxh3 => "xxh3",
            Self::Fnv => "fnv",
        }
    }

    /// Says whether a key is of this choice. It ends with the byte that `str` ends with when it is hashed.
    fn has(self, key: &[u8]) -> bool {
        match self {
            Self::Random => true,
            Self::Xxh3 => xxh3_64(key).trailing_zeros() >= AGREEING_BITS,
            Self::Fnv => fnv1a(key).trailing_zeros() >= AGREEING_BITS,
        }
    }

    /// Finds keys by trying, on all processors.
    fn find(self, number: usize) -> Vec<String> {
        let workers = parallel::processors();
        let parts: Vec<_> =
            (0..workers).map(|at| (at as u64, number / workers + usize::from(at < number % workers))).collect();
        parallel::map(&parts, |(worker, number)| self.find_part(*number, *worker)).concat()
    }

    fn find_part(self, number: usize, worker: u64) -> Vec<String> {
        let mut key = format!("attack/{worker:04}/{}", "0".repeat(DIGITS)).into_bytes();
        let end = key.len();
        key.push(END_OF_STR);
        let mut found = Vec::with_capacity(number);
        for attempt in 0_u64.. {
            if found.len() == number {
                break;
            }
            let bits = mix((worker << 48) | attempt);
            for (at, digit) in key[end - DIGITS..end].iter_mut().enumerate() {
                *digit = HEX[((bits >> (4 * at)) & 15) as usize];
            }
            if self.has(&key) {
                found.push(str::from_utf8(&key[..end]).expect("it is ASCII but for its end").to_owned());
            }
        }
        found
    }
}

/// Measures, tells about each choice, and stores all.
///
/// # Errors
///
/// The results cannot be written.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let contests: Vec<_> = Choice::ALL
        .iter()
        .map(|choice| {
            let keys = choice.find(args.keys);
            let contender = Contender::new(Candidate::Ours, 2 * BACKGROUND, BACKGROUND);
            contender.insert_all(&keys);
            (contender, asked_at_random(&keys))
        })
        .collect();
    let mut spreads: Vec<_> = Choice::ALL.iter().map(|keys| Spread { keys: *keys, p99: Vec::new() }).collect();
    for number in 0..args.rounds {
        for ((contender, requests), spread) in contests.iter().zip(&mut spreads) {
            let time = Duration::from_millis(args.time);
            let pass = Pass { workload: Workload::Mix95, threads: THREADS, time, requests, number };
            spread.p99.push(stats::percentile(&mut contender.latencies(&pass), 0.99).into());
        }
    }
    println!("\np99 of gets of {} keys by {THREADS} threads, ns", args.keys);
    for Spread { keys, p99 } in &spreads {
        println!("{:<16}{:>8.0}", keys.name(), stats::median(p99));
    }
    records::write(out, records::COLLIDE, &spreads)
}

fn asked_at_random(keys: &[String]) -> Requests {
    let mut rng = Rng::new(SEED);
    Requests::of_keys((0..ASKED).map(|_| keys[rng.below(keys.len() as u64) as usize].clone()).collect())
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// More than choose a shard in any cache under test, and some of what chooses a bucket.
const AGREEING_BITS: u32 = 12;
/// What `str` writes to a hash after its bytes.
const END_OF_STR: u8 = 0xff;
const DIGITS: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Entries beside the keys that are asked for.
const BACKGROUND: u64 = 180_000;
const THREADS: usize = 2;
/// A prime, so that other keys are inserted each time round.
const ASKED: usize = 399_989;
const SEED: u64 = 0xc011;

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, Hash, Hasher};

    use xxhash_rust::xxh3::Xxh3DefaultBuilder;

    use super::*;

    #[test]
    fn fnv_is_that_of_its_reference() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn chosen_keys_collide_as_a_hash_map_would_hash_them() {
        struct Fnv(Vec<u8>);
        impl Hasher for Fnv {
            fn write(&mut self, bytes: &[u8]) {
                self.0.extend_from_slice(bytes);
            }
            fn finish(&self) -> u64 {
                fnv1a(&self.0)
            }
        }
        for key in Choice::Xxh3.find(3) {
            assert!(Xxh3DefaultBuilder.hash_one(key.as_str()).trailing_zeros() >= AGREEING_BITS, "{key}");
        }
        for key in Choice::Fnv.find(3) {
            let mut hasher = Fnv(Vec::new());
            key.as_str().hash(&mut hasher);
            assert!(hasher.finish().trailing_zeros() >= AGREEING_BITS, "{key}");
        }
    }
}
