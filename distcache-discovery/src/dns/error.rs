//! Why a name was not looked up: the cause inside a [`DiscoveryError`](crate::DiscoveryError).

use std::error::Error;
use std::fmt;
use std::time::Duration;

use hickory_resolver::net::NetError;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};

/// Says which question got no answer. A name that does not exist is an answer.
#[derive(Debug, Clone)]
pub(super) struct LookupError {
    name: Box<Name>,
    record_type: RecordType,
    pub(super) cause: Cause,
}

#[derive(Debug, Clone)]
pub(super) enum Cause {
    /// The servers could not be reached, or what they sent could not be read, or it was an error.
    Servers(NetError),
    /// A code that says neither "here it is" nor "there is none".
    Code(ResponseCode),
    /// The server names other servers, which a server that is asked by everybody must not.
    Referral,
    /// The aliases go round in a circle, or on for too long.
    Aliases,
    /// The time was up.
    Late(Duration),
}

impl LookupError {
    pub(super) fn new(name: &Name, record_type: RecordType, cause: Cause) -> Self {
        Self { name: Box::new(name.clone()), record_type, cause }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer about {} {}", self.name, self.record_type)?;
        match &self.cause {
            Cause::Servers(_) => Ok(()),
            Cause::Code(code) => write!(f, ": the server says {code}"),
            Cause::Referral => f.write_str(": the server only refers to others"),
            Cause::Aliases => f.write_str(": its aliases lead nowhere"),
            Cause::Late(waited) => write!(f, " within {waited:?}"),
        }
    }
}

impl Error for LookupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Servers(error) => Some(error),
            _ => None,
        }
    }
}
