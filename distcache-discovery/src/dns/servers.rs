//! Puts a question to one server after the other, until one answers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

use super::alias::{Ask, Reply};
use super::config::MAX_SERVERS;
use super::error::{Cause, LookupError};
use super::resolve::LOOKUPS_AT_ONCE;
use super::search::Search;

/// The servers of one provider, over UDP, and over TCP when an answer is too long for that.
///
/// This is below the resolver of the same crate, which keeps answers for as long as their TTL says, follows no alias of a
/// service record, and takes a circle of aliases for a name without records.
pub(super) struct Servers {
    /// Each in a pool of its own: a pool takes the first error of any server for the answer of all.
    pools: Vec<NameServerPool<TokioRuntimeProvider>>,
    options: DnsRequestOptions,
    /// Who answered last. A server that is down costs its share of the time once, not at each question.
    preferred: AtomicUsize,
}

impl Servers {
    /// Takes the servers that the system is configured with, and where it looks for relative names.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub(super) fn of_system(
        system: (ResolverConfig, ResolverOpts),
        timeout: Duration,
    ) -> Result<(Self, Search), NetError> {
        let (config, options) = system;
        let (domain, search, mut servers) = config.into_parts();
        servers.truncate(MAX_SERVERS);
        let domains = if search.is_empty() { domain.into_iter().collect() } else { search };
        let search = Search { domains, ndots: options.ndots };
        Ok((Self::new(servers, options, timeout)?, search))
    }

    /// Takes the servers given.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub(super) fn given(addrs: &[SocketAddr], timeout: Duration) -> Result<Self, NetError> {
        let server = |addr: &SocketAddr| {
            let connection = |protocol| {
                let mut connection = ConnectionConfig::new(protocol);
                connection.port = addr.port();
                connection
            };
            let connections = vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)];
            NameServerConfig::new(addr.ip(), true, connections)
        };
        Self::new(addrs.iter().map(server).collect(), ResolverOpts::default(), timeout)
    }

    fn new(servers: Vec<NameServerConfig>, mut options: ResolverOpts, timeout: Duration) -> Result<Self, NetError> {
        let shares = u32::try_from(servers.len().max(1)).unwrap_or(u32::MAX);
        // All of them have their turn before the caller's time is up.
        options.timeout = timeout * 9 / 10 / shares;
        // From the whole range, a question could have the port at which another part of the process is about to listen.
        options.os_port_selection = true;
        // One A and one AAAA for each.
        options.max_active_requests = LOOKUPS_AT_ONCE * 2;
        let mut request = DnsRequestOptions::default();
        request.use_edns = options.edns0;
        request.edns_payload_len = options.edns_payload_len;
        request.recursion_desired = true;
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let pool =
            |server| NameServerPool::from_config([server], Arc::clone(&context), TokioRuntimeProvider::default());
        Ok(Self { pools: servers.into_iter().map(pool).collect(), options: request, preferred: AtomicUsize::new(0) })
    }

    async fn ask_one(&self, server: usize, name: &Name, record_type: RecordType) -> Result<Reply, Cause> {
        let pool = self.pools.get(server).ok_or(Cause::Servers(NetError::NoConnections))?;
        let query = Query::query(name.clone(), record_type);
        let code = match pool.lookup(query, self.options).first_answer().await {
            Ok(response) => {
                let (code, has_soa) = (response.metadata.response_code, response.soa().is_some());
                let message = response.into_message();
                if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
                    // RFC 6604: the code is that of the last alias. RFC 2308: the SOA says that there is no more.
                    let is_final = has_soa || code == ResponseCode::NXDomain;
                    return Ok(Reply { answers: message.answers, additionals: message.additionals, is_final });
                }
                code
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
                // RFC 2308, section 2.2: servers without a SOA are a referral, not an answer.
                ResponseCode::NoError if none.ns.is_some() && none.soa.is_none() => return Err(Cause::Referral),
                ResponseCode::NoError | ResponseCode::NXDomain => {
                    return Ok(Reply { is_final: true, ..Reply::default() });
                }
                code => code,
            },
            Err(error) => return Err(Cause::Servers(error)),
        };
        Err(Cause::Code(code))
    }
}

#[async_trait]
impl Ask for Servers {
    async fn ask(&self, name: &Name, record_type: RecordType) -> Result<Reply, LookupError> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut failure = Cause::Servers(NetError::NoConnections);
        for turn in 0..self.pools.len() {
            let server = (preferred + turn) % self.pools.len();
            match self.ask_one(server, name, record_type).await {
                Ok(reply) => {
                    self.preferred.store(server, Ordering::Relaxed);
                    return Ok(reply);
                }
                // What the preferred one said is the most telling.
                Err(cause) if turn == 0 => failure = cause,
                Err(_) => {}
            }
        }
        Err(LookupError::new(name, record_type, failure))
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("count", &self.pools.len()).finish_non_exhaustive()
    }
}
