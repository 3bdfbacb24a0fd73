//! What lives from start to stop: the resolver and its last answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::ID;
use super::error::LookupError;
use super::resolve::{Answer, Resolver};
use crate::bounds::Bounds;
use crate::{DiscoveryError, Seed};

#[derive(Debug)]
pub(super) struct Run {
    resolver: Resolver,
    kept: Mutex<Option<Kept>>,
    failing: AtomicBool,
    bounds: Bounds,
}

/// An answer and how long it holds.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) seeds: Arc<[Seed]>,
    pub(super) until: Instant,
    /// Whether every question had an answer: only then does what is missing not exist.
    pub(super) is_whole: bool,
    asked: Instant,
}

impl Run {
    pub(super) fn new(resolver: Resolver) -> Self {
        Self { resolver, kept: Mutex::new(None), failing: AtomicBool::new(false), bounds: Bounds::of(ID) }
    }

    /// Returns the last answer for as long as it holds, and then a new one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](DiscoveryError::Unavailable) if nothing was found and a server failed. It is not kept: the next call
    /// asks again.
    pub(super) async fn answer(&self) -> Result<Kept, DiscoveryError> {
        let asked = Instant::now();
        if let Some(kept) = self.last().filter(|kept| asked < kept.until) {
            return Ok(kept);
        }
        let answer = self.resolver.resolve().await;
        self.note(answer.as_ref().map_or_else(Some, |answer| answer.failure.as_ref()));
        let Answer { seeds, ttl, failure } = answer.map_err(|error| DiscoveryError::unavailable(ID, error))?;
        let seeds = self.bounds.keep(seeds).into();
        let answer = Kept { seeds, until: asked + ttl, is_whole: failure.is_none(), asked };
        let mut kept = self.lock();
        // Calls may overlap, and the one that asked last knows best.
        if kept.as_ref().is_none_or(|kept| kept.asked <= answer.asked) {
            *kept = Some(answer.clone());
        }
        Ok(answer)
    }

    /// Returns the last answer, whether it still holds or not.
    pub(super) fn last(&self) -> Option<Kept> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs the first failure after a success, and the first success after a failure.
    fn note(&self, failure: Option<&LookupError>) {
        let was_failing = self.failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_failing => {
                let cause = std::error::Error::source(error);
                tracing::warn!(provider = ID, %error, cause, "a name does not resolve");
            }
            None if was_failing => tracing::info!(provider = ID, name = %self.resolver.name, "the name resolves again"),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
