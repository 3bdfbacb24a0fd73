//! From the listener to a connection: accept, TLS, handshake, admission.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};

use super::{Peer, Shared, connection, pending::PendingStream, stats::Counter};
use crate::{
    error::{Refusal, RefusalReason},
    greeting::{self, GreetingError, Introduced, Rejection},
    io::{BoxStream, Listener},
    lane::Purpose,
    tls::TlsSession,
};

/// Accepts until the server stops, and then lets go of the address.
pub(super) async fn accept_loop(shared: Arc<Shared>, mut listener: Box<dyn Listener>) {
    let mut backoff = MIN_BACKOFF;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stopping.cancelled() => return,
            () = shared.aborting.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, addr)) => {
                backoff = MIN_BACKOFF;
                start_connection(&shared, stream, addr);
            }
            Err(error) => {
                // Out of descriptors, most often: the next attempt would fail at once, and the next, at full speed.
                shared.counters.accept_errors.add_one();
                shared.warn(|| tracing::warn!(%error, "cannot accept connections"));
                tokio::select! {
                    () = shared.stopping.cancelled() => return,
                    () = shared.aborting.cancelled() => return,
                    () = sleep(backoff) => {}
                }
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
}

fn start_connection(shared: &Arc<Shared>, stream: BoxStream, addr: SocketAddr) {
    shared.counters.accepted.add_one();
    let Ok(pending) = Arc::clone(&shared.pending).try_acquire_owned() else {
        shared.counters.rejected_pending.add_one();
        shared.warn(|| tracing::warn!(peer = %addr, "too many connections in the handshake"));
        return;
    };
    let Some(pending_of_ip) = shared.pending_by_ip.try_enter(addr.ip()) else {
        shared.counters.rejected_pending_per_ip.add_one();
        shared.warn(|| tracing::warn!(peer = %addr, "too many connections of one address in the handshake"));
        return;
    };
    let pending = (pending, pending_of_ip);
    let task = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let aborting = task.aborting.clone();
        tokio::select! {
            biased;
            () = aborting.cancelled() => {}
            () = run(task, stream, addr, pending) => {}
        }
    });
}

async fn run(shared: Arc<Shared>, stream: BoxStream, addr: SocketAddr, pending: (OwnedSemaphorePermit, PendingStream)) {
    let handshake = timeout(shared.config.handshake_timeout, shake_hands(&shared, stream, addr));
    let admitted = tokio::select! {
        biased;
        () = shared.stopping.cancelled() => return shared.counters.rejected_shutting_down.add_one(),
        admitted = handshake => admitted,
    };
    match admitted {
        Ok(Ok(Admitted { stream, peer, purpose, generation, place })) => {
            drop(pending);
            connection::serve(shared, stream, peer, purpose, generation).await;
            drop(place);
        }
        // The place in the handshake is kept until the stream is closed: this is where strangers end.
        Ok(Err(stream)) => greeting::close_gently(stream).await,
        Err(_) => {
            shared.counters.rejected_timeout.add_one();
            shared.warn(|| tracing::warn!(peer = %addr, "handshake took too long"));
        }
    }
}

/// A peer that is in.
struct Admitted {
    stream: BoxStream,
    peer: Peer,
    purpose: Purpose,
    /// Of the credentials it was admitted with.
    generation: u64,
    place: OwnedSemaphorePermit,
}

