//! How the first node of a run finds its peers: it does not, they find it.

use distcache::async_trait;
use distcache_discovery::{DiscoveryError, Provider, Seed};

/// Knows nobody. A node whose port the system chooses cannot stand in a list made before it started; the others are given its
/// address once it has one.
#[derive(Debug)]
pub(crate) struct FirstNode;

#[async_trait]
impl Provider for FirstNode {
    fn id(&self) -> &'static str {
        "first-node"
    }

    async fn start(&self) -> Result<(), DiscoveryError> {
        Ok(())
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        Ok(Vec::new())
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        Ok(())
    }
}
