//! Once a strict write returned, no node gives anybody what was there before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use distcache::{Entry, KeySpaceHandle, Outcome, WriteMode};

use crate::harness::{Links, Node, ROWS, TestCluster, key, until};

fn strict(node: &Node) -> KeySpaceHandle {
    node.engine.keyspace(ROWS).unwrap().write_mode(WriteMode::Strict)
}

/// Reads a key on every node all the time, so that all have copies of it, until the flag is set.
fn readers(cluster: &TestCluster, key: &str, done: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<()>> {
    let reader = |node: &Node| {
        let (engine, key, done) = (node.engine.clone(), key.to_owned(), Arc::clone(done));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                engine.get(ROWS, &key).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    cluster.nodes.iter().map(reader).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_strict_write_no_node_serves_what_was_there_before() {
    let cluster = TestCluster::start(3, 1, Links::Plain).await;
    let (key, done) = (key(0), Arc::new(AtomicBool::new(false)));
    let readers = readers(&cluster, &key, &done);
    let near_hits =
        || cluster.nodes.iter().map(|node| node.engine.keyspace(ROWS).unwrap().stats().near_hits).sum::<u64>();
    for round in 0..90 {
        let value = format!("round {round}");
        cluster.database.set(&key, &value);
        let writer = strict(&cluster.nodes[round % 3]);
        let outcome = match round % 2 {
            0 => writer.delete(&key).await.unwrap(),
            _ => writer.put(Entry::new(key.clone(), value.clone())).await.unwrap(),
        };
        assert_eq!(outcome, Outcome::Applied);
        for node in &cluster.nodes {
            let read = node.read(&key).await;
            assert_eq!(read.as_deref(), Some(value.as_str()), "on {} after {outcome:?}", node.engine.name());
        }
        let before = near_hits();
        until("copies are served", || near_hits() > before).await;
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_write_alone_is_done_at_once_and_many_keys_go_together() {
    let cluster = TestCluster::start(3, 50, Links::Plain).await;
    let keys: Vec<_> = (0..50).map(key).collect();
    for node in &cluster.nodes {
        for key in &keys {
            node.read(key).await;
        }
    }
    keys.iter().for_each(|key| cluster.database.set(key, "v2"));
    assert_eq!(strict(&cluster.nodes[0]).delete_many(&keys).await.unwrap(), Outcome::Applied);
    for node in &cluster.nodes {
        for key in &keys {
            assert_eq!(node.read(key).await.as_deref(), Some("v2"));
        }
    }
    let entries = keys.iter().map(|key| Entry::new(key.clone(), "v3")).collect();
    let outcomes = strict(&cluster.nodes[1]).put_many(entries).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome.as_ref().unwrap() == Outcome::Applied));
    for node in &cluster.nodes {
        for key in &keys {
            assert_eq!(node.read(key).await.as_deref(), Some("v3"));
        }
    }
    cluster.shutdown().await;

    let alone = TestCluster::start(1, 1, Links::Plain).await;
    assert_eq!(strict(&alone.nodes[0]).delete(&key(0)).await.unwrap(), Outcome::Applied);
    alone.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_write_names_a_node_that_died_and_leaves_nothing_old_on_the_others() {
    let (cluster, name) = TestCluster::with_a_dead_node(3, 30).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    for n in 0.. {
        // What is dropped may answer for a last moment.
        let key = key(n % 30);
        cluster.database.set(&key, "v2");
        match strict(&cluster.nodes[0]).delete(&key).await.unwrap() {
            Outcome::Applied => assert!(tokio::time::Instant::now() < deadline, "a dead node acknowledges deletes"),
            outcome => {
                assert_eq!(outcome, Outcome::Degraded { pending: vec![name] });
                for node in &cluster.nodes {
                    assert_eq!(node.read(&key).await.as_deref(), Some("v2"), "on {}", node.engine.name());
                }
                break;
            }
        }
    }
    cluster.shutdown().await;
}
