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

/// Runs a connection until it ends. Dropping the future closes it. The peer is pinged once it was silent for `ping_interval`.
///
/// One task does it all. The order in which `select!` polls is random on purpose: a peer that never stops sending would
/// otherwise use up the task's budget before each turn of the writer.
pub(crate) async fn drive(
    stream: BoxStream,
    outbox: &Outbox,
    receiver: &impl Receive,
    config: &TransportConfig,
    ping_interval: Duration,
) -> Break {
    let activity = Activity::new();
    let (reader, writer) = split(stream);
    let pace = Pace { grace: config.frame_grace, rate: config.min_frame_rate };
    let reader = FrameReader::new(reader, config.max_payload_bytes, pace, &activity);
    tokio::select! {
        end = read(reader, outbox, receiver) => end,
        end = write(writer, outbox, config) => end,
        () = watch(&activity, outbox, ping_interval, config.ping_timeout) => Break::Mute,
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

/// Pings a silent peer, and returns once it has been silent for too long.
async fn watch(activity: &Activity, outbox: &Outbox, interval: Duration, silence: Duration) {
    let interval = interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
    let silence = silence.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
    let mut pinged = activity.last();
    loop {
        let heard = activity.last();
        sleep_until((heard.max(pinged) + interval).min(heard + silence)).await;
        if activity.last() + silence <= Instant::now() {
            // If this process was stopped, bytes may be waiting in the socket: the reader has its turn first.
            tokio::task::yield_now().await;
            if activity.last() + silence <= Instant::now() {
                return;
            }
        }
        let now = Instant::now();
        if activity.last().max(pinged) + interval <= now {
            outbox.ping();
            pinged = now;
        }
    }
}

/// How long the peer may take to end its side after we have ended ours.
const LINGER: Duration = Duration::from_secs(1);

/// Keeps a configuration with a zero in it from spinning.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Keeps a configuration with `Duration::MAX` in it from overflowing the clock.
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);
