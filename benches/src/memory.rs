//! `core-bench memory`: the bytes that an entry costs beyond its key and its value, as the operating system counts them.
//!
//! Each cache is filled in a process of its own: this program, run again.

use std::{
    env, fs,
    ops::Range,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    dataset::{BLOB_BYTES, Blob, blob, key},
    parallel,
    peers::{Bound, Candidate, Key, Peer, Value, Visit},
    records, stats,
};

/// What an entry of a cache costs, in bytes beyond key and value, a number for each process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Overhead {
    /// What keys and values are.
    pub shape: Shape,
    /// Which cache it is.
    pub cache: Candidate,
    /// After as many inserts as there is room for.
    pub filled: Vec<f64>,
    /// After twice as many more, of other keys: in the first process only.
    pub churned: Vec<f64>,
}

/// What keys and values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A number, and 100 bytes beside it.
    Inline,
    /// A string of 24 to 40 bytes, and 100 bytes behind an `Arc`.
    Pointers,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Leaves the other caches out.
    #[arg(long, value_delimiter = ',')]
    pub caches: Vec<Candidate>,
    /// How many processes for each cache and shape.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// How many entries there is room for.
    #[arg(long, default_value_t = 1_000_000)]
    pub entries: u64,
}

/// What a process of its own measures.
#[derive(Debug, Clone, clap::Args)]
pub struct ChildArgs {
    /// The cache; without it, a plain vector.
    #[arg(long)]
    pub cache: Option<Candidate>,
    /// What keys and values are.
    #[arg(long)]
    pub shape: Shape,
    /// How many entries there is room for.
    #[arg(long)]
    pub entries: u64,
    /// Inserts twice as many more.
    #[arg(long)]
    pub churn: bool,
}

/// What a process of its own prints: bytes of memory for each entry.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Cost {
    filled: f64,
    churned: Option<f64>,
}

impl Shape {
    /// Every shape.
    pub const ALL: &[Self] = &[Self::Inline, Self::Pointers];

    /// Returns the name that targets show.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Pointers => "pointers",
        }
    }

    /// Returns the name that tables show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inline => "u64 → [u8; 100]",
            Self::Pointers => "String → Arc<[u8]>",
        }
    }
}

/// Measures, tells about each cache, and stores all.
///
/// # Errors
///
/// A process cannot be run, or the results not be written.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let mut overheads = Vec::new();
    for &shape in Shape::ALL {
        let bare = bare(shape, args.entries)?;
        println!("\n{}: {bare:.1} bytes of key and value; beyond them, filled and churned", shape.name());
        let candidates = Candidate::chosen(&args.caches);
        let costs = costs(candidates, shape, args)?;
        for (cache, costs) in candidates.iter().zip(costs) {
            let filled: Vec<_> = costs.iter().map(|cost| cost.filled - bare).collect();
            let churned: Vec<_> = costs.iter().filter_map(|cost| Some(cost.churned? - bare)).collect();
            println!("{cache:<16}{:>8.1}{:>8.1}", stats::median(&filled), stats::median(&churned));
            overheads.push(Overhead { shape, cache: *cache, filled, churned });
        }
    }
    records::write(out, records::MEMORY, &overheads)
}

/// Returns the bytes of a key and its value alone: what they say, or where an allocator has a say, what they take in a vector.
fn bare(shape: Shape, entries: u64) -> anyhow::Result<f64> {
    match shape {
        Shape::Inline => Ok((size_of::<u64>() + BLOB_BYTES) as f64),
        Shape::Pointers => Ok(child(&ChildArgs { cache: None, shape, entries, churn: false })?.filled),
    }
}

/// Runs the processes of all caches, as many at once as there are processors: they measure memory, not time.
fn costs(candidates: &[Candidate], shape: Shape, args: &Args) -> anyhow::Result<Vec<Vec<Cost>>> {
    let jobs: Vec<_> = (0..args.rounds).flat_map(|round| candidates.iter().map(move |cache| (round, *cache))).collect();
    let costs = parallel::map(&jobs, |(round, cache)| {
        child(&ChildArgs { cache: Some(*cache), shape, entries: args.entries, churn: *round == 0 })
    });
    let costs: Vec<Cost> = costs.into_iter().collect::<Result<_, _>>()?;
    Ok((0..candidates.len()).map(|at| costs.iter().skip(at).step_by(candidates.len()).copied().collect()).collect())
}

