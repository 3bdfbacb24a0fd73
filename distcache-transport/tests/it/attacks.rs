//! What strangers and bad peers can do, what becomes of it, and which counter shows it.
//!
//! `cargo test -p distcache-transport --test it attacks -- --nocapture` prints the table.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use distcache_transport::{BoxStream, Dialer, Server, TransportConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

use crate::{
    support::*,
    wire::{HELLO, RawClient, frame},
};

/// One attack: what became of it, once all that it promises has been checked.
struct Row {
    outcome: String,
    counters: Counters,
}

/// The counters that are not zero, besides those of what is in order.
type Counters = Vec<(String, u64)>;

/// Makes a test of each attack, and one that prints them all.
macro_rules! attacks {
    ($($name:ident,)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                timeout(Duration::from_secs(3600), attack::$name()).await.expect("test hangs");
            }
        )*

        #[test]
        fn the_matrix() {
            println!("{:<38} | {:<58} | counter", "attack", "outcome");
            println!("{:-<38} | {:-<58} | {:-<30}", "", "", "");
            $(
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().start_paused(true).build().unwrap();
                let Row { outcome, counters } = runtime.block_on(attack::$name());
                let counters: Vec<_> = counters.iter().map(|(name, count)| format!("{name} {count}")).collect();
                println!("{:<38} | {:<58} | {}", stringify!($name).replace('_', " "), outcome, counters.join(", "));
            )*
        }
    };
}

attacks! {
    no_hello,
    garbage_instead_of_hello,
    tls_on_a_plaintext_port,
    plaintext_on_a_tls_port,
    hello_of_another_cluster,
    hello_cut_short,
    hello_a_byte_a_second,
    tls_record_a_byte_a_second,
    header_a_byte_a_second,
    payload_a_byte_a_second,
    answer_read_a_byte_a_second,
    oversize_lengths,
    half_a_frame,
    frame_cut_short,
    duplicate_ids,
    frames_of_the_wrong_side,
    unknown_kinds_and_flags,
    largest_numbers_in_every_field,
    mute_newcomer,
    mute_peer,
    mute_idle_peer,
    asks_and_never_reads,
    late_answers_never_read,
    pings_and_never_reads,
    connection_flood,
    handshake_flood_of_many_addresses,
    handshake_flood_of_one_address,
    in_flight_flood,
    in_flight_bytes_flood,
    in_flight_flood_over_many_links,
    in_flight_bytes_over_many_links,
    cancel_flood,
    notice_flood,
}

/// A server to attack.
struct Target {
    world: World,
    server: Server,
    script: Arc<Script>,
    started: Instant,
}

impl Target {
    async fn plain(config: TransportConfig) -> Self {
        Self::of(World::memory(), config).await
    }

    async fn of(world: World, config: TransportConfig) -> Self {
        let script = Script::new();
        let server = world.serve_at(world.server_addr(), &script, config).await;
        Self { world, server, script, started: Instant::now() }
    }

    async fn dial(&self) -> BoxStream {
        self.world.dialer().dial(self.server.local_addr()).await.unwrap()
    }

    async fn dial_from(&self, host: u8, port: u16) -> BoxStream {
        let from = SocketAddr::from(([10, 0, 1, host], port));
        self.world.network().dialer(from).dial(self.server.local_addr()).await.unwrap()
    }

    async fn client(&self) -> RawClient {
        RawClient::greet(self.dial().await).await
    }

    /// Sends these bytes on a connection of their own, then waits for the server to end it.
    async fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut client = self.client().await;
        client.stream.write_all(bytes).await.unwrap();
        rest_of(&mut client.stream).await
    }

    /// Sends a byte a second until the server ends the stream.
    async fn trickle(&self, stream: BoxStream, bytes: &[u8]) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let write = async {
            for byte in bytes.iter().cycle() {
                if writer.write_u8(*byte).await.is_err() {
                    return;
                }
                sleep(SECOND).await;
            }
        };
        let read = async { while !matches!(reader.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {} };
        tokio::select! {
            () = write => {}
            () = read => {}
        }
    }

    /// Checks that only these counters count, that nothing is left, and that a peer that behaves is served.
    async fn survives(self, outcome: impl Into<String>, expected: &[(&str, u64)]) -> Row {
        eventually("connections end", || self.server.connections() == 0).await;
        eventually("handlers end", || self.script.running() == 0).await;
        let counters = counters(&self.server);
        let found: Vec<_> = counters.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, expected);
        let link = self.world.open(self.server.local_addr(), quick());
        link.connected(LONG).await.expect("the server takes peers that behave");
        assert!(link.call(ECHO, number(1), LONG).await.is_ok());
        Row { outcome: outcome.into(), counters }
    }

    /// In whole milliseconds, as timers are.
    fn after(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.started.elapsed().as_millis()).unwrap())
    }
}

