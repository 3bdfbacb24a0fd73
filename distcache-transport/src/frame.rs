//! The frame: its twenty-byte header, and what a receiver accepts.
//!
//! All numbers are little-endian. Fields that a kind does not use are written as 0 and ignored on receipt.
//!
//! ```text
//!  0         4      5       6        8                16            20
//! +---------+------+-------+--------+----------------+-------------+----------------------+
//! | length  | kind | flags | code   | id             | deadline_ms | payload              |
//! | u32     | u8   | u8 =0 | u16    | u64            | u32         | length - 16 bytes    |
//! +---------+------+-------+--------+----------------+-------------+----------------------+
//!           '---------------------- length bytes ------------------------------------------'
//!
//!  kind          sent by   code         id          deadline_ms   payload
//!  1 Request     dialler   method       request     budget left   what the layer above wrote
//!  2 Response    listener               request                   what the layer above wrote
//!  3 Error       listener  error code   request     retry after   UTF-8 message, at most 1 KiB
//!  4 Cancel      dialler                request                   none
//!  5 Notice      dialler   method                                 what the layer above wrote
//!  6 Ping        both                   any                       none
//!  7 Pong        both                   the ping's                none
//!  8 GoAway      listener                                         none
//!  9 Loading     listener               request                   none
//! 10 Event       dialler                position    age           what the layer above wrote
//! 11 Lost        dialler                position    least age     none
//! 12 Ack         listener               position                  none
//! 13 Head        dialler                position                  none
//! ```
//!
//! Events travel on control lanes only. The listener begins with an Ack of the position it wants to hear from, which is 0 if it does
//! not know the link; an Event has the position that was asked for, and each after it the next one. Lost says that the events up to
//! its position are gone for good, and that all of them are older than so many milliseconds. An Ack says that everything before its position was taken in. A Head says where the log ends, in
//! its place among the events, and that the dialler was alive then; the answer is an Ack.
//!
//! A Loading says once of a request that it is being worked on and that its answer will take a while. It changes nothing else: who does
//! not know the id ignores it.
//!
//! An Error's `deadline_ms` says in how many milliseconds the listener would have the request again; 0 says nothing, and more than
//! 60 s is read as 60 s.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    config::MAX_RETRY_AFTER,
    error::{ErrorCode, RemoteError},
    payload::Payload,
};

/// A frame's header, without the length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) code: u16,
    pub(crate) id: u64,
    pub(crate) deadline_ms: u32,
}

impl Header {
    pub(crate) const fn new(kind: Kind, id: u64) -> Self {
        Self { kind, code: 0, id, deadline_ms: 0 }
    }

    /// Reads a header and the size of the payload that follows it.
    ///
    /// The size is within `max_payload` and what the kind may carry, so the caller may wait for that many bytes.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], max_payload: usize) -> Result<(Self, usize), FrameError> {
        let [l0, l1, l2, l3, kind, flags, c0, c1, rest @ ..] = *bytes;
        let [i0, i1, i2, i3, i4, i5, i6, i7, d0, d1, d2, d3] = rest;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let payload = length.checked_sub(AFTER_LENGTH).ok_or(FrameError::TooShort { length })?;
        let kind = Kind::from_wire(kind).ok_or(FrameError::UnknownKind { kind })?;
        if flags != 0 {
            return Err(FrameError::Flags { flags });
        }
        let limit = kind.max_payload(max_payload);
        let payload = payload as usize;
        if payload > limit {
            return Err(FrameError::TooLarge { kind, bytes: payload, limit });
        }
        let header = Self {
            kind,
            code: u16::from_le_bytes([c0, c1]),
            id: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            deadline_ms: u32::from_le_bytes([d0, d1, d2, d3]),
        };
        Ok((header, payload))
    }

    /// Appends the header of a frame with that much payload.
    pub(crate) fn encode(&self, payload: usize, out: &mut BytesMut) {
        let length = u32::try_from(payload)
            .ok()
            .and_then(|payload| payload.checked_add(AFTER_LENGTH))
            .expect("senders check payloads against a limit that fits in the length field");
        out.put_u32_le(length);
        out.put_u8(self.kind as u8);
        out.put_u8(0);
        out.put_u16_le(self.code);
        out.put_u64_le(self.id);
        out.put_u32_le(self.deadline_ms);
    }
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Request = 1,
    Response = 2,
    Error = 3,
    Cancel = 4,
    Notice = 5,
    Ping = 6,
    Pong = 7,
    GoAway = 8,
    Loading = 9,
    Event = 10,
    Lost = 11,
    Ack = 12,
    Head = 13,
}

