//! What a server counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts what a server has seen since it started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ServerStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> ServerStats {
                ServerStats { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Streams accepted from the listener, whatever became of them.
    accepted,
    /// Connections whose handshake succeeded.
    connected,
    /// Streams closed at once because too many were in the handshake.
    rejected_pending,
    /// Streams closed at once because too many of the same address were in the handshake.
    rejected_pending_per_ip,
    /// Peers refused because there were too many connections.
    rejected_connections,
    /// Streams on which TLS failed.
    rejected_tls,
    /// Streams that did not finish the handshake in time.
    rejected_timeout,
    /// Streams that broke during the handshake.
    rejected_broken,
    /// Streams that did not speak this protocol.
    rejected_malformed,
    /// Peers of another cluster.
    rejected_label,
    /// Peers that did not prove the shared secret, or that demanded one this server has not.
    rejected_secret,
    /// Peers without a common wire version.
    rejected_version,
    /// Peers that the layer above did not admit.
    rejected_identity,
    /// Peers refused because the server is leaving.
    rejected_shutting_down,
    /// Times the listener failed to accept.
    accept_errors,
    /// Requests received, whatever became of them.
    requests,
    /// One-way messages received.
    notices,
    /// Events of peers' logs taken in.
    events,
    /// Times events of a peer's log were lost, and the layer above was told to drop what they can have been about.
    streams_lost,
    /// Connections ended because the same link had made another in their place.
    superseded,
    /// Connections told to go because they were older than this node's certificates.
    outdated,
    /// Requests refused because too many of the same connection were in flight.
    overloaded,
    /// Requests refused because those of the same connection held too many bytes.
    overloaded_bytes,
    /// Requests refused because those of all connections were too many, or held too many bytes.
    overloaded_node,
    /// Answers dropped because the peer had left too many bytes of others unread.
    answers_dropped,
    /// Answers dropped because the peers of all connections had left too many bytes unread, this one more than its share.
    answers_dropped_node,
    /// Requests whose deadline passed, before or while they ran.
    deadline_exceeded,
    /// Requests that ran for so long that their callers were told that they run.
    loading,
    /// Requests that the caller cancelled while they ran.
    cancelled,
    /// Panics caught in the layer above; anything but 0 is a bug there.
    panics,
    /// Connections closed because the peer sent what it must not.
    protocol_errors,
    /// Connections closed because a frame came too slowly.
    slow_frames,
    /// Connections closed because the peer fell silent.
    mute_peers,
    /// Connections closed because the peer stopped reading, or read too slowly.
    stalled_peers,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
