//! One golden frame of each kind: whole, cut at every byte, and with every byte changed to every value.

use super::*;

/// A frame's fields, and the bytes they are on the wire.
struct Golden {
    name: &'static str,
    kind: Kind,
    code: u16,
    id: u64,
    deadline_ms: u32,
    payload: &'static [u8],
    bytes: &'static [u8],
}

const fn golden(
    name: &'static str,
    kind: Kind,
    fields: (u16, u64, u32),
    payload: &'static [u8],
    bytes: &'static [u8],
) -> Golden {
    let (code, id, deadline_ms) = fields;
    Golden { name, kind, code, id, deadline_ms, payload, bytes }
}

const GOLDEN: &[Golden] = &[
    golden(
        "request",
        Kind::Request,
        (0x0102, 0x1122_3344_5566_7788, 1500),
        b"hello",
        b"\x15\0\0\0\x01\0\x02\x01\x88\x77\x66\x55\x44\x33\x22\x11\xdc\x05\0\0hello",
    ),
    golden("response", Kind::Response, (0, 42, 0), b"hi", b"\x12\0\0\0\x02\0\0\0\x2a\0\0\0\0\0\0\0\0\0\0\0hi"),
    golden("error", Kind::Error, (2, 8, 50), b"no", b"\x12\0\0\0\x03\0\x02\0\x08\0\0\0\0\0\0\0\x32\0\0\0no"),
    golden("cancel", Kind::Cancel, (0, 9, 0), b"", b"\x10\0\0\0\x04\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0"),
    golden("notice", Kind::Notice, (2, 0, 0), b"x", b"\x11\0\0\0\x05\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0x"),
    golden("ping", Kind::Ping, (0, 1, 0), b"", b"\x10\0\0\0\x06\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0"),
    golden("pong", Kind::Pong, (0, 1, 0), b"", b"\x10\0\0\0\x07\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0"),
    golden("go_away", Kind::GoAway, (0, 0, 0), b"", b"\x10\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    golden("event", Kind::Event, (0, 3, 250), b"old", b"\x13\0\0\0\x0a\0\0\0\x03\0\0\0\0\0\0\0\xfa\0\0\0old"),
    golden("lost", Kind::Lost, (0, 9, 0), b"", b"\x10\0\0\0\x0b\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0"),
    golden("ack", Kind::Ack, (0, 4, 0), b"", b"\x10\0\0\0\x0c\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0"),
    golden("head", Kind::Head, (0, 4, 0), b"", b"\x10\0\0\0\x0d\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0"),
    golden("loading", Kind::Loading, (0, 9, 0), b"", b"\x10\0\0\0\x09\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0"),
];

impl Golden {
    fn header(&self) -> Header {
        let Self { kind, code, id, deadline_ms, .. } = *self;
        Header { kind, code, id, deadline_ms }
    }

    fn is(&self, frame: &Incoming) -> bool {
        frame.header == self.header() && frame.payload == self.payload
    }
}

/// What the drawing in `frame` says of some bytes, read without the code that is tested.
fn drawn(bytes: &[u8]) -> Verdict {
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let Some(payload) = length.checked_sub(16) else { return Verdict::Fault };
    let at_most = match bytes[4] {
        1 | 2 | 5 | 10 => LIMIT,
        3 => 1024,
        4 | 6..=9 | 11..=13 => 0,
        _ => return Verdict::Fault,
    };
    if bytes[5] != 0 || payload > at_most {
        return Verdict::Fault;
    }
    if bytes.len() < 20 + payload { Verdict::NeedsMore } else { Verdict::Frame(payload) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Frame(usize),
    NeedsMore,
    Fault,
}

/// What the reader makes of bytes after which the peer sends nothing and does not end.
async fn read(bytes: &[u8]) -> (Option<Result<Option<Incoming>, ReadError>>, usize) {
    let (mut peer, ours) = duplex(1 << 10);
    peer.write_all(bytes).await.unwrap();
    let activity = Activity::new();
    let mut reader = FrameReader::new(ours, LIMIT, PACE, &activity);
    let read = timeout(Duration::from_millis(1), reader.next()).await.ok();
    (read, reader.partial.capacity())
}

#[tokio::test(start_paused = true)]
async fn every_kind_has_a_golden_frame_that_is_read_and_written_as_it_stands() {
    for golden in GOLDEN {
        let (read, _) = read(golden.bytes).await;
        assert!(matches!(read, Some(Ok(Some(frame))) if golden.is(&frame)), "{}", golden.name);
        let mut written = BytesMut::new();
        golden.header().encode(golden.payload.len(), &mut written);
        written.extend_from_slice(golden.payload);
        assert_eq!(written, golden.bytes, "{}", golden.name);
    }
    for kind in 0..=u8::MAX {
        let mut header: [u8; HEADER_BYTES] = GOLDEN[3].bytes.try_into().unwrap();
        header[4] = kind;
        let known = Header::decode(&header, LIMIT) != Err(FrameError::UnknownKind { kind });
        let has_golden = GOLDEN.iter().any(|golden| golden.kind as u8 == kind);
        assert_eq!(known, has_golden, "kind {kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_prefix_of_a_golden_frame_waits_for_more_and_is_an_error_once_the_stream_ends() {
    for Golden { name, bytes, .. } in GOLDEN {
        for end in 0..bytes.len() {
            let (waiting, held) = read(&bytes[..end]).await;
            assert!(waiting.is_none(), "{name}, {end} bytes");
            assert_eq!(held, 0);
            let ended = read_all(&bytes[..end]).await;
            match end {
                0 => assert!(ended.unwrap().is_empty()),
                _ => assert!(matches!(ended, Err(ReadError::Frame(FrameError::Truncated))), "{name}, {end} bytes"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_changed_byte_of_a_golden_frame_changes_a_field_or_is_an_error() {
    for golden in GOLDEN {
        for (at, value) in (0..golden.bytes.len()).flat_map(|at| (0..=u8::MAX).map(move |value| (at, value))) {
            let mut flipped = golden.bytes.to_vec();
            flipped[at] = value;
            let what = format!("{}, byte {at} is {value}", golden.name);
            let (read, held) = read(&flipped).await;
            assert!(held <= GROWTH_STEP, "{what}: {held} bytes held");
            let frame = match (drawn(&flipped), read) {
                (Verdict::Frame(payload), Some(Ok(Some(frame)))) if frame.payload.len() == payload => frame,
                (Verdict::NeedsMore, None) | (Verdict::Fault, Some(Err(ReadError::Frame(_)))) => continue,
                (drawn, read) => panic!("{what}: {drawn:?} by the drawing, {read:?} by the reader"),
            };
            let mut again = BytesMut::new();
            frame.header.encode(frame.payload.len(), &mut again);
            again.extend_from_slice(&frame.payload);
            assert_eq!(again, flipped[..again.len()], "{what}");
            assert_eq!(golden.is(&frame), flipped == golden.bytes, "{what}");
        }
    }
}

/// The fuzz targets start from these. The first bytes are theirs: how a stream is cut, and that it follows a handshake.
#[test]
fn golden_frames_are_the_seeds_of_the_fuzz_targets() {
    for Golden { name, bytes, .. } in GOLDEN {
        for (target, before) in [("frames", &[6][..]), ("connection", &[1, 6])] {
            let path = format!("{}/../fuzz/seeds/{target}/{name}", env!("CARGO_MANIFEST_DIR"));
            let seed = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(seed, [before, bytes].concat(), "{path}");
        }
    }
}
