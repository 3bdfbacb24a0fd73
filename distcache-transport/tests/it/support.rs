//! A world to test in: a network, certificates, a service that does what it is told, and patience with a limit.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use distcache_transport::{
    ClusterLabel, ConnectError, ControlLink, ControlLog, Dialer, ErrorCode, Event, Hello, Link, Listener,
    MemoryNetwork, Method, Payload, Peer, Refusal, RefusalReason, RemoteError, Request, SecretKeys, Security, Server,
    Service, TcpDialer, TcpListener, TlsConfig, TransportConfig,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Writes one test per network and kind of TLS: the function takes the world it runs in.
macro_rules! on_every_wire {
    ($($name:ident,)*) => {
        on_every_wire!(@wire memory: $($name,)*);
        on_every_wire!(@wire tcp: $($name,)*);
        on_every_wire!(@wire tls: $($name,)*);
        on_every_wire!(@wire mutual_tls: $($name,)*);
        on_every_wire!(@wire mutual_tls_and_secret: $($name,)*);
    };
    (@wire $wire:ident: $($name:ident,)*) => {
        mod $wire {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let body = super::$name($crate::support::World::$wire());
                    tokio::time::timeout($crate::support::PATIENCE, body).await.expect("test hangs");
                }
            )*
        }
    };
}
pub(crate) use on_every_wire;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// Where and how the two ends meet.
#[derive(Debug, Clone)]
pub(crate) struct World {
    network: Option<MemoryNetwork>,
    pub(crate) server_security: Security,
    pub(crate) client_security: Security,
}

impl World {
    pub(crate) fn memory() -> Self {
        Self { network: Some(MemoryNetwork::new()), ..Self::tcp() }
    }

    pub(crate) fn tcp() -> Self {
        Self { network: None, server_security: Security::default(), client_security: Security::default() }
    }

    pub(crate) fn tls() -> Self {
        let pki = Pki::new();
        let tls = |node| Some(pki.node(node).server_auth_only());
        Self::tcp().with_tls(tls("server"), tls("client"))
    }

    pub(crate) fn mutual_tls() -> Self {
        let pki = Pki::new();
        let tls = |node| Some(pki.node(node));
        Self::tcp().with_tls(tls("server"), tls("client"))
    }

    pub(crate) fn mutual_tls_and_secret() -> Self {
        Self::mutual_tls().with_secrets(Some(secret(&[KEY])), Some(secret(&[KEY])))
    }

    pub(crate) fn with_tls(mut self, server: Option<TlsConfig>, client: Option<TlsConfig>) -> Self {
        self.server_security.tls = server;
        self.client_security.tls = client;
        self
    }

    pub(crate) fn with_secrets(mut self, server: Option<SecretKeys>, client: Option<SecretKeys>) -> Self {
        self.server_security.secret = server;
        self.client_security.secret = client;
        self
    }

    pub(crate) fn network(&self) -> &MemoryNetwork {
        self.network.as_ref().expect("a memory world")
    }

    /// An address to listen at; port 0 except in memory.
    pub(crate) fn server_addr(&self) -> SocketAddr {
        if self.network.is_some() { addr("10.0.0.2:3320") } else { addr("127.0.0.1:0") }
    }

    pub(crate) fn client_addr(&self) -> SocketAddr {
        addr("10.0.0.1:3320")
    }

    pub(crate) async fn listen(&self, at: SocketAddr) -> Box<dyn Listener> {
        match &self.network {
            Some(network) => Box::new(network.listen(at).unwrap()),
            None => Box::new(TcpListener::bind(at).await.unwrap()),
        }
    }

    pub(crate) fn dialer(&self) -> Arc<dyn Dialer> {
        match &self.network {
            Some(network) => Arc::new(network.dialer(self.client_addr())),
            None => Arc::new(TcpDialer),
        }
    }

    pub(crate) async fn serve_at(&self, at: SocketAddr, service: &Arc<Script>, config: TransportConfig) -> Server {
        let service: Arc<dyn Service> = Arc::<Script>::clone(service);
        let security = self.server_security.clone();
        Server::start(self.listen(at).await, service, security, hello("server"), config)
    }

    pub(crate) async fn serve(&self, service: &Arc<Script>) -> Server {
        self.serve_at(self.server_addr(), service, quick()).await
    }

