//! When entries are over: a column of times beside the slots, and a heap that says which is first.
//!
//! Since an entry leaves the heap when it leaves the cache, the heap never outgrows the entries, however often keys are reused
//! and whatever their times to live. A cache whose entries live for ever keeps nothing here.
//!
//! With a time to idle, a hit writes the time of use and nothing else. The heap then holds a time at which to look
//! again, which is never too late: an entry that was used meanwhile is put back with its new time.

use std::time::Duration;

use crate::{
    clock::Tick,
    sync::{AtomicU64, Ordering},
    table::{Moves, NIL},
};

#[derive(Debug)]
pub(crate) struct Deadlines {
    /// By slot. Shorter than the slots if the last of them have no end.
    times: Vec<Time>,
    /// Slots; none is due before its parent.
    heap: Vec<u32>,
    /// Set if entries are over when they were not used for so long.
    idle: Option<Duration>,
    /// By slot, if there is a time to idle.
    uses: Vec<Use>,
}

#[derive(Debug)]
struct Time {
    /// When to look at the slot: without a time to idle, when it is over.
    due: Tick,
    /// Its place in the heap, or [`NIL`].
    place: u32,
}

const ENDLESS: Time = Time { due: Tick::MAX, place: NIL };

#[derive(Debug)]
struct Use {
    /// When the entry is over, however often it is used.
    end: Tick,
    last: AtomicU64,
}

impl Use {
    #[expect(clippy::declare_interior_mutable_const, reason = "each use of it is a new value")]
    const NONE: Self = Self { end: Tick::MAX, last: AtomicU64::new(0) };
}

