//! The handshake's five messages: what they hold and how they are laid.
//!
//! The dialler sends a Hello; the listener answers with a HelloAck, or with a Refuse and closes. If both hold a shared secret, a
//! Challenge and a Proof come between the two: the listener proves itself first, and a dialler that does not believe it sends a
//! Refuse instead of its Proof. Frames follow the HelloAck, so a dialler never sends a request on a connection that the listener
//! is still about to reject. All numbers are little-endian.
//!
//! ```text
//! dialler                       listener
//!    | -- Hello ------------------> |
//!    | <----------------- Challenge |   with a shared secret only
//!    | -- Proof ------------------> |   with a shared secret only
//!    | <------------------ HelloAck |
//! ```
//!
//! ```text
//!  0       4      5        7
//! +-------+------+--------+----------------+
//! | DCHE  | type | length | body           |
//! |       | u8   | u16    | length bytes   |     length is at most 4089: a message has at most 4 KiB
//! +-------+------+--------+----------------+
//!
//! 1 Hello     | min u16 | max u16 | nonce 16 bytes | flags u8 | link u64 | label | identity | later versions' fields, ignored |
//! 2 HelloAck  | version u16 | label | identity | later versions' fields, ignored |
//! 3 Refuse    | reason u16 | message: UTF-8, at most 1 KiB |
//! 4 Challenge | version u16 | nonce 16 bytes | proof 32 bytes | label | identity | later versions' fields, ignored |
//! 5 Proof     | proof 32 bytes | later versions' fields, ignored |
//!
//! flags       | bit 0: the dialler holds a shared secret | bit 1: the control lane | others: 0 when sent, ignored when read |
//! link        | the same number in every connection of one link, and in no other link; 0 for a connection on its own |
//! label       | length u8, 1..=63   | UTF-8 |
//! identity    | length u16, 0..=1024 | bytes |
//! ```
//!
//! The magic, the type, the length, a Hello's two version numbers and a Refuse hold in every version, so that nodes without a
//! common one can say so. The nonces bind the proofs to this one connection; [`Transcript`](crate::secret::Transcript) says what
//! else they cover. The HelloAck after a Challenge names the same version, label and identity as that.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::{
    config::{ClusterLabel, Hello},
    error::{Refusal, RefusalReason},
    frame::{MAX_MESSAGE_BYTES, cut},
    lane::{Lane, LinkNumber, Purpose},
    secret::PROOF_BYTES,
};

/// The versions this release speaks.
pub(crate) const VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

/// Wire versions from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VersionRange {
    pub(crate) min: u16,
    pub(crate) max: u16,
}

impl VersionRange {
    /// Picks the newest version that both ends speak.
    pub(crate) fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// One handshake message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Hello {
        versions: VersionRange,
        nonce: [u8; NONCE_BYTES],
        /// Whether the dialler holds a shared secret.
        secret: bool,
        purpose: Purpose,
        hello: Hello,
    },
    /// A Hello from a node that speaks none of our versions; the rest of it may be laid out in any way.
    ForeignHello {
        versions: VersionRange,
    },
    Ack {
        version: u16,
        hello: Hello,
    },
    Refuse(Refusal),
    Challenge {
        version: u16,
        nonce: [u8; NONCE_BYTES],
        proof: [u8; PROOF_BYTES],
        hello: Hello,
    },
    Proof {
        proof: [u8; PROOF_BYTES],
    },
}

impl Message {
    /// Lays the message out.
    pub(crate) fn encode(&self) -> Result<Bytes, HandshakeError> {
        let mut body = BytesMut::new();
        let kind = match self {
            Self::Hello { versions, nonce, secret, purpose, hello } => {
                body.put_u16_le(versions.min);
                body.put_u16_le(versions.max);
                body.put_slice(nonce);
                let secret = if *secret { HOLDS_SECRET } else { 0 };
                let lane = if purpose.lane == Lane::Control { CONTROL_LANE } else { 0 };
                body.put_u8(secret | lane);
                body.put_u64_le(purpose.link.0);
                put_hello(hello, &mut body)?;
                HELLO
            }
            Self::ForeignHello { versions } => {
                body.put_u16_le(versions.min);
                body.put_u16_le(versions.max);
                HELLO
            }
            Self::Ack { version, hello } => {
                body.put_u16_le(*version);
                put_hello(hello, &mut body)?;
                ACK
            }
            Self::Refuse(refusal) => {
                body.put_u16_le(refusal.reason.code());
                body.put_slice(cut(&refusal.message, MAX_MESSAGE_BYTES).as_bytes());
                REFUSE
            }
            Self::Challenge { version, nonce, proof, hello } => {
                body.put_u16_le(*version);
                body.put_slice(nonce);
                body.put_slice(proof);
                put_hello(hello, &mut body)?;
                CHALLENGE
            }
            Self::Proof { proof } => {
                body.put_slice(proof);
                PROOF
            }
        };
        let length = u16::try_from(body.len()).expect("every part is bounded far below 64 KiB");
        let mut out = BytesMut::with_capacity(PREFIX_BYTES + body.len());
        out.put_slice(&MAGIC);
        out.put_u8(kind);
        out.put_u16_le(length);
        out.put_slice(&body);
        Ok(out.freeze())
    }

