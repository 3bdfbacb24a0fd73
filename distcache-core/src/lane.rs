//! A number for each running thread, so that threads can keep apart what they write.

use std::{
    cell::{Cell, OnceCell},
    sync::Mutex,
};

use crate::sync::lock;

/// A thread's number, for as long as the thread runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane(usize);

/// The numbers that no thread has, the smallest last.
static FREE: Mutex<Option<Vec<usize>>> = Mutex::new(None);

thread_local! {
    /// What is asked for on every hit: it needs no destructor, so it is one load.
    static CURRENT: Cell<usize> = const { Cell::new(UNKNOWN) };
    static OWNED: OnceCell<Owned> = const { OnceCell::new() };
}

impl Lane {
    /// Lanes with an owner; the one after them is shared.
    ///
    /// More threads than this rarely run at once in one process. Those beyond share a lane, at the cost of an atomic addition.
    pub(crate) const OWN: usize = 32;

    /// Returns the lane of this thread.
    #[inline]
    pub(crate) fn current() -> Self {
        match CURRENT.get() {
            UNKNOWN => Self::claim(),
            number => Self(number),
        }
    }

    #[cold]
    fn claim() -> Self {
        // A thread that is ending, and drops its last values, has no lane any more.
        let number = OWNED.try_with(|owned| owned.get_or_init(Owned::claim).0).unwrap_or(Self::OWN);
        CURRENT.set(number);
        Self(number)
    }

    #[inline]
    pub(crate) fn number(self) -> usize {
        self.0
    }

    #[inline]
    pub(crate) fn is_shared(self) -> bool {
        self.0 == Self::OWN
    }
}

/// A number that is given back when its thread ends.
struct Owned(usize);

impl Owned {
    fn claim() -> Self {
        let mut free = lock(&FREE);
        Self(free.get_or_insert_with(|| (0..Lane::OWN).rev().collect()).pop().unwrap_or(Lane::OWN))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.0 < Lane::OWN {
            CURRENT.set(Lane::OWN);
            // The lock also makes what was written in the lane visible to its next owner.
            lock(&FREE).as_mut().expect("a lane was taken from it").push(self.0);
        }
    }
}

/// The number of a thread that has not asked for one.
const UNKNOWN: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    #[test]
    fn no_two_running_threads_own_one_lane() {
        let threads = 2 * Lane::OWN;
        let barrier = Barrier::new(threads);
        let mut lanes: Vec<_> = thread::scope(|scope| {
            let claim = || {
                let lane = Lane::current().number();
                barrier.wait();
                lane
            };
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(claim)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        lanes.sort_unstable();
        let own = lanes.iter().take_while(|lane| **lane < Lane::OWN).count();
        assert!(lanes[..own].windows(2).all(|two| two[0] < two[1]), "a lane has two owners: {lanes:?}");
        // Other tests run at the same time and have lanes too.
        assert!(own > 0);
    }

    #[test]
    fn a_thread_that_is_ending_owns_no_lane_any_more() {
        use std::sync::mpsc;

        struct Last(mpsc::Sender<bool>);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.send(Lane::current().is_shared()).unwrap();
            }
        }
        thread_local! {
            static BEFORE: OnceCell<Last> = const { OnceCell::new() };
            static AFTER: OnceCell<Last> = const { OnceCell::new() };
        }
        // One of the two is dropped after the thread's lane, whatever the order.
        let (sender, is_shared) = mpsc::channel();
        let ends = move || {
            BEFORE.with(|last| assert!(last.set(Last(sender.clone())).is_ok()));
            let owned = !Lane::current().is_shared();
            AFTER.with(|last| assert!(last.set(Last(sender)).is_ok()));
            owned
        };
        // Other tests may hold all lanes for a while.
        if thread::spawn(ends).join().unwrap() {
            assert!(is_shared.iter().any(|shared| shared), "a thread counts in a lane that it gave back");
        }
    }

    #[test]
    fn a_thread_that_ended_gives_its_lane_back() {
        // Many more threads than lanes, one after another. Other tests may hold all lanes for a while, so some may have to share.
        let owned = |_: &usize| thread::spawn(|| !Lane::current().is_shared()).join().unwrap();
        let owners = (0..100 * Lane::OWN).filter(owned).take(2 * Lane::OWN).count();
        assert!(owners > Lane::OWN, "{owners} threads owned a lane: lanes are not given back");
    }
}
