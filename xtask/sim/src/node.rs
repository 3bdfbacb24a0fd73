//! A node: a process with a runtime and a clock of its own, a real engine in it, and clients.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use distcache::{Engine, EngineConfig, Machine, Provider, SourceKeySpace, StaticProvider};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, advance, sleep_until},
};

use crate::{
    client::{Client, Deed, read},
    network::{Micros, Network, addr_of},
    scenario::Tuning,
    source::{KEYS, Source},
    stream::{SimDialer, SimListener},
    world::{Life, World},
};

/// A process. Dropping it kills it.
pub(crate) struct Process {
    pub(crate) life: Life,
    runtime: Option<Runtime>,
    born: Instant,
    born_at: Micros,
    /// Up to where it has run.
    pub(crate) reached: Micros,
    pub(crate) frozen: bool,
    pub(crate) leaving: Option<Leave>,
    engine: Arc<Mutex<Option<Result<Engine, String>>>>,
    pub(crate) stop: Arc<Mutex<Stop>>,
}

/// How a process takes leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leave {
    /// Its clients have ended, and the engine is told to shut down.
    pub(crate) has_spoken: bool,
    /// For how long nobody takes its place.
    pub(crate) away: Micros,
}

/// What a process is told from outside, and says of itself.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    pub(crate) clients: bool,
    /// How often it was frozen.
    pub(crate) thaws: u64,
    pub(crate) busy: usize,
    /// It is about to define the keyspace anew.
    pub(crate) defines: bool,
}

/// What a process is started with.
pub(crate) struct Birth<'a> {
    pub(crate) network: &'a Network,
    pub(crate) world: &'a World,
    pub(crate) life: Life,
    pub(crate) hosts: usize,
    pub(crate) seed: u64,
    pub(crate) since_epoch: Duration,
    pub(crate) tuning: Tuning,
    /// Whether clients empty the keyspace now and then.
    pub(crate) clears: bool,
    /// Whether nodes keep copies of each other's hottest values.
    pub(crate) has_backups: bool,
    /// Between two operations of a client, on average.
    pub(crate) pause: Micros,
}

impl Process {
    pub(crate) fn start(birth: &Birth<'_>, now: Micros) -> anyhow::Result<Self> {
        let runtime = runtime(birth.seed)?;
        let born = runtime.block_on(async { Instant::now() });
        birth.network.lock().born(birth.life.0, born);
        let engine = Arc::default();
        let process = Self {
            life: birth.life,
            runtime: Some(runtime),
            born,
            born_at: now,
            reached: now,
            frozen: false,
            leaving: None,
            engine: Arc::clone(&engine),
            stop: Arc::default(),
        };
        birth.world.lock().defined(birth.life);
        let builder = builder(birth);
        process.runtime().spawn(async move {
            let started = builder.start().await.map_err(|error| error.to_string());
            *engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        });
        Ok(process)
    }

