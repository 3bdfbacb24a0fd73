//! What a link counts.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::breaker::Gate;
use crate::{
    config::TransportConfig,
    error::{CallError, ErrorCode},
};

/// Counts what became of the calls of a link since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Calls that were queued to be sent.
    pub calls: u64,
    /// Calls that the peer answered, also with an error.
    pub answered: u64,
    /// Of those, the ones it answered with `OVERLOADED`.
    pub overloaded: u64,
    /// Calls that the peer said it works on.
    pub loading: u64,
    /// Calls that timed out here.
    pub timed_out: u64,
    /// Calls that went with their connection, sent or not.
    pub lost: u64,
    /// Calls that the breaker did not let through, or that the peer was not to have yet.
    pub refused_by_breaker: u64,
    /// Calls that were refused here because too many were in flight, or held too many bytes.
    pub refused_in_flight: u64,
    /// Times the breaker has opened.
    pub breaker_opened: u64,
}

/// Are the counters behind [`LinkStats`], but for what the breaker counts itself.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: Counter,
    pub(super) answered: Counter,
    pub(super) overloaded: Counter,
    pub(super) loading: Counter,
    pub(super) timed_out: Counter,
    pub(super) lost: Counter,
    pub(super) refused_by_breaker: Counter,
    pub(super) refused_in_flight: Counter,
}

impl Counters {
    pub(super) fn snapshot(&self, breaker_opened: u64) -> LinkStats {
        LinkStats {
            calls: self.calls.get(),
            answered: self.answered.get(),
            overloaded: self.overloaded.get(),
            loading: self.loading.get(),
            timed_out: self.timed_out.get(),
            lost: self.lost.get(),
            refused_by_breaker: self.refused_by_breaker.get(),
            refused_in_flight: self.refused_in_flight.get(),
            breaker_opened,
        }
    }
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Is what the calls of a link have learned of its peer, over all of its connections.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) gate: Gate,
    pub(super) counters: Counters,
}

impl Health {
    pub(super) fn new(config: &TransportConfig) -> Self {
        Self { gate: Gate::new(config), counters: Counters::default() }
    }

    /// Takes note of an answer.
    pub(super) fn answered(&self, answer: &Result<Bytes, CallError>) {
        self.counters.answered.add_one();
        match answer {
            Err(CallError::Remote(error)) if error.code == ErrorCode::OVERLOADED => {
                self.counters.overloaded.add_one();
                self.gate.overloaded(error.retry_after);
            }
            // Whatever it is, the peer is there and answers.
            _ => self.gate.succeeded(),
        }
    }
}
