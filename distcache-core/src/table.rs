//! A hash table that holds what it stores in its own slots, which have numbers: open addressing over buckets of thirty slots.
//!
//! The short tags of a bucket lie apart from its slots and fill one cache line, so that those of a million entries take little more
//! than two megabytes, which a processor's own cache holds. A search compares all tags of a bucket at once and goes on to the one slot
//! that may be it; so a hit reads one place in memory that is far away. (Hash tables of this kind, with tags apart: Swiss tables,
//! Google 2017.)
//!
//! An item lies in one of two buckets, the emptier one, unless both are full: then, rarely, it goes on to others. So buckets fill
//! evenly, and the table may be 94 % full. (Two choices: Azar, Broder, Karlin and Upfal, 1994.) Each bucket counts who had to go on
//! from it, which ends most searches after one bucket or two, and lets removals leave nothing behind. (F14, Facebook 2019.)
//! One choice and the next bucket in line would not do: where items come and go for long, those who lie far from home leave
//! counts on all buckets between, and a search for what is not there would visit the whole table.
//!
//! The table grows by a quarter, or less if its owner knows how many entries will come.

use std::{
    array, fmt,
    iter::Flatten,
    ops::{Index, IndexMut},
    vec,
};

use crate::{
    cpu,
    tags::{Count, SLOTS, Short, Tags},
};

/// No slot.
pub(crate) const NIL: u32 = u32::MAX;

/// What a table can store: it knows 32 bits of its hash.
pub(crate) trait Tagged {
    fn tag(&self) -> u32;
}

#[derive(Debug)]
pub(crate) struct Table<T> {
    /// One a bucket.
    tags: Vec<Tags>,
    slots: Vec<Block<T>>,
    len: usize,
}

/// Eight slots that begin where a cache line does: then slots whose size divides that of a line never lie across two, and no
/// space is lost for any other size.
#[derive(Debug)]
#[repr(align(64))]
struct Block<T>([Option<T>; BLOCK]);

/// Where the slots of a table went when it was laid out anew.
#[derive(Debug)]
pub(crate) struct Moves(Vec<u32>);

