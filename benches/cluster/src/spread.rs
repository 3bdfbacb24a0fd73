//! How much more than its share the busiest node has, with 3 to 64 nodes.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    records,
    subject::{MOST, Subject, keys, members},
};

/// How to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many keys are placed.
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
}

/// How even a subject is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Who.
    pub subject: Subject,
    /// How many nodes.
    pub nodes: usize,
    /// The keys of the busiest node, in those of the mean one.
    pub busiest: f64,
}

/// Measures, prints and stores.
///
/// # Errors
///
/// The results cannot be stored.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let keys = keys(args.keys);
    let mut spreads = Vec::new();
    for subject in Subject::ALL {
        for nodes in 3..=MOST {
            let mut owned = vec![0_u32; nodes];
            subject.owners(&members(nodes), &keys).into_iter().for_each(|owner| owned[usize::from(owner)] += 1);
            let busiest = busiest(&owned);
            spreads.push(Spread { subject, nodes, busiest });
        }
        let worst = spreads.iter().filter(|spread| spread.subject == subject).map(|spread| spread.busiest);
        println!("{subject:<28} the busiest of 3 to {MOST} nodes has {:.3} of the mean", worst.fold(0.0, f64::max));
    }
    records::write(out, FILE, &spreads)
}

fn busiest(owned: &[u32]) -> f64 {
    let most = owned.iter().max().copied().unwrap_or(0);
    f64::from(most) * owned.len() as f64 / f64::from(owned.iter().sum::<u32>())
}

/// The file of [`Spread`]s.
pub const FILE: &str = "spread.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_is_told_in_what_the_mean_one_has() {
        assert_eq!(busiest(&[10, 20, 30]), 1.5);
        assert_eq!(busiest(&[7]), 1.0);
    }
}
