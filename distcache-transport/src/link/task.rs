//! The task behind a link: dial, hand shakes, run the connection, wait, again.

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{LinkState, PeerHello, Shared, backoff::Backoff, session::Session};
use crate::{
    config::Hello,
    connection::{Break, drive},
    error::{ConnectError, NotSentReason},
    greeting::introduce,
    io::{BoxStream, Dialer},
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
    closing: watch::Receiver<Option<Instant>>,
    backoff: Backoff,
}

impl LinkTask {
    pub(super) fn new(shared: Arc<Shared>, dialer: Arc<dyn Dialer>, security: Security, hello: Hello) -> Self {
        let closing = shared.closing.subscribe();
        let backoff = Backoff::new(&shared.config);
        Self { shared, dialer, security, hello, closing, backoff }
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
                Ok((stream, peer)) => self.run_session(stream, peer).await,
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
        tracing::debug!(peer = %self.shared.addr, "link closed");
    }

    async fn connect(&self) -> Result<(BoxStream, PeerHello), ConnectError> {
        let (addr, config) = (self.shared.addr, &self.shared.config);
        let dialled = timeout(config.dial_timeout, self.dialer.dial(addr)).await;
        let mut stream = dialled.map_err(|_| ConnectError::TimedOut)?.map_err(|error| ConnectError::dial(&error))?;
        let handshake = async {
            let mut session = TlsSession::default();
            if let Some(tls) = &self.security.tls {
                (stream, session) = tls.connect(addr, stream).await?;
            }
            let peer = introduce(&mut stream, &self.hello, self.security.secret.as_ref(), &session).await?;
            Ok((stream, peer))
        };
        timeout(config.handshake_timeout, handshake).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    /// Runs one connection to its end, and returns why it ended.
    async fn run_session(&mut self, stream: BoxStream, peer: PeerHello) -> ConnectError {
        let shared = &self.shared;
        let opened = Instant::now();
        let session = SessionGuard::new(Arc::clone(shared));
        tracing::debug!(peer = %shared.addr, version = peer.version, "link up");
        shared.publish(LinkState::Up(Arc::new(peer)));

        let drive = async {
            tokio::select! {
                end = drive(stream, &session.session.outbox, &*session.session, &shared.config, shared.config.ping_interval) => end,
                never = session.session.expire() => match never {},
            }
        };
        let mut drive = std::pin::pin!(drive);
        let end = tokio::select! {
            end = &mut drive => end,
            until = closed(&mut self.closing) => {
                session.session.drain(NotSentReason::Closed);
                timeout_at(until, drive).await.unwrap_or(Break::Closed)
            }
        };
        self.backoff.connection_lasted(opened.elapsed());
        end.into()
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

/// The connection's session, reachable by callers until this is dropped, however the task ends.
struct SessionGuard {
    shared: Arc<Shared>,
    session: Arc<Session>,
}

impl SessionGuard {
    fn new(shared: Arc<Shared>) -> Self {
        let session = Arc::new(Session::new(Arc::clone(&shared.health), &shared.config));
        shared.set_session(Some(Arc::clone(&session)));
        Self { shared, session }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.shared.set_session(None);
        self.session.fail();
    }
}

/// Waits until the link is to close, and returns until when it may drain.
async fn closed(closing: &mut watch::Receiver<Option<Instant>>) -> Instant {
    // The sender lives in what the task shares, so it cannot be gone; if it were, now is the time to close.
    let until = closing.wait_for(Option::is_some).await;
    until.ok().and_then(|until| *until).unwrap_or_else(Instant::now)
}
