//! What is done to a cluster, and when: all of it follows from the seed.

mod directed;

use std::time::Duration;

use distcache_cluster::ClusterConfig;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{network::Micros, world::Mood};

/// One thing that is done to the cluster.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// A process begins; its wall clock may have been set back.
    Start {
        host: usize,
        clock_back: bool,
    },
    /// A process dies, perhaps with its machine.
    Crash {
        host: usize,
        powered: bool,
    },
    /// A process takes leave, and after that time another takes its place.
    Leave {
        host: usize,
        away: Micros,
    },
    /// Directions between machines are cut.
    Cut(Vec<(usize, usize)>),
    /// Every path is whole again.
    Heal,
    Freeze(usize),
    Thaw(usize),
    /// Segments are lost on every path, that share of them.
    Lose(f64),
    Mood(usize, Mood),
    /// From here on only those write.
    Writers(Writers),
    /// A node empties the keyspace.
    Clear(usize),
    /// A node puts each of the contested keys that another owns, all at once.
    Puts {
        host: usize,
        owner: usize,
    },
}

/// Whose clients write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writers {
    All,
    Nobody,
    /// Those of that node, keys that it owns itself.
    Owner(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Starts,
    Crashes,
    PowerLoss,
    Partition,
    OneWay,
    /// Two nodes do not hear each other, and the others hear both.
    Pair,
    Freeze,
    Loss,
    Source,
    ClockBack,
    /// Nodes that join are heard of by each node at another time, so that for a second or two no two rings are the same.
    Views,
    /// One node after another takes leave and comes back.
    Leave,
    /// A node leaves, comes back and leaves again, faster than the others sweep their stores.
    Flap,
    /// A node that hardly anybody hears takes writes and dies.
    LastWords,
    /// A node is away for longer than anybody remembers.
    Away,
    /// Puts that are given up arrive after what was written later.
    LatePuts,
    Mixed,
}

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    pub(crate) hosts: usize,
    /// In order of time.
    pub(crate) plan: Vec<(Micros, Action)>,
    /// The settings of its nodes.
    pub(crate) tuning: Tuning,
    /// Whether clients empty the keyspace now and then.
    pub(crate) clears: bool,
    /// Whether nodes keep copies of each other's hottest values.
    pub(crate) has_backups: bool,
    /// How much longer than the shortest all ways are.
    pub(crate) stretch: u64,
    /// Between two operations of a client, on average.
    pub(crate) pause: Micros,
}

/// The settings of the nodes that differ from the defaults.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tuning {
    /// They remember so few invalidations that some are lost.
    pub(crate) small_log: bool,
    /// They forget invalidations soon, and what they held while they were away too.
    pub(crate) short_memory: bool,
    /// They know by name so few keys that others have invalidated that some have to make room.
    pub(crate) few_tombstones: bool,
    /// How long a sweep of their stores takes.
    pub(crate) sweep: Micros,
}

impl Tuning {
    pub(crate) fn apply(self, config: &mut ClusterConfig) {
        config.hot_reads = HOT_READS;
        config.sweep_time = Duration::from_micros(self.sweep);
        if self.small_log {
            config.invalidation_log = 8;
        }
        if self.few_tombstones {
            config.tombstones = 16;
        }
        if self.short_memory {
            config.invalidation_retention = Duration::from_micros(directed::SHORT_MEMORY);
            // At half as long again the last of it is gone, before the cluster counts as one at rest.
            config.heal_ttl = Duration::from_secs(4);
        }
    }
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let kind = KINDS[(seed % KINDS.len() as u64) as usize];
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5ce0_a210);
        let hosts = match kind {
            Kind::Views => rng.random_range(4..=5),
            Kind::LastWords | Kind::Away | Kind::LatePuts => rng.random_range(3..=5),
            _ if rng.random_bool(0.7) => 5,
            _ => rng.random_range(2..=4),
        };
        let mut script = Script { rng, hosts, plan: Vec::new() };
        script.starts(kind);
        script.faults(kind);
        script.ending();
        let small_log = script.rng.random_bool(0.3);
        let stretch = if script.rng.random_bool(0.2) { 8 } else { 1 };
        let clears = script.rng.random_bool(0.3);
        let has_backups = script.rng.random_bool(0.3) || kind == Kind::LastWords;
        let sweep = match kind {
            Kind::Flap => script.between(2 * SECOND, 5 * SECOND),
            _ if script.rng.random_bool(0.2) => script.between(SECOND / 10, 3 * SECOND),
            _ => 0,
        };
        let (clears, short_memory) = (clears && kind != Kind::Away, kind == Kind::Away);
        // What is forgotten is dropped, and that it was missed is not seen then.
        let small_log = small_log && !short_memory;
        let few_tombstones = script.rng.random_bool(0.2) && !short_memory;
        let tuning = Tuning { small_log, few_tombstones, short_memory, sweep };
        let pause = if kind == Kind::Views { PAUSE / 4 } else { PAUSE };
        let mut plan = script.plan;
        plan.sort_by_key(|(at, _)| *at);
        Self { kind, hosts, plan, tuning, clears, has_backups, stretch, pause }
    }
}

