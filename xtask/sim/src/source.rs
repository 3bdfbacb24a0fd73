//! The data sources: one table behind all of them, what is in it, and what is held against those who load from it.

use std::{future::pending, time::Duration};

use async_trait::async_trait;
use distcache::{Bytes, DataSource, SourceError};
use rand::RngExt;
use tokio::time::sleep;

use crate::{
    network::Micros,
    rules::Rule,
    world::{Life, Mood, Truth, World},
};

/// A node's way to the table. It reads the row first and takes its time after, which is when a value grows old.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) world: World,
    pub(crate) life: Life,
}

/// Ends a load, however it ends.
struct Loading<'a>(&'a Source, usize);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.world.lock().end_load(self.0.life, self.1);
    }
}

#[async_trait]
impl DataSource for Source {
    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> {
        let key = key_number(key).ok_or("no such key")?;
        let (version, mood, delay) = self.world.lock().begin_load(self.life, key);
        let _loading = Loading(self, key);
        sleep(Duration::from_micros(delay)).await;
        match mood {
            Mood::Well => {}
            Mood::Slow(millis) => sleep(Duration::from_millis(millis)).await,
            Mood::Failing => return Err("the source fails, as the scenario wants".into()),
            Mood::Hanging => pending().await,
        }
        self.world.lock().loaded(self.life, key);
        Ok(Some(value_of(key, version)))
    }
}

pub(crate) fn key_name(key: usize) -> String {
    format!("row:{key}")
}

pub(crate) fn key_number(key: &str) -> Option<usize> {
    key.strip_prefix("row:")?.parse().ok()
}

/// Whether a key is put by several nodes, also at the same time.
pub(crate) const fn is_contested(key: usize) -> bool {
    key % 8 == 4
}

/// Whether a key is one that is put.
pub(crate) const fn is_put(key: usize) -> bool {
    key.is_multiple_of(4)
}

/// A value says whose it is. Some are large enough to be cut into segments.
pub(crate) fn value_of(key: usize, version: u64) -> Bytes {
    let mut text = format!("{key} {version} ").into_bytes();
    if key % 50 == 49 {
        text.resize(20_000, b'.');
    }
    text.into()
}

pub(crate) fn parse(value: &[u8]) -> Option<(usize, u64)> {
    let mut words = value.split(|byte| *byte == b' ').map(|word| std::str::from_utf8(word).ok());
    Some((words.next()??.parse().ok()?, words.next()??.parse().ok()?))
}

impl Truth {
    /// Each key has been read on every node at once, at rest.
    pub(crate) fn check_rest(&mut self) {
        let mut found = Vec::new();
        for (key, row) in self.rows.iter().enumerate() {
            if row.loads_at_rest_count > 1 {
                let (times, nodes) = (row.loads_at_rest_count, &row.loads_at_rest);
                found.push(format!("key {key} was loaded {times} times at rest, by nodes {nodes:?}"));
            }
        }
        found.into_iter().for_each(|found| self.violate(Rule::SingleFlight, found));
    }

    fn begin_load(&mut self, life: Life, key: usize) -> (u64, Mood, u64) {
        self.counts.loads += 1;
        self.check_gift(life, key);
        if self.calm {
            self.rows[key].loads_at_rest.insert(life.0);
            self.rows[key].loads_at_rest_count += 1;
        }
        let last_write = self.rows[key].last_write;
        let mut quiet_since = self.noisy_until.max(last_write + DELIVERY);
        if self.now < self.noisy_until + ANEW && self.now < last_write + ANEW {
            // A writer that has to ask another than the owner has its key loaded anew, whoever loads it already.
            quiet_since = self.now;
        }
        let is_quiet = self.rows[key].writers.is_empty();
        let before = self.loading.insert((life, key), self.now);
        if before.is_some_and(|since| is_quiet && since > quiet_since) {
            let what = format!("node {} loads key {key} twice at once, and nothing happened in between", life.0);
            self.violate(Rule::SingleFlight, what);
        }
        let mood = self.moods[life.0];
        self.counts.moody_loads += u64::from(mood != Mood::Well);
        (self.rows[key].version, mood, self.rng.random_range(500..4_000))
    }

    /// What a leaver has handed over is not loaded again, if nobody has written it for as long as a tombstone lasts.
    fn check_gift(&mut self, life: Life, key: usize) {
        let Some((at, version)) = self.gifts.get(&(life, key)).copied().filter(|_| self.only_leaves) else { return };
        let (row, belief) = (&self.rows[key], &self.beliefs[life.0]);
        let is_untouched = row.version == version && (version == 0 || row.last_write + 2 * TOMBSTONE < at);
        // A node that was given up takes nothing from others for as long.
        let trusts = belief.doubted.is_none_or(|doubted| doubted + TOMBSTONE < at);
        // What was on its way already is loaded all the same.
        let is_late = at + ON_ITS_WAY < self.now;
        if is_untouched && trusts && is_late && belief.owns[key] && belief.lost[key] < at {
            let what = format!("node {} loads key {key}, which a leaver gave it at {at} us", life.0);
            self.violate(Rule::Leave, what);
        }
    }

    fn end_load(&mut self, life: Life, key: usize) {
        self.loading.remove(&(life, key));
    }
}

pub(crate) const KEYS: usize = 300;
/// A load that began before, and asks the leaver first.
const ON_ITS_WAY: Micros = 200_000;
/// As the cluster's configuration has it.
const TOMBSTONE: Micros = 60_000_000;
/// For that long after its write a writer asks nodes that act for the owner to load anew.
const ANEW: Micros = 15_000_000;
/// An invalidation has been everywhere by then, where nothing holds it.
const DELIVERY: Micros = 200_000;
