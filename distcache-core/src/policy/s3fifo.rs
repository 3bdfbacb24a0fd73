//! S3-FIFO, made adaptive: two queues in order of arrival, and a memory of what was evicted.
//!
//! New entries go through a *small* queue; those that were hit twice on the way go on to the *main* queue, the others are evicted and
//! leave a *ghost*: a few bits of their hash, and when they came. Main gives each entry another round for each time it was hit
//! (S3-FIFO: Yang et al., SOSP 2023). A hit only counts, so readers share a lock.
//!
//! Four things are not as in the paper.
//!
//! 1. A key whose ghost is met goes to main only if it was away for less time than the next victim of main has idled. So a loop that
//!    is too large keeps a part of itself, and a scan that comes back does not wash main out (the test of LIRS: Jiang and Zhang,
//!    SIGMETRICS 2002). Time is counted in inserts, not in seconds.
//! 2. Ghosts set the share of small (in the manner of ARC: Megiddo and Modha, FAST 2003): small grows by an entry for a key that comes
//!    back in time, and shrinks by two for one that comes too late.
//! 3. Until the capacity is reached for the first time, what small has too much moves on to main: there is room, and nothing speaks
//!    against it.
//! 4. Weights count, as hits for the same space (in the manner of GreedyDual-Size: Cao and Irani, USITS 1997). Compared with the
//!    average entry, one of less than half the weight needs no hits to go on to main; one of more than twice the weight gets one
//!    round in main, not two; and one of k times the weight has to come back k times sooner. Where all weights are alike this says
//!    nothing.
//!
//! Every call is O(1), amortised, and one eviction looks at a bounded number of entries. The constants were chosen by hit ratios over
//! the traces that `benches` reports on; each of the four points paid there when it was left out.

use super::{Nodes, Queue, ghost::Ghosts, list::List};
use crate::{
    sync::Ordering,
    table::{Moves, NIL},
};

/// Chooses what a full shard evicts.
///
/// The owner inserts first and then evicts until [`weight`](Self::weight) is within the capacity. What was inserted or overwritten
/// last is evicted only if nothing else is left.
#[derive(Debug)]
pub(crate) struct S3Fifo {
    small: List,
    main: List,
    capacity: u64,
    /// What small may weigh before it gives entries away.
    small_target: u64,
    /// Inserts so far.
    now: u32,
    /// The slot inserted or overwritten last.
    newest: u32,
    /// Whether the capacity was never reached, since the start or since half of it was left empty.
    filling: bool,
    ghosts: Ghosts,
}

impl S3Fifo {
    /// Creates the policy of a shard that has no capacity yet. It has no memory of its own until the first eviction.
    pub(super) fn new() -> Self {
        Self {
            small: List::new(),
            main: List::new(),
            capacity: 0,
            small_target: 0,
            now: 0,
            newest: NIL,
            filling: true,
            ghosts: Ghosts::none(),
        }
    }

    /// Sets the capacity, and keeps the share of small. The owner evicts what is too much.
    pub(super) fn set_capacity(&mut self, capacity: u64) {
        self.small_target = match self.capacity {
            0 => capacity / FIRST_SHARE,
            old => (u128::from(self.small_target) * u128::from(capacity) / u128::from(old)) as u64,
        };
        self.capacity = capacity;
    }

    /// What all entries weigh together.
    const fn weight(&self) -> u64 {
        self.small.weight + self.main.weight
    }

    const fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    /// Takes note of an entry that is new in its slot.
    pub(super) fn insert(&mut self, nodes: &mut impl Nodes, at: u32) {
        self.now = self.now.wrapping_add(1);
        let node = nodes.node(at);
        let (tag, weight) = (node.tag, node.weight);
        let queue = if self.returns_in_time(nodes, tag, weight) { Queue::Main } else { Queue::Small };
        let is_light = self.average_is_above(2 * u64::from(weight));
        *nodes.node_mut(at).hits.get_mut() = if is_light { PROMOTED_WITH } else { 0 };
        self.newest = at;
        self.push(nodes, at, queue);
        self.overflow_into_main(nodes);
    }

