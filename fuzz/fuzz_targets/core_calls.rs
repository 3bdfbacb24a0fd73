//! Any sequence of calls of a cache, beside a plain map: what is there must be what was stored, and every count must be right.
//!
//! `cargo +nightly fuzz run core_calls`, or `cargo fuzz run --sanitizer none core_calls` where there is no nightly.

#![no_main]

use std::{collections::HashMap, time::Duration};

use arbitrary::Arbitrary;
use distcache_core::{
    Cache, CacheBuilder, ByFunction, Eviction, Expiry, Fill, Installed, Lookup, ManualClock, SecretState,
};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    lru: bool,
    idle: Option<u8>,
    shards: u8,
    capacity: u16,
    calls: Vec<Call>,
}

#[derive(Debug, Arbitrary)]
enum Call {
    Insert { key: u8, weight: u16, ttl: Option<u8> },
    Get(u8),
    GetMany(Vec<u8>),
    Peek(u8),
    Remove(u8),
    Lookup(u8),
    Install { which: u8, weight: u16, ttl: Option<u8> },
    Abandon(u8),
    Clear,
    Retain(u8),
    Invalidate(u8),
    Resize(u16),
    Advance(u8),
    Purge,
    Hottest(u8),
    Iterate,
}

/// A value: which write it is of, and what it weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value(u32, u16);

/// What may be there: the last write of each key. The cache may have less, and never anything else.
#[derive(Default)]
struct Model {
    written: HashMap<u8, Value>,
    writes: u32,
    reads: u64,
}

impl Model {
    fn write(&mut self, weight: u16) -> Value {
        self.writes += 1;
        Value(self.writes, weight)
    }

    fn check(&self, key: u8, value: Option<Value>) {
        if let Some(value) = value {
            assert_eq!(self.written.get(&key), Some(&value), "a value that was not the last one written to {key}");
        }
    }
}

type Tested = Cache<u8, Value>;
type Builder = CacheBuilder<u8, Value, SecretState, ByFunction<u8, Value>>;

fn expiry(ttl: Option<u8>) -> Expiry {
    ttl.map_or(Expiry::Never, |ttl| Expiry::After(Duration::from_nanos(u64::from(ttl))))
}

fn build(input: &Input, clock: &ManualClock) -> Tested {
    let capacity = u64::from(input.capacity) + 1;
    let mut builder: Builder = Cache::builder(capacity).weigher(|_, value: &Value| usize::from(value.1));
    builder = builder.shards(usize::from(input.shards % 4) + 1).clock(clock.clone());
    if input.lru {
        builder = builder.eviction(Eviction::Lru);
    }
    if let Some(idle) = input.idle.filter(|idle| *idle > 0) {
        builder = builder.time_to_idle(Duration::from_nanos(u64::from(idle)));
    }
    builder.build().expect("nothing is zero")
}

fn run(input: &Input) {
    let clock = ManualClock::new();
    let cache = build(input, &clock);
    let (mut model, mut fills) = (Model::default(), Vec::<Fill<u8, Value>>::new());
    for call in &input.calls {
        match call {
            Call::Insert { key, weight, ttl } => {
                let value = model.write(*weight);
                model.written.remove(key);
                if cache.insert_with(*key, value, expiry(*ttl)).is_ok() && *ttl != Some(0) {
                    model.written.insert(*key, value);
                    assert_eq!(cache.peek(key), Some(value), "what was just stored is not there");
                }
            }
            Call::Get(key) => {
                model.reads += 1;
                model.check(*key, cache.get(key));
            }
            Call::GetMany(keys) => {
                model.reads += keys.len() as u64;
                let values = cache.get_many(keys);
                keys.iter().zip(values).for_each(|(key, value)| model.check(*key, value));
            }
            Call::Peek(key) => model.check(*key, cache.peek(key)),
            Call::Remove(key) => {
                model.check(*key, cache.remove(key));
                model.written.remove(key);
                assert!(!cache.contains(key));
            }
            Call::Lookup(key) => {
                model.reads += 1;
                match cache.lookup(key) {
                    Lookup::Hit(value) => model.check(*key, Some(value)),
                    Lookup::Lead(fill) => fills.push(fill),
                    Lookup::Follow(follower) => drop(follower),
                }
            }
            Call::Install { which, weight, ttl } if !fills.is_empty() => {
                let fill = fills.swap_remove(usize::from(*which) % fills.len());
                let (key, value, poisoned) = (*fill.key(), model.write(*weight), fill.is_poisoned());
                let installed = fill.install(value, expiry(*ttl));
                assert_eq!(poisoned, matches!(installed, Installed::Poisoned | Installed::Stale));
                if installed == Installed::Stored {
                    model.written.insert(key, value);
                    assert_eq!(cache.peek(&key), Some(value));
                }
            }
            Call::Abandon(which) if !fills.is_empty() => {
                drop(fills.swap_remove(usize::from(*which) % fills.len()));
            }
            Call::Install { .. } | Call::Abandon(_) => {}
            Call::Clear => {
                cache.clear();
                model.written.clear();
                assert!(cache.is_empty());
            }
            Call::Retain(divisor) => {
                let keep = |key: u8| key % divisor.max(&1) == 0;
                cache.retain(|key, _| keep(*key));
                model.written.retain(|key, _| keep(*key));
            }
            Call::Invalidate(divisor) => {
                let gone = |key: u8| key % divisor.max(&1) == 0;
                cache.invalidate_where(|key| gone(*key));
                model.written.retain(|key, _| !gone(*key));
            }
            Call::Resize(capacity) => cache.resize(u64::from(*capacity)),
            Call::Advance(span) => clock.advance(Duration::from_nanos(u64::from(*span))),
            Call::Purge => _ = cache.purge_expired(),
            Call::Hottest(count) => {
                let hottest = cache.hottest(usize::from(*count));
                hottest.into_iter().for_each(|(key, value, _)| model.check(key, Some(value)));
            }
            Call::Iterate => cache.iter().for_each(|(key, value)| model.check(key, Some(value))),
        }
        cache.validate();
        let stats = cache.stats();
        assert!(stats.weight <= cache.capacity(), "{} of {} bytes", stats.weight, cache.capacity());
        assert_eq!(stats.hits + stats.misses, model.reads);
    }
}

fuzz_target!(|input: Input| run(&input));
