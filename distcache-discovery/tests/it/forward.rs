//! A boxed or shared provider behaves as the one inside.

use std::sync::Arc;

use distcache_discovery::{Provider, Registration, StandaloneProvider, StaticProvider, conformance};

fn this_node() -> Registration {
    Registration::new("cache-0", "10.0.0.1:3320".parse().unwrap())
}

#[tokio::test]
async fn boxed_and_shared_providers_keep_the_contract() {
    let boxed: Box<dyn Provider> = Box::new(StaticProvider::new(["10.0.0.1:3320"]));
    conformance::run(&boxed, &this_node()).await.unwrap();
    let shared: Arc<dyn Provider> = Arc::new(StandaloneProvider::new());
    conformance::run(&shared, &this_node()).await.unwrap();
}

#[test]
fn methods_with_defaults_are_forwarded_too() {
    fn seen_as<P: Provider>(provider: &P) -> (&'static str, bool, usize) {
        (provider.id(), provider.is_standalone(), provider.validate().len())
    }
    let boxed: Box<dyn Provider> = Box::new(StandaloneProvider::new());
    assert_eq!(seen_as(&boxed), ("standalone", true, 0));
    let shared: Arc<dyn Provider> = Arc::new(StaticProvider::new(["bad", "worse"]));
    assert_eq!(seen_as(&shared), ("static", false, 2));
}
