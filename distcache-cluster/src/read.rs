//! Reads from peers: owner, then whoever acts for it, in as few frames as the keys fit in; one hop, never more.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use distcache_transport::{
    BreakerState, Call, CallError, ErrorCode, LinkState, Method, NotSentReason, Payload, Progress,
};
use futures_util::future::{FutureExt, join_all};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    batch::chunks,
    coherence::Lease,
    exchange,
    ident::NodeName,
    message::{self, ANY_EPOCHS, Answer, Found, Get, GetMany, Role, key_len, method},
    placement::KeyspaceSeed,
    route::{Place, Route, Setback, Step},
    service::OTHER_EPOCHS,
    shared::Shared,
    view::{Member, PeerLink, View},
    wire::DecodeError,
    write::NOT_OWNER,
};

/// Why a peer gave no answer about a key. No state changed here; whether the peer loaded the value is told by
/// [`was_sent`](Self::was_sent).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The call failed, or the peer answered with an error of its own.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The peer's answer could not be read; the peer is at fault, and asking again will not help.
    #[error("the peer's answer is malformed")]
    Malformed(#[from] DecodeError),
}

impl PeerError {
    /// Whether the request may have reached the peer.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Call(error) => error.was_sent(),
            Self::Malformed(_) => true,
        }
    }
}

/// What came of asking the cluster for a key.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A node answered for the cluster, with a value, with the word that there is none, or with an error of its own.
    Answered {
        /// Which node.
        by: NodeName,
        /// What it said.
        answer: Result<Option<Found>, PeerError>,
        /// Under which the value may be kept here, if it may.
        lease: Option<Lease>,
    },
    /// Nobody answered who could be asked: the key is to be loaded here, in that capacity.
    Unasked(Place),
}

/// Asks for keys that other nodes own. One result a key, in order.
pub(crate) async fn ask(shared: &Shared, keyspace: &str, keys: &[&str], limit: Duration) -> Vec<Asked> {
    let now = Instant::now();
    let deadline = now.checked_add(limit).unwrap_or(now);
    let asker = Asker { shared, keyspace, seed: KeyspaceSeed::of(keyspace), keys, deadline };
    if let [key] = keys {
        return vec![asker.one(key).await];
    }
    let view = shared.view();
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for (place, key) in keys.iter().enumerate() {
        let item = Item { place, route: Route::default() };
        let at = view.owner_index(asker.seed.hash(key));
        let role = if asker.wrote(&view.members()[at], key) { Role::Anew } else { Role::Owner };
        groups.entry((at, role)).or_default().push(item);
    }
    let asked = groups.into_iter().map(|((at, role), items)| {
        let owner = view.members()[at].ident().name().clone();
        asker.group(owner, role, items)
    });
    let mut asked: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    debug_assert_eq!(asked.len(), keys.len(), "every key ends somewhere");
    asked.sort_by_key(|(place, _)| *place);
    asked.into_iter().map(|(_, asked)| asked).collect()
}

/// A read of several keys of one keyspace.
struct Asker<'a> {
    shared: &'a Shared,
    keyspace: &'a str,
    seed: KeyspaceSeed,
    keys: &'a [&'a str],
    deadline: Instant,
}

/// A key that is still to be answered.
struct Item {
    /// Its place in the request.
    place: usize,
    route: Route,
}

/// Why one attempt gave no answer.
#[derive(Debug, Clone)]
enum Failure {
    /// Somebody else may be asked.
    Setback(Setback),
    /// The node has heard of other keyspace epochs than this one, or this one of others.
    OtherEpochs,
    /// It would be the same anywhere, or must not be tried again.
    Final(PeerError),
}

type Results = Vec<(usize, Asked)>;

impl<'a> Asker<'a> {
    /// Asks for a single key, which nearly always ends with its owner's answer.
    async fn one(&'a self, key: &str) -> Asked {
        let view = self.shared.view();
        let owner = view.owner(self.seed.hash(key));
        let (at, asked) = (owner.ident().name(), Instant::now());
        let mut item = Item { place: 0, route: Route::default() };
        if self.wrote(owner, key) {
            let mut results = self.group(at.clone(), Role::Anew, vec![item]).await;
            return results.pop().map_or(Asked::Unasked(Place::LastResort), |(_, asked)| asked);
        }
        let answer = match owner.peer_link() {
            Some(peer) => self.attempt_one(&view, at, peer, Role::Owner, key).await,
            None => Err(Failure::Setback(Setback::NotSent)),
        };
        let lease = self.lease(&view, at, asked, &answer);
        match self.settle(&mut item, at, answer, lease) {
            Ok(asked) => asked,
            Err((node, role)) => {
                let mut results = self.group(node, role, vec![item]).await;
                results.pop().map_or(Asked::Unasked(Place::LastResort), |(_, asked)| asked)
            }
        }
    }

