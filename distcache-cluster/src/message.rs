//! The requests nodes send one another, laid by hand: keys and values travel as raw bytes.
//!
//! All integers are little-endian. `text8` is text behind a one-byte length, `text32` and `bytes32` behind a four-byte one.
//! `ttl` is what remains, in milliseconds, and `u64::MAX` for none: no wall clock crosses the wire.
//!
//! ```text
//! Get         fingerprint u64 | epochs u64 | role u8 | keyspace text8 | key text32
//!   role      0 as the owner, 1 in the owner's place, 2 from memory only, 3 in the owner's place and from the source,
//!             4 from memory only, as who owned the key before
//! Found       state u8 = 0 missing, 1 found | origin u8 | ttl u64 | near u32 | value: the rest of the frame
//!   near      for how many milliseconds the asker may keep a copy, from when it asked; 0 for not at all
//! NotCached   state u8 = 2, the answer to roles 2 and 4 only
//! GetMany     fingerprint u64 | epochs u64 | role u8 | keyspace text8 | count u32 | count × key text32
//! Answers     count u32 | count × answer
//!   answer    0 missing | 1 origin u8, ttl u64, near u32, value bytes32 | 2 code u16, message text32 | 3 ask again alone
//! Put         hops u8 | mode u8 | keyspace text8 | count u32 | count × (key text32, ttl u64, value bytes32)
//! Delete      hops u8 | mode u8 | keyspace text8 | count u32 | count × key text32
//!   mode      0 to be acknowledged by the owner, 1 when nobody can serve what was there before
//! Written     count u32 | count × (code u16, 0 for done; message text32 when not 0) | pending, the answer to a put
//! Pending     count u32 | count × name text8, the answer to a delete: who has not acknowledged
//! Invalidate  count u32 | count × (kind u8 | keyspace text8 | argument), an event of the control lane
//!   kind 1    key: argument text32      kind 4 epoch: argument stamps
//!   stamps    origin u64 | cleared u64 | deleted u64 | age u64
//! Epochs      origin u64 | ordinal u64 | forgot u64 | count u32 | count × (keyspace text8 | stamps); the answer is the same
//! Keyspaces   count u32 | count × name text8, the answer to nothing at all
//! CatchUp     incomplete u8 | an Invalidate
//! Adopt       position u64, how far the sender's log had come when it read the values | epochs u64 | a Put
//! ```
//!
//! `epochs` is the digest of the keyspace epochs that the sender has heard of, or `u64::MAX` for a request that is to be answered
//! whatever the receiver has heard of.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use distcache_transport::{ErrorCode, Method, Payload, Position, RemoteError};

use crate::{
    coherence::{Invalidation, Mark, Origin as EpochOrigin, Told},
    ident::NodeName,
    wire::{DecodeError, Reader, put_long_bytes, put_short_text},
};

/// What a request asks for.
pub(crate) mod method {
    use super::Method;

    pub(crate) const GET: Method = Method(1);
    pub(crate) const GET_MANY: Method = Method(2);
    pub(crate) const PUT: Method = Method(3);
    pub(crate) const DELETE: Method = Method(4);
    /// Push/pull of membership.
    pub(crate) const SYNC: Method = Method(6);
    /// A membership packet; one-way.
    pub(crate) const GOSSIP: Method = Method(7);
    /// The sender leaves for good; one-way.
    pub(crate) const LEAVING: Method = Method(8);
    /// What was invalidated before the receiver owned it.
    pub(crate) const CATCH_UP: Method = Method(9);
    /// Values for the receiver to take over.
    pub(crate) const ADOPT: Method = Method(10);
    /// Push/pull of keyspace epochs.
    pub(crate) const EPOCHS: Method = Method(11);
    /// Which keyspaces the receiver has.
    pub(crate) const KEYSPACES: Method = Method(12);
}

/// In what capacity a node is asked for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Role {
    /// As the key's owner. A node that is not says so.
    Owner,
    /// In the place of an owner that does not answer, or whatever its own ring says.
    Acting,
    /// For what it has in memory and may serve, and nothing else.
    Peek,
    /// As [`Acting`](Self::Acting), but from the data source, whatever it has in memory: the asker has written the key itself.
    Anew,
    /// For what it has in memory of a key that it owned before the asker did.
    Fill,
}

