//! What a node does for its peers: the server side of every request.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use distcache_transport::{
    self as transport, ErrorCode, Lane, Method, Payload, Peer, Refusal, RefusalReason, RemoteError, Request, Service,
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    batch::MAX_BATCH_KEYS,
    coherence::{Offer, Teller},
    defects::{Defect, planted},
    event::Event,
    exchange,
    ident::NodeIdent,
    message::{self, Answer, Delete, Found, Get, GetMany, Put, Role, method},
    placement::{KeyHash, KeyspaceSeed},
    read::{self, Asked},
    shared::Shared,
    store::Read,
    wire::DecodeError,
    write,
};

/// Serves peers from the local store.
#[derive(Debug)]
pub(crate) struct PeerService {
    shared: Arc<Shared>,
}

impl PeerService {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn get(&self, peer: &Peer, request: &Request) -> Result<Payload, RemoteError> {
        let get = Get::decode(&request.payload).map_err(bad_request)?;
        self.compare_rings(peer, get.fingerprint);
        self.compare_epochs(get.epochs)?;
        if get.role == Role::Owner && !self.shared.view().owns(KeyspaceSeed::of(get.keyspace).hash(get.key)) {
            return if planted(Defect::SecondHop) {
                self.pass_on(&get, request).await
            } else {
                Err(write::not_owner())
            };
        }
        let read = Read { role: get.role, deadline: request.deadline };
        let mut found = self.shared.store.read(get.keyspace, get.key, read).await?;
        self.grant(get.role, KeyspaceSeed::of(get.keyspace).hash(get.key), found.as_mut());
        Ok(if matches!(get.role, Role::Peek | Role::Fill) {
            message::encode_peeked(found)
        } else {
            message::encode_found(found)
        })
    }

    /// What no node does for a peer: asks another.
    async fn pass_on(&self, get: &Get<'_>, request: &Request) -> Result<Payload, RemoteError> {
        let left = request.deadline.saturating_duration_since(Instant::now());
        match read::ask(&self.shared, get.keyspace, &[get.key], left).await.pop() {
            Some(Asked::Answered { answer: Ok(found), .. }) => Ok(message::encode_found(found)),
            _ => Err(write::not_owner()),
        }
    }

    async fn get_many(&self, peer: &Peer, request: &Request) -> Result<Payload, RemoteError> {
        let get = GetMany::decode(&request.payload).map_err(bad_request)?;
        if get.keys.len() > MAX_BATCH_KEYS {
            return Err(RemoteError::new(ErrorCode::TOO_LARGE, "too many keys in one batch"));
        }
        self.compare_rings(peer, get.fingerprint);
        self.compare_epochs(get.epochs)?;
        let (view, seed) = (self.shared.view(), KeyspaceSeed::of(get.keyspace));
        let is_mine = |at: &usize| get.role != Role::Owner || view.owns(seed.hash(get.keys[*at]));
        let (mine, foreign): (Vec<_>, Vec<_>) = (0..get.keys.len()).partition(is_mine);
        let mut answers = vec![Answer::Missing; get.keys.len()];
        foreign.into_iter().for_each(|at| answers[at] = Answer::Failed(write::not_owner()));
        let keys: Vec<_> = mine.iter().map(|at| get.keys[*at]).collect();
        let read = Read { role: get.role, deadline: request.deadline };
        let results = match keys.is_empty() {
            true => Vec::new(),
            false => self.shared.store.read_many(get.keyspace, &keys, read).await,
        };
        for (at, result) in mine.into_iter().zip(results) {
            answers[at] = match result {
                Ok(None) => Answer::Missing,
                Ok(Some(mut found)) => {
                    self.grant(get.role, seed.hash(get.keys[at]), Some(&mut found));
                    Answer::Found(found)
                }
                Err(error) => Answer::Failed(error),
            };
        }
        Ok(message::encode_answers(&answers, self.shared.config.transport.max_payload_bytes))
    }

    /// Lets the asker of a hot key keep a copy for a while. Only an owner may: it serialises the writes that make the copy old.
    fn grant(&self, role: Role, key: KeyHash, found: Option<&mut Found>) {
        // A load may have taken so long that the key is another's by now.
        if role == Role::Owner
            && let Some(found) = found
            && self.shared.standing.owns(key)
        {
            found.near = self.shared.near(key).min(found.ttl.unwrap_or(Duration::MAX));
        }
    }

