//! Order, limits and layout of what waits to be written.

use super::*;

fn request(id: u64, payload: Payload) -> Outgoing {
    Outgoing { header: Header::new(Kind::Request, id), payload }
}

fn notice(bytes: usize) -> Outgoing {
    Outgoing { header: Header::new(Kind::Notice, 0), payload: Bytes::from(vec![0; bytes]).into() }
}

async fn written(outbox: &Outbox) -> Vec<u8> {
    let mut batch = Batch::default();
    assert!(outbox.fill(&mut batch).await);
    let mut bytes = vec![0; batch.remaining()];
    batch.copy_to_slice(&mut bytes);
    assert!(batch.parts.is_empty());
    bytes
}

/// Kind and id of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u64)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        frames.push((bytes[4], u64::from_le_bytes(bytes[8..16].try_into().unwrap())));
        bytes = &bytes[4 + length..];
    }
    frames
}

#[tokio::test]
async fn many_small_frames_become_one_part() {
    let outbox = Outbox::new(10);
    for id in 0..50 {
        outbox.push(request(id, Bytes::from_static(b"hello").into())).unwrap();
    }
    let mut batch = Batch::default();
    assert!(outbox.fill(&mut batch).await);
    assert_eq!(batch.parts.len(), 1);
    assert_eq!(batch.remaining(), 50 * 25);
}

#[tokio::test]
async fn large_tail_is_not_copied() {
    let outbox = Outbox::new(10);
    let value = Bytes::from(vec![7; COPY_BELOW + 1]);
    outbox.push(request(1, Payload::new(Bytes::from_static(b"head"), value.clone()))).unwrap();
    let mut batch = Batch::default();
    assert!(outbox.fill(&mut batch).await);
    assert_eq!(batch.parts.len(), 2);
    assert_eq!(batch.parts[1].as_ptr(), value.as_ptr());
}

#[tokio::test]
async fn batch_survives_writes_that_end_anywhere() {
    let outbox = Outbox::new(10);
    let payload = Payload::new(vec![1; 10].into(), vec![2; COPY_BELOW + 1].into());
    outbox.push(request(1, payload.clone())).unwrap();
    outbox.push(request(2, payload)).unwrap();
    let mut batch = Batch::default();
    assert!(outbox.fill(&mut batch).await);
    let mut bytes = Vec::new();
    while batch.has_remaining() {
        let step = batch.chunk().len().min(777);
        bytes.extend_from_slice(&batch.chunk()[..step]);
        batch.advance(step);
    }
    assert_eq!(frames(&bytes), [(1, 1), (1, 2)]);
}

#[tokio::test]
async fn control_frames_overtake_requests() {
    let outbox = Outbox::new(10);
    outbox.push(request(1, Payload::default())).unwrap();
    outbox.cancel(99);
    outbox.go_away();
    outbox.ping();
    outbox.pong(7);
    outbox.pong(8);
    assert_eq!(frames(&written(&outbox).await), [(7, 8), (6, 0), (8, 0), (4, 99), (1, 1)]);
}

#[tokio::test]
async fn cancelling_a_queued_request_takes_it_back() {
    let outbox = Outbox::new(10);
    outbox.push(request(1, Payload::default())).unwrap();
    outbox.push(request(2, Payload::default())).unwrap();
    outbox.cancel(1);
    assert_eq!(frames(&written(&outbox).await), [(1, 2)]);
}

#[tokio::test]
async fn notices_are_bounded_by_number_and_bytes() {
    let outbox = Outbox::new(10);
    for _ in 0..MAX_NOTICES {
        outbox.push_notice(notice(1)).unwrap();
    }
    assert_eq!(outbox.push_notice(notice(1)), Err(Unqueued::Full));
    assert_eq!(frames(&written(&outbox).await).len(), MAX_NOTICES);
    outbox.push_notice(notice(MAX_NOTICE_BYTES)).unwrap();
    assert_eq!(outbox.push_notice(notice(1)), Err(Unqueued::Full));
    written(&outbox).await;
    assert_eq!(outbox.push_notice(notice(1)), Ok(()));
}

#[tokio::test]
async fn finished_outbox_writes_the_rest_and_takes_no_more() {
    let outbox = Outbox::new(10);
    outbox.push(request(1, Payload::default())).unwrap();
    outbox.finish();
    assert_eq!(outbox.push(request(2, Payload::default())), Err(Unqueued::Ended));
    assert_eq!(frames(&written(&outbox).await), [(1, 1)]);
    assert!(!outbox.fill(&mut Batch::default()).await);
}

#[tokio::test]
async fn closing_tells_which_requests_were_never_written() {
    let outbox = Outbox::new(10);
    outbox.push(request(1, Payload::default())).unwrap();
    written(&outbox).await;
    outbox.push(request(2, Payload::default())).unwrap();
    outbox.push_notice(notice(1)).unwrap();
    assert_eq!(outbox.close(), [2]);
    assert!(!outbox.fill(&mut Batch::default()).await);
}

#[tokio::test(start_paused = true)]
async fn room_comes_when_the_writer_has_taken_frames() {
    let outbox = Outbox::new(0);
    outbox.push(request(1, Payload::default())).unwrap();
    let wait = std::time::Duration::from_secs(1);
    assert!(tokio::time::timeout(wait, outbox.room()).await.is_err());
    tokio::join!(outbox.room(), written(&outbox));
}

