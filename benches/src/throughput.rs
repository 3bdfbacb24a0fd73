//! `core-bench throughput`: operations per second by one thread, as many as this machine has processors, and more.
//!
//! A million resident entries: keys of 24 to 40 bytes, asked for by Zipf's law, and values of 100 bytes. An insert makes its own key and
//! value, and a get gives a value back.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    contest::{Contender, Pass, Workload},
    dataset::Requests,
    parallel,
    peers::Candidate,
    records, stats,
};

/// How fast a cache was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Speed {
    /// What the threads did.
    pub workload: Workload,
    /// How many they were.
    pub threads: usize,
    /// In which cache.
    pub cache: Candidate,
    /// Million operations per second, of all threads together, in each round.
    pub rounds: Vec<f64>,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Leaves the other caches out.
    #[arg(long, value_delimiter = ',')]
    pub caches: Vec<Candidate>,
    /// Leaves the other workloads out.
    #[arg(long, value_delimiter = ',')]
    pub workloads: Vec<Workload>,
    /// How many threads.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 8])]
    pub threads: Vec<usize>,
    /// How many times each cache runs.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// For how long each time.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 200)]
    pub time: u64,
    /// How many entries are resident.
    #[arg(long, default_value_t = ENTRIES)]
    pub entries: u64,
}

/// Measures, tells about each workload and number of threads, and stores all.
///
/// # Errors
///
/// The results cannot be written.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let mut speeds = Vec::new();
    let wanted = |workload: &&Workload| args.workloads.is_empty() || args.workloads.contains(workload);
    let (with_room, full): (Vec<_>, Vec<_>) =
        Workload::ALL.iter().filter(wanted).partition(|workload| **workload == Workload::GetHit);
    if !with_room.is_empty() {
        let requests = Requests::new(args.entries);
        speeds.extend(contest(args, &with_room, &filled_with_room(&args.caches, args.entries), &requests));
    }
    if !full.is_empty() {
        let requests = Requests::new(2 * args.entries);
        speeds.extend(contest(args, &full, &filled_to_the_brim(&args.caches, args.entries, &requests), &requests));
    }
    records::write(out, records::THROUGHPUT, &speeds)
}

/// Builds caches in which all keys stay, though shards fill unevenly.
#[must_use]
pub fn filled_with_room(candidates: &[Candidate], entries: u64) -> Vec<Contender> {
    Contender::fill_all(Candidate::chosen(candidates), entries + entries / 4, entries)
}

/// Builds caches that are full, of what their policy keeps when twice as many keys are asked for and each is inserted when it is missed.
#[must_use]
pub fn filled_to_the_brim(candidates: &[Candidate], entries: u64, requests: &Requests) -> Vec<Contender> {
    let contenders = Contender::fill_all(Candidate::chosen(candidates), entries, entries);
    let settling = requests.keys().len() / SETTLING;
    parallel::map(&contenders, |contender| contender.read_through(&requests.keys()[..settling]));
    contenders
}

fn contest(args: &Args, workloads: &[&Workload], contenders: &[Contender], requests: &Requests) -> Vec<Speed> {
    let mut speeds = Vec::new();
    for workload in workloads {
        for &threads in &args.threads {
            let mut rounds = vec![Vec::new(); contenders.len()];
            for number in 0..args.rounds {
                let time = Duration::from_millis(args.time);
                let pass = Pass { workload: **workload, threads, time, requests, number };
                for (contender, rounds) in contenders.iter().zip(&mut rounds) {
                    rounds.push(contender.speed(&pass));
                }
            }
            let speed = |(contender, rounds): (&Contender, Vec<f64>)| Speed {
                workload: **workload,
                threads,
                cache: contender.candidate,
                rounds,
            };
            let measured: Vec<_> = contenders.iter().zip(rounds).map(speed).collect();
            println!("\n{} by {threads} threads, Mops/s", workload.name());
            for (speed, contender) in measured.iter().zip(contenders) {
                let middle = stats::median(&speed.rounds);
                let times = stats::median(&measured[0].rounds) / middle;
                let resident = 100.0 * contender.resident(requests);
                println!(
                    "{:<16}{middle:>8.2}   the first is {times:>5.2} times as fast   {resident:>5.1} % of gets hit",
                    speed.cache
                );
            }
            speeds.extend(measured);
        }
    }
    speeds
}

/// How many entries are resident, unless it is said otherwise: far more than processor caches hold.
pub const ENTRIES: u64 = 1_000_000;
/// The part of all requests that is made before anything is timed: four for each entry there is room for.
const SETTLING: usize = 2;
