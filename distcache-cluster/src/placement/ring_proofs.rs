//! What the ring promises, for all keys rather than for some.
//!
//! An owner changes only at the points of a ring. So between two neighbouring points of two rings there is one owner before and
//! one after, and to compare them arc by arc is to compare them for each of the 2⁶⁴ hashes; shares are sums of arcs. The first test
//! ties the arcs to what look-ups answer.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::placement::KeyspaceSeed;

type Members = Vec<(NodeName, u16)>;

/// Members in order of name, as slots are, each of weight 100.
fn members(names: impl IntoIterator<Item = String>) -> Members {
    let mut members: Members = names.into_iter().map(|name| (NodeName::new(&name).unwrap(), 100)).collect();
    members.sort();
    members
}

fn points_of(members: &Members) -> Vec<Point> {
    points(&sorted(members))
}

/// Names as nodes have them: addresses, neighbours or not; pods of a StatefulSet and of a Deployment; UUIDs.
fn named(count: usize, kind: usize, random: &mut StdRng) -> Members {
    let mut pick = |letters: &str, length: usize| -> String {
        let letters: Vec<_> = letters.chars().collect();
        (0..length).map(|_| letters[random.random_range(0..letters.len())]).collect()
    };
    let net = pick("123456789", 2);
    let base = pick("abcdefghijklmnopqrstuvwxyz", 9);
    let port = 1_024 + pick("0123456789", 4).parse::<u16>().unwrap();
    members((0..count).map(|n| {
        match kind % KINDS {
            0 => format!("10.0.{net}.{}:{port}", n + 1),
            1 => (0..4)
                .map(|_| u8::from_str_radix(&pick("0123456789abcdef", 2), 16).unwrap().to_string())
                .collect::<Vec<_>>()
                .join("."),
            2 => format!("{base}-{n}"),
            3 => format!("{base}-7d4b9c6f5-{}", pick("bcdfghjklmnpqrstvwxz2456789", 5)),
            _ => [8, 4, 4, 4, 12].map(|length| pick("0123456789abcdef", length)).join("-"),
        }
    }))
}

const KINDS: usize = 5;

/// The share of all hashes that each of so many members owns.
fn shares(points: impl IntoIterator<Item = Point>, members: usize) -> Vec<f64> {
    let mut shares = vec![0.0; members];
    let mut points = points.into_iter();
    let first = points.next().unwrap();
    let mut before = first.position;
    for point in points {
        shares[point.slot.index()] += (point.position - before) as f64 / 2.0_f64.powi(64);
        before = point.position;
    }
    // Across the wrap; of one point alone, everything.
    shares[first.slot.index()] += 1.0 - (before - first.position) as f64 / 2.0_f64.powi(64);
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "the arcs are all of the ring");
    shares
}

fn busiest_over_mean(shares: &[f64]) -> f64 {
    shares.iter().fold(0.0, |most, share| share.max(most)) * shares.len() as f64
}

/// What changes hands from one set of members to another: from whom, to whom, and the share of all hashes.
fn moved<'a>(before: &'a Members, after: &'a Members) -> BTreeMap<(&'a NodeName, &'a NodeName), f64> {
    let (old, new) = (points_of(before), points_of(after));
    let mut ends: Vec<_> = old.iter().chain(&new).map(|point| point.position).collect();
    ends.sort_unstable();
    ends.dedup();
    let mut at = (0, 0);
    let mut from = *ends.last().unwrap();
    let mut moved = BTreeMap::new();
    for end in ends {
        while old.get(at.0).is_some_and(|point| point.position < end) {
            at.0 += 1;
        }
        while new.get(at.1).is_some_and(|point| point.position < end) {
            at.1 += 1;
        }
        let was = &before[old[at.0 % old.len()].slot.index()].0;
        let is = &after[new[at.1 % new.len()].slot.index()].0;
        if was != is {
            *moved.entry((was, is)).or_insert(0.0) += end.wrapping_sub(from) as f64 / 2.0_f64.powi(64);
        }
        from = end;
    }
    moved
}

