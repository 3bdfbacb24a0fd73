//! The one place that speaks `bincode`: small control messages between nodes whose handshake is done.
//!
//! Keys, values, frame headers and the handshake are laid by hand elsewhere; nothing here is decoded before the peer was
//! admitted. Each message has a byte limit, fixed-width integers, no trailing bytes, and comes from a slice that a frame
//! bounded already. `deny.toml` holds the reason for the pinned release.

use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

/// A control message could not be encoded or decoded. Decoding: the peer is at fault and nothing was applied.
#[derive(Debug, thiserror::Error)]
#[error("control message is malformed or over its limit of {limit} bytes")]
pub(crate) struct CodecError {
    limit: u64,
    #[source]
    cause: Box<bincode::ErrorKind>,
}

pub(crate) fn encode<T: Serialize>(message: &T, limit: u64) -> Result<Vec<u8>, CodecError> {
    options(limit).serialize(message).map_err(|cause| CodecError { limit, cause })
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], limit: u64) -> Result<T, CodecError> {
    options(limit).deserialize(bytes).map_err(|cause| CodecError { limit, cause })
}

fn options(limit: u64) -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_little_endian().with_limit(limit).reject_trailing_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_length_beyond_the_limit_is_refused_without_allocating_it() {
        let bomb = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1];
        assert!(decode::<Vec<u64>>(&bomb, 1_024).is_err());
        assert!(decode::<String>(&bomb, 1_024).is_err());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32, 64).unwrap();
        assert_eq!(bytes, [7, 0, 0, 0]);
        bytes.push(0);
        assert!(decode::<u32>(&bytes, 64).is_err());
    }

    #[test]
    fn a_message_over_its_limit_is_not_sent() {
        assert!(encode(&vec![0u8; 65], 64).is_err());
    }
}
