//! The limits and times of a link: [`TransportConfig`], and who this node is: [`Hello`].
//!
//! # Memory
//!
//! Every limit is checked before the memory is taken. What peers can make a server's transport hold is, besides the buffers of the
//! network and what handlers allocate:
//!
//! ```text
//! one connection                                                              defaults
//!   what arrives    32 KiB read buffer
//!                 + 2 x max_payload_bytes    a large frame, while its buffer grows
//!                 + 1 x max_payload_bytes    a frame that waits for room          3.2 MiB
//!   what runs       max_in_flight_bytes                                           8.0 MiB
//!                 + max_in_flight x 8 KiB    tasks, places in maps and queues     8.0 MiB
//!   what leaves     2 x max_out_bytes        answers that wait for the peer
//!                 + 2 x max_payload_bytes    the last one, and one being written
//!                 + 256 KiB                  a batch                             18.4 MiB
//!
//! a server
//!   max_connections x
//!       what arrives                                                              3.2 MiB
//!     + max_in_flight x 512 B    places in maps and queues                        0.5 MiB
//!     + 64 KiB                   answers that each connection may queue
//!     + 256 KiB                  a batch                                          0.3 MiB
//! + max_node_out_bytes           answers that wait for peers                    256.0 MiB
//! + max_node_in_flight x 8 KiB                                                   32.0 MiB
//! + max_node_in_flight_bytes                                                     64.0 MiB
//! + max_pending_handshakes x 64 KiB                                               4.0 MiB
//! ```
//!
//! With all 1,024 connections that is 4.4 GiB, of which 3.2 are large frames that arrive on every one of them at once.
//!
//! [`max_connection_memory`](TransportConfig::max_connection_memory) and
//! [`max_server_memory`](TransportConfig::max_server_memory) are these sums. They are what a peer gets to by malice; a connection
//! that carries small frames holds the read buffer, and an idle one 1 KiB of it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use thiserror::Error;

use crate::{entropy::Entropy, error::ConfigFault};

