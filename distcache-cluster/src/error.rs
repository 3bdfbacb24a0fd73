//! Why a node could not take its place in a cluster.

use distcache_discovery::DiscoveryError;

use crate::join::JoinFault;

/// A node did not start. Nothing is left behind: no task, no socket, no membership.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The discovery provider would not start. Its configuration or its server is at fault; whether a retry helps is the
    /// cause's to say.
    #[error("discovery provider {provider} did not start")]
    Discovery {
        /// The provider's id.
        provider: &'static str,
        /// What it said.
        source: DiscoveryError,
    },
    /// The node did not get into the cluster in time. All reasons are listed; a retry helps where the network was at fault.
    #[error("could not join the cluster: {}", list(.0))]
    Join(Vec<JoinFault>),
}

fn list(faults: &[JoinFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
