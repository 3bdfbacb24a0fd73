//! A node that stands alone: the engine without a network.

use std::time::Duration;

use distcache::{Engine, Entry, ErrorKind, Event, Expiry, KeySpace, Outcome, SourceKeySpace};

use crate::harness::{Database, ROWS, Source, key};

async fn alone(rows: usize) -> (Engine, Source, Database) {
    let database = Database::with_rows(rows);
    let source = Source::new(&database);
    let engine = Engine::builder().keyspace(SourceKeySpace::new(ROWS, source.clone())).start().await.unwrap();
    (engine, source, database)
}

#[tokio::test]
async fn ten_reads_are_one_load() {
    let (engine, source, _) = alone(1).await;
    for _ in 0..10 {
        assert_eq!(engine.get(ROWS, &key(0)).await.unwrap().as_deref(), Some(&b"v1"[..]));
    }
    assert_eq!(source.fetches(), 1);
    assert_eq!(engine.local_addr(), None);
    assert_eq!(engine.members().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_value_goes_when_its_time_is_up() {
    let database = Database::with_rows(1);
    let source = Source::new(&database);
    let keyspace = SourceKeySpace::new(ROWS, source.clone()).ttl(Duration::from_secs(60));
    let engine = Engine::builder().keyspace(keyspace).start().await.unwrap();
    engine.get(ROWS, &key(0)).await.unwrap();
    tokio::time::advance(Duration::from_secs(59)).await;
    engine.get(ROWS, &key(0)).await.unwrap();
    assert_eq!(source.fetches(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    engine.get(ROWS, &key(0)).await.unwrap();
    assert_eq!(source.fetches(), 2);

    assert_eq!(
        engine.put(ROWS, Entry::new(key(0), "put").ttl(Duration::from_secs(5))).await.unwrap(),
        Outcome::Applied
    );
    assert_eq!(engine.get(ROWS, &key(0)).await.unwrap().as_deref(), Some(&b"put"[..]));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(engine.get(ROWS, &key(0)).await.unwrap().as_deref(), Some(&b"v1"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_keyspace_may_give_each_key_its_own_expiry() {
    struct ByKey(Source);
    impl KeySpace for ByKey {
        fn name(&self) -> &str {
            ROWS
        }
        fn max_bytes(&self) -> u64 {
            1_000_000
        }
        fn data_source(&self) -> std::sync::Arc<dyn distcache::DataSource> {
            std::sync::Arc::new(self.0.clone())
        }
        fn expires_at(&self, key: &str) -> Expiry {
            if key == "row:0" { Expiry::After(Duration::from_secs(1)) } else { Expiry::Never }
        }
    }
    let source = Source::new(&Database::with_rows(2));
    let engine = Engine::builder().keyspace(ByKey(source.clone())).start().await.unwrap();
    for _ in 0..2 {
        engine.get(ROWS, &key(0)).await.unwrap();
        engine.get(ROWS, &key(1)).await.unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    assert_eq!(source.fetches(), 3, "one key twice, the other once");
}

#[tokio::test(start_paused = true)]
async fn a_hung_source_ends_in_a_timeout_and_the_next_read_starts_afresh() {
    let source = Source::new(&Database::with_rows(1));
    let keyspace = SourceKeySpace::new(ROWS, source.clone()).load_timeout(Duration::from_secs(1));
    let engine = Engine::builder().keyspace(keyspace).start().await.unwrap();
    source.hold();
    let before = tokio::time::Instant::now();
    let error = engine.get(ROWS, &key(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(before.elapsed().as_secs(), 1, "the load's own timeout ended it, not the caller's");
    source.release();
    assert_eq!(engine.get(ROWS, &key(0)).await.unwrap().as_deref(), Some(&b"v1"[..]));
    assert_eq!(source.fetches(), 2);
}

#[tokio::test]
async fn limits_are_typed_errors_and_evict_nothing() {
    let (engine, _, _) = alone(1).await;
    let users = engine.keyspace(ROWS).unwrap();
    users.get(&key(0)).await.unwrap();
    assert!(users.put(Entry::new("other", "v1")).await.unwrap().is_applied());
    let before = users.stats().entries;

    let long_key = "k".repeat(1_025);
    for bad in ["", &long_key] {
        assert_eq!(users.get(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(users.put(Entry::new(bad, "v")).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(users.delete(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let large = vec![0u8; 1_024 * 1_024 + 1];
    assert_eq!(users.put(Entry::new("large", large.clone())).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(users.stats().entries, before);
    assert_eq!(users.stats().evictions, 0);
    assert!(users.get(&"k".repeat(1_024)).await.is_ok(), "the limit itself is fine");

    assert_eq!(users.put(Entry::new("other", large)).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(users.get("other").await.unwrap(), None, "the old value does not outlive a put that was refused");
}

#[tokio::test]
async fn a_value_larger_than_the_keyspace_is_refused_and_evicts_nothing() {
    let source = Source::new(&Database::with_rows(4));
    let keyspace = SourceKeySpace::new(ROWS, source).max_bytes(64 * 1_024);
    let engine = Engine::builder().keyspace(keyspace).start().await.unwrap();
    for n in 0..4 {
        engine.get(ROWS, &key(n)).await.unwrap();
    }
    let error = engine.put(ROWS, Entry::new("large", vec![0u8; 64 * 1_024])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(engine.keyspace(ROWS).unwrap().stats().entries, 4);
}

#[tokio::test]
async fn the_first_event_is_the_snapshot() {
    let (engine, _, _) = alone(0).await;
    let Some(Event::Snapshot(members)) = engine.events().next().await else {
        panic!("the first event is the snapshot")
    };
    assert_eq!(members, engine.members());
    assert!(members[0].is_self);
}
