//! Checks a provider against the contract of [`Provider`]: for the tests of whoever writes one.
//!
//! [`run`] takes one provider through its life; [`together`] has several nodes find each other on a [`Ground`].

mod ground;

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::future::{join, poll_immediate};
use tokio::time::timeout;

use crate::{DiscoveryError, Provider, Registration, Seed};

pub use ground::{Ground, Report, Verdict, together};

/// Runs a provider through its whole life, twice, and reports the first rule it breaks.
///
/// The provider must be well configured and not started, and whatever it asks must be up. It is not running when the check
/// returns, whether it passed or not.
///
/// # Errors
///
/// The rule that was broken and how.
///
/// # Panics
///
/// Outside a Tokio runtime with its timer enabled.
///
/// # Examples
///
/// ```
/// use distcache_discovery::{Registration, StaticProvider, conformance};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = StaticProvider::new(["10.0.0.1:3320"]);
/// conformance::run(&provider, &Registration::new("cache-0", "10.0.0.1:3320".parse()?)).await?;
/// # Ok(())
/// # }
/// ```
pub async fn run(provider: &dyn Provider, registration: &Registration) -> Result<(), Violation> {
    let checked = life(provider, registration).await;
    let stopped = stops(provider, "stop does nothing to a provider that is not running").await;
    checked.and(stopped)
}

/// Names a rule of the contract that a provider broke.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The rule, as a sentence about a provider that keeps it.
    pub rule: &'static str,
    /// What the provider did instead.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken rule: {}; found: {}", self.rule, self.found)
    }
}

impl Error for Violation {}

async fn life(provider: &dyn Provider, registration: &Registration) -> Result<(), Violation> {
    describes_itself(provider)?;
    stops(provider, "stop does nothing to a provider that was never started").await?;
    is_not_started(provider, "discover fails before start").await?;
    withdraws(provider, "deregister does nothing to a provider that was never started").await?;
    publishes_only_when_started(provider, registration).await?;
    starts(provider, "start succeeds").await?;

    refuses_a_second_start(provider).await?;
    answers(provider).await?;
    withdraws(provider, "deregister does nothing to a node that is not published").await?;
    publishes(provider, registration, "register succeeds").await?;
    publishes(provider, registration, "register succeeds a second time").await?;
    answers(provider).await?;
    answers_at_the_same_time(provider).await?;
    survives_dropped_calls(provider).await?;
    drop(provider.changes());
    answers(provider).await?;
    withdraws(provider, "deregister succeeds").await?;
    withdraws(provider, "deregister succeeds a second time").await?;
    let others = answers(provider).await;
    others.map_err(|violation| broken("a node that was withdrawn still finds others", &violation))?;
    publishes(provider, registration, "a node that was withdrawn is published again").await?;

    stops(provider, "stop succeeds").await?;
    stops(provider, "stop succeeds a second time").await?;
    is_not_started(provider, "discover fails after stop").await?;

    starts(provider, "a stopped provider starts again").await?;
    publishes(provider, registration, "a provider that was started again publishes").await?;
    answers(provider).await?;
    stops(provider, "a provider that was started again stops").await
}

fn describes_itself(provider: &dyn Provider) -> Result<(), Violation> {
    let id = provider.id();
    let is_word = |id: &str| !id.is_empty() && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    check("the id is of lower-case letters, digits and hyphens", is_word(id), || format!("{id:?}"))?;
    let again = provider.id();
    check("the id is always the same", id == again, || format!("{id:?}, then {again:?}"))?;
    let faults = provider.validate();
    check("a well configured provider has no faults", faults.is_empty(), || format!("{faults:?}"))
}

async fn starts(provider: &dyn Provider, rule: &'static str) -> Result<(), Violation> {
    ends(provider.start()).await?.map_err(|error| broken(rule, &error))
}

async fn publishes(provider: &dyn Provider, node: &Registration, rule: &'static str) -> Result<(), Violation> {
    ends(provider.register(node)).await?.map_err(|error| broken(rule, &error))
}

