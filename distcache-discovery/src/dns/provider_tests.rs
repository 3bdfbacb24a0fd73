//! Tests of the provider's life, and of what it takes from the system.

use std::io;

use hickory_resolver::config::NameServerConfig;
use hickory_resolver::system_conf;

use super::*;

fn of_system(system: ReadSystem) -> DnsProvider {
    DnsProvider { system, ..DnsProvider::addresses("cache", 3320) }
}

#[tokio::test]
async fn the_system_is_read_at_each_start_and_not_before() {
    static FOUND: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    fn read() -> Result<(ResolverConfig, ResolverOpts), NetError> {
        let ip = FOUND.lock().unwrap().pop().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let servers = vec![NameServerConfig::udp_and_tcp(ip.parse().unwrap())];
        Ok((ResolverConfig::from_name_servers(servers), ResolverOpts::default()))
    }
    let provider = of_system(read);
    let error = provider.start().await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unavailable { .. }), "{error:?}");
    assert!(matches!(provider.discover().await.unwrap_err(), DiscoveryError::NotStarted { .. }));

    FOUND.lock().unwrap().extend(["127.0.0.2", "127.0.0.1"]);
    assert!(provider.validate().is_empty());
    for left in [1, 0] {
        provider.start().await.unwrap();
        assert!(matches!(provider.start().await.unwrap_err(), DiscoveryError::AlreadyStarted { .. }));
        provider.stop().await.unwrap();
        assert_eq!(FOUND.lock().unwrap().len(), left);
    }
}

#[tokio::test]
async fn servers_of_ones_own_leave_the_system_alone() {
    let provider = of_system(|| panic!("the system was asked")).servers(["127.0.0.1:53".parse().unwrap()]);
    provider.start().await.unwrap();
    let resolver = provider.resolver().await.unwrap();
    assert!(resolver.name.is_fqdn());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn search_domains_and_dots_are_those_of_resolv_conf() {
    fn read() -> Result<(ResolverConfig, ResolverOpts), NetError> {
        system_conf::parse_resolv_conf("nameserver 127.0.0.1\nsearch svc.local cluster.local\noptions ndots:5\n")
    }
    let resolver = of_system(read).resolver().await.unwrap();
    let names: Vec<_> = resolver.search.candidates(&resolver.name).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["cache.svc.local.", "cache.cluster.local.", "cache."]);
}

#[tokio::test]
async fn a_panic_while_the_system_is_read_is_an_error() {
    let provider = of_system(|| panic!("it broke"));
    assert!(provider.start().await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn a_misconfigured_provider_does_not_start_and_says_all() {
    let provider = DnsProvider::addresses("", 0).servers([]).timeout(Duration::MAX);
    let DiscoveryError::Invalid { faults, .. } = provider.start().await.unwrap_err() else { panic!("it is invalid") };
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["name", "port", "servers", "timeout"]);
    assert_eq!(provider.validate(), faults);
}
