//! The suite of several nodes passes a registry that is right, and catches each way in which it can be wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use distcache_discovery::conformance::{self, Ground, Report, Verdict};
use distcache_discovery::{Change, ChangeStream, DiscoveryError, Provider, Registration, Seed};
use tokio::sync::broadcast;

#[tokio::test(start_paused = true)]
async fn a_right_registry_keeps_every_rule() {
    let report = run(Flaw::None).await;
    assert!(report.is_clean(), "{report}");
    assert!(report.cases.iter().all(|(_, verdict)| *verdict == Ok(Verdict::Kept)), "{report}");
    let line = "conformance | registry | registry 1.0 | peers see one another | kept";
    assert!(report.to_string().lines().any(|shown| shown == line), "{report}");
}

#[tokio::test(start_paused = true)]
async fn each_flaw_breaks_its_own_case() {
    for (flaw, case) in [
        (Flaw::SeesItselfOnly, "peers see one another"),
        (Flaw::LeaverStays, "a leaver vanishes, and still sees the others"),
        (Flaw::LeaverIsBlind, "a leaver vanishes, and still sees the others"),
        (Flaw::TellsNoNewcomer, "a change is told as it happens"),
        (Flaw::TellsNoLeaver, "a change is told as it happens"),
        (Flaw::NeverHeals, "a server that was away is found again"),
        (Flaw::HangsWhenAway, "a server that was away is found again"),
    ] {
        let report = run(flaw).await;
        let broken: Vec<_> =
            report.cases.iter().filter(|(_, verdict)| verdict.is_err()).map(|(name, _)| *name).collect();
        assert!(broken.contains(&case), "{flaw:?} broke {broken:?}");
        let line = format!("conformance | registry | registry 1.0 | {case} | BROKEN: ");
        assert!(report.to_string().lines().any(|shown| shown.starts_with(&line)), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_provider_runs_when_the_suite_is_over() {
    for flaw in [Flaw::None, Flaw::SeesItselfOnly, Flaw::LeaverStays] {
        let registry = Arc::new(Registry::default());
        conformance::together(&Place { registry: Arc::clone(&registry), flaw }).await;
        assert_eq!(registry.0.lock().unwrap().running, 0, "{flaw:?}");
    }
}

async fn run(flaw: Flaw) -> Report {
    conformance::together(&Place { registry: Arc::new(Registry::default()), flaw }).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    SeesItselfOnly,
    LeaverStays,
    LeaverIsBlind,
    TellsNoNewcomer,
    TellsNoLeaver,
    NeverHeals,
    HangsWhenAway,
}

/// Who is where.
#[derive(Debug, Default)]
struct Registry(Mutex<State>);

#[derive(Debug)]
struct State {
    nodes: BTreeMap<String, SocketAddr>,
    is_away: bool,
    was_away: bool,
    running: usize,
    changes: broadcast::Sender<Change>,
}

impl Default for State {
    fn default() -> Self {
        Self { nodes: BTreeMap::new(), is_away: false, was_away: false, running: 0, changes: broadcast::channel(64).0 }
    }
}

struct Place {
    registry: Arc<Registry>,
    flaw: Flaw,
}

#[async_trait]
impl Ground for Place {
    fn server(&self) -> String {
        "registry 1.0".to_owned()
    }

    fn provider(&self, _: u16) -> Box<dyn Provider> {
        let (registry, flaw) = (Arc::clone(&self.registry), self.flaw);
        Box::new(Client { registry, flaw, state: Mutex::default() })
    }

    async fn stop_server(&self) -> bool {
        let mut state = self.registry.0.lock().unwrap();
        (state.is_away, state.was_away) = (true, true);
        true
    }

    async fn start_server(&self) {
        self.registry.0.lock().unwrap().is_away = false;
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

#[derive(Debug)]
struct Client {
    registry: Arc<Registry>,
    flaw: Flaw,
    state: Mutex<ClientState>,
}

#[derive(Debug, Default)]
struct ClientState {
    runs: bool,
    node: Option<Registration>,
    left: bool,
}

impl Client {
    fn withdraw(&self) {
        let mut client = self.state.lock().unwrap();
        let Some(node) = client.node.take() else { return };
        client.left = true;
        if self.flaw == Flaw::LeaverStays {
            return;
        }
        let mut state = self.registry.0.lock().unwrap();
        state.nodes.remove(&node.name);
        if self.flaw != Flaw::TellsNoLeaver {
            let _ = state.changes.send(Change::Remove(Seed::new(node.addr, self.id())));
        }
    }
}

#[async_trait]
impl Provider for Client {
    fn id(&self) -> &'static str {
        "registry"
    }

    async fn start(&self) -> Result<(), DiscoveryError> {
        if std::mem::replace(&mut self.state.lock().unwrap().runs, true) {
            return Err(DiscoveryError::AlreadyStarted { provider: self.id() });
        }
        self.registry.0.lock().unwrap().running += 1;
        Ok(())
    }

    async fn register(&self, node: &Registration) -> Result<(), DiscoveryError> {
        let mut state = self.registry.0.lock().unwrap();
        state.nodes.insert(node.name.clone(), node.addr);
        self.state.lock().unwrap().node = Some(node.clone());
        if self.flaw != Flaw::TellsNoNewcomer {
            let _ = state.changes.send(Change::Insert(Seed::new(node.addr, self.id())));
        }
        Ok(())
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        let (runs, left, own) = {
            let client = self.state.lock().unwrap();
            (client.runs, client.left, client.node.as_ref().map(|node| node.addr))
        };
        if !runs {
            return Err(DiscoveryError::NotStarted { provider: self.id() });
        }
        let (is_away, was_away, nodes) = {
            let state = self.registry.0.lock().unwrap();
            (state.is_away, state.was_away, state.nodes.values().copied().collect::<Vec<_>>())
        };
        if is_away && self.flaw == Flaw::HangsWhenAway {
            std::future::pending::<()>().await;
        }
        if is_away || (was_away && self.flaw == Flaw::NeverHeals) || (left && self.flaw == Flaw::LeaverIsBlind) {
            return Err(DiscoveryError::unavailable(self.id(), "away"));
        }
        let shown = nodes.into_iter().filter(|addr| self.flaw != Flaw::SeesItselfOnly || Some(*addr) == own);
        Ok(shown.map(|addr| Seed::new(addr, self.id())).collect())
    }

    fn changes(&self) -> Option<ChangeStream> {
        let changes = self.registry.0.lock().unwrap().changes.subscribe();
        Some(Box::pin(futures_util::stream::unfold(changes, |mut changes| async {
            let change = changes.recv().await.ok()?;
            Some((change, changes))
        })))
    }

    async fn deregister(&self) -> Result<(), DiscoveryError> {
        self.withdraw();
        Ok(())
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        self.withdraw();
        if std::mem::take(&mut self.state.lock().unwrap().runs) {
            self.registry.0.lock().unwrap().running -= 1;
        }
        Ok(())
    }
}
