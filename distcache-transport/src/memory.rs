//! A network inside one process, for tests: it can be cut and slowed down, and it obeys a paused clock.

mod pipe;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::sleep,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use self::pipe::{Receiver, Sender, pipe};
use crate::io::{BoxStream, Dialer, Listener};

/// Joins listeners and dialers of one process. Clones share one network.
///
/// # Examples
///
/// ```
/// use distcache_transport::{Dialer, Listener, MemoryNetwork};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = MemoryNetwork::new();
/// let (alice, bob) = ("10.0.0.1:3320".parse()?, "10.0.0.2:3320".parse()?);
/// let mut listener = network.listen(bob)?;
/// let mut to_bob = network.dialer(alice).dial(bob).await?;
/// let (mut at_bob, from) = listener.accept().await?;
/// assert_eq!(from, alice);
///
/// to_bob.write_all(b"hello").await?;
/// network.cut(alice, bob);
/// assert!(at_bob.read_u8().await.is_err());
/// assert!(network.dialer(alice).dial(bob).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryNetwork {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    listeners: BTreeMap<SocketAddr, mpsc::Sender<(MemoryStream, SocketAddr)>>,
    cuts: BTreeSet<Pair>,
    /// One per pair that ever had a stream; cancelling it breaks them all.
    breakers: BTreeMap<Pair, CancellationToken>,
    /// How long bytes take between two addresses, in microseconds, as their streams see it.
    delays: BTreeMap<Pair, Arc<AtomicU64>>,
}

impl Shared {
    fn is_free(&self, addr: SocketAddr) -> bool {
        self.listeners.get(&addr).is_none_or(mpsc::Sender::is_closed)
    }
}

