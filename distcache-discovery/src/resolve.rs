//! Asks the system's resolver for the addresses of a name, in bounded time and with bounded threads.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::DiscoveryError;
use crate::address::check_dialable;

/// Looks names up, a few at a time.
pub(crate) struct Resolver {
    provider: &'static str,
    lookup: Lookup,
    permits: Arc<Semaphore>,
}

/// A name to look up, and what is known of its last look-up.
#[derive(Debug)]
pub(crate) struct Name {
    host: String,
    port: u16,
    /// The look-up under way. The system's resolver runs on a thread that cannot be cancelled, so a look-up that outlives its
    /// caller stays here, and the next caller waits for it instead of tying up one more thread.
    pending: Mutex<Option<JoinHandle<Answer>>>,
    failing: AtomicBool,
}

/// One look-up: host and port in, addresses out.
pub(crate) type Lookup = Box<dyn Fn(String, u16) -> LookupFuture + Send + Sync>;
pub(crate) type LookupFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;
pub(crate) type Answer = io::Result<Vec<SocketAddr>>;

impl Resolver {
    /// Creates a resolver for `provider` on top of the system's.
    pub(crate) fn system(provider: &'static str) -> Self {
        Self::new(provider, Box::new(|host, port| Box::pin(system_lookup(host, port))))
    }

    pub(crate) fn new(provider: &'static str, lookup: Lookup) -> Self {
        Self { provider, lookup, permits: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)) }
    }

    /// Returns the addresses of `name` that can be dialled: at least one.
    ///
    /// The first failure after a success is logged, and so is the first success after a failure; the failures between,
    /// of a call that is made for ever, are not.
    pub(crate) async fn resolve(&self, name: &Name) -> Result<Vec<SocketAddr>, DiscoveryError> {
        let (provider, host) = (self.provider, name.host.clone());
        let answer = match timeout(LOOKUP_TIMEOUT, self.answer(name)).await {
            Ok(Ok(addrs)) => Ok(addrs),
            Ok(Err(error)) => Err(DiscoveryError::Resolve { provider, host, source: Arc::new(error) }),
            Err(_) => Err(DiscoveryError::ResolveTimeout { provider, host, waited: LOOKUP_TIMEOUT }),
        };
        let was_failing = name.failing.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            Err(error) if !was_failing => {
                let cause = std::error::Error::source(error);
                tracing::warn!(provider, host = name.host, error = %error, cause, "a seed host does not resolve");
            }
            Ok(_) if was_failing => {
                tracing::info!(provider, host = name.host, "a seed host resolves again")
            }
            _ => {}
        }
        answer
    }

    async fn answer(&self, name: &Name) -> Answer {
        let mut pending = name.pending.lock().await;
        // A look-up that ended with nobody waiting is as old as it is: ask anew.
        let under_way = pending.take().filter(|lookup| !lookup.is_finished());
        let lookup = match under_way {
            Some(lookup) => pending.insert(lookup),
            None => {
                let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
                let lookup = (self.lookup)(name.host.clone(), name.port);
                pending.insert(tokio::spawn(async move {
                    let answer = lookup.await;
                    drop(permit);
                    answer
                }))
            }
        };
        let answer = lookup.await;
        *pending = None;
        let mut addrs = answer.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        // Some resolvers answer 0.0.0.0 for a name they block.
        addrs.retain(|addr| check_dialable(*addr).is_ok());
        if addrs.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the answer holds no usable address"));
        }
        Ok(addrs)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("permits", &self.permits).finish_non_exhaustive()
    }
}

impl Name {
    pub(crate) fn new(host: String, port: u16) -> Self {
        Self { host, port, pending: Mutex::new(None), failing: AtomicBool::new(false) }
    }
}

async fn system_lookup(host: String, port: u16) -> Answer {
    Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect())
}

/// As long as `resolv.conf` gives one server by default. Longer, and a dead resolver would hold back the seeds that are already
/// known.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Each look-up holds one thread of the runtime's blocking pool (512 by default), which the user's code needs too.
pub(crate) const LOOKUPS_AT_ONCE: usize = 64;
