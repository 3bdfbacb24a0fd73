//! The defects that can be planted, and what each breaks.

use std::sync::atomic::{AtomicUsize, Ordering};

use distcache_cluster::Defect;
use distcache_core::Defect as CoreDefect;

/// Where a rule is broken.
#[derive(Debug, Clone, Copy)]
enum Place {
    Cluster(Defect),
    Core(CoreDefect),
}

/// Chooses the defect that the threads plant from now on, by its place in [`NAMES`].
pub(crate) fn choose(defect: Option<usize>) {
    CHOSEN.store(defect.map_or(0, |place| place + 1), Ordering::Relaxed);
}

/// Plants what was chosen in every node that this thread runs.
pub(crate) fn plant() {
    let place = CHOSEN.load(Ordering::Relaxed).checked_sub(1).map(|chosen| DEFECTS[chosen].1);
    distcache_cluster::plant(match place {
        Some(Place::Cluster(defect)) => Some(defect),
        _ => None,
    });
    distcache_core::plant(match place {
        Some(Place::Core(defect)) => Some(defect),
        _ => None,
    });
}

/// Returns what each is called, in order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    DEFECTS.iter().map(|(name, _)| *name)
}

static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// What `reference/cluster.md` 3.3 numbers has its number.
const DEFECTS: [(&str, Place); 20] = [
    ("R1 (a poisoned fill is stored)", Place::Core(CoreDefect::PoisonIgnored)),
    ("R1b (a read joins a flight from before an invalidation)", Place::Core(CoreDefect::NotDetached)),
    ("R1b (no second invalidation after a write)", Place::Cluster(Defect::NoSecondInvalidation)),
    ("R2 (a write is not forwarded)", Place::Cluster(Defect::NotForwarded)),
    ("R2 (hop count ignored)", Place::Cluster(Defect::HopsIgnored)),
    ("R3 (no broadcast)", Place::Cluster(Defect::NotBroadcast)),
    ("R4 (lease of a near copy ignored)", Place::Cluster(Defect::LeaseIgnored)),
    ("R5 (a lapse of ownership ignored)", Place::Cluster(Defect::LapseIgnored)),
    ("R6 (tombstones ignored)", Place::Cluster(Defect::TombstonesIgnored)),
    ("R7 (no catch-up)", Place::Cluster(Defect::NoCatchUp)),
    ("R7 (lost log not flushed)", Place::Cluster(Defect::LostNotFlushed)),
    ("R8 (rejoin trusted)", Place::Cluster(Defect::RejoinTrusted)),
    ("R9 (epochs are not merged)", Place::Cluster(Defect::EpochNotMerged)),
    ("R9 (one epoch for all origins)", Place::Cluster(Defect::EpochMaxRegister)),
    ("strict (acknowledged at once)", Place::Cluster(Defect::StrictAcksAtOnce)),
    ("puts (a late one is stored)", Place::Cluster(Defect::LatePutsStored)),
    ("failover (acting copy kept past its time)", Place::Cluster(Defect::ActingKept)),
    ("one hop (second hop of a read)", Place::Cluster(Defect::SecondHop)),
    ("membership (no re-announce on idle)", Place::Cluster(Defect::NoReannounce)),
    ("membership (link loss moves the ring)", Place::Cluster(Defect::LinkLossMovesRing)),
];
