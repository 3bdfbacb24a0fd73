//! How the answer follows what happens, and what is asked for it.

use std::time::Duration;

use distcache_discovery::{Change, ChangeStream, Provider, Seed};
use distcache_kube_api::{Fault, Pod, Verb};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::{eventually, found, ip, pod, server_of, started, watched};

fn seed(last: u8) -> Seed {
    Seed::new((ip(last), 3320).into(), "kubernetes")
}

async fn next(changes: &mut ChangeStream) -> Change {
    timeout(Duration::from_secs(20), changes.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn changes_are_told_and_answered_without_a_list() {
    let server = server_of(&[pod(1)]).await;
    let provider = started(&server).await;
    watched(&server, &provider).await;
    let lists = server.requests(Verb::List);
    let (mut changes, mut others) = (provider.changes().unwrap(), provider.changes().unwrap());

    server.put_pod(&Pod::starting("cache-2", ip(2)));
    assert_eq!(next(&mut changes).await, Change::Insert(seed(2)));
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320", "10.0.0.2:3320"]);
    // It becomes ready, which changes nothing; then it gets another address.
    server.put_pod(&pod(2));
    server.put_pod(&Pod::ready("cache-2", ip(3)));
    assert_eq!(next(&mut changes).await, Change::Remove(seed(2)));
    assert_eq!(next(&mut changes).await, Change::Insert(seed(3)));
    // It is told to end, and ends.
    let mut ending = Pod::ready("cache-2", ip(3));
    ending.terminating = true;
    server.put_pod(&ending);
    assert_eq!(next(&mut changes).await, Change::Remove(seed(3)));
    server.remove_pod("cache-2");
    server.remove_pod("cache-1");
    assert_eq!(next(&mut changes).await, Change::Remove(seed(1)));
    assert!(found(&provider).await.unwrap().is_empty());
    assert_eq!(server.requests(Verb::List), lists, "everything came from the watch");
    assert_eq!(next(&mut others).await, Change::Insert(seed(2)), "each stream has every change");
}

#[tokio::test]
async fn a_pod_that_loses_its_label_goes() {
    let server = server_of(&[pod(1), pod(2)]).await;
    let provider = started(&server).await;
    watched(&server, &provider).await;
    let mut changes = provider.changes().unwrap();
    let mut other = pod(2);
    other.labels.clear();
    server.put_pod(&other);
    assert_eq!(next(&mut changes).await, Change::Remove(seed(2)));
}

#[tokio::test]
async fn a_watch_that_was_cut_goes_on_where_it_was() {
    let server = server_of(&[pod(1)]).await;
    let provider = started(&server).await;
    watched(&server, &provider).await;
    let (lists, watches) = (server.requests(Verb::List), server.requests(Verb::Watch));
    let mut changes = provider.changes().unwrap();

    // While it cannot be open, what happens is missed.
    server.plant(Verb::Watch, Some(Fault::Internal));
    server.cut_watches();
    eventually("the watch is tried again", || async { server.requests(Verb::Watch) > watches }).await;
    server.put_pod(&pod(2));
    server.remove_pod("cache-1");
    server.plant(Verb::Watch, None);
    assert_eq!(next(&mut changes).await, Change::Remove(seed(1)));
    assert_eq!(next(&mut changes).await, Change::Insert(seed(2)));
    assert_eq!(server.requests(Verb::List), lists, "it went on from its version");
}

#[tokio::test]
async fn a_version_that_is_too_old_leads_to_a_list() {
    let server = server_of(&[pod(1)]).await;
    let provider = started(&server).await;
    watched(&server, &provider).await;
    let mut changes = provider.changes().unwrap();
    // First within the watch, then as it is opened.
    for (round, last) in (2..).take(2).enumerate() {
        let (lists, watches) = (server.requests(Verb::List), server.requests(Verb::Watch));
        if round == 1 {
            server.plant(Verb::Watch, Some(Fault::Gone));
            server.cut_watches();
            eventually("the version is refused", || async { server.requests(Verb::Watch) > watches }).await;
            server.plant(Verb::Watch, None);
        } else {
            server.compact();
        }
        server.put_pod(&pod(last));
        assert_eq!(next(&mut changes).await, Change::Insert(seed(last)));
        assert!(server.requests(Verb::List) > lists);
    }
}

#[tokio::test]
async fn bookmarks_move_the_version_on() {
    let server = server_of(&[pod(1)]).await;
    server.set_bookmark_interval(Duration::from_millis(20));
    let provider = started(&server).await;
    watched(&server, &provider).await;
    let (lists, watches) = (server.requests(Verb::List), server.requests(Verb::Watch));
    // A pod that is none of ours makes a version, of which a bookmark alone tells. Then all before it is forgotten.
    let mut other = pod(9);
    other.labels.clear();
    server.put_pod(&other);
    let bookmarks = server.bookmarks();
    eventually("bookmarks of the new version come", || async { server.bookmarks() > bookmarks + 1 }).await;
    server.forget();
    server.cut_watches();
    eventually("the watch is open again", || async { server.requests(Verb::Watch) > watches }).await;
    watched(&server, &provider).await;
    let of_own = server.requests(Verb::List) - lists;
    let mut changes = provider.changes().unwrap();
    server.put_pod(&pod(2));
    assert_eq!(next(&mut changes).await, Change::Insert(seed(2)));
    assert_eq!(server.requests(Verb::Watch), watches + 1, "the version was not too old, after {of_own} lists of calls");
}

#[tokio::test]
async fn stop_ends_the_streams_and_all_requests() {
    let server = server_of(&[pod(1)]).await;
    let provider = started(&server).await;
    watched(&server, &provider).await;
    let mut changes = provider.changes().unwrap();
    provider.stop().await.unwrap();
    assert_eq!(changes.next().await, None);
    eventually("the watch is closed", || async { server.watches() == 0 }).await;

    provider.start().await.unwrap();
    watched(&server, &provider).await;
    drop(provider);
    eventually("the watch of a dropped provider is closed", || async { server.watches() == 0 }).await;
}