/// Sets the limits and times of links and servers.
///
/// [`validate`](Self::validate) reports every fault at once. A link or server with a faulty configuration does not panic,
/// but may refuse all work.
///
/// # Examples
///
/// ```
/// use distcache_transport::TransportConfig;
///
/// let config = TransportConfig { max_in_flight: 256, ..TransportConfig::default() };
/// assert_eq!(config.validate(), Ok(()));
///
/// let broken = TransportConfig { max_in_flight: 0, ..config };
/// assert_eq!(broken.validate().unwrap_err()[0].to_string(), "max_in_flight must not be zero");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportConfig {
    /// Largest payload of one frame, in bytes, both ways. Defaults to 1 MiB + 64 KiB. Both ends need the same value: a
    /// peer closes the connection when a frame exceeds its own.
    pub max_payload_bytes: usize,
    /// Most calls in flight on one link; more fail at once. Defaults to 1,024. Too small shows as `InFlightLimit` here
    /// and `OVERLOADED` there.
    pub max_in_flight: usize,
    /// How long one dial may take. Defaults to 2 s.
    pub dial_timeout: Duration,
    /// How long TLS and the handshake may take together. Defaults to 5 s.
    pub handshake_timeout: Duration,
    /// Longest wait before the second dial. Defaults to 100 ms; it doubles with every failure, and each wait is a random part of it.
    pub backoff_min: Duration,
    /// Longest wait between dials. Defaults to 5 s.
    pub backoff_max: Duration,
    /// How long the peer may be silent before it is pinged, while this side waits for something: calls in flight, requests that run,
    /// the next heartbeat of a control lane. Defaults to 1 s. A server, and a control lane, wait half as long again: one ping does
    /// for both ends.
    pub ping_interval: Duration,
    /// How long the peer may be silent before it is pinged while this side waits for nothing. Defaults to 10 s: nobody is kept waiting
    /// by a peer that is not asked, and pings are all that an idle link costs. Too short shows as a processor that a thousand idle
    /// links keep busy. Too long shows as connections of peers that hang: a link finds out with its next call, within
    /// `ping_timeout` of it; a server on which nothing runs keeps a few KiB for such a peer for half as long again as this, and
    /// `ping_timeout`. Of hosts that vanish, TCP keep-alive and `TCP_USER_TIMEOUT` tell as well. At least `ping_interval`.
    pub idle_ping_interval: Duration,
    /// How long the peer may be silent before the link is lost, while this side waits for something. Defaults to 3 s. A peer for which
    /// nobody waits is lost when it leaves a ping unanswered for what this is longer than `ping_interval`; its silence alone is
    /// no fault. Too short shows as links that flap when a machine is busy.
    pub ping_timeout: Duration,
    /// How long a write may make no progress before the link is lost. Defaults to 10 s.
    pub write_stall: Duration,
    /// How long a frame may take from its first byte to its last, besides what its size adds. Defaults to 5 s. It keeps a peer
    /// that sends half a frame from holding memory. Too short shows as `slow_frames` on a network that stalls.
    pub frame_grace: Duration,
    /// Slowest rate at which a frame may arrive once the grace is used up, in bytes a second. Defaults to 64 KiB. It keeps a
    /// peer that sends a large frame, or reads answers, byte by byte from holding memory; for what is written, `write_stall` is
    /// the grace. Too large shows as `slow_frames` and `stalled_peers` on a slow network.
    pub min_frame_rate: usize,
    /// How long a connection is used before the link makes another in its place, without a gap; give or take a tenth, so that
    /// links do not all do it at once. Defaults to 6 h. It brings what only a handshake checks, as certificates that have been
    /// withdrawn, to links that would live for months. Too short shows as handshakes that cost more than the calls.
    pub max_connection_age: Duration,
    /// Most connections a server holds; more are refused. Defaults to 1,024. A peer has one for each of its lanes, two in all.
    pub max_connections: usize,
    /// Most connections a server lets be in the handshake; more are closed at once. Defaults to 64.
    pub max_pending_handshakes: usize,
    /// How many of those may come from one IP address; more are closed at once. Defaults to 16. It leaves room for others when
    /// one host floods. Too small shows as `rejected_pending_per_ip` when many nodes behind one address start together.
    pub max_pending_handshakes_per_ip: usize,
    /// Most bytes of request payloads that running requests of one link hold at a server; a request over it is refused.
    /// Defaults to 8 MiB. It keeps one peer from filling the memory. Too small shows as `overloaded_bytes`, and as `OVERLOADED`
    /// there. A link sends no more than this either, so that a caller cannot fill its own memory with what a slow peer has not
    /// answered; too small shows as `InFlightLimit` here. At least `max_payload_bytes`.
    pub max_in_flight_bytes: usize,
    /// Most requests that run at a server, over all links; more are refused. Defaults to 4,096. It keeps many peers together
    /// from what one may not do. Too small shows as `overloaded_node`, and as `OVERLOADED` there.
    pub max_node_in_flight: usize,
    /// Most bytes of request payloads that running requests hold at a server, over all links. Defaults to 64 MiB. What
    /// `max_node_in_flight` says holds for it too. At least `max_payload_bytes`.
    pub max_node_in_flight_bytes: usize,
    /// When a server tells a peer to try again that it refused a request. Defaults to 50 ms. Too short shows as peers that are
    /// refused again and again; too long as peers that go elsewhere long after the load has gone.
    pub retry_after: Duration,
    /// After how many calls in a row without an answer a peer is left alone for a while. Defaults to 3: one slow answer is
    /// chance, and each call that is let through costs its caller the whole budget. Calls with a budget of less than twice
    /// `loading_after` do not count: their peer had no time to say that it works on them. Too small shows as
    /// `refused_by_breaker` for peers that are well.
    pub breaker_failures: u32,
    /// How long a peer is left alone before one call is let through to see whether it answers. Defaults to 100 ms; it doubles with
    /// each such call that fails, and up to half of it is taken off at random.
    pub breaker_backoff_min: Duration,
    /// The longest that a peer is left alone. Defaults to 5 s, as long as the link waits between dials. Too long shows as calls
    /// that go elsewhere long after the peer is well.
    pub breaker_backoff_max: Duration,
    /// How long a request may run before its caller is told so, once. Defaults to 10 ms: a hit that had to wait for a processor is back
    /// before that, and a data source mostly is not. Too short costs a frame for most requests that wait for anything; too long
    /// shows as callers that ask elsewhere, or think the peer is gone, while it works for them.
    pub loading_after: Duration,
    /// How many bytes of answers may wait on one link for the peer to read them, before a server reads and starts no more
    /// requests of that link. Defaults to 8 MiB. Requests that run already may add as much again; answers beyond that are
    /// dropped. It keeps a peer that asks and never reads from filling the memory. Too small shows as `answers_dropped`, and as
    /// `NO_ROOM` there, when many slow requests with large answers end together.
    pub max_out_bytes: usize,
    /// How many bytes of answers may wait at a server for peers to read them, over all links, besides 64 KiB that each link may
    /// always have waiting: with more, an answer is dropped. At half of it, links with more than that of their own are read no
    /// further. Defaults to 256 MiB. It keeps many peers together from what one may not do, and them from harming a peer that
    /// reads. Too small shows as `answers_dropped_node`, and as `NO_ROOM` there. At least `max_payload_bytes`.
    pub max_node_out_bytes: usize,
    /// Where chance comes from: the waits between dials, and the numbers of links. Defaults to the system; a seed is for simulations.
    pub entropy: Entropy,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            max_payload_bytes: (1 << 20) + (64 << 10),
            max_in_flight: 1024,
            dial_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(1),
            idle_ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(3),
            write_stall: Duration::from_secs(10),
            frame_grace: Duration::from_secs(5),
            min_frame_rate: 64 << 10,
            max_connection_age: Duration::from_secs(6 * 3600),
            max_connections: 1024,
            max_pending_handshakes: 64,
            max_pending_handshakes_per_ip: 16,
            max_in_flight_bytes: 8 << 20,
            max_node_in_flight: 4096,
            max_node_in_flight_bytes: 64 << 20,
            retry_after: Duration::from_millis(50),
            breaker_failures: 3,
            breaker_backoff_min: Duration::from_millis(100),
            breaker_backoff_max: Duration::from_secs(5),
            loading_after: Duration::from_millis(10),
            max_out_bytes: 8 << 20,
            max_node_out_bytes: 256 << 20,
            entropy: Entropy::default(),
        }
    }
}

