//! The manifests in `examples/kubernetes`, read as Kubernetes reads them, and nothing in them is unknown there.

#![allow(clippy::unwrap_used, reason = "clippy sees tests only in functions marked as such, not in their helpers")]

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Every document of every manifest, by its file.
fn documents() -> BTreeMap<String, Vec<Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/kubernetes");
    let mut documents = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            documents.insert(name, serde_saphyr::from_multiple(&text).unwrap());
        }
    }
    documents
}

/// Reads a document as a type, and returns what got lost on the way: fields that the type does not have.
fn lost<T: DeserializeOwned + Serialize>(document: &Value) -> Vec<String> {
    let read: T = serde_json::from_value(document.clone()).unwrap();
    let mut lost = Vec::new();
    compare("", document, &serde_json::to_value(read).unwrap(), &mut lost);
    lost
}

fn compare(path: &str, written: &Value, kept: &Value, lost: &mut Vec<String>) {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => {
            for (name, value) in written {
                compare(&format!("{path}.{name}"), value, kept.get(name).unwrap_or(&Value::Null), lost);
            }
        }
        (Value::Array(written), Value::Array(kept)) if written.len() == kept.len() => {
            for (i, value) in written.iter().enumerate() {
                compare(&format!("{path}[{i}]"), value, &kept[i], lost);
            }
        }
        (written, kept) if written == kept => {}
        _ => lost.push(path.to_owned()),
    }
}

#[test]
fn every_field_is_one_that_kubernetes_knows() {
    let documents = documents();
    assert_eq!(
        documents.keys().collect::<Vec<_>>(),
        ["deployment.yaml", "rbac-endpointslices.yaml", "rbac.yaml", "service.yaml", "statefulset.yaml"]
    );
    for (file, documents) in documents {
        for document in documents {
            let lost = match document["kind"].as_str().unwrap() {
                "Deployment" => lost::<Deployment>(&document),
                "Role" => lost::<Role>(&document),
                "RoleBinding" => lost::<RoleBinding>(&document),
                "Service" => lost::<Service>(&document),
                "ServiceAccount" => lost::<ServiceAccount>(&document),
                "StatefulSet" => lost::<StatefulSet>(&document),
                kind => panic!("{file}: {kind} is not checked"),
            };
            assert!(lost.is_empty(), "{file}: unknown are {lost:?}");
        }
    }
}

#[test]
fn a_misspelt_field_is_seen() {
    let mut service = documents()["service.yaml"][0].clone();
    service["spec"]["publishUnreadyAddresses"] = Value::Bool(true);
    assert_eq!(lost::<Service>(&service), [".spec.publishUnreadyAddresses"]);
}

#[test]
fn the_manifests_fit_together() {
    let documents = documents();
    let service: Service = serde_json::from_value(documents["service.yaml"][0].clone()).unwrap();
    let spec = service.spec.unwrap();
    assert_eq!((spec.cluster_ip.as_deref(), spec.publish_not_ready_addresses), (Some("None"), Some(true)));
    let statefulset: StatefulSet = serde_json::from_value(documents["statefulset.yaml"][0].clone()).unwrap();
    let deployment: Deployment = serde_json::from_value(documents["deployment.yaml"][0].clone()).unwrap();
    let statefulset = statefulset.spec;
    assert_eq!(statefulset.service_name, service.metadata.name);
    for template in [statefulset.template, deployment.spec.template] {
        let PodTemplateSpec { metadata: Some(metadata), spec: Some(pod) } = template else { panic!() };
        assert_eq!(metadata.labels, spec.selector, "the service selects the pods");
        let ports: Vec<_> = pod.containers[0].ports.iter().flatten().filter_map(|port| port.name.as_deref()).collect();
        assert!(ports.contains(&"distcache"), "{ports:?}");
        for file in ["rbac.yaml", "rbac-endpointslices.yaml"] {
            let [account, role, binding] = &documents[file][..] else { panic!("{file}") };
            assert_eq!(account["metadata"]["name"].as_str(), pod.service_account_name.as_deref());
            assert_eq!(binding["subjects"][0]["name"], account["metadata"]["name"]);
            assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
            assert_eq!(role["rules"].as_array().unwrap().len(), 1, "no more than is needed");
            assert_eq!(role["rules"][0]["verbs"], serde_json::json!(["get", "list", "watch"]));
        }
    }
}
