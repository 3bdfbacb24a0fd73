//! Pods and endpoint slices, as a test describes them and as the API shows them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

/// Describes a pod with one container. Every field may be changed.
///
/// # Examples
///
/// ```
/// use distcache_kube_api::Pod;
///
/// let mut pod = Pod::ready("cache-0", "10.0.0.1".parse().unwrap());
/// pod.terminating = true;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pod {
    /// Its name, unique among the pods of its namespace.
    pub name: String,
    /// Its namespace; `default` at first.
    pub namespace: String,
    /// Its labels; `app=distcache` at first.
    pub labels: BTreeMap<String, String>,
    /// Its phase; `Running` or `Pending` at first.
    pub phase: String,
    /// Whether its probes pass.
    pub ready: bool,
    /// Whether it was told to end.
    pub terminating: bool,
    /// Its addresses, the primary one first.
    pub ips: Vec<IpAddr>,
    /// The ports of its container by name; `distcache` is 3320 at first.
    pub ports: Vec<(String, u16)>,
}

impl Pod {
    /// Creates a pod that runs and is ready.
    #[must_use]
    pub fn ready(name: &str, ip: IpAddr) -> Self {
        Self {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "distcache".to_owned())]),
            phase: "Running".to_owned(),
            ready: true,
            terminating: false,
            ips: vec![ip],
            ports: vec![("distcache".to_owned(), 3320)],
        }
    }

    /// Creates a pod that has its address, and whose container starts.
    #[must_use]
    pub fn starting(name: &str, ip: IpAddr) -> Self {
        Self { phase: "Pending".to_owned(), ready: false, ..Self::ready(name, ip) }
    }

    /// Returns the pod as the API shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let ports: Vec<_> = self
            .ports
            .iter()
            .map(|(name, port)| json!({ "name": name, "containerPort": port, "protocol": "TCP" }))
            .collect();
        let ips: Vec<_> = self.ips.iter().map(|ip| json!({ "ip": ip.to_string() })).collect();
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": self.name, "namespace": self.namespace, "labels": self.labels },
            "spec": { "containers": [{ "name": "cache", "image": "cache:1", "ports": ports }] },
            "status": {
                "phase": self.phase,
                "conditions": [{ "type": "Ready", "status": if self.ready { "True" } else { "False" } }],
            },
        });
        // A pod without an address has no such fields at all.
        if let Some(primary) = self.ips.first() {
            pod["status"]["podIP"] = json!(primary.to_string());
            pod["status"]["podIPs"] = json!(ips);
        }
        if self.terminating {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        pod
    }
}

/// Describes a part of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slice {
    /// Its name, unique among the slices of its namespace.
    pub name: String,
    /// Its namespace; `default` at first.
    pub namespace: String,
    /// The service it belongs to.
    pub service: String,
    /// The family of its addresses: `IPv4` at first, or `IPv6` or `FQDN`.
    pub address_type: String,
    /// What is behind the service.
    pub endpoints: Vec<Endpoint>,
    /// Its ports by name; `distcache` is 3320 at first.
    pub ports: Vec<(String, u16)>,
}

impl Slice {
    /// Creates a slice without endpoints.
    #[must_use]
    pub fn of(service: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            service: service.to_owned(),
            address_type: "IPv4".to_owned(),
            endpoints: Vec::new(),
            ports: vec![("distcache".to_owned(), 3320)],
        }
    }

    /// Adds an endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Returns the slice as the API shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| {
                let conditions = json!({
                    "ready": endpoint.ready && !endpoint.terminating,
                    "serving": endpoint.ready,
                    "terminating": endpoint.terminating,
                });
                json!({ "addresses": [endpoint.address], "conditions": conditions })
            })
            .collect();
        let ports: Vec<_> =
            self.ports.iter().map(|(name, port)| json!({ "name": name, "port": port, "protocol": "TCP" })).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": { "kubernetes.io/service-name": self.service },
            },
            "addressType": self.address_type,
            "endpoints": endpoints,
            "ports": ports,
        })
    }
}

/// Describes one address behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// Its address, or its name.
    pub address: String,
    /// Whether its probes pass.
    pub ready: bool,
    /// Whether it was told to end.
    pub terminating: bool,
}

impl Endpoint {
    /// Creates an endpoint that is ready.
    #[must_use]
    pub fn ready(address: &str) -> Self {
        Self { address: address.to_owned(), ready: true, terminating: false }
    }

    /// Creates an endpoint that starts.
    #[must_use]
    pub fn starting(address: &str) -> Self {
        Self { ready: false, ..Self::ready(address) }
    }

    /// Creates an endpoint that ends.
    #[must_use]
    pub fn terminating(address: &str) -> Self {
        Self { terminating: true, ..Self::ready(address) }
    }
}
