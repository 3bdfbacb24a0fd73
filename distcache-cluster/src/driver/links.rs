//! The links of a node: to whom they are opened, what their coming and going means, and when they are given up.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use distcache_transport::{ConnectError, ControlLink, Lane, Link, LinkState};
use tokio::time::Instant;

use super::{Discovery, Driver, Peer};
use crate::{
    defects::{Defect, planted},
    event::Event,
    ident::NodeIdent,
    join::Seed,
    view::PeerLink,
};

impl Driver {
    pub(super) fn met(&mut self, peer: &NodeIdent, now: Instant) {
        self.open(peer.addr(), now);
        if let Some(known) = self.peers.get_mut(&peer.addr()) {
            known.wanted = now;
            // It just dialled us, so it is there: no reason to sit out a back-off.
            known.lanes.link.redial_now();
            known.control().redial_now();
            self.parts.shared.sessions.met(peer.addr(), peer, known.lanes.control.acknowledged());
        }
    }

    /// Opens a link to a peer that is known to be one, unless there is one.
    pub(super) fn open(&mut self, addr: SocketAddr, now: Instant) {
        self.trials.passed(addr);
        self.dial(addr, now);
    }

    /// Opens links to those whose turn it is of the addresses that discovery named.
    pub(super) fn try_next(&mut self, now: Instant) {
        while let Some(addr) = self.trials.poll(now) {
            self.dial(addr, now);
            if let Some(peer) = self.peers.get_mut(&addr) {
                peer.seed = true;
            }
        }
    }

    /// Opens a link unless there is one, or too many are there, or the address is our own, or not one to dial.
    fn dial(&mut self, addr: SocketAddr, now: Instant) {
        if self.leaving || addr == self.parts.shared.me.addr() || self.peers.contains_key(&addr) {
            return;
        }
        if !self.may_dial(addr) {
            tracing::debug!(%addr, "an address outside of the networks to dial");
            return;
        }
        if self.peers.len() >= MAX_PEERS {
            tracing::warn!(%addr, limit = MAX_PEERS, "too many peers; this one is not dialled");
            return;
        }
        let parts = &self.parts;
        let transport = parts.shared.config.transport.clone();
        let max_in_flight = transport.max_in_flight;
        let (dialer, security, hello) = (Arc::clone(&parts.dialer), parts.security.clone(), parts.hello.clone());
        let log = Arc::clone(parts.shared.invalidations.log());
        let control =
            ControlLink::open(addr, Arc::clone(&dialer), security.clone(), hello.clone(), transport.clone(), log);
        let link = Link::open(addr, dialer, security, hello, transport);
        self.watch(addr, Lane::Control, control.link());
        self.watch(addr, Lane::Data, &link);
        let lanes = PeerLink::new(link, control, max_in_flight);
        let peer = Peer { lanes, ident: None, state: Seed::Dialing, data_up: false, seed: false, wanted: now };
        self.peers.insert(addr, peer);
    }

    /// Whether an address lies in one of the networks that are dialled.
    fn may_dial(&self, addr: SocketAddr) -> bool {
        let networks = &self.parts.shared.config.networks;
        networks.is_empty() || networks.iter().any(|network| network.contains(addr.ip()))
    }

