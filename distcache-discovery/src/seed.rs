//! What a provider answers: addresses to try, and hints that they changed.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;

use futures_util::Stream;

/// Names an address where a peer may be, and the provider that said so.
///
/// It is a hint and no more: the peer may be gone, and the address may be this node's own.
///
/// Seeds are ordered by address, then by provider.
///
/// # Examples
///
/// ```
/// use distcache_discovery::Seed;
///
/// let seed = Seed::new("10.0.0.1:3320".parse()?, "static");
/// assert_eq!(seed.to_string(), "10.0.0.1:3320 (static)");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Seed {
    /// Where the peer may listen; the port is never 0.
    pub addr: SocketAddr,
    /// The [`id`](crate::Provider::id) of the provider that found it.
    pub provider: &'static str,
}

impl Seed {
    /// Creates a seed for `addr`, found by the provider called `provider`.
    #[must_use]
    pub fn new(addr: SocketAddr, provider: &'static str) -> Self {
        Self { addr, provider }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.addr, self.provider)
    }
}

/// Tells that a provider's answer changed, before the next [`discover`](crate::Provider::discover) would.
///
/// # Examples
///
/// ```
/// use distcache_discovery::{Change, Seed};
///
/// let seed = Seed::new("10.0.0.1:3320".parse()?, "kubernetes");
/// assert_eq!(Change::Insert(seed).seed(), &seed);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// The seed is new in the answer: worth a dial at once.
    Insert(Seed),
    /// The seed left the answer. This is no proof that the peer died; membership decides that.
    Remove(Seed),
}

impl Change {
    /// Returns the seed that came or went.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        match self {
            Self::Insert(seed) | Self::Remove(seed) => seed,
        }
    }
}

/// Carries a provider's changes as they happen.
///
/// Changes may be merged or lost, and the stream may end: it only makes a node faster, and
/// [`discover`](crate::Provider::discover) stays the truth.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Change> + Send>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_ordered_by_address_before_provider() {
        let seed = |addr: &str, provider| Seed::new(addr.parse().unwrap(), provider);
        let mut seeds =
            [seed("10.0.0.10:1", "a"), seed("10.0.0.9:2", "a"), seed("10.0.0.9:1", "b"), seed("10.0.0.9:1", "a")];
        seeds.sort();
        let shown: Vec<_> = seeds.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.9:1 (a)", "10.0.0.9:1 (b)", "10.0.0.9:2 (a)", "10.0.0.10:1 (a)"]);
    }
}