    /// Asks one node for some of the keys, and then others for those that it did not answer.
    fn group(
        &'a self,
        at: NodeName,
        role: Role,
        items: Vec<Item>,
    ) -> Pin<Box<dyn Future<Output = Results> + Send + 'a>> {
        async move {
            let keys: Vec<_> = items.iter().map(|item| self.keys[item.place]).collect();
            let (view, asked) = (self.shared.view(), Instant::now());
            let answers = match view.member(&at).and_then(|member| member.peer_link()) {
                Some(peer) => self.attempt(&view, &at, peer, role, &keys).await,
                None => keys.iter().map(|_| Err(Failure::Setback(Setback::NotSent))).collect(),
            };
            let (mut results, mut others) = (Results::new(), BTreeMap::<_, Vec<_>>::new());
            for (mut item, answer) in items.into_iter().zip(answers) {
                if role == Role::Anew
                    && answer.is_ok()
                    && let Some(member) = view.member(&at)
                {
                    self.shared.recent.loaded(member.ident(), self.seed.hash(self.keys[item.place]), asked.into_std());
                }
                let lease = self.lease(&view, &at, asked, &answer);
                match self.settle(&mut item, &at, answer, lease) {
                    Ok(asked) => results.push((item.place, asked)),
                    Err((node, role)) => others.entry((node, role)).or_default().push(item),
                }
            }
            let others = others.into_iter().map(|((node, role), items)| self.group(node, role, items));
            results.extend(join_all(others).await.into_iter().flatten());
            results
        }
        .boxed()
    }

    /// Returns the lease that came with an answer to a question of `asked`, by the view of then.
    fn lease(
        &self,
        view: &View,
        at: &NodeName,
        asked: Instant,
        answer: &Result<Option<Found>, Failure>,
    ) -> Option<Lease> {
        let near = answer.as_ref().ok()?.as_ref()?.near.min(self.shared.config.near_ttl);
        let granter = view.member(at)?.heard().filter(|_| !near.is_zero())?;
        Some(Lease::new(Arc::clone(granter), asked.checked_add(near)?, view.ordinal()))
    }

    /// Returns what came of a key, or whom to ask next.
    fn settle(
        &self,
        item: &mut Item,
        at: &NodeName,
        answer: Result<Option<Found>, Failure>,
        lease: Option<Lease>,
    ) -> Result<Asked, (NodeName, Role)> {
        let answered = |answer| Ok(Asked::Answered { by: at.clone(), answer, lease });
        match answer {
            Ok(found) => answered(Ok(found)),
            Err(Failure::Final(error)) => answered(Err(error)),
            // It was told to answer whatever it has heard of.
            Err(Failure::OtherEpochs) => answered(Err(CallError::Lost.into())),
            Err(Failure::Setback(_)) if Instant::now() >= self.deadline => answered(Err(CallError::TimedOut.into())),
            Err(Failure::Setback(setback)) => match self.next(item, setback, at) {
                Step::Load(place) => Ok(Asked::Unasked(place)),
                Step::Ask(node, role) => {
                    let view = self.shared.view();
                    let is_behind = view.member(&node).is_some_and(|member| self.wrote(member, self.keys[item.place]));
                    Err((node, if is_behind { Role::Anew } else { role }))
                }
            },
        }
    }

    /// Decides where a key goes after a setback, by the view of this moment.
    fn next(&self, item: &mut Item, setback: Setback, at: &NodeName) -> Step {
        let view = self.shared.view();
        if setback == Setback::NotOwner {
            self.shared.ring_mismatch(at);
        }
        let order: Vec<_> = view.preference(self.seed.hash(self.keys[item.place])).collect();
        let me = self.shared.me.name();
        let step = item.route.after(setback, at, &order, me, || {
            order.iter().find(|node| **node != at && **node != me).is_some_and(|node| view.may_retry_at(node))
        });
        tracing::debug!(peer = %at, ?setback, ?step, "a node did not answer for a key");
        step
    }

    /// Asks one node, in as few frames as the keys fit in. One result a key, in order.
    async fn attempt(
        &self,
        view: &View,
        at: &NodeName,
        peer: &PeerLink,
        role: Role,
        keys: &[&str],
    ) -> Vec<Result<Option<Found>, Failure>> {
        let fingerprint = view.fingerprint();
        if let [key] = keys {
            // Alone, a value travels as the tail of its frame, without a copy.
            return vec![self.attempt_one(view, at, peer, role, key).await];
        }
        let mut results = Vec::with_capacity(keys.len());
        for chunk in chunks(keys, |key| key_len(key)) {
            let asked = Instant::now();
            let request = |epochs| GetMany { fingerprint, epochs, role, keyspace: self.keyspace, keys: chunk.to_vec() };
            let answers = match self.ask_many(view, peer, &request(self.shared.ledger.digest())).await {
                Err(Failure::OtherEpochs) => match self.agree(peer, asked).await {
                    Ok(()) => self.ask_many(view, peer, &request(ANY_EPOCHS)).await,
                    Err(failure) => Err(failure),
                },
                answers => answers,
            };
            match answers {
                Err(failure) => {
                    // What silenced the peer would silence it again: the rest goes the way of this piece.
                    let left = keys.len() - results.len();
                    results.extend(std::iter::repeat_n(Err(failure), left));
                    return results;
                }
                Ok(answers) => {
                    for (key, answer) in chunk.iter().zip(answers) {
                        results.push(match answer {
                            Answer::Missing => Ok(None),
                            Answer::Found(found) => Ok(Some(found)),
                            Answer::Failed(error) => Err(Failure::of(CallError::Remote(error))),
                            Answer::Alone => self.attempt_one(view, at, peer, role, key).await,
                        });
                    }
                }
            }
        }
        results
    }

    async fn attempt_one(
        &self,
        view: &View,
        at: &NodeName,
        peer: &PeerLink,
        role: Role,
        key: &str,
    ) -> Result<Option<Found>, Failure> {
        let asked = Instant::now();
        let request = |epochs| Get { fingerprint: view.fingerprint(), epochs, role, keyspace: self.keyspace, key };
        match self.ask_one(view, at, peer, request(self.shared.ledger.digest())).await {
            Err(Failure::OtherEpochs) => {
                self.agree(peer, asked).await?;
                self.ask_one(view, at, peer, request(ANY_EPOCHS)).await
            }
            answer => answer,
        }
    }

    async fn ask_one(
        &self,
        view: &View,
        at: &NodeName,
        peer: &PeerLink,
        request: Get<'_>,
    ) -> Result<Option<Found>, Failure> {
        let (role, key) = (request.role, request.key);
        let call = self.begin(view, peer, method::GET, request.encode()).await?;
        let hedge = (role == Role::Owner).then_some(Hedge { view, at, key });
        match self.finish(peer, call, hedge).await? {
            Finished::Peeked(found) => Ok(Some(Found { near: Duration::ZERO, ..found })),
            Finished::Answer(bytes) => message::decode_found(&bytes).map_err(|error| Failure::Final(error.into())),
        }
    }

    async fn ask_many(&self, view: &View, peer: &PeerLink, request: &GetMany<'_>) -> Result<Vec<Answer>, Failure> {
        let call = self.begin(view, peer, method::GET_MANY, request.encode()).await?;
        match self.finish(peer, call, None).await? {
            Finished::Answer(bytes) => read_answers(&bytes, request.keys.len()),
            Finished::Peeked(_) => unreachable!("a batch is not hedged"),
        }
    }

    /// Compares keyspace epochs with a node that would not answer before that (R9). What this node has heard of by then, the other
    /// has too, so the question is asked once more without comparing: what comes after that came after the question.
    async fn agree(&self, peer: &PeerLink, asked: Instant) -> Result<(), Failure> {
        let agreed = exchange::agree(self.shared, peer, asked, self.patience()).await;
        agreed.map_err(|_| Failure::Setback(Setback::Silent))
    }

    /// Sends a request once there is a place for it on the link, which it waits for no longer than for a word of the peer.
    async fn begin(
        &self,
        view: &View,
        peer: &PeerLink,
        method: Method,
        request: Payload,
    ) -> Result<(Call, OwnedSemaphorePermit), Failure> {
        let not_sent = Failure::Setback(Setback::NotSent);
        let place = match Arc::clone(&peer.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => match timeout(self.patience(), Arc::clone(&peer.places).acquire_owned()).await {
                Ok(Ok(place)) => place,
                _ => return Err(not_sent),
            },
        };
        peer.conduct().0.earn();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let begun = match peer.link.begin(method, request.clone(), left) {
            // Breakers of a few peers keep the rest fast. If those of most are open, it is more likely to be this node.
            Err(CallError::NotSent(NotSentReason::BreakerOpen { .. })) if too_many_open(view) => {
                peer.link.begin_anyway(method, request, left)
            }
            begun => begun,
        };
        begun.map(|call| (call, place)).map_err(Failure::of)
    }

    /// Waits for the answer: as long as there is time once the peer has said that it works on it, and otherwise no longer than a
    /// healthy peer is silent.
    async fn finish(
        &self,
        peer: &PeerLink,
        (mut call, _place): (Call, OwnedSemaphorePermit),
        hedge: Option<Hedge<'_>>,
    ) -> Result<Finished, Failure> {
        let started = Instant::now();
        let (hedge_at, silent_at) =
            (started + peer.conduct().1.estimate().max(SHORTEST_HEDGE), started + self.patience());
        if let Some(hedge) = hedge.filter(|_| hedge_at < silent_at) {
            if let Some(word) = word_by(&mut call, hedge_at).await {
                return answered(peer, call, word, started).await;
            }
            tokio::select! {
                biased;
                word = call.progress() => return answered(peer, call, word, started).await,
                found = timeout_at(silent_at, self.peek(hedge)) => if let Ok(Some(found)) = found {
                    return Ok(Finished::Peeked(found));
                },
            }
        }
        match word_by(&mut call, silent_at).await {
            Some(word) => answered(peer, call, word, started).await,
            None => {
                call.expired();
                Err(Failure::Setback(Setback::Silent))
            }
        }
    }

    /// Asks the next in line for what it has in memory, which starts no load.
    async fn peek(&self, Hedge { view, at, key }: Hedge<'_>) -> Option<Found> {
        let me = self.shared.me.name();
        let next = view.preference(self.seed.hash(key)).find(|node| *node != at && *node != me)?;
        let member = view.member(next).filter(|member| !self.wrote(member, key))?;
        if !view.may_retry_at(next) {
            return None;
        }
        let peer = member.peer_link()?;
        let (fingerprint, epochs) = (view.fingerprint(), self.shared.ledger.digest());
        let request = Get { fingerprint, epochs, role: Role::Peek, keyspace: self.keyspace, key };
        let answer = peer.link.call(method::GET, request.encode(), self.patience()).await.ok()?;
        message::decode_peeked(&answer).ok()?
    }

    /// Whether this node has written the key so recently that another's copy may be older.
    fn wrote(&self, node: &Member, key: &str) -> bool {
        self.shared.recent.outdates(node.ident(), self.seed.hash(key), Instant::now().into_std())
    }

    fn patience(&self) -> Duration {
        self.shared.config.peer_patience.min(self.deadline.saturating_duration_since(Instant::now()))
    }
}

