//! Nodes find each other, lose each other, and find each other again.

use std::time::Duration;

use distcache_cluster::{Asked, KeyspaceSeed};
use tokio::time::Instant;

use crate::harness::{Net, ROWS, name, until};

#[tokio::test(start_paused = true)]
async fn nodes_that_start_one_after_another_form_one_cluster() {
    let net = Net::start(5).await;
    assert!(net.nodes.iter().all(|node| node.cluster.view().members().len() == 5));
}

/// Every order in which three nodes can start, and many in which five can: one cluster each time, never two.
#[tokio::test(start_paused = true)]
async fn nodes_that_start_together_in_any_order_form_one_cluster_within_ten_seconds() {
    let orders = |count: u16| (0..100u64).map(move |seed| (count, seed));
    for (count, seed) in orders(3).chain(orders(5)) {
        let mut net = Net::empty();
        let seeds: Vec<_> = (0..count).collect();
        let started = Instant::now();
        // From all at once to two seconds apart, in an order of their own each time.
        let delay = |n: u16| {
            let step = (u64::from(n) * 7_919 + seed * 104_729).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
            Duration::from_millis(step * (seed % 4) / 2)
        };
        let joins = seeds.iter().map(|n| async {
            tokio::time::sleep(delay(*n)).await;
            net.join(*n, &seeds).await.unwrap()
        });
        let nodes = futures_util::future::join_all(joins).await;
        net.nodes = nodes;
        net.until_members(usize::from(count)).await;
        let took = started.elapsed();
        assert!(took <= Duration::from_secs(10), "{count} nodes, order {seed}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_knows_one_member_is_known_to_all() {
    let mut net = Net::start(3).await;
    let joiner = net.join(7, &[1]).await.unwrap();
    net.nodes.push(joiner);
    net.until_members(4).await;
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_can_be_asked_as_soon_as_it_is_in_the_view() {
    let net = Net::start(2).await;
    // The link between the newcomer and the node that watches takes longer than the news of it.
    net.cut(1, 2);
    let joining = net.join(2, &[0]);
    let healing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        net.heal(1, 2);
    };
    let watching = async {
        let mut views = net.nodes[1].cluster.views();
        let view = views.wait_for(|view| view.member(&name(2)).is_some()).await.unwrap().clone();
        let seed = KeyspaceSeed::of(ROWS);
        let keys = (0..1_000).map(|n| format!("row:{n}"));
        let key = keys.into_iter().find(|key| *view.owner(seed.hash(key)).ident().name() == name(2)).unwrap();
        net.nodes[1].cluster.ask(ROWS, &[&key], Duration::from_secs(1)).await.remove(0)
    };
    let (joined, answer, ()) = tokio::join!(joining, watching, healing);
    assert!(
        matches!(answer, Asked::Answered { by, lease: _, answer: Ok(None) } if by == name(2)),
        "nobody stood in for it"
    );
    joined.unwrap().cluster.leave(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_one_node_cannot_reach_enters_its_view_all_the_same() {
    let mut net = Net::start(2).await;
    net.cut(1, 2);
    let joiner = net.join(2, &[0]).await.unwrap();
    net.nodes.push(joiner);
    net.until_members(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_leaves_the_ring_within_ten_seconds() {
    let mut net = Net::start(5).await;
    let died = Instant::now();
    drop(net.nodes.pop());
    net.until_members(4).await;
    assert!(died.elapsed() < Duration::from_secs(10), "it took {:?}", died.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_leaver_leaves_the_ring_within_a_second() {
    let mut net = Net::start(4).await;
    let left = Instant::now();
    net.nodes.pop().unwrap().cluster.leave(Duration::from_secs(1)).await;
    net.until_members(3).await;
    assert!(left.elapsed() < Duration::from_secs(1), "it took {:?}", left.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_other_of_two_does_not_talk_a_leaver_back_in() {
    let mut net = Net::start(2).await;
    let left = Instant::now();
    net.nodes.pop().unwrap().cluster.leave(Duration::from_secs(1)).await;
    net.until_members(1).await;
    assert!(left.elapsed() < Duration::from_secs(1), "it took {:?}", left.elapsed());
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_lost_each_other_meet_again() {
    let net = Net::start(2).await;
    net.cut(0, 1);
    net.until_members_of(&[0, 1], 1).await;
    net.heal(0, 1);
    let healed = Instant::now();
    net.until_members(2).await;
    assert!(healed.elapsed() < Duration::from_secs(10), "it took {:?}", healed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_split_heals_to_one_view_and_whoever_was_declared_down_doubts_what_it_holds() {
    let net = Net::start(4).await;
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        net.cut(a, b);
    }
    net.until_members_of(&[0, 1], 2).await;
    net.until_members_of(&[2, 3], 2).await;
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        net.heal(a, b);
    }
    let healed = Instant::now();
    net.until_members(4).await;
    assert!(healed.elapsed() < Duration::from_secs(10), "it took {:?}", healed.elapsed());
    assert!(net.nodes[3].store.noted("doubt all") >= 1);
}

#[tokio::test(start_paused = true)]
async fn one_broken_link_of_three_removes_nobody() {
    let net = Net::start(3).await;
    net.cut(0, 1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
        assert!(net.nodes.iter().all(|node| node.cluster.view().members().len() == 3), "after {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_a_clock_set_back_gets_in() {
    let mut net = Net::start(3).await;
    drop(net.nodes.pop());
    net.generation = 10;
    // The dead process is still a member when its successor comes.
    let again = net.join(2, &[0, 1, 2]).await.unwrap();
    net.nodes.push(again);
    let settled = || net.nodes.iter().all(|node| node.cluster.view().member(&name(2)).is_some());
    until("the successor is a member everywhere", Duration::from_secs(20), settled).await;
    net.until_members(3).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_whose_messages_have_no_version_in_common_refuse_each_other_and_say_why() {
    let net = Net::start(1).await;
    assert!(net.stranger_of(0, 1, 7).await.is_ok(), "one version is enough");
    let refused = format!("{:?}", net.stranger_of(0, 2, 3).await.unwrap_err());
    assert!(refused.contains("1 to 1") && refused.contains("2 to 3"), "{refused}");
}
