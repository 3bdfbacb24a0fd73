//! What nodes tell one another: one JSON object a message.
//!
//! ```json
//! {"v":1,"kind":"here","from":"<32 hex digits>","seq":7,"name":"cache-0","addr":"10.0.0.1:3320","every_ms":2000}
//! {"v":1,"kind":"leave","from":"<32 hex digits>","seq":8}
//! {"v":1,"kind":"who","from":"<32 hex digits>","seq":9}
//! ```
//!
//! Fields that are not known are passed over, so that a later version may add some; a message of another version is not read.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::MOST_HEARTBEAT;
use crate::address::check_dialable;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Who says so.
    pub(super) from: NodeId,
    /// Counts what this node says, from 1: what was said later is true.
    pub(super) seq: u64,
    pub(super) body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// The sender is there.
    Here(Here),
    /// The sender is to be found no more.
    Leave,
    /// Everybody who is there shall say so to the sender.
    Who,
}

/// Where a node is, and when it says so again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    /// At most this much later: [`MOST_HEARTBEAT`] or less.
    pub(super) every: Duration,
}

/// Tells one life of a node from all others: a node that is started again has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u128);

impl NodeId {
    pub(super) fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// Reads 32 hexadecimal digits in lower case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fits = text.len() == 32 && text.bytes().all(is_digit);
        fits.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Message {
    /// Writes the message.
    ///
    /// # Errors
    ///
    /// The name is too long. [`check_name`] tells before.
    pub(super) fn encode(&self) -> Result<Vec<u8>, &'static str> {
        let mut wire = Wire {
            v: VERSION,
            kind: Cow::Borrowed("who"),
            from: Cow::Owned(self.from.to_string()),
            seq: self.seq,
            name: None,
            addr: None,
            every_ms: None,
        };
        match &self.body {
            Body::Here(here) => {
                wire.kind = Cow::Borrowed("here");
                wire.name = Some(Cow::Borrowed(&here.name));
                wire.addr = Some(here.addr);
                wire.every_ms = u64::try_from(here.every.as_millis()).ok();
            }
            Body::Leave => wire.kind = Cow::Borrowed("leave"),
            Body::Who => {}
        }
        let bytes = serde_json::to_vec(&wire).map_err(|_| "cannot be written")?;
        if bytes.len() > MOST_BYTES { Err("is too long") } else { Ok(bytes) }
    }

    /// Reads a message from whoever it may be.
    ///
    /// # Errors
    ///
    /// A phrase that completes "the message ...".
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > MOST_BYTES {
            return Err("is longer than 1 KiB");
        }
        let Version { v } = serde_json::from_slice(bytes).map_err(|_| "is no JSON object with a version")?;
        if v != VERSION {
            return Err("is of another version");
        }
        let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|_| "has a field that is missing or wrong")?;
        let from = NodeId::parse(&wire.from).ok_or("has a sender that is not 32 hexadecimal digits")?;
        let body = match &*wire.kind {
            "here" => Body::Here(wire.here()?),
            "leave" => Body::Leave,
            "who" => Body::Who,
            _ => return Err("is of an unknown kind"),
        };
        Ok(Self { from, seq: wire.seq, body })
    }
}

/// Passes a name that a message can carry.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("is empty")
    } else if name.len() > MOST_NAME_BYTES {
        Err("has more than 255 bytes")
    } else if name.chars().any(char::is_control) {
        Err("has a control character")
    } else {
        Ok(())
    }
}

/// All fields but the version may change with it.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    v: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    from: Cow<'a, str>,
    seq: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    addr: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every_ms: Option<u64>,
}

impl Wire<'_> {
    fn here(&self) -> Result<Here, &'static str> {
        let name = self.name.as_deref().ok_or("has no name")?;
        check_name(name).map_err(|_| "has a name that no node has")?;
        let addr = self.addr.ok_or("has no address")?;
        check_dialable(addr).map_err(|_| "has an address that no peer can dial")?;
        let every = Duration::from_millis(self.every_ms.ok_or("has no interval")?);
        if every.is_zero() || every > MOST_HEARTBEAT {
            return Err("has an interval that no node has");
        }
        Ok(Here { name: name.to_owned(), addr, every })
    }
}

const VERSION: u64 = 1;
/// Twice what the longest name needs, with every character of it escaped.
pub(super) const MOST_BYTES: usize = 1024;
const MOST_NAME_BYTES: usize = 255;

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