/// What to ask the next in line while the owner is silent.
#[derive(Clone, Copy)]
struct Hedge<'a> {
    view: &'a View,
    at: &'a NodeName,
    key: &'a str,
}

/// What came back, from who was asked or from who was asked meanwhile.
enum Finished {
    Answer(Bytes),
    Peeked(Found),
}

/// Waits for a word of the peer until then.
async fn word_by(call: &mut Call, at: Instant) -> Option<Progress> {
    timeout_at(at, call.progress()).await.ok()
}

/// Goes on to the answer once the peer has said something.
async fn answered(peer: &PeerLink, mut call: Call, word: Progress, started: Instant) -> Result<Finished, Failure> {
    let answer = match word {
        Progress::Loading => call.answer().await,
        Progress::Answered(answer) => {
            if answer.is_ok() {
                peer.conduct().1.observe(started.elapsed());
            }
            answer
        }
    };
    answer.map(Finished::Answer).map_err(Failure::of)
}

fn read_answers(answer: &Bytes, count: usize) -> Result<Vec<Answer>, Failure> {
    let malformed = |error: DecodeError| Failure::Final(error.into());
    let answers = message::decode_answers(answer).map_err(malformed)?;
    if answers.len() == count { Ok(answers) } else { Err(malformed(DecodeError::Truncated)) }
}

