//! What was measured, kept as JSON: a file for each measurement, written anew each time.

use std::{fs, path::Path};

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};

/// Writes the records of a measurement into a folder.
///
/// # Errors
///
/// The file cannot be written.
pub fn write<T: Serialize>(folder: &Path, name: &str, records: &[T]) -> anyhow::Result<()> {
    let path = folder.join(name);
    let text = serde_json::to_vec_pretty(records)?;
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the records of a measurement.
///
/// # Errors
///
/// It was not made, or the file holds something else.
pub fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> anyhow::Result<Vec<T>> {
    let path = folder.join(name);
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} holds other records", path.display()))
}

/// Returns the middle of some numbers, the lower one of two; of none, not a number.
#[must_use]
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_in_any_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn what_was_not_measured_cannot_be_read() {
        assert!(read::<f64>(Path::new("no/such/folder"), "speed.json").is_err());
    }
}
