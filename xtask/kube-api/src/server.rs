//! The server: its sockets, and what a test does to it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::fault::{Fault, Faults, Verb};
use crate::objects::{Pod, Slice};
use crate::query::Kind;
use crate::respond::respond;
use crate::store::Store;

/// Serves pods and endpoint slices on the loopback interface, until it is stopped or dropped.
///
/// # Examples
///
/// See the [crate].
#[derive(Debug)]
pub struct ApiServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl ApiServer {
    /// Starts a server at a free port, with nothing to list.
    ///
    /// # Errors
    ///
    /// No port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts a server at an address.
    ///
    /// # Errors
    ///
    /// It cannot be bound.
    pub async fn start_at(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let server =
            Self { addr: listener.local_addr()?, shared: Arc::new(Shared::new()), accepting: Mutex::new(None) };
        server.accept(listener);
        Ok(server)
    }

    /// Returns where it listens, or did before it was stopped.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns its URL, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Ends it and every connection, at once. What it lists stays.
    pub async fn stop(&self) {
        let accepting = lock(&self.accepting).take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // It was aborted, and so ends in an error.
            let _ = accepting.await;
        }
    }

    /// Starts it again, at the same port. Does nothing if it runs.
    ///
    /// # Errors
    ///
    /// Something else has the port by now.
    pub async fn restart(&self) -> io::Result<()> {
        if lock(&self.accepting).is_none() {
            let listener = TcpListener::bind(self.addr).await?;
            self.accept(listener);
        }
        Ok(())
    }

    /// Adds a pod, or changes the one of its name.
    pub fn put_pod(&self, pod: &Pod) {
        self.put(Kind::Pod, &pod.namespace, &pod.name, pod.to_json());
    }

    /// Removes a pod from the namespace `default`; `false` if it is not there.
    pub fn remove_pod(&self, name: &str) -> bool {
        self.remove(Kind::Pod, name)
    }

    /// Adds a slice, or changes the one of its name.
    pub fn put_slice(&self, slice: &Slice) {
        self.put(Kind::Slice, &slice.namespace, &slice.name, slice.to_json());
    }

    /// Removes a slice from the namespace `default`; `false` if it is not there.
    pub fn remove_slice(&self, name: &str) -> bool {
        self.remove(Kind::Slice, name)
    }

    /// Lists any JSON at all among the pods of the namespace `default`, under a name.
    pub fn put_raw_pod(&self, name: &str, object: Value) {
        self.put(Kind::Pod, "default", name, object);
    }

    /// Lists any JSON at all among the endpoint slices of the namespace `default`, under a name.
    pub fn put_raw_slice(&self, name: &str, object: Value) {
        self.put(Kind::Slice, "default", name, object);
    }

    /// Has every answer to `verb` fail from now on; `None` ends it. Watches that are open go on.
    pub fn plant(&self, verb: Verb, fault: Option<Fault>) {
        self.shared.faults().plant(verb, fault);
    }

    /// Ends every watch that is open, in the middle of its answer.
    pub fn cut_watches(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Forgets all changes so far. A watch that is open goes on; one that is opened anew at an older version than the last has to
    /// list again.
    pub fn forget(&self) {
        self.shared.store().forget();
    }

    /// Forgets all changes so far and one more, so that every watch has to list again.
    pub fn compact(&self) {
        self.shared.store().compact();
        self.shared.tell();
    }

    /// Sets how often a watch is told the version alone, as 60 s at first.
    pub fn set_bookmark_interval(&self, interval: Duration) {
        *lock(&self.shared.bookmark_interval) = interval;
    }

    /// Returns how many requests there were, each page of a list being one.
    #[must_use]
    pub fn requests(&self, verb: Verb) -> usize {
        let counts = lock(&self.shared.counts);
        if verb == Verb::List { counts.0 } else { counts.1 }
    }

    /// Returns how many bookmarks were sent.
    #[must_use]
    pub fn bookmarks(&self) -> usize {
        *lock(&self.shared.bookmarks)
    }

    /// Returns how many watches are told of changes now.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.shared.changed.receiver_count()
    }

    fn put(&self, kind: Kind, namespace: &str, name: &str, object: Value) {
        self.shared.store().put(kind, namespace, name, object);
        self.shared.tell();
    }

    fn remove(&self, kind: Kind, name: &str) -> bool {
        let removed = self.shared.store().remove(kind, "default", name);
        self.shared.tell();
        removed
    }

    fn accept(&self, listener: TcpListener) {
        let shared = self.shared.clone();
        *lock(&self.accepting) = Some(tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let shared = shared.clone();
                        let service = service_fn(move |request| respond(shared.clone(), request));
                        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        }));
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(accepting) = lock(&self.accepting).take() {
            accepting.abort();
        }
    }
}

/// What the connections see.
#[derive(Debug)]
pub(crate) struct Shared {
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    changed: watch::Sender<u64>,
    cuts: watch::Sender<u64>,
    bookmark_interval: Mutex<Duration>,
    /// Of lists, and of watches.
    counts: Mutex<(usize, usize)>,
    bookmarks: Mutex<usize>,
}

impl Shared {
    fn new() -> Self {
        Self {
            store: Mutex::new(Store::new()),
            faults: Mutex::default(),
            changed: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            bookmark_interval: Mutex::new(BOOKMARK_INTERVAL),
            counts: Mutex::default(),
            bookmarks: Mutex::default(),
        }
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn cuts(&self) -> watch::Receiver<u64> {
        self.cuts.subscribe()
    }

    pub(crate) fn bookmark_interval(&self) -> Duration {
        *lock(&self.bookmark_interval)
    }

    pub(crate) fn count(&self, verb: Verb) {
        let mut counts = lock(&self.counts);
        let count = if verb == Verb::List { &mut counts.0 } else { &mut counts.1 };
        *count += 1;
    }

    pub(crate) fn count_bookmark(&self) {
        *lock(&self.bookmarks) += 1;
    }

    fn tell(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }
}

/// What is behind the locks stays whole: no step in between can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As the watch cache of a real server.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
