//! What this node's views say of its keys over time: which it owns, since when without a break, and who had them before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use crate::{
    defects::{Defect, planted},
    placement::KeyHash,
    view::{Member, SharedView, View},
};

/// The present view and the last ones. Read without a lock.
#[derive(Debug)]
pub(crate) struct Standing {
    view: ArcSwap<View>,
    ordinal: AtomicU64,
    /// The last view by which the store was swept: what it holds since before then was this node's all the time.
    swept: AtomicU64,
    /// The last views, the present one among them, oldest first, each with when it was published.
    history: ArcSwap<Vec<(SharedView, Instant)>>,
    /// When this node first saw another.
    joined: ArcSwapOption<Instant>,
}

impl Standing {
    pub(crate) fn new(view: SharedView, now: Instant) -> Self {
        let ordinal = view.ordinal();
        Self {
            ordinal: AtomicU64::new(ordinal),
            swept: AtomicU64::new(ordinal),
            history: ArcSwap::from_pointee(vec![(Arc::clone(&view), now)]),
            joined: ArcSwapOption::empty(),
            view: ArcSwap::new(view),
        }
    }

    pub(crate) fn view(&self) -> SharedView {
        self.view.load_full()
    }

    pub(crate) fn owns(&self, key: KeyHash) -> bool {
        self.view.load().owns(key)
    }

    pub(crate) fn silence_of_owner(&self, key: KeyHash, now: Instant) -> Option<Duration> {
        match self.view.load().owner(key).heard() {
            Some(heard) => heard.silence(now),
            None => Some(Duration::ZERO),
        }
    }

    pub(crate) fn ordinal(&self) -> u64 {
        self.ordinal.load(Ordering::Acquire)
    }

    /// Makes `view` the present one. Called by one task only.
    pub(crate) fn publish(&self, view: SharedView, now: Instant) {
        if view.members().len() > 1 && self.joined.load().is_none() {
            self.joined.store(Some(Arc::new(now)));
        }
        let mut history = Vec::clone(&self.history.load());
        history.push((Arc::clone(&view), now));
        history.drain(..history.len().saturating_sub(HISTORY));
        // In this order: whoever sees the new ordinal finds the view in the history.
        self.history.store(Arc::new(history));
        let ordinal = view.ordinal();
        self.view.store(view);
        self.ordinal.store(ordinal, Ordering::Release);
    }

    /// Returns how many views are remembered.
    #[cfg(distcache_defects)]
    pub(crate) fn held(&self) -> usize {
        self.history.load().len()
    }

    /// Takes note that the store holds nothing any more that was not this node's by that view.
    pub(crate) fn swept(&self, ordinal: u64) {
        self.swept.store(ordinal, Ordering::Release);
    }

    /// Whether this node owned a key in every view from `since` on (R5). `key` is asked for only where the views have to be looked at,
    /// which is between a view and the sweep that follows it.
    pub(crate) fn owned_since(&self, since: u64, key: impl FnOnce() -> KeyHash) -> bool {
        let (now, swept) = (self.ordinal(), self.swept.load(Ordering::Acquire));
        let from = since.max(swept);
        if from >= now || planted(Defect::LapseIgnored) {
            return true;
        }
        let (key, history) = (key(), self.history.load());
        let views = history.iter().filter(|(view, _)| (from + 1..=now).contains(&view.ordinal()));
        // A view that is forgotten already may have been another's.
        let mut count = 0;
        let owned = views.inspect(|_| count += 1).all(|(view, _)| view.owns(key));
        owned && count == now - from
    }

    /// Whether keys may have had another owner within `window` from `now`.
    pub(crate) fn moved_within(&self, window: Duration, now: Instant) -> bool {
        let history = self.history.load();
        self.joined.load().is_some() && history.last().is_some_and(|(_, published)| now < *published + window)
    }

