//! TLS between peers: [`TlsConfig`], read from PEM.
//!
//! TLS 1.3 only, with the *ring* provider whatever else the process links. Session resumption is off: a resumed session
//! brings the old client certificate back unchecked, and links live long enough not to miss it.

mod certificate;
mod credentials;
mod error;
mod policy;
mod session;
mod verifier;

use std::{fmt, io, net::SocketAddr, path::Path, sync::Arc};

use rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::credentials::{Credentials, Names, Options, provider};
pub(crate) use self::session::TlsSession;
pub use self::{certificate::PeerCertificate, error::TlsError, policy::PeerPolicy};
use crate::{error::ConnectError, io::BoxStream};

/// Holds a node's certificate, its key, and the authorities whose certificates it accepts. Clones share them.
///
/// Mutual by default: either end needs a certificate from one of the other's authorities. Names in certificates are not
/// compared with addresses, since peers are dialled by IP address: whoever holds a certificate of the authority is a peer. So
/// give each cluster an authority of its own, or say with a [`PeerPolicy`] whose certificates count.
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
    options: Options,
    credentials: Arc<Credentials>,
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
        let files = [ca.as_ref(), cert.as_ref(), key.as_ref()].map(Path::to_owned);
        let read = |file: &Path| {
            std::fs::read(file).map_err(|source| TlsError::Read { file: file.to_owned(), source: Arc::new(source) })
        };
        let [ca, cert, key] = &files;
        Self::build(&files, [&read(ca)?, &read(cert)?, &read(key)?])
    }

    /// Reads PEM text; errors call the three texts `ca`, `cert` and `key`.
    ///
    /// # Errors
    /// [`TlsError`] with the text at fault and what is wrong with it.
    pub fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::build(&["ca", "cert", "key"].map(Into::into), [ca, cert, key])
    }

    /// Accepts clients without certificates, and shows none to servers: the link is private and the server is known, but
    /// anyone may connect.
    #[must_use]
    pub fn server_auth_only(self) -> Self {
        let options = Options { server_auth_only: true, ..self.options };
        Self { credentials: Arc::new(self.credentials.with(&options)), options }
    }

    /// Sets whose certificates are accepted, by servers and by clients. Defaults to [`PeerPolicy::AnyFromCa`].
    #[must_use]
    pub fn peer_policy(self, policy: PeerPolicy) -> Self {
        let options = Options { policy, ..self.options };
        Self { credentials: Arc::new(self.credentials.with(&options)), options }
    }

    fn build(names: &Names, texts: [&[u8]; 3]) -> Result<Self, TlsError> {
        let options = Options::default();
        Ok(Self { credentials: Arc::new(Credentials::read(names, texts, &options)?), options })
    }

    /// Puts TLS on a stream that was dialled.
    pub(crate) async fn connect(
        &self,
        addr: SocketAddr,
        stream: BoxStream,
    ) -> Result<(BoxStream, TlsSession), ConnectError> {
        let name = ServerName::IpAddress(addr.ip().into());
        let connector = TlsConnector::from(Arc::clone(&self.credentials.client));
        let stream = connector.connect(name, stream).await.map_err(|error| ConnectError::broken(&error))?;
        let session = TlsSession::of(stream.get_ref().1).map_err(|error| ConnectError::Tls(error.to_string()))?;
        Ok((Box::new(stream), session))
    }

    /// Puts TLS on a stream that was accepted. On failure the bare stream comes back, so that the alert can reach the peer
    /// before the stream is closed.
    pub(crate) async fn accept(&self, stream: BoxStream) -> Result<(BoxStream, TlsSession), (io::Error, BoxStream)> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.credentials.server));
        let stream =
            acceptor.accept(stream).into_fallible().await.map_err(|(error, stream)| {
                match ConnectError::broken(&error) {
                    ConnectError::Tls(words) => (io::Error::other(words), stream),
                    _ => (error, stream),
                }
            })?;
        match TlsSession::of(stream.get_ref().1) {
            Ok(session) => Ok((Box::new(stream), session)),
            Err(error) => Err((io::Error::other(error), Box::new(stream))),
        }
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("authorities", &self.credentials.roots.len())
            .field("certificates", &self.credentials.chain.len())
            .field("client_certificates", &!self.options.server_auth_only)
            .field("policy", &self.options.policy)
            .finish_non_exhaustive()
    }
}

/// Fills a buffer with randomness fit for cryptography, or leaves it if the system has none.
pub(crate) fn fill_random(buffer: &mut [u8]) -> io::Result<()> {
    provider().secure_random.fill(buffer).map_err(|_| {
        tracing::error!("the system gives no randomness");
        io::Error::other("the system gives no randomness")
    })
}
