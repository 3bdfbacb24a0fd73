//! The queue between those who send frames and the one that writes them.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::Notify;

use crate::{
    config::BATCH_BYTES,
    frame::{Header, Kind, Outgoing},
    payload::Payload,
    room::Room,
};

/// Holds the frames that are to be written: small control frames first, then the rest in order, then one large frame at a time.
///
/// Nothing here grows with what a peer sends: pings, pongs and acknowledgements are one number each, cancels and requests are bounded
/// by the calls in flight, notices by a queue limit, events by what the peer has not acknowledged, and responses by [`room`](Self::room), on which the reader and requests that have not
/// started wait. Answers of requests that run already find room for as many bytes again, and then none.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    drained: Notify,
    /// With more frames than this queued, there is no room.
    capacity: usize,
    /// Nor with more bytes.
    max_bytes: usize,
    /// Bytes of the frames queued, changed under the lock and read without it.
    bytes: AtomicUsize,
    /// What is queued or being written, beside that of a server's other connections.
    room: Option<Room>,
}

#[derive(Debug, Default)]
struct Queue {
    pong: Option<u64>,
    ping: bool,
    ack: Option<u64>,
    go_away: bool,
    cancels: VecDeque<u64>,
    frames: VecDeque<Outgoing>,
    /// Requests and answers that are so large that others must not wait for several of them.
    large: VecDeque<Outgoing>,
    notices: usize,
    notice_bytes: usize,
    /// What the batch that is being written holds of the room.
    writing: usize,
    /// How many frames there were when some were last taken.
    last_batch: usize,
    end: End,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// What is queued is still written.
    Finishing,
    Closed,
}

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unqueued {
    Full,
    /// The connection has room, and the node has not.
    NodeFull,
    Ended,
}

impl Outbox {
    pub(crate) fn new(capacity: usize) -> Self {
        let (filled, drained, bytes) = (Notify::new(), Notify::new(), AtomicUsize::new(0));
        Self { queue: Mutex::default(), filled, drained, capacity, max_bytes: usize::MAX, bytes, room: None }
    }

    /// Bounds what is queued in bytes, too.
    pub(crate) fn with_max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Shares a server's room with its other connections.
    pub(crate) fn with_room(self, room: Room) -> Self {
        Self { room: Some(room), ..self }
    }

    /// Queues a request, an answer or an event, whose number others bound.
    pub(crate) fn push(&self, frame: Outgoing) -> Result<(), Unqueued> {
        self.with_open(|queue| {
            self.hold(&frame);
            self.enqueue(queue, frame);
        })
    }

    /// Queues an answer, or gives it back if there is no room for its bytes.
    pub(crate) fn push_answer(&self, frame: Outgoing) -> Result<(), (Unqueued, Outgoing)> {
        let mut frame = Some(frame);
        let pushed = self.with_open(|queue| {
            let queued = self.bytes.load(Ordering::Relaxed);
            // The first one always fits, whatever the limit.
            if queued > 0 && queued >= self.max_bytes.saturating_mul(ROOM_FOR_RUNNING) {
                return Err(Unqueued::Full);
            }
            let cost = frame.as_ref().map_or(0, Outgoing::cost);
            if self.room.as_ref().is_some_and(|room| !room.try_hold(cost)) {
                return Err(Unqueued::NodeFull);
            }
            frame.take().into_iter().for_each(|frame| self.enqueue(queue, frame));
            Ok(())
        });
        match (pushed.flatten(), frame) {
            (Err(unqueued), Some(frame)) => Err((unqueued, frame)),
            _ => Ok(()),
        }
    }

    fn hold(&self, frame: &Outgoing) {
        if let Some(room) = &self.room {
            room.hold(frame.cost());
        }
    }

    fn enqueue(&self, queue: &mut Queue, frame: Outgoing) {
        self.bytes.fetch_add(frame.bytes(), Ordering::Relaxed);
        // Notices and events keep their order, whatever their size.
        let is_ordered = matches!(frame.header.kind, Kind::Notice | Kind::Event | Kind::Lost);
        let is_large = frame.payload.len() > LARGE && !is_ordered;
        if is_large { &mut queue.large } else { &mut queue.frames }.push_back(frame);
    }

