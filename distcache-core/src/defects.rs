//! Rules of the fill fence that a simulation breaks, to see that it would find out: none of this is in a normal build.

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(distcache_defects), allow(unreachable_pub))]
pub enum Defect {
    /// What an invalidation poisoned is stored all the same.
    PoisonIgnored,
    /// Who comes after an invalidation joins the flight from before it.
    NotDetached,
}

#[cfg(distcache_defects)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Plants a defect in every cache that this thread uses, or none.
#[cfg(distcache_defects)]
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

/// Whether a rule is to be broken.
#[cfg(distcache_defects)]
pub(crate) fn planted(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}

/// Whether a rule is to be broken: never.
#[cfg(not(distcache_defects))]
pub(crate) const fn planted(_: Defect) -> bool {
    false
}
