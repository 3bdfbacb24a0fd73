//! The roster believes what was said last, for as long as it may, and stays small.

use proptest::prelude::*;

use super::*;

const EVERY: Duration = Duration::from_secs(2);

fn id(bits: u128) -> NodeId {
    NodeId::new(bits)
}

fn addr(last: u16) -> SocketAddr {
    ([10, 0, 0, 1], last).into()
}

fn at(last: u16) -> Here {
    Here { name: "cache-0".to_owned(), addr: addr(last), every: EVERY }
}

fn insert(last: u16) -> Change {
    Change::Insert(Seed::new(addr(last), "nats"))
}

fn remove(last: u16) -> Change {
    Change::Remove(Seed::new(addr(last), "nats"))
}

fn ports(roster: &Roster) -> Vec<u16> {
    roster.seeds().iter().map(|seed| seed.addr.port()).collect()
}

#[test]
fn a_newcomer_is_told_once_and_a_leaver_too() {
    let (mut roster, now) = (Roster::new("nats"), Instant::now());
    assert_eq!(roster.here(id(1), 1, &at(1), now), [insert(1)]);
    assert_eq!(roster.here(id(1), 2, &at(1), now), []);
    assert_eq!(roster.here(id(2), 1, &at(2), now), [insert(2)]);
    assert_eq!(ports(&roster), [1, 2]);
    assert_eq!(roster.leave(id(1), 3), Some(remove(1)));
    assert_eq!(roster.leave(id(1), 3), None);
    assert_eq!(ports(&roster), [2]);
}

#[test]
fn an_old_leave_does_not_remove_a_node_that_was_started_again() {
    let (mut roster, now) = (Roster::new("nats"), Instant::now());
    roster.here(id(1), 1, &at(1), now);
    assert_eq!(roster.here(id(2), 1, &at(1), now), []);
    assert_eq!(roster.leave(id(1), 2), None);
    assert_eq!(ports(&roster), [1]);
    assert_eq!(roster.leave(id(2), 2), Some(remove(1)));
}

#[test]
fn what_was_said_earlier_is_passed_over_when_it_comes_later() {
    let (mut roster, now) = (Roster::new("nats"), Instant::now());
    roster.here(id(1), 5, &at(2), now);
    assert_eq!(roster.here(id(1), 4, &at(1), now), []);
    assert_eq!(roster.leave(id(1), 4), None);
    assert_eq!(ports(&roster), [2]);
}

#[test]
fn a_node_that_moves_leaves_its_former_address() {
    let (mut roster, now) = (Roster::new("nats"), Instant::now());
    roster.here(id(1), 1, &at(1), now);
    assert_eq!(roster.here(id(1), 2, &at(2), now), [remove(1), insert(2)]);
    assert_eq!(ports(&roster), [2]);
}

#[test]
fn a_silent_node_is_forgotten_after_three_and_a_half_heartbeats() {
    let (mut roster, now) = (Roster::new("nats"), Instant::now());
    roster.here(id(1), 1, &at(1), now);
    roster.here(id(2), 1, &at(2), now + EVERY);
    assert_eq!(roster.expire(now + EVERY * 3), []);
    assert_eq!(roster.expire(now + EVERY * 7 / 2), [remove(1)]);
    assert_eq!(ports(&roster), [2]);
    // And whoever could not listen starts counting anew.
    roster.renew(now + EVERY * 10);
    assert_eq!(roster.expire(now + EVERY * 13), []);
    assert_eq!(roster.expire(now + EVERY * 27 / 2), [remove(2)]);
}

#[test]
fn a_flood_finds_no_room_and_drives_nobody_out() {
    let (mut roster, now) = (Roster::new("nats"), Instant::now());
    roster.here(id(0), 1, &at(1), now);
    for node in 1..100_000u32 {
        let here = Here { addr: SocketAddr::from((node.to_be_bytes(), 3320)), ..at(1) };
        roster.here(id(node.into()), 1, &here, now);
    }
    assert_eq!((roster.nodes.len(), roster.seeds().len()), (MAX_SEEDS, MAX_SEEDS));
    assert!(roster.seeds().contains(insert(1).seed()));
    assert_eq!(roster.refused(), 100_000 - 1024);
    assert_eq!(roster.here(id(0), 2, &at(2), now), [remove(1), insert(2)]);
}

#[test]
fn many_lives_of_one_address_do_not_fill_the_roster() {
    let (mut roster, now) = (Roster::new("nats"), Instant::now());
    for life in 0..5_000 {
        roster.here(id(life), 1, &at(1), now);
    }
    assert_eq!(roster.nodes.len(), MOST_AT_ONE_ADDRESS);
    assert_eq!(roster.here(id(9_999), 1, &at(2), now), [insert(2)]);
}

#[derive(Debug, Clone)]
enum Step {
    Here(u8, u8, u8),
    Leave(u8, u8),
    Expire,
    Renew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8, 0..8u8, 0..4u8).prop_map(|(id, seq, at)| Step::Here(id, seq, at)),
        2 => (0..6u8, 0..8u8).prop_map(|(id, seq)| Step::Leave(id, seq)),
        1 => Just(Step::Expire),
        1 => Just(Step::Renew),
    ]
}

proptest! {
    #[test]
    fn changes_lead_from_one_answer_to_the_next(steps in proptest::collection::vec((step(), 0..4_000u64), 0..60)) {
        let (mut roster, mut now) = (Roster::new("nats"), Instant::now());
        let mut told = BTreeSet::new();
        for (step, later) in steps {
            now += Duration::from_millis(later);
            let changes = match step {
                Step::Here(node, seq, port) => roster.here(id(node.into()), seq.into(), &at(u16::from(port) + 1), now),
                Step::Leave(node, seq) => roster.leave(id(node.into()), seq.into()).into_iter().collect(),
                Step::Expire => roster.expire(now),
                Step::Renew => {
                    roster.renew(now);
                    Vec::new()
                }
            };
            for change in changes {
                match change {
                    Change::Insert(seed) => prop_assert!(told.insert(seed)),
                    Change::Remove(seed) => prop_assert!(told.remove(&seed)),
                }
            }
            prop_assert_eq!(&told, &roster.seeds());
            prop_assert_eq!(roster.addrs.values().sum::<usize>(), roster.nodes.len());
        }
        roster.expire(now + Duration::from_secs(60));
        prop_assert!(roster.nodes.is_empty() && roster.addrs.is_empty());
    }
}
