//! A strict write returns when no node can serve what was there before, or says which might.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use distcache_cluster::{Delivery, NodeName, PutEntry, Stored, WriteMode};
use distcache_transport::Method;
use tokio::time::Instant;

use crate::harness::{Net, ROWS, name};

const PATIENCE: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_millis(300);

fn rows() -> Arc<str> {
    ROWS.into()
}

async fn delete(net: &Net, writer: usize, key: &str, mode: WriteMode) -> Delivery {
    net.nodes[writer].cluster.delete_with(&rows(), &[key], mode, PATIENCE).await
}

#[tokio::test(start_paused = true)]
async fn a_strict_delete_waits_for_a_node_that_hears_late_and_a_plain_one_does_not() {
    let net = Net::start(3).await;
    let key = net.key_of(1);
    net.delay(1, 2, LATE);
    for writer in [0, 1] {
        net.nodes[2].store.hold(&key);
        assert!(delete(&net, writer, &key, WriteMode::Owner).await.pending.is_empty());
        assert!(net.nodes[2].store.holds(&key), "only the owner has acknowledged");

        net.nodes[2].store.hold(&key);
        let begun = Instant::now();
        assert!(delete(&net, writer, &key, WriteMode::Strict).await.pending.is_empty());
        assert!(net.nodes.iter().all(|node| !node.store.holds(&key)), "nobody can serve it");
        assert!((LATE..2 * LATE + LATE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_strict_put_waits_likewise_and_is_stored_by_the_owner_alone() {
    let net = Net::start(3).await;
    let key = net.key_of(1);
    net.delay(1, 2, LATE);
    for writer in [0, 1] {
        net.nodes[2].store.hold(&key);
        let entry = PutEntry { key: key.as_str().into(), value: Bytes::from_static(b"new"), ttl: None };
        let stored = net.nodes[writer].cluster.put_with(&rows(), vec![entry], WriteMode::Strict, PATIENCE).await;
        assert_eq!(stored, [Stored::Yes]);
        assert!(!net.nodes[2].store.holds(&key) && net.nodes[1].store.holds(&key));
    }
}

#[tokio::test(start_paused = true)]
async fn a_strict_write_names_a_node_that_does_not_acknowledge_after_a_lease_and_no_later() {
    let net = Net::start(3).await;
    let key = net.key_of(1);
    // Owner and third node do not see one another; the writer vouches for both, and can reach both.
    net.cut(1, 2);
    net.nodes[2].store.hold(&key);
    let begun = Instant::now();
    assert_eq!(delete(&net, 0, &key, WriteMode::Strict).await.pending, [name(2)]);
    let lease = net.config.near_ttl;
    assert!((lease..lease + LATE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let entry = PutEntry { key: key.as_str().into(), value: Bytes::from_static(b"new"), ttl: None };
    let stored = net.nodes[0].cluster.put_with(&rows(), vec![entry], WriteMode::Strict, PATIENCE).await;
    assert_eq!(stored, [Stored::Unheard(vec![name(2)])]);
    net.heal(1, 2);
    let heard = || net.nodes[2].store.noted(&format!("invalidate {key}"));
    crate::harness::until("it has heard of both", PATIENCE, || heard() == 2).await;
    assert!(delete(&net, 0, &key, WriteMode::Strict).await.pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_strict_delete_whose_owner_is_cut_off_names_it_and_all_that_have_not_heard() {
    let net = Net::start(4).await;
    let key = net.key_of(1);
    [0, 2, 3].into_iter().for_each(|n| net.cut(n, 1));
    net.cut(0, 3);
    assert_eq!(delete(&net, 0, &key, WriteMode::Strict).await.pending, [name(1), name(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_node_on_the_far_side_of_a_split_counts_though_it_is_no_member_and_is_not_waited_for() {
    let net = Net::start(3).await;
    [0, 1].into_iter().for_each(|n| net.cut(n, 2));
    net.until_members_of(&[0, 1], 2).await;
    let key = net.key_of(1);
    let begun = Instant::now();
    assert_eq!(delete(&net, 0, &key, WriteMode::Strict).await.pending, [name(2)]);
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
    // After a minute nobody knows of it any more; what it serves then is bounded by the lifetimes of values alone.
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(delete(&net, 0, &key, WriteMode::Strict).await.pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_left_or_come_back_anew_is_not_pending() {
    let mut net = Net::start(3).await;
    net.nodes.pop().unwrap().cluster.leave(Duration::from_secs(1)).await;
    net.until_members(2).await;
    let key = net.key_of(1);
    let begun = Instant::now();
    assert!(delete(&net, 0, &key, WriteMode::Strict).await.pending.is_empty());
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());

    // A process that is killed is as one that is cut off, until the next of its name has heard.
    net.generation += 1;
    let node = net.join(2, &[0]).await.unwrap();
    net.nodes.push(node);
    net.until_members(3).await;
    drop(net.nodes.pop());
    net.until_members(2).await;
    assert_eq!(delete(&net, 0, &key, WriteMode::Strict).await.pending, [name(2)]);
    net.generation += 1;
    let node = net.join(2, &[0]).await.unwrap();
    net.nodes.push(node);
    net.until_members(3).await;
    assert!(delete(&net, 0, &key, WriteMode::Strict).await.pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_come_counts_though_this_one_has_not_reached_it_yet() {
    let net = Net::start(2).await;
    let key = net.key_of(1);
    let lane = net.strange_control(1).await;
    // The lane's end tells its handler a moment after the handshake.
    tokio::time::sleep(LATE).await;
    let stranger = NodeName::new("stranger").unwrap();
    assert_eq!(delete(&net, 0, &key, WriteMode::Strict).await.pending, [stranger]);
    lane.link().close(PATIENCE).await;
}

/// A delete as it stands on the wire: see the layout in the message module.
fn delete_frame(hops: u8, key: &str) -> Bytes {
    let mut frame = vec![hops, 1, 4];
    frame.extend(ROWS.as_bytes());
    frame.extend(1u32.to_le_bytes());
    frame.extend(u32::try_from(key.len()).unwrap().to_le_bytes());
    frame.extend(key.as_bytes());
    frame.into()
}

#[tokio::test(start_paused = true)]
async fn a_strict_delete_at_the_wrong_node_is_passed_on_once_and_waits_there() {
    let net = Net::start(3).await;
    let key = net.key_of(1);
    let link = net.stranger(2).await;
    net.delay(1, 0, LATE);
    net.nodes[0].store.hold(&key);
    let answer = link.call(Method(4), delete_frame(0, &key).into(), PATIENCE).await.unwrap();
    assert_eq!(answer, [0, 0, 0, 0].as_slice(), "nobody is pending");
    assert!(!net.nodes[0].store.holds(&key), "the owner has waited for the slow one");

    // It has crossed a peer already: the owner is told by the log, and is not waited for longer than the others.
    let answer = link.call(Method(4), delete_frame(1, &key).into(), PATIENCE).await.unwrap();
    assert_eq!(answer, [&[1, 0, 0, 0, 6][..], b"node-1"].concat(), "the owner has not said that it has it");
    link.close(PATIENCE).await;
}
