//! The settings of a cluster node, all of them plain values.

use std::time::Duration;

use distcache_discovery::Network;
use distcache_transport::{ClusterLabel, TransportConfig};

use crate::membership::SwimConfig;

/// How a node takes part in its cluster.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// The name of the cluster; nodes of other names are refused.
    pub label: ClusterLabel,
    /// How long a start waits for seeds and for `min_members`. Too short, and a slow network fails the start; too long, and a
    /// wrong configuration shows late. Defaults to 10 s.
    pub join_timeout: Duration,
    /// How many members, this node among them, a start waits for. Defaults to 1.
    pub min_members: usize,
    /// How long changes are gathered before the ring moves. Too short, and a flapping node moves its keys back and forth.
    /// Defaults to 150 ms.
    pub settle: Duration,
    /// How often discovery is asked again, for ever: that is how split clusters find each other. Defaults to 10 s.
    pub discovery_interval: Duration,
    /// The only networks with addresses that are dialled, whoever names them: discovery, or a peer. Defaults to none, which is
    /// all networks; else every node of the cluster must lie in one of them. Without TLS or a secret it keeps whoever can write into DNS or another list from having this node talk
    /// to machines of theirs.
    pub networks: Vec<Network>,
    /// How often membership is compared with a random member's. Defaults to 3 s.
    pub sync_interval: Duration,
    /// Failure detection.
    pub swim: SwimConfig,
    /// How long a peer that is asked for a key may say nothing at all, not even that it is working on it, before another is asked.
    /// Too short, and a busy peer's keys are loaded twice; too long, and readers wait for a peer that hangs. Defaults to 200 ms.
    pub peer_patience: Duration,
    /// How long the [`Store`](crate::Store)s of the cluster keep what they loaded in the place of an owner. For that long after a write
    /// its writer asks such a node for the value anew. Too short, and a writer may read from before its own write. Defaults to 10 s.
    pub acting_ttl: Duration,
    /// How long other nodes may keep copies of hot values of this node's keys; zero for not at all. Such a copy is dropped by the
    /// first word that it is old; this bounds how old it gets if that word cannot come. Defaults to 2 s.
    pub near_ttl: Duration,
    /// How long an owner may be silent before what it gave is no longer served by others. Several heartbeats, which come at each
    /// `ping_interval` of the transport. Defaults to 1.5 s.
    pub silence_limit: Duration,
    /// For how long after the ring has moved the new owner of a key asks the one before it, ahead of the data source, and for how long
    /// that one keeps what it has. Too short, and each node that comes or goes costs loads; zero turns it off. Defaults to 5 min.
    pub fill_window: Duration,
    /// How long a node that the others had given up serves what it held, give or take half of that. Too long, and what it missed is served
    /// for longer; too short, and after a split all nodes load everything at once. Defaults to 30 s.
    pub heal_ttl: Duration,
    /// How many bytes of values a node that leaves hands to the next owners of their keys; zero for none. Defaults to 64 MiB.
    pub handoff_bytes: u64,
    /// How long that may take at most, of the time that a leave is given. Defaults to 5 s.
    pub handoff_time: Duration,
    /// How often values are looked for of which others are to have copies. Defaults to 1 s.
    pub backup_interval: Duration,
    /// How often peers have to read a key of this node's, within about a second, for their copies of it to be kept. Too few, and copies
    /// of cold keys take memory everywhere; too many, and one key can keep its owner busy. Defaults to 32.
    pub hot_reads: u32,
    /// How long an invalidation is remembered for peers that are away. Defaults to 60 s.
    pub invalidation_retention: Duration,
    /// How many messages of invalidations are remembered, each of one key or of the keys of a batch. A peer that misses more
    /// drops its whole cache. Defaults to 65,536.
    pub invalidation_log: usize,
    /// How many bytes of them are remembered, likewise. Defaults to 16 MiB.
    pub invalidation_log_bytes: usize,
    /// How many keys are remembered, with their names, that others have invalidated of late. More than a thousand a second for a minute, of all
    /// other nodes together; where there are more, the death of a node costs what came from peers, for nobody can say which of it is old.
    #[doc(hidden)]
    pub tombstones: usize,
    /// For how long a sweep of the store is put off. A simulation, whose sweeps take no time, has that of a large store take its time by this.
    #[doc(hidden)]
    pub sweep_time: Duration,
    /// The peer links.
    pub transport: TransportConfig,
}

impl ClusterConfig {
    /// Makes the defaults for a cluster of that name.
    #[must_use]
    pub fn new(label: ClusterLabel) -> Self {
        let transport = TransportConfig {
            // A frozen peer still accepts writes; only missing answers tell. Half a second of silence is suspicious on a
            // network made for caching, a second and a half is enough to stop asking.
            ping_interval: Duration::from_millis(500),
            ping_timeout: Duration::from_millis(1_500),
            ..TransportConfig::default()
        };
        Self {
            label,
            join_timeout: Duration::from_secs(10),
            min_members: 1,
            settle: Duration::from_millis(150),
            discovery_interval: Duration::from_secs(10),
            networks: Vec::new(),
            sync_interval: Duration::from_secs(3),
            swim: SwimConfig::default(),
            peer_patience: Duration::from_millis(200),
            acting_ttl: Duration::from_secs(10),
            near_ttl: Duration::from_secs(2),
            silence_limit: Duration::from_millis(1_500),
            fill_window: Duration::from_secs(300),
            heal_ttl: Duration::from_secs(30),
            handoff_bytes: 64 << 20,
            handoff_time: Duration::from_secs(5),
            backup_interval: Duration::from_secs(1),
            hot_reads: 32,
            invalidation_retention: Duration::from_secs(60),
            invalidation_log: 65_536,
            invalidation_log_bytes: 16 << 20,
            tombstones: 65_536,
            sweep_time: Duration::ZERO,
            transport,
        }
    }
}
