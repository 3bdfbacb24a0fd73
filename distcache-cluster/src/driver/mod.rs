//! The one task that joins the pure machines to links, timers and discovery.
//!
//! Everything that can happen to it is one [`Event`] or one timer; nothing in its loop waits for a peer.

pub(crate) mod links;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use distcache_transport::{Dialer, Hello, Lane, Link, Security};
use rand::{RngExt, rngs::StdRng};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{
    defects::{Defect, planted},
    event::Event,
    exchange::exchange,
    ident::{NodeIdent, NodeName},
    join::{Progress, Seed},
    membership::{Membership, Output},
    message::method,
    shared::Shared,
    trials::Trials,
    view::{Member, PeerLink, SharedView, View},
};

/// What the driver is made of.
pub(crate) struct Parts {
    pub(crate) membership: Box<dyn Membership>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) security: Security,
    pub(crate) hello: Hello,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) progress: watch::Sender<Progress>,
    /// Wakes the discovery loop.
    pub(crate) rediscover: Arc<Notify>,
    /// Views for the sweeper, each exactly once and in order: a key that was lost and regained must not survive the gap.
    pub(crate) sweeps: mpsc::UnboundedSender<SharedView>,
    pub(crate) rng: StdRng,
}

pub(crate) struct Driver {
    parts: Parts,
    peers: BTreeMap<SocketAddr, Peer>,
    /// Members that are not in the view yet, and since when they could be.
    newcomers: BTreeMap<SocketAddr, Instant>,
    discovery: Discovery,
    /// Addresses from discovery that never answered.
    trials: Trials,
    publish_at: Option<Instant>,
    sync_at: Instant,
    /// From when on a peer that disagrees is asked.
    compare_at: Instant,
    leaving: bool,
}

