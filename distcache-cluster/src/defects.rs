//! Defects that a simulation plants, to see that it would find them: none of them is in a normal build.

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// A node that has lost its last peer waits for others to find it, as SWIM alone does.
    NoReannounce,
    /// A write is passed on however many peers it has crossed.
    HopsIgnored,
    /// A peer that is asked for a key it does not own asks another peer.
    SecondHop,
    /// A node that is not the owner of what it is told to delete drops what it has itself, and tells nobody.
    NotForwarded,
    /// An owner tells nobody what is old.
    NotBroadcast,
    /// What a node loads in an owner's place is kept as if it were the owner.
    ActingKept,
    /// A write drops what the writer holds or waits for before the owner was asked, and not once the owner has answered.
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
    /// What was lost and regained is served as if it had been here all the time.
    LapseIgnored,
    /// A value is taken from a peer though this node knows that it was invalidated.
    TombstonesIgnored,
    /// The new owner of a key is not told what was invalidated under the one before.
    NoCatchUp,
    /// A put is stored though its key was invalidated after it was sent.
    LatePutsStored,
    /// A node that the others had given up goes on as if nothing had been.
    RejoinTrusted,
    /// A strict write is acknowledged before everybody has heard of it.
    StrictAcksAtOnce,
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
#[must_use]
pub fn planted(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}

/// Whether a rule is to be broken: never.
#[cfg(not(distcache_defects))]
#[must_use]
pub const fn planted(_: Defect) -> bool {
    false
}