#[test]
fn a_look_up_finds_the_next_point_and_the_next_others_at_every_edge_of_every_arc() {
    for count in [1, 2, 3, 7] {
        let members = members((0..count).map(|n| format!("cache-{n}")));
        let (ring, points) = (Ring::new(&members), points_of(&members));
        for (at, point) in points.iter().enumerate() {
            let from_here = points[at..].iter().chain(&points[..at]);
            let mut distinct: Vec<Slot> = Vec::new();
            for next in from_here {
                if !distinct.contains(&next.slot) {
                    distinct.push(next.slot);
                }
                if distinct.len() == count.min(3) {
                    break;
                }
            }
            let arc_before = if at == 0 { points[points.len() - 1].position } else { points[at - 1].position };
            for key in [arc_before.wrapping_add(1), point.position.wrapping_sub(1), point.position] {
                // A neighbour next to it leaves no room before the point.
                if key == arc_before {
                    continue;
                }
                assert_eq!(ring.owner(KeyHash(key)), Some(point.slot), "of {key:#x} at point {at} of {count} nodes");
                assert_eq!(*ring.preference(KeyHash(key)), distinct, "of {key:#x} at point {at} of {count} nodes");
            }
        }
        for key in [0, u64::MAX] {
            let next = points.iter().find(|point| point.position >= key).unwrap_or(&points[0]);
            assert_eq!(ring.owner(KeyHash(key)), Some(next.slot));
        }
    }
}

#[test]
fn no_node_of_3_to_64_has_more_than_a_tenth_above_its_share() {
    let mut random = StdRng::seed_from_u64(5);
    for kind in 0..KINDS {
        let all = named(64, kind, &mut random);
        let of_all = points_of(&all);
        for count in 3..=64 {
            // A ring of the first members is what the ring of all has of them, which is much less work than to build it.
            let of_some = of_all.iter().copied().filter(|point| point.slot.index() < count);
            let busiest = busiest_over_mean(&shares(of_some, count));
            assert!(busiest <= 1.1, "the busiest of {count} as {:?} has {busiest:.3} of its share", all[0].0);
        }
        let some = all[..17].to_vec();
        let of_some = of_all.iter().filter(|point| point.slot.index() < 17).map(|point| (point.position, point.slot));
        assert!(points_of(&some).iter().map(|point| (point.position, point.slot)).eq(of_some));
    }
}

#[test]
fn no_node_of_unequal_ones_has_more_than_a_tenth_above_what_its_weight_says() {
    let mut random = StdRng::seed_from_u64(6);
    for count in [3, 4, 6, 9, 13, 20] {
        let mut all = named(count, count, &mut random);
        all.iter_mut().for_each(|(_, weight)| *weight = random.random_range(1..=4) * 100);
        let total: u32 = all.iter().map(|(_, weight)| u32::from(*weight)).sum();
        for ((name, weight), share) in all.iter().zip(shares(points_of(&all), count)) {
            let of_fair = share * f64::from(total) / f64::from(*weight);
            assert!(
                (0.9..=1.1).contains(&of_fair),
                "{name:?} of weight {weight} of {total} has {of_fair:.3} of its share"
            );
        }
    }
}

#[test]
fn a_light_node_has_its_share_as_nearly_as_its_fewer_points_allow() {
    let mut random = StdRng::seed_from_u64(7);
    let mut all = named(12, 3, &mut random);
    all.iter_mut().zip([1, 2, 5, 10, 20, 50].into_iter().cycle()).for_each(|(member, weight)| member.1 = weight);
    let points = points_of(&all);
    for (slot, share) in shares(points.iter().copied(), 12).into_iter().enumerate() {
        let own = points.iter().filter(|point| point.slot.index() == slot).count() as f64;
        // A share is the sum of as many arcs as the node has points: four standard deviations of that.
        let apart = (share * points.len() as f64 / own - 1.0).abs();
        assert!(apart <= 4.0 / own.sqrt(), "{:?} with {own} points is {apart:.3} off", all[slot]);
    }
}

#[test]
fn a_joiner_takes_its_share_from_all_and_nothing_moves_between_the_others() {
    let mut random = StdRng::seed_from_u64(8);
    for (kind, count) in [2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64].into_iter().enumerate() {
        let all = named(count, kind, &mut random);
        let mut rest = all.clone();
        let joiner = rest.remove(random.random_range(0..count)).0;
        let joined = moved(&rest, &all);
        assert!(joined.keys().all(|(_, to)| **to == joiner), "moved between others: {:?}", joined.keys());
        assert_eq!(joined.len(), rest.len(), "it takes from everyone");
        let taken = joined.values().sum::<f64>() * count as f64;
        assert!((0.8..=1.2).contains(&taken), "a joiner to {} takes {taken:.3} of its fair share", rest.len());
    }
}

