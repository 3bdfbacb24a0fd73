//! Discovery at work: publishes this node, asks who else is there for as long as it lives, and withdraws it.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use distcache_discovery::{ChangeStream, DiscoveryError, Provider, Registration};
use futures_util::{FutureExt as _, StreamExt as _};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{causes::with_causes, error::StartError, event::Event, ident::NodeIdent, shared::Shared};

/// Makes the provider ready, and has it publish this node, which listens already.
///
/// # Errors
/// The provider's own. It is stopped then.
pub(crate) async fn enlist(provider: &dyn Provider, ident: &NodeIdent) -> Result<(), StartError> {
    let failed = |source| StartError::Discovery { provider: provider.id(), source };
    provider.start().await.map_err(failed)?;
    let published = provider.register(&Registration::new(ident.name().as_str(), ident.addr())).await;
    if published.is_err() {
        stop(provider).await;
    }
    published.map_err(failed)
}

/// Withdraws this node, so that nobody new comes.
pub(crate) async fn delist(provider: &dyn Provider) {
    told(provider.id(), "deregister", timeout(LAST_CALL, provider.deregister()).await);
}

/// Ends the provider.
pub(crate) async fn stop(provider: &dyn Provider) {
    told(provider.id(), "stop", timeout(LAST_CALL, provider.stop()).await);
}

/// Whoever leaves does not wait for discovery: peers that still find the node dial in vain.
fn told<E>(provider: &'static str, what: &'static str, done: Result<Result<(), DiscoveryError>, E>) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(provider, error = with_causes(&error), "discovery did not {what}"),
        Err(_) => tracing::warn!(provider, "discovery did not {what} in time"),
    }
}

/// Asks the provider for seeds, for ever: at intervals with jitter, at once when the node has lost its last peer, and soon when the
/// provider tells of a change.
pub(crate) async fn discover(shared: Arc<Shared>, provider: Arc<dyn Provider>, rediscover: Arc<Notify>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut changes, mut retry) = (provider.changes(), RETRY);
    loop {
        let found = match timeout(DISCOVER, provider.discover()).await {
            Ok(Ok(seeds)) => Ok(seeds.into_iter().map(|seed| seed.addr).collect::<Vec<SocketAddr>>()),
            Ok(Err(error)) => Err(with_causes(&error)),
            Err(_) => Err(format!("provider {} did not answer in {DISCOVER:?}", provider.id())),
        };
        let interval = shared.config.discovery_interval;
        let pause = match &found {
            Ok(_) => {
                retry = RETRY;
                interval
            }
            Err(_) => {
                let pause = retry;
                retry = (2 * retry).min(interval);
                pause
            }
        };
        if shared.events.send(Event::Seeds(found)).await.is_err() {
            return;
        }
        let wait = pause.mul_f64(rng.random_range(0.8..1.2));
        tokio::select! {
            () = rediscover.notified() => {}
            () = changed(&mut changes) => gather(&mut changes).await,
            () = sleep(wait) => changes = changes.or_else(|| provider.changes()),
        }
    }
}

/// Waits for the next change; for ever if there are none to come.
async fn changed(changes: &mut Option<ChangeStream>) {
    if let Some(stream) = changes {
        if stream.next().await.is_some() {
            return;
        }
        *changes = None;
    }
    pending().await
}

/// Waits a moment for what follows a change, and takes all that came until then: the next answer has it.
async fn gather(changes: &mut Option<ChangeStream>) {
    sleep(GATHER).await;
    if let Some(stream) = changes {
        while let Some(Some(_)) = stream.next().now_or_never() {}
    }
}

/// A provider has its own timeouts; this one only keeps a broken provider from silencing discovery.
const DISCOVER: Duration = Duration::from_secs(15);
/// A failed discovery is asked again soon, for a start may be waiting for it; then after twice as long each time, up to the interval: all nodes
/// ask a server that comes back.
const RETRY: Duration = Duration::from_millis(500);
/// Changes come in swarms, as when a service is scaled; a provider that tells of nothing else is asked four times a second at most.
const GATHER: Duration = Duration::from_millis(250);
/// How long a leave waits for discovery, for each of two calls.
const LAST_CALL: Duration = Duration::from_secs(2);
