//! Turns the configured name into seeds, in bounded time and with a bounded number of questions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::time::{Instant, timeout_at};

use super::ID;
use super::alias::{Ask, Records, look_up};
use super::config::record_types;
use super::error::{Cause, LookupError};
use super::search::Search;
use crate::address::check_dialable;
use crate::bounds::MAX_SEEDS;
use crate::{IpFamily, Seed};

/// Knows what to ask, and whom.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) servers: Box<dyn Ask>,
    pub(super) search: Search,
    pub(super) name: Name,
    /// The port of every address, or none if service records say it.
    pub(super) port: Option<u16>,
    pub(super) family: Option<IpFamily>,
    pub(super) timeout: Duration,
    pub(super) overflowing: AtomicBool,
}

/// What a name leads to now.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) seeds: BTreeSet<Seed>,
    /// How long that holds.
    pub(super) ttl: Duration,
    /// The first question that had no answer, while others had.
    pub(super) failure: Option<LookupError>,
}

/// The addresses of one name.
#[derive(Debug, Default)]
struct Addresses {
    ips: Vec<IpAddr>,
    ttl: u32,
    failure: Option<LookupError>,
}

impl Resolver {
    /// Asks anew.
    ///
    /// # Errors
    ///
    /// Nothing was found, and at least one question had no answer.
    pub(super) async fn resolve(&self) -> Result<Answer, LookupError> {
        let deadline = Instant::now() + self.timeout;
        match self.port {
            Some(port) => self.hosts(port, deadline).await,
            None => self.services(deadline).await,
        }
    }

    async fn hosts(&self, port: u16, deadline: Instant) -> Result<Answer, LookupError> {
        let mut failure = None;
        for name in self.search.candidates(&self.name) {
            let found = self.addresses(&name, deadline).await;
            if !found.ips.is_empty() {
                let mut answer = Gathering::new(found.ttl);
                answer.add(&found.ips, &[port]);
                return answer.end(found.failure);
            }
            failure = failure.or(found.failure);
        }
        Gathering::new(0).end(failure)
    }

    /// RFC 2782. Priority and weight say which peer to talk to first, and a node talks to all; the order only decides what is
    /// left out when there are too many.
    async fn services(&self, deadline: Instant) -> Result<Answer, LookupError> {
        let records = self.service_records(deadline).await?;
        let mut answer = Gathering::new(records.ttl);
        let mut given = given_addresses(&records.additionals, self.family);
        let mut unknown = Vec::new();
        for (target, ports) in self.targets(&records.found) {
            match given.remove(&target) {
                Some((ips, ttl)) => {
                    answer.ttl = answer.ttl.min(ttl);
                    answer.add(&ips, &ports);
                }
                None => unknown.push((target, ports)),
            }
        }
        let look_ups =
            unknown.into_iter().map(|(target, ports)| async move { (self.addresses(&target, deadline).await, ports) });
        let mut look_ups = stream::iter(look_ups).buffer_unordered(LOOKUPS_AT_ONCE);
        let mut failure = None;
        while let Some((found, ports)) = look_ups.next().await {
            // One whose address does not exist yet is looked for soon again.
            answer.ttl = answer.ttl.min(if found.ips.is_empty() { 0 } else { found.ttl });
            answer.add(&found.ips, &ports);
            failure = failure.or(found.failure);
        }
        answer.end(failure)
    }

