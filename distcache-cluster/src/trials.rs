//! Which of the addresses that discovery names are dialled now: a pure machine.
//!
//! All of a short list, at once. Of a long one, which may be an attacker's, a few at a time and at a bounded rate, over and over, so
//! that a peer among a thousand wrong addresses is still found and the wrong ones are not stormed. Addresses of members are none of its
//! concern: they are dialled whatever discovery says.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use distcache_transport::ConnectError;
use tokio::time::Instant;

use crate::join::Seed;

/// The addresses of the last answer that have not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Trials {
    named: BTreeSet<SocketAddr>,
    /// Being dialled: links to them are open.
    open: BTreeSet<SocketAddr>,
    /// Whose turn is to come, in order.
    waiting: VecDeque<SocketAddr>,
    /// How the last trial of those ended whose turn is over.
    failed: BTreeMap<SocketAddr, ConnectError>,
    /// When the next may be opened. Lies in the past while fewer were opened than allowed.
    next: Option<Instant>,
}

impl Trials {
    /// Takes an answer: all the addresses but those to which there are links anyway. Returns those that are named no longer.
    pub(crate) fn name(&mut self, addrs: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let named: BTreeSet<_> = addrs.into_iter().collect();
        self.waiting.retain(|addr| named.contains(addr));
        self.failed.retain(|addr, _| named.contains(addr));
        let gone: Vec<_> = self.open.difference(&named).copied().collect();
        gone.iter().for_each(|addr| _ = self.open.remove(addr));
        self.waiting.extend(named.difference(&self.named).filter(|addr| !self.open.contains(addr)));
        self.named = named;
        gone
    }

    /// Returns the next address to dial, if one may be dialled now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.open.len() >= AT_ONCE || self.next.is_some_and(|next| now < next) {
            return None;
        }
        let addr = self.waiting.pop_front()?;
        let earliest = now.checked_sub(BURST * PACE).unwrap_or(now);
        self.next = Some(self.next.unwrap_or(earliest).max(earliest) + PACE);
        self.open.insert(addr);
        Some(addr)
    }

    /// When [`poll`](Self::poll) has something again that only time keeps it from giving.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let has_turn = !self.waiting.is_empty() && self.open.len() < AT_ONCE;
        self.next.filter(|_| has_turn)
    }

    /// A dial failed. Returns whether the link is to be closed, because others wait for its turn.
    pub(crate) fn failed(&mut self, addr: SocketAddr, error: &ConnectError) -> bool {
        if self.waiting.is_empty() || !self.open.remove(&addr) {
            return false;
        }
        self.failed.insert(addr, error.clone());
        self.waiting.push_back(addr);
        true
    }

    /// There is a link to it whatever discovery says: its trial is over.
    pub(crate) fn passed(&mut self, addr: SocketAddr) {
        self.open.remove(&addr);
        self.failed.remove(&addr);
        self.waiting.retain(|waiting| *waiting != addr);
    }

    /// What is known of those that have no link now, for a start that waits.
    pub(crate) fn idle(&self) -> impl Iterator<Item = (SocketAddr, Seed)> {
        let state = |addr| self.failed.get(addr).map_or(Seed::Dialing, |error| Seed::Failed(error.clone()));
        self.waiting.iter().map(move |addr| (*addr, state(addr)))
    }
}

