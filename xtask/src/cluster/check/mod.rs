//! `cargo xtask check-consistency`: whether any read of a cluster of real processes was older than the contract allows.
//!
//! Nodes read and write numbered keys, source first and then the cache, and tell every read and write; meanwhile they are killed, stopped, cut
//! off and restarted as a seed says. Then each read is held against the writes that had returned before it. After Polaris (Meta, "Cache
//! made consistent", 2022), which does so beside a cache.

mod judge;
mod plan;
mod record;
mod verdict;

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    os::unix::process::ExitStatusExt,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use super::{
    Build, build,
    fleet::{Fleet, name},
    netns::Kind as Network,
    report::Report,
    scenario::{PATIENCE, Stage},
};
use judge::{Fault, Kind};
use plan::{Step, plan};
use record::{Micros, Records};
use verdict::{Verdict, tell};

/// How to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For how long faults are made; starting and the last reads come on top.
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) seconds: u64,
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(3..=16))]
    pub(crate) nodes: u8,
    /// What faults and keys are chosen by. Defaults to another each time, which is printed.
    #[arg(long, value_name = "X")]
    pub(crate) seed: Option<u64>,
    /// Runs an optimised build.
    #[arg(long)]
    pub(crate) release: bool,
    /// Plants defects, in nodes that are built for that, and fails unless each is found.
    #[arg(long)]
    pub(crate) planted: bool,
}

impl Args {
    /// Long enough for each kind of fault once; the same faults each time.
    pub(crate) const fn short(nodes: u8) -> Self {
        Self { seconds: 20, nodes, seed: Some(1), release: false, planted: false }
    }
}

/// Runs a cluster, and judges what it served.
///
/// # Errors
/// A value was older than the contract allows, a write failed, a fault did not fire, there was too little traffic; or a process could not be
/// built or run.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let how = match args {
        Args { planted: true, .. } => Build::Defects,
        Args { release: true, .. } => Build::Release,
        _ => Build::Debug,
    };
    let stage = Stage::set(build(how)?, true)?;
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 40);
    let nodes = usize::from(args.nodes);
    println!("{nodes} nodes, {} s, --seed {seed}", args.seconds);
    if args.planted {
        return planted(&stage, nodes, seed);
    }
    let mut kinds = vec![Kind::Restart, Kind::Kill, Kind::Stop];
    if let Network::Namespaces = stage.network {
        kinds.extend([Kind::Partition, Kind::OneWay]);
    }
    let steps = plan(seed, nodes, args.seconds, &kinds);
    let mut checked = Checked::start(&stage, nodes, seed, &Traffic::default(), &[])?;
    thread::sleep(BEFORE);
    for step in &steps {
        checked.make(step)?;
    }
    thread::sleep(AFTER);
    let (report, verdict) = checked.judge()?;
    print!("{report}{verdict}");
    let missing: Vec<_> = kinds.iter().filter(|kind| !steps.iter().any(|step| step.kind == **kind)).collect();
    ensure!(missing.is_empty(), "VOID: there was no time for {missing:?}");
    report.fault().map_or(Ok(()), |fault| bail!("{fault}"))
}

/// Sees that what must be found is found: defects of the nodes, and writers that keep writes from the cache.
fn planted(stage: &Stage, nodes: usize, seed: u64) -> anyhow::Result<()> {
    let mut found_all = true;
    for Planted { what, option, forget_every, kinds, finds } in PLANTED {
        let traffic = Traffic { forget_every, ..Traffic::default() };
        let mut checked = Checked::start(stage, nodes, seed, &traffic, &[option])?;
        thread::sleep(BEFORE);
        plan(seed, nodes, PLANTED_SECONDS, kinds).iter().try_for_each(|step| checked.make(step))?;
        thread::sleep(HEALTHY);
        let (_, verdict) = checked.judge()?;
        let Verdict { writers, strict, others, .. } = verdict;
        let verdict = if finds(&verdict) { "found" } else { "NOT FOUND" };
        found_all &= verdict == "found";
        println!(
            "{what}: {verdict} (too old: {writers} on the writer, {strict} after a strict write, {others} elsewhere)"
        );
    }
    ensure!(found_all, "what was planted was not found");
    Ok(())
}

