//! Which objects lead to seeds, and which do not.

use std::net::IpAddr;

use distcache_discovery::{IpFamily, KubernetesAccess, KubernetesProvider, Provider};
use distcache_kube_api::{ApiServer, Endpoint, Pod, Slice, Verb};
use serde_json::json;

use super::{found, ip, pod, pods_of, reach, server_of, start, started, watched};

#[tokio::test]
async fn pods_count_while_they_start_and_no_more_when_they_end() {
    let ending = Pod::ready("ending", ip(3));
    let done = Pod::ready("done", ip(4));
    let failed = Pod::ready("failed", ip(5));
    let pods = [
        pod(1),
        Pod::starting("starting", ip(2)),
        change(ending, |pod| pod.terminating = true),
        change(done, |pod| pod.phase = "Succeeded".to_owned()),
        change(failed, |pod| pod.phase = "Failed".to_owned()),
        change(pod(6), |pod| pod.ips.clear()),
        change(pod(7), |pod| pod.ports = vec![("http".to_owned(), 80)]),
    ];
    let server = server_of(&pods).await;
    let provider = started(&server).await;
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320", "10.0.0.2:3320"]);
    watched(&server, &provider).await;
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320", "10.0.0.2:3320"]);
}

#[tokio::test]
async fn other_labels_and_namespaces_are_others() {
    let other = change(pod(2), |pod| _ = pod.labels.insert("app".to_owned(), "web".to_owned()));
    let elsewhere = change(pod(3), |pod| pod.namespace = "prod".to_owned());
    let server = server_of(&[pod(1), other, elsewhere]).await;
    assert_eq!(found(&started(&server).await).await.unwrap(), ["10.0.0.1:3320"]);
    let there = start(pods_of(&server).namespace("prod")).await;
    assert_eq!(found(&there).await.unwrap(), ["10.0.0.3:3320"]);
    let both = start(reach(&server, KubernetesProvider::pods("app", "distcache"))).await;
    assert_eq!(found(&both).await.unwrap(), ["10.0.0.1:3320", "10.0.0.2:3320"]);
}

#[tokio::test]
async fn the_family_is_chosen_in_a_dual_stack_cluster() {
    let v6: IpAddr = "fd00::1".parse().unwrap();
    let server = server_of(&[change(pod(1), |pod| pod.ips.push(v6))]).await;
    assert_eq!(found(&started(&server).await).await.unwrap(), ["10.0.0.1:3320"]);
    for (family, wanted) in [(IpFamily::V4, "10.0.0.1:3320"), (IpFamily::V6, "[fd00::1]:3320")] {
        assert_eq!(found(&start(pods_of(&server).family(family)).await).await.unwrap(), [wanted]);
    }
}

#[tokio::test]
async fn a_long_list_comes_in_pages_and_is_cut() {
    let server = ApiServer::start().await.unwrap();
    for i in 0..1_200_u16 {
        let [high, low] = i.to_be_bytes();
        server.put_pod(&Pod::starting(&format!("cache-{i}"), IpAddr::from([10, 0, high, low])));
    }
    let provider = started(&server).await;
    watched(&server, &provider).await;
    let seeds = found(&provider).await.unwrap();
    assert_eq!((seeds.len(), seeds[0].as_str(), seeds[1023].as_str()), (1024, "10.0.0.0:3320", "10.0.3.255:3320"));
    assert!(server.requests(Verb::List) >= 5, "250 pods a page");
    // Those that were cut take the place of those that go.
    let mut changes = provider.changes().unwrap();
    server.remove_pod("cache-0");
    let told = [futures_util::StreamExt::next(&mut changes).await, futures_util::StreamExt::next(&mut changes).await];
    assert_eq!(told.map(|change| change.unwrap().seed().addr.to_string()), ["10.0.0.0:3320", "10.0.4.0:3320"]);
    assert_eq!(found(&provider).await.unwrap().len(), 1024);
}

#[tokio::test]
async fn a_service_leads_to_its_endpoints() {
    let server = ApiServer::start().await.unwrap();
    let slice = Slice::of("cache", "cache-abc")
        .endpoint(Endpoint::ready("10.0.0.1"))
        .endpoint(Endpoint::starting("10.0.0.2"))
        .endpoint(Endpoint::terminating("10.0.0.3"));
    server.put_slice(&slice);
    server.put_slice(&Slice::of("cache", "cache-def").endpoint(Endpoint::ready("10.0.0.4")));
    server.put_slice(&Slice::of("web", "web-abc").endpoint(Endpoint::ready("10.0.0.5")));
    let mut names = Slice::of("cache", "cache-names").endpoint(Endpoint::ready("cache.example"));
    names.address_type = "FQDN".to_owned();
    server.put_slice(&names);
    let provider = start(reach(&server, KubernetesProvider::service("cache", "distcache"))).await;
    let all = ["10.0.0.1:3320", "10.0.0.2:3320", "10.0.0.4:3320"];
    assert_eq!(found(&provider).await.unwrap(), all);
    watched(&server, &provider).await;
    assert_eq!(found(&provider).await.unwrap(), all);
    let other = start(reach(&server, KubernetesProvider::service("cache", "http"))).await;
    assert!(found(&other).await.unwrap().is_empty());
}

#[tokio::test]
async fn odd_objects_do_not_hide_the_others() {
    let server = server_of(&[pod(1)]).await;
    let status = json!({ "phase": "Running", "podIP": "10.0.0.9" });
    let labels = json!({ "app": "distcache" });
    let odd = [
        json!({ "metadata": { "labels": labels } }),
        json!({ "metadata": { "name": 7, "labels": labels }, "status": status }),
        json!({ "metadata": { "name": "b", "labels": labels }, "spec": { "containers": 7 }, "status": status }),
        json!({ "metadata": { "name": "c", "labels": labels }, "spec": null, "status": null }),
    ];
    for (i, object) in odd.into_iter().enumerate() {
        server.put_raw_pod(&format!("odd-{i}"), object);
    }
    for (i, ip) in ["0.0.0.0", "224.0.0.1", "::", "255.255.255.255"].iter().enumerate() {
        server.put_pod(&Pod::ready(&format!("undialable-{i}"), ip.parse().unwrap()));
    }
    server.put_pod(&change(pod(2), |pod| pod.ports[0].1 = 0));
    let provider = started(&server).await;
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320"]);
    watched(&server, &provider).await;
    assert_eq!(found(&provider).await.unwrap(), ["10.0.0.1:3320"]);
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_all_found_at_once() {
    let provider = KubernetesProvider::pods(" ", "3320")
        .namespace("Prod")
        .access(KubernetesAccess::Url("localhost:8001".to_owned()))
        .timeout(std::time::Duration::ZERO);
    let fields: Vec<_> = provider.validate().into_iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["selector", "port", "namespace", "access", "timeout"]);
    assert!(provider.start().await.is_err());
    assert_eq!(KubernetesProvider::service("-", "distcache").validate()[0].field, "service");
}

fn change(mut pod: Pod, change: impl FnOnce(&mut Pod)) -> Pod {
    change(&mut pod);
    pod
}
