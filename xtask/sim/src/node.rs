//! A node: a process with a runtime and a clock of its own, a real engine in it, and clients.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use distcache::{Engine, EngineConfig, Entry, Machine, Provider, SourceKeySpace, StaticProvider, WriteMode};
use distcache_cluster::{ClusterConfig, KeyspaceSeed};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, advance, sleep, sleep_until, timeout},
};

use crate::{
    network::{Micros, Network, addr_of},
    reads::Ring,
    rules::Rule,
    source::{KEYS, Source, is_contested, is_put, key_name, value_of},
    stream::{SimDialer, SimListener},
    world::{Life, Truth, World},
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
}

/// What a process is started with.
pub(crate) struct Birth<'a> {
    pub(crate) network: &'a Network,
    pub(crate) world: &'a World,
    pub(crate) life: Life,
    pub(crate) hosts: usize,
    pub(crate) seed: u64,
    pub(crate) since_epoch: Duration,
    pub(crate) small_log: bool,
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
            let client = Client {
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
                rng: StdRng::seed_from_u64(seed ^ (number + 1) << 32),
            };
            self.lock().busy += 1;
            self.runtime().spawn(client.run());
        }
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

fn keyspace(source: Source, has_backups: bool) -> SourceKeySpace {
    let backup_bytes = if has_backups { 1 << 20 } else { 0 };
    SourceKeySpace::new(ROWS, source).load_timeout(LOAD_TIMEOUT).backup_bytes(backup_bytes)
}

fn builder(birth: &Birth<'_>) -> distcache::EngineBuilder {
    let host = birth.life.0;
    let seeds: Vec<_> = (0..birth.hosts).map(|host| addr_of(host).to_string()).collect();
    let tune: fn(&mut ClusterConfig) = match birth.small_log {
        true => |config| (config.invalidation_log, config.hot_reads) = (8, HOT_READS),
        false => |config| config.hot_reads = HOT_READS,
    };
    let machine = Machine {
        listener: Box::new(SimListener::bind(birth.network, host)),
        dialer: Arc::new(SimDialer { network: birth.network.clone(), host }),
        since_epoch: birth.since_epoch,
        seed: birth.seed,
        tune,
    };
    let mut config = EngineConfig::default();
    (config.read_timeout, config.write_timeout) = (READ_TIMEOUT, WRITE_TIMEOUT);
    let provider = StaticProvider::new(seeds);
    debug_assert!(provider.validate().is_empty());
    Engine::builder()
        .config(config)
        .name(format!("node-{host}"))
        .insecure(true)
        .discovery(provider)
        .keyspace(keyspace(birth.source(), birth.has_backups))
        .machine(machine)
}

struct Client {
    engine: Engine,
    world: World,
    network: Network,
    life: Life,
    hosts: usize,
    source: Source,
    clears: bool,
    has_backups: bool,
    pause: Micros,
    stop: Arc<Mutex<Stop>>,
    rng: StdRng,
}

impl Client {
    async fn run(mut self) {
        loop {
            sleep(Duration::from_micros(self.rng.random_range(0..2 * self.pause))).await;
            if self.stop().clients {
                break;
            }
            match self.rng.random_range(0..100) {
                0..70 => {
                    let key = Truth::zipf(&mut self.rng);
                    read(&self.engine, &self.world, self.life, key, &self.stop).await;
                }
                70..80 => self.read_many().await,
                80 if self.clears && self.rng.random_bool(0.2) => self.clear().await,
                _ => {
                    let written = self.write().await;
                    if let Some(key) = written.filter(|_| self.rng.random_bool(0.5)) {
                        read(&self.engine, &self.world, self.life, key, &self.stop).await;
                    }
                }
            }
        }
        self.stop().busy -= 1;
    }

