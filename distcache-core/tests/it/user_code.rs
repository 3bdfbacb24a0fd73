//! Code of the cache's user, called by the cache: none under a lock, and a panic in it harms nobody else.

use std::{
    borrow::Borrow,
    cell::Cell,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use distcache_core::{Cache, Expiry, ManualClock};

use crate::support::{Alarm, PATIENCE, assert_exact, follow, handed, lead, poll, value};

thread_local! {
    static TRAP: Cell<Option<Trap>> = const { Cell::new(None) };
}

/// The next call of which user code panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trap {
    Hash,
    Eq,
    CloneKey,
    CloneValue,
    DropKey,
    DropValue,
    Weigh,
}

const TRAPS: [Trap; 7] =
    [Trap::Hash, Trap::Eq, Trap::CloneKey, Trap::CloneValue, Trap::DropKey, Trap::DropValue, Trap::Weigh];

fn spring(trap: Trap) {
    if TRAP.get() == Some(trap) {
        TRAP.set(None);
        panic!("{trap:?} was trapped");
    }
}

#[derive(Debug)]
struct Key(u32);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        spring(Trap::Hash);
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        spring(Trap::Eq);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        spring(Trap::CloneKey);
        Self(self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            spring(Trap::DropKey);
        }
    }
}

/// Counts how many of it there are.
#[derive(Debug)]
struct Value(u32, Arc<AtomicUsize>);

impl Value {
    fn new(value: u32, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(value, Arc::clone(alive))
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        spring(Trap::CloneValue);
        Self::new(self.0, &self.1)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
        if !std::thread::panicking() {
            spring(Trap::DropValue);
        }
    }
}

/// Calls everything, with a trap somewhere on the way.
fn exercise(cache: &Cache<Key, Value>, clock: &ManualClock, alive: &Arc<AtomicUsize>, step: u32) {
    let (key, value) = (|| Key(step % 5), || Value::new(step, alive));
    match step % 13 {
        0 => _ = cache.insert(key(), value()),
        1 => _ = cache.insert_with(key(), value(), Expiry::After(Duration::from_secs(1))),
        2 => _ = cache.get(&key()),
        3 => _ = cache.remove(&key()),
        4 => _ = cache.get_or_insert_with(&key(), value),
        5 => _ = cache.lookup(&key()),
        6 => _ = cache.retain(|key, _| key.0 % 2 == 0),
        7 => _ = cache.invalidate_where(|key| key.0 == 3),
        8 => _ = cache.hottest(3),
        9 => clock.advance(Duration::from_secs(1)),
        10 => _ = cache.purge_expired(),
        11 => cache.resize(u64::from(step % 3) * 400),
        _ => cache.clear(),
    }
}

#[test]
fn a_panic_anywhere_in_user_code_leaves_the_cache_whole() {
    let clock = ManualClock::new();
    let builder = Cache::<Key, Value>::builder(800).shards(1).clock(clock.clone());
    let builder = builder.weigher(|_, _| {
        spring(Trap::Weigh);
        0
    });
    let cache = builder.build().unwrap();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut sprung = [0; TRAPS.len()];
    for round in 0..20_000_u32 {
        // Steps that are neither in step with the traps nor with the keys.
        let step = round.wrapping_mul(2_654_435_761) >> 7;
        let trap = (round as usize / 3) % TRAPS.len();
        TRAP.set((round % 3 == 0).then_some(TRAPS[trap]));
        let panicked = catch_unwind(AssertUnwindSafe(|| exercise(&cache, &clock, &alive, step))).is_err();
        TRAP.set(None);
        sprung[trap] += usize::from(panicked);
        let stats = cache.stats();
        assert!(stats.weight <= cache.capacity());
    }
    assert!(sprung.iter().all(|times| *times > 20), "some traps were hardly sprung: {sprung:?}");
    cache.resize(800);
    cache.clear();
    cache.purge_expired();
    assert_exact(cache.stats());
    assert_eq!((cache.weight(), alive.load(Ordering::SeqCst)), (0, 0), "values were lost in a panic");
    cache.insert(Key(1), Value::new(1, &alive)).unwrap();
    assert_eq!(cache.get(&Key(1)).unwrap().0, 1);
}

