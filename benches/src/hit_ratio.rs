//! `core-bench hit-ratio`: how many requests of real traces are hits, in caches of several sizes.
//!
//! Each cache is read through by one thread: get, and on a miss insert. Each uses its own default sharding, or the one its name
//! says; in small caches that can be a single shard, or shards of a few entries.

use std::{cmp::Reverse, collections::BTreeMap, num::NonZeroUsize, path::Path, sync::Arc};

use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::{
    optimum::Future,
    parallel,
    peers::{Bound, Candidate, Peer, Visit},
    records,
    traces::{SOURCES, Trace},
};

/// The hits of every cache on one trace in one size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The trace.
    pub trace: String,
    /// The size of the caches, in percent of what all different keys take.
    pub percent: f64,
    /// The size of the caches: in bytes if the trace knows sizes, else in entries.
    pub capacity: u64,
    /// How many requests there are.
    pub requests: u64,
    /// The percentage of hits.
    pub hits: BTreeMap<Candidate, f64>,
    /// The percentage of bytes that were hits, if the trace knows sizes.
    pub byte_hits: Option<BTreeMap<Candidate, f64>>,
    /// The percentage of hits of the best choice that knows the future. Only where all entries are of one size.
    pub optimum: Option<f64>,
    /// The percentage of hits of one queue in exact order of use. Only where all entries are of one size.
    pub lru: Option<f64>,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Leaves the other caches out.
    #[arg(long, value_delimiter = ',')]
    pub caches: Vec<Candidate>,
    /// Leaves the other traces out.
    #[arg(long, value_delimiter = ',')]
    pub traces: Vec<String>,
    /// Leaves out the traces of more than a million requests.
    #[arg(long)]
    pub quick: bool,
}

impl Row {
    /// Returns the most hits of any peer, as a percentage, and whose they are.
    #[must_use]
    pub fn best_peer(&self) -> Option<(Candidate, f64)> {
        let peers = self.hits.iter().filter(|(candidate, _)| candidate.is_peer());
        peers.map(|(candidate, hits)| (*candidate, *hits)).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Returns by how many points a cache stays below the best peer; none if it is above it.
    #[must_use]
    pub fn regret(&self, candidate: Candidate) -> Option<f64> {
        Some((self.best_peer()?.1 - self.hits.get(&candidate)?).max(0.0))
    }
}

/// Measures, tells about each row, and stores all.
///
/// # Errors
///
/// A trace cannot be read, or the results not be written. Traces that are not there at all are told about, and no error.
pub fn run(args: &Args, traces: &Path, out: &Path) -> anyhow::Result<()> {
    if !traces.is_dir() {
        println!("skipped: no traces at {}", traces.display());
        return Ok(());
    }
    let candidates = Candidate::chosen(&args.caches);
    let wanted = |name: &str| args.traces.is_empty() || args.traces.iter().any(|trace| trace == name);
    let mut jobs = Vec::new();
    for source in SOURCES.iter().filter(|source| wanted(source.name)) {
        let trace = source.read(traces)?;
        if args.quick && trace.requests.len() > QUICK_REQUESTS {
            continue;
        }
        println!("{:<12} {:>9} requests, {:>7} keys", trace.name, trace.requests.len(), trace.unique);
        let future = Future::new(trace.requests.iter().map(|request| request.key));
        let trace = Arc::new((trace, future));
        jobs.extend(PERCENTS.iter().map(|percent| (Arc::clone(&trace), *percent)));
    }
    // The longest first, so that no processor has one left when all others are done.
    jobs.sort_by_key(|(trace, _)| Reverse(trace.0.requests.len()));

    let rows = parallel::map(&jobs, |(trace, percent)| {
        let row = measure(&trace.0, &trace.1, *percent, candidates);
        row.iter().for_each(|row| println!("{}", line(row)));
        row
    });
    let mut rows: Vec<_> = rows.into_iter().flatten().collect();
    let order = |row: &Row| SOURCES.iter().position(|source| source.name == row.trace);
    rows.sort_by(|a, b| order(a).cmp(&order(b)).then(a.percent.total_cmp(&b.percent)));
    print_summary(&rows, candidates);
    records::write(out, records::HIT_RATIO, &rows)
}

/// Measures every cache on a trace in one size, or nothing if that is too small.
fn measure(trace: &Trace, future: &Future, percent: f64, candidates: &[Candidate]) -> Option<Row> {
    let part = |whole: u64| (whole as f64 * percent / 100.0).round() as u64;
    let entries = part(trace.unique);
    if entries < FEWEST_ENTRIES {
        return None;
    }
    let (capacity, bound) = match trace.unique_bytes {
        None => (entries, Bound::Entries(entries)),
        Some(bytes) => {
            let total = part(bytes);
            (total, Bound::Weight { total, entries, weigh: |size: &u32| *size })
        }
    };
    let counts = candidates.iter().map(|candidate| (*candidate, candidate.build(bound, ReadThrough(trace))));
    let counts: BTreeMap<_, _> = counts.collect();
    let requests = trace.requests.len() as u64;
    let all_bytes: u64 = trace.requests.iter().map(|request| u64::from(request.size)).sum();
    let unsized_only = trace.unique_bytes.is_none();
    Some(Row {
        trace: trace.name.to_owned(),
        percent,
        capacity,
        requests,
        hits: counts.iter().map(|(candidate, counts)| (*candidate, share(counts.requests, requests))).collect(),
        byte_hits: trace
            .unique_bytes
            .map(|_| counts.iter().map(|(candidate, counts)| (*candidate, share(counts.bytes, all_bytes))).collect()),
        optimum: unsized_only.then(|| share(future.optimal_hits(entries as usize), requests)),
        lru: unsized_only.then(|| share(lru_hits(trace, entries as usize), requests)),
    })
}

struct ReadThrough<'t>(&'t Trace);

