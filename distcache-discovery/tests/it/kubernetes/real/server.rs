//! A kube-apiserver and its etcd, as processes of this test.

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use distcache_kube_api::{Endpoint, Pod, Slice};
use http_body_util::BodyExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// The token of one who may do all.
pub(super) const ADMIN: &str = "admin-token";
/// The token of the service account that the manifests name.
pub(super) const NODE: &str = "node-token";
/// The token of a user without any right.
pub(super) const STRANGER: &str = "stranger-token";

/// A real API server. Its processes end with it.
pub(super) struct RealServer {
    programs: PathBuf,
    dir: PathBuf,
    port: u16,
    etcd_url: String,
    _etcd: Child,
    api_server: Mutex<Option<Child>>,
    pub(super) version: String,
}

impl RealServer {
    /// Starts one, with an empty cluster. Returns `None`, having said so, if there is no program to start.
    ///
    /// # Panics
    ///
    /// If there is none, and `DISTCACHE_EXTERNAL` says that there must be.
    pub(super) async fn start() -> Option<Self> {
        let Some(programs) = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
            let why = "KUBEBUILDER_ASSETS is not set (cargo xtask install etcd kube-apiserver builds both)";
            println!("skipped: kubernetes against kube-apiserver: {why}");
            assert!(env::var_os("DISTCACHE_EXTERNAL").is_none_or(|external| external != "required"), "{why}");
            return None;
        };
        let dir = env::temp_dir().join(format!("distcache-kube-apiserver-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        write_credentials(&dir);
        let output = Command::new(programs.join("kube-apiserver")).arg("--version").output().await.unwrap();
        let version = String::from_utf8(output.stdout).unwrap();
        let version = version.trim().trim_start_matches("Kubernetes v").to_owned();
        let (etcd, etcd_url) = start_etcd(&programs, &dir);
        let server =
            Self { programs, dir, port: free_port(), etcd_url, _etcd: etcd, api_server: Mutex::new(None), version };
        server.start_api_server().await;
        Some(server)
    }

    /// Starts the API server, which [`stop_api_server`](Self::stop_api_server) has ended, and waits until it serves.
    pub(super) async fn start_api_server(&self) {
        let log = std::fs::File::options().append(true).create(true).open(self.dir.join("kube-apiserver.log")).unwrap();
        let at = |name: &str| self.dir.join(name).display().to_string();
        let child = Command::new(self.programs.join("kube-apiserver"))
            .arg(format!("--etcd-servers={}", self.etcd_url))
            .arg(format!("--secure-port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
            .arg(format!("--cert-dir={}", at("certificates")))
            .arg(format!("--token-auth-file={}", at("tokens.csv")))
            .arg(format!("--service-account-key-file={}", at("service-account.pub")))
            .arg(format!("--service-account-signing-key-file={}", at("service-account.key")))
            .args([
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.96.0.0/24",
            ])
            // A pod would have to wait for its service account, which nobody makes here.
            .args(["--authorization-mode=RBAC", "--anonymous-auth=false", "--disable-admission-plugins=ServiceAccount"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        *self.api_server.lock().await = Some(child);
        let deadline = Instant::now() + START;
        let namespace = "/api/v1/namespaces/default";
        while self.dir.join("certificates/apiserver.crt").exists().then_some(()).is_none()
            || self.ask(ADMIN, "GET", namespace, "application/json", String::new()).await.is_err()
        {
            assert!(Instant::now() < deadline, "it does not serve: see {}", at("kube-apiserver.log"));
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the API server, and no word to anybody. What it lists stays in etcd.
    pub(super) async fn stop_api_server(&self) {
        if let Some(mut child) = self.api_server.lock().await.take() {
            child.kill().await.unwrap();
        }
    }

    /// Writes a kubeconfig with a token, and returns where it is.
    pub(super) fn kubeconfig(&self, token: &str) -> PathBuf {
        let path = self.dir.join(format!("kubeconfig-{}", token.replace(' ', "-")));
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority": self.dir.join("certificates/apiserver.crt"),
            }}],
            "users": [{ "name": "test", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "default" } }],
        });
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    /// Creates the object in a YAML document, and returns the name of its collection.
    pub(super) async fn create_yaml(&self, token: &str, document: &str, query: &str) -> Result<String, String> {
        let field = |name: &str| {
            let line = document.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name} in {document}")).to_owned()
        };
        let (version, collection) = (field("apiVersion"), field("kind").to_lowercase() + "s");
        let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
        let path = format!("{root}/namespaces/default/{collection}{query}");
        self.ask(token, "POST", &path, "application/yaml", document.to_owned()).await.map(|_| collection)
    }

    /// Adds a pod that starts and has its address, as its node would report it.
    pub(super) async fn put_pod(&self, name: &str, ip: &str) {
        let mut pod = Pod::starting(name, ip.parse().unwrap()).to_json();
        let status = json!({ "status": pod["status"].take() });
        self.create("/api/v1/namespaces/default/pods", &pod).await;
        let path = format!("/api/v1/namespaces/default/pods/{name}/status");
        self.ask(ADMIN, "PATCH", &path, "application/merge-patch+json", status.to_string()).await.unwrap();
    }

    /// Adds a slice of the service `cache` with one endpoint.
    pub(super) async fn put_slice(&self, name: &str, ip: &str) {
        let slice = Slice::of("cache", name).endpoint(Endpoint::starting(ip)).to_json();
        self.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await;
    }

    /// Takes away what the manifests granted.
    pub(super) async fn remove_role(&self) {
        for collection in ["rolebindings", "roles"] {
            let path =
                format!("/apis/rbac.authorization.k8s.io/v1/namespaces/default/{collection}/distcache-discovery");
            self.ask(ADMIN, "DELETE", &path, "application/json", String::new()).await.unwrap();
        }
    }

    async fn create(&self, path: &str, object: &Value) {
        let created = self.ask(ADMIN, "POST", path, "application/json", object.to_string()).await;
        created.or_else(|error| if error.contains("AlreadyExists") { Ok(String::new()) } else { Err(error) }).unwrap();
    }

    /// Sends a request of any kind, and returns what was answered, be it yes or no.
    pub(super) async fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        content: &str,
        body: String,
    ) -> Result<String, String> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(token)).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client =
            kube::Client::try_from(config.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        let request = http::Request::builder().method(method).uri(path).header("content-type", content);
        let request = request.body(kube::client::Body::from(body.into_bytes())).unwrap();
        let answered = async {
            let response = client.send(request).await.map_err(|error| format!("{error:?}"))?;
            let success = response.status().is_success();
            let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            let said = String::from_utf8_lossy(&body).into_owned();
            if success { Ok(said) } else { Err(said) }
        };
        timeout(Duration::from_secs(20), answered).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        // Kept for whoever looks why a test failed.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The folder of the manifests.
pub(super) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kubernetes")
}