    /// Whether the key was evicted so lately that it deserves main. Learns from it in any case.
    fn returns_in_time(&mut self, nodes: &impl Nodes, tag: u32, weight: u32) -> bool {
        let Some(distance) = self.ghosts.take(tag, self.now) else { return false };
        let idle = self.main.oldest().map_or(u32::MAX, |oldest| self.now.wrapping_sub(nodes.node(oldest).stamp));
        let weight = u64::from(weight);
        // What weighs k times the average has to be k times sooner.
        let heavy = u128::from(weight) * self.len() as u128;
        let average = u128::from(self.weight());
        let wins = u128::from(distance) * heavy.max(average) < u128::from(idle) * average.max(1);
        self.small_target =
            if wins { self.small_target + weight } else { self.small_target.saturating_sub(weight * LOSS) }
                .clamp(self.capacity / LEAST_SHARE, self.capacity / MOST_SHARE);
        wins
    }

    /// Whether the average weight of an entry is above a limit.
    fn average_is_above(&self, limit: u64) -> bool {
        u128::from(limit) * (self.len() as u128) < u128::from(self.weight())
    }

    /// Moves what small has too much on to main while the shard fills for the first time.
    ///
    /// Later there is room now and then as well, where something heavy or outdated left; entries that proved nothing must not use it
    /// to slip into main.
    fn overflow_into_main(&mut self, nodes: &mut impl Nodes) {
        self.filling |= self.weight() < self.capacity / 2;
        for _ in 0..CHANCES {
            if !self.filling || self.weight() >= self.capacity || self.small.weight <= self.small_target {
                return;
            }
            let Some(oldest) = self.small.oldest().filter(|oldest| *oldest != self.newest) else { return };
            self.unlink(nodes, oldest);
            self.push(nodes, oldest, Queue::Main);
        }
    }

    /// Sets what an entry weighs that was overwritten in its slot.
    pub(super) fn reweigh(&mut self, nodes: &mut impl Nodes, at: u32, weight: u32) {
        let queue = nodes.node(at).queue;
        self.list(queue).reweigh(nodes, at, weight);
        self.newest = at;
    }

    /// Forgets an entry that leaves by other ways than [`evict`](Self::evict).
    pub(super) fn remove(&mut self, nodes: &mut impl Nodes, at: u32) {
        self.unlink(nodes, at);
        if self.newest == at {
            self.newest = NIL;
        }
    }

    /// Returns who is looked at first when the next entry comes, unless there is room still.
    pub(super) fn next_victim(&self) -> Option<u32> {
        if self.filling {
            None
        } else if self.small.weight >= self.small_target {
            self.small.oldest()
        } else {
            self.main.oldest()
        }
    }

    /// Asks for the memory in which ghosts of two keys are looked for and left.
    pub(super) fn expect_ghosts(&self, newcomer: u32, victim: u32) {
        self.ghosts.expect(newcomer);
        self.ghosts.expect(victim);
    }

    /// Chooses the next victim, forgets it, and returns its slot; `None` if there is no entry.
    pub(super) fn evict(&mut self, nodes: &mut impl Nodes) -> Option<u32> {
        self.ghosts.fit(self.len());
        self.filling = false;
        for _ in 0..CHANCES {
            let (small, main) = (self.candidate(nodes, Queue::Small), self.candidate(nodes, Queue::Main));
            let at = match (small, main) {
                (Some(small), _) if main.is_none() || self.small.weight > self.small_target => small,
                (_, Some(main)) => main,
                (_, None) => break,
            };
            if !self.has_another_chance(nodes, at) {
                return Some(self.bury(nodes, at));
            }
        }
        // All of these were hot, and no call may take long: the next one goes unasked. Small holds the less proven ones.
        let next = self.candidate(nodes, Queue::Small).or_else(|| self.candidate(nodes, Queue::Main));
        let at = next.or_else(|| (self.newest != NIL).then_some(self.newest))?;
        Some(self.bury(nodes, at))
    }

    /// Returns the oldest of a queue, passing over what was inserted last.
    fn candidate(&self, nodes: &impl Nodes, queue: Queue) -> Option<u32> {
        let list = match queue {
            Queue::Small => &self.small,
            Queue::Main => &self.main,
        };
        let oldest = list.oldest()?;
        let at = if oldest == self.newest { nodes.node(oldest).newer } else { oldest };
        (at != NIL).then_some(at)
    }

