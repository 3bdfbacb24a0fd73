//! `core-bench latency`: how long a get takes while others insert, each get timed, apart from the throughput.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    contest::{Pass, Workload},
    dataset::Requests,
    peers::Candidate,
    records, stats, throughput,
};

/// How long the gets of a cache took, in nanoseconds, a number for each round. The clock's own time is part of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tail {
    /// How many threads there were.
    pub threads: usize,
    /// Which cache it is.
    pub cache: Candidate,
    /// The medians.
    pub p50: Vec<f64>,
    /// The 99th percentiles.
    pub p99: Vec<f64>,
    /// The 99.9th percentiles.
    pub p999: Vec<f64>,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Leaves the other caches out.
    #[arg(long, value_delimiter = ',')]
    pub caches: Vec<Candidate>,
    /// How many threads.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 8])]
    pub threads: Vec<usize>,
    /// How many times each cache runs.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// For how long each time.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 250)]
    pub time: u64,
    /// How many entries are resident.
    #[arg(long, default_value_t = throughput::ENTRIES)]
    pub entries: u64,
}

/// Measures, tells about each number of threads, and stores all.
///
/// # Errors
///
/// The results cannot be written.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let requests = Requests::new(2 * args.entries);
    let contenders = throughput::filled_to_the_brim(&args.caches, args.entries, &requests);
    let mut tails = Vec::new();
    for &threads in &args.threads {
        let empty = |cache| Tail { threads, cache, p50: Vec::new(), p99: Vec::new(), p999: Vec::new() };
        let mut measured: Vec<_> = contenders.iter().map(|contender| empty(contender.candidate)).collect();
        for number in 0..args.rounds {
            let time = Duration::from_millis(args.time);
            let pass = Pass { workload: Workload::Mix95, threads, time, requests: &requests, number };
            for (contender, tail) in contenders.iter().zip(&mut measured) {
                let mut latencies = contender.latencies(&pass);
                tail.p50.push(stats::percentile(&mut latencies, 0.5).into());
                tail.p99.push(stats::percentile(&mut latencies, 0.99).into());
                tail.p999.push(stats::percentile(&mut latencies, 0.999).into());
            }
        }
        println!("\ngets of {} by {threads} threads, ns: p50, p99, p99.9", Workload::Mix95.name());
        for Tail { cache, p50, p99, p999, .. } in &measured {
            let [p50, p99, p999] = [p50, p99, p999].map(|rounds| stats::median(rounds));
            println!("{cache:<16}{p50:>8.0}{p99:>8.0}{p999:>9.0}");
        }
        tails.extend(measured);
    }
    records::write(out, records::LATENCY, &tails)
}