    const fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("a process has a runtime until it is dropped")
    }

    /// Runs up to a moment.
    pub(crate) fn run(&mut self, to: Micros) {
        let until = self.born + Duration::from_micros(to - self.born_at);
        self.runtime().block_on(async { sleep_until(until).await });
        self.reached = to;
    }

    /// Goes on after a freeze: the clock has moved meanwhile, and all that is due is due at once.
    pub(crate) fn thaw(&mut self, now: Micros, world: &World) {
        // Before anything runs: a read that ends in this moment has slept.
        self.lock().thaws += 1;
        world.lock().thawed(self.life);
        let missed = Duration::from_micros(now - self.reached);
        self.runtime().block_on(async { advance(missed).await });
        (self.frozen, self.reached) = (false, now);
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Stop> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the engine once it has started, or why it has not.
    pub(crate) fn engine(&self) -> Option<Result<Engine, String>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets clients to work.
    pub(crate) fn spawn_clients(&self, engine: &Engine, birth: &Birth<'_>, seed: u64) {
        for number in 0..CLIENTS {
            let client = self.client(engine, birth, seed ^ (number + 1) << 32);
            self.lock().busy += 1;
            self.runtime().spawn(client.run());
        }
    }

    fn client(&self, engine: &Engine, birth: &Birth<'_>, seed: u64) -> Client {
        Client {
            engine: engine.clone(),
            world: birth.world.clone(),
            network: birth.network.clone(),
            life: self.life,
            hosts: birth.hosts,
            source: birth.source(),
            clears: birth.clears,
            has_backups: birth.has_backups,
            pause: birth.pause,
            stop: Arc::clone(&self.stop),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Has a client do something once. The node may end before it is done.
    pub(crate) fn spawn_deed(&self, engine: &Engine, birth: &Birth<'_>, deed: Deed) {
        let client = self.client(engine, birth, birth.seed ^ self.reached);
        self.lock().busy += 1;
        self.runtime().spawn(client.once(deed));
    }

    /// Reads every key, all nodes at the same time.
    pub(crate) fn spawn_reader(&self, engine: &Engine, world: &World) {
        let (engine, world, life, stop) = (engine.clone(), world.clone(), self.life, Arc::clone(&self.stop));
        self.lock().busy += 1;
        self.runtime().spawn(async move {
            for key in 0..KEYS {
                read(&engine, &world, life, key, &stop).await;
            }
            stop.lock().unwrap_or_else(PoisonError::into_inner).busy -= 1;
        });
    }

    /// Begins to take leave, with its clients.
    pub(crate) fn leave(&mut self, away: Micros) {
        self.lock().clients = true;
        self.leaving.get_or_insert(Leave { has_spoken: false, away });
    }

    /// Takes leave.
    pub(crate) fn spawn_shutdown(&self) {
        let (slot, stop) = (Arc::clone(&self.engine), Arc::clone(&self.stop));
        stop.lock().unwrap_or_else(PoisonError::into_inner).busy += 1;
        self.runtime().spawn(async move {
            let engine = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(Ok(engine)) = engine {
                engine.shutdown(Duration::from_secs(1)).await;
            }
            stop.lock().unwrap_or_else(PoisonError::into_inner).busy -= 1;
        });
    }

    pub(crate) fn tasks(&self) -> usize {
        self.runtime().metrics().num_alive_tasks()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Outside of any runtime, so nothing of it runs any more.
        drop(self.runtime.take());
    }
}

fn runtime(seed: u64) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    // Without the flag the order in which `select!` polls is chance, and a seed does not replay.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    #[cfg(not(tokio_unstable))]
    let _ = seed;
    Ok(builder.build()?)
}

impl Birth<'_> {
    fn source(&self) -> Source {
        Source { world: self.world.clone(), life: self.life }
    }
}

pub(crate) fn keyspace(source: Source, has_backups: bool) -> SourceKeySpace {
    let backup_bytes = if has_backups { 1 << 20 } else { 0 };
    SourceKeySpace::new(ROWS, source).load_timeout(LOAD_TIMEOUT).backup_bytes(backup_bytes)
}

fn builder(birth: &Birth<'_>) -> distcache::EngineBuilder {
    let host = birth.life.0;
    let seeds: Vec<_> = (0..birth.hosts).map(|host| addr_of(host).to_string()).collect();
    let tuning = birth.tuning;
    let machine = Machine {
        listener: Box::new(SimListener::bind(birth.network, host)),
        dialer: Arc::new(SimDialer { network: birth.network.clone(), host }),
        since_epoch: birth.since_epoch,
        seed: birth.seed,
        tune: Box::new(move |config| tuning.apply(config)),
    };
    let mut config = EngineConfig::default();
    (config.read_timeout, config.write_timeout) = (READ_TIMEOUT, WRITE_TIMEOUT);
    let provider = StaticProvider::new(seeds);
    debug_assert!(provider.validate().is_empty());
    Engine::builder()
        .config(config)
        .name(node_name(host))
        .insecure(true)
        .discovery(provider)
        .keyspace(keyspace(birth.source(), birth.has_backups))
        .machine(machine)
}

pub(crate) fn node_name(host: usize) -> String {
    format!("node-{host}")
}

pub(crate) const ROWS: &str = "rows";
const CLIENTS: u64 = 2;
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);
