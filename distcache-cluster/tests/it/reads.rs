//! Whom a read asks, and what it costs when they do not answer. The clock is paused: what takes no time waits for nobody.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use distcache_cluster::{Asked, KeyspaceSeed, NodeName, PeerError, Place, Placement as _, Ring};
use distcache_transport::{CallError, ErrorCode, Method};
use tokio::time::{Instant, sleep};

use crate::harness::*;

const LIMIT: Duration = Duration::from_secs(5);

/// A key that these nodes should serve, in this order.
fn key_of_order(net: &Net, order: &[u16]) -> String {
    let seed = KeyspaceSeed::of(ROWS);
    // Which node is next in line is seen from the ring without the first: ask a placement of the same names.
    let members = |without: Option<u16>| {
        let all = (0..u16::try_from(net.nodes.len()).unwrap()).filter(move |n| Some(*n) != without);
        all.map(|n| (name(n), 100)).collect::<Vec<_>>()
    };
    let owner = |members: Vec<(NodeName, u16)>, key: &str| {
        let place = Ring::new(&members).owner(seed.hash(key)).unwrap().index();
        members[place].0.clone()
    };
    let (all, rest) = (members(None), members(Some(order[0])));
    let mut keys = (0..5_000).map(|n| format!("row:{n}"));
    keys.find(|key| owner(all.clone(), key) == name(order[0]) && owner(rest.clone(), key) == name(order[1])).unwrap()
}

async fn ask(net: &Net, from: usize, key: &str) -> (Asked, Duration) {
    let started = Instant::now();
    let asked = net.nodes[from].cluster.ask(ROWS, &[key], LIMIT).await.remove(0);
    (asked, started.elapsed())
}

fn answered_by(asked: &Asked, node: u16) -> bool {
    matches!(asked, Asked::Answered { by, lease: _, answer: Ok(_) } if *by == name(node))
}

/// Nodes that do not say to node 0 that they are working on a request: what they are slow with looks like a peer that hangs.
async fn silent_net(count: u16) -> Net {
    let minute = Duration::from_secs(60);
    Net::start_with(count, |n, config| config.transport.loading_after = if n == 0 { LOADING_AFTER } else { minute })
        .await
}