#[derive(Default)]
struct Hits {
    requests: u64,
    bytes: u64,
}

impl Visit<u64, u32> for ReadThrough<'_> {
    type Output = Hits;

    fn visit<P: Peer<u64, u32>>(self, cache: P) -> Hits {
        let mut hits = Hits::default();
        for request in &self.0.requests {
            if cache.get(&request.key) {
                hits.requests += 1;
                hits.bytes += u64::from(request.size);
            } else {
                cache.insert(request.key, request.size);
            }
        }
        hits
    }
}

fn lru_hits(trace: &Trace, capacity: usize) -> u64 {
    let mut cache = LruCache::new(NonZeroUsize::new(capacity).expect("too small sizes are left out"));
    let hits = trace.requests.iter().filter(|request| cache.put(request.key, ()).is_some());
    hits.count() as u64
}

fn share(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}

fn line(row: &Row) -> String {
    let size = format!("{:<12} {:>4}% {:>9}", row.trace, row.percent, row.capacity);
    let optimum = row.optimum.map_or_else(|| "     ".to_owned(), |optimum| format!("{optimum:5.1}"));
    let hits = row.hits.iter().map(|(candidate, hits)| format!("  {candidate} {hits:.1}"));
    format!("{size}  OPT {optimum}{}", hits.collect::<String>())
}

fn print_summary(rows: &[Row], candidates: &[Candidate]) {
    println!("\n{:<16}{:>8}{:>10}{:>10}  over {} rows", "cache", "mean", "regret", "worst", rows.len());
    for candidate in candidates {
        let Some(summary) = Summary::new(rows, *candidate) else { continue };
        let worst = format!("{}@{}%", summary.worst.trace, summary.worst.percent);
        println!(
            "{candidate:<16}{:>8.2}{:>10.2}{:>10.2}  {worst}",
            summary.mean, summary.mean_regret, summary.worst_regret
        );
    }
}

/// What a cache did over all rows.
#[derive(Debug, Clone)]
pub struct Summary<'r> {
    /// The mean of its percentages of hits.
    pub mean: f64,
    /// The mean of its regrets: see [`Row::regret`].
    pub mean_regret: f64,
    /// The largest of its regrets.
    pub worst_regret: f64,
    /// The row of the largest regret.
    pub worst: &'r Row,
}

impl<'r> Summary<'r> {
    /// Sums rows up, if the cache and a peer were measured in them.
    #[must_use]
    pub fn new(rows: &'r [Row], candidate: Candidate) -> Option<Self> {
        let regrets = rows.iter().filter_map(|row| Some((row.regret(candidate)?, row)));
        let (worst_regret, worst) = regrets.clone().max_by(|a, b| a.0.total_cmp(&b.0))?;
        let hits: Vec<_> = rows.iter().filter_map(|row| row.hits.get(&candidate).copied()).collect();
        let regrets: Vec<_> = regrets.map(|(regret, _)| regret).collect();
        Some(Self { mean: crate::stats::mean(&hits), mean_regret: crate::stats::mean(&regrets), worst_regret, worst })
    }
}

/// The sizes of caches, in percent of what all different keys of a trace take.
pub const PERCENTS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0];
/// With fewer, the sharding decides and not the policy.
const FEWEST_ENTRIES: u64 = 50;
const QUICK_REQUESTS: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, moka: f64, quick: f64) -> Row {
        let hits = [(Candidate::Ours, ours), (Candidate::Moka, moka), (Candidate::Quick, quick)];
        Row {
            trace: format!("t{ours}"),
            percent: 1.0,
            capacity: 100,
            requests: 1_000,
            hits: hits.into(),
            byte_hits: None,
            optimum: None,
            lru: None,
        }
    }

    #[test]
    fn regret_is_the_distance_to_the_best_peer_of_the_row() {
        let row = row(50.0, 40.0, 52.0);
        assert_eq!(row.best_peer(), Some((Candidate::Quick, 52.0)));
        assert_eq!(row.regret(Candidate::Ours), Some(2.0));
        assert_eq!(row.regret(Candidate::Moka), Some(12.0));
        assert_eq!(row.regret(Candidate::TinyUfo), None);
    }

    #[test]
    fn a_summary_tells_means_and_the_worst_row() {
        let rows = [row(50.0, 40.0, 52.0), row(60.0, 50.0, 40.0)];
        let summary = Summary::new(&rows, Candidate::Ours).unwrap();
        assert_eq!((summary.mean, summary.mean_regret, summary.worst_regret), (55.0, 1.0, 2.0));
        assert_eq!(summary.worst.trace, "t50");
    }

    #[test]
    fn a_loop_that_fits_misses_each_key_once() {
        let requests = (0..10).flat_map(|_| 0..100).map(|key| crate::traces::Request { key, size: 1 }).collect();
        let trace = Trace::new("loop", requests, false);
        let future = Future::new(trace.requests.iter().map(|request| request.key));
        let row = measure(&trace, &future, 100.0, &[Candidate::Quick]).unwrap();
        assert_eq!((row.optimum, row.lru), (Some(90.0), Some(90.0)));
        assert!(measure(&trace, &future, 1.0, &[Candidate::Quick]).is_none(), "one entry is too small");
    }
}