impl Deadlines {
    pub(crate) fn new(idle: Option<Duration>) -> Self {
        Self { times: Vec::new(), heap: Vec::new(), idle, uses: Vec::new() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Returns the first tick at which a slot's entry must not be served.
    pub(crate) fn deadline(&self, at: u32) -> Tick {
        match (self.idle, self.uses.get(at as usize)) {
            (Some(idle), Some(used)) => {
                let last = Tick(used.last.load(Ordering::Relaxed));
                last.saturating_add(idle).min(used.end)
            }
            _ => self.times.get(at as usize).map_or(Tick::MAX, |time| time.due),
        }
    }

    /// Notes a use of a slot.
    pub(crate) fn touch(&self, at: u32, now: Tick) {
        if let Some(used) = self.uses.get(at as usize)
            && used.last.load(Ordering::Relaxed) < now.0
        {
            // Readers share the lock: the latest of them counts.
            used.last.fetch_max(now.0, Ordering::Relaxed);
        }
    }

    /// Adds a slot that is not in the heap, with the time its entry is over at the latest.
    pub(crate) fn add(&mut self, at: u32, end: Tick, now: Tick) {
        let due = self.idle.map_or(end, |idle| now.saturating_add(idle).min(end));
        if due == Tick::MAX {
            return;
        }
        let slot = at as usize;
        if self.times.len() <= slot {
            self.times.resize_with(slot + 1, || ENDLESS);
        }
        if self.idle.is_some() {
            if self.uses.len() <= slot {
                self.uses.resize_with(slot + 1, || Use::NONE);
            }
            self.uses[slot] = Use { end, last: AtomicU64::new(now.0) };
        }
        self.times[slot].due = due;
        self.heap.push(at);
        self.put(self.heap.len() - 1, at);
        self.rise(self.heap.len() - 1);
    }

    /// Takes a slot out of the heap, if it is in it.
    pub(crate) fn remove(&mut self, at: u32) {
        let Some(time) = self.times.get_mut(at as usize) else { return };
        let place = std::mem::replace(time, ENDLESS).place;
        if place == NIL {
            return;
        }
        let last = self.heap.pop().expect("a slot with a place is in the heap");
        if last != at {
            self.put(place as usize, last);
            self.rise(place as usize);
            self.sink(self.times[last as usize].place as usize);
        }
        if self.heap.is_empty() {
            *self = Self::new(self.idle);
        } else if self.heap.len() * 4 < self.heap.capacity() {
            self.heap.shrink_to(self.heap.len() * 2);
        }
    }

    /// Follows all entries to the slots they moved to.
    pub(crate) fn renumber(&mut self, moves: &Moves) {
        self.heap.iter_mut().for_each(|at| *at = moves.of(*at));
        let slots = self.heap.iter().max().map_or(0, |last| *last as usize + 1);
        let mut times: Vec<_> = (0..slots).map(|_| ENDLESS).collect();
        let mut uses: Vec<_> = (0..if self.idle.is_some() { slots } else { 0 }).map(|_| Use::NONE).collect();
        for (old, time) in self.times.drain(..).enumerate().filter(|(_, time)| time.place != NIL) {
            let new = moves.of(old as u32) as usize;
            times[new] = time;
            if let (Some(new), Some(old)) = (uses.get_mut(new), self.uses.get_mut(old)) {
                std::mem::swap(new, old);
            }
        }
        (self.times, self.uses) = (times, uses);
    }

    /// Whether a slot is due: it is over, or was used in the meantime and is to be put back.
    pub(crate) fn is_any_due(&self, now: Tick) -> bool {
        self.heap.first().is_some_and(|first| self.times[*first as usize].due <= now)
    }

    /// Returns a slot that is over, if one is found soon. Puts back a few of those that were used before they were due.
    pub(crate) fn first_over(&mut self, now: Tick) -> Option<u32> {
        for _ in 0..LOOKS {
            let first = *self.heap.first()?;
            if self.times[first as usize].due > now {
                return None;
            }
            let deadline = self.deadline(first);
            if deadline <= now {
                return Some(first);
            }
            self.times[first as usize].due = deadline;
            self.sink(0);
        }
        None
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 && self.due(place) < self.due((place - 1) / 2) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = (2 * place + 1)..(2 * place + 3).min(self.heap.len());
            let Some(child) = children.min_by_key(|child| self.due(*child)) else { return };
            if self.due(place) <= self.due(child) {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (at_a, at_b) = (self.heap[a], self.heap[b]);
        self.put(a, at_b);
        self.put(b, at_a);
    }

    fn put(&mut self, place: usize, at: u32) {
        self.heap[place] = at;
        self.times[at as usize].place = u32::try_from(place).expect("there are no more places than slots");
    }

    fn due(&self, place: usize) -> Tick {
        self.times[self.heap[place] as usize].due
    }
}

/// Entries that are put back by one call: enough to keep up with writes, few enough that no write pays for all readers.
const LOOKS: usize = 8;

/// Bytes kept for an entry that will be over: its time and its place in a heap that doubles as it grows.
pub(crate) const DEADLINE_BYTES: usize = size_of::<Time>() + 2 * size_of::<u32>();
/// Bytes kept besides for each entry of a cache with a time to idle.
pub(crate) const IDLE_BYTES: usize = size_of::<Use>();

#[cfg(any(test, fuzzing))]
impl Deadlines {
    pub(crate) fn capacity(&self) -> usize {
        self.heap.capacity()
    }

    /// Checks the heap, and that it holds exactly the slots that `is_occupied` and have an end.
    pub(crate) fn validate(&self, is_occupied: impl Fn(u32) -> bool) {
        for (place, at) in self.heap.iter().enumerate() {
            assert_eq!(self.times[*at as usize].place as usize, place);
            assert!(self.due(place) >= self.due(place.saturating_sub(1) / 2), "not a heap");
            assert!(is_occupied(*at), "a free slot is in the heap");
            assert!(self.due(place) <= self.deadline(*at), "a slot would be looked at too late");
        }
        let mortal = self.times.iter().filter(|time| time.due != Tick::MAX);
        assert_eq!(self.heap.len(), mortal.count(), "the heap does not hold every mortal entry once");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_lives_for_ever_takes_no_place() {
        let mut deadlines = Deadlines::new(None);
        deadlines.add(7, Tick::MAX, Tick(1));
        assert_eq!((deadlines.deadline(7), deadlines.first_over(Tick::MAX)), (Tick::MAX, None));
        assert_eq!((deadlines.times.capacity(), deadlines.heap.capacity()), (0, 0));
        deadlines.remove(7);
    }

    #[test]
    fn a_use_puts_the_end_off_but_not_beyond_the_time_to_live() {
        let mut deadlines = Deadlines::new(Some(Duration::from_nanos(10)));
        deadlines.add(3, Tick(25), Tick(0));
        assert_eq!((deadlines.deadline(3), deadlines.first_over(Tick(9))), (Tick(10), None));
        deadlines.touch(3, Tick(9));
        deadlines.touch(3, Tick(4));
        assert_eq!((deadlines.deadline(3), deadlines.first_over(Tick(18))), (Tick(19), None));
        deadlines.touch(3, Tick(18));
        assert_eq!((deadlines.first_over(Tick(24)), deadlines.first_over(Tick(25))), (None, Some(3)));
        deadlines.validate(|at| at == 3);
    }

    proptest! {
        #[test]
        fn the_first_is_over_before_all_others(
            steps in prop::collection::vec((0..4_u8, 1_u64..50, any::<prop::sample::Index>()), 0..200),
            idle in prop::option::of(1_u64..30),
        ) {
            let mut deadlines = Deadlines::new(idle.map(Duration::from_nanos));
            let (mut live, mut free, mut now): (Vec<u32>, Vec<u32>, _) = (Vec::new(), (0..200).collect(), Tick(0));
            for (step, span, which) in steps {
                match step {
                    _ if live.is_empty() => {
                        live.push(free.pop().expect("there are as many slots as steps"));
                        deadlines.add(live[0], Tick(now.0 + span), now);
                    }
                    0 => {
                        let at = free.pop().expect("there are as many slots as steps");
                        deadlines.add(at, Tick(now.0 + span), now);
                        live.push(at);
                    }
                    1 => {
                        let at = live.swap_remove(which.index(live.len()));
                        deadlines.remove(at);
                        free.push(at);
                    }
                    2 => deadlines.touch(live[which.index(live.len())], now),
                    _ => now.0 += span / 10,
                }
                deadlines.validate(|at| live.contains(&at));
                let over = live.iter().any(|at| deadlines.deadline(*at) <= now);
                // Each call puts some back; in the end one that is over is found if there is any.
                let found = (0..live.len()).find_map(|_| deadlines.first_over(now));
                prop_assert_eq!(found.is_some(), over);
                prop_assert!(found.is_none_or(|at| deadlines.deadline(at) <= now));
            }
        }
    }
}
