//! Tests of several providers at once, with parts that fail when a test says so.

use std::sync::{Arc, Mutex as StdMutex};

use tokio::sync::broadcast;

use super::*;
use crate::{Change, StandaloneProvider, StaticProvider};

/// A provider whose server a test takes away and brings back.
#[derive(Debug)]
struct Remote {
    id: &'static str,
    addr: &'static str,
    state: StdMutex<State>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct State {
    is_away: bool,
    refuses: bool,
    runs: bool,
    starts: usize,
    published: Option<Registration>,
}

impl Remote {
    fn new(id: &'static str, addr: &'static str) -> Arc<Self> {
        Arc::new(Self { id, addr, state: StdMutex::default(), changes: broadcast::channel(8).0 })
    }

    fn away(self: &Arc<Self>, is_away: bool) {
        self.state.lock().unwrap().is_away = is_away;
    }

    fn published(&self) -> Option<String> {
        self.state.lock().unwrap().published.as_ref().map(|node| node.name.clone())
    }
}

#[async_trait]
impl Provider for Remote {
    fn id(&self) -> &'static str {
        self.id
    }

    async fn start(&self) -> Result<(), DiscoveryError> {
        let mut state = self.state.lock().unwrap();
        if state.refuses {
            return Err(DiscoveryError::refused(self.id, "no right"));
        }
        if state.is_away {
            return Err(DiscoveryError::unavailable(self.id, "away"));
        }
        if std::mem::replace(&mut state.runs, true) {
            return Err(DiscoveryError::AlreadyStarted { provider: self.id });
        }
        state.starts += 1;
        Ok(())
    }

    async fn register(&self, node: &Registration) -> Result<(), DiscoveryError> {
        self.state.lock().unwrap().published = Some(node.clone());
        Ok(())
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        let state = self.state.lock().unwrap();
        assert!(state.runs, "a part is asked only while it runs");
        if state.is_away {
            return Err(DiscoveryError::unavailable(self.id, "away"));
        }
        Ok(vec![Seed::new(self.addr.parse().unwrap(), self.id)])
    }

    fn changes(&self) -> Option<ChangeStream> {
        let changes = self.changes.subscribe();
        Some(Box::pin(futures_util::stream::unfold(changes, |mut changes| async {
            let change = changes.recv().await.ok()?;
            Some((change, changes))
        })))
    }

    async fn deregister(&self) -> Result<(), DiscoveryError> {
        self.state.lock().unwrap().published = None;
        Ok(())
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        let mut state = self.state.lock().unwrap();
        (state.runs, state.published) = (false, None);
        Ok(())
    }
}

fn this_node() -> Registration {
    Registration::new("cache-0", "10.0.0.1:3320".parse().unwrap())
}

