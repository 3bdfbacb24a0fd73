//! `transport-bench large`: how long a small call takes while large values go over the same link.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use distcache_transport::Method;
use serde::{Deserialize, Serialize};

use crate::{Subject, key, ours, round_trips::Client, serve};
use distcache_benches::{records, stats};

/// How long small calls took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beside {
    /// Which lane they went over; large values go over the data lane.
    pub lane: Way,
    /// How many large values were on their way at any time.
    pub large: usize,
    /// The time in microseconds that 99 of 100 small calls did not exceed, in each round.
    pub p99_us: Vec<f64>,
}

/// The lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The one of the large values.
    Data,
    /// The one that pings and events take.
    Control,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many times.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// For how long each time.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1_000)]
    pub time: u64,
}

/// Measures, tells, and stores all.
///
/// # Errors
///
/// The server does not start, a call fails, or the results cannot be written.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let besides = serve::runtime()?.block_on(async {
        let client = Client::start(Subject::Ours).await?;
        let link = client.link().expect("the client of our link has one").clone();
        let control = ours::connect_control(link.addr()).await?;
        let mut besides = Vec::new();
        let ways = [(Way::Data, &link), (Way::Control, control.link())];
        for (lane, small, large) in
            ways.into_iter().flat_map(|(lane, small)| [0, 1, 4].map(|large| (lane, small, large)))
        {
            let mut p99_us = Vec::new();
            for _ in 0..args.rounds {
                let stop = Arc::new(AtomicBool::new(false));
                let mut tasks = tokio::task::JoinSet::new();
                for _ in 0..large {
                    let (link, stop) = (link.clone(), Arc::clone(&stop));
                    tasks.spawn(async move {
                        while !stop.load(Ordering::Relaxed) {
                            link.call(Method(1), key(1 << 20).into(), BUDGET).await?;
                        }
                        anyhow::Ok(())
                    });
                }
                let mut took = Vec::new();
                let until = Instant::now() + Duration::from_millis(args.time);
                while Instant::now() < until {
                    let start = Instant::now();
                    small.call(Method(1), key(64).into(), BUDGET).await?;
                    took.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                stop.store(true, Ordering::Relaxed);
                while let Some(done) = tasks.join_next().await {
                    done??;
                }
                p99_us.push(f64::from(stats::percentile(&mut took, 0.99)) / 1e3);
            }
            println!("a small call on the {lane:?} lane beside {large} of 1 MiB: p99 {:.0} us", stats::median(&p99_us));
            besides.push(Beside { lane, large, p99_us });
        }
        anyhow::Ok(besides)
    })?;
    records::write(out, FILE, &besides)
}

/// The file of [`Beside`]s.
pub const FILE: &str = "large.jsonl";
const BUDGET: Duration = Duration::from_secs(10);
