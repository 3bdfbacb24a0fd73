//! One cache line of a table: thirty short tags, compared all at once.

use crate::cpu;

/// The short tags of the slots of one bucket, and how many entries had to go past it.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(crate) struct Tags {
    /// A free lane is zero. The last two lanes are the count.
    lanes: [u16; LANES],
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

    /// How many entries started their search for a place here or before, and found it in a later bucket.
    #[inline]
    pub(crate) fn overflow(&self) -> u32 {
        u32::from(self.lanes[SLOTS]) | u32::from(self.lanes[SLOTS + 1]) << 16
    }

    pub(crate) fn set_overflow(&mut self, overflow: u32) {
        (self.lanes[SLOTS], self.lanes[SLOTS + 1]) = (overflow as u16, (overflow >> 16) as u16);
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
        tags.set_overflow(u32::MAX);
        assert_eq!(tags.first_free(), None);
        for tag in 0xFFFA..=0xFFFF_u32 + 1 {
            let wanted = (0..SLOTS).filter(|lane| Short::of(*lane as u32 % 7 + 0xFFFA) == Short::of(tag));
            assert_eq!(tags.slots_with(Short::of(tag)), wanted.map(|lane| 1 << lane).sum::<u32>());
        }
        tags.free(12);
        tags.free(29);
        assert_eq!((tags.first_free(), tags.overflow()), (Some(12), u32::MAX));
        tags.set_overflow(3);
        tags.set(12, Short::of(5));
        assert_eq!((tags.first_free(), tags.overflow(), tags.slots_with(Short::of(5))), (Some(29), 3, 1 << 12));
    }
}
