//! What was evicted lately: a table of fixed size, four bytes a key, in sets of four by hash. A full set forgets its oldest.
//!
//! A ghost is 16 bits of the key's hash and 16 bits of the time it came, in steps. A wrong match is rarer than one look-up in
//! sixteen thousand.

use crate::cpu;

#[derive(Debug)]
pub(super) struct Ghosts {
    sets: Box<[[u32; WAYS]]>,
    /// Times are kept in steps of two to this power.
    step: u32,
}

impl Ghosts {
    /// Creates a table without memory, which remembers nothing.
    pub(super) fn none() -> Self {
        Self { sets: Box::new([]), step: 0 }
    }

    /// Sees to it that there is room for about as many ghosts as entries. If not, all are forgotten.
    pub(super) fn fit(&mut self, entries: usize) {
        let (want, room) = (entries + MORE_GHOSTS, self.sets.len() * WAYS);
        if want > 2 * room || want < room / 4 {
            self.sets = vec![[EMPTY; WAYS]; want.div_ceil(WAYS)].into();
            self.step = (want / STEPS_A_CACHE).max(1).ilog2();
        }
    }

    /// Asks for the memory of a key's set ahead of its use.
    #[inline]
    pub(super) fn expect(&self, tag: u32) {
        if let Some(set) = self.sets.get(self.home(tag)) {
            cpu::expect(set);
        }
    }

    /// Takes the ghost of a key out, and returns how many inserts ago the key came.
    pub(super) fn take(&mut self, tag: u32, now: u32) -> Option<u32> {
        let step = self.step;
        let set = self.set(tag)?;
        let way = set.iter_mut().find(|way| **way >> PRINT_SHIFT == print(tag))?;
        let came = std::mem::replace(way, EMPTY) as u16;
        Some(u32::from(coarse(now, step).wrapping_sub(came)) << step)
    }

    /// Remembers an eviction. `stamp` says when the key came.
    pub(super) fn add(&mut self, tag: u32, stamp: u32, now: u32) {
        let step = self.step;
        let Some(set) = self.set(tag) else { return };
        let now = coarse(now, step);
        let age = |way: u32| if way == EMPTY { u32::MAX } else { u32::from(now.wrapping_sub(way as u16)) };
        if let Some(oldest) = set.iter_mut().max_by_key(|way| age(**way)) {
            *oldest = print(tag) << PRINT_SHIFT | u32::from(coarse(stamp, step));
        }
    }

    fn set(&mut self, tag: u32) -> Option<&mut [u32; WAYS]> {
        let home = self.home(tag);
        self.sets.get_mut(home)
    }

    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * self.sets.len() as u64) >> 32) as usize
    }
}

/// The part of a hash that tells ghosts of one set apart. Never zero, so that no ghost looks like an empty way.
fn print(tag: u32) -> u32 {
    (tag & 0xFFFF).max(1)
}

fn coarse(time: u32, step: u32) -> u16 {
    (time >> step) as u16
}

/// Sixteen bytes: a quarter of a cache line.
const WAYS: usize = 4;
/// Ghosts beyond one an entry, 2 KiB. Small shards need them: a set of keys that all come back soon may be many times larger than
/// a shard of a hundred entries, and its ghosts must last until then.
const MORE_GHOSTS: usize = 512;
/// Times are told apart to a thousandth of the table, and come round after 64 times the table.
const STEPS_A_CACHE: usize = 1_024;
const EMPTY: u32 = 0;
const PRINT_SHIFT: u32 = 16;

/// Bytes of a ghost. There are about as many as entries, and never more than four times as many.
pub(crate) const GHOST_BYTES: usize = size_of::<u32>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ghost_is_met_once_with_its_distance() {
        let mut ghosts = Ghosts::none();
        ghosts.add(5, 1, 1);
        assert_eq!(ghosts.take(5, 2), None, "a table without memory remembers nothing");
        ghosts.fit(100);
        ghosts.add(5, 10, 20);
        ghosts.add(u32::MAX, 15, 21);
        assert_eq!(ghosts.take(5, 30), Some(20));
        assert_eq!(ghosts.take(5, 30), None);
        assert_eq!(ghosts.take(u32::MAX, 30), Some(15));
    }

    #[test]
    fn a_full_set_forgets_its_oldest() {
        let mut ghosts = Ghosts::none();
        ghosts.fit(1);
        (1..=6).for_each(|key| ghosts.add(key, key, key));
        assert!((1..=2).all(|key| ghosts.take(key, 7).is_none()));
        assert!((3..=6).all(|key| ghosts.take(key, 7).is_some()));
    }

    #[test]
    fn large_tables_keep_coarse_times() {
        let mut ghosts = Ghosts::none();
        ghosts.fit(1 << 20);
        ghosts.add(7, 5_000_000, 6_000_000);
        let distance = ghosts.take(7, 7_000_000).expect("there is room");
        assert!(distance.abs_diff(2_000_000) <= 2_048, "{distance}");
    }

    #[test]
    fn the_table_of_ghosts_follows_the_number_of_entries() {
        let mut ghosts = Ghosts::none();
        ghosts.fit(1_000);
        let first = ghosts.sets.len();
        ghosts.fit(1_900);
        assert_eq!(ghosts.sets.len(), first, "it is not thrown away for a little growth");
        ghosts.fit(10_000);
        assert!(ghosts.sets.len() > 4 * first);
        ghosts.fit(10);
        assert!(ghosts.sets.len() < first);
    }
}
