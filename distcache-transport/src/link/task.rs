//! The task behind a link: dial, hand shakes, run the connection, wait, again.

use std::{future::pending, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    FAR_FUTURE, LinkState, PeerHello, Shared,
    backoff::Backoff,
    follower::{Followed, Follower},
    session::Session,
};
use crate::{
    config::Hello,
    connection::{Break, Pings, drive},
    error::{ConnectError, NotSentReason},
    greeting::introduce,
    io::{BoxStream, Dialer},
    lane::Lane,
    security::Security,
    tls::TlsSession,
};

/// Everything the task needs.
#[derive(Debug)]
pub(super) struct LinkTask {
    shared: Arc<Shared>,
    dialer: Arc<dyn Dialer>,
    security: Security,
    hello: Hello,
    /// On a control lane, the log.
    followed: Option<Arc<Followed>>,
    closing: watch::Receiver<Option<Instant>>,
    backoff: Backoff,
    /// Whether a connection was told to go soon after it stood, and none has lasted since: a listener may say so again and again.
    sent_away: bool,
    /// Connections that were replaced, and finish what is in flight.
    retired: JoinSet<()>,
}

/// A connection that stands.
struct Connected {
    stream: BoxStream,
    peer: PeerHello,
    /// Of the credentials it was made with.
    generation: u64,
}

/// How the turn of one connection ends.
enum Ended {
    Lost(ConnectError),
    /// Another one stands already.
    Replaced {
        by: Connected,
        old: Running,
    },
}

/// A connection's session, and what runs it.
struct Running {
    session: Arc<Session>,
    drive: Pin<Box<dyn Future<Output = Break> + Send>>,
}

/// When a connection has to go, unless it ends before.
struct Lifetime {
    age: Instant,
    /// Of the credentials it was made with.
    generation: u64,
    /// How long to stay once there are others.
    stay: Duration,
    /// How long to wait before another is dialled at the listener's word.
    wait: Duration,
}

impl LinkTask {
    pub(super) fn new(
        shared: Arc<Shared>,
        dialer: Arc<dyn Dialer>,
        security: Security,
        hello: Hello,
        followed: Option<Arc<Followed>>,
    ) -> Self {
        let closing = shared.closing.subscribe();
        let backoff = Backoff::new(&shared.config);
        Self { shared, dialer, security, hello, followed, closing, backoff, sent_away: false, retired: JoinSet::new() }
    }

    /// Runs until the link is closed. Dropping the future closes it without drain.
    pub(super) async fn run(mut self) {
        let mut closing = self.closing.clone();
        loop {
            let attempt = tokio::select! {
                biased;
                _ = closed(&mut closing) => break,
                attempt = self.connect() => attempt,
            };
            let error = match attempt {
                Ok(connected) => self.run_connections(connected).await,
                Err(error) => error,
            };
            if closing.borrow().is_some() {
                break;
            }
            self.down(error);
            // Registered before the wait, so that no request to dial is lost while the wait begins.
            let redial = self.shared.redial.notified();
            tokio::select! {
                biased;
                _ = closed(&mut closing) => break,
                () = redial => {}
                () = sleep(self.backoff.next()) => {}
            }
        }
        let until = closing.borrow().unwrap_or_else(Instant::now);
        // What is not done by then ends with the set.
        let _ = timeout_at(until, async { while self.retired.join_next().await.is_some() {} }).await;
        tracing::debug!(peer = %self.shared.addr, "link closed");
    }

