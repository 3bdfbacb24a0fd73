//! Nodes come and go: in any order, politely or not.

use std::{net::TcpListener, time::Duration};

use distcache::{Engine, ErrorKind, Event, SourceKeySpace, StaticProvider};
use futures_util::future::join_all;
use tokio::runtime::Handle;

use crate::harness::{Database, Links, Node, ROWS, Source, TestCluster, key, until};

fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_with_one_list_started_together_form_one_cluster() {
    let ports: Vec<_> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addrs: Vec<_> = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
    drop(ports);
    let database = Database::with_rows(100);
    let started = join_all(addrs.iter().map(|addr| {
        let builder = Engine::builder().bind(addr).discovery(StaticProvider::new(addrs.clone())).min_members(5);
        builder.keyspace(SourceKeySpace::new(ROWS, Source::new(&database))).start()
    }))
    .await;
    let engines: Vec<_> = started.into_iter().map(|engine| engine.expect("each node finds the others")).collect();
    assert!(engines.iter().all(|engine| engine.members().len() == 5));
    join_all(engines.iter().map(|engine| engine.shutdown(Duration::from_secs(2)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaver_is_gone_at_once_and_its_end_is_seen_as_events() {
    let mut cluster = TestCluster::start(3, 10, Links::Plain).await;
    let mut events = cluster.nodes[0].engine.events();
    let Some(Event::Snapshot(members)) = events.next().await else { panic!("the first event is the snapshot") };
    assert_eq!(members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["node-0", "node-1", "node-2"]);

    let leaver = cluster.nodes.pop().unwrap();
    let before = tokio::time::Instant::now();
    leaver.engine.shutdown(Duration::from_secs(2)).await;
    cluster.settle(2).await;
    assert!(before.elapsed() < Duration::from_secs(3), "a leaver is not waited for as the dead are");
    let Some(Event::Left(gone)) = events.next().await else { panic!("a leaver is an event") };
    assert_eq!(gone.name, "node-2");

    let joiner = cluster.node("node-3", 3).await;
    cluster.nodes.push(joiner);
    let Some(Event::Joined(new)) = events.next().await else { panic!("a joiner is an event") };
    assert_eq!(new.name, "node-3");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_is_idempotent_and_leaves_nothing() {
    let before = alive_tasks();
    let cluster = TestCluster::start(3, 10, Links::Plain).await;
    let addr = cluster.nodes[1].addr();
    let engine = cluster.nodes[1].engine.clone();
    tokio::join!(engine.shutdown(Duration::from_secs(2)), engine.shutdown(Duration::from_secs(2)));
    engine.shutdown(Duration::from_secs(2)).await;
    assert_eq!(engine.get(ROWS, &key(0)).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(engine.delete(ROWS, &key(0)).await.unwrap_err().kind(), ErrorKind::Closed);
    TcpListener::bind(addr).expect("the port is free again");
    cluster.shutdown().await;
    until("every task has ended", || alive_tasks() <= before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_engine_ends_its_tasks_and_frees_its_port() {
    let before = alive_tasks();
    let cluster = TestCluster::start(2, 10, Links::Plain).await;
    cluster.nodes[0].read(&key(0)).await;
    let addr = cluster.nodes[0].addr();
    drop(cluster);
    until("every task has ended", || alive_tasks() <= before).await;
    until("the port is free again", || TcpListener::bind(addr).is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_restarts_under_its_name_is_the_same_node_to_the_ring() {
    let mut cluster = TestCluster::start(3, 90, Links::Plain).await;
    for n in 0..90 {
        cluster.nodes[0].read(&key(n)).await;
    }
    let kept: Vec<_> = cluster.nodes[..2].iter().map(|node| node.source.fetches()).collect();
    let old = cluster.nodes.pop().unwrap();
    old.engine.shutdown(Duration::from_secs(2)).await;
    let again = cluster.node("node-2", 3).await;
    // Three members there may have been all the while; this one is at another address.
    let addr = again.addr();
    cluster.nodes.push(again);
    let sees = |node: &Node| node.engine.members().iter().any(|member| member.addr == addr);
    until("all nodes see the new process", || cluster.nodes.iter().all(sees)).await;
    cluster.settle(3).await;
    for n in 0..90 {
        assert_eq!(cluster.nodes[1].read(&key(n)).await.as_deref(), Some("v1"));
    }
    let fetched: Vec<_> = cluster.nodes[..2].iter().map(|node| node.source.fetches()).collect();
    let stats = cluster.nodes[1].engine.keyspace(ROWS).unwrap().stats();
    assert_eq!(fetched, kept, "keys of the nodes that stayed did not move: {stats:?}");
    cluster.shutdown().await;
}
