//! `get_or_load` and `get_or_insert_with`.

use std::{
    cell::Cell,
    fmt,
    future::{pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use distcache_core::{Cache, Expiry, LoadError, ManualClock};

use crate::support::{Alarm, assert_exact, block_on, lead, poll, roomy, weight};

#[derive(Debug)]
struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source is down")
    }
}

impl std::error::Error for Down {}

fn never() -> std::future::Ready<Result<Vec<u8>, Down>> {
    panic!("this loader is not called")
}

#[test]
fn ten_reads_load_once() {
    let (cache, _) = roomy();
    let loads = Cell::new(0);
    for _ in 0..10 {
        let load = || {
            loads.set(loads.get() + 1);
            ready(Ok::<_, Down>(vec![1]))
        };
        assert_eq!(block_on(cache.get_or_load("a", load)).unwrap(), [1]);
    }
    assert_eq!(loads.get(), 1);
}

#[test]
fn an_expired_value_is_loaded_again() {
    let (clock, ttl) = (ManualClock::new(), Duration::from_secs(1));
    let cache = Cache::<String, u64>::builder(1 << 20).default_ttl(ttl).clock(clock.clone()).build().unwrap();
    let loads = Cell::new(0);
    let read = || {
        let load = || {
            loads.set(loads.get() + 1);
            ready(Ok::<_, Down>(loads.get()))
        };
        block_on(cache.get_or_load("a", load)).unwrap()
    };
    assert_eq!((read(), read()), (1, 1));
    clock.advance(ttl);
    assert_eq!((read(), loads.get()), (2, 2));
}

