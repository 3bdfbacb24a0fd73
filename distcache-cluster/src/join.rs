//! When a start has joined, may go alone, or has failed: a pure decision over what became of each seed.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use distcache_transport::ConnectError;

use crate::causes::with_causes;

/// What became of a seed so far.
#[derive(Debug, Clone)]
pub(crate) enum Seed {
    Dialing,
    Failed(ConnectError),
    Up,
    /// The address is our own.
    Myself,
}

/// How far a start has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Whether discovery has answered yet, and what kept it from answering.
    pub(crate) discovered: bool,
    pub(crate) discovery_fault: Option<String>,
    pub(crate) seeds: BTreeMap<SocketAddr, Seed>,
    /// Members of the view, this node among them.
    pub(crate) members: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wait,
    Started,
    Failed(Vec<JoinFault>),
}

/// One reason why a node could not join.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinFault {
    /// A seed could not be reached, or would not have this node.
    Seed {
        /// The seed's address.
        addr: SocketAddr,
        /// What it said, or what the network said.
        reason: String,
    },
    /// Discovery itself failed.
    Discovery(String),
    /// Fewer members than asked for were there in time.
    TooFew {
        /// How many there were, this node among them.
        found: usize,
        /// How many were asked for.
        wanted: usize,
    },
}

impl fmt::Display for JoinFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed { addr, reason } => write!(f, "seed {addr}: {reason}"),
            Self::Discovery(reason) => write!(f, "discovery: {reason}"),
            Self::TooFew { found, wanted } => {
                write!(f, "{found} of at least {wanted} members found in time")
            }
        }
    }
}

/// Decides about a start.
///
/// * With a peer found and enough members: started.
/// * A node that stands in its own seed list may be the first: once every other seed failed to answer, it starts alone.
/// * A node that does not was told to join: it keeps trying until the time is up.
/// * A refusal that waiting cannot mend (another cluster's label, a certificate of another authority) fails at once, unless
///   some member did take us.
pub(crate) fn decide(progress: &Progress, min_members: usize, time_is_up: bool) -> Verdict {
    let enough = progress.members >= min_members.max(1);
    if progress.members > 1 && enough {
        return Verdict::Started;
    }
    let others: Vec<_> = progress.seeds.iter().filter(|(_, seed)| !matches!(seed, Seed::Myself)).collect();
    let listed = progress.seeds.values().any(|seed| matches!(seed, Seed::Myself));
    let all_failed = others.iter().all(|(_, seed)| matches!(seed, Seed::Failed(_)));
    let definite = others.iter().any(|(_, seed)| matches!(seed, Seed::Failed(error) if error.is_definite()));

    if progress.discovered && all_failed && progress.members <= 1 {
        if definite {
            return Verdict::Failed(faults(progress, min_members));
        }
        if enough && (others.is_empty() || listed) {
            return Verdict::Started;
        }
    }
    if time_is_up { Verdict::Failed(faults(progress, min_members)) } else { Verdict::Wait }
}

fn faults(progress: &Progress, min_members: usize) -> Vec<JoinFault> {
    let mut faults: Vec<_> = progress
        .seeds
        .iter()
        .filter_map(|(addr, seed)| {
            let reason = match seed {
                Seed::Failed(error) => with_causes(error),
                Seed::Dialing => "no answer in time".to_owned(),
                Seed::Up if progress.members <= 1 => "answered, but did not exchange members in time".to_owned(),
                Seed::Up | Seed::Myself => return None,
            };
            Some(JoinFault::Seed { addr: *addr, reason })
        })
        .collect();
    faults.extend(progress.discovery_fault.clone().map(JoinFault::Discovery));
    if !progress.discovered && progress.discovery_fault.is_none() {
        faults.push(JoinFault::Discovery("no answer in time".to_owned()));
    }
    if progress.members < min_members {
        faults.push(JoinFault::TooFew { found: progress.members, wanted: min_members });
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(seeds: &[(u16, Seed)], members: usize) -> Progress {
        let seeds = seeds.iter().map(|(port, seed)| (([127, 0, 0, 1], *port).into(), seed.clone())).collect();
        Progress { discovered: true, discovery_fault: None, seeds, members }
    }

    fn refused() -> Seed {
        Seed::Failed(ConnectError::TimedOut)
    }

    fn other_label() -> Seed {
        let refusal = distcache_transport::Refusal {
            reason: distcache_transport::RefusalReason::Label,
            message: "this is cluster blue".to_owned(),
        };
        Seed::Failed(ConnectError::Refused(refusal))
    }

    #[test]
    fn a_start_waits_for_discovery() {
        let nothing = Progress { members: 1, ..Progress::default() };
        assert_eq!(decide(&nothing, 1, false), Verdict::Wait);
        assert!(matches!(decide(&nothing, 1, true), Verdict::Failed(_)));
    }

    #[test]
    fn nobody_else_to_find_means_alone() {
        assert_eq!(decide(&progress(&[(1, Seed::Myself)], 1), 1, false), Verdict::Started);
        assert_eq!(decide(&progress(&[], 1), 1, false), Verdict::Started);
    }

    #[test]
    fn the_first_of_a_list_starts_alone_once_no_other_answers() {
        let dialing = progress(&[(1, Seed::Myself), (2, refused()), (3, Seed::Dialing)], 1);
        assert_eq!(decide(&dialing, 1, false), Verdict::Wait);
        let failed = progress(&[(1, Seed::Myself), (2, refused()), (3, refused())], 1);
        assert_eq!(decide(&failed, 1, false), Verdict::Started);
    }

    #[test]
    fn a_joiner_that_is_not_in_the_list_keeps_trying_and_then_names_every_seed() {
        let failed = progress(&[(2, refused()), (3, refused())], 1);
        assert_eq!(decide(&failed, 1, false), Verdict::Wait);
        let Verdict::Failed(faults) = decide(&failed, 1, true) else { panic!("must fail") };
        assert_eq!(faults.len(), 2);
    }

    #[test]
    fn a_refusal_for_good_fails_at_once_but_not_when_another_member_took_us() {
        let refused_by_one = progress(&[(1, Seed::Myself), (2, other_label()), (3, refused())], 1);
        assert!(matches!(decide(&refused_by_one, 1, false), Verdict::Failed(_)));
        let joined = progress(&[(2, other_label()), (3, Seed::Up)], 2);
        assert_eq!(decide(&joined, 1, false), Verdict::Started);
    }

    #[test]
    fn enough_members_are_waited_for() {
        let two = progress(&[(1, Seed::Myself), (2, Seed::Up)], 2);
        assert_eq!(decide(&two, 3, false), Verdict::Wait);
        assert_eq!(decide(&two, 3, true), Verdict::Failed(vec![JoinFault::TooFew { found: 2, wanted: 3 }]));
        assert_eq!(decide(&two, 2, false), Verdict::Started);
    }
}
