//! The provider of a fixed list of addresses. (`static` is a keyword.)

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::address::Address;
use crate::bounds::{Bounds, MAX_SEEDS};
use crate::resolve::{Name, Resolver};
use crate::{DiscoveryError, Fault, Provider, Seed};

/// Finds peers at a fixed list of addresses: IP literals, and host names that are looked up anew at each call.
///
/// The list may hold this node's own address, so that every node can have the same list, and need not hold every node: one
/// address that answers leads to the rest. Host names follow their DNS records, so a headless service or a
/// round-robin name finds every address behind it.
///
/// A call of [`discover`](Provider::discover) ends within 5 seconds. A host that does not resolve, or not in time, is left
/// out, and the call fails only if nothing at all was found. At most 64 names are looked up at one time: should
/// that many hang at once, the others wait for them.
///
/// # Examples
///
/// ```
/// use distcache_discovery::{Provider, StaticProvider};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = StaticProvider::new(["10.0.0.2:3320", "10.0.0.1:3320", "10.0.0.2:3320"]);
/// provider.start().await?;
///
/// let found: Vec<_> = provider.discover().await?.iter().map(|seed| seed.addr.to_string()).collect();
/// assert_eq!(found, ["10.0.0.1:3320", "10.0.0.2:3320"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StaticProvider {
    addresses: Vec<String>,
    faults: Vec<Fault>,
    literals: Vec<Seed>,
    names: Vec<Name>,
    resolver: Resolver,
    started: AtomicBool,
    bounds: Bounds,
}

impl StaticProvider {
    /// Creates a provider of `addresses`, each `host:port`: `10.0.0.1:3320`, `[fd00::1]:3320` or `cache-0.cache:3320`.
    ///
    /// White space around an address is dropped, and so are repetitions. Mistakes are kept for
    /// [`validate`](Provider::validate).
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::with_resolver(addresses, Resolver::system(ID))
    }

    /// Returns the addresses as configured, without repetitions.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    fn with_resolver(addresses: impl IntoIterator<Item = impl Into<String>>, resolver: Resolver) -> Self {
        let mut provider = Self {
            addresses: Vec::new(),
            faults: Vec::new(),
            literals: Vec::new(),
            names: Vec::new(),
            resolver,
            started: AtomicBool::new(false),
            bounds: Bounds::of(ID),
        };
        let mut seen = HashSet::new();
        for (index, address) in addresses.into_iter().enumerate() {
            let address = address.into().trim().to_owned();
            if seen.insert(address.clone()) {
                provider.add(index, address);
            }
        }
        match provider.addresses.len() {
            0 => provider
                .faults
                .push(Fault::new("addresses", "is empty; a node that is to stay alone uses the standalone provider")),
            count if count > MAX_SEEDS => provider
                .faults
                .insert(0, Fault::new("addresses", format!("holds {count} addresses, more than {MAX_SEEDS}"))),
            _ => {}
        }
        provider
    }

    fn add(&mut self, index: usize, address: String) {
        // Beyond the limit, the count is the fault, and reading on would only make the report longer.
        if self.addresses.len() < MAX_SEEDS {
            match Address::parse(&address) {
                Ok(Address::Ip(addr)) => self.literals.push(Seed::new(addr, ID)),
                Ok(Address::Host(host, port)) => self.names.push(Name::new(host, port)),
                Err(fault) => {
                    self.faults.push(Fault::new(format!("addresses[{index}]"), format!("{address:?} {fault}")));
                }
            }
        }
        self.addresses.push(address);
    }
}

#[async_trait]
impl Provider for StaticProvider {
    fn id(&self) -> &'static str {
        ID
    }

    fn validate(&self) -> Vec<Fault> {
        self.faults.clone()
    }

    async fn start(&self) -> Result<(), DiscoveryError> {
        if !self.faults.is_empty() {
            return Err(DiscoveryError::Invalid { provider: ID, faults: self.faults.clone() });
        }
        if self.started.swap(true, Ordering::AcqRel) {
            return Err(DiscoveryError::AlreadyStarted { provider: ID });
        }
        Ok(())
    }

    async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
        if !self.started.load(Ordering::Acquire) {
            return Err(DiscoveryError::NotStarted { provider: ID });
        }
        let mut seeds: BTreeSet<Seed> = self.literals.iter().copied().collect();
        let mut failure = None;
        for answer in join_all(self.names.iter().map(|name| self.resolver.resolve(name))).await {
            match answer {
                Ok(addrs) => seeds.extend(addrs.into_iter().map(|addr| Seed::new(addr, ID))),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) if seeds.is_empty() => Err(error),
            _ => Ok(self.bounds.keep(seeds)),
        }
    }

    async fn stop(&self) -> Result<(), DiscoveryError> {
        self.started.store(false, Ordering::Release);
        Ok(())
    }
}

const ID: &str = "static";

#[cfg(test)]
#[path = "fixed_tests.rs"]
mod tests;
