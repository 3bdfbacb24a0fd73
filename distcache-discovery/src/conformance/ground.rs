//! Checks that several nodes find each other through a provider, and a server that comes and goes.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Violation, answers, broken, check, ends, is_not_started, publishes, refuses_a_second_start, starts, stops,
};
use super::{survives_dropped_calls, withdraws};
use crate::{Change, Provider, Registration, Seed};

/// Is where several nodes look for each other: one server, or one list, and providers that ask it.
///
/// A test implements this for the place its provider asks, and has [`together`] run every case on it. Only
/// [`provider`](Self::provider) and [`server`](Self::server) have to be written for a provider that publishes its node itself.
#[async_trait]
pub trait Ground: Send + Sync {
    /// Names what is asked, with its version: `dnsmasq 2.90`. It stands in the report.
    fn server(&self) -> String;

    /// Creates a provider for node number `node`, well configured and not started.
    fn provider(&self, node: u16) -> Box<dyn Provider>;

    /// Returns what node number `node` publishes. Defaults to `node-N` at `10.0.0.N:3320`.
    fn registration(&self, node: u16) -> Registration {
        let [high, low] = node.to_be_bytes();
        Registration::new(format!("node-{node}"), ([10, 0, high, low], 3320).into())
    }

    /// Puts a node where its peers look, if its provider leaves that to others: adds the record, or makes the pod. Defaults to
    /// nothing.
    async fn list(&self, _node: &Registration) {}

    /// Takes a node away from there. Defaults to nothing.
    async fn unlist(&self, _node: &Registration) {}

    /// Whether the list of nodes can change while nodes run. Defaults to `true`; a list in a configuration cannot.
    fn changes(&self) -> bool {
        true
    }

    /// Ends the server that is asked, without a word to anybody, and keeps what it lists. Returns `false`, the default, if there
    /// is no server.
    async fn stop_server(&self) -> bool {
        false
    }

    /// Starts the server again, at the same address.
    async fn start_server(&self) {}

    /// How long it may take until a change is seen. Defaults to 10 s.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// Runs every case on a ground, one after the other, and says how each went.
///
/// The server must be up. No provider is running when the check returns.
///
/// # Panics
///
/// Outside a Tokio runtime with its timer enabled.
pub async fn together(ground: &dyn Ground) -> Report {
    let mut cases = Vec::new();
    let mut note = |name, verdict: Result<Verdict, Violation>| cases.push((name, verdict));
    note("discover before start fails", before_start(ground).await);
    note("a second start fails", second_start(ground).await);
    note("stop may be repeated", stop_twice(ground).await);
    note("calls may be dropped", dropped_calls(ground).await);
    note("peers see one another", peers(ground).await);
    note("a leaver vanishes, and still sees the others", leaver(ground).await);
    note("a change is told as it happens", told(ground).await);
    note("a server that was away is found again", restart(ground).await);
    Report { provider: ground.provider(1).id(), server: ground.server(), cases }
}

/// Tells how each case went.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The [`id`](Provider::id) of the provider.
    pub provider: &'static str,
    /// What it asked.
    pub server: String,
    /// The cases by name, in the order in which they ran.
    pub cases: Vec<(&'static str, Result<Verdict, Violation>)>,
}

/// How a case went that broke no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The rule was kept.
    Kept,
    /// The case says nothing of this provider, for this reason.
    NotApplicable(&'static str),
}

impl Report {
    /// Returns whether no rule was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.cases.iter().all(|(_, verdict)| verdict.is_ok())
    }
}

impl fmt::Display for Report {
    /// One line a case: `conformance | dns | dnsmasq 2.90 | peers see one another | kept`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, verdict) in &self.cases {
            write!(f, "conformance | {} | {} | {name} | ", self.provider, self.server)?;
            match verdict {
                Ok(Verdict::Kept) => writeln!(f, "kept")?,
                Ok(Verdict::NotApplicable(why)) => writeln!(f, "not applicable: {why}")?,
                Err(violation) => writeln!(f, "BROKEN: {violation}")?,
            }
        }
        Ok(())
    }
}

