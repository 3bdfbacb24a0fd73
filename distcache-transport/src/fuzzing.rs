//! The decoders of bytes from strangers, for the fuzz targets, which are crates of their own. Not there without `--cfg fuzzing`.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, ReadBuf},
    runtime::{Builder, Runtime},
};

use crate::{
    frame::{HEADER_BYTES, Header},
    handshake::{Message, PREFIX_BYTES, Prefix, may_be_ours},
    reader::{Activity, FrameReader, Pace},
};

/// Reads frames from a stream that comes in pieces of that size, to its end or its first fault. Returns how many there were, and how
/// many of the stream's bytes they are.
///
/// # Panics
/// A frame differs from the bytes it was read from.
pub fn frames(max_payload: usize, piece: usize, stream: &[u8]) -> (usize, usize) {
    let activity = RUNTIME.with_borrow(|runtime| {
        let _context = runtime.enter();
        Activity::new()
    });
    let pace = Pace { grace: Duration::from_secs(5), rate: 64 << 10 };
    let mut reader = FrameReader::new(Pieces { rest: stream, piece: piece.max(1) }, max_payload, pace, &activity);
    let (mut count, mut at) = (0, 0);
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            while let Ok(Some(frame)) = reader.next().await {
                let mut header = BytesMut::new();
                frame.header.encode(frame.payload.len(), &mut header);
                assert_eq!(stream[at..at + HEADER_BYTES], header[..], "a header that was not sent");
                at += HEADER_BYTES;
                assert_eq!(stream[at..at + frame.payload.len()], frame.payload[..], "a payload that was not sent");
                at += frame.payload.len();
                // As the reader's user does with whatever a peer calls an error.
                let _ = frame.into_remote_error();
                count += 1;
            }
        });
    });
    (count, at)
}

/// Reads one header.
///
/// # Panics
/// It passes a limit, or is not what its bytes say.
pub fn header(max_payload: usize, bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return };
    if let Ok((header, payload)) = Header::decode(bytes, max_payload) {
        assert!(payload <= max_payload.max(crate::frame::MAX_MESSAGE_BYTES), "a payload over the limit");
        let mut encoded = BytesMut::new();
        header.encode(payload, &mut encoded);
        assert_eq!(encoded[..], bytes[..], "a header that was not sent");
    }
}

/// Reads one handshake message.
///
/// # Panics
/// A message that was read cannot be written, or is another one when read again.
pub fn handshake(bytes: &[u8]) {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return };
    let Ok(prefix) = Prefix::decode(*prefix) else { return };
    assert!(may_be_ours(bytes), "a prefix that was given up before it was whole");
    let Some(body) = rest.get(..prefix.length) else { return };
    let Ok(message) = Message::decode(prefix, body) else { return };
    // A Refuse may hold anything; what is not UTF-8 is replaced, and that may make it too long.
    let encoded = message.encode().expect("what was read can be written");
    let (prefix, body) = encoded.split_first_chunk::<PREFIX_BYTES>().expect("a message has a prefix");
    let again = Prefix::decode(*prefix).and_then(|prefix| Message::decode(prefix, body));
    if !matches!(message, Message::Refuse(_)) {
        assert_eq!(again, Ok(message));
    }
}

/// A stream that gives a few bytes at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = self.piece.min(self.rest.len()).min(buf.remaining());
        let (piece, rest) = self.rest.split_at(count);
        buf.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    /// The reader's deadlines need a clock, which no run comes to the end of.
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime without sockets can be built"));
}
