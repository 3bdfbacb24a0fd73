//! One run: a seed's scenario over real nodes, stepped through virtual time and checked within each step.

mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use distcache::Engine;

use crate::{
    client::Deed,
    network::{Fired, Micros, Network, STEP},
    node::{Birth, Process},
    rules::Rule,
    scenario::{Action, FAULTS_END, Kind, SECOND, Scenario, Tuning},
    trace::Trace,
    world::{Counts, Life, World},
};

/// What came of a run.
/// Printed whole when one seed is run.
#[derive(Debug)]
#[allow(dead_code, reason = "some of it is only printed")]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) simulated: Duration,
    pub(crate) hosts: usize,
    pub(crate) digest: (u64, u64),
    pub(crate) counts: Counts,
    pub(crate) fired: Fired,
    pub(crate) false_removals: u64,
    pub(crate) views: u64,
    pub(crate) violations: Vec<String>,
}

struct Run {
    seed: u64,
    scenario: Scenario,
    network: Network,
    world: World,
    processes: Vec<Option<Process>>,
    engines: Vec<Option<Engine>>,
    lives: u64,
    now: Micros,
    /// When who can reach whom last changed.
    changed: Micros,
    /// When a cluster at rest was struck; none once something else came.
    struck: Option<Micros>,
    faults: Faults,
    seen: Vec<Seen>,
    /// What each set of members makes of the ring.
    rings: BTreeMap<Vec<String>, Vec<u64>>,
    restarts: Vec<(Micros, usize)>,
    false_removals: u64,
    views: u64,
    late: bool,
}

/// What is broken at this moment.
#[derive(Default)]
struct Faults {
    cuts: BTreeSet<(usize, usize)>,
    loss: bool,
}

/// What a node was last seen to believe.
#[derive(Default, Clone)]
struct Seen {
    life: u64,
    ordinal: u64,
    members: Vec<String>,
}

/// Runs a seed.
///
/// # Errors
/// The system has no resources for it. Violations are results.
pub(crate) fn run(seed: u64, loud: bool) -> anyhow::Result<Report> {
    let scenario = Scenario::of(seed);
    let hosts = scenario.hosts;
    let mut trace = Trace::new(loud);
    trace.say(0, || format!("{scenario:?}"));
    let world = World::new(hosts, seed ^ 0x0707, loud);
    let Tuning { small_log, few_tombstones, sweep, .. } = scenario.tuning;
    // A gift that comes while the store is being swept goes with what is swept, and one who has forgotten what is old takes none.
    let is_undisturbed = !scenario.clears && !small_log && !few_tombstones && sweep == 0;
    world.lock().only_leaves = scenario.kind == Kind::Leave && is_undisturbed;
    let mut run = Run {
        seed,
        network: Network::new(hosts, seed, scenario.stretch, trace, world.clone()),
        world,
        processes: (0..hosts).map(|_| None).collect(),
        engines: vec![None; hosts],
        lives: 0,
        now: 0,
        changed: 0,
        struck: None,
        faults: Faults::default(),
        seen: vec![Seen::default(); hosts],
        rings: BTreeMap::new(),
        restarts: Vec::new(),
        false_removals: 0,
        views: 0,
        late: false,
        scenario,
    };
    run.play()?;
    Ok(run.report())
}