#[tokio::test(start_paused = true)]
async fn room_ends_with_bytes_too_and_every_waiter_learns_of_it_when_it_is_back() {
    let outbox = Outbox::new(10).with_max_bytes(1000);
    outbox.push_answer(request(1, vec![0; 900].into())).unwrap();
    assert!(outbox.has_room_for_bytes());
    outbox.push_answer(request(2, vec![0; 900].into())).unwrap();
    assert!(!outbox.has_room_for_bytes());
    let wait = std::time::Duration::from_secs(1);
    assert!(tokio::time::timeout(wait, outbox.room()).await.is_err());
    let both = async { tokio::join!(outbox.room(), outbox.room(), written(&outbox)) };
    assert!(tokio::time::timeout(wait, both).await.is_ok(), "a waiter was forgotten");
    assert!(outbox.has_room_for_bytes());
}

#[tokio::test]
async fn answers_beyond_twice_the_bytes_are_given_back() {
    let outbox = Outbox::new(10).with_max_bytes(1000);
    let answer = |id| request(id, vec![0; 980].into());
    outbox.push_answer(answer(1)).unwrap();
    outbox.push_answer(answer(2)).unwrap();
    let (unqueued, frame) = outbox.push_answer(answer(3)).unwrap_err();
    assert_eq!((unqueued, frame.header.id), (Unqueued::Full, 3));
    assert_eq!(frames(&written(&outbox).await), [(1, 1), (1, 2)]);
    outbox.push_answer(answer(3)).unwrap();
}

#[tokio::test]
async fn one_answer_fits_whatever_the_limit() {
    let outbox = Outbox::new(10).with_max_bytes(1);
    outbox.push_answer(request(1, vec![0; 980].into())).unwrap();
    assert!(outbox.push_answer(request(2, Payload::default())).is_err());
}

#[tokio::test]
async fn bytes_are_given_back_by_whatever_way_frames_go() {
    let outbox = Outbox::new(10).with_max_bytes(1000);
    let queued = || outbox.bytes.load(Ordering::Relaxed);
    outbox.push(request(1, vec![0; 80].into())).unwrap();
    outbox.push(request(2, vec![0; 80].into())).unwrap();
    outbox.push_notice(notice(80)).unwrap();
    assert_eq!(queued(), 300);
    outbox.cancel(1);
    assert_eq!(queued(), 200);
    written(&outbox).await;
    assert_eq!(queued(), 0);
    outbox.push(request(3, vec![0; 80].into())).unwrap();
    outbox.close();
    assert_eq!(queued(), 0);
}

#[tokio::test]
async fn large_frames_leave_one_at_a_time_behind_small_ones() {
    let outbox = Outbox::new(10);
    let large = || Payload::from(vec![0; LARGE + 1]);
    for id in [1, 2] {
        outbox.push(request(id, large())).unwrap();
    }
    outbox.push(request(3, Bytes::from_static(b"small").into())).unwrap();
    assert_eq!(frames(&written(&outbox).await), [(1, 3), (1, 1)]);
    outbox.push(request(4, Payload::default())).unwrap();
    outbox.push(request(5, large())).unwrap();
    assert_eq!(frames(&written(&outbox).await), [(1, 4), (1, 2)]);
    assert_eq!(frames(&written(&outbox).await), [(1, 5)]);
    assert!(outbox.has_room_for_bytes() && outbox.bytes.load(Ordering::Relaxed) == 0);
}

#[tokio::test]
async fn large_requests_are_taken_back_and_given_up_like_small_ones() {
    let outbox = Outbox::new(10);
    let large = || Payload::from(vec![0; LARGE + 1]);
    for id in [1, 2] {
        outbox.push(request(id, large())).unwrap();
    }
    outbox.cancel(1);
    assert_eq!(outbox.close(), [2]);
}

/// A batch holds its room until it is written, and the reader waits for that too.
#[tokio::test]
async fn room_of_the_node_comes_back_when_a_batch_is_written_or_the_outbox_closes() {
    let node = crate::room::NodeRoom::new(400_000);
    let outbox = || Outbox::new(usize::MAX).with_room(Room::new(std::sync::Arc::clone(&node)));
    let answer =
        |id, bytes| Outgoing { header: Header::new(Kind::Response, id), payload: Bytes::from(vec![0; bytes]).into() };
    let (stuck, reads) = (outbox(), outbox());
    stuck.push_answer(answer(1, 300_000)).unwrap();
    assert!(!stuck.has_room_for_bytes(), "more than half the room is gone");
    assert!(matches!(stuck.push_answer(answer(2, 300_000)), Err((Unqueued::NodeFull, _))));
    assert!(reads.has_room_for_bytes());
    reads.push_answer(answer(1, 60_000)).unwrap();

    let mut batch = Batch::default();
    assert!(stuck.fill(&mut batch).await);
    assert!(!stuck.has_room_for_bytes(), "it is taken and not written");
    stuck.push(request(3, Payload::default())).unwrap();
    let (waited, filled) = tokio::join!(stuck.room(), async {
        batch.advance(batch.remaining());
        stuck.fill(&mut batch).await
    });
    assert!(waited && filled);
    stuck.push_answer(answer(4, 300_000)).unwrap();
    stuck.close();
    assert!(reads.push_answer(answer(5, 300_000)).is_ok(), "what was closed holds nothing");

    let busy = outbox();
    for round in 0..20 {
        for id in 0..200 {
            busy.push_answer(answer(id, 100)).unwrap_or_else(|full| panic!("round {round}: {full:?}"));
        }
        let mut batch = Batch::default();
        assert!(busy.fill(&mut batch).await);
    }
}
