//! Nodes come and go, and the data source hardly notices.

use std::time::Duration;

use distcache::{Engine, Entry, KeySpaceStats, SourceKeySpace, StaticProvider};

use crate::harness::{Database, Links, Nobody, Node, ROWS, Source, TestCluster, key, until};

fn stats(node: &Node) -> KeySpaceStats {
    node.engine.keyspace(ROWS).unwrap().stats()
}

async fn read_all(cluster: &TestCluster, rows: usize) {
    for node in &cluster.nodes {
        for n in 0..rows {
            assert_eq!(node.read(&key(n)).await.as_deref(), Some("v1"), "{}", key(n));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_joins_takes_its_values_from_those_that_had_them() {
    let mut cluster = TestCluster::start(2, 200, Links::Plain).await;
    read_all(&cluster, 200).await;
    assert_eq!(cluster.fetches(), 200);
    let third = cluster.node("node-2", 3).await;
    cluster.nodes.push(third);
    cluster.settle(3).await;
    read_all(&cluster, 200).await;
    assert_eq!(cluster.fetches(), 200, "what was in memory is in memory");
    let filled = stats(&cluster.nodes[2]);
    assert!(filled.entries > 30 && filled.source_loads == 0, "{filled:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_batch_come_from_the_node_that_had_them_too() {
    let mut cluster = TestCluster::start(2, 200, Links::Plain).await;
    let keys: Vec<_> = (0..200).map(key).collect();
    let read = |cluster: &TestCluster, n: usize| {
        let engine = cluster.nodes[n].engine.clone();
        let keys = keys.clone();
        async move {
            let rows = engine.get_many(ROWS, &keys).await.unwrap();
            assert!(rows.iter().all(|row| row.as_ref().is_ok_and(|row| row.as_deref() == Some(&b"v1"[..]))));
        }
    };
    read(&cluster, 0).await;
    let third = cluster.node("node-2", 3).await;
    cluster.nodes.push(third);
    cluster.settle(3).await;
    for n in 0..3 {
        read(&cluster, n).await;
    }
    assert_eq!(cluster.fetches(), 200);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_after_a_node_came_is_not_taken_from_who_had_it_before() {
    let mut cluster = TestCluster::start(2, 100, Links::Plain).await;
    read_all(&cluster, 100).await;
    let third = cluster.node("node-2", 3).await;
    cluster.nodes.push(third);
    cluster.settle(3).await;
    for n in 0..100 {
        cluster.database.set(&key(n), "v2");
        cluster.nodes[n % 3].engine.delete(ROWS, &key(n)).await.map(drop).unwrap();
        assert_eq!(cluster.nodes[n % 3].read(&key(n)).await.as_deref(), Some("v2"));
    }
    for node in &cluster.nodes {
        for n in 0..100 {
            assert_eq!(node.read(&key(n)).await.as_deref(), Some("v2"));
        }
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keyspace_holds_no_more_than_it_may_while_some_of_it_is_anothers() {
    let mut cluster = TestCluster::start(1, 0, Links::Plain).await;
    let value = "x".repeat(1_000);
    for n in 0..2_000 {
        cluster.nodes[0].engine.put(ROWS, Entry::new(key(n), value.clone())).await.map(drop).unwrap();
    }
    let before = stats(&cluster.nodes[0]).bytes;
    let second = cluster.node("node-1", 2).await;
    cluster.nodes.push(second);
    cluster.settle(2).await;
    until("the keys have moved", || stats(&cluster.nodes[0]).entries < 1_200).await;
    for n in 0..2_000 {
        assert_eq!(cluster.nodes[1].read(&key(n)).await.as_deref(), Some(&*value));
    }
    assert_eq!(cluster.fetches(), 0);
    assert!(stats(&cluster.nodes[0]).bytes < before);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_leaves_hands_its_values_to_the_next_owners() {
    let mut cluster = TestCluster::start(3, 200, Links::Plain).await;
    read_all(&cluster, 200).await;
    let leaver = cluster.nodes.pop().unwrap();
    leaver.engine.shutdown(Duration::from_secs(5)).await;
    cluster.settle(2).await;
    read_all(&cluster, 200).await;
    assert_eq!(cluster.fetches() + leaver.source.fetches(), 200, "what was in memory is in memory");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_loads_nothing_again() {
    let mut cluster = TestCluster::start(4, 200, Links::Plain).await;
    read_all(&cluster, 200).await;
    // The first is everyone's seed.
    let mut by_the_old = 0;
    for n in 1..4 {
        let old = cluster.nodes.remove(n);
        old.engine.shutdown(Duration::from_secs(5)).await;
        by_the_old += old.source.fetches();
        let node = cluster.node(&format!("node-{n}"), 4).await;
        cluster.nodes.insert(n, node);
        cluster.settle(4).await;
        read_all(&cluster, 200).await;
        assert_eq!(by_the_old + cluster.fetches(), 200, "after {n} restarts each row was loaded once");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_with_backups_outlive_the_crash_of_their_owner() {
    let database = Database::with_rows(200);
    let mut nodes: Vec<Node> = Vec::new();
    for n in 0..4 {
        let source = Source::new(&database);
        let keyspace = SourceKeySpace::new(ROWS, source.clone()).backup_bytes(8 << 20);
        let builder = Engine::builder().bind("127.0.0.1:0").name(format!("node-{n}")).label("test").keyspace(keyspace);
        let builder = match nodes.first() {
            None => builder.discovery(Nobody),
            Some(first) => builder.discovery(StaticProvider::new([first.addr().to_string()])).min_members(n + 1),
        };
        nodes.push(Node { engine: builder.start().await.unwrap(), source });
    }
    until("all are there", || nodes.iter().all(|node| node.engine.members().len() == 4)).await;
    let read = async |nodes: &[Node]| {
        for n in 0..200 {
            assert_eq!(nodes[n % nodes.len()].read(&key(n)).await.as_deref(), Some("v1"));
        }
    };
    let fetches = |nodes: &[Node]| nodes.iter().map(|node| node.source.fetches()).sum::<u64>();
    read(&nodes).await;
    assert_eq!(fetches(&nodes), 200);
    // One of them is changed once its copy is there: a copy must not outlive a delete.
    let copies = |nodes: &[Node]| nodes.iter().map(|node| stats(node).reserve_entries).sum::<u64>();
    until("every value has a copy", || copies(&nodes) == 200).await;
    database.set(&key(7), "v2");
    nodes[0].engine.delete(ROWS, &key(7)).await.map(drop).unwrap();
    until("its copy is gone", || copies(&nodes) == 199).await;
    database.set(&key(7), "v1");

    let dead = nodes.pop().unwrap();
    let share = stats(&dead).entries;
    let before = fetches(&nodes);
    drop(dead);
    read(&nodes).await;
    until("the dead one is off the ring", || nodes.iter().all(|node| node.engine.members().len() == 3)).await;
    read(&nodes).await;
    let loaded = fetches(&nodes) - before;
    assert!(share > 20 && loaded <= 1, "{loaded} of {share} were loaded again");
    for node in &nodes {
        node.engine.shutdown(Duration::from_secs(1)).await;
    }
}
