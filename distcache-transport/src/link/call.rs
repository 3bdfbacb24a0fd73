//! A call under way: [`Call`], and what can be learned of it before its answer: [`Progress`].

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::session::Session;
use crate::error::CallError;

/// Is a request that was sent and waits for its answer, made by [`Link::begin`](super::Link::begin).
///
/// It holds a place in flight until its answer has come. Dropping it before gives the place back and tells the peer to stop; the
/// peer may have acted.
#[derive(Debug)]
#[must_use = "dropping a call cancels it"]
pub struct Call {
    session: Arc<Session>,
    pub(super) id: u64,
    answer: oneshot::Receiver<Result<Bytes, CallError>>,
    is_answered: bool,
    /// The caller was told that the peer works on it.
    told: bool,
}

/// Says how far a call has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The peer is there and works on the request; its answer will take a while. To ask another peer as well would only make
    /// the same work be done twice.
    Loading,
    /// The answer, or why there is none.
    Answered(Result<Bytes, CallError>),
}

impl Call {
    pub(super) const fn new(
        session: Arc<Session>,
        id: u64,
        answer: oneshot::Receiver<Result<Bytes, CallError>>,
    ) -> Self {
        Self { session, id, answer, is_answered: false, told: false }
    }

    /// Waits for the answer, until the budget of the call is spent.
    ///
    /// # Errors
    /// [`CallError`]; its [`was_sent`](CallError::was_sent) tells whether the peer may have acted. [`CallError::Lost`] once the
    /// answer was taken.
    ///
    /// # Cancel safety
    /// Cancel safe: the call goes on, and may be asked again.
    pub async fn answer(&mut self) -> Result<Bytes, CallError> {
        poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// Waits for the next thing to be known of the call: once that the peer works on it, if it says so before it answers, and
    /// then the answer.
    ///
    /// It is one method, so that it can stand in a `select!` beside the timer after which the caller would ask elsewhere.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bytes::Bytes;
    /// # use distcache_transport::{CallError, Link, Method, Payload, Progress};
    /// /// Asks one peer, and another one too if the first is not heard of in time.
    /// async fn hedged(owner: &Link, other: &Link, ask: Payload) -> Result<Bytes, CallError> {
    ///     let budget = Duration::from_secs(1);
    ///     let mut call = owner.begin(Method(1), ask.clone(), budget)?;
    ///     tokio::select! {
    ///         progress = call.progress() => match progress {
    ///             Progress::Answered(answer) => answer,
    ///             Progress::Loading => call.answer().await,
    ///         },
    ///         () = tokio::time::sleep(Duration::from_millis(5)) => other.call(Method(2), ask, budget).await,
    ///     }
    /// }
    /// ```
    ///
    /// # Cancel safety
    /// Cancel safe: nothing that was not returned is lost.
    pub async fn progress(&mut self) -> Progress {
        poll_fn(|cx| {
            if let Poll::Ready(answer) = self.poll_answer(cx) {
                return Poll::Ready(Progress::Answered(answer));
            }
            if self.told || !self.session.is_loading(self.id, cx) {
                return Poll::Pending;
            }
            self.told = true;
            Poll::Ready(Progress::Loading)
        })
        .await
    }

    /// Gives the call up because the peer has been silent for as long as a healthy one would not be. Unlike dropping the call, which
    /// says nothing of the peer, this counts as a failure: in the statistics, and for the breaker unless the peer said that it works
    /// on the call.
    pub fn expired(mut self) {
        if !std::mem::replace(&mut self.is_answered, true) {
            self.session.expired(self.id);
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, CallError>> {
        if self.is_answered {
            return Poll::Ready(Err(CallError::Lost));
        }
        Pin::new(&mut self.answer).poll(cx).map(|answer| {
            self.is_answered = true;
            // Without a sender the connection's task was dropped with the link.
            answer.unwrap_or(Err(CallError::Lost))
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_answered {
            self.session.cancel(self.id);
        }
    }
}
