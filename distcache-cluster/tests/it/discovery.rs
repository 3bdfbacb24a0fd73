//! What a node makes of what discovery says: at once what is news, a bounded part of what may be an attack.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use distcache_cluster::StartError;
use distcache_discovery::{Change, ChangeStream, DiscoveryError, Provider, Registration, Seed};
use tokio::{sync::broadcast, time::sleep};

use crate::harness::*;

/// A provider whose answers a test sets, and which notes its calls.
#[derive(Debug)]
struct Told {
    answer: Mutex<Vec<SocketAddr>>,
    calls: Mutex<Vec<String>>,
    changes: broadcast::Sender<Change>,
    refuses: bool,
    is_away: AtomicBool,
}

impl Told {
    fn new(answer: Vec<SocketAddr>) -> Arc<Self> {
        let (calls, changes) = (Mutex::default(), broadcast::channel(2_048).0);
        Arc::new(Self { answer: Mutex::new(answer), calls, changes, refuses: false, is_away: AtomicBool::new(false) })
    }

    fn called(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }

    fn calls(&self, call: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|made| *made == call).count()
    }
}

#[async_trait]
impl Provider for Told {
    fn id(&self) -> &'static str {
        "told"
    }

    async fn start(&self) -> Result<(), DiscoveryError> {
        self.called("start");
        Ok(())
    }

    async fn register(&self, node: &Registration) -> Result<(), DiscoveryError> {
        self.called(format!("register {} at {}", node.name, node.addr));
        if self.refuses { Err(DiscoveryError::refused("told", "no right")) } else { Ok(()) }
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        self.called("discover");
        if self.is_away.load(Ordering::Relaxed) {
            return Err(DiscoveryError::unavailable("told", "away"));
        }
        Ok(self.answer.lock().unwrap().iter().map(|addr| Seed::new(*addr, "told")).collect())
    }

    fn changes(&self) -> Option<ChangeStream> {
        let changes = self.changes.subscribe();
        Some(Box::pin(futures_util::stream::unfold(changes, |mut changes| async {
            let change = changes.recv().await.ok()?;
            Some((change, changes))
        })))
    }

    async fn deregister(&self) -> Result<(), DiscoveryError> {
        self.called("deregister");
        Ok(())
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        self.called("stop");
        Ok(())
    }
}

/// Addresses at which nobody listens.
fn wrong(count: u16) -> impl Iterator<Item = SocketAddr> {
    (0..count).map(|n| SocketAddr::from(([10, 9, (n >> 8) as u8, n as u8], 3_320)))
}

