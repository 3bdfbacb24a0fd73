//! Leaders and followers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::Poll,
    thread,
    time::Duration,
};

use distcache_core::{Cache, Expiry, Fill, Follower, Installed, Lookup, Outcome};

use crate::support::{
    Alarm, PATIENCE, assert_exact, block_on, cache, follow, handed, lead, poll, roomy, value, weight,
};

#[test]
fn the_first_leads_and_the_others_follow() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    assert_eq!(fill.key(), "a");
    let followers: Vec<_> = (0..5).map(|_| follow(cache.lookup("a"))).collect();
    assert_eq!(fill.install(vec![1], Expiry::Default), Installed::Stored);
    for follower in followers {
        assert_eq!(value(follower.wait(PATIENCE)), [1]);
    }
    assert!(matches!(cache.lookup("a"), Lookup::Hit(value) if value == [1]));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.coalesced, stats.hits, stats.misses, stats.inserts), (1, 5, 1, 6, 1));
}

#[test]
fn loads_of_different_keys_do_not_meet() {
    let (cache, _) = roomy();
    let (a, b) = (lead(cache.lookup("a")), lead(cache.lookup("b")));
    a.install(vec![1], Expiry::Default);
    b.install(vec![2], Expiry::Default);
    assert_eq!((cache.get("a"), cache.get("b")), (Some(vec![1]), Some(vec![2])));
}

#[test]
fn delivered_values_are_shared_and_not_stored() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let follower = follow(cache.lookup("a"));
    fill.deliver(vec![1]);
    assert_eq!(value(follower.wait(PATIENCE)), [1]);
    assert_eq!((cache.get("a"), cache.len()), (None, 0));
    drop(lead(cache.lookup("a")));
}

#[test]
fn a_failure_is_shared_and_not_remembered() {
    #[derive(Debug)]
    struct Down(u32);
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let followers = [follow(cache.lookup("a")), follow(cache.lookup("a"))];
    fill.fail(Down(7));
    let failures = followers.map(|follower| match follower.wait(PATIENCE) {
        Some(Outcome::Failed(failure)) => failure,
        _ => panic!("a failure is shared"),
    });
    assert_eq!(failures[0].downcast_ref::<Down>().unwrap().0, 7);
    assert!(failures[0].downcast_ref::<String>().is_none());
    let [first, second] = failures.map(|failure| failure.downcast::<Down>().unwrap());
    assert!(Arc::ptr_eq(&first, &second), "one error, not two copies");
    drop(lead(cache.lookup("a")));
    assert_eq!(cache.stats().load_failures, 1);
}

#[test]
fn a_follower_takes_over_when_the_leader_is_dropped() {
    let (cache, _) = roomy();
    let first = lead(cache.lookup("a"));
    let (second, third) = (follow(cache.lookup("a")), follow(cache.lookup("a")));
    drop(first);
    let fill = handed(second.wait(PATIENCE));
    assert!(matches!(cache.lookup("a"), Lookup::Follow(_)), "the load goes on under its new leader");
    fill.install(vec![2], Expiry::Default);
    assert_eq!(value(third.wait(PATIENCE)), [2]);
    assert_eq!(cache.stats().loads, 2);
}

#[test]
fn a_follower_takes_over_when_the_leader_panics() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let follower = follow(cache.lookup("a"));
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _leads = fill;
        panic!("the loader has a bug");
    }));
    assert!(panicked.is_err());
    handed(follower.wait(PATIENCE)).install(vec![1], Expiry::Default);
    assert_eq!(cache.get("a"), Some(vec![1]));
}

#[test]
fn a_leader_dropped_with_nobody_waiting_leaves_nothing() {
    let (cache, _) = roomy();
    drop(lead(cache.lookup("a")));
    drop(lead(cache.lookup("a")));
    let fill = lead(cache.lookup("a"));
    drop(follow(cache.lookup("a")));
    drop(fill);
    drop(lead(cache.lookup("a")));
}

#[test]
fn the_lead_passes_in_the_order_of_arrival() {
    let (cache, _) = roomy();
    let first = lead(cache.lookup("a"));
    let mut waiting: Vec<_> = (0..3).map(|_| (follow(cache.lookup("a")), Arc::<Alarm>::default())).collect();
    for (follower, alarm) in &mut waiting {
        assert!(poll(Pin::new(follower), alarm).is_pending());
    }
    drop(first);
    let rings =
        |waiting: &[(Follower<_, _>, Arc<Alarm>)]| waiting.iter().map(|(_, alarm)| alarm.rings()).collect::<Vec<_>>();
    assert_eq!(rings(&waiting), [1, 0, 0], "only the one who has the lead is woken");
    let (mut second, alarm) = waiting.remove(0);
    let Poll::Ready(Outcome::Lead(fill)) = poll(Pin::new(&mut second), &alarm) else { panic!("it has the lead") };
    fill.deliver(vec![1]);
    assert_eq!(rings(&waiting), [1, 1]);
}

#[test]
fn a_follower_dropped_with_the_lead_in_hand_passes_it_on() {
    let (cache, _) = roomy();
    let first = lead(cache.lookup("a"));
    let (second, third) = (follow(cache.lookup("a")), follow(cache.lookup("a")));
    drop(first);
    drop(second);
    handed(third.wait(PATIENCE)).install(vec![3], Expiry::Default);
    assert_eq!(cache.get("a"), Some(vec![3]));
}