const LOADING_AFTER: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn next_in_line_acts_for_an_owner_that_cannot_be_reached() {
    let net = Net::start(4).await;
    let key = key_of_order(&net, &[1, 2]);
    net.cut(0, 1);
    let (asked, took) = ask(&net, 0, &key).await;
    assert!(answered_by(&asked, 2), "{asked:?}");
    assert_eq!(took, Duration::ZERO, "what was not sent is not waited for");
    assert_eq!(net.nodes[2].store.noted(&format!("read {key} Acting")), 1);
    assert_eq!(net.nodes[1].store.notes.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn node_with_nobody_left_to_ask_loads_itself_and_knows_in_what_capacity() {
    let net = Net::start(4).await;
    let (mine, others) = (key_of_order(&net, &[1, 0]), key_of_order(&net, &[1, 2]));
    net.cut(0, 1);
    net.cut(0, 2);
    let (asked, _) = ask(&net, 0, &mine).await;
    assert!(matches!(asked, Asked::Unasked(Place::Acting)), "it is next in line itself: {asked:?}");
    let (asked, _) = ask(&net, 0, &others).await;
    assert!(matches!(asked, Asked::Unasked(Place::LastResort)), "{asked:?}");
    assert_eq!(net.nodes[3].store.notes.lock().unwrap().len(), 0, "a third node is not asked");
}

#[tokio::test(start_paused = true)]
async fn owner_that_says_nothing_is_given_up_after_its_patience_and_soon_not_asked_at_all() {
    let net = silent_net(4).await;
    let key = key_of_order(&net, &[1, 2]);
    net.nodes[1].store.slow_ms.store(60_000, Ordering::Relaxed);
    let mut total = Duration::ZERO;
    for turn in 0..30 {
        let (asked, took) = ask(&net, 0, &key).await;
        assert!(answered_by(&asked, 2), "{asked:?}");
        assert!(took <= Duration::from_millis(201), "{took:?}");
        assert!(turn < 3 || took < Duration::from_millis(5), "turn {turn} took {took:?}");
        total += took;
    }
    assert!(total <= Duration::from_millis(650), "{total:?} for 30 keys of a node that hangs");
    assert!(net.nodes[0].cluster.view().member(&name(1)).is_some(), "it moved no key");
}

#[tokio::test(start_paused = true)]
async fn owner_that_is_loading_is_waited_for_and_nobody_else_loads() {
    let net = Net::start(4).await;
    let key = key_of_order(&net, &[1, 2]);
    net.nodes[1].store.slow_ms.store(2_000, Ordering::Relaxed);
    let (asked, took) = ask(&net, 0, &key).await;
    assert!(answered_by(&asked, 1), "{asked:?}");
    assert!(took >= Duration::from_secs(2));
    let acted = net.nodes[2].store.noted(&format!("read {key} Acting"));
    assert_eq!(acted, 0);
}

#[tokio::test(start_paused = true)]
async fn silent_owner_is_hedged_by_a_look_into_the_memory_of_the_next_in_line() {
    let net = silent_net(4).await;
    let key = key_of_order(&net, &[1, 2]);
    net.nodes[1].store.slow_ms.store(60_000, Ordering::Relaxed);
    net.nodes[2].store.hold(&key);
    let (asked, took) = ask(&net, 0, &key).await;
    assert!(matches!(&asked, Asked::Answered { answer: Ok(Some(found)), .. } if found.value == "old"), "{asked:?}");
    assert!(took <= Duration::from_millis(6), "{took:?}");
    assert_eq!(net.nodes[2].store.noted(&format!("read {key} Peek")), 1);
    assert_eq!(net.nodes[2].store.noted(&format!("read {key} Acting")), 0, "a hedge loads nothing");
}

#[tokio::test(start_paused = true)]
async fn node_that_fails_to_act_is_the_last_one_asked() {
    let net = silent_net(4).await;
    let key = key_of_order(&net, &[1, 2]);
    for node in &net.nodes {
        node.store.slow_ms.store(60_000, Ordering::Relaxed);
        // A hedge that hangs holds nobody up.
        node.store.slow_peek_ms.store(60_000, Ordering::Relaxed);
    }
    let (asked, took) = ask(&net, 0, &key).await;
    assert!(matches!(asked, Asked::Unasked(Place::LastResort)), "{asked:?}");
    assert!(took <= Duration::from_millis(401), "{took:?}");
    assert_eq!(net.nodes[3].store.notes.lock().unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn writer_that_has_to_ask_who_acts_is_not_given_from_before_its_write() {
    let net = Net::start(4).await;
    let key = key_of_order(&net, &[1, 2]);
    // What acts does not hear of the write, and holds an old value.
    net.cut(1, 2);
    let written = net.nodes[0].cluster.delete(&ROWS.into(), &[&key], LIMIT).await;
    assert!(written.pending.is_empty(), "{written:?}");
    net.nodes[2].store.hold(&key);
    // A question of the same instant may be from before the write.
    sleep(Duration::from_millis(1)).await;
    net.cut(0, 1);
    net.cut(3, 1);
    let by_another = net.nodes[3].cluster.ask(ROWS, &[&key], LIMIT).await.remove(0);
    assert!(matches!(&by_another, Asked::Answered { answer: Ok(Some(_)), .. }), "others may be: {by_another:?}");
    for _ in 0..3 {
        let (asked, _) = ask(&net, 0, &key).await;
        assert!(matches!(&asked, Asked::Answered { answer: Ok(None), .. }), "{asked:?}");
    }
    let noted = |what: &str| net.nodes[2].store.noted(&format!("read {key} {what}"));
    assert_eq!((noted("Anew"), noted("Acting")), (1, 3), "it is loaded anew once");
}

#[tokio::test(start_paused = true)]
async fn batch_is_answered_key_by_key_though_one_owner_is_away() {
    let net = Net::start(4).await;
    let keys: Vec<_> = (0..200).map(|n| format!("row:{n}")).collect();
    let view = net.nodes[0].cluster.view();
    let seed = KeyspaceSeed::of(ROWS);
    let keys: Vec<_> = keys.iter().map(String::as_str).filter(|key| !view.owns(seed.hash(key))).collect();
    net.cut(0, 1);
    let started = Instant::now();
    let asked = net.nodes[0].cluster.ask(ROWS, &keys, LIMIT).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    for (key, asked) in keys.iter().zip(&asked) {
        let owner = view.owner(seed.hash(key)).ident().name().clone();
        match asked {
            Asked::Answered { by, lease: _, answer: Ok(None) } if owner != name(1) => assert_eq!(*by, owner),
            Asked::Answered { by, lease: _, answer: Ok(None) } => {
                assert!(*by != owner && *by != name(0), "{key} by {by}")
            }
            Asked::Unasked(Place::Acting) => assert_eq!(owner, name(1)),
            other => panic!("{key} of {owner}: {other:?}"),
        }
    }
    let reads = |n: usize| net.nodes[n].store.notes.lock().unwrap().len();
    assert_eq!(reads(1), 0);
    assert!(reads(2) > 0 && reads(3) > 0);
}

/// A get as it stands on the wire: see the layout in the message module.
fn get_frame(role: u8, key: &str) -> Bytes {
    let mut frame = [7u64, 0].map(u64::to_le_bytes).concat();
    frame.extend([role, 4]);
    frame.extend(ROWS.as_bytes());
    frame.extend(u32::try_from(key.len()).unwrap().to_le_bytes());
    frame.extend(key.as_bytes());
    frame.into()
}

#[tokio::test(start_paused = true)]
async fn node_that_is_asked_as_the_owner_and_is_none_says_so_and_asks_nobody() {
    let net = Net::start(3).await;
    let key = net.key_of(1);
    let link = net.stranger(2).await;
    let get = |role| link.call(Method(1), get_frame(role, &key).into(), LIMIT);
    let refused = get(0).await.unwrap_err();
    assert!(matches!(&refused, CallError::Remote(error) if error.code == ErrorCode(100)), "{refused}");
    assert_eq!(get(1).await.unwrap(), [0].as_slice(), "one that is to act does");
    assert_eq!(get(2).await.unwrap(), [2].as_slice(), "what is not in memory");
    let mut batch = get_frame(0, &key).to_vec();
    batch.splice(22..22, 1u32.to_le_bytes());
    let answers = link.call(Method(2), batch.into(), LIMIT).await.unwrap();
    assert_eq!(answers[..7], [1, 0, 0, 0, 2, 100, 0], "key by key in a batch");
    assert!(net.nodes[0].store.notes.lock().unwrap().is_empty() && net.nodes[1].store.notes.lock().unwrap().is_empty());
    assert!(net.nodes[2].cluster.ring_mismatches() > 0);
}

#[tokio::test(start_paused = true)]
async fn ask_ends_with_its_time_whatever_the_peers_do() {
    let net = Net::start(3).await;
    let key = net.key_of(1);
    net.nodes[1].store.slow_ms.store(60_000, Ordering::Relaxed);
    let started = Instant::now();
    let asked = net.nodes[0].cluster.ask(ROWS, &[&key], Duration::from_secs(1)).await.remove(0);
    let timed_out = matches!(&asked, Asked::Answered { answer: Err(PeerError::Call(error)), .. } if is_timeout(error));
    assert!(timed_out, "{asked:?}");
    assert!(started.elapsed() <= Duration::from_millis(1_050));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_and_nothing_is_to_be_loaded_once_the_time_is_up() {
    let net = silent_net(4).await;
    let key = key_of_order(&net, &[1, 2]);
    for node in &net.nodes {
        node.store.slow_ms.store(60_000, Ordering::Relaxed);
    }
    let started = Instant::now();
    let asked = net.nodes[0].cluster.ask(ROWS, &[&key], Duration::from_millis(300)).await.remove(0);
    assert!(started.elapsed() <= Duration::from_millis(301));
    assert!(matches!(asked, Asked::Answered { answer: Err(_), .. }), "{asked:?}");
}

fn is_timeout(error: &CallError) -> bool {
    matches!(error, CallError::TimedOut)
        || matches!(error, CallError::Remote(error) if error.code == ErrorCode::DEADLINE)
}

#[tokio::test(start_paused = true)]
async fn node_that_has_lost_a_key_while_it_was_loading_lets_nobody_keep_a_copy() {
    let mut net = Net::start_with(2, |_, config| config.hot_reads = 1).await;
    let (seed, names) = (KeyspaceSeed::of(ROWS), [0, 1, 2].map(|n| (name(n), 100)));
    let owned_by = |members: &[(NodeName, u16)], key: &String, n: usize| {
        Ring::new(members).owner(seed.hash(key)).is_some_and(|slot| slot.index() == n)
    };
    let mut keys = (0..1_000).map(|n| format!("row:{n}"));
    let moves = keys.find(|key| owned_by(&names[..2], key, 1) && owned_by(&names, key, 2)).unwrap();
    let lease = |asked: &Asked| match asked {
        Asked::Answered { answer: Ok(Some(_)), lease, .. } => lease.is_some(),
        other => panic!("{other:?}"),
    };
    net.nodes[1].store.hold(&moves);
    assert!(lease(&ask(&net, 0, &moves).await.0), "its owner lets");
    net.nodes[1].store.slow_ms.store(20_000, Ordering::Relaxed);
    let (cluster, key) = (net.nodes[0].cluster.clone(), moves.clone());
    let asked = tokio::spawn(async move { cluster.ask(ROWS, &[&key], Duration::from_secs(30)).await.remove(0) });
    let third = net.join(2, &[0, 1]).await.unwrap();
    net.nodes.push(third);
    net.until_members(3).await;
    // Once the sweep for the new view is over: what the source gives is there when the load ends.
    sleep(Duration::from_secs(1)).await;
    net.nodes[1].store.hold(&moves);
    assert!(!lease(&asked.await.unwrap()));
}