#[test]
fn a_drop_that_panics_during_a_lookup_does_not_wedge_the_key() {
    let (clock, alive) = (ManualClock::new(), Arc::new(AtomicUsize::new(0)));
    let builder = Cache::<Key, Value>::builder(1 << 20).weigher(|_, _| 0);
    let cache = builder.clock(clock.clone()).build().unwrap();
    cache.insert_with(Key(1), Value::new(1, &alive), Expiry::After(Duration::from_secs(1))).unwrap();
    clock.advance(Duration::from_secs(1));
    // The lookup leads, and drops the value that is over.
    TRAP.set(Some(Trap::DropValue));
    assert!(catch_unwind(AssertUnwindSafe(|| cache.lookup(&Key(1)))).is_err());
    drop(lead(cache.lookup(&Key(1))));
    // The lookup follows, and drops its key.
    let fill = lead(cache.lookup(&Key(1)));
    TRAP.set(Some(Trap::DropKey));
    assert!(catch_unwind(AssertUnwindSafe(|| cache.lookup(&Key(1)))).is_err());
    drop(fill);
    drop(lead(cache.lookup(&Key(1))));
}

/// Calls the cache whenever it is dropped, which would stand still for ever under the lock of its shard.
struct Nosy(Weak<Cache<u32, Arc<Self>>>, Arc<AtomicUsize>);

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(cache) = self.0.upgrade() {
            self.1.fetch_add(1, Ordering::SeqCst);
            let _ = (cache.get(&1), cache.len(), cache.remove(&1));
        }
    }
}

#[test]
fn values_are_dropped_under_no_lock() {
    let clock = ManualClock::new();
    let builder = Cache::<u32, Arc<Nosy>>::builder(1_000).shards(1).weigher(|_, _| 100);
    let cache = Arc::new(builder.clock(clock.clone()).build().unwrap());
    let dropped = Arc::new(AtomicUsize::new(0));
    let value = || Arc::new(Nosy(Arc::downgrade(&cache), Arc::clone(&dropped)));
    let drops = |what: &str, wanted: usize| assert_eq!(dropped.swap(0, Ordering::SeqCst), wanted, "{what}");
    let mortal = || cache.insert_with(7, value(), Expiry::After(Duration::from_secs(1))).unwrap();

    cache.insert(7, value()).unwrap();
    cache.insert(7, value()).unwrap();
    drops("replacing", 1);
    cache.remove(&7);
    drops("removing", 1);
    (10..20).for_each(|key| cache.insert(key, value()).unwrap());
    assert!(dropped.swap(0, Ordering::SeqCst) > 0, "evicting");
    cache.resize(0);
    assert!(dropped.swap(0, Ordering::SeqCst) > 0, "resizing");
    assert!(cache.insert(7, value()).is_err());
    drops("refusing", 1);
    cache.resize(1_000);
    mortal();
    clock.advance(Duration::from_secs(1));
    assert!(cache.get(&7).is_none());
    drops("reading what is over", 1);
    mortal();
    clock.advance(Duration::from_secs(1));
    cache.purge_expired();
    drops("purging", 1);
    cache.insert(7, value()).unwrap();
    cache.clear();
    cache.insert(8, value()).unwrap();
    drops("writing after clearing", 1);
    cache.retain(|_, _| false);
    drops("retaining", 1);
    let fill = lead(cache.lookup(&7_u32));
    cache.remove(&7);
    fill.install(value(), Expiry::Default);
    drops("not storing what was fenced", 1);
    lead(cache.lookup(&7_u32)).deliver(value());
    drops("delivering to nobody", 1);
}

/// Compares like its number, and looks into the cache when it is dropped.
struct NosyKey(u32, Weak<Cache<Self, u32>>, Arc<AtomicUsize>);

impl Clone for NosyKey {
    fn clone(&self) -> Self {
        Self(self.0, Weak::clone(&self.1), Arc::clone(&self.2))
    }
}

