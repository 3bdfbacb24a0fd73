//! Who is in the cluster: a pure state machine fed with packets, states and the time.

mod health;
mod swim;
mod swim_codec;

use std::time::Instant;

use bytes::Bytes;

use crate::ident::NodeIdent;

pub(crate) use swim::Swim;

/// A failure-detecting membership protocol without I/O.
///
/// Inputs are method calls that carry `now`; whatever the protocol wants done is fetched with
/// [`poll_output`](Self::poll_output) after each call, until it gives `None`.
pub(crate) trait Membership: Send + 'static {
    /// Takes a packet from the peer at the other end of an admitted link.
    fn handle_packet(&mut self, from: &NodeIdent, packet: &[u8], now: Instant);

    /// Fires what is due. Call it once `now` has reached [`poll_timeout`](Self::poll_timeout).
    fn handle_timeout(&mut self, now: Instant);

    /// Says when [`handle_timeout`](Self::handle_timeout) wants to be called next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Returns the next thing to do.
    fn poll_output(&mut self) -> Option<Output>;

    /// Returns everything known of every member, this node included, as one message for [`merge`](Self::merge).
    fn snapshot(&self) -> Bytes;

    /// Merges a peer's snapshot (push/pull anti-entropy).
    ///
    /// # Errors
    /// When the snapshot is malformed; nothing was merged.
    fn merge(&mut self, snapshot: &[u8], now: Instant) -> Result<(), MalformedSnapshot>;

    /// Takes a peer's word that it is leaving for good.
    fn peer_left(&mut self, peer: &NodeIdent, now: Instant);

    /// Declares this node gone and tells some members so.
    fn leave(&mut self, now: Instant);

    /// Returns the other members believed alive (suspects among them: suspicion moves no key).
    fn active(&self) -> Vec<NodeIdent>;
}

/// What a [`Membership`] wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send a packet to a member. It may be dropped.
    Send { to: NodeIdent, packet: Bytes },
    /// The set of active members may have changed.
    Changed,
    /// No other member is active any more: discovery should announce this node at once.
    Idle,
    /// The cluster had declared this node down; it came back under a new generation. What it cached may be stale.
    Rejoined,
}

/// A peer's membership snapshot could not be read. The peer is at fault; nothing was merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("membership snapshot is malformed")]
pub(crate) struct MalformedSnapshot;

/// The times of failure detection.
///
/// The defaults were measured over simulated clusters of 3 to 64 nodes: a crash is known everywhere after 3.6 to 5 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwimConfig {
    /// How often a node probes another. Must exceed `probe_rtt`. Defaults to 500 ms.
    pub probe_period: std::time::Duration,
    /// How long a probe's answer may take before others are asked to probe too. Defaults to 200 ms.
    pub probe_rtt: std::time::Duration,
    /// How long a suspect may refute before it is declared down. Below 3 s, starved nodes are removed for nothing.
    /// Defaults to 3 s.
    pub suspect_to_down: std::time::Duration,
}

impl Default for SwimConfig {
    fn default() -> Self {
        use std::time::Duration;
        Self {
            probe_period: Duration::from_millis(500),
            probe_rtt: Duration::from_millis(200),
            suspect_to_down: Duration::from_secs(3),
        }
    }
}