/// The lanes to a peer, and what is known of their other end.
struct Peer {
    lanes: PeerLink,
    ident: Option<NodeIdent>,
    /// What became of the control lane, which membership goes by.
    state: Seed,
    /// Whether it can be asked for values.
    data_up: bool,
    /// Named by discovery's last answer.
    seed: bool,
    /// When it was last a member, a seed, or heard of.
    wanted: Instant,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let sync_at = Instant::now() + parts.shared.config.sync_interval;
        Self {
            parts,
            peers: BTreeMap::new(),
            newcomers: BTreeMap::new(),
            discovery: Discovery::default(),
            trials: Trials::default(),
            publish_at: None,
            sync_at,
            compare_at: Instant::now(),
            leaving: false,
        }
    }

    /// Runs until the node is closed.
    pub(crate) async fn run(mut self) {
        let closed = self.parts.shared.closed.clone();
        loop {
            let next_timer = self.next_timer();
            tokio::select! {
                () = closed.cancelled() => break,
                event = self.parts.events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => break,
                },
                () = sleep_until(next_timer) => self.handle_timers(),
            }
            self.carry_out();
        }
    }

    fn next_timer(&self) -> Instant {
        let membership = self.parts.membership.poll_timeout().map(Instant::from_std);
        [membership, self.publish_at, self.trials.poll_timeout()].into_iter().flatten().fold(self.sync_at, Instant::min)
    }

    fn handle(&mut self, event: Event) {
        // Whoever asks a leaver who is there would be told that the leaver is, under a new generation.
        if self.leaving && !matches!(event, Event::Leave(_)) {
            return;
        }
        let now = Instant::now();
        let machine = &mut self.parts.membership;
        match event {
            Event::Packet { from, packet } => machine.handle_packet(&from, &packet, now.into_std()),
            Event::Met(peer) => self.met(&peer, now),
            Event::Link { addr, lane: Lane::Control, state } => self.control_changed(addr, state, now),
            Event::Link { addr, lane: Lane::Data, state } => self.data_changed(addr, &state, now),
            Event::Sync { snapshot, reply } => {
                if machine.merge(&snapshot, now.into_std()).is_err() {
                    tracing::warn!("a peer sent a malformed membership snapshot");
                }
                // A peer that stopped waiting needs no answer.
                let _ = reply.send(machine.snapshot());
            }
            Event::Synced { addr, snapshot } => {
                if machine.merge(&snapshot, now.into_std()).is_err() {
                    tracing::warn!(%addr, "a peer answered with a malformed membership snapshot");
                }
            }
            Event::Disagrees(name) => self.disagrees(&name, now),
            Event::Seeds(found) => self.seeds(found, now),
            Event::Left(peer) => {
                machine.peer_left(&peer, now.into_std());
                self.parts.shared.sessions.leaving(&peer);
            }
            Event::Depart => self.depart(now),
            Event::Leave(reply) => self.leave(reply, now),
        }
    }

    fn handle_timers(&mut self) {
        let now = Instant::now();
        if self.parts.membership.poll_timeout().is_some_and(|at| at <= now.into_std()) {
            self.parts.membership.handle_timeout(now.into_std());
        }
        if self.publish_at.is_some_and(|at| at <= now) {
            self.publish_at = None;
            self.publish(now);
        }
        self.try_next(now);
        if self.sync_at <= now {
            self.sync_at = now + self.parts.shared.config.sync_interval;
            self.sync_round();
            self.drop_unwanted(now);
        }
    }

    /// Does what the membership machine asks for.
    fn carry_out(&mut self) {
        while let Some(output) = self.parts.membership.poll_output() {
            let now = Instant::now();
            match output {
                Output::Send { to, packet } => self.send(&to, packet, now),
                Output::Changed => {
                    let at = now + self.parts.shared.config.settle;
                    self.publish_at = Some(self.publish_at.map_or(at, |earlier| earlier.min(at)));
                }
                Output::Idle if planted(Defect::NoReannounce) => {}
                Output::Idle => {
                    // SWIM stops all its timers with its last peer and would never look for one again.
                    self.parts.rediscover.notify_one();
                    self.sync_all();
                }
                Output::Rejoined => {
                    tracing::warn!("the cluster had declared this node down; it does not trust its cache for long");
                    let shared = &self.parts.shared;
                    shared.rejoined();
                    // What is kept from here on is told from what was kept before by the number of its view, though the members may
                    // stay the same. The sweeper ends only when the node closes.
                    let view = shared.publish(shared.view().anew());
                    let _ = self.parts.sweeps.send(view);
                }
            }
        }
        self.report();
    }

    /// Sends a membership packet; one that cannot go now is dropped, as SWIM expects of a network.
    fn send(&mut self, to: &NodeIdent, packet: Bytes, now: Instant) {
        self.open(to.addr(), now);
        if let Some(peer) = self.peers.get(&to.addr())
            && let Err(error) = peer.control().notify(method::GOSSIP, packet)
        {
            tracing::trace!(peer = %to, %error, "membership packet dropped");
        }
    }

    /// Compares members with a peer whose ring differs, but not for each of its requests.
    fn disagrees(&mut self, name: &NodeName, now: Instant) {
        if now < self.compare_at {
            return;
        }
        let is_it = |peer: &&Peer| peer.ident.as_ref().is_some_and(|ident| ident.name() == name);
        if let Some((addr, _)) = self.peers.iter().find(|(_, peer)| is_it(peer)) {
            self.compare_at = now + COMPARE_INTERVAL;
            self.sync(*addr);
        }
    }

    /// Push/pull of members and keyspace epochs with a random peer, and with every one that is reachable but no member: that is how splits heal.
    fn sync_round(&mut self) {
        let active: Vec<_> = self.parts.membership.active().iter().map(NodeIdent::addr).collect();
        let up: Vec<_> = self.up().collect();
        let strangers: Vec<_> = up.iter().copied().filter(|addr| !active.contains(addr)).collect();
        let members: Vec<_> = up.into_iter().filter(|addr| active.contains(addr)).collect();
        if !members.is_empty() {
            let chosen = self.parts.rng.random_range(0..members.len());
            self.sync(members[chosen]);
        }
        if !planted(Defect::NoReannounce) {
            strangers.into_iter().for_each(|addr| self.sync(addr));
        }
    }

    fn sync_all(&mut self) {
        let up: Vec<_> = self.up().collect();
        up.into_iter().for_each(|addr| self.sync(addr));
    }

    fn up(&self) -> impl Iterator<Item = SocketAddr> {
        self.peers.iter().filter(|(_, peer)| matches!(peer.state, Seed::Up)).map(|(addr, _)| *addr)
    }

    fn sync(&mut self, addr: SocketAddr) {
        let Some(peer) = self.peers.get(&addr) else {
            return;
        };
        if self.leaving {
            return;
        }
        let (link, snapshot) = (peer.control().clone(), self.parts.membership.snapshot());
        let shared = Arc::clone(&self.parts.shared);
        self.parts.shared.spawn(async move {
            let members = link.call_anyway(method::SYNC, snapshot.into(), SYNC_TIMEOUT);
            let (members, epochs) = tokio::join!(members, exchange(&shared, &link, SYNC_TIMEOUT));
            match members {
                // The driver is gone only when the node closes.
                Ok(snapshot) => drop(shared.events.send(Event::Synced { addr, snapshot }).await),
                Err(error) => tracing::debug!(%addr, %error, "membership exchange failed"),
            }
            if let Err(error) = epochs {
                tracing::debug!(%addr, %error, "exchange of keyspace epochs failed");
            }
        });
    }

    /// Publishes the present membership as a new view, if it is another one.
    fn publish(&mut self, now: Instant) {
        let active = self.parts.membership.active();
        for ident in &active {
            self.open(ident.addr(), now);
            if let Some(peer) = self.peers.get_mut(&ident.addr()) {
                peer.wanted = now;
            }
        }
        let old = self.parts.shared.view();
        let ready = self.ready(active, &old, now);
        let peers = ready
            .into_iter()
            .filter_map(|ident| {
                let lanes = self.peers.get(&ident.addr())?.lanes.clone();
                let heard = self.parts.shared.hearing.of(&ident);
                Some(Member::peer(ident, lanes, heard))
            })
            .collect();
        let shared = &self.parts.shared;
        let view = View::new(old.ordinal() + 1, Member::this_node(shared.me.clone()), peers);
        if view.same_members(&old) {
            return;
        }
        let view = shared.publish(view);
        // The sweeper ends only when the node closes.
        let _ = self.parts.sweeps.send(view);
    }

    /// Leaves out newcomers whose link is not up yet, for a while: until it is, their keys could not be asked for, and every
    /// read of them would go to the data source. One that cannot be reached from here enters all the same, for rings must agree.
    fn ready(&mut self, active: Vec<NodeIdent>, old: &View, now: Instant) -> Vec<NodeIdent> {
        let (mut newcomers, mut retry) = (BTreeMap::new(), None);
        let mut ready = active;
        ready.retain(|ident| {
            let addr = ident.addr();
            let known = old.member(ident.name()).is_some_and(|member| member.ident() == ident);
            let up = self.peers.get(&addr).is_some_and(|peer| peer.data_up && matches!(peer.state, Seed::Up));
            let since = self.newcomers.get(&addr).copied().unwrap_or(now);
            let enters = known || up || now >= since + NEWCOMER_PATIENCE;
            if !enters {
                newcomers.insert(addr, since);
                let at = since + NEWCOMER_PATIENCE;
                retry = Some(retry.map_or(at, |retry: Instant| retry.min(at)));
            }
            enters
        });
        self.newcomers = newcomers;
        self.publish_at = retry;
        ready
    }

    /// Tells all peers that this node leaves. The links stay: requests are on their way, and values to be handed off.
    fn depart(&mut self, now: Instant) {
        self.parts.membership.leave(now.into_std());
        self.carry_out();
        self.leaving = true;
        let me = self.parts.shared.me.encode();
        for peer in self.peers.values() {
            // A peer whose link is down finds out by failure detection.
            let _ = peer.control().notify(method::LEAVING, me.clone());
        }
    }

    fn leave(&mut self, reply: oneshot::Sender<()>, now: Instant) {
        if !self.leaving {
            self.depart(now);
        }
        let lanes: Vec<_> = self.peers.values().map(|peer| peer.lanes.clone()).collect();
        self.parts.shared.tasks.spawn(async move {
            futures_util::future::join_all(lanes.iter().map(|lanes| lanes.close(LAST_WORDS))).await;
            // The caller may have run out of time.
            let _ = reply.send(());
        });
    }

    /// Tells a start that waits how far it has come: all of it at once, for it decides on the whole.
    fn report(&mut self) {
        if self.parts.progress.is_closed() {
            return;
        }
        let Discovery { answered, listed, fault, .. } = &self.discovery;
        let seeds = self.peers.iter().filter(|(_, peer)| peer.seed).map(|(addr, peer)| (*addr, peer.state.clone()));
        let own = listed.then(|| (self.parts.shared.me.addr(), Seed::Myself));
        self.parts.progress.send_replace(Progress {
            discovered: *answered,
            discovery_fault: fault.clone(),
            seeds: seeds.chain(self.trials.idle()).chain(own).collect(),
            members: self.parts.shared.view().members().len(),
        });
    }
}

impl Peer {
    const fn control(&self) -> &Link {
        self.lanes.control.link()
    }
}

/// What discovery said last.
#[derive(Default)]
struct Discovery {
    answered: bool,
    /// Whether it named this node itself.
    listed: bool,
    /// How many of its addresses are not dialled at all.
    left_out: usize,
    fault: Option<String>,
}

/// A dial and a handshake take milliseconds; a peer that takes longer is not within reach.
const NEWCOMER_PATIENCE: Duration = Duration::from_secs(1);
/// As long as a change is gathered before it moves the ring: sooner, and the answer would be the same.
const COMPARE_INTERVAL: Duration = Duration::from_millis(150);
/// A snapshot is merged in microseconds; a peer that needs longer is asked again soon.
const SYNC_TIMEOUT: Duration = Duration::from_secs(2);
/// How long links may take to send what is queued when the node leaves.
const LAST_WORDS: Duration = Duration::from_millis(500);
