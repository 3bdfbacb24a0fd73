//! One reader's stream of changes: asks again whenever the last answer ends, for as long as it is read.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::run::{Kept, Run};
use crate::{Change, ChangeStream, Seed};

/// Tells of changes from now on, until the other end of `open` is dropped.
///
/// The reader's own polls drive it: there is no task that a reader could leave behind, and nobody asks for nobody.
pub(super) fn changes(run: Arc<Run>, open: watch::Receiver<()>) -> ChangeStream {
    // Whoever asked before knows that answer; to anybody else everything is new.
    let known = run.last().map(|kept| kept.seeds.iter().copied().collect()).unwrap_or_default();
    let watch = Watch { run, open, known, untold: VecDeque::new(), due: Instant::now(), failures: 0 };
    Box::pin(stream::unfold(watch, |mut watch| async move {
        let change = watch.next().await?;
        Some((change, watch))
    }))
}

struct Watch {
    run: Arc<Run>,
    open: watch::Receiver<()>,
    known: BTreeSet<Seed>,
    untold: VecDeque<Change>,
    due: Instant,
    /// In a row.
    failures: u32,
}

impl Watch {
    async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.untold.pop_front() {
                return Some(change);
            }
            let mut open = self.open.clone();
            tokio::select! {
                biased;
                // Nothing is ever sent: the only change is the end.
                _ = open.changed() => return None,
                () = self.turn() => {}
            }
        }
    }

    async fn turn(&mut self) {
        sleep_until(self.due).await;
        match self.run.answer().await {
            Ok(kept) => {
                self.failures = 0;
                // An answer that took longer than it holds is not asked for again without a pause.
                let now = Instant::now();
                self.due = if kept.until > now { kept.until } else { now + FIRST_PAUSE };
                self.compare(&kept);
            }
            // What was known stays known.
            Err(_) => {
                self.due = Instant::now() + (FIRST_PAUSE * 2u32.pow(self.failures.min(8))).min(LONGEST_PAUSE);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    fn compare(&mut self, kept: &Kept) {
        let now: BTreeSet<Seed> = kept.seeds.iter().copied().collect();
        let came: Vec<Seed> = now.difference(&self.known).copied().collect();
        let gone: Vec<Seed> = self.known.difference(&now).copied().filter(|_| kept.is_whole).collect();
        for seed in &gone {
            self.known.remove(seed);
        }
        self.known.extend(&came);
        self.untold.extend(came.into_iter().map(Change::Insert));
        self.untold.extend(gone.into_iter().map(Change::Remove));
        // A server that leaves out a part again and again, each time with other addresses, fills no memory.
        while self.known.len() > MAX_KNOWN {
            self.known.pop_last();
        }
    }
}

/// A server that restarts is away for about this long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// So that a server which comes back is found within seconds, by each of a thousand nodes without harm to it.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Twice what one answer holds.
const MAX_KNOWN: usize = crate::bounds::MAX_SEEDS * 2;
