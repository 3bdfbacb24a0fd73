//! Both ends by hand, byte by byte: what the wire looks like is a promise to other versions.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use distcache_transport::{BoxStream, ConnectError, Dialer, Link, Listener, RefusalReason};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::support::*;

/// A frame's bytes.
pub(crate) fn frame(kind: u8, code: u16, id: u64, deadline_ms: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + u32::try_from(payload.len()).unwrap()).to_le_bytes().to_vec();
    bytes.extend([kind, 0]);
    bytes.extend(code.to_le_bytes());
    bytes.extend(id.to_le_bytes());
    bytes.extend(deadline_ms.to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// A Hello of wire version 1 from cluster `prod`.
pub(crate) const HELLO: &[u8] =
    b"DCHE\x01\x27\x00\x01\x00\x01\x000123456789abcdef\x00\0\0\0\0\0\0\0\0\x04prod\x03\x00raw";

/// The HelloAck of [`Script`]'s server.
pub(crate) const ACK: &[u8] = b"DCHE\x02\x0f\x00\x01\x00\x04prod\x06\x00server";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) code: u16,
    pub(crate) id: u64,
    pub(crate) deadline_ms: u32,
    pub(crate) payload: Bytes,
}

pub(crate) async fn read_frame(stream: &mut BoxStream) -> io::Result<RawFrame> {
    let length = stream.read_u32_le().await? as usize;
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(RawFrame {
        kind: bytes[0],
        code: u16::from_le_bytes(bytes[2..4].try_into().unwrap()),
        id: u64::from_le_bytes(bytes[4..12].try_into().unwrap()),
        deadline_ms: u32::from_le_bytes(bytes[12..16].try_into().unwrap()),
        payload: Bytes::from(bytes).slice(16..),
    })
}

/// A dialler that knows only what this file says.
pub(crate) struct RawClient {
    pub(crate) stream: BoxStream,
}

impl RawClient {
    pub(crate) async fn connect(world: &World, at: SocketAddr) -> Self {
        Self::greet(world.dialer().dial(at).await.unwrap()).await
    }

    pub(crate) async fn greet(mut stream: BoxStream) -> Self {
        stream.write_all(HELLO).await.unwrap();
        let mut ack = [0; ACK.len()];
        stream.read_exact(&mut ack).await.unwrap();
        assert_eq!(ack, ACK);
        Self { stream }
    }

    /// The next frame that is neither a ping nor the word that a request runs.
    pub(crate) async fn read_frame(&mut self) -> RawFrame {
        loop {
            let frame = read_frame(&mut self.stream).await.unwrap();
            if !matches!(frame.kind, 6 | 9) {
                return frame;
            }
        }
    }
}

/// A listener that says Hello and then nothing.
pub(crate) struct RawServer {
    pub(crate) stream: BoxStream,
    _listener: Box<dyn Listener>,
}

impl RawServer {
    pub(crate) async fn accept(mut listener: Box<dyn Listener>) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_hello(&mut stream).await;
        stream.write_all(ACK).await.unwrap();
        Self { stream, _listener: listener }
    }
}

/// Lets one dialler in and hangs up on it.
pub(crate) async fn handshake_and_leave(listener: &mut Box<dyn Listener>) -> bool {
    let (mut stream, _) = listener.accept().await.unwrap();
    read_hello(&mut stream).await;
    stream.write_all(ACK).await.is_ok()
}

pub(crate) async fn read_hello(stream: &mut BoxStream) {
    let mut prefix = [0; 7];
    stream.read_exact(&mut prefix).await.unwrap();
    assert_eq!(prefix[..5], *b"DCHE\x01");
    let length = u16::from_le_bytes([prefix[5], prefix[6]]);
    stream.read_exact(&mut vec![0; length.into()]).await.unwrap();
}

/// What a server sends on a stream that begins like this, until it ends it.
pub(crate) async fn answer_to(start: &[u8]) -> Vec<u8> {
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let mut stream = world.dialer().dial(server.local_addr()).await.unwrap();
    stream.write_all(start).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

/// What a link makes of a server that answers its Hello like this and ends.
async fn verdict_on(answer: &'static [u8]) -> ConnectError {
    let world = World::memory();
    let mut listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), quick());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_hello(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = serve => unreachable!(),
        error = first_error(&link) => error,
    }
}

