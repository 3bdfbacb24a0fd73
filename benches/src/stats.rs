//! Medians and percentiles.

/// Returns the middle of some numbers, or the mean of the two in the middle; of none, not a number.
#[must_use]
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// Returns the mean of some numbers; of none, not a number.
#[must_use]
pub fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Returns the least sample that a share of all samples does not exceed: `0.99` for the 99th percentile. Reorders the samples.
///
/// # Panics
///
/// Panics if there are no samples.
#[must_use]
pub fn percentile(samples: &mut [u32], share: f64) -> u32 {
    let rank = (share * samples.len() as f64).ceil() as usize;
    let at = rank.clamp(1, samples.len()) - 1;
    *samples.select_nth_unstable(at).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_in_any_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_percentile_is_a_sample_that_enough_others_do_not_exceed() {
        let mut samples: Vec<u32> = (1..=1_000).rev().collect();
        assert_eq!(percentile(&mut samples, 0.5), 500);
        assert_eq!(percentile(&mut samples, 0.99), 990);
        assert_eq!(percentile(&mut samples, 0.999), 999);
        assert_eq!(percentile(&mut samples, 1.0), 1_000);
        assert_eq!(percentile(&mut [5], 0.5), 5);
    }
}
