//! A proxy between two TCP ends that does what bad networks and bad peers do, each direction on its own, as it is told at run time.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// What becomes of the bytes of one direction. Offsets count from when it was set, or from the start of a younger stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They arrive.
    Pass,
    /// They are read and vanish, and so does the end.
    Mute,
    /// They are not read, so that the sender's buffers fill.
    Hold,
    /// They arrive that many at a time.
    Trickle { bytes: usize, every: Duration },
    /// That many arrive, and then both ends see the end of the stream.
    Truncate { after: usize },
    /// These bits of the byte at that offset are flipped.
    Corrupt { at: usize, mask: u8 },
    /// The receiver sees the end of this direction, and the other one goes on; what still comes vanishes.
    HalfClose,
    /// They arrive that much later, or up to twice that under load.
    Delay(Duration),
}

/// Passes on streams to one address. Dropping it breaks them all.
#[derive(Debug)]
pub(crate) struct Proxy {
    addr: SocketAddr,
    up: watch::Sender<Fault>,
    down: watch::Sender<Fault>,
    resets: watch::Sender<()>,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Proxy {
    /// Listens on loopback.
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (up, down) = (watch::Sender::new(Fault::Pass), watch::Sender::new(Fault::Pass));
        let (resets, accepted) = (watch::Sender::new(()), Arc::new(AtomicUsize::new(0)));
        let (rules, counter) = ((up.clone(), down.clone(), resets.clone()), Arc::clone(&accepted));
        let task = tokio::spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let (up, down, resets) = (rules.0.subscribe(), rules.1.subscribe(), rules.2.subscribe());
                streams.spawn(async move {
                    let far = TcpStream::connect(to).await?;
                    run(near, far, up, down, resets).await
                });
            }
        });
        Self { addr, up, down, resets, accepted, task: task.abort_handle() }
    }

    /// Where to dial.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Counts streams that were dialled.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Sets what becomes of bytes from the dialler.
    pub(crate) fn up(&self, fault: Fault) {
        self.up.send_replace(fault);
    }

    /// Sets what becomes of bytes to the dialler.
    pub(crate) fn down(&self, fault: Fault) {
        self.down.send_replace(fault);
    }

    /// Lets everything pass again. What is held arrives; what has vanished does not.
    pub(crate) fn heal(&self) {
        self.up(Fault::Pass);
        self.down(Fault::Pass);
    }

    /// Resets all streams there are, at both ends.
    pub(crate) fn reset(&self) {
        self.resets.send_replace(());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    mut near: TcpStream,
    mut far: TcpStream,
    up: watch::Receiver<Fault>,
    down: watch::Receiver<Fault>,
    mut resets: watch::Receiver<()>,
) -> io::Result<()> {
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        // So that a direction that is held is felt before megabytes are on the way.
        SockRef::from(stream).set_recv_buffer_size(BUFFER_BYTES)?;
        SockRef::from(stream).set_send_buffer_size(BUFFER_BYTES)?;
    }
    let is_reset = {
        let ((near_reader, near_writer), (far_reader, far_writer)) = (near.split(), far.split());
        let both = async { tokio::try_join!(pump(near_reader, far_writer, up), pump(far_reader, near_writer, down)) };
        tokio::select! {
            _ = both => false,
            reset = resets.changed() => reset.is_ok(),
        }
    };
    if is_reset {
        for stream in [&near, &far] {
            SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

/// Passes one direction on until it ends; an error ends the other one, too.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut faults: watch::Receiver<Fault>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    // How many bytes there were since the fault was set.
    let mut passed = 0;
    let mut fault = *faults.borrow_and_update();
    loop {
        if fault == Fault::HalfClose {
            to.shutdown().await?;
        }
        let read = tokio::select! {
            biased;
            changed = faults.changed() => {
                changed.map_err(io::Error::other)?;
                (fault, passed) = (*faults.borrow_and_update(), 0);
                continue;
            }
            read = from.read(&mut buffer), if fault != Fault::Hold => read?,
        };
        if read == 0 {
            if fault == Fault::Mute {
                // The end is not heard either, until somebody is.
                faults.changed().await.map_err(io::Error::other)?;
            }
            return to.shutdown().await;
        }
        let bytes = &mut buffer[..read];
        match fault {
            Fault::Mute | Fault::HalfClose => {}
            Fault::Pass | Fault::Hold => to.write_all(bytes).await?,
            Fault::Corrupt { at, mask } => {
                if let Some(byte) = at.checked_sub(passed).and_then(|at| bytes.get_mut(at)) {
                    *byte ^= mask;
                }
                to.write_all(bytes).await?;
            }
            Fault::Truncate { after } => {
                let left = after - passed;
                to.write_all(&bytes[..left.min(read)]).await?;
                if left <= read {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            }
            Fault::Trickle { bytes: step, every } => {
                for part in bytes.chunks(step) {
                    to.write_all(part).await?;
                    sleep(every).await;
                }
            }
            Fault::Delay(delay) => {
                sleep(delay).await;
                to.write_all(bytes).await?;
            }
        }
        passed += read;
    }
}

const BUFFER_BYTES: usize = 16 * 1024;
