//! How the API server is reached, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use rustls::crypto::{CryptoProvider, ring};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::Fault;

/// Says how a [`KubernetesProvider`](crate::KubernetesProvider) reaches the API server, and as whom.
///
/// # Examples
///
/// ```
/// use distcache_discovery::{KubernetesAccess, KubernetesProvider};
///
/// // `kubectl proxy` knows the credentials.
/// let access = KubernetesAccess::Url("http://127.0.0.1:8001".to_owned());
/// let provider = KubernetesProvider::pods("app=cache", "distcache").access(access);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KubernetesAccess {
    /// As [`InCluster`](Self::InCluster) if this process runs in a pod that has a service account, else as
    /// [`Kubeconfig`](Self::Kubeconfig) without a path and a context. The default.
    #[default]
    Inferred,
    /// As the service account of the pod that this process runs in. Its token and the server's CA are read again as they are
    /// renewed.
    InCluster,
    /// As a kubeconfig says. A credential plugin that it names is run at the start, and again when its token ends.
    Kubeconfig {
        /// The file; `None` for those in `KUBECONFIG`, or else `~/.kube/config`.
        path: Option<PathBuf>,
        /// The context; `None` for the current one.
        context: Option<String>,
    },
    /// At a URL, `http://` or `https://`, without credentials: a proxy that has them, or a test.
    Url(String),
}

impl KubernetesAccess {
    pub(super) fn fault(&self) -> Option<Fault> {
        let Self::Url(url) = self else { return None };
        let has_scheme = url.starts_with("http://") || url.starts_with("https://");
        let fault = match url.parse().map(Config::new) {
            _ if !has_scheme => "begins neither with http:// nor with https://",
            // Whatever it is, it is not shown: there may be a password in it.
            _ if url.contains('@') => "holds credentials, which belong in a kubeconfig",
            Ok(config) if config.cluster_url.host().is_some_and(|host| !host.is_empty()) => return None,
            _ => "is no URL",
        };
        Some(Fault::new("access", fault))
    }

    /// Returns a client and the namespace that goes with it, having read files and run a credential plugin, but asked no server.
    ///
    /// # Errors
    ///
    /// A phrase that says what is missing.
    pub(super) async fn connect(&self, call_timeout: Duration) -> Result<(Client, String), String> {
        let mut config = match timeout(SETUP_TIMEOUT, self.config()).await {
            Ok(config) => config?,
            Err(_) => return Err(format!("was not ready within {SETUP_TIMEOUT:?}")),
        };
        // Retries and deadlines are those of this provider. Reads have none at this level, for a watch may be quiet.
        config.default_retry = false;
        config.connect_timeout = Some(call_timeout);
        config.write_timeout = Some(call_timeout);
        choose_cryptography();
        let namespace = config.default_namespace.trim().to_owned();
        // Off the runtime's threads, for a credential plugin is waited for.
        let client = timeout(SETUP_TIMEOUT, spawn_blocking(|| Client::try_from(config))).await;
        match client {
            Ok(Ok(Ok(client))) => Ok((client, namespace)),
            Ok(Ok(Err(error))) => Err(explain(&error)),
            Ok(Err(_)) => Err("could not be set up".to_owned()),
            Err(_) => {
                Err(format!("was not ready within {SETUP_TIMEOUT:?}: is a credential plugin waiting for somebody?"))
            }
        }
    }

    async fn config(&self) -> Result<Config, String> {
        match self {
            Self::Inferred => match Config::incluster() {
                Ok(config) => Ok(config),
                Err(in_cluster) => kubeconfig(None, None).await.map_err(|kubeconfig| {
                    format!("is neither in a cluster ({in_cluster}) nor by kubeconfig ({kubeconfig})")
                }),
            },
            Self::InCluster => Config::incluster().map_err(|error| format!("is not in a cluster: {error}")),
            Self::Kubeconfig { path, context } => kubeconfig(path.clone(), context.clone())
                .await
                .map_err(|error| format!("is not in the kubeconfig: {error}")),
            Self::Url(url) => url.parse().map(Config::new).map_err(|error| format!("is no URL: {error}")),
        }
    }
}

async fn kubeconfig(path: Option<PathBuf>, context: Option<String>) -> Result<Config, KubeconfigError> {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    match path {
        Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await,
        None => Config::from_kubeconfig(&options).await,
    }
}

/// Makes sure that rustls has a default provider of cryptography. kube asks for it, and rustls panics if two are compiled in and
/// none is chosen, as with the feature `aws-lc-rs` of `distcache`. A choice of the program's stands.
fn choose_cryptography() {
    if CryptoProvider::get_default().is_none() {
        // An error means that somebody else chose meanwhile.
        let _ = ring::default_provider().install_default();
    }
}

/// Says what went wrong without the arguments of a credential plugin and what it printed: either may hold a secret.
fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(kube::client::AuthError::AuthExecRun { out, .. }) => {
            format!("has a credential plugin, which ended with {}", out.status)
        }
        error => format!("cannot be used: {error}"),
    }
}

/// Files and a credential plugin need no longer, and whoever starts a node should not wait longer for one that hangs.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_checked_and_not_repeated() {
        let fault = |url: &str| KubernetesAccess::Url(url.to_owned()).fault().map(|fault| fault.to_string());
        for url in ["http://127.0.0.1:8001", "https://[fd00::1]:6443/", "https://api.example/k8s/clusters/c1"] {
            assert_eq!(fault(url), None, "{url}");
        }
        for (url, wanted) in [
            ("", "neither"),
            ("127.0.0.1:8001", "neither"),
            ("ftp://127.0.0.1", "neither"),
            ("http://", "no URL"),
            ("http://a b", "no URL"),
            ("https://user:hunter2@api.example", "credentials"),
        ] {
            let fault = fault(url).expect(url);
            assert!(fault.contains(wanted) && !fault.contains("hunter2"), "{url}: {fault}");
        }
        assert_eq!(KubernetesAccess::Inferred.fault(), None);
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let nowhere = KubernetesAccess::Kubeconfig { path: Some("/nonexistent/kubeconfig".into()), context: None };
        let error = nowhere.connect(SETUP_TIMEOUT).await.err().unwrap();
        assert!(error.contains("/nonexistent/kubeconfig"), "{error}");
    }

    #[tokio::test]
    async fn what_a_credential_plugin_prints_is_not_repeated() {
        let path = std::env::temp_dir().join(format!("distcache-kubeconfig-{}", std::process::id()));
        let plugin = r#"{"apiVersion":"client.authentication.k8s.io/v1","command":"sh","args":["-c","echo hunter2; exit 3"],"interactiveMode":"Never"}"#;
        let kubeconfig = format!(
            r#"{{"apiVersion":"v1","kind":"Config","current-context":"c",
            "clusters":[{{"name":"c","cluster":{{"server":"https://127.0.0.1:1"}}}}],
            "users":[{{"name":"c","user":{{"exec":{plugin}}}}}],
            "contexts":[{{"name":"c","context":{{"cluster":"c","user":"c","namespace":"prod"}}}}]}}"#
        );
        std::fs::write(&path, kubeconfig).unwrap();
        let access = KubernetesAccess::Kubeconfig { path: Some(path.clone()), context: None };
        let error = access.connect(SETUP_TIMEOUT).await.err().unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(error.contains("plugin") && error.contains('3') && !error.contains("hunter2"), "{error}");
    }
}
