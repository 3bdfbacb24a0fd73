//! What clients of a node do: they read, write, and empty the keyspace.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use distcache::{Engine, Entry, ErrorKind, Outcome, WriteMode};
use distcache_cluster::KeyspaceSeed;
use futures_util::future::join_all;
use rand::{RngExt, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    network::{Micros, Network},
    node::{READ_TIMEOUT, ROWS, Stop, keyspace, node_name},
    reads::Ring,
    rules::Rule,
    scenario::Writers,
    source::{KEYS, Source, is_contested, is_put, key_name, value_of},
    world::{Life, Truth, World},
};

/// What a client does once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    /// Empties the keyspace.
    Clear,
    /// Puts each of the contested keys of a node, all at once.
    Puts { owner: usize },
    /// Defines the keyspace anew, for somebody has deleted it.
    Define,
}

/// A client of a node.
pub(crate) struct Client {
    pub(crate) engine: Engine,
    pub(crate) world: World,
    pub(crate) network: Network,
    pub(crate) life: Life,
    pub(crate) hosts: usize,
    pub(crate) source: Source,
    pub(crate) clears: bool,
    pub(crate) has_backups: bool,
    pub(crate) pause: Micros,
    pub(crate) stop: Arc<Mutex<Stop>>,
    pub(crate) rng: StdRng,
}

impl Client {
    /// Does one thing.
    pub(crate) async fn once(mut self, deed: Deed) {
        match deed {
            Deed::Clear => self.clear().await,
            Deed::Puts { owner } => self.puts(owner).await,
            Deed::Define => self.define().await,
        }
        self.stop().busy -= 1;
    }

    /// Works until it is told to end.
    pub(crate) async fn run(mut self) {
        loop {
            sleep(Duration::from_micros(self.rng.random_range(0..2 * self.pause))).await;
            if self.stop().clients {
                break;
            }
            let (choice, writers) = (self.rng.random_range(0..100), self.world.lock().writers);
            // One who alone may write has little time for it.
            let choice = if writers == Writers::Owner(self.life.0) { LAST } else { choice };
            match choice {
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
        if self.world.lock().writers != Writers::All {
            return;
        }
        let deletes = self.rng.random_bool(0.5);
        let keys: Vec<_> = (0..8).map(|_| Truth::zipf(&mut self.rng)).filter(|key| !is_put(*key)).collect();
        let begun = |key| Some((key, self.world.lock().begin_write(self.life, key)?));
        let begun: Vec<_> = keys.into_iter().filter_map(begun).collect();
        self.world.lock().emptying();
        begun.iter().for_each(|(key, version)| self.world.lock().begin_clear(self.life, *key, *version));
        let (written, took, slept, tried) = loop {
            let (start, thaws, tried) = (Instant::now(), self.stop().thaws, self.world.lock().now);
            let written = if deletes {
                self.engine.delete_keyspace(ROWS).await
            } else {
                self.engine.update_keyspace(keyspace(self.source.clone(), self.has_backups)).await
            };
            if !is_gone(&written) {
                break (written, start.elapsed(), self.stop().thaws != thaws, tried);
            }
            // Somebody has deleted it, and may not have known of these writes.
            sleep(AGAIN).await;
        };
        let applied = {
            let mut truth = self.world.lock();
            truth.counts.clears += 1;
            truth.emptying();
            if deletes {
                truth.deleted(tried)
            } else {
                truth.defined(self.life)
            }
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
        let writers = self.world.lock().writers;
        let mut key = match writers {
            Writers::All => Truth::zipf(&mut self.rng),
            Writers::Owner(host) if host == self.life.0 => self.rng.random_range(0..KEYS - 1),
            Writers::Owner(_) | Writers::Nobody => return None,
        };
        let wants_put = is_put(key) && self.rng.random_bool(0.5);
        if is_put(key) && !is_contested(key) && key / 8 % self.hosts != self.life.0 {
            key = (key + 1).min(KEYS - 2);
        }
        let wants_put = wants_put && is_put(key);
        if writers != Writers::All && !ring(&self.engine, key).owns {
            return None;
        }
        let mode = if self.rng.random_bool(0.2) { WriteMode::Strict } else { WriteMode::Owner };
        self.write_key(key, wants_put, mode).await
    }

    /// Puts each of the contested keys that a node owns, all at once.
    async fn puts(&self, owner: usize) {
        let (view, seed, name) = (self.engine.view(), KeyspaceSeed::of(ROWS), node_name(owner));
        let is_owners = |key: &usize| view.owner(seed.hash(&key_name(*key))).ident().name().as_str() == name;
        let keys = (0..KEYS).filter(|key| is_contested(*key)).filter(is_owners);
        join_all(keys.map(|key| self.write_key(key, true, WriteMode::Owner))).await;
    }

    /// Changes the database, and tells the cache, for as long as the node has the keyspace. Of a key that is being written here, nothing
    /// comes.
    async fn write_key(&self, key: usize, puts: bool, mode: WriteMode) -> Option<usize> {
        let version = self.world.lock().begin_write(self.life, key)?;
        let begun = self.world.lock().now;
        let name = key_name(key);
        let (written, took, slept) = loop {
            let (start, thaws) = (Instant::now(), self.stop().thaws);
            let rows = self.engine.keyspace(ROWS).map(|rows| rows.write_mode(mode));
            let written = match rows {
                Ok(rows) if puts => rows.put(Entry::new(&*name, value_of(key, version))).await,
                Ok(rows) => rows.delete(&name).await,
                Err(error) => Err(error),
            };
            if !is_gone(&written) {
                break (written, start.elapsed(), self.stop().thaws != thaws);
            }
            sleep(AGAIN).await;
        };
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
        let what = if puts { "put" } else { "delete" };
        state.trace.say(at, || format!("node {host} {what} key {key} version {version} applied {applied} in {took:?}"));
        Some(key)
    }

    /// Defines the keyspace again, a moment after it was deleted.
    async fn define(&mut self) {
        sleep(Duration::from_micros(self.rng.random_range(0..300_000))).await;
        let added = self.engine.add_keyspace(keyspace(self.source.clone(), self.has_backups));
        self.stop().defines = false;
        let mut truth = self.world.lock();
        // What was being loaded before is loaded again.
        truth.emptying();
        if added.is_ok() {
            truth.defined(self.life);
        }
    }
}

/// Whether the keyspace was not there, here or at a key's owner.
fn is_gone(written: &Result<Outcome, distcache::Error>) -> bool {
    matches!(written, Err(error) if error.kind() == ErrorKind::UnknownKeySpace)
}

pub(crate) async fn read(engine: &Engine, world: &World, life: Life, key: usize, stop: &Mutex<Stop>) {
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

pub(crate) fn ring(engine: &Engine, key: usize) -> Ring {
    let view = engine.view();
    Ring { ordinal: view.ordinal(), owns: view.owns(KeyspaceSeed::of(ROWS).hash(&key_name(key))) }
}

/// What a node does all the time, for one who alone may write.
const LAST: u32 = 99;
/// Until an operation is tried again for which there was no keyspace.
const AGAIN: Duration = Duration::from_millis(20);
