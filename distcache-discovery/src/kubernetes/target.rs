//! What the API server is asked for: pods by their labels, or the endpoints of a service.

use serde_json::value::RawValue;

use super::object::Named;
use super::store::Object;
use super::{pods, slices};
use crate::address::check_dialable;
use crate::{Fault, IpFamily};

/// Says where nodes are to be found.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) objects: Objects,
    pub(super) wanted: Wanted,
}

/// Which objects lead to nodes.
#[derive(Debug, Clone)]
pub(super) enum Objects {
    /// The pods that a label selector selects.
    Pods { selector: String },
    /// The endpoint slices of a service.
    Slices { service: String },
}

/// What to take from an object.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The name of the port.
    pub(super) port: String,
    /// The family of the addresses; `None` for the primary one of a pod, and for all of a service.
    pub(super) family: Option<IpFamily>,
}

impl Target {
    /// Returns the resource, as rights name it.
    pub(super) fn resource(&self) -> &'static str {
        match self.objects {
            Objects::Pods { .. } => "pods",
            Objects::Slices { .. } => "endpointslices.discovery.k8s.io",
        }
    }

    pub(super) fn path(&self, namespace: &str) -> String {
        match self.objects {
            Objects::Pods { .. } => format!("/api/v1/namespaces/{namespace}/pods"),
            Objects::Slices { .. } => format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
        }
    }

    pub(super) fn selector(&self) -> String {
        match &self.objects {
            Objects::Pods { selector } => selector.clone(),
            Objects::Slices { service } => format!("kubernetes.io/service-name={service}"),
        }
    }

    /// Reads an object; `None` if it has no name, and so cannot be told from others. Addresses that nobody can dial are dropped.
    pub(super) fn read(&self, object: &RawValue) -> Option<Object> {
        let name = serde_json::from_str::<Named>(object.get()).ok()?.metadata.name?;
        let mut addrs = match self.objects {
            Objects::Pods { .. } => pods::addrs(object.get(), &self.wanted),
            Objects::Slices { .. } => slices::addrs(object.get(), &self.wanted),
        };
        addrs.retain(|addr| match check_dialable(*addr) {
            Ok(_) => true,
            Err(fault) => {
                tracing::debug!(provider = super::ID, object = name, %addr, fault, "an address was dropped");
                false
            }
        });
        Some(Object { name, addrs })
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        match &self.objects {
            Objects::Pods { selector } => {
                faults.extend(selector_fault(selector).map(|fault| Fault::new("selector", fault)))
            }
            Objects::Slices { service } => {
                faults.extend(label_fault(service).map(|fault| Fault::new("service", fault)))
            }
        }
        faults.extend(port_fault(&self.wanted.port).map(|fault| Fault::new("port", fault)));
        faults
    }
}

fn selector_fault(selector: &str) -> Option<&'static str> {
    if selector.trim().is_empty() {
        Some("is empty, and would take every pod of the namespace for a node: name their labels, as in app=cache")
    } else if selector.len() > MAX_SELECTOR_BYTES {
        Some("has more than 4096 bytes")
    } else if selector.chars().any(char::is_control) {
        Some("holds control characters")
    } else {
        None
    }
}

/// Finds fault with what is no label of RFC 1123, the names of services and namespaces.
pub(super) fn label_fault(label: &str) -> Option<&'static str> {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = (1..=63).contains(&label.len())
        && label.bytes().all(|byte| is_alphanumeric(byte) || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-');
    (!is_label).then_some("is not 1 to 63 lower-case letters, digits and inner hyphens")
}

/// Finds fault with what is no name of RFC 6335, section 5.1, the names of ports.
fn port_fault(port: &str) -> Option<&'static str> {
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("is a number: give the container's port a name, and that name here");
    }
    // A service's ports may have 63 bytes, a container's 15.
    let is_name =
        label_fault(port).is_none() && port.bytes().any(|byte| byte.is_ascii_lowercase()) && !port.contains("--");
    (!is_name).then_some("is not a port's name: lower-case letters, digits and single inner hyphens")
}

/// Far more than labels need, and short enough for every server's limit of a request's first line.
const MAX_SELECTOR_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (label, wanted) in [
            ("cache", true),
            ("a-0", true),
            ("0", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("a.b", false),
        ] {
            assert_eq!(label_fault(label).is_none(), wanted, "{label:?}");
        }
        assert!(label_fault(&"a".repeat(64)).is_some());
        for (port, wanted) in
            [("distcache", true), ("p2p-1", true), ("3320", false), ("", false), ("a--b", false), ("1-2", false)]
        {
            assert_eq!(port_fault(port).is_none(), wanted, "{port:?}");
        }
        assert!(port_fault("3320").unwrap().contains("is a number"));
        assert!(selector_fault("app=cache,tier in (a, b)").is_none());
        for selector in ["", " ", "app=\ncache", &"a".repeat(5000)] {
            assert!(selector_fault(selector).is_some(), "{selector:?}");
        }
    }

    #[test]
    fn an_object_without_a_name_is_not_read_and_undialable_addresses_are_dropped() {
        let wanted = Wanted { port: "distcache".to_owned(), family: None };
        let target = Target { objects: Objects::Slices { service: "cache".to_owned() }, wanted };
        let read = |json: &str| target.read(&RawValue::from_string(json.to_owned()).unwrap());
        assert_eq!(read("7"), None);
        assert_eq!(read(r#"{"metadata":{}}"#), None);
        assert_eq!(read(r#"{"metadata":{"name":"a"}}"#), Some(Object { name: "a".to_owned(), addrs: vec![] }));
        let ips = ["0.0.0.0", "224.0.0.1", "::", "ff02::1", "10.0.0.1"];
        let endpoints: Vec<_> = ips.iter().map(|ip| format!(r#"{{"addresses":["{ip}"]}}"#)).collect();
        let ports = r#"[{"name":"distcache","port":3320},{"name":"distcache","port":0}]"#;
        let slice = format!(r#"{{"metadata":{{"name":"a"}},"ports":{ports},"endpoints":[{}]}}"#, endpoints.join(","));
        assert_eq!(read(&slice).unwrap().addrs, ["10.0.0.1:3320".parse().unwrap()]);
    }
}
