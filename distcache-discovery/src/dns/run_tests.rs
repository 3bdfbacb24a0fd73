//! Tests of what is kept between answers, and of the streams, on a paused clock.

use std::time::Duration;

use futures_util::StreamExt as _;
use hickory_resolver::proto::rr::{Record, RecordType};
use tokio::sync::watch;
use tokio::time::{advance, timeout};

use super::*;
use crate::IpFamily;
use crate::dns::search::Search;
use crate::dns::stand_in::{Zone, a, name, srv};
use crate::dns::watch::changes;
use crate::{Change, ChangeStream};

const SRV: RecordType = RecordType::SRV;

fn run(zone: &Zone, port: Option<u16>) -> Arc<Run> {
    Arc::new(Run::new(Resolver {
        servers: Box::new(zone.clone()),
        search: Search::default(),
        name: name("cache."),
        port,
        family: Some(IpFamily::V4),
        timeout: Duration::from_secs(5),
        overflowing: AtomicBool::new(false),
    }))
}

fn set(zone: &Zone, ttl: u32, ips: &[&str]) {
    zone.set("cache.", RecordType::A, ips.iter().map(|ip| a("cache.", ttl, ip)));
}

async fn found(run: &Run) -> Vec<String> {
    run.answer().await.unwrap().seeds.iter().map(|seed| seed.addr.ip().to_string()).collect()
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_ttl_and_no_longer() {
    let zone = Zone::default();
    set(&zone, 10, &["10.0.0.1"]);
    let run = run(&zone, Some(1));
    assert_eq!(found(&run).await, ["10.0.0.1"]);
    set(&zone, 10, &["10.0.0.2"]);
    advance(Duration::from_millis(9_999)).await;
    assert_eq!(found(&run).await, ["10.0.0.1"]);
    assert_eq!(zone.asked(), 1);
    advance(Duration::from_millis(1)).await;
    assert_eq!(found(&run).await, ["10.0.0.2"]);
    assert_eq!(zone.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_ttl_hides_a_newcomer_for_thirty_seconds_at_most() {
    let zone = Zone::default();
    set(&zone, 86_400, &["10.0.0.1"]);
    let run = run(&zone, Some(1));
    found(&run).await;
    set(&zone, 86_400, &["10.0.0.1", "10.0.0.2"]);
    advance(secs(30)).await;
    assert_eq!(found(&run).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_appears_is_found_within_two_seconds() {
    let zone = Zone::default();
    let run = run(&zone, Some(1));
    assert_eq!(found(&run).await, [""; 0]);
    set(&zone, 10, &["10.0.0.1"]);
    advance(secs(2)).await;
    assert_eq!(found(&run).await, ["10.0.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_at_once_after_the_ttl_and_never_kept() {
    let zone = Zone::default();
    set(&zone, 10, &["10.0.0.1"]);
    let run = run(&zone, Some(1));
    found(&run).await;
    zone.fail("cache.", RecordType::A);
    assert_eq!(found(&run).await, ["10.0.0.1"], "the answer still holds");
    advance(secs(10)).await;
    let error = run.answer().await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unavailable { provider: "dns", .. }) && error.is_retryable());
    set(&zone, 10, &["10.0.0.1"]);
    assert_eq!(found(&run).await, ["10.0.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_asked_for_earlier_does_not_replace_a_later_one() {
    let zone = Zone::default();
    let run = run(&zone, Some(1));
    zone.set_slow("cache.", RecordType::A, secs(4), a("cache.", 10, "10.0.0.1"));
    let early = tokio::spawn({
        let run = Arc::clone(&run);
        async move { found(&run).await }
    });
    while zone.asked() == 0 {
        tokio::task::yield_now().await;
    }
    advance(secs(1)).await;
    set(&zone, 10, &["10.0.0.2"]);
    assert_eq!(found(&run).await, ["10.0.0.2"]);
    assert_eq!(early.await.unwrap(), ["10.0.0.1"]);
    assert_eq!(found(&run).await, ["10.0.0.2"]);
}

#[tokio::test]
async fn an_answer_is_cut_at_1024_seeds() {
    let zone = Zone::default();
    let flood = (0..4000).map(|i| a("cache.", 10, &format!("10.1.{}.{}", i / 250, i % 250)));
    zone.set("cache.", RecordType::A, flood.collect::<Vec<Record>>());
    assert_eq!(found(&run(&zone, Some(1))).await.len(), 1024);
}

/// A stream, and what keeps it open.
fn stream(run: &Arc<Run>) -> (ChangeStream, watch::Sender<()>) {
    let open = watch::Sender::new(());
    (changes(Arc::clone(run), open.subscribe()), open)
}

async fn told(changes: &mut ChangeStream) -> String {
    let told = timeout(secs(60), changes.next()).await;
    match told.expect("a change is told within a minute") {
        Some(Change::Insert(seed)) => format!("+{}", seed.addr.ip()),
        Some(Change::Remove(seed)) => format!("-{}", seed.addr.ip()),
        None => "end".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_when_the_ttl_ends() {
    let zone = Zone::default();
    set(&zone, 10, &["10.0.0.1"]);
    let run = run(&zone, Some(1));
    let (mut changes, _open) = stream(&run);
    assert_eq!(told(&mut changes).await, "+10.0.0.1", "all is new to who has not asked");
    let before = Instant::now();
    set(&zone, 10, &["10.0.0.2"]);
    assert_eq!(told(&mut changes).await, "+10.0.0.2");
    assert_eq!(before.elapsed(), secs(10));
    assert_eq!(told(&mut changes).await, "-10.0.0.1");
    zone.remove("cache.", RecordType::A);
    assert_eq!(told(&mut changes).await, "-10.0.0.2");
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_before_is_not_told_again() {
    let zone = Zone::default();
    set(&zone, 10, &["10.0.0.1"]);
    let run = run(&zone, Some(1));
    found(&run).await;
    let (mut changes, _open) = stream(&run);
    set(&zone, 10, &["10.0.0.1", "10.0.0.2"]);
    assert_eq!(told(&mut changes).await, "+10.0.0.2");
}

#[tokio::test(start_paused = true)]
async fn two_readers_are_told_the_same_and_ask_once() {
    let zone = Zone::default();
    set(&zone, 10, &["10.0.0.1"]);
    let run = run(&zone, Some(1));
    let ((mut one, _open), (mut other, _open2)) = (stream(&run), stream(&run));
    assert_eq!((told(&mut one).await, told(&mut other).await), ("+10.0.0.1".to_owned(), "+10.0.0.1".to_owned()));
    assert_eq!(zone.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_removes_nobody_and_its_end_is_seen() {
    let zone = Zone::default();
    set(&zone, 10, &["10.0.0.1"]);
    let run = run(&zone, Some(1));
    let (mut changes, _open) = stream(&run);
    assert_eq!(told(&mut changes).await, "+10.0.0.1");
    zone.fail("cache.", RecordType::A);
    let asked = zone.asked();
    timeout(secs(3600), changes.next()).await.unwrap_err();
    let tries = zone.asked() - asked;
    assert!((400..500).contains(&tries), "{tries} questions in an hour without an answer");
    set(&zone, 10, &["10.0.0.1", "10.0.0.2"]);
    let before = Instant::now();
    assert_eq!(told(&mut changes).await, "+10.0.0.2");
    assert!(before.elapsed() <= secs(8));
}

#[tokio::test(start_paused = true)]
async fn what_one_failed_question_leaves_out_is_not_told_as_gone() {
    let zone = Zone::default();
    zone.set("cache.", SRV, [srv("cache.", 10, 1, "a."), srv("cache.", 10, 1, "b.")]);
    zone.set("a.", RecordType::A, [a("a.", 10, "10.0.0.1")]);
    zone.set("b.", RecordType::A, [a("b.", 10, "10.0.0.2")]);
    let run = run(&zone, None);
    let (mut changes, _open) = stream(&run);
    assert_eq!((told(&mut changes).await, told(&mut changes).await), ("+10.0.0.1".into(), "+10.0.0.2".into()));
    zone.fail("b.", RecordType::A);
    timeout(secs(60), changes.next()).await.unwrap_err();
    zone.set("cache.", SRV, [srv("cache.", 10, 1, "a.")]);
    assert_eq!(told(&mut changes).await, "-10.0.0.2");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_late_is_not_asked_without_a_pause() {
    let zone = Zone::default();
    zone.set_slow("cache.", RecordType::A, secs(3), a("cache.", 0, "10.0.0.1"));
    let run = run(&zone, Some(1));
    let (mut changes, _open) = stream(&run);
    assert_eq!(told(&mut changes).await, "+10.0.0.1");
    timeout(secs(40), changes.next()).await.unwrap_err();
    assert_eq!(zone.asked(), 11, "3 s for an answer and 1 s between two");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_provider_even_in_the_middle_of_a_question() {
    let zone = Zone::default();
    zone.hang("cache.", RecordType::A);
    let run = run(&zone, Some(1));
    let (mut changes, open) = stream(&run);
    timeout(secs(1), changes.next()).await.unwrap_err();
    drop(open);
    assert_eq!(told(&mut changes).await, "end");
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_and_the_first_success_are_logged_and_those_between_are_not() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let zone = Zone::default();
    let run = run(&zone, Some(1));
    for _ in 0..2 {
        zone.fail("cache.", RecordType::A);
        for _ in 0..10 {
            run.answer().await.unwrap_err();
        }
        set(&zone, 1, &["10.0.0.1"]);
        for _ in 0..10 {
            assert_eq!(found(&run).await, ["10.0.0.1"]);
            advance(secs(1)).await;
        }
    }
    use tracing::Level;
    assert_eq!(*log.0.lock().unwrap(), [Level::WARN, Level::INFO, Level::WARN, Level::INFO]);
}

/// Notes the level of each event.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<tracing::Level>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().unwrap().push(*event.metadata().level());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