    /// Queues a notice, if fewer are waiting than may.
    pub(crate) fn push_notice(&self, frame: Outgoing) -> Result<(), Unqueued> {
        self.with_open(|queue| {
            if queue.notices >= MAX_NOTICES || queue.notice_bytes >= MAX_NOTICE_BYTES {
                return Err(Unqueued::Full);
            }
            queue.notices += 1;
            queue.notice_bytes += frame.payload.len();
            self.hold(&frame);
            self.enqueue(queue, frame);
            Ok(())
        })?
    }

    /// Takes a request back, or tells the peer if it is too late for that.
    pub(crate) fn cancel(&self, id: u64) {
        let take = |frames: &mut VecDeque<Outgoing>| {
            let at = frames.iter().position(|frame| frame.is_request(id))?;
            frames.remove(at)
        };
        let _ = self.with_open(|queue| match take(&mut queue.frames).or_else(|| take(&mut queue.large)) {
            Some(frame) => {
                self.bytes.fetch_sub(frame.bytes(), Ordering::Relaxed);
                self.give_back(frame.cost());
            }
            None => queue.cancels.push_back(id),
        });
    }

    pub(crate) fn ping(&self) {
        let _ = self.with_open(|queue| queue.ping = true);
    }

    /// Acknowledges; a later position says what an earlier one did.
    pub(crate) fn ack(&self, position: u64) {
        let _ = self.with_open(|queue| queue.ack = Some(position));
    }

    pub(crate) fn pong(&self, id: u64) {
        let _ = self.with_open(|queue| queue.pong = Some(id));
    }

    pub(crate) fn go_away(&self) {
        let _ = self.with_open(|queue| queue.go_away = true);
    }

    /// Takes no more; the writer writes what is there and ends.
    pub(crate) fn finish(&self) {
        let _ = self.with_open(|queue| queue.end = End::Finishing);
    }

    /// Takes no more and forgets the rest. Returns the requests that were never written.
    pub(crate) fn close(&self) -> Vec<u64> {
        let mut queue = self.lock();
        let (frames, large) = (std::mem::take(&mut queue.frames), std::mem::take(&mut queue.large));
        let queued: usize = frames.iter().chain(&large).map(Outgoing::cost).sum();
        self.give_back(std::mem::take(&mut queue.writing) + queued);
        queue.end = End::Closed;
        self.bytes.store(0, Ordering::Relaxed);
        drop(queue);
        self.filled.notify_one();
        frames.into_iter().chain(large).filter(Outgoing::is_any_request).map(|frame| frame.header.id).collect()
    }

    /// Waits until the queue is short enough for the reader to cause more answers. Says whether it had to.
    pub(crate) async fn room(&self) -> bool {
        let mut waited = false;
        loop {
            // Made before the look, so that a drain in between is not missed.
            let drained = self.drained.notified();
            if self.has_room_for_bytes() && self.lock().len() <= self.capacity {
                return waited;
            }
            waited = true;
            drained.await;
        }
    }

    /// Tells whether few enough bytes wait for more requests to be started.
    pub(crate) fn has_room_for_bytes(&self) -> bool {
        let is_short = || self.room.as_ref().is_some_and(Room::is_short);
        self.bytes.load(Ordering::Relaxed) < self.max_bytes && !is_short()
    }

