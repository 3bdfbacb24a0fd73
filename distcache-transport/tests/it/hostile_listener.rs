//! What a hostile or broken listener can do to a link: what callers get and when, what the link says, how often it dials, and that
//! it serves again once a good listener has the address.
//!
//! `cargo test -p distcache-transport --test it hostile_listener -- --nocapture` prints the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use distcache_transport::{BoxStream, CallError, Link, LinkState, TransportConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    task::JoinSet,
    time::{Instant, interval, interval_at, sleep, timeout},
};

use crate::{
    support::*,
    wire::{ACK, RawFrame, frame, read_frame, read_hello},
};

/// One attack: what became of it, once all that it promises has been checked.
struct Row {
    callers: String,
    errors: String,
    dials: usize,
}

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
        fn the_matrix_of_listeners() {
            println!("{:<36} | {:<64} | {:>5} | the link says", "attack", "600 calls in a minute", "dials");
            println!("{:-<36} | {:-<64} | {:-<5} | {:-<30}", "", "", "", "");
            $(
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().start_paused(true).build().unwrap();
                let Row { callers, errors, dials } = runtime.block_on(attack::$name());
                println!("{:<36} | {callers:<64} | {dials:>5} | {errors}", stringify!($name).replace('_', " "));
            )*
        }
    };
}

attacks! {
    accepts_and_says_nothing,
    garbage_instead_of_an_ack,
    ack_of_another_label,
    ack_of_a_version_not_offered,
    ack_cut_short,
    ack_a_byte_a_second,
    ack_over_the_limit,
    messages_out_of_turn,
    refusals_of_every_kind,
    refusal_that_floods_the_log,
    oversize_lengths,
    frames_of_the_wrong_side,
    unknown_kinds_and_flags,
    payloads_where_none_belong,
    answers_that_nobody_asked_for,
    duplicate_answers,
    error_that_is_not_text,
    error_over_the_limit,
    errors_of_unknown_codes,
    half_an_answer_then_silence,
    answer_cut_short,
    header_a_byte_a_second,
    payload_a_byte_a_second,
    pings_and_never_answers,
    pings_and_never_reads,
    goes_away_again_and_again,
    flood_of_answers,
    closes_right_after_the_ack,
    closes_on_every_request,
}

/// What a minute of an attack must come to.
struct Expected<'a> {
    /// Every outcome that calls have, and how long it takes at most.
    calls: &'a [(&'a str, Duration)],
    dials: RangeInclusive<usize>,
    /// What the link says of the listener: each of these at least once, and nothing else.
    errors: &'a [&'a str],
}

/// Lets a listener treat each stream like this for a minute, while a call is made every 100 ms; then puts a good one in its place.
async fn attack<F>(hostile: impl Fn(usize, BoxStream) -> F + Send + 'static, expected: Expected<'_>) -> Row
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let world = World::memory();
    let mut listener = world.listen(world.server_addr()).await;
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    let host = tokio::spawn(async move {
        let mut streams = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            // What becomes of its side is of no concern to somebody hostile.
            streams.spawn(hostile(counted.fetch_add(1, Ordering::SeqCst), stream));
        }
    });
    // The waits between dials as they are in production.
    let link = world.open(world.server_addr(), TransportConfig::default());
    let errors = Arc::new(Mutex::new(BTreeSet::new()));
    let watcher = tokio::spawn(collect_errors(link.clone(), Arc::clone(&errors)));

    let mut calls = JoinSet::new();
    let every = Duration::from_millis(100);
    let mut ticks = interval_at(Instant::now() + every, every);
    for number in 0..600 {
        ticks.tick().await;
        calls.spawn(call(link.clone(), number));
    }
    let dials = dials.load(Ordering::SeqCst);
    let mut outcomes = BTreeMap::<String, (usize, Duration)>::new();
    for (outcome, waited) in calls.join_all().await {
        let (count, longest) = outcomes.entry(outcome).or_default();
        (*count, *longest) = (*count + 1, waited.max(*longest));
    }

    let callers: Vec<_> =
        outcomes.iter().map(|(name, (count, longest))| format!("{count} {name} in {longest:?}")).collect();
    let callers = callers.join(", ");
    let names: Vec<_> = outcomes.keys().map(String::as_str).collect();
    let mut expected_names: Vec<_> = expected.calls.iter().map(|(name, _)| *name).collect();
    expected_names.sort_unstable();
    assert_eq!(names, expected_names, "{callers}");
    for (name, longest) in expected.calls {
        assert!(outcomes[*name].1 <= *longest, "{callers}");
    }
    assert!(expected.dials.contains(&dials), "{dials} dials in a minute");
    let seen = errors.lock().unwrap().clone();
    for error in &seen {
        assert!(expected.errors.iter().any(|known| error.contains(known)), "unexpected: {error}");
    }
    for known in expected.errors {
        assert!(seen.iter().any(|error| error.contains(known)), "never: {known}; but {seen:?}");
    }

    watcher.abort();
    host.abort();
    let _ = host.await;
    let _good = world.serve(&Script::new()).await;
    eventually("a good listener is found", || matches!(link.state(), LinkState::Up(_))).await;
    // A link whose listener was not hostile enough to end it notices now.
    let answered = async {
        while link.call(ECHO, number(7), SECOND).await.is_err() {
            sleep(SECOND).await
        }
    };
    timeout(LONG, answered).await.expect("a good listener answers");
    Row { callers, errors: expected.errors.join("; "), dials }
}