    pub(crate) fn open(&self, at: SocketAddr, config: TransportConfig) -> Link {
        Link::open(at, self.dialer(), self.client_security.clone(), hello("client"), config)
    }

    pub(crate) fn open_control(&self, at: SocketAddr, config: TransportConfig, log: &Arc<ControlLog>) -> ControlLink {
        let (dialer, security) = (self.dialer(), self.client_security.clone());
        ControlLink::open(at, dialer, security, hello("client"), config, Arc::clone(log))
    }

    /// A server and a link to it that is up.
    pub(crate) async fn pair(&self, config: TransportConfig) -> (Server, Link, Arc<Script>) {
        let service = Script::new();
        let server = self.serve_at(self.server_addr(), &service, config.clone()).await;
        let link = self.open(server.local_addr(), config);
        link.connected(LONG).await.unwrap();
        (server, link, service)
    }
}

/// The key of worlds with a shared secret.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn secret(keys: &[&str]) -> SecretKeys {
    SecretKeys::new(keys).unwrap()
}

/// Defaults, but quick to dial again.
pub(crate) fn quick() -> TransportConfig {
    TransportConfig {
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
        ..TransportConfig::default()
    }
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn hello(name: &'static str) -> Hello {
    Hello { label: label("prod"), identity: Bytes::from_static(name.as_bytes()) }
}

pub(crate) fn label(text: &str) -> ClusterLabel {
    ClusterLabel::try_from(text).unwrap()
}

/// Opens a link that must fail for good, and returns why.
pub(crate) async fn definite_error(world: &World, server: &Server) -> ConnectError {
    let link = world.open(server.local_addr(), quick());
    let started = Instant::now();
    let error = link.connected(LONG).await.unwrap_err();
    assert!(started.elapsed() < LONG / 2, "a definite error must not wait");
    assert!(error.is_definite(), "{error}");
    error
}

/// Polls a condition until it holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, poll).await.unwrap_or_else(|_| panic!("not within {LONG:?}: {what}"));
}

/// Answers with the payload.
pub(crate) const ECHO: Method = Method(1);
/// Waits for as many milliseconds as the payload says, then answers with it.
pub(crate) const SLEEP: Method = Method(2);
/// Never answers.
pub(crate) const HANG: Method = Method(3);
/// Answers with error 142, "no such keyspace".
pub(crate) const FAIL: Method = Method(4);
/// Panics.
pub(crate) const PANIC: Method = Method(5);
/// Answers with as many bytes as the payload says.
pub(crate) const BYTES: Method = Method(6);
/// Waits until the script's gate opens, then answers with the payload.
pub(crate) const GATE: Method = Method(7);
/// Answers with the milliseconds that are left.
pub(crate) const BUDGET: Method = Method(8);

/// Blocks its thread until the script says otherwise, as no handler should.
pub(crate) const BLOCK: Method = Method(9);

/// Waits until the script's gate opens, then answers with as many bytes as the payload says.
pub(crate) const LATE_BYTES: Method = Method(10);

pub(crate) fn number(value: u32) -> Payload {
    Bytes::copy_from_slice(&value.to_le_bytes()).into()
}

/// A service whose methods are named above, and which remembers what happened.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) running: AtomicUsize,
    pub(crate) started: AtomicUsize,
    pub(crate) admitted: AtomicUsize,
    pub(crate) peak: AtomicUsize,
    pub(crate) unblocked: AtomicBool,
    pub(crate) connected: AtomicUsize,
    pub(crate) disconnected: AtomicUsize,
    /// Everyone who ever connected.
    pub(crate) peers: Mutex<Vec<Peer>>,
    pub(crate) notices: Mutex<Vec<(Method, Bytes)>>,
    /// Events as they came; none where some were lost.
    pub(crate) events: Mutex<Vec<Option<Bytes>>>,
    /// What the last heartbeat said.
    pub(crate) is_current: Mutex<Option<bool>>,
    pub(crate) gate: tokio::sync::Semaphore,
}

impl Script {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            running: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
            admitted: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            unblocked: AtomicBool::new(false),
            connected: AtomicUsize::new(0),
            disconnected: AtomicUsize::new(0),
            peers: Mutex::default(),
            notices: Mutex::default(),
            events: Mutex::default(),
            is_current: Mutex::default(),
            gate: tokio::sync::Semaphore::new(0),
        })
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Peers that were to be admitted, whatever became of them.
    pub(crate) fn admitted(&self) -> usize {
        self.admitted.load(Ordering::SeqCst)
    }

    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }

    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(10_000);
    }
}