async fn before_start(ground: &dyn Ground) -> Result<Verdict, Violation> {
    let node = ground.provider(1);
    is_not_started(&*node, "discover fails before start").await?;
    Ok(Verdict::Kept)
}

async fn second_start(ground: &dyn Ground) -> Result<Verdict, Violation> {
    let node = ground.provider(1);
    starts(&*node, "start succeeds").await?;
    let refused = refuses_a_second_start(&*node).await;
    let answered = answers(&*node).await;
    stops(&*node, "stop succeeds").await?;
    refused.and(answered).map(|()| Verdict::Kept)
}

async fn stop_twice(ground: &dyn Ground) -> Result<Verdict, Violation> {
    let node = ground.provider(1);
    stops(&*node, "stop does nothing to a provider that was never started").await?;
    starts(&*node, "start succeeds").await?;
    stops(&*node, "stop succeeds").await?;
    stops(&*node, "stop succeeds a second time").await?;
    is_not_started(&*node, "discover fails after stop").await?;
    starts(&*node, "a stopped provider starts again").await?;
    let answered = answers(&*node).await;
    stops(&*node, "a provider that was started again stops").await?;
    answered.map(|()| Verdict::Kept)
}

async fn dropped_calls(ground: &dyn Ground) -> Result<Verdict, Violation> {
    let node = ground.provider(1);
    starts(&*node, "start succeeds").await?;
    let survived = survives_dropped_calls(&*node).await;
    stops(&*node, "stop succeeds").await?;
    survived.map(|()| Verdict::Kept)
}

async fn peers(ground: &dyn Ground) -> Result<Verdict, Violation> {
    let town = Town::of(ground, 3).await?;
    let seen = town.all_see(&[1, 2, 3], "peers see one another").await;
    town.leave().await?;
    seen.map(|()| Verdict::Kept)
}

async fn leaver(ground: &dyn Ground) -> Result<Verdict, Violation> {
    if !ground.changes() {
        return Ok(Verdict::NotApplicable("the list is fixed"));
    }
    let town = Town::of(ground, 3).await?;
    let seen = async {
        town.all_see(&[1, 2, 3], "peers see one another").await?;
        ground.unlist(&ground.registration(2)).await;
        withdraws(&*town.nodes[1], "deregister succeeds").await?;
        let rule = "a node that was withdrawn vanishes, and still sees the others";
        town.all_see(&[1, 3], rule).await?;
        ground.list(&ground.registration(2)).await;
        publishes(&*town.nodes[1], &ground.registration(2), "a withdrawn node is published again").await?;
        town.all_see(&[1, 2, 3], "a node that is published again is seen again").await
    };
    let seen = seen.await;
    town.leave().await?;
    seen.map(|()| Verdict::Kept)
}

async fn told(ground: &dyn Ground) -> Result<Verdict, Violation> {
    if !ground.changes() {
        return Ok(Verdict::NotApplicable("the list is fixed"));
    }
    let town = Town::of(ground, 2).await?;
    let told = async {
        town.all_see(&[1, 2], "peers see one another").await?;
        let Some(mut changes) = town.nodes[0].changes() else {
            return Ok(Verdict::NotApplicable("the provider tells of no changes"));
        };
        let mut tells = async |wanted: Change, rule| {
            let told = async { while changes.next().await.is_some_and(|change| change != wanted) {} };
            timeout(ground.patience(), told).await.map_err(|_| broken(rule, &wanted))
        };
        let third = ground.provider(3);
        let node = ground.registration(3);
        let seed = Seed::new(node.addr, town.nodes[0].id());
        starts(&*third, "start succeeds").await?;
        ground.list(&node).await;
        publishes(&*third, &node, "register succeeds").await?;
        let came = tells(Change::Insert(seed), "a newcomer is told of as it comes").await;
        ground.unlist(&node).await;
        stops(&*third, "stop succeeds").await?;
        came?;
        tells(Change::Remove(seed), "a leaver is told of as it goes").await?;
        Ok(Verdict::Kept)
    };
    let told = told.await;
    town.leave().await?;
    told
}

