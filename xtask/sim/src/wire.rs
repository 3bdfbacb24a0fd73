//! What frames say, as `distcache-cluster`'s message module lays it out.
//!
//! Read here a second time, and by hand: an oracle that used the nodes' own decoder would be wrong together with them.

use crate::{
    source::{key_number, parse},
    tap::Frame,
};

/// What a node asks another for, as far as it is about keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Read {
        role: u8,
        keys: Vec<usize>,
        /// Whether it was asked for in a batch, whose answer is laid out in another way.
        is_batch: bool,
    },
    /// A put says which version of each.
    Write { hops: u8, keys: Vec<(usize, Option<u64>)> },
    /// What was invalidated before the receiver owned it.
    CatchUp { stale: Vec<Stale> },
    /// Values for the receiver to take over.
    Adopt { keys: Vec<usize> },
    /// Membership, and what is asked of keyspaces.
    Other,
}

/// A value that a node gave for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) key: usize,
    pub(crate) version: u64,
    /// Whether it was in memory already.
    pub(crate) is_cached: bool,
    /// For how long the asker may keep a copy.
    pub(crate) near_ms: u32,
}

/// What is not to be served any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stale {
    Key(usize),
    Everything,
}

/// Reads a request; `None` if it makes no sense.
pub(crate) fn request(frame: &Frame) -> Option<Request> {
    let mut bytes = Bytes(&frame.payload);
    Some(match frame.code {
        GET | GET_MANY => {
            let (_fingerprint, _epochs, role) = (bytes.u64()?, bytes.u64()?, bytes.u8()?);
            bytes.short()?;
            let is_batch = frame.code == GET_MANY;
            let count = if is_batch { bytes.u32()? } else { 1 };
            let keys = (0..count).map(|_| bytes.key()).collect::<Option<_>>()?;
            Request::Read { role, keys, is_batch }
        }
        PUT | DELETE => {
            let (hops, _mode) = (bytes.u8()?, bytes.u8()?);
            bytes.short()?;
            let count = bytes.u32()?;
            let entry = |_| {
                let key = bytes.key()?;
                if frame.code == DELETE {
                    return Some((key, None));
                }
                bytes.u64()?;
                let (of, version) = parse(bytes.long()?)?;
                (of == key).then_some((key, Some(version)))
            };
            Request::Write { hops, keys: (0..count).map(entry).collect::<Option<_>>()? }
        }
        CATCH_UP => {
            let _incomplete = bytes.u8()?;
            Request::CatchUp { stale: invalidations(bytes.0)? }
        }
        ADOPT => {
            let (_position, _epochs) = (bytes.u64()?, bytes.u64()?);
            let put = Frame { code: PUT, payload: bytes.0.to_vec(), ..frame.clone() };
            match request(&put)? {
                Request::Write { keys, .. } => Request::Adopt { keys: keys.into_iter().map(|(key, _)| key).collect() },
                _ => return None,
            }
        }
        SYNC | EPOCHS | KEYSPACES => Request::Other,
        _ => return None,
    })
}

/// Reads the values in the answer to a read; `None` if it makes no sense.
pub(crate) fn answers(payload: &[u8], keys: &[usize], is_batch: bool) -> Option<Vec<Given>> {
    let mut bytes = Bytes(payload);
    let mut given = Vec::new();
    let count = if is_batch { bytes.u32()? as usize } else { 1 };
    if count != keys.len() {
        return None;
    }
    for key in keys {
        match bytes.u8()? {
            1 => {
                let (origin, _ttl, near_ms) = (bytes.u8()?, bytes.u64()?, bytes.u32()?);
                let value = if is_batch { bytes.long()? } else { bytes.0 };
                let (of, version) = parse(value)?;
                if of != *key {
                    return None;
                }
                given.push(Given { key: *key, version, is_cached: origin == CACHE, near_ms });
            }
            2 if is_batch => {
                bytes.take(2)?;
                bytes.long()?;
            }
            // Missing, not in memory, or too large for a batch.
            0 | 2 | 3 => {}
            _ => return None,
        }
    }
    Some(given)
}

/// Reads an event of a control lane; `None` if it makes no sense.
pub(crate) fn invalidations(payload: &[u8]) -> Option<Vec<Stale>> {
    let mut bytes = Bytes(payload);
    let count = bytes.u32()?;
    let entry = |_| {
        let kind = bytes.u8()?;
        bytes.short()?;
        if kind == KEY {
            return Some(Stale::Key(bytes.key()?));
        }
        bytes.take(STAMPS)?;
        Some(Stale::Everything)
    };
    (0..count).map(entry).collect()
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    fn key(&mut self) -> Option<usize> {
        key_number(std::str::from_utf8(self.long()?).ok()?)
    }
}

const GET: u16 = 1;
const GET_MANY: u16 = 2;
const PUT: u16 = 3;
const DELETE: u16 = 4;
const SYNC: u16 = 6;
const CATCH_UP: u16 = 9;
const ADOPT: u16 = 10;
const EPOCHS: u16 = 11;
const KEYSPACES: u16 = 12;
/// Of an epoch, behind the keyspace.
const STAMPS: usize = 32;
const KEY: u8 = 1;
const CACHE: u8 = 0;
