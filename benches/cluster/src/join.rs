//! How many keys move when a node joins, and between whom.

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

/// What a join moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Who.
    pub subject: Subject,
    /// How many nodes there are then.
    pub nodes: usize,
    /// The keys that the joiner takes, in those of the mean node then.
    pub taken: f64,
    /// The keys that move between others.
    pub between_others: usize,
}

/// Measures, prints and stores.
///
/// # Errors
///
/// The results cannot be stored.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let keys = keys(args.keys);
    let mut joins = Vec::new();
    for subject in Subject::ALL {
        let mut before = subject.owners(&members(2), &keys);
        for nodes in 3..=MOST {
            // The joiner is the last by name, so that the others keep their places.
            let after = subject.owners(&members(nodes), &keys);
            joins.push(compare(subject, nodes, &before, &after));
            before = after;
        }
        let own = joins.iter().filter(|join| join.subject == subject);
        let most = own.clone().map(|join| join.taken).fold(0.0, f64::max);
        let between: usize = own.map(|join| join.between_others).sum();
        println!("{subject:<28} a joiner takes at most {most:.3} of its share; {between} keys move between others");
    }
    records::write(out, FILE, &joins)
}

fn compare(subject: Subject, nodes: usize, before: &[u16], after: &[u16]) -> Join {
    let moved = || before.iter().zip(after).filter(|(was, is)| was != is);
    let taken = moved().filter(|(_, is)| usize::from(**is) == nodes - 1).count();
    let share = before.len() as f64 / nodes as f64;
    Join { subject, nodes, taken: taken as f64 / share, between_others: moved().count() - taken }
}

/// The file of [`Join`]s.
pub const FILE: &str = "join.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_joiner_takes_is_told_from_what_moves_between_others() {
        let join = compare(Subject::Ring, 3, &[0, 0, 0, 1, 1, 1], &[0, 2, 1, 1, 2, 2]);
        assert_eq!((join.taken, join.between_others), (1.5, 1));
    }
}
