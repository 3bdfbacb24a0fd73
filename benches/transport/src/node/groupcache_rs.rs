//! A node of the `groupcache` crate, which is on tonic. Its cache of other nodes' values has no room.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use groupcache::{Groupcache, GroupcacheInner, GroupcacheServer, ValueLoader, moka::future::Cache};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};

use super::Loads;

#[derive(Clone)]
pub(super) struct Node {
    cache: Groupcache<Bytes>,
    served: Arc<AtomicU64>,
}

impl Node {
    pub(super) async fn start(owner: Option<SocketAddr>, loads: Loads) -> anyhow::Result<(Self, SocketAddr)> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let cache = Groupcache::builder(addr.into(), Source(loads))
            .hot_cache(Cache::builder().max_capacity(0).build())
            .grpc_endpoint_builder(|endpoint| endpoint.tcp_nodelay(true))
            .build();
        let served = Arc::new(AtomicU64::new(0));
        let service = Counted { inner: cache.grpc_service(), served: Arc::clone(&served) };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        if let Some(owner) = owner {
            cache.add_peer(owner.into()).await?;
        }
        Ok((Self { cache, served }, addr))
    }
}

impl super::Node for Node {
    async fn get(&self, key: &str) -> anyhow::Result<usize> {
        Ok(self.cache.get(key).await?.len())
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

struct Source(Loads);

#[async_trait::async_trait]
impl ValueLoader for Source {
    type Value = Bytes;

    async fn load(&self, _: &str) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.load())
    }
}

/// The crate's server, and how many requests reached it.
#[derive(Clone)]
struct Counted {
    inner: Inner,
    served: Arc<AtomicU64>,
}

type Inner = GroupcacheServer<GroupcacheInner<Bytes>>;

impl NamedService for Counted {
    const NAME: &'static str = Inner::NAME;
}

impl Service<http::Request<Body>> for Counted {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As the inner one.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.inner.call(request)
    }
}
