//! SWIM packets as bytes: each item behind a two-byte length, so that it can be decoded from a bounded slice.

use bytes::{Buf, BufMut};
use foca::{Header, Member};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::{self, CodecError},
    ident::NodeIdent,
};

/// Encodes what `foca` sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct SwimCodec;

/// Why a packet could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum SwimCodecError {
    /// The packet ends inside an item.
    #[error("packet ends inside an item")]
    Truncated,
    /// No room is left in the packet.
    #[error("packet is full")]
    Full,
    /// The item itself is malformed.
    #[error(transparent)]
    Item(#[from] CodecError),
}

impl foca::Codec<NodeIdent> for SwimCodec {
    type Error = SwimCodecError;

    fn encode_header(&mut self, header: &Header<NodeIdent>, buf: impl BufMut) -> Result<(), SwimCodecError> {
        put_item(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<NodeIdent>, SwimCodecError> {
        take_item(buf)
    }

    fn encode_member(&mut self, member: &Member<NodeIdent>, buf: impl BufMut) -> Result<(), SwimCodecError> {
        put_item(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<NodeIdent>, SwimCodecError> {
        take_item(buf)
    }
}

fn put_item<T: Serialize>(item: &T, mut buf: impl BufMut) -> Result<(), SwimCodecError> {
    let bytes = codec::encode(item, MAX_ITEM_BYTES)?;
    // Foca demands that a full buffer stays clean.
    if buf.remaining_mut() < bytes.len() + 2 {
        return Err(SwimCodecError::Full);
    }
    buf.put_u16_le(u16::try_from(bytes.len()).expect("MAX_ITEM_BYTES fits in 16 bits"));
    buf.put_slice(&bytes);
    Ok(())
}

fn take_item<T: DeserializeOwned>(mut buf: impl Buf) -> Result<T, SwimCodecError> {
    if buf.remaining() < 2 {
        return Err(SwimCodecError::Truncated);
    }
    let len = usize::from(buf.get_u16_le());
    if buf.remaining() < len {
        return Err(SwimCodecError::Truncated);
    }
    let item = codec::decode(&buf.copy_to_bytes(len), MAX_ITEM_BYTES)?;
    Ok(item)
}

/// A header holds up to three identities of at most some 190 bytes.
const MAX_ITEM_BYTES: u64 = 1_024;

#[cfg(test)]
mod tests {
    use foca::{Codec, Message};

    use super::*;
    use crate::ident::NodeName;

    fn header() -> Header<NodeIdent> {
        let ident = |name, addr: &str| NodeIdent::new(NodeName::new(name).unwrap(), addr.parse().unwrap(), 9);
        Header {
            src: ident("a", "127.0.0.1:1"),
            src_incarnation: 3,
            dst: ident("b", "127.0.0.1:2"),
            message: Message::PingReq { target: ident("c", "[::1]:3"), probe_number: 4 },
        }
    }

    #[test]
    fn a_header_round_trips() {
        let mut bytes = Vec::new();
        SwimCodec.encode_header(&header(), &mut bytes).unwrap();
        assert_eq!(SwimCodec.decode_header(&bytes[..]).unwrap(), header());
    }

    #[test]
    fn every_prefix_is_an_error_and_every_flipped_byte_an_answer() {
        let mut bytes = Vec::new();
        SwimCodec.encode_header(&header(), &mut bytes).unwrap();
        for end in 0..bytes.len() {
            assert!(SwimCodec.decode_header(&bytes[..end]).is_err());
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xff;
            let _ = SwimCodec.decode_header(&flipped[..]);
        }
    }

    #[test]
    fn a_full_buffer_stays_clean() {
        let mut room = [0u8; 8];
        let mut buf = &mut room[..];
        assert!(matches!(SwimCodec.encode_header(&header(), &mut buf), Err(SwimCodecError::Full)));
        assert_eq!(buf.remaining_mut(), 8);
    }
}
