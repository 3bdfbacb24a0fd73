//! Nodes come and go, and the data source hardly notices.

use distcache::{Entry, KeySpaceStats};

use crate::harness::{Links, Node, ROWS, TestCluster, key, until};

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