/// Counts a handler while it exists.
struct Running<'a>(&'a Script);

impl<'a> Running<'a> {
    fn start(script: &'a Script) -> Self {
        let running = script.running.fetch_add(1, Ordering::SeqCst) + 1;
        script.peak.fetch_max(running, Ordering::SeqCst);
        script.started.fetch_add(1, Ordering::SeqCst);
        Self(script)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Service for Script {
    fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        self.admitted.fetch_add(1, Ordering::SeqCst);
        if peer.identity.starts_with(b"stranger") {
            let message = "not one of us".to_owned();
            return Err(Refusal { reason: RefusalReason::Identity, message });
        }
        Ok(())
    }

    async fn call(&self, _: &Peer, request: Request) -> Result<Payload, RemoteError> {
        let _running = Running::start(self);
        let argument = || u32::from_le_bytes(request.payload[..4].try_into().unwrap());
        match request.method {
            ECHO => Ok(request.payload.into()),
            SLEEP => {
                sleep(Duration::from_millis(argument().into())).await;
                Ok(request.payload.into())
            }
            HANG => std::future::pending().await,
            FAIL => Err(RemoteError::new(ErrorCode::application(142).unwrap(), "no such keyspace")),
            PANIC => panic!("told to"),
            BYTES => Ok(Bytes::from(vec![7; argument() as usize]).into()),
            GATE => {
                self.gate.acquire().await.unwrap().forget();
                Ok(request.payload.into())
            }
            LATE_BYTES => {
                self.gate.acquire().await.unwrap().forget();
                Ok(Bytes::from(vec![7; argument() as usize]).into())
            }
            BLOCK => {
                // What blocks when it is polled first would block its connection.
                tokio::task::yield_now().await;
                // In place: a runtime whose every timer waits for this handler could not run the test.
                tokio::task::block_in_place(|| {
                    while !self.unblocked.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
                Ok(request.payload.into())
            }
            BUDGET => {
                let left = request.deadline - Instant::now();
                Ok(number(left.as_millis().try_into().unwrap()))
            }
            Method(other) => Err(RemoteError::new(ErrorCode::UNKNOWN_METHOD, format!("method {other}"))),
        }
    }

    fn notice(&self, _: &Peer, method: Method, payload: Bytes) {
        if method == PANIC {
            panic!("told to");
        }
        self.notices.lock().unwrap().push((method, payload));
    }

    fn event(&self, _: &Peer, event: Event) {
        if event.payload == "panic" {
            panic!("told to");
        }
        self.events.lock().unwrap().push(Some(event.payload));
    }

    fn lost(&self, _: &Peer, _: Duration) {
        self.events.lock().unwrap().push(None);
    }

    fn heartbeat(&self, _: &Peer, is_current: bool) {
        *self.is_current.lock().unwrap() = Some(is_current);
    }

    fn connected(&self, peer: &Peer) {
        self.peers.lock().unwrap().push(peer.clone());
        self.connected.fetch_add(1, Ordering::SeqCst);
    }

    fn disconnected(&self, _: &Peer) {
        self.disconnected.fetch_add(1, Ordering::SeqCst);
    }
}

/// A certificate authority.
pub(crate) struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// A certificate of this authority and its key.
    pub(crate) fn leaf(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Both ends of TLS for somebody who does not use the transport.
    pub(crate) fn rustls(&self, name: &str) -> (TlsAcceptor, TlsConnector) {
        let (cert, key) = self.leaf(name, |_| {});
        let chain = || vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = || PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let server = server.with_no_client_auth().with_single_cert(chain(), key()).unwrap();
        let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_client_auth_cert(chain(), key()).unwrap();
        (Arc::new(server).into(), Arc::new(client).into())
    }

    pub(crate) fn node(&self, name: &str) -> TlsConfig {
        self.node_trusting(name, self)
    }

    /// A node with a certificate of this authority, which trusts another.
    pub(crate) fn node_trusting(&self, name: &str, trusted: &Self) -> TlsConfig {
        let (cert, key) = self.leaf(name, |_| {});
        TlsConfig::from_pem(trusted.ca_pem().as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap()
    }
}
