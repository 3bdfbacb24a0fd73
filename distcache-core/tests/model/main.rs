//! The library under a scheduler that explores interleavings: shuttle decides at each lock and each atomic who goes on.
//!
//! The library has no dependency, so its sources are compiled in here, with another `sync` module. `cargo test -p distcache-core
//! --test model` runs every model; a schedule that fails is printed, and `MODEL_REPLAY=<schedule>` with the model's name
//! as argument runs it again.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "the sources of the library are compiled in")]
#![allow(missing_docs, unnameable_types, reason = "their documentation is the library's")]
#![allow(clippy::unwrap_used, reason = "models may unwrap as tests may")]

macro_rules! library {
    ($($name:ident = $path:literal),* $(,)?) => {$(
        #[path = $path]
        mod $name;
    )*};
}

library! {
    batch = "../../src/batch.rs",
    builder = "../../src/builder.rs",
    cache = "../../src/cache.rs",
    clock = "../../src/clock.rs",
    cpu = "../../src/cpu.rs",
    deadlines = "../../src/deadlines.rs",
    defects = "../../src/defects.rs",
    error = "../../src/error.rs",
    expiry = "../../src/expiry.rs",
    fill = "../../src/fill.rs",
    flight = "../../src/flight.rs",
    follower = "../../src/follower.rs",
    garbage = "../../src/garbage.rs",
    hash = "../../src/hash.rs",
    inner = "../../src/inner.rs",
    key = "../../src/key.rs",
    load = "../../src/load.rs",
    policy = "../../src/policy/mod.rs",
    shard = "../../src/shard.rs",
    stats = "../../src/stats.rs",
    store = "../../src/store.rs",
    sweep = "../../src/sweep.rs",
    table = "../../src/table.rs",
    tags = "../../src/tags.rs",
    tally = "../../src/tally.rs",
    walk = "../../src/walk.rs",
    weigh = "../../src/weigh.rs",
}

mod models;
mod sync;

pub use builder::{ByCount, ByFunction, ByWeigh, CacheBuilder};
pub use cache::{Cache, Epoch, Lookup};
pub use clock::{Clock, ManualClock, MonotonicClock, Tick};
pub use error::{BuildError, Failure, InsertError, LoadError};
pub use expiry::Expiry;
pub use fill::{Fill, Installed};
pub use follower::{Follower, Outcome};
pub use garbage::Cause;
pub use hash::{SecretHasher, SecretState};
pub use key::ToKey;
pub use policy::Eviction;
pub use stats::Stats;
pub use weigh::{ENTRY_OVERHEAD, EXPIRY_OVERHEAD, IDLE_OVERHEAD, Weigh};

use std::env;

fn main() {
    let wanted = env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let chosen =
        models::ALL.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())));
    if let Ok(schedule) = env::var("MODEL_REPLAY") {
        return chosen.for_each(|(_, model)| shuttle::replay(model, &schedule));
    }
    let schedules = env::var("MODEL_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(SCHEDULES);
    let mut passed = 0;
    for (name, model) in chosen {
        // One by chance, one that favours rare orders of few steps (PCT: Burckhardt et al., ASPLOS 2010).
        shuttle::check_random(model, schedules / 2);
        shuttle::check_pct(model, schedules / 2, DEPTH);
        println!("model {name}: {schedules} schedules");
        passed += 1;
    }
    println!("{passed} passed, 0 failed");
}

/// Of each model. Some fifteen seconds in all, unoptimised.
const SCHEDULES: usize = 10_000;
/// Orderings of so many steps are enough for every bug that was planted.
const DEPTH: usize = 3;
