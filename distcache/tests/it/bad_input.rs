//! A start that cannot work says everything that is wrong, and leaves nothing behind.

use std::{net::TcpListener, time::Duration};

use distcache::{Engine, ErrorKind, SecretKeys, SourceKeySpace, StaticProvider};
use tokio::runtime::Handle;

use crate::harness::{Authority, Database, Links, Nobody, ROWS, Source, TestCluster, until};

fn keyspace(name: &str) -> SourceKeySpace {
    SourceKeySpace::new(name, Source::new(&Database::default()))
}

/// An address nothing listens on.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn every_fault_of_the_configuration_is_listed_in_one_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Engine::builder()
        .bind(taken.local_addr().unwrap().to_string())
        .label("")
        .name("")
        .min_members(0)
        .join_timeout(Duration::ZERO)
        .networks(["10.0.0.0/8", "10.0.0.1/8"])
        .discovery(StaticProvider::new(["nonsense", "10.0.0.1"]))
        .discovery(StaticProvider::new(["also:wrong"]))
        .keyspace(keyspace("users"))
        .keyspace(keyspace("users"))
        .keyspace(keyspace(""))
        .keyspace(keyspace("empty").max_bytes(0))
        .keyspace(keyspace("hasty").load_timeout(Duration::ZERO))
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let list = error.list().join("\n");
    for part in [
        "label",
        "name: must have",
        "min_members",
        "join_timeout",
        "networks: \"10.0.0.1/8\" has an address with bits beyond its prefix",
        "nonsense",
        "also:wrong",
        "10.0.0.1",
        "\"users\": is defined twice",
        "keyspace \"\"",
        "\"empty\": max_bytes is 0",
        "\"hasty\": load_timeout",
        "bind: 127.0.0.1",
    ] {
        assert!(list.contains(part), "{part:?} is missing from:\n{list}");
    }
    assert_eq!(alive_tasks(), 0);
}

#[tokio::test]
async fn an_address_that_cannot_be_parsed_is_named() {
    for bad in ["", "3320", "localhost:3320", "10.0.0.1:99999", "10.0.0.1"] {
        let error = Engine::builder().bind(bad).discovery(Nobody).start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("bind:"), "{error}");
    }
}