struct Script {
    rng: StdRng,
    hosts: usize,
    plan: Vec<(Micros, Action)>,
}

impl Script {
    fn at(&mut self, at: Micros, action: Action) {
        self.plan.push((at, action));
    }

    fn between(&mut self, from: Micros, to: Micros) -> Micros {
        self.rng.random_range(from..to)
    }

    fn any_host(&mut self) -> usize {
        self.rng.random_range(0..self.hosts)
    }

    /// All nodes together, in any order; or one after another.
    fn starts(&mut self, kind: Kind) {
        let mut order: Vec<_> = (0..self.hosts).collect();
        order.shuffle(&mut self.rng);
        let spread = match (kind, self.rng.random_range(0..3)) {
            (Kind::Starts, 0) => 1,
            (_, 1) => 3 * SECOND,
            _ => SECOND / 2,
        };
        for host in order {
            let at = self.between(0, spread);
            self.at(at, Action::Start { host, clock_back: false });
        }
    }

    fn faults(&mut self, kind: Kind) {
        let rounds: &[Kind] = match kind {
            Kind::Mixed => &[Kind::Crashes, Kind::Partition, Kind::Freeze, Kind::OneWay, Kind::PowerLoss, Kind::Source],
            _ => &[kind; 3],
        };
        let count = if kind == Kind::Mixed { 3 } else { rounds.len() };
        for round in 0..count {
            let kind = if kind == Kind::Mixed { rounds[self.rng.random_range(0..rounds.len())] } else { rounds[round] };
            // Each has its time, and what it broke is whole again before the next.
            let begin = FIRST_FAULT + round as u64 * ROUND;
            self.fault(kind, begin);
        }
    }

