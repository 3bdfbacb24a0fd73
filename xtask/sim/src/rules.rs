//! What is held against a cluster, each rule by its name. Where it says *invariant*, `reference/cluster.md` 3.5 numbers it.
//!
//! | rule | judged where |
//! |---|---|
//! | 1 no resurrect | in each answer between nodes, and each read by a key's owner: nothing older than an invalidation the node had taken in before it was asked |
//! | 2 read your writes | in each read: nothing older than the reader's own write that was applied before it |
//! | 3 strict | in each read: nothing older than a strict write that was applied before it and began when all nodes had met, whoever reads and whatever is broken |
//! | 4 convergence | at rest, each key at each node: nothing older than any write that returned, degraded ones too |
//! | 5 near copies | in each read from memory by a node that was given a lease: its time is not up, and its owner was heard lately |
//! | 6 no revival | in each answer from memory of an owner: it was loaded or put there since the node owns the key |
//! | 7 single flight | at the source: no two loads of a key at once by one node; at rest, no second load of a key by any |
//! | 8 epoch | as 1 and 4, of keys of which only an emptied keyspace tells; the keyspace is emptied, or deleted and defined anew, by several nodes, also in a split; at rest, no definition from before a deletion |
//! | 9 a delete never fails | at the end of each write |
//! | 10 agreement | at each view: equal members make equal owners and fingerprints |
//! | 11 bounds | every ten milliseconds, what each node holds of what is bounded; in each answer of a node that was told that events are lost: nothing older than that word |
//! | 12 leave | at the source, where nodes only leave, stores are swept at once, and no word is forgotten: no load of what a leaver gave the key's new owner and nobody has written since |
//! | 13 determinism | by the self-test: a seed run twice is the same run |
//! | delivery | in each read while nothing is broken and no view has moved for ten seconds: nothing older than a write that returned three tenths of a second before |
//! | one hop | in each frame: no write that has crossed more than one peer, no read that no client of the sender has begun |
//! | acting copies | in each answer from memory of a node that does not own the key: loaded by that node within `failover_ttl` |
//! | deadlines | at the end of each read and write |
//! | membership | every ten milliseconds: who can be reached is a member, who cannot is none, nobody is removed too soon |
//! | truth | in each read: what somebody wrote, of that key |

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    NoResurrect,
    ReadYourWrites,
    Strict,
    Convergence,
    NearCopies,
    NoRevival,
    SingleFlight,
    Epoch,
    DeleteNeverFails,
    Agreement,
    Bounds,
    Leave,
    Delivery,
    OneHop,
    ActingCopies,
    Deadlines,
    Membership,
    Truth,
    /// Of the simulation itself: a scenario that proves nothing.
    Void,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoResurrect => "invariant 1 (no resurrect)",
            Self::ReadYourWrites => "invariant 2 (read your writes)",
            Self::Strict => "invariant 3 (strict)",
            Self::Convergence => "invariant 4 (convergence)",
            Self::NearCopies => "invariant 5 (near copies)",
            Self::NoRevival => "invariant 6 (no revival)",
            Self::SingleFlight => "invariant 7 (single flight)",
            Self::Epoch => "invariant 8 (epoch)",
            Self::DeleteNeverFails => "invariant 9 (a delete never fails)",
            Self::Agreement => "invariant 10 (agreement)",
            Self::Bounds => "invariant 11 (bounds)",
            Self::Leave => "invariant 12 (leave)",
            Self::Delivery => "delivery",
            Self::OneHop => "one hop",
            Self::ActingCopies => "acting copies",
            Self::Deadlines => "deadlines",
            Self::Membership => "membership",
            Self::Truth => "truth",
            Self::Void => "void",
        })
    }
}
