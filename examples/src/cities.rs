//! The database of the examples: 3,500 real cities in SQLite, shared by every process of a run.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, ensure};
use distcache::{Bytes, DataSource, SourceError, async_trait};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::pool::Pool;

/// A database of cities, as a data source: the key is a city's `geonameid`, the value its row as one line of JSON.
///
/// It counts the keys it is asked for, apart from any counter of the cache's: that number says what the database had to do.
/// A clone is the same database with the same count.
#[derive(Debug, Clone)]
pub struct Cities {
    shared: Arc<Shared>,
}

/// A row of the database, with the columns of `data/cities.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct City {
    /// GeoNames' number of the city.
    pub geonameid: i64,
    /// Its name.
    pub name: String,
    /// ISO 3166-1 code of two letters.
    pub country: String,
    /// How many people live there.
    pub population: i64,
    /// Degrees north of the equator.
    pub latitude: f64,
    /// Degrees east of Greenwich.
    pub longitude: f64,
    /// The name of its time zone.
    pub timezone: String,
}

#[derive(Debug)]
struct Shared {
    pool: Arc<Pool>,
    fetches: AtomicU64,
}

impl Cities {
    /// Creates the database file at `path` from the cities that come with the examples, and opens it.
    ///
    /// # Errors
    /// There is a file at `path` already, or SQLite cannot write it.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        ensure!(!path.exists(), "{} exists already", path.display());
        let mut connection = Connection::open(path).with_context(|| format!("cannot create {}", path.display()))?;
        // With a write-ahead log, readers in other processes do not wait for a writer.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.execute_batch(SCHEMA)?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare(INSERT)?;
            for city in csv::Reader::from_reader(CSV.as_bytes()).deserialize() {
                let City { geonameid, name, country, population, latitude, longitude, timezone } = city?;
                insert.execute(params![geonameid, name, country, population, latitude, longitude, timezone])?;
            }
        }
        transaction.commit()?;
        drop(connection);
        Self::open(path)
    }

    /// Opens the database file at `path`.
    ///
    /// # Errors
    /// There is no such file, or it is no database of cities.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shared = Shared { pool: Arc::new(Pool::new(path)), fetches: AtomicU64::new(0) };
        shared
            .pool
            .query(|connection| connection.query_row("SELECT count(*) FROM cities", [], |_| Ok(())))
            .with_context(|| format!("cannot open {} as a database of cities", path.display()))?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns every key with its value as it is now, in order of `geonameid`. This goes past the cache, and is not counted.
    ///
    /// # Errors
    /// What SQLite fails with.
    pub fn rows(&self) -> anyhow::Result<Vec<(String, Bytes)>> {
        let cities = self.shared.pool.query(|connection| {
            let mut select = connection.prepare_cached("SELECT * FROM cities ORDER BY geonameid")?;
            select.query_map([], city)?.collect::<Result<Vec<_>, _>>()
        })?;
        cities.iter().map(|city| Ok((city.geonameid.to_string(), value(city)?))).collect()
    }

    /// Changes the population of some cities, all in one transaction, and returns how many rows changed. The cache is not
    /// told: that is what a delete after it is for.
    ///
    /// # Errors
    /// What SQLite fails with; then nothing changed.
    pub fn set_population(&self, keys: &[impl AsRef<str>], population: i64) -> anyhow::Result<usize> {
        let changed = self.shared.pool.query(|connection| {
            let transaction = connection.transaction()?;
            let mut changed = 0;
            for id in keys.iter().filter_map(|key| id(key.as_ref())) {
                changed += transaction
                    .execute("UPDATE cities SET population = ?2 WHERE geonameid = ?1", params![id, population])?;
            }
            transaction.commit()?;
            Ok(changed)
        })?;
        Ok(changed)
    }

    /// Returns how many keys this process asked the database for as a data source.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.shared.fetches.load(Ordering::Relaxed)
    }

    /// The connections to the file, for what else is kept in it.
    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.shared.pool)
    }
}

#[async_trait]
impl DataSource for Cities {
    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, SourceError> {
        self.fetch_many(&[key]).await.pop().ok_or("one key has one answer")?
    }

    /// Reads all keys in one visit to a thread that may block.
    async fn fetch_many(&self, keys: &[&str]) -> Vec<Result<Option<Bytes>, SourceError>> {
        self.shared.fetches.fetch_add(keys.len() as u64, Ordering::Relaxed);
        let count = keys.len();
        let ids: Vec<_> = keys.iter().map(|key| id(key)).collect();
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || {
            shared.pool.query(|connection| {
                let mut select = connection.prepare_cached("SELECT * FROM cities WHERE geonameid = ?1")?;
                let mut read = |id| select.query_row([id], city).optional();
                Ok(ids.into_iter().map(|id| id.map_or(Ok(None), &mut read)).collect::<Vec<_>>())
            })
        });
        let fail = |error: String| (0..count).map(|_| Err(error.clone().into())).collect();
        match read.await {
            Ok(Ok(rows)) => rows.into_iter().map(|row| Ok(row?.as_ref().map(value).transpose()?)).collect(),
            Ok(Err(error)) => fail(error.to_string()),
            Err(error) => fail(error.to_string()),
        }
    }
}

