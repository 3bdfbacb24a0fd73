//! Several providers that look for the same cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::stream::select_all;
use tokio::sync::Mutex;

use crate::bounds::Bounds;
use crate::{ChangeStream, DiscoveryError, Fault, Provider, Registration, Seed};

/// Asks several providers at once: all that any of them finds is found, and each seed names who found it.
///
/// One that is out of reach does not keep the others from answering. If it was out of reach at the start, it is started by the
/// [`discover`](Provider::discover) that finds it back. An address that several find is answered once, by the name of the first.
///
/// # Examples
///
/// ```
/// use distcache_discovery::{Provider, SeveralProviders, StaticProvider};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let old = StaticProvider::new(["10.0.0.1:3320"]);
/// let new = StaticProvider::new(["10.1.0.1:3320"]);
/// let provider = SeveralProviders::new().and(old).and(new);
/// provider.start().await?;
/// assert_eq!(provider.discover().await?.len(), 2);
/// # Ok(())
/// # }
/// ```
pub struct SeveralProviders {
    parts: Vec<Part>,
    started: AtomicBool,
    /// What a part that is started late has to publish.
    registration: Mutex<Option<Registration>>,
    bounds: Bounds,
}

struct Part {
    provider: Box<dyn Provider>,
    /// Held while it is started or stopped, so that it is started once.
    runs: Mutex<bool>,
    failing: AtomicBool,
}

impl SeveralProviders {
    /// Creates a provider that asks nobody yet.
    #[must_use]
    pub fn new() -> Self {
        let (started, registration) = (AtomicBool::new(false), Mutex::new(None));
        Self { parts: Vec::new(), started, registration, bounds: Bounds::of(ID) }
    }

    /// Adds a provider.
    #[must_use]
    pub fn and(mut self, provider: impl Provider) -> Self {
        let (provider, runs, failing) = (Box::new(provider), Mutex::new(false), AtomicBool::new(false));
        self.parts.push(Part { provider, runs, failing });
        self
    }

    fn running(&self) -> Result<(), DiscoveryError> {
        let started = self.started.load(Ordering::Acquire);
        if started { Ok(()) } else { Err(DiscoveryError::NotStarted { provider: ID }) }
    }

    async fn stop_all(&self) -> Result<(), DiscoveryError> {
        let stopped = join_all(self.parts.iter().map(Part::stop)).await;
        stopped.into_iter().collect()
    }
}

impl Default for SeveralProviders {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Provider for SeveralProviders {
    fn id(&self) -> &'static str {
        ID
    }

    fn validate(&self) -> Vec<Fault> {
        if self.parts.is_empty() {
            return vec![Fault::new(
                "providers",
                "are none; a node that is to stay alone uses the standalone provider",
            )];
        }
        let of = |part: &Part| {
            let provider = &part.provider;
            let inner = provider.validate().into_iter();
            inner
                .map(|fault| Fault::new(format!("{}.{}", provider.id(), fault.field), fault.message))
                .collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of).collect()
    }

    /// Starts all of them.
    ///
    /// # Errors
    ///
    /// As of any provider; and the first failure, if no provider started or one failed in a way that will not pass.
    async fn start(&self) -> Result<(), DiscoveryError> {
        let faults = self.validate();
        if !faults.is_empty() {
            return Err(DiscoveryError::Invalid { provider: ID, faults });
        }
        if self.started.swap(true, Ordering::AcqRel) {
            return Err(DiscoveryError::AlreadyStarted { provider: ID });
        }
        let mut failures = Vec::new();
        for failure in
            join_all(self.parts.iter().map(|part| part.start(None))).await.into_iter().filter_map(Result::err)
        {
            failures.push(failure);
        }
        let lasting = failures.iter().position(|failure| !failure.is_retryable());
        let fatal = lasting.or_else(|| (failures.len() == self.parts.len()).then_some(0));
        let Some(fatal) = fatal else { return Ok(()) };
        if let Err(error) = self.stop_all().await {
            tracing::warn!(provider = error.provider(), %error, "a provider did not stop");
        }
        self.started.store(false, Ordering::Release);
        Err(failures.swap_remove(fatal))
    }

    async fn register(&self, registration: &Registration) -> Result<(), DiscoveryError> {
        self.running()?;
        *self.registration.lock().await = Some(registration.clone());
        // One that is out of reach is told when it is found back.
        let published = join_all(self.parts.iter().map(|part| part.register(registration))).await;
        published.into_iter().collect()
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        self.running()?;
        let registration = self.registration.lock().await.clone();
        let answers = join_all(self.parts.iter().map(|part| part.discover(registration.as_ref()))).await;
        let (mut found, mut failure, mut answered) = (BTreeMap::new(), None, false);
        for answer in answers {
            match answer {
                Ok(seeds) => {
                    answered = true;
                    seeds.into_iter().for_each(|seed| _ = found.entry(seed.addr).or_insert(seed));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) if !answered => Err(error),
            _ => Ok(self.bounds.keep(found.into_values().collect())),
        }
    }

    /// Joins the streams of those that are running and have one.
    fn changes(&self) -> Option<ChangeStream> {
        let streams: Vec<_> = self.parts.iter().filter_map(|part| part.provider.changes()).collect();
        if streams.is_empty() { None } else { Some(Box::pin(select_all(streams))) }
    }

    async fn deregister(&self) -> Result<(), DiscoveryError> {
        *self.registration.lock().await = None;
        let withdrawn = join_all(self.parts.iter().map(|part| part.provider.deregister())).await;
        withdrawn.into_iter().collect()
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        self.started.store(false, Ordering::Release);
        *self.registration.lock().await = None;
        self.stop_all().await
    }

    fn is_standalone(&self) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| part.provider.is_standalone())
    }
}

impl Part {
    /// Starts it unless it runs, and has it publish the node.
    async fn start(&self, registration: Option<&Registration>) -> Result<(), DiscoveryError> {
        let mut runs = self.runs.lock().await;
        if *runs {
            return Ok(());
        }
        match self.provider.start().await {
            // A start that was dropped half-way may have come to its end all the same.
            Ok(()) | Err(DiscoveryError::AlreadyStarted { .. }) => *runs = true,
            Err(error) => return Err(error),
        }
        drop(runs);
        match registration {
            Some(node) => self.provider.register(node).await,
            None => Ok(()),
        }
    }

    async fn register(&self, node: &Registration) -> Result<(), DiscoveryError> {
        let runs = *self.runs.lock().await;
        if runs { self.provider.register(node).await } else { Ok(()) }
    }

    /// Says the first failure after a success, and the first success after a failure: whoever asks hears only of the last
    /// provider's failure.
    async fn discover(&self, registration: Option<&Registration>) -> Result<Vec<Seed>, DiscoveryError> {
        let answer = match self.start(registration).await {
            Ok(()) => self.provider.discover().await,
            Err(error) => Err(error),
        };
        let provider = self.provider.id();
        let was_failing = self.failing.swap(answer.is_err(), Ordering::Relaxed);
        match &answer {
            Err(error) if !was_failing => tracing::warn!(provider, %error, "one of several providers fails"),
            Ok(_) if was_failing => tracing::info!(provider, "one of several providers answers again"),
            _ => {}
        }
        answer
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        let mut runs = self.runs.lock().await;
        *runs = false;
        self.provider.stop().await
    }
}

impl fmt::Debug for SeveralProviders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|part| &part.provider)).finish()
    }
}

const ID: &str = "several";

#[cfg(test)]
#[path = "several_tests.rs"]
mod tests;
