//! One cache line of a table: thirty short tags, compared all at once.

use crate::cpu;

/// The short tags of the slots of one bucket, and how many entries are to be looked for elsewhere.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct Tags {
    /// A free lane is zero. The last two lanes are counts.
    lanes: [u16; LANES],
}

/// One of a bucket's counts. It stays at the largest number once it was there, which costs time and nothing else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count(usize);

impl Count {
    /// Entries whose search begins here, and that lie elsewhere.
    pub(crate) const AWAY: Self = Self(SLOTS);
    /// Entries whose search comes here from elsewhere and goes on.
    pub(crate) const PASSED: Self = Self(SLOTS + 1);
}

impl Tags {
    pub(crate) const EMPTY: Self = Self { lanes: [0; LANES] };

    /// Returns a bit for each slot with that short tag.
    #[inline]
    pub(crate) fn slots_with(&self, short: Short) -> u32 {
        self.lanes_with(short.0)
    }

    /// Returns the first free slot.
    pub(crate) fn first_free(&self) -> Option<usize> {
        let free = self.lanes_with(0);
        (free != 0).then(|| free.trailing_zeros() as usize)
    }

    pub(crate) fn set(&mut self, lane: usize, short: Short) {
        self.lanes[lane] = short.0;
    }

    pub(crate) fn free(&mut self, lane: usize) {
        self.lanes[lane] = 0;
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_used(&self, lane: usize) -> bool {
        self.lanes[lane] != 0
    }

    /// How many slots are not free.
    #[inline]
    pub(crate) fn used(&self) -> u32 {
        SLOTS as u32 - self.lanes_with(0).count_ones()
    }

    #[inline]
    pub(crate) fn count(&self, count: Count) -> u16 {
        self.lanes[count.0]
    }

    pub(crate) fn add(&mut self, count: Count) {
        self.lanes[count.0] = self.lanes[count.0].saturating_add(1);
    }

    pub(crate) fn take(&mut self, count: Count) {
        if self.lanes[count.0] != u16::MAX {
            self.lanes[count.0] -= 1;
        }
    }

    #[inline]
    fn lanes_with(&self, tag: u16) -> u32 {
        cpu::equal(&self.lanes, tag) & USED
    }
}

/// A short tag: never zero, which says that a slot is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short(u16);

impl Short {
    /// Returns the short tag of a tag: its lower half, since the upper bits choose the bucket.
    #[inline]
    pub(crate) fn of(tag: u32) -> Self {
        Self((tag as u16).max(1))
    }
}

/// Slots of a bucket: their tags and the count fill a cache line.
pub(crate) const SLOTS: usize = 30;
const LANES: usize = SLOTS + 2;
const USED: u32 = (1 << SLOTS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_s_tags_are_one_cache_line() {
        assert_eq!((size_of::<Tags>(), align_of::<Tags>()), (64, 64));
    }

    #[test]
    fn every_lane_is_found_by_its_tag_and_no_other() {
        let mut tags = Tags::EMPTY;
        for lane in 0..SLOTS {
            assert_eq!(tags.first_free(), Some(lane));
            tags.set(lane, Short::of(lane as u32 % 7 + 0xFFFA));
        }
        assert_eq!((tags.first_free(), tags.used()), (None, 30));
        for tag in 0xFFFA..=0xFFFF_u32 + 1 {
            let wanted = (0..SLOTS).filter(|lane| Short::of(*lane as u32 % 7 + 0xFFFA) == Short::of(tag));
            assert_eq!(tags.slots_with(Short::of(tag)), wanted.map(|lane| 1 << lane).sum::<u32>());
        }
        tags.free(12);
        tags.free(29);
        assert_eq!((tags.first_free(), tags.used()), (Some(12), 28));
        tags.set(12, Short::of(5));
        assert_eq!((tags.first_free(), tags.used(), tags.slots_with(Short::of(5))), (Some(29), 29, 1 << 12));
    }

    #[test]
    fn counts_are_no_tags_and_stay_once_they_are_full() {
        let mut tags = Tags::EMPTY;
        (0..7).for_each(|_| tags.add(Count::AWAY));
        (0..70_000).for_each(|_| tags.add(Count::PASSED));
        assert_eq!((tags.used(), tags.slots_with(Short::of(7)), tags.slots_with(Short::of(u32::MAX))), (0, 0, 0));
        (0..7).for_each(|_| tags.take(Count::AWAY));
        (0..70_000).for_each(|_| tags.take(Count::PASSED));
        assert_eq!((tags.count(Count::AWAY), tags.count(Count::PASSED)), (0, u16::MAX));
    }
}
