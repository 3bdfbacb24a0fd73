//! All ways to log in, and to be turned away.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use distcache_discovery::{DiscoveryError, NatsProvider, Provider};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa};

use super::server::{Folder, Server};
use super::{SUBJECT, found, published, quick};

/// Two nodes that log in like this find each other.
async fn is_let_in(provider: impl Fn() -> NatsProvider) {
    let (_one, two) = (published(provider(), 1).await, published(provider(), 2).await);
    assert_eq!(found(&two).await, [1]);
}

async fn is_refused(provider: NatsProvider) {
    let started = Instant::now();
    let error = provider.start().await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Refused { .. }), "{error:?}");
    // At once, and not after five attempts.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn by_user_and_password() {
    let Some(server) = Server::start("authorization { user: cache, password: \"s3cret\" }") else { return };
    is_let_in(|| quick(&server).user_password("cache", "s3cret")).await;
    is_refused(quick(&server).user_password("cache", "wrong")).await;
    is_refused(quick(&server)).await;
}

#[tokio::test]
async fn by_token() {
    let Some(server) = Server::start("authorization { token: \"t0ken\" }") else { return };
    is_let_in(|| quick(&server).token("t0ken")).await;
    is_refused(quick(&server).token("wrong")).await;
}

#[tokio::test]
async fn by_nkey() {
    let user = KeyPair::new_user();
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public_key());
    let Some(server) = Server::start(&config) else { return };
    is_let_in(|| quick(&server).nkey_seed(user.seed().unwrap())).await;
    is_refused(quick(&server).nkey_seed(KeyPair::new_user().seed().unwrap())).await;
    // One whose checksum is wrong.
    is_refused(quick(&server).nkey_seed(format!("SU{}", "A".repeat(56)))).await;
}

