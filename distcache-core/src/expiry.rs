//! How long an entry lives.

use std::time::Duration;

use crate::clock::Tick;

/// Says how long an entry may be served.
///
/// An entry that is given no time at all is not stored. One that is given more than the clock can measure (584 years) is
/// kept without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Expiry {
    /// As long as the cache's default says: see [`CacheBuilder::default_ttl`](crate::CacheBuilder::default_ttl).
    #[default]
    Default,
    /// Until it is evicted, replaced or removed.
    Never,
    /// For this long, counted from the call that stores it. At the last nanosecond of it, the entry is gone.
    After(Duration),
}

impl Expiry {
    /// Returns the first tick at which the entry must not be served any more.
    pub(crate) fn deadline(self, now: Tick, default: Option<Duration>) -> Tick {
        let ttl = match self {
            Self::Default => default,
            Self::Never => None,
            Self::After(ttl) => Some(ttl),
        };
        ttl.map_or(Tick::MAX, |ttl| now.saturating_add(ttl))
    }
}

/// Says whether an entry with that deadline is over. One whose deadline is the end of time never is.
pub(crate) fn is_over(deadline: Tick, now: Tick) -> bool {
    deadline <= now && deadline != Tick::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_over_at_its_deadline_and_not_before() {
        assert!(!is_over(Tick(10), Tick(9)));
        assert!(is_over(Tick(10), Tick(10)));
        assert!(!is_over(Tick::MAX, Tick::MAX));
    }

    #[test]
    fn the_default_applies_only_where_it_is_asked_for() {
        let default = Some(Duration::from_nanos(5));
        assert_eq!(Expiry::Default.deadline(Tick(1), default), Tick(6));
        assert_eq!(Expiry::Default.deadline(Tick(1), None), Tick::MAX);
        assert_eq!(Expiry::Never.deadline(Tick(1), default), Tick::MAX);
        assert_eq!(Expiry::After(Duration::from_nanos(2)).deadline(Tick(1), default), Tick(3));
        assert_eq!(Expiry::After(Duration::MAX).deadline(Tick(1), default), Tick::MAX);
        assert!(is_over(Expiry::After(Duration::ZERO).deadline(Tick(1), None), Tick(1)));
    }
}
