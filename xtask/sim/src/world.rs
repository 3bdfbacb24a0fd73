//! The truth: one versioned table behind all data sources, and what every node may say of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    network::Micros,
    reads::Open,
    rules::Rule,
    scenario::Writers,
    source::{KEYS, is_contested, is_put},
    talk::Talk,
    trace::Trace,
};

/// The truth of one run. Clones share it.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<Truth>>);

/// How a node's data source behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    Slow(u64),
    Failing,
    Hanging,
}

/// A value came to a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) at: Micros,
    /// The key was another's, as far as the process knew: the value is there in its place, and for a short time.
    pub(crate) acts: bool,
}

/// One process of a node.
pub(crate) type Life = (usize, u64);

pub(crate) struct Truth {
    pub(crate) rng: StdRng,
    pub(crate) rows: Vec<Row>,
    pub(crate) moods: Vec<Mood>,
    /// What a process may not go behind: it deleted up to that version, and was told that it is done.
    pub(crate) floors: BTreeMap<(Life, usize), u64>,
    /// What a process may not give from memory: it took in that this version is there, or wrote it.
    memory_floors: BTreeMap<(Life, usize), u64>,
    /// Of those, what it learnt by hearing that events are lost.
    pub(crate) lost: BTreeMap<(Life, usize), u64>,
    /// Of those, what it learnt when the keyspace was emptied.
    pub(crate) emptied: BTreeMap<(Life, usize), u64>,
    /// What a process told by emptying the keyspace itself.
    pub(crate) clears: BTreeMap<(Life, usize), u64>,
    /// Since when a process loads a key.
    pub(crate) loading: BTreeMap<(Life, usize), Micros>,
    /// When a process last had a key from its source, or by a put.
    pub(crate) loads: BTreeMap<(Life, usize), Load>,
    /// When a process was last given a key by a leaver, and the version there was then.
    pub(crate) gifts: BTreeMap<(Life, usize), (Micros, u64)>,
    /// Nothing is done to the cluster but that nodes leave and come back, stores are swept at once, and no word is forgotten.
    pub(crate) only_leaves: bool,
    /// What clients are reading.
    pub(crate) open: BTreeMap<(Life, usize), Open>,
    pub(crate) talk: Talk,
    /// Whose clients write.
    pub(crate) writers: Writers,
    /// Since when each process has the keyspace.
    definitions: BTreeMap<Life, Micros>,
    /// When the last deletion of the keyspace began that returned.
    deletion: Option<Micros>,
    /// The process of each machine; of one that is off, the last.
    pub(crate) lives: Vec<Life>,
    pub(crate) beliefs: Vec<Belief>,
    /// When each of these began.
    pub(crate) births: Vec<Micros>,
    pub(crate) calm: bool,
    /// When something was last broken, or a node's view last moved.
    pub(crate) disturbed: Micros,
    /// When a node's view last moved, or a process began.
    pub(crate) moved: Micros,
    pub(crate) now: Micros,
    /// Until when loads may be cut short by what a view or a held lane brings.
    pub(crate) noisy_until: Micros,
    pub(crate) counts: Counts,
    /// Of every value that was read.
    pub(crate) trace: Trace,
    pub(crate) loud: bool,
    pub(crate) violations: Vec<String>,
}

/// What a node believes of the ring.
#[derive(Debug, Clone, Default)]
pub(crate) struct Belief {
    /// When it last changed.
    pub(crate) since: Micros,
    /// Of each key, whether it is this node's.
    pub(crate) owns: Vec<bool>,
    /// Of each key, when it last ceased to be.
    pub(crate) lost: Vec<Micros>,
    /// When its members last stayed the same in a new view, as they do when it hears that the others had given it up.
    pub(crate) doubted: Option<Micros>,
}

impl Belief {
    fn new() -> Self {
        Self { since: 0, owns: vec![false; KEYS], lost: vec![0; KEYS], doubted: None }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) version: u64,
    /// The latest version whose write returned.
    pub(crate) returned: u64,
    /// A write never returned, for its process died: the database changed, and perhaps nobody was told.
    pub(crate) tainted: bool,
    /// The latest version whose write returned long enough ago to be known everywhere, where nothing is broken.
    delivered: u64,
    /// Writes that returned since then.
    returning: VecDeque<(Micros, u64)>,
    /// The latest version whose strict write was applied: nobody may go behind it.
    pub(crate) strict: u64,
    /// The latest version of which only an emptied keyspace tells.
    pub(crate) cleared: u64,
    /// All that returned, in order.
    history: Vec<(Micros, u64)>,
    /// The write of each version; of keys that are put by several nodes at once.
    spans: Vec<Span>,
    pub(crate) last_write: Micros,
    pub(crate) loads_at_rest: BTreeSet<usize>,
    pub(crate) loads_at_rest_count: u64,
    /// The processes that write it, with the version that each tells of.
    pub(crate) writers: BTreeMap<Life, u64>,
}