    /// Waits for frames and moves some into the batch. Returns `false` when there will be no more.
    ///
    /// Whoever queues the first frame wakes the writer at once, ahead of tasks that are about to queue theirs. So where the last
    /// batch was much larger than what is there, those have their turn first, once: many small frames share one system call.
    pub(crate) async fn fill(&self, batch: &mut Batch) -> bool {
        let mut gave_way = false;
        self.batch_is_written();
        loop {
            if !gave_way && self.lock().expects_more() {
                gave_way = true;
                tokio::task::yield_now().await;
            }
            {
                let mut queue = self.lock();
                let taken = queue.drain_into(batch);
                self.bytes.fetch_sub(taken, Ordering::Relaxed);
                if !batch.is_empty() {
                    drop(queue);
                    self.drained.notify_waiters();
                    return true;
                }
                if queue.end != End::Open {
                    return false;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Gives back what the last batch held: it is written by now.
    fn batch_is_written(&self) {
        if self.room.is_some() {
            let mut queue = self.lock();
            self.give_back(std::mem::take(&mut queue.writing));
            drop(queue);
            self.drained.notify_waiters();
        }
    }

    /// Under the queue's lock, as all that changes the room is.
    fn give_back(&self, cost: usize) {
        if let Some(room) = &self.room {
            room.give_back(cost);
        }
    }

    fn with_open<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> Result<T, Unqueued> {
        let mut queue = self.lock();
        if queue.end != End::Open {
            return Err(Unqueued::Ended);
        }
        let result = change(&mut queue);
        drop(queue);
        self.filled.notify_one();
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn len(&self) -> usize {
        self.frames.len() + self.large.len()
    }

    fn expects_more(&self) -> bool {
        let queued = self.len();
        self.end == End::Open && queued > 0 && queued <= self.last_batch / 2
    }

    /// Returns how many bytes of queued frames were moved.
    fn drain_into(&mut self, batch: &mut Batch) -> usize {
        let mut control = |header| batch.add(Outgoing { header, payload: Payload::default() });
        if let Some(id) = self.pong.take() {
            control(Header::new(Kind::Pong, id));
        }
        if std::mem::take(&mut self.ping) {
            control(Header::new(Kind::Ping, 0));
        }
        if let Some(position) = self.ack.take() {
            control(Header::new(Kind::Ack, position));
        }
        if std::mem::take(&mut self.go_away) {
            control(Header::new(Kind::GoAway, 0));
        }
        for id in self.cancels.drain(..) {
            control(Header::new(Kind::Cancel, id));
        }
        let queued = self.len();
        let mut taken = 0;
        while !batch.is_full()
            && let Some(frame) = self.frames.pop_front()
        {
            if frame.header.kind == Kind::Notice {
                self.notices -= 1;
                self.notice_bytes -= frame.payload.len();
            }
            taken += frame.bytes();
            self.writing += frame.cost();
            batch.add(frame);
        }
        // One at a time and after the small ones, so that these never wait for more than one.
        if let Some(frame) = self.large.pop_front() {
            taken += frame.bytes();
            self.writing += frame.cost();
            batch.add(frame);
        }
        if queued > 0 {
            self.last_batch = queued;
        }
        batch.seal();
        taken
    }
}

impl Outgoing {
    fn bytes(&self) -> usize {
        crate::frame::HEADER_BYTES + self.payload.len()
    }

    /// What it takes of the node's room.
    fn cost(&self) -> usize {
        FRAME_COST + self.payload.len()
    }

    fn is_any_request(&self) -> bool {
        self.header.kind == Kind::Request
    }

    fn is_request(&self, id: u64) -> bool {
        self.is_any_request() && self.header.id == id
    }
}

/// Frames laid out for one vectored write: small ones back to back, large payloads as they are.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    scratch: BytesMut,
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, frame: Outgoing) {
        let Outgoing { header, payload } = frame;
        self.bytes += crate::frame::HEADER_BYTES + payload.len();
        header.encode(payload.len(), &mut self.scratch);
        for part in [payload.head, payload.tail] {
            if part.len() > COPY_BELOW {
                self.seal();
                self.parts.push_back(part);
            } else {
                self.scratch.extend_from_slice(&part);
            }
        }
    }

    fn seal(&mut self) {
        if !self.scratch.is_empty() {
            self.parts.push_back(self.scratch.split().freeze());
        }
    }

    const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.parts.len() >= BATCH_PARTS
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.parts);
        pairs.map(|(slice, part)| *slice = std::io::IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while count > 0
            && let Some(part) = self.parts.front_mut()
        {
            let step = count.min(part.len());
            part.advance(step);
            count -= step;
            if part.is_empty() {
                self.parts.pop_front();
            }
        }
    }
}

/// A place in the queue, which doubles, and a small payload's allocation.
const FRAME_COST: usize = 256;

/// Copying this much is cheaper than one more slice in a system call.
const COPY_BELOW: usize = 4 * 1024;

/// As many slices as tokio hands to one vectored write.
const BATCH_PARTS: usize = 64;

/// Answers that are there when the limit is reached, and those of requests that run then, share this many times the limit.
const ROOM_FOR_RUNNING: usize = 2;

/// What takes the network longer to carry than a small frame may wait several times over.
const LARGE: usize = 64 * 1024;

/// Gossip for a thousand peers; beyond that the peer is stuck and the oldest news is worth nothing.
const MAX_NOTICES: usize = 1024;

/// Keeps large notices from holding more memory than many small ones.
const MAX_NOTICE_BYTES: usize = 4 << 20;

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
