//! A node of ours: the whole engine over the plain link. There are no near copies, so every get of another's key asks its owner.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use distcache::{DataSource, Engine, KeySpaceHandle, SourceError, SourceKeySpace, StaticProvider, async_trait};

use super::Loads;

#[derive(Clone)]
pub(super) struct Node {
    values: KeySpaceHandle,
    /// Dropping it would end the node.
    _engine: Engine,
}

impl Node {
    pub(super) async fn start(owner: Option<SocketAddr>, loads: Loads) -> anyhow::Result<(Self, SocketAddr)> {
        // The owner stands in its own list of seeds, and nobody else does: it may start alone.
        let own = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let seed = owner.unwrap_or(own).to_string();
        let engine = Engine::builder()
            .bind(own.to_string())
            .discovery(StaticProvider::new([seed]))
            .min_members(if owner.is_some() { 2 } else { 1 })
            .join_timeout(Duration::from_secs(20))
            // The wire is measured, not the copies that spare it.
            .near_ttl(Duration::ZERO)
            .keyspace(SourceKeySpace::new(KEYSPACE, Source(loads)))
            .start()
            .await?;
        let addr = engine.local_addr().context("the node has no address")?;
        Ok((Self { values: engine.keyspace(KEYSPACE)?, _engine: engine }, addr))
    }
}

impl super::Node for Node {
    async fn get(&self, key: &str) -> anyhow::Result<usize> {
        Ok(self.values.get(key).await?.context("no such key")?.len())
    }

    fn served(&self) -> u64 {
        self.values.stats().peer_reads
    }
}

struct Source(Loads);

#[async_trait]
impl DataSource for Source {
    async fn fetch(&self, _: &str) -> Result<Option<Bytes>, SourceError> {
        Ok(Some(self.0.load()))
    }
}

const KEYSPACE: &str = "values";
