//! Loads: what a keyspace asks of its data source, and what it does when that fails.

use std::{panic::AssertUnwindSafe, time::Duration};

use bytes::Bytes;
use distcache_core::Expiry as CacheExpiry;
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::{Fill, Slot, Space, Via};
use crate::{
    data_source::SourceError,
    error::{Error, ErrorKind, Result},
};

impl Space {
    /// Reads one key from the data source: outside any lock, with the load timeout, safe from panics.
    pub(crate) async fn load(&self, key: &str) -> Result<Option<Bytes>> {
        self.counters.source_loads.one();
        let load = AssertUnwindSafe(self.source.fetch(key)).catch_unwind();
        let result = match timeout(self.load_timeout, load).await {
            Ok(Ok(result)) => result.map_err(source_failed).and_then(|value| self.within_limit(value)),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Source, "the data source panicked")),
            Err(_) => Err(Error::timeout("the data source")),
        };
        if result.is_err() {
            self.counters.source_failures.one();
        }
        result
    }

    /// Reads several keys from the data source. One result a key, in order.
    pub(crate) async fn load_many(&self, keys: &[&str]) -> Vec<Result<Option<Bytes>>> {
        if let [key] = keys {
            return vec![self.load(key).await];
        }
        self.counters.source_loads.add(keys.len());
        let load = AssertUnwindSafe(self.source.fetch_many(keys)).catch_unwind();
        let all = |error: Error| keys.iter().map(|_| Err(error.clone())).collect::<Vec<_>>();
        let results = match timeout(self.load_timeout, load).await {
            Ok(Ok(results)) if results.len() == keys.len() => {
                let checked = results.into_iter();
                checked.map(|result| result.map_err(source_failed).and_then(|value| self.within_limit(value))).collect()
            }
            Ok(Ok(results)) => {
                let (got, asked) = (results.len(), keys.len());
                all(Error::new(ErrorKind::Source, format!("the data source gave {got} results for {asked} keys")))
            }
            Ok(Err(_)) => all(Error::new(ErrorKind::Source, "the data source panicked")),
            Err(_) => all(Error::timeout("the data source")),
        };
        self.counters.source_failures.add(results.iter().filter(|result| result.is_err()).count());
        results
    }

    /// A value that could not be sent to a peer is refused here too, so that a key reads the same everywhere.
    fn within_limit(&self, value: Option<Bytes>) -> Result<Option<Bytes>> {
        match value.as_ref().map_or(0, Bytes::len) {
            len if len > self.max_value_bytes => Err(Error::new(
                ErrorKind::Invalid,
                format!("the data source gave a value of {len} bytes, over the limit of {}", self.max_value_bytes),
            )),
            _ => Ok(value),
        }
    }

    /// Answers a failed load with what was there before, if there is something, and puts that back: it is asked for again before
    /// long, and the data source should not be, for a moment.
    pub(super) fn stand_in(&self, fill: Fill, stale: Option<Slot>, error: Error) {
        let now = Instant::now();
        let Some(stale) = stale.filter(|stale| stale.usable.is_none_or(|until| now < until)) else {
            return fill.fail(error);
        };
        tracing::debug!(keyspace = %self.name, %error, "a load failed; an older value stands in");
        let pause = now + SOURCE_PAUSE;
        let expires = stale.usable.map_or(pause, |until| until.min(pause));
        let left = stale.usable.map_or(CacheExpiry::Never, |until| CacheExpiry::After(until - now));
        let _ = fill.install(Slot { expires: Some(expires), via: Via::Stale, ..stale }, left);
    }
}

fn source_failed(error: SourceError) -> Error {
    Error::with_source(ErrorKind::Source, "the data source failed", error)
}

/// How long a data source that failed is spared a key that has a stand-in.
const SOURCE_PAUSE: Duration = Duration::from_secs(1);
