//! When calls are to give up: one timer for all calls of a connection instead of one each.

use std::{cmp::Reverse, collections::BinaryHeap};

use tokio::time::Instant;

/// The deadlines of calls, the earliest first. Calls that were answered stay until they are met or there are too many.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Deadlines {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Adds a call, and says whether no other is to give up sooner.
    pub(super) fn add(&mut self, deadline: Instant, id: u64) -> bool {
        self.heap.push(Reverse((deadline, id)));
        self.heap.peek().is_some_and(|Reverse((_, first))| *first == id)
    }

    /// Takes out a call whose time is over.
    pub(super) fn take_over(&mut self, now: Instant) -> Option<u64> {
        let Reverse((deadline, id)) = *self.heap.peek()?;
        (deadline <= now).then(|| {
            self.heap.pop();
            id
        })
    }

    /// Returns when the next call that still waits is to give up.
    pub(super) fn next(&mut self, waits: impl Fn(u64) -> bool) -> Option<Instant> {
        while let Some(Reverse((deadline, id))) = self.heap.peek() {
            if waits(*id) {
                return Some(*deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// Forgets calls that were answered, once they are more than those that wait.
    pub(super) fn prune(&mut self, waiting: usize, waits: impl Fn(u64) -> bool) {
        if self.heap.len() > 2 * waiting + FEW {
            self.heap.retain(|Reverse((_, id))| waits(*id));
        }
    }
}

/// Not worth a look.
const FEW: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_earliest_that_waits_is_next() {
        let (now, mut deadlines) = (Instant::now(), Deadlines::default());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(deadlines.add(at(5), 1));
        assert!(!deadlines.add(at(9), 2));
        assert!(deadlines.add(at(2), 3));
        assert_eq!(deadlines.next(|_| true), Some(at(2)));
        assert_eq!(deadlines.take_over(at(1)), None);
        assert_eq!(deadlines.take_over(at(2)), Some(3));
        assert_eq!(deadlines.next(|id| id != 1), Some(at(9)));
        assert_eq!(deadlines.next(|_| false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn answered_calls_are_forgotten() {
        let (now, mut deadlines) = (Instant::now(), Deadlines::default());
        for id in 0..100_000 {
            deadlines.add(now + Duration::from_secs(60), id);
            deadlines.prune(1, |other| other == id);
        }
        assert!(deadlines.heap.len() <= FEW + 2, "{} deadlines for one call", deadlines.heap.len());
        assert!(deadlines.next(|id| id == 99_999).is_some());
    }
}
