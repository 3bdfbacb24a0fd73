//! When a peer is left alone: the breaker's state machine, [`Breaker`], and the [`Gate`] that calls pass.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use crate::{config::TransportConfig, error::NotSentReason};

/// Says whether calls to a peer are let through.
///
/// It is an opinion about the peer's answers and nothing else: it does not say whether the peer is a member, and the link dials
/// whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// All calls go through.
    Closed,
    /// One call at a time goes through, to see whether the peer answers.
    HalfOpen,
    /// No call goes through: the last ones in a row failed, or the link went down.
    Open {
        /// When the next call may try; while the link is down, not before it is up again.
        until: Instant,
    },
    /// No call goes through: the peer answered that it has too much to do.
    HoldOff {
        /// When it would have calls again.
        until: Instant,
    },
}

/// Is the pure state machine: calls that fail in a row open it, and one that succeeds closes it.
///
/// Whoever calls it says what time it is and, where a wait may begin, how much of its random part to take, from 0 to 1.
#[derive(Debug)]
struct Breaker {
    /// Failures in a row after which it opens.
    limit: u32,
    min: Duration,
    max: Duration,
    failures: u32,
    phase: Phase,
    /// The longest the next wait may be; it doubles with each.
    ceiling: Duration,
    hold_off: Option<Instant>,
    link_is_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool },
}

/// How a call may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Like any other.
    Plain,
    /// As the one that shows whether the peer answers.
    Probe,
}

impl Breaker {
    fn new(config: &TransportConfig) -> Self {
        let (min, max) = (config.breaker_backoff_min, config.breaker_backoff_max.max(config.breaker_backoff_min));
        let limit = config.breaker_failures.max(1);
        let (phase, hold_off) = (Phase::Closed, None);
        Self { limit, min, max, failures: 0, phase, ceiling: min, hold_off, link_is_up: false }
    }

    fn state(&self, now: Instant) -> BreakerState {
        match self.phase {
            Phase::Open { until } if now < until || !self.link_is_up => BreakerState::Open { until },
            Phase::Open { .. } | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
            Phase::Closed => match self.hold_off.filter(|until| now < *until) {
                Some(until) => BreakerState::HoldOff { until },
                None => BreakerState::Closed,
            },
        }
    }

    /// Lets a call pass, or says why not.
    fn admit(&mut self, now: Instant) -> Result<Pass, NotSentReason> {
        let open = |retry_after| Err(NotSentReason::BreakerOpen { retry_after });
        match (self.state(now), self.phase) {
            (BreakerState::Open { until }, _) => open(until.saturating_duration_since(now)),
            (BreakerState::HoldOff { until }, _) => {
                Err(NotSentReason::HeldOff { retry_after: until.saturating_duration_since(now) })
            }
            (BreakerState::HalfOpen, Phase::HalfOpen { probing: true }) => open(Duration::ZERO),
            (BreakerState::HalfOpen, _) => {
                self.phase = Phase::HalfOpen { probing: true };
                Ok(Pass::Probe)
            }
            (BreakerState::Closed, _) => {
                self.hold_off = None;
                Ok(Pass::Plain)
            }
        }
    }

    /// The peer answered, or said that it works on a call.
    const fn succeeded(&mut self) {
        (self.failures, self.phase, self.ceiling) = (0, Phase::Closed, self.min);
    }