impl MemoryNetwork {
    /// Makes a network without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens at an address; port 0 asks for a free one.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) while another listener has the address.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<MemoryListener> {
        let mut shared = self.lock();
        let mut candidates = match addr.port() {
            0 => FIRST_FREE_PORT..=u16::MAX,
            port => port..=port,
        };
        let addr = candidates
            .find_map(|port| Some(SocketAddr::new(addr.ip(), port)).filter(|addr| shared.is_free(*addr)))
            .ok_or(io::ErrorKind::AddrInUse)?;
        let (dialled, accepted) = mpsc::channel(BACKLOG);
        shared.listeners.insert(addr, dialled);
        Ok(MemoryListener { addr, accepted })
    }

    /// Makes a dialer whose streams come from that address, usually the one the same node listens at.
    #[must_use]
    pub fn dialer(&self, from: SocketAddr) -> MemoryDialer {
        MemoryDialer { network: self.clone(), from }
    }

    /// Breaks all streams between two addresses, whoever dialled, with
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset), and lets no dial between them succeed until [`heal`](Self::heal).
    pub fn cut(&self, a: SocketAddr, b: SocketAddr) {
        let mut shared = self.lock();
        shared.cuts.insert(pair(a, b));
        if let Some(breaker) = shared.breakers.remove(&pair(a, b)) {
            breaker.cancel();
        }
    }

    /// Lets dials between two addresses succeed again. Broken streams stay broken.
    pub fn heal(&self, a: SocketAddr, b: SocketAddr) {
        self.lock().cuts.remove(&pair(a, b));
    }

    /// Sets how long bytes take from one address to another, and back, from now on. What is on its way arrives as it would have. Defaults
    /// to no time. A dial takes as long as a way there and back.
    pub fn delay(&self, a: SocketAddr, b: SocketAddr, one_way: Duration) {
        let micros = u64::try_from(one_way.as_micros()).unwrap_or(u64::MAX);
        self.lock().delays.entry(pair(a, b)).or_default().store(micros, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials within a [`MemoryNetwork`].
#[derive(Debug, Clone)]
pub struct MemoryDialer {
    network: MemoryNetwork,
    from: SocketAddr,
}

#[async_trait]
impl Dialer for MemoryDialer {
    async fn dial(&self, addr: SocketAddr) -> io::Result<BoxStream> {
        let (listener, breaker, delay) = {
            let mut shared = self.network.lock();
            let pair = pair(self.from, addr);
            if shared.cuts.contains(&pair) {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            let listener = shared.listeners.get(&addr).ok_or(io::ErrorKind::ConnectionRefused)?.clone();
            let breaker = shared.breakers.entry(pair).or_default().clone();
            (listener, breaker, Arc::clone(shared.delays.entry(pair).or_default()))
        };
        let way = Duration::from_micros(delay.load(Ordering::Relaxed));
        if !way.is_zero() {
            sleep(way * 2).await;
        }
        let ((to_there, from_here), (to_here, from_there)) = (pipe(BUFFER_BYTES), pipe(BUFFER_BYTES));
        let there = MemoryStream::new(from_here, to_here, &breaker, &delay);
        listener.send((there, self.from)).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(MemoryStream::new(from_there, to_there, &breaker, &delay)))
    }
}

/// Listens within a [`MemoryNetwork`]; dropping it frees the address.
#[derive(Debug)]
pub struct MemoryListener {
    addr: SocketAddr,
    accepted: mpsc::Receiver<(MemoryStream, SocketAddr)>,
}

#[async_trait]
impl Listener for MemoryListener {
    async fn accept(&mut self) -> io::Result<(BoxStream, SocketAddr)> {
        let (stream, from) = self.accepted.recv().await.ok_or(io::ErrorKind::NotConnected)?;
        Ok((Box::new(stream), from))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

/// One end of a stream, until its pair is cut.
#[derive(Debug)]
struct MemoryStream {
    incoming: Receiver,
    outgoing: Sender,
    delay: Arc<AtomicU64>,
    breaker: CancellationToken,
    // One each, since reader and writer may be different tasks and each must be woken.
    reader: Pin<Box<WaitForCancellationFutureOwned>>,
    writer: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl MemoryStream {
    fn new(incoming: Receiver, outgoing: Sender, breaker: &CancellationToken, delay: &Arc<AtomicU64>) -> Self {
        let wait = || Box::pin(breaker.clone().cancelled_owned());
        let (breaker, delay) = (breaker.clone(), Arc::clone(delay));
        Self { incoming, outgoing, delay, reader: wait(), writer: wait(), breaker }
    }

    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        side: Side,
        operation: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.breaker.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if let Poll::Ready(done) = operation(self, cx) {
            return Poll::Ready(done);
        }
        let broken = match side {
            Side::Reader => &mut self.reader,
            Side::Writer => &mut self.writer,
        };
        broken.as_mut().poll(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Reader,
    Writer,
}

impl AsyncRead for MemoryStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll(cx, Side::Reader, |stream, cx| stream.incoming.poll_read(cx, buf))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll(cx, Side::Writer, |stream, cx| {
            let delay = Duration::from_micros(stream.delay.load(Ordering::Relaxed));
            stream.outgoing.poll_write(cx, buf, delay)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll(cx, Side::Writer, |_, _| Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll(cx, Side::Writer, |stream, _| {
            stream.outgoing.finish();
            Poll::Ready(Ok(()))
        })
    }
}

type Pair = (SocketAddr, SocketAddr);

/// A cut has no direction.
fn pair(a: SocketAddr, b: SocketAddr) -> Pair {
    (a.min(b), a.max(b))
}

/// As large as a socket's buffer often is: a reader that stops holds the writer back.
const BUFFER_BYTES: usize = 64 * 1024;

/// Dials that nobody accepts wait beyond this many, as with a full TCP backlog.
const BACKLOG: usize = 128;

/// Where operating systems' ephemeral ports start.
const FIRST_FREE_PORT: u16 = 49_152;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, timeout},
    };

    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn an_address_is_free_again_once_its_listener_is_gone() {
        let network = MemoryNetwork::new();
        let listener = network.listen(addr(1)).unwrap();
        assert_eq!(network.listen(addr(1)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        let refused = network.dialer(addr(2)).dial(addr(1)).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(network.listen(addr(1)).is_ok());
    }

    #[tokio::test]
    async fn port_zero_gets_a_port_of_its_own() {
        let network = MemoryNetwork::new();
        let (a, b) = (network.listen(addr(0)).unwrap(), network.listen(addr(0)).unwrap());
        assert_ne!(a.local_addr().unwrap(), b.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_cut_wakes_both_ends_and_spares_other_pairs() {
        let network = MemoryNetwork::new();
        let mut listener = network.listen(addr(1)).unwrap();
        let mut cut = network.dialer(addr(2)).dial(addr(1)).await.unwrap();
        let mut whole = network.dialer(addr(3)).dial(addr(1)).await.unwrap();
        let (mut cut_there, _) = listener.accept().await.unwrap();
        let (mut whole_there, _) = listener.accept().await.unwrap();

        let reads =
            tokio::spawn(async move { (cut.read_u8().await.unwrap_err(), cut_there.read_u8().await.unwrap_err()) });
        tokio::task::yield_now().await;
        network.cut(addr(2), addr(1));
        let (here, there) = reads.await.unwrap();
        assert_eq!(here.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(there.kind(), io::ErrorKind::ConnectionReset);

        whole.write_u8(7).await.unwrap();
        assert_eq!(whole_there.read_u8().await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_take_as_long_as_the_network_is_told_and_stay_in_order() {
        let network = MemoryNetwork::new();
        let mut listener = network.listen(addr(1)).unwrap();
        let ms = Duration::from_millis;
        network.delay(addr(1), addr(2), ms(50));
        let started = Instant::now();
        let mut here = network.dialer(addr(2)).dial(addr(1)).await.unwrap();
        assert_eq!(started.elapsed(), ms(100));
        let (mut there, _) = listener.accept().await.unwrap();
        let started = Instant::now();
        here.write_all(b"slow").await.unwrap();
        network.delay(addr(1), addr(2), ms(0));
        here.write_all(b"fast").await.unwrap();
        drop(here);
        let mut all = Vec::new();
        there.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"slowfast", "what is faster does not overtake");
        assert_eq!(started.elapsed(), ms(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_holds_the_writer_back_and_one_that_is_gone_ends_it() {
        let network = MemoryNetwork::new();
        let mut listener = network.listen(addr(1)).unwrap();
        let mut here = network.dialer(addr(2)).dial(addr(1)).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        here.write_all(&[7; BUFFER_BYTES]).await.unwrap();
        assert!(timeout(Duration::from_secs(1), here.write_all(&[8])).await.is_err(), "it is full");
        assert_eq!(there.read_u8().await.unwrap(), 7);
        assert!(timeout(Duration::from_secs(1), here.write_all(&[8])).await.is_ok());
        drop(there);
        assert_eq!(here.write_all(&[9]).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(here.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn healing_lets_dials_through_again() {
        let network = MemoryNetwork::new();
        let _listener = network.listen(addr(1)).unwrap();
        network.cut(addr(1), addr(2));
        let cut = network.dialer(addr(2)).dial(addr(1)).await.err().unwrap();
        assert_eq!(cut.kind(), io::ErrorKind::HostUnreachable);
        network.heal(addr(2), addr(1));
        assert!(network.dialer(addr(2)).dial(addr(1)).await.is_ok());
    }
}
