//! What attacks make a server hold, beside the formula in the documentation of its configuration.
//!
//! A binary of its own, with one test, so that nothing else allocates. The attackers live in the same process: what they and the
//! network between them hold is measured against a server that reads and throws away, and is part of each bound.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests may")]
#![allow(unsafe_code, reason = "the trait of allocators is unsafe to implement; the library forbids unsafe code")]

mod counting;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use distcache_transport::{
    BoxStream, ClusterLabel, Dialer, ErrorCode, Hello, MemoryNetwork, Payload, Peer, RemoteError, Request, Server,
    Service, TransportConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    time::{sleep, timeout},
};

const KIB: usize = 1 << 10;

/// Small, so that a limit that does not hold shows.
fn config() -> TransportConfig {
    TransportConfig {
        max_payload_bytes: 256 * KIB,
        max_in_flight: 64,
        max_in_flight_bytes: 512 * KIB,
        max_node_in_flight_bytes: 1024 * KIB,
        max_out_bytes: 512 * KIB,
        max_node_out_bytes: 2048 * KIB,
        max_connections: 64,
        ..TransportConfig::default()
    }
}

/// What a stream between two ends in one process holds: a buffer each way, which doubles up to 64 KiB.
const NETWORK: usize = 2 * (64 + 128) * KIB;

const BYTES: u16 = 1;
const HANG: u16 = 2;
const LATE_BYTES: u16 = 3;
const ECHO: u16 = 4;

struct Script {
    gate: Semaphore,
}

#[async_trait]
impl Service for Script {
    async fn call(&self, _: &Peer, request: Request) -> Result<Payload, RemoteError> {
        match request.method.0 {
            BYTES => Ok(Bytes::from(vec![7; 100 * KIB]).into()),
            HANG => std::future::pending().await,
            LATE_BYTES => {
                self.gate.acquire().await.unwrap().forget();
                Ok(Bytes::from(vec![7; 100 * KIB]).into())
            }
            ECHO => Ok(request.payload.into()),
            _ => Err(RemoteError::new(ErrorCode::UNKNOWN_METHOD, "no such method")),
        }
    }
}

struct Target {
    network: MemoryNetwork,
    server: Server,
    script: Arc<Script>,
}

impl Target {
    fn start() -> Self {
        let network = MemoryNetwork::new();
        let script = Arc::new(Script { gate: Semaphore::new(0) });
        let hello = Hello { label: ClusterLabel::try_from("prod").unwrap(), identity: Bytes::new() };
        let listener = Box::new(network.listen(addr(2)).unwrap());
        let server = Server::start(listener, Arc::<Script>::clone(&script), None, hello, config());
        Self { network, server, script }
    }

    async fn dial(&self) -> BoxStream {
        self.network.dialer(addr(1)).dial(addr(2)).await.unwrap()
    }

    async fn connect(&self) -> BoxStream {
        let mut stream = self.dial().await;
        stream
            .write_all(b"DCHE\x01\x27\x00\x01\x00\x01\x000123456789abcdef\x00\0\0\0\0\0\0\0\0\x04prod\x03\x00raw")
            .await
            .unwrap();
        stream.read_exact(&mut [0; 16]).await.unwrap();
        stream
    }
}

fn addr(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 1))
}

fn frame(kind: u8, method: u16, id: u64, length: usize) -> Vec<u8> {
    let mut bytes = u32::try_from(16 + length).unwrap().to_le_bytes().to_vec();
    bytes.extend([kind, 0]);
    bytes.extend(method.to_le_bytes());
    bytes.extend(id.to_le_bytes());
    bytes.extend(60_000_u32.to_le_bytes());
    bytes
}

/// Lets the server's tasks run as far as they get.
async fn settle() {
    sleep(Duration::from_millis(100)).await;
}

