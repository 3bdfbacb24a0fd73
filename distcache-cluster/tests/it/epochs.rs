//! What is done to whole keyspaces reaches every node, whatever the log still remembers, before anything older is served.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use distcache_cluster::Asked;
use distcache_transport::{CallError, ErrorCode, Method};
use tokio::time::sleep;

use crate::harness::{Net, ROWS, until};

const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than the log remembers, and than links to lost members are kept.
const AGES: Duration = Duration::from_secs(300);

fn rows() -> Arc<str> {
    ROWS.into()
}

fn cut_in_two(net: &Net) {
    for a in [0, 1] {
        for b in [2, 3] {
            net.cut(a, b);
        }
    }
}

fn heal(net: &Net) {
    for a in [0, 1] {
        for b in [2, 3] {
            net.heal(a, b);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn deletions_on_both_sides_of_a_long_split_both_win_after_it() {
    let net = Net::start(4).await;
    cut_in_two(&net);
    net.until_members_of(&[0, 1, 2, 3], 2).await;
    let _ = net.nodes[0].cluster.delete_keyspaces(&[rows()], PATIENCE).await;
    let _ = net.nodes[2].cluster.delete_keyspaces(&[rows()], PATIENCE).await;
    assert!(net.nodes.iter().all(|node| node.store.noted("delete rows") == 1), "each side has its own");
    sleep(AGES).await;
    // What is appended pushes out what is too old: the logs remember neither deletion.
    for n in [0, 2] {
        let _ = net.nodes[n].cluster.delete(&rows(), &["any"], PATIENCE).await;
    }
    heal(&net);
    let both = || net.nodes.iter().all(|node| node.store.noted("delete rows") == 2);
    until("every node has heard of both", Duration::from_secs(30), both).await;
    sleep(AGES).await;
    assert!(both(), "and hears of them once");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_never_told_by_the_one_that_deleted_hears_of_it_from_others() {
    let net = Net::start(3).await;
    net.cut(0, 1);
    let delivery = net.nodes[0].cluster.delete_keyspaces(&[rows()], Duration::from_millis(100)).await;
    assert_eq!(delivery.pending, [crate::harness::name(1)]);
    until("it has heard", Duration::from_secs(10), || net.nodes[1].store.noted("delete rows") == 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_has_not_heard_of_a_clear_is_told_before_it_answers_a_node_that_has() {
    let net = Net::start(3).await;
    let keys = net.keys_of(1);
    for many in [false, true] {
        keys.iter().for_each(|key| net.nodes[1].store.hold(key));
        net.cut(0, 1);
        let _ = net.nodes[0].cluster.clear(&rows(), Duration::from_millis(20)).await;
        assert!(net.nodes[1].store.holds(&keys[0]), "it has not heard");
        let keys: Vec<_> = keys.iter().map(String::as_str).take(if many { 2 } else { 1 }).collect();
        let asked = net.nodes[2].cluster.ask(ROWS, &keys, PATIENCE).await;
        for asked in asked {
            let Asked::Answered { by, answer: Ok(None), .. } = asked else {
                panic!("from before the clear: {asked:?}")
            };
            assert_eq!(by, crate::harness::name(1));
        }
        net.heal(0, 1);
        until("it has heard twice", PATIENCE * 6, || net.nodes[1].store.noted("clear rows") == 1 + usize::from(many))
            .await;
        let acknowledged = net.nodes[0].cluster.clear(&"other".into(), PATIENCE * 6).await;
        assert!(acknowledged.pending.is_empty(), "the log has gone on");
    }
}

#[tokio::test(start_paused = true)]
async fn an_asker_that_has_not_heard_of_a_clear_hears_of_it_with_its_answer() {
    let net = Net::start(3).await;
    let key = net.key_of(1);
    net.cut(0, 2);
    let _ = net.nodes[0].cluster.clear(&rows(), Duration::from_millis(20)).await;
    assert_eq!(net.nodes[2].store.noted("clear rows"), 0);
    let _ = net.nodes[2].cluster.ask(ROWS, &[&key], PATIENCE).await;
    assert_eq!(net.nodes[2].store.noted("clear rows"), 1);
    // They agree now, so that the next question is answered at once.
    let read = format!("read {key} Owner");
    let reads = net.nodes[1].store.noted(&read);
    let _ = net.nodes[2].cluster.ask(ROWS, &[&key], PATIENCE).await;
    assert_eq!((net.nodes[1].store.noted(&read), net.nodes[2].store.noted("clear rows")), (reads + 1, 1));
}

/// Values to be taken over and a question for a value, as they stand on the wire: see the layout in the message module.
fn frames(epochs: u64, key: &str) -> [(Method, Bytes); 2] {
    let (text, key) = ([&[4], ROWS.as_bytes()].concat(), [&(key.len() as u32).to_le_bytes(), key.as_bytes()].concat());
    let value = [&u64::MAX.to_le_bytes()[..], &3u32.to_le_bytes(), b"old"].concat();
    let head = [u64::MAX, epochs].map(u64::to_le_bytes).concat();
    let adopt = [&head[..], &[0, 0], &text, &1u32.to_le_bytes(), &key, &value].concat();
    let fill = [&head[..], &[4], &text, &key].concat();
    [(Method(10), adopt.into()), (Method(1), fill.into())]
}

#[tokio::test(start_paused = true)]
async fn values_go_from_node_to_node_only_where_both_have_heard_of_the_same() {
    let net = Net::start(2).await;
    let key = net.key_of(0);
    let link = net.stranger(0).await;
    for (method, frame) in frames(7, &key) {
        let error = link.call(method, frame.into(), PATIENCE).await.unwrap_err();
        assert!(matches!(&error, CallError::Remote(error) if error.code == ErrorCode(101)), "{error}");
    }
    assert!(net.nodes[0].store.notes.lock().unwrap().is_empty(), "nothing was taken or looked for");
    for (method, frame) in frames(0, &key) {
        link.call(method, frame.into(), PATIENCE).await.unwrap();
    }
    assert_eq!(net.nodes[0].store.noted(&format!("adopt {key}")), 1, "as yet nobody has heard of anything");
    link.close(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_keyspace_that_a_restarted_node_clears_is_cleared_everywhere_again() {
    let mut net = Net::start(3).await;
    for round in 1..4 {
        let _ = net.nodes[2].cluster.clear(&rows(), PATIENCE).await;
        for node in &net.nodes[..2] {
            assert_eq!(node.store.noted("clear rows"), round);
        }
        net.nodes.pop().unwrap().cluster.leave(Duration::from_secs(1)).await;
        net.until_members(2).await;
        net.generation += 1;
        let node = net.join(2, &[0]).await.unwrap();
        net.nodes.push(node);
        net.until_members(3).await;
    }
}
