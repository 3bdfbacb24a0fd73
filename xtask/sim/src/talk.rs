//! What nodes say to one another, judged frame by frame at the moment it is written.

use std::collections::BTreeMap;

use crate::{
    network::Micros,
    rules::Rule,
    source::KEYS,
    tap::Frame,
    wire::{self, Given, Request, Stale},
    world::{Life, Truth},
};

/// What is under way between nodes.
#[derive(Default)]
pub(crate) struct Talk {
    asked: BTreeMap<(u64, u64), Asked>,
    /// What a dialler told a listener on its control lane and was not acknowledged yet, by the position that acknowledges it.
    told: BTreeMap<(Life, Life), BTreeMap<u64, Told>>,
    /// When a listener last acknowledged a dialler's control lane, which it does at each heartbeat.
    heard: BTreeMap<(Life, Life), Micros>,
    /// The copy of another's value that a node may have been given last.
    leases: BTreeMap<(Life, usize), Lease>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    from: Life,
    /// When it was asked for, which is when its time begins.
    asked: Micros,
    until: Micros,
}

/// A request that was not answered yet.
enum Asked {
    /// With the version of each that the answering node may not go behind.
    Read {
        question: Question,
        keys: Vec<usize>,
        floors: Vec<u64>,
        is_batch: bool,
    },
    /// With the version of each that is not to be served once it is answered. Catch-up is a write here.
    Write {
        from: Life,
        by: Life,
        /// When it is dropped if it has not come.
        until: Micros,
        keys: Vec<(usize, u64)>,
        is_put: bool,
    },
    Gift {
        to: Life,
        keys: Vec<usize>,
    },
}

/// Who asks whom, when, and in what role.
#[derive(Debug, Clone, Copy)]
struct Question {
    from: Life,
    to: Life,
    at: Micros,
    role: u8,
}

struct Told {
    /// With the version each had when it was said.
    keys: Vec<(usize, u64)>,
    by: By,
}

