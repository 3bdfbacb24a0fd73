//! The time of a look-up and of a rebuild, with 64 nodes.

use std::{
    hint::black_box,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use distcache_cluster::{KeyspaceSeed, Placement, Ring};
use serde::{Deserialize, Serialize};

use crate::{
    records::{self, median},
    rendezvous::Rendezvous,
    subject::{KEYSPACE, MOST, Subject, hashring, members},
};

/// How to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often a rebuild is measured, and ten times as often some look-ups; the subjects take turns.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
}

/// What a subject took in each round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Who.
    pub subject: Subject,
    /// Nanoseconds of a look-up, the hash of the key included.
    pub look_up_ns: Vec<f64>,
    /// The same through a pointer to a trait, where the subject has one.
    pub dyn_ns: Vec<f64>,
    /// Milliseconds of building it from its members.
    pub rebuild_ms: Vec<f64>,
}

/// Measures, prints and stores.
///
/// # Errors
///
/// The results cannot be stored.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let members = members(MOST);
    let (ring, rendezvous, naive) = (Ring::new(&members), Rendezvous::new(&members), hashring(&members));
    let mut speeds = Subject::ALL.map(|subject| Speed {
        subject,
        look_up_ns: Vec::new(),
        dyn_ns: Vec::new(),
        rebuild_ms: Vec::new(),
    });
    let mut walk = Walk(1);
    for round in 0..args.rounds * LOOK_UP_ROUNDS {
        let rebuilds = round % LOOK_UP_ROUNDS == 0;
        for speed in &mut speeds {
            match speed.subject {
                Subject::Ring => {
                    speed.placed(&mut walk, &ring);
                    speed.rebuild_ms.extend(rebuilds.then(|| rebuild(|| Ring::new(black_box(&members)))));
                }
                Subject::Rendezvous => {
                    speed.placed(&mut walk, &rendezvous);
                    speed.rebuild_ms.extend(rebuilds.then(|| rebuild(|| Rendezvous::new(black_box(&members)))));
                }
                Subject::Hashring => {
                    let owner = |key: &str| naive.get(&key).map_or(0, |(_, at)| usize::from(*at));
                    speed.look_up_ns.push(walk.look_ups(owner));
                    speed.rebuild_ms.extend(rebuilds.then(|| rebuild(|| hashring(black_box(&members)))));
                }
            }
        }
    }
    let overhead: Vec<_> = (0..LOOK_UP_ROUNDS).map(|_| walk.look_ups(str::len)).collect();
    println!("a key is made in {:.1} ns, which is part of each look-up", median(&overhead));
    for speed in &speeds {
        let [look_up, by_dyn, rebuild] = [&speed.look_up_ns, &speed.dyn_ns, &speed.rebuild_ms].map(|all| median(all));
        println!(
            "{:<28} look-up {look_up:6.1} ns, through dyn {by_dyn:6.1} ns, rebuild {rebuild:8.4} ms",
            speed.subject
        );
    }
    records::write(out, FILE, &speeds)
}

impl Speed {
    fn placed(&mut self, walk: &mut Walk, placement: &impl Placement) {
        let seed = KeyspaceSeed::of(KEYSPACE);
        let owner = |key: &str| placement.owner(seed.hash(key)).map_or(0, |slot| slot.index());
        self.look_up_ns.push(walk.look_ups(owner));
        let placement: &dyn Placement = black_box(placement);
        let owner = |key: &str| placement.owner(seed.hash(key)).map_or(0, |slot| slot.index());
        self.dyn_ns.push(walk.look_ups(owner));
    }
}

/// Look-ups of which each waits for the one before, for its key depends on it. Every key is a new one, so that all of a ring is
/// walked, and is made on the spot, so that no memory is read for it.
struct Walk(u64);

impl Walk {
    /// Nanoseconds of a look-up, of so few that most rounds are not interrupted. Many go before, unmeasured, so that what the subject
    /// before has left in the caches does not count.
    fn look_ups(&mut self, owner: impl Fn(&str) -> usize) -> f64 {
        self.walk(&owner, WARM_UP);
        let start = Instant::now();
        self.walk(&owner, LOOK_UPS);
        start.elapsed().as_nanos() as f64 / f64::from(LOOK_UPS)
    }

    fn walk(&mut self, owner: impl Fn(&str) -> usize, look_ups: u32) {
        for _ in 0..look_ups {
            let key = key(self.0);
            let owner = owner(str::from_utf8(&key).expect("it is ASCII"));
            // Any constants that mix; these are Knuth's for MMIX.
            self.0 =
                self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407 + owner as u64);
        }
        black_box(self.0);
    }
}

/// A key of 24 bytes: a prefix and a number in letters.
fn key(number: u64) -> [u8; 24] {
    let mut key = *b"customer----------------";
    for (at, letter) in key[8..].iter_mut().enumerate() {
        *letter = b'a' + (number >> (60 - 4 * at) & 15) as u8;
    }
    key
}

/// Milliseconds of making something. That it is dropped does not count. A rest before makes it less likely to be interrupted.
fn rebuild<T>(make: impl Fn() -> T) -> f64 {
    thread::sleep(REST);
    let start = Instant::now();
    let made = make();
    let taken = start.elapsed();
    drop(black_box(made));
    taken.as_secs_f64() * 1e3
}

/// The file of [`Speed`]s.
pub const FILE: &str = "speed.json";
/// Look-ups of a round: some milliseconds, so that on a busy machine, too, most rounds are not interrupted.
const LOOK_UPS: u32 = 1 << 13;
/// Four for each place of the ring that a look-up may read.
const WARM_UP: u32 = 1 << 16;
/// After which a scheduler owes a thread some milliseconds.
const REST: Duration = Duration::from_millis(20);
/// Rounds of look-ups for each rebuild.
const LOOK_UP_ROUNDS: usize = 10;
