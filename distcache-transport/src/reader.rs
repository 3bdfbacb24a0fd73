//! Takes frames off a stream, with memory that follows what has arrived and not what was announced.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout},
};

use crate::{
    config::READ_BUFFER_BYTES,
    frame::{FrameError, HEADER_BYTES, Header, Incoming},
};

/// Reads frames one after the other.
///
/// A small payload is copied out of the read buffer, so that a value kept by the layer above holds its own bytes and no more. A
/// large one is read into a buffer of its own, which grows to at most four times what has arrived and ends at its exact size.
#[derive(Debug)]
pub(crate) struct FrameReader<'a, R> {
    io: R,
    buffer: Box<[u8]>,
    /// Reads in a row that a small buffer would have done for.
    small_reads: u32,
    start: usize,
    end: usize,
    /// The large payload that is arriving.
    partial: BytesMut,
    /// When bytes came last.
    arrived: Instant,
    max_payload: usize,
    pace: Pace,
    activity: &'a Activity,
}

/// How fast a frame must arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) grace: Duration,
    /// In bytes a second.
    pub(crate) rate: usize,
}

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    Frame(FrameError),
}

impl<'a, R: AsyncRead + Unpin> FrameReader<'a, R> {
    pub(crate) fn new(io: R, max_payload: usize, pace: Pace, activity: &'a Activity) -> Self {
        let buffer = vec![0; IDLE_BYTES].into_boxed_slice();
        Self {
            io,
            buffer,
            small_reads: 0,
            start: 0,
            end: 0,
            partial: BytesMut::new(),
            arrived: activity.opened,
            max_payload,
            pace,
            activity,
        }
    }

    /// Waits for the next frame, or returns `None` when the peer ended the stream between two.
    pub(crate) async fn next(&mut self) -> Result<Option<Incoming>, ReadError> {
        if self.start == self.end && self.fill().await? == 0 {
            return Ok(None);
        }
        let header: [u8; HEADER_BYTES] = self.header().await?;
        let (header, length) = Header::decode(&header, self.max_payload).map_err(ReadError::Frame)?;
        self.start += HEADER_BYTES;
        let payload = if self.end - self.start >= length {
            self.take(length)
        } else {
            let slow = || ReadError::Frame(FrameError::TooSlow { bytes: length });
            timeout(self.pace.allowance(length), self.payload(length)).await.map_err(|_| slow())??
        };
        Ok(Some(Incoming { header, payload, arrived: self.arrived }))
    }

    async fn header(&mut self) -> Result<[u8; HEADER_BYTES], ReadError> {
        if self.end - self.start < HEADER_BYTES {
            let slow = || ReadError::Frame(FrameError::TooSlow { bytes: HEADER_BYTES });
            timeout(self.pace.grace, self.fill_to(HEADER_BYTES)).await.map_err(|_| slow())??;
        }
        let header = self.buffer[self.start..self.end].first_chunk();
        Ok(*header.expect("a header's worth of bytes was just read"))
    }

    async fn payload(&mut self, length: usize) -> Result<Bytes, ReadError> {
        if length <= COPY_UP_TO {
            self.fill_to(length).await?;
            return Ok(self.take(length));
        }
        self.partial = BytesMut::with_capacity(length.min(GROWTH_STEP));
        self.partial.put_slice(&self.buffer[self.start..self.end]);
        (self.start, self.end) = (0, 0);
        while self.partial.len() < length {
            if self.partial.len() == self.partial.capacity() {
                let larger = length.min(self.partial.capacity().saturating_mul(GROWTH));
                let arrived = std::mem::replace(&mut self.partial, BytesMut::with_capacity(larger));
                self.partial.put_slice(&arrived);
            }
            // Not a byte of the next frame, and no growth behind our back.
            let space = self.partial.capacity().min(length) - self.partial.len();
            let read = self.io.read_buf(&mut (&mut self.partial).limit(space)).await;
            self.check_arrived(read.map_err(ReadError::Io)?)?;
        }
        Ok(std::mem::take(&mut self.partial).freeze())
    }

    fn take(&mut self, length: usize) -> Bytes {
        let payload = Bytes::copy_from_slice(&self.buffer[self.start..self.start + length]);
        self.start += length;
        payload
    }

    /// Reads until that many bytes are buffered. No such number is larger than a busy buffer, and one that is full becomes that.
    async fn fill_to(&mut self, count: usize) -> Result<(), ReadError> {
        while self.end - self.start < count {
            let read = self.fill().await?;
            self.check_arrived(read)?;
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<usize, ReadError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let read = self.io.read(&mut self.buffer[self.end..]).await.map_err(ReadError::Io)?;
        self.end += read;
        self.arrived = self.activity.touch();
        self.adapt(read);
        Ok(read)
    }

    /// Makes the buffer large for a peer that sends much, and small for one that is idle.
    fn adapt(&mut self, read: usize) {
        self.small_reads = if read < IDLE_BYTES { self.small_reads + 1 } else { 0 };
        if self.end == self.buffer.len() && self.buffer.len() < READ_BUFFER_BYTES {
            self.resize(READ_BUFFER_BYTES);
        } else if self.buffer.len() > IDLE_BYTES && self.small_reads > IDLE_AFTER && self.end <= IDLE_BYTES {
            self.resize(IDLE_BYTES);
        }
    }

    fn resize(&mut self, bytes: usize) {
        let mut buffer = vec![0; bytes].into_boxed_slice();
        buffer[..self.end].copy_from_slice(&self.buffer[..self.end]);
        self.buffer = buffer;
        self.small_reads = 0;
    }

    fn check_arrived(&mut self, bytes: usize) -> Result<(), ReadError> {
        if bytes == 0 {
            return Err(ReadError::Frame(FrameError::Truncated));
        }
        self.arrived = self.activity.touch();
        Ok(())
    }
}

/// Remembers when the peer was last heard.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    last_us: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { opened: Instant::now(), last_us: AtomicU64::new(0) }
    }

    pub(crate) fn touch(&self) -> Instant {
        let now = Instant::now();
        let since = u64::try_from((now - self.opened).as_micros()).unwrap_or(u64::MAX);
        self.last_us.store(since, Ordering::Relaxed);
        now
    }

    pub(crate) fn last(&self) -> Instant {
        self.opened + Duration::from_micros(self.last_us.load(Ordering::Relaxed))
    }
}

impl Pace {
    /// How long that many bytes may take from the first to the last.
    pub(crate) fn allowance(self, length: usize) -> Duration {
        let rate = self.rate.max(1) as u64;
        self.grace.saturating_add(Duration::from_millis((length as u64).saturating_mul(1000) / rate))
    }
}

/// Enough for pings, and for a peer that asks for one key at a time.
const IDLE_BYTES: usize = 1024;

/// So many small reads in a row are no accident.
const IDLE_AFTER: u32 = 32;

/// Payloads up to this size pass through the buffer: the copy costs less than an allocation that is filled in steps.
const COPY_UP_TO: usize = 16 * 1024;

/// How many times what has arrived may be claimed for what is to come: each step copies what is there.
const GROWTH: usize = 4;

/// Memory that a header alone can claim.
const GROWTH_STEP: usize = 64 * 1024;

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
