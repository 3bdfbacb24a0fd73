//! What an API server does wrong, and what a node notices of it.

use std::error::Error as _;
use std::time::Duration;

use distcache_discovery::{DiscoveryError, Provider};
use distcache_kube_api::{Fault, Verb};
use tokio::time::Instant;

use super::{eventually, found, plant, pod, server_of, started, watched};

#[tokio::test]
async fn a_missing_right_is_named_until_it_is_granted() {
    let server = server_of(&[pod(1)]).await;
    plant(&server, Some(Fault::Forbidden));
    let provider = started(&server).await;
    let error = found(&provider).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Refused { .. }), "{error:?}");
    let source = error.source().unwrap().to_string();
    assert!(source.contains("pods list in namespace default") && source.contains("examples/kubernetes"), "{source}");

    plant(&server, Some(Fault::Unauthorized));
    let error = found(&provider).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Refused { .. }), "{error:?}");

    plant(&server, None);
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320"]);
    watched(&server, &provider).await;
}

#[tokio::test]
async fn without_the_right_to_watch_each_call_lists() {
    let server = server_of(&[pod(1)]).await;
    server.plant(Verb::Watch, Some(Fault::Forbidden));
    let provider = started(&server).await;
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320"]);
    eventually("a watch is refused", || async { server.requests(Verb::Watch) > 0 }).await;
    server.put_pod(&pod(2));
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320", "10.0.0.2:3320"]);
}

#[tokio::test]
async fn every_fault_is_an_error_in_time_and_passes() {
    let server = server_of(&[pod(1)]).await;
    let faults = [Fault::Gone, Fault::Internal, Fault::Garbage, Fault::Endless, Fault::Hang, Fault::Mute];
    for fault in faults {
        plant(&server, Some(fault));
        let provider = started(&server).await;
        let asked = Instant::now();
        let error = found(&provider).await.expect_err("a fault");
        assert!(matches!(error, DiscoveryError::Unavailable { .. }), "{fault:?}: {error:?}");
        assert!(asked.elapsed() < Duration::from_secs(4), "{fault:?} took {:?}", asked.elapsed());
        plant(&server, None);
        assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320"], "after {fault:?}");
        watched(&server, &provider).await;
        provider.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_long_before_its_time_is_up() {
    let server = server_of(&[]).await;
    plant(&server, Some(Fault::Endless));
    let provider = started(&server).await;
    let error = found(&provider).await.unwrap_err();
    let source = error.source().unwrap().to_string();
    assert!(source.contains("more than 16777216 bytes"), "{source}");
}

#[tokio::test]
async fn a_server_that_was_away_is_found_again() {
    let server = server_of(&[pod(1)]).await;
    let provider = started(&server).await;
    watched(&server, &provider).await;
    let mut changes = provider.changes().unwrap();
    server.stop().await;
    eventually("the watch is seen to end", || async { found(&provider).await.is_err() }).await;
    assert!(found(&provider).await.unwrap_err().is_retryable());
    server.put_pod(&pod(2));
    server.restart().await.unwrap();
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320", "10.0.0.2:3320"]);
    let told = tokio::time::timeout(Duration::from_secs(20), futures_util::StreamExt::next(&mut changes)).await;
    assert_eq!(told.unwrap().unwrap().seed().addr.to_string(), "10.0.0.2:3320");
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_found_later() {
    let server = server_of(&[pod(1)]).await;
    server.stop().await;
    let provider = started(&server).await;
    assert!(found(&provider).await.is_err());
    server.restart().await.unwrap();
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320"]);
    watched(&server, &provider).await;
}
