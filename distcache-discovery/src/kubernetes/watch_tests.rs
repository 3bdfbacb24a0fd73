//! What takes minutes: silence, bookmarks and long outages, on a paused clock.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::sleep;
use tower::{BoxError, service_fn};

use super::*;
use crate::Provider as _;
use crate::kubernetes::{KubernetesProvider, Running};

/// A server that lists one pod, and watches in a way of the test's.
struct Stub {
    provider: KubernetesProvider,
    watches: Arc<AtomicUsize>,
    lists: Arc<AtomicUsize>,
}

/// How a watch is answered.
enum Answer {
    Chunks(BoxStream<'static, Result<Frame<Bytes>, Infallible>>),
    Failure,
    Never,
}

fn chunk(text: &'static str) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

impl Stub {
    /// Begins to watch a server that answers a watch by `watch`.
    fn start(watch: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        const LIST: &str = r#"{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"cache-0"},
            "spec":{"containers":[{"ports":[{"name":"distcache","containerPort":3320}]}]},
            "status":{"phase":"Running","podIP":"10.0.0.1"}}]}"#;
        let (watches, lists) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counts, watch) = ((watches.clone(), lists.clone()), Arc::new(watch));
        let service = service_fn(move |request: Request<kube::client::Body>| {
            let (counts, watch) = (counts.clone(), watch.clone());
            async move {
                let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
                let chunks = if is_watch {
                    counts.0.fetch_add(1, SeqCst);
                    match watch() {
                        Answer::Chunks(chunks) => chunks,
                        Answer::Failure => return Err("no route to host".into()),
                        Answer::Never => std::future::pending().await,
                    }
                } else {
                    counts.1.fetch_add(1, SeqCst);
                    stream::iter([chunk(LIST)]).boxed()
                };
                Ok::<_, BoxError>(Response::new(StreamBody::new(chunks)))
            }
        });
        let provider = KubernetesProvider::pods("app=cache", "distcache");
        let client = kube::Client::new(service, "default");
        let api = Api::new(client, provider.target.clone(), "default".to_owned(), Duration::from_secs(5));
        *provider.running() = Some(Arc::new(Running::new(api)));
        Self { provider, watches, lists }
    }

    fn watches(&self) -> usize {
        self.watches.load(SeqCst)
    }

    fn is_fresh(&self) -> bool {
        let running = self.provider.running().clone().unwrap();
        running.known.answer().is_some_and(|seeds| seeds.len() == 1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_given_up() {
    let stub = Stub::start(|| Answer::Chunks(stream::pending().boxed()));
    sleep(SILENCE - Duration::from_secs(1)).await;
    assert!(stub.is_fresh() && stub.watches() == 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(stub.watches(), 2);
    assert!(!stub.is_fresh(), "what was missed has not come yet");
    sleep(SETTLE).await;
    assert!(stub.is_fresh());
}

#[tokio::test(start_paused = true)]
async fn bookmarks_keep_a_watch_open() {
    const BOOKMARK: &str = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"2\"}}}\n";
    let bookmarks = || {
        stream::unfold((), |()| async {
            sleep(Duration::from_secs(60)).await;
            Some((chunk(BOOKMARK), ()))
        })
    };
    let stub = Stub::start(move || Answer::Chunks(bookmarks().boxed()));
    for _ in 0..20 {
        sleep(Duration::from_secs(30)).await;
        assert!(stub.is_fresh() && stub.watches() == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_makes_good_what_was_never_told() {
    let silent = || Answer::Chunks(stream::pending().boxed());
    let stub = Stub::start(silent);
    sleep(LIST_AGAIN - Duration::from_secs(10)).await;
    assert_eq!(stub.lists.load(SeqCst), 1);
    sleep(SILENCE + Duration::from_secs(20)).await;
    assert_eq!(stub.lists.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_asked_for_ever_and_not_often() {
    for answer in [|| Answer::Failure, || Answer::Never] {
        is_asked_for_ever_and_not_often(Stub::start(answer)).await;
    }
}

async fn is_asked_for_ever_and_not_often(stub: Stub) {
    sleep(Duration::from_secs(600)).await;
    let asked = stub.watches();
    assert!((20..60).contains(&asked), "asked {asked} times in ten minutes");
    sleep(Duration::from_secs(3600)).await;
    let asked = stub.watches() - asked;
    assert!((110..250).contains(&asked), "asked {asked} times in an hour");
    assert!(!stub.is_fresh());
}

#[tokio::test(start_paused = true)]
async fn whoever_was_answered_has_the_watch_try_at_once() {
    let stub = Stub::start(|| Answer::Failure);
    sleep(Duration::from_secs(600)).await;
    // Just after an attempt, the next is far.
    let asked = stub.watches();
    while stub.watches() == asked {
        sleep(Duration::from_millis(10)).await;
    }
    let asked = stub.watches();
    assert_eq!(stub.provider.discover().await.unwrap().len(), 1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stub.watches(), asked + 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_not_opened_in_a_hurry() {
    let stub = Stub::start(|| Answer::Chunks(stream::empty().boxed()));
    sleep(Duration::from_secs(60)).await;
    assert!((5..20).contains(&stub.watches()), "opened {} times in a minute", stub.watches());
}