pub(crate) async fn first_error(link: &Link) -> ConnectError {
    let mut states = link.watch();
    let state = states.wait_for(|state| matches!(state, distcache_transport::LinkState::Down(_)));
    match &*state.await.unwrap() {
        distcache_transport::LinkState::Down(error) => (**error).clone(),
        _ => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn request_and_answer_have_their_golden_bytes() {
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    client
        .stream
        .write_all(b"\x15\x00\x00\x00\x01\x00\x01\x00\x2a\x00\x00\x00\x00\x00\x00\x00\xe8\x03\x00\x00hello")
        .await
        .unwrap();
    let mut answer = [0; 25];
    client.stream.read_exact(&mut answer).await.unwrap();
    let golden = b"\x15\x00\x00\x00\x02\x00\x00\x00\x2a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00hello";
    assert_eq!(&answer, golden);
}

#[tokio::test(start_paused = true)]
async fn ping_is_answered_with_its_id() {
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    client.stream.write_all(&frame(6, 0, 77, 0, b"")).await.unwrap();
    let pong = client.read_frame().await;
    assert_eq!(pong, RawFrame { kind: 7, code: 0, id: 77, deadline_ms: 0, payload: Bytes::new() });
}

#[tokio::test(start_paused = true)]
async fn frames_that_break_the_rules_close_the_connection() {
    let mut flags = frame(1, 1, 1, 1000, b"x");
    flags[5] = 1;
    let mut endless = frame(1, 1, 1, 1000, b"");
    endless[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut headless = frame(1, 1, 1, 1000, b"");
    headless[..4].copy_from_slice(&15_u32.to_le_bytes());
    let twice = [frame(1, HANG.0, 9, 60_000, b""), frame(1, HANG.0, 9, 60_000, b"")].concat();
    let cases = [
        ("unknown kind", frame(99, 0, 1, 0, b"")),
        ("kind zero", frame(0, 0, 1, 0, b"")),
        ("flags", flags),
        ("length of 4 GiB", endless),
        ("length below a header", headless),
        ("ping with payload", frame(6, 0, 1, 0, b"x")),
        ("response to a server", frame(2, 0, 1, 0, b"x")),
        ("going away server", frame(8, 0, 0, 0, b"")),
        ("loading server", frame(9, 0, 1, 0, b"")),
        ("id twice", twice),
        ("end inside a frame", frame(1, 1, 1, 1000, b"hello")[..22].to_vec()),
    ];
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let other = world.open(server.local_addr(), quick());
    other.connected(LONG).await.unwrap();
    for (at, (name, bytes)) in cases.into_iter().enumerate() {
        let mut client = RawClient::connect(&world, server.local_addr()).await;
        client.stream.write_all(&bytes).await.unwrap();
        client.stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).await.unwrap();
        eventually(name, || server.stats().protocol_errors == at as u64 + 1).await;
        eventually(name, || server.connections() == 1).await;
    }
    assert!(other.call(ECHO, number(1), LONG).await.is_ok(), "other connections live on");
}

#[tokio::test(start_paused = true)]
async fn cancel_of_an_unknown_request_is_ignored() {
    let world = World::memory();
    let server = world.serve(&Script::new()).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    client.stream.write_all(&frame(4, 0, 5, 0, b"")).await.unwrap();
    client.stream.write_all(&frame(1, ECHO.0, 6, 1000, b"hi")).await.unwrap();
    assert_eq!(client.read_frame().await.id, 6);
}

#[tokio::test(start_paused = true)]
async fn late_and_garbage_answers_do_not_reach_callers() {
    let world = World::memory();
    let listener = world.listen(world.server_addr()).await;
    let link = world.open(world.server_addr(), quick());
    let mut server = RawServer::accept(listener).await;
    link.connected(LONG).await.unwrap();
    let (answer, ()) = tokio::join!(link.call(ECHO, number(1), LONG), async {
        let request = read_frame(&mut server.stream).await.unwrap();
        server.stream.write_all(&frame(2, 0, 4711, 0, b"unknown")).await.unwrap();
        server.stream.write_all(&frame(2, 0, request.id, 0, b"first")).await.unwrap();
        server.stream.write_all(&frame(2, 0, request.id, 0, b"second")).await.unwrap();
    });
    assert_eq!(answer.unwrap(), "first");

    server.stream.write_all(&frame(1, 1, 1, 1, b"")).await.unwrap();
    assert!(matches!(first_error(&link).await, ConnectError::BadPeer(_)), "a listener sends no requests");
}

#[tokio::test(start_paused = true)]
async fn hello_of_another_version_is_refused_with_a_reason() {
    let answer = answer_to(b"DCHE\x01\x07\x00\x02\x00\x05\x00???").await;
    assert_eq!(answer[..5], *b"DCHE\x03");
    assert_eq!(answer[7..9], [2, 0], "the reason is the version");
    let message = std::str::from_utf8(&answer[9..]).unwrap();
    assert!(message.contains("1 to 1") && message.contains("2 to 5"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn hello_that_also_speaks_this_version_is_accepted_with_it() {
    let answer =
        answer_to(b"DCHE\x01\x29\x00\x01\x00\x05\x000123456789abcdef\x00\0\0\0\0\0\0\0\0\x04prod\x00\x00later").await;
    assert_eq!(&answer[..ACK.len()], ACK);
}

#[tokio::test(start_paused = true)]
async fn garbage_instead_of_hello_is_refused() {
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01", b"DCHE\x09\x00\x00", ACK] {
        let answer = answer_to(garbage).await;
        assert_eq!(answer[..5], *b"DCHE\x03", "{garbage:?}");
        assert_eq!(answer[7..9], [0, 0]);
    }
    for cut in 0..HELLO.len() {
        assert_eq!(answer_to(&HELLO[..cut]).await, b"", "{cut} bytes of a Hello");
    }
}

/// Closing with unread bytes resets a TCP connection, and a reset may overtake the reason.
#[tokio::test]
async fn reason_arrives_even_if_the_server_has_not_read_everything() {
    let world = World::tcp();
    let server = world.serve(&Script::new()).await;
    let mut stream = world.dialer().dial(server.local_addr()).await.unwrap();
    stream.write_all(&[b'x'; 20_000]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an end and no reset");
    assert_eq!(answer[..5], *b"DCHE\x03");
}

#[tokio::test(start_paused = true)]
async fn refusals_keep_their_reason() {
    let error = verdict_on(b"DCHE\x03\x05\x00\x02\x00new").await;
    let ConnectError::Refused(refusal) = &error else { panic!("{error}") };
    assert_eq!((refusal.reason, refusal.message.as_str()), (RefusalReason::Version, "new"));
    assert!(error.is_definite());

    let error = verdict_on(b"DCHE\x03\x02\x00\x05\x00").await;
    assert!(matches!(&error, ConnectError::Refused(refusal) if refusal.reason == RefusalReason::ShuttingDown));
    assert!(!error.is_definite());
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_none_are_told_apart() {
    let tls = verdict_on(b"\x15\x03\x03\x00\x02\x02\x0a").await;
    assert!(matches!(&tls, ConnectError::BadPeer(message) if message.contains("expects TLS")), "{tls}");
    let version = verdict_on(b"DCHE\x02\x0a\x00\x07\x00\x04prod\x01\x00x").await;
    assert!(matches!(&version, ConnectError::BadPeer(message) if message.contains('7')), "{version}");
    let label = verdict_on(b"DCHE\x02\x0a\x00\x01\x00\x04test\x01\x00x").await;
    assert!(matches!(&label, ConnectError::Refused(refusal) if refusal.reason == RefusalReason::Label));
    let nothing = verdict_on(b"").await;
    assert!(matches!(&nothing, ConnectError::Lost(_)) && !nothing.is_definite(), "{nothing}");
}

#[tokio::test(start_paused = true)]
async fn deadline_is_answered_when_it_passes_and_ends_the_handler() {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    let started = tokio::time::Instant::now();
    client.stream.write_all(&frame(1, HANG.0, 1, 500, b"")).await.unwrap();
    let answer = client.read_frame().await;
    assert_eq!((answer.kind, answer.code, answer.id), (3, 1, 1));
    assert_eq!(started.elapsed().as_millis(), 500);
    assert_eq!((script.running(), script.started()), (0, 1));
    assert_eq!(server.stats().deadline_exceeded, 1);
}

/// What is answered sooner, or cancelled, costs no frame.
#[tokio::test(start_paused = true)]
async fn request_that_runs_for_long_is_said_to_run_once() {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    let started = tokio::time::Instant::now();
    let requests = [
        frame(1, HANG.0, 1, 8, b""),
        frame(1, HANG.0, 2, 60_000, b""),
        frame(4, 0, 2, 0, b""),
        frame(1, SLEEP.0, 3, 60_000, &5_u32.to_le_bytes()),
        frame(1, SLEEP.0, 4, 60_000, &500_u32.to_le_bytes()),
    ];
    client.stream.write_all(&requests.concat()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let frame = read_frame(&mut client.stream).await.unwrap();
        seen.push((frame.kind, frame.id, started.elapsed().as_millis()));
    }
    // Timers go by the millisecond after.
    assert!(matches!(seen[..], [(2, 3, 5..=6), (3, 1, 8..=9), (9, 4, 10..=11), (2, 4, 500..=501)]), "{seen:?}");
    assert_eq!(server.stats().loading, 1);
}

#[tokio::test(start_paused = true)]
async fn request_whose_deadline_has_passed_is_not_started() {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    client.stream.write_all(&frame(1, ECHO.0, 1, 0, b"hi")).await.unwrap();
    let answer = client.read_frame().await;
    assert_eq!((answer.kind, answer.code, answer.id), (3, 1, 1));
    assert_eq!(script.started(), 0);
}

#[tokio::test(start_paused = true)]
async fn draining_server_says_so_and_answers_before_it_hangs_up() {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let mut client = RawClient::connect(&world, server.local_addr()).await;
    client.stream.write_all(&frame(1, GATE.0, 1, 60_000, b"hi")).await.unwrap();
    eventually("the request runs", || script.running() == 1).await;
    let talk = async {
        assert_eq!(client.read_frame().await.kind, 8);
        client.stream.write_all(&frame(1, ECHO.0, 2, 60_000, b"late")).await.unwrap();
        let refused = client.read_frame().await;
        assert_eq!((refused.kind, refused.code, refused.id), (3, 3, 2));
        script.open_gate();
        let answer = client.read_frame().await;
        assert_eq!((answer.kind, answer.id), (2, 1));
        assert_eq!(client.stream.read(&mut [0; 1]).await.unwrap(), 0);
        drop(client);
    };
    tokio::join!(server.shutdown(LONG), talk);
}

#[tokio::test(start_paused = true)]
async fn many_small_frames_share_few_writes() {
    let world = World::memory();
    let script = Script::new();
    let server = world.serve(&script).await;
    let writes = Arc::new(AtomicUsize::new(0));
    let dialer = Arc::new(CountingDialer { inner: world.dialer(), writes: Arc::clone(&writes) });
    let link = Link::open(server.local_addr(), dialer, None, hello("client"), quick());
    link.connected(LONG).await.unwrap();
    let before = writes.load(Ordering::SeqCst);
    for _ in 0..1000 {
        link.notify(ECHO, Bytes::from_static(b"hello")).unwrap();
    }
    eventually("all have arrived", || script.notices.lock().unwrap().len() == 1000).await;
    let writes = writes.load(Ordering::SeqCst) - before;
    assert!(writes <= 5, "{writes} writes for 1000 frames");
}

/// Counts what would be system calls.
#[derive(Debug)]
struct CountingDialer {
    inner: Arc<dyn Dialer>,
    writes: Arc<AtomicUsize>,
}

struct Counting {
    inner: BoxStream,
    writes: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Dialer for CountingDialer {
    async fn dial(&self, addr: SocketAddr) -> io::Result<BoxStream> {
        let inner = self.inner.dial(addr).await?;
        Ok(Box::new(Counting { inner, writes: Arc::clone(&self.writes) }))
    }
}

impl AsyncRead for Counting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
