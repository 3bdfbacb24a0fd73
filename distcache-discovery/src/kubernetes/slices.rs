//! Which addresses a slice of a service's endpoints has.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::target::Wanted;

/// Returns the addresses in an endpoint slice, given as JSON: each endpoint of the family wanted, at each TCP port of the wanted
/// name.
///
/// Endpoints count whether they are ready or not, for the reason that [`pods`](super::pods) gives, until they are told to end.
pub(super) fn addrs(slice: &str, wanted: &Wanted) -> Vec<SocketAddr> {
    let Ok(slice) = serde_json::from_str::<Slice>(slice) else { return Vec::new() };
    let ports: Vec<_> = slice
        .ports
        .iter()
        .flatten()
        .filter(|port| port.is_tcp() && port.name.as_deref() == Some(wanted.port.as_str()))
        .filter_map(|port| port.port)
        .collect();
    let endpoints = slice.endpoints.iter().flatten().filter(|endpoint| !endpoint.is_terminating());
    let ips = endpoints.filter_map(Endpoint::ip).filter(|ip| wanted.family.is_none_or(|family| family.has(*ip)));
    ips.flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port))).collect()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Slice {
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    terminating: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    name: Option<String>,
    port: Option<u16>,
    protocol: Option<String>,
}

impl Endpoint {
    fn is_terminating(&self) -> bool {
        self.conditions.as_ref().is_some_and(|conditions| conditions.terminating == Some(true))
    }

    /// Returns the first address, for which the API lets the others stand; none for a host name.
    fn ip(&self) -> Option<IpAddr> {
        self.addresses.as_ref()?.first()?.parse().ok()
    }
}

impl Port {
    fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpFamily;

    fn addrs_of(slice: &str, family: Option<IpFamily>) -> Vec<String> {
        let wanted = Wanted { port: "distcache".to_owned(), family };
        addrs(slice, &wanted).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn endpoints_count_until_they_end() {
        let slice = r#"{"ports":[{"name":"http","port":80},{"name":"distcache","port":3320},{"name":"distcache","port":53,"protocol":"UDP"}],
            "endpoints":[
                {"addresses":["10.0.0.1","10.0.0.9"],"conditions":{"ready":true}},
                {"addresses":["10.0.0.2"],"conditions":{"ready":false,"serving":false,"terminating":false}},
                {"addresses":["10.0.0.3"],"conditions":{"ready":true,"terminating":true}},
                {"addresses":["fd00::1"]},
                {"addresses":["cache.example"]}
            ]}"#;
        assert_eq!(addrs_of(slice, None), ["10.0.0.1:3320", "10.0.0.2:3320", "[fd00::1]:3320"]);
        assert_eq!(addrs_of(slice, Some(IpFamily::V4)), ["10.0.0.1:3320", "10.0.0.2:3320"]);
        assert_eq!(addrs_of(slice, Some(IpFamily::V6)), ["[fd00::1]:3320"]);
    }

    #[test]
    fn odd_slices_have_no_addresses() {
        let endpoints = r#""endpoints":[{"addresses":["10.0.0.1"]}]"#;
        for slice in [
            "",
            "null",
            "7",
            "{}",
            r#"{"endpoints":null,"ports":null}"#,
            &format!(r#"{{{endpoints}}}"#),
            &format!(r#"{{{endpoints},"ports":[{{"name":"distcache"}}]}}"#),
            &format!(r#"{{{endpoints},"ports":[{{"name":"distcache","port":-1}}]}}"#),
            &format!(r#"{{{endpoints},"ports":[{{"port":3320}}]}}"#),
            r#"{"ports":[{"name":"distcache","port":3320}],"endpoints":[{},{"addresses":null},{"addresses":[]}]}"#,
        ] {
            assert!(addrs_of(slice, None).is_empty(), "{slice}");
        }
    }
}