/// What is planted. Others of the rules leave a node old for a moment too short for real processes; the simulation finds those.
struct Planted {
    what: &'static str,
    /// An argument of the nodes, or none.
    option: &'static str,
    /// Every so many writes are kept from the cache; none if it is 0.
    forget_every: u32,
    /// The faults without which it would not show.
    kinds: &'static [Kind],
    finds: fn(&Verdict) -> bool,
}

const PLANTED: [Planted; 3] = [
    Planted {
        what: "one of five writes is kept from the cache",
        option: "",
        forget_every: 5,
        kinds: &[],
        finds: |verdict| verdict.writers > 0 && verdict.strict > 0 && verdict.others > 0,
    },
    Planted {
        what: "an owner tells nobody what is old",
        option: "--defect=NotBroadcast",
        forget_every: 0,
        kinds: &[],
        finds: |verdict| verdict.others > 0,
    },
    Planted {
        what: "a strict write returns too soon",
        option: "--defect=StrictAcksAtOnce",
        forget_every: 0,
        kinds: &[Kind::Stop],
        finds: |verdict| verdict.strict > 0,
    },
];

/// Checks a cluster that nothing is done to, for some seconds: a scenario. Without writes there is nothing to see.
pub(super) fn healthy(stage: &Stage) -> anyhow::Result<Report> {
    // Enough that some reads fall into the moments in which a value may be old.
    let writes = if stage.with_fault { 4 * WRITES } else { 0 };
    let traffic = Traffic { reads: 6 * READS, writes, ..Traffic::default() };
    let checked = Checked::start(stage, super::scenario::NODES, 1, &traffic, &[])?;
    thread::sleep(HEALTHY);
    let (mut report, verdict) = checked.judge()?;
    verdict.latest(&mut report);
    Ok(report)
}

/// What nodes are to do.
#[derive(Debug, Clone, Copy)]
struct Traffic {
    reads: u32,
    writes: u32,
    forget_every: u32,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { reads: READS, writes: WRITES, forget_every: 0 }
    }
}

/// A cluster that is read and written, and what was done to it.
struct Checked {
    fleet: Fleet,
    seed: u64,
    traffic: Traffic,
    /// How many processes were told to read and write.
    started: u64,
    since: Micros,
    faults: Vec<Fault>,
    report: Report,
}

