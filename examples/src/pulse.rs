//! What a node tells again and again until it is to stop: [`pulse`].

use std::time::Duration;

use distcache::{Engine, Event};
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval},
};

/// Calls `tell` once a period and once more at the end, with how many members have left the cluster so far.
pub(crate) async fn pulse(
    engine: &Engine,
    period: Duration,
    mut end: oneshot::Receiver<()>,
    mut tell: impl FnMut(u64),
) {
    let (mut ticks, mut events) = (interval(period), engine.events());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut left, mut ended) = (0, false);
    while !ended {
        tokio::select! {
            Some(event) = events.next() => {
                left += u64::from(matches!(event, Event::Left(_)));
                continue;
            }
            _ = ticks.tick() => {}
            _ = &mut end => ended = true,
        }
        tell(left);
    }
}