#[test]
fn keys_of_an_application_are_spread_as_the_arcs_are() {
    let members = members((0..8).map(|n| format!("10.0.0.{n}:3320")));
    let (ring, arcs) = (Ring::new(&members), shares(points_of(&members), 8));
    let seed = KeyspaceSeed::of("users");
    let keys = 100_000;
    let mut owned = [0.0; 8];
    for key in 0..keys {
        owned[ring.owner(seed.hash(&format!("user:{key}"))).unwrap().index()] += 1.0 / f64::from(keys);
    }
    // Six standard deviations of a count of an eighth of them.
    assert!(owned.iter().zip(&arcs).all(|(owned, arc)| (owned - arc).abs() < 0.0063), "{owned:?}, by arcs {arcs:?}");
}

/// Any members, by name and weight.
fn any_members(count: std::ops::Range<usize>) -> impl Strategy<Value = Members> {
    let weight = prop_oneof![4 => Just(100), 1 => 1_u16..400];
    prop::collection::btree_map("[a-z0-9.:-]{1,40}", weight, count)
        .prop_map(|all| all.into_iter().map(|(name, weight)| (NodeName::new(&name).unwrap(), weight)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_joins_or_leaves_or_changes_its_weight_moves_keys_to_or_from_itself_only(
        all in any_members(2..8),
        (at, weight) in (any::<prop::sample::Index>(), 1_u16..400),
    ) {
        let mut rest = all.clone();
        let (name, was) = rest.remove(at.index(all.len()));
        for (from, to) in moved(&rest, &all).keys() {
            prop_assert!(**to == name && **from != name);
        }
        for (from, to) in moved(&all, &rest).keys() {
            prop_assert!(**from == name && **to != name);
        }
        let mut changed = all.clone();
        changed[at.index(all.len())].1 = weight;
        for (from, to) in moved(&all, &changed).keys() {
            prop_assert_eq!(if weight > was { *to } else { *from }, &name);
        }
    }

    #[test]
    fn the_order_in_which_members_are_learned_does_not_matter(
        (learned, otherwise) in any_members(1..8).prop_flat_map(|all| (Just(all.clone()).prop_shuffle(), Just(all).prop_shuffle())),
    ) {
        let (a, b) = (Ring::new(&learned), Ring::new(&otherwise));
        prop_assert_eq!(a.fingerprint(), b.fingerprint());
        let (one, other) = (points_of(&learned), points_of(&otherwise));
        prop_assert!(one.iter().map(|p| (p.position, p.slot)).eq(other.iter().map(|p| (p.position, p.slot))));
        prop_assert_eq!(a.orders, b.orders);
    }
}

#[test]
fn of_two_nodes_that_claim_one_position_the_first_by_name_has_it_whoever_is_learned_first() {
    let claim = |slot| Point { position: 7, index: 0, slot: Slot(slot) };
    for claims in [vec![claim(0), claim(1)], vec![claim(1), claim(0)]] {
        assert_eq!(in_order(claims).iter().map(|point| point.slot).collect::<Vec<_>>(), [Slot(0)]);
    }
}

#[test]
fn a_look_up_starts_after_all_points_that_are_before_every_hash_of_its_start() {
    let shift = u64::BITS - 3;
    let eighths = |all: &[u64]| {
        in_order(all.iter().map(|eighth| Point { position: eighth << shift, index: 0, slot: Slot(0) }).collect())
    };
    for positions in [&[0, 1, 2, 3, 4, 5, 6, 7][..], &[3], &[0], &[7], &[1, 6], &[]] {
        let points = eighths(positions);
        let before = |eighth: u64| points.iter().filter(|point| point.position < eighth << shift).count() as u32;
        let expected: Vec<_> = (0..8).map(before).collect();
        assert_eq!(*starts(points.clone(), shift), if points.is_empty() { vec![] } else { expected }, "{positions:?}");
    }
}
