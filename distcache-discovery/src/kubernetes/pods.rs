//! Which addresses a pod has.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::target::Wanted;
use crate::IpFamily;

/// Returns the addresses of a pod, given as JSON: its IP addresses of the family wanted, at each TCP port of the wanted name.
///
/// A pod counts from the moment it has an address, whether it is ready or not: nodes that start together and wait for one another
/// to be ready would never meet. It counts no more once it is told to end.
pub(super) fn addrs(pod: &str, wanted: &Wanted) -> Vec<SocketAddr> {
    let Ok(pod) = serde_json::from_str::<Pod>(pod) else { return Vec::new() };
    let Pod { metadata, spec: Some(spec), status: Some(status) } = pod else { return Vec::new() };
    if metadata.deletion_timestamp.is_some() || !matches!(status.phase.as_deref(), Some("Pending" | "Running")) {
        return Vec::new();
    }
    let ports = spec.ports(&wanted.port);
    status
        .ips(wanted.family)
        .into_iter()
        .flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port)))
        .collect()
}

#[derive(Debug, Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    containers: Option<Vec<Container>>,
    /// Those of them that go on running are sidecars, and one may be the cache.
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    container_port: Option<u16>,
    protocol: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: Option<String>,
}

impl Spec {
    fn ports(&self, name: &str) -> Vec<u16> {
        let containers = self.containers.iter().chain(&self.init_containers).flatten();
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        ports
            .filter(|port| port.is_tcp() && port.name.as_deref() == Some(name))
            .filter_map(|port| port.container_port)
            .collect()
    }
}

impl Port {
    fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    }
}

impl Status {
    /// Returns the pod's addresses of one family, or its primary one.
    fn ips(&self, family: Option<IpFamily>) -> Vec<IpAddr> {
        let all = self.pod_ips.iter().flatten().filter_map(|pod_ip| pod_ip.ip.as_ref());
        let mut ips = all.chain(&self.pod_ip).filter_map(|ip| ip.parse().ok());
        match family {
            // The API puts the primary one first in `podIPs`, and into `podIP`.
            None => ips.next().into_iter().collect(),
            Some(family) => ips.filter(|ip| family.has(*ip)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: &str = r#""spec":{"containers":[{"ports":[{"name":"distcache","containerPort":3320}]}]}"#;

    fn addrs_of(pod: &str, family: Option<IpFamily>) -> Vec<String> {
        let wanted = Wanted { port: "distcache".to_owned(), family };
        addrs(pod, &wanted).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pod_counts_while_it_starts_and_runs() {
        for (phase, wanted) in
            [("Pending", true), ("Running", true), ("Succeeded", false), ("Failed", false), ("?", false)]
        {
            let pod = format!(r#"{{{PORT},"status":{{"phase":"{phase}","podIP":"10.0.0.1"}}}}"#);
            assert_eq!(!addrs_of(&pod, None).is_empty(), wanted, "{phase}");
        }
        let pod = format!(r#"{{{PORT},"status":{{"podIP":"10.0.0.1"}}}}"#);
        assert!(addrs_of(&pod, None).is_empty(), "no phase");
        let ending = r#""metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}"#;
        let pod = format!(r#"{{{ending},{PORT},"status":{{"phase":"Running","podIP":"10.0.0.1"}}}}"#);
        assert!(addrs_of(&pod, None).is_empty(), "it ends");
    }

    #[test]
    fn the_family_is_chosen_among_all_addresses() {
        let ips = r#""podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]"#;
        let pod = format!(r#"{{{PORT},"status":{{"phase":"Running",{ips}}}}}"#);
        assert_eq!(addrs_of(&pod, None), ["10.0.0.1:3320"]);
        assert_eq!(addrs_of(&pod, Some(IpFamily::V6)), ["[fd00::1]:3320"]);
        assert!(addrs_of(&pod, Some(IpFamily::V4)).contains(&"10.0.0.1:3320".to_owned()));
        let pod = format!(r#"{{{PORT},"status":{{"phase":"Pending","podIP":"fd00::2"}}}}"#);
        assert_eq!(addrs_of(&pod, Some(IpFamily::V6)), ["[fd00::2]:3320"]);
        assert!(addrs_of(&pod, Some(IpFamily::V4)).is_empty());
    }

    #[test]
    fn ports_are_found_by_name_in_every_container() {
        let spec = r#""spec":{
            "containers":[{},{"ports":[{"name":"http","containerPort":80},{"name":"distcache","containerPort":1,"protocol":"TCP"}]}],
            "initContainers":[{"ports":[{"name":"distcache","containerPort":2},{"name":"distcache","containerPort":3,"protocol":"UDP"}]}]
        }"#;
        let pod = format!(r#"{{{spec},"status":{{"phase":"Running","podIP":"10.0.0.1"}}}}"#);
        assert_eq!(addrs_of(&pod, None), ["10.0.0.1:1", "10.0.0.1:2"]);
    }

    #[test]
    fn odd_pods_have_no_addresses() {
        let status = r#""status":{"phase":"Running","podIP":"10.0.0.1"}"#;
        for pod in [
            "",
            "null",
            "[]",
            "7",
            "{}",
            r#"{"spec":null,"status":null}"#,
            r#"{"metadata":7}"#,
            &format!(r#"{{"spec":{{"containers":null}},{status}}}"#),
            &format!(r#"{{"spec":{{"containers":[null]}},{status}}}"#),
            &format!(r#"{{"spec":{{"containers":[{{"ports":[{{"name":"distcache"}}]}}]}},{status}}}"#),
            &format!(
                r#"{{"spec":{{"containers":[{{"ports":[{{"name":"distcache","containerPort":65536}}]}}]}},{status}}}"#
            ),
            &format!(r#"{{{PORT},"status":{{"phase":"Running"}}}}"#),
            &format!(r#"{{{PORT},"status":{{"phase":"Running","podIP":"","podIPs":[{{}},{{"ip":"nonsense"}}]}}}}"#),
        ] {
            assert!(addrs_of(pod, None).is_empty(), "{pod}");
        }
    }
}