/// Makes a call whatever the breaker says, and returns what came of it and when. An answer must be the call's own.
async fn call(link: Link, argument: u32) -> (String, Duration) {
    let started = Instant::now();
    let result = link.call_anyway(ECHO, number(argument), BUDGET_OF_A_CALL).await;
    let waited = Duration::from_millis(u64::try_from(started.elapsed().as_millis()).unwrap());
    let outcome = match result {
        Ok(answer) => {
            assert_eq!(answer[..], argument.to_le_bytes());
            "answered".to_owned()
        }
        Err(CallError::NotSent(reason)) => format!("{reason:?}"),
        Err(CallError::Remote(error)) => {
            assert!(error.retry_after.is_none_or(|wait| wait <= Duration::from_secs(60)), "{error:?}");
            format!("error {}", error.code.0)
        }
        Err(error) => format!("{error:?}"),
    };
    (outcome, waited)
}

async fn collect_errors(link: Link, errors: Arc<Mutex<BTreeSet<String>>>) {
    let mut states = link.watch();
    while states.changed().await.is_ok() {
        if let LinkState::Down(error) = &*states.borrow_and_update() {
            errors.lock().unwrap().insert(format!("{error:?}"));
        }
    }
}

/// Reads the Hello and answers it.
async fn greet(stream: &mut BoxStream) -> io::Result<()> {
    read_hello(stream).await;
    stream.write_all(ACK).await
}

/// Reads the Hello and answers it with something else, and leaves.
async fn greet_with(mut stream: BoxStream, answer: Vec<u8>) -> io::Result<()> {
    read_hello(&mut stream).await;
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    discard(stream).await
}

/// Lets a link in, waits for its first request, sends something, and then holds on to the stream without a word.
async fn strike(mut stream: BoxStream, bytes: Vec<u8>) -> io::Result<()> {
    greet(&mut stream).await?;
    request(&mut stream).await?;
    stream.write_all(&bytes).await?;
    discard(stream).await
}

/// Lets a link in and answers its pings as it should, and each of its requests with these bytes.
async fn answer_each(mut stream: BoxStream, answer: impl Fn(&RawFrame) -> Vec<u8>) -> io::Result<()> {
    greet(&mut stream).await?;
    loop {
        let asked = read_frame(&mut stream).await?;
        match asked.kind {
            1 => stream.write_all(&answer(&asked)).await?,
            6 => stream.write_all(&frame(7, 0, asked.id, 0, b"")).await?,
            _ => {}
        }
    }
}

async fn request(stream: &mut BoxStream) -> io::Result<RawFrame> {
    loop {
        let frame = read_frame(stream).await?;
        if frame.kind == 1 {
            return Ok(frame);
        }
    }
}

async fn discard(mut stream: BoxStream) -> io::Result<()> {
    while stream.read(&mut [0; 4096]).await? > 0 {}
    Ok(())
}

