//! TLS between peers: [`TlsConfig`], read from PEM.
//!
//! TLS 1.3 only, with the *ring* provider whatever else the process links. Session resumption is off: a resumed session
//! brings the old client certificate back unchecked, and links live long enough not to miss it.

mod session;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
    version::TLS13,
};
use thiserror::Error;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(crate) use self::session::TlsSession;
use crate::{error::ConnectError, io::BoxStream};

/// Holds a node's certificate, its key, and the authorities whose certificates it accepts. Clones share them.
///
/// Mutual by default: either end needs a certificate from one of the other's authorities. Names in certificates are not
/// compared with addresses, since peers are dialled by IP address: whoever holds a certificate of the authority is a peer,
/// so give each cluster an authority of its own.
///
/// # Examples
///
/// ```no_run
/// use distcache_transport::TlsConfig;
///
/// let tls = TlsConfig::from_pem_files("ca.pem", "node.pem", "node.key")?;
/// # Ok::<(), distcache_transport::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsConfig {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    material: Arc<Material>,
}

/// What both sides are built from, kept to build them again without client certificates.
struct Material {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsConfig {
    /// Reads PEM files: the authorities' certificates, this node's certificate followed by any intermediate ones, and its
    /// private key.
    ///
    /// # Errors
    /// [`TlsError`] with the file at fault and what is wrong with it.
    pub fn from_pem_files(
        ca: impl AsRef<Path>,
        cert: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let [ca, cert, key] = [ca.as_ref(), cert.as_ref(), key.as_ref()];
        let read = |file: &Path| {
            std::fs::read(file).map_err(|source| TlsError::Read { file: file.to_owned(), source: Arc::new(source) })
        };
        Self::build([ca, cert, key], [&read(ca)?, &read(cert)?, &read(key)?])
    }

    /// Reads PEM text; errors call the three texts `ca`, `cert` and `key`.
    ///
    /// # Errors
    /// [`TlsError`] with the text at fault and what is wrong with it.
    pub fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::build(["ca", "cert", "key"].map(Path::new), [ca, cert, key])
    }

    /// Accepts clients without certificates, and shows none to servers: the link is private and the server is known, but
    /// anyone may connect.
    #[must_use]
    pub fn server_auth_only(self) -> Self {
        let Material { roots, chain, key } = &*self.material;
        let client = client_builder(Arc::clone(roots)).with_no_client_auth();
        let server = server_builder()
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())
            .expect("the same certificate and key were accepted before");
        Self { client: Arc::new(finish_client(client)), server: Arc::new(finish_server(server)), ..self }
    }

    fn build(names: [&Path; 3], [ca, cert, key]: [&[u8]; 3]) -> Result<Self, TlsError> {
        let [ca_file, cert_file, key_file] = names.map(Path::to_owned);
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, &ca_file)? {
            roots.add(root).map_err(|fault| bad(&ca_file, fault))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(cert, &cert_file)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|fault| match fault {
            pem::Error::NoItemsFound => TlsError::NoPrivateKey { file: key_file.clone() },
            fault => bad(&key_file, fault),
        })?;

        let refused = |fault| match fault {
            RustlsError::InconsistentKeys(_) => {
                TlsError::KeyMismatch { cert: cert_file.clone(), key: key_file.clone() }
            }
            RustlsError::InvalidCertificate(_) => bad(&cert_file, fault),
            _ => bad(&key_file, fault),
        };
        let client = client_builder(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(refused)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(|fault| bad(&ca_file, fault))?;
        let server = server_builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(refused)?;
        Ok(Self {
            client: Arc::new(finish_client(client)),
            server: Arc::new(finish_server(server)),
            material: Arc::new(Material { roots, chain, key }),
        })
    }

    /// Puts TLS on a stream that was dialled.
    pub(crate) async fn connect(
        &self,
        addr: SocketAddr,
        stream: BoxStream,
    ) -> Result<(BoxStream, TlsSession), ConnectError> {
        let name = ServerName::IpAddress(addr.ip().into());
        match TlsConnector::from(Arc::clone(&self.client)).connect(name, stream).await {
            Ok(stream) => {
                let session =
                    TlsSession::of(stream.get_ref().1).map_err(|error| ConnectError::Tls(error.to_string()))?;
                Ok((Box::new(stream), session))
            }
            Err(error) => Err(ConnectError::broken(&error)),
        }
    }

    /// Puts TLS on a stream that was accepted. On failure the bare stream comes back, so that the alert can reach the peer
    /// before the stream is closed.
    pub(crate) async fn accept(&self, stream: BoxStream) -> Result<(BoxStream, TlsSession), (io::Error, BoxStream)> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.server));
        let stream = acceptor.accept(stream).into_fallible().await?;
        match TlsSession::of(stream.get_ref().1) {
            Ok(session) => Ok((Box::new(stream), session)),
            Err(error) => Err((io::Error::other(error), Box::new(stream))),
        }
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("authorities", &self.material.roots.len())
            .field("certificates", &self.material.chain.len())
            .field("client_certificates", &self.client.client_auth_cert_resolver.has_certs())
            .finish_non_exhaustive()
    }
}

/// Explains why TLS could not be set up. Nothing else changed; a retry helps once the file named is corrected.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file could not be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The file holds no certificate. For the authorities' file: nobody would be trusted.
    #[error("no certificate in {}", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// The file holds no private key.
    #[error("no private key in {}", file.display())]
    NoPrivateKey {
        /// The file.
        file: PathBuf,
    },
    /// The file holds something that cannot be used.
    #[error("cannot use {}: {fault}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, without its content.
        fault: String,
    },
    /// The private key belongs to another certificate.
    #[error("the key in {} does not match the certificate in {}", key.display(), cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// Fills a buffer with randomness fit for cryptography, or leaves it if the system has none.
pub(crate) fn fill_random(buffer: &mut [u8]) -> io::Result<()> {
    provider().secure_random.fill(buffer).map_err(|_| {
        tracing::error!("the system gives no randomness");
        io::Error::other("the system gives no randomness")
    })
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn client_builder(roots: Arc<RootCertStore>) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let verifier = ChainVerifier { roots, provider: provider() };
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("ring has cipher suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

fn server_builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("ring has cipher suites for TLS 1.3")
}

fn finish_client(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

fn finish_server(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// Checks that a server's certificate comes from a trusted authority and is in force, and not what name it bears.
#[derive(Debug)]
struct ChainVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        Err(RustlsError::General("TLS 1.2 is not spoken between peers".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
