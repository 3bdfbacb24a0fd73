//! Our link.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use distcache_transport::{
    ClusterLabel, ControlLink, ControlLog, ErrorCode, Hello, Link, LogLimits, Method, Payload, Peer, RemoteError,
    Request, Server, Service, TcpDialer, TcpListener, TlsConfig, TransportConfig,
};

use crate::{KEY_BYTES, round_trips::Load, value_of};

/// Answers each key with its value, at once.
struct Values;

#[async_trait::async_trait]
impl Service for Values {
    async fn call(&self, _: &Peer, request: Request) -> Result<Payload, RemoteError> {
        let unknown = || RemoteError::new(ErrorCode::BAD_REQUEST, "no such key");
        // Keys of one request ask for the same value, as those of the raw socket do.
        let value = value_of(&request.payload).ok_or_else(unknown)?;
        let count = request.payload.len() / KEY_BYTES;
        if count == 1 {
            return Ok(Payload::new(Bytes::new(), value));
        }
        let mut values = BytesMut::with_capacity(count * value.len());
        (0..count).for_each(|_| values.extend_from_slice(&value));
        Ok(values.freeze().into())
    }
}

/// Serves until the process ends.
///
/// # Errors
///
/// It cannot listen.
pub async fn serve(tls: Option<TlsConfig>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0".parse()?).await?;
    let config = TransportConfig { max_connections: 4_096, ..TransportConfig::default() };
    let server = Server::start(Box::new(listener), Arc::new(Values), tls, hello(), config);
    let addr = server.local_addr();
    // For as long as the process runs.
    std::mem::forget(server);
    Ok(addr)
}

/// Connects a client.
///
/// # Errors
///
/// Nobody listens, or nobody who is one of ours.
pub async fn connect(addr: SocketAddr, tls: Option<TlsConfig>) -> anyhow::Result<Link> {
    let link = Link::open(addr, Arc::new(TcpDialer), tls, hello(), TransportConfig::default());
    link.connected(Duration::from_secs(5)).await?;
    Ok(link)
}

/// Connects a control lane without events.
///
/// # Errors
///
/// Nobody listens, or nobody who is one of ours.
pub async fn connect_control(addr: SocketAddr) -> anyhow::Result<ControlLink> {
    let log = Arc::new(ControlLog::new(LogLimits::default()));
    let lane = ControlLink::open(addr, Arc::new(TcpDialer), None, hello(), TransportConfig::default(), log);
    lane.link().connected(Duration::from_secs(5)).await?;
    Ok(lane)
}

/// Asks in a closed loop, in as many tasks as calls are in flight, and returns how many answers came.
///
/// # Errors
///
/// A call fails.
pub async fn ask(link: &Link, load: &Load) -> anyhow::Result<u64> {
    let link = link.clone();
    load.in_tasks(move |keys, answer_bytes| {
        let link = link.clone();
        async move {
            let answer = link.call(METHOD, keys.into(), BUDGET).await?;
            anyhow::ensure!(answer.len() == answer_bytes, "an answer of {} bytes", answer.len());
            Ok(())
        }
    })
    .await
}

fn hello() -> Hello {
    let label = ClusterLabel::try_from("bench").expect("a short label");
    Hello { label, identity: Bytes::from_static(b"bench") }
}

const METHOD: Method = Method(1);
/// How long a call may take.
const BUDGET: Duration = Duration::from_secs(10);
