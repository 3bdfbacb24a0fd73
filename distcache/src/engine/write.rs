//! Puts and deletes: checked here, carried out by the cluster layer.

use std::{sync::Arc, time::SystemTime};

use distcache_cluster::{Delivery, PutEntry, Stored, WriteMode};
use distcache_transport::CallError;
use tracing::{Instrument, debug_span};

use super::Inner;
use crate::{
    entry::{Entry, Outcome},
    error::{Error, ErrorKind, Result},
    space::Space,
};

impl Inner {
    pub(super) async fn put(&self, space: &Arc<Space>, entry: Entry, mode: WriteMode) -> Result<Outcome> {
        let unanswered = || Err(Error::new(ErrorKind::Internal, "the entry was not answered"));
        self.put_many(space, vec![entry], mode).await.pop().unwrap_or_else(unanswered)
    }

    pub(super) async fn put_many(
        &self,
        space: &Arc<Space>,
        entries: Vec<Entry>,
        mode: WriteMode,
    ) -> Vec<Result<Outcome>> {
        let span = debug_span!("distcache.put", keyspace = %space.name, entries = entries.len());
        async {
            let mut results: Vec<Result<Outcome>> = Vec::with_capacity(entries.len());
            let (mut accepted, mut places, mut oversized) = (Vec::new(), Vec::new(), Vec::new());
            for (at, entry) in entries.into_iter().enumerate() {
                results.push(self.check_entry(&entry).map(|()| Outcome::Applied));
                let fits = results[at].is_ok();
                let (key, value, expiry) = entry.into_parts();
                if fits {
                    let now = SystemTime::now();
                    let ttl = expiry.map_or_else(|| space.ttl_of(&key, now), |expiry| expiry.remaining(now));
                    accepted.push(PutEntry { key: key.into(), value, ttl });
                    places.push(at);
                } else if self.check_key(&key).is_ok() {
                    oversized.push(key);
                }
            }
            // The source holds a newer value than the cache: a put that is refused must not leave the old one behind.
            if !oversized.is_empty() {
                let keys: Vec<_> = oversized.iter().map(String::as_str).collect();
                let _ = self.cluster.delete_with(&space.name, &keys, mode, self.config.write_timeout).await;
            }
            let stored = self.cluster.put_with(&space.name, accepted, mode, self.config.write_timeout).await;
            for (at, stored) in places.into_iter().zip(stored) {
                results[at] = match stored {
                    Stored::Yes => Ok(Outcome::Applied),
                    Stored::Unheard(nodes) => Ok(Outcome::of(nodes.iter().map(ToString::to_string).collect())),
                    Stored::No(owner) => Ok(Outcome::of(vec![owner.to_string()])),
                    Stored::Refused { by, error } if by == *self.cluster.ident().name() => {
                        Err(Error::from_remote(&error))
                    }
                    Stored::Refused { by, error } => {
                        Err(Error::from_peer(CallError::Remote(error).into(), by.as_str()))
                    }
                    _ => Err(Error::new(ErrorKind::Internal, "the entry was not answered")),
                };
            }
            results
        }
        .instrument(span)
        .await
    }

    pub(super) async fn delete_many(&self, space: &Arc<Space>, keys: &[&str], mode: WriteMode) -> Result<Outcome> {
        keys.iter().try_for_each(|key| self.check_key(key))?;
        let span = debug_span!("distcache.delete", keyspace = %space.name, keys = keys.len());
        let delivery = self.cluster.delete_with(&space.name, keys, mode, self.config.write_timeout);
        let delivery = delivery.instrument(span).await;
        Ok(outcome(&delivery))
    }

    fn check_entry(&self, entry: &Entry) -> Result<()> {
        self.check_key(entry.key())?;
        let (len, limit) = (entry.value().len(), self.config.max_value_bytes);
        if len > limit {
            return Err(Error::new(ErrorKind::Invalid, format!("a value of {len} bytes is over the limit of {limit}")));
        }
        Ok(())
    }
}

pub(super) fn outcome(delivery: &Delivery) -> Outcome {
    Outcome::of(delivery.pending.iter().map(ToString::to_string).collect())
}

/// The name of a keyspace, shared.
pub(super) type Name = Arc<str>;