#[test]
fn tasks_that_ask_during_a_load_share_it() {
    let (cache, _) = roomy();
    let alarm = Arc::<Alarm>::default();
    let gate = Cell::new(false);
    let slow = || async {
        std::future::poll_fn(|_| if gate.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        Ok::<_, Down>(vec![1])
    };
    let mut leader = pin!(cache.get_or_load("a", slow));
    assert!(poll(leader.as_mut(), &alarm).is_pending());
    let mut follower = pin!(cache.get_or_load("a", never));
    assert!(poll(follower.as_mut(), &alarm).is_pending());
    gate.set(true);
    assert!(matches!(poll(leader, &alarm), Poll::Ready(Ok(_))));
    assert!(matches!(poll(follower, &alarm), Poll::Ready(Ok(_))));
    assert_eq!(cache.stats().loads, 1);
}

#[test]
fn a_cancelled_leader_fails_nobody() {
    let (cache, _) = roomy();
    let alarm = Arc::<Alarm>::default();
    let mut leader = Box::pin(cache.get_or_load("a", pending::<Result<Vec<u8>, Down>>));
    assert!(poll(leader.as_mut(), &alarm).is_pending());
    let mut follower = pin!(cache.get_or_load("a", || ready(Ok::<_, Down>(vec![2]))));
    assert!(poll(follower.as_mut(), &alarm).is_pending());
    drop(leader);
    assert_eq!(alarm.rings(), 1);
    assert!(matches!(poll(follower, &alarm), Poll::Ready(Ok(value)) if value == [2]));
    assert_eq!(cache.get("a"), Some(vec![2]));
}

#[test]
fn a_cancelled_follower_leaves_no_trace() {
    let (cache, _) = roomy();
    let alarm = Arc::<Alarm>::default();
    let fill = lead(cache.lookup("a"));
    let mut follower = Box::pin(cache.get_or_load("a", never));
    assert!(poll(follower.as_mut(), &alarm).is_pending());
    drop(follower);
    drop(fill);
    assert_eq!(alarm.rings(), 0);
    drop(lead(cache.lookup("a")));
}

#[test]
fn an_error_is_shared_with_all_who_waited_and_not_stored() {
    let (cache, _) = roomy();
    let alarm = Arc::<Alarm>::default();
    let gate = Cell::new(false);
    let failing = || async {
        std::future::poll_fn(|_| if gate.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        Err::<Vec<u8>, _>(Down)
    };
    let mut leader = pin!(cache.get_or_load("a", failing));
    assert!(poll(leader.as_mut(), &alarm).is_pending());
    let mut follower = pin!(cache.get_or_load("a", never));
    assert!(poll(follower.as_mut(), &alarm).is_pending());
    let mut other_kind = pin!(cache.get_or_load("a", || ready(Err::<Vec<u8>, _>(7_u32))));
    assert!(poll(other_kind.as_mut(), &alarm).is_pending());
    gate.set(true);
    let Poll::Ready(Err(LoadError::Failed(first))) = poll(leader, &alarm) else { panic!("it fails") };
    let Poll::Ready(Err(LoadError::Failed(second))) = poll(follower, &alarm) else { panic!("it fails, too") };
    assert!(Arc::ptr_eq(&first, &second));
    let Poll::Ready(Err(LoadError::FailedElsewhere(failure))) = poll(other_kind, &alarm) else {
        panic!("it fails, too")
    };
    assert_eq!(failure.downcast_ref::<Down>().unwrap().to_string(), "the source is down");
    assert_eq!(block_on(cache.get_or_load("a", || ready(Ok::<_, Down>(vec![1])))).unwrap(), [1]);
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (2, 1));
}

#[test]
fn an_error_names_its_cause() {
    let (cache, _) = roomy();
    let error = cache.try_get_or_insert_with("a", || Err::<Vec<u8>, _>(Down)).unwrap_err();
    assert_eq!(error.to_string(), "the load failed");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the source is down");
}

#[test]
fn a_panic_in_a_loader_does_not_wedge_the_key() {
    let (cache, _) = roomy();
    let panicking = catch_unwind(AssertUnwindSafe(|| cache.get_or_insert_with("a", || panic!("a bug"))));
    assert!(panicking.is_err());
    let load = || async { panic!("another bug") };
    assert!(catch_unwind(AssertUnwindSafe(|| block_on(cache.get_or_load::<_, _, _, Down>("a", load)))).is_err());
    assert_eq!(cache.get_or_insert_with("a", || vec![1]), [1]);
}

#[test]
fn a_removal_during_a_load_is_not_undone() {
    let (cache, _) = roomy();
    let load = || {
        cache.remove("a");
        vec![1]
    };
    assert_eq!(cache.get_or_insert_with("a", load), [1]);
    assert_eq!(cache.get("a"), None);
    assert_eq!(cache.get_or_insert_with("a", || vec![2]), [2]);
}

#[test]
fn a_loader_may_use_the_cache_for_other_keys() {
    let (cache, _) = roomy();
    let value = cache.get_or_insert_with("outer", || cache.get_or_insert_with("inner", || vec![1]));
    assert_eq!((value, cache.len()), (vec![1], 2));
}

#[test]
fn a_thread_whose_leader_fails_otherwise_makes_the_value_itself() {
    let (cache, _) = roomy();
    let fill = lead(cache.lookup("a"));
    let waiting = cache.clone();
    let waiter = thread::spawn(move || waiting.get_or_insert_with("a", || vec![2]));
    // The waiter has joined, so it is told of the failure.
    while cache.stats().coalesced == 0 {
        thread::yield_now();
    }
    fill.fail(Down);
    assert_eq!(waiter.join().unwrap(), [2]);
}

#[test]
fn threads_and_tasks_share_one_load() {
    const CALLERS: usize = 10;
    let cache = Cache::<String, u64>::builder(1 << 20).build().unwrap();
    let (loads, start) = (AtomicUsize::new(0), Barrier::new(CALLERS));
    let load = || {
        loads.fetch_add(1, Ordering::SeqCst);
        // The load lasts until everybody else waits for it.
        while cache.stats().coalesced < CALLERS as u64 - 1 {
            thread::yield_now();
        }
        42
    };
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (cache, start, load) = (&cache, &start, &load);
            scope.spawn(move || {
                start.wait();
                let value = match caller % 2 {
                    0 => cache.get_or_insert_with("a", load),
                    _ => block_on(cache.get_or_load("a", || ready(Ok::<_, Down>(load())))).unwrap(),
                };
                assert_eq!(value, 42);
            });
        }
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.inserts, stats.hits + stats.misses), (1, 1, CALLERS as u64));
    assert_exact(stats);
}

#[test]
fn who_missed_before_a_load_ended_does_not_load_again() {
    let (cache, _) = roomy();
    assert_eq!(cache.get("a"), None);
    lead(cache.lookup("a")).install(vec![1], Expiry::Default);
    // The second look, inside the flight's registration, sees what landed after the first.
    assert_eq!(cache.get_or_insert_with("a", || panic!("it is there")), [1]);
    assert_eq!((cache.stats().inserts, cache.weight()), (1, weight(1)));
}
