//! Golden bytes and hostile bytes for each message.

use super::*;

fn flat(payload: &Payload) -> Bytes {
    [payload.head.as_ref(), payload.tail.as_ref()].concat().into()
}

fn found() -> Found {
    Found {
        value: Bytes::from_static(b"v"),
        ttl: Some(Duration::from_millis(500)),
        origin: Origin::Source,
        near: Duration::from_secs(2),
    }
}

fn failure() -> RemoteError {
    RemoteError::new(ErrorCode(101), "gone")
}

#[test]
fn get_bytes_are_pinned() {
    let (fingerprint, epochs) = (0x0807_0605_0403_0201, 0x0a09);
    let get = Get { fingerprint, epochs, role: Role::Acting, keyspace: "ks", key: "a/b\n" };
    let bytes = flat(&get.encode());
    let head = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 0, 0, 0, 0, 1, 2];
    assert_eq!(bytes, [&head[..], b"ks", &[4, 0, 0, 0], b"a/b\n"].concat());
    assert_eq!(Get::decode(&bytes), Ok(get));
}

#[test]
fn found_bytes_are_pinned() {
    let bytes = flat(&encode_found(Some(found())));
    assert_eq!(bytes, [1, 1, 0xf4, 1, 0, 0, 0, 0, 0, 0, 0xd0, 7, 0, 0, b'v'].as_slice());
    assert_eq!(decode_found(&bytes), Ok(Some(found())));
    assert_eq!(flat(&encode_found(None)), [0].as_slice());
    assert_eq!(decode_found(&Bytes::from_static(&[0])), Ok(None));
}

#[test]
fn what_is_not_in_memory_is_another_answer_than_what_is_not_in_the_source() {
    assert_eq!(flat(&encode_peeked(None)), [2].as_slice());
    assert_eq!(decode_peeked(&flat(&encode_peeked(None))), Ok(None));
    assert_eq!(decode_peeked(&flat(&encode_peeked(Some(found())))), Ok(Some(found())));
    assert!(decode_found(&flat(&encode_peeked(None))).is_err());
}

#[test]
fn a_value_without_end_stays_without_end() {
    let forever = Found { ttl: None, ..found() };
    assert_eq!(decode_found(&flat(&encode_found(Some(forever.clone())))), Ok(Some(forever)));
}

#[test]
fn get_many_bytes_are_pinned() {
    let get = GetMany { fingerprint: 1, epochs: ANY_EPOCHS, role: Role::Owner, keyspace: "ks", keys: vec!["a", "bc"] };
    let bytes = flat(&get.encode());
    let golden = [
        &[1, 0, 0, 0, 0, 0, 0, 0][..],
        &[0xff; 8],
        &[0, 2],
        b"ks",
        &[2, 0, 0, 0, 1, 0, 0, 0],
        b"a",
        &[2, 0, 0, 0],
        b"bc",
    ]
    .concat();
    assert_eq!(bytes, golden);
    assert_eq!(GetMany::decode(&bytes), Ok(get));
}

#[test]
fn answers_round_trip_with_every_kind() {
    let answers = vec![Answer::Missing, Answer::Found(found()), Answer::Failed(failure()), Answer::Alone];
    let bytes = flat(&encode_answers(&answers, 1_024));
    let golden = [
        &[4, 0, 0, 0, 0][..],
        &[1, 1, 0xf4, 1, 0, 0, 0, 0, 0, 0, 0xd0, 7, 0, 0, 1, 0, 0, 0, b'v'],
        &[2, 101, 0, 4, 0, 0, 0],
        b"gone",
        &[3],
    ]
    .concat();
    assert_eq!(bytes, golden);
    assert_eq!(decode_answers(&bytes), Ok(answers));
}

