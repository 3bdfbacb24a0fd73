//! The one error of the engine.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use distcache_cluster::PeerError;
use distcache_transport::{CallError, ErrorCode, NotSentReason, RemoteError};

/// A shorthand for results of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. Cheap to clone: callers that waited for one load share its failure.
///
/// [`kind`](Self::kind) says what to do about it, [`Display`](fmt::Display) what happened, [`source`](StdError::source) why.
/// An error of a peer arrives with the kind and the text it had there; [`peer`](Self::peer) names the peer.
///
/// ```
/// # use distcache::{Error, ErrorKind};
/// fn worth_a_retry(error: &Error) -> bool {
///     matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Overloaded)
/// }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    faults: Vec<String>,
    peer: Option<String>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The arguments or the configuration are at fault. A retry does not help. No state changed, but for a put over a limit:
    /// whatever was cached under its key is gone.
    Invalid,
    /// No keyspace of that name is here, or at the key's owner. A retry helps only once somebody adds it.
    UnknownKeySpace,
    /// The data source failed, or panicked. Whether a retry helps is the source's matter. Nothing was cached.
    Source,
    /// The deadline passed. A retry may help; a load that others wait for goes on.
    Timeout,
    /// Too much is going on at the key's owner. A retry helps, later.
    Overloaded,
    /// The cluster, or the network it needs, is out of reach. A retry may help.
    Unavailable,
    /// The engine was shut down. A retry does not help.
    Closed,
    /// A defect in this library. Please report it.
    Internal,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::build(kind, message.into(), Vec::new(), None, None)
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::build(kind, message.into(), Vec::new(), None, Some(source.into()))
    }

    /// One error for all faults found.
    pub(crate) fn faults(kind: ErrorKind, message: &str, faults: Vec<String>) -> Self {
        let message = format!("{message}: {}", faults.join("; "));
        Self::build(kind, message, faults, None, None)
    }

    fn build(
        kind: ErrorKind,
        message: String,
        faults: Vec<String>,
        peer: Option<String>,
        source: Option<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, message, faults, peer, retry_after: None, source }))
    }

    /// Says when to come again.
    pub(crate) fn after(mut self, retry_after: Option<Duration>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.retry_after = retry_after;
        }
        self
    }

    pub(crate) fn unknown_keyspace(name: &str) -> Self {
        Self::new(ErrorKind::UnknownKeySpace, format!("no keyspace is called {name:?}"))
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the engine is shut down")
    }

    pub(crate) fn timeout(what: &str) -> Self {
        Self::new(ErrorKind::Timeout, format!("{what} took longer than allowed"))
    }

    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The faults, one by one, where several were found at once: [`EngineBuilder::start`](crate::EngineBuilder::start)
    /// reports all it can find. Empty otherwise.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.0.faults
    }

    /// How long whoever is overloaded would have its callers wait before they come again: a guess, from how long loads take there. `None`
    /// where nobody said.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The name of the peer where it happened; `None` when it happened here.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        self.0.peer.as_deref()
    }

    /// What a peer is told.
    pub(crate) fn to_remote(&self) -> RemoteError {
        // A peer sees one line with all causes, for the causes themselves do not travel.
        let mut message = self.0.message.clone();
        let mut cause = self.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        let code = CODES.iter().find(|(kind, _)| *kind == self.0.kind).map_or(INTERNAL, |(_, code)| *code);
        RemoteError { retry_after: self.0.retry_after, ..RemoteError::new(code, message) }
    }

    /// What a peer told, or why it told nothing.
    pub(crate) fn from_peer(error: PeerError, peer: &str) -> Self {
        let (kind, message) = match &error {
            PeerError::Call(CallError::Remote(remote)) => (kind_of(remote.code), remote.message.clone()),
            PeerError::Call(CallError::TimedOut) => {
                (ErrorKind::Timeout, "the key's owner did not answer in time".to_owned())
            }
            PeerError::Call(CallError::NotSent(NotSentReason::HeldOff { .. })) => {
                (ErrorKind::Overloaded, "the key's owner has too much to do".to_owned())
            }
            PeerError::Call(_) => (ErrorKind::Unavailable, "the key's owner is out of reach".to_owned()),
            _ => (ErrorKind::Internal, "the key's owner gave an answer that cannot be read".to_owned()),
        };
        let retry_after = match &error {
            PeerError::Call(CallError::Remote(remote)) => remote.retry_after,
            PeerError::Call(CallError::NotSent(NotSentReason::HeldOff { retry_after })) => Some(*retry_after),
            _ => None,
        };
        let source = (!matches!(error, PeerError::Call(CallError::Remote(_)))).then(|| Box::new(error).into());
        Self::build(kind, message, Vec::new(), Some(peer.to_owned()), source).after(retry_after)
    }

    /// The error of a single entry that its owner refused.
    pub(crate) fn from_remote(remote: &RemoteError) -> Self {
        Self::new(kind_of(remote.code), remote.message.clone())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.peer {
            Some(peer) => write!(f, "at peer {peer}: {}", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("peer", &self.0.peer)
            .field("retry_after", &self.0.retry_after)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

fn kind_of(code: ErrorCode) -> ErrorKind {
    match code {
        ErrorCode::DEADLINE => ErrorKind::Timeout,
        ErrorCode::OVERLOADED => ErrorKind::Overloaded,
        ErrorCode::SHUTTING_DOWN => ErrorKind::Unavailable,
        ErrorCode::TOO_LARGE => ErrorKind::Invalid,
        _ => CODES.iter().find(|(_, known)| *known == code).map_or(ErrorKind::Internal, |(kind, _)| *kind),
    }
}

/// The codes of the kinds on the wire. They never change; new kinds get new codes. 100 belongs to the cluster layer.
const CODES: [(ErrorKind, ErrorCode); 7] = [
    (ErrorKind::Invalid, ErrorCode(110)),
    (ErrorKind::UnknownKeySpace, ErrorCode(111)),
    (ErrorKind::Source, ErrorCode(112)),
    (ErrorKind::Timeout, ErrorCode(113)),
    (ErrorKind::Overloaded, ErrorCode(114)),
    (ErrorKind::Unavailable, ErrorCode(115)),
    (ErrorKind::Closed, ErrorCode(116)),
];
const INTERNAL: ErrorCode = ErrorCode(117);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_and_text_across_the_wire() {
        for (kind, _) in CODES {
            let there = Error::with_source(kind, "reading alice", "connection reset");
            let remote = PeerError::Call(CallError::Remote(there.to_remote()));
            let here = Error::from_peer(remote, "cache-1");
            assert_eq!(here.kind(), kind);
            assert_eq!(here.peer(), Some("cache-1"));
            assert_eq!(here.to_string(), "at peer cache-1: reading alice: connection reset");
        }
    }

    #[test]
    fn an_overloaded_node_says_when_to_come_again_across_the_wire_too() {
        let wait = Some(Duration::from_millis(250));
        let there = Error::new(ErrorKind::Overloaded, "too much").after(wait);
        let here = Error::from_peer(PeerError::Call(CallError::Remote(there.to_remote())), "cache-1");
        assert_eq!((there.retry_after(), here.retry_after()), (wait, wait));
    }

    #[test]
    fn an_unknown_code_of_a_newer_peer_is_internal_not_a_panic() {
        let remote = RemoteError::new(ErrorCode(999), "new");
        assert_eq!(Error::from_remote(&remote).kind(), ErrorKind::Internal);
    }

    #[test]
    fn errors_can_be_shared_between_threads() {
        fn assert_shared<T: Send + Sync + Clone + 'static>() {}
        assert_shared::<Error>();
    }
}
