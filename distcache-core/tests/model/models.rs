//! The models: few threads, few steps, and what must hold in every order of them.

use std::{
    hash::{BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use shuttle::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{Cache, Eviction, Expiry, Installed, Lookup, ManualClock, Outcome};

/// Equal in every run, so that a schedule can be replayed.
type Hasher = BuildHasherDefault<DefaultHasher>;
type Shared = Cache<u64, u64, Hasher>;

/// Every model, by name.
pub(crate) const ALL: &[(&str, fn())] = &[
    ("many_who_ask_make_one_load", many_who_ask_make_one_load),
    ("a_delete_is_not_undone_by_a_load", a_delete_is_not_undone_by_a_load),
    ("a_write_is_not_undone_by_a_load", a_write_is_not_undone_by_a_load),
    ("a_clear_is_not_undone_by_a_load", a_clear_is_not_undone_by_a_load),
    ("a_leader_that_leaves_leaves_nobody_waiting", a_leader_that_leaves_leaves_nobody_waiting),
    ("a_failure_reaches_all_and_is_not_kept", a_failure_reaches_all_and_is_not_kept),
    ("bytes_stay_bounded", bytes_stay_bounded),
    ("a_write_that_was_not_judged_stays", a_write_that_was_not_judged_stays),
    ("reads_see_whole_values_and_are_all_counted", reads_see_whole_values_and_are_all_counted),
    ("lookups_are_counted_as_what_they_gave", lookups_are_counted_as_what_they_gave),
    ("clears_at_once_lose_nothing", clears_at_once_lose_nothing),
];

fn cache(entries: u64, eviction: Eviction) -> Shared {
    let builder = Cache::bounded_by_entries(entries).shards(1).hasher(Hasher::default()).eviction(eviction);
    builder.clock(ManualClock::new()).build().unwrap()
}

fn validate(cache: &Shared) {
    cache.validate();
}

fn spawn_all(tasks: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = tasks.into_iter().map(|task| thread::spawn(task)).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Reads through, waiting and leading as it comes.
fn read(cache: &Shared, key: u64, load: impl FnOnce() -> u64) -> u64 {
    let fill = match cache.lookup(&key) {
        Lookup::Hit(value) => return value,
        Lookup::Lead(fill) => fill,
        Lookup::Follow(follower) => match follower.wait(None).unwrap() {
            Outcome::Value(value) => return value,
            Outcome::Failed(_) => panic!("no load fails here"),
            Outcome::Lead(fill) => fill,
        },
    };
    let value = load();
    fill.install(value, Expiry::Never);
    value
}

fn many_who_ask_make_one_load() {
    let (cache, loads) = (cache(10, Eviction::S3Fifo), Arc::new(AtomicU64::new(0)));
    let task = || -> Box<dyn FnOnce() + Send> {
        let (cache, loads) = (cache.clone(), Arc::clone(&loads));
        Box::new(move || {
            let value = cache.get_or_insert_with(&1, || loads.fetch_add(1, Ordering::SeqCst) + 7);
            assert_eq!(value, 7);
        })
    };
    spawn_all(vec![task(), task(), task()]);
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    validate(&cache);
}

/// The source changes, then the key is deleted, while others read through: nobody who begins after that sees the old value.
fn a_delete_is_not_undone_by_a_load() {
    let (cache, source) = (cache(10, Eviction::S3Fifo), Arc::new(AtomicU64::new(0)));
    let reader = || -> Box<dyn FnOnce() + Send> {
        let (cache, source) = (cache.clone(), Arc::clone(&source));
        Box::new(move || _ = read(&cache, 1, || source.load(Ordering::SeqCst)))
    };
    let writer: Box<dyn FnOnce() + Send> = {
        let (cache, source) = (cache.clone(), Arc::clone(&source));
        Box::new(move || {
            source.store(1, Ordering::SeqCst);
            cache.remove(&1);
            assert_eq!(
                read(&cache, 1, || source.load(Ordering::SeqCst)),
                1,
                "a read after the delete saw what was before"
            );
        })
    };
    spawn_all(vec![reader(), reader(), writer]);
    assert!(cache.get(&1).is_none_or(|value| value == 1), "a load brought a deleted value back");
    validate(&cache);
}

fn a_write_is_not_undone_by_a_load() {
    let cache = cache(10, Eviction::S3Fifo);
    let (reader, writer) = (cache.clone(), cache.clone());
    spawn_all(vec![
        Box::new(move || _ = read(&reader, 1, || 0)),
        Box::new(move || {
            writer.insert(1, 1).unwrap();
            assert_eq!(writer.get(&1), Some(1));
        }),
    ]);
    assert_eq!(cache.get(&1), Some(1), "an older read overwrote a newer write");
}

fn a_clear_is_not_undone_by_a_load() {
    let (cache, source) = (cache(10, Eviction::S3Fifo), Arc::new(AtomicU64::new(0)));
    let (reader, before) = (cache.clone(), Arc::clone(&source));
    let (clearer, after) = (cache.clone(), Arc::clone(&source));
    cache.insert(2, 0).unwrap();
    spawn_all(vec![
        Box::new(move || _ = read(&reader, 1, || before.load(Ordering::SeqCst))),
        Box::new(move || {
            after.store(1, Ordering::SeqCst);
            clearer.clear();
            assert_eq!(clearer.get(&2), None);
            assert_eq!(read(&clearer, 1, || after.load(Ordering::SeqCst)), 1);
        }),
    ]);
    assert!(cache.get(&1).is_none_or(|value| value == 1));
    cache.purge_expired();
    validate(&cache);
}

fn a_leader_that_leaves_leaves_nobody_waiting() {
    let (cache, led) = (cache(10, Eviction::S3Fifo), Arc::new(AtomicU64::new(0)));
    let task = |leaves: bool| -> Box<dyn FnOnce() + Send> {
        let (cache, led) = (cache.clone(), Arc::clone(&led));
        Box::new(move || {
            let fill = match cache.lookup(&1) {
                Lookup::Hit(value) => return assert_eq!(value, 7),
                Lookup::Lead(fill) => fill,
                // Leaving a seat is what a cancelled future does.
                Lookup::Follow(_) if leaves => return,
                Lookup::Follow(follower) => match follower.wait(None).unwrap() {
                    Outcome::Value(value) => return assert_eq!(value, 7),
                    Outcome::Failed(_) => panic!("no load fails here"),
                    Outcome::Lead(fill) => fill,
                },
            };
            led.fetch_add(1, Ordering::SeqCst);
            if !leaves {
                assert_eq!(fill.install(7, Expiry::Never), Installed::Stored);
            }
        })
    };
    spawn_all(vec![task(true), task(true), task(false)]);
    assert_eq!(cache.get(&1), Some(7), "the one who stayed did not get to load");
    assert!(led.load(Ordering::SeqCst) <= 3);
    validate(&cache);
}

fn a_failure_reaches_all_and_is_not_kept() {
    let (cache, calls) = (cache(10, Eviction::S3Fifo), Arc::new(AtomicU64::new(0)));
    let task = || -> Box<dyn FnOnce() + Send> {
        let (cache, calls) = (cache.clone(), Arc::clone(&calls));
        Box::new(move || {
            let made = cache.try_get_or_insert_with(&1, || Err::<u64, _>(calls.fetch_add(1, Ordering::SeqCst)));
            assert!(made.is_err());
        })
    };
    spawn_all(vec![task(), task()]);
    assert!((1..=2).contains(&calls.load(Ordering::SeqCst)));
    assert_eq!((cache.get(&1), cache.get_or_insert_with(&1, || 3)), (None, 3));
    validate(&cache);
}

fn bytes_stay_bounded() {
    for eviction in [Eviction::S3Fifo, Eviction::Lru] {
        let cache = cache(2, eviction);
        let task = |first: u64| -> Box<dyn FnOnce() + Send> {
            let cache = cache.clone();
            Box::new(move || {
                for key in [first, first + 1, 0] {
                    cache.insert(key, key).unwrap();
                    assert!(cache.weight() <= 2 && cache.get(&key).is_none_or(|value| value == key));
                }
                cache.remove(&first);
            })
        };
        spawn_all(vec![task(1), task(2)]);
        validate(&cache);
        assert!(cache.len() <= 2);
    }
}

fn a_write_that_was_not_judged_stays() {
    let cache = cache(10, Eviction::S3Fifo);
    cache.insert(1, 0).unwrap();
    let (judge, writer) = (cache.clone(), cache.clone());
    spawn_all(vec![
        Box::new(move || _ = judge.retain(|_, value| *value != 0)),
        Box::new(move || writer.insert(1, 1).unwrap()),
    ]);
    assert_eq!(cache.get(&1), Some(1), "the new value went with the verdict on the old one");
}

fn reads_see_whole_values_and_are_all_counted() {
    let cache = cache(1, Eviction::S3Fifo);
    let seen = Arc::new(Mutex::new(0));
    let writer = cache.clone();
    let reader = || -> Box<dyn FnOnce() + Send> {
        let (cache, seen) = (cache.clone(), Arc::clone(&seen));
        Box::new(move || {
            for key in [1, 2] {
                let value = cache.get(&key);
                assert!(value.is_none_or(|value| value / 10 == key), "a value of another key");
                *seen.lock().unwrap() += u64::from(value.is_some());
            }
        })
    };
    spawn_all(vec![
        Box::new(move || {
            for value in [10, 20, 11, 21] {
                writer.insert(value / 10, value).unwrap();
            }
        }),
        reader(),
        reader(),
    ]);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.hits + stats.misses), (*seen.lock().unwrap(), 4));
}

fn lookups_are_counted_as_what_they_gave() {
    let cache = cache(10, Eviction::S3Fifo);
    let (reader, writer) = (cache.clone(), cache.clone());
    let hit = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&hit);
    spawn_all(vec![
        Box::new(move || {
            if let Lookup::Hit(value) = reader.lookup(&1) {
                seen.store(value, Ordering::SeqCst);
            }
        }),
        Box::new(move || writer.insert(1, 1).unwrap()),
    ]);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.hits + stats.misses), (hit.load(Ordering::SeqCst), 1));
}

fn clears_at_once_lose_nothing() {
    let cache = cache(4, Eviction::S3Fifo);
    let task = |key: u64| -> Box<dyn FnOnce() + Send> {
        let cache = cache.clone();
        Box::new(move || {
            cache.insert(key, key).unwrap();
            cache.clear();
            assert_eq!(cache.get(&key), None);
            cache.insert(key + 10, key).unwrap();
        })
    };
    spawn_all(vec![task(1), task(2)]);
    cache.purge_expired();
    validate(&cache);
    assert!(cache.len() <= 2 && cache.weight() == cache.len() as u64);
}
