//! What can happen to a node's driver, in one list.

use std::net::SocketAddr;

use bytes::Bytes;
use distcache_transport::{Lane, LinkState};
use tokio::sync::oneshot;

use crate::ident::{NodeIdent, NodeName};

/// What the driver reacts to.
#[derive(Debug)]
pub(crate) enum Event {
    /// A membership packet from an admitted peer.
    Packet { from: NodeIdent, packet: Bytes },
    /// A peer's handshake on our listener.
    Met(NodeIdent),
    /// A lane of ours changed.
    Link { addr: SocketAddr, lane: Lane, state: LinkState },
    /// A peer's push/pull: merge, and answer with our own.
    Sync { snapshot: Bytes, reply: oneshot::Sender<Bytes> },
    /// A peer's answer to our push/pull.
    Synced { addr: SocketAddr, snapshot: Bytes },
    /// A peer routes by another ring.
    Disagrees(NodeName),
    /// What discovery found, or why it found nothing.
    Seeds(Result<Vec<SocketAddr>, String>),
    /// A peer says it leaves.
    Left(NodeIdent),
    /// This node is to leave: its peers are told, and nothing else is heeded from then on.
    Depart,
    /// This node is to go; the reply comes once its links have sent what they had to send.
    Leave(oneshot::Sender<()>),
}