/// Makes a connection of a stream, or gives the stream back, to be closed once the reason has arrived.
async fn shake_hands(shared: &Shared, stream: BoxStream, addr: SocketAddr) -> Result<Admitted, BoxStream> {
    let (mut stream, session) = match &shared.security.tls {
        None => (stream, TlsSession::default()),
        Some(tls) => match tls.accept(stream).await {
            Ok(secured) => secured,
            Err((error, stream)) => {
                shared.counters.rejected_tls.add_one();
                shared.warn(|| tracing::warn!(peer = %addr, %error, "tls failed"));
                return Err(stream);
            }
        },
    };
    match admit(shared, &mut stream, addr, &session).await {
        Ok((peer, purpose, place)) => {
            let generation = session.generation();
            Ok(Admitted { stream, peer, purpose, generation, place })
        }
        Err(rejection) => {
            shared.counter_of(&rejection).add_one();
            shared.warn(|| tracing::warn!(peer = %addr, %rejection, "peer turned away"));
            match rejection {
                Rejection::Refused(refusal) => greeting::refuse(&mut stream, refusal).await,
                Rejection::Greeting(GreetingError::Malformed(error)) => {
                    let (reason, message) = (RefusalReason::Other, error.to_string());
                    greeting::refuse(&mut stream, Refusal { reason, message }).await;
                }
                Rejection::RefusedByPeer(_) | Rejection::Greeting(GreetingError::Io(_)) => {}
            }
            Err(stream)
        }
    }
}

async fn admit(
    shared: &Shared,
    stream: &mut BoxStream,
    addr: SocketAddr,
    session: &TlsSession,
) -> Result<(Peer, Purpose, OwnedSemaphorePermit), Rejection> {
    let Introduced { hello, purpose, version } =
        greeting::meet(stream, &shared.hello, shared.security.secret.as_ref(), session).await?;
    let refuse = |reason, message: &str| Rejection::Refused(Refusal { reason, message: message.to_owned() });
    let place = Arc::clone(&shared.places)
        .try_acquire_owned()
        .map_err(|_| refuse(RefusalReason::Overloaded, "the node has as many connections as it may have"))?;
    let link_id = shared.last_link_id.fetch_add(1, Ordering::Relaxed) + 1;
    let certificate = session.certificate().cloned();
    let peer = Peer { addr, identity: hello.identity, certificate, lane: purpose.lane, link_id };
    shared
        .guarded(|| shared.service.admit(&peer))
        .unwrap_or_else(|| Err(Refusal { reason: RefusalReason::Other, message: "internal fault".to_owned() }))
        .map_err(Rejection::Refused)?;
    greeting::accept(stream, &shared.hello, version).await?;
    Ok((peer, purpose, place))
}

impl Shared {
    /// Runs code of the layer above, which must not take the connection with it.
    pub(super) fn guarded<T>(&self, code: impl FnOnce() -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(code));
        if result.is_err() {
            self.counters.panics.add_one();
        }
        result.ok()
    }

    /// Warns of what strangers can cause, at most once a second: they must not fill the log.
    pub(super) fn warn(&self, log: impl FnOnce()) {
        let mut last = self.last_warning.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_none_or(|last| now - last >= WARNING_INTERVAL) {
            *last = Some(now);
            drop(last);
            log();
        }
    }

    const fn counter_of(&self, rejection: &Rejection) -> &Counter {
        let counters = &self.counters;
        match rejection {
            Rejection::Refused(refusal) => match refusal.reason {
                RefusalReason::Label => &counters.rejected_label,
                RefusalReason::Secret => &counters.rejected_secret,
                RefusalReason::Version => &counters.rejected_version,
                RefusalReason::Overloaded => &counters.rejected_connections,
                RefusalReason::ShuttingDown => &counters.rejected_shutting_down,
                RefusalReason::Identity | RefusalReason::Other => &counters.rejected_identity,
            },
            // A dialler refuses only a listener whose proof it does not believe.
            Rejection::RefusedByPeer(_) => &counters.rejected_secret,
            Rejection::Greeting(GreetingError::Malformed(_)) => &counters.rejected_malformed,
            Rejection::Greeting(GreetingError::Io(_)) => &counters.rejected_broken,
        }
    }
}

/// Short enough that a single hiccup goes unnoticed.
const MIN_BACKOFF: Duration = Duration::from_millis(10);

/// Long enough to cost nothing, short enough that peers are not kept out for long.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

const WARNING_INTERVAL: Duration = Duration::from_secs(1);