    async fn connect(&self) -> Result<Connected, ConnectError> {
        let (addr, config) = (self.shared.addr, &self.shared.config);
        let dialled = timeout(config.dial_timeout, self.dialer.dial(addr)).await;
        let mut stream = dialled.map_err(|_| ConnectError::TimedOut)?.map_err(|error| ConnectError::dial(&error))?;
        let handshake = async {
            let mut session = TlsSession::default();
            if let Some(tls) = &self.security.tls {
                (stream, session) = tls.connect(addr, stream).await?;
            }
            let (purpose, secret) = (self.shared.purpose, self.security.secret.as_ref());
            let peer = introduce(&mut stream, &self.hello, purpose, secret, &session).await?;
            Ok(Connected { stream, peer, generation: session.generation() })
        };
        timeout(config.handshake_timeout, handshake).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    /// Runs a connection and those that take its place, until one is lost.
    async fn run_connections(&mut self, mut connected: Connected) -> ConnectError {
        let mut old = None;
        loop {
            match self.run_connection(connected, old).await {
                Ended::Lost(error) => return error,
                Ended::Replaced { by, old: replaced } => (connected, old) = (by, Some(replaced)),
            }
        }
    }

    async fn run_connection(&mut self, connected: Connected, old: Option<Running>) -> Ended {
        let Connected { stream, peer, generation } = connected;
        let opened = Instant::now();
        let age = opened.checked_add(self.backoff.about(self.shared.config.max_connection_age));
        let lifetime = Lifetime {
            age: age.unwrap_or(opened + FAR_FUTURE),
            generation,
            stay: self.backoff.part_of(RENEWAL),
            wait: if self.sent_away { self.backoff.next() } else { Duration::ZERO },
        };
        let follower = self.followed.clone().map(Follower::new);
        let guard = SessionGuard::new(Arc::clone(&self.shared), follower);
        // Once calls go to the new connection, the old one takes no more.
        old.into_iter().for_each(|old| self.retire(old));
        let session = Arc::clone(&guard.session);
        tracing::debug!(peer = %self.shared.addr, version = peer.version, "link up");
        self.shared.publish(LinkState::Up(Arc::new(peer)));

        let mut drive: Pin<Box<dyn Future<Output = Break> + Send>> = Box::pin(run_session(guard, stream));
        let mut closing = self.closing.clone();
        let ended = tokio::select! {
            end = &mut drive => Ended::Lost(end.into()),
            until = closed(&mut closing) => {
                session.drain(NotSentReason::Closed);
                Ended::Lost(timeout_at(until, drive).await.unwrap_or(Break::Closed).into())
            }
            by = self.replacement(&session, lifetime) => Ended::Replaced { by, old: Running { session, drive } },
        };
        self.backoff.connection_lasted(opened.elapsed());
        let is_young = opened.elapsed() < self.shared.config.backoff_max;
        self.sent_away = is_young && (self.sent_away || matches!(ended, Ended::Replaced { .. }));
        ended
    }

    fn retire(&mut self, old: Running) {
        while self.retired.try_join_next().is_some() {}
        let Running { session, drive } = old;
        session.drain(NotSentReason::GoingAway);
        self.retired.spawn(async move {
            let _ = timeout(RETIREMENT, drive).await;
        });
    }

    /// Waits until a connection has to go, because of its age, of new certificates or of the listener's word, and dials another.
    async fn replacement(&self, session: &Session, lifetime: Lifetime) -> Connected {
        tokio::select! {
            () = sleep_until(lifetime.age) => {}
            () = session.told_to_go() => sleep(lifetime.wait).await,
            () = self.new_certificates(&lifetime) => {}
        }
        loop {
            match self.connect().await {
                Ok(connected) => return connected,
                Err(error) => tracing::debug!(peer = %self.shared.addr, %error, "no new connection yet"),
            }
            // The old one serves on; if it ends, the link dials at once.
            sleep(self.shared.config.backoff_max).await;
        }
    }

    async fn new_certificates(&self, lifetime: &Lifetime) {
        match &self.security.tls {
            Some(tls) => tls.superseded(lifetime.generation).await,
            None => pending().await,
        }
        // Not all links at once.
        sleep(lifetime.stay).await;
    }

    fn down(&self, error: ConnectError) {
        let addr = self.shared.addr;
        let repeated = matches!(&*self.shared.state.borrow(), LinkState::Down(last) if **last == error);
        if error.is_definite() && !repeated {
            tracing::warn!(peer = %addr, %error, "link cannot come up");
        } else {
            tracing::debug!(peer = %addr, %error, "link down");
        }
        self.shared.publish(LinkState::Down(Arc::new(error)));
    }
}

impl Drop for LinkTask {
    fn drop(&mut self) {
        // However the task ends, nobody waits for it in vain.
        self.shared.publish(LinkState::Closed);
    }
}

/// Runs a session until its connection ends.
async fn run_session(guard: SessionGuard, stream: BoxStream) -> Break {
    let SessionGuard { shared, session } = &guard;
    let config = &shared.config;
    // Heartbeats are answered: a ping is for when they are not.
    let pings = if shared.purpose.lane == Lane::Control { Pings::late(config) } else { Pings::early(config) };
    tokio::select! {
        end = drive(stream, &session.outbox, &**session, config, pings) => end,
        never = session.run(config.ping_interval) => match never {},
    }
}

/// The connection's session, reachable by callers until this is dropped, however the task ends.
struct SessionGuard {
    shared: Arc<Shared>,
    session: Arc<Session>,
}

impl SessionGuard {
    fn new(shared: Arc<Shared>, follower: Option<Follower>) -> Self {
        let session = Arc::new(Session::new(Arc::clone(&shared.health), &shared.config, follower));
        shared.set_session(&session);
        Self { shared, session }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.shared.unset_session(&self.session);
        self.session.fail();
    }
}

/// Waits until the link is to close, and returns until when it may drain.
async fn closed(closing: &mut watch::Receiver<Option<Instant>>) -> Instant {
    // The sender lives in what the task shares, so it cannot be gone; if it were, now is the time to close.
    let until = closing.wait_for(Option::is_some).await;
    until.ok().and_then(|until| *until).unwrap_or_else(Instant::now)
}

/// Within what time all links of a node are dialled anew once its certificates have changed.
const RENEWAL: Duration = Duration::from_secs(10);

/// How long a connection that was replaced may take to finish: no call is longer.
const RETIREMENT: Duration = Duration::from_secs(60);
