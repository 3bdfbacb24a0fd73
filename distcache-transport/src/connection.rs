//! One connection after the handshake, the same on both sides: read, write, and notice when the peer falls silent.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt, split},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    config::TransportConfig,
    error::ConnectError,
    frame::{FrameError, Incoming, Kind},
    io::BoxStream,
    outbox::{Batch, Outbox},
    reader::{Activity, FrameReader, Pace, ReadError},
};

/// Takes the frames that are neither ping nor pong.
pub(crate) trait Receive: Sync {
    /// Waits until there is room for a request, and says whether it had to. Bytes stay in the socket meanwhile, which is what slows a
    /// peer down.
    fn ready(&self) -> impl Future<Output = bool> + Send;

    /// Tells whether this side waits for something of the peer. If not, [`begins`](Self::begins) returns once it does.
    fn is_waiting(&self) -> bool;

    /// Waits until this side waits for something, of which it told last that it does not.
    fn begins(&self) -> impl Future<Output = ()> + Send;

    /// Takes a frame, which was `held` back if there was no room for it when it arrived.
    fn receive(&self, frame: Incoming, held: bool) -> Result<(), FrameError>;
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Break {
    /// One of the two sides ended it in order.
    Closed,
    Io(io::Error),
    /// The peer sent what it must not.
    Frame(FrameError),
    /// The peer was silent for too long.
    Mute,
    /// The peer did not read for too long.
    Stalled,
}

impl From<Break> for ConnectError {
    fn from(reason: Break) -> Self {
        match reason {
            Break::Closed => Self::Lost("closed by the peer".to_owned()),
            Break::Io(error) => Self::broken(&error),
            // What a peer that is killed or a network that stalls leaves behind: it speaks the protocol, and a retry may help.
            Break::Frame(error @ (FrameError::Truncated | FrameError::TooSlow { .. })) => Self::Lost(error.to_string()),
            Break::Frame(error) => Self::BadPeer(error.to_string()),
            Break::Mute => Self::Lost("the peer fell silent".to_owned()),
            Break::Stalled => Self::Lost("the peer stopped reading".to_owned()),
        }
    }
}

/// How often a silent peer is pinged, and how long it may take to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pings {
    /// While this side waits for something.
    interval: Duration,
    /// While it does not.
    idle: Duration,
    /// From a ping to the next byte.
    answer: Duration,
}

impl Pings {
    /// Those of the side that is to find out first.
    pub(crate) fn early(config: &TransportConfig) -> Self {
        Self::new(config, config.ping_interval, config.idle_ping_interval)
    }

    /// Those of the side that mostly need not ask: what the other one hears tells it as much, so one ping a time does for both.
    pub(crate) fn late(config: &TransportConfig) -> Self {
        let later = |interval: Duration| interval.saturating_mul(3) / 2;
        // The answer must have time to come.
        let halfway = config.ping_interval.saturating_add(config.ping_timeout) / 2;
        Self::new(config, later(config.ping_interval).min(halfway), later(config.idle_ping_interval))
    }

    fn new(config: &TransportConfig, interval: Duration, idle: Duration) -> Self {
        let interval = interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        let answer = config.ping_timeout.saturating_sub(interval);
        let idle = idle.clamp(interval, LONGEST_INTERVAL);
        Self { interval, idle, answer: answer.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL) }
    }
}

/// Runs a connection until it ends. Dropping the future closes it. A silent peer is pinged.
///
/// One task does it all. The order in which `select!` polls is random on purpose: a peer that never stops sending would
/// otherwise use up the task's budget before each turn of the writer.
pub(crate) async fn drive(
    stream: BoxStream,
    outbox: &Outbox,
    receiver: &impl Receive,
    config: &TransportConfig,
    pings: Pings,
) -> Break {
    let activity = Activity::new();
    let (reader, writer) = split(stream);
    let pace = Pace { grace: config.frame_grace, rate: config.min_frame_rate };
    let reader = FrameReader::new(reader, config.max_payload_bytes, pace, &activity);
    tokio::select! {
        end = read(reader, outbox, receiver) => end,
        end = write(writer, outbox, config) => end,
        () = watch(&activity, outbox, receiver, pings) => Break::Mute,
    }
}

