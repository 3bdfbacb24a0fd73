//! Who a node is: its stable ring name, the address its peers dial, and the generation of this process.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::wire::{DecodeError, Reader, put_short_text};

/// The name of a node on the ring: stable over restarts, unique in a cluster, 1 to 128 bytes.
///
/// The name decides which keys the node owns. A node that comes back under its name, even at another address, gets its
/// keys back and nothing moves between the others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// A node name is empty or longer than 128 bytes. The caller is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node name has 1 to {MAX_NAME_BYTES} bytes, not {len}")]
pub struct InvalidName {
    len: usize,
}

impl NodeName {
    /// Makes a name.
    ///
    /// # Errors
    /// [`InvalidName`] when it is empty or longer than 128 bytes.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(InvalidName { len: name.len() });
        }
        Ok(Self(name.into()))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The identity of one process of a node, made locally and told to peers in the handshake; never taken from what a peer
/// says about us.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct NodeIdent {
    addr: SocketAddr,
    generation: u64,
    name: NodeName,
    weight: u16,
    protocol: Protocol,
}

/// The versions of this layer's messages that a node speaks, the lowest and the highest. Versions of the frames below are negotiated on each
/// connection; these are not, so nodes that have none in common do not form a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Protocol {
    pub(crate) lowest: u16,
    pub(crate) highest: u16,
}

impl Protocol {
    /// What this build speaks.
    pub(crate) const OURS: Self = Self { lowest: 1, highest: 1 };

    /// Whether both speak some version.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.lowest <= other.highest && other.lowest <= self.highest
    }
}

impl NodeIdent {
    /// Makes the identity of a process that peers reach at `addr`.
    ///
    /// `generation` must grow from one process at this address to the next: milliseconds since the epoch at start.
    #[must_use]
    pub const fn new(name: NodeName, addr: SocketAddr, generation: u64) -> Self {
        Self { addr, generation, name, weight: FULL_WEIGHT, protocol: Protocol::OURS }
    }

    /// Sets the node's share of the keys in percent of a plain node's. Defaults to 100; held to 1..=1,000.
    #[must_use]
    pub fn weight(mut self, percent: u16) -> Self {
        self.weight = percent.clamp(1, MAX_WEIGHT);
        self
    }

    /// Returns the ring name.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.name
    }

    /// Returns the address that peers dial.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the generation of the process.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the node's weight in percent.
    #[must_use]
    pub const fn weight_percent(&self) -> u16 {
        self.weight
    }

    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn with_generation(&self, generation: u64) -> Self {
        Self { generation, ..self.clone() }
    }

    /// Whether both are processes of the same node, perhaps of different generations.
    pub(crate) fn is_same_node(&self, other: &Self) -> bool {
        self.name == other.name && self.addr == other.addr
    }

    /// Lays the identity out for the handshake, which happens before anything may be decoded by a library:
    ///
    /// ```text
    /// version u8 = 1 | family u8 = 4 or 6 | ip 4 or 16 | port u16 | generation u64 | weight u16
    ///   | lowest protocol u16 | highest protocol u16 | name len u8 | name
    /// ```
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(52 + self.name.as_str().len());
        out.put_u8(IDENT_VERSION);
        match self.addr.ip() {
            IpAddr::V4(ip) => {
                out.put_u8(4);
                out.put_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.put_u8(6);
                out.put_slice(&ip.octets());
            }
        }
        out.put_u16_le(self.addr.port());
        out.put_u64_le(self.generation);
        out.put_u16_le(self.weight);
        out.put_u16_le(self.protocol.lowest);
        out.put_u16_le(self.protocol.highest);
        put_short_text(&mut out, self.name.as_str());
        out.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != IDENT_VERSION {
            return Err(DecodeError::UnknownValue("identity version"));
        }
        let ip = match reader.u8()? {
            4 => IpAddr::from(Ipv4Addr::from(reader.octets::<4>()?)),
            6 => IpAddr::from(Ipv6Addr::from(reader.octets::<16>()?)),
            _ => return Err(DecodeError::UnknownValue("address family")),
        };
        let addr = SocketAddr::new(ip, reader.u16()?);
        let generation = reader.u64()?;
        let weight = reader.u16()?;
        let protocol = Protocol { lowest: reader.u16()?, highest: reader.u16()? };
        let name = NodeName::new(reader.short_text()?).map_err(|_| DecodeError::OutOfRange("node name"))?;
        reader.finish()?;
        if addr.port() == 0 || addr.ip().is_unspecified() {
            return Err(DecodeError::OutOfRange("address"));
        }
        if protocol.lowest > protocol.highest {
            return Err(DecodeError::OutOfRange("protocol"));
        }
        Ok(Self { protocol, ..Self::new(name, addr, generation).weight(weight) })
    }
}

impl fmt::Display for NodeIdent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.addr)
    }
}

/// SWIM identifies a member by its address: a port can be bound once, a name can be configured twice.
impl foca::Identity for NodeIdent {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(self.with_generation(self.generation.saturating_add(1)))
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// Two identities travel in each membership packet, so they are kept short.
const MAX_NAME_BYTES: usize = 128;
const IDENT_VERSION: u8 = 1;
const FULL_WEIGHT: u16 = 100;
/// Ten times a plain node; beyond it the ring of one node would dwarf the others' for no use.
const MAX_WEIGHT: u16 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ident(addr: &str) -> NodeIdent {
        NodeIdent::new(NodeName::new("cache-0").unwrap(), addr.parse().unwrap(), 0x0102_0304).weight(150)
    }

    #[test]
    fn identity_bytes_are_pinned() {
        let bytes = ident("10.0.0.7:3320").encode();
        let golden = [
            &[1, 4, 10, 0, 0, 7][..],
            &[0xf8, 0x0c],
            &[4, 3, 2, 1, 0, 0, 0, 0],
            &[150, 0],
            &[1, 0, 1, 0],
            &[7],
            b"cache-0",
        ]
        .concat();
        assert_eq!(bytes, golden);
    }

    #[test]
    fn identity_round_trips_for_both_families() {
        for addr in ["10.0.0.7:3320", "[fd00::7]:3320"] {
            assert_eq!(NodeIdent::decode(&ident(addr).encode()), Ok(ident(addr)));
        }
    }

    #[test]
    fn every_prefix_and_every_flipped_byte_is_an_answer_not_a_panic() {
        let bytes = ident("[fd00::7]:3320").encode();
        for end in 0..bytes.len() {
            assert!(NodeIdent::decode(&bytes[..end]).is_err(), "prefix of {end} bytes was accepted");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0xff;
            let _ = NodeIdent::decode(&flipped);
        }
    }

    #[test]
    fn an_address_nobody_can_dial_is_refused() {
        assert!(NodeIdent::decode(&ident("10.0.0.7:0").encode()).is_err());
        assert!(NodeIdent::decode(&ident("0.0.0.0:3320").encode()).is_err());
    }

    #[test]
    fn names_are_bounded() {
        assert!(NodeName::new("").is_err());
        assert!(NodeName::new(&"n".repeat(129)).is_err());
        assert!(NodeName::new(&"n".repeat(128)).is_ok());
    }
}
