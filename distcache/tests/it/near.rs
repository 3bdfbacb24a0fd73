//! Copies of hot values: served without their owner, by its leave, and gone at its word.

use std::time::Duration;

use distcache::KeySpaceStats;
use tokio::time::{Instant, sleep};

use crate::harness::{Links, Node, ROWS, TestCluster, key};

fn stats(node: &Node) -> KeySpaceStats {
    node.engine.keyspace(ROWS).unwrap().stats()
}

/// Reads a key until the node has a copy of its own, and says what it read on the way.
async fn read_until_near(node: &Node, key: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let before = stats(node).near_hits;
    while stats(node).near_hits == before {
        assert!(Instant::now() < deadline, "no copy of a hot key was kept: {:?}", stats(node));
        node.read(key).await;
    }
}

/// A cluster of three, a key, its owner and two others.
async fn hot(cluster: &TestCluster) -> (String, usize, [usize; 2]) {
    let key = key(1);
    let owner = cluster.owner_of(&key).await;
    let others = [0, 1, 2].into_iter().filter(|n| *n != owner).collect::<Vec<_>>();
    (key, owner, [others[0], others[1]])
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_key_is_served_from_copies_and_its_owner_is_asked_now_and_then() {
    let cluster = TestCluster::start(3, 5, Links::Plain).await;
    let (key, owner, [a, b]) = hot(&cluster).await;
    read_until_near(&cluster.nodes[a], &key).await;
    read_until_near(&cluster.nodes[b], &key).await;
    let (asked, end) = (stats(&cluster.nodes[owner]).peer_reads, Instant::now() + Duration::from_secs(3));
    let mut reads = 0;
    while Instant::now() < end {
        for n in [a, b] {
            assert_eq!(cluster.nodes[n].read(&key).await.as_deref(), Some("v1"));
            reads += 1;
        }
    }
    let asked = stats(&cluster.nodes[owner]).peer_reads - asked;
    // Copies last for two seconds; a silent moment of a busy machine may cost one more, and its key's heat.
    assert!(reads > 1_000 && asked > 0 && asked < reads / 5, "the owner was asked {asked} times for {reads} reads");
    assert_eq!(cluster.fetches(), 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_key_is_not_copied() {
    let cluster = TestCluster::start(3, 50, Links::Plain).await;
    for n in 0..50 {
        for node in &cluster.nodes {
            for _ in 0..5 {
                node.read(&key(n)).await;
            }
        }
    }
    assert!(cluster.nodes.iter().all(|node| stats(node).near_hits == 0));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_goes_at_once_when_its_key_is_deleted_wherever_that_is() {
    let cluster = TestCluster::start(3, 5, Links::Plain).await;
    let (key, owner, [a, b]) = hot(&cluster).await;
    for (round, writer) in [a, b, owner, a].into_iter().enumerate() {
        read_until_near(&cluster.nodes[a], &key).await;
        read_until_near(&cluster.nodes[b], &key).await;
        let value = format!("round {round}");
        cluster.database.set(&key, &value);
        let _ = cluster.nodes[writer].engine.delete(ROWS, &key).await.unwrap();
        assert_eq!(cluster.nodes[writer].read(&key).await.as_deref(), Some(&*value), "the writer reads its own write");
        // Well below the time of a lease, which would hide that nobody was told.
        let deadline = Instant::now() + Duration::from_secs(1);
        for n in [a, b, owner] {
            while cluster.nodes[n].read(&key).await.as_deref() != Some(&*value) {
                assert!(Instant::now() < deadline, "a copy outlived the delete");
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
    cluster.shutdown().await;
}