async fn withdraws(provider: &dyn Provider, rule: &'static str) -> Result<(), Violation> {
    ends(provider.deregister()).await?.map_err(|error| broken(rule, &error))
}

async fn publishes_only_when_started(provider: &dyn Provider, node: &Registration) -> Result<(), Violation> {
    match ends(provider.register(node)).await? {
        // Of a provider that publishes nothing.
        Ok(()) => Ok(()),
        Err(DiscoveryError::NotStarted { provider: named }) => names_itself(provider, named),
        other => Err(broken("register before start fails, or does nothing", &other)),
    }
}

async fn stops(provider: &dyn Provider, rule: &'static str) -> Result<(), Violation> {
    ends(provider.stop()).await?.map_err(|error| broken(rule, &error))
}

async fn is_not_started(provider: &dyn Provider, rule: &'static str) -> Result<(), Violation> {
    match ends(provider.discover()).await? {
        Err(DiscoveryError::NotStarted { provider: named }) => names_itself(provider, named),
        other => Err(broken(rule, &other)),
    }
}

async fn refuses_a_second_start(provider: &dyn Provider) -> Result<(), Violation> {
    match ends(provider.start()).await? {
        Err(DiscoveryError::AlreadyStarted { provider: named }) => names_itself(provider, named),
        other => Err(broken("a second start fails", &other)),
    }
}

fn names_itself(provider: &dyn Provider, named: &'static str) -> Result<(), Violation> {
    check("errors name their provider", named == provider.id(), || format!("{named:?}"))
}

async fn answers(provider: &dyn Provider) -> Result<(), Violation> {
    is_good_answer(provider, ends(provider.discover()).await?)
}

async fn answers_at_the_same_time(provider: &dyn Provider) -> Result<(), Violation> {
    let (one, other) = ends(join(provider.discover(), provider.discover())).await?;
    is_good_answer(provider, one)?;
    is_good_answer(provider, other)
}

async fn survives_dropped_calls(provider: &dyn Provider) -> Result<(), Violation> {
    for polls in 1..=MOST_POLLS_BEFORE_DROP {
        let mut call = provider.discover();
        for _ in 0..polls {
            if poll_immediate(&mut call).await.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        answers(provider)
            .await
            .map_err(|violation| broken("discover works after a call that was dropped", &violation))?;
    }
    Ok(())
}

fn is_good_answer(provider: &dyn Provider, answer: Result<Vec<Seed>, DiscoveryError>) -> Result<(), Violation> {
    let seeds = answer.map_err(|error| broken("a started provider answers", &error))?;
    let mut seen = HashSet::new();
    for seed in &seeds {
        check("seeds carry their provider's id", seed.provider == provider.id(), || seed.to_string())?;
        let dialable = seed.addr.port() != 0 && !seed.addr.ip().is_unspecified();
        check("seeds can be dialled", dialable, || seed.to_string())?;
        check("an answer holds each address once", seen.insert(seed.addr), || seed.to_string())?;
    }
    let lonely = !provider.is_standalone() || seeds.is_empty();
    check("a standalone provider finds nobody", lonely, || format!("{seeds:?}"))
}

/// Waits for a call that has to end by itself.
async fn ends<T>(call: impl Future<Output = T>) -> Result<T, Violation> {
    match timeout(CALL_LIMIT, call).await {
        Ok(output) => Ok(output),
        Err(_) => Err(broken("every call ends in its own time", &CALL_LIMIT)),
    }
}

fn check(rule: &'static str, kept: bool, found: impl FnOnce() -> String) -> Result<(), Violation> {
    if kept { Ok(()) } else { Err(Violation { rule, found: found() }) }
}

fn broken(rule: &'static str, found: &dyn fmt::Debug) -> Violation {
    Violation { rule, found: format!("{found:?}") }
}

/// Far above what any provider may take, so that only a call that hangs is caught.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// A provider holds its locks across a few awaits at most; beyond, the drops repeat themselves.
const MOST_POLLS_BEFORE_DROP: usize = 4;