fn start_etcd(programs: &Path, dir: &Path) -> (Child, String) {
    let log = std::fs::File::create(dir.join("etcd.log")).unwrap();
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (clients, peers) = (url(free_port()), url(free_port()));
    let child = Command::new(programs.join("etcd"))
        .args(["--name=test", "--unsafe-no-fsync"])
        .arg(format!("--data-dir={}", dir.join("etcd").display()))
        .arg(format!("--listen-client-urls={clients}"))
        .arg(format!("--advertise-client-urls={clients}"))
        .arg(format!("--listen-peer-urls={peers}"))
        .arg(format!("--initial-advertise-peer-urls={peers}"))
        .arg(format!("--initial-cluster=test={peers}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (child, clients)
}

fn write_credentials(dir: &Path) {
    let tokens = format!(
        "{ADMIN},admin,1,\"system:masters\"\n\
         {NODE},system:serviceaccount:default:distcache,2,\"system:serviceaccounts\"\n\
         {STRANGER},stranger,3\n"
    );
    std::fs::write(dir.join("tokens.csv"), tokens).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(dir.join("service-account.key"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("service-account.pub"), key.public_key_pem()).unwrap();
}

/// Returns a port that nobody has now; whoever is unlucky sees its server fail to start.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// It makes its own certificates and many objects at its first start, on a machine that may be busy.
const START: Duration = Duration::from_secs(180);
