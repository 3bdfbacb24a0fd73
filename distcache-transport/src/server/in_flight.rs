//! What running requests hold, over all connections of a server or on one.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts running requests and the bytes of their payloads, up to a limit of each. Who gets no place is told so at once; nobody waits.
#[derive(Debug)]
pub(super) struct InFlight {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    max_requests: usize,
    max_bytes: usize,
}

impl InFlight {
    pub(super) const fn new(max_requests: usize, max_bytes: usize) -> Self {
        Self { requests: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_requests, max_bytes }
    }

    /// Takes a place for a request with that much payload, if there is one.
    pub(super) fn try_take(&self, bytes: usize) -> bool {
        if !add_up_to(&self.requests, 1, self.max_requests) {
            return false;
        }
        let taken = add_up_to(&self.bytes, bytes, self.max_bytes);
        if !taken {
            self.requests.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// Gives a place back.
    pub(super) fn give_back(&self, bytes: usize) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Added first and taken back if that was too much: one operation on the way that is nearly always taken.
fn add_up_to(counter: &AtomicUsize, count: usize, limit: usize) -> bool {
    let before = counter.fetch_add(count, Ordering::Relaxed);
    let fits = before.saturating_add(count) <= limit;
    if !fits {
        counter.fetch_sub(count, Ordering::Relaxed);
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_with_requests_or_with_bytes_and_come_back() {
        let in_flight = InFlight::new(2, 10);
        assert!(!in_flight.try_take(11), "more than there is");
        assert!(in_flight.try_take(10));
        assert!(!in_flight.try_take(1), "no bytes are left");
        assert!(in_flight.try_take(0));
        assert!(!in_flight.try_take(0), "no requests are left");
        in_flight.give_back(10);
        assert!(in_flight.try_take(10));
        in_flight.give_back(10);
        in_flight.give_back(0);
        assert_eq!((in_flight.requests.into_inner(), in_flight.bytes.into_inner()), (0, 0));
    }
}