impl Role {
    const fn code(self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::Acting => 1,
            Self::Peek => 2,
            Self::Anew => 3,
            Self::Fill => 4,
        }
    }

    const fn of(code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Owner),
            1 => Ok(Self::Acting),
            2 => Ok(Self::Peek),
            3 => Ok(Self::Anew),
            4 => Ok(Self::Fill),
            _ => Err(DecodeError::UnknownValue("role")),
        }
    }
}

/// Where a value came from when its owner answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It was cached already.
    Cache,
    /// It was loaded from the data source for this answer (or for one that was waiting already).
    Source,
}

/// A value, and how long it may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: Bytes,
    /// What remains of its time to live; `None` for no end.
    pub ttl: Option<Duration>,
    /// Where it came from.
    pub origin: Origin,
    /// For how long after its request the asker may keep a copy, under a lease of the owner's; zero for not at all. A [`Store`] grants
    /// none: the cluster does.
    ///
    /// [`Store`]: crate::Store
    pub near: Duration,
}

/// A value to store, with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutEntry {
    /// The key.
    pub key: Box<str>,
    /// The value.
    pub value: Bytes,
    /// How long it may be kept; `None` for no end.
    pub ttl: Option<Duration>,
}

/// One key's part of the answer to a batch read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Missing,
    Found(Found),
    Failed(RemoteError),
    /// The answer did not fit in the frame; ask for this key alone.
    Alone,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Get<'a> {
    pub(crate) fingerprint: u64,
    pub(crate) epochs: u64,
    pub(crate) role: Role,
    pub(crate) keyspace: &'a str,
    pub(crate) key: &'a str,
}

impl<'a> Get<'a> {
    pub(crate) fn encode(&self) -> Payload {
        let mut out = BytesMut::with_capacity(24 + self.keyspace.len() + self.key.len());
        out.put_u64_le(self.fingerprint);
        out.put_u64_le(self.epochs);
        out.put_u8(self.role.code());
        put_short_text(&mut out, self.keyspace);
        put_long_bytes(&mut out, self.key.as_bytes());
        out.freeze().into()
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (fingerprint, epochs, role) = (reader.u64()?, reader.u64()?, Role::of(reader.u8()?)?);
        let (keyspace, key) = (reader.short_text()?, reader.long_text()?);
        reader.finish()?;
        Ok(Self { fingerprint, epochs, role, keyspace, key })
    }
}

/// Lays out the answer to a [`Get`]. The value is the payload's tail: it goes from cache to socket without a copy.
pub(crate) fn encode_found(found: Option<Found>) -> Payload {
    let Some(found) = found else {
        return Bytes::from_static(&[0]).into();
    };
    let mut head = BytesMut::with_capacity(14);
    head.put_u8(1);
    head.put_u8(origin_code(found.origin));
    head.put_u64_le(ttl_code(found.ttl));
    head.put_u32_le(near_code(found.near));
    Payload::new(head.freeze(), found.value)
}

/// Reads the answer to a [`Get`]. The value shares the frame's memory.
pub(crate) fn decode_found(bytes: &Bytes) -> Result<Option<Found>, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        0 => reader.finish().map(|()| None),
        1 => {
            let origin = origin_of(reader.u8()?)?;
            let ttl = ttl_of(reader.u64()?);
            let near = near_of(reader.u32()?);
            let value = bytes.slice(bytes.len() - reader.remaining()..);
            Ok(Some(Found { value, ttl, origin, near }))
        }
        _ => Err(DecodeError::UnknownValue("state")),
    }
}

/// Lays out the answer to a [`Get`] from memory, of which there is none without a value.
pub(crate) fn encode_peeked(found: Option<Found>) -> Payload {
    match found {
        None => Bytes::from_static(&[NOT_CACHED]).into(),
        found => encode_found(found),
    }
}

pub(crate) fn decode_peeked(bytes: &Bytes) -> Result<Option<Found>, DecodeError> {
    if bytes[..] == [NOT_CACHED] { Ok(None) } else { decode_found(bytes) }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GetMany<'a> {
    pub(crate) fingerprint: u64,
    pub(crate) epochs: u64,
    pub(crate) role: Role,
    pub(crate) keyspace: &'a str,
    pub(crate) keys: Vec<&'a str>,
}

