//! Any bytes on an accepted connection: the server does not panic, ends the connection in time, and holds no more than it says.
//!
//! The first byte of an input is a set of flags, the second the size of the pieces the rest is sent in.
//!
//! `cargo fuzz run --sanitizer none connection fuzz/corpus/connection fuzz/seeds/connection`

#![no_main]

#[path = "../../distcache-transport/tests/counting/mod.rs"]
mod counting;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use distcache_transport::{
    ClusterLabel, Dialer, ErrorCode, Hello, MemoryNetwork, Payload, Peer, RemoteError, Request, Server, Service,
    TransportConfig,
};
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    runtime::Builder,
    time::{Instant, sleep, timeout},
};

/// The input starts after a Hello that is in order.
const GREETED: u8 = 1;
/// Nothing the server says is read.
const DEAF: u8 = 2;
/// There is half a second between two pieces.
const SLOW: u8 = 4;
/// The stream stays open when the input has been sent.
const OPEN: u8 = 8;

const HELLO: &[u8] = b"DCHE\x01\x27\x00\x01\x00\x01\x000123456789abcdef\x00\0\0\0\0\0\0\0\0\x04prod\x03\x00raw";

/// Both buffers of the network, the input's pieces, the runtime.
const BESIDES: usize = 512 << 10;

/// Handshake, then silence, then a write that makes no progress, then the end of the other side.
const LONGEST: Duration = Duration::from_secs(5 + 3 + 10 + 2);

struct Answers;

#[async_trait]
impl Service for Answers {
    async fn call(&self, _: &Peer, request: Request) -> Result<Payload, RemoteError> {
        match request.method.0 % 4 {
            0 => Ok(Bytes::from(vec![7; 10_000]).into()),
            1 => Ok(request.payload.into()),
            2 => std::future::pending().await,
            _ => Err(RemoteError::new(ErrorCode::UNKNOWN_METHOD, "no such method")),
        }
    }
}

fn config() -> TransportConfig {
    let payload = 64 << 10;
    TransportConfig {
        max_payload_bytes: payload,
        max_in_flight: 4,
        max_in_flight_bytes: payload,
        max_node_in_flight_bytes: payload,
        max_out_bytes: payload,
        ..TransportConfig::default()
    }
}

async fn attack(flags: u8, piece: usize, bytes: &[u8]) {
    let network = MemoryNetwork::new();
    let (here, there) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
    let listener = Box::new(network.listen(there).expect("nobody else listens"));
    let hello = Hello { label: ClusterLabel::try_from("prod").expect("short"), identity: Bytes::new() };
    let server = Server::start(listener, Arc::new(Answers), None, hello, config());

    let stream = network.dialer(here).dial(there).await.expect("the server listens");
    let (mut reader, mut writer) = split(stream);
    let started = Instant::now();
    // However long a peer talks, its stream ends in time after it has fallen silent.
    let pause = if flags & SLOW == 0 { Duration::ZERO } else { Duration::from_millis(500) };
    let talking = pause * u32::try_from(bytes.len().div_ceil(piece)).expect("inputs are short");
    let write = async {
        if flags & GREETED != 0 {
            writer.write_all(HELLO).await?;
        }
        for piece in bytes.chunks(piece) {
            writer.write_all(piece).await?;
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        if flags & OPEN == 0 {
            writer.shutdown().await?;
        }
        std::io::Result::Ok(())
    };
    let mut answers = [0; 1024];
    let read = async {
        if flags & DEAF != 0 {
            // Its stream ends, too, but it does not learn of it.
            return sleep(talking + LONGEST - Duration::from_secs(1)).await;
        }
        while !matches!(reader.read(&mut answers).await, Ok(0) | Err(_)) {}
    };
    let talk = async { tokio::join!(write, read) };
    let _ = timeout(talking + LONGEST, talk).await.expect("the connection outlived its deadlines");
    let gone = async {
        while server.connections() > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONGEST, gone).await.expect("the connection outlived its stream");
    server.shutdown(LONGEST).await;
    assert!(started.elapsed() <= talking + LONGEST * 3, "tasks outlived their connection");
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.panics), (1, 0), "{stats:?}");
}

fn run(input: &[u8]) {
    let [flags, piece, bytes @ ..] = input else { return };
    let ((), grown) = counting::growth(|| {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("no sockets");
        runtime.block_on(attack(*flags, usize::from(*piece) + 1, bytes));
    });
    let most = config().max_connection_memory() + BESIDES;
    assert!(grown <= most, "{grown} bytes held for {} that arrived", bytes.len());
}

fuzz_target!(|input: &[u8]| run(input));
