//! Where chance comes from: [`Entropy`].

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::tls::fill_random;

/// Gives the random numbers that spread waits and tell links apart: the system's by default, or those of a seed.
///
/// A seed is for simulations: a node that has one does the same things in the same order each time. What keeps strangers out
/// (nonces, secrets, TLS) never comes from it.
#[derive(Clone, Default)]
pub struct Entropy {
    seeded: Option<Arc<Mutex<StdRng>>>,
}

impl Entropy {
    /// Makes a source whose numbers follow from a seed. Clones share it.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { seeded: Some(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))) }
    }

    /// Tells whether the numbers follow from a seed.
    #[must_use]
    pub const fn is_seeded(&self) -> bool {
        self.seeded.is_some()
    }

    /// Fills a buffer, or leaves it if the system has no randomness.
    pub(crate) fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        match &self.seeded {
            None => fill_random(buffer),
            Some(rng) => {
                rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(buffer);
                Ok(())
            }
        }
    }
}

/// Two are equal if they give each other's numbers.
impl PartialEq for Entropy {
    fn eq(&self, other: &Self) -> bool {
        match (&self.seeded, &other.seeded) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            _ => false,
        }
    }
}

impl Eq for Entropy {}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entropy").field("seeded", &self.is_seeded()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(entropy: &Entropy) -> [u8; 16] {
        let mut buffer = [0; 16];
        entropy.fill(&mut buffer).unwrap();
        buffer
    }

    #[test]
    fn a_seed_gives_the_same_numbers_again_and_never_the_same_twice() {
        let (first, second) = (Entropy::seeded(7), Entropy::seeded(7));
        let numbers = [draw(&first), draw(&first)];
        assert_eq!(numbers, [draw(&second), draw(&second)]);
        assert_ne!(numbers[0], numbers[1]);
        assert_ne!(numbers[0], draw(&Entropy::seeded(8)));
        assert_ne!(draw(&Entropy::default()), draw(&Entropy::default()));
    }
}