impl<'a> GetMany<'a> {
    pub(crate) fn encode(&self) -> Payload {
        let mut out = BytesMut::with_capacity(24 + self.keyspace.len() + keys_len(&self.keys));
        out.put_u64_le(self.fingerprint);
        out.put_u64_le(self.epochs);
        out.put_u8(self.role.code());
        put_short_text(&mut out, self.keyspace);
        put_keys(&mut out, &self.keys);
        out.freeze().into()
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (fingerprint, epochs, role) = (reader.u64()?, reader.u64()?, Role::of(reader.u8()?)?);
        let keyspace = reader.short_text()?;
        let keys = take_keys(&mut reader)?;
        reader.finish()?;
        Ok(Self { fingerprint, epochs, role, keyspace, keys })
    }
}

/// Lays out the answers to a [`GetMany`], in the order of its keys. Values that would take the frame beyond `max_bytes`
/// are left out, each with a word to ask for it alone.
pub(crate) fn encode_answers(answers: &[Answer], max_bytes: usize) -> Payload {
    let mut out = BytesMut::new();
    put_count(&mut out, answers.len());
    // Each answer that is left out takes one byte, so what remains is kept free for them.
    let mut left = answers.len();
    for answer in answers {
        left -= 1;
        let room = max_bytes.saturating_sub(out.len() + left);
        match answer {
            Answer::Missing => out.put_u8(0),
            Answer::Found(found) if found.value.len() + 18 <= room => {
                out.put_u8(1);
                out.put_u8(origin_code(found.origin));
                out.put_u64_le(ttl_code(found.ttl));
                out.put_u32_le(near_code(found.near));
                put_long_bytes(&mut out, &found.value);
            }
            Answer::Failed(error) if error.message.len() + 7 <= room => {
                out.put_u8(2);
                put_error(&mut out, error);
            }
            Answer::Found(_) | Answer::Failed(_) | Answer::Alone => out.put_u8(3),
        }
    }
    out.freeze().into()
}

pub(crate) fn decode_answers(bytes: &Bytes) -> Result<Vec<Answer>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(1)?;
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        answers.push(match reader.u8()? {
            0 => Answer::Missing,
            1 => {
                let origin = origin_of(reader.u8()?)?;
                let ttl = ttl_of(reader.u64()?);
                let near = near_of(reader.u32()?);
                let value = bytes.slice_ref(reader.long_bytes()?);
                Answer::Found(Found { value, ttl, origin, near })
            }
            2 => Answer::Failed(take_error(&mut reader)?),
            3 => Answer::Alone,
            _ => return Err(DecodeError::UnknownValue("answer")),
        });
    }
    reader.finish()?;
    Ok(answers)
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WriteMode {
    /// Once the owners of its keys have taken it. No read at the writer is given a value from before it from then on; other nodes
    /// hear of it a message later.
    #[default]
    Owner,
    /// Once every node has: no read anywhere is given a value from before it from then on. It takes a round trip more, and as long as
    /// the slowest node, for which it waits for [`near_ttl`](crate::ClusterConfig::near_ttl), but at least a second.
    Strict,
}

impl WriteMode {
    const fn code(self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::Strict => 1,
        }
    }

    const fn of(code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Owner),
            1 => Ok(Self::Strict),
            _ => Err(DecodeError::UnknownValue("mode")),
        }
    }
}

/// Lays out a put. `hops` counts the peers the request has crossed already.
pub(crate) fn encode_put(hops: u8, mode: WriteMode, keyspace: &str, entries: &[PutEntry]) -> Payload {
    let values: usize = entries.iter().map(put_len).sum();
    let mut out = BytesMut::with_capacity(7 + keyspace.len() + values);
    out.put_u8(hops);
    out.put_u8(mode.code());
    put_short_text(&mut out, keyspace);
    put_count(&mut out, entries.len());
    for entry in entries {
        put_long_bytes(&mut out, entry.key.as_bytes());
        out.put_u64_le(ttl_code(entry.ttl));
        put_long_bytes(&mut out, &entry.value);
    }
    out.freeze().into()
}

