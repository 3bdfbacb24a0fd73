//! TLS: who is trusted, what the other is told, and how files are found wanting.

use std::path::PathBuf;

use distcache_transport::{BoxStream, ConnectError, LinkState, TlsConfig, TlsError};
use rcgen::date_time_ymd;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;

use crate::{
    support::*,
    wire::{ACK, RawClient, frame, read_hello},
};

fn expired(pki: &Pki) -> TlsConfig {
    let (cert, key) = pki.leaf("expired", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    TlsConfig::from_pem(pki.ca_pem().as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_not_good_enough_are_refused_at_once() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let cases = [
        ("client without certificate", ours.node("s"), ours.node("c").server_auth_only()),
        ("client of another authority", ours.node("s"), theirs.node_trusting("c", &ours)),
        ("expired client", ours.node("s"), expired(&ours)),
        ("server of another authority", theirs.node("s"), ours.node("c")),
        ("expired server", expired(&ours), ours.node("c")),
    ];
    for (name, server_tls, client_tls) in cases {
        for memory in [true, false] {
            let world = if memory { World::memory() } else { World::tcp() };
            let world = world.with_tls(Some(server_tls.clone()), Some(client_tls.clone()));
            let script = Script::new();
            let server = world.serve(&script).await;
            let error = definite_error(&world, &server).await;
            assert!(matches!(error, ConnectError::Tls(_)), "{name}: {error}");
            eventually(name, || server.stats().rejected_tls + server.stats().rejected_broken > 0).await;
            assert_eq!(server.stats().connected, 0, "{name}");
        }
    }
}

/// With TLS 1.3 a client whose certificate is refused has finished its side of the handshake before it learns of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_is_never_up_before_the_server_has_accepted_the_certificate() {
    let pki = Pki::new();
    let tls = (Some(pki.node("s")), Some(pki.node("c").server_auth_only()));
    let world = World::tcp().with_tls(tls.0, tls.1);
    let server = world.serve(&Script::new()).await;
    let link = world.open(server.local_addr(), quick());
    let mut states = link.watch();
    let mut failures = 0;
    while failures < 3 {
        states.changed().await.unwrap();
        match &*states.borrow_and_update() {
            LinkState::Up(_) => panic!("up without a certificate"),
            LinkState::Down(error) => {
                assert!(matches!(**error, ConnectError::Tls(_)), "{error}");
                failures += 1;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_client_on_a_tls_port_is_told_so() {
    for base in [World::memory(), World::tcp()] {
        let world = base.with_tls(Some(Pki::new().node("s")), None);
        let server = world.serve(&Script::new()).await;
        let error = definite_error(&world, &server).await;
        assert!(matches!(&error, ConnectError::BadPeer(message) if message.contains("expects TLS")), "{error}");
        eventually("the server counted it", || server.stats().rejected_tls > 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_client_on_a_plaintext_port_is_told_so() {
    for base in [World::memory(), World::tcp()] {
        let world = base.with_tls(None, Some(Pki::new().node("c")));
        let server = world.serve(&Script::new()).await;
        let error = definite_error(&world, &server).await;
        assert!(matches!(&error, ConnectError::Tls(message) if message.contains("does not speak TLS")), "{error}");
        eventually("the server counted it", || server.stats().rejected_malformed > 0).await;
    }
}

/// The other end is rustls with *ring*, whichever provider this crate was built with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_with_another_provider_is_a_peer_on_either_side() {
    let pki = Pki::new();
    let (acceptor, connector) = pki.rustls("theirs");
    let world = World::memory().with_tls(Some(pki.node("server")), Some(pki.node("client")));

    let server = world.serve(&Script::new()).await;
    let stream = world.dialer().dial(server.local_addr()).await.unwrap();
    let name = ServerName::try_from("server").unwrap();
    let mut client = RawClient::greet(Box::new(connector.connect(name, stream).await.unwrap())).await;
    client.stream.write_all(&frame(1, ECHO.0, 5, 60_000, b"hello")).await.unwrap();
    assert_eq!(client.read_frame().await.payload, "hello");

    let at = addr("10.0.0.3:3320");
    let mut listener = world.listen(at).await;
    let link = world.open(at, quick());
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream: BoxStream = Box::new(acceptor.accept(stream).await.unwrap());
    read_hello(&mut stream).await;
    stream.write_all(ACK).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(link.connected(LONG).await.unwrap().identity, "server");
}

#[test]
fn faulty_files_are_named() {
    let pki = Pki::new();
    let (cert, key) = pki.leaf("node", |_| {});
    let (_, other_key) = pki.leaf("other", |_| {});
    let dir = std::env::temp_dir().join(format!("distcache-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, content: &str| {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (ca, cert, key) = (file("ca", &pki.ca_pem()), file("cert", &cert), file("key", &key));
    let (empty, missing) = (file("empty", ""), dir.join("missing"));
    let other_key = file("other", &other_key);
    let garbage = file("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let load = |ca: &PathBuf, cert: &PathBuf, key: &PathBuf| TlsConfig::from_pem_files(ca, cert, key);

    assert!(load(&ca, &cert, &key).is_ok());
    for (result, named) in [
        (load(&missing, &cert, &key), &missing),
        (load(&ca, &missing, &key), &missing),
        (load(&ca, &cert, &missing), &missing),
    ] {
        assert!(matches!(result, Err(TlsError::Read { file, .. }) if file == *named));
    }
    assert!(matches!(load(&empty, &cert, &key), Err(TlsError::NoCertificate { file }) if file == empty));
    assert!(matches!(load(&ca, &empty, &key), Err(TlsError::NoCertificate { file }) if file == empty));
    assert!(matches!(load(&ca, &key, &key), Err(TlsError::NoCertificate { file }) if file == key));
    assert!(matches!(load(&ca, &cert, &empty), Err(TlsError::NoPrivateKey { file }) if file == empty));
    assert!(matches!(load(&ca, &cert, &cert), Err(TlsError::NoPrivateKey { file }) if file == cert));
    assert!(matches!(load(&ca, &garbage, &key), Err(TlsError::Invalid { file, .. }) if file == garbage));
    assert!(matches!(load(&garbage, &cert, &key), Err(TlsError::Invalid { file, .. }) if file == garbage));
    assert!(
        matches!(load(&ca, &cert, &other_key), Err(TlsError::KeyMismatch { cert: c, key: k }) if c == cert && k == other_key)
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn debug_output_holds_no_secret() {
    let pki = Pki::new();
    let (cert, key) = pki.leaf("node", |_| {});
    let tls = TlsConfig::from_pem(pki.ca_pem().as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap();
    let debug = format!("{tls:?} {:#?}", tls.clone().server_auth_only());
    assert!(debug.len() < 500, "{debug}");
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!debug.contains(line));
    }
}