async fn trickle(stream: &mut BoxStream, bytes: &[u8]) -> io::Result<()> {
    for byte in bytes.iter().cycle() {
        stream.write_u8(*byte).await?;
        sleep(SECOND).await;
    }
    Ok(())
}

fn answer(asked: &RawFrame) -> Vec<u8> {
    frame(2, 0, asked.id, 0, &asked.payload)
}

/// A message of the handshake.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_le_bytes();
    [b"DCHE", &[kind][..], &length, body].concat()
}

fn pick(variants: &[Vec<u8>], nth: usize) -> Vec<u8> {
    variants[nth % variants.len()].clone()
}

/// Longer than it takes to notice any other attack, so that a call that runs out is one that nothing else ended; and not quite the 10 s after which a link whose peer does not read is given up: which of the two comes first is no accident.
const BUDGET_OF_A_CALL: Duration = Duration::from_millis(9_950);

/// At most this long, callers have to wait for nothing.
const AT_ONCE: Duration = Duration::from_millis(1);

/// A call on a link that is down.
const DOWN: (&str, Duration) = ("LinkDown", AT_ONCE);

const ANSWERED: (&str, Duration) = ("answered", AT_ONCE);

const fn lost_within(seconds: u64) -> (&'static str, Duration) {
    // A call is made every 100 ms, and the attack begins with one.
    ("Lost", Duration::from_millis(seconds * 1000 + 1))
}

/// 100 ms doubling to 5 s, each wait a random part of it: without growth it would be a thousand dials.
const BACKING_OFF: RangeInclusive<usize> = 15..=60;

/// The same, behind attempts that take 5 s each.
const BACKING_OFF_AFTER_5_S: RangeInclusive<usize> = 6..=13;

const ONCE: RangeInclusive<usize> = 1..=1;

mod attack {
    use super::*;