impl Run {
    fn play(&mut self) -> anyhow::Result<()> {
        let plan = std::mem::take(&mut self.scenario.plan);
        let mut plan = plan.into_iter().peekable();
        while self.now < WORK_END {
            while let Some((_, action)) = plan.next_if(|(at, _)| *at <= self.now) {
                self.act(action)?;
            }
            self.step()?;
        }
        self.processes.iter().flatten().for_each(|process| process.lock().clients = true);
        self.until("clients end", 10 * SECOND, |process| process.lock().busy == 0)?;
        while self.now < REST {
            self.step()?;
        }

        let alive: Vec<_> = self.processes.iter().flatten().map(|process| process.life).collect();
        self.world.lock().check_definitions(&alive);
        self.world.lock().rest();
        for (process, engine) in self.processes.iter().flatten().zip(self.engines.iter().flatten()) {
            process.spawn_reader(engine, &self.world);
        }
        self.until("all keys are read", 30 * SECOND, |process| process.lock().busy == 0)?;
        self.world.lock().check_rest();

        self.engines.fill(None);
        self.processes.iter().flatten().for_each(Process::spawn_shutdown);
        self.until("all nodes have taken leave", 10 * SECOND, |process| process.lock().busy == 0)?;
        self.until("no task is left", SECOND, |process| process.tasks() == 0)?;
        for host in 0..self.scenario.hosts {
            self.network.lock().dying(host);
            self.processes[host] = None;
        }
        Ok(())
    }

