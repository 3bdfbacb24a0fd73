//! What an owner acknowledged and had no time to tell, others tell its heirs.

use std::{sync::Arc, time::Duration};

use distcache_cluster::{KeyspaceSeed, NodeName, Placement, Ring};

use crate::harness::{Net, ROWS, name, until};

const PATIENCE: Duration = Duration::from_secs(5);
/// That of a store too large for any test to wait for.
const SWEEP: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn the_heir_of_a_key_is_told_that_it_is_old_however_long_stores_are_being_swept() {
    let mut net = Net::start_with(3, |_, config| config.sweep_time = SWEEP).await;
    let (seed, names) = (KeyspaceSeed::of(ROWS), [0, 1, 2].map(|n| (name(n), 100)));
    let left = [&names[0], &names[2]].map(Clone::clone);
    let owner =
        |members: &[(NodeName, u16)], key: &String| Ring::new(members).owner(seed.hash(key)).map(|slot| slot.index());
    let goes_from_1_to_2 = |key: &String| owner(&names, key) == Some(1) && owner(&left, key) == Some(1);
    let key = (0..1_000).map(|n| format!("row:{n}")).find(goes_from_1_to_2).unwrap();
    net.nodes[2].store.hold(&key);
    net.cut(1, 2);
    let delivery = net.nodes[0].cluster.delete(&ROWS.into(), &[&key], PATIENCE).await;
    assert!(delivery.pending.is_empty() && net.nodes[2].store.holds(&key), "{delivery:?}");
    // The owner goes, and with it its log.
    let owner = net.nodes.remove(1);
    drop(owner);
    let heir = Arc::clone(&net.nodes[1].store);
    until("the heir has heard", Duration::from_secs(30), || !heir.holds(&key)).await;
    assert_eq!(heir.noted("clear all"), 0, "it heard of the key, it was not emptied");
}
