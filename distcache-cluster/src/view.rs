//! An immutable snapshot of the cluster: its members, their links, the ring over them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use distcache_transport::{ControlLink, Link, Position};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use crate::{
    budget::RetryBudget,
    coherence::Heard,
    ident::{NodeIdent, NodeName},
    latency::Percentile95,
    placement::{KeyHash, Placement, Ring},
};

/// A member of a [`View`].
#[derive(Debug, Clone)]
pub struct Member {
    ident: NodeIdent,
    is_self: bool,
    peer: Option<PeerLink>,
    /// When it was last heard; nothing of this node itself.
    heard: Option<Arc<Heard>>,
}

/// The way to a peer: its two lanes, and as many places for reads as a link takes at once, less some for everything else.
///
/// Reads wait for a place. Without that, a burst would be refused by the link and be taken for a peer out of reach.
#[derive(Debug, Clone)]
pub(crate) struct PeerLink {
    pub(crate) link: Link,
    pub(crate) control: ControlLink,
    pub(crate) places: Arc<Semaphore>,
    /// When keyspace epochs were last compared at a request's word, and whether that worked.
    pub(crate) agreed: Arc<tokio::sync::Mutex<Option<(Instant, bool)>>>,
    conduct: Arc<Mutex<(RetryBudget, Percentile95)>>,
}

impl PeerLink {
    pub(crate) fn new(link: Link, control: ControlLink, max_in_flight: usize) -> Self {
        let places = (max_in_flight - max_in_flight / RESERVED_SHARE).max(1);
        let conduct = Arc::new(Mutex::new((RetryBudget::new(Instant::now().into_std()), Percentile95::new())));
        Self { link, control, places: Arc::new(Semaphore::new(places)), agreed: Arc::default(), conduct }
    }

    /// What may be asked of the peer twice, and how long it usually takes.
    pub(crate) fn conduct(&self) -> MutexGuard<'_, (RetryBudget, Percentile95)> {
        // Both are plain numbers, whole at any time.
        self.conduct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes both lanes, each with that long to finish.
    pub(crate) async fn close(&self, drain: Duration) {
        tokio::join!(self.link.close(drain), self.control.link().close(drain));
    }
}

impl Member {
    pub(crate) const fn this_node(ident: NodeIdent) -> Self {
        Self { ident, is_self: true, peer: None, heard: None }
    }

    pub(crate) const fn peer(ident: NodeIdent, peer: PeerLink, heard: Arc<Heard>) -> Self {
        Self { ident, is_self: false, peer: Some(peer), heard: Some(heard) }
    }

    /// Returns who it is.
    #[must_use]
    pub const fn ident(&self) -> &NodeIdent {
        &self.ident
    }

    /// Whether this is the node that holds the view.
    #[must_use]
    pub const fn is_self(&self) -> bool {
        self.is_self
    }

    /// The link to it; `None` for this node itself.
    pub(crate) fn link(&self) -> Option<&Link> {
        self.peer.as_ref().map(|peer| &peer.link)
    }

    /// How far it has come in this node's log; `None` for this node itself.
    pub(crate) fn acknowledged(&self) -> Option<watch::Receiver<Position>> {
        self.peer.as_ref().map(|peer| peer.control.acknowledged())
    }

    /// When it was last heard; `None` for this node itself.
    pub(crate) const fn heard(&self) -> Option<&Arc<Heard>> {
        self.heard.as_ref()
    }

    /// The link to it with its places for reads; `None` for this node itself.
    pub(crate) const fn peer_link(&self) -> Option<&PeerLink> {
        self.peer.as_ref()
    }
}

/// What this node believes the cluster to be. Views are published whole and never change; a reader keeps one as long as it
/// likes, without a lock.
#[derive(Debug, Clone)]
pub struct View {
    ordinal: u64,
    /// In order of name, as the ring's slots are.
    members: Vec<Member>,
    ring: Ring,
    me: NodeName,
}

impl View {
    /// Makes the view of `me` and `peers`. Of two members with one name the younger generation is kept: a node that came
    /// back at another address replaces its old self at once.
    pub(crate) fn new(ordinal: u64, me: Member, peers: Vec<Member>) -> Self {
        let name = me.ident.name().clone();
        let mut members = peers;
        members.retain(|peer| *peer.ident.name() != name);
        members.push(me);
        members.sort_by(|a, b| {
            let (a, b) = (&a.ident, &b.ident);
            a.name().cmp(b.name()).then_with(|| b.generation().cmp(&a.generation()))
        });
        members.dedup_by(|older, younger| older.ident.name() == younger.ident.name());
        let weights: Vec<_> = members.iter().map(|m| (m.ident.name().clone(), m.ident.weight_percent())).collect();
        Self { ordinal, ring: Ring::new(&weights), members, me: name }
    }

