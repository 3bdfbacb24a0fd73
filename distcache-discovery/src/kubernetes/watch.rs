//! Keeps the answer current: lists, watches, and begins again, for as long as the provider runs.

use std::error::Error as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, timeout, timeout_at};

use super::ID;
use super::api::{Api, Happening};
use super::backoff::Backoff;
use super::error::{ApiError, Verb};
use super::store::Store;
use crate::bounds::{Bounds, MAX_SEEDS};
use crate::{Change, ChangeStream, Seed};

/// What the watch knows, for whoever asks.
#[derive(Debug)]
pub(super) struct Known {
    /// The answer, while the watch keeps it current.
    fresh: Mutex<Option<Vec<Seed>>>,
    changes: broadcast::Sender<Change>,
    retry: Notify,
    bounds: Bounds,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            fresh: Mutex::new(None),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            retry: Notify::new(),
            bounds: Bounds::of(ID),
        }
    }

    /// Returns the answer, unless the watch is not open.
    pub(super) fn answer(&self) -> Option<Vec<Seed>> {
        self.fresh().clone()
    }

    /// Returns what a list says, within bounds.
    pub(super) fn answer_of(&self, store: &Store) -> Vec<Seed> {
        self.bounds.keep(store.seeds())
    }

    /// Returns a stream of what changes from now on. Who reads too slowly misses some.
    pub(super) fn changes(&self) -> ChangeStream {
        Box::pin(stream::unfold(self.changes.subscribe(), |mut changes| async move {
            loop {
                match changes.recv().await {
                    Ok(change) => return Some((change, changes)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        }))
    }

    /// Has the watch try again at once: the server was seen to answer.
    pub(super) fn retry(&self) {
        self.retry.notify_one();
    }

    fn go_stale(&self) {
        *self.fresh() = None;
    }

    fn fresh(&self) -> MutexGuard<'_, Option<Vec<Seed>>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches, for ever.
pub(super) async fn keep_watching(api: &Api, known: &Known) {
    let mut watch = Watch::new(api, known);
    loop {
        let ended = watch.run().await;
        known.go_stale();
        if watch.opened.take().is_some_and(|opened| opened.elapsed() >= LASTED) {
            watch.backoff.reset();
        }
        watch.note(ended);
        // Dropped early by whoever was answered meanwhile.
        let _ = timeout(watch.backoff.next_delay(), known.retry.notified()).await;
    }
}

struct Watch<'a> {
    api: &'a Api,
    known: &'a Known,
    store: Store,
    /// From where the watch goes on; `None` if it has to begin with a list.
    version: Option<String>,
    listed_at: Instant,
    /// The answer that was told last.
    told: Vec<Seed>,
    backoff: Backoff,
    /// Since when the watch is open.
    opened: Option<Instant>,
    warned: bool,
}

impl<'a> Watch<'a> {
    fn new(api: &'a Api, known: &'a Known) -> Self {
        let (store, backoff) = (Store::default(), Backoff::new());
        Self {
            api,
            known,
            store,
            version: None,
            listed_at: Instant::now(),
            told: Vec::new(),
            backoff,
            opened: None,
            warned: false,
        }
    }

    /// Lists if it must, then watches until the server ends it, or it fails.
    async fn run(&mut self) -> Result<(), (Verb, ApiError)> {
        let resumable = self.version.clone().filter(|_| self.listed_at.elapsed() < LIST_AGAIN);
        let listed = resumable.is_none();
        let version = match resumable {
            Some(version) => version,
            None => {
                let (store, version) = self.api.list().await.map_err(|error| (Verb::List, error))?;
                (self.store, self.listed_at) = (store, Instant::now());
                self.version = Some(version.clone());
                version
            }
        };
        let lasts = WATCH + self.backoff.below(WATCH_SPREAD);
        let failed = |error| (Verb::Watch, error);
        let mut events = self.api.watch(&version, lasts).await.map_err(failed)?;
        self.opened = Some(Instant::now());
        // What happened while no watch was open comes at once; only then is the answer whole again.
        let mut settled_at = (!listed).then(|| Instant::now() + SETTLE);
        if listed {
            self.tell();
        }
        loop {
            let deadline = settled_at.unwrap_or_else(|| Instant::now() + SILENCE);
            match timeout_at(deadline, events.next()).await {
                Ok(next) => match next.map_err(failed)? {
                    Some((happening, version)) => {
                        let changed = self.apply(happening);
                        if version.is_some() {
                            self.version = version;
                        }
                        if changed && settled_at.is_none() {
                            self.tell();
                        }
                    }
                    None => return Ok(()),
                },
                Err(_) if settled_at.take().is_some() => self.tell(),
                Err(_) => return Err(failed(ApiError::Timeout(SILENCE))),
            }
        }
    }

    fn apply(&mut self, happening: Happening) -> bool {
        match happening {
            Happening::Put(object) => self.store.put(object),
            Happening::Removed(name) => self.store.remove(&name),
            Happening::Nothing => false,
        }
    }

    /// Answers from now on with what is known, and tells what came and went.
    fn tell(&mut self) {
        let answer = self.known.answer_of(&self.store);
        let told = std::mem::replace(&mut self.told, answer.clone());
        *self.known.fresh() = Some(answer);
        // Both are in order. Nobody may listen, which is no error.
        for seed in told.iter().filter(|seed| self.told.binary_search(seed).is_err()) {
            let _ = self.known.changes.send(Change::Remove(*seed));
        }
        for seed in self.told.iter().filter(|seed| told.binary_search(seed).is_err()) {
            let _ = self.known.changes.send(Change::Insert(*seed));
        }
        if std::mem::take(&mut self.warned) {
            tracing::info!(provider = ID, "the API server is watched again");
        }
    }

    /// Notes how a watch ended, and says so once if the next ended no better.
    fn note(&mut self, ended: Result<(), (Verb, ApiError)>) {
        let Err((verb, error)) = ended else { return };
        if error.is_gone() {
            self.version = None;
        }
        let error = self.api.explain(error, verb);
        let cause = error.source().map(ToString::to_string);
        if self.backoff.failed_before() && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(provider = ID, %error, cause, "the API server cannot be watched, and is asked at each call");
        } else {
            tracing::debug!(provider = ID, %error, cause, "a watch failed");
        }
    }
}

/// A server ends a watch by itself; that we do, too, has old servers let go of nodes in time.
const WATCH: Duration = Duration::from_secs(240);
/// So that nodes which started together do not all come back together.
const WATCH_SPREAD: Duration = Duration::from_secs(50);
/// A bookmark comes every minute. After one and a half without a word, the connection is dead, whatever TCP believes.
const SILENCE: Duration = Duration::from_secs(90);
/// What was missed comes in one go. Until it came, each call asks for itself.
const SETTLE: Duration = Duration::from_secs(1);
/// Bounds how long the answer can be wrong because of a change that was never told: one lost in between, or in a store that was put
/// back to an earlier state.
const LIST_AGAIN: Duration = Duration::from_secs(600);
/// A watch that lasts so long is none that fails.
const LASTED: Duration = Duration::from_secs(5);
/// As many as an answer can have: whoever reads too slowly for that is better off with the next answer.
const CHANGES_KEPT: usize = MAX_SEEDS;

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
