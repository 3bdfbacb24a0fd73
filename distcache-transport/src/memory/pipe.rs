//! One direction of a stream in memory: bytes that take a while to arrive.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep, sleep_until},
};

/// Makes the two ends of a direction that holds that many bytes, arrived or on their way.
pub(super) fn pipe(capacity: usize) -> (Sender, Receiver) {
    let shared = Arc::new(Mutex::new(Shared::default()));
    (Sender { shared: Arc::clone(&shared), capacity }, Receiver { shared, arrival: None })
}

#[derive(Debug, Default)]
struct Shared {
    /// What was written, and when it is there.
    segments: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Nothing will be written any more.
    is_finished: bool,
    /// Nobody will read any more.
    is_deaf: bool,
}

/// The end that writes; its drop is the end of the stream.
#[derive(Debug)]
pub(super) struct Sender {
    shared: Arc<Mutex<Shared>>,
    capacity: usize,
}

impl Sender {
    /// Takes as many bytes as there is room for; they arrive after `delay`, and not before what was written earlier.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8], delay: Duration) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.shared);
        if shared.is_deaf || shared.is_finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let count = bytes.len().min(self.capacity - shared.bytes);
        if count == 0 {
            shared.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let now = Instant::now();
        let earlier = shared.segments.back().map_or(now, |(at, _)| *at);
        shared.segments.push_back(((now + delay).max(earlier), Bytes::copy_from_slice(&bytes[..count])));
        shared.bytes += count;
        wake(&mut shared.reader);
        Poll::Ready(Ok(count))
    }

    pub(super) fn finish(&self) {
        let mut shared = lock(&self.shared);
        shared.is_finished = true;
        wake(&mut shared.reader);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The end that reads.
#[derive(Debug)]
pub(super) struct Receiver {
    shared: Arc<Mutex<Shared>>,
    /// Wakes the reader when the next bytes are there.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl Receiver {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.shared);
        let Some((at, _)) = shared.segments.front() else {
            if shared.is_finished {
                return Poll::Ready(Ok(()));
            }
            shared.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let at = *at;
        if at > Instant::now() {
            let arrival = self.arrival.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if arrival.deadline() != at {
                arrival.as_mut().reset(at);
            }
            if arrival.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let (before, now) = (buf.remaining(), Instant::now());
        while buf.remaining() > 0
            && let Some((at, segment)) = shared.segments.front_mut()
            && *at <= now
        {
            let count = segment.len().min(buf.remaining());
            buf.put_slice(&segment[..count]);
            segment.advance(count);
            if segment.is_empty() {
                shared.segments.pop_front();
            }
        }
        shared.bytes -= before - buf.remaining();
        wake(&mut shared.writer);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.is_deaf = true;
        wake(&mut shared.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