/// How many addresses that never answered are dialled at one time. More seeds than a sensible configuration has, and few enough sockets.
const AT_ONCE: usize = 64;
/// How many may be opened at once after a rest.
const BURST: u32 = 64;
/// Between two of them beyond that. Each is dialled twice, once for each lane: 32 dials a second.
const PACE: Duration = Duration::from_micros(62_500);

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        ([10, 0, (n >> 8) as u8, n as u8], 3320).into()
    }

    fn open(trials: &mut Trials, now: Instant) -> Vec<SocketAddr> {
        std::iter::from_fn(|| trials.poll(now)).collect()
    }

    #[test]
    fn a_short_list_is_dialled_at_once_and_its_links_stay_open() {
        let (mut trials, now) = (Trials::default(), Instant::now());
        assert!(trials.name((0..AT_ONCE as u16).map(addr)).is_empty());
        assert_eq!(open(&mut trials, now).len(), AT_ONCE);
        assert!(!trials.failed(addr(3), &ConnectError::TimedOut), "nobody waits for its turn");
        assert_eq!(trials.idle().count(), 0);
        assert_eq!(trials.poll_timeout(), None);
    }

    #[test]
    fn a_long_list_is_dialled_a_few_at_a_time_at_a_bounded_rate() {
        let (mut trials, start) = (Trials::default(), Instant::now());
        trials.name((0..1_000).map(addr));
        let first = open(&mut trials, start);
        assert_eq!(first.len(), AT_ONCE);
        assert_eq!(trials.poll_timeout(), None, "time alone opens no more");
        let (mut now, mut opened) = (start, first);
        let mut seen: BTreeSet<_> = opened.iter().copied().collect();
        // Every dial is refused at once: the worst case for the rate.
        while now < start + Duration::from_secs(10) {
            for addr in opened {
                assert!(trials.failed(addr, &ConnectError::TimedOut));
            }
            now = trials.poll_timeout().unwrap();
            opened = open(&mut trials, now);
            seen.extend(&opened);
        }
        let (in_ten_seconds, rate) = (seen.len() - AT_ONCE, 10_000_000 / PACE.as_micros() as usize);
        assert!((rate - 1..=rate + 1).contains(&in_ten_seconds), "{in_ten_seconds} after the first, not {rate}");
    }

    #[test]
    fn every_address_of_a_long_list_has_its_turn_again_and_again() {
        let (mut trials, mut now) = (Trials::default(), Instant::now());
        trials.name((0..200).map(addr));
        let mut turns = BTreeMap::<_, usize>::new();
        for _ in 0..600 {
            now += PACE;
            for addr in open(&mut trials, now) {
                *turns.entry(addr).or_default() += 1;
                assert!(trials.failed(addr, &ConnectError::TimedOut));
            }
        }
        assert_eq!(turns.len(), 200);
        assert!(turns.values().all(|turns| (2..=4).contains(turns)), "{turns:?}");
    }

    #[test]
    fn one_that_answers_takes_no_place() {
        let (mut trials, now) = (Trials::default(), Instant::now());
        trials.name((0..80).map(addr));
        open(&mut trials, now);
        trials.passed(addr(0));
        trials.passed(addr(70));
        let next = open(&mut trials, now + PACE);
        assert_eq!(next, [addr(64)]);
        assert!(trials.idle().all(|(waiting, _)| waiting != addr(70)));
        trials.name((0..80).map(addr));
        assert!(trials.idle().all(|(waiting, _)| waiting != addr(0)), "named before, it has had its trial");
    }

    #[test]
    fn one_that_is_named_no_longer_is_given_up_and_one_named_again_is_tried_again() {
        let (mut trials, now) = (Trials::default(), Instant::now());
        trials.name([addr(1), addr(2)]);
        open(&mut trials, now);
        assert_eq!(trials.name([addr(2)]), [addr(1)]);
        assert!(trials.name([addr(1), addr(2)]).is_empty());
        assert_eq!(open(&mut trials, now), [addr(1)]);
    }

    #[test]
    fn a_start_hears_of_those_whose_turn_is_over_or_still_to_come() {
        let (mut trials, now) = (Trials::default(), Instant::now());
        trials.name((0..66).map(addr));
        open(&mut trials, now);
        trials.failed(addr(5), &ConnectError::TimedOut);
        let idle: BTreeMap<_, _> = trials.idle().collect();
        assert_eq!(idle.len(), 3);
        assert!(matches!(idle[&addr(5)], Seed::Failed(ConnectError::TimedOut)));
        assert!(matches!(idle[&addr(64)], Seed::Dialing));
    }
}