#[test]
fn answers_that_do_not_fit_are_asked_for_alone_and_the_frame_stays_within_its_limit() {
    let big = Answer::Found(Found { value: Bytes::from(vec![7; 400]), ..found() });
    let answers = vec![big.clone(), big.clone(), big.clone(), Answer::Missing];
    let bytes = flat(&encode_answers(&answers, 900));
    assert!(bytes.len() <= 900);
    assert_eq!(decode_answers(&bytes), Ok(vec![big.clone(), big, Answer::Alone, Answer::Missing]));
}

#[test]
fn put_bytes_are_pinned() {
    let entries = vec![PutEntry { key: "k".into(), value: Bytes::from_static(b"vv"), ttl: None }];
    let bytes = flat(&encode_put(1, WriteMode::Strict, "ks", &entries));
    let golden = [&[1, 1, 2][..], b"ks", &[1, 0, 0, 0, 1, 0, 0, 0], b"k", &[0xff; 8], &[2, 0, 0, 0], b"vv"].concat();
    assert_eq!(bytes, golden);
    assert_eq!(Put::decode(&bytes), Ok(Put { hops: 1, mode: WriteMode::Strict, keyspace: "ks", entries }));
}

#[test]
fn delete_bytes_are_pinned() {
    let delete = Delete { hops: 0, mode: WriteMode::Owner, keyspace: "ks", keys: vec!["k"] };
    let bytes = flat(&delete.encode());
    assert_eq!(bytes, [&[0, 0, 2][..], b"ks", &[1, 0, 0, 0, 1, 0, 0, 0], b"k"].concat());
    assert_eq!(Delete::decode(&bytes), Ok(delete));
}

#[test]
fn written_bytes_are_pinned() {
    let results = vec![Ok(()), Err(failure()), Ok(())];
    let pending = vec![NodeName::new("a").unwrap()];
    let bytes = flat(&encode_written(&results, &pending));
    let head = [3, 0, 0, 0, 0, 0, 101, 0, 4, 0, 0, 0];
    assert_eq!(bytes, [&head[..], b"gone", &[0, 0], &[1, 0, 0, 0, 1], b"a"].concat());
    assert_eq!(decode_written(&bytes), Ok((results, pending)));
}

#[test]
fn pending_bytes_are_pinned() {
    let pending = ["a", "bc"].map(|name| NodeName::new(name).unwrap()).to_vec();
    let bytes = flat(&encode_pending(&pending));
    assert_eq!(bytes, [&[2, 0, 0, 0, 1][..], b"a", &[2], b"bc"].concat());
    assert_eq!(decode_pending(&bytes), Ok(pending));
    assert_eq!(flat(&encode_pending(&[])), [0, 0, 0, 0].as_slice());
    assert_eq!(decode_pending(&[1, 0, 0, 0, 0]), Err(DecodeError::Truncated), "a name is not empty");
    assert_eq!(decode_pending(&[1, 0, 0, 0, 0, 0]), Err(DecodeError::OutOfRange("name")));
}

fn mark() -> Mark {
    let age = Duration::from_millis(500);
    Mark { keyspace: "ks".into(), origin: EpochOrigin(7), cleared: 1, deleted: 2, age }
}

#[rustfmt::skip]
const STAMPS: [u8; 32] = [
    7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xf4, 1, 0, 0, 0, 0, 0, 0,
];

