//! What a node shows to its peers and checks them with, ready for use.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, ConfigBuilder, Error as RustlsError, RootCertStore, ServerConfig, WantsVerifier,
    client::{Resumption, WantsClientCert},
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};

use super::{
    error::TlsError,
    policy::PeerPolicy,
    verifier::{ClientVerifier, ServerVerifier},
};

/// Where the authorities' certificates, the node's certificate and its key come from: files, or names for texts.
pub(super) type Names = [PathBuf; 3];

/// What does not change when files are read again.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) server_auth_only: bool,
    pub(super) policy: PeerPolicy,
}

/// A node's certificate, its key and the authorities it trusts, and both ends of TLS made of them.
pub(super) struct Credentials {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    /// Counts what was read, from 1.
    pub(super) generation: u64,
}

impl Credentials {
    /// Reads PEM texts and builds everything; an error names the one at fault.
    pub(super) fn read(
        [ca_name, cert_name, key_name]: &Names,
        [ca, cert, key]: [&[u8]; 3],
        options: &Options,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, ca_name)? {
            roots.add(root).map_err(|fault| bad(ca_name, fault))?;
        }
        let chain = certificates(cert, cert_name)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|fault| match fault {
            pem::Error::NoItemsFound => TlsError::NoPrivateKey { file: key_name.clone() },
            fault => bad(key_name, fault),
        })?;
        Self::build(Arc::new(roots), chain, key, options).map_err(|refused| match refused {
            Refused::Roots(fault) => bad(ca_name, fault),
            Refused::Own(RustlsError::InconsistentKeys(_)) => {
                TlsError::KeyMismatch { cert: cert_name.clone(), key: key_name.clone() }
            }
            Refused::Own(fault @ RustlsError::InvalidCertificate(_)) => bad(cert_name, fault),
            Refused::Own(fault) => bad(key_name, fault),
        })
    }

    /// Builds both ends again with other options.
    pub(super) fn with(&self, options: &Options) -> Self {
        let (roots, chain, key) = (Arc::clone(&self.roots), self.chain.clone(), self.key.clone_key());
        let built =
            Self::build(roots, chain, key, options).expect("the same certificates and key were accepted before");
        Self { generation: self.generation, ..built }
    }

    fn build(
        roots: Arc<RootCertStore>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        options: &Options,
    ) -> Result<Self, Refused> {
        let Options { server_auth_only, policy } = options;
        // Built even for links without client certificates: whether a file can be used does not hang on that option.
        let chain_verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(Refused::Roots)?;
        let client = client_builder(Arc::clone(&roots), policy.clone());
        let authenticated =
            client.clone().with_client_auth_cert(chain.clone(), key.clone_key()).map_err(Refused::Own)?;
        let mut client = if *server_auth_only { client.with_no_client_auth() } else { authenticated };
        client.resumption = Resumption::disabled();

        let server = server_builder();
        let server = if *server_auth_only {
            server.with_no_client_auth()
        } else {
            let verifier = ClientVerifier { chain: chain_verifier, policy: policy.clone() };
            server.with_client_cert_verifier(Arc::new(verifier))
        };
        let mut server = server.with_single_cert(chain.clone(), key.clone_key()).map_err(Refused::Own)?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { roots, chain, key, client: Arc::new(client), server: Arc::new(server), generation: 1 })
    }
}

/// What rustls did not take.
#[derive(Debug)]
enum Refused {
    Roots(rustls::client::VerifierBuilderError),
    Own(RustlsError),
}

fn certificates(text: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|fault| bad(file, fault))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { file: file.to_owned() });
    }
    Ok(certificates)
}

fn bad(file: &Path, fault: impl fmt::Display) -> TlsError {
    TlsError::Invalid { file: file.to_owned(), fault: fault.to_string() }
}

/// Named wherever one is wanted: rustls does not choose for itself, and panics, where a process links both.
pub(super) fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}

fn client_builder(roots: Arc<RootCertStore>, policy: PeerPolicy) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let verifier = ServerVerifier { roots, provider: provider(), policy };
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("either provider has cipher suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

fn server_builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("either provider has cipher suites for TLS 1.3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_decides_who_does_the_cryptography() {
        let expected = if cfg!(feature = "aws-lc-rs") { "AwsLcRs" } else { "Ring" };
        assert_eq!(format!("{:?}", provider().secure_random), expected);
    }
}
