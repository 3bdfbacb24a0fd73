//! TLS between peers: [`TlsConfig`], read from PEM.
//!
//! TLS 1.3 only, with the *ring* provider whatever else the process links, or that of aws-lc-rs with the feature of that name. Session resumption is off: a resumed session
//! brings the old client certificate back unchecked, and links live long enough not to miss it.

mod certificate;
mod credentials;
mod error;
mod policy;
mod reload;
mod session;
mod validity;
mod verifier;

use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(crate) use self::session::TlsSession;
pub use self::{
    certificate::PeerCertificate,
    error::TlsError,
    policy::PeerPolicy,
    reload::{TlsStatus, TlsWatch},
};
use self::{
    credentials::{Credentials, Names, Options, provider},
    reload::{Reloads, Seen, fingerprint, lock, read},
};
use crate::{error::ConnectError, io::BoxStream};

/// Holds a node's certificate, its key, and the authorities whose certificates it accepts.
///
/// Clones share them, and what [`reload`](Self::reload) or [`watch`](Self::watch) brings. What a setter makes is on its own from
/// then on: set everything first.
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
    inner: Arc<Inner>,
}

/// What clones share.
struct Inner {
    options: Options,
    /// Where to read again; none if it was made from text.
    files: Option<Names>,
    current: watch::Sender<Arc<Credentials>>,
    /// Also the turn of whoever reads the files.
    seen: Mutex<Seen>,
    reloads: Mutex<Reloads>,
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
        let texts = read(&files)?;
        let options = Options::default();
        let credentials = Credentials::read(&files, texts.each_ref().map(Vec::as_slice), &options)?;
        Ok(Self::new(credentials, options, Some(files), fingerprint(&texts)))
    }

    /// Reads PEM text; errors call the three texts `ca`, `cert` and `key`.
    ///
    /// # Errors
    /// [`TlsError`] with the text at fault and what is wrong with it.
    pub fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let (names, options) = (["ca", "cert", "key"].map(Into::into), Options::default());
        Ok(Self::new(Credentials::read(&names, [ca, cert, key], &options)?, options, None, None))
    }

    /// Accepts clients without certificates, and shows none to servers: the link is private and the server is known, but
    /// anyone may connect.
    #[must_use]
    pub fn server_auth_only(self) -> Self {
        self.with(Options { server_auth_only: true, ..self.inner.options.clone() })
    }

    /// Sets whose certificates are accepted, by servers and by clients. Defaults to [`PeerPolicy::AnyFromCa`].
    #[must_use]
    pub fn peer_policy(self, policy: PeerPolicy) -> Self {
        self.with(Options { policy, ..self.inner.options.clone() })
    }

    fn new(credentials: Credentials, options: Options, files: Option<Names>, seen: Seen) -> Self {
        let (current, seen) = (watch::Sender::new(Arc::new(credentials)), Mutex::new(seen));
        Self { inner: Arc::new(Inner { options, files, current, seen, reloads: Mutex::default() }) }
    }

    /// Makes one of the same certificates with other options.
    fn with(&self, options: Options) -> Self {
        // Held so that certificates and fingerprint are of the same reading.
        let seen = lock(&self.inner.seen);
        Self::new(self.credentials().with(&options), options, self.inner.files.clone(), *seen)
    }

    /// Returns what is in use at this moment.
    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.inner.current.borrow())
    }

    /// Waits until sessions of that generation are out of date.
    pub(crate) async fn superseded(&self, generation: u64) {
        let mut current = self.inner.current.subscribe();
        // The sender lives in this configuration, so waiting ends with a reload and with nothing else.
        let _ = current.wait_for(|credentials| credentials.generation > generation).await;
    }

    /// Puts TLS on a stream that was dialled.
    pub(crate) async fn connect(
        &self,
        addr: SocketAddr,
        stream: BoxStream,
    ) -> Result<(BoxStream, TlsSession), ConnectError> {
        let name = ServerName::IpAddress(addr.ip().into());
        let credentials = self.credentials();
        let connector = TlsConnector::from(Arc::clone(&credentials.client));
        let stream = connector.connect(name, stream).await.map_err(|error| ConnectError::broken(&error))?;
        let session = TlsSession::of(stream.get_ref().1, credentials.generation)
            .map_err(|error| ConnectError::Tls(error.to_string()))?;
        Ok((Box::new(stream), session))
    }

    /// Puts TLS on a stream that was accepted. On failure the bare stream comes back, so that the alert can reach the peer
    /// before the stream is closed.
    pub(crate) async fn accept(&self, stream: BoxStream) -> Result<(BoxStream, TlsSession), (io::Error, BoxStream)> {
        let credentials = self.credentials();
        let acceptor = TlsAcceptor::from(Arc::clone(&credentials.server));
        let stream =
            acceptor.accept(stream).into_fallible().await.map_err(|(error, stream)| {
                match ConnectError::broken(&error) {
                    ConnectError::Tls(words) => (io::Error::other(words), stream),
                    _ => (error, stream),
                }
            })?;
        match TlsSession::of(stream.get_ref().1, credentials.generation) {
            Ok(session) => Ok((Box::new(stream), session)),
            Err(error) => Err((io::Error::other(error), Box::new(stream))),
        }
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (credentials, options) = (self.credentials(), &self.inner.options);
        f.debug_struct("TlsConfig")
            .field("authorities", &credentials.roots.len())
            .field("certificates", &credentials.chain.len())
            .field("generation", &credentials.generation)
            .field("client_certificates", &!options.server_auth_only)
            .field("policy", &options.policy)
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
