//! `distcache-core` beside its peers, small and quick, on one thread: for a look at a change. The measurements that count are those of
//! `cargo xtask bench core`.
//!
//! `cargo bench -p distcache-benches --bench core_get`

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use distcache_benches::{
    dataset::{Blob, Requests, blob, key},
    peers::{Bound, Candidate, Peer, Visit},
};

/// Gets of keys that are all there.
fn get_hit(c: &mut Criterion) {
    compare(c, "get-hit", Work { capacity: 2 * ENTRIES, asked: ENTRIES, insert_each: usize::MAX });
}

/// 19 gets and an insert, with room for half of the keys.
fn mixed(c: &mut Criterion) {
    compare(c, "mix-95", Work { capacity: ENTRIES, asked: 2 * ENTRIES, insert_each: 20 });
}

/// Inserts of keys that never were there, into a full cache.
fn insert_evict(c: &mut Criterion) {
    compare(c, "insert-evict", Work { capacity: ENTRIES, asked: ENTRIES, insert_each: 1 });
}

#[derive(Clone, Copy)]
struct Work {
    capacity: u64,
    asked: u64,
    /// How many operations one insert comes with. If it is one, each inserts a key of its own.
    insert_each: usize,
}

fn compare(c: &mut Criterion, name: &str, work: Work) {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(700));
    let requests = Requests::new(work.asked);
    for candidate in CANDIDATES {
        let (keys, group) = (requests.keys(), &mut group);
        candidate.build(Bound::Entries(work.capacity), Bench { candidate: *candidate, work, keys, group });
    }
    group.finish();
}

struct Bench<'b, 'c> {
    candidate: Candidate,
    work: Work,
    keys: &'b [String],
    group: &'b mut BenchmarkGroup<'c, WallTime>,
}

impl Visit<String, Blob> for Bench<'_, '_> {
    type Output = ();

    fn visit<P: Peer<String, Blob>>(self, cache: P) {
        (0..ENTRIES).for_each(|number| cache.insert(key(number), blob()));
        cache.settle();
        let (mut turn, mut fresh) = (0_usize, u64::from(u32::MAX));
        self.group.bench_function(self.candidate.name(), |b| {
            b.iter(|| {
                turn += 1;
                let key_of_turn = &self.keys[turn % self.keys.len()];
                if self.work.insert_each == 1 {
                    fresh += 1;
                    cache.insert(key(fresh), blob());
                } else if turn % self.work.insert_each == 0 {
                    cache.insert(key_of_turn.clone(), blob());
                } else {
                    cache.get(key_of_turn);
                }
            });
        });
    }
}

/// One of each kind.
const CANDIDATES: &[Candidate] = &[
    Candidate::Ours,
    Candidate::Moka,
    Candidate::Quick64,
    Candidate::FoyerS3fifo,
    Candidate::Lru64,
    Candidate::TinyUfo,
];
/// So few that a run takes a minute.
const ENTRIES: u64 = 100_000;

criterion_group!(benches, get_hit, mixed, insert_evict);
criterion_main!(benches);
