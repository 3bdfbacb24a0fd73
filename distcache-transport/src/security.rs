//! How the two ends of a link know that they may talk: [`Security`].

use crate::{secret::SecretKeys, tls::TlsConfig};

/// Sets what a link or server demands of the other end. Defaults to nothing, which suits a closed network only.
///
/// Both ends need the same parts: an end with a part and one without refuse each other.
///
/// # Examples
///
/// ```no_run
/// use distcache_transport::{SecretKeys, Security, TlsConfig};
///
/// let tls = TlsConfig::from_pem_files("ca.pem", "node.pem", "node.key")?;
/// let secret = SecretKeys::new([std::fs::read("cluster.key")?])?;
/// let security = Security { tls: Some(tls), secret: Some(secret) };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// Encryption, and certificates as proof of identity; `None` for plain streams.
    pub tls: Option<TlsConfig>,
    /// A secret that both ends must prove to know; `None` for no such proof.
    pub secret: Option<SecretKeys>,
}

impl From<Option<TlsConfig>> for Security {
    fn from(tls: Option<TlsConfig>) -> Self {
        Self { tls, secret: None }
    }
}