async fn found(provider: &SeveralProviders) -> Vec<String> {
    provider.discover().await.unwrap().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn all_that_any_finds_is_found_and_each_address_once() {
    let (one, other) = (Remote::new("one", "10.0.0.1:1"), Remote::new("other", "10.0.0.2:1"));
    let several = SeveralProviders::new().and(one).and(other).and(Remote::new("third", "10.0.0.1:1"));
    several.start().await.unwrap();
    assert_eq!(found(&several).await, ["10.0.0.1:1 (one)", "10.0.0.2:1 (other)"]);
}

#[tokio::test]
async fn one_that_is_away_does_not_silence_the_others() {
    let (one, other) = (Remote::new("one", "10.0.0.1:1"), Remote::new("other", "10.0.0.2:1"));
    let several = SeveralProviders::new().and(Arc::clone(&one)).and(Arc::clone(&other));
    several.start().await.unwrap();
    one.away(true);
    assert_eq!(found(&several).await, ["10.0.0.2:1 (other)"]);
    other.away(true);
    assert_eq!(several.discover().await.unwrap_err().provider(), "one");
    one.away(false);
    assert_eq!(found(&several).await, ["10.0.0.1:1 (one)"]);
}

#[tokio::test]
async fn one_that_was_away_at_the_start_is_started_and_told_of_the_node_once_it_is_back() {
    let (one, other) = (Remote::new("one", "10.0.0.1:1"), Remote::new("other", "10.0.0.2:1"));
    one.away(true);
    let several = SeveralProviders::new().and(Arc::clone(&one)).and(other);
    several.start().await.unwrap();
    several.register(&this_node()).await.unwrap();
    assert_eq!(found(&several).await, ["10.0.0.2:1 (other)"]);
    assert_eq!(one.published(), None);
    one.away(false);
    assert_eq!(found(&several).await, ["10.0.0.1:1 (one)", "10.0.0.2:1 (other)"]);
    assert_eq!(one.published().as_deref(), Some("cache-0"));
    found(&several).await;
    assert_eq!(one.state.lock().unwrap().starts, 1);
}

#[tokio::test]
async fn one_that_was_away_is_not_told_of_a_node_that_was_withdrawn() {
    let (one, other) = (Remote::new("one", "10.0.0.1:1"), Remote::new("other", "10.0.0.2:1"));
    one.away(true);
    let several = SeveralProviders::new().and(Arc::clone(&one)).and(Arc::clone(&other));
    several.start().await.unwrap();
    several.register(&this_node()).await.unwrap();
    several.deregister().await.unwrap();
    assert_eq!(other.published(), None);
    one.away(false);
    found(&several).await;
    assert_eq!(one.published(), None);
}

#[tokio::test]
async fn a_start_fails_if_all_are_away_or_one_refuses_and_leaves_none_running() {
    let (one, other) = (Remote::new("one", "10.0.0.1:1"), Remote::new("other", "10.0.0.2:1"));
    let several = SeveralProviders::new().and(Arc::clone(&one)).and(Arc::clone(&other));
    one.away(true);
    other.away(true);
    assert!(several.start().await.unwrap_err().is_retryable());
    one.away(false);
    other.state.lock().unwrap().refuses = true;
    assert_eq!(several.start().await.unwrap_err().provider(), "other");
    assert!(!one.state.lock().unwrap().runs);
    assert!(matches!(several.discover().await, Err(DiscoveryError::NotStarted { provider: "several" })));
    other.state.lock().unwrap().refuses = false;
    other.away(false);
    several.start().await.unwrap();
    assert!(matches!(several.start().await, Err(DiscoveryError::AlreadyStarted { provider: "several" })));
    several.stop().await.unwrap();
    several.stop().await.unwrap();
    assert!(!one.state.lock().unwrap().runs && !other.state.lock().unwrap().runs);
}

#[tokio::test]
async fn changes_of_all_come_in_one_stream() {
    use futures_util::StreamExt as _;

    let (one, other) = (Remote::new("one", "10.0.0.1:1"), Remote::new("other", "10.0.0.2:1"));
    let several = SeveralProviders::new().and(Arc::clone(&one)).and(StaticProvider::new(["10.0.0.9:1"]));
    let several = several.and(Arc::clone(&other));
    several.start().await.unwrap();
    let mut changes = several.changes().unwrap();
    for remote in [&other, &one] {
        let seed = Seed::new(remote.addr.parse().unwrap(), remote.id);
        remote.changes.send(Change::Insert(seed)).unwrap();
        assert_eq!(changes.next().await, Some(Change::Insert(seed)));
    }
    let without = SeveralProviders::new().and(StaticProvider::new(["10.0.0.9:1"]));
    assert!(without.changes().is_none());
}

#[test]
fn faults_of_all_are_told_and_name_their_provider() {
    let several = SeveralProviders::new().and(StaticProvider::new(["bad"])).and(StaticProvider::new(["10.0.0.1:0"]));
    let fields: Vec<_> = several.validate().into_iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["static.addresses[0]", "static.addresses[0]"]);
    assert_eq!(SeveralProviders::new().validate()[0].field, "providers");
}

#[test]
fn only_with_standalone_ones_alone_it_is_standalone() {
    assert!(SeveralProviders::new().and(StandaloneProvider::new()).is_standalone());
    let mixed = SeveralProviders::new().and(StandaloneProvider::new()).and(StaticProvider::new(["10.0.0.1:1"]));
    assert!(!mixed.is_standalone());
    assert!(!SeveralProviders::new().is_standalone());
}