#[tokio::test]
async fn by_credentials_file() {
    let (operator, account, system) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let limits = r#""subs":-1,"data":-1,"payload":-1"#;
    let of_operator = jwt(&operator, &operator, r#""type":"operator","version":2"#);
    let more = r#""imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1"#;
    let claims = format!(r#""type":"account","version":2,"limits":{{{limits},{more}}}"#);
    let preloaded = [&account, &system].map(|account| {
        let name = account.public_key();
        format!("{name}: {}", jwt(&operator, account, &claims))
    });
    let folder = Folder::new();
    let file = |name: &str, account: &KeyPair| {
        let user = KeyPair::new_user();
        let of_user = jwt(account, &user, &format!(r#""type":"user","version":2,{limits}"#));
        let seed = user.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        folder.write(name, &text)
    };
    let (good, bad) = (file("good.creds", &account), file("bad.creds", &KeyPair::new_account()));
    let config = format!(
        "operator: {of_operator}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{ {} }}",
        system.public_key(),
        preloaded.join("\n")
    );
    let Some(server) = Server::start(&config) else { return };
    is_let_in(|| quick(&server).credentials_file(&good)).await;
    is_refused(quick(&server).credentials_file(bad)).await;
    let error = quick(&server).connect_attempts(1).credentials_file("/absent.creds").start().await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("/absent.creds"), "{error:?}");
}

#[tokio::test]
async fn a_subject_that_is_forbidden_is_a_refusal() {
    let allowed =
        r#"authorization { users: [ { user: a, password: b, permissions: { SIDE: { deny: "distcache.>" } } } ] }"#;
    for side in ["publish", "subscribe"] {
        let Some(server) = Server::start(&allowed.replace("SIDE", side)) else { return };
        is_refused(quick(&server).user_password("a", "b")).await;
        is_let_in(|| NatsProvider::new(server.url(), "other").user_password("a", "b")).await;
    }
    // And the rights that the documentation names are enough.
    let rights = format!(r#"["{SUBJECT}", "{SUBJECT}.reply.*"]"#);
    let config = format!(
        "authorization {{ users: [ {{ user: a, password: b, permissions: {{ publish: {rights}, subscribe: {rights} }} }} ] }}"
    );
    let Some(server) = Server::start(&config) else { return };
    is_let_in(|| quick(&server).user_password("a", "b")).await;
    let rights = r#"["$KV.nodes.>", "$JS.API.>", "_INBOX.>"]"#;
    let config = format!(
        "authorization {{ users: [ {{ user: a, password: b, permissions: {{ publish: {rights}, subscribe: {rights} }} }} ] }}"
    );
    let Some(server) = Server::start(&config) else { return };
    is_let_in(|| quick(&server).user_password("a", "b").key_value("nodes")).await;
    is_refused(quick(&server).user_password("a", "b")).await;
}

#[tokio::test]
async fn a_password_that_is_changed_under_a_running_node_is_a_refusal() {
    let Some(server) = Server::start("authorization { user: cache, password: \"s3cret\" }") else { return };
    let provider = published(quick(&server).user_password("cache", "s3cret"), 1).await;
    server.kill();
    let config = std::fs::read_to_string(server.path("server.conf")).unwrap();
    std::fs::write(server.path("server.conf"), config.replace("s3cret", "another")).unwrap();
    server.run();
    super::eventually("it is refused", || async {
        matches!(provider.discover().await, Err(DiscoveryError::Refused { .. }))
    })
    .await;
    std::fs::write(server.path("server.conf"), config).unwrap();
    server.kill();
    server.run();
    super::eventually("it is let in again", || async { provider.discover().await.is_ok() }).await;
}

#[tokio::test]
async fn a_right_that_is_taken_from_a_running_node_is_a_refusal() {
    let config =
        r#"authorization { users: [ { user: a, password: b, permissions: { publish: { deny: "nothing" } } } ] }"#;
    let Some(server) = Server::start(config) else { return };
    let provider = published(quick(&server).user_password("a", "b"), 1).await;
    assert_eq!(found(&provider).await, super::NOBODY);
    let text = std::fs::read_to_string(server.path("server.conf")).unwrap();
    std::fs::write(server.path("server.conf"), text.replace("nothing", "distcache.>")).unwrap();
    server.reload();
    super::eventually("it is refused", || async {
        matches!(provider.discover().await, Err(DiscoveryError::Refused { .. }))
    })
    .await;
    std::fs::write(server.path("server.conf"), text).unwrap();
    server.reload();
    super::eventually("it is let in again", || async { provider.discover().await.is_ok() }).await;
}

#[tokio::test]
async fn by_certificate() {
    let folder = Folder::new();
    let (ca, other) = (authority(), authority());
    let (ca_file, other_file) = (folder.write("ca.pem", &ca.pem()), folder.write("other.pem", &other.pem()));
    let (server_cert, server_key) = issue(&folder, "server", &ca);
    let (cert, key) = issue(&folder, "client", &ca);
    let tls = |verify: bool| {
        format!(
            "tls {{ cert_file: {server_cert:?}, key_file: {server_key:?}, ca_file: {ca_file:?}, verify: {verify} }}"
        )
    };
    let Some(server) = Server::start(&tls(false)) else { return };
    is_let_in(|| quick(&server).root_certificates(&ca_file)).await;
    is_let_in(|| NatsProvider::new(server.url().replace("nats:", "tls:"), SUBJECT).root_certificates(&ca_file)).await;
    // Nobody is trusted without having been told.
    is_unavailable(quick(&server)).await;
    is_unavailable(quick(&server).require_tls()).await;
    is_unavailable(quick(&server).root_certificates(&other_file)).await;
    is_unavailable(quick(&server).root_certificates("/absent.pem")).await;
    is_unavailable(quick(&server).root_certificates(&key)).await;

    let Some(server) = Server::start(&tls(true)) else { return };
    let provider = || quick(&server).root_certificates(&ca_file);
    is_let_in(|| provider().client_certificate(&cert, &key)).await;
    is_unavailable(provider()).await;
    is_unavailable(provider().client_certificate(&cert, "/absent.pem")).await;
    let (cert, key) = issue(&folder, "stranger", &other);
    is_unavailable(provider().client_certificate(cert, key)).await;

    let Some(plain) = Server::start("") else { return };
    is_unavailable(quick(&plain).root_certificates(ca_file)).await;
}

#[test]
fn no_secret_is_shown() {
    let provider = NatsProvider::new("nats://hunter2:hunter2@nats.example", SUBJECT)
        .user_password("hunter2", "hunter2")
        .token("hunter2")
        .nkey_seed("hunter2");
    let shown = format!("{provider:?} {:#?} {:?}", provider, provider.validate());
    assert!(shown.contains("servers[0]") && shown.contains("credentials"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

async fn is_unavailable(provider: NatsProvider) {
    let error = provider.connect_attempts(1).start().await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unavailable { .. }), "{error:?}");
}

fn authority() -> CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate for the loopback address, and its key.
fn issue(folder: &Folder, name: &str, ca: &CertifiedIssuer<'static, rcgen::KeyPair>) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    let certificate = folder.write(&format!("{name}.pem"), &certificate.pem());
    (certificate, folder.write(&format!("{name}.key"), &key.serialize_pem()))
}

/// A JWT in the form of NATS.
fn jwt(issuer: &KeyPair, subject: &KeyPair, claims: &str) -> String {
    let (iss, sub) = (issuer.public_key(), subject.public_key());
    let body =
        format!(r#"{{"jti":"{sub}","iat":1700000000,"iss":"{iss}","sub":"{sub}","name":"test","nats":{{{claims}}}}}"#);
    let signed = format!("{}.{}", base64(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#), base64(body.as_bytes()));
    let signature = base64(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// RFC 4648's base 64 for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap();
            text.push(char::from(DIGITS[index]));
        }
    }
    text
}
