//! Why a node could not take its place in a cluster.

use std::error::Error;

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

/// An error and all that caused it, in one line: for texts that leave the error itself behind.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
