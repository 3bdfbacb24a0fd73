//! What no server should send does no harm.

use std::time::{Duration, Instant};

use distcache_discovery::{DnsProvider, IpFamily, Provider};

use super::liar::Liar;
use super::{addresses, fails, found, started};

/// A response to the question, with these flags and counts, and then these bytes.
fn response(question: &[u8], flags: u16, counts: [u16; 3], rest: &[u8]) -> Vec<u8> {
    let mut bytes = question[..2].to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(1u16.to_be_bytes());
    bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    bytes.extend(asked(question));
    bytes.extend(rest);
    bytes
}

/// The question without the header and without what stands after it.
fn asked(question: &[u8]) -> &[u8] {
    let end = question[12..].iter().position(|byte| *byte == 0).unwrap() + 12 + 5;
    &question[12..end]
}

/// An A record of the name that was asked for.
fn record(ip: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4];
    bytes.extend(ip);
    bytes
}

const OK: u16 = 0x8580;
const TRUNCATED: u16 = OK | 0x0200;

async fn provider(liar: &Liar) -> DnsProvider {
    let provider = addresses(liar.addr, "cache.example").family(IpFamily::V4);
    started(provider.timeout(Duration::from_millis(700))).await
}

/// Lies, and expects an outage in time.
async fn lie(
    what: &str,
    udp: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    tcp: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
) {
    let liar = Liar::start(move |question| vec![udp(question)], tcp).await;
    let provider = provider(&liar).await;
    let before = Instant::now();
    let found = provider.discover().await;
    assert!(found.as_ref().is_err_and(|error| error.is_retryable()), "{what}: {found:?}");
    assert!(before.elapsed() < Duration::from_secs(5), "{what}: {:?}", before.elapsed());
}

#[tokio::test]
async fn what_is_no_answer_is_an_outage() {
    let none = |_: &[u8]| Vec::new();
    lie("nothing", none, none).await;
    lie("one byte", |_| vec![0], none).await;
    lie("noise", |_| (0..=255).cycle().take(4000).collect(), none).await;
    lie("the question itself", <[u8]>::to_vec, none).await;
    lie("a header only", |question| question[..12].to_vec(), none).await;
    lie("no end", |question| response(question, OK, [u16::MAX; 3], &[]), none).await;
    lie("a record cut short", |question| response(question, OK, [1, 0, 0], &record([10, 0, 0, 1])[..14]), none).await;
    lie(
        "a name within itself",
        |question| {
            let itself = u8::try_from(12 + asked(question).len()).unwrap();
            response(question, OK, [1, 0, 0], &[&[0xc0, itself], &record([10, 0, 0, 1])[2..]].concat())
        },
        none,
    )
    .await;
    lie(
        "another identifier",
        |question| {
            let mut bytes = response(question, OK, [1, 0, 0], &record([10, 6, 6, 6]));
            bytes[1] ^= 1;
            bytes
        },
        none,
    )
    .await;
    lie(
        "another question",
        |question| {
            let mut bytes = response(question, OK, [1, 0, 0], &record([10, 6, 6, 6]));
            bytes[13] = b'x';
            bytes
        },
        none,
    )
    .await;
    lie(
        "a referral",
        |question| {
            let ns = [0xc0, 12, 0, 2, 0, 1, 0, 0, 0, 1, 0, 2, 0xc0, 12];
            response(question, OK, [0, 1, 0], &ns)
        },
        none,
    )
    .await;
}

#[tokio::test]
async fn what_is_no_answer_over_tcp_is_an_outage() {
    let truncated = |question: &[u8]| response(question, TRUNCATED, [0, 0, 0], &[]);
    lie("silence", truncated, |_| Vec::new()).await;
    lie("half a length", truncated, |_| vec![0xff]).await;
    lie("no end", truncated, |_| vec![0xff; 1000]).await;
    lie("noise", truncated, |_| [vec![0, 100], (0..100).collect()].concat()).await;
    lie("truncated again", truncated, |question| {
        let bytes = response(question, TRUNCATED, [0, 0, 0], &[]);
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
    })
    .await;
}

#[tokio::test]
async fn a_good_answer_after_forged_ones_is_found() {
    let liar = Liar::start(
        |question| {
            let good = response(question, OK, [1, 0, 0], &record([10, 0, 0, 1]));
            let mut forged = response(question, OK, [1, 0, 0], &record([10, 6, 6, 6]));
            forged[0] ^= 0x55;
            vec![vec![1], forged.clone(), forged, good]
        },
        |_| Vec::new(),
    )
    .await;
    assert_eq!(found(&provider(&liar).await).await.unwrap(), ["10.0.0.1:3320"]);
}

#[tokio::test]
async fn addresses_that_nobody_can_dial_and_records_of_others_are_left_out() {
    let liar = Liar::start(
        |question| {
            let mut records = [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255], [127, 0, 0, 1]].map(record).concat();
            // Of the root, which was not asked for.
            records.extend([0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 6, 6, 6]);
            vec![response(question, OK, [5, 0, 0], &records)]
        },
        |_| Vec::new(),
    )
    .await;
    assert_eq!(found(&provider(&liar).await).await.unwrap(), ["127.0.0.1:3320"]);
}

#[tokio::test]
async fn a_liar_that_comes_to_its_senses_is_believed_again() {
    let lies = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let lying = std::sync::Arc::clone(&lies);
    let liar = Liar::start(
        move |question| match lying.load(std::sync::atomic::Ordering::SeqCst) {
            true => vec![response(question, OK, [u16::MAX; 3], &[])],
            false => vec![response(question, OK, [1, 0, 0], &record([10, 0, 0, 1]))],
        },
        |_| Vec::new(),
    )
    .await;
    let provider = provider(&liar).await;
    fails(&provider).await;
    lies.store(false, std::sync::atomic::Ordering::SeqCst);
    super::finds(&provider, &["10.0.0.1:3320"]).await;
}
