//! One watch: the changes since a version, as they happen, one a line.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, future, stream};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::query::Query;
use crate::respond::status;
use crate::server::Shared;
use crate::store::Gone;

/// Tells one client what changes.
#[derive(Debug)]
pub(crate) struct Watching {
    shared: Arc<Shared>,
    query: Query,
    version: u64,
    changed: watch::Receiver<u64>,
    /// Counts how often all watches were cut.
    cuts: watch::Receiver<u64>,
    until: Instant,
    bookmark: Instant,
    mute: bool,
    over: bool,
}

impl Watching {
    /// Begins to watch, or fails at once if the version is too old. A mute watch tells of nothing.
    pub(crate) fn open(shared: Arc<Shared>, query: Query, mute: bool) -> Result<Self, Gone> {
        let (changed, cuts) = (shared.changed(), shared.cuts());
        let version = {
            let store = shared.store();
            let version = query.version.unwrap_or_else(|| store.version());
            store.since(&query.collection, &query.selector, version)?;
            version
        };
        let now = Instant::now();
        let (until, bookmark) = (now + query.timeout, now + shared.bookmark_interval());
        Ok(Self { shared, query, version, changed, cuts, until, bookmark, mute, over: false })
    }

    /// Returns the lines as they come. The first chunk is empty, so that the head of the answer is sent at once.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Bytes> + Send + 'static {
        stream::unfold(self, |mut watching| async move { watching.next().await.map(|chunk| (chunk, watching)) })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if self.mute {
            return future::pending().await;
        }
        loop {
            if self.over || self.cuts.has_changed().unwrap_or(true) {
                return None;
            }
            self.changed.mark_unchanged();
            let (told, now) = {
                let store = self.shared.store();
                (store.since(&self.query.collection, &self.query.selector, self.version), store.version())
            };
            match told {
                Err(Gone) => {
                    self.over = true;
                    let gone = status(410, "Expired", "too old resource version");
                    return Some(line(&json!({ "type": "ERROR", "object": gone })));
                }
                Ok(told) => {
                    self.version = now;
                    if !told.is_empty() {
                        return Some(told.iter().map(line).collect::<Vec<_>>().concat().into());
                    }
                }
            }
            tokio::select! {
                _ = self.changed.changed() => {}
                _ = self.cuts.changed() => return None,
                () = sleep_until(self.until) => return None,
                () = sleep_until(self.bookmark), if self.query.bookmarks => {
                    self.bookmark = Instant::now() + self.shared.bookmark_interval();
                    self.shared.count_bookmark();
                    return Some(line(&self.bookmark_event()));
                }
            }
        }
    }

    fn bookmark_event(&self) -> Value {
        let (version, kind) = self.query.collection.kind.names();
        let metadata = json!({ "resourceVersion": self.version.to_string() });
        json!({ "type": "BOOKMARK", "object": { "apiVersion": version, "kind": kind, "metadata": metadata } })
    }
}

fn line(event: &Value) -> Bytes {
    format!("{event}\n").into()
}