    /// Returns who owned a key of this node's before it did, if that was within `window` from `now`.
    ///
    /// A node that has just joined knows no such view; but whoever is next in line for its key had it until then.
    pub(crate) fn predecessor(&self, key: KeyHash, window: Duration, now: Instant) -> Option<Member> {
        let history = self.history.load();
        let ends = history.iter().skip(1).map(|(_, published)| *published);
        let past: Vec<_> = history.iter().zip(ends).filter(|(_, end)| now < *end + window).collect();
        if let Some(((view, _), _)) = past.iter().rev().find(|((view, _), _)| !view.owns(key)) {
            return Some(view.owner(key).clone());
        }
        let joined = self.joined.load().as_deref().copied()?;
        let view = self.view.load();
        let next = || view.next_in_line(key).cloned();
        if now < joined + window { next() } else { None }
    }
}

/// Each of 64 nodes' views takes some 4 MB; a rolling restart of a few nodes is remembered whole.
pub(crate) const HISTORY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ident::{NodeIdent, NodeName},
        placement::KeyspaceSeed,
    };

    const WINDOW: Duration = Duration::from_secs(300);

    fn member(name: &str) -> Member {
        let port = u16::from(name.as_bytes()[0]);
        Member::this_node(NodeIdent::new(NodeName::new(name).unwrap(), ([10, 0, 0, 1], port).into(), 1))
    }

    /// A view of node `a`. Its peers pass for itself where only links tell, so owners are compared by name.
    fn view(ordinal: u64, peers: &[&str]) -> SharedView {
        Arc::new(View::of_names(ordinal, "a", peers))
    }

    fn key(n: u32) -> KeyHash {
        KeyspaceSeed::of("rows").hash(&n.to_string())
    }

    /// Keys of `a` among `a` and `b` that are its own, and some that are not.
    fn keys(is_owned: bool) -> impl Iterator<Item = KeyHash> {
        let both = view(1, &["b"]);
        (0..1_000).map(key).filter(move |key| both.owns(*key) == is_owned)
    }

    fn standing(now: Instant) -> Standing {
        Standing::new(view(1, &[]), now)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_lost_and_regained_between_two_sweeps_was_not_owned_all_the_time() {
        let now = Instant::now();
        let standing = standing(now);
        standing.publish(view(2, &["b"]), now);
        standing.publish(view(3, &[]), now);
        assert!(keys(true).all(|key| standing.owned_since(1, || key)));
        assert!(keys(false).all(|key| standing.owns(key) && !standing.owned_since(1, || key)));
        assert!(keys(false).all(|key| standing.owned_since(3, || key)));
        standing.swept(3);
        let not_asked = || unreachable!("after a sweep no view is looked at");
        assert!(standing.owned_since(1, not_asked));
    }

    #[tokio::test(start_paused = true)]
    async fn views_that_are_forgotten_count_as_lost() {
        let now = Instant::now();
        let standing = standing(now);
        let key = keys(true).next().unwrap();
        for ordinal in 2..20 {
            standing.publish(view(ordinal, if ordinal % 2 == 0 { &["b"] } else { &[] }), now);
        }
        assert!(!standing.owned_since(2, || key) && standing.owned_since(15, || key));
    }

    #[tokio::test(start_paused = true)]
    async fn key_that_came_from_another_has_it_for_a_predecessor_for_as_long_as_the_window() {
        let now = Instant::now();
        let standing = standing(now);
        standing.publish(view(2, &["b"]), now);
        let later = now + 2 * WINDOW;
        standing.publish(view(3, &[]), later);
        let of = |key, now| standing.predecessor(key, WINDOW, now).map(|member| member.ident().name().to_string());
        assert!(keys(false).all(|key| of(key, later).as_deref() == Some("b")));
        assert!(keys(true).all(|key| of(key, later).is_none()), "it has been here all along");
        assert!(keys(false).all(|key| of(key, later + WINDOW).is_none()));
        assert!(standing.moved_within(WINDOW, later) && !standing.moved_within(WINDOW, later + WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn node_that_has_just_joined_takes_the_next_in_line_for_a_predecessor() {
        let now = Instant::now();
        let standing = standing(now);
        let none = |now| keys(true).all(|key| standing.predecessor(key, WINDOW, now).is_none());
        assert!(none(now) && !standing.moved_within(WINDOW, now), "alone, nobody was before it");
        standing.publish(view(2, &["b"]), now);
        for key in keys(true) {
            assert_eq!(standing.predecessor(key, WINDOW, now).unwrap().ident(), member("b").ident());
        }
        assert!(none(now + WINDOW));
    }
}