#[test]
fn epoch_bytes_are_pinned() {
    let told = Told { origin: EpochOrigin(1), ordinal: 2, forgot: 3, marks: vec![mark()] };
    let bytes = flat(&encode_told(&told));
    let mut golden = vec![1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    golden.extend(b"ks");
    golden.extend(STAMPS);
    assert_eq!(bytes, golden);
    assert_eq!(decode_told(&bytes), Ok(told));
}

#[test]
fn a_stamp_that_would_silence_its_keyspace_is_refused() {
    let told =
        Told { origin: EpochOrigin(1), ordinal: 0, forgot: 0, marks: vec![Mark { cleared: u64::MAX, ..mark() }] };
    assert_eq!(decode_told(&flat(&encode_told(&told))), Err(DecodeError::OutOfRange("stamp")));
}

#[test]
fn as_many_marks_as_are_kept_fit_in_the_smallest_frame_of_a_node() {
    let long = Mark { keyspace: "k".repeat(255).into(), ..mark() };
    let told = Told { origin: EpochOrigin(1), ordinal: 0, forgot: 0, marks: vec![long; crate::coherence::MAX_MARKS] };
    assert!(encode_told(&told).len() < 512 * 1_024);
}

#[test]
fn keyspaces_bytes_are_pinned() {
    let names: Vec<Arc<str>> = vec!["ks".into(), "users".into()];
    let bytes = flat(&encode_keyspaces(&names));
    assert_eq!(bytes, [&[2, 0, 0, 0, 2][..], b"ks", &[5], b"users"].concat());
    assert_eq!(decode_keyspaces(&bytes), Ok(names));
}

#[test]
fn invalidation_bytes_are_pinned() {
    let batch = vec![Invalidation::Key { keyspace: "ks".into(), key: "k".into() }, Invalidation::Epoch(mark())];
    let bytes = encode_invalidations(&batch);
    let golden = [&[2, 0, 0, 0, 1, 2][..], b"ks", &[1, 0, 0, 0], b"k", &[4, 2], b"ks", &STAMPS].concat();
    assert_eq!(bytes, golden);
    assert_eq!(batch.iter().map(invalidation_len).sum::<usize>() + 4, bytes.len());
    assert_eq!(decode_invalidations(&bytes), Ok(batch));
}

#[test]
fn every_prefix_and_every_flipped_byte_of_every_message_is_an_answer_not_a_panic() {
    let put = PutEntry { key: "k".into(), value: Bytes::from_static(b"vv"), ttl: None };
    let messages = [
        flat(&Get { fingerprint: 1, epochs: 2, role: Role::Owner, keyspace: "ks", key: "k" }.encode()),
        flat(&encode_found(Some(found()))),
        flat(&GetMany { fingerprint: 1, epochs: 2, role: Role::Owner, keyspace: "ks", keys: vec!["a", "b"] }.encode()),
        flat(&encode_answers(&[Answer::Found(found()), Answer::Failed(failure())], 1_024)),
        flat(&encode_put(0, WriteMode::Owner, "ks", &[put])),
        flat(&Delete { hops: 0, mode: WriteMode::Owner, keyspace: "ks", keys: vec!["a"] }.encode()),
        flat(&encode_written(&[Err(failure()), Ok(())], &[NodeName::new("a").unwrap()])),
        flat(&encode_pending(&[NodeName::new("a").unwrap()])),
        encode_invalidations(&[Invalidation::Key { keyspace: "ks".into(), key: "k".into() }]),
        encode_invalidations(&[Invalidation::Epoch(mark())]),
        flat(&encode_keyspaces(&["ks".into()])),
        flat(&encode_told(&Told { origin: EpochOrigin(1), ordinal: 2, forgot: 3, marks: vec![mark()] })),
    ];
    let decode_all = |bytes: &Bytes| {
        let _ = Get::decode(bytes);
        let _ = decode_found(bytes);
        let _ = decode_peeked(bytes);
        let _ = GetMany::decode(bytes);
        let _ = decode_answers(bytes);
        let _ = Put::decode(bytes);
        let _ = Delete::decode(bytes);
        let _ = decode_written(bytes);
        let _ = decode_pending(bytes);
        let _ = decode_invalidations(bytes);
        let _ = decode_told(bytes);
        let _ = decode_keyspaces(bytes);
    };
    for message in &messages {
        for end in 0..message.len() {
            decode_all(&message.slice(..end));
        }
        for at in 0..message.len() {
            for bit in 0..8 {
                let mut flipped = message.to_vec();
                flipped[at] ^= 1 << bit;
                decode_all(&flipped.into());
            }
        }
    }
}
