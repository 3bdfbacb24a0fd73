//! Messages are read back as they were written, and nothing else is read.

use proptest::prelude::*;

use super::*;

fn here(name: &str, addr: &str) -> Message {
    let here = Here { name: name.to_owned(), addr: addr.parse().unwrap(), every: Duration::from_secs(2) };
    Message { from: NodeId::new(7), seq: 3, body: Body::Here(here) }
}

const GOOD: &str = r#"{"v":1,"kind":"here","from":"00000000000000000000000000000007","seq":3,"name":"a","addr":"10.0.0.1:3320","every_ms":2000}"#;

#[test]
fn the_form_on_the_wire_is_fixed() {
    assert_eq!(here("a", "10.0.0.1:3320").encode().unwrap(), GOOD.as_bytes());
    let leave = Message { from: NodeId::new(u128::MAX), seq: u64::MAX, body: Body::Leave };
    let text = r#"{"v":1,"kind":"leave","from":"ffffffffffffffffffffffffffffffff","seq":18446744073709551615}"#;
    assert_eq!(leave.encode().unwrap(), text.as_bytes());
    assert_eq!(Message::decode(text.as_bytes()), Ok(leave));
}

#[test]
fn fields_of_later_versions_are_passed_over() {
    let text = GOOD.replace(r#""seq":3"#, r#""zone":{"a":[1]},"seq":3"#);
    assert_eq!(Message::decode(text.as_bytes()), Ok(here("a", "10.0.0.1:3320")));
}

#[test]
fn each_mistake_is_told_apart() {
    let long = "a".repeat(256);
    let cases = [
        (r#""v":1"#, r#""v":2"#, "another version"),
        (r#""v":1,"#, "", "with a version"),
        (r#""v":1"#, r#""v":-1"#, "with a version"),
        (r#""kind":"here""#, r#""kind":"hear""#, "unknown kind"),
        (r#""kind":"here","#, "", "missing or wrong"),
        (r#""seq":3"#, r#""seq":"3""#, "missing or wrong"),
        (r#""seq":3"#, r#""seq":3,"seq":4"#, "missing or wrong"),
        (r#"0007""#, r#"000G""#, "hexadecimal"),
        (r#"0007""#, r#"000A""#, "hexadecimal"),
        (r#"0007""#, r#"007""#, "hexadecimal"),
        (r#""name":"a","#, "", "no name"),
        (r#""name":"a""#, r#""name":"""#, "a name that no node has"),
        (r#""name":"a""#, r#""name":"a\n""#, "a name that no node has"),
        (r#""name":"a""#, &format!(r#""name":"{long}""#), "a name that no node has"),
        (r#""addr":"10.0.0.1:3320","#, "", "no address"),
        ("10.0.0.1:3320", "cache-0:3320", "missing or wrong"),
        ("10.0.0.1:3320", "10.0.0.1", "missing or wrong"),
        ("10.0.0.1:3320", "10.0.0.1:0", "no peer can dial"),
        ("10.0.0.1:3320", "0.0.0.0:3320", "no peer can dial"),
        ("10.0.0.1:3320", "[ff02::1]:3320", "no peer can dial"),
        (r#","every_ms":2000"#, "", "no interval"),
        (r#""every_ms":2000"#, r#""every_ms":0"#, "interval that no node"),
        (r#""every_ms":2000"#, r#""every_ms":60001"#, "interval that no node"),
        (r#""every_ms":2000"#, r#""every_ms":18446744073709551615"#, "interval that no node"),
    ];
    for (part, wrong, wanted) in cases {
        let text = GOOD.replacen(part, wrong, 1);
        assert_ne!(text, GOOD, "{part}");
        let found = Message::decode(text.as_bytes()).unwrap_err();
        assert!(found.contains(wanted), "{text} gave {found:?}, not {wanted:?}");
    }
    for garbage in ["", "{", "[]", "null", "1", "\"here\"", &"[".repeat(1024), &format!("{GOOD}x")] {
        assert!(Message::decode(garbage.as_bytes()).is_err(), "{garbage}");
    }
    let padded = format!("{GOOD}{}", " ".repeat(MOST_BYTES - GOOD.len()));
    assert!(Message::decode(padded.as_bytes()).is_ok());
    assert_eq!(Message::decode(format!("{padded} ").as_bytes()), Err("is longer than 1 KiB"));
}

#[test]
fn whatever_name_is_passed_fits_into_a_message() {
    for name in ["\"".repeat(255), "\\".repeat(255), "\u{2028}".repeat(85), "a".repeat(255)] {
        assert_eq!(check_name(&name), Ok(()));
        let message = here(&name, "[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535");
        let bytes = message.encode().unwrap();
        assert_eq!(Message::decode(&bytes), Ok(message));
    }
    for name in ["", "a\0", "a\u{7f}", "a\u{85}", &"a".repeat(256)] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn a_damaged_message_is_refused_or_sound(at in 0..GOOD.len(), byte in any::<u8>(), cut in 0..=GOOD.len()) {
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(cut);
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode().unwrap()), Ok(message.clone()));
            if let Body::Here(here) = message.body {
                prop_assert!(check_dialable(here.addr).is_ok());
            }
        }
    }

    #[test]
    fn messages_are_read_back(
        name in "[^\\p{Cc}]{1,60}", ip in any::<std::net::IpAddr>(), port in 1..=u16::MAX,
        ms in 1..=60_000u64, from in any::<u128>(), seq in any::<u64>(),
    ) {
        let addr = SocketAddr::new(ip, port);
        let here = Here { name, addr, every: Duration::from_millis(ms) };
        let message = Message { from: NodeId::new(from), seq, body: Body::Here(here) };
        let read = Message::decode(&message.encode().unwrap());
        prop_assert_eq!(read.ok(), check_dialable(addr).is_ok().then_some(message));
    }
}
