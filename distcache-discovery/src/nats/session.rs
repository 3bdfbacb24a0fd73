//! One connection in use: what is said over it, and what is heard.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::config::Settings;
use super::connect::{Connection, connect, late};
use super::key_value::{self, KeyValue};
use super::message::{Here, NodeId};
use super::presence::{self, Presence};
use crate::DiscoveryError;

/// Both ends of a connection in use.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) voice: Voice,
    pub(super) ear: Ear,
}

/// What is said over a connection. Every call ends within [`CALL_TIMEOUT`].
#[derive(Debug, Clone)]
pub(super) enum Voice {
    Presence(Presence),
    KeyValue(Arc<KeyValue>),
}

/// What is heard over a connection.
#[derive(Debug)]
pub(super) enum Ear {
    Presence(presence::Ear),
    KeyValue(Box<key_value::Ear>),
}

/// A thing heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A node is there.
    Here(NodeId, u64, Here),
    /// A node left, with the number of its last words.
    Leave(NodeId, u64),
    /// Somebody asks who is there, and wants the answer at this subject.
    Who(String),
    /// What was heard says nothing, for this reason.
    Malformed(&'static str),
    /// Our own words, or none of our affair.
    Nothing,
}

/// Connects, and makes sure that what is said is heard.
///
/// # Errors
///
/// No server can be reached, or none lets us do what has to be done.
pub(super) async fn open(settings: &Settings, id: NodeId, seq: u64) -> Result<Session, DiscoveryError> {
    let connection = connect(settings).await?;
    let opened = async {
        let client = connection.client.clone();
        match &settings.bucket {
            None => {
                let (voice, mut ear) = Presence::open(client, &settings.subject, id).await?;
                voice.who(seq).await?;
                ear.until(seq).await?;
                Ok((Voice::Presence(voice), Ear::Presence(ear)))
            }
            Some(bucket) => {
                let (voice, ear) = KeyValue::open(client, bucket, settings, id).await?;
                Ok((Voice::KeyValue(Arc::new(voice)), Ear::KeyValue(Box::new(ear))))
            }
        }
    };
    let (voice, ear) = tokio::select! {
        // The server's word says more than that an answer is missing.
        biased;
        failure = connection.ended() => return Err(failure),
        opened = within(CALL_TIMEOUT, opened) => opened?,
    };
    Ok(Session { connection, voice, ear })
}

impl Voice {
    /// Says that this node is there. The number is that of these words.
    ///
    /// # Errors
    ///
    /// It could not be said; or, in a bucket, the server did not confirm it.
    pub(super) async fn here(&self, seq: u64, here: &Here) -> Result<(), DiscoveryError> {
        match self {
            Self::Presence(voice) => within(CALL_TIMEOUT, voice.here(seq, here)).await,
            Self::KeyValue(voice) => within(CALL_TIMEOUT, voice.here(seq, here)).await,
        }
    }

    /// Says that this node leaves.
    ///
    /// # Errors
    ///
    /// As those of [`here`](Self::here).
    pub(super) async fn leave(&self, seq: u64) -> Result<(), DiscoveryError> {
        match self {
            Self::Presence(voice) => within(CALL_TIMEOUT, voice.leave(seq)).await,
            Self::KeyValue(voice) => within(CALL_TIMEOUT, voice.leave()).await,
        }
    }

    /// Waits until the server has passed on what was said with this number.
    ///
    /// # Errors
    ///
    /// It did not, in time.
    pub(super) async fn confirmed(&self, seq: u64) -> Result<(), DiscoveryError> {
        match self {
            Self::Presence(voice) => within(CALL_TIMEOUT, voice.confirmed(seq)).await,
            // The server had confirmed it before the call returned.
            Self::KeyValue(_) => Ok(()),
        }
    }

    /// Asks who is there. In a bucket there is nobody to ask.
    ///
    /// # Errors
    ///
    /// It could not be said.
    pub(super) async fn who(&self, seq: u64) -> Result<(), DiscoveryError> {
        match self {
            Self::Presence(voice) => within(CALL_TIMEOUT, voice.who(seq)).await,
            Self::KeyValue(_) => Ok(()),
        }
    }

    /// Waits until whoever was asked with this number has had its time to answer.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub(super) async fn answered(&self, seq: u64, window: Duration) -> Result<(), DiscoveryError> {
        match self {
            Self::Presence(_) => {
                let closes = Instant::now() + window;
                self.confirmed(seq).await?;
                sleep_until(closes).await;
                Ok(())
            }
            Self::KeyValue(voice) => within(CALL_TIMEOUT, voice.caught_up(window)).await,
        }
    }

    /// Tells one who asked that this node is there.
    pub(super) async fn answer(&self, to: String, seq: u64, here: &Here) -> Result<(), DiscoveryError> {
        match self {
            Self::Presence(voice) => within(CALL_TIMEOUT, voice.answer(to, seq, here)).await,
            Self::KeyValue(_) => Ok(()),
        }
    }
}

impl Ear {
    /// Returns the next thing heard.
    ///
    /// # Errors
    ///
    /// There is nothing more to come.
    pub(super) async fn next(&mut self) -> Result<Heard, DiscoveryError> {
        match self {
            Self::Presence(ear) => ear.next().await,
            Self::KeyValue(ear) => ear.next().await,
        }
    }
}

/// Gives a call up when it takes too long.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, DiscoveryError>>,
) -> Result<T, DiscoveryError> {
    timeout(limit, call).await.unwrap_or_else(|_| Err(late("the server", limit)))
}

/// A server in reach answers within milliseconds; the node goes on with what it knows meanwhile.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(2);
