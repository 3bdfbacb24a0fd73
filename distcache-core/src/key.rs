//! Making a key out of what it was looked up by: [`ToKey`].

use std::sync::Arc;

/// Makes the key that a cache stores out of a borrowed one, when a load begins.
///
/// It is there for every key that can be cloned, for text and for slices, so that a look-up by `&str` makes a `String` only if
/// nothing is found. Implement it for borrowed forms of your own.
///
/// # Examples
///
/// ```
/// use distcache_core::ToKey;
///
/// let owned: String = "key".to_key();
/// let shared: std::sync::Arc<str> = "key".to_key();
/// let number: u64 = 7.to_key();
/// ```
pub trait ToKey<K> {
    /// Returns the key.
    fn to_key(&self) -> K;
}

impl<K: Clone> ToKey<K> for K {
    fn to_key(&self) -> K {
        self.clone()
    }
}

macro_rules! to_key_of_text {
    ($($key:ty),*) => {$(
        impl ToKey<$key> for str {
            fn to_key(&self) -> $key {
                self.into()
            }
        }
    )*};
}

to_key_of_text!(String, Box<str>, Arc<str>);

macro_rules! to_key_of_slice {
    ($($key:ty),*) => {$(
        impl<T: Clone> ToKey<$key> for [T] {
            fn to_key(&self) -> $key {
                self.into()
            }
        }
    )*};
}

to_key_of_slice!(Vec<T>, Box<[T]>, Arc<[T]>);
