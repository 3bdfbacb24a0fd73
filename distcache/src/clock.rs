//! Tokio's clock as the cache's, so that a test that pauses the one pauses the other.

use distcache_core::{Clock, Tick};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct TokioClock {
    origin: Instant,
}

impl TokioClock {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Tick {
        Tick(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
