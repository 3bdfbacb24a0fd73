//! Marks in any order, any number of times, and more of them than are kept.
#![expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be made by reading the clock; the tests step it themselves"
)]

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn node(n: u64) -> Epochs {
    Epochs::new(Origin(n))
}

fn small(n: u64, capacity: usize) -> Epochs {
    Epochs::with_capacity(Origin(n), capacity)
}

/// Both tell each other all they know.
fn meet(a: &mut Epochs, b: &mut Epochs, now: Instant) -> (Vec<Change>, Vec<Change>) {
    let told = a.tell(now);
    let at_b = b.hear(&told, now);
    (a.hear(&b.tell(now), now), at_b)
}

fn clear(name: &str) -> Change {
    Change::Clear(name.into())
}

#[test]
fn what_a_node_hears_first_it_does_and_never_again() {
    let (mut a, mut b, now) = (node(1), node(2), Instant::now());
    let marks = a.note(Deed::Clear, &names(&["users"]), now);
    assert_eq!(b.merge(&marks, now), [clear("users")]);
    assert_eq!(b.merge(&marks, now), []);
    assert_eq!((a.digest(), meet(&mut a, &mut b, now)), (b.digest(), (vec![], vec![])));
}

#[test]
fn deletions_on_both_sides_of_a_split_both_win_whoever_has_the_higher_stamp() {
    let (mut a, mut b, now) = (node(1), node(2), Instant::now());
    for _ in 0..5 {
        a.note(Deed::Delete, &names(&["users"]), now);
    }
    b.note(Deed::Delete, &names(&["users"]), now + SECOND);
    let (at_a, at_b) = meet(&mut a, &mut b, now + 3 * SECOND);
    assert_eq!(at_a, [Change::Delete("users".into(), 2 * SECOND)], "the lower stamp is no older for it");
    assert_eq!(at_b, [Change::Delete("users".into(), 3 * SECOND)]);
    assert_eq!(a.digest(), b.digest());
}

#[test]
fn a_process_that_starts_anew_is_heard_though_its_numbers_begin_anew() {
    let (mut peer, now) = (node(9), Instant::now());
    let ident = |generation| NodeIdent::new(crate::NodeName::new("a").unwrap(), ([127, 0, 0, 1], 1).into(), generation);
    let mut first = Epochs::new(Origin::of(&ident(1), 7));
    for _ in 0..3 {
        let marks = first.note(Deed::Clear, &names(&["users"]), now);
        peer.merge(&marks, now);
    }
    // The same generation even, as of a clock that was set back, tells processes apart if the seed does.
    for (generation, seed) in [(2, 7), (1, 8)] {
        let mut next = Epochs::new(Origin::of(&ident(generation), seed));
        let marks = next.note(Deed::Clear, &names(&["users"]), now);
        assert_eq!(peer.merge(&marks, now), [clear("users")]);
    }
}

#[test]
fn a_deletion_keeps_its_age_from_node_to_node() {
    let (mut a, mut b, mut c, now) = (node(1), node(2), node(3), Instant::now());
    a.note(Deed::Delete, &names(&["users"]), now);
    meet(&mut a, &mut b, now + 10 * SECOND);
    let (_, at_c) = meet(&mut b, &mut c, now + 60 * SECOND);
    assert_eq!(at_c, [Change::Delete("users".into(), 60 * SECOND)]);
}

#[test]
fn of_several_deletions_that_are_news_the_youngest_says_the_age() {
    let (mut a, mut b, mut c, now) = (node(1), node(2), node(3), Instant::now());
    a.note(Deed::Delete, &names(&["users"]), now);
    b.note(Deed::Delete, &names(&["users"]), now + 8 * SECOND);
    b.note(Deed::Clear, &names(&["users"]), now + 9 * SECOND);
    meet(&mut a, &mut b, now + 9 * SECOND);
    let (_, at_c) = meet(&mut a, &mut c, now + 10 * SECOND);
    assert_eq!(at_c, [Change::Delete("users".into(), 2 * SECOND)]);
}

#[test]
fn nodes_that_forget_forget_alike_and_teach_each_other_nothing_old() {
    let (mut a, mut b, now) = (small(1, 4), small(2, 4), Instant::now());
    for n in 0..50 {
        let by = if n % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        let marks = by.0.note(Deed::Clear, &names(&[&format!("ks{n}")]), now);
        by.1.merge(&marks, now);
        assert_eq!(a.marks.len().max(b.marks.len()), (n + 1).min(4));
        if n % 3 == 0 {
            assert_eq!(meet(&mut a, &mut b, now), (vec![], vec![]), "both have heard of everything");
        }
    }
    assert_eq!(a.digest(), b.digest());
}

#[test]
fn a_node_that_missed_what_its_peer_has_forgotten_drops_everything_and_has_others_do_so_once() {
    let (mut a, mut b, mut c, now) = (small(1, 4), small(2, 4), small(3, 4), Instant::now());
    meet(&mut a, &mut b, now);
    meet(&mut b, &mut c, now);
    for n in 0..6 {
        a.note(Deed::Clear, &names(&[&format!("ks{n}")]), now);
    }
    let (at_a, at_b) = meet(&mut a, &mut b, now);
    assert!(at_b.contains(&Change::ClearAll), "{at_b:?}");
    assert_eq!(at_a, [Change::ClearAll], "a cannot know what else b relied on");
    // And c, which has never met a, is not left with what b could not be told.
    let (_, at_c) = meet(&mut b, &mut c, now);
    assert!(at_c.contains(&Change::ClearAll), "{at_c:?}");
    for _ in 0..3 {
        let quiet = [meet(&mut a, &mut b, now), meet(&mut b, &mut c, now), meet(&mut c, &mut a, now)];
        assert!(quiet.iter().all(|(x, y)| x.is_empty() && y.is_empty()), "it ends: {quiet:?}");
    }
}

