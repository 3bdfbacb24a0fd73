//! What an engine finds around itself: [`Machine`].

use std::{fmt, sync::Arc, time::Duration};

use distcache_cluster::ClusterConfig;
use distcache_transport::{Dialer, Listener};

/// What a simulation puts in the place of the machine a node runs on: its network, its wall clock, its chance.
///
/// Not for users, and no part of the public interface.
pub struct Machine {
    /// Where peers are accepted; bound already.
    pub listener: Box<dyn Listener>,
    /// How peers are dialled.
    pub dialer: Arc<dyn Dialer>,
    /// The time of day at the start, since the epoch. It may have been set back.
    pub since_epoch: Duration,
    /// Seeds every random choice.
    pub seed: u64,
    /// Changes settings that an engine does not show.
    pub tune: Box<dyn FnOnce(&mut ClusterConfig) + Send>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("listener", &self.listener)
            .field("since_epoch", &self.since_epoch)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