    /// Goes on until something holds of every process, or it is a violation that it does not.
    fn until(&mut self, what: &str, patience: Micros, holds: impl Fn(&Process) -> bool) -> anyhow::Result<()> {
        let end = self.now + patience;
        while !self.processes.iter().flatten().all(&holds) {
            if self.now >= end {
                self.violate(Rule::Deadlines, format!("{patience} us passed and not yet: {what}"));
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> anyhow::Result<()> {
        let next = self.now + STEP;
        for process in self.processes.iter_mut().flatten().filter(|process| !process.frozen) {
            process.run(next);
        }
        self.network.lock().advance(next);
        self.now = next;
        self.world.lock().now = next;
        if self.now.is_multiple_of(OBSERVE) {
            self.observe()?;
        }
        Ok(())
    }

    fn violate(&self, rule: Rule, what: String) {
        self.world.lock().violate(rule, what);
    }

    fn act(&mut self, action: Action) -> anyhow::Result<()> {
        let at = self.now;
        self.network.lock().trace.say(at, || format!("{action:?}"));
        let strikes = matches!(action, Action::Crash { .. } | Action::Cut(_) | Action::Freeze(_));
        match action {
            Action::Start { host, clock_back } => self.start(host, clock_back)?,
            Action::Crash { host, powered } => self.crash(host, powered),
            Action::Cut(cuts) => {
                let mut state = self.network.lock();
                cuts.iter().for_each(|(from, to)| state.cut(*from, *to));
                self.faults.cuts.extend(cuts);
            }
            Action::Heal => {
                self.network.lock().heal();
                self.faults = Faults::default();
            }
            Action::Freeze(host) => {
                if let Some(process) = &mut self.processes[host] {
                    process.frozen = true;
                    self.network.lock().freeze(host, true);
                }
            }
            Action::Thaw(host) => match &mut self.processes[host] {
                Some(process) if process.frozen => {
                    self.network.lock().freeze(host, false);
                    process.thaw(self.now, &self.world);
                }
                _ => return Ok(()),
            },
            Action::Lose(loss) => {
                self.network.lock().lose(loss);
                self.faults.loss = true;
            }
            Action::Leave { host, away } => {
                if let Some(process) = self.processes[host].as_mut().filter(|process| !process.frozen) {
                    process.leave(away);
                    self.world.lock().counts.leaves += 1;
                }
            }
            Action::Writers(writers) => {
                self.world.lock().writers = writers;
                return Ok(());
            }
            Action::Clear(host) => {
                self.spawn_deed(host, Deed::Clear);
                return Ok(());
            }
            Action::Puts { host, owner } => {
                self.spawn_deed(host, Deed::Puts { owner });
                return Ok(());
            }
            Action::Mood(host, mood) => {
                self.world.lock().set_mood(host, mood);
                return Ok(());
            }
        }
        let was_at_rest = self.now > self.changed + PATIENCE;
        self.struck = (strikes && was_at_rest).then_some(self.now);
        self.changed = self.now;
        self.world.lock().disturbed = self.now;
        Ok(())
    }

    fn start(&mut self, host: usize, clock_back: bool) -> anyhow::Result<()> {
        if self.processes[host].is_some() {
            return Ok(());
        }
        self.lives += 1;
        let since_epoch = if clock_back { Duration::from_secs(1_000) } else { EPOCH };
        let since_epoch = since_epoch + Duration::from_micros(self.now);
        let birth = Birth { since_epoch, ..self.birth((host, self.lives)) };
        self.world.lock().born(birth.life);
        self.processes[host] = Some(Process::start(&birth, self.now)?);
        Ok(())
    }

    const fn birth(&self, life: Life) -> Birth<'_> {
        Birth {
            network: &self.network,
            world: &self.world,
            life,
            hosts: self.scenario.hosts,
            seed: self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ life.1 << 8 ^ life.0 as u64,
            since_epoch: EPOCH,
            tuning: self.scenario.tuning,
            clears: self.scenario.clears,
            has_backups: self.scenario.has_backups,
            pause: self.scenario.pause,
        }
    }

    /// Has a client of a node do something, if the node has started.
    fn spawn_deed(&self, host: usize, deed: Deed) {
        if let (Some(process), Some(engine)) = (&self.processes[host], &self.engines[host]) {
            process.spawn_deed(engine, &self.birth(process.life), deed);
        }
    }

    fn crash(&mut self, host: usize, powered: bool) {
        let Some(process) = self.processes[host].take() else { return };
        self.network.lock().dying(host);
        self.engines[host] = None;
        let life = process.life;
        drop(process);
        self.network.lock().dead(host, powered);
        self.world.lock().died(life);
    }

    fn report(self) -> Report {
        let state = self.network.lock();
        let mut truth = self.world.lock();
        let fired = state.fired;
        let void = match self.scenario.kind {
            Kind::Crashes | Kind::ClockBack => fired.reset == 0,
            Kind::PowerLoss | Kind::Partition | Kind::OneWay | Kind::Pair => fired.held == 0,
            Kind::Flap => truth.counts.leaves < 2,
            // Those that die besides may have lost power, and nobody is told.
            Kind::LastWords | Kind::LatePuts => fired.held == 0,
            Kind::Away => fired.reset == 0 || fired.held == 0,
            Kind::Views => fired.reset == 0 || fired.held == 0,
            Kind::Freeze => fired.buffered == 0,
            Kind::Loss => fired.retransmitted < 50,
            Kind::Leave => truth.counts.leaves == 0,
            Kind::Source => truth.counts.moody_loads == 0,
            Kind::Starts => false,
            Kind::Mixed => fired.reset + fired.held + fired.buffered + truth.counts.moody_loads == 0,
        };
        if void {
            truth.violate(Rule::Void, "the fault did not fire".to_owned());
        }
        if truth.counts.reads < LEAST_READS {
            let reads = truth.counts.reads;
            truth.violate(Rule::Void, format!("only {reads} reads"));
        }
        let ((network, events), (reads, values)) = (state.trace.digest(), truth.trace.digest());
        Report {
            seed: self.seed,
            kind: self.scenario.kind,
            simulated: Duration::from_micros(self.now),
            hosts: self.scenario.hosts,
            digest: (network ^ reads.rotate_left(1), events + values),
            counts: truth.counts.clone(),
            fired,
            false_removals: self.false_removals,
            views: self.views,
            violations: truth.violations.clone(),
        }
    }
}

/// Clients work on for a while after the faults.
const WORK_END: Micros = FAULTS_END + 12 * SECOND;
/// What was written is known everywhere by then.
const REST: Micros = WORK_END + 8 * SECOND;
/// How long a cluster may take to know its members: to form, to heal, to see that one is gone.
const PATIENCE: Micros = 10 * SECOND;
const OBSERVE: Micros = 10_000;
const LEAST_READS: u64 = 1_000;
/// Any day will do.
const EPOCH: Duration = Duration::from_secs(1_764_000_000);