async fn read<R: tokio::io::AsyncRead + Unpin>(
    mut reader: FrameReader<'_, R>,
    outbox: &Outbox,
    receiver: &impl Receive,
) -> Break {
    loop {
        let frame = match reader.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Break::Closed,
            Err(ReadError::Io(error)) => return Break::Io(error),
            Err(ReadError::Frame(error)) => return Break::Frame(error),
        };
        match frame.header.kind {
            Kind::Ping => outbox.pong(frame.header.id),
            Kind::Pong => {}
            kind => {
                let held = kind == Kind::Request && receiver.ready().await;
                if let Err(error) = receiver.receive(frame, held) {
                    return Break::Frame(error);
                }
            }
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, outbox: &Outbox, config: &TransportConfig) -> Break {
    let stall = config.write_stall;
    // A peer that takes a byte now and then makes progress, and would hold what is queued for ever.
    let pace = Pace { grace: stall, rate: config.min_frame_rate };
    let mut batch = Batch::default();
    while outbox.fill(&mut batch).await {
        let allowance = pace.allowance(bytes::Buf::remaining(&batch));
        match timeout(allowance, write_batch(&mut writer, &mut batch, stall)).await {
            Ok(Ok(())) => {}
            Ok(Err(end)) => return end,
            Err(_) => return Break::Stalled,
        }
    }
    // The end of our side; the peer answers with the end of its own, which the reader sees.
    match timeout(stall, writer.shutdown()).await {
        Ok(Ok(())) => sleep(LINGER).await,
        Ok(Err(error)) => return Break::Io(error),
        Err(_) => return Break::Stalled,
    }
    Break::Closed
}

async fn write_batch<W: AsyncWrite + Unpin>(writer: &mut W, batch: &mut Batch, stall: Duration) -> Result<(), Break> {
    while bytes::Buf::has_remaining(batch) {
        let written = timeout(stall, writer.write_buf(batch)).await.map_err(|_| Break::Stalled)?;
        if written.map_err(Break::Io)? == 0 {
            return Err(Break::Io(io::ErrorKind::WriteZero.into()));
        }
    }
    timeout(stall, writer.flush()).await.map_err(|_| Break::Stalled)?.map_err(Break::Io)
}

/// Pings a silent peer, and returns once a ping has gone unanswered: any byte is an answer.
///
/// A peer for which nobody waits is pinged seldom, and its silence alone means nothing. When this side begins to wait, the silence
/// of before does not count.
async fn watch(activity: &Activity, outbox: &Outbox, receiver: &impl Receive, pings: Pings) {
    // A connection that is new has to show that it is alive.
    let mut began = Mark::now(activity);
    loop {
        // Whoever waited in vain asks, also when it has given up: else calls with short budgets would hide a dead peer.
        let is_close = receiver.is_waiting() || began.is_silent(activity);
        let due = if is_close { began.at.max(activity.last()) + pings.interval } else { activity.last() + pings.idle };
        tokio::select! {
            () = sleep_until(due) => {}
            () = receiver.begins(), if !is_close => {
                began = Mark::now(activity);
                continue;
            }
        }
        let silence = if is_close { pings.interval } else { pings.idle };
        if activity.last() + silence > Instant::now() {
            continue;
        }
        if !is_answered(activity, outbox, pings).await {
            return;
        }
    }
}

/// Pings, and says whether a byte came in time.
async fn is_answered(activity: &Activity, outbox: &Outbox, pings: Pings) -> bool {
    loop {
        let pinged = Mark::now(activity);
        outbox.ping();
        let due = pinged.at + pings.answer;
        // In steps, since the next silence begins with the answer.
        let mut step = pinged.at;
        while step < due && pinged.is_silent(activity) {
            step = due.min(step + pings.interval);
            sleep_until(step).await;
        }
        // If this process was stopped, bytes may be waiting in the socket: the reader has its turn first.
        tokio::task::yield_now().await;
        if !pinged.is_silent(activity) {
            return true;
        }
        // Whoever overslept does not know what the peer would have said meanwhile, and asks again.
        if due + pings.answer / 2 > Instant::now() {
            return false;
        }
    }
}

/// A moment, and when the peer had last been heard by then.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    heard: Instant,
}

impl Mark {
    fn now(activity: &Activity) -> Self {
        Self { at: Instant::now(), heard: activity.last() }
    }

    /// Tells whether nothing was heard since. Not by the clock, which may stand still between a question and its answer.
    fn is_silent(&self, activity: &Activity) -> bool {
        self.heard == activity.last()
    }
}

/// How long the peer may take to end its side after we have ended ours.
const LINGER: Duration = Duration::from_secs(1);

/// Keeps a configuration with a zero in it from spinning.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Keeps a configuration with `Duration::MAX` in it from overflowing the clock.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);