#[test]
fn the_last_follower_dropped_with_the_lead_in_hand_ends_the_flight() {
    let (cache, _) = roomy();
    let first = lead(cache.lookup("a"));
    let second = follow(cache.lookup("a"));
    drop(first);
    drop(second);
    drop(lead(cache.lookup("a")));
}

#[test]
fn a_follower_that_leaves_is_not_handed_the_lead() {
    let (cache, _) = roomy();
    let first = lead(cache.lookup("a"));
    let (second, third) = (follow(cache.lookup("a")), follow(cache.lookup("a")));
    drop(second);
    drop(first);
    drop(handed(third.wait(PATIENCE)));
}

#[test]
fn a_wait_ends_at_its_deadline_while_the_leader_hangs() {
    let (cache, _) = roomy();
    let hanging = lead(cache.lookup("a"));
    let follower = follow(cache.lookup("a"));
    assert!(follower.wait(Some(Duration::from_millis(5))).is_none());
    assert!(follow(cache.lookup("a")).wait(Some(Duration::ZERO)).is_none());
    let patient = follow(cache.lookup("a"));
    assert_eq!(hanging.install(vec![1], Expiry::Default), Installed::Stored);
    assert_eq!(value(patient.wait(Some(Duration::ZERO))), [1], "what is there needs no time");
}

#[test]
fn a_leader_can_follow_its_own_load() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let follower = fill.follower();
    let loader = thread::spawn(move || fill.install(vec![1], Expiry::Default));
    assert_eq!(value(follower.wait(PATIENCE)), [1]);
    assert_eq!(loader.join().unwrap(), Installed::Stored);

    let fill = lead(cache.lookup("b"));
    let follower = fill.follower();
    drop(fill);
    drop(handed(follower.wait(PATIENCE)));
}

#[test]
fn values_that_are_not_stored_reach_those_who_wait() {
    let (cache, _) = cache(weight(10));
    let fill = lead(cache.lookup("large"));
    let follower = follow(cache.lookup("large"));
    assert_eq!(fill.install(vec![0; 11], Expiry::Default), Installed::TooLarge);
    assert_eq!(value(follower.wait(PATIENCE)).len(), 11);

    let fill = lead(cache.lookup("short"));
    let follower = follow(cache.lookup("short"));
    assert_eq!(fill.install(vec![1], Expiry::After(Duration::ZERO)), Installed::Expired);
    assert_eq!(value(follower.wait(PATIENCE)), [1]);
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.rejected, stats.poisoned), (0, 1, 0));
}

#[test]
fn installed_values_live_as_long_as_they_are_told_from_then_on() {
    let (cache, clock) = roomy();
    let fill = lead(cache.lookup("a"));
    clock.advance(Duration::from_secs(100));
    fill.install(vec![1], Expiry::After(Duration::from_secs(10)));
    clock.advance(Duration::from_secs(9));
    assert_eq!(cache.get("a"), Some(vec![1]));
    clock.advance(Duration::from_secs(1));
    assert_eq!(cache.get("a"), None);
}

#[test]
fn a_follower_is_woken_by_the_waker_of_its_last_poll_only() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let mut follower = follow(cache.lookup("a"));
    let (first, last) = (Arc::<Alarm>::default(), Arc::<Alarm>::default());
    assert!(poll(Pin::new(&mut follower), &first).is_pending());
    assert!(poll(Pin::new(&mut follower), &last).is_pending());
    assert_eq!((first.rings(), last.rings()), (0, 0));
    fill.deliver(vec![1]);
    assert_eq!((first.rings(), last.rings()), (0, 1));
    assert!(matches!(poll(Pin::new(&mut follower), &last), Poll::Ready(Outcome::Value(_))));
    assert_eq!(Arc::strong_count(&first), 1, "a waker is still held");
}

#[test]
fn a_fill_outlives_the_handles_of_its_cache() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let follower = follow(cache.lookup("a"));
    drop(cache);
    assert_eq!(fill.install(vec![1], Expiry::Default), Installed::Stored);
    assert_eq!(value(follower.wait(PATIENCE)), [1]);
}

#[test]
fn fills_and_followers_can_be_sent_anywhere() {
    fn sendable<T: Send + 'static>() {}
    fn movable<T: Unpin>() {}
    sendable::<Fill<String, String>>();
    sendable::<Follower<String, String>>();
    sendable::<Outcome<String, String>>();
    movable::<Follower<String, String>>();
    fn sendable_value<T: Send>(_: T) {}
    let cache = Cache::<String, String>::builder(1 << 20).build().unwrap();
    sendable_value(cache.get_or_load("a", async || Ok::<_, String>(String::new())));
}

#[test]
fn ten_threads_that_ask_at_once_are_served_by_one_load() {
    let cache = Cache::<String, u64>::builder(1 << 20).build().unwrap();
    let fill = lead(cache.lookup("a"));
    let asking: Vec<_> = (0..9)
        .map(|at| {
            let follower = follow(cache.lookup("a"));
            thread::spawn(move || match at % 2 {
                0 => value(follower.wait(PATIENCE)),
                _ => value(Some(block_on(follower))),
            })
        })
        .collect();
    fill.install(42, Expiry::Default);
    assert!(asking.into_iter().all(|asked| asked.join().unwrap() == 42));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.coalesced), (1, 9));
    assert_exact(stats);
}