    fn stop(&self) -> std::sync::MutexGuard<'_, Stop> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_many(&mut self) {
        let keys: Vec<_> = (0..8).map(|_| Truth::zipf(&mut self.rng)).collect();
        let names: Vec<_> = keys.iter().map(|key| key_name(*key)).collect();
        let rings = |engine: &Engine| keys.iter().map(|key| ring(engine, *key)).collect::<Vec<_>>();
        let begun: Vec<_> = keys.iter().zip(rings(&self.engine)).collect();
        let readings: Vec<_> =
            begun.into_iter().map(|(key, ring)| self.world.lock().begin_read(self.life, *key, ring)).collect();
        let (start, thaws) = (Instant::now(), self.stop().thaws);
        let answers = self.engine.get_many(ROWS, &names).await;
        let (took, slept, rings) = (start.elapsed(), self.stop().thaws != thaws, rings(&self.engine));
        let mut truth = self.world.lock();
        let alone: Vec<_> = readings.iter().map(|reading| truth.end_read(reading)).collect();
        if !slept {
            truth.check_time(self.life, took, READ_TIMEOUT);
        }
        match answers {
            Ok(answers) => {
                for (((reading, ring), alone), answer) in readings.iter().zip(rings).zip(alone).zip(answers) {
                    match answer {
                        Ok(value) => truth.check_value(reading, ring, alone && took.is_zero(), value.as_deref()),
                        Err(error) => truth.check_error(reading, error.kind(), &error.to_string()),
                    }
                }
            }
            Err(error) => truth.check_error(&readings[0], error.kind(), &error.to_string()),
        }
    }

    /// Changes much of the database, and empties the keyspace on every node.
    async fn clear(&mut self) {
        let keys: Vec<_> = (0..8).map(|_| Truth::zipf(&mut self.rng)).filter(|key| !is_put(*key)).collect();
        let begun = |key| Some((key, self.world.lock().begin_write(self.life, key)?));
        let begun: Vec<_> = keys.into_iter().filter_map(begun).collect();
        self.world.lock().emptying();
        begun.iter().for_each(|(key, version)| self.world.lock().begin_clear(self.life, *key, *version));
        let (start, thaws) = (Instant::now(), self.stop().thaws);
        let written = self.engine.update_keyspace(keyspace(self.source.clone(), self.has_backups)).await;
        let (took, slept) = (start.elapsed(), self.stop().thaws != thaws);
        let applied = {
            let mut truth = self.world.lock();
            truth.counts.clears += 1;
            truth.emptying();
            let applied = truth.check_write(self.life, took, slept, &written);
            for (key, version) in &begun {
                truth.end_write(self.life, *key, *version, applied);
            }
            applied
        };
        let mut state = self.network.lock();
        let (at, host) = (state.now(), self.life.0);
        state.trace.say(at, || format!("node {host} clears, for {begun:?}, applied {applied} in {took:?}"));
    }

    /// Changes the database, and tells the cache. Every fourth key is put; half of those by one node only.
    /// Returns the key.
    async fn write(&mut self) -> Option<usize> {
        let mut key = Truth::zipf(&mut self.rng);
        let wants_put = is_put(key) && self.rng.random_bool(0.5);
        if is_put(key) && !is_contested(key) && key / 8 % self.hosts != self.life.0 {
            key = (key + 1).min(KEYS - 2);
        }
        let wants_put = wants_put && is_put(key);
        let version = self.world.lock().begin_write(self.life, key)?;
        let begun = self.world.lock().now;
        let (name, start, thaws) = (key_name(key), Instant::now(), self.stop().thaws);
        let mode = if self.rng.random_bool(0.2) { WriteMode::Strict } else { WriteMode::Owner };
        let rows = self.engine.keyspace(ROWS).map(|rows| rows.write_mode(mode));
        let written = match rows {
            Ok(rows) if wants_put => rows.put(Entry::new(&*name, value_of(key, version))).await,
            Ok(rows) => rows.delete(&name).await,
            Err(error) => Err(error),
        };
        let (took, slept) = (start.elapsed(), self.stop().thaws != thaws);
        let host = self.life.0;
        let mut truth = self.world.lock();
        let applied = truth.check_write(self.life, took, slept, &written);
        truth.end_write(self.life, key, version, applied);
        if applied && mode == WriteMode::Strict {
            truth.end_strict_write(key, version, begun);
        }
        drop(truth);
        let mut state = self.network.lock();
        let at = state.now();
        let what = if wants_put { "put" } else { "delete" };
        state.trace.say(at, || format!("node {host} {what} key {key} version {version} applied {applied} in {took:?}"));
        Some(key)
    }
}

async fn read(engine: &Engine, world: &World, life: Life, key: usize, stop: &Mutex<Stop>) {
    let thaws = || stop.lock().unwrap_or_else(PoisonError::into_inner).thaws;
    let (start, before, reading) = (Instant::now(), thaws(), world.lock().begin_read(life, key, ring(engine, key)));
    // The oracle's own patience: a read that never ends is a violation, and not the end of the run.
    let answer = timeout(READ_TIMEOUT * 4, engine.get(ROWS, &key_name(key))).await;
    let took = start.elapsed();
    let mut truth = world.lock();
    let is_alone = truth.end_read(&reading);
    if thaws() == before {
        truth.check_time(life, took, READ_TIMEOUT);
    }
    match answer {
        Ok(Ok(value)) => {
            truth.check_value(&reading, ring(engine, key), is_alone && took.is_zero(), value.as_deref());
        }
        Ok(Err(error)) => truth.check_error(&reading, error.kind(), &error.to_string()),
        Err(_) => truth.violate(Rule::Deadlines, format!("node {}: a read of key {key} never ended", life.0)),
    }
}

fn ring(engine: &Engine, key: usize) -> Ring {
    let view = engine.view();
    Ring { ordinal: view.ordinal(), owns: view.owns(KeyspaceSeed::of(ROWS).hash(&key_name(key))) }
}

pub(crate) const ROWS: &str = "rows";
/// So few that a key is hot now and then at the pace of these clients.
const HOT_READS: u32 = 3;
const CLIENTS: u64 = 2;
const READ_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);