fn child(args: &ChildArgs) -> anyhow::Result<Cost> {
    let mut command = Command::new(env::current_exe().context("this program does not know where it is")?);
    command.arg(CHILD).arg("--shape").arg(value_name(args.shape)).arg("--entries").arg(args.entries.to_string());
    if args.churn {
        command.arg("--churn");
    }
    if let Some(cache) = args.cache {
        command.arg("--cache").arg(value_name(cache));
    }
    let output = command.stderr(Stdio::inherit()).output().context("this program cannot be run again")?;
    ensure!(output.status.success(), "the process of {:?} ended with {}", args.cache, output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn value_name(value: impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}

/// Fills a cache, and prints what its entries cost.
///
/// # Errors
///
/// The operating system does not tell how much memory this process has.
pub fn run_child(args: &ChildArgs) -> anyhow::Result<()> {
    let cost = match args.shape {
        Shape::Inline => cost(args, |number| (number, [7_u8; BLOB_BYTES]))?,
        Shape::Pointers => cost::<String, Blob>(args, |number| (key(number), blob()))?,
    };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

fn cost<K: Key, V: Value>(args: &ChildArgs, entry: fn(u64) -> (K, V)) -> anyhow::Result<Cost> {
    let before = resident_bytes()?;
    match args.cache {
        Some(cache) => {
            let grow = Grow { before, entries: args.entries, churn: args.churn, entry };
            cache.build(Bound::Entries(args.entries), grow)
        }
        None => {
            let mut entries = Vec::with_capacity(usize::try_from(args.entries)?);
            entries.extend((0..args.entries).map(entry));
            let filled = (resident_bytes()? - before) as f64 / entries.len() as f64;
            Ok(Cost { filled, churned: None })
        }
    }
}

struct Grow<K, V> {
    before: u64,
    entries: u64,
    churn: bool,
    entry: fn(u64) -> (K, V),
}

impl<K: Key, V: Value> Visit<K, V> for Grow<K, V> {
    type Output = anyhow::Result<Cost>;

    fn visit<P: Peer<K, V>>(self, cache: P) -> anyhow::Result<Cost> {
        let filled = self.insert(&cache, 0..self.entries, 1)?;
        let more = || self.insert(&cache, self.entries..3 * self.entries, CHURNED_SAMPLE);
        Ok(Cost { filled, churned: self.churn.then(more).transpose()? })
    }
}

impl<K: Key, V: Value> Grow<K, V> {
    /// Inserts the entries of some numbers, and returns what each entry that is there then costs.
    fn insert(&self, cache: &impl Peer<K, V>, numbers: Range<u64>, sample: usize) -> anyhow::Result<f64> {
        let end = numbers.end;
        for number in numbers {
            let (key, value) = (self.entry)(number);
            cache.insert(key, value);
        }
        cache.settle();
        let bytes = resident_bytes()? - self.before;
        // By asking for each: not every cache can count.
        let there = (0..end).step_by(sample).filter(|number| cache.get(&(self.entry)(*number).0)).count();
        Ok(bytes as f64 / (there * sample) as f64)
    }
}

/// Returns the memory of this process, counted page by page: the sums of `/proc/self/statm` lag behind.
fn resident_bytes() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").context("only Linux tells about memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()).context("no line tells it")?.parse()?;
    Ok(kib * 1024)
}

/// The subcommand of a process of its own.
pub const CHILD: &str = "memory-child";
/// Of the churned keys one in so many is asked for, which tells their number to a third of a percent.
const CHURNED_SAMPLE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_system_tells_how_much_memory_this_process_has() {
        let bytes = resident_bytes().unwrap();
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
    }

    #[test]
    fn what_a_child_is_asked_for_is_what_it_reads() {
        for candidate in Candidate::ALL {
            assert_eq!(Candidate::from_str(&value_name(*candidate), false), Ok(*candidate));
        }
    }
}
