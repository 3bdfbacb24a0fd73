//! Servers that are away, say nothing, or come back; providers that are dropped.

use std::time::{Duration, Instant};

use distcache_discovery::{DiscoveryError, NatsProvider, Provider};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::server::Server;
use super::{NOBODY, SUBJECT, eventually, found, node, published, quick};

#[tokio::test]
async fn a_start_ends_in_its_own_time_when_nobody_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            streams.push(stream);
        }
    });
    let limit = Duration::from_millis(100);
    let provider = NatsProvider::new(url, SUBJECT).connect_timeout(limit).connect_attempts(3);
    let started = Instant::now();
    let error = provider.start().await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unavailable { .. }), "{error:?}");
    // Three attempts of 100 ms, and pauses of 80 to 100 ms and twice that.
    assert!(started.elapsed() >= Duration::from_millis(540), "{:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(matches!(provider.discover().await, Err(DiscoveryError::NotStarted { .. })));
    accepting.abort();
}

#[tokio::test]
async fn a_start_without_a_server_fails_after_its_attempts() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let provider = NatsProvider::new(format!("nats://{free}"), SUBJECT).connect_attempts(2);
    let started = Instant::now();
    assert!(matches!(provider.start().await, Err(DiscoveryError::Unavailable { .. })));
    assert!(started.elapsed() >= Duration::from_millis(80));
    // It is as it was, and may be started again.
    assert!(matches!(provider.start().await, Err(DiscoveryError::Unavailable { .. })));
}

#[tokio::test]
async fn a_start_that_was_dropped_leaves_the_provider_stopped() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = NatsProvider::new(format!("nats://{}", silent.local_addr().unwrap()), SUBJECT).connect_attempts(1);
    assert!(timeout(Duration::from_millis(50), provider.start()).await.is_err());
    assert!(matches!(provider.start().await, Err(DiscoveryError::Unavailable { .. })));
    // And one that is overtaken by a stop does not come to life after it.
    let (started, stopped) = tokio::join!(provider.start(), async {
        tokio::task::yield_now().await;
        assert!(matches!(provider.start().await, Err(DiscoveryError::AlreadyStarted { .. })));
        provider.stop().await
    });
    assert!(started.is_err() && stopped.is_ok());
}

#[tokio::test]
async fn a_second_server_is_tried_when_the_first_is_away() {
    let Some(server) = Server::start("") else { return };
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let both = NatsProvider::new(format!("nats://{free}"), SUBJECT).server(server.url()).connect_attempts(1);
    both.start().await.unwrap();
    assert_eq!(found(&both).await, NOBODY);
}

#[tokio::test]
async fn calls_end_in_time_while_the_server_is_away_and_heal() {
    let Some(server) = Server::start("") else { return };
    for bucket in [None, Some("nodes")] {
        let provider = || bucket.map_or_else(|| quick(&server), |bucket| quick(&server).key_value(bucket));
        let (one, two) = (published(provider(), 1).await, published(provider(), 2).await);
        eventually("they see each other", || async { found(&one).await == [2] }).await;
        server.kill();
        let asked = Instant::now();
        eventually("it is noticed", || async { one.discover().await.is_err() }).await;
        for _ in 0..20 {
            assert!(matches!(one.discover().await, Err(DiscoveryError::Unavailable { .. })));
        }
        // A registration is made up for.
        assert!(matches!(two.register(&node(3)).await, Err(DiscoveryError::Unavailable { .. })));
        let stopping = Instant::now();
        let third = one.deregister().await;
        assert!(matches!(third, Err(DiscoveryError::Unavailable { .. })), "{third:?}");
        assert!(stopping.elapsed() < Duration::from_secs(3) && asked.elapsed() < Duration::from_secs(15));
        server.run();
        eventually("the moved one is found", || async {
            one.discover().await.is_ok_and(|seeds| seeds.iter().map(|seed| seed.addr.port()).eq([3]))
        })
        .await;
        eventually("the one that left is not", || async { two.discover().await.is_ok_and(|seeds| seeds.is_empty()) })
            .await;
    }
}