impl Failure {
    fn of(error: CallError) -> Self {
        use NotSentReason::{HeldOff, TooLarge};
        match &error {
            CallError::NotSent(HeldOff { .. } | TooLarge { .. }) | CallError::TimedOut => Self::Final(error.into()),
            CallError::NotSent(_) => Self::Setback(Setback::NotSent),
            CallError::Lost => Self::Setback(Setback::Silent),
            CallError::Remote(remote) => match remote.code {
                NOT_OWNER => Self::Setback(Setback::NotOwner),
                OTHER_EPOCHS => Self::OtherEpochs,
                ErrorCode::SHUTTING_DOWN => Self::Setback(Setback::NotSent),
                ErrorCode::NO_ROOM => Self::Setback(Setback::Silent),
                _ => Self::Final(error.into()),
            },
            _ => Self::Final(error.into()),
        }
    }
}

/// Whether the breakers of more peers are open than a cluster in which the others are well would have.
fn too_many_open(view: &View) -> bool {
    let peers = || view.members().iter().filter_map(|member| member.peer_link());
    let is_open = |peer: &&PeerLink| {
        matches!(peer.link.breaker(), BreakerState::Open { .. }) && matches!(peer.link.state(), LinkState::Up(_))
    };
    peers().filter(is_open).count() > (peers().count() / 3).max(1)
}

/// An answer from memory takes less on any network that is worth a cache; sooner, and a hiccup would double the requests.
const SHORTEST_HEDGE: Duration = Duration::from_millis(5);