impl Kind {
    const fn from_wire(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Error,
            4 => Self::Cancel,
            5 => Self::Notice,
            6 => Self::Ping,
            7 => Self::Pong,
            8 => Self::GoAway,
            9 => Self::Loading,
            10 => Self::Event,
            11 => Self::Lost,
            12 => Self::Ack,
            13 => Self::Head,
            _ => return None,
        })
    }

    fn max_payload(self, configured: usize) -> usize {
        match self {
            Self::Request | Self::Response | Self::Notice | Self::Event => configured.min(LARGEST_PAYLOAD),
            Self::Error => MAX_MESSAGE_BYTES,
            Self::Cancel
            | Self::Ping
            | Self::Pong
            | Self::GoAway
            | Self::Loading
            | Self::Lost
            | Self::Ack
            | Self::Head => 0,
        }
    }
}

/// A frame on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) header: Header,
    pub(crate) payload: Payload,
}

impl Outgoing {
    pub(crate) fn error(id: u64, error: &RemoteError) -> Self {
        let deadline_ms = error.retry_after.map_or(0, whole_millis);
        let header = Header { code: error.code.0, deadline_ms, ..Header::new(Kind::Error, id) };
        let message = cut(&error.message, MAX_MESSAGE_BYTES);
        Self { header, payload: Bytes::copy_from_slice(message.as_bytes()).into() }
    }
}

/// A frame that came in.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) header: Header,
    pub(crate) payload: Bytes,
    /// When its last bytes were read.
    pub(crate) arrived: Instant,
}

impl Incoming {
    /// Reads an error frame's content.
    pub(crate) fn into_remote_error(self) -> Result<RemoteError, FrameError> {
        let message = String::from_utf8(self.payload.into()).map_err(|_| FrameError::BadMessage)?;
        let hint = Duration::from_millis(self.header.deadline_ms.into()).min(MAX_RETRY_AFTER);
        let retry_after = (!hint.is_zero()).then_some(hint);
        Ok(RemoteError { code: ErrorCode(self.header.code), message, retry_after })
    }
}

/// What a peer sent and must not have sent. The connection it came on is closed; nothing else changes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("frame length {length} is shorter than a header")]
    TooShort { length: u32 },
    #[error("{kind:?} frame with {bytes} bytes of payload, where {limit} are allowed")]
    TooLarge { kind: Kind, bytes: usize, limit: usize },
    #[error("unknown frame kind {kind}")]
    UnknownKind { kind: u8 },
    #[error("unknown flags {flags:#04x}")]
    Flags { flags: u8 },
    #[error("error message is not UTF-8")]
    BadMessage,
    #[error("{kind:?} frame from the wrong side")]
    WrongSide { kind: Kind },
    #[error("{kind:?} frame on a lane that carries none")]
    WrongLane { kind: Kind },
    #[error("{kind:?} frame with position {position}, where {expected} was due")]
    WrongPosition { kind: Kind, position: u64, expected: u64 },
    #[error("request id {id} is already in flight")]
    DuplicateId { id: u64 },
    #[error("frame of {bytes} bytes came too slowly")]
    TooSlow { bytes: usize },
    #[error("connection ended inside a frame")]
    Truncated,
}

/// Cuts a text to at most that many bytes, between characters.
pub(crate) fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// Rounds up: a budget of half a millisecond is not none.
pub(crate) fn whole_millis(time: Duration) -> u32 {
    u32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Size of a header with its length field.
pub(crate) const HEADER_BYTES: usize = 20;

/// What the length field counts besides the payload.
const AFTER_LENGTH: u32 = 16;

/// What the length field can express.
const LARGEST_PAYLOAD: usize = (u32::MAX - AFTER_LENGTH) as usize;

/// Enough for a sentence with a key in it; a peer cannot fill our logs with more.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024;

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
