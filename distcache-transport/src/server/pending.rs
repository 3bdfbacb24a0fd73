//! Streams in the handshake, counted by where they come from.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Keeps one address from taking every place in the handshake. Holds an entry for each address that has a stream there, and no others.
#[derive(Debug)]
pub(super) struct PendingByIp {
    streams: Mutex<HashMap<IpAddr, usize>>,
    limit: usize,
}

impl PendingByIp {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { streams: Mutex::default(), limit })
    }

    /// Takes a place until the returned value is dropped, or `None` if that address has as many as it may have.
    pub(super) fn try_enter(self: &Arc<Self>, ip: IpAddr) -> Option<PendingStream> {
        // An IPv4 address is the same one behind a socket that takes both kinds.
        let ip = ip.to_canonical();
        let mut streams = self.lock();
        let count = streams.get(&ip).copied().unwrap_or_default();
        if count >= self.limit {
            return None;
        }
        streams.insert(ip, count + 1);
        drop(streams);
        Some(PendingStream { all: Arc::clone(self), ip })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's place.
#[derive(Debug)]
pub(super) struct PendingStream {
    all: Arc<PendingByIp>,
    ip: IpAddr,
}

impl Drop for PendingStream {
    fn drop(&mut self) {
        let mut streams = self.all.lock();
        match streams.get_mut(&self.ip) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(streams.remove(&self.ip)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_own_places_whatever_socket_it_comes_through() {
        let pending = PendingByIp::new(2);
        let first = pending.try_enter(ip("10.0.0.1")).unwrap();
        let second = pending.try_enter(ip("::ffff:10.0.0.1")).unwrap();
        assert!(pending.try_enter(ip("10.0.0.1")).is_none());
        let other = pending.try_enter(ip("10.0.0.2"));
        assert!(other.is_some());
        drop(first);
        let third = pending.try_enter(ip("10.0.0.1"));
        assert!(third.is_some());
        drop((second, third, other));
        assert!(pending.lock().is_empty(), "nothing is kept of addresses that are gone");
    }
}
