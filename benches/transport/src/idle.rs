//! `transport-bench idle`: what links cost on which nothing happens but pings.

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{Subject, ours, serve};
use distcache_benches::records;

/// What idle links cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Idle {
    /// How many there were.
    pub links: usize,
    /// Bytes of memory of one link's end at the server, as the operating system counts them.
    pub server_bytes: f64,
    /// Bytes of memory of one link's end at the client.
    pub client_bytes: f64,
    /// Percent of one processor that the server took for all of them.
    pub server_cpu: f64,
    /// Percent of one processor that the client took for all of them.
    pub client_cpu: f64,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many links.
    #[arg(long, default_value_t = 1_000)]
    pub links: usize,
    /// For how long they are idle.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub time: u64,
}

/// Measures, tells, and stores all.
///
/// # Errors
///
/// The server does not start, a link does not come up, or the results cannot be written.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let idle = serve::runtime()?.block_on(async {
        let server = serve::Served::start(Subject::Ours, None)?;
        let (own, theirs) = (std::process::id(), server.pid());
        // What is allocated once is not what a link costs.
        let first = ours::connect(server.addr, None).await?;
        let before = [resident(theirs)?, resident(own)?];
        let mut links = vec![first];
        for _ in 0..args.links {
            links.push(ours::connect(server.addr, None).await?);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = [resident(theirs)?, resident(own)?];
        let busy = [processor_time(theirs)?, processor_time(own)?];
        tokio::time::sleep(Duration::from_secs(args.time)).await;
        let later = [processor_time(theirs)?, processor_time(own)?];
        let bytes = |at: usize| (after[at] - before[at]) / args.links as f64;
        let cpu = |at: usize| 100.0 * (later[at] - busy[at]) / args.time as f64;
        anyhow::Ok(Idle {
            links: args.links,
            server_bytes: bytes(0),
            client_bytes: bytes(1),
            server_cpu: cpu(0),
            client_cpu: cpu(1),
        })
    })?;
    let Idle { links, server_bytes, client_bytes, server_cpu, client_cpu } = idle;
    println!("{links} idle links: {server_bytes:.0} bytes at the server, {client_bytes:.0} at the client, each");
    println!("of a processor, for all: {server_cpu:.2} % at the server, {client_cpu:.2} % at the client");
    records::write(out, FILE, &[idle])
}

fn resident(pid: u32) -> anyhow::Result<f64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/statm")).context("memory is read from /proc, as Linux has it")?;
    let pages = text.split_whitespace().nth(1).context("a process has a resident size")?;
    Ok(pages.parse::<f64>()? * PAGE)
}

/// Returns the seconds for which a process had a processor.
fn processor_time(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("a process has a name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
}

/// The file of [`Idle`].
pub const FILE: &str = "idle.jsonl";
const PAGE: f64 = 4_096.0;
/// A second, as /proc counts.
const TICKS: f64 = 100.0;