    pub(super) async fn accepts_and_says_nothing() -> Row {
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF_AFTER_5_S, errors: &["TimedOut"] };
        attack(|_, stream| discard(stream), expected).await
    }

    pub(super) async fn garbage_instead_of_an_ack() -> Row {
        let answers =
            [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), b"\x15\x03\x03\x00\x02\x02\x0a".to_vec(), vec![0; 64]];
        let errors = &["does not speak this protocol", "expects TLS"];
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF, errors };
        attack(move |nth, stream| greet_with(stream, pick(&answers, nth)), expected).await
    }

    pub(super) async fn ack_of_another_label() -> Row {
        let ack = message(2, b"\x01\x00\x04test\x06\x00server");
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF, errors: &["reason: Label"] };
        attack(move |_, stream| greet_with(stream, ack.clone()), expected).await
    }

    pub(super) async fn ack_of_a_version_not_offered() -> Row {
        let acks = [b"\x00\x00", b"\x02\x00", b"\xff\xff"].map(|version| {
            let body = [&version[..], b"\x04prod\x06\x00server"].concat();
            message(2, &body)
        });
        let errors = &["wire version 0", "wire version 2", "wire version 65535"];
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF, errors };
        attack(move |nth, stream| greet_with(stream, pick(&acks, nth)), expected).await
    }

    pub(super) async fn ack_cut_short() -> Row {
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF, errors: &["Lost(\"closed by the peer\")"] };
        attack(|nth, stream| greet_with(stream, ACK[..nth % ACK.len()].to_vec()), expected).await
    }

    pub(super) async fn ack_a_byte_a_second() -> Row {
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF_AFTER_5_S, errors: &["TimedOut"] };
        let hostile = async |mut stream: BoxStream| {
            read_hello(&mut stream).await;
            trickle(&mut stream, ACK).await
        };
        attack(move |_, stream| hostile(stream), expected).await
    }

    pub(super) async fn ack_over_the_limit() -> Row {
        let identity = [b"\x01\x00\x04prod\x01\x04".to_vec(), vec![b'x'; 1025]].concat();
        let acks = [b"DCHE\x02\xff\xff".to_vec(), b"DCHE\x02\xfa\x0f".to_vec(), message(2, &identity)];
        let errors = &["65535 bytes is too long", "4090 bytes is too long", "identity of 1025 bytes"];
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF, errors };
        attack(move |nth, stream| greet_with(stream, pick(&acks, nth)), expected).await
    }

    pub(super) async fn messages_out_of_turn() -> Row {
        let challenge = [b"\x01\x00".to_vec(), vec![7; 48], b"\x04prod\x06\x00server".to_vec()].concat();
        let messages = [
            crate::wire::HELLO.to_vec(),
            message(4, &challenge),
            message(5, &[7; 32]),
            message(9, b""),
            message(2, b""),
        ];
        let errors = &["out of turn", "reason: Secret", "unknown handshake message 9", "too short"];
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF, errors };
        attack(move |nth, stream| greet_with(stream, pick(&messages, nth)), expected).await
    }

    pub(super) async fn refusals_of_every_kind() -> Row {
        let refusals = [0, 1, 2, 3, 4, 5, 6, 7, u16::MAX]
            .map(|reason: u16| message(3, &[&reason.to_le_bytes()[..], b"no, \xff"].concat()));
        let errors = &[
            "reason: Label, message: \"no, \u{fffd}\"",
            "reason: Version",
            "reason: Identity",
            "reason: Overloaded",
            "reason: ShuttingDown",
            "reason: Secret",
            "reason: Other",
        ];
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF, errors };
        attack(move |nth, stream| greet_with(stream, pick(&refusals, nth)), expected).await
    }

    pub(super) async fn refusal_that_floods_the_log() -> Row {
        let refusal = message(3, &[&b"\x00\x00"[..], &[b'x'; 4000]].concat());
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF, errors: &["4000 bytes is too long"] };
        attack(move |_, stream| greet_with(stream, refusal.clone()), expected).await
    }

    /// Those of frames, on the header alone.
    pub(super) async fn oversize_lengths() -> Row {
        let limit = u32::try_from(TransportConfig::default().max_payload_bytes).unwrap();
        let frames = [16 + limit + 1, u32::MAX, 0, 15].map(|length| {
            let mut bytes = frame(2, 0, 1, 0, b"");
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            bytes
        });
        let errors = &["bytes of payload, where 1114112 are allowed", "shorter than a header"];
        let expected = Expected { calls: &[lost_within(0), DOWN], dials: BACKING_OFF, errors };
        attack(move |nth, stream| strike(stream, pick(&frames, nth)), expected).await
    }

    pub(super) async fn frames_of_the_wrong_side() -> Row {
        let frames = [1, 4, 5].map(|kind| frame(kind, 1, 1, 1000, b""));
        let errors = &["Request frame from the wrong side", "Cancel frame from", "Notice frame from"];
        let expected = Expected { calls: &[lost_within(0), DOWN], dials: BACKING_OFF, errors };
        attack(move |nth, stream| strike(stream, pick(&frames, nth)), expected).await
    }

    pub(super) async fn unknown_kinds_and_flags() -> Row {
        let mut flagged = frame(2, 0, 1, 0, b"");
        flagged[5] = 0x80;
        let frames = [frame(0, 0, 1, 0, b""), frame(200, 0, 1, 0, b""), flagged];
        let errors = &["unknown frame kind 0", "unknown frame kind 200", "unknown flags 0x80"];
        let expected = Expected { calls: &[lost_within(0), DOWN], dials: BACKING_OFF, errors };
        attack(move |nth, stream| strike(stream, pick(&frames, nth)), expected).await
    }

    pub(super) async fn payloads_where_none_belong() -> Row {
        let frames = [6, 7, 8].map(|kind| frame(kind, 0, 1, 0, b"x"));
        let errors = &["Ping frame with 1 bytes", "Pong frame with 1 bytes", "GoAway frame with 1 bytes"];
        let expected = Expected { calls: &[lost_within(0), DOWN], dials: BACKING_OFF, errors };
        attack(move |nth, stream| strike(stream, pick(&frames, nth)), expected).await
    }

    pub(super) async fn answers_that_nobody_asked_for() -> Row {
        let expected = Expected { calls: &[ANSWERED], dials: ONCE, errors: &[] };
        let answers = |asked: &RawFrame| {
            let unasked = [0, asked.id + 1, asked.id + 100, u64::MAX];
            let unasked = unasked.map(|id| [frame(2, 0, id, 0, b"evil"), frame(3, 1, id, 0, b"evil")].concat());
            [unasked.concat(), answer(asked)].concat()
        };
        attack(move |_, stream| answer_each(stream, answers), expected).await
    }

    pub(super) async fn duplicate_answers() -> Row {
        let expected = Expected { calls: &[ANSWERED], dials: ONCE, errors: &[] };
        let answers = |asked: &RawFrame| {
            let again = [frame(2, 0, asked.id, 0, b"evil"), frame(3, 1, asked.id, 0, b"evil")];
            [answer(asked), again.concat(), answer(asked)].concat()
        };
        attack(move |_, stream| answer_each(stream, answers), expected).await
    }

    pub(super) async fn error_that_is_not_text() -> Row {
        let errors = &["error message is not UTF-8"];
        let expected = Expected { calls: &[lost_within(0), DOWN], dials: BACKING_OFF, errors };
        let answers = |asked: &RawFrame| frame(3, 142, asked.id, 0, b"\xff\xfe");
        attack(move |_, stream| answer_each(stream, answers), expected).await
    }

    pub(super) async fn error_over_the_limit() -> Row {
        let errors = &["Error frame with 1025 bytes of payload, where 1024 are allowed"];
        let expected = Expected { calls: &[lost_within(0), DOWN], dials: BACKING_OFF, errors };
        let answers = |asked: &RawFrame| frame(3, 142, asked.id, 0, &[b'x'; 1025]);
        attack(move |_, stream| answer_each(stream, answers), expected).await
    }

    /// They keep their number; the hint, 49 days long, is read as a minute.
    pub(super) async fn errors_of_unknown_codes() -> Row {
        let calls = &[("error 0", AT_ONCE), ("error 99", AT_ONCE), ("error 65535", AT_ONCE)];
        let expected = Expected { calls, dials: ONCE, errors: &[] };
        let answers = |asked: &RawFrame| {
            let code = [0, 99, u16::MAX][usize::try_from(asked.id % 3).unwrap()];
            frame(3, code, asked.id, u32::MAX, b"?")
        };
        attack(move |_, stream| answer_each(stream, answers), expected).await
    }

    pub(super) async fn half_an_answer_then_silence() -> Row {
        let errors = &["Lost(\"the peer fell silent\")"];
        let expected = Expected { calls: &[lost_within(3), DOWN], dials: 7..=20, errors };
        let half = frame(2, 0, 1, 0, &[7; 1000])[..500].to_vec();
        attack(move |_, stream| strike(stream, half.clone()), expected).await
    }

    /// As a process leaves that is killed while it answers.
    pub(super) async fn answer_cut_short() -> Row {
        let errors = &["Lost(\"connection ended inside a frame\")"];
        let expected = Expected { calls: &[lost_within(0), DOWN], dials: BACKING_OFF, errors };
        let hostile = async |cut, mut stream: BoxStream| {
            greet(&mut stream).await?;
            let asked = request(&mut stream).await?;
            stream.write_all(&answer(&asked)[..cut]).await
        };
        attack(move |nth, stream| hostile([1, 19, 20, 23][nth % 4], stream), expected).await
    }

    pub(super) async fn header_a_byte_a_second() -> Row {
        let errors = &["Lost(\"frame of 20 bytes came too slowly\")"];
        let expected = Expected { calls: &[lost_within(5), DOWN], dials: BACKING_OFF_AFTER_5_S, errors };
        let hostile = async |mut stream: BoxStream| {
            greet(&mut stream).await?;
            let asked = request(&mut stream).await?;
            trickle(&mut stream, &answer(&asked)).await
        };
        attack(move |_, stream| hostile(stream), expected).await
    }

    /// 128 KiB have 2 s more, at 64 KiB a second.
    pub(super) async fn payload_a_byte_a_second() -> Row {
        let errors = &["Lost(\"frame of 131072 bytes came too slowly\")"];
        let expected = Expected { calls: &[lost_within(7), DOWN], dials: 5..=9, errors };
        let hostile = async |mut stream: BoxStream| {
            greet(&mut stream).await?;
            let asked = request(&mut stream).await?;
            stream.write_all(&frame(2, 0, asked.id, 0, &[7; 128 << 10])[..20]).await?;
            trickle(&mut stream, b"x").await
        };
        attack(move |_, stream| hostile(stream), expected).await
    }

    /// Looks alive: only the calls' own budgets end them.
    pub(super) async fn pings_and_never_answers() -> Row {
        let calls = &[("TimedOut", BUDGET_OF_A_CALL)];
        let expected = Expected { calls, dials: ONCE, errors: &[] };
        let hostile = async |mut stream: BoxStream| {
            greet(&mut stream).await?;
            let (reader, mut writer) = split(stream);
            let pings = frame(6, 0, 1, 0, b"").repeat(100);
            let ping = async {
                loop {
                    writer.write_all(&pings).await?;
                    sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                end = ping => end,
                end = discard(Box::new(tokio::io::join(reader, tokio::io::sink()))) => end,
            }
        };
        attack(move |_, stream| hostile(stream), expected).await
    }

    /// A request that could not be written by the time the link is given up has not been sent.
    pub(super) async fn pings_and_never_reads() -> Row {
        let calls = &[("TimedOut", BUDGET_OF_A_CALL), ("LinkDown", BUDGET_OF_A_CALL)];
        let expected = Expected { calls, dials: 4..=6, errors: &["Lost(\"the peer stopped reading\")"] };
        let hostile = async |mut stream: BoxStream| {
            greet(&mut stream).await?;
            loop {
                stream.write_all(&frame(6, 0, 1, 0, b"")).await?;
                sleep(Duration::from_millis(1)).await;
            }
        };
        attack(move |_, stream| hostile(stream), expected).await
    }

    pub(super) async fn goes_away_again_and_again() -> Row {
        let calls = &[("GoingAway", AT_ONCE), DOWN];
        let expected = Expected { calls, dials: 10..=40, errors: &["Lost(\"closed by the peer\")"] };
        let hostile = async |mut stream: BoxStream| {
            read_hello(&mut stream).await;
            stream.write_all(&[ACK, &frame(8, 0, 0, 0, b"")].concat()).await?;
            loop {
                stream.write_all(&frame(8, 0, 0, 0, b"").repeat(100)).await?;
                sleep(Duration::from_millis(10)).await;
            }
        };
        attack(move |_, stream| hostile(stream), expected).await
    }

    /// 10,000 a second that nobody waits for, between those that somebody does.
    pub(super) async fn flood_of_answers() -> Row {
        let expected = Expected { calls: &[("answered", Duration::from_millis(20))], dials: ONCE, errors: &[] };
        let hostile = async |mut stream: BoxStream| {
            greet(&mut stream).await?;
            let mut ticks = interval(Duration::from_millis(10));
            let mut flood = Vec::new();
            for at in 0..50 {
                flood.extend(frame(2, 0, u64::MAX - at, 0, &[7; 100]));
                flood.extend(frame(3, 1, 1 << (at + 12), 0, b"evil"));
            }
            loop {
                ticks.tick().await;
                stream.write_all(&flood).await?;
                while let Ok(asked) = timeout(AT_ONCE, read_frame(&mut stream)).await {
                    stream.write_all(&answer(&asked?)).await?;
                }
            }
        };
        attack(move |_, stream| hostile(stream), expected).await
    }

    pub(super) async fn closes_right_after_the_ack() -> Row {
        let expected = Expected { calls: &[DOWN], dials: BACKING_OFF, errors: &["Lost(\"closed by the peer\")"] };
        attack(|_, mut stream| async move { greet(&mut stream).await }, expected).await
    }

    pub(super) async fn closes_on_every_request() -> Row {
        let errors = &["Lost(\"closed by the peer\")"];
        let expected = Expected { calls: &[lost_within(0), DOWN], dials: BACKING_OFF, errors };
        let hostile = async |mut stream: BoxStream| {
            greet(&mut stream).await?;
            request(&mut stream).await.map(drop)
        };
        attack(move |_, stream| hostile(stream), expected).await
    }
}