#[tokio::test(start_paused = true)]
async fn a_node_is_published_once_it_listens_and_withdrawn_before_it_leaves() {
    let mut net = Net::empty();
    let told = Told::new(vec![addr(0)]);
    net.nodes.push(net.join_by(0, Arc::clone(&told) as _).await.unwrap());
    net.nodes.push(net.join(1, &[0]).await.unwrap());
    net.until_members(2).await;
    net.nodes[0].cluster.leave(Duration::from_secs(5)).await;
    let calls = told.calls.lock().unwrap();
    let calls: Vec<_> = calls.iter().map(String::as_str).filter(|call| *call != "discover").collect();
    assert_eq!(calls, ["start", "register node-0 at 10.0.0.1:3000", "deregister", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_published_does_not_start_and_stops_its_provider() {
    let net = Net::empty();
    let mut told = Told::new(Vec::new());
    Arc::get_mut(&mut told).unwrap().refuses = true;
    let error = net.join_by(0, Arc::clone(&told) as _).await.err().unwrap();
    assert!(matches!(error, StartError::Discovery { provider: "told", .. }), "{error:?}");
    assert_eq!((told.calls("stop"), told.calls("discover")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_acted_on_at_once() {
    let mut net = Net::empty();
    net.config.discovery_interval = Duration::from_secs(1_000);
    let told = Told::new(vec![addr(0)]);
    net.nodes.push(net.join_by(0, Arc::clone(&told) as _).await.unwrap());
    // It does not look for anybody: it is to be found.
    net.nodes.push(net.join_by(1, Told::new(vec![addr(1)])).await.unwrap());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(net.nodes[0].cluster.view().members().len(), 1, "nobody told it yet");

    told.answer.lock().unwrap().push(addr(1));
    told.changes.send(Change::Insert(Seed::new(addr(1), "told"))).unwrap();
    let found = || net.nodes.iter().all(|node| node.cluster.view().members().len() == 2);
    until("the newcomer is a member", Duration::from_secs(2), found).await;
}

#[tokio::test(start_paused = true)]
async fn a_swarm_of_changes_is_a_few_questions() {
    let mut net = Net::empty();
    net.config.discovery_interval = Duration::from_secs(1_000);
    let told = Told::new(vec![addr(0)]);
    net.nodes.push(net.join_by(0, Arc::clone(&told) as _).await.unwrap());
    let before = told.calls("discover");
    for _ in 0..1_000 {
        let _ = told.changes.send(Change::Remove(Seed::new(addr(7), "told")));
        sleep(Duration::from_millis(1)).await;
    }
    // And none of them is asked about later.
    sleep(Duration::from_secs(60)).await;
    let asked = told.calls("discover") - before;
    // Four in the second, and some because the runtime lets no task take all that is there at once.
    assert!((3..=12).contains(&asked), "asked {asked} times");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_asked_soon_then_seldom_and_found_again() {
    let mut net = Net::empty();
    let told = Told::new(vec![addr(0)]);
    net.nodes.push(net.join_by(0, Arc::clone(&told) as _).await.unwrap());
    net.nodes.push(net.join_by(1, Told::new(vec![addr(1)])).await.unwrap());
    told.is_away.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(12)).await;
    let before = told.calls("discover");
    sleep(Duration::from_secs(4)).await;
    assert!((2..=5).contains(&(told.calls("discover") - before)), "soon after it failed first");
    sleep(Duration::from_secs(60)).await;
    let before = told.calls("discover");
    sleep(Duration::from_secs(60)).await;
    assert!((4..=8).contains(&(told.calls("discover") - before)), "every ten seconds or so in the end");
    told.answer.lock().unwrap().push(addr(1));
    told.is_away.store(false, Ordering::Relaxed);
    net.until_members(2).await;
}

#[tokio::test(start_paused = true)]
async fn among_a_thousand_wrong_addresses_the_right_one_is_found_and_few_dials_are_made() {
    let mut net = Net::empty();
    net.nodes.push(net.join(0, &[0]).await.unwrap());
    net.config.join_timeout = Duration::from_secs(120);
    let told = Told::new(wrong(1_000).chain([addr(0)]).collect());
    let start = tokio::time::Instant::now();
    net.dials.lock().unwrap().clear();
    net.nodes.push(net.join_by(1, Arc::clone(&told) as _).await.unwrap());
    net.until_members(2).await;
    let seconds = start.elapsed().as_secs_f64();
    let dials =
        |net: &Net| net.dials.lock().unwrap().iter().filter(|addr| addr.ip().to_string().starts_with("10.9.")).count();
    let joined = dials(&net) as f64;
    // A burst of 64 addresses and 16 addresses a second after it, on two lanes each.
    assert!(joined <= 128.0 + 32.0 * seconds + 64.0, "{joined} dials in {seconds} s");
    sleep(Duration::from_secs(100)).await;
    let later = dials(&net) as f64 - joined;
    assert!(
        (2_000.0..=3_400.0).contains(&later),
        "{later} dials in 100 s: the wrong ones are tried again, at a bounded rate"
    );
    assert_eq!(net.nodes[1].cluster.view().members().len(), 2, "a member's link is not disturbed");
}

#[tokio::test(start_paused = true)]
async fn wrong_addresses_take_no_place_from_members() {
    let mut net = Net::empty();
    net.config.discovery_interval = Duration::from_secs(1);
    let told = Told::new(vec![addr(0)]);
    net.nodes.push(net.join_by(0, Arc::clone(&told) as _).await.unwrap());
    // More than a node has peers at most, before and after the one that is to be found.
    *told.answer.lock().unwrap() = wrong(2_000).chain([addr(0)]).collect();
    sleep(Duration::from_secs(10)).await;
    net.nodes.push(net.join(1, &[0]).await.unwrap());
    net.until_members(2).await;
}

#[tokio::test(start_paused = true)]
async fn addresses_outside_of_the_networks_are_never_dialled() {
    let mut net = Net::empty();
    net.nodes.push(net.join(0, &[0]).await.unwrap());
    net.config.networks = vec!["10.0.0.0/24".parse().unwrap()];
    let told = Told::new(wrong(10).chain([addr(0), "127.0.0.1:22".parse().unwrap()]).collect());
    net.nodes.push(net.join_by(1, told).await.unwrap());
    net.until_members(2).await;
    sleep(Duration::from_secs(60)).await;
    let dials = net.dials.lock().unwrap();
    assert!(dials.contains(&addr(0)));
    assert!(dials.iter().all(|dialled| *dialled == addr(0) || *dialled == addr(1)), "{dials:?}");
}
