//! Ranks that are asked for as Zipf's law says.

use crate::rng::Rng;

/// The ranks `0..n`, where the rank `r` is as likely as `1 / (r + 1)^s`.
///
/// By rejection from an inverted hat (Hörmann and Derflinger, ACM TOMACS 1996): exact, without a table, and constant in time.
#[derive(Debug, Clone)]
pub struct Zipf {
    ranks: f64,
    exponent: f64,
    low: f64,
    high: f64,
    squeeze: f64,
}

impl Zipf {
    /// Creates the distribution over a number of ranks.
    ///
    /// # Panics
    ///
    /// Panics if there are no ranks, or the exponent is not between 0 and 1.
    #[must_use]
    pub fn new(ranks: u64, exponent: f64) -> Self {
        assert!(ranks > 0 && exponent > 0.0 && exponent < 1.0, "zipf of {ranks} ranks by {exponent}");
        let mut zipf = Self { ranks: ranks as f64, exponent, low: 0.0, high: 0.0, squeeze: 0.0 };
        zipf.low = zipf.area(1.5) - 1.0;
        zipf.high = zipf.area(zipf.ranks + 0.5);
        zipf.squeeze = 2.0 - zipf.area_inverted(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    /// Draws a rank.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        loop {
            let area = self.high + rng.next_f64() * (self.low - self.high);
            let at = self.area_inverted(area);
            let rank = at.round().clamp(1.0, self.ranks);
            if rank - at <= self.squeeze || area >= self.area(rank + 0.5) - self.height(rank) {
                return rank as u64 - 1;
            }
        }
    }

    /// The hat's height at a place: the likelihood, but for a factor.
    fn height(&self, at: f64) -> f64 {
        at.powf(-self.exponent)
    }

    /// The area under the hat up to a place.
    fn area(&self, to: f64) -> f64 {
        (to.powf(1.0 - self.exponent) - 1.0) / (1.0 - self.exponent)
    }

    fn area_inverted(&self, area: f64) -> f64 {
        (1.0 + area * (1.0 - self.exponent)).max(0.0).powf(1.0 / (1.0 - self.exponent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_as_frequent_as_the_law_says() {
        const RANKS: u64 = 1_000;
        const DRAWS: u32 = 1_000_000;
        let (zipf, mut rng) = (Zipf::new(RANKS, 0.99), Rng::new(3));
        let mut counts = [0_u32; RANKS as usize];
        for _ in 0..DRAWS {
            counts[zipf.draw(&mut rng) as usize] += 1;
        }
        let sum: f64 = (1..=RANKS).map(|rank| (rank as f64).powf(-0.99)).sum();
        for rank in [1_u64, 2, 3, 10, 100] {
            let expected = (rank as f64).powf(-0.99) / sum;
            let got = f64::from(counts[rank as usize - 1]) / f64::from(DRAWS);
            assert!((got / expected - 1.0).abs() < 0.05, "rank {rank}: {got} instead of {expected}");
        }
        assert!(counts[RANKS as usize - 1] > 0, "the last rank is drawn");
    }

    #[test]
    fn a_single_rank_is_always_drawn() {
        let (zipf, mut rng) = (Zipf::new(1, 0.5), Rng::new(3));
        assert!((0..100).all(|_| zipf.draw(&mut rng) == 0));
    }
}
