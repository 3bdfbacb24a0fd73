//! What a node that other machines can reach says of its guards before it starts.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use distcache_transport::SecretKeys;
use tracing::level_filters::LevelFilter;

use super::*;

/// Remembers what is logged.
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

/// Binds, and returns the faults and how many warnings there were of a secret without TLS.
fn bind_to(addr: &str, secret: Option<&str>) -> (Vec<String>, usize) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_writer(move || writer.clone());
    let security = Security { tls: None, secret: secret.map(|key| SecretKeys::new([key]).unwrap()) };
    let config =
        EngineConfig { bind: addr.to_owned(), advertise: Some("192.0.2.1:1".to_owned()), ..EngineConfig::default() };
    let mut faults = Vec::new();
    tracing::subscriber::with_default(subscriber.finish(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(bind(&config, &security, &mut faults));
    });
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(secret.is_none_or(|key| !logged.contains(key)), "{logged}");
    (faults, logged.matches("a shared secret without tls").count())
}

#[test]
fn secret_without_tls_is_warned_of_once_where_others_can_listen() {
    let secret = Some("a key of more than sixteen bytes");
    assert_eq!(bind_to("0.0.0.0:0", secret), (vec![], 1));
    assert_eq!(bind_to("127.0.0.1:0", secret), (vec![], 0));
    assert_eq!(bind_to("127.0.0.1:0", None), (vec![], 0));
    let (faults, warnings) = bind_to("0.0.0.0:0", None);
    assert!(warnings == 0 && faults.len() == 1 && faults[0].contains("neither TLS nor a secret"), "{faults:?}");
}
