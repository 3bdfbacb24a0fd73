//! What an entry costs: [`Weigh`], [`ENTRY_OVERHEAD`], and how a cache adds them up.

use std::{mem::size_of, sync::Arc};

use crate::{
    deadlines::{DEADLINE_BYTES, IDLE_BYTES},
    policy::{GHOST_BYTES, Node},
    table::TAG_BYTES,
};

/// Bytes that a cache bounded by bytes counts for each entry, beyond what its key and its value weigh.
///
/// It covers the entry's slot with a key and a value of three words each (as `String` and `Vec<u8>` have), its share of the
/// hash index and of the memory of evicted keys, and what an allocator adds to two blocks. Keys and values that are larger
/// than six words together, as they lie in the slot, have the difference added by the cache itself; for smaller ones the count
/// is a little too high, never too low. An entry that expires counts [`EXPIRY_OVERHEAD`] more.
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
pub const ENTRY_OVERHEAD: usize =
    (COVERED_INLINE + size_of::<Node>()) * SLACK.0 / SLACK.1 + TAG_BYTES + GHOST_BYTES + BLOCK_HEADERS;

/// Bytes that an entry counts more if it will expire: its time, and its place in the queue of those that will.
///
/// In a cache with a [time to idle](crate::CacheBuilder::time_to_idle) every entry counts this, and [`IDLE_OVERHEAD`].
pub const EXPIRY_OVERHEAD: usize = DEADLINE_BYTES;

/// Bytes that every entry counts more in a cache with a [time to idle](crate::CacheBuilder::time_to_idle).
pub const IDLE_OVERHEAD: usize = IDLE_BYTES;

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

/// How a cache weighs a key with its value.
pub(crate) type WeighFn<K, V> = dyn Fn(&K, &V) -> usize + Send + Sync;

/// What the capacity of a cache is measured in.
pub(crate) enum Scale<K, V> {
    /// Bytes: what the function says, and what the cache itself needs.
    Bytes(Box<WeighFn<K, V>>),
    /// Entries, whatever their size.
    Entries,
}

impl<K, V> Scale<K, V> {
    /// Returns what an entry counts.
    pub(crate) fn weigh(&self, key: &K, value: &V, mortal: bool, idle: bool) -> u64 {
        match self {
            Self::Entries => 1,
            Self::Bytes(weigher) => {
                let inline = (size_of::<K>() + size_of::<V>()).saturating_sub(COVERED_INLINE) * SLACK.0 / SLACK.1;
                let deadline = if mortal || idle { EXPIRY_OVERHEAD } else { 0 };
                let idle = if idle { IDLE_OVERHEAD } else { 0 };
                (weigher(key, value) as u64).saturating_add((inline + ENTRY_OVERHEAD + deadline + idle) as u64)
            }
        }
    }

    /// Returns how much of its share a shard may use: slots have numbers of 32 bits, so there may not be more entries.
    pub(crate) fn limit(&self, share: u64) -> u64 {
        let least = if matches!(self, Self::Entries) { 1 } else { ENTRY_OVERHEAD as u64 };
        share.min(u64::from(u32::MAX / 2) * least)
    }
}

/// A table is between three quarters and nineteen twentieths full: nine slots for eight entries, as a rule.
const SLACK: (usize, usize) = (9, 8);
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

    fn bytes<K: Default, V: Default>(weighed: usize) -> u64 {
        Scale::<K, V>::Bytes(Box::new(move |_, _| weighed)).weigh(&K::default(), &V::default(), false, false)
    }

    #[test]
    fn a_value_larger_than_the_overhead_covers_is_counted_in_full() {
        assert_eq!(bytes::<String, Vec<u8>>(5), 5 + ENTRY_OVERHEAD as u64);
        assert_eq!(bytes::<u64, [u64; 32]>(0), ((8 + 256 - 48) * 9 / 8 + ENTRY_OVERHEAD) as u64);
    }

    #[test]
    fn an_entry_that_ends_counts_more() {
        let scale = Scale::<u64, u64>::Bytes(Box::new(|_, _| 0));
        let weight = |mortal, idle| scale.weigh(&0, &0, mortal, idle) as usize - ENTRY_OVERHEAD;
        assert_eq!(
            [weight(false, false), weight(true, false), weight(true, true), weight(false, true)],
            [0, 24, 40, 40]
        );
    }

    #[test]
    fn an_absurd_weight_does_not_wrap_around() {
        assert!(bytes::<u64, u64>(usize::MAX) > u64::MAX / 2);
    }

    #[test]
    fn slots_can_never_outnumber_32_bits() {
        let scale = Scale::<u64, u64>::Bytes(Box::new(|_, _| 0));
        assert!(scale.limit(u64::MAX) / ENTRY_OVERHEAD as u64 <= u64::from(u32::MAX / 2));
        assert_eq!(scale.limit(1 << 37), 1 << 37);
        assert_eq!(Scale::<u64, u64>::Entries.limit(u64::MAX), u64::from(u32::MAX / 2));
    }
}
