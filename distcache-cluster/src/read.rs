//! Reads from a peer: one hop, never more, and batches in as few frames as they fit in.

use std::time::Duration;

use bytes::Bytes;
use distcache_transport::{CallError, Method, Payload};
use tokio::time::{Instant, timeout_at};

use crate::{
    batch::chunks,
    message::{self, Answer, Found, Get, GetMany, key_len, method},
    view::PeerLink,
    wire::DecodeError,
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

pub(crate) async fn fetch(
    peer: &PeerLink,
    fingerprint: u64,
    keyspace: &str,
    key: &str,
    timeout: Duration,
) -> Result<Option<Found>, PeerError> {
    let request = Get { fingerprint, keyspace, key };
    let answer = call(peer, method::GET, request.encode(), timeout).await?;
    Ok(message::decode_found(&answer)?)
}

/// Calls once there is a place for it on the link; the wait counts.
async fn call(peer: &PeerLink, method: Method, request: Payload, timeout: Duration) -> Result<Bytes, CallError> {
    let deadline = Instant::now() + timeout;
    let place = timeout_at(deadline, peer.places.acquire()).await.map_err(|_| CallError::TimedOut)?;
    // The semaphore is never closed; were it, the call goes without a place and the link decides.
    let _place = place.ok();
    peer.link.call(method, request, deadline.saturating_duration_since(Instant::now())).await
}

pub(crate) async fn fetch_many(
    peer: &PeerLink,
    fingerprint: u64,
    keyspace: &str,
    keys: &[&str],
    timeout: Duration,
) -> Vec<Result<Option<Found>, PeerError>> {
    if let [key] = keys {
        // Alone, a value travels as the tail of its frame, without a copy.
        return vec![fetch(peer, fingerprint, keyspace, key, timeout).await];
    }
    let deadline = Instant::now() + timeout;
    let mut results = Vec::with_capacity(keys.len());
    for chunk in chunks(keys, |key| key_len(key)) {
        let request = GetMany { fingerprint, keyspace, keys: chunk.to_vec() };
        let left = deadline.saturating_duration_since(Instant::now());
        let answers = match call(peer, method::GET_MANY, request.encode(), left).await {
            Ok(bytes) => message::decode_answers(&bytes).map_err(PeerError::from),
            Err(error) => Err(error.into()),
        };
        let answers = answers.and_then(|answers| {
            if answers.len() == chunk.len() { Ok(answers) } else { Err(DecodeError::Truncated.into()) }
        });
        match answers {
            Ok(answers) => {
                for (key, answer) in chunk.iter().zip(answers) {
                    results.push(match answer {
                        Answer::Missing => Ok(None),
                        Answer::Found(found) => Ok(Some(found)),
                        Answer::Failed(error) => Err(CallError::Remote(error).into()),
                        Answer::Alone => {
                            let left = deadline.saturating_duration_since(Instant::now());
                            fetch(peer, fingerprint, keyspace, key, left).await
                        }
                    });
                }
            }
            Err(error) => results.extend(chunk.iter().map(|_| Err(error.clone()))),
        }
    }
    results
}