    fn fault(&mut self, kind: Kind, begin: Micros) {
        let host = self.any_host();
        let start = begin + self.between(0, SECOND);
        let short = start + self.between(SECOND / 5, 4 * SECOND);
        let long = start + self.between(6 * SECOND, ROUND - 3 * SECOND);
        let end = if self.rng.random_bool(0.5) { short } else { long };
        match kind {
            Kind::Starts => {}
            Kind::Crashes | Kind::PowerLoss | Kind::ClockBack => {
                let powered = kind != Kind::PowerLoss;
                self.at(start, Action::Crash { host, powered });
                self.at(end, Action::Start { host, clock_back: kind == Kind::ClockBack });
                if kind == Kind::Crashes && self.rng.random_bool(0.5) {
                    // Again, as soon as it is back.
                    self.at(end + SECOND, Action::Crash { host, powered });
                    self.at(end + SECOND + SECOND / 2, Action::Start { host, clock_back: false });
                }
            }
            Kind::Partition => {
                let side: Vec<_> = (0..self.hosts).map(|_| self.rng.random_bool(0.5)).collect();
                let pairs = (0..self.hosts).flat_map(|a| (0..self.hosts).map(move |b| (a, b)));
                let mut cuts: Vec<_> = pairs.clone().filter(|(a, b)| side[*a] != side[*b]).collect();
                if cuts.is_empty() {
                    cuts = pairs.filter(|(a, b)| a != b && (*a == host || *b == host)).collect();
                }
                self.at(start, Action::Cut(cuts));
                self.at(end, Action::Heal);
            }
            Kind::OneWay => {
                let other = (host + 1 + self.rng.random_range(0..self.hosts - 1)) % self.hosts;
                let cuts = if self.rng.random_bool(0.5) {
                    vec![(host, other)]
                } else {
                    (0..self.hosts).filter(|to| *to != host).map(|to| (host, to)).collect()
                };
                self.at(start, Action::Cut(cuts));
                self.at(end, Action::Heal);
            }
            Kind::Pair => {
                let other = (host + 1 + self.rng.random_range(0..self.hosts - 1)) % self.hosts;
                let end = start + self.between(2 * SECOND, ROUND - 2 * SECOND);
                self.at(start, Action::Cut(vec![(host, other), (other, host)]));
                self.at(end, Action::Heal);
            }
            Kind::Views => self.views(start, end),
            Kind::Leave => {
                let away = self.between(SECOND / 5, 3 * SECOND);
                for turn in 0..3 {
                    let at = start + turn * (away + 2 * SECOND);
                    self.at(at, Action::Leave { host: (host + turn as usize) % self.hosts, away });
                }
            }
            Kind::Freeze => {
                self.at(start, Action::Freeze(host));
                self.at(end, Action::Thaw(host));
            }
            Kind::Loss => {
                let loss = self.rng.random_range(0.02..0.2);
                self.at(start, Action::Lose(loss));
                self.at(long, Action::Heal);
            }
            Kind::Source => {
                let mood = match self.rng.random_range(0..3) {
                    0 => Mood::Slow(self.rng.random_range(20..900)),
                    1 => Mood::Failing,
                    _ => Mood::Hanging,
                };
                self.at(start, Action::Mood(host, mood));
                self.at(end, Action::Mood(host, Mood::Well));
            }
            Kind::Flap => self.flap(start),
            Kind::LastWords => self.last_words(start),
            Kind::Away => self.away(start),
            Kind::LatePuts => self.late_puts(start),
            Kind::Mixed => {}
        }
    }

    /// Two nodes join in a row of which each can only hear its neighbours: further off, they are taken in a second later, unheard.
    fn views(&mut self, start: Micros, end: Micros) {
        let mut row: Vec<_> = (0..self.hosts).collect();
        row.shuffle(&mut self.rng);
        let joining = [row[self.hosts - 2], row[self.hosts - 1]];
        for host in joining {
            self.at(start, Action::Crash { host, powered: true });
        }
        let places = |from: usize| (0..self.hosts).map(move |to| (from, to));
        let far = |(from, to): &(usize, usize)| from.abs_diff(*to) > 1 && *from.max(to) >= self.hosts - 2;
        let cuts = (0..self.hosts).flat_map(places).filter(far).map(|(from, to)| (row[from], row[to])).collect();
        self.at(end, Action::Cut(cuts));
        for host in joining {
            let at = end + self.between(1, SECOND / 2);
            self.at(at, Action::Start { host, clock_back: false });
        }
        let healed = end + self.between(SECOND, 3 * SECOND);
        self.at(healed, Action::Heal);
    }

    fn ending(&mut self) {
        self.at(FAULTS_END, Action::Heal);
        self.at(FAULTS_END, Action::Writers(Writers::All));
        for host in 0..self.hosts {
            self.at(FAULTS_END, Action::Thaw(host));
            self.at(FAULTS_END, Action::Mood(host, Mood::Well));
        }
    }
}

/// The plainest comes last, so that a seed divisible by seventeen is not a calm one.
const KINDS: [Kind; 17] = [
    Kind::Mixed,
    Kind::Crashes,
    Kind::Partition,
    Kind::Freeze,
    Kind::OneWay,
    Kind::PowerLoss,
    Kind::Loss,
    Kind::Source,
    Kind::ClockBack,
    Kind::Pair,
    Kind::Views,
    Kind::Leave,
    Kind::Flap,
    Kind::LastWords,
    Kind::Away,
    Kind::LatePuts,
    Kind::Starts,
];

/// So few that a key is hot now and then at the pace of these clients.
const HOT_READS: u32 = 3;
/// Between two operations of a client.
const PAUSE: Micros = 90_000;
pub(crate) const SECOND: Micros = 1_000_000;
/// The cluster has formed by then, or that is a violation.
const FIRST_FAULT: Micros = 15 * SECOND;
const ROUND: Micros = 18 * SECOND;
pub(crate) const FAULTS_END: Micros = FIRST_FAULT + 3 * ROUND;