impl TransportConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// All faults, never an empty list.
    pub fn validate(&self) -> Result<(), Vec<ConfigFault>> {
        let limits = [
            ("max_payload_bytes", self.max_payload_bytes),
            ("max_in_flight", self.max_in_flight),
            ("max_connections", self.max_connections),
            ("max_pending_handshakes", self.max_pending_handshakes),
            ("max_pending_handshakes_per_ip", self.max_pending_handshakes_per_ip),
            ("max_node_in_flight", self.max_node_in_flight),
            ("max_out_bytes", self.max_out_bytes),
            ("breaker_failures", self.breaker_failures as usize),
            ("min_frame_rate", self.min_frame_rate),
        ];
        let times = [
            ("dial_timeout", self.dial_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("backoff_min", self.backoff_min),
            ("backoff_max", self.backoff_max),
            ("ping_interval", self.ping_interval),
            ("idle_ping_interval", self.idle_ping_interval),
            ("ping_timeout", self.ping_timeout),
            ("write_stall", self.write_stall),
            ("frame_grace", self.frame_grace),
            ("retry_after", self.retry_after),
            ("max_connection_age", self.max_connection_age),
            ("loading_after", self.loading_after),
            ("breaker_backoff_min", self.breaker_backoff_min),
            ("breaker_backoff_max", self.breaker_backoff_max),
        ];
        let zero_limits = limits.iter().filter(|(_, value)| *value == 0).map(|(field, _)| *field);
        let zero_times = times.iter().filter(|(_, value)| value.is_zero()).map(|(field, _)| *field);
        let mut faults: Vec<_> = zero_limits.chain(zero_times).map(|field| ConfigFault::Zero { field }).collect();
        if self.max_payload_bytes as u64 > MAX_PAYLOAD_BYTES {
            faults.push(ConfigFault::TooLarge { field: "max_payload_bytes", limit: MAX_PAYLOAD_BYTES });
        }
        let of_payloads = [
            ("max_in_flight_bytes", self.max_in_flight_bytes),
            ("max_node_in_flight_bytes", self.max_node_in_flight_bytes),
            ("max_node_out_bytes", self.max_node_out_bytes),
        ];
        let too_small = of_payloads.into_iter().filter(|(_, value)| *value < self.max_payload_bytes);
        faults.extend(too_small.map(|(field, _)| ConfigFault::TooSmall { field, least: "max_payload_bytes" }));
        if self.retry_after > MAX_RETRY_AFTER {
            let limit = MAX_RETRY_AFTER.as_secs();
            faults.push(ConfigFault::TooLarge { field: "retry_after", limit });
        }
        if self.ping_timeout <= self.ping_interval {
            let (longer, shorter) = ("ping_timeout", "ping_interval");
            faults.push(ConfigFault::Order { longer, shorter, than: self.ping_interval });
        }
        if self.idle_ping_interval < self.ping_interval {
            let (longer, shorter) = ("idle_ping_interval", "ping_interval");
            faults.push(ConfigFault::Order { longer, shorter, than: self.ping_interval });
        }
        if self.backoff_max < self.backoff_min {
            let (longer, shorter) = ("backoff_max", "backoff_min");
            faults.push(ConfigFault::Order { longer, shorter, than: self.backoff_min });
        }
        if self.breaker_backoff_max < self.breaker_backoff_min {
            let (longer, shorter) = ("breaker_backoff_max", "breaker_backoff_min");
            faults.push(ConfigFault::Order { longer, shorter, than: self.breaker_backoff_min });
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

impl TransportConfig {
    /// Returns how much memory one accepted connection can make the transport hold, in bytes, whatever its peer sends and
    /// however little it reads. The module's documentation names the parts.
    #[must_use]
    pub const fn max_connection_memory(&self) -> usize {
        let requests = self.max_in_flight.saturating_mul(BYTES_PER_REQUEST);
        let held = self.arriving().saturating_add(self.leaving()).saturating_add(BATCH_BYTES).saturating_add(requests);
        held.saturating_add(self.max_in_flight_bytes)
    }

    const fn arriving(&self) -> usize {
        READ_BUFFER_BYTES.saturating_add(self.max_payload_bytes.saturating_mul(3))
    }

    const fn leaving(&self) -> usize {
        self.max_out_bytes.saturating_add(self.max_payload_bytes).saturating_mul(2)
    }

    /// Returns how much memory all peers together can make a server's transport hold, in bytes.
    #[must_use]
    pub const fn max_server_memory(&self) -> usize {
        let places = self.max_in_flight.saturating_mul(BYTES_PER_PLACE);
        let each = self.arriving().saturating_add(places).saturating_add(OUT_SHARE_BYTES).saturating_add(BATCH_BYTES);
        let connections = self.max_connections.saturating_mul(each);
        let requests = self.max_node_in_flight.saturating_mul(BYTES_PER_REQUEST);
        let pending = self.max_pending_handshakes.saturating_mul(HANDSHAKE_BYTES);
        let node = requests.saturating_add(pending).saturating_add(self.max_node_in_flight_bytes);
        connections.saturating_add(node).saturating_add(self.max_node_out_bytes)
    }
}

/// Says who this node is, in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The cluster this node belongs to; the peer must name the same.
    pub label: ClusterLabel,
    /// What the layer above wants the peer to know; at most 1 KiB, opaque here.
    pub identity: Bytes,
}

/// Names a cluster, so that two of them never mix.
///
/// # Examples
///
/// ```
/// use distcache_transport::ClusterLabel;
///
/// let label = ClusterLabel::try_from("prod-eu")?;
/// assert_eq!(label.as_str(), "prod-eu");
/// assert!(ClusterLabel::try_from("").is_err());
/// # Ok::<(), distcache_transport::LabelError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterLabel(String);

impl ClusterLabel {
    /// Returns the label's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ClusterLabel {
    type Error = LabelError;

    fn try_from(label: &str) -> Result<Self, LabelError> {
        match label.len() {
            0 => Err(LabelError::Empty),
            1..=MAX_LABEL_BYTES => Ok(Self(label.to_owned())),
            bytes => Err(LabelError::TooLong { bytes }),
        }
    }
}

impl fmt::Display for ClusterLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Explains why a text is not a [`ClusterLabel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LabelError {
    /// There is no text.
    #[error("cluster label is empty")]
    Empty,
    /// The text does not fit in the handshake.
    #[error("cluster label of {bytes} bytes exceeds 63")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
}

/// A DNS label's length: enough for a name, and it keeps the handshake small.
pub(crate) const MAX_LABEL_BYTES: usize = 63;

/// No request is worth a longer deadline, so no hint need be longer.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// One read system call's worth of small frames.
pub(crate) const READ_BUFFER_BYTES: usize = 32 * 1024;

/// A few socket buffers' worth: larger batches save no system calls and make control frames wait.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;

/// A request and what is left of cancelled ones: tasks, places in maps and queues, and the frames of two answers without
/// payload and of the word that it runs. What the handler itself allocates is the handler's.
const BYTES_PER_REQUEST: usize = 8 * 1024;

/// What of them stays when they are over, in maps and queues that do not shrink.
const BYTES_PER_PLACE: usize = 512;

/// What each connection may have waiting to be written whatever others have: many small answers, or one of moderate size.
pub(crate) const OUT_SHARE_BYTES: usize = 64 * 1024;

/// A message of the handshake and the answer, the buffers of TLS on both sides of it, a task.
const HANDSHAKE_BYTES: usize = 64 * 1024;

/// 1 GiB: far above any sensible value, far below what the 32-bit length field holds.
const MAX_PAYLOAD_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(TransportConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let config = TransportConfig {
            max_payload_bytes: 2 << 30,
            max_in_flight: 0,
            dial_timeout: Duration::ZERO,
            ping_timeout: Duration::from_secs(1),
            idle_ping_interval: Duration::from_millis(999),
            backoff_max: Duration::from_millis(1),
            breaker_failures: 0,
            breaker_backoff_max: Duration::from_millis(1),
            ..TransportConfig::default()
        };
        let faults = config.validate().unwrap_err();
        assert_eq!(faults.len(), 11, "{faults:?}");
    }

    #[test]
    fn every_limit_must_be_there_and_let_one_frame_through() {
        let zeros = TransportConfig {
            max_pending_handshakes_per_ip: 0,
            max_node_in_flight: 0,
            max_out_bytes: 0,
            min_frame_rate: 0,
            frame_grace: Duration::ZERO,
            retry_after: Duration::ZERO,
            loading_after: Duration::ZERO,
            ..TransportConfig::default()
        };
        assert_eq!(zeros.validate().unwrap_err().len(), 7);
        let mut config = TransportConfig::default();
        (config.max_in_flight_bytes, config.max_node_in_flight_bytes) = (config.max_payload_bytes, 1000);
        config.max_node_out_bytes = config.max_payload_bytes;
        let too_small = ConfigFault::TooSmall { field: "max_node_in_flight_bytes", least: "max_payload_bytes" };
        assert_eq!(config.validate(), Err(vec![too_small]));
        let patient = TransportConfig { retry_after: Duration::from_secs(61), ..TransportConfig::default() };
        assert_eq!(patient.validate().unwrap_err()[0].to_string(), "retry_after must be at most 60");
    }

    #[test]
    fn memory_is_what_the_table_says_and_does_not_overflow() {
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let config = TransportConfig::default();
        assert!((mib(config.max_connection_memory()) - (3.2 + 16.0 + 18.4)).abs() < 0.1);
        assert!((mib(config.max_server_memory()) / 1024.0 - 4.4).abs() < 0.1);
        let one = TransportConfig { max_connections: 1, ..config };
        let none = TransportConfig { max_connections: 0, ..one.clone() };
        assert!((mib(none.max_server_memory()) - (256.0 + 32.0 + 64.0 + 4.0)).abs() < 0.1);
        assert!((mib(one.max_server_memory() - none.max_server_memory()) - (3.2 + 0.5 + 0.3)).abs() < 0.1);
        let all = TransportConfig { max_payload_bytes: usize::MAX, max_connections: usize::MAX, ..one };
        assert_eq!(all.max_server_memory(), usize::MAX);
    }

    #[test]
    fn labels_have_one_to_63_bytes() {
        assert_eq!(ClusterLabel::try_from(""), Err(LabelError::Empty));
        assert!(ClusterLabel::try_from("x".repeat(63).as_str()).is_ok());
        assert_eq!(ClusterLabel::try_from("x".repeat(64).as_str()), Err(LabelError::TooLong { bytes: 64 }));
    }
}