#[tokio::test]
async fn a_server_that_was_away_for_longer_than_nodes_are_believed_takes_none_away() {
    let Some(server) = Server::start("") else { return };
    let (one, _two) = (published(quick(&server), 1).await, published(quick(&server), 2).await);
    eventually("they see each other", || async { found(&one).await == [2] }).await;
    let mut changes = one.changes().unwrap();
    server.kill();
    eventually("it is noticed", || async { one.discover().await.is_err() }).await;
    // The outage itself: longer than three and a half heartbeats, after which a silent node is forgotten.
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.run();
    eventually("it is back", || async { one.discover().await.is_ok() }).await;
    assert_eq!(found(&one).await, [2]);
    use futures_util::StreamExt as _;
    assert_eq!(futures_util::future::poll_immediate(changes.next()).await, None, "nothing had changed");
}

#[tokio::test]
async fn calls_end_in_time_while_the_server_hangs() {
    let Some(server) = Server::start("") else { return };
    for bucket in [None, Some("nodes")] {
        let provider = || bucket.map_or_else(|| quick(&server), |bucket| quick(&server).key_value(bucket));
        let (one, two) = (published(provider(), 1).await, published(provider(), 2).await);
        let again = node(1);
        server.freeze();
        let asked = Instant::now();
        let answers = tokio::join!(one.discover(), one.register(&again), two.deregister());
        let took = asked.elapsed();
        server.thaw();
        assert!(answers.0.is_err() && answers.1.is_err() && answers.2.is_err(), "{answers:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
        eventually("all is well again", || async {
            two.discover().await.is_ok_and(|seeds| seeds.iter().map(|seed| seed.addr.port()).eq([1]))
        })
        .await;
        eventually("the leave was made up for", || async { one.discover().await.is_ok_and(|seeds| seeds.is_empty()) })
            .await;
    }
}

#[tokio::test]
async fn a_bucket_that_is_deleted_is_made_again() {
    let Some(server) = Server::start("") else { return };
    let provider = || quick(&server).key_value("nodes");
    let (one, _two) = (published(provider(), 1).await, published(provider(), 2).await);
    eventually("they see each other", || async { found(&one).await == [2] }).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    context.delete_key_value("nodes").await.unwrap();
    let deleted = Instant::now();
    eventually("there is one", || async { context.get_key_value("nodes").await.is_ok() }).await;
    // Who only listens notices after 10 s.
    assert!(deleted.elapsed() < Duration::from_secs(6), "{:?}", deleted.elapsed());
    let late = published(provider(), 3).await;
    eventually("both are in it", || async { late.discover().await.is_ok_and(|seeds| seeds.len() == 2) }).await;
    eventually("it is heard of", || async { one.discover().await.is_ok_and(|seeds| seeds.len() == 2) }).await;
}

#[test]
fn a_provider_whose_runtime_is_gone_says_so_and_starts_again() {
    let Some(server) = Server::start("") else { return };
    let provider = quick(&server);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let provider = runtime().block_on(published(provider, 1));
    runtime().block_on(async {
        assert!(matches!(provider.discover().await, Err(DiscoveryError::Unavailable { .. })));
        let _ = provider.stop().await;
        provider.start().await.unwrap();
        provider.discover().await.unwrap();
        provider.stop().await.unwrap();
    });
}

#[tokio::test]
async fn a_stop_while_the_server_is_away_ends_in_time() {
    let Some(server) = Server::start("") else { return };
    let provider = published(quick(&server), 1).await;
    server.kill();
    let stopping = Instant::now();
    // Whether the loss was noticed or not.
    let _ = provider.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(3), "{:?}", stopping.elapsed());
    assert!(matches!(provider.discover().await, Err(DiscoveryError::NotStarted { .. })));
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_dropped_provider_leaves_no_task_behind() {
    let Some(server) = Server::start("") else { return };
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for bucket in [None, Some("nodes")] {
        let provider = || bucket.map_or_else(|| quick(&server), |bucket| quick(&server).key_value(bucket));
        let dropped = published(provider(), 1).await;
        let stopped = published(provider(), 2).await;
        assert!(tasks() > before);
        drop(dropped);
        stopped.stop().await.unwrap();
        eventually("all tasks end", || async { tasks() == before }).await;
        // While there is no server, too.
        let dropped = published(provider(), 3).await;
        server.kill();
        eventually("it is noticed", || async { dropped.discover().await.is_err() }).await;
        drop(dropped);
        eventually("all tasks end without a server", || async { tasks() == before }).await;
        server.run();
    }
}
