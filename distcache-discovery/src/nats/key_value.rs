//! Presence in a key-value bucket of JetStream: every node keeps one entry alive, and watches the others.
//!
//! The key is `<subject>.<id>`, so that several clusters may share a bucket. What a node watches is the whole bucket: the revisions that
//! come by tell it whether it has caught up.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::Context;
use async_nats::jetstream::kv::{self, Entry, Operation, Store, Watch};
use async_nats::jetstream::stream::StorageType;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::ID;
use super::config::Settings;
use super::connect::failed;
use super::message::{Body, Here, MOST_BYTES, Message, NodeId};
use super::roster::believed;
use super::session::{CALL_TIMEOUT, Heard};
use crate::DiscoveryError;

/// What is said.
#[derive(Debug)]
pub(super) struct KeyValue {
    store: Store,
    id: NodeId,
    key: String,
    /// Up to which revision the bucket was heard.
    revision: watch::Receiver<u64>,
}

/// What is heard.
pub(super) struct Ear {
    id: NodeId,
    prefix: String,
    entries: Watch,
    /// The revision of the last entry returned.
    last: u64,
    revision: watch::Sender<u64>,
}

impl std::fmt::Debug for Ear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ear").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl KeyValue {
    pub(super) async fn open(
        client: Client,
        bucket: &str,
        settings: &Settings,
        id: NodeId,
    ) -> Result<(Self, Ear), DiscoveryError> {
        let mut context = async_nats::jetstream::new(client);
        context.set_timeout(CALL_TIMEOUT);
        let store = match context.get_key_value(bucket).await {
            Ok(store) => store,
            Err(_) => create(&context, bucket, settings.heartbeat).await?,
        };
        // A bucket that is there already may hold a million entries of others; they come one by one.
        let entries = store.watch_with_history(">").await.map_err(failed)?;
        let (sender, revision) = watch::channel(0);
        let prefix = format!("{}.", settings.subject);
        let key = format!("{prefix}{id}");
        Ok((Self { store, id, key, revision }, Ear { id, prefix, entries, last: 0, revision: sender }))
    }

    pub(super) async fn here(&self, seq: u64, here: &Here) -> Result<(), DiscoveryError> {
        let message = Message { from: self.id, seq, body: Body::Here(here.clone()) };
        let bytes = message.encode().map_err(|fault| DiscoveryError::unavailable(ID, format!("the entry {fault}")))?;
        self.store.put(&self.key, bytes.into()).await.map(drop).map_err(failed)
    }

    pub(super) async fn leave(&self) -> Result<(), DiscoveryError> {
        self.store.delete(&self.key).await.map_err(failed)
    }

    /// Waits until everything is heard that is in the bucket now. What was dropped from it before anybody could hear it never comes, so
    /// this ends after the window, too.
    pub(super) async fn caught_up(&self, window: Duration) -> Result<(), DiscoveryError> {
        let info = self.store.stream.get_info().await.map_err(failed)?;
        let mut revision = self.revision.clone();
        let last = info.state.last_sequence;
        match timeout(window, revision.wait_for(|heard| *heard >= last)).await {
            Ok(Err(_)) => Err(DiscoveryError::unavailable(ID, "the connection to the server is lost")),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

impl Ear {
    pub(super) async fn next(&mut self) -> Result<Heard, DiscoveryError> {
        // Whoever asks for the next entry has dealt with the one before, and only then it counts as heard.
        self.revision.send_replace(self.last);
        match self.entries.next().await {
            Some(Ok(entry)) => {
                self.last = self.last.max(entry.revision);
                Ok(understand(self.id, &self.prefix, &entry))
            }
            Some(Err(error)) => Err(failed(error)),
            None => Err(DiscoveryError::unavailable(ID, "the watch of the bucket ended")),
        }
    }
}

fn understand(id: NodeId, prefix: &str, entry: &Entry) -> Heard {
    // A further dot belongs to the longer subject of another cluster.
    let Some(key) = entry.key.strip_prefix(prefix).filter(|key| !key.contains('.')) else { return Heard::Nothing };
    let Some(from) = NodeId::parse(key) else { return Heard::Malformed("has a key that is no node's") };
    if from == id {
        return Heard::Nothing;
    }
    if matches!(entry.operation, Operation::Delete | Operation::Purge) {
        return Heard::Leave(from, u64::MAX);
    }
    match Message::decode(&entry.value) {
        Ok(Message { from: named, seq, body: Body::Here(here) }) if named == from => Heard::Here(from, seq, here),
        Ok(_) => Heard::Malformed("is not what its key says"),
        Err(reason) => Heard::Malformed(reason),
    }
}

async fn create(context: &Context, bucket: &str, heartbeat: Duration) -> Result<Store, DiscoveryError> {
    let config = kv::Config {
        bucket: bucket.to_owned(),
        description: "nodes of DistCache".to_owned(),
        max_value_size: i32::try_from(MOST_BYTES).unwrap_or(i32::MAX),
        history: 1,
        max_age: believed(heartbeat),
        max_bytes: BUCKET_BYTES,
        storage: StorageType::Memory,
        ..kv::Config::default()
    };
    match context.create_key_value(config).await {
        Ok(store) => Ok(store),
        // Another node may have been faster, with another heartbeat.
        Err(error) => context.get_key_value(bucket).await.map_err(|_| failed(error)),
    }
}

/// Room for as many nodes as are found, with long names, and the server's own needs for each.
const BUCKET_BYTES: i64 = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_believed_of_the_node_that_its_key_names() {
        let (own, other) = (NodeId::new(1), NodeId::new(2));
        let addr = "10.0.0.1:3320".parse().unwrap();
        let here = Here { name: "cache-0".to_owned(), addr, every: Duration::from_secs(2) };
        let value = Message { from: other, seq: 3, body: Body::Here(here.clone()) }.encode().unwrap();
        let entry = |key: &str, value: &[u8], operation| Entry {
            bucket: "b".to_owned(),
            key: key.to_owned(),
            value: value.to_vec().into(),
            revision: 1,
            delta: 0,
            created: std::time::SystemTime::UNIX_EPOCH.into(),
            operation,
            seen_current: true,
        };
        let understood = |entry: &Entry| understand(own, "a.b.", entry);
        let key = format!("a.b.{other}");
        assert_eq!(understood(&entry(&key, &value, Operation::Put)), Heard::Here(other, 3, here));
        assert_eq!(understood(&entry(&key, b"", Operation::Delete)), Heard::Leave(other, u64::MAX));
        assert_eq!(understood(&entry(&key, b"", Operation::Purge)), Heard::Leave(other, u64::MAX));
        assert_eq!(understood(&entry(&format!("a.b.{own}"), &value, Operation::Put)), Heard::Nothing);
        assert_eq!(understood(&entry("another", &value, Operation::Put)), Heard::Nothing);
        assert_eq!(understood(&entry(&format!("a.b.c.{other}"), &value, Operation::Put)), Heard::Nothing);
        let third = format!("a.b.{}", NodeId::new(3));
        for (key, value) in [(third.as_str(), value.as_slice()), ("a.b.c", value.as_slice()), (key.as_str(), b"{}")] {
            assert!(matches!(understood(&entry(key, value, Operation::Put)), Heard::Malformed(_)), "{key}");
        }
    }
}
