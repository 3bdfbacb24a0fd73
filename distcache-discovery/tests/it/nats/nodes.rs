//! Nodes come, go, crash and come back.

use std::time::{Duration, Instant};

use distcache_discovery::{Change, ChangeStream, NatsProvider, Provider, Seed};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::server::Server;
use super::{NOBODY, addr, eventually, found, node, published, quick};

/// Runs a test on a subject and in a bucket.
macro_rules! both_ways {
    ($server:ident, $provider:ident, $test:block) => {
        let Some($server) = Server::start("") else { return };
        let $provider = || quick(&$server);
        $test;
        let $provider = || quick(&$server).key_value("nodes");
        $test
    };
}

async fn told(changes: &mut ChangeStream, wanted: Change) {
    let told = async { while changes.next().await.is_some_and(|change| change != wanted) {} };
    timeout(Duration::from_secs(20), told).await.unwrap_or_else(|_| panic!("{wanted:?} was not told"));
}

#[tokio::test]
async fn a_late_joiner_finds_all_with_its_first_question() {
    both_ways!(server, provider, {
        let (_one, _two) = (published(provider(), 1).await, published(provider(), 2).await);
        let late = provider();
        late.start().await.unwrap();
        assert_eq!(found(&late).await, [1, 2]);
    });
}

#[tokio::test]
async fn a_node_that_crashes_is_forgotten() {
    both_ways!(server, provider, {
        let (one, two) = (published(provider(), 1).await, published(provider(), 2).await);
        eventually("they see each other", || async { found(&one).await == [2] }).await;
        let mut changes = one.changes().unwrap();
        let crashed = Instant::now();
        // Without a word.
        drop(two);
        told(&mut changes, Change::Remove(Seed::new(addr(2), "nats"))).await;
        assert!(crashed.elapsed() > Duration::from_millis(400), "after {:?}", crashed.elapsed());
        assert_eq!(found(&one).await, NOBODY);
        // The server forgets it too, a little later.
        eventually("a newcomer finds no trace of it", || async {
            let late = provider();
            late.start().await.unwrap();
            found(&late).await == [1]
        })
        .await;
    });
}

#[tokio::test]
async fn a_node_that_was_withdrawn_is_quiet_and_still_finds_others() {
    both_ways!(server, provider, {
        let (one, two) = (published(provider(), 1).await, published(provider(), 2).await);
        two.deregister().await.unwrap();
        eventually("it is gone", || async { found(&one).await.is_empty() }).await;
        // For longer than it is believed, and longer than many heartbeats.
        for _ in 0..5 {
            assert_eq!(found(&one).await, NOBODY);
        }
        assert_eq!(found(&two).await, [1]);
    });
}

#[tokio::test]
async fn a_leaver_is_forgotten_at_once_and_not_only_when_it_is_silent() {
    both_ways!(server, provider, {
        // Silence would take 35 s.
        let slow = || provider().heartbeat(Duration::from_secs(10));
        let (one, two, three) = (published(slow(), 1).await, published(slow(), 2).await, published(slow(), 3).await);
        assert_eq!(found(&one).await, [2, 3]);
        let left = Instant::now();
        two.deregister().await.unwrap();
        three.stop().await.unwrap();
        eventually("both are gone", || async { found(&one).await.is_empty() }).await;
        assert!(left.elapsed() < Duration::from_secs(8), "after {:?}", left.elapsed());
        one.stop().await.unwrap();
    });
}

#[tokio::test]
async fn a_second_registration_takes_the_place_of_the_first() {
    both_ways!(server, provider, {
        let (one, two) = (published(provider(), 1).await, published(provider(), 2).await);
        eventually("they see each other", || async { found(&one).await == [2] }).await;
        two.register(&node(3)).await.unwrap();
        eventually("it moved", || async { found(&one).await == [3] }).await;
    });
}

#[tokio::test]
async fn a_node_that_is_started_again_at_its_address_stays() {
    both_ways!(server, provider, {
        let one = published(provider(), 1).await;
        let former = published(provider(), 2).await;
        let again = published(provider(), 2).await;
        eventually("they see each other", || async { found(&one).await == [2] }).await;
        // The leave of the former life comes late.
        former.stop().await.unwrap();
        for _ in 0..5 {
            assert_eq!(found(&one).await, [2]);
        }
        again.stop().await.unwrap();
        eventually("it is gone", || async { found(&one).await.is_empty() }).await;
    });
}

#[tokio::test]
async fn clusters_on_one_server_do_not_meet() {
    let Some(server) = Server::start("") else { return };
    let on = |subject: &str| NatsProvider::new(server.url(), subject).answer_window(Duration::from_millis(100));
    let both = |provider: NatsProvider, bucket: bool| if bucket { provider.key_value("nodes") } else { provider };
    for bucket in [false, true] {
        let here = published(both(on("distcache.a"), bucket), 1).await;
        let there = published(both(on("distcache.b"), bucket), 2).await;
        let others = published(both(on("distcache"), bucket), 3).await;
        for provider in [&here, &there, &others] {
            assert_eq!(found(provider).await, NOBODY);
            assert_eq!(provider.malformed(), 0);
        }
    }
}

#[tokio::test]
async fn the_stream_of_changes_ends_with_the_provider() {
    let Some(server) = Server::start("") else { return };
    let provider = quick(&server);
    assert!(provider.changes().is_none());
    provider.start().await.unwrap();
    let mut changes = provider.changes().unwrap();
    provider.stop().await.unwrap();
    assert_eq!(timeout(Duration::from_secs(10), changes.next()).await, Ok(None));
}

#[tokio::test]
async fn what_peers_would_drop_is_not_published() {
    let Some(server) = Server::start("") else { return };
    let provider = quick(&server);
    provider.start().await.unwrap();
    let mut wrong = node(1);
    wrong.name = "a\nb".to_owned();
    wrong.addr.set_port(0);
    let error = provider.register(&wrong).await.unwrap_err().to_string();
    assert!(error.contains("name") && error.contains("addr"), "{error}");
}
