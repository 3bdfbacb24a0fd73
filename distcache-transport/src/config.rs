//! The limits and times of a link: [`TransportConfig`], and who this node is: [`Hello`].

use std::{fmt, time::Duration};

use bytes::Bytes;
use thiserror::Error;

use crate::error::ConfigFault;

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
    /// How long the peer may be silent before it is pinged. Defaults to 1 s.
    pub ping_interval: Duration,
    /// How long the peer may be silent before the link is lost. Defaults to 3 s. Too short shows as links that flap when a machine is busy.
    pub ping_timeout: Duration,
    /// How long a write may make no progress before the link is lost. Defaults to 10 s.
    pub write_stall: Duration,
    /// Most connections a server holds; more are refused. Defaults to 1,024.
    pub max_connections: usize,
    /// Most connections a server lets be in the handshake; more are closed at once. Defaults to 64.
    pub max_pending_handshakes: usize,
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
            ping_timeout: Duration::from_secs(3),
            write_stall: Duration::from_secs(10),
            max_connections: 1024,
            max_pending_handshakes: 64,
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
        ];
        let times = [
            ("dial_timeout", self.dial_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("backoff_min", self.backoff_min),
            ("backoff_max", self.backoff_max),
            ("ping_interval", self.ping_interval),
            ("ping_timeout", self.ping_timeout),
            ("write_stall", self.write_stall),
        ];
        let zero_limits = limits.iter().filter(|(_, value)| *value == 0).map(|(field, _)| *field);
        let zero_times = times.iter().filter(|(_, value)| value.is_zero()).map(|(field, _)| *field);
        let mut faults: Vec<_> = zero_limits.chain(zero_times).map(|field| ConfigFault::Zero { field }).collect();
        if self.max_payload_bytes as u64 > MAX_PAYLOAD_BYTES {
            faults.push(ConfigFault::TooLarge { field: "max_payload_bytes", limit: MAX_PAYLOAD_BYTES });
        }
        if self.ping_timeout <= self.ping_interval {
            let (longer, shorter) = ("ping_timeout", "ping_interval");
            faults.push(ConfigFault::Order { longer, shorter, than: self.ping_interval });
        }
        if self.backoff_max < self.backoff_min {
            let (longer, shorter) = ("backoff_max", "backoff_min");
            faults.push(ConfigFault::Order { longer, shorter, than: self.backoff_min });
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
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
            backoff_max: Duration::from_millis(1),
            ..TransportConfig::default()
        };
        let faults = config.validate().unwrap_err();
        assert_eq!(faults.len(), 5, "{faults:?}");
    }

    #[test]
    fn labels_have_one_to_63_bytes() {
        assert_eq!(ClusterLabel::try_from(""), Err(LabelError::Empty));
        assert!(ClusterLabel::try_from("x".repeat(63).as_str()).is_ok());
        assert_eq!(ClusterLabel::try_from("x".repeat(64).as_str()), Err(LabelError::TooLong { bytes: 64 }));
    }
}