/// Lays out values that the receiver is to take over, read when this node's log had come to `end`, and it had heard of these `epochs`.
pub(crate) fn encode_adopt(end: Position, epochs: u64, keyspace: &str, entries: &[PutEntry]) -> Payload {
    let put = encode_put(0, WriteMode::Owner, keyspace, entries);
    debug_assert!(put.tail.is_empty(), "a put is laid out in one piece");
    Payload::new(Bytes::copy_from_slice([end.0, epochs].map(u64::to_le_bytes).as_flattened()), put.head)
}

pub(crate) fn decode_adopt(bytes: &Bytes) -> Result<(Position, u64, Put<'_>), DecodeError> {
    let mut reader = Reader::new(bytes);
    let (end, epochs) = (Position(reader.u64()?), reader.u64()?);
    Ok((end, epochs, Put::decode_from(bytes, 2 * size_of::<u64>())?))
}

/// The bytes one entry takes in a put.
pub(crate) fn put_len(entry: &PutEntry) -> usize {
    16 + entry.key.len() + entry.value.len()
}

/// The bytes one key takes in a batch.
pub(crate) const fn key_len(key: &str) -> usize {
    4 + key.len()
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Put<'a> {
    pub(crate) hops: u8,
    pub(crate) mode: WriteMode,
    pub(crate) keyspace: &'a str,
    pub(crate) entries: Vec<PutEntry>,
}

impl<'a> Put<'a> {
    /// Reads a put. The values share the frame's memory until the store copies them out.
    pub(crate) fn decode(bytes: &'a Bytes) -> Result<Self, DecodeError> {
        Self::decode_from(bytes, 0)
    }

    /// As [`decode`](Self::decode), of what follows the first `skipped` bytes.
    fn decode_from(bytes: &'a Bytes, skipped: usize) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes.get(skipped..).ok_or(DecodeError::Truncated)?);
        let (hops, mode) = (reader.u8()?, WriteMode::of(reader.u8()?)?);
        let keyspace = reader.short_text()?;
        let count = reader.count(16)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let key = reader.long_text()?.into();
            let ttl = ttl_of(reader.u64()?);
            let value = bytes.slice_ref(reader.long_bytes()?);
            entries.push(PutEntry { key, value, ttl });
        }
        reader.finish()?;
        Ok(Self { hops, mode, keyspace, entries })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delete<'a> {
    pub(crate) hops: u8,
    pub(crate) mode: WriteMode,
    pub(crate) keyspace: &'a str,
    pub(crate) keys: Vec<&'a str>,
}

impl<'a> Delete<'a> {
    pub(crate) fn encode(&self) -> Payload {
        let mut out = BytesMut::with_capacity(7 + self.keyspace.len() + keys_len(&self.keys));
        out.put_u8(self.hops);
        out.put_u8(self.mode.code());
        put_short_text(&mut out, self.keyspace);
        put_keys(&mut out, &self.keys);
        out.freeze().into()
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (hops, mode) = (reader.u8()?, WriteMode::of(reader.u8()?)?);
        let keyspace = reader.short_text()?;
        let keys = take_keys(&mut reader)?;
        reader.finish()?;
        Ok(Self { hops, mode, keyspace, keys })
    }
}

/// Lays out who has not acknowledged.
pub(crate) fn encode_pending(pending: &[NodeName]) -> Payload {
    let mut out = BytesMut::new();
    put_pending(&mut out, pending);
    out.freeze().into()
}

pub(crate) fn decode_pending(bytes: &[u8]) -> Result<Vec<NodeName>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let pending = take_pending(&mut reader)?;
    reader.finish()?;
    Ok(pending)
}

fn put_pending(out: &mut BytesMut, pending: &[NodeName]) {
    put_count(out, pending.len());
    for name in pending {
        put_short_text(out, name.as_str());
    }
}

fn take_pending(reader: &mut Reader<'_>) -> Result<Vec<NodeName>, DecodeError> {
    let count = reader.count(2)?;
    let name = |_| NodeName::new(reader.short_text()?).map_err(|_| DecodeError::OutOfRange("name"));
    (0..count).map(name).collect()
}

