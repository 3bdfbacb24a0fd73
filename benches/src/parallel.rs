//! Work on all processors, for what is not timed.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Does something with each thing, in their order but several at once, and returns what comes of it, in their order.
pub fn map<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(things.len())));
    thread::scope(|scope| {
        for _ in 0..processors() {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(thing) = things.get(at) else { break };
                    let result = work(thing);
                    done.lock().expect("nothing panics under the lock").push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nothing panicked under the lock");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Returns how many processors this machine has.
#[must_use]
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_things() {
        let things: Vec<u64> = (0..100).collect();
        assert_eq!(map(&things, |thing| thing * 2), (0..200).step_by(2).collect::<Vec<_>>());
        assert!(map(&[], |thing: &u8| *thing).is_empty());
    }
}
