//! What an entry costs: [`Weigh`], [`ENTRY_OVERHEAD`], and how a cache adds them up.

use std::{mem::size_of, sync::Arc};

use crate::{index::Bucket, slab::Slot};

/// Bytes that a cache counts for each entry, beyond what its key and its value weigh.
///
/// It covers the entry's slot with a key and a value of three words each (as `String` and `Vec<u8>` have), its share of the
/// hash index and of the queue of deadlines, and what an allocator adds to two blocks. Keys and values that are larger
/// than six words together, as they lie in the slot, have the difference added by the cache itself; for smaller ones the count
/// is a little too high, never too low.
///
/// # Examples
///
/// ```
/// use distcache_core::{Cache, ENTRY_OVERHEAD};
///
/// let cache = Cache::builder(1 << 20).build()?;
/// cache.insert("key", vec![0_u8; 100])?;
/// assert_eq!(cache.weight(), 3 + 100 + ENTRY_OVERHEAD as u64);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub const ENTRY_OVERHEAD: usize = size_of::<Slot<(String, Vec<u8>)>>()
    + INDEX_BUCKETS * size_of::<Bucket>()
    + QUEUE_PLACES * size_of::<u32>()
    + BLOCK_HEADERS;

/// Knows how many bytes it takes.
///
/// Count what lies behind pointers. What lies in the value itself is part of [`ENTRY_OVERHEAD`], and counting it too does
/// no harm but to make the cache hold a little less. A shared value counts in full: each entry may be the last to hold it.
///
/// The same value must weigh the same each time until it is stored; the cache remembers what it counted.
///
/// # Examples
///
/// ```
/// use distcache_core::Weigh;
///
/// struct Page {
///     title: String,
///     body: Vec<u8>,
/// }
///
/// impl Weigh for Page {
///     fn weight(&self) -> usize {
///         self.title.weight() + self.body.weight()
///     }
/// }
///
/// let page = Page { title: "home".into(), body: vec![0; 96] };
/// assert_eq!(page.weight(), 100);
/// ```
pub trait Weigh {
    /// Returns the bytes it takes.
    fn weight(&self) -> usize;
}

impl Weigh for str {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weigh for [u8] {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weigh for String {
    fn weight(&self) -> usize {
        self.capacity()
    }
}

impl Weigh for Vec<u8> {
    fn weight(&self) -> usize {
        self.capacity()
    }
}

impl<T: Weigh + ?Sized> Weigh for Box<T> {
    fn weight(&self) -> usize {
        (**self).weight()
    }
}

impl<T: Weigh + ?Sized> Weigh for Arc<T> {
    /// What it points to, and the two counts beside it.
    fn weight(&self) -> usize {
        (**self).weight().saturating_add(2 * size_of::<usize>())
    }
}

/// As if it were owned, so that tests and examples with literals behave like the real thing.
impl<T: Weigh + ?Sized> Weigh for &'static T {
    fn weight(&self) -> usize {
        (**self).weight()
    }
}

macro_rules! weigh_by_size {
    ($($plain:ty),*) => {$(
        impl Weigh for $plain {
            fn weight(&self) -> usize {
                size_of::<Self>()
            }
        }
    )*};
}

weigh_by_size!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, bool, char, ());

/// Adds up an entry: what was weighed, the overhead, and what is larger in the slot than the overhead covers.
pub(crate) fn entry_weight<K, V>(weighed: usize) -> u64 {
    let inline = (size_of::<K>() + size_of::<V>()).saturating_sub(COVERED_INLINE);
    (weighed as u64).saturating_add((inline + ENTRY_OVERHEAD) as u64)
}

/// The index is between 3/8 and 3/4 full while it grows: 1.3 to 2.7 buckets an entry.
const INDEX_BUCKETS: usize = 2;
/// The queue is a vector that doubles: one to two places an entry.
const QUEUE_PLACES: usize = 2;
/// Common allocators put a word before each block; an entry has two, behind its key and behind its value.
const BLOCK_HEADERS: usize = 2 * size_of::<usize>();
const COVERED_INLINE: usize = size_of::<(String, Vec<u8>)>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_as_many_as_they_are() {
        assert_eq!("abc".weight(), 3);
        assert_eq!(String::from("abc").weight(), 3);
        assert_eq!(vec![1_u8, 2].weight(), 2);
        assert_eq!(Box::<str>::from("abc").weight(), 3);
        assert_eq!(Box::<[u8]>::from([1, 2]).weight(), 2);
        assert_eq!(Arc::<[u8]>::from([1, 2]).weight(), 2 + 16);
        assert_eq!(Arc::<str>::from("abc").weight(), 3 + 16);
        assert_eq!(7_u64.weight(), 8);
    }

    #[test]
    fn what_was_reserved_counts_even_if_it_is_not_used() {
        assert_eq!(Vec::<u8>::with_capacity(64).weight(), 64);
    }

    #[test]
    fn a_value_larger_than_the_overhead_covers_is_counted_in_full() {
        assert_eq!(entry_weight::<String, Vec<u8>>(5), 5 + ENTRY_OVERHEAD as u64);
        assert_eq!(entry_weight::<u64, [u8; 1_000]>(0), (8 + 1_000 - 48 + ENTRY_OVERHEAD) as u64);
    }

    #[test]
    fn an_absurd_weight_does_not_wrap_around() {
        assert!(entry_weight::<u64, u64>(usize::MAX) > u64::MAX / 2);
    }
}
