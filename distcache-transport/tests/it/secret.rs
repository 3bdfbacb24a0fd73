//! The shared secret: who knows it gets in, and a proof is good for one connection, one end and one TLS session.

use std::net::SocketAddr;

use distcache_transport::{BoxStream, ConnectError, LinkState, RefusalReason, SecretKeys, Server};
use ring::hmac;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    task::JoinHandle,
};

use crate::{support::*, wire};

/// Asserts that a link is refused for the secret, on both sides, and never up.
async fn assert_refused(world: &World, name: &str, words: &str) {
    let script = Script::new();
    let server = world.serve(&script).await;
    let error = definite_error(world, &server).await;
    let ConnectError::Refused(refusal) = error else { panic!("{name}: {error}") };
    assert_eq!(refusal.reason, RefusalReason::Secret, "{name}");
    assert!(refusal.message.contains(words), "{name}: {}", refusal.message);
    eventually(name, || server.stats().rejected_secret > 0).await;
    assert_eq!((server.stats().connected, server.stats().rejected_broken), (0, 0), "{name}");
    assert_eq!((script.connected(), script.admitted()), (0, 0), "{name}: the service must not hear of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_and_missing_secrets_are_refused_at_once_and_both_sides_are_told() {
    let (right, wrong) = (|| Some(secret(&[KEY])), || Some(secret(&["another key of enough bytes"])));
    for world in [World::memory, World::tcp, World::mutual_tls] {
        assert_refused(&world().with_secrets(right(), wrong()), "wrong", "does not know").await;
        assert_refused(&world().with_secrets(right(), None), "dialler without", "the dialler has none").await;
        assert_refused(&world().with_secrets(None, right()), "listener without", "the listener has none").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_come_up_at_every_step_of_a_rotation() {
    let (old, new) = (KEY, "the key that comes after it");
    let steps: [&[&str]; 4] = [&[old], &[old, new], &[new, old], &[new]];
    for pair in steps.windows(2) {
        for (server, client) in [(pair[0], pair[1]), (pair[1], pair[0]), (pair[1], pair[1])] {
            let world = World::memory().with_secrets(Some(secret(server)), Some(secret(client)));
            let (_server, link, _) = world.pair(quick()).await;
            assert!(link.call(ECHO, number(1), LONG).await.is_ok(), "{server:?} {client:?}");
        }
    }
    let world = World::memory().with_secrets(Some(secret(&[new])), Some(secret(&[old])));
    assert_refused(&world, "first and last step", "does not know").await;
}

/// The Hello of a dialler that holds a secret.
const HELLO: &[u8] = b"DCHE\x01\x27\x00\x01\x00\x01\x000123456789abcdef\x01\0\0\0\0\0\0\0\0\x04prod\x03\x00raw";

/// The Challenge of [`Script`]'s server, up to its nonce.
const CHALLENGE: &[u8] = b"DCHE\x04\x3f\x00\x01\x00";

/// What follows its nonce and proof.
const CHALLENGER: &[u8] = b"\x04prod\x06\x00server";

/// Proves by hand what the bytes of a proof are, on a data lane: role 1 is the dialler's.
fn proof(role: u8, dialler: &[u8], listener: &[u8], nonces: [&[u8]; 2]) -> Vec<u8> {
    proof_of_link(0, role, dialler, listener, nonces)
}

fn proof_of_link(link: u64, role: u8, dialler: &[u8], listener: &[u8], nonces: [&[u8]; 2]) -> Vec<u8> {
    let mut text = b"distcache hello proof".to_vec();
    text.extend([role, 0]);
    text.extend(b"\x01\x00\x01\x00\x01\x00");
    text.extend(link.to_le_bytes());
    text.extend(nonces.concat());
    for part in [b"prod", dialler, listener, b""] {
        text.extend((part.len() as u64).to_le_bytes());
        text.extend(part);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    hmac::sign(&key, &text).as_ref().to_vec()
}

/// Dials by hand and returns the stream, the listener's nonce and its proof.
async fn challenged(world: &World, server: SocketAddr) -> (BoxStream, Vec<u8>, Vec<u8>) {
    let mut stream = world.dialer().dial(server).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    let mut challenge = vec![0; CHALLENGE.len() + 16 + 32 + CHALLENGER.len()];
    stream.read_exact(&mut challenge).await.unwrap();
    assert_eq!(challenge[..CHALLENGE.len()], *CHALLENGE);
    assert_eq!(challenge[CHALLENGE.len() + 48..], *CHALLENGER);
    let nonce = challenge[CHALLENGE.len()..][..16].to_vec();
    (stream, nonce, challenge[CHALLENGE.len() + 16..][..32].to_vec())
}

async fn send_proof(stream: &mut BoxStream, proof: &[u8]) -> Vec<u8> {
    stream.write_all(&[b"DCHE\x05\x20\x00", proof].concat()).await.unwrap();
    let mut answer = vec![0; 7];
    stream.read_exact(&mut answer).await.unwrap();
    let length = usize::from(u16::from_le_bytes([answer[5], answer[6]]));
    answer.resize(7 + length, 0);
    stream.read_exact(&mut answer[7..]).await.unwrap();
    answer
}

fn assert_refusal(answer: &[u8]) {
    assert_eq!((&answer[..5], &answer[7..9]), (&b"DCHE\x03"[..], &b"\x06\x00"[..]));
}

async fn guarded_server(script: &std::sync::Arc<Script>) -> (World, Server) {
    let world = World::memory().with_secrets(Some(secret(&[KEY])), Some(secret(&[KEY])));
    let server = world.serve(script).await;
    (world, server)
}

#[tokio::test(start_paused = true)]
async fn challenge_and_proof_have_their_golden_bytes() {
    let (world, server) = guarded_server(&Script::new()).await;
    let (mut stream, nonce, theirs) = challenged(&world, server.local_addr()).await;
    let nonces = [&b"0123456789abcdef"[..], &nonce];
    assert_eq!(theirs, proof(2, b"raw", b"server", nonces));
    assert_eq!(send_proof(&mut stream, &proof(1, b"raw", b"server", nonces)).await, wire::ACK);
    eventually("connected", || server.stats().connected == 1).await;
}

#[tokio::test(start_paused = true)]
async fn listeners_own_proof_sent_back_to_it_is_refused() {
    let script = Script::new();
    let (world, server) = guarded_server(&script).await;
    let (mut stream, _, theirs) = challenged(&world, server.local_addr()).await;
    assert_refusal(&send_proof(&mut stream, &theirs).await);
    assert_eq!((server.stats().rejected_secret, script.admitted()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn proof_of_an_earlier_connection_is_refused() {
    let (world, server) = guarded_server(&Script::new()).await;
    let (mut first, nonce, _) = challenged(&world, server.local_addr()).await;
    let recorded = proof(1, b"raw", b"server", [b"0123456789abcdef", &nonce]);
    assert_eq!(send_proof(&mut first, &recorded).await, wire::ACK);
    let (mut second, other_nonce, _) = challenged(&world, server.local_addr()).await;
    assert_ne!(nonce, other_nonce);
    assert_refusal(&send_proof(&mut second, &recorded).await);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_before_the_proof() {
    let script = Script::new();
    let (world, server) = guarded_server(&script).await;
    let (mut stream, ..) = challenged(&world, server.local_addr()).await;
    stream.write_all(&wire::frame(1, ECHO.0, 1, 1000, b"hello")).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[..5], *b"DCHE\x03");
    assert_eq!((script.started(), script.admitted(), server.stats().connected), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn stranger_that_never_proves_is_let_go_when_the_time_is_up() {
    let (world, server) = guarded_server(&Script::new()).await;
    let (mut stream, ..) = challenged(&world, server.local_addr()).await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(server.stats().rejected_timeout, 1);
}

/// What a link with a secret makes of a listener that answers its Hello with one message, and its Proof with another. The first
/// one is made from the Hello's nonce, flags and link.
async fn verdict_on(first: impl FnOnce(&[u8]) -> Vec<u8>, second: &'static [u8]) -> (ConnectError, Vec<u8>) {
    let world = World::memory().with_secrets(None, Some(secret(&[KEY])));
    let mut listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), quick());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut hello = [0; 49];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(hello[27], 1, "the dialler says that it holds a secret");
    stream.write_all(&first(&hello[11..36])).await.unwrap();
    let mut heard = vec![0; 9];
    let read = stream.read(&mut heard).await.unwrap();
    heard.truncate(read);
    let _ = stream.write_all(second).await;
    (wire::first_error(&link).await, heard)
}

fn challenge_by(identity: &'static [u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |hello| {
        let (nonce, link) = (&hello[..16], u64::from_le_bytes(hello[17..25].try_into().unwrap()));
        let proof = proof_of_link(link, 2, b"client", identity, [nonce, b"fedcba9876543210"]);
        let mut message = b"DCHE\x04\x3f\x00\x01\x00fedcba9876543210".to_vec();
        message.extend(proof);
        message.extend(b"\x04prod\x06\x00server");
        message
    }
}

#[tokio::test(start_paused = true)]
async fn link_does_not_come_up_with_a_listener_that_proves_nothing() {
    let (error, _) = verdict_on(|_| wire::ACK.to_vec(), b"").await;
    assert!(matches!(&error, ConnectError::Refused(refusal) if refusal.reason == RefusalReason::Secret), "{error}");
    assert!(error.is_definite());
}

#[tokio::test(start_paused = true)]
async fn listener_whose_proof_is_wrong_is_told_so_and_gets_none() {
    let (error, heard) = verdict_on(challenge_by(b"another"), wire::ACK).await;
    assert!(matches!(&error, ConnectError::Refused(refusal) if refusal.reason == RefusalReason::Secret), "{error}");
    assert_eq!(heard[..5], *b"DCHE\x03");
}

#[tokio::test(start_paused = true)]
async fn listener_that_becomes_another_after_its_proof_is_not_trusted() {
    let (error, heard) = verdict_on(challenge_by(b"server"), b"DCHE\x02\x0f\x00\x01\x00\x04prod\x06\x00serves").await;
    assert_eq!(heard[..5], *b"DCHE\x05");
    assert!(matches!(&error, ConnectError::BadPeer(message) if message.contains("another")), "{error}");
}

/// Stands between two ends with a TLS session to each, and passes on every byte.
async fn relay(pki: &Pki, to: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let (accept, connect) = pki.rustls("relay");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let Ok(mut near) = accept.accept(near).await else { continue };
            let far = tokio::net::TcpStream::connect(to).await.unwrap();
            let Ok(mut far) = connect.connect("server".try_into().unwrap(), far).await else { continue };
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    (addr, task)
}

/// Somebody with a certificate of the right authority, and without the secret, is not in the middle of a link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proof_does_not_pass_from_one_tls_session_to_another() {
    let pki = Pki::new();
    let world = World::tcp().with_tls(Some(pki.node("server")), Some(pki.node("client")));
    for (keys, up) in [(None, true), (Some(secret(&[KEY])), false)] {
        let keys: Option<SecretKeys> = keys;
        let world = world.clone().with_secrets(keys.clone(), keys);
        let server = world.serve(&Script::new()).await;
        let (addr, task) = relay(&pki, server.local_addr()).await;
        let link = world.open(addr, quick());
        let result = link.connected(LONG).await;
        if up {
            result.expect("the relay works, as long as there is no secret");
        } else {
            let error = result.expect_err("a relay got in");
            let secret = RefusalReason::Secret;
            assert!(matches!(&error, ConnectError::Refused(refusal) if refusal.reason == secret), "{error}");
            assert!(!matches!(link.state(), LinkState::Up(_)));
            assert_eq!(server.stats().connected, 0);
        }
        task.abort();
    }
}
