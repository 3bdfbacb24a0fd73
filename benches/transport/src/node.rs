//! `transport-bench node`: a node of a cluster of two as a process of its own, told what to do by lines on its standard input.
//!
//! The owner says where it listens, and answers every line with the gets that it served and the values that it loaded, so far. The asker joins
//! the owner, picks keys that are the owner's, and says that it is ready. To `IN_FLIGHT MILLISECONDS` it answers with how many gets
//! ended well, the nanoseconds that they took together, and the values that it loaded itself. The Go program speaks the same.

mod groupcache_rs;
mod ours;

use std::{
    io::{BufRead, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{engine::Cache, key, serve, value_of};

/// Which node to be.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Whose cache.
    pub cache: Cache,
    /// Where the owner of all keys listens; without it, this node is the owner.
    pub owner: Option<SocketAddr>,
}

/// Runs a node until its standard input ends.
///
/// # Errors
///
/// It cannot start, or a get fails.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (runtime, loads) = (serve::runtime()?, Loads::default());
    match args.cache {
        Cache::Ours => {
            let (node, addr) = runtime.block_on(ours::Node::start(args.owner, loads.clone()))?;
            obey(&runtime, node, addr, args.owner.is_none(), &loads)
        }
        Cache::GroupcacheRs => {
            let (node, addr) = runtime.block_on(groupcache_rs::Node::start(args.owner, loads.clone()))?;
            obey(&runtime, node, addr, args.owner.is_none(), &loads)
        }
        Cache::GroupcacheGo => anyhow::bail!("this cache is a program of its own"),
    }
}

/// What is measured of a cache.
trait Node: Clone + Send + 'static {
    /// Gets a value through the whole cache, and returns how long it is.
    fn get(&self, key: &str) -> impl Future<Output = anyhow::Result<usize>> + Send;

    /// Returns how many gets of peers were served.
    fn served(&self) -> u64;
}

/// The source of all values, which counts what it is asked for.
#[derive(Debug, Clone, Default)]
struct Loads(Arc<AtomicU64>);

impl Loads {
    fn load(&self) -> Bytes {
        self.0.fetch_add(1, Ordering::Relaxed);
        value_of(&key(VALUE)).expect("a value of this size")
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn obey(runtime: &Runtime, node: impl Node, addr: SocketAddr, is_owner: bool, loads: &Loads) -> anyhow::Result<()> {
    let keys = if is_owner { Vec::new() } else { runtime.block_on(keys_of_the_owner(&node, loads))? };
    let mut out = std::io::stdout();
    if is_owner {
        writeln!(out, "{addr}")?
    } else {
        writeln!(out, "ready")?
    }
    for line in std::io::stdin().lock().lines() {
        if is_owner {
            writeln!(out, "{} {}", node.served(), loads.count())?;
        } else {
            let (in_flight, time) = parse(&line?)?;
            let before = loads.count();
            let (gets, took) = runtime.block_on(ask(&node, &keys, in_flight, time))?;
            writeln!(out, "{gets} {} {}", took.as_nanos(), loads.count() - before)?;
        }
        out.flush()?;
    }
    Ok(())
}

fn parse(line: &str) -> anyhow::Result<(usize, Duration)> {
    let (in_flight, time) = line.split_once(' ').context("a line is `IN_FLIGHT MILLISECONDS`")?;
    Ok((in_flight.parse()?, Duration::from_millis(time.parse()?)))
}

/// Finds keys that another node owns: those that were got and not loaded here. The owner holds their values from then on.
async fn keys_of_the_owner(node: &impl Node, loads: &Loads) -> anyhow::Result<Vec<Arc<str>>> {
    let mut keys = Vec::new();
    for candidate in (0..64 * KEYS).map(|at| key(FIRST + at)) {
        let key: Arc<str> = std::str::from_utf8(&candidate)?.into();
        let before = loads.count();
        node.get(&key).await?;
        if loads.count() == before {
            keys.push(key);
        }
        if keys.len() == KEYS {
            return Ok(keys);
        }
    }
    anyhow::bail!("the owner owns but {} of {} keys", keys.len(), 64 * KEYS)
}

/// Asks in a closed loop, in as many tasks as gets are in flight, each with keys of its own, so that no get can join another's.
async fn ask(node: &impl Node, keys: &[Arc<str>], in_flight: usize, time: Duration) -> anyhow::Result<(u64, Duration)> {
    let (mut tasks, start) = (JoinSet::new(), Instant::now());
    for at in 0..in_flight {
        let node = node.clone();
        let keys: Vec<_> = keys.iter().skip(at).step_by(in_flight).cloned().collect();
        tasks.spawn(async move {
            let mut gets = 0;
            for key in keys.iter().cycle().take_while(|_| start.elapsed() < time) {
                let bytes = node.get(key).await?;
                anyhow::ensure!(bytes == VALUE, "a value of {bytes} bytes");
                gets += 1;
            }
            anyhow::Ok(gets)
        });
    }
    let mut gets = 0;
    while let Some(done) = tasks.join_next().await {
        gets += done??;
    }
    Ok((gets, start.elapsed()))
}

/// Bytes of a value.
const VALUE: usize = 128;
/// As many for each of 256 gets in flight as make a round trip seldom repeat one.
const KEYS: usize = 2_048;
/// Keys start with a number of eight digits; this keeps them apart from those that ask for a size.
const FIRST: usize = 10_000_000;