    /// R2: the owner serialises. A receiver that is not the owner drops what it has and passes the write on, once.
    async fn put(&self, request: &Request) -> Result<Payload, RemoteError> {
        let put = Put::decode(&request.payload).map_err(bad_request)?;
        let left = request.deadline.saturating_duration_since(Instant::now());
        let (results, pending) = write::put_for_peer(&self.shared, put, left).await;
        Ok(message::encode_written(&results, &pending))
    }

    async fn delete(&self, request: &Request) -> Result<Payload, RemoteError> {
        let delete = Delete::decode(&request.payload).map_err(bad_request)?;
        let left = request.deadline.saturating_duration_since(Instant::now());
        Ok(message::encode_pending(&write::delete_for_peer(&self.shared, &delete, left).await))
    }

    /// R7: takes in what was invalidated while another owned it.
    fn catch_up(&self, peer: &Peer, request: &Request) -> Result<Payload, RemoteError> {
        let (is_incomplete, batch) = message::decode_catch_up(&request.payload).map_err(bad_request)?;
        if is_incomplete {
            tracing::warn!(peer = %peer.addr, "a peer had more invalidations than it remembers; what came from peers is dropped");
            self.shared.drop_borrowed();
        }
        let by = Teller { node: NodeIdent::decode(&peer.identity).map_err(bad_request)?, at: None };
        batch.into_iter().for_each(|invalidation| self.shared.apply(invalidation, &by, Duration::ZERO));
        Ok(Bytes::new().into())
    }

    /// Takes over what a leaver hands off, or what is to be here should the peer die.
    fn adopt(&self, peer: &Peer, request: &Request) -> Result<Payload, RemoteError> {
        let (end, epochs, put) = message::decode_adopt(&request.payload).map_err(bad_request)?;
        let Put { keyspace, entries, .. } = put;
        self.compare_epochs(epochs)?;
        let giver = NodeIdent::decode(&peer.identity).map_err(bad_request)?;
        let tombstones = &self.shared.tombstones;
        self.shared.store.adopt(keyspace, &entries, &|key| {
            // Asked after a fill is registered, so by the time of then.
            tombstones.vetoes(keyspace, key, &giver, Offer::Given(end), Instant::now())
        });
        Ok(Bytes::new().into())
    }

    async fn sync(&self, request: Request) -> Result<Payload, RemoteError> {
        let (reply, answer) = oneshot::channel();
        let closing = || RemoteError::new(ErrorCode::SHUTTING_DOWN, "this node is closing");
        let event = Event::Sync { snapshot: request.payload, reply };
        self.shared.events.send(event).await.map_err(|_| closing())?;
        Ok(answer.await.map_err(|_| closing())?.into())
    }

    /// R9: nothing is read for a peer, or taken from it, that has heard of something done to keyspaces which this node has not, or the
    /// other way round. One that asks compares, and asks again.
    fn compare_epochs(&self, epochs: u64) -> Result<(), RemoteError> {
        let agree = epochs == message::ANY_EPOCHS || epochs == self.shared.ledger.digest();
        if agree {
            Ok(())
        } else {
            Err(RemoteError::new(OTHER_EPOCHS, "the nodes have not heard of the same keyspaces yet"))
        }
    }

    fn compare_rings(&self, peer: &Peer, fingerprint: u64) {
        if fingerprint != self.shared.view().fingerprint()
            && let Ok(ident) = NodeIdent::decode(&peer.identity)
        {
            self.shared.ring_mismatch(ident.name());
        }
    }
}