/// Runs an attack on a fresh server and compares the peak with what is allowed.
fn attack<F: Future<Output = ()>>(name: &str, allowed: usize, run: impl FnOnce(Arc<Target>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let target = runtime.block_on(async {
        let target = Arc::new(Target::start());
        settle().await;
        target
    });
    let before = counting::held();
    let ((), grown) = counting::growth(|| runtime.block_on(run(Arc::clone(&target))));
    runtime.block_on(async {
        println!("{name:<44} {:>7} KiB of {:>7} allowed", grown / KIB, allowed / KIB);
        assert!(grown <= allowed, "{name}: {} KiB held, {} allowed", grown / KIB, allowed / KIB);
        // What the attackers held is gone by now, and the server gives back what they made it hold.
        settle().await;
        target.server.shutdown(Duration::from_secs(1)).await;
        let left = counting::held().saturating_sub(before);
        assert!(left < 256 * KIB, "{name}: {} KiB are left", left / KIB);
    });
}

#[test]
fn attacks_stay_within_the_formula() {
    let one = config().max_connection_memory();
    println!("one connection: {} KiB, the server: {} KiB", one / KIB, config().max_server_memory() / KIB);
    // A task's future, a stream, maps and queues of one connection that does nothing.
    let idle = 48 * KIB;

    attack("8 x header of the largest frame, no payload", 8 * (idle + 64 * KIB + NETWORK / 8), async |target| {
        let mut streams = Vec::new();
        for _ in 0..8 {
            let mut stream = target.connect().await;
            stream.write_all(&frame(1, ECHO, 1, 256 * KIB)).await.unwrap();
            streams.push(stream);
        }
        settle().await;
        assert_eq!(target.server.connections(), 8);
    });

    attack("8 x header over the limit", 8 * (idle + NETWORK / 8), async |target| {
        for length in [256 * KIB + 1, 1 << 30, u32::MAX as usize - 16, 1 << 20] {
            for _ in 0..2 {
                let mut stream = target.connect().await;
                stream.write_all(&frame(1, ECHO, 1, length)).await.unwrap();
                stream.read_to_end(&mut Vec::new()).await.unwrap();
            }
        }
        assert_eq!(target.server.stats().protocol_errors, 8);
    });

    let half = 130 * KIB;
    attack("32 x half a frame", 32 * (idle + 2 * half + NETWORK / 4), async |target| {
        let mut streams = Vec::new();
        for _ in 0..32 {
            let mut stream = target.connect().await;
            stream.write_all(&frame(1, ECHO, 1, 256 * KIB)).await.unwrap();
            stream.write_all(&vec![7; half]).await.unwrap();
            streams.push(stream);
        }
        settle().await;
        assert_eq!(target.server.connections(), 32);
    });

    attack("requests with large answers, never read", one + NETWORK, async |target| {
        let mut stream = target.connect().await;
        let flood = async {
            for id in 0..100_000 {
                stream.write_all(&frame(1, BYTES, id, 0)).await?;
            }
            std::io::Result::Ok(())
        };
        assert!(timeout(Duration::from_secs(60), flood).await.unwrap().is_err(), "it was not given up");
    });

    attack("late answers, never read", one + NETWORK, async |target| {
        let mut stream = target.connect().await;
        for id in 0..64 {
            stream.write_all(&frame(1, LATE_BYTES, id, 0)).await.unwrap();
        }
        settle().await;
        target.script.gate.add_permits(64);
        settle().await;
        assert!(target.server.stats().answers_dropped > 40, "{:?}", target.server.stats());
    });

    // Without the limit of the node each of them would hold another 1,100 KiB.
    let many = config().max_node_out_bytes + 32 * (idle + 64 * KIB + 16 * 8 * KIB + NETWORK / 2);
    attack("32 x late answers, never read", many, async |target| {
        let mut streams = Vec::new();
        for _ in 0..32 {
            let mut stream = target.connect().await;
            for id in 0..16 {
                stream.write_all(&frame(1, LATE_BYTES, id, 0)).await.unwrap();
            }
            streams.push(stream);
        }
        settle().await;
        target.script.gate.add_permits(32 * 16);
        settle().await;
        let stats = target.server.stats();
        assert!(stats.answers_dropped_node > 300, "{stats:?}");
        // Who reads is served meanwhile.
        let mut reads = target.connect().await;
        reads.write_all(&frame(1, ECHO, 1, 0)).await.unwrap();
        let mut answer = [0; 20];
        reads.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[4], 2, "a Response");
    });

    attack("errors, never read", one + NETWORK, async |target| {
        let mut stream = target.connect().await;
        let flood = async {
            for id in 0..1_000_000 {
                stream.write_all(&frame(1, 99, id, 0)).await?;
            }
            std::io::Result::Ok(())
        };
        assert!(timeout(Duration::from_secs(60), flood).await.unwrap().is_err(), "it was not given up");
    });

    let payloads = config().max_node_in_flight_bytes;
    attack("8 x requests that hold payloads", payloads + 8 * (idle + 256 * KIB + NETWORK / 4), async |target| {
        let mut streams = Vec::new();
        for _ in 0..8 {
            let mut stream = target.connect().await;
            for id in 0..16 {
                stream.write_all(&frame(1, HANG, id, 200 * KIB)).await.unwrap();
                stream.write_all(&vec![7; 200 * KIB]).await.unwrap();
            }
            streams.push(stream);
        }
        settle().await;
        let stats = target.server.stats();
        assert_eq!((stats.requests, stats.overloaded_bytes + stats.overloaded_node), (128, 123), "{stats:?}");
    });

    attack("cancel flood", one + NETWORK, async |target| {
        let mut stream = target.connect().await;
        for id in 0..100_000 {
            stream.write_all(&[frame(1, HANG, id, 0), frame(4, 0, id, 0)].concat()).await.unwrap();
        }
        settle().await;
        assert_eq!(target.server.stats().cancelled, 100_000);
    });

    let pending = config().max_pending_handshakes_per_ip * 64 * KIB;
    attack("500 x half a Hello", pending + NETWORK, async |target| {
        let mut streams = Vec::new();
        for _ in 0..500 {
            let mut stream = target.dial().await;
            let _ = stream.write_all(b"DCHE\x01\xf9\x0f").await;
            tokio::task::yield_now().await;
            streams.push(stream);
        }
        settle().await;
        assert_eq!(target.server.stats().rejected_pending_per_ip, 484);
    });
}