    /// Returns the number of the view; it grows with each that this node publishes.
    #[must_use]
    pub const fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// Returns all members in order of name, this node among them.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the member of that name.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<&Member> {
        self.members.binary_search_by(|member| member.ident.name().cmp(name)).ok().map(|at| &self.members[at])
    }

    /// Returns the hash of all that decides ownership: nodes of equal fingerprints agree on every key's owner.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.ring.fingerprint()
    }

    /// Returns the owner of a key.
    ///
    /// # Panics
    /// Never: a view holds at least its own node.
    #[must_use]
    pub fn owner(&self, key: KeyHash) -> &Member {
        &self.members[self.owner_index(key)]
    }

    /// Returns the owner's place among [`members`](Self::members).
    ///
    /// # Panics
    /// Never, as [`owner`](Self::owner).
    #[must_use]
    pub fn owner_index(&self, key: KeyHash) -> usize {
        self.ring.owner(key).expect("a view holds at least its own node").index()
    }

    /// Whether this node owns a key.
    #[must_use]
    pub fn owns(&self, key: KeyHash) -> bool {
        self.owner(key).is_self()
    }

    /// Returns up to three members in the order in which they should serve a key: its owner, then those next in line.
    pub(crate) fn preference(&self, key: KeyHash) -> impl Iterator<Item = &NodeName> {
        let order = self.ring.preference(key);
        (0..order.len()).map(move |place| self.members[order[place].index()].ident.name())
    }

    /// Returns who serves a key once its owner is gone; `None` where there is nobody else.
    pub(crate) fn next_in_line(&self, key: KeyHash) -> Option<&Member> {
        self.ring.preference(key).get(1).map(|slot| &self.members[slot.index()])
    }

    /// Whether a peer may be asked for what another did not answer; spends from the budget for that.
    pub(crate) fn may_retry_at(&self, name: &NodeName) -> bool {
        let peer = self.member(name).and_then(Member::peer_link);
        peer.is_some_and(|peer| peer.conduct().0.spend(Instant::now().into_std()))
    }

    /// Returns this node's own name.
    #[must_use]
    pub const fn me(&self) -> &NodeName {
        &self.me
    }

    /// Makes a view of a node and of peers that it has no links to.
    #[cfg(test)]
    pub(crate) fn of_names(ordinal: u64, me: &str, peers: &[&str]) -> Self {
        let ident = |name: &str| {
            let port = u16::from(name.as_bytes()[0]);
            NodeIdent::new(NodeName::new(name).unwrap(), ([10, 0, 0, 1], port).into(), 1)
        };
        let peer = |name: &&str| Member { ident: ident(name), is_self: false, peer: None, heard: None };
        Self::new(ordinal, Member::this_node(ident(me)), peers.iter().map(peer).collect())
    }

    /// Makes the same view under the next number.
    pub(crate) fn anew(&self) -> Self {
        Self { ordinal: self.ordinal + 1, ..self.clone() }
    }

    /// Whether the same members, under the same identities, make up `other`.
    pub(crate) fn same_members(&self, other: &Self) -> bool {
        self.members.len() == other.members.len()
            && self.members.iter().zip(&other.members).all(|(a, b)| a.ident == b.ident)
    }
}

/// One place in eight stays free of reads, for writes, invalidations and membership.
const RESERVED_SHARE: usize = 8;

/// A view that is shared.
pub(crate) type SharedView = Arc<View>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::KeyspaceSeed;

    fn ident(name: &str, port: u16, generation: u64) -> NodeIdent {
        NodeIdent::new(NodeName::new(name).unwrap(), ([127, 0, 0, 1], port).into(), generation)
    }

    #[test]
    fn a_view_of_one_owns_everything() {
        let view = View::new(1, Member::this_node(ident("a", 1, 1)), Vec::new());
        assert!(view.owns(KeyspaceSeed::of("users").hash("alice")));
        assert_eq!(view.members().len(), 1);
    }

    #[test]
    fn members_are_found_by_name() {
        let view = View::new(1, Member::this_node(ident("b", 1, 1)), vec![Member::this_node(ident("a", 2, 1))]);
        assert_eq!(view.member(&NodeName::new("a").unwrap()).unwrap().ident().addr().port(), 2);
        assert!(view.member(&NodeName::new("c").unwrap()).is_none());
    }

    #[test]
    fn of_two_members_with_one_name_the_younger_is_kept_and_nobody_takes_our_name() {
        let peers = vec![
            Member::this_node(ident("a", 2, 7)),
            Member::this_node(ident("a", 3, 9)),
            Member::this_node(ident("b", 4, 99)),
        ];
        let view = View::new(1, Member::this_node(ident("b", 1, 1)), peers);
        let ports: Vec<_> = view.members().iter().map(|member| member.ident().addr().port()).collect();
        assert_eq!(ports, [3, 1]);
    }
}
