//! Golden bytes of the handshake, and what garbage does to its decoder.

use proptest::prelude::*;

use super::*;

fn hello() -> Hello {
    let label = ClusterLabel::try_from("prod").unwrap();
    Hello { label, identity: Bytes::from_static(b"\x01\x02\x03") }
}

const fn purpose(lane: Lane) -> Purpose {
    Purpose { lane, link: LinkNumber(0x0102_0304_0506_0708) }
}

fn golden() -> Vec<(Message, Vec<u8>)> {
    let nonce = *b"0123456789abcdef";
    let proof = *b"thirty-two bytes of some proof..";
    let refusal = Refusal { reason: RefusalReason::Label, message: "no".to_owned() };
    vec![
        (
            Message::Hello { versions: VERSIONS, nonce, secret: false, purpose: purpose(Lane::Data), hello: hello() },
            b"DCHE\x01\x27\x00\x01\x00\x01\x000123456789abcdef\x00\x08\x07\x06\x05\x04\x03\x02\x01\x04prod\x03\x00\x01\x02\x03".to_vec(),
        ),
        (
            Message::Hello { versions: VERSIONS, nonce, secret: true, purpose: purpose(Lane::Control), hello: hello() },
            b"DCHE\x01\x27\x00\x01\x00\x01\x000123456789abcdef\x03\x08\x07\x06\x05\x04\x03\x02\x01\x04prod\x03\x00\x01\x02\x03".to_vec(),
        ),
        (Message::Ack { version: 1, hello: hello() }, b"DCHE\x02\x0c\x00\x01\x00\x04prod\x03\x00\x01\x02\x03".to_vec()),
        (Message::Refuse(refusal), b"DCHE\x03\x04\x00\x01\x00no".to_vec()),
        (
            Message::Challenge { version: 1, nonce, proof, hello: hello() },
            b"DCHE\x04\x3c\x00\x01\x000123456789abcdefthirty-two bytes of some proof..\x04prod\x03\x00\x01\x02\x03"
                .to_vec(),
        ),
        (Message::Proof { proof }, b"DCHE\x05\x20\x00thirty-two bytes of some proof..".to_vec()),
        (
            Message::ForeignHello { versions: VersionRange { min: 2, max: 9 } },
            b"DCHE\x01\x04\x00\x02\x00\x09\x00".to_vec(),
        ),
    ]
}

/// Where a Hello says whether its sender holds a secret.
const HELLO_FLAGS: usize = 27;

fn decode(bytes: &[u8]) -> Result<Message, HandshakeError> {
    let (prefix, body) = bytes.split_first_chunk().ok_or(HandshakeError::TooShort)?;
    let prefix = Prefix::decode(*prefix)?;
    Message::decode(prefix, body.get(..prefix.length).ok_or(HandshakeError::TooShort)?)
}

#[test]
fn messages_have_their_golden_bytes() {
    for (message, bytes) in golden() {
        assert_eq!(message.encode().unwrap(), bytes, "{message:?}");
        assert_eq!(decode(&bytes), Ok(message));
    }
}

#[test]
fn every_prefix_is_an_error() {
    for (_, bytes) in golden() {
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{end} bytes of {bytes:02x?}");
        }
    }
}

#[test]
fn a_shorter_body_with_a_matching_length_is_an_error_unless_it_is_text() {
    for (message, bytes) in golden() {
        for end in PREFIX_BYTES..bytes.len() {
            let mut short = bytes[..end].to_vec();
            short[5] = u8::try_from(end - PREFIX_BYTES).unwrap();
            let is_text = matches!(message, Message::Refuse(_)) && end >= PREFIX_BYTES + 2;
            assert_eq!(decode(&short).is_ok(), is_text, "{short:02x?}");
        }
    }
}

#[test]
fn every_changed_byte_of_a_golden_message_changes_a_field_or_is_an_error() {
    for (message, bytes) in golden() {
        for (at, value) in (0..bytes.len()).flat_map(|at| (0..=u8::MAX).map(move |value| (at, value))) {
            let mut flipped = bytes.clone();
            flipped[at] = value;
            let Ok(decoded) = decode(&flipped) else { continue };
            // Of a Hello's flags, all but two mean nothing yet.
            let is_flag = matches!(decoded, Message::Hello { .. }) && at == HELLO_FLAGS;
            if is_flag {
                assert_eq!(decoded == message, (value ^ bytes[at]) & 3 == 0, "{flipped:02x?}");
                continue;
            }
            assert_eq!(decoded == message, flipped == bytes, "{flipped:02x?}");
            if matches!(decoded, Message::Hello { .. } | Message::Ack { .. }) {
                // Later versions' fields may follow, and are not kept.
                let again = decoded.encode().unwrap();
                assert_eq!(again[7..], flipped[7..again.len()], "{flipped:02x?}");
            }
        }
    }
}