impl Hash for NosyKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for NosyKey {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for NosyKey {}

impl Borrow<u32> for NosyKey {
    fn borrow(&self) -> &u32 {
        &self.0
    }
}

impl Drop for NosyKey {
    fn drop(&mut self) {
        if let Some(cache) = self.1.upgrade() {
            self.2.fetch_add(1, Ordering::SeqCst);
            let _ = cache.peek(&1_u32);
        }
    }
}

#[test]
fn keys_are_dropped_under_no_lock() {
    let cache = Arc::new(Cache::<NosyKey, u32>::builder(1_000).shards(1).weigher(|_, _| 100).build().unwrap());
    let dropped = Arc::new(AtomicUsize::new(0));
    let key = |key| NosyKey(key, Arc::downgrade(&cache), Arc::clone(&dropped));
    for number in 0..20 {
        cache.insert(key(number), number).unwrap();
        cache.insert(key(number), number).unwrap();
    }
    let fill = lead(cache.lookup(&key(30)));
    // The keys of those who hit or follow are not needed.
    drop((cache.lookup(&key(19)), follow(cache.lookup(&key(30)))));
    cache.remove(&30_u32);
    fill.install(1, Expiry::Default);
    drop(lead(cache.lookup(&key(31))));
    cache.retain(|key, _| key.0 % 2 == 0);
    cache.invalidate_where(|_| true);
    assert!(cache.is_empty());
    assert!(dropped.load(Ordering::SeqCst) > 50);
}

/// Looks into the cache when it is woken, cloned or dropped.
struct NosyWaker(Cache<String, u32>);

impl Wake for NosyWaker {
    fn wake(self: Arc<Self>) {
        let _ = (self.0.get("a"), self.0.len());
    }
}

impl Drop for NosyWaker {
    fn drop(&mut self) {
        let _ = (self.0.get("a"), self.0.len());
    }
}

#[test]
fn wakers_are_called_and_dropped_under_no_lock() {
    let cache = Cache::<String, u32>::builder(1 << 20).shards(1).build().unwrap();
    let poll_nosily = |follower: &mut distcache_core::Follower<String, u32>| {
        let waker = Waker::from(Arc::new(NosyWaker(cache.clone())));
        assert!(Pin::new(follower).poll(&mut Context::from_waker(&waker)).is_pending());
    };
    let fill = lead(cache.lookup("a"));
    let [mut replaced, mut woken, mut dropped] = [(); 3].map(|()| follow(cache.lookup("a")));
    poll_nosily(&mut replaced);
    poll_nosily(&mut replaced);
    poll_nosily(&mut dropped);
    drop(dropped);
    poll_nosily(&mut woken);
    drop(fill);
    drop(handed(replaced.wait(PATIENCE)));
    handed(woken.wait(PATIENCE)).install(1, Expiry::Default);
    assert_eq!(cache.get("a"), Some(1));
}

struct Explosive;

impl Wake for Explosive {
    fn wake(self: Arc<Self>) {
        panic!("an executor with a bug");
    }
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_asleep() {
    let cache = Cache::<String, u32>::builder(1 << 20).build().unwrap();
    let fill = lead(cache.lookup("a"));
    let (mut first, mut second) = (follow(cache.lookup("a")), follow(cache.lookup("a")));
    let alarm = Arc::<Alarm>::default();
    let explosive = Waker::from(Arc::new(Explosive));
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&explosive)).is_pending());
    assert!(poll(Pin::new(&mut second), &alarm).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| fill.install(1, Expiry::Default))).is_err());
    assert_eq!(alarm.rings(), 1);
    assert_eq!((value(second.wait(PATIENCE)), value(first.wait(PATIENCE)), cache.get("a")), (1, 1, Some(1)));
}

#[test]
fn a_weigher_that_panics_passes_the_load_on() {
    let weigh = |_: &String, value: &u32| if *value == 13 { panic!("unlucky") } else { 0 };
    let cache = Cache::<String, u32>::builder(1 << 20).weigher(weigh).build().unwrap();
    cache.insert("b".into(), 1).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| cache.insert("b".into(), 13))).is_err());
    assert_eq!(cache.get("b"), Some(1));
    let fill = lead(cache.lookup("a"));
    let follower = follow(cache.lookup("a"));
    assert!(catch_unwind(AssertUnwindSafe(|| fill.install(13, Expiry::Default))).is_err());
    handed(follower.wait(PATIENCE)).install(2, Expiry::Default);
    assert_eq!(cache.get("a"), Some(2));
}