/// The number behind a key. Any other text is the key of no city.
fn id(key: &str) -> Option<i64> {
    key.parse().ok()
}

fn city(row: &Row<'_>) -> rusqlite::Result<City> {
    Ok(City {
        geonameid: row.get("geonameid")?,
        name: row.get("name")?,
        country: row.get("country")?,
        population: row.get("population")?,
        latitude: row.get("latitude")?,
        longitude: row.get("longitude")?,
        timezone: row.get("timezone")?,
    })
}

fn value(city: &City) -> serde_json::Result<Bytes> {
    serde_json::to_vec(city).map(Bytes::from)
}

/// Part of the program, so that it runs from any folder.
const CSV: &str = include_str!("../data/cities.csv");

const SCHEMA: &str = "
    CREATE TABLE cities (
        geonameid  INTEGER PRIMARY KEY,
        name       TEXT    NOT NULL,
        country    TEXT    NOT NULL,
        population INTEGER NOT NULL,
        latitude   REAL    NOT NULL,
        longitude  REAL    NOT NULL,
        timezone   TEXT    NOT NULL
    ) STRICT;
    CREATE TABLE versions (
        number  INTEGER PRIMARY KEY,
        version INTEGER NOT NULL
    ) STRICT;";

const INSERT: &str = "
    INSERT INTO cities (geonameid, name, country, population, latitude, longitude, timezone)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    fn database() -> (Scratch, Cities) {
        let scratch = Scratch::new("cities").unwrap();
        let cities = Cities::create(&scratch.path().join("cities.db")).unwrap();
        (scratch, cities)
    }

    fn parsed(value: &Bytes) -> City {
        serde_json::from_slice(value).unwrap()
    }

    #[tokio::test]
    async fn every_row_of_the_table_is_read_by_its_key() {
        let (_scratch, cities) = database();
        let rows = cities.rows().unwrap();
        assert_eq!(rows.len(), 3_500);
        let keys: Vec<_> = rows.iter().map(|(key, _)| &**key).collect();
        for ((key, value), read) in rows.iter().zip(cities.fetch_many(&keys).await) {
            assert_eq!(read.unwrap().as_ref(), Some(value), "{key}");
        }
        let golestan = parsed(&cities.fetch("32900").await.unwrap().unwrap());
        assert_eq!((&*golestan.name, &*golestan.country, golestan.population), ("Golestān", "IR", 240_000));
    }

    #[tokio::test]
    async fn what_is_no_city_is_not_there() {
        let (_scratch, cities) = database();
        for key in ["1", "no such city", "-1", ""] {
            assert!(cities.fetch(key).await.unwrap().is_none(), "{key:?}");
        }
    }

    #[tokio::test]
    async fn fetches_are_counted_by_key_and_rows_are_not() {
        let (_scratch, cities) = database();
        let _ = cities.rows().unwrap();
        assert_eq!(cities.fetches(), 0);
        let _ = cities.fetch("32900").await.unwrap();
        let _ = cities.clone().fetch_many(&["32900", "1", "53654"]).await;
        assert_eq!(cities.fetches(), 4);
    }

    #[tokio::test]
    async fn another_opening_of_the_file_sees_an_update() {
        let (scratch, cities) = database();
        let other = Cities::open(&scratch.path().join("cities.db")).unwrap();
        let before = parsed(&other.fetch("32900").await.unwrap().unwrap());
        assert_eq!(cities.set_population(&["32900", "1"], 7).unwrap(), 1);
        let after = parsed(&other.fetch("32900").await.unwrap().unwrap());
        assert_eq!(after, City { population: 7, ..before });
    }

    #[test]
    fn a_database_is_never_overwritten_and_never_made_by_opening() {
        let (scratch, _cities) = database();
        assert!(Cities::create(&scratch.path().join("cities.db")).is_err());
        let absent = scratch.path().join("absent.db");
        assert!(Cities::open(&absent).is_err());
        assert!(!absent.exists());
    }

    #[tokio::test]
    async fn a_database_that_is_gone_is_an_error_for_each_key() {
        let (scratch, _) = database();
        let cities = Cities::open(&scratch.path().join("cities.db")).unwrap();
        cities.shared.pool.close_idle();
        drop(scratch);
        let answers = cities.fetch_many(&["32900", "53654"]).await;
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(Result::is_err));
    }
}
