//! What happened, in order: a hash of all of it, and the words for who wants to read them.

use std::hash::{DefaultHasher, Hasher};

/// Takes note of everything that happens in one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: DefaultHasher,
    loud: bool,
    events: u64,
}

impl Trace {
    pub(crate) fn new(loud: bool) -> Self {
        Self { loud, ..Self::default() }
    }

    /// Notes an event by numbers alone: there are too many of its kind for words.
    pub(crate) fn note(&mut self, numbers: &[u64]) {
        self.events += 1;
        numbers.iter().for_each(|number| self.hash.write_u64(*number));
    }

    /// Notes an event by its time and words.
    pub(crate) fn say(&mut self, at: u64, words: impl FnOnce() -> String) {
        let words = words();
        self.events += 1;
        self.hash.write_u64(at);
        self.hash.write(words.as_bytes());
        if self.loud {
            println!("{:>11.6}  {words}", at as f64 / 1e6);
        }
    }

    pub(crate) const fn is_loud(&self) -> bool {
        self.loud
    }

    pub(crate) fn digest(&self) -> (u64, u64) {
        (self.hash.finish(), self.events)
    }
}
