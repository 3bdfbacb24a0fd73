//! Whole clusters of real nodes on a simulated network, in virtual time: `cargo xtask sim` builds and runs this.
//!
//! Each node is an engine with all below it, in a tokio runtime of its own whose clock is paused. The scheduler steps the runtimes
//! through time, no step longer than the shortest latency of the network, so that what a node sends cannot reach another within one. A
//! frozen node is not stepped, a killed one is a runtime that is dropped. Everything follows from the seed: a seed that fails
//! is printed, and run again with `--seed N --trace` it fails the same way.

mod client;
mod network;
mod node;
#[cfg(distcache_defects)]
mod planted;
mod reads;
mod rules;
mod run;
mod scenario;
mod source;
mod stream;
mod talk;
mod tap;
mod trace;
mod wire;
mod world;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

#[cfg(distcache_defects)]
use anyhow::Context;
use anyhow::{bail, ensure};
use clap::Parser;

#[cfg(distcache_defects)]
use rules::Rule;
use run::{Report, run};
use scenario::Scenario;

/// Simulates clusters from seeds.
#[derive(Debug, Parser)]
#[command(name = "distcache-sim")]
struct Args {
    /// The seeds to run, `A..B` without B.
    #[arg(long, value_parser = range, default_value = "0..200")]
    seeds: (u64, u64),
    /// Runs one seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Tells all that happens in it.
    #[arg(long)]
    trace: bool,
    /// Shows what the nodes log in it.
    #[arg(long)]
    log: bool,
    /// Plants each known defect, and looks for the first seed that finds it.
    #[arg(long)]
    planted: bool,
    /// Plants this one only, by its place in the list.
    #[arg(long)]
    defect: Option<usize>,
    /// Runs one seed twice, and a planted defect, before the others.
    #[arg(long)]
    self_test: bool,
    /// Runs those seeds only whose faults are of these kinds: `starts`, `loss,freeze`.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// Ends after so many seeds.
    #[arg(long)]
    most: Option<u64>,
    /// Prints what came of all in one line, for programs.
    #[arg(long)]
    figures: bool,
    /// Ends once that many seconds have passed.
    #[arg(long)]
    seconds: Option<u64>,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("a range is written A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok((number(from)?, number(to)?))
}

fn main() -> ExitCode {
    match begin(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin(args: &Args) -> anyhow::Result<()> {
    if args.log {
        tracing_subscriber::fmt().with_env_filter("debug").without_time().init();
    }
    if cfg!(not(tokio_unstable)) {
        println!("built without --cfg tokio_unstable: seeds do not replay exactly");
    }
    if args.planted {
        return planted(args);
    }
    if let Some(seed) = args.seed {
        return one(seed, args);
    }
    if args.self_test {
        self_test()?;
    }
    let summary = many(args, args.seeds, true)?;
    summary.print();
    if args.figures {
        let Summary { seeds, false_removals, node_hours, failed, .. } = &summary;
        let failed = failed.len();
        println!(
            r#"{{"seeds":{seeds},"failed":{failed},"false_removals":{false_removals},"node_hours":{node_hours}}}"#
        );
    }
    ensure!(summary.failed.is_empty(), "these seeds failed: {:?}", summary.failed);
    Ok(())
}

/// Runs one seed and tells about it.
fn one(seed: u64, args: &Args) -> anyhow::Result<()> {
    #[cfg(distcache_defects)]
    if let Some(place) = args.defect {
        ensure!(place < planted::names().count(), "there is no such defect");
        planted::choose(Some(place));
        planted::plant();
    }
    let report = run(seed, args.trace)?;
    println!("{report:#?}");
    ensure!(report.violations.is_empty(), "seed {seed} failed");
    Ok(())
}

/// The same seed twice is the same run, and a defect is found.
fn self_test() -> anyhow::Result<()> {
    for seed in SELF_TEST {
        let digests = [run(seed, false)?.digest, run(seed, false)?.digest];
        ensure!(digests[0] == digests[1], "seed {seed} ran twice and differed: {digests:x?}");
    }
    println!("self-test: seeds {SELF_TEST:?} ran twice, and the same way");
    #[cfg(distcache_defects)]
    {
        planted::choose(planted::names().position(|name| name.contains("hop of a read")));
        planted::plant();
        let caught = (0..20).find_map(|seed| run(seed, false).ok().filter(|report| !report.violations.is_empty()));
        planted::choose(None);
        planted::plant();
        let caught = caught.context("self-test: a planted defect was not caught")?;
        println!("self-test: a planted defect was caught at seed {}", caught.seed);
    }
    Ok(())
}

#[cfg(distcache_defects)]
fn planted(args: &Args) -> anyhow::Result<()> {
    let mut missed = 0;
    for (place, name) in planted::names().enumerate() {
        if args.defect.is_some_and(|chosen| chosen != place) {
            continue;
        }
        planted::choose(Some(place));
        let (from, to) = args.seeds;
        let mut caught = None;
        let mut at = from;
        while at < to && caught.is_none() {
            let end = (at + args.threads as u64 * 2).min(to);
            let reports = many(args, (at, end), false)?.failures;
            // A scenario that proves nothing does not prove this either.
            let reports = reports.into_iter().filter(|(_, why)| !why.starts_with(&Rule::Void.to_string()));
            caught = reports.min_by_key(|(seed, _)| *seed);
            at = end;
        }
        match caught {
            Some((seed, why)) => println!("{name}: caught at seed {seed}: {why}"),
            None => {
                missed += 1;
                println!("{name}: not caught in {} seeds", to - from);
            }
        }
    }
    planted::choose(None);
    ensure!(missed == 0, "{missed} planted defects were not caught");
    Ok(())
}

#[cfg(not(distcache_defects))]
fn planted(_: &Args) -> anyhow::Result<()> {
    bail!("built without --cfg distcache_defects: there is nothing to plant")
}

/// All that came of many seeds.
#[derive(Default)]
struct Summary {
    seeds: u64,
    simulated: Duration,
    wall: Duration,
    /// Of the processor, where the system tells.
    busy: Option<Duration>,
    node_hours: f64,
    reads: u64,
    writes: u64,
    degraded: u64,
    clears: u64,
    strict: u64,
    leaves: u64,
    loads: u64,
    memory_reads: u64,
    acting_reads: u64,
    near_reads: u64,
    stale: u64,
    gifts: u64,
    false_removals: u64,
    errors: BTreeMap<String, u64>,
    failed: Vec<u64>,
    failures: Vec<(u64, String)>,
}

impl Summary {
    fn add(&mut self, report: &Report) {
        let counts = &report.counts;
        self.seeds += 1;
        self.simulated += report.simulated;
        self.node_hours += report.hosts as f64 * report.simulated.as_secs_f64() / 3_600.0;
        self.reads += counts.reads;
        self.writes += counts.writes;
        self.degraded += counts.degraded;
        self.clears += counts.clears;
        self.strict += counts.strict;
        self.leaves += counts.leaves;
        self.loads += counts.loads;
        self.memory_reads += counts.memory_reads;
        self.acting_reads += counts.acting_reads;
        self.near_reads += counts.near_reads;
        self.stale += counts.stale;
        self.gifts += counts.gifts;
        self.false_removals += report.false_removals;
        for (kind, count) in &counts.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        // That a scenario proves nothing comes last, and is what is told only if there is nothing else.
        if let Some(first) = report.violations.first() {
            self.failed.push(report.seed);
            self.failures.push((report.seed, first.clone()));
        }
    }

    fn print(&self) {
        let (simulated, wall) = (self.simulated.as_secs_f64(), self.wall.as_secs_f64());
        println!(
            "{} seeds, {simulated:.0} simulated s in {wall:.1} s: {:.0} simulated s per second",
            self.seeds,
            simulated / wall,
        );
        if let Some(busy) = self.busy {
            println!("{:.0} simulated s per second of one processor", simulated / busy.as_secs_f64());
        }
        println!(
            "{} reads ({} of them behind the source), {} writes ({} degraded, {} strict, {} emptied the keyspace), {} loads, errors {:?}",
            self.reads, self.stale, self.writes, self.degraded, self.strict, self.clears, self.loads, self.errors
        );
        println!(
            "{} answers from memory were judged, {} of them in an owner's place, {} of them from near copies",
            self.memory_reads, self.acting_reads, self.near_reads
        );
        println!(
            "{} nodes took leave, {} keys were given; {} false removals in {:.1} node-hours",
            self.leaves, self.gifts, self.false_removals, self.node_hours
        );
        println!("{} seeds with violations", self.failed.len());
    }
}

/// Runs seeds on all threads.
fn many(args: &Args, (from, to): (u64, u64), tell: bool) -> anyhow::Result<Summary> {
    let (start, before) = (Instant::now(), processor_time());
    let (next, begun, summary) = (AtomicU64::new(from), AtomicU64::new(0), Mutex::new(Summary::default()));
    let worker = || -> anyhow::Result<()> {
        #[cfg(distcache_defects)]
        planted::plant();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_over = args.seconds.is_some_and(|seconds| start.elapsed().as_secs() >= seconds);
            if seed >= to || is_over {
                return Ok(());
            }
            let kind = format!("{:?}", Scenario::of(seed).kind);
            if !args.kinds.is_empty() && !args.kinds.iter().any(|wanted| wanted.eq_ignore_ascii_case(&kind)) {
                continue;
            }
            let before = begun.fetch_add(1, Ordering::Relaxed);
            if args.most.is_some_and(|most| before >= most) {
                return Ok(());
            }
            let report = run(seed, false)?;
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            summary.add(&report);
            if !tell {
                continue;
            }
            if !report.violations.is_empty() {
                println!("seed {seed} ({:?}) failed; replay with --seed {seed} --trace", report.kind);
                report.violations.iter().for_each(|violation| println!("    {violation}"));
            }
            if summary.seeds % 20 == 0 {
                let (seeds, failed) = (summary.seeds, summary.failed.len());
                println!("{seeds} seeds, {failed} failed, {:.1} s", start.elapsed().as_secs_f64());
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..args.threads.max(1)).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => done?,
                Err(_) => bail!("a run panicked"),
            }
        }
        Ok(())
    })?;
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.wall = start.elapsed();
    summary.busy = processor_time().zip(before).map(|(after, before)| after - before);
    summary.failed.sort_unstable();
    Ok(summary)
}

/// What this process has used of the processors so far.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    // A hundredth of a second on every Linux there is.
    Some(Duration::from_millis(ticks * 10))
}

/// A mix of faults, a storm of crashes, nodes that die with a keyspace emptied, and cuts in one direction with backups.
const SELF_TEST: [u64; 4] = [0, 1, 13, 38];