/// In what way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Event,
    Emptying,
    Loss,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) conn: u64,
    /// Whether the sender dialled.
    pub(crate) dialled: bool,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Truth {
    /// A node has written a frame.
    pub(crate) fn heard(&mut self, way: Way, frame: &Frame) {
        let (from, to) = (self.lives[way.from], self.lives[way.to]);
        let place = (way.conn, frame.id);
        let understood = match frame.kind {
            REQUEST => wire::request(frame).map(|request| {
                if self.loud && request != Request::Other {
                    println!("{:>11.6}  {} -> {} id {}: {request:?}", self.now as f64 / 1e6, from.0, to.0, frame.id);
                }
                self.asked(place, from, to, self.now + 1_000 * Micros::from(frame.deadline_ms) + SLACK, request);
            }),
            RESPONSE => match self.talk.asked.remove(&place) {
                Some(asked) => self.answered(asked, &frame.payload),
                None => Some(()),
            },
            ERROR | CANCEL => {
                self.talk.asked.remove(&place);
                Some(())
            }
            EVENT => wire::invalidations(&frame.payload).map(|stale| {
                let by = if stale.contains(&Stale::Everything) { By::Emptying } else { By::Event };
                let told = Told { keys: self.versions_of(from, stale), by };
                self.talk.told.entry((from, to)).or_default().entry(frame.id + 1).or_insert(told);
            }),
            // Of what was said before it was there a process holds nothing, and drops nothing.
            LOST if 1_000 * Micros::from(frame.deadline_ms) + SLACK > self.now - self.births[to.0] => Some(()),
            LOST => {
                let told = Told { keys: (0..KEYS).map(|key| (key, self.version(key))).collect(), by: By::Loss };
                self.talk.told.entry((from, to)).or_default().entry(frame.id).or_insert(told);
                Some(())
            }
            ACK => {
                self.acknowledged(to, from, frame.id);
                Some(())
            }
            _ => Some(()),
        };
        debug_assert!(way.dialled || !matches!(frame.kind, REQUEST | EVENT | LOST), "only who dialled says that");
        if understood.is_none() {
            self.violate(Rule::Void, format!("the oracle cannot read what node {} sent: {frame}", from.0));
        }
    }

    /// What one who is told by `teller` knows then: not all there is, for the teller may tell of a write long ago, and an emptied keyspace
    /// that was heard of already is not emptied again.
    fn versions_of(&self, teller: Life, stale: Vec<Stale>) -> Vec<(usize, u64)> {
        let told = |stale| match stale {
            Stale::Key(key) => vec![(key, self.known(teller, key))],
            Stale::Everything => {
                let cleared = self.clears.range((teller, 0)..=(teller, KEYS));
                cleared.map(|((_, key), version)| (*key, *version)).collect()
            }
        };
        stale.into_iter().flat_map(told).collect()
    }

    /// Returns the version of which a node was told in requests that it has not answered yet, and may still.
    pub(crate) fn being_told(&self, life: Life, key: usize) -> u64 {
        let told = self.talk.asked.values().filter_map(|asked| match asked {
            Asked::Write { by, keys, until, .. } if *by == life && self.now < *until => {
                keys.iter().find(|(of, _)| *of == key)
            }
            _ => None,
        });
        told.map(|(_, version)| *version).max().unwrap_or_default()
    }

    /// A process died: what it had just sent may never have arrived.
    pub(super) fn forget_requests(&mut self, life: Life) {
        self.talk.asked.retain(|_, asked| !matches!(asked, Asked::Write { from, .. } if *from == life));
    }

    fn asked(&mut self, place: (u64, u64), from: Life, to: Life, until: Micros, request: Request) {
        let asked = match request {
            Request::Other => return,
            Request::Adopt { keys } => {
                // It may be taken, and the answer lost.
                for key in &keys {
                    self.loaded(to, *key);
                    self.gifts.entry((to, *key)).or_insert((self.now, u64::MAX));
                }
                Asked::Gift { to, keys }
            }
            Request::CatchUp { stale } => {
                Asked::Write { from, by: to, until, keys: self.versions_of(from, stale), is_put: false }
            }
            Request::Read { role, keys, is_batch } => {
                for key in &keys {
                    if role != FILL && !self.is_read_by_client(from, *key) {
                        let what = format!(
                            "node {} asks node {} for key {key}, which none of its clients reads",
                            from.0, to.0
                        );
                        self.violate(Rule::OneHop, what);
                    }
                }
                let floors = keys.iter().map(|key| self.memory_floor(to, *key)).collect();
                Asked::Read { question: Question { from, to, at: self.now, role }, keys, floors, is_batch }
            }
            Request::Write { hops, keys } => {
                if hops > 1 {
                    let what =
                        format!("node {} sends node {} a write that had crossed {hops} peers already", from.0, to.0);
                    self.violate(Rule::OneHop, what);
                }
                let is_put = keys.iter().any(|(_, version)| version.is_some());
                if is_put {
                    keys.iter().for_each(|(key, _)| self.loaded(to, *key));
                }
                let keys =
                    keys.into_iter().map(|(key, version)| (key, version.unwrap_or_else(|| self.known(from, key))));
                Asked::Write { from, by: to, until, keys: keys.collect(), is_put }
            }
        };
        self.talk.asked.insert(place, asked);
    }

    fn answered(&mut self, asked: Asked, payload: &[u8]) -> Option<()> {
        match asked {
            Asked::Read { question, keys, floors, is_batch } => {
                let floor = |key| keys.iter().position(|asked| *asked == key).map_or(0, |at| floors[at]);
                for given in wire::answers(payload, &keys, is_batch)? {
                    self.check_given(question, given, floor(given.key));
                }
            }
            Asked::Gift { to, keys } => {
                for key in keys {
                    self.loaded(to, key);
                    self.counts.gifts += 1;
                    self.gifts.insert((to, key), (self.now, self.version(key)));
                }
            }
            Asked::Write { by, keys, is_put, .. } => {
                for (key, version) in keys {
                    self.invalidated(by, key, version);
                    if is_put {
                        self.loaded(by, key);
                    }
                }
            }
        }
        Some(())
    }

    /// A listener has taken in what a dialler told it up to a position.
    fn acknowledged(&mut self, dialler: Life, listener: Life, position: u64) {
        self.talk.heard.insert((dialler, listener), self.now);
        let Some(told) = self.talk.told.get_mut(&(dialler, listener)) else { return };
        let later = told.split_off(&(position + 1));
        for (_, Told { keys, by }) in std::mem::replace(told, later) {
            for (key, version) in keys {
                self.invalidated(listener, key, version);
                match by {
                    By::Event => {}
                    By::Emptying => _ = self.emptied.insert((listener, key), version),
                    By::Loss => _ = self.lost.insert((listener, key), version),
                }
            }
        }
    }

    /// A node answers a peer with a value.
    fn check_given(&mut self, question: Question, given: Given, floor: u64) {
        let Given { key, version, is_cached, near_ms } = given;
        let Question { from, to, at, role } = question;
        if near_ms > 0 {
            let until = at + 1_000 * Micros::from(near_ms);
            self.talk.leases.insert((from, key), Lease { from: to, asked: at, until });
        }
        self.check_memory(to, key, version, floor);
        if role == FILL {
            // What the previous owner kept aside is the next one's now.
            return self.loaded(from, key);
        }
        let view = &self.beliefs[to.0];
        if is_cached && view.since + VIEW_SPREAD < self.now {
            let owns = view.owns[key];
            self.check_held(to, key, version, owns);
        }
    }

    /// A value of this node's own is not older than what it was told before it was asked.
    pub(crate) fn check_memory(&mut self, by: Life, key: usize, version: u64, floor: u64) {
        if self.is_behind(key, version, floor) {
            let is_by = |told: &BTreeMap<(Life, usize), u64>| {
                told.get(&(by, key)).is_some_and(|told| self.is_behind(key, version, *told))
            };
            let rule = match (is_by(&self.emptied), is_by(&self.lost)) {
                (true, _) => Rule::Epoch,
                (_, true) => Rule::Bounds,
                _ => Rule::NoResurrect,
            };
            let what = format!("node {} gives version {version} of key {key}, and took in that {floor} is there", by.0);
            self.violate(rule, what);
        }
    }

    /// What a node has in memory it got since it last lost the key. If the key is another's, it is a copy under a lease of the owner's, or
    /// kept in the owner's place, where it is no older than such a value may get.
    pub(crate) fn check_held(&mut self, by: Life, key: usize, version: u64, owns: bool) {
        let (load, lost) = (self.loads.get(&(by, key)).copied(), self.beliefs[by.0].lost[key]);
        let loaded = load.map(|load| load.at);
        let is_young = loaded.is_some_and(|at| self.now < at + ACTING);
        // What is kept in an owner's place is as good as before when the key has been this node's for a while.
        let is_kept_in_place = is_young && load.is_some_and(|load| load.acts);
        let is_revived = !is_kept_in_place && loaded.is_none_or(|at| at + VIEW_SPREAD < lost);
        let is_gift = self.gifts.contains_key(&(by, key));
        let may_be_near = if is_gift { self.may_hold_copy(by, key) } else { self.talk.leases.contains_key(&(by, key)) };
        if !owns && (!is_young || is_revived) && may_be_near {
            return self.check_near(by, key);
        }
        self.counts.acting_reads += u64::from(!owns);
        if is_revived && !is_gift {
            let what = format!("node {} serves key {key} from {loaded:?} us, and lost it at {lost} us", by.0);
            self.violate(Rule::NoRevival, what);
        } else if !owns && !is_young && !is_gift {
            let what = format!("node {} serves key {key}, which it does not own, and loaded it at {loaded:?} us", by.0);
            self.violate(Rule::ActingCopies, what);
        } else if !owns && is_gift {
            // A copy that the owner gave it in time is kept for as long as nobody says that it is old.
            let known = self.returned_by(key, self.now.saturating_sub(ACTING));
            if self.is_behind(key, version, known) {
                let what =
                    format!("node {} serves version {version} of key {key} for its owner long after {known}", by.0);
                self.violate(Rule::ActingCopies, what);
            }
        }
    }

    /// Whether a node may have a copy of another's value.
    pub(crate) fn may_hold_copy(&self, life: Life, key: usize) -> bool {
        self.talk.leases.get(&(life, key)).is_some_and(|lease| self.now <= lease.until)
    }

    /// A copy is served within its time, and while its owner is heard.
    fn check_near(&mut self, by: Life, key: usize) {
        self.counts.near_reads += 1;
        let Some(Lease { from, asked, until }) = self.talk.leases.get(&(by, key)).copied() else { return };
        let heard = self.talk.heard.get(&(from, by)).copied().unwrap_or_default();
        if self.now > until + SLACK {
            let what = format!("node {} serves its copy of key {key}, asked for at {asked} us, after {until} us", by.0);
            self.violate(Rule::NearCopies, what);
        } else if self.now > heard + SILENCE_LIMIT + SLACK {
            let what = format!("node {} serves its copy of key {key}, and last heard its owner at {heard} us", by.0);
            self.violate(Rule::NearCopies, what);
        }
    }
}

/// As `distcache-transport`'s frame module numbers them.
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const ERROR: u8 = 3;
const CANCEL: u8 = 4;
const EVENT: u8 = 10;
const LOST: u8 = 11;
const ACK: u8 = 12;
/// The role of a read that a new owner makes of the previous one, for a client or a peer: it may be a second hop, and ends there.
const FILL: u8 = 4;
/// By then a node has swept out what a view took from it, and the simulation has looked at that view.
pub(crate) const VIEW_SPREAD: Micros = 100_000;
/// How old a value may get in an owner's place: `failover_ttl`, and the load of a batch, which is kept when its last value is there.
const ACTING: Micros = 10_000_000 + 2_000_000 + SLACK;
/// As the cluster's configuration has it.
const SILENCE_LIMIT: Micros = 1_500_000;
const SLACK: Micros = 100_000;
