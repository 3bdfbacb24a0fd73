//! Keyspaces come, change and go on all nodes.

use distcache::{Engine, Entry, ErrorKind, Outcome, SourceKeySpace};

use crate::harness::{Database, Links, Node, ROWS, Source, TestCluster, key, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_keyspace_is_gone_on_every_node() {
    let cluster = TestCluster::start(3, 30, Links::Plain).await;
    for n in 0..30 {
        cluster.nodes[0].read(&key(n)).await;
    }
    let handle = cluster.nodes[1].engine.keyspace(ROWS).unwrap();
    assert_eq!(cluster.nodes[0].engine.delete_keyspace(ROWS).await.unwrap(), Outcome::Applied);
    for node in &cluster.nodes {
        assert!(node.engine.local_keyspaces().is_empty());
        let error = node.engine.get(ROWS, &key(0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownKeySpace);
    }
    assert_eq!(
        handle.get(&key(0)).await.unwrap_err().kind(),
        ErrorKind::UnknownKeySpace,
        "a handle does not outlive it"
    );
    assert_eq!(cluster.nodes[0].engine.delete_keyspace(ROWS).await.unwrap_err().kind(), ErrorKind::UnknownKeySpace);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_that_a_peer_does_not_know_is_a_typed_error_with_the_peers_name() {
    let cluster = TestCluster::start(2, 0, Links::Plain).await;
    let database = Database::with_rows(40);
    let source = Source::new(&database);
    cluster.nodes[0].engine.add_keyspace(SourceKeySpace::new("extra", source)).unwrap();
    let mut from_peer = 0;
    for n in 0..40 {
        match cluster.nodes[0].engine.get("extra", &key(n)).await {
            Ok(value) => assert_eq!(value.as_deref(), Some(&b"v1"[..])),
            Err(error) => {
                assert_eq!((error.kind(), error.peer()), (ErrorKind::UnknownKeySpace, Some("node-1")));
                from_peer += 1;
            }
        }
    }
    assert!((5..35).contains(&from_peer), "{from_peer} of 40 keys belong to the peer");
    cluster.shutdown().await;
}

/// A keyspace that only some nodes have, each with a source of its own over the same rows.
fn extra(database: &Database) -> (SourceKeySpace, Source) {
    let source = Source::new(database);
    (SourceKeySpace::new("extra", source.clone()), source)
}

#[tokio::test(flavor = "multi_thread")]
async fn keyspaces_are_listed_with_the_nodes_that_have_them_and_without_those_that_do_not_answer() {
    let mut cluster = TestCluster::start(3, 1, Links::Plain).await;
    let [a, b, c] = ["node-0", "node-1", "node-2"].map(str::to_owned);
    let database = Database::with_rows(1);
    cluster.nodes[0].engine.add_keyspace(extra(&database).0).unwrap();
    cluster.nodes[2].engine.add_keyspace(extra(&database).0).unwrap();
    for node in &cluster.nodes {
        let listing = node.engine.keyspaces().await.unwrap();
        assert!(listing.is_complete(), "{listing:?}");
        assert_eq!(listing.names().collect::<Vec<_>>(), ["extra", ROWS]);
        assert_eq!(listing.nodes_by_name["extra"], [a.clone(), c.clone()]);
        assert_eq!(listing.nodes_by_name[ROWS], [a.clone(), b.clone(), c.clone()]);
    }
    drop(cluster.nodes.pop());
    // What is dropped may answer for a last moment; it leaves the ring only seconds later.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(3);
    let listing = loop {
        let listing = cluster.nodes[0].engine.keyspaces().await.unwrap();
        if !listing.is_complete() {
            break listing;
        }
        assert!(tokio::time::Instant::now() < deadline, "a dead node answers");
    };
    assert_eq!((listing.unanswered, &listing.nodes_by_name["extra"]), (vec![c], &vec![a]));
    assert_eq!(cluster.nodes[0].engine.local_keyspaces(), ["extra", ROWS]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_that_is_rolled_out_works_for_more_keys_with_each_node_and_for_all_with_the_last() {
    let cluster = TestCluster::start(3, 0, Links::Plain).await;
    let (database, mut sources, mut failures) = (Database::with_rows(60), Vec::new(), vec![60]);
    for node in &cluster.nodes {
        let (space, source) = extra(&database);
        node.engine.add_keyspace(space).unwrap();
        sources.push(source);
        let mut failed = 0;
        for n in 0..60 {
            match cluster.nodes[0].engine.get("extra", &key(n)).await {
                Ok(value) => assert_eq!(value.as_deref(), Some(&b"v1"[..])),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::UnknownKeySpace);
                    let put = cluster.nodes[0].engine.put("extra", Entry::new(key(n), "v2")).await.unwrap_err();
                    assert_eq!((put.kind(), put.peer()), (ErrorKind::UnknownKeySpace, error.peer()));
                    assert!(error.peer().is_some_and(|peer| peer != "node-0"), "{error}");
                    let deleted = cluster.nodes[0].engine.delete("extra", &key(n)).await.unwrap();
                    assert_eq!(deleted, Outcome::Applied, "who does not know it holds nothing of it");
                    failed += 1;
                }
            }
        }
        assert!(
            failed < *failures.last().unwrap(),
            "{failed} of 60 keys belong to nodes that do not know the keyspace"
        );
        failures.push(failed);
    }
    assert_eq!(failures[3], 0);
    let fetches: Vec<_> = sources.iter().map(Source::fetches).collect();
    assert!(fetches.iter().sum::<u64>() == 60 && fetches.iter().all(|count| *count > 0), "each key once: {fetches:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_that_only_some_nodes_have_is_updated_and_deleted_where_it_is() {
    let cluster = TestCluster::start(3, 0, Links::Plain).await;
    let database = Database::with_rows(40);
    for node in &cluster.nodes[..2] {
        node.engine.add_keyspace(extra(&database).0).unwrap();
    }
    let engine = |n: usize| &cluster.nodes[n].engine;
    assert_eq!(engine(0).update_keyspace(extra(&database).0).await.unwrap(), Outcome::Applied);
    assert_eq!(engine(2).local_keyspaces(), [ROWS], "nobody is given a keyspace");
    let unknown = engine(2).delete_keyspace("extra").await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.peer()), (ErrorKind::UnknownKeySpace, None));
    assert_eq!(engine(1).delete_keyspace("extra").await.unwrap(), Outcome::Applied);
    assert_eq!(engine(0).keyspaces().await.unwrap().names().collect::<Vec<_>>(), [ROWS]);

    // And it can be defined anew, everywhere, with nothing left of what it was.
    let database = Database::default();
    (0..40).for_each(|n| database.set(&key(n), "anew"));
    let define = |node: &Node| {
        let (space, source) = extra(&database);
        node.engine.add_keyspace(space).unwrap();
        source
    };
    let sources: Vec<_> = cluster.nodes.iter().map(define).collect();
    for n in 0..40 {
        for node in &cluster.nodes {
            assert_eq!(node.engine.get("extra", &key(n)).await.unwrap().as_deref(), Some(&b"anew"[..]));
        }
    }
    assert_eq!(sources.iter().map(Source::fetches).sum::<u64>(), 40);
    assert_eq!(engine(0).keyspaces().await.unwrap().nodes_by_name["extra"].len(), 3);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_updated_keyspace_reads_from_its_new_source_and_is_emptied_everywhere() {
    let cluster = TestCluster::start(2, 40, Links::Plain).await;
    for n in 0..40 {
        cluster.nodes[0].read(&key(n)).await;
    }
    let old = cluster.nodes[0].engine.keyspace(ROWS).unwrap();
    let database = Database::with_rows(0);
    (0..40).for_each(|n| database.set(&key(n), "new source"));
    for node in &cluster.nodes {
        let updated = SourceKeySpace::new(ROWS, Source::new(&database));
        assert_eq!(node.engine.update_keyspace(updated).await.unwrap(), Outcome::Applied);
    }
    for node in &cluster.nodes {
        for n in 0..40 {
            assert_eq!(node.read(&key(n)).await.as_deref(), Some("new source"));
        }
    }
    assert_eq!(old.get(&key(0)).await.unwrap().as_deref(), Some(&b"new source"[..]), "a handle follows its name");
    let unknown = SourceKeySpace::new("unknown", Source::new(&database));
    assert_eq!(cluster.nodes[0].engine.update_keyspace(unknown).await.unwrap_err().kind(), ErrorKind::UnknownKeySpace);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_keeps_a_keyspace_that_was_deleted_before_it_was_defined() {
    let mut cluster = TestCluster::start(2, 10, Links::Plain).await;
    assert_eq!(cluster.nodes[0].engine.delete_keyspace(ROWS).await.unwrap(), Outcome::Applied);
    // "Before" means by more than a message takes.
    let deleted = std::time::Instant::now();
    until("the delete lies in the past", || deleted.elapsed().as_millis() > 200).await;
    let joiner = cluster.node("node-2", 3).await;
    cluster.nodes.push(joiner);
    cluster.settle(3).await;
    for node in &cluster.nodes[..2] {
        node.engine.add_keyspace(SourceKeySpace::new(ROWS, node.source.clone())).unwrap();
    }
    for node in &cluster.nodes {
        for n in 0..10 {
            assert_eq!(node.read(&key(n)).await.as_deref(), Some("v1"));
        }
        assert_eq!(node.engine.local_keyspaces(), [ROWS]);
    }
    cluster.shutdown().await;
}

#[tokio::test]
async fn memory_of_a_deleted_keyspace_is_given_back_though_a_handle_to_it_is_kept() {
    let database = Database::with_rows(1);
    let engine = Engine::builder().keyspace(SourceKeySpace::new(ROWS, Source::new(&database))).start().await.unwrap();
    let entries = (0..5_000).map(|n| Entry::new(key(n), vec![7; 100])).collect();
    assert!(engine.put_many(ROWS, entries).await.unwrap().iter().all(|put| *put.as_ref().unwrap() == Outcome::Applied));
    let handle = engine.keyspace(ROWS).unwrap();
    assert_eq!(handle.stats().entries, 5_000);
    assert_eq!(engine.delete_keyspace(ROWS).await.unwrap(), Outcome::Applied);
    assert_eq!(handle.stats().entries, 0);
    until("its memory is given back", || handle.stats().bytes == 0).await;
}

/// Run it alone, with `--release`: `cargo test -p distcache --release --test it -- --ignored --nocapture million`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: a million entries take a while to make"]
async fn deleting_a_keyspace_of_a_million_entries_takes_its_caller_ten_milliseconds() {
    const ENTRIES: usize = 1_000_000;
    for nodes in [1, 3] {
        let cluster = TestCluster::start(nodes, 0, Links::Plain).await;
        let space = |node: &Node| SourceKeySpace::new("million", node.source.clone()).max_bytes(2 << 30);
        cluster.nodes.iter().for_each(|node| node.engine.add_keyspace(space(node)).unwrap());
        for batch in 0..ENTRIES / 4_000 {
            let entries = (0..4_000).map(|n| Entry::new(key(batch * 4_000 + n), vec![7; 100])).collect();
            drop(cluster.nodes[0].engine.put_many("million", entries).await.unwrap());
        }
        let handles: Vec<_> = cluster.nodes.iter().map(|node| node.engine.keyspace("million").unwrap()).collect();
        let held: u64 = handles.iter().map(|handle| handle.stats().entries).sum();
        assert_eq!(held, ENTRIES as u64);
        let begun = std::time::Instant::now();
        let outcome = cluster.nodes[0].engine.delete_keyspace("million").await.unwrap();
        let took = begun.elapsed();
        println!("{nodes} nodes, {held} entries: {took:?}");
        assert_eq!(outcome, Outcome::Applied);
        assert!(handles.iter().all(|handle| handle.stats().entries == 0), "and it is gone everywhere");
        assert!(took.as_millis() <= 10, "{took:?}");
        until("the memory is given back", || handles.iter().all(|handle| handle.stats().bytes == 0)).await;
        println!("{nodes} nodes: given back after {:?}", begun.elapsed());
        cluster.shutdown().await;
    }
}

#[tokio::test]
async fn several_keyspaces_are_removed_together_or_not_at_all() {
    let database = Database::with_rows(1);
    let mut builder = Engine::builder();
    for name in ["a", "b", "c"] {
        builder = builder.keyspace(SourceKeySpace::new(name, Source::new(&database)));
    }
    let engine = builder.start().await.unwrap();
    assert_eq!(engine.local_keyspaces(), ["a", "b", "c"]);
    let error = engine.delete_keyspaces(&["a", "nobody"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKeySpace);
    assert_eq!(engine.local_keyspaces(), ["a", "b", "c"]);
    assert_eq!(engine.delete_keyspaces(&["a", "c"]).await.unwrap(), Outcome::Applied);
    assert_eq!(engine.local_keyspaces(), ["b"]);
    until("nothing is pending", || engine.local_keyspaces().len() == 1).await;
}

#[tokio::test]
async fn a_keyspace_is_added_once_and_only_if_it_is_sound() {
    let database = Database::with_rows(1);
    let engine = Engine::builder().start().await.unwrap();
    let space = |name: &str| SourceKeySpace::new(name, Source::new(&database));
    engine.add_keyspace(space(ROWS)).unwrap();
    assert_eq!(engine.add_keyspace(space(ROWS)).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(engine.add_keyspace(space("")).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(engine.add_keyspace(space("small").max_bytes(0)).unwrap_err().list().len(), 1);
    assert_eq!(engine.get(ROWS, &key(0)).await.unwrap().as_deref(), Some(&b"v1"[..]));
}