/// The fuzz target starts from these.
#[test]
fn every_message_has_a_golden_one_which_is_a_seed_of_the_fuzz_target() {
    let mut seeds = Vec::new();
    for (message, bytes) in golden() {
        // A new message is one more here, and in the goldens.
        let name = match message {
            Message::Hello { secret: false, .. } => "hello",
            Message::Hello { secret: true, .. } => "hello_with_a_secret_for_control",
            Message::Challenge { .. } => "challenge",
            Message::Proof { .. } => "proof",
            Message::ForeignHello { .. } => "foreign_hello",
            Message::Ack { .. } => "ack",
            Message::Refuse(_) => "refuse",
        };
        let path = format!("{}/../fuzz/seeds/handshake/{name}", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")), bytes, "{path}");
        seeds.push(name);
    }
    seeds.sort_unstable();
    assert_eq!(
        seeds,
        ["ack", "challenge", "foreign_hello", "hello", "hello_with_a_secret_for_control", "proof", "refuse"]
    );
    for kind in 0..=u8::MAX {
        let unknown = Message::decode(Prefix { kind, length: 0 }, b"") == Err(HandshakeError::UnknownType { kind });
        assert_eq!(unknown, !golden().iter().any(|(_, bytes)| bytes[4] == kind), "type {kind}");
    }
}

#[test]
fn fields_of_later_versions_are_ignored() {
    let (message, mut bytes) = golden().remove(0);
    bytes.extend([9; 100]);
    bytes[5] += 100;
    assert_eq!(decode(&bytes), Ok(message));
}

#[test]
fn unknown_flags_of_a_hello_are_ignored() {
    let (message, mut bytes) = golden().remove(1);
    bytes[HELLO_FLAGS] |= 0b1010_1000;
    assert_eq!(decode(&bytes), Ok(message));
}

#[test]
fn hello_without_a_common_version_is_read_no_further() {
    let bytes = b"DCHE\x01\x07\x00\x02\x00\x03\x00???";
    let versions = VersionRange { min: 2, max: 3 };
    assert_eq!(decode(bytes), Ok(Message::ForeignHello { versions }));
}

#[test]
fn newest_common_version_is_chosen() {
    let range = |min, max| VersionRange { min, max };
    assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
    assert_eq!(range(2, 5).common(range(1, 3)), Some(3));
    assert_eq!(range(1, 1).common(range(2, 2)), None);
    assert_eq!(range(1, 9).common(range(5, 4)), None);
}

#[test]
fn limits_are_checked_before_memory() {
    let mut prefix = *b"DCHE\x01\xff\xff";
    assert_eq!(Prefix::decode(prefix), Err(HandshakeError::TooLong { bytes: 65_535 }));
    prefix[5..].copy_from_slice(&4089u16.to_le_bytes());
    assert!(Prefix::decode(prefix).is_ok());

    let identity = Bytes::from(vec![0; MAX_IDENTITY_BYTES + 1]);
    let large = Message::Ack { version: 1, hello: Hello { identity, ..hello() } };
    assert_eq!(large.encode(), Err(HandshakeError::IdentityTooLong { bytes: 1025 }));
}

#[test]
fn other_protocols_are_recognised() {
    let text = |bytes: &[u8; 7]| Prefix::decode(*bytes).unwrap_err().to_string();
    assert!(text(b"\x16\x03\x01\x00\xfa\x01\x00").contains("speaks TLS"));
    assert!(text(b"\x15\x03\x03\x00\x02\x02\x0a").contains("expects TLS"));
    assert!(text(b"GET / H").contains("does not speak this protocol"));
    assert!(may_be_ours(b"DC"));
    assert!(!may_be_ours(b"GE"));
}

proptest! {
    #[test]
    fn decoding_never_panics_and_what_decodes_encodes(kind in 0u8..7, body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(Prefix { kind, length: body.len() }, &body) {
            prop_assert!(message.encode().is_ok());
        }
    }
}
