//! The provider of a node that stays alone.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::{DiscoveryError, Provider, Seed};

/// Finds no peers, ever: for tests, development and services of one process.
///
/// A node with this provider dials nobody. It is still found by nodes that have its address.
///
/// # Examples
///
/// ```
/// use distcache_discovery::{Provider, StandaloneProvider};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = StandaloneProvider::new();
/// provider.start().await?;
/// assert!(provider.discover().await?.is_empty());
/// assert!(provider.is_standalone());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct StandaloneProvider {
    started: AtomicBool,
}

impl StandaloneProvider {
    /// Creates the provider.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Provider for StandaloneProvider {
    fn id(&self) -> &'static str {
        ID
    }

    async fn start(&self) -> Result<(), DiscoveryError> {
        if self.started.swap(true, Ordering::AcqRel) {
            return Err(DiscoveryError::AlreadyStarted { provider: ID });
        }
        Ok(())
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        if !self.started.load(Ordering::Acquire) {
            return Err(DiscoveryError::NotStarted { provider: ID });
        }
        Ok(Vec::new())
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        self.started.store(false, Ordering::Release);
        Ok(())
    }

    fn is_standalone(&self) -> bool {
        true
    }
}

const ID: &str = "standalone";
