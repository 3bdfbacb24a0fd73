//! Whose certificates are accepted: the chain, the dates, the names, on both sides.

use std::sync::atomic::Ordering;

use distcache_transport::{ConnectError, LinkState, PeerPolicy, TlsConfig};
use rcgen::{CertificateParams, SanType, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{support::*, wire};

const GOOD: &str = "n1.cache.example.org";

fn suffix() -> PeerPolicy {
    PeerPolicy::DnsSuffix("cache.example.org".to_owned())
}

/// A node with a policy, and a certificate that was changed before it was signed.
fn node(signer: &Pki, trusted: &Pki, name: &str, change: impl FnOnce(&mut CertificateParams)) -> TlsConfig {
    let (cert, key) = signer.leaf(name, change);
    let tls = TlsConfig::from_pem(trusted.ca_pem().as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap();
    tls.peer_policy(suffix())
}

/// One faulty end each, and what the other end says of it.
fn faulty(ours: &Pki, theirs: &Pki) -> Vec<(&'static str, TlsConfig, &'static str)> {
    let valid = |from, to| {
        move |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        }
    };
    let nameless = |params: &mut CertificateParams| params.subject_alt_names.clear();
    vec![
        // The two authorities bear the same name.
        ("another authority", node(theirs, ours, GOOD, |_| {}), "BadSignature"),
        ("expired", node(ours, ours, GOOD, valid(2020, 2021)), "expired"),
        ("not yet valid", node(ours, ours, GOOD, valid(2200, 2201)), "not valid yet"),
        ("another name", node(ours, ours, "n1.web.example.org", |_| {}), "policy for peers does not allow"),
        ("no name", node(ours, ours, GOOD, nameless), "policy for peers does not allow"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_servers_are_refused_by_the_link() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    for (name, tls, words) in faulty(&ours, &theirs) {
        for client in [node(&ours, &ours, GOOD, |_| {}), node(&ours, &ours, GOOD, |_| {}).server_auth_only()] {
            let world = World::tcp().with_tls(Some(tls.clone()), Some(client));
            let script = Script::new();
            let server = world.serve(&script).await;
            let error = definite_error(&world, &server).await;
            assert!(matches!(&error, ConnectError::Tls(text) if text.contains(words)), "{name}: {error}");
            eventually(name, || server.stats().rejected_tls + server.stats().rejected_broken > 0).await;
            assert_eq!((server.stats().connected, script.admitted()), (0, 0), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_clients_are_refused_by_the_server() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let mut cases: Vec<_> = faulty(&ours, &theirs).into_iter().map(|(name, tls, _)| (name, tls)).collect();
    cases.push(("no certificate", node(&ours, &ours, GOOD, |_| {}).server_auth_only()));
    for (name, tls) in cases {
        let world = World::tcp().with_tls(Some(node(&ours, &ours, GOOD, |_| {})), Some(tls));
        let script = Script::new();
        let server = world.serve(&script).await;
        let error = definite_error(&world, &server).await;
        assert!(matches!(&error, ConnectError::Tls(text) if text.contains("peer rejected")), "{name}: {error}");
        eventually(name, || server.stats().rejected_tls > 0).await;
        assert_eq!((server.stats().connected, script.admitted()), (0, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_learn_the_names_of_the_other() {
    let pki = Pki::new();
    let id = "spiffe://example.org/ns/prod/sa/cache";
    let with_id = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::URI(id.try_into().unwrap()));
    };
    let tls = |name| Some(node(&pki, &pki, name, with_id));
    let world = World::tcp().with_tls(tls("n1.cache.example.org"), tls("n2.cache.example.org"));
    let (_server, link, script) = world.pair(quick()).await;
    let LinkState::Up(hello) = link.state() else { panic!("{:?}", link.state()) };
    let seen = hello.certificate.clone().unwrap();
    assert_eq!((seen.dns_names, seen.uri_names), (vec!["n1.cache.example.org".to_owned()], vec![id.to_owned()]));
    eventually("connected", || script.connected.load(Ordering::SeqCst) == 1).await;
    let seen = script.peers.lock().unwrap()[0].certificate.clone().unwrap();
    assert_eq!((seen.dns_names, seen.uri_names), (vec!["n2.cache.example.org".to_owned()], vec![id.to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_needs_no_certificate_has_no_names() {
    let world = World::tls();
    let (_server, link, script) = world.pair(quick()).await;
    let LinkState::Up(hello) = link.state() else { panic!("{:?}", link.state()) };
    assert_eq!(hello.certificate.as_ref().unwrap().dns_names, ["server"]);
    eventually("connected", || script.connected.load(Ordering::SeqCst) == 1).await;
    assert_eq!(script.peers.lock().unwrap()[0].certificate, None);
}

/// The policies that are not in the matrix, each against a certificate that it takes and one that it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_policy_is_checked_on_both_sides() {
    let pki = Pki::new();
    let spiffe =
        PeerPolicy::Spiffe { trust_domain: "example.org".to_owned(), path_prefix: "/ns/prod/sa/cache".to_owned() };
    let exact = PeerPolicy::Exact([GOOD.to_owned()].into());
    for (policy, good, bad) in [
        (spiffe.clone(), "spiffe://example.org/ns/prod/sa/cache", "spiffe://example.org/ns/prod/sa/web"),
        (exact, "spiffe://example.org/ns/prod/sa/cache", ""),
    ] {
        let strict = |id| Some(with_uri(&pki, id).peer_policy(policy.clone()));
        let lenient = |id| Some(with_uri(&pki, id).peer_policy(PeerPolicy::AnyFromCa));
        World::tcp().with_tls(strict(good), strict(good)).pair(quick()).await;
        for (server, client) in [(strict(good), lenient(bad)), (lenient(bad), strict(good))] {
            let world = World::tcp().with_tls(server, client);
            let server = world.serve(&Script::new()).await;
            let error = definite_error(&world, &server).await;
            assert!(matches!(&error, ConnectError::Tls(_)), "{error}");
            assert_eq!(server.stats().connected, 0);
        }
    }
    let two = |params: &mut CertificateParams| {
        let id = || SanType::URI("spiffe://example.org/ns/prod/sa/cache".try_into().unwrap());
        params.subject_alt_names.extend([id(), id()]);
    };
    let world = World::tcp().with_tls(
        Some(node(&pki, &pki, GOOD, two).peer_policy(PeerPolicy::AnyFromCa)),
        Some(with_uri(&pki, "spiffe://example.org/x").peer_policy(spiffe)),
    );
    let server = world.serve(&Script::new()).await;
    let error = definite_error(&world, &server).await;
    assert!(matches!(&error, ConnectError::Tls(text) if text.contains("this one has 2")), "{error}");
}

/// A node of [`GOOD`] name and this URI, or of another name if there is none.
fn with_uri(pki: &Pki, uri: &str) -> TlsConfig {
    let name = if uri.is_empty() { "n2.cache.example.org" } else { GOOD };
    node(pki, pki, name, |params| {
        if !uri.is_empty() {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setters_hold_in_any_order() {
    let pki = Pki::new();
    let web = || pki.node("n1.web.example.org").server_auth_only();
    let (first, last) = (pki.node(GOOD).peer_policy(suffix()).server_auth_only(), {
        pki.node(GOOD).server_auth_only().peer_policy(suffix())
    });
    for client in [first, last] {
        let world = World::tcp().with_tls(Some(web()), Some(client.clone()));
        let server = world.serve(&Script::new()).await;
        let error = definite_error(&world, &server).await;
        assert!(matches!(&error, ConnectError::Tls(text) if text.contains("policy")), "{error}");
        let world = World::tcp().with_tls(Some(pki.node(GOOD)), Some(client.clone()));
        let server = world.serve(&Script::new()).await;
        let error = definite_error(&world, &server).await;
        assert!(matches!(&error, ConnectError::Tls(text) if text.contains("rejected")), "no certificate: {error}");
        let world = World::tcp().with_tls(Some(pki.node(GOOD).server_auth_only()), Some(client));
        world.pair(quick()).await;
    }
}

/// With TLS 1.3 a client has finished its side before the server has looked at its certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_is_not_up_before_the_hello_ack() {
    let pki = Pki::new();
    let world = World::tcp().with_tls(None, Some(pki.node("client")));
    let (acceptor, _) = pki.rustls("server");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = world.open(listener.local_addr().unwrap(), quick());
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = acceptor.accept(stream).await.unwrap();
    let mut hello = [0; 41];
    stream.read_exact(&mut hello).await.unwrap();
    assert!(matches!(link.state(), LinkState::Connecting), "{:?}", link.state());
    assert!(link.call(ECHO, number(1), SECOND).await.is_err(), "no call goes through before that");
    stream.write_all(wire::ACK).await.unwrap();
    stream.flush().await.unwrap();
    link.connected(LONG).await.unwrap();
}
