//! The ring by examples.

use super::*;
use crate::placement::KeyspaceSeed;

fn name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn numbered(count: usize) -> Vec<(NodeName, u16)> {
    (0..count).map(|n| (name(&format!("cache-{n:02}")), 100)).collect()
}

fn owner_name(members: &[(NodeName, u16)], ring: &Ring, key: KeyHash) -> String {
    let mut names: Vec<_> = members.iter().map(|(name, _)| name.to_string()).collect();
    names.sort();
    names[ring.owner(key).unwrap().index()].clone()
}

#[test]
fn an_empty_ring_owns_nothing() {
    let ring = Ring::new(&[]);
    assert_eq!(ring.owner(KeyspaceSeed::of("users").hash("alice")), None);
    assert!(ring.preference(KeyspaceSeed::of("users").hash("alice")).is_empty());
}

#[test]
fn weight_gives_a_node_its_share() {
    let mut members = numbered(4);
    members[0].1 = 200;
    let ring = Ring::new(&members);
    let owned = (0..100_000)
        .filter(|key| ring.owner(KeyspaceSeed::of("users").hash(&key.to_string())).unwrap().index() == 0)
        .count();
    assert!((36_000..44_000).contains(&owned), "weight 200 of 500 owns {owned} of 100,000");
}

#[test]
fn preference_starts_with_the_owner_and_names_distinct_members() {
    for count in 1..6 {
        let ring = Ring::new(&numbered(count));
        for key in 0..2_000 {
            let hash = KeyspaceSeed::of("users").hash(&key.to_string());
            let order = ring.preference(hash);
            assert_eq!(order.len(), count.min(3));
            assert_eq!(order[0], ring.owner(hash).unwrap());
            let mut distinct = order.to_vec();
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct.len(), order.len());
        }
    }
}

#[test]
fn the_successor_is_who_owns_the_key_once_the_owner_is_gone() {
    let members = numbered(5);
    let ring = Ring::new(&members);
    let rest = |gone: usize| -> Vec<_> { members.iter().filter(|member| **member != members[gone]).cloned().collect() };
    let without: Vec<_> = (0..5).map(|gone| (rest(gone), Ring::new(&rest(gone)))).collect();
    for key in 0..5_000 {
        let hash = KeyspaceSeed::of("users").hash(&key.to_string());
        let order = ring.preference(hash);
        let (rest, ring) = &without[order[0].index()];
        assert_eq!(owner_name(rest, ring, hash), members[order[1].index()].0.as_str());
    }
}
