//! After a write returned, nobody is given the old value for longer than the contract says.

use distcache::{Entry, Outcome};

use crate::harness::{Links, Node, ROWS, TestCluster, key, until};

/// Waits until a node reads `value`: the contract gives other nodes one message delay.
async fn soon_reads(node: &Node, key: &str, value: &str) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(2);
    loop {
        let read = node.read(key).await;
        if read.as_deref() == Some(value) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{key} stayed at {read:?}");
        tokio::task::yield_now().await;
    }
}

async fn put_is_read_everywhere(links: Links) {
    let cluster = TestCluster::start(3, 60, links).await;
    let before = cluster.fetches();
    for n in 0..60 {
        let outcome = cluster.nodes[0].engine.put(ROWS, Entry::new(key(n), "put on A")).await.unwrap();
        assert_eq!(outcome, Outcome::Applied);
        for node in &cluster.nodes {
            assert_eq!(node.read(&key(n)).await.as_deref(), Some("put on A"));
        }
    }
    assert_eq!(cluster.fetches(), before, "what was put is not fetched");
    let held: u64 = cluster.nodes.iter().map(|node| node.engine.keyspace(ROWS).unwrap().stats().entries).sum();
    assert_eq!(held, 60, "a put is held by its owner, not by every node");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn put_on_one_node_is_read_on_all() {
    put_is_read_everywhere(Links::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn put_on_one_node_is_read_on_all_under_mutual_tls() {
    put_is_read_everywhere(Links::MutualTls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn put_is_read_everywhere_with_a_shared_secret() {
    put_is_read_everywhere(Links::Secret).await;
}

async fn delete_many_leaves_nothing_stale(links: Links) {
    let cluster = TestCluster::start(3, 50, links).await;
    let keys: Vec<_> = (0..50).map(key).collect();
    for node in &cluster.nodes {
        for key in &keys {
            assert_eq!(node.read(key).await.as_deref(), Some("v1"));
        }
    }
    for round in 2..6 {
        let value = format!("v{round}");
        keys.iter().for_each(|key| cluster.database.set(key, &value));
        let deleter = &cluster.nodes[round % 3].engine;
        assert_eq!(deleter.delete_many(ROWS, &keys).await.unwrap(), Outcome::Applied);
        for node in &cluster.nodes {
            let mut stale = 0;
            for key in &keys {
                stale += usize::from(node.read(key).await.as_deref() != Some(&value));
            }
            assert_eq!(stale, 0, "stale copies on {} in round {round}", node.engine.name());
        }
    }
    assert_eq!(cluster.fetches(), 5 * 50);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_many_leaves_no_stale_copy_on_any_node() {
    delete_many_leaves_nothing_stale(Links::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_many_leaves_no_stale_copy_on_any_node_under_mutual_tls() {
    delete_many_leaves_nothing_stale(Links::MutualTls).await;
}

/// A load has read the old row and is on its way back when the row changes and its key is deleted.
async fn delete_beats_a_load(deleter: usize, reader: usize, links: Links) {
    let cluster = TestCluster::start(3, 1, links).await;
    let key = key(0);
    let owner = cluster.owner_of(&key).await;
    assert!(cluster.nodes[owner].engine.delete(ROWS, &key).await.unwrap().is_applied());
    cluster.nodes[owner].source.hold();
    let (reader, deleter) = ((owner + reader) % 3, (owner + deleter) % 3);
    let load = tokio::spawn({
        let (engine, key) = (cluster.nodes[reader].engine.clone(), key.clone());
        async move { engine.get(ROWS, &key).await }
    });
    cluster.nodes[owner].source.until_held(1).await;
    cluster.database.set(&key, "v2");
    assert_eq!(cluster.nodes[deleter].engine.delete(ROWS, &key).await.unwrap(), Outcome::Applied);
    cluster.nodes[owner].source.release();
    let caught = load.await.unwrap().unwrap();
    assert_eq!(caught.as_deref(), Some(&b"v1"[..]), "who asked before the delete may be given the old value");
    assert_eq!(cluster.nodes[deleter].read(&key).await.as_deref(), Some("v2"), "the writer reads its own delete");
    assert_eq!(cluster.nodes[owner].read(&key).await.as_deref(), Some("v2"), "the owner kept nothing old");
    for node in &cluster.nodes {
        soon_reads(node, &key, "v2").await;
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_at_the_owner_beats_a_load_of_its_own() {
    delete_beats_a_load(0, 0, Links::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_at_a_peer_beats_a_load_for_the_owner() {
    delete_beats_a_load(1, 0, Links::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_at_a_peer_beats_a_load_for_itself() {
    delete_beats_a_load(1, 1, Links::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_at_a_peer_beats_a_load_for_another_peer() {
    delete_beats_a_load(1, 2, Links::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_at_a_peer_beats_a_load_for_another_peer_under_mutual_tls() {
    delete_beats_a_load(1, 2, Links::MutualTls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn put_during_a_load_wins() {
    let cluster = TestCluster::start(2, 1, Links::Plain).await;
    let key = key(0);
    let owner = cluster.owner_of(&key).await;
    assert!(cluster.nodes[owner].engine.delete(ROWS, &key).await.unwrap().is_applied());
    cluster.nodes[owner].source.hold();
    let load = tokio::spawn({
        let (engine, key) = (cluster.nodes[owner].engine.clone(), key.clone());
        async move { engine.get(ROWS, &key).await }
    });
    cluster.nodes[owner].source.until_held(1).await;
    let putter = &cluster.nodes[1 - owner];
    assert_eq!(putter.engine.put(ROWS, Entry::new(key.clone(), "put")).await.unwrap(), Outcome::Applied);
    cluster.nodes[owner].source.release();
    load.await.unwrap().unwrap();
    for node in &cluster.nodes {
        soon_reads(node, &key, "put").await;
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_with_a_dead_owner_is_degraded_not_an_error_and_leaves_nothing_old_here() {
    let (cluster, name) = TestCluster::with_a_dead_node(3, 30).await;
    let keys: Vec<_> = (0..30).map(key).collect();
    keys.iter().for_each(|key| cluster.database.set(key, "v2"));
    // What is dropped may answer for a last moment; it leaves the ring only seconds later.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(2);
    loop {
        match cluster.nodes[0].engine.delete_many(ROWS, &keys).await.unwrap() {
            Outcome::Applied => assert!(tokio::time::Instant::now() < deadline, "a dead owner acknowledges deletes"),
            outcome => break assert_eq!(outcome, Outcome::Degraded { pending: vec![name] }),
        }
    }
    for node in &cluster.nodes {
        for key in &keys {
            soon_reads(node, key, "v2").await;
        }
    }
    let put = cluster.nodes[1].engine.put_many(ROWS, keys.iter().map(|key| Entry::new(key.clone(), "v3")).collect());
    let put = put.await.unwrap();
    let stored = put.iter().filter(|outcome| outcome.as_ref().unwrap().is_applied()).count();
    assert!((1..30).contains(&stored), "{stored} of 30 puts had a living owner");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_takes_its_keys_over_without_reviving_old_values() {
    let mut cluster = TestCluster::start(2, 120, Links::Plain).await;
    for n in 0..120 {
        cluster.nodes[0].read(&key(n)).await;
    }
    let held = |cluster: &TestCluster| -> u64 {
        cluster.nodes.iter().map(|node| node.engine.keyspace(ROWS).unwrap().stats().entries).sum()
    };
    assert_eq!(held(&cluster), 120);
    let joiner = cluster.node("node-2", 3).await;
    cluster.nodes.push(joiner);
    cluster.settle(3).await;
    until("the old owners have let go of what moved", || (60..100).contains(&held(&cluster))).await;
    (0..120).for_each(|n| cluster.database.set(&key(n), "v2"));
    let keys: Vec<_> = (0..120).map(key).collect();
    assert_eq!(cluster.nodes[2].engine.delete_many(ROWS, &keys).await.unwrap(), Outcome::Applied);
    for node in &cluster.nodes {
        for key in &keys {
            soon_reads(node, key, "v2").await;
        }
    }
    cluster.shutdown().await;
}
