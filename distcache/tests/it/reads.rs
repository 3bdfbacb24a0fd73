//! One load a key, whoever asks; one hop, never two; a dead owner is no error.

use std::{sync::Arc, time::Duration};

use distcache::{Entry, ErrorKind, Outcome};
use futures_util::future::join_all;

use crate::harness::{Links, ROWS, TestCluster, key, until};

/// Three nodes, each key read on each: every key is fetched once in all.
async fn every_key_is_fetched_once(links: Links) {
    let cluster = TestCluster::start(3, 300, links).await;
    for node in &cluster.nodes {
        for n in 0..300 {
            assert_eq!(node.read(&key(n)).await.as_deref(), Some("v1"));
        }
    }
    assert_eq!(cluster.fetches(), 300);
    for node in &cluster.nodes {
        let fetches = node.source.fetches();
        assert!((60..=140).contains(&fetches), "a node fetched {fetches} of 300: the ring is out of balance");
        let stats = node.engine.keyspace(ROWS).unwrap().stats();
        assert_eq!((stats.reads, stats.source_loads, stats.failures), (300, fetches, 0));
        let answered = stats.local_hits + stats.peer_hits + stats.peer_loads + stats.local_loads;
        assert_eq!(answered, stats.reads, "{stats:?}");
        assert_eq!(stats.entries, fetches, "a node holds what it owns and nothing else");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_fetch_each_key_once() {
    every_key_is_fetched_once(Links::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_fetch_each_key_once_under_mutual_tls() {
    every_key_is_fetched_once(Links::MutualTls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_callers_on_all_nodes_is_one_fetch() {
    let cluster = TestCluster::start(3, 1, Links::Plain).await;
    let cluster = Arc::new(cluster);
    let key = key(0);
    for node in &cluster.nodes {
        node.source.hold();
    }
    let callers: Vec<_> = (0..192)
        .map(|n| {
            let (engine, key) = (cluster.nodes[n % 3].engine.clone(), key.clone());
            tokio::spawn(async move { engine.get(ROWS, &key).await })
        })
        .collect();
    let reads = || cluster.nodes.iter().map(|node| node.engine.keyspace(ROWS).unwrap().stats().reads).sum::<u64>();
    until("every caller has asked", || reads() == 192 && cluster.fetches() == 1).await;
    for node in &cluster.nodes {
        node.source.release();
    }
    for caller in join_all(callers).await {
        assert_eq!(caller.unwrap().unwrap().as_deref(), Some(&b"v1"[..]));
    }
    assert_eq!(cluster.fetches(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn get_many_keeps_order_and_asks_each_owner_once() {
    let cluster = TestCluster::start(3, 100, Links::Plain).await;
    let mut keys: Vec<_> = (0..100).rev().map(key).collect();
    keys.insert(50, "no such row".to_owned());
    keys.insert(0, String::new());
    keys.push(key(7));
    let values = cluster.nodes[1].engine.get_many(ROWS, &keys).await.unwrap();
    assert_eq!(values.len(), 103);
    assert_eq!(values[0].as_ref().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(values[51].as_ref().unwrap(), &None);
    for (at, value) in values.iter().enumerate().filter(|(at, _)| *at != 0 && *at != 51) {
        assert_eq!(value.as_ref().unwrap().as_deref(), Some(&b"v1"[..]), "key {:?}", keys[at]);
    }
    assert_eq!(cluster.fetches(), 101, "the key that stands twice is fetched once");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_and_large_values_cross_in_several_frames() {
    let cluster = TestCluster::start(2, 0, Links::Plain).await;
    let value = "x".repeat(300_000);
    let keys: Vec<_> = (0..40).map(key).collect();
    keys.iter().for_each(|key| cluster.database.set(key, &value));
    for node in &cluster.nodes {
        for read in node.engine.get_many(ROWS, &keys).await.unwrap() {
            assert_eq!(read.unwrap().unwrap().len(), value.len());
        }
    }
    assert_eq!(cluster.fetches(), 40);
    let entries = keys.iter().map(|key| Entry::new(key.clone(), "y".repeat(300_000))).collect();
    for outcome in cluster.nodes[0].engine.put_many(ROWS, entries).await.unwrap() {
        assert_eq!(outcome.unwrap(), Outcome::Applied);
    }
    for key in &keys {
        assert!(cluster.nodes[1].read(key).await.unwrap().starts_with('y'));
    }
    assert_eq!(cluster.fetches(), 40);
    cluster.shutdown().await;
}

async fn missing_is_not_an_error(links: Links) {
    let cluster = TestCluster::start(3, 0, links).await;
    for n in 0..60 {
        for node in &cluster.nodes {
            assert_eq!(node.read(&key(n)).await, None);
        }
    }
    for node in &cluster.nodes {
        let stats = node.engine.keyspace(ROWS).unwrap().stats();
        assert_eq!((stats.missing, stats.failures, stats.fallbacks), (60, 0, 0));
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_row_stays_missing_through_a_peer_and_is_not_an_error() {
    missing_is_not_an_error(Links::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_row_stays_missing_through_a_peer_under_mutual_tls() {
    missing_is_not_an_error(Links::MutualTls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_source_keeps_its_identity_through_a_peer_and_is_not_asked_again_here() {
    let cluster = TestCluster::start(3, 60, Links::Plain).await;
    for node in &cluster.nodes {
        node.source.fail("the disk is full");
    }
    let mut through_peers = 0;
    for n in 0..60 {
        let error = cluster.nodes[0].engine.get(ROWS, &key(n)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        let told = match error.peer() {
            Some(_) => error.to_string(),
            None => std::error::Error::source(&error).unwrap().to_string(),
        };
        assert!(told.contains("the disk is full"), "{told}");
        through_peers += usize::from(error.peer().is_some());
    }
    assert!((20..60).contains(&through_peers), "{through_peers} of 60 errors came through peers");
    assert_eq!(cluster.fetches(), 60, "an owner's failure is not tried again elsewhere");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_over_the_value_limit_is_the_same_typed_error_on_every_node_and_the_limit_itself_is_fine() {
    let cluster = TestCluster::start(3, 30, Links::Plain).await;
    let limit = 1_024 * 1_024;
    cluster.database.set("large", &"x".repeat(limit));
    cluster.database.set("too large", &"x".repeat(limit + 1));
    for node in &cluster.nodes {
        assert_eq!(node.read("large").await.unwrap().len(), limit);
        assert_eq!(node.engine.get(ROWS, "too large").await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(node.engine.keyspace(ROWS).unwrap().stats().evictions, 0);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_panics_fails_that_read_only() {
    let cluster = TestCluster::start(2, 1, Links::Plain).await;
    for node in &cluster.nodes {
        assert_eq!(node.engine.get(ROWS, "panic").await.unwrap_err().kind(), ErrorKind::Source);
        assert_eq!(node.read(&key(0)).await.as_deref(), Some("v1"));
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_text_is_a_key_and_none_is_another() {
    let cluster = TestCluster::start(3, 0, Links::Plain).await;
    let keys = [
        "a//b",
        "a/b",
        "/lead",
        "lead",
        "x/../y",
        "y",
        "two\nlines",
        " ",
        "a b",
        "%2F",
        "\u{0}",
        "Köln",
        "🦀",
        "?q=1#f",
    ];
    keys.iter().for_each(|key| cluster.database.set(key, &format!("value of {key}")));
    for node in &cluster.nodes {
        for key in keys {
            assert_eq!(node.read(key).await, Some(format!("value of {key}")));
        }
    }
    assert_eq!(cluster.fetches(), keys.len() as u64);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_does_not_disturb_the_others() {
    let cluster = TestCluster::start(2, 20, Links::Plain).await;
    let mut owned_by_peer = None;
    for n in 0..20 {
        if cluster.owner_of(&key(n)).await == 1 {
            owned_by_peer = Some(key(n));
            break;
        }
    }
    let key = owned_by_peer.expect("of twenty keys a node of two owns one");
    assert!(cluster.nodes[0].engine.delete(ROWS, &key).await.unwrap().is_applied());
    let before = cluster.fetches();
    cluster.nodes[1].source.hold();
    let engine = cluster.nodes[0].engine.clone();
    let leader = tokio::spawn({
        let (engine, key) = (engine.clone(), key.clone());
        async move { engine.get(ROWS, &key).await }
    });
    cluster.nodes[1].source.until_held(1).await;
    let follower = tokio::spawn({
        let (engine, key) = (engine.clone(), key.clone());
        async move { engine.get(ROWS, &key).await }
    });
    let given_up = tokio::time::timeout(Duration::from_millis(50), engine.get(ROWS, &key)).await;
    assert!(given_up.is_err(), "a follower's own patience counts");
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    cluster.nodes[1].source.release();
    assert_eq!(follower.await.unwrap().unwrap().as_deref(), Some(&b"v1"[..]));
    assert_eq!(cluster.fetches(), before + 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_while_an_owner_is_dead_and_after_it_left_the_ring() {
    let mut cluster = TestCluster::start(3, 90, Links::Plain).await;
    for n in 0..90 {
        cluster.nodes[0].read(&key(n)).await;
    }
    let held = |cluster: &TestCluster| -> Vec<u64> {
        cluster.nodes[..2].iter().map(|node| node.engine.keyspace(ROWS).unwrap().stats().entries).collect()
    };
    // Dropped, not shut down: the others learn of it by themselves.
    drop(cluster.nodes.pop());
    for node in &cluster.nodes {
        for n in 0..90 {
            assert_eq!(node.read(&key(n)).await.as_deref(), Some("v1"), "right after the death of a node");
        }
    }
    if cluster.nodes.iter().all(|node| node.engine.members().len() == 3) {
        assert_eq!(held(&cluster).iter().sum::<u64>(), 90, "one node keeps what it loaded in the dead owner's place");
    }
    let fallbacks: u64 = cluster.nodes.iter().map(|node| node.engine.keyspace(ROWS).unwrap().stats().fallbacks).sum();
    assert!(fallbacks > 0, "the dead owner's keys were loaded in its place");
    cluster.settle(2).await;
    for node in &cluster.nodes {
        for n in 0..90 {
            assert_eq!(node.read(&key(n)).await.as_deref(), Some("v1"), "with the ring of two");
        }
    }
    cluster.shutdown().await;
}