    async fn service_records(&self, deadline: Instant) -> Result<Records, LookupError> {
        let mut failure = None;
        for name in self.search.candidates(&self.name) {
            match self.records(&name, RecordType::SRV, deadline).await {
                Ok(records) if !records.found.is_empty() => return Ok(records),
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or_else(|| Ok(Records::default()), Err)
    }

    /// Lists whom the service records name, each with its ports, the first by priority and name.
    fn targets(&self, records: &[RData]) -> BTreeMap<Name, Vec<u16>> {
        let services = records.iter().filter_map(|record| match record {
            // The root for a target says that there is no such service.
            RData::SRV(srv) if !srv.target.is_root() && srv.port != 0 => Some((srv.priority, &srv.target, srv.port)),
            _ => None,
        });
        let services: BTreeSet<_> = services.collect();
        let overflows = services.len() > MAX_SERVICES;
        if overflows && !self.overflowing.load(Ordering::Relaxed) {
            let found = services.len();
            tracing::warn!(provider = ID, found, kept = MAX_SERVICES, "more service records than a node will look up");
        }
        self.overflowing.store(overflows, Ordering::Relaxed);
        let mut targets: BTreeMap<Name, Vec<u16>> = BTreeMap::new();
        for (_, target, port) in services.into_iter().take(MAX_SERVICES) {
            targets.entry(target.clone()).or_default().push(port);
        }
        targets
    }

    async fn addresses(&self, name: &Name, deadline: Instant) -> Addresses {
        let questions = record_types(self.family).iter().map(|kind| self.records(name, *kind, deadline));
        let mut addresses = Addresses { ttl: u32::MAX, ..Addresses::default() };
        for records in join_all(questions).await {
            match records {
                Ok(records) if records.found.is_empty() => {}
                Ok(records) => {
                    addresses.ttl = addresses.ttl.min(records.ttl);
                    addresses.ips.extend(records.found.iter().filter_map(ip_of));
                }
                Err(error) => addresses.failure = addresses.failure.or(Some(error)),
            }
        }
        addresses
    }

    async fn records(&self, name: &Name, record_type: RecordType, deadline: Instant) -> Result<Records, LookupError> {
        let answer = timeout_at(deadline, look_up(&*self.servers, name, record_type)).await;
        answer.unwrap_or_else(|_| Err(LookupError::new(name, record_type, Cause::Late(self.timeout))))
    }
}

/// An answer in the making.
struct Gathering {
    seeds: BTreeSet<Seed>,
    /// In seconds.
    ttl: u32,
}

impl Gathering {
    fn new(ttl: u32) -> Self {
        Self { seeds: BTreeSet::new(), ttl }
    }

    fn add(&mut self, ips: &[IpAddr], ports: &[u16]) {
        for port in ports {
            let addrs = ips.iter().map(|ip| SocketAddr::new(*ip, *port));
            // Some servers answer 0.0.0.0 for a name they block.
            self.seeds.extend(addrs.filter(|addr| check_dialable(*addr).is_ok()).map(|addr| Seed::new(addr, ID)));
            while self.seeds.len() > MAX_HELD {
                self.seeds.pop_last();
            }
        }
    }

    fn end(self, failure: Option<LookupError>) -> Result<Answer, LookupError> {
        match failure {
            Some(failure) if self.seeds.is_empty() => Err(failure),
            failure => {
                let ttl = Duration::from_secs(self.ttl.into()).clamp(MIN_TTL, MAX_TTL);
                let is_lacking = failure.is_some() || self.seeds.is_empty();
                let ttl = if is_lacking { ttl.min(LACKING_TTL) } else { ttl };
                Ok(Answer { seeds: self.seeds, ttl, failure })
            }
        }
    }
}

/// Reads the addresses that a server adds to service records, with the least TTL of each name.
fn given_addresses(additionals: &[Record], family: Option<IpFamily>) -> BTreeMap<Name, (Vec<IpAddr>, u32)> {
    let mut given: BTreeMap<Name, (Vec<IpAddr>, u32)> = BTreeMap::new();
    for record in additionals {
        if let Some(ip) = ip_of(&record.data).filter(|ip| family.is_none_or(|family| family.has(*ip))) {
            let (ips, ttl) = given.entry(record.name.clone()).or_insert((Vec::new(), u32::MAX));
            ips.push(ip);
            *ttl = record.ttl.min(*ttl);
        }
    }
    given
}

fn ip_of(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
        _ => None,
    }
}

/// Many servers give their own records a TTL of 0; a node need not ask more often than each second.
pub(super) const MIN_TTL: Duration = Duration::from_secs(1);
/// A longer TTL would hide who joins for longer than a cluster takes to move its keys.
pub(super) const MAX_TTL: Duration = Duration::from_secs(30);
/// RFC 2308 lets a zone have the absence of a name kept for hours, and allows for less: a cluster that is being created is to
/// be found as it appears.
pub(super) const LACKING_TTL: Duration = Duration::from_secs(2);
/// A quarter of the seeds that a node tries; each takes two questions if the server adds no addresses.
pub(super) const MAX_SERVICES: usize = 256;
/// As many as a name server takes from one client without a thought.
pub(super) const LOOKUPS_AT_ONCE: usize = 32;
/// Above what is kept, so that the log can say how many there were; below what an answer of 256 names of 4,000 addresses would
/// fill.
const MAX_HELD: usize = MAX_SEEDS * 4;

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