fn counters(server: &Server) -> Counters {
    let in_order = ["accepted", "connected", "requests", "notices"];
    let text = format!("{:?}", server.stats());
    let fields = text.trim_start_matches("ServerStats {").trim_end_matches('}').split(',');
    let fields = fields.map(|field| field.trim().split_once(": ").expect("name and number"));
    let counters = fields.map(|(name, count)| (name.to_owned(), count.parse().unwrap()));
    counters.filter(|(name, count)| *count > 0 && !in_order.contains(&name.as_str())).collect()
}

async fn rest_of(stream: &mut BoxStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A stream that the server dropped may end with an error.
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

fn request(method: distcache_transport::Method, id: u64, payload: &[u8]) -> Vec<u8> {
    frame(1, method.0, id, 60_000, payload)
}

/// The handshake was refused, and the reason is on the wire.
fn assert_refused(answer: &[u8], reason: u8) {
    assert_eq!(answer[..5], *b"DCHE\x03");
    assert_eq!(answer[7..9], [reason, 0]);
}

const MB: u32 = 1_000_000;

mod attack {
    use super::*;

    pub(super) async fn no_hello() -> Row {
        let target = Target::plain(quick()).await;
        let mut stream = target.dial().await;
        assert!(rest_of(&mut stream).await.is_empty());
        assert_eq!(target.after(), Duration::from_secs(5));
        target.survives("closed after 5 s", &[("rejected_timeout", 1)]).await
    }

    pub(super) async fn garbage_instead_of_hello() -> Row {
        let target = Target::plain(quick()).await;
        let mut stream = target.dial().await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_refused(&rest_of(&mut stream).await, 0);
        assert_eq!(target.after(), Duration::ZERO);
        drop(stream);
        target.survives("refused at once", &[("rejected_malformed", 1)]).await
    }

    pub(super) async fn tls_on_a_plaintext_port() -> Row {
        let target = Target::plain(quick()).await;
        let mut stream = target.dial().await;
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
        let answer = rest_of(&mut stream).await;
        assert_refused(&answer, 0);
        assert!(String::from_utf8_lossy(&answer).contains("speaks TLS"));
        drop(stream);
        target.survives("refused at once, with the reason", &[("rejected_malformed", 1)]).await
    }

    pub(super) async fn plaintext_on_a_tls_port() -> Row {
        let pki = Pki::new();
        let world = World::memory().with_tls(Some(pki.node("server")), Some(pki.node("client")));
        let target = Target::of(world, quick()).await;
        let mut stream = target.dial().await;
        stream.write_all(HELLO).await.unwrap();
        let answer = rest_of(&mut stream).await;
        assert_eq!(answer[..2], [0x15, 0x03], "an alert of TLS");
        assert_eq!(target.after(), Duration::ZERO);
        drop(stream);
        target.survives("alert at once, nothing of it is read as a Hello", &[("rejected_tls", 1)]).await
    }

    pub(super) async fn hello_of_another_cluster() -> Row {
        let target = Target::plain(quick()).await;
        let mut stream = target.dial().await;
        stream
            .write_all(b"DCHE\x01\x27\x00\x01\x00\x01\x000123456789abcdef\x00\0\0\0\0\0\0\0\0\x04test\x03\x00raw")
            .await
            .unwrap();
        assert_refused(&rest_of(&mut stream).await, 1);
        assert_eq!(target.script.connected.load(std::sync::atomic::Ordering::SeqCst), 0);
        drop(stream);
        target.survives("refused at once, with the reason", &[("rejected_label", 1)]).await
    }

    pub(super) async fn hello_cut_short() -> Row {
        let target = Target::plain(quick()).await;
        for cut in [1, 6, 7, HELLO.len() - 1] {
            let mut stream = target.dial().await;
            stream.write_all(&HELLO[..cut]).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(rest_of(&mut stream).await.is_empty());
        }
        target.survives("closed at once, each of 4", &[("rejected_broken", 4)]).await
    }

    pub(super) async fn hello_a_byte_a_second() -> Row {
        let target = Target::plain(quick()).await;
        target.trickle(target.dial().await, HELLO).await;
        assert_eq!(target.after(), Duration::from_secs(5));
        target.survives("closed after 5 s", &[("rejected_timeout", 1)]).await
    }

    pub(super) async fn tls_record_a_byte_a_second() -> Row {
        let pki = Pki::new();
        let world = World::memory().with_tls(Some(pki.node("server")), Some(pki.node("client")));
        let target = Target::of(world, quick()).await;
        target.trickle(target.dial().await, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
        assert_eq!(target.after(), Duration::from_secs(5));
        target.survives("closed after 5 s", &[("rejected_timeout", 1)]).await
    }

    pub(super) async fn header_a_byte_a_second() -> Row {
        let target = Target::plain(quick()).await;
        let client = target.client().await;
        target.trickle(client.stream, &request(ECHO, 1, b"hi")).await;
        assert_eq!(target.after(), Duration::from_secs(5));
        target.survives("closed after 5 s", &[("slow_frames", 1)]).await
    }

    pub(super) async fn payload_a_byte_a_second() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        client.stream.write_all(&request(ECHO, 1, &[0; 128 << 10])[..20]).await.unwrap();
        target.trickle(client.stream, b"x").await;
        assert_eq!(target.after(), Duration::from_secs(5 + 2));
        assert_eq!(target.script.started(), 0);
        target.survives("closed after 5 s + 128 KiB / 64 KiB/s", &[("slow_frames", 1)]).await
    }

    pub(super) async fn answer_read_a_byte_a_second() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        client.stream.write_all(&request(BYTES, 1, &MB.to_le_bytes())).await.unwrap();
        // Pings of its own keep it from being taken for dead.
        while target.server.connections() > 0 && target.after() < Duration::from_secs(120) {
            let _ = client.stream.write_all(&frame(6, 0, 1, 0, b"")).await;
            let _ = client.stream.read(&mut [0; 1]).await;
            sleep(SECOND).await;
        }
        let allowed = 10 + u64::from(MB) / (64 << 10);
        assert!((allowed..=allowed + 2).contains(&target.after().as_secs()), "{:?}", target.after());
        target.survives("closed after 10 s + 1 MB / 64 KiB/s", &[("stalled_peers", 1)]).await
    }

    pub(super) async fn oversize_lengths() -> Row {
        let target = Target::plain(quick()).await;
        let limit = u32::try_from(quick().max_payload_bytes).unwrap();
        for length in [16 + limit + 1, u32::MAX, 0, 15] {
            let mut bytes = request(ECHO, 1, b"");
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            target.send(&bytes).await;
        }
        assert_eq!((target.after(), target.script.started()), (Duration::ZERO, 0));
        target.survives("closed at once, each of 4, on the header alone", &[("protocol_errors", 4)]).await
    }

    pub(super) async fn half_a_frame() -> Row {
        let target = Target::plain(quick()).await;
        target.send(&request(ECHO, 1, &[0; 1000])[..500]).await;
        assert_eq!(target.after(), Duration::from_secs(3));
        target.survives("closed after 3 s of silence", &[("mute_peers", 1)]).await
    }

    pub(super) async fn frame_cut_short() -> Row {
        let target = Target::plain(quick()).await;
        for cut in [1, 19, 20, 519] {
            let mut client = target.client().await;
            client.stream.write_all(&request(ECHO, 1, &[0; 500])[..cut]).await.unwrap();
            client.stream.shutdown().await.unwrap();
            rest_of(&mut client.stream).await;
        }
        assert_eq!((target.after(), target.script.started()), (Duration::ZERO, 0));
        target.survives("closed at once, each of 4", &[("protocol_errors", 4)]).await
    }

    pub(super) async fn duplicate_ids() -> Row {
        let target = Target::plain(quick()).await;
        target.send(&[request(HANG, 9, b""), request(HANG, 9, b"")].concat()).await;
        assert_eq!(target.after(), Duration::ZERO);
        target.survives("closed at once, the first handler is dropped", &[("protocol_errors", 1)]).await
    }

    pub(super) async fn frames_of_the_wrong_side() -> Row {
        let target = Target::plain(quick()).await;
        for kind in [2, 3, 8, 9] {
            target.send(&frame(kind, 0, 1, 0, b"")).await;
        }
        target.survives("closed at once, each of 4", &[("protocol_errors", 4)]).await
    }

    pub(super) async fn unknown_kinds_and_flags() -> Row {
        let target = Target::plain(quick()).await;
        let mut flagged = request(ECHO, 1, b"hi");
        flagged[5] = 0x80;
        for bytes in [frame(0, 0, 1, 0, b""), frame(99, 0, 1, 0, b""), frame(255, 0, 1, 0, b""), flagged] {
            target.send(&bytes).await;
        }
        target.survives("closed at once, each of 4", &[("protocol_errors", 4)]).await
    }

    pub(super) async fn largest_numbers_in_every_field() -> Row {
        let target = Target::plain(quick()).await;
        let mut stream = target.dial().await;
        stream
            .write_all(b"DCHE\x01\x27\x00\x00\x00\xff\xff0123456789abcdef\x00\0\0\0\0\0\0\0\0\x04prod\x03\x00raw")
            .await
            .unwrap();
        let mut ack = [0; 22];
        stream.read_exact(&mut ack).await.unwrap();
        let mut client = RawClient { stream };
        for bytes in [
            frame(4, u16::MAX, u64::MAX, u32::MAX, b""),
            frame(5, u16::MAX, u64::MAX, u32::MAX, b"x"),
            frame(7, u16::MAX, u64::MAX, u32::MAX, b""),
            frame(1, BUDGET.0, u64::MAX, u32::MAX, b""),
        ] {
            client.stream.write_all(&bytes).await.unwrap();
        }
        let answer = client.read_frame().await;
        assert_eq!((answer.kind, answer.id, &answer.payload[..]), (2, u64::MAX, &60_000_u32.to_le_bytes()[..]));
        client.stream.write_all(&frame(1, u16::MAX, u64::MAX, u32::MAX, b"")).await.unwrap();
        let answer = client.read_frame().await;
        assert_eq!((answer.kind, answer.code, answer.id), (3, 4, u64::MAX));
        client.stream.write_all(&frame(6, u16::MAX, u64::MAX, u32::MAX, b"")).await.unwrap();
        let answer = client.read_frame().await;
        assert_eq!((answer.kind, answer.id), (7, u64::MAX));
        drop(client);
        target.survives("served; a deadline is at most 60 s", &[]).await
    }

    /// Whoever has not said a word since the handshake is no idle peer yet.
    pub(super) async fn mute_newcomer() -> Row {
        let target = Target::plain(quick()).await;
        target.send(b"").await;
        assert_eq!(target.after(), Duration::from_secs(3));
        target.survives("closed after 3 s", &[("mute_peers", 1)]).await
    }

    /// A ping after 15 s, and 1.5 s for the answer.
    pub(super) async fn mute_idle_peer() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        sleep(SECOND).await;
        client.stream.write_all(&request(ECHO, 1, b"")).await.unwrap();
        rest_of(&mut client.stream).await;
        assert_eq!(target.after(), SECOND + Duration::from_millis(16_500));
        target.survives("closed after 16.5 s: nothing runs for it", &[("mute_peers", 1)]).await
    }

    pub(super) async fn mute_peer() -> Row {
        let target = Target::plain(quick()).await;
        target.send(&request(HANG, 1, b"")).await;
        assert_eq!(target.after(), Duration::from_secs(3));
        target.survives("closed after 3 s, its handler is dropped", &[("loading", 1), ("mute_peers", 1)]).await
    }

    /// Handlers that answer at once: the ninth megabyte is not even asked for.
    pub(super) async fn asks_and_never_reads() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        for id in 1..=20_000 {
            if client.stream.write_all(&request(BYTES, id, &MB.to_le_bytes())).await.is_err() {
                break;
            }
        }
        let started = target.script.started();
        // 8 MiB, and what the network and one batch hold.
        assert!((9..=12).contains(&started), "{started} answers of 1 MB");
        assert_eq!(target.after(), Duration::from_secs(3));
        target.survives(format!("{started} answers of 1 MB made, then closed after 3 s"), &[("mute_peers", 1)]).await
    }

    /// Handlers that end together: what is over twice the limit is dropped, and the peer is told.
    pub(super) async fn late_answers_never_read() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        for id in 1..=40 {
            client.stream.write_all(&request(LATE_BYTES, id, &MB.to_le_bytes())).await.unwrap();
        }
        eventually("all run", || target.script.running() == 40).await;
        target.script.open_gate();
        eventually("all have ended", || target.script.running() == 0).await;
        let mut answers = [0; 4];
        for _ in 0..40 {
            let answer = client.read_frame().await;
            assert!(answer.kind == 2 || answer.code == 8, "{answer:?}");
            answers[usize::from(answer.kind)] += 1;
        }
        let dropped = answers[3];
        assert!((21..=24).contains(&dropped), "{dropped} dropped of 40");
        drop(client);
        let outcome = format!("{} of 40 answers of 1 MB kept, NO_ROOM for the others", 40 - dropped);
        target.survives(outcome, &[("answers_dropped", dropped)]).await
    }

    pub(super) async fn pings_and_never_reads() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        while client.stream.write_all(&frame(6, 0, 1, 0, b"").repeat(1000)).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
        assert!((10..=60).contains(&target.after().as_secs()), "{:?}", target.after());
        target.survives("one pong is kept; closed after 10 s without a write", &[("stalled_peers", 1)]).await
    }

    pub(super) async fn connection_flood() -> Row {
        let target = Target::plain(TransportConfig { max_connections: 100, ..quick() }).await;
        let mut held = Vec::new();
        for _ in 0..100 {
            held.push(target.client().await);
        }
        for _ in 0..20 {
            let mut stream = target.dial().await;
            stream.write_all(HELLO).await.unwrap();
            assert_refused(&rest_of(&mut stream).await, 4);
        }
        drop(held);
        target.survives("20 of 120 refused, with the reason", &[("rejected_connections", 20)]).await
    }

    pub(super) async fn handshake_flood_of_many_addresses() -> Row {
        let target = Target::plain(quick()).await;
        let mut streams = Vec::new();
        for at in 0..80u16 {
            streams.push(target.dial_from(u8::try_from(at / 16).unwrap(), at).await);
            tokio::task::yield_now().await;
        }
        eventually("16 are closed", || target.server.stats().rejected_pending == 16).await;
        assert!(target.after() < Duration::from_millis(100));
        drop(streams);
        eventually("the others have ended", || target.server.stats().rejected_broken == 64).await;
        target.survives("16 of 80 closed at once", &[("rejected_pending", 16), ("rejected_broken", 64)]).await
    }

    pub(super) async fn handshake_flood_of_one_address() -> Row {
        let target = Target::plain(quick()).await;
        let mut streams = Vec::new();
        for port in 0..1000 {
            streams.push(target.dial_from(7, port).await);
            tokio::task::yield_now().await;
        }
        eventually("all but 16 are closed", || target.server.stats().rejected_pending_per_ip == 984).await;
        let other = RawClient::greet(target.dial_from(8, 1).await).await;
        assert!(target.after() < Duration::from_millis(100), "another address is let in meanwhile");
        drop((streams, other));
        eventually("the others have ended", || target.server.stats().rejected_broken == 16).await;
        let expected = [("rejected_pending_per_ip", 984), ("rejected_broken", 16)];
        target.survives("984 of 1,000 closed at once, others are let in", &expected).await
    }

    pub(super) async fn in_flight_flood() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        for id in 1..=1100 {
            client.stream.write_all(&request(HANG, id, b"")).await.unwrap();
        }
        for id in 1025..=1100 {
            let answer = client.read_frame().await;
            assert_eq!((answer.kind, answer.code, answer.id, answer.deadline_ms), (3, 2, id, 50));
        }
        assert_eq!(target.after(), Duration::ZERO);
        eventually("the others run", || target.script.running() == 1024).await;
        drop(client);
        target.survives("76 of 1,100 OVERLOADED at once, again in 50 ms", &[("overloaded", 76)]).await
    }

    pub(super) async fn in_flight_bytes_flood() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        for id in 1..=10 {
            client.stream.write_all(&request(GATE, id, &[7; MB as usize])).await.unwrap();
        }
        for id in [9, 10] {
            let answer = client.read_frame().await;
            assert_eq!((answer.kind, answer.code, answer.id, answer.deadline_ms), (3, 2, id, 50));
        }
        assert_eq!(target.script.running(), 8);
        target.script.open_gate();
        for _ in 0..8 {
            assert_eq!(client.read_frame().await.kind, 2);
        }
        client.stream.write_all(&request(GATE, 11, &[7; MB as usize])).await.unwrap();
        assert_eq!(client.read_frame().await.kind, 2, "what was held is given back");
        drop(client);
        target.survives("2 of 10 x 1 MB OVERLOADED at once, again in 50 ms", &[("overloaded_bytes", 2)]).await
    }

    pub(super) async fn in_flight_flood_over_many_links() -> Row {
        let target = Target::plain(TransportConfig { max_node_in_flight: 100, ..quick() }).await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            let mut client = target.client().await;
            for id in 1..=30 {
                client.stream.write_all(&request(HANG, id, b"")).await.unwrap();
            }
            clients.push(client);
        }
        eventually("all are decided", || target.server.stats().requests == 150).await;
        let answer = clients[4].read_frame().await;
        assert_eq!((answer.kind, answer.code, answer.deadline_ms), (3, 2, 50));
        assert_eq!((target.script.running(), target.server.stats().overloaded_node), (100, 50));
        // Cancelled ones give their places back.
        for id in 1..=30 {
            clients[0].stream.write_all(&frame(4, 0, id, 0, b"")).await.unwrap();
        }
        eventually("30 are gone", || target.script.running() == 70).await;
        clients[4].stream.write_all(&request(ECHO, 99, b"hi")).await.unwrap();
        while clients[4].read_frame().await.id != 99 {}
        drop(clients);
        target
            .survives("50 of 150 over 5 links OVERLOADED at once", &[("overloaded_node", 50), ("cancelled", 30)])
            .await
    }

    pub(super) async fn in_flight_bytes_over_many_links() -> Row {
        let target = Target::plain(TransportConfig { max_node_in_flight_bytes: 3 << 20, ..quick() }).await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            let mut client = target.client().await;
            client.stream.write_all(&request(HANG, 1, &[7; MB as usize])).await.unwrap();
            clients.push(client);
        }
        eventually("all are decided", || target.server.stats().requests == 5).await;
        for client in &mut clients[3..] {
            let answer = client.read_frame().await;
            assert_eq!((answer.kind, answer.code, answer.deadline_ms), (3, 2, 50));
        }
        drop(clients);
        target.survives("2 of 5 x 1 MB over 5 links OVERLOADED at once", &[("overloaded_node", 2)]).await
    }

    pub(super) async fn cancel_flood() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        for id in 1..=100_000 {
            let bytes = [request(HANG, id, b""), frame(4, 0, id, 0, b"")].concat();
            client.stream.write_all(&bytes).await.unwrap();
        }
        client.stream.write_all(&request(ECHO, u64::MAX, b"hi")).await.unwrap();
        assert_eq!(client.read_frame().await.id, u64::MAX);
        let peak = target.script.peak.load(std::sync::atomic::Ordering::SeqCst);
        assert!(peak <= 2 * 1024 + 1, "{peak} handlers at once");
        drop(client);
        target.survives("100,000 started and cancelled; served on", &[("cancelled", 100_000)]).await
    }

    pub(super) async fn notice_flood() -> Row {
        let target = Target::plain(quick()).await;
        let mut client = target.client().await;
        for _ in 0..100 {
            client.stream.write_all(&frame(5, 1, 0, 0, b"news").repeat(1000)).await.unwrap();
        }
        client.stream.write_all(&request(ECHO, 7, b"hi")).await.unwrap();
        assert_eq!(client.read_frame().await.id, 7);
        assert_eq!(target.server.stats().notices, 100_000);
        drop(client);
        target.survives("100,000 handed over as they come; served on", &[]).await
    }
}