async fn restart(ground: &dyn Ground) -> Result<Verdict, Violation> {
    let town = Town::of(ground, 3).await?;
    let healed = async {
        town.all_see(&[1, 2, 3], "peers see one another").await?;
        if !ground.stop_server().await {
            return Ok(Verdict::NotApplicable("there is no server"));
        }
        // Whether an answer or an error, it comes in time.
        let _ = ends(town.nodes[0].discover()).await?;
        ground.start_server().await;
        town.all_see(&[1, 2, 3], "peers see one another again after the server was away").await?;
        if !ground.changes() {
            return Ok(Verdict::Kept);
        }
        ground.unlist(&ground.registration(2)).await;
        withdraws(&*town.nodes[1], "deregister succeeds after the server was away").await?;
        town.all_see(&[1, 3], "a leaver vanishes after the server was away").await?;
        Ok(Verdict::Kept)
    };
    let healed = healed.await;
    town.leave().await?;
    healed
}

/// Some nodes of one ground, started and published.
struct Town<'a> {
    ground: &'a dyn Ground,
    nodes: Vec<Box<dyn Provider>>,
}

impl<'a> Town<'a> {
    async fn of(ground: &'a dyn Ground, nodes: u16) -> Result<Self, Violation> {
        let mut town = Self { ground, nodes: Vec::new() };
        for node in 1..=nodes {
            let (provider, registration) = (ground.provider(node), ground.registration(node));
            town.nodes.push(provider);
            let settled = town.settle(&registration).await;
            if let Err(violation) = settled {
                town.leave().await?;
                return Err(violation);
            }
        }
        Ok(town)
    }

    /// Starts the node that came last.
    async fn settle(&self, registration: &Registration) -> Result<(), Violation> {
        let Some(newest) = self.nodes.last() else { return Ok(()) };
        starts(&**newest, "start succeeds").await?;
        self.ground.list(registration).await;
        publishes(&**newest, registration, "register succeeds").await
    }

    /// Waits until each node finds these nodes; whether it finds itself is its own affair.
    async fn all_see(&self, wanted: &[u16], rule: &'static str) -> Result<(), Violation> {
        let addr = |node: u16| self.ground.registration(node).addr;
        for (node, provider) in (1..).zip(&self.nodes) {
            let mut wanted: Vec<_> = wanted.iter().filter(|other| **other != node).map(|other| addr(*other)).collect();
            wanted.sort();
            eventually(self.ground.patience(), || async {
                let found = ends(provider.discover()).await?;
                let mut peers: Vec<_> = found.iter().flatten().map(|seed| seed.addr).collect();
                peers.retain(|peer| *peer != addr(node));
                peers.sort();
                check(rule, found.is_ok() && peers == wanted, || {
                    format!("node {node} found {found:?} instead of {wanted:?}")
                })
            })
            .await?;
        }
        Ok(())
    }

    async fn leave(&self) -> Result<(), Violation> {
        let mut left = Ok(());
        for (node, provider) in (1..).zip(&self.nodes) {
            self.ground.unlist(&self.ground.registration(node)).await;
            left = left.and(stops(&**provider, "stop succeeds").await);
        }
        left
    }
}

/// Asks until a rule is kept, or the time is up.
async fn eventually<F>(patience: Duration, mut attempt: impl FnMut() -> F) -> Result<(), Violation>
where
    F: Future<Output = Result<(), Violation>>,
{
    let deadline = Instant::now() + patience;
    loop {
        match attempt().await {
            Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
            done => return done,
        }
    }
}

/// Between two questions of a check that waits for something to come true.
const PAUSE: Duration = Duration::from_millis(50);
