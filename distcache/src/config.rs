//! The settings of an engine, and what is wrong with them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use distcache_discovery::Network;

/// How an engine behaves. Plain values; everything is checked at
/// [`EngineBuilder::start`](crate::EngineBuilder::start), all faults at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// The address to listen on, `ip:port`. Port 0 lets the system choose. Not used by a node that stands alone. Defaults to
    /// `127.0.0.1:3320`, which other machines cannot reach.
    pub bind: String,
    /// The address peers dial, `ip:port`. Set it behind a translated address. Defaults to the address the node is bound to;
    /// for a node bound to all addresses, to the one that faces the default route.
    pub advertise: Option<String>,
    /// The node's name on the ring, 1 to 128 bytes, unique in the cluster. With a stable name (a StatefulSet's pod name, say)
    /// a restart moves no key. Defaults to the advertised address.
    pub name: Option<String>,
    /// The cluster's name, 1 to 63 bytes. Nodes of different labels refuse each other. Defaults to `distcache`.
    pub label: String,
    /// How long a get may take, all hops and loads included. Defaults to 5 s.
    pub read_timeout: Duration,
    /// How long a put or a deletion waits for owners. Defaults to 5 s.
    pub write_timeout: Duration,
    /// How long a node keeps what it loaded in the place of an owner that did not answer. Invalidations reach it; the limit is for
    /// those that cannot. Too short, and the data source is asked again and again while a node is down. Defaults to 10 s.
    pub failover_ttl: Duration,
    /// How long nodes may keep copies of hot values that others own; zero for not at all. Invalidations reach such copies at once;
    /// this bounds how old they can get where those do not. Too short, and a hot key keeps its owner busy. A keyspace keeps them in
    /// a sixteenth of its bytes. Defaults to 2 s.
    pub near_ttl: Duration,
    /// For how long after a node has come or gone the new owner of a key asks the one before it, ahead of the data source. That one
    /// keeps what it has for as long, in a quarter of the keyspace's bytes at most. Too short, and each restart costs loads; zero turns it
    /// off. Defaults to 5 min.
    pub fill_window: Duration,
    /// The longest key, in bytes. Defaults to 1 KiB; at most 64 KiB.
    pub max_key_bytes: usize,
    /// The largest value, in bytes. Must be the same on all nodes. Too large, and one value delays others on its link. Defaults
    /// to 1 MiB; at most 64 MiB.
    pub max_value_bytes: usize,
    /// How often discovery is asked again, for ever; providers that tell of changes are asked at once besides. Too rarely, and a
    /// cluster that was split stays split for longer. Defaults to 10 s.
    pub discovery_interval: Duration,
    /// The only networks with addresses that this node dials, whoever names them: discovery, or a peer. Each is `10.0.0.0/8`,
    /// `fd00::/8`, or one address. Defaults to none, which is all; else every node must lie in one of them. It is for lists that others can write to: without TLS or a
    /// shared secret, a wrong DNS record could have the node talk to a stranger.
    pub networks: Vec<String>,
    /// How long a start waits for seeds, and for `min_members`. Defaults to 10 s.
    pub join_timeout: Duration,
    /// How many members, this node among them, a start waits for. Defaults to 1.
    pub min_members: usize,
    /// Allows links with neither TLS nor a shared secret on addresses that other machines can reach. Without it such a start is
    /// refused: anyone who reaches the port could read and change what is cached. Defaults to `false`.
    pub insecure: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            bind: "127.0.0.1:3320".to_owned(),
            advertise: None,
            name: None,
            label: "distcache".to_owned(),
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            failover_ttl: Duration::from_secs(10),
            near_ttl: Duration::from_secs(2),
            fill_window: Duration::from_secs(300),
            max_key_bytes: 1_024,
            max_value_bytes: 1_024 * 1_024,
            discovery_interval: Duration::from_secs(10),
            networks: Vec::new(),
            join_timeout: Duration::from_secs(10),
            min_members: 1,
            insecure: false,
        }
    }
}

