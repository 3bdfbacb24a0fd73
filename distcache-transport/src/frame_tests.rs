//! Golden bytes of the frame, and what garbage does to its decoder.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1000;

fn encode(header: Header, payload: usize) -> [u8; HEADER_BYTES] {
    let mut out = BytesMut::new();
    header.encode(payload, &mut out);
    out[..].try_into().unwrap()
}

fn golden() -> Vec<(Header, usize, [u8; HEADER_BYTES])> {
    let header = |kind, code, id, deadline_ms| Header { kind, code, id, deadline_ms };
    vec![
        (
            header(Kind::Request, 0x0102, 0x1122_3344_5566_7788, 1500),
            5,
            [21, 0, 0, 0, 1, 0, 2, 1, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xdc, 5, 0, 0],
        ),
        (header(Kind::Response, 0, 7, 0), 256, [16, 1, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (header(Kind::Error, 300, 8, 0), 3, [19, 0, 0, 0, 3, 0, 0x2c, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (header(Kind::Cancel, 0, 9, 0), 0, [16, 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (header(Kind::Notice, 2, 0, 0), 1, [17, 0, 0, 0, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (header(Kind::Ping, 0, 1, 0), 0, [16, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (header(Kind::Pong, 0, 1, 0), 0, [16, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (header(Kind::GoAway, 0, 0, 0), 0, [16, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (header(Kind::Loading, 0, 9, 0), 0, [16, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ]
}

#[test]
fn frames_have_their_golden_bytes() {
    for (header, payload, bytes) in golden() {
        assert_eq!(encode(header, payload), bytes, "{header:?}");
        assert_eq!(Header::decode(&bytes, LIMIT), Ok((header, payload)));
    }
}

#[test]
fn no_single_byte_flip_panics_or_passes_a_limit() {
    for (_, _, bytes) in golden() {
        for at in 0..HEADER_BYTES {
            for value in 0..=u8::MAX {
                let mut flipped = bytes;
                flipped[at] = value;
                if let Ok((header, payload)) = Header::decode(&flipped, LIMIT) {
                    assert!(payload <= header.kind.max_payload(LIMIT));
                    assert_eq!(flipped[5], 0, "flags must be refused");
                }
            }
        }
    }
}

#[test]
fn payload_at_the_limit_passes_and_one_more_is_refused() {
    let header = Header::new(Kind::Request, 1);
    assert!(Header::decode(&encode(header, LIMIT), LIMIT).is_ok());
    let refused = FrameError::TooLarge { kind: Kind::Request, bytes: LIMIT + 1, limit: LIMIT };
    assert_eq!(Header::decode(&encode(header, LIMIT + 1), LIMIT), Err(refused));
}

#[test]
fn extreme_lengths_are_refused() {
    let mut bytes = encode(Header::new(Kind::Request, 1), 0);
    bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(Header::decode(&bytes, LIMIT), Err(FrameError::TooLarge { .. })));
    for length in 0..AFTER_LENGTH {
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        assert_eq!(Header::decode(&bytes, LIMIT), Err(FrameError::TooShort { length }));
    }
}

#[test]
fn kinds_without_payload_refuse_one() {
    for kind in [Kind::Cancel, Kind::Ping, Kind::Pong, Kind::GoAway, Kind::Loading] {
        let bytes = encode(Header::new(kind, 1), 1);
        assert_eq!(Header::decode(&bytes, LIMIT), Err(FrameError::TooLarge { kind, bytes: 1, limit: 0 }));
    }
    let bytes = encode(Header::new(Kind::Error, 1), MAX_MESSAGE_BYTES + 1);
    assert!(Header::decode(&bytes, 1 << 20).is_err());
}

#[test]
fn long_messages_are_cut_between_characters() {
    let error = RemoteError::new(ErrorCode(100), "é".repeat(600) + "x");
    let frame = Outgoing::error(1, &error);
    assert_eq!(frame.payload.len(), 1024);
    let odd = RemoteError { message: "x".to_owned() + &"é".repeat(600), ..error };
    assert_eq!(Outgoing::error(1, &odd).payload.len(), 1023);
}

#[test]
fn message_that_is_not_utf8_is_refused() {
    let payload = Bytes::from_static(&[0xff]);
    let frame = Incoming { header: Header::new(Kind::Error, 1), payload, arrived: Instant::now() };
    assert_eq!(frame.into_remote_error(), Err(FrameError::BadMessage));
}

#[test]
fn hint_when_to_try_again_survives_the_wire_and_is_at_most_a_minute() {
    let hinted = |retry_after| {
        let error = RemoteError { retry_after, ..RemoteError::new(ErrorCode::OVERLOADED, "busy") };
        let frame = Outgoing::error(1, &error);
        let incoming = Incoming { header: frame.header, payload: frame.payload.head, arrived: Instant::now() };
        (frame.header.deadline_ms, incoming.into_remote_error().unwrap().retry_after)
    };
    let [brief, short, long] = [1, 50_000, 3_600_000_000].map(Duration::from_micros);
    assert_eq!(hinted(None), (0, None));
    assert_eq!(hinted(Some(short)), (50, Some(short)));
    assert_eq!(hinted(Some(brief)), (1, Some(Duration::from_millis(1))), "half a millisecond is not none");
    assert_eq!(hinted(Some(long)), (3_600_000, Some(MAX_RETRY_AFTER)));
}

proptest! {
    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes: [u8; HEADER_BYTES], limit in 0usize..1 << 20) {
        if let Ok((header, payload)) = Header::decode(&bytes, limit) {
            prop_assert_eq!(encode(header, payload), bytes);
        }
    }

    #[test]
    fn headers_round_trip(kind in 1u8..=9, code: u16, id: u64, deadline_ms: u32, payload in 0usize..=LIMIT) {
        let kind = Kind::from_wire(kind).unwrap();
        let payload = payload.min(kind.max_payload(LIMIT));
        let header = Header { kind, code, id, deadline_ms };
        prop_assert_eq!(Header::decode(&encode(header, payload), LIMIT), Ok((header, payload)));
    }
}