#[test]
fn a_newcomer_to_a_cluster_that_has_forgotten_empties_itself_and_nobody_else() {
    let (mut a, mut b, now) = (small(1, 4), small(2, 4), Instant::now());
    for n in 0..9 {
        let marks = a.note(Deed::Clear, &names(&[&format!("ks{n}")]), now);
        b.merge(&marks, now);
    }
    meet(&mut a, &mut b, now);
    let mut newcomer = small(3, 4);
    let (at_a, at_newcomer) = meet(&mut a, &mut newcomer, now);
    assert_eq!((at_a, at_newcomer.first()), (vec![], Some(&Change::ClearAll)));
    assert_eq!(meet(&mut b, &mut newcomer, now), (vec![], vec![]), "b has nothing to say that a had not");
}

/// What may happen to a few nodes: a deed at one, or a meeting of two.
fn happenings(nodes: usize) -> impl Strategy<Value = Vec<(usize, usize, u8, bool)>> {
    prop::collection::vec((0..nodes, 0..nodes, 0u8..6, any::<bool>()), 0..60)
}

/// Does what may happen and keeps, for each node, which deeds it has not answered by dropping the keyspace, or everything.
struct World {
    nodes: Vec<Epochs>,
    unheard: Vec<Vec<(u8, usize)>>,
    deeds: usize,
    now: Instant,
}

impl World {
    fn new(count: u64, capacity: usize) -> Self {
        let nodes: Vec<_> = (0..count).map(|n| small(n, capacity)).collect();
        Self { unheard: vec![Vec::new(); nodes.len()], nodes, deeds: 0, now: Instant::now() }
    }

    fn deed(&mut self, at: usize, keyspace: u8, deed: Deed) {
        self.now += SECOND;
        self.deeds += 1;
        self.nodes[at].note(deed, &names(&[&keyspace.to_string()]), self.now);
        for (n, unheard) in self.unheard.iter_mut().enumerate() {
            if n != at {
                unheard.push((keyspace, self.deeds));
            }
        }
    }

    fn tell(&mut self, from: usize, to: usize) {
        let told = self.nodes[from].tell(self.now);
        for change in self.nodes[to].hear(&told, self.now) {
            self.unheard[to].retain(|(keyspace, _)| match &change {
                Change::ClearAll => false,
                Change::Clear(name) | Change::Delete(name, _) => **name != *keyspace.to_string(),
            });
        }
    }

    /// Everyone meets everyone until nobody has news.
    fn settle(&mut self) {
        for _ in 0..4 {
            for from in 0..self.nodes.len() {
                for to in 0..self.nodes.len() {
                    if from != to {
                        self.tell(from, to);
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(events in happenings(3), capacity in 2usize..12) {
        let mut world = World::new(3, usize::MAX);
        for (at, _, keyspace, delete) in events {
            world.deed(at, keyspace, if delete { Deed::Delete } else { Deed::Clear });
        }
        let now = world.now;
        let told: Vec<_> = world.nodes.iter().map(|node| node.tell(now).marks).collect();
        let digest_of = |order: &[usize]| {
            let mut node = small(9, capacity);
            order.iter().for_each(|n| drop(node.merge(&told[*n], now)));
            prop_assert!(node.marks.len() <= capacity);
            Ok(node.digest())
        };
        let expected = digest_of(&[0, 1, 2])?;
        for order in [&[2, 1, 0][..], &[1, 0, 2], &[0, 0, 1, 2, 1, 0], &[2, 0, 2, 1]] {
            prop_assert_eq!(digest_of(order)?, expected);
        }
        // Joined in pairs first, as by nodes that have met others.
        let mut pair = small(8, capacity);
        pair.merge(&told[1], now);
        pair.merge(&told[2], now);
        let mut node = small(9, capacity);
        node.merge(&told[0], now);
        node.merge(&pair.tell(now).marks, now);
        prop_assert_eq!(node.digest(), expected);
    }

    #[test]
    fn every_deed_is_heard_of_everywhere_or_everything_is_dropped(events in happenings(4), capacity in 4usize..40) {
        let mut world = World::new(4, capacity);
        // They have met, as the members of a cluster have.
        world.settle();
        for (from, to, keyspace, is_deed) in events {
            match is_deed {
                true => world.deed(from, keyspace, if keyspace % 2 == 0 { Deed::Delete } else { Deed::Clear }),
                false if from != to => world.tell(from, to),
                false => {}
            }
        }
        world.settle();
        for unheard in &world.unheard {
            prop_assert!(unheard.is_empty(), "never heard of: {:?}", unheard);
        }
        let digests: Vec<_> = world.nodes.iter().map(Epochs::digest).collect();
        prop_assert!(digests.iter().all(|digest| *digest == digests[0]), "they do not agree: {:?}", digests);
        let before = digests[0];
        world.settle();
        prop_assert_eq!(world.nodes[0].digest(), before, "and it comes to rest");
    }
}
