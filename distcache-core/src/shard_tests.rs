//! A shard beside a model of it that is too simple to be wrong: after every step they hold the same, in the same order, and
//! have counted the same.

use std::{collections::HashMap, sync::Arc};

use proptest::prelude::*;

use super::*;

type Key = u8;

#[derive(Debug, Clone)]
enum Step {
    Insert { key: Key, weight: u64, ttl: Option<u64> },
    Get(Key),
    Peek(Key),
    Remove(Key),
    Lookup(Key),
    Install { which: usize, weight: u64, ttl: Option<u64> },
    Land { which: usize },
    Clear,
    Advance(u64),
    Reclaim(usize),
    Compact,
    Resize(u64),
}

/// Lifetimes and leaps are multiples of this, while each step takes one nanosecond: no two deadlines are equal, so
/// the model need not know how the shard breaks a tie.
const UNIT: u64 = 1_000;
const KEYS: Key = 12;
const LIMIT: u64 = 100;

fn step() -> impl Strategy<Value = Step> {
    let ttl = || prop_oneof![Just(None), (0..6_u64).prop_map(|units| Some(units * UNIT))];
    // Now and then more than the limit.
    let weight = || prop_oneof![9 => 1..40_u64, 1 => 90..120_u64];
    prop_oneof![
        6 => (0..KEYS, weight(), ttl()).prop_map(|(key, weight, ttl)| Step::Insert { key, weight, ttl }),
        4 => (0..KEYS).prop_map(Step::Get),
        1 => (0..KEYS).prop_map(Step::Peek),
        2 => (0..KEYS).prop_map(Step::Remove),
        4 => (0..KEYS).prop_map(Step::Lookup),
        3 => (0..4_usize, weight(), ttl()).prop_map(|(which, weight, ttl)| Step::Install { which, weight, ttl }),
        1 => (0..4_usize).prop_map(|which| Step::Land { which }),
        1 => Just(Step::Clear),
        3 => (0..4_u64).prop_map(|units| Step::Advance(units * UNIT)),
        1 => (0..6_usize).prop_map(Step::Reclaim),
        1 => Just(Step::Compact),
        1 => prop_oneof![Just(0), 30..LIMIT * 2].prop_map(Step::Resize),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    key: Key,
    value: u64,
    weight: u64,
    deadline: Tick,
}

/// A load that somebody leads.
struct Led {
    flight: Arc<Flight<Key, u64>>,
    epoch: u64,
    poisoned: bool,
}

/// What the shard must do, as lists.
struct Model {
    /// The least recently used first.
    held: Vec<Held>,
    /// What was cleared and still counts, in the order in which it goes.
    graves: Vec<Held>,
    led: Vec<Led>,
    /// Which of `led` can be joined.
    joinable: HashMap<Key, usize>,
    limit: u64,
    epoch: u64,
    stats: Stats,
}

impl Model {
    fn new() -> Self {
        Self {
            held: Vec::new(),
            graves: Vec::new(),
            led: Vec::new(),
            joinable: HashMap::new(),
            limit: LIMIT,
            epoch: 0,
            stats: Stats::default(),
        }
    }

    fn weight(&self) -> u64 {
        self.held.iter().chain(&self.graves).map(|held| held.weight).sum()
    }

    fn bury(&mut self, at: usize) {
        self.stats.expired += 1;
        self.held.remove(at);
    }

    /// Where the key is, if it may be served. A dead entry that is met goes.
    fn meet(&mut self, key: Key, now: Tick) -> Option<usize> {
        let at = self.held.iter().position(|held| held.key == key)?;
        if self.held[at].deadline <= now {
            self.bury(at);
            return None;
        }
        Some(at)
    }

    fn get(&mut self, key: Key, now: Tick) -> Option<u64> {
        let at = self.meet(key, now)?;
        let held = self.held.remove(at);
        self.held.push(held.clone());
        Some(held.value)
    }

    fn remove(&mut self, key: Key, now: Tick) -> Option<u64> {
        let at = self.meet(key, now)?;
        self.stats.removals += 1;
        Some(self.held.remove(at).value)
    }

    fn fence(&mut self, key: Key) {
        if let Some(which) = self.joinable.remove(&key) {
            self.led[which].poisoned = true;
        }
    }

    fn put(&mut self, held: Held, now: Tick) {
        match self.meet(held.key, now) {
            Some(at) => {
                self.held.remove(at);
                self.stats.updates += 1;
            }
            None => self.stats.inserts += 1,
        }
        self.held.push(held);
        self.reclaim(RECLAIMED_A_WRITE, now);
        self.shrink(now);
    }

    fn shrink(&mut self, now: Tick) {
        while self.weight() > self.limit {
            if self.reclaim(1, now) == 0 {
                self.held.remove(0);
                self.stats.evictions += 1;
            }
        }
    }

    fn reclaim(&mut self, count: usize, now: Tick) -> usize {
        for done in 0..count {
            let first_over = (0..self.held.len()).min_by_key(|at| self.held[*at].deadline);
            if !self.graves.is_empty() {
                self.graves.remove(0);
                self.stats.removals += 1;
            } else if let Some(at) = first_over.filter(|at| self.held[*at].deadline <= now) {
                self.bury(at);
            } else {
                return done;
            }
        }
        count
    }

    /// Leads are numbered as they stand, so one that ended moves the others up.
    fn end(&mut self, which: usize) -> Led {
        self.joinable.retain(|_, joinable| *joinable != which);
        self.joinable.values_mut().filter(|joinable| **joinable > which).for_each(|joinable| *joinable -= 1);
        self.led.remove(which)
    }
}

fn place(key: Key) -> Place {
    // Few tags: most keys share theirs with others.
    Place { shard: 0, tag: u32::from(key % 3) }
}

fn entry(key: Key, value: u64, weight: u64, deadline: Tick) -> NewEntry<Key, u64> {
    NewEntry { tag: place(key).tag, key, value, weight, deadline }
}

fn deadline(now: Tick, ttl: Option<u64>) -> Tick {
    ttl.map_or(Tick::MAX, |ttl| Tick(now.0 + ttl))
}

/// Takes one step on both sides and compares what they return.
fn take(step: &Step, shard: &mut Shard<Key, u64>, model: &mut Model, now: Tick) {
    let garbage = &mut Garbage::new();
    let value = now.0;
    match *step {
        Step::Insert { key, weight, ttl } => {
            let deadline = deadline(now, ttl);
            let got = shard.insert(entry(key, value, weight, deadline), now, garbage);
            model.fence(key);
            let (limit, too_large) = (model.limit, weight > model.limit && ttl != Some(0));
            if too_large || ttl == Some(0) {
                model.remove(key, now);
                model.stats.rejected += u64::from(too_large);
            } else {
                model.put(Held { key, value, weight, deadline }, now);
            }
            assert_eq!(got, if too_large { Err(InsertError::TooLarge { weight, limit }) } else { Ok(()) });
        }
        Step::Get(key) => assert_eq!(shard.get(place(key).tag, &key, now, garbage), model.get(key, now)),
        Step::Peek(key) => {
            let held = model.held.iter().find(|held| held.key == key);
            let endless = model.held.iter().all(|held| held.deadline == Tick::MAX);
            assert_eq!(shard.store.is_endless(), endless);
            match (shard.sight(place(key).tag, &key, now), held) {
                (Sight::Absent, None) => {}
                (Sight::Dead, Some(held)) => assert!(held.deadline <= now),
                (Sight::Alive(at), Some(held)) => assert!(held.deadline > now && *shard.value(at) == held.value),
                (sight, held) => panic!("{sight:?} of {held:?}"),
            }
        }
        Step::Remove(key) => {
            let got = shard.remove(place(key).tag, &key, now, garbage).map(|(_, value)| value);
            model.fence(key);
            assert_eq!(got, model.remove(key, now));
        }
        Step::Lookup(key) => {
            let got = shard.join(place(key).tag, &key, now, garbage);
            let hit = model.get(key, now);
            let joinable = model.joinable.get(&key).copied();
            match got {
                Some(Joined::Hit(value)) => assert_eq!(Some(value), hit),
                Some(Joined::Follow(flight, _)) => {
                    let which = joinable.expect("the model knows the flight");
                    assert!(hit.is_none() && Arc::ptr_eq(&flight, &model.led[which].flight));
                    assert_eq!(model.led[which].epoch, model.epoch, "a flight of an earlier epoch was joined");
                    model.stats.coalesced += 1;
                }
                Some(Joined::Lead(_)) => panic!("a join does not lead"),
                None => {
                    assert!(hit.is_none());
                    assert!(joinable.is_none_or(|which| model.led[which].epoch != model.epoch), "not joined");
                    model.fence(key);
                    let flight = shard.lead(place(key), key);
                    model.stats.loads += 1;
                    model.joinable.insert(key, model.led.len());
                    model.led.push(Led { flight, epoch: model.epoch, poisoned: false });
                }
            }
        }
        Step::Install { which, weight, ttl } if which < model.led.len() => {
            let Led { flight, epoch, poisoned } = model.end(which);
            let (key, deadline) = (flight.key, deadline(now, ttl));
            let got = shard.install(&flight, entry(key, value, weight, deadline), now, garbage);
            let wanted = if poisoned {
                Installed::Poisoned
            } else if epoch != model.epoch {
                Installed::Stale
            } else if ttl == Some(0) {
                Installed::Expired
            } else if weight > model.limit {
                Installed::TooLarge
            } else {
                Installed::Stored
            };
            assert_eq!(got, wanted);
            match got {
                Installed::Stored => model.put(Held { key, value, weight, deadline }, now),
                Installed::Poisoned | Installed::Stale => model.stats.poisoned += 1,
                Installed::TooLarge => model.stats.rejected += 1,
                Installed::Expired => {}
            }
        }
        Step::Land { which } if which < model.led.len() => shard.detach(&model.end(which).flight, garbage),
        Step::Install { .. } | Step::Land { .. } | Step::Advance(_) => {}
        Step::Clear => {
            model.epoch += 1;
            let mut slots = Vec::new();
            shard.store.walk(Cursor::default(), usize::MAX, |at| slots.push(held(shard, at)));
            model.graves.append(&mut slots);
            model.held.clear();
            shard.sync(model.epoch);
        }
        Step::Reclaim(count) => assert_eq!(shard.reclaim(count, now, garbage), model.reclaim(count, now)),
        Step::Compact => shard.compact(),
        Step::Resize(limit) => {
            while !shard.resize(limit, 2, now, garbage) {}
            model.limit = limit;
            model.shrink(now);
        }
    }
}

fn held(shard: &Shard<Key, u64>, at: u32) -> Held {
    let entry = shard.store.entry(at);
    let (weight, deadline) = (u64::from(entry.node.weight), shard.store.deadline(at));
    Held { key: entry.key, value: entry.value, weight, deadline }
}

fn compare(shard: &Shard<Key, u64>, model: &Model) {
    let held: Vec<_> = shard.validate().into_iter().map(|at| held(shard, at)).collect();
    assert!(held.iter().eq(model.held.iter().rev()), "the shard holds {held:?}, the model {:?}", model.held);
    let entries = model.held.len() as u64;
    assert_eq!(shard.stats(), Stats { entries, weight: model.weight(), ..model.stats });
    assert_eq!(shard.flights().len(), model.joinable.len());
    assert!(model.led.iter().all(|led| led.flight.is_poisoned() == led.poisoned));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn a_shard_does_what_its_model_does(steps in prop::collection::vec(step(), 1..120)) {
        let (mut shard, mut model, mut now) = (Shard::new(LIMIT, Eviction::Lru, None), Model::new(), Tick(1));
        for step in &steps {
            now.0 += 1;
            if let Step::Advance(span) = step {
                now.0 += span;
            }
            take(step, &mut shard, &mut model, now);
            compare(&shard, &model);
        }
    }
}

#[test]
fn a_storm_of_short_lives_leaves_no_queue_behind() {
    // What moka#590 saw: the same keys, written again and again with times to live, grow the queue of deadlines.
    let (mut shard, garbage) = (Shard::new(u64::MAX, Eviction::Lru, None), &mut Garbage::new());
    for round in 0..20_000_u64 {
        let now = Tick(round);
        let key = (round % 7) as Key;
        shard.insert(entry(key, round, 1, Tick(round + 1_000_000)), now, garbage).unwrap();
        *garbage = Garbage::new();
    }
    shard.validate();
    assert_eq!(shard.len(), 7);
    assert!(shard.store.queue_capacity() <= 16, "{} places for 7 entries", shard.store.queue_capacity());
}

#[test]
fn dead_entries_leave_by_later_writes_alone() {
    let (mut shard, garbage) = (Shard::new(u64::MAX, Eviction::Lru, None), &mut Garbage::new());
    for key in 0..200 {
        shard.insert(entry(key, 0, 1, Tick(10)), Tick(1), garbage).unwrap();
    }
    for write in 0..50_u64 {
        shard.insert(entry(255, write, 1, Tick::MAX), Tick(20), garbage).unwrap();
    }
    shard.validate();
    assert_eq!((shard.len(), shard.stats().expired, shard.stats().evictions), (1, 200, 0));
}

#[test]
fn compaction_keeps_the_order_and_a_walk_misses_nothing() {
    let (mut shard, garbage) = (Shard::new(u64::MAX, Eviction::Lru, None), &mut Garbage::new());
    let keys =
        |shard: &Shard<u16, u64>| shard.hottest(usize::MAX, Tick(1)).into_iter().map(|hot| hot.0).collect::<Vec<_>>();
    for key in 0..3_000_u16 {
        let entry = NewEntry { tag: u32::from(key), key, value: 0, weight: 1, deadline: Tick(u64::from(4_000 - key)) };
        shard.insert(entry, Tick(1), garbage).unwrap();
    }
    let mut seen = Vec::new();
    let mut next = shard.copy(Cursor::default(), 300, Tick(1), |_| (), &mut seen);
    for key in (0..3_000_u16).filter(|key| key % 10 != 0) {
        shard.remove(u32::from(key), &key, Tick(1), garbage);
    }
    let before = keys(&shard);
    assert!(shard.store.slots() > 3_000);
    shard.compact();
    shard.validate();
    assert!(shard.store.slots() <= 420, "{} slots for 300 entries", shard.store.slots());
    assert_eq!(keys(&shard), before);
    while let Some(cursor) = next {
        next = shard.copy(cursor, 300, Tick(1), |_| (), &mut seen);
    }
    assert!(before.iter().all(|key| seen.iter().any(|(seen, ..)| seen == key)), "an entry was moved past the walk");
}

#[test]
fn the_last_cleared_entry_takes_the_memory_of_all_along() {
    let (mut shard, garbage) = (Shard::new(u64::MAX, Eviction::S3Fifo, None), &mut Garbage::new());
    for key in 0..100_u32 {
        let entry = NewEntry { tag: key, key, value: (), weight: 1, deadline: Tick::MAX };
        shard.insert(entry, Tick(1), garbage).unwrap();
    }
    shard.sync(1);
    assert!(shard.has_dead(Tick(1)));
    // Exactly as many as there are: whoever reclaims in batches has no reason to come back.
    assert_eq!(shard.reclaim(100, Tick(1), garbage), 100);
    assert!(!shard.has_dead(Tick(1)));
    assert_eq!(shard.graves.capacity(), 0, "the table of what was cleared is held");
}
