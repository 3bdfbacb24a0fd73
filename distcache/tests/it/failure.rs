//! What callers get while an owner or the data source is not well.

use std::time::Duration;

use distcache::{Engine, ErrorKind, SourceKeySpace};
use tokio::{task::JoinSet, time::Instant};

use crate::harness::{Database, Links, ROWS, Source, TestCluster, key, until};

async fn alone(keyspace: impl FnOnce(SourceKeySpace) -> SourceKeySpace) -> (Engine, Source) {
    let source = Source::new(&Database::with_rows(100));
    let keyspace = keyspace(SourceKeySpace::new(ROWS, source.clone()));
    (Engine::builder().keyspace(keyspace).start().await.unwrap(), source)
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn value_whose_time_is_up_stands_in_while_the_source_fails_and_for_as_long_as_allowed() {
    let (engine, source) = alone(|rows| rows.ttl(MINUTE).stale_if_error(5 * MINUTE)).await;
    engine.get(ROWS, &key(0)).await.unwrap();
    source.fail("down");
    tokio::time::advance(2 * MINUTE).await;
    for _ in 0..10 {
        assert_eq!(engine.get(ROWS, &key(0)).await.unwrap().as_deref(), Some(&b"v1"[..]));
        assert_eq!(engine.get_many(ROWS, &[&key(0)]).await.unwrap()[0].as_ref().unwrap().as_deref(), Some(&b"v1"[..]));
    }
    assert_eq!(source.fetches(), 2, "a source that failed is spared for a second");
    assert_eq!(engine.keyspace(ROWS).unwrap().stats().stale, 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    engine.get(ROWS, &key(0)).await.unwrap();
    assert_eq!(source.fetches(), 3);
    tokio::time::advance(5 * MINUTE).await;
    assert_eq!(engine.get(ROWS, &key(0)).await.unwrap_err().kind(), ErrorKind::Source);
}

#[tokio::test(start_paused = true)]
async fn value_that_may_not_stand_in_any_more_when_the_load_has_failed_does_not() {
    let (engine, source) =
        alone(|rows| rows.ttl(MINUTE).stale_if_error(Duration::from_secs(2)).load_timeout(Duration::from_secs(3)))
            .await;
    engine.get(ROWS, &key(0)).await.unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    // The load takes until its own limit, which is later than that.
    source.hold();
    assert_eq!(engine.get(ROWS, &key(0)).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(engine.keyspace(ROWS).unwrap().stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn value_whose_time_is_up_is_loaded_anew_while_the_source_is_well() {
    let (engine, source) = alone(|rows| rows.ttl(MINUTE).stale_if_error(5 * MINUTE)).await;
    for fetches in 1..5 {
        engine.get(ROWS, &key(0)).await.unwrap();
        engine.get(ROWS, &key(0)).await.unwrap();
        assert_eq!(source.fetches(), fetches);
        tokio::time::advance(2 * MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_stands_in_for_what_was_deleted_or_where_it_is_not_allowed() {
    let (engine, source) = alone(|rows| rows.ttl(MINUTE).stale_if_error(5 * MINUTE)).await;
    engine.get(ROWS, &key(0)).await.unwrap();
    source.fail("down");
    assert!(engine.delete(ROWS, &key(0)).await.unwrap().is_applied());
    assert_eq!(engine.get(ROWS, &key(0)).await.unwrap_err().kind(), ErrorKind::Source);

    let (engine, source) = alone(|rows| rows.ttl(MINUTE)).await;
    engine.get(ROWS, &key(0)).await.unwrap();
    source.fail("down");
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(engine.get(ROWS, &key(0)).await.unwrap_err().kind(), ErrorKind::Source);
}

#[tokio::test]
async fn source_is_asked_by_so_many_at_once_and_what_finds_the_queue_full_is_refused() {
    let (engine, source) = alone(|rows| rows.max_loads(2, 3)).await;
    source.hold();
    let mut reads = JoinSet::new();
    for n in 0..10 {
        let engine = engine.clone();
        reads.spawn(async move { engine.get(ROWS, &key(n)).await });
    }
    source.until_held(2).await;
    for _ in 0..5 {
        let refused = reads.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
    }
    assert_eq!(source.fetches(), 2);
    source.release();
    while let Some(read) = reads.join_next().await {
        assert_eq!(read.unwrap().unwrap().as_deref(), Some(&b"v1"[..]));
    }
    assert_eq!(source.fetches(), 5);
}

#[tokio::test(start_paused = true)]
async fn load_that_waited_past_its_callers_deadline_is_never_made() {
    let source = Source::new(&Database::with_rows(10));
    let keyspace = SourceKeySpace::new(ROWS, source.clone()).max_loads(1, 10);
    let builder = Engine::builder().keyspace(keyspace);
    let engine = builder.read_timeout(Duration::from_secs(1)).start().await.unwrap();
    source.hold();
    let first = tokio::spawn({
        let engine = engine.clone();
        async move { engine.get(ROWS, &key(0)).await }
    });
    source.until_held(1).await;
    assert_eq!(engine.get(ROWS, &key(1)).await.unwrap_err().kind(), ErrorKind::Timeout);
    source.release();
    assert!(first.await.unwrap().is_err(), "it was held for longer than its deadline");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(source.fetches(), 1);
    assert_eq!(engine.get(ROWS, &key(1)).await.unwrap().as_deref(), Some(&b"v1"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_dead_owner_are_loaded_once_though_all_ask_for_them() {
    let mut cluster = TestCluster::start(4, 60, Links::Plain).await;
    drop(cluster.nodes.pop());
    let mut reads = JoinSet::new();
    for node in &cluster.nodes {
        for n in 0..60 {
            for _ in 0..3 {
                let engine = node.engine.clone();
                reads.spawn(async move { engine.get(ROWS, &key(n)).await });
            }
        }
    }
    while let Some(read) = reads.join_next().await {
        assert_eq!(read.unwrap().unwrap().as_deref(), Some(&b"v1"[..]), "right after the death of a node");
    }
    let fetches = cluster.fetches();
    assert_eq!(fetches, 60, "each key once, by its owner or by who acts for it");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_in_anothers_place_goes_soon() {
    let mut cluster = TestCluster::start(0, 60, Links::Plain).await;
    for n in 0..3 {
        let source = Source::new(&cluster.database);
        let name = format!("node-{n}");
        let builder = cluster.builder(&name, &source).failover_ttl(Duration::from_millis(300));
        let engine = match cluster.nodes.first() {
            None => builder.discovery(crate::harness::Nobody).start().await.unwrap(),
            Some(seed) => {
                let seeds = distcache::StaticProvider::new([seed.addr().to_string()]);
                builder.discovery(seeds).start().await.unwrap()
            }
        };
        cluster.nodes.push(crate::harness::Node { engine, source });
    }
    cluster.settle(3).await;
    let mut theirs = None;
    for n in 0..60 {
        if cluster.owner_of(&key(n)).await == 2 {
            theirs = Some(key(n));
            break;
        }
    }
    let theirs = theirs.expect("one of sixty keys");
    drop(cluster.nodes.pop());
    let before = cluster.fetches();
    let started = Instant::now();
    for _ in 0..10 {
        cluster.nodes[0].read(&theirs).await;
        cluster.nodes[1].read(&theirs).await;
    }
    // The dead owner leaves the ring no sooner than after its suspicion, seconds from now.
    if started.elapsed() < Duration::from_millis(250) {
        assert_eq!(cluster.fetches(), before + 1, "it is kept");
    }
    assert_eq!(cluster.nodes[0].engine.members().len(), 3, "the test says nothing once the ring has moved");
    let fetched_again = || cluster.fetches() > before + 1;
    let deadline = Instant::now() + Duration::from_secs(1);
    while !fetched_again() {
        assert!(Instant::now() < deadline, "it is kept for longer than 300 ms");
        cluster.nodes[0].read(&theirs).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("the others see that it is gone", || cluster.nodes[0].engine.members().len() == 2).await;
    cluster.shutdown().await;
}
