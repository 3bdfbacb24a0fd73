//! What the reader makes of whole, cut, slow and boastful streams.

use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, duplex};

use super::*;
use crate::frame::{Kind, Outgoing};

#[path = "golden_tests.rs"]
mod golden;

const LIMIT: usize = 8 << 20;
const PACE: Pace = Pace { grace: Duration::from_secs(5), rate: 64 << 10 };

fn bytes_of(kind: Kind, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    Header::new(kind, id).encode(payload.len(), &mut out);
    out.extend_from_slice(payload);
    out.to_vec()
}

async fn read_all(stream: &[u8]) -> Result<Vec<Incoming>, ReadError> {
    let activity = Activity::new();
    let mut reader = FrameReader::new(stream, LIMIT, PACE, &activity);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().await? {
        frames.push(frame);
    }
    Ok(frames)
}

/// Kind, id and payload of each frame.
type Summary = Vec<(Kind, u64, Vec<u8>)>;

fn summary(frames: &[Incoming]) -> Summary {
    frames.iter().map(|frame| (frame.header.kind, frame.header.id, frame.payload.to_vec())).collect()
}

#[tokio::test]
async fn every_prefix_of_a_stream_gives_whole_frames_or_an_error() {
    let frames = [bytes_of(Kind::Request, 1, b"hello"), bytes_of(Kind::Ping, 2, b"")];
    let stream = frames.concat();
    for end in 0..=stream.len() {
        let whole_frames = end == 0 || end == frames[0].len() || end == stream.len();
        let read = read_all(&stream[..end]).await;
        assert_eq!(read.is_ok(), whole_frames, "{end} bytes");
        if let Err(error) = read {
            assert!(matches!(error, ReadError::Frame(FrameError::Truncated)));
        }
    }
}

#[tokio::test]
async fn no_single_byte_flip_panics() {
    let stream = [bytes_of(Kind::Request, 1, b"hello"), bytes_of(Kind::Pong, 2, b"")].concat();
    for at in 0..stream.len() {
        for value in 0..=u8::MAX {
            let mut flipped = stream.clone();
            flipped[at] = value;
            let _ = read_all(&flipped).await;
        }
    }
}

#[tokio::test]
async fn kept_payload_holds_its_own_bytes_and_no_more() {
    for size in [1, COPY_UP_TO, COPY_UP_TO + 1, GROWTH_STEP + 1, 1 << 20] {
        let mut frames = read_all(&bytes_of(Kind::Request, 1, &vec![7; size])).await.unwrap();
        let payload = frames.remove(0).payload;
        let capacity = payload.try_into_mut().unwrap().capacity();
        assert!(capacity < size + 64, "{size} bytes hold {capacity}");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_follows_what_has_arrived_and_not_what_was_announced() {
    for arrived in [0, 10, 100_000, 1_000_000] {
        let (mut peer, ours) = duplex(2 << 20);
        let stream = bytes_of(Kind::Request, 1, &vec![0; LIMIT]);
        peer.write_all(&stream[..HEADER_BYTES + arrived]).await.unwrap();
        let activity = Activity::new();
        let mut reader = FrameReader::new(ours, LIMIT, PACE, &activity);
        assert!(timeout(Duration::from_secs(1), reader.next()).await.is_err());
        assert_eq!(reader.partial.len(), arrived);
        assert!(reader.partial.capacity() <= GROWTH_STEP.max(GROWTH * arrived), "{arrived} arrived");
    }
}

#[tokio::test(start_paused = true)]
async fn frame_that_trickles_in_is_given_up() {
    let (mut peer, ours) = duplex(1 << 20);
    let activity = Activity::new();
    let trickle = async {
        for byte in bytes_of(Kind::Request, 1, &[0; 100]) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if peer.write_u8(byte).await.is_err() {
                return;
            }
        }
    };
    let mut reader = FrameReader::new(ours, LIMIT, PACE, &activity);
    let read = async {
        let result = reader.next().await;
        drop(reader);
        result
    };
    let (_, result) = tokio::join!(trickle, read);
    assert!(matches!(result, Err(ReadError::Frame(FrameError::TooSlow { .. }))));
}

#[tokio::test(start_paused = true)]
async fn every_byte_counts_as_a_sign_of_life() {
    let (mut peer, ours) = duplex(1 << 20);
    let activity = Activity::new();
    let start = Instant::now();
    let mut reader = FrameReader::new(ours, LIMIT, PACE, &activity);
    let part = bytes_of(Kind::Request, 1, &vec![0; 100_000]);
    let write = async {
        for chunk in part.chunks(10_000) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            peer.write_all(chunk).await.unwrap();
        }
    };
    let (_, frame) = tokio::join!(write, reader.next());
    assert_eq!(frame.unwrap().unwrap().payload.len(), 100_000);
    assert!(activity.last() - start >= Duration::from_secs(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_survive_any_chunking(
        sizes in prop::collection::vec(0usize..200_000, 1..6),
        chunk in 1usize..100_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut stream = Vec::new();
            let mut expected = Summary::new();
            for (id, size) in (0..).zip(&sizes) {
                let payload: Vec<_> = (0..*size).map(|at| at as u8).collect();
                stream.extend(bytes_of(Kind::Response, id, &payload));
                expected.push((Kind::Response, id, payload));
            }
            let (mut peer, ours) = duplex(chunk);
            let activity = Activity::new();
            let mut reader = FrameReader::new(ours, LIMIT, PACE, &activity);
            let write = async move { peer.write_all(&stream).await.unwrap() };
            let read = async {
                let mut frames = Vec::new();
                while let Some(frame) = reader.next().await.unwrap() {
                    frames.push(frame);
                }
                frames
            };
            let ((), frames) = tokio::join!(write, read);
            assert_eq!(summary(&frames), expected);
        });
    }

    #[test]
    fn garbage_never_panics(stream in prop::collection::vec(any::<u8>(), 0..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _ = runtime.block_on(read_all(&stream));
    }
}

#[test]
fn outgoing_error_can_be_read_back() {
    let error = crate::RemoteError::new(crate::ErrorCode(120), "no");
    let frame = Outgoing::error(3, &error);
    let payload = frame.payload.head.clone();
    let incoming = Incoming { header: frame.header, payload, arrived: Instant::now() };
    assert_eq!(incoming.into_remote_error(), Ok(error));
}

#[tokio::test]
async fn buffer_is_large_for_a_busy_peer_and_small_for_an_idle_one() {
    let (mut peer, ours) = duplex(1 << 20);
    let activity = Activity::new();
    let mut reader = FrameReader::new(ours, LIMIT, PACE, &activity);
    assert_eq!(reader.buffer.len(), IDLE_BYTES);
    let burst = bytes_of(Kind::Request, 1, &[7; 100]).repeat(1_000);
    peer.write_all(&burst).await.unwrap();
    for _ in 0..1_000 {
        reader.next().await.unwrap().unwrap();
    }
    assert_eq!(reader.buffer.len(), READ_BUFFER_BYTES);
    for _ in 0..=IDLE_AFTER {
        peer.write_all(&bytes_of(Kind::Ping, 1, b"")).await.unwrap();
        reader.next().await.unwrap().unwrap();
    }
    assert_eq!(reader.buffer.len(), IDLE_BYTES);
}