#[async_trait]
impl Service for PeerService {
    /// Lets a peer in, unless it claims to be this node: two nodes of one name or one address would take each other's keys.
    fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        let refuse = |message: String| Err(Refusal { reason: RefusalReason::Identity, message });
        let me = &self.shared.me;
        match NodeIdent::decode(&peer.identity) {
            Err(error) => refuse(format!("identity cannot be read: {error}")),
            Ok(ident) if !ident.protocol().meets(me.protocol()) => {
                let (theirs, ours) = (ident.protocol(), me.protocol());
                refuse(format!(
                    "protocol versions {} to {} are spoken here, and {} to {} by the peer",
                    ours.lowest, ours.highest, theirs.lowest, theirs.highest
                ))
            }
            Ok(ident) if ident.is_same_node(me) => Ok(()),
            Ok(ident) if ident.name() == me.name() => {
                refuse(format!("name {} is taken by the node at {}", me.name(), me.addr()))
            }
            Ok(ident) if ident.addr() == me.addr() => {
                refuse(format!("address {} is taken by the node {}", me.addr(), me.name()))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Over-invalidation is always safe: what cannot be read is taken for everything.
    fn event(&self, peer: &Peer, event: transport::Event) {
        let Ok(batch) = message::decode_invalidations(&event.payload) else {
            tracing::warn!(peer = %peer.addr, "an invalidation cannot be read; the cache is dropped");
            return self.shared.drop_everything();
        };
        let Ok(node) = NodeIdent::decode(&peer.identity) else {
            return self.shared.drop_everything();
        };
        let by = Teller { node, at: Some(event.position) };
        batch.into_iter().for_each(|invalidation| self.shared.apply(invalidation, &by, event.age));
    }

    fn lost(&self, peer: &Peer, age: Duration) {
        // Whatever this process holds, it got after that.
        if age > self.shared.started.elapsed() || planted(Defect::LostNotFlushed) {
            return;
        }
        tracing::warn!(peer = %peer.addr, "invalidations of a peer are lost; the cache is dropped");
        self.shared.drop_everything();
    }

    fn heartbeat(&self, peer: &Peer, is_current: bool) {
        if is_current {
            self.shared.hearing.heartbeat(peer.link_id, Instant::now());
        }
    }

    fn disconnected(&self, peer: &Peer) {
        if peer.lane == Lane::Control {
            self.shared.hearing.disconnected(peer.link_id);
        }
    }

    fn connected(&self, peer: &Peer) {
        if peer.lane == Lane::Control
            && let Ok(ident) = NodeIdent::decode(&peer.identity)
            && !ident.is_same_node(&self.shared.me)
        {
            self.shared.hearing.connected(&ident, peer.link_id);
            // A full queue means that the driver has plenty to do; discovery finds the peer later.
            let _ = self.shared.events.try_send(Event::Met(ident));
        }
    }

    async fn call(&self, peer: &Peer, request: Request) -> Result<Payload, RemoteError> {
        match request.method {
            method::GET => self.get(peer, &request).await,
            method::GET_MANY => self.get_many(peer, &request).await,
            method::PUT => self.put(&request).await,
            method::DELETE => self.delete(&request).await,
            method::SYNC => self.sync(request).await,
            method::KEYSPACES => Ok(message::encode_keyspaces(&self.shared.store.keyspaces())),
            method::EPOCHS => exchange::answer(&self.shared, &request.payload).map_err(bad_request),
            method::CATCH_UP => self.catch_up(peer, &request),
            method::ADOPT => self.adopt(peer, &request),
            Method(other) => {
                Err(RemoteError::new(ErrorCode::UNKNOWN_METHOD, format!("method {other} is not known here")))
            }
        }
    }

    fn notice(&self, peer: &Peer, method: Method, payload: Bytes) {
        let Ok(from) = NodeIdent::decode(&peer.identity) else {
            return;
        };
        let event = match method {
            method::GOSSIP => Event::Packet { from, packet: payload },
            method::LEAVING => Event::Left(from),
            Method(other) => {
                tracing::debug!(peer = %from, method = other, "unknown notice ignored");
                return;
            }
        };
        // SWIM takes a dropped packet for a lossy network; a leaver is found out by failure detection.
        let _ = self.shared.events.try_send(event);
    }
}

/// The asker's keyspace epochs are not those of the answering node: the two have to be compared first.
pub(crate) const OTHER_EPOCHS: ErrorCode = ErrorCode(write::NOT_OWNER.0 + 1);

fn bad_request(error: DecodeError) -> RemoteError {
    RemoteError::new(ErrorCode::BAD_REQUEST, error.to_string())
}
