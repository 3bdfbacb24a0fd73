//! What a request carries: a method number and a payload in two parts.

use bytes::Bytes;

/// Names a request or a notice; the numbers belong to the layer above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(pub u16);

/// Is what a frame carries, in two parts that arrive as one.
///
/// The head is what the sender composed for this message; the tail is a value it already holds. A large tail goes from
/// the cache to the socket without a copy.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use distcache_transport::Payload;
///
/// let value = Bytes::from(vec![7; 100_000]);
/// let answer = Payload::new(Bytes::from_static(b"version 3"), value.clone());
/// assert_eq!(answer.len(), 100_009);
/// assert_eq!(Payload::from(value).head.len(), 100_000);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// The first part.
    pub head: Bytes,
    /// The second part.
    pub tail: Bytes,
}

impl Payload {
    /// Joins a head and a tail.
    #[must_use]
    pub const fn new(head: Bytes, tail: Bytes) -> Self {
        Self { head, tail }
    }

    /// Returns the size of both parts, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len().saturating_add(self.tail.len())
    }

    /// Tells whether both parts are empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Payload {
    fn from(head: Bytes) -> Self {
        Self { head, tail: Bytes::new() }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(head: Vec<u8>) -> Self {
        Bytes::from(head).into()
    }
}
