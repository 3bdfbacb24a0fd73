//! How a link and a call fail: one small enum per operation.

use std::{io, time::Duration};

use thiserror::Error;

/// Names what went wrong at the peer, as one number on the wire.
///
/// Codes 1 to 99 belong to the transport, 100 and up to the layer above; 0 is not used. A code that this release does not know
/// keeps its number.
///
/// # Examples
///
/// ```
/// use distcache_transport::ErrorCode;
///
/// const NO_SUCH_KEYSPACE: ErrorCode = ErrorCode::application(100).expect("100 is an application code");
/// assert!(NO_SUCH_KEYSPACE.is_application());
/// assert_eq!(ErrorCode::application(7), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// The deadline passed at the peer. Nothing is known about side effects; a retry needs a fresh budget.
    pub const DEADLINE: Self = Self(1);
    /// The peer has too much to do and did not start. A retry helps later.
    pub const OVERLOADED: Self = Self(2);
    /// The peer is leaving and did not start. A retry helps at another peer.
    pub const SHUTTING_DOWN: Self = Self(3);
    /// The peer does not know the method. A retry does not help.
    pub const UNKNOWN_METHOD: Self = Self(4);
    /// The peer could not read the request. A retry does not help.
    pub const BAD_REQUEST: Self = Self(5);
    /// The peer's handler panicked, perhaps halfway.
    pub const PANICKED: Self = Self(6);
    /// The answer is larger than the peer may send. A retry does not help.
    pub const TOO_LARGE: Self = Self(7);
    /// The peer did what was asked and dropped the answer: too many wait to be read, by this end or by others. A retry helps later, and
    /// acts again.
    pub const NO_ROOM: Self = Self(8);

    /// The first code of the layer above.
    pub const FIRST_APPLICATION: u16 = 100;

    /// Makes a code of the layer above, or `None` if the number lies in the transport's own range.
    #[must_use]
    pub const fn application(code: u16) -> Option<Self> {
        if code >= Self::FIRST_APPLICATION { Some(Self(code)) } else { None }
    }

    /// Tells whether the code belongs to the layer above.
    #[must_use]
    pub const fn is_application(self) -> bool {
        self.0 >= Self::FIRST_APPLICATION
    }
}

/// Is the failure a peer answered with.
///
/// Messages are cut to 1 KiB on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("peer answered with error {}: {message}", code.0)]
pub struct RemoteError {
    /// What went wrong.
    pub code: ErrorCode,
    /// The peer's words, for people.
    pub message: String,
    /// When the peer would have the request again, if it says so: with [`OVERLOADED`](ErrorCode::OVERLOADED), most often. At
    /// most 60 s, and whole milliseconds on the wire.
    pub retry_after: Option<Duration>,
}

impl RemoteError {
    /// Makes an error without a word on when to try again.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }
}

/// Says why a call never left this process, so that trying elsewhere is always safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotSentReason {
    /// The link is not up. A retry helps once it is.
    #[error("the link is down")]
    LinkDown,
    /// As many calls, or bytes of their payloads, are in flight as the configuration allows. A retry helps later.
    #[error("too many calls in flight")]
    InFlightLimit,
    /// The payload exceeds the limit. A retry does not help; the caller is at fault.
    #[error("payload of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// This side closed the link. A retry does not help.
    #[error("the link is closed")]
    Closed,
    /// The peer said that it is leaving. A retry helps at another peer.
    #[error("the peer is going away")]
    GoingAway,
    /// The last calls to the peer failed, and it is left alone for now. A retry helps later, if the peer is well by then.
    #[error("the peer did not answer the last calls")]
    BreakerOpen {
        /// When a call may try again. Zero while one does, and while the link is only just up.
        retry_after: Duration,
    },
    /// The peer answered that it has too much to do, and when it would have calls again. A retry helps then.
    #[error("the peer has too much to do")]
    HeldOff {
        /// What is left of that.
        retry_after: Duration,
    },
}

/// Explains why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request never left; the peer's state is untouched.
    #[error("request not sent")]
    NotSent(#[source] NotSentReason),
    /// The caller's budget ran out. The peer may have acted; it was told to stop.
    #[error("request timed out")]
    TimedOut,
    /// The link broke after the request was sent and before the answer came. The peer may have acted.
    #[error("link lost before the answer")]
    Lost,
    /// The peer answered with an error.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl CallError {
    /// Tells whether the peer may have seen the request. If not, a retry elsewhere cannot act twice.
    #[must_use]
    pub const fn was_sent(&self) -> bool {
        !matches!(self, Self::NotSent(_))
    }
}