pub(crate) fn encode_written(results: &[Result<(), RemoteError>], pending: &[NodeName]) -> Payload {
    let mut out = BytesMut::new();
    put_count(&mut out, results.len());
    for result in results {
        match result {
            Ok(()) => out.put_u16_le(0),
            Err(error) => put_error(&mut out, error),
        }
    }
    put_pending(&mut out, pending);
    out.freeze().into()
}

/// What became of each entry of a put, and who has not acknowledged.
pub(crate) type Written = (Vec<Result<(), RemoteError>>, Vec<NodeName>);

pub(crate) fn decode_written(bytes: &[u8]) -> Result<Written, DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(2)?;
    let mut results = Vec::with_capacity(count);
    for _ in 0..count {
        let mut peek = reader.clone();
        results.push(if peek.u16()? == 0 {
            reader = peek;
            Ok(())
        } else {
            Err(take_error(&mut reader)?)
        });
    }
    let pending = take_pending(&mut reader)?;
    reader.finish()?;
    Ok((results, pending))
}

pub(crate) fn encode_invalidations(batch: &[Invalidation]) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + batch.iter().map(invalidation_len).sum::<usize>());
    put_count(&mut out, batch.len());
    for invalidation in batch {
        let (kind, keyspace) = match invalidation {
            Invalidation::Key { keyspace, .. } => (1, keyspace),
            Invalidation::Epoch(mark) => (4, &mark.keyspace),
        };
        out.put_u8(kind);
        put_short_text(&mut out, keyspace);
        match invalidation {
            Invalidation::Key { key, .. } => put_long_bytes(&mut out, key.as_bytes()),
            Invalidation::Epoch(mark) => put_stamps(&mut out, mark),
        }
    }
    out.freeze()
}

pub(crate) fn decode_invalidations(bytes: &[u8]) -> Result<Vec<Invalidation>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(2)?;
    let mut batch = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = reader.u8()?;
        let keyspace = reader.short_text()?.into();
        batch.push(match kind {
            1 => Invalidation::Key { keyspace, key: reader.long_text()?.into() },
            4 => Invalidation::Epoch(take_stamps(&mut reader, keyspace)?),
            _ => return Err(DecodeError::UnknownValue("invalidation")),
        });
    }
    reader.finish()?;
    Ok(batch)
}

/// Lays out what the new owner of keys is told. `is_incomplete` says that there may have been more.
pub(crate) fn encode_catch_up(is_incomplete: bool, batch: &[Invalidation]) -> Payload {
    Payload::new(Bytes::copy_from_slice(&[u8::from(is_incomplete)]), encode_invalidations(batch))
}

pub(crate) fn decode_catch_up(bytes: &[u8]) -> Result<(bool, Vec<Invalidation>), DecodeError> {
    match bytes.split_first() {
        Some((flag @ (0 | 1), batch)) => Ok((*flag == 1, decode_invalidations(batch)?)),
        Some(_) => Err(DecodeError::UnknownValue("flag")),
        None => Err(DecodeError::Truncated),
    }
}

/// The bytes one invalidation takes in a batch.
pub(crate) fn invalidation_len(invalidation: &Invalidation) -> usize {
    2 + match invalidation {
        Invalidation::Key { keyspace, key } => keyspace.len() + key_len(key),
        Invalidation::Epoch(mark) => mark.keyspace.len() + STAMPS_BYTES,
    }
}

pub(crate) fn encode_keyspaces(names: &[Arc<str>]) -> Payload {
    let mut out = BytesMut::with_capacity(4 + names.iter().map(|name| 1 + name.len()).sum::<usize>());
    put_count(&mut out, names.len());
    names.iter().for_each(|name| put_short_text(&mut out, name));
    out.freeze().into()
}

pub(crate) fn decode_keyspaces(bytes: &[u8]) -> Result<Vec<Arc<str>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(1)?;
    let names = (0..count).map(|_| Ok(reader.short_text()?.into())).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(names)
}

