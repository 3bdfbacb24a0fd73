//! Secrets stay secret: neither a shared secret nor a private key is in anything that is printed or logged, at any level.
//!
//! A binary of its own, with one test: what is logged by others at the same time decides what a subscriber of one thread gets.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests may")]

#[path = "it/support.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the world of the other tests, of which this one needs a part"
)]
mod support;

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use distcache_transport::{SecretKeys, Security, TlsConfig};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use tracing::level_filters::LevelFilter;

use self::support::*;

/// A secret whose text would be found.
const CANARY: &str = "canary-7c1f-that-must-never-be-sung-aloud";
const OTHER: &str = "another-canary-of-the-wrong-cluster-9e2b";

/// Remembers all that is logged, whoever logs it.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All forms in which bytes are likely to be printed, and where whole runs of them would be found.
fn forms(secret: &[u8]) -> Vec<String> {
    // Any run of so many bytes gives it away, wherever a line is broken.
    let run = &secret[..secret.len().min(18)];
    let hex: String = run.iter().map(|byte| format!("{byte:02x}")).collect();
    let spaced: Vec<_> = run.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{run:?}");
    let list = list.trim_matches(['[', ']']).to_owned();
    let mut forms =
        vec![hex.to_uppercase(), hex, spaced.join(", "), spaced.join(" "), spaced.join(":"), list, base64(run)];
    forms.extend(std::str::from_utf8(run).map(str::to_owned));
    forms
}

/// Eighteen bytes are as many letters as need no padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = bytes.chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        [18, 12, 6, 0].map(|shift| char::from(LETTERS[bits >> shift & 63]))
    });
    letters.collect()
}

/// The private part of a key in PEM, without what all such keys begin with.
fn private_part(pem: &str) -> Vec<u8> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    // PKCS #8 of a P-256 key: 36 bytes of algorithm and lengths, then 32 of the key.
    der.secret_der()[36..68].to_vec()
}

fn assert_silent(text: &str, secrets: &[Vec<u8>]) {
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        assert!(!text.contains(&form), "{form} in:\n{text}");
    }
}

#[test]
fn what_is_printed_and_logged_holds_no_secret() {
    let pki = Pki::new();
    let (cert, key) = pki.leaf("node", |_| {});
    let secrets = [CANARY.as_bytes().to_vec(), OTHER.as_bytes().to_vec(), private_part(&key)];
    let tls = || TlsConfig::from_pem(pki.ca_pem().as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap();
    let keys = |text: &str| SecretKeys::new([text]).unwrap();

    // What would be found if it were there.
    for secret in &secrets {
        for told in [format!("{secret:?}"), format!("{secret:02x?}"), base64(secret)] {
            assert!(forms(secret).iter().any(|form| told.contains(form)), "{told}");
        }
    }

    // Everything that holds one, and every error that is made near one.
    let security = Security { tls: Some(tls()), secret: Some(keys(CANARY)) };
    let mut printed = format!("{security:?} {security:#?} {:?} {:#?} {:?}", tls(), tls(), keys(CANARY));
    let half = &key[..key.len() / 2];
    let faults = [
        TlsConfig::from_pem(pki.ca_pem().as_bytes(), cert.as_bytes(), half.as_bytes()),
        TlsConfig::from_pem(pki.ca_pem().as_bytes(), key.as_bytes(), key.as_bytes()),
        TlsConfig::from_pem(key.as_bytes(), cert.as_bytes(), key.as_bytes()),
        TlsConfig::from_pem(pki.ca_pem().as_bytes(), Pki::new().leaf("x", |_| {}).0.as_bytes(), key.as_bytes()),
    ];
    for fault in faults {
        let fault = fault.unwrap_err();
        printed += &format!("{fault} {fault:?}");
    }
    let short = SecretKeys::new([&CANARY[..15]]).unwrap_err();
    printed += &format!("{short} {short:?}");
    assert_silent(&printed, &secrets);

    // Connections that stand and that do not, logged as far as anybody here logs.
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    // Of this thread alone, on which the runtime has everything run.
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stranger = Some(Pki::new().node("stranger"));
            let worlds = [
                ("good", World::tcp().with_tls(Some(tls()), Some(tls())), Some(keys(CANARY))),
                ("good, no TLS", World::tcp(), Some(keys(CANARY))),
                ("wrong secret", World::tcp().with_tls(Some(tls()), Some(tls())), Some(keys(OTHER))),
                ("wrong secret, no TLS", World::tcp(), Some(keys(OTHER))),
                ("no secret", World::tcp(), None),
                ("wrong authority", World::tcp().with_tls(Some(tls()), stranger), Some(keys(CANARY))),
            ];
            for (name, world, secret) in worlds {
                let world = world.with_secrets(Some(keys(CANARY)), secret);
                let server = world.serve(&Script::new()).await;
                let link = world.open(server.local_addr(), quick());
                let result = link.connected(LONG).await;
                assert_eq!(result.is_ok(), name.starts_with("good"), "{name}: {result:?}");
                let (state, answer) = (link.state(), link.call(ECHO, number(1), LONG).await);
                assert_silent(&format!("{result:?} {state:?} {answer:?} {link:?} {server:?}"), &secrets);
                link.close(SECOND).await;
                server.shutdown(SECOND).await;
            }
        });
    });
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    for told in ["link up", "connection accepted", "peer turned away", "tls failed"] {
        assert!(logged.contains(told), "not logged: {told} in:\n{logged}");
    }
    assert_silent(&logged, &secrets);
}