    /// A call had no answer. What was sent before it opened, or in spite of it, says nothing new once it has.
    fn failed(&mut self, now: Instant, pass: Pass, jitter: f64) {
        match (self.phase, pass) {
            (Phase::Closed, _) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.limit {
                    self.open(now, jitter);
                }
            }
            (Phase::HalfOpen { .. }, Pass::Probe) => self.open(now, jitter),
            (Phase::HalfOpen { .. } | Phase::Open { .. }, _) => {}
        }
    }

    /// The caller gave a call up, which says nothing of the peer.
    fn abandoned(&mut self, pass: Pass) {
        if let (Phase::HalfOpen { probing }, Pass::Probe) = (&mut self.phase, pass) {
            *probing = false;
        }
    }

    /// The peer answered that it has too much to do, which is an answer.
    fn overloaded(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.succeeded();
        let until = retry_after.and_then(|wait| now.checked_add(wait));
        self.hold_off = self.hold_off.max(until);
    }

    fn link_down(&mut self, now: Instant, jitter: f64) {
        self.link_is_up = false;
        if !matches!(self.phase, Phase::Open { .. }) {
            self.open(now, jitter);
        }
    }

    /// A handshake is worth a probe, whatever was the matter with the last connection; what its peer asked for went with it.
    const fn link_up(&mut self) {
        self.link_is_up = true;
        self.hold_off = None;
        if matches!(self.phase, Phase::Open { .. }) {
            self.phase = Phase::HalfOpen { probing: false };
        }
    }

    /// Waits for half the ceiling at least, so that a wait is one, and for a random part of the rest, so that many nodes do not
    /// try at once.
    fn open(&mut self, now: Instant, jitter: f64) {
        let half = self.ceiling / 2;
        let wait = half.saturating_add(half.mul_f64(jitter.clamp(0.0, 1.0)));
        self.phase = Phase::Open { until: now.checked_add(wait).unwrap_or(now) };
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        self.failures = 0;
    }

    /// Nothing stands in the way of a call, and success would change nothing.
    const fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Closed) && self.failures == 0 && self.hold_off.is_none()
    }
}

/// Shares one breaker between the calls of a link. While all is well a call reads one flag on its way out and on its way back.
#[derive(Debug)]
pub(super) struct Gate {
    at_rest: AtomicBool,
    opened: AtomicU64,
    inner: Mutex<(Breaker, StdRng)>,
}

impl Gate {
    pub(super) fn new(config: &TransportConfig) -> Self {
        let mut seed = [0; 32];
        // Without randomness the waits are still waits.
        let _ = config.entropy.fill(&mut seed);
        let inner = Mutex::new((Breaker::new(config), StdRng::from_seed(seed)));
        Self { at_rest: AtomicBool::new(true), opened: AtomicU64::new(0), inner }
    }

    pub(super) fn state(&self) -> BreakerState {
        self.lock().0.state(Instant::now())
    }

    /// Counts how often it has opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn admit(&self) -> Result<Pass, NotSentReason> {
        if self.at_rest.load(Ordering::Relaxed) {
            return Ok(Pass::Plain);
        }
        self.change(|breaker, _| breaker.admit(Instant::now()))
    }

    pub(super) fn succeeded(&self) {
        if !self.at_rest.load(Ordering::Relaxed) {
            self.change(|breaker, _| breaker.succeeded());
        }
    }

    pub(super) fn failed(&self, pass: Pass) {
        self.change(|breaker, jitter| breaker.failed(Instant::now(), pass, jitter));
    }

    pub(super) fn abandoned(&self, pass: Pass) {
        if pass == Pass::Probe {
            self.change(|breaker, _| breaker.abandoned(pass));
        }
    }

    pub(super) fn overloaded(&self, retry_after: Option<Duration>) {
        self.change(|breaker, _| breaker.overloaded(Instant::now(), retry_after));
    }

    pub(super) fn link_down(&self) {
        self.change(|breaker, jitter| breaker.link_down(Instant::now(), jitter));
    }

    pub(super) fn link_up(&self) {
        self.change(|breaker, _| breaker.link_up());
    }

    fn change<T>(&self, change: impl FnOnce(&mut Breaker, f64) -> T) -> T {
        let mut inner = self.lock();
        let (breaker, rng) = &mut *inner;
        let was_open = matches!(breaker.phase, Phase::Open { .. });
        let result = change(breaker, rng.random_range(0.0..=1.0));
        if !was_open && matches!(breaker.phase, Phase::Open { .. }) {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
        self.at_rest.store(breaker.is_at_rest(), Ordering::Relaxed);
        result
    }

    fn lock(&self) -> MutexGuard<'_, (Breaker, StdRng)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