/// Says why a one-way message was dropped. It never left this process, whatever the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// The link is not up.
    #[error("the link is down")]
    LinkDown,
    /// The peer reads more slowly than messages are sent.
    #[error("too many messages queued")]
    QueueFull,
    /// The payload exceeds the limit. A retry does not help.
    #[error("payload of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// This side closed the link. A retry does not help.
    #[error("the link is closed")]
    Closed,
    /// The peer said that it is leaving.
    #[error("the peer is going away")]
    GoingAway,
}

/// Names why a handshake was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The two ends belong to different clusters.
    Label,
    /// The two ends have no wire version in common.
    Version,
    /// The layer above does not accept the peer's identity.
    Identity,
    /// The server has as many connections as it may have.
    Overloaded,
    /// The server is leaving.
    ShuttingDown,
    /// The two ends do not share a secret, or only one of them has one.
    Secret,
    /// Anything else, also a reason that this release does not know.
    Other,
}

impl RefusalReason {
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Other => 0,
            Self::Label => 1,
            Self::Version => 2,
            Self::Identity => 3,
            Self::Overloaded => 4,
            Self::ShuttingDown => 5,
            Self::Secret => 6,
        }
    }

    pub(crate) const fn from_code(code: u16) -> Self {
        match code {
            1 => Self::Label,
            2 => Self::Version,
            3 => Self::Identity,
            4 => Self::Overloaded,
            5 => Self::ShuttingDown,
            6 => Self::Secret,
            _ => Self::Other,
        }
    }
}

/// Turns a peer away during the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refusal {
    /// What the other end can act on.
    pub reason: RefusalReason,
    /// What its operator reads; cut to 1 KiB on the wire.
    pub message: String,
}

/// Explains why a link is not up. The link goes on trying whatever the reason, with back-off.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer could not be reached. A retry helps once it is there.
    #[error("dial failed: {message}")]
    Dial {
        /// What the operating system called it.
        kind: io::ErrorKind,
        /// Its words.
        message: String,
    },
    /// TLS failed: the two ends disagree on who to trust, or only one of them speaks TLS. A retry does not help until a
    /// configuration or a certificate changes.
    #[error("tls failed: {0}")]
    Tls(String),
    /// The peer turned this node away.
    #[error("handshake refused")]
    Refused(#[source] Refusal),
    /// The other end does not speak this protocol. A retry does not help.
    #[error("not a usable peer: {0}")]
    BadPeer(String),
    /// No connection, or no finished handshake, in the time allowed. A retry may help.
    #[error("timed out")]
    TimedOut,
    /// The connection broke, during the handshake or after it. A retry may help.
    #[error("connection lost: {0}")]
    Lost(String),
    /// This side closed the link. A retry does not help.
    #[error("the link is closed")]
    Closed,
}

impl ConnectError {
    /// Tells whether trying again is useless until somebody changes a configuration, here or there.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        match self {
            Self::Tls(_) | Self::BadPeer(_) | Self::Closed => true,
            Self::Refused(refusal) => {
                use RefusalReason::{Identity, Label, Secret, Version};
                matches!(refusal.reason, Label | Version | Identity | Secret)
            }
            Self::Dial { .. } | Self::TimedOut | Self::Lost(_) => false,
        }
    }

    pub(crate) fn dial(error: &io::Error) -> Self {
        Self::Dial { kind: error.kind(), message: error.to_string() }
    }

    /// Sorts an I/O error after the connection stood: TLS reports what it dislikes as one.
    pub(crate) fn broken(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::Tls(describe_tls(tls)),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Lost("closed by the peer".to_owned()),
            None => Self::Lost(error.to_string()),
        }
    }
}

fn describe_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => format!("{error}; perhaps the peer does not speak TLS"),
        // What the policy for peers says, in its own words.
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(fault)) => fault.to_string(),
        rustls::Error::AlertReceived(_) => format!("the peer rejected the session: {error}"),
        _ => error.to_string(),
    }
}

/// Names one value of a [`TransportConfig`](crate::TransportConfig) that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// A limit or time that must be positive is zero.
    #[error("{field} must not be zero")]
    Zero {
        /// The field's name.
        field: &'static str,
    },
    /// A value is larger than the wire or the clock can carry.
    #[error("{field} must be at most {limit}")]
    TooLarge {
        /// The field's name.
        field: &'static str,
        /// The largest value, in the field's unit, or in seconds.
        limit: u64,
    },
    /// A limit is so small that what another one allows can never be done.
    #[error("{field} must be at least {least}")]
    TooSmall {
        /// The field's name.
        field: &'static str,
        /// The field that it must reach.
        least: &'static str,
    },
    /// A time must be longer than another one.
    #[error("{longer} must be longer than {shorter}, which is {than:?}")]
    Order {
        /// The field that must be longer.
        longer: &'static str,
        /// The field it is compared with.
        shorter: &'static str,
        /// That field's value.
        than: Duration,
    },
}