#[tokio::test]
async fn a_plain_node_that_other_machines_can_reach_must_say_so() {
    let error = Engine::builder().bind("0.0.0.0:0").discovery(Nobody).start().await.unwrap_err();
    assert!(error.to_string().contains("insecure"), "{error}");
    let allowed = Engine::builder().bind("0.0.0.0:0").advertise("127.0.0.1:9").insecure(true).discovery(Nobody);
    allowed.start().await.unwrap().shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_secret_guards_a_node_that_other_machines_can_reach() {
    let secret = SecretKeys::new(["0123456789abcdef"]).unwrap();
    let guarded = Engine::builder().bind("0.0.0.0:0").advertise("127.0.0.1:9").secret(secret).discovery(Nobody);
    guarded.start().await.unwrap().shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn seeds_out_of_reach_are_each_named_and_nothing_is_left_behind() {
    let (first, second) = (closed_port(), closed_port());
    let before = alive_tasks();
    let own = closed_port();
    let error = Engine::builder()
        .bind(own.clone())
        .keyspace(keyspace(ROWS))
        .discovery(StaticProvider::new([first.clone(), second.clone()]))
        .join_timeout(Duration::from_millis(400))
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.list().len(), 2, "{error}");
    assert!(error.to_string().contains(&first) && error.to_string().contains(&second), "{error}");
    until("every task of the failed start has ended", || alive_tasks() == before).await;
    TcpListener::bind(own).expect("the port is free again");
}

#[tokio::test]
async fn the_first_of_its_own_seed_list_starts_without_the_others() {
    let (own, other) = (closed_port(), closed_port());
    let engine = Engine::builder().bind(own.clone()).discovery(StaticProvider::new([own, other]));
    let engine = engine.start().await.unwrap();
    assert_eq!(engine.members().len(), 1);
    engine.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_ways_to_find_peers_one_is_enough() {
    let cluster = TestCluster::start(2, 0, Links::Plain).await;
    let builder = cluster.builder("third", &Source::new(&cluster.database)).min_members(3);
    let engine = builder
        .discovery(StaticProvider::new([closed_port()]))
        .discovery(StaticProvider::new([cluster.nodes[0].addr().to_string()]))
        .start()
        .await
        .unwrap();
    assert_eq!(engine.members().len(), 3);
    engine.shutdown(Duration::from_secs(1)).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_outside_of_the_networks_is_not_dialled() {
    let cluster = TestCluster::start(2, 0, Links::Plain).await;
    let seed = cluster.nodes[0].addr().to_string();
    let own = closed_port();
    let builder = cluster.builder("third", &Source::new(&cluster.database)).bind(own.clone()).networks(["10.0.0.0/8"]);
    let alone = builder.discovery(StaticProvider::new([own, seed])).start().await.unwrap();
    assert_eq!(alone.members().len(), 1);
    alone.shutdown(Duration::from_secs(1)).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_label_is_refused_at_once_on_both_sides() {
    let cluster = TestCluster::start(2, 0, Links::Plain).await;
    let before = tokio::time::Instant::now();
    let error = Engine::builder()
        .bind("127.0.0.1:0")
        .label("another")
        .discovery(StaticProvider::new([cluster.nodes[0].addr().to_string()]))
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("\"test\" and \"another\""), "{error}");
    assert!(before.elapsed() < Duration::from_secs(5), "a refusal for good is not waited out");
    assert!(cluster.nodes.iter().all(|node| node.engine.members().len() == 2));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_clusters_secret_is_refused_at_once() {
    let cluster = TestCluster::start(2, 0, Links::Secret).await;
    let seeds = || StaticProvider::new([cluster.nodes[0].addr().to_string()]);
    let joiner = || Engine::builder().bind("127.0.0.1:0").label("test").discovery(seeds());
    let other = SecretKeys::new(["another secret of enough bytes"]).unwrap();
    for builder in [joiner(), joiner().secret(other)] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("secret"), "{error}");
    }
    assert!(cluster.nodes.iter().all(|node| node.engine.members().len() == 2));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_refused_at_once() {
    let cluster = TestCluster::start(2, 0, Links::MutualTls).await;
    let error = Engine::builder()
        .bind("127.0.0.1:0")
        .label("test")
        .tls(Authority::new().issue())
        .discovery(StaticProvider::new([cluster.nodes[0].addr().to_string()]))
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    assert!(cluster.nodes.iter().all(|node| node.engine.members().len() == 2));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_tls_cannot_join_one_with_it() {
    let cluster = TestCluster::start(1, 0, Links::MutualTls).await;
    let error = Engine::builder()
        .bind("127.0.0.1:0")
        .label("test")
        .discovery(StaticProvider::new([cluster.nodes[0].addr().to_string()]))
        .join_timeout(Duration::from_secs(1))
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(cluster.nodes[0].engine.members().len(), 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_refused() {
    let cluster = TestCluster::start(1, 0, Links::Plain).await;
    let source = Source::new(&cluster.database);
    let error = cluster
        .builder("node-0", &source)
        .discovery(StaticProvider::new([cluster.nodes[0].addr().to_string()]))
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("node-0"), "{error}");
    assert_eq!(cluster.nodes[0].engine.members().len(), 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_members_in_time_is_an_error() {
    let cluster = TestCluster::start(1, 0, Links::Plain).await;
    let source = Source::new(&cluster.database);
    let error = cluster
        .builder("node-1", &source)
        .discovery(StaticProvider::new([cluster.nodes[0].addr().to_string()]))
        .min_members(3)
        .join_timeout(Duration::from_secs(1))
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("2 of at least 3"), "{error}");
    let failed = tokio::time::Instant::now();
    cluster.settle(1).await;
    assert!(failed.elapsed() < Duration::from_secs(2), "a failed start takes leave of whom it met");
    cluster.shutdown().await;
}