impl Checked {
    /// Starts nodes, with further arguments, and has them read and write.
    fn start(
        stage: &Stage,
        nodes: usize,
        seed: u64,
        traffic: &Traffic,
        options: &[&'static str],
    ) -> anyhow::Result<Self> {
        let mut fleet = Fleet::lay(&stage.network, &stage.program, nodes, Duration::ZERO)?;
        fleet.set_options(options.iter().copied().filter(|option| !option.is_empty()));
        fleet.start_all()?;
        let mut checked = Self {
            fleet,
            seed,
            traffic: *traffic,
            started: 0,
            since: micros(),
            faults: Vec::new(),
            report: Report::default(),
        };
        checked.fleet.all().into_iter().try_for_each(|node| checked.audit(node))?;
        Ok(checked)
    }

    fn audit(&mut self, node: usize) -> anyhow::Result<()> {
        self.started += 1;
        let audit = json!({
            "do": "audit", "keys": KEYS, "callers": CALLERS, "reads": self.traffic.reads, "writes": self.traffic.writes,
            "modes": MODES, "writer": node, "writers": self.fleet.all().len(),
            "seed": self.seed.wrapping_mul(1_000_003).wrapping_add(self.started),
            "forget_every": self.traffic.forget_every,
        });
        self.fleet.ask(node, &audit).map(drop)
    }

    /// Makes a fault, undoes it, and waits.
    fn make(&mut self, step: &Step) -> anyhow::Result<()> {
        let from = micros();
        let names: Vec<_> = step.nodes.iter().map(|node| name(*node)).collect();
        let what = format!("{:?} of {}", step.kind, names.join(", "));
        self.befall(step).with_context(|| what.clone())?;
        let to = micros();
        let what = format!("{what} for {:.1} s", seconds(to - from));
        println!("  {:>6.1} s  {what}", seconds(from - self.since));
        self.faults.push(Fault { what, kind: step.kind, from, to, gave_up: false });
        thread::sleep(step.quiet);
        Ok(())
    }

    fn befall(&mut self, step: &Step) -> anyhow::Result<()> {
        let node = *step.nodes.first().context("it befalls somebody")?;
        match step.kind {
            Kind::Restart => {
                let pid = self.fleet.node(node)?.pid();
                // Whoever reads at a node that was shut down is told so, which is no fault.
                self.fleet.ask(node, &json!({ "do": "stop-audit" }))?;
                self.fleet.shut_down(node)?;
                self.again(node)?;
                ensure!(self.fleet.node(node)?.pid() != pid, "VOID: it is the same process");
            }
            Kind::Kill => {
                let status = self.fleet.kill(node)?;
                ensure!(status.signal() == Some(9), "VOID: nobody was killed: {status}");
                thread::sleep(step.lasts);
                self.again(node)?;
            }
            Kind::Stop => {
                self.fleet.node(node)?.signal("STOP")?;
                thread::sleep(step.lasts);
                let stopped = self.fleet.node(node)?.is_stopped()?;
                self.fleet.node(node)?.signal("CONT")?;
                ensure!(stopped, "VOID: the process was not stopped");
            }
            Kind::Partition | Kind::OneWay => {
                let others: Vec<_> = self.fleet.all().into_iter().filter(|node| !step.nodes.contains(node)).collect();
                self.fleet.cut(&others, &step.nodes)?;
                let mut deaf = step.nodes.clone();
                if step.kind == Kind::Partition {
                    self.fleet.cut(&step.nodes, &others)?;
                    deaf.extend(others);
                }
                thread::sleep(step.lasts);
                for node in deaf {
                    let counted = self.fleet.heal(node)?;
                    ensure!(counted.dropped > 0, "VOID: {} lost no packet", name(node));
                }
            }
        }
        Ok(())
    }

    /// Starts a node in its place, and has it go on reading and writing.
    fn again(&mut self, node: usize) -> anyhow::Result<()> {
        self.fleet.launch(node, super::fleet::Clock::Right)?;
        self.fleet.wait_ready()?;
        self.audit(node)
    }

    fn judge(mut self) -> anyhow::Result<(Report, Verdict)> {
        let everyone = self.fleet.all();
        let patience = Instant::now();
        let agreed = self.fleet.wait_views(&everyone, &everyone, PATIENCE)?;
        self.report.views("views agree at the end, seconds", patience.elapsed().as_secs_f64(), agreed.is_some());
        let seconds = seconds(micros() - self.since);
        self.fleet.ask_all(&everyone, &json!({ "do": "stop-audit" }))?;
        let names: Vec<_> = everyone.iter().map(|node| name(*node)).collect();
        let records = Records::of(&self.fleet.take_journals(), &names)?;
        for fault in &mut self.faults {
            fault.gave_up = records.saw_removal(fault.from, fault.to + 1_000_000);
        }
        let processes: BTreeSet<_> = records.reads.iter().map(|read| read.by).collect();
        let silent = self.started - processes.len() as u64;
        self.report.void_unless(silent == 0, format!("{silent} processes read nothing"));
        tell(&records, seconds, &mut self.report);
        let verdict = Verdict::on(&records, &self.faults, self.since, &names);
        verdict.tell(&mut self.report);
        Ok((self.report, verdict))
    }
}

fn micros() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn seconds(time: Micros) -> f64 {
    time as f64 / 1e6
}

/// The ways in which keys are written, by their numbers in turn.
const MODES: [&str; 4] = ["delete", "put", "strict", "strict-put"];
/// Few enough that each is written again and again, and read by several at the same time.
const KEYS: u32 = 64;
const CALLERS: u32 = 4;
/// Reads and writes a second of each node.
const READS: u32 = 200;
const WRITES: u32 = 8;
/// So that every process has read something by the time of the first fault.
const BEFORE: Duration = Duration::from_secs(1);
/// For what the last fault may have left behind, unless somebody was given up.
const AFTER: Duration = Duration::from_secs(13);
const HEALTHY: Duration = Duration::from_secs(10);
const PLANTED_SECONDS: u64 = 30;
