//! The static provider on the system's own resolver.

use distcache_discovery::{Provider, StaticProvider};

#[tokio::test]
async fn localhost_is_found_through_the_system_resolver() {
    let provider = StaticProvider::new(["localhost:3320", "127.0.0.1:3320"]);
    assert!(provider.validate().is_empty());
    provider.start().await.unwrap();
    let seeds = provider.discover().await.unwrap();
    assert!(!seeds.is_empty());
    assert!(seeds.iter().all(|seed| seed.addr.ip().is_loopback() && seed.addr.port() == 3320), "{seeds:?}");
    assert!(seeds.is_sorted());
}

#[test]
fn a_call_can_run_on_any_thread() {
    fn is_send<T: Send>(_: T) {}
    let provider = StaticProvider::new(["localhost:3320"]);
    is_send(provider.discover());
    is_send(provider.stop());
}