/// For how long a write was under way.
#[derive(Debug, Clone, Copy)]
struct Span {
    begun: Micros,
    returned: Option<Micros>,
    /// It may be under way still, and its writer has said, or will, that it is old.
    is_given_up: bool,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    /// Of those, how many emptied the whole keyspace.
    pub(crate) clears: u64,
    /// And how many were strict and applied.
    pub(crate) strict: u64,
    /// Keys that nodes were given by leavers.
    pub(crate) gifts: u64,
    /// Nodes that took leave before the end.
    pub(crate) leaves: u64,
    pub(crate) degraded: u64,
    pub(crate) loads: u64,
    pub(crate) moody_loads: u64,
    pub(crate) stale: u64,
    /// Reads that a node answered from its memory.
    pub(crate) memory_reads: u64,
    /// Of those, by a node that does not own the key.
    pub(crate) acting_reads: u64,
    /// Of those, from a copy under a lease.
    pub(crate) near_reads: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) slowest_read_ms: u64,
}

impl World {
    pub(crate) fn new(hosts: usize, seed: u64, loud: bool) -> Self {
        Self(Arc::new(Mutex::new(Truth {
            rng: StdRng::seed_from_u64(seed),
            rows: vec![Row::default(); KEYS],
            moods: vec![Mood::Well; hosts],
            floors: BTreeMap::new(),
            memory_floors: BTreeMap::new(),
            lost: BTreeMap::new(),
            emptied: BTreeMap::new(),
            clears: BTreeMap::new(),
            loading: BTreeMap::new(),
            loads: BTreeMap::new(),
            gifts: BTreeMap::new(),
            only_leaves: false,
            open: BTreeMap::new(),
            talk: Talk::default(),
            writers: Writers::All,
            definitions: BTreeMap::new(),
            deletion: None,
            lives: (0..hosts).map(|host| (host, 0)).collect(),
            births: vec![0; hosts],
            beliefs: vec![Belief::new(); hosts],
            calm: false,
            disturbed: 0,
            moved: 0,
            now: 0,
            noisy_until: 0,
            counts: Counts::default(),
            trace: Trace::default(),
            loud,
            violations: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Truth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Truth {
    pub(crate) fn set_mood(&mut self, host: usize, mood: Mood) {
        self.moods[host] = mood;
    }

    pub(crate) fn violate(&mut self, rule: Rule, what: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(format!("{rule} at {:.3} s: {what}", self.now as f64 / 1e6));
        }
    }

    /// A process begins.
    pub(crate) fn born(&mut self, life: Life) {
        self.lives[life.0] = life;
        self.births[life.0] = self.now;
        self.moved = self.now;
        self.beliefs[life.0] = Belief { since: self.now, ..Belief::new() };
    }

    /// A process goes on after a freeze: what it was about to keep is older than its own clock would say.
    pub(crate) fn thawed(&mut self, life: Life) {
        let now = self.now;
        self.loads.range_mut((life, 0)..=(life, KEYS)).for_each(|(_, load)| load.at = now);
    }

    /// A node believes in another ring.
    pub(crate) fn believes(&mut self, host: usize, is_same: bool, owns: Vec<bool>) {
        let (now, belief) = (self.now, &mut self.beliefs[host]);
        belief.doubted = is_same.then_some(now).or(belief.doubted);
        for (key, owns_now) in owns.iter().enumerate() {
            if belief.owns[key] && !owns_now {
                belief.lost[key] = now;
            }
        }
        (belief.since, belief.owns) = (now, owns);
    }

    pub(crate) fn version(&self, key: usize) -> u64 {
        self.rows[key].version
    }

    /// Returns the version of which a process knows that it is there, or is about to.
    pub(crate) fn known(&self, life: Life, key: usize) -> u64 {
        let writes = self.rows[key].writers.get(&life).copied().unwrap_or_default();
        let floor = self.memory_floors.get(&(life, key)).copied().unwrap_or_default();
        writes.max(floor).max(self.being_told(life, key))
    }

    /// Returns the version that a process may not go behind with what it holds itself.
    pub(crate) fn memory_floor(&self, life: Life, key: usize) -> u64 {
        // What a process that died put may arrive late, and is then the older one.
        let is_uncertain = self.rows[key].tainted && is_put(key);
        if is_uncertain { 0 } else { self.memory_floors.get(&(life, key)).copied().unwrap_or_default() }
    }

    /// A process has dropped what it held of a key from before a version.
    pub(crate) fn invalidated(&mut self, life: Life, key: usize, version: u64) {
        let floor = self.memory_floors.entry((life, key)).or_default();
        *floor = version.max(*floor);
        if self.loud {
            println!(
                "{:>11.6}  node {} has dropped key {key} from before version {version}",
                self.now as f64 / 1e6,
                life.0
            );
        }
    }

    /// A process has a key from its source, or by a put.
    pub(crate) fn loaded(&mut self, life: Life, key: usize) {
        let acts = !self.beliefs[life.0].owns[key];
        self.loads.insert((life, key), Load { at: self.now, acts });
        if self.loud {
            println!("{:>11.6}  node {} has key {key} anew", self.now as f64 / 1e6, life.0);
        }
    }

    /// The database changes; the write that tells the cache of it begins. Of a process that writes the key already, nothing comes.
    pub(crate) fn begin_write(&mut self, life: Life, key: usize) -> Option<u64> {
        let row = &mut self.rows[key];
        if row.writers.contains_key(&life) {
            return None;
        }
        row.version += 1;
        row.writers.insert(life, row.version);
        row.last_write = self.now;
        if is_contested(key) {
            row.spans.push(Span { begun: self.now, returned: None, is_given_up: false });
        }
        let version = row.version;
        self.counts.writes += 1;
        if is_put(key) {
            // An owner has what it puts before the write is over.
            self.loaded(life, key);
        }
        Some(version)
    }

    pub(crate) fn end_write(&mut self, life: Life, key: usize, version: u64, applied: bool) {
        let row = &mut self.rows[key];
        row.writers.remove(&life);
        row.returned = row.returned.max(version);
        row.returning.push_back((self.now, version));
        row.history.push((self.now, version));
        if let Some(span) = row.spans.get_mut(version as usize - 1) {
            (span.returned, span.is_given_up) = (Some(self.now), !applied);
        }
        row.last_write = self.now;
        self.invalidated(life, key, version);
        if is_put(key) {
            self.loaded(life, key);
        }
        if applied {
            let floor = self.floors.entry((life, key)).or_default();
            *floor = version.max(*floor);
        } else {
            self.counts.degraded += 1;
        }
    }

    /// Returns the latest version whose write had returned by then.
    pub(crate) fn returned_by(&self, key: usize, then: Micros) -> u64 {
        let history = &self.rows[key].history;
        let returned = history.iter().take_while(|(at, _)| *at < then).map(|(_, version)| *version).max();
        returned.filter(|_| !self.rows[key].tainted).unwrap_or_default()
    }

    /// Returns the version that nobody may go behind, because its write is known everywhere by now; none while something is broken.
    pub(crate) fn delivered(&mut self, key: usize) -> u64 {
        let row = &mut self.rows[key];
        while let Some((_, version)) = row.returning.pop_front_if(|(at, _)| *at + DELIVERED < self.now) {
            row.delivered = row.delivered.max(version);
        }
        if self.disturbed + LANES < self.now && !row.tainted { row.delivered } else { 0 }
    }

    /// Whether a version is older than the one that may not be gone behind.
    ///
    /// Of two puts under way at once either may come to the owner last, so that neither is older than the other. A put that
    /// began once another had returned must take its place; but one that was given up may still be on its way, and comes to the owner a
    /// moment before its writer's word that it is old. Where nothing has been broken for a while, that word has come.
    pub(crate) fn is_behind(&self, key: usize, version: u64, floor: u64) -> bool {
        let span = |version: u64| self.rows[key].spans.get((version as usize).checked_sub(1)?);
        let may_be_on_its_way = !self.calm && self.disturbed + LANES >= self.now;
        let at_once = match (span(version), span(floor)) {
            (Some(Span { returned, is_given_up, .. }), Some(Span { begun, .. })) => returned.is_none_or(|at| {
                let held_up = if *is_given_up && may_be_on_its_way { GIVEN_UP } else { 0 };
                at + held_up >= *begun
            }),
            _ => false,
        };
        version < floor && !at_once
    }

    /// A write that was applied was a strict one, and began then.
    ///
    /// It is one for the processes that its writer and its owner have met. Before all have met all, some are left out.
    pub(crate) fn end_strict_write(&mut self, key: usize, version: u64, begun: Micros) {
        if begun < self.moved + MEETING {
            return;
        }
        self.counts.strict += 1;
        let row = &mut self.rows[key];
        row.strict = row.strict.max(version);
    }

    /// A write is one of those of which an emptied keyspace tells.
    pub(crate) fn begin_clear(&mut self, life: Life, key: usize, version: u64) {
        let row = &mut self.rows[key];
        row.cleared = row.cleared.max(version);
        self.clears.insert((life, key), version);
    }

    /// A keyspace is being emptied: for a moment loads of any key may be cut short, on every node.
    pub(crate) fn emptying(&mut self) {
        self.noisy_until = self.noisy_until.max(self.now + DELIVERED);
    }

    /// A process has defined the keyspace.
    pub(crate) fn defined(&mut self, life: Life) {
        self.definitions.insert(life, self.now);
    }

    /// The keyspace was deleted, by one who began with it then.
    pub(crate) fn deleted(&mut self, begun: Micros) {
        self.deletion = self.deletion.max(Some(begun));
    }

    /// At rest nobody has a keyspace any more that was deleted since.
    pub(crate) fn check_definitions(&mut self, alive: &[Life]) {
        for life in alive {
            let defined = self.definitions.get(life).copied();
            if defined < self.deletion {
                let (node, deletion) = (life.0, self.deletion);
                let what =
                    format!("node {node} has the keyspace of {defined:?} us, and it was deleted at {deletion:?} us");
                self.violate(Rule::Epoch, what);
            }
        }
    }

    /// A process dies: what it was writing may never be told to anybody.
    pub(crate) fn died(&mut self, life: Life) {
        for row in &mut self.rows {
            row.tainted |= row.writers.remove(&life).is_some();
        }
        self.loading.retain(|(of, _), _| *of != life);
        self.forget_requests(life);
    }

    /// From here on nothing is written, and everything that was is known.
    pub(crate) fn rest(&mut self) {
        self.calm = true;
        self.loading.clear();
        self.moods.iter_mut().for_each(|mood| *mood = Mood::Well);
    }

    pub(crate) fn zipf(rng: &mut StdRng) -> usize {
        let rank = (KEYS as f64).powf(rng.random_range(0.0..1.0));
        (rank as usize - 1).min(KEYS - 1)
    }
}

const MAX_VIOLATIONS: usize = 20;
/// Lanes to whoever came stand by then: the longest back-off, a dial, a handshake.
const LANES: Micros = 10_000_000;
/// Once no view has moved for so long, every process has a lane to every other that it can reach.
const MEETING: Micros = 3_000_000;
/// For how long a put that was given up may be held up in the network: longer than any fault lasts, and over when the cluster is at rest.
const GIVEN_UP: Micros = 20_000_000;
/// As a word takes between nodes, and somewhat more: at the end of it the last reader has it.
const DELIVERED: Micros = 300_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [Life; 2] = [(0, 1), (1, 1)];

    fn write(truth: &mut Truth, life: Life, key: usize, from: Micros, until: Micros) -> u64 {
        truth.now = from;
        let version = truth.begin_write(life, key).unwrap();
        truth.now = until;
        truth.end_write(life, key, version, true);
        version
    }

    #[test]
    fn of_two_puts_at_once_either_may_stay_and_of_two_in_a_row_the_later() {
        let (world, contested) = (World::new(2, 0, false), 4);
        let mut truth = world.lock();
        let first = write(&mut truth, NODES[0], contested, 0, 10);
        let second = write(&mut truth, NODES[1], contested, 20, 40);
        truth.now = 30;
        let third = truth.begin_write(NODES[0], contested).unwrap();
        truth.now = 50;
        truth.end_write(NODES[0], contested, third, true);
        assert!(is_contested(contested) && truth.is_behind(contested, first, second));
        assert!(!truth.is_behind(contested, second, third), "they were under way together");
        assert!(truth.is_behind(contested, first, third));
    }

    #[test]
    fn put_that_was_given_up_may_stay_until_its_writers_word_has_come() {
        let (world, contested) = (World::new(2, 0, false), 4);
        let mut truth = world.lock();
        let first = truth.begin_write(NODES[0], contested).unwrap();
        truth.end_write(NODES[0], contested, first, false);
        let second = write(&mut truth, NODES[1], contested, 20, 40);
        assert!(!truth.is_behind(contested, first, second));
        truth.rest();
        assert!(truth.is_behind(contested, first, second));
    }

    #[test]
    fn of_a_key_that_one_node_puts_the_older_is_behind_however_close_they_were() {
        let world = World::new(2, 0, false);
        let mut truth = world.lock();
        let older = write(&mut truth, NODES[0], 1, 0, 10);
        let newer = write(&mut truth, NODES[1], 1, 5, 15);
        assert!(truth.is_behind(1, older, newer) && !truth.is_behind(1, newer, newer));
    }

    #[test]
    fn process_that_took_in_a_write_may_not_go_behind_it_and_a_new_one_may() {
        let world = World::new(1, 0, false);
        let mut truth = world.lock();
        let version = write(&mut truth, (0, 1), 1, 0, 10);
        assert_eq!((truth.memory_floor((0, 1), 1), truth.memory_floor((0, 2), 1)), (version, 0));
        truth.check_memory((0, 1), 1, version - 1, version);
        assert!(truth.violations[0].starts_with("invariant 1 "), "{:?}", truth.violations);
    }
}
