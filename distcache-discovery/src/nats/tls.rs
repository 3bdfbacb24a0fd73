//! How the connection is encrypted: by rustls on *ring*, whatever else the process has.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_nats::rustls::crypto::ring;
use async_nats::rustls::pki_types::pem::PemObject as _;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{ClientConfig, RootCertStore};

use super::ID;
use super::config::{Settings, Tls};
use crate::DiscoveryError;

/// Builds the configuration of the connection's encryption.
///
/// It is needed without encryption, too: a server may ask for it, and the client library would take the process's default provider
/// then, and panic if there is none. Without TLS configured nobody is trusted, and such a server is turned down.
///
/// # Errors
///
/// A file cannot be read, or holds nothing of use.
pub(super) async fn config(settings: &Settings) -> Result<ClientConfig, DiscoveryError> {
    let (tls, wanted) = (settings.tls.clone(), settings.wants_tls());
    let read = tokio::task::spawn_blocking(move || build(&tls, wanted)).await;
    read.unwrap_or_else(|error| Err(DiscoveryError::unavailable(ID, error)))
}

/// Says that a file is of no use.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> DiscoveryError {
    let text = format!("cannot read {}: {error}", path.display());
    DiscoveryError::unavailable(ID, io::Error::new(error.kind(), text))
}

fn build(tls: &Tls, wanted: bool) -> Result<ClientConfig, DiscoveryError> {
    let mut roots = RootCertStore::empty();
    match &tls.roots {
        Some(path) => {
            for root in certificates(path)? {
                roots.add(root).map_err(|error| DiscoveryError::unavailable(ID, error))?;
            }
        }
        // As many as can be read: a broken one among the system's is not ours to complain of.
        None if wanted => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        None => {}
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| DiscoveryError::unavailable(ID, error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| useless(key, &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| DiscoveryError::unavailable(ID, error))
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, DiscoveryError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| useless(path, &error))?;
    if found.is_empty() {
        return Err(unreadable(path, &io::Error::new(io::ErrorKind::InvalidData, "it holds no certificate")));
    }
    Ok(found)
}

fn useless(path: &Path, error: &dyn std::fmt::Display) -> DiscoveryError {
    unreadable(path, &io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}