pub(crate) fn encode_told(told: &Told) -> Payload {
    let marks = told.marks.iter().map(|mark| 1 + mark.keyspace.len() + STAMPS_BYTES);
    let mut out = BytesMut::with_capacity(28 + marks.sum::<usize>());
    out.put_u64_le(told.origin.0);
    out.put_u64_le(told.ordinal);
    out.put_u64_le(told.forgot);
    put_count(&mut out, told.marks.len());
    for mark in &told.marks {
        put_short_text(&mut out, &mark.keyspace);
        put_stamps(&mut out, mark);
    }
    out.freeze().into()
}

pub(crate) fn decode_told(bytes: &[u8]) -> Result<Told, DecodeError> {
    let mut reader = Reader::new(bytes);
    let (origin, ordinal, forgot) = (EpochOrigin(reader.u64()?), reader.u64()?, reader.u64()?);
    let count = reader.count(1 + STAMPS_BYTES)?;
    let mut marks = Vec::with_capacity(count);
    for _ in 0..count {
        let keyspace = reader.short_text()?.into();
        marks.push(take_stamps(&mut reader, keyspace)?);
    }
    reader.finish()?;
    Ok(Told { origin, ordinal, forgot, marks })
}

fn put_stamps(out: &mut BytesMut, mark: &Mark) {
    out.put_u64_le(mark.origin.0);
    out.put_u64_le(mark.cleared);
    out.put_u64_le(mark.deleted);
    out.put_u64_le(u64::try_from(mark.age.as_millis()).unwrap_or(u64::MAX));
}

/// A stamp from which there would be no way up would silence its keyspace for good.
fn take_stamps(reader: &mut Reader<'_>, keyspace: Arc<str>) -> Result<Mark, DecodeError> {
    let (origin, cleared, deleted) = (EpochOrigin(reader.u64()?), reader.u64()?, reader.u64()?);
    if cleared.max(deleted) > MAX_STAMP {
        return Err(DecodeError::OutOfRange("stamp"));
    }
    Ok(Mark { keyspace, origin, cleared, deleted, age: Duration::from_millis(reader.u64()?) })
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32_le(u32::try_from(count).expect("a batch is held far below the frame limit"));
}

fn put_keys(out: &mut BytesMut, keys: &[&str]) {
    put_count(out, keys.len());
    for key in keys {
        put_long_bytes(out, key.as_bytes());
    }
}

fn take_keys<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a str>, DecodeError> {
    let count = reader.count(4)?;
    (0..count).map(|_| reader.long_text()).collect()
}

fn keys_len(keys: &[&str]) -> usize {
    4 + keys.iter().map(|key| key_len(key)).sum::<usize>()
}

fn put_error(out: &mut BytesMut, error: &RemoteError) {
    out.put_u16_le(error.code.0);
    put_long_bytes(out, error.message.as_bytes());
}

fn take_error(reader: &mut Reader<'_>) -> Result<RemoteError, DecodeError> {
    let code = ErrorCode(reader.u16()?);
    Ok(RemoteError::new(code, reader.long_text()?))
}

const fn origin_code(origin: Origin) -> u8 {
    match origin {
        Origin::Cache => 0,
        Origin::Source => 1,
    }
}

const fn origin_of(code: u8) -> Result<Origin, DecodeError> {
    match code {
        0 => Ok(Origin::Cache),
        1 => Ok(Origin::Source),
        _ => Err(DecodeError::UnknownValue("origin")),
    }
}

fn ttl_code(ttl: Option<Duration>) -> u64 {
    ttl.map_or(NO_TTL, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(NO_TTL))
}

const fn ttl_of(code: u64) -> Option<Duration> {
    if code == NO_TTL { None } else { Some(Duration::from_millis(code)) }
}

fn near_code(near: Duration) -> u32 {
    u32::try_from(near.as_millis()).unwrap_or(u32::MAX)
}

const fn near_of(code: u32) -> Duration {
    Duration::from_millis(code as u64)
}

const NO_TTL: u64 = u64::MAX;

/// The digest of a request that is to be answered whatever the receiver has heard of.
pub(crate) const ANY_EPOCHS: u64 = u64::MAX;
const STAMPS_BYTES: usize = 32;
/// No cluster clears keyspaces that often.
const MAX_STAMP: u64 = 1 << 62;

/// The state of a value that is not in memory.
const NOT_CACHED: u8 = 2;

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
