//! `core-bench flight`: many tasks ask at once for a key that is not there.
//!
//! Each storm is 64 tasks on two threads and a fresh key. The load is ready once all 64 have begun to ask, so that it costs nothing
//! itself, and everyone who should share it does.

use std::{
    future::Future,
    hint::black_box,
    io,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinSet};

use crate::{
    dataset::{Blob, blob, key},
    records, stats,
};

/// How storms on one cache went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Storms {
    /// Which cache it is.
    pub cache: Loader,
    /// The most loads of any storm.
    pub most_loads: usize,
    /// Microseconds of a storm: the median of each round.
    pub rounds: Vec<f64>,
}

/// A cache that makes one load of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// Ours: `get_or_load`.
    Ours,
    /// moka: `future::Cache::try_get_with`, the form of `get_with` whose load may fail, as ours may.
    Moka,
    /// quick_cache: `get_or_insert_async`.
    Quick,
    /// foyer-memory: `get_or_fetch`.
    Foyer,
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many times each cache runs.
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// How many storms each time.
    #[arg(long, default_value_t = 2_000)]
    pub storms: usize,
}

impl Loader {
    /// Every loader, ours first.
    pub const ALL: &[Self] = &[Self::Ours, Self::Moka, Self::Quick, Self::Foyer];

    /// Returns the call's name, as tables show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "DistCache get_or_load",
            Self::Moka => "moka try_get_with",
            Self::Quick => "quick_cache get_or_insert_async",
            Self::Foyer => "foyer get_or_fetch",
        }
    }
}

/// Measures, tells about each cache, and stores all.
///
/// # Errors
///
/// The results cannot be written, or no threads be started.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).build();
    let runtime = runtime.context("the runtime cannot start its threads")?;
    let caches = Arc::new(Caches::new());
    let mut results: Vec<_> = Loader::ALL
        .iter()
        .map(|cache| Storms { cache: *cache, most_loads: 0, rounds: Vec::with_capacity(args.rounds) })
        .collect();
    for round in 0..args.rounds {
        for result in &mut results {
            let from = (round * args.storms) as u64;
            let numbers = from..from + args.storms as u64;
            let (median, most_loads) = block_on(&runtime, storms(Arc::clone(&caches), result.cache, numbers))?;
            result.most_loads = result.most_loads.max(most_loads);
            result.rounds.push(median);
        }
    }
    println!("\n{WAITERS} tasks ask for one key, µs for all");
    for Storms { cache, most_loads, rounds } in &results {
        println!("{:<34}{:>8.1}   at most {most_loads} loads", cache.name(), stats::median(rounds));
    }
    records::write(out, records::FLIGHT, &results)
}

/// Has the threads of a runtime run a task, and waits for it.
fn block_on<T: Send + 'static>(runtime: &Runtime, task: impl Future<Output = T> + Send + 'static) -> anyhow::Result<T> {
    // Not on this thread: what it spawns would take the way of tasks that come from outside.
    runtime.block_on(runtime.spawn(task)).context("a storm panicked")
}

/// Runs a storm for each number, and returns the median of their microseconds, and the most loads of any.
async fn storms(caches: Arc<Caches>, loader: Loader, numbers: Range<u64>) -> (f64, usize) {
    let (mut took, mut most_loads) = (Vec::new(), 0);
    for number in numbers {
        let (micros, loads) = caches.storm(loader, number).await;
        took.push(micros);
        most_loads = most_loads.max(loads);
    }
    (stats::median(&took), most_loads)
}

struct Caches {
    ours: distcache_core::Cache<String, Blob>,
    moka: moka::future::Cache<String, Blob>,
    quick: Arc<quick_cache::sync::Cache<String, Blob>>,
    foyer: foyer_memory::Cache<String, Blob>,
}

impl Caches {
    fn new() -> Self {
        Self {
            ours: distcache_core::Cache::bounded_by_entries(ENTRIES).build().expect("no setting is zero"),
            moka: moka::future::Cache::new(ENTRIES),
            quick: Arc::new(quick_cache::sync::Cache::new(ENTRIES as usize)),
            foyer: foyer_memory::Cache::builder(ENTRIES as usize).build(),
        }
    }

    /// Returns the microseconds until all tasks had the value, and the number of loads.
    async fn storm(&self, loader: Loader, number: u64) -> (f64, usize) {
        let key: Arc<str> = key(number).into();
        match loader {
            Loader::Ours => {
                let ask = |load: Load| {
                    let (cache, key) = (self.ours.clone(), Arc::clone(&key));
                    async move { black_box(cache.get_or_load(&*key, || load.run()).await).is_ok() }
                };
                storm(ask).await
            }
            Loader::Moka => {
                let ask = |load: Load| {
                    let (cache, key) = (self.moka.clone(), Arc::clone(&key));
                    async move { black_box(cache.try_get_with_by_ref(&*key, load.run()).await).is_ok() }
                };
                storm(ask).await
            }
            Loader::Quick => {
                let ask = |load: Load| {
                    let (cache, key) = (Arc::clone(&self.quick), Arc::clone(&key));
                    async move { black_box(cache.get_or_insert_async(&*key, load.run()).await).is_ok() }
                };
                storm(ask).await
            }
            Loader::Foyer => {
                let ask = |load: Load| {
                    let (cache, key) = (self.foyer.clone(), Arc::clone(&key));
                    async move { black_box(cache.get_or_fetch(&*key, || load.run()).await).is_ok() }
                };
                storm(ask).await
            }
        }
    }
}

/// The load of one storm.
#[derive(Clone)]
struct Load(Arc<Storm>);

struct Storm {
    asking: AtomicUsize,
    loads: AtomicUsize,
    /// Has permits once all ask.
    all_ask: Semaphore,
}

impl Load {
    fn new() -> Self {
        let (asking, loads) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Storm { asking, loads, all_ask: Semaphore::new(0) }))
    }

    /// Notes that one more asks.
    fn ask(&self) {
        if self.0.asking.fetch_add(1, Ordering::Relaxed) + 1 == WAITERS {
            self.0.all_ask.add_permits(WAITERS);
        }
    }

    async fn run(self) -> Result<Blob, io::Error> {
        self.0.loads.fetch_add(1, Ordering::Relaxed);
        let _permit = self.0.all_ask.acquire().await.expect("nobody closes it");
        Ok(blob())
    }
}

async fn storm<F>(ask: impl Fn(Load) -> F) -> (f64, usize)
where
    F: Future<Output = bool> + Send + 'static,
{
    let load = Load::new();
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..WAITERS {
        let (asks, asking) = (load.clone(), ask(load.clone()));
        tasks.spawn(async move {
            asks.ask();
            asking.await
        });
    }
    let answered = tasks.join_all().await;
    assert!(answered.iter().all(|answered| *answered), "a load that cannot fail has failed");
    (start.elapsed().as_secs_f64() * 1e6, load.0.loads.load(Ordering::Relaxed))
}

/// As the target says.
const WAITERS: usize = 64;
const WORKERS: usize = 2;
/// Enough that no storm's key is evicted in a run.
const ENTRIES: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_storm_is_one_load_in_every_cache() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).build().unwrap();
        let caches = Arc::new(Caches::new());
        for &loader in Loader::ALL {
            let (_, most_loads) = block_on(&runtime, storms(Arc::clone(&caches), loader, 0..20)).unwrap();
            assert_eq!(most_loads, 1, "{}", loader.name());
        }
    }
}