    /// Reads the body that follows a prefix.
    pub(crate) fn decode(prefix: Prefix, body: &[u8]) -> Result<Self, HandshakeError> {
        let mut body = Reader(body);
        match prefix.kind {
            HELLO => {
                let versions = VersionRange { min: body.u16()?, max: body.u16()? };
                if VERSIONS.common(versions).is_none() {
                    return Ok(Self::ForeignHello { versions });
                }
                let nonce = body.array()?;
                let [flags] = body.array()?;
                let secret = flags & HOLDS_SECRET != 0;
                let lane = if flags & CONTROL_LANE == 0 { Lane::Data } else { Lane::Control };
                let purpose = Purpose { lane, link: LinkNumber(u64::from_le_bytes(body.array()?)) };
                Ok(Self::Hello { versions, nonce, secret, purpose, hello: body.hello()? })
            }
            ACK => Ok(Self::Ack { version: body.u16()?, hello: body.hello()? }),
            REFUSE => {
                let reason = RefusalReason::from_code(body.u16()?);
                if body.0.len() > MAX_MESSAGE_BYTES {
                    return Err(HandshakeError::TooLong { bytes: body.0.len() });
                }
                let message = String::from_utf8_lossy(body.0).into_owned();
                Ok(Self::Refuse(Refusal { reason, message }))
            }
            CHALLENGE => {
                let (version, nonce, proof) = (body.u16()?, body.array()?, body.array()?);
                Ok(Self::Challenge { version, nonce, proof, hello: body.hello()? })
            }
            PROOF => Ok(Self::Proof { proof: body.array()? }),
            kind => Err(HandshakeError::UnknownType { kind }),
        }
    }
}

/// The part of a message that says what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) kind: u8,
    /// At most 4 KiB, so that a reader may wait for that much.
    pub(crate) length: usize,
}

impl Prefix {
    pub(crate) fn decode(bytes: [u8; PREFIX_BYTES]) -> Result<Self, HandshakeError> {
        let [m0, m1, m2, m3, kind, l0, l1] = bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(HandshakeError::foreign(&bytes));
        }
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        if length > MAX_BODY_BYTES {
            return Err(HandshakeError::TooLong { bytes: length });
        }
        Ok(Self { kind, length })
    }
}

/// What is wrong with a handshake message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum HandshakeError {
    #[error("{guess} (first bytes {bytes:02x?})")]
    Foreign { bytes: Vec<u8>, guess: &'static str },
    #[error("unknown handshake message {kind}")]
    UnknownType { kind: u8 },
    #[error("handshake message out of turn")]
    OutOfTurn,
    #[error("handshake message of {bytes} bytes is too long")]
    TooLong { bytes: usize },
    #[error("handshake message is too short")]
    TooShort,
    #[error("cluster label is malformed")]
    BadLabel,
    #[error("identity of {bytes} bytes exceeds 1024")]
    IdentityTooLong { bytes: usize },
}

impl HandshakeError {
    /// Names what those first bytes probably are.
    pub(crate) fn foreign(bytes: &[u8]) -> Self {
        let guess = match bytes {
            [0x16, 0x03, ..] => "the peer speaks TLS and this end does not",
            [0x15, 0x03, ..] => "the peer expects TLS and this end does not speak it",
            _ => "the peer does not speak this protocol",
        };
        Self::Foreign { bytes: bytes.to_vec(), guess }
    }
}

/// Tells whether these bytes can still become a message.
pub(crate) fn may_be_ours(start: &[u8]) -> bool {
    start.iter().zip(MAGIC).all(|(byte, magic)| *byte == magic)
}

fn put_hello(hello: &Hello, out: &mut BytesMut) -> Result<(), HandshakeError> {
    let (label, identity) = (hello.label.as_str().as_bytes(), &hello.identity);
    let too_long = || HandshakeError::IdentityTooLong { bytes: identity.len() };
    if identity.len() > MAX_IDENTITY_BYTES {
        return Err(too_long());
    }
    out.put_u8(u8::try_from(label.len()).map_err(|_| HandshakeError::BadLabel)?);
    out.put_slice(label);
    out.put_u16_le(u16::try_from(identity.len()).map_err(|_| too_long())?);
    out.put_slice(identity);
    Ok(())
}

/// Takes fields off the front of a body.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u16(&mut self) -> Result<u16, HandshakeError> {
        self.0.try_get_u16_le().map_err(|_| HandshakeError::TooShort)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(HandshakeError::TooShort)?;
        self.0 = rest;
        Ok(*array)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], HandshakeError> {
        let (slice, rest) = self.0.split_at_checked(length).ok_or(HandshakeError::TooShort)?;
        self.0 = rest;
        Ok(slice)
    }

    fn hello(&mut self) -> Result<Hello, HandshakeError> {
        let [length] = self.array()?;
        let label = std::str::from_utf8(self.slice(usize::from(length))?)
            .ok()
            .and_then(|label| ClusterLabel::try_from(label).ok())
            .ok_or(HandshakeError::BadLabel)?;
        let length = usize::from(self.u16()?);
        if length > MAX_IDENTITY_BYTES {
            return Err(HandshakeError::IdentityTooLong { bytes: length });
        }
        Ok(Hello { label, identity: Bytes::copy_from_slice(self.slice(length)?) })
    }
}

const MAGIC: [u8; 4] = *b"DCHE";
const HELLO: u8 = 1;
const ACK: u8 = 2;
const REFUSE: u8 = 3;
const CHALLENGE: u8 = 4;
const PROOF: u8 = 5;

/// The flag of a Hello whose sender holds a shared secret.
const HOLDS_SECRET: u8 = 1;

/// The flag of a Hello for a connection that is a control lane.
const CONTROL_LANE: u8 = 2;

/// Magic, type and length.
pub(crate) const PREFIX_BYTES: usize = 7;

/// 128 bits: no two connections share one.
pub(crate) const NONCE_BYTES: usize = 16;

/// Room for a name, an address and a few facts; a stranger may make us keep this much per connection.
const MAX_IDENTITY_BYTES: usize = 1024;

/// A message has at most 4 KiB, prefix included.
const MAX_BODY_BYTES: usize = 4096 - PREFIX_BYTES;

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