impl Moves {
    /// Returns the new number of a slot that was not free; [`NIL`] stays what it is.
    pub(crate) fn of(&self, old: u32) -> u32 {
        self.0.get(old as usize).copied().unwrap_or(NIL)
    }
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { tags: Vec::new(), slots: Vec::new(), len: 0 }
    }

    /// Slots that are not free.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Slots, free or not: the numbers below this one.
    pub(crate) fn slots(&self) -> usize {
        self.tags.len() * SLOTS
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        self.slots.get(at / BLOCK)?.0[at % BLOCK].as_ref()
    }

    /// Asks for the memory of a slot ahead of its use.
    #[inline]
    pub(crate) fn expect(&self, at: u32) {
        let at = at as usize;
        if let Some(block) = self.slots.get(at / BLOCK) {
            cpu::expect(&block.0[at % BLOCK]);
        }
    }

    /// Asks for the tags among which an item with that tag most likely is.
    #[inline]
    pub(crate) fn expect_tags(&self, tag: u32) {
        let mut path = self.path(tag);
        for _ in 0..2 {
            if let Some(tags) = self.tags.get(path.bucket) {
                cpu::expect(tags);
            }
            path.go_on();
        }
    }

    /// Asks for the slot that an item with that tag most likely will be given.
    #[inline]
    pub(crate) fn expect_free(&self, tag: u32) {
        if !self.tags.is_empty() {
            let bucket = self.choose(self.path(tag)).bucket;
            if let Some(lane) = self.tags[bucket].first_free() {
                self.expect((bucket * SLOTS + lane) as u32);
            }
        }
    }

    #[inline]
    fn slot(&mut self, at: usize) -> &mut Option<T> {
        &mut self.slots[at / BLOCK].0[at % BLOCK]
    }

    /// Returns the slot with that tag which `is_it`.
    #[inline]
    pub(crate) fn find(&self, tag: u32, mut is_it: impl FnMut(&T) -> bool) -> Option<u32> {
        let short = Short::of(tag);
        let mut path = self.path(tag);
        // A path that is this long was in every bucket.
        for _ in 0..self.tags.len() + LEAPS {
            let tags = self.tags.get(path.bucket)?;
            let mut matches = tags.slots_with(short);
            while matches != 0 {
                let at = (path.bucket * SLOTS) as u32 + matches.trailing_zeros();
                if self.get(at).is_some_and(&mut is_it) {
                    return Some(at);
                }
                matches &= matches - 1;
            }
            if tags.count(path.leavers()) == 0 {
                return None;
            }
            path.go_on();
        }
        None
    }

    /// Whether there is no room for one more.
    pub(crate) fn is_full(&self) -> bool {
        (self.len + 1) * 18 > self.slots() * 17
    }

    /// Whether half of the buckets would do. Never right after the table was laid out, or it would be laid out again and again.
    pub(crate) fn is_sparse(&self) -> bool {
        self.tags.len() > 2 * buckets_for(self.len)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..self.slots() as u32).filter_map(|at| Some((at, self.get(at)?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flat_map(|block| &mut block.0).flatten()
    }

    /// Takes everything out, in the order of the slots.
    pub(crate) fn into_items(self) -> Items<T> {
        Items(self.slots.into_iter().flatten().flatten())
    }

    /// The way of a search.
    #[inline]
    fn path(&self, tag: u32) -> Path {
        let buckets = self.tags.len();
        // Multiply and shift instead of a mask, so that any number of buckets will do (Lemire 2019). The upper bits of a tag choose
        // the first bucket. The lower ones are the short tag; spread over a word, they choose the second.
        let below = |bits: u32, end: usize| ((u64::from(bits) * end as u64) >> 32) as usize;
        let step = 1 + below((tag & 0xFFFF).wrapping_mul(GOLDEN_RATIO), buckets.saturating_sub(1));
        Path { bucket: below(tag, buckets), step, buckets, nth: 0 }
    }

    /// Goes on from a path's first bucket if the second is the better place for a new item.
    #[inline]
    fn choose(&self, path: Path) -> Path {
        let first = self.tags[path.bucket].used();
        if first < ROOMY {
            return path;
        }
        let mut second = path;
        second.go_on();
        if first < SLOTS as u32 && first <= self.tags[second.bucket].used() { path } else { second }
    }
}

/// The buckets in which an item is looked for, one after the other.
///
/// The first two are where it most likely is. Then come some in equal leaps, and at last the next in line, so that none is left out.
#[derive(Debug, Clone, Copy)]
struct Path {
    bucket: usize,
    step: usize,
    buckets: usize,
    nth: usize,
}

impl Path {
    #[inline]
    fn go_on(&mut self) {
        self.bucket += if self.nth < LEAPS { self.step } else { 1 };
        if self.bucket >= self.buckets {
            self.bucket -= self.buckets;
        }
        self.nth += 1;
    }

    /// Which of a bucket's counts knows of items that are further on this path.
    #[inline]
    fn leavers(&self) -> Count {
        if self.nth == 0 { Count::AWAY } else { Count::PASSED }
    }
}

impl<T: Tagged> Table<T> {
    /// Adds an item that is not in the table, which is not [full](Self::is_full).
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        let tag = item.tag();
        let first = self.path(tag);
        let mut path = self.choose(first);
        if path.nth > 0 {
            self.tags[first.bucket].add(Count::AWAY);
        }
        let lane = loop {
            let tags = &mut self.tags[path.bucket];
            if let Some(lane) = tags.first_free() {
                tags.set(lane, Short::of(tag));
                break lane;
            }
            tags.add(Count::PASSED);
            path.go_on();
        };
        self.len += 1;
        let at = path.bucket * SLOTS + lane;
        let slot = self.slot(at);
        debug_assert!(slot.is_none(), "a slot without a tag holds an item");
        // Nothing is there to be dropped. Where that is not even looked at, nobody waits for the slot to come from memory.
        std::mem::forget(slot.replace(item));
        at as u32
    }

    /// Takes the item out of a slot that is not free.
    pub(crate) fn remove(&mut self, at: u32) -> T {
        let (last, lane) = (at as usize / SLOTS, at as usize % SLOTS);
        let item = self.slot(at as usize).take().expect("only occupied slots are emptied");
        self.tags[last].free(lane);
        let mut path = self.path(item.tag());
        while path.bucket != last {
            self.tags[path.bucket].take(path.leavers());
            path.go_on();
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        item
    }

    /// Lays the table out for at least one item more, and for `expected` if that is not much more. Returns where the items went.
    pub(crate) fn grow(&mut self, expected: Option<usize>) -> Moves {
        let buckets = self.tags.len();
        // A quarter of a small table is nothing; a large one must not hold much that it does not need.
        let most = if buckets < FEW { buckets * 2 } else { buckets + buckets / 4 };
        let wanted = expected.map_or(most, buckets_for);
        self.lay_out(wanted.clamp(buckets + 1, most.max(buckets + 1)))
    }

    /// Lays the table out for the items it has. Returns where they went.
    pub(crate) fn shrink(&mut self) -> Moves {
        self.lay_out(buckets_for(self.len + self.len / 4))
    }

    fn lay_out(&mut self, buckets: usize) -> Moves {
        assert!(buckets * SLOTS < NIL as usize, "a shard's limit keeps its entries below 2^31");
        let blocks = (buckets * SLOTS).div_ceil(BLOCK);
        let new = Self {
            tags: vec![Tags::EMPTY; buckets],
            slots: (0..blocks).map(|_| Block([const { None }; BLOCK])).collect(),
            len: 0,
        };
        let old = std::mem::replace(self, new);
        let mut moves = vec![NIL; old.slots()];
        // In the order of their homes, before and after: both are walked from one end to the other.
        for (from, item) in old.slots.into_iter().flatten().enumerate() {
            if let Some(item) = item {
                moves[from] = self.insert(item);
            }
        }
        Moves(moves)
    }
}

/// The buckets that hold so many items, not quite full.
fn buckets_for(items: usize) -> usize {
    items.saturating_mul(15).div_ceil(SLOTS * 14)
}

/// # Panics
///
/// Panics if the slot is free.
impl<T> Index<u32> for Table<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: u32) -> &T {
        self.get(at).expect("tags and lists name occupied slots only")
    }
}

