//! SWIM (Das, Gupta, Motivala, DSN 2002) by the `foca` crate, behind [`Membership`].
//!
//! Added here to what foca does: timers fire in order (out-of-order ones break its probe cycle), a packet must come from
//! the peer it names as its sender, snapshots are exchanged (push/pull), a node whose clock was set back overtakes the
//! generation its peers remember, and one that is late itself is slow to call others dead.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    fmt,
    num::{NonZeroU8, NonZeroUsize},
    time::{Duration, Instant},
};

use bytes::Bytes;
use foca::{
    AccumulatingRuntime, Codec, Config, Foca, Member, NoCustomBroadcast, OwnedNotification, PeriodicParams, State,
    Timer,
};
use rand::rngs::StdRng;

use super::{MalformedSnapshot, Membership, Output, SwimConfig, health::LocalHealth, swim_codec::SwimCodec};
use crate::{codec, ident::NodeIdent};

/// A SWIM member.
pub(crate) struct Swim {
    foca: Foca<NodeIdent, SwimCodec, StdRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<NodeIdent>,
    timers: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    outputs: VecDeque<Output>,
    config: Config,
    health: LocalHealth,
}

impl Swim {
    /// Makes a member that knows nobody. All its random choices come from `rng`.
    pub(crate) fn new(identity: NodeIdent, config: &SwimConfig, rng: StdRng) -> Self {
        let health = LocalHealth::new(config.probe_rtt, config.probe_period);
        let config = foca_config(config);
        Self {
            foca: Foca::new(identity, config.clone(), rng, SwimCodec),
            config,
            health,
            runtime: AccumulatingRuntime::new(),
            timers: BinaryHeap::new(),
            scheduled: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Returns this node's present identity. Its generation grows when the cluster had declared it down.
    #[cfg(test)]
    fn identity(&self) -> &NodeIdent {
        self.foca.identity()
    }

    /// Moves what foca asked for into our own queues.
    fn drain(&mut self, now: Instant) {
        while let Some((to, packet)) = self.runtime.to_send() {
            self.outputs.push_back(Output::Send { to, packet });
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.scheduled += 1;
            self.timers.push(Reverse(Scheduled { at: now + after, timer, order: self.scheduled }));
        }
        while let Some(notification) = self.runtime.to_notify() {
            match notification {
                OwnedNotification::MemberUp(_) | OwnedNotification::MemberDown(_) | OwnedNotification::Rename(..) => {
                    self.outputs.push_back(Output::Changed);
                }
                OwnedNotification::Idle => self.outputs.extend([Output::Changed, Output::Idle]),
                OwnedNotification::Rejoin(_) => self.outputs.extend([Output::Changed, Output::Rejoined]),
                OwnedNotification::Active | OwnedNotification::Defunct => {}
            }
        }
    }

    /// Gives those who are suspected from now on as much time as this node's own health calls for.
    fn wait_for_suspects(&mut self) {
        let suspect_to_down_after = self.config.suspect_to_down_after.saturating_mul(self.health.factor());
        let result = self.foca.set_config(Config { suspect_to_down_after, ..self.config.clone() });
        self.note("wait for suspects", result);
    }

    /// Reports what foca could not take. Its errors change no state but the one the message says.
    fn note(&self, doing: &str, result: Result<(), foca::Error>) {
        if let Err(error) = result {
            tracing::debug!(node = %self.foca.identity(), %error, doing, "membership input refused");
        }
    }

    /// A clock that was set back over a restart gives a generation that every peer takes for a dead one's. The peers'
    /// snapshot shows it; then this process takes the next one.
    fn overtake(&mut self, members: &[Member<NodeIdent>]) {
        let own = self.foca.identity();
        let newest = members
            .iter()
            .map(Member::id)
            .filter(|id| id.is_same_node(own))
            .map(NodeIdent::generation)
            .max()
            .unwrap_or(0);
        if newest > own.generation() {
            let next = own.with_generation(newest.saturating_add(1));
            let result = self.foca.change_identity(next, &mut self.runtime);
            self.note("overtake an older self", result);
            self.outputs.push_back(Output::Rejoined);
        }
    }
}

impl Membership for Swim {
    fn handle_packet(&mut self, from: &NodeIdent, packet: &[u8], now: Instant) {
        // Every foca packet names its direct sender, relays included; a peer may not speak for another.
        match SwimCodec.decode_header(packet) {
            Ok(header) if header.src.addr() == from.addr() => {
                let result = self.foca.handle_data(packet, &mut self.runtime);
                self.note("handle a packet", result);
                self.drain(now);
            }
            Ok(header) => {
                tracing::warn!(peer = %from, claimed = %header.src, "membership packet with a forged sender")
            }
            Err(error) => tracing::warn!(peer = %from, %error, "membership packet is malformed"),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while self.timers.peek().is_some_and(|Reverse(next)| next.at <= now) {
            let Some(Reverse(due)) = self.timers.pop() else {
                break;
            };
            if self.health.timer_fired(due.at, now) {
                self.wait_for_suspects();
            }
            let result = self.foca.handle_timer(due.timer, &mut self.runtime);
            self.note("handle a timer", result);
            self.drain(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse(next)| next.at)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn snapshot(&self) -> Bytes {
        let own = Member::alive(self.foca.identity().clone());
        let mut members: Vec<_> = self.foca.iter_membership_state().cloned().collect();
        // Alive members last: were the list ever cut, the dead are what peers can do without.
        members.sort_by_key(|member| member.state() != State::Down);
        members.push(own);
        let cut = members.len().saturating_sub(MAX_SNAPSHOT_MEMBERS);
        codec::encode(&members.split_off(cut), MAX_SNAPSHOT_BYTES).map_or_else(|_| Bytes::new(), Bytes::from)
    }

    fn merge(&mut self, snapshot: &[u8], now: Instant) -> Result<(), MalformedSnapshot> {
        let members: Vec<Member<NodeIdent>> =
            codec::decode(snapshot, MAX_SNAPSHOT_BYTES).map_err(|_| MalformedSnapshot)?;
        if members.len() > MAX_SNAPSHOT_MEMBERS {
            return Err(MalformedSnapshot);
        }
        self.overtake(&members);
        let result = self.foca.apply_many(members.into_iter(), true, &mut self.runtime);
        self.note("merge a snapshot", result);
        self.drain(now);
        Ok(())
    }

    fn peer_left(&mut self, peer: &NodeIdent, now: Instant) {
        let gone = self.foca.iter_members().map(Member::id).find(|id| id.is_same_node(peer)).cloned();
        if let Some(gone) = gone {
            let result = self.foca.apply_many(std::iter::once(Member::down(gone)), true, &mut self.runtime);
            self.note("note a leaver", result);
            self.drain(now);
        }
    }

    fn leave(&mut self, now: Instant) {
        let result = self.foca.leave_cluster(&mut self.runtime);
        self.note("leave", result);
        self.drain(now);
    }

    fn active(&self) -> Vec<NodeIdent> {
        self.foca.iter_members().map(|member| member.id().clone()).collect()
    }
}

impl fmt::Debug for Swim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swim")
            .field("identity", self.foca.identity())
            .field("active", &self.foca.num_members())
            .finish_non_exhaustive()
    }
}

/// A timer of foca's and when it is due. Ties go by foca's own order of kinds, then by age.
#[derive(Debug, PartialEq, Eq)]
struct Scheduled {
    at: Instant,
    timer: Timer<NodeIdent>,
    order: u64,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at).then_with(|| self.timer.cmp(&other.timer)).then_with(|| self.order.cmp(&other.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn foca_config(config: &SwimConfig) -> Config {
    let two = NonZeroUsize::new(2).expect("two is not zero");
    let three = NonZeroUsize::new(3).expect("three is not zero");
    Config {
        probe_period: config.probe_period,
        probe_rtt: config.probe_rtt,
        num_indirect_probes: three,
        // 15 retransmissions close the tail in which one node of 32 learned of a crash only after 15 s.
        max_transmissions: NonZeroU8::new(15).expect("fifteen is not zero"),
        suspect_to_down_after: config.suspect_to_down,
        // A down member is forgotten after an hour; until then it is invited back now and then.
        remove_down_after: Some(Duration::from_secs(3_600)),
        // The lane is TCP, so that one packet may carry the whole cluster.
        max_packet_size: NonZeroUsize::new(32 * 1_024).expect("32 KiB is not zero"),
        notify_down_members: true,
        periodic_announce: None,
        periodic_announce_to_down_members: Some(PeriodicParams {
            frequency: Duration::from_secs(10),
            num_members: two,
        }),
        periodic_gossip: Some(PeriodicParams { frequency: Duration::from_millis(100), num_members: three }),
    }
}

/// Members in one snapshot, the dead of the last hour included.
const MAX_SNAPSHOT_MEMBERS: usize = 4_096;
/// A snapshot must fit in a frame: 4,096 members of at most 200 bytes.
const MAX_SNAPSHOT_BYTES: u64 = 900 * 1_024;

#[cfg(test)]
#[path = "swim_tests.rs"]
mod tests;
