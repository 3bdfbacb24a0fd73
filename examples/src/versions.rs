//! The traffic's data source: as many keys as are wanted, each with a value that tells its key and its version.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use distcache::{Bytes, DataSource, SourceError, async_trait};
use rusqlite::{OptionalExtension, params};

use crate::{Cities, pool::Pool};

/// Versions of numbered keys, in the database of the [`Cities`]. A number that was never raised is at version 0.
///
/// A value is its key and its version, so that whoever reads one can tell another key's value and an old one. It counts the keys
/// it is asked for. A clone is the same source with the same count.
#[derive(Debug, Clone)]
pub struct Versions {
    pool: Arc<Pool>,
    delay: Duration,
    fetches: Arc<AtomicU64>,
}

impl Versions {
    /// Makes the source over the database of `cities`. Every visit to it takes `delay` longer than the query.
    #[must_use]
    pub fn new(cities: &Cities, delay: Duration) -> Self {
        Self { pool: cities.pool(), delay, fetches: Arc::default() }
    }

    /// Returns the key of a number.
    #[must_use]
    pub fn key(number: u32) -> String {
        format!("v{number}")
    }

    /// Returns the value of a number at a version.
    #[must_use]
    pub fn value(number: u32, version: u64) -> Bytes {
        Bytes::from(format!("{} {version}", Self::key(number)))
    }

    /// Reads the version in a value of that number; `None` if it is the value of another, or of none.
    #[must_use]
    pub fn version(number: u32, value: &[u8]) -> Option<u64> {
        let rest = value.strip_prefix(Self::key(number).as_bytes())?.strip_prefix(b" ")?;
        std::str::from_utf8(rest).ok()?.parse().ok()
    }

    /// Returns keys with their values as they are now. This goes past the cache, and is not counted.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn rows(&self, numbers: &[u32]) -> anyhow::Result<Vec<(String, Bytes)>> {
        let versions = read(&self.pool, numbers.iter().map(|number| Some(*number)))?;
        let rows = numbers.iter().zip(versions);
        Ok(rows.map(|(number, version)| (Self::key(*number), Self::value(*number, version.unwrap_or(0)))).collect())
    }

    /// Raises the version of numbers by one, all in one transaction. The cache is not told.
    ///
    /// # Errors
    /// What SQLite fails with; then nothing changed.
    pub fn raise(&self, numbers: &[u32]) -> anyhow::Result<usize> {
        let raised = self.pool.query(|connection| {
            let transaction = connection.transaction()?;
            let mut raised = 0;
            for number in numbers {
                raised += transaction.execute(RAISE, params![number])?;
            }
            transaction.commit()?;
            Ok(raised)
        })?;
        Ok(raised)
    }

    /// Raises the version of a number by one, and returns it. The cache is not told.
    ///
    /// # Errors
    /// What SQLite fails with; then nothing changed.
    pub fn raised(&self, number: u32) -> anyhow::Result<u64> {
        let raise = format!("{RAISE} RETURNING version");
        Ok(self.pool.query(|connection| {
            let version: u32 = connection.prepare_cached(&raise)?.query_row([number], |row| row.get(0))?;
            Ok(u64::from(version))
        })?)
    }

    /// Returns how many keys this process asked the database for as a data source.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl DataSource for Versions {
    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> {
        self.fetch_many(&[key]).await.pop().ok_or("one key has one answer")?
    }

    /// Reads all keys in one visit to a thread that may block.
    async fn fetch_many(&self, keys: &[&str]) -> Vec<Result<Option<Bytes>, SourceError>> {
        self.fetches.fetch_add(keys.len() as u64, Ordering::Relaxed);
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let numbers: Vec<_> = keys.iter().map(|key| number(key)).collect();
        let (pool, asked) = (Arc::clone(&self.pool), numbers.clone());
        let read = tokio::task::spawn_blocking(move || read(&pool, asked.into_iter())).await;
        let fail = |error: String| (0..keys.len()).map(|_| Err(error.clone().into())).collect();
        match read {
            Ok(Ok(versions)) => {
                let rows = numbers.into_iter().zip(versions);
                rows.map(|(number, version)| Ok(number.zip(version).map(|(n, v)| Self::value(n, v)))).collect()
            }
            Ok(Err(error)) => fail(error.to_string()),
            Err(error) => fail(error.to_string()),
        }
    }
}

/// The number behind a key. Any other text is no key of this source.
fn number(key: &str) -> Option<u32> {
    key.strip_prefix('v')?.parse().ok()
}

/// Reads versions, all of them as they were at one moment.
fn read(pool: &Pool, numbers: impl Iterator<Item = Option<u32>>) -> rusqlite::Result<Vec<Option<u64>>> {
    pool.query(|connection| {
        let transaction = connection.transaction()?;
        let mut select = transaction.prepare_cached("SELECT version FROM versions WHERE number = ?1")?;
        let mut version =
            |number: u32| select.query_row([number], |row| row.get::<_, u32>(0).map(u64::from)).optional();
        numbers.map(|number| number.map_or(Ok(None), |number| Ok(Some(version(number)?.unwrap_or(0))))).collect()
    })
}

const RAISE: &str = "
    INSERT INTO versions (number, version) VALUES (?1, 1)
    ON CONFLICT (number) DO UPDATE SET version = version + 1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    #[tokio::test]
    async fn a_value_tells_its_key_and_its_version_and_no_other() {
        let scratch = Scratch::new("versions").unwrap();
        let cities = Cities::create(&scratch.path().join("cities.db")).unwrap();
        let versions = Versions::new(&cities, Duration::ZERO);
        let old = versions.fetch("v7").await.unwrap().unwrap();
        assert_eq!(versions.raise(&[7, 8]).unwrap(), 2);
        let new = versions.fetch("v7").await.unwrap().unwrap();
        assert_eq!((Versions::version(7, &old), Versions::version(7, &new)), (Some(0), Some(1)));
        assert_eq!(Versions::version(70, &new), None, "the value of another key");
        assert_eq!(Versions::version(7, b"v7"), None);
        assert_eq!(versions.rows(&[7, 9]).unwrap(), [("v7".into(), new), ("v9".into(), Versions::value(9, 0))]);
        assert_eq!(versions.fetches(), 2, "rows are not counted");
        assert_eq!((versions.raised(7).unwrap(), versions.raised(9).unwrap()), (2, 1));
        assert_eq!(versions.fetch("seven").await.unwrap(), None);
    }
}
