//! What a user asked for, and what is wrong with it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;

use crate::address::{check_dialable, check_host};
use crate::{Fault, IpFamily};

/// Returns the types of the records that hold addresses: of one family, or both.
pub(super) const fn record_types(family: Option<IpFamily>) -> &'static [RecordType] {
    match family {
        None => &[RecordType::A, RecordType::AAAA],
        Some(IpFamily::V4) => &[RecordType::A],
        Some(IpFamily::V6) => &[RecordType::AAAA],
    }
}

/// Everything a provider was told, right or wrong.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) name: String,
    /// The port of every address, or none if service records say it.
    pub(super) port: Option<u16>,
    /// The servers to ask instead of the system's.
    pub(super) servers: Option<Vec<SocketAddr>>,
    /// `None` for both.
    pub(super) family: Option<IpFamily>,
    pub(super) timeout: Duration,
}

impl Config {
    pub(super) fn new(name: String, port: Option<u16>) -> Self {
        Self { name, port, servers: None, family: None, timeout: DEFAULT_TIMEOUT }
    }

    /// Lists every mistake.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let name = if self.name.parse::<IpAddr>().is_ok() {
            Err("is an IP address, which the static provider takes")
        } else if self.name.contains(':') {
            Err("must be a name alone, without a scheme or a port")
        } else {
            check_host(&self.name)
        };
        if let Err(fault) = name {
            faults.push(Fault::new("name", format!("{:?} {fault}", self.name)));
        }
        if self.port == Some(0) {
            faults.push(Fault::new("port", "is 0, at which no peer can listen"));
        }
        match self.servers.as_deref() {
            Some([]) => {
                faults.push(Fault::new("servers", "is empty; without the setting, the system's servers are asked"))
            }
            Some(servers) if servers.len() > MAX_SERVERS => {
                let message = format!("holds {} servers, more than {MAX_SERVERS}", servers.len());
                faults.push(Fault::new("servers", message));
            }
            Some(servers) => faults.extend(servers.iter().enumerate().filter_map(|(index, server)| {
                let fault = check_dialable(*server).err()?;
                Some(Fault::new(format!("servers[{index}]"), format!("{server} {fault}")))
            })),
            None => {}
        }
        if self.timeout < MIN_TIMEOUT || self.timeout > MAX_TIMEOUT {
            let message = format!("is {:?}, not between {MIN_TIMEOUT:?} and {MAX_TIMEOUT:?}", self.timeout);
            faults.push(Fault::new("timeout", message));
        }
        faults
    }
}

/// As long as `resolv.conf` gives one server by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Below, a name server in another city could never answer.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
/// A node gives up on a provider after 15 s.
const MAX_TIMEOUT: Duration = Duration::from_secs(10);
/// They are asked one after the other, and share the timeout; `resolv.conf` takes three.
pub(super) const MAX_SERVERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(name: &str) -> Vec<Fault> {
        Config::new(name.to_owned(), Some(3320)).faults()
    }

    #[test]
    fn names_of_hosts_and_services_pass() {
        for name in [
            "cache",
            "cache.default.svc.cluster.local",
            "cache.example.",
            "_distcache._tcp.cache.default.svc.cluster.local.",
            "cache.service.consul",
        ] {
            assert_eq!(faults_of(name), [], "{name}");
        }
    }

    #[test]
    fn each_wrong_name_is_told_apart() {
        for (name, wanted) in [
            ("", "no host"),
            (".", "no host"),
            ("10.0.0.1", "IP address"),
            ("fd00::1", "IP address"),
            ("cache:3320", "without"),
            ("dns://cache", "without"),
            ("a..b", "neither"),
            ("cache name", "neither"),
            ("caché.example", "neither"),
            ("10.0.0.256", "number"),
        ] {
            let faults = faults_of(name);
            assert_eq!(faults.len(), 1, "{name:?}: {faults:?}");
            assert_eq!(faults[0].field, "name");
            assert!(faults[0].message.contains(wanted), "{name:?} gave {}", faults[0]);
        }
        assert!(faults_of(&format!("{}.example", "a".repeat(64)))[0].message.contains("neither"));
        assert!(faults_of(&["a"; 128].join("."))[0].message.contains("253"));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mut config = Config::new("a b".to_owned(), Some(0));
        config.servers = Some(vec!["10.0.0.1:53".parse().unwrap(), "0.0.0.0:53".parse().unwrap()]);
        config.servers.as_mut().unwrap().push("10.0.0.2:0".parse().unwrap());
        config.timeout = Duration::ZERO;
        let fields: Vec<_> = config.faults().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["name", "port", "servers[1]", "servers[2]", "timeout"]);
    }

    #[test]
    fn the_timeout_has_a_floor_and_a_ceiling() {
        let faults_of = |timeout| Config { timeout, ..Config::new("cache".to_owned(), None) }.faults().len();
        assert_eq!([MIN_TIMEOUT, DEFAULT_TIMEOUT, MAX_TIMEOUT].map(faults_of), [0, 0, 0]);
        let nano = Duration::from_nanos(1);
        assert_eq!([MIN_TIMEOUT - nano, MAX_TIMEOUT + nano].map(faults_of), [1, 1]);
    }

    #[test]
    fn no_server_and_too_many_are_faults() {
        let mut config = Config::new("cache".to_owned(), None);
        config.servers = Some(Vec::new());
        assert_eq!(config.faults()[0].field, "servers");
        config.servers = Some(vec!["10.0.0.1:53".parse().unwrap(); MAX_SERVERS]);
        assert_eq!(config.faults(), []);
        config.servers.as_mut().unwrap().push("10.0.0.1:53".parse().unwrap());
        assert_eq!(config.faults()[0].to_string(), "servers: holds 9 servers, more than 8");
    }
}