    /// Turns every change of a lane into an event.
    fn watch(&self, addr: SocketAddr, lane: Lane, link: &Link) {
        let shared = &self.parts.shared;
        let (mut states, events, closed) = (link.watch(), shared.events.clone(), shared.closed.clone());
        shared.tasks.spawn(async move {
            loop {
                let state = states.borrow_and_update().clone();
                let last = matches!(state, LinkState::Closed);
                if events.send(Event::Link { addr, lane, state }).await.is_err() || last {
                    return;
                }
                tokio::select! {
                    () = closed.cancelled() => return,
                    changed = states.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    pub(super) fn data_changed(&mut self, addr: SocketAddr, state: &LinkState, now: Instant) {
        let Some(peer) = self.peers.get_mut(&addr) else {
            return;
        };
        peer.data_up = matches!(state, LinkState::Up(_));
        if peer.data_up && self.newcomers.contains_key(&addr) {
            self.publish_at = Some(now);
        }
    }

    pub(super) fn control_changed(&mut self, addr: SocketAddr, state: LinkState, now: Instant) {
        let Some(peer) = self.peers.get_mut(&addr) else {
            return;
        };
        match state {
            LinkState::Up(hello) => match NodeIdent::decode(&hello.identity) {
                Ok(ident) if ident.is_same_node(&self.parts.shared.me) => {
                    // One of our own addresses, under which discovery knows us.
                    self.trials.passed(addr);
                    peer.state = Seed::Myself;
                    let lanes = peer.lanes.clone();
                    self.parts.shared.tasks.spawn(async move { lanes.close(Duration::ZERO).await });
                }
                Ok(ident) => {
                    tracing::debug!(peer = %ident, "link is up");
                    self.trials.passed(addr);
                    peer.state = Seed::Up;
                    peer.wanted = now;
                    let acknowledged = peer.lanes.control.acknowledged();
                    self.parts.shared.sessions.up(addr, ident.clone(), acknowledged);
                    let known_elsewhere = ident.addr() != addr;
                    peer.ident = Some(ident.clone());
                    if self.newcomers.contains_key(&addr) {
                        self.publish_at = Some(now);
                    }
                    if known_elsewhere {
                        self.open(ident.addr(), now);
                    }
                    // The defect is one of nodes that had peers: those that start find theirs.
                    if !planted(Defect::NoReannounce) || self.parts.shared.view().ordinal() == 1 {
                        self.sync(addr);
                    }
                }
                Err(error) => {
                    tracing::warn!(%addr, %error, "peer has an identity that cannot be read");
                    peer.state = Seed::Failed(ConnectError::BadPeer(error.to_string()));
                }
            },
            LinkState::Down(error) => {
                self.parts.shared.sessions.down(addr, now);
                peer.state = Seed::Failed((*error).clone());
                if peer.ident.is_none() && self.trials.failed(addr, &error) {
                    self.peers.remove(&addr);
                    return self.try_next(now);
                }
                if planted(Defect::LinkLossMovesRing)
                    && let Some(ident) = peer.ident.clone()
                {
                    self.parts.membership.peer_left(&ident, now.into_std());
                }
            }
            // Connecting or closed: nothing is known yet, or nothing matters any more.
            _ => {}
        }
    }

    pub(super) fn seeds(&mut self, found: Result<Vec<SocketAddr>, String>, now: Instant) {
        match found {
            Ok(addrs) => {
                let me = self.parts.shared.me.addr();
                let listed = addrs.contains(&me);
                let found = addrs.len();
                let named = addrs.into_iter().filter(|addr| *addr != me && self.may_dial(*addr)).take(MAX_PEERS);
                let named: BTreeSet<_> = named.collect();
                let left_out = found - named.len() - usize::from(listed);
                if left_out > 0 && left_out != self.discovery.left_out {
                    tracing::warn!(
                        found,
                        left_out,
                        "discovery names addresses that are not to be dialled, or too many"
                    );
                }
                for (addr, peer) in &mut self.peers {
                    peer.seed = named.contains(addr);
                    peer.wanted = if peer.seed { now } else { peer.wanted };
                }
                // Those with a link are not on trial, unless the link is their trial.
                let strangers =
                    named.into_iter().filter(|addr| self.peers.get(addr).is_none_or(|peer| peer.ident.is_none()));
                for gone in self.trials.name(strangers) {
                    self.peers.remove(&gone);
                }
                self.try_next(now);
                if self.discovery.fault.is_some() {
                    tracing::info!(found, "discovery answers again");
                }
                self.discovery = Discovery { answered: true, listed, left_out, fault: None };
            }
            Err(fault) => {
                // Once for each outage, however often it is asked.
                match self.discovery.fault {
                    None => tracing::warn!(%fault, "discovery failed; it is asked again, for ever"),
                    Some(_) => tracing::debug!(%fault, "discovery failed again"),
                }
                self.discovery.fault = Some(fault);
            }
        }
    }

    pub(super) fn drop_unwanted(&mut self, now: Instant) {
        let active: Vec<_> = self.parts.membership.active().iter().map(NodeIdent::addr).collect();
        let sessions = &self.parts.shared.sessions;
        self.peers.retain(|addr, peer| {
            let is_wanted =
                peer.seed || active.contains(addr) || now.saturating_duration_since(peer.wanted) < KEEP_UNWANTED;
            if !is_wanted {
                sessions.down(*addr, now);
            }
            is_wanted
        });
    }
}

/// Discovery may be poisoned; a full mesh of more nodes than this would not work anyway.
pub(crate) const MAX_PEERS: usize = 1_024;
/// A member that went down may come back; its link is kept for that long.
const KEEP_UNWANTED: Duration = Duration::from_secs(60);
