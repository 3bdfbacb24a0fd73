//! `transport-bench engine`: gets of another node's keys through whole caches, each a pair of processes, in turn.
//!
//! A get counts only if the owner served it: after each round the owner must have served exactly as many as the asker made, and no
//! node may have loaded a value.

use std::{
    env, fmt,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use distcache_benches::{records, results::paired_ratio, stats};

/// Whose cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// Our engine.
    Ours,
    /// The `groupcache` crate: gRPC on one connection.
    GroupcacheRs,
    /// `groupcache-go`: HTTP, a connection for each get in flight.
    GroupcacheGo,
}

impl Cache {
    /// Everyone, ours first.
    pub const ALL: &[Self] = &[Self::Ours, Self::GroupcacheRs, Self::GroupcacheGo];

    /// Returns the name that tables show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "DistCache",
            Self::GroupcacheRs => "groupcache 0.3 (Rust)",
            Self::GroupcacheGo => "groupcache-go 3.5",
        }
    }

    /// Returns the name on the command line, and in the names of targets.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::GroupcacheRs => "groupcache-rs",
            Self::GroupcacheGo => "groupcache-go",
        }
    }

    /// Says why it is not measured, if it is not.
    #[must_use]
    pub fn missing(self) -> Option<&'static str> {
        let is_there = || {
            let mut command = Command::new(GO_PROGRAM);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        (self == Self::GroupcacheGo && !is_there()).then_some("groupcache-go is not built, which needs Go")
    }

    fn command(self) -> anyhow::Result<Command> {
        if self == Self::GroupcacheGo {
            return Ok(Command::new(GO_PROGRAM));
        }
        let mut command = Command::new(env::current_exe()?);
        command.args(["node", self.id()]);
        Ok(command)
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How many gets a cache answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Gets {
    /// Whose cache.
    pub cache: Cache,
    /// Gets in flight.
    pub in_flight: usize,
    /// Gets a second, in each round.
    pub rounds: Vec<f64>,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many times each runs.
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// For how long each time.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 500)]
    pub time: u64,
}

/// Measures, tells, and stores all.
///
/// # Errors
///
/// A node does not start, a get fails or is not served by the owner, or the results cannot be written.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let mut pairs = Vec::new();
    for cache in Cache::ALL {
        match cache.missing() {
            Some(why) => println!("skipped: {cache}, {why}"),
            None => pairs.push(Pair::start(*cache).with_context(|| cache.name())?),
        }
    }
    let (time, mut all) = (Duration::from_millis(args.time), Vec::new());
    for in_flight in IN_FLIGHT {
        all.extend(contest(&mut pairs, *in_flight, time, args.rounds)?);
    }
    records::write(out, FILE, &all)
}

/// Lets caches take turns, tells about them, and returns their rates.
fn contest(pairs: &mut [Pair], in_flight: usize, time: Duration, rounds: usize) -> anyhow::Result<Vec<Gets>> {
    let gets = |pair: &Pair| Gets { cache: pair.cache, in_flight, rounds: Vec::new() };
    let mut all: Vec<_> = pairs.iter().map(gets).collect();
    for _ in 0..rounds {
        for (pair, gets) in pairs.iter_mut().zip(&mut all) {
            let mut rate = |time| pair.rate(in_flight, time).with_context(|| pair.cache.name());
            rate(time / 4)?;
            gets.rounds.push(rate(time)?);
        }
    }
    println!("\ngets of the other node's keys, {in_flight} in flight");
    for gets in &all {
        let (middle, times) = (stats::median(&gets.rounds), paired_ratio(&all[0].rounds, &gets.rounds));
        println!("{:<24}{middle:>12.0} gets/s   the first is {times:>5.2} times as fast", gets.cache);
    }
    Ok(all)
}

/// Two nodes of one cluster.
struct Pair {
    cache: Cache,
    asker: Program,
    owner: Program,
}

impl Pair {
    fn start(cache: Cache) -> anyhow::Result<Self> {
        let mut owner = Program::start(cache.command()?)?;
        let addr = owner.line()?;
        let mut command = cache.command()?;
        command.arg(addr);
        let mut asker = Program::start(command)?;
        let ready = asker.line()?;
        ensure!(ready == "ready", "the asker said {ready:?}");
        Ok(Self { cache, asker, owner })
    }

    /// Asks, and returns gets a second.
    fn rate(&mut self, in_flight: usize, time: Duration) -> anyhow::Result<f64> {
        let [served, loads] = self.owner.ask("")?;
        let [gets, nanoseconds, own_loads] = self.asker.ask(&format!("{in_flight} {}", time.as_millis()))?;
        let [served_later, loads_later] = self.owner.ask("")?;
        let served = served_later - served;
        ensure!(served == gets, "the owner served {served} of {gets} gets");
        let loads = loads_later - loads + own_loads;
        ensure!(loads == 0, "{loads} values were loaded that the owner should hold");
        Ok(gets as f64 * 1e9 / nanoseconds as f64)
    }
}

/// A node's process. Dropping it ends the process.
struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start a node")?;
        let input = child.stdin.take().context("the node's input is a pipe")?;
        let output = BufReader::new(child.stdout.take().context("the node's output is a pipe")?);
        Ok(Self { child, input, output })
    }

    fn ask<const N: usize>(&mut self, line: &str) -> anyhow::Result<[u64; N]> {
        writeln!(self.input, "{line}")?;
        let answer = self.line()?;
        let numbers: Result<Vec<u64>, _> = answer.split(' ').map(str::parse).collect();
        let numbers = numbers.ok().and_then(|numbers| numbers.try_into().ok());
        numbers.with_context(|| format!("a node answered {answer:?}"))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "a node ended");
        line.pop();
        Ok(line)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file of [`Gets`].
pub const FILE: &str = "engine.jsonl";
/// What `go/` builds.
const GO_PROGRAM: &str = "groupcache-go";
const IN_FLIGHT: &[usize] = &[1, 16, 64, 256];
