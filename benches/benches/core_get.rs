//! get-hit and 95/5 get/insert of `distcache-core`, beside `lru` behind one mutex: zipf-like keys of 32 bytes, 100-byte values.
//!
//! `cargo bench -p distcache-benches --bench core_get`

use std::{
    hint::black_box,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
};

use criterion::{Criterion, criterion_group, criterion_main};
use distcache_core::Cache;
use lru::LruCache;

fn keys() -> Vec<Box<str>> {
    (0..ENTRIES).map(|n| format!("user:{n:027}").into()).collect()
}

/// Cheap skewed picks: the square of a uniform number favours low indexes, as popular keys are favoured.
struct Picks(u64);

impl Picks {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let uniform = (self.0 >> 40) as f64 / (1u64 << 24) as f64;
        (uniform * uniform * ENTRIES as f64) as usize
    }
}

fn get_hit(c: &mut Criterion) {
    let keys = keys();
    let value: Arc<[u8]> = vec![7; 100].into();
    let ours = Cache::<Box<str>, Arc<[u8]>>::builder(1 << 30).build().expect("the settings are sound");
    let theirs = Mutex::new(LruCache::new(NonZeroUsize::new(ENTRIES * 2).expect("not zero")));
    for key in &keys {
        ours.insert(key.clone(), Arc::clone(&value)).expect("the entry fits");
        theirs.lock().expect("no bench panics").put(key.clone(), Arc::clone(&value));
    }
    let mut group = c.benchmark_group("get-hit n=100k 1 thread");
    let mut picks = Picks(42);
    group.bench_function("distcache-core", |b| b.iter(|| black_box(ours.get(&*keys[picks.next()]))));
    group.bench_function("lru in a mutex", |b| {
        b.iter(|| black_box(theirs.lock().expect("no bench panics").get(&*keys[picks.next()]).cloned()));
    });
    group.finish();
}

fn mixed(c: &mut Criterion) {
    let keys = keys();
    let value: Arc<[u8]> = vec![7; 100].into();
    let ours = Cache::<Box<str>, Arc<[u8]>>::builder(16 << 20).build().expect("the settings are sound");
    let theirs = Mutex::new(LruCache::new(NonZeroUsize::new(ENTRIES / 2).expect("not zero")));
    let mut group = c.benchmark_group("95 get / 5 insert n=100k half resident 1 thread");
    let (mut picks, mut turn) = (Picks(42), 0u32);
    group.bench_function("distcache-core", |b| {
        b.iter(|| {
            turn = turn.wrapping_add(1);
            let key = &keys[picks.next()];
            if turn % 20 == 0 {
                black_box(ours.insert(key.clone(), Arc::clone(&value)).is_ok());
            } else {
                black_box(ours.get(&**key));
            }
        });
    });
    group.bench_function("lru in a mutex", |b| {
        b.iter(|| {
            turn = turn.wrapping_add(1);
            let key = &keys[picks.next()];
            let mut cache = theirs.lock().expect("no bench panics");
            if turn % 20 == 0 {
                black_box(cache.put(key.clone(), Arc::clone(&value)));
            } else {
                black_box(cache.get(key).cloned());
            }
        });
    });
    group.finish();
}

const ENTRIES: usize = 100_000;

criterion_group!(benches, get_hit, mixed);
criterion_main!(benches);
