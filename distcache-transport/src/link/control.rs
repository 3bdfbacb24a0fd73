//! The control lane to a peer: [`ControlLink`].

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::watch;

use super::{Link, follower::Followed};
use crate::{
    config::{Hello, TransportConfig},
    io::Dialer,
    lane::Lane,
    log::{ControlLog, Position},
    security::Security,
};

/// Keeps a second connection to a peer, for what must not wait behind values: small messages, heartbeats, and the events of a log,
/// each once and in order.
///
/// Every [`ping_interval`](TransportConfig::ping_interval), whatever else is said, it tells the peer how far the log has come. After a lost connection the peer says where it stopped and the log goes on from there; see [`ControlLog`]. Clones
/// share the lane; when the last one is dropped, it ends.
///
/// # Examples
///
/// ```
/// use std::{sync::{Arc, Mutex}, time::Duration};
/// use bytes::Bytes;
/// use distcache_transport::{
///     ClusterLabel, ControlLink, ControlLog, Event, Hello, LogLimits, MemoryNetwork, Payload, Peer, RemoteError, Request, Server,
///     Service, TransportConfig,
/// };
///
/// #[derive(Default)]
/// struct Heard(Mutex<Vec<Bytes>>);
///
/// #[async_trait::async_trait]
/// impl Service for Heard {
///     async fn call(&self, _: &Peer, request: Request) -> Result<Payload, RemoteError> {
///         Ok(request.payload.into())
///     }
///
///     fn event(&self, _: &Peer, event: Event) {
///         self.0.lock().expect("no panic").push(event.payload);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = MemoryNetwork::new();
/// let (alice, bob) = ("10.0.0.1:3320".parse()?, "10.0.0.2:3320".parse()?);
/// let config = TransportConfig::default();
/// let hello = |name| Hello { label: ClusterLabel::try_from("prod").expect("short"), identity: Bytes::from_static(name) };
/// let heard = Arc::new(Heard::default());
/// let service: Arc<dyn Service> = Arc::<Heard>::clone(&heard);
/// let server = Server::start(Box::new(network.listen(bob)?), service, None, hello(b"bob"), config.clone());
///
/// let log = Arc::new(ControlLog::new(LogLimits::default()));
/// let lane = ControlLink::open(bob, Arc::new(network.dialer(alice)), None, hello(b"alice"), config, Arc::clone(&log));
/// let end = log.append([Bytes::from_static(b"x is old"), Bytes::from_static(b"y is old")]);
/// lane.acknowledged().wait_for(|position| *position >= end).await?;
/// assert_eq!(*heard.0.lock().expect("no panic"), ["x is old", "y is old"]);
/// # server.shutdown(Duration::from_secs(1)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ControlLink {
    link: Link,
    acknowledged: watch::Receiver<Position>,
}

impl ControlLink {
    /// Starts a lane that follows a log from its beginning; it dials in the background.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn open(
        addr: SocketAddr,
        dialer: Arc<dyn Dialer>,
        security: impl Into<Security>,
        hello: Hello,
        config: TransportConfig,
        log: Arc<ControlLog>,
    ) -> Self {
        let (sender, acknowledged) = watch::channel(Position::default());
        let followed = Arc::new(Followed { log, acknowledged: sender });
        let link = Link::start(addr, dialer, security.into(), hello, config, Lane::Control, Some(followed));
        Self { link, acknowledged }
    }

    /// Returns the lane's connection, for calls and notices on it. They should be small.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Returns a receiver of how far the peer has come: everything before that position was taken in by the process that is, or
    /// was, at that address.
    #[must_use]
    pub fn acknowledged(&self) -> watch::Receiver<Position> {
        self.acknowledged.clone()
    }
}