impl<T> IndexMut<u32> for Table<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.slot(at as usize).as_mut().expect("tags and lists name occupied slots only")
    }
}

impl<T> IntoIterator for Block<T> {
    type Item = Option<T>;
    type IntoIter = array::IntoIter<Option<T>, BLOCK>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The items of a table that is no more.
pub(crate) struct Items<T>(Flatten<Flatten<vec::IntoIter<Block<T>>>>);

impl<T> Iterator for Items<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.next()
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}

/// Eight slots of any size that is a multiple of eight are a multiple of a cache line.
const BLOCK: usize = 8;
/// Below 240 slots a table doubles.
const FEW: usize = 8;
/// A bucket with fewer items is not compared with another: a table that is not full keeps most items where they are looked for first.
const ROOMY: u32 = 24;
/// Steps of a path before it goes on to the next in line.
const LEAPS: usize = 8;
/// 2^32 divided by the golden ratio: Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
const GOLDEN_RATIO: u32 = 0x9E37_79B1;

/// Bytes of tags for each slot, rounded up.
pub(crate) const TAG_BYTES: usize = size_of::<Tags>().div_ceil(SLOTS);

#[cfg(any(test, fuzzing))]
impl<T: Tagged> Table<T> {
    /// Recomputes every count and looks for every item.
    pub(crate) fn validate(&self) {
        let mut counts = vec![(0, 0); self.tags.len()];
        for (at, item) in self.iter() {
            let found = self.find(item.tag(), |other| std::ptr::eq(other, item));
            assert_eq!(found, Some(at), "an item is out of reach");
            let mut path = self.path(item.tag());
            while path.bucket != at as usize / SLOTS {
                let (away, passed) = &mut counts[path.bucket];
                *if path.nth == 0 { away } else { passed } += 1;
                path.go_on();
            }
        }
        for (tags, (away, passed)) in self.tags.iter().zip(counts) {
            for (count, real) in [(Count::AWAY, away), (Count::PASSED, passed)] {
                let known = tags.count(count);
                assert!(known == real || known == u16::MAX, "{known} are counted as gone on, and {real} are");
            }
        }
        assert_eq!(self.iter().count(), self.len);
        let tagged = self.tags.iter().map(|tags| (0..SLOTS).filter(|lane| tags.is_used(*lane)).count()).sum::<usize>();
        assert_eq!(tagged, self.len, "a free slot has a tag");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// A tag and what tells items with the same tag apart.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Item(u32, u32);

    impl Tagged for Item {
        fn tag(&self) -> u32 {
            self.0
        }
    }

    fn insert(table: &mut Table<Item>, item: Item) -> u32 {
        if table.is_full() {
            table.grow(None);
        }
        table.insert(item)
    }

    fn find(table: &Table<Item>, item: Item) -> Option<u32> {
        table.find(item.0, |other| *other == item)
    }

    /// An item whose tag looks random. (The last steps of MurmurHash3: Appleby, 2011.)
    fn spread(number: u32) -> Item {
        let mixed = (number ^ number >> 16).wrapping_mul(0x85EB_CA6B);
        let mixed = (mixed ^ mixed >> 13).wrapping_mul(0xC2B2_AE35);
        Item(mixed ^ mixed >> 16, number)
    }

    #[test]
    fn items_with_equal_tags_are_told_apart_by_the_caller() {
        let mut table = Table::new();
        assert_eq!(find(&table, Item(9, 1)), None);
        (0..200).for_each(|number| _ = insert(&mut table, Item(9, number)));
        table.validate();
        assert!((0..200).all(|number| find(&table, Item(9, number)).is_some()));
        (0..199).for_each(|number| _ = table.remove(find(&table, Item(9, number)).unwrap()));
        table.validate();
        assert_eq!(table.get(find(&table, Item(9, 199)).unwrap()), Some(&Item(9, 199)));
    }

    #[test]
    fn a_search_ends_though_items_went_past_every_bucket() {
        let mut table = Table::new();
        table.lay_out(3);
        // Families of items that are looked for in the same three buckets, each in another order.
        let family = |home| {
            let is_it = |tag: &u32| {
                let path = table.path(*tag);
                (path.bucket, path.step) == (home, 1)
            };
            (1..u32::MAX).step_by(0x1001).find(is_it).unwrap()
        };
        let families = [0, 1, 2].map(family);
        for (home, members) in [(0, 70), (1, 65), (2, 40)] {
            let slots: Vec<_> = (0..members).map(|number| table.insert(Item(families[home], number))).collect();
            let third = (home + 2) % 3;
            for at in slots.into_iter().filter(|at| home < 2 && *at as usize / SLOTS != third) {
                table.remove(at);
            }
        }
        table.validate();
        assert!(table.tags.iter().all(|tags| tags.count(Count::AWAY) > 0 && tags.count(Count::PASSED) > 0));
        assert!(families.iter().all(|tag| find(&table, Item(*tag, 1_000)).is_none()));
    }

    #[test]
    fn a_path_of_leaps_that_come_round_leaves_no_bucket_out() {
        let mut table = Table::new();
        table.lay_out(4);
        // From the first bucket to the third, and back again.
        let tag = (1..u32::MAX).step_by(0x1001).find(|tag| (table.path(*tag).bucket, table.path(*tag).step) == (0, 2));
        (0..110).for_each(|number| _ = table.insert(Item(tag.unwrap(), number)));
        table.validate();
        assert!(table.tags.iter().all(|tags| tags.used() >= 20));
    }

    #[test]
    fn searches_stay_short_however_many_items_came_and_went() {
        let items = 15_600;
        let mut table = Table::new();
        for number in 0..10 * items {
            if number >= items {
                table.remove(find(&table, spread(number - items)).unwrap());
            }
            if table.is_full() {
                table.grow(Some(items as usize));
            }
            table.insert(spread(number));
        }
        table.validate();
        let load = table.len() as f64 / table.slots() as f64;
        assert!(load > 0.92, "{load} of the slots are used");
        let buckets = |tag| {
            let mut path = table.path(tag);
            while table.tags[path.bucket].count(path.leavers()) > 0 {
                path.go_on();
            }
            path.nth + 1
        };
        let looked_into: usize = (0..10_000).map(|number| buckets(spread(number).0)).sum();
        assert!(looked_into < 35_000, "{looked_into} buckets for 10,000 items that are not there");
    }

    #[test]
    fn it_grows_by_little_and_tells_where_everything_went() {
        let mut table = Table::new();
        for number in 0..20_000 {
            if table.is_full() {
                let before: Vec<_> = table.iter().map(|(at, item)| (at, *item)).collect();
                let slots = table.slots();
                let moves = table.grow(None);
                assert!(before.iter().all(|(at, item)| table[moves.of(*at)] == *item));
                assert_eq!(moves.of(NIL), NIL);
                assert!(slots < 1_000 || table.slots() <= slots + slots / 4 + SLOTS);
            }
            table.insert(spread(number));
        }
        table.validate();
    }

    #[test]
    fn it_grows_to_what_is_expected_and_no_further() {
        let mut table = Table::new();
        for number in 0..10_000 {
            if table.is_full() {
                table.grow(Some(10_000));
            }
            table.insert(spread(number));
        }
        let load = table.len() as f64 / table.slots() as f64;
        assert!(load > 0.92, "{load} of the slots are used");
    }

    #[test]
    fn a_table_that_was_just_laid_out_stays_as_it_is() {
        let mut table = Table::new();
        for number in 0..3_000 {
            insert(&mut table, spread(number));
            assert!(!table.is_sparse(), "{} of {} slots are used after growing", table.len(), table.slots());
        }
        for number in 0..2_999 {
            table.remove(find(&table, spread(number)).unwrap());
            if table.is_sparse() {
                let slots = table.slots();
                table.shrink();
                assert!(table.slots() < slots && !table.is_sparse(), "{} of {} slots", table.len(), table.slots());
            }
        }
        assert!(table.slots() <= 2 * SLOTS, "{} slots for one item", table.slots());
    }

    #[test]
    fn it_shrinks_when_asked_and_holds_no_memory_when_empty() {
        let mut table = Table::new();
        (0..10_000).for_each(|number| _ = insert(&mut table, spread(number)));
        assert!(!table.is_sparse());
        (0..9_900).for_each(|number| _ = table.remove(find(&table, spread(number)).unwrap()));
        assert!(table.is_sparse());
        table.shrink();
        table.validate();
        assert!(!table.is_sparse() && table.slots() < 200, "{} slots for 100 items", table.slots());
        (9_900..10_000).for_each(|number| _ = table.remove(find(&table, spread(number)).unwrap()));
        assert_eq!((table.slots(), table.tags.capacity(), table.slots.capacity()), (0, 0, 0));
    }

    #[test]
    fn what_it_held_comes_out_once() {
        let mut table = Table::new();
        (0..2_000).for_each(|number| _ = insert(&mut table, spread(number)));
        let mut items: Vec<_> = table.into_items().map(|item| item.1).collect();
        items.sort_unstable();
        assert!(items.into_iter().eq(0..2_000));
    }

    proptest! {
        // Few homes, so that buckets overflow and searches wrap around the end.
        #[test]
        fn it_agrees_with_a_map(steps in prop::collection::vec((0..4_u8, 0_u32..120, 0_u32..6), 0..600)) {
            let mut table = Table::new();
            let mut map: HashMap<u32, u32> = HashMap::new();
            for (step, number, tag) in steps {
                match (step, map.get(&number).copied()) {
                    (0 | 1, None) => {
                        let item = Item((tag % 3).wrapping_sub(2), number);
                        insert(&mut table, item);
                        map.insert(number, item.0);
                    }
                    (2, Some(tag)) => {
                        table.remove(find(&table, Item(tag, number)).unwrap());
                        map.remove(&number);
                    }
                    (3, _) if tag == 0 && !map.is_empty() => _ = table.shrink(),
                    _ => {}
                }
                prop_assert_eq!(table.len(), map.len());
                prop_assert!(map.iter().all(|(number, tag)| find(&table, Item(*tag, *number)).is_some()));
            }
            table.validate();
        }
    }
}
