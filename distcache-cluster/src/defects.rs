//! Defects that a simulation plants, to see that it would find them: none of them is in a normal build.

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(distcache_defects), allow(unreachable_pub))]
pub enum Defect {
    /// A node that has lost its last peer waits for others to find it, as SWIM alone does.
    NoReannounce,
    /// A write is passed on however many peers it has crossed.
    HopsIgnored,
    /// A delete drops the key here before the owner was asked, and not again after.
    NoSecondInvalidation,
    /// The word that invalidations are lost is ignored.
    LostNotFlushed,
    /// A link that goes down takes its peer off the ring.
    LinkLossMovesRing,
    /// What a peer tells of keyspace epochs is not merged.
    EpochNotMerged,
    /// A keyspace has one epoch, the highest that anybody gave it.
    EpochMaxRegister,
    /// A near copy is served however old it is, and whether its owner is heard or not.
    LeaseIgnored,
}

#[cfg(distcache_defects)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Plants a defect in every node that this thread runs, or none.
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
