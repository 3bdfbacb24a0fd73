//! What happens in the cluster, as a subscriber sees it.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use distcache_cluster::View;
use tokio::sync::watch;

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its name on the ring.
    pub name: String,
    /// The address its peers dial.
    pub addr: SocketAddr,
    /// Whether it is the node that tells.
    pub is_self: bool,
}

impl Member {
    pub(crate) fn of(member: &distcache_cluster::Member) -> Self {
        let ident = member.ident();
        Self { name: ident.name().to_string(), addr: ident.addr(), is_self: member.is_self() }
    }

    pub(crate) fn all(view: &View) -> Vec<Self> {
        view.members().iter().map(Self::of).collect()
    }
}

/// A change of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// All members at the time of the subscription. Always the first event, and only the first.
    Snapshot(Vec<Member>),
    /// A node joined.
    Joined(Member),
    /// A node left, or is not reachable any more.
    Left(Member),
    /// A node was replaced by another process under its name: a restart, perhaps at another address.
    Restarted(Member),
    /// The subscriber was slow: that many changes of the cluster came and went unseen. The events that follow still lead to
    /// the present members.
    Missed(u64),
}

/// A subscription to the changes of the cluster.
///
/// It holds no queue: events are the difference between what the subscriber saw last and what is now, so a slow subscriber
/// costs nothing, misses intermediate states only, and is told how many.
///
/// ```no_run
/// # async fn example(engine: distcache::Engine) {
/// let mut events = engine.events();
/// while let Some(event) = events.next().await {
///     println!("{event:?}");
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Events {
    views: watch::Receiver<Arc<View>>,
    seen: Option<Arc<View>>,
    queued: VecDeque<Event>,
}

impl Events {
    pub(crate) const fn new(views: watch::Receiver<Arc<View>>) -> Self {
        Self { views, seen: None, queued: VecDeque::new() }
    }

    /// Returns the next event, or `None` once the engine is gone.
    ///
    /// # Cancel safety
    /// Cancel safe: an event that was not returned comes with the next call.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queued.pop_front() {
                return Some(event);
            }
            if self.seen.is_some() {
                self.views.changed().await.ok()?;
            }
            let view = Arc::clone(&self.views.borrow_and_update());
            match self.seen.replace(Arc::clone(&view)) {
                None => self.queued.push_back(Event::Snapshot(Member::all(&view))),
                Some(old) => self.queued.extend(difference(&old, &view)),
            }
        }
    }
}

fn difference(old: &View, new: &View) -> Vec<Event> {
    let mut events = Vec::new();
    let missed = new.ordinal().saturating_sub(old.ordinal() + 1);
    if missed > 0 {
        events.push(Event::Missed(missed));
    }
    for member in old.members() {
        if new.member(member.ident().name()).is_none() {
            events.push(Event::Left(Member::of(member)));
        }
    }
    for member in new.members() {
        match old.member(member.ident().name()) {
            None => events.push(Event::Joined(Member::of(member))),
            Some(before) if before.ident() != member.ident() => events.push(Event::Restarted(Member::of(member))),
            Some(_) => {}
        }
    }
    events
}
