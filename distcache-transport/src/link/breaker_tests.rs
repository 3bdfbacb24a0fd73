//! The breaker by hand-stepped time.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn breaker() -> (Breaker, Instant) {
    let mut breaker = Breaker::new(&TransportConfig::default());
    breaker.link_up();
    (breaker, Instant::now())
}

/// Fails as often as it takes, with the longest wait.
fn open(breaker: &mut Breaker, now: Instant) {
    for _ in 0..3 {
        breaker.failed(now, Pass::Plain, 1.0);
    }
}

fn refused(retry_after: Duration) -> Result<Pass, NotSentReason> {
    Err(NotSentReason::BreakerOpen { retry_after })
}

#[tokio::test(start_paused = true)]
async fn opens_after_three_failures_in_a_row_and_not_before() {
    let (mut breaker, now) = breaker();
    for _ in 0..10 {
        breaker.failed(now, Pass::Plain, 1.0);
        breaker.failed(now, Pass::Plain, 1.0);
        assert_eq!(breaker.admit(now), Ok(Pass::Plain));
        breaker.succeeded();
    }
    open(&mut breaker, now);
    assert_eq!(breaker.state(now), BreakerState::Open { until: now + 100 * MS });
    assert_eq!(breaker.admit(now + 30 * MS), refused(70 * MS));
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_decides() {
    let (mut breaker, now) = breaker();
    open(&mut breaker, now);
    let later = now + 100 * MS;
    assert_eq!(breaker.state(later), BreakerState::HalfOpen);
    assert_eq!(breaker.admit(later), Ok(Pass::Probe));
    assert_eq!(breaker.admit(later), refused(Duration::ZERO));
    breaker.failed(later, Pass::Plain, 1.0);
    assert_eq!(breaker.state(later), BreakerState::HalfOpen, "a call from before it opened decides nothing");
    breaker.abandoned(Pass::Plain);
    assert_eq!(breaker.admit(later), refused(Duration::ZERO));
    breaker.abandoned(Pass::Probe);
    assert_eq!(breaker.admit(later), Ok(Pass::Probe), "a caller that went away does not keep the others out");
    breaker.succeeded();
    assert_eq!((breaker.state(later), breaker.admit(later)), (BreakerState::Closed, Ok(Pass::Plain)));
    assert!(breaker.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn waits_double_up_to_the_longest_and_start_over_with_success() {
    let (mut breaker, mut now) = breaker();
    open(&mut breaker, now);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let BreakerState::Open { until } = breaker.state(now) else { panic!("{breaker:?}") };
        waits.push((until - now).as_millis());
        now = until;
        assert_eq!(breaker.admit(now), Ok(Pass::Probe));
        breaker.failed(now, Pass::Probe, 1.0);
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    breaker.succeeded();
    open(&mut breaker, now);
    assert_eq!(breaker.state(now), BreakerState::Open { until: now + 100 * MS });
}

#[tokio::test(start_paused = true)]
async fn half_of_each_wait_is_random() {
    for (jitter, millis) in [(0.0, 50), (0.5, 75), (1.0, 100), (7.0, 100), (-1.0, 50)] {
        let (mut breaker, now) = breaker();
        breaker.link_down(now, jitter);
        assert_eq!(breaker.state(now), BreakerState::Open { until: now + millis * MS }, "{jitter}");
    }
}

#[tokio::test(start_paused = true)]
async fn link_that_is_down_keeps_it_open_and_one_that_is_up_lets_a_probe_through() {
    let (mut breaker, now) = breaker();
    breaker.link_down(now, 1.0);
    let later = now + 3600 * 1000 * MS;
    breaker.link_down(later, 1.0);
    assert_eq!(breaker.state(later), BreakerState::Open { until: now + 100 * MS }, "dials that fail do not add up");
    assert_eq!(breaker.admit(later), refused(Duration::ZERO));
    breaker.link_up();
    assert_eq!(breaker.admit(now), Ok(Pass::Probe), "and not only when the wait is over");
    breaker.link_down(now, 1.0);
    assert_eq!(breaker.state(now), BreakerState::Open { until: now + 200 * MS }, "a link that flaps is a failure");
}

#[tokio::test(start_paused = true)]
async fn first_connection_needs_no_probe() {
    let mut breaker = Breaker::new(&TransportConfig::default());
    breaker.link_up();
    assert!(breaker.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn overloaded_peer_is_left_alone_for_as_long_as_it_says_and_that_is_no_failure() {
    let (mut breaker, now) = breaker();
    for _ in 0..10 {
        breaker.overloaded(now, Some(50 * MS));
    }
    breaker.overloaded(now, Some(20 * MS));
    breaker.overloaded(now, None);
    assert_eq!(breaker.state(now), BreakerState::HoldOff { until: now + 50 * MS });
    assert_eq!(breaker.admit(now + 20 * MS), Err(NotSentReason::HeldOff { retry_after: 30 * MS }));
    assert!(!breaker.is_at_rest());
    breaker.succeeded();
    assert_eq!(breaker.state(now), BreakerState::HoldOff { until: now + 50 * MS }, "an older answer lifts nothing");
    assert_eq!(breaker.admit(now + 50 * MS), Ok(Pass::Plain));
    assert!(breaker.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn overload_is_an_answer_to_a_probe() {
    let (mut breaker, now) = breaker();
    open(&mut breaker, now);
    assert_eq!(breaker.admit(now + 100 * MS), Ok(Pass::Probe));
    breaker.overloaded(now + 100 * MS, Some(50 * MS));
    assert_eq!(breaker.admit(now + 150 * MS), Ok(Pass::Plain));
}

#[tokio::test(start_paused = true)]
async fn gate_is_shut_while_the_breaker_is_and_counts_how_often_it_opens() {
    let gate = Gate::new(&TransportConfig::default());
    gate.link_up();
    for round in 1..=2 {
        for _ in 0..3 {
            assert_eq!(gate.admit(), Ok(Pass::Plain));
            gate.failed(Pass::Plain);
        }
        assert!(matches!(gate.admit(), Err(NotSentReason::BreakerOpen { .. })));
        assert_eq!(gate.opened(), round);
        gate.succeeded();
    }
}