impl EngineConfig {
    /// Lists what is wrong with the values by themselves.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        check((1..=63).contains(&self.label.len()), "label: must have 1 to 63 bytes");
        check(self.name.as_ref().is_none_or(|name| (1..=128).contains(&name.len())), "name: must have 1 to 128 bytes");
        check(!self.read_timeout.is_zero(), "read_timeout: must not be zero");
        check(!self.write_timeout.is_zero(), "write_timeout: must not be zero");
        check(!self.join_timeout.is_zero(), "join_timeout: must not be zero");
        check(!self.discovery_interval.is_zero(), "discovery_interval: must not be zero");
        check(!self.failover_ttl.is_zero(), "failover_ttl: must not be zero");
        check((1..=MAX_KEY_BYTES).contains(&self.max_key_bytes), "max_key_bytes: must be 1 to 65,536");
        check((1..=MAX_VALUE_BYTES).contains(&self.max_value_bytes), "max_value_bytes: must be 1 to 67,108,864");
        check((1..=MAX_MEMBERS).contains(&self.min_members), "min_members: must be 1 to 1,024");
        faults.extend(self.parsed_networks().err());
        faults
    }

    /// The networks with addresses to dial.
    ///
    /// # Errors
    /// The first that is none.
    pub(crate) fn parsed_networks(&self) -> Result<Vec<Network>, String> {
        let parse = |text: &String| text.parse().map_err(|error| format!("networks: {text:?} {error}"));
        self.networks.iter().map(parse).collect()
    }

    pub(crate) fn bind_addr(&self) -> Result<SocketAddr, String> {
        parse("bind", &self.bind)
    }

    /// The address to advertise once bound to `local`.
    pub(crate) fn advertise_addr(&self, local: SocketAddr) -> Result<SocketAddr, String> {
        if let Some(advertise) = &self.advertise {
            let addr = parse("advertise", advertise)?;
            return match addr.port() {
                0 => Err(format!("advertise: {advertise:?} has no port that peers could dial")),
                _ if addr.ip().is_unspecified() => Err(format!("advertise: peers cannot dial {advertise:?}")),
                _ => Ok(addr),
            };
        }
        if !local.ip().is_unspecified() {
            return Ok(local);
        }
        facing_ip(local.ip()).map(|ip| SocketAddr::new(ip, local.port())).ok_or_else(|| {
            "advertise: must be set, for the node is bound to all addresses and has no default route to tell by"
                .to_owned()
        })
    }

    /// Whether other machines could reach a node bound to `addr`.
    pub(crate) fn is_exposed(addr: SocketAddr) -> bool {
        !addr.ip().is_loopback()
    }
}

fn parse(field: &str, text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{field}: {text:?} is not an address of the form ip:port"))
}

/// The local address that faces the default route. Connecting a datagram socket asks the routing table; nothing is sent.
fn facing_ip(unspecified: IpAddr) -> Option<IpAddr> {
    let anywhere = if unspecified.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(unspecified, 0)).ok()?;
    socket.connect(anywhere).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

const MAX_KEY_BYTES: usize = 64 * 1_024;
const MAX_VALUE_BYTES: usize = 64 * 1_024 * 1_024;
const MAX_MEMBERS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault() {
        assert!(EngineConfig::default().faults().is_empty());
        assert!(EngineConfig::default().bind_addr().is_ok());
    }

    #[test]
    fn every_fault_is_listed_at_once() {
        let zero = EngineConfig {
            label: String::new(),
            name: Some(String::new()),
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            join_timeout: Duration::ZERO,
            max_key_bytes: 0,
            max_value_bytes: usize::MAX,
            min_members: 0,
            ..EngineConfig::default()
        };
        assert_eq!(zero.faults().len(), 8);
    }

    #[test]
    fn an_advertised_address_must_be_dialable() {
        let local = "127.0.0.1:3320".parse().unwrap();
        let advertise = |text: &str| {
            EngineConfig { advertise: Some(text.to_owned()), ..EngineConfig::default() }.advertise_addr(local)
        };
        assert_eq!(advertise("10.0.0.1:3320"), Ok("10.0.0.1:3320".parse().unwrap()));
        assert!(advertise("10.0.0.1:0").is_err());
        assert!(advertise("0.0.0.0:3320").is_err());
        assert!(advertise("cache-0:3320").is_err());
        assert_eq!(EngineConfig::default().advertise_addr(local), Ok(local));
    }
}