    /// Moves an entry to the new end of main if its hits earn that.
    fn has_another_chance(&mut self, nodes: &mut impl Nodes, at: u32) -> bool {
        let is_heavy = !self.average_is_above(u64::from(nodes.node(at).weight / 2));
        let node = nodes.node_mut(at);
        let hits = node.hits.get_mut();
        let left = match node.queue {
            Queue::Small if *hits >= PROMOTED_WITH => 0,
            Queue::Main if *hits > 0 && !is_heavy => *hits - 1,
            Queue::Main if *hits > 0 => 0,
            _ => return false,
        };
        *hits = left;
        self.unlink(nodes, at);
        self.push(nodes, at, Queue::Main);
        true
    }

    /// Takes a victim out. One of small is remembered; one of main had its rounds, and starts anew when it comes back.
    fn bury(&mut self, nodes: &mut impl Nodes, at: u32) -> u32 {
        let node = nodes.node(at);
        if node.queue == Queue::Small {
            self.ghosts.add(node.tag, node.stamp, self.now);
        }
        self.remove(nodes, at);
        at
    }

    /// Follows all entries to the slots they moved to, with their nodes.
    pub(super) fn renumber(&mut self, moves: &Moves) {
        self.small.renumber(moves);
        self.main.renumber(moves);
        self.newest = moves.of(self.newest);
    }

    /// Returns up to `count` slots that `is_wanted`: main before small, what was hit more often first, then the newest.
    pub(super) fn hottest(&self, nodes: &impl Nodes, count: usize, is_wanted: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut slots: Vec<_> =
            self.main.iter(nodes).chain(self.small.iter(nodes)).filter(|at| is_wanted(*at)).collect();
        // The lists are in order of age already, and the sort keeps it.
        slots.sort_by_key(|at| {
            let node = nodes.node(*at);
            (node.queue == Queue::Small, u8::MAX - node.hits.load(Ordering::Relaxed))
        });
        slots.truncate(count);
        slots
    }

    fn push(&mut self, nodes: &mut impl Nodes, at: u32, queue: Queue) {
        let node = nodes.node_mut(at);
        (node.queue, node.stamp) = (queue, self.now);
        self.list(queue).push(nodes, at);
    }

    fn unlink(&mut self, nodes: &mut impl Nodes, at: u32) {
        let queue = nodes.node(at).queue;
        self.list(queue).unlink(nodes, at);
    }

    fn list(&mut self, queue: Queue) -> &mut List {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    /// Recomputes every counter and link, and returns all slots.
    #[cfg(any(test, fuzzing))]
    pub(super) fn validate(&self, nodes: &impl Nodes) -> Vec<u32> {
        let (mut slots, small) = (self.main.validate(nodes), self.small.validate(nodes));
        assert!(slots.iter().all(|at| nodes.node(*at).queue == Queue::Main), "an entry of main thinks it is in small");
        assert!(small.iter().all(|at| nodes.node(*at).queue == Queue::Small), "an entry of small thinks it is in main");
        slots.extend(small);
        assert!(self.newest == NIL || slots.contains(&self.newest), "the newest is not there");
        assert!(
            slots.iter().all(|at| nodes.node(*at).hits.load(Ordering::Relaxed) <= super::MOST_HITS),
            "too many hits"
        );
        assert!(self.small_target <= self.capacity, "small may be larger than all");
        slots
    }
}

/// Small starts with 2 % of the capacity, which is as good as 1 % and better than 5 % on the traces measured.
const FIRST_SHARE: u64 = 50;
/// Small keeps at least 1 %: with less, nothing new could be hit twice.
const LEAST_SHARE: u64 = 100;
/// Small has at most a sixth: shares beyond pay on a few traces and cost more on loops, and where what is asked for shifts.
const MOST_SHARE: u64 = 6;
/// How many entries of its weight a return that comes too late takes from small. One that is in time gives it one: without the
/// odds, small grows on keys that no size of it would have kept.
const LOSS: u64 = 2;
/// One hit in small is often the second half of one visit; two are a habit.
const PROMOTED_WITH: u8 = 2;
/// Entries that one call moves. Sixteen lose 0.03 points, eight 0.1, mostly on loops; 64 gain nothing.
const CHANCES: usize = 32;

#[cfg(test)]
#[path = "s3fifo_tests.rs"]
mod tests;
