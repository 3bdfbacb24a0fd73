//! `cluster-bench figures` and `cluster-bench report`: what was measured, for a program and for readers.

use std::{fmt::Write, fs, path::Path};

use anyhow::Context;
use serde::Serialize;

use crate::{
    join::{self, Join},
    records::{self, median},
    speed::{self, Speed},
    spread::{self, Spread},
    subject::Subject,
};

/// The figures of DistCache's ring that have targets.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figures {
    /// Nanoseconds of a look-up with 64 nodes.
    pub look_up_ns: f64,
    /// Milliseconds of a rebuild with 64 nodes.
    pub rebuild_ms: f64,
    /// The busiest of 3 to 64 nodes, in the mean one.
    pub busiest_of_mean: f64,
    /// The keys that the greediest joiner takes, in its share.
    pub join_takes_of_share: f64,
    /// The keys that move between others at any join.
    pub join_moves_between_others: usize,
}

/// All that was measured.
struct Results {
    speeds: Vec<Speed>,
    spreads: Vec<Spread>,
    joins: Vec<Join>,
}

/// Prints [`Figures`] as JSON.
///
/// # Errors
///
/// Something was not measured.
pub fn figures(out: &Path) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&Results::read(out)?.figures(Subject::Ring)?)?);
    Ok(())
}

/// Writes `CLUSTER.md` into a folder.
///
/// # Errors
///
/// Something was not measured, or the page cannot be written.
pub fn run(out: &Path, folder: &Path) -> anyhow::Result<()> {
    let page = page(&Results::read(out)?)?;
    let path = folder.join("CLUSTER.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

impl Results {
    fn read(out: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            speeds: records::read(out, speed::FILE)?,
            spreads: records::read(out, spread::FILE)?,
            joins: records::read(out, join::FILE)?,
        })
    }

    fn speed(&self, subject: Subject) -> anyhow::Result<&Speed> {
        let speed = self.speeds.iter().find(|speed| speed.subject == subject);
        speed.with_context(|| format!("the speed of {subject} was not measured"))
    }

    fn figures(&self, subject: Subject) -> anyhow::Result<Figures> {
        let speed = self.speed(subject)?;
        let spreads = self.spreads.iter().filter(|spread| spread.subject == subject);
        let joins = || self.joins.iter().filter(|join| join.subject == subject);
        Ok(Figures {
            look_up_ns: median(&speed.look_up_ns),
            rebuild_ms: median(&speed.rebuild_ms),
            busiest_of_mean: spreads.map(|spread| spread.busiest).fold(0.0, f64::max),
            join_takes_of_share: joins().map(|join| join.taken).fold(0.0, f64::max),
            join_moves_between_others: joins().map(|join| join.between_others).sum(),
        })
    }
}

fn page(results: &Results) -> anyhow::Result<String> {
    let mut page = String::from(HEAD);
    for subject in Subject::ALL {
        let figures = results.figures(subject)?;
        writeln!(
            page,
            "| {subject} | {:.0} | {:.3} | {:.3} | {:.3} | {} |",
            figures.look_up_ns,
            figures.rebuild_ms,
            figures.busiest_of_mean,
            figures.join_takes_of_share,
            figures.join_moves_between_others,
        )?;
    }
    let speed = results.speed(Subject::Ring)?;
    let fastest = speed.rebuild_ms.iter().copied().fold(f64::INFINITY, f64::min);
    writeln!(
        page,
        "\nTimes are medians of {} and {} rounds, in which the subjects take turns, and include what the machine did besides: the fastest rebuild of \
         the ring took {fastest:.1} ms. Through a pointer to the `Placement` trait a look-up of the ring takes {:.0} ns.",
        speed.look_up_ns.len(),
        speed.rebuild_ms.len(),
        median(&speed.dyn_ns),
    )?;
    page.push_str("\n## The busiest node, in what the mean one has\n\n| nodes |");
    let counts: Vec<usize> = vec![3, 4, 5, 8, 12, 16, 24, 32, 48, 64];
    counts.iter().try_for_each(|nodes| write!(page, " {nodes} |"))?;
    page.push_str("\n| --- |");
    counts.iter().for_each(|_| page.push_str(" ---: |"));
    for subject in Subject::ALL {
        write!(page, "\n| {subject} |")?;
        for nodes in &counts {
            let spread = results.spreads.iter().find(|spread| (spread.subject, spread.nodes) == (subject, *nodes));
            write!(page, " {:.3} |", spread.with_context(|| format!("{nodes} nodes were not measured"))?.busiest)?;
        }
    }
    page.push_str(FOOT);
    Ok(page)
}

const HEAD: &str = "# Who owns a key

Written by `cargo xtask bench cluster`; `cargo xtask targets cluster` checks the same figures and those of real processes.

The ring is what nodes use. Beside it, behind the same `Placement` trait, rendezvous hashing: it asks every member for every key, and is as
even as chance allows. And the `hashring` crate as its documentation uses it, with one point a node; DistCache takes only its search.

Look-up and rebuild are with 64 nodes. A look-up makes a key of 24 bytes, hashes it and finds its owner; the next one waits for it, and takes
a key that was not asked for before. The other columns are the worst of 3 to 64 nodes called `cache-00` and so on, over a
million keys; of 64 nodes the sample itself adds some 2 %, as the row of rendezvous hashing shows. The tests of `distcache-cluster` prove the same of whole rings without samples.

| | look-up, ns | rebuild, ms | busiest / mean | a joiner takes, of its share | keys moved between others |
| --- | ---: | ---: | ---: | ---: | ---: |
";

const FOOT: &str = "

2,048 points a node leave one set of 64 names in some 2,600 with a node above 1.10; see `POINTS_PER_NODE`.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let speed = |subject| Speed {
            subject,
            look_up_ns: vec![90.0, 50.0, 60.0],
            dyn_ns: vec![61.0],
            rebuild_ms: vec![12.0, 9.0, 10.0],
        };
        let spread = |subject, nodes| Spread { subject, nodes, busiest: 1.0 + nodes as f64 / 1000.0 };
        let join = |subject, nodes| Join { subject, nodes, taken: 1.2 - nodes as f64 / 1000.0, between_others: 1 };
        let each = || Subject::ALL.into_iter().flat_map(|subject| (3..=64).map(move |nodes| (subject, nodes)));
        Results {
            speeds: Subject::ALL.map(speed).to_vec(),
            spreads: each().map(|(subject, nodes)| spread(subject, nodes)).collect(),
            joins: each().map(|(subject, nodes)| join(subject, nodes)).collect(),
        }
    }

    #[test]
    fn figures_are_medians_of_times_and_the_worst_of_all_sizes() {
        let figures = serde_json::to_string(&results().figures(Subject::Ring).unwrap()).unwrap();
        assert_eq!(
            figures,
            r#"{"look-up-ns":60.0,"rebuild-ms":10.0,"busiest-of-mean":1.064,"join-takes-of-share":1.197,"join-moves-between-others":62}"#
        );
    }

    #[test]
    fn a_page_is_not_written_of_half_a_measurement() {
        let page = page(&results()).unwrap();
        assert!(page.contains("| DistCache's ring | 60 | 10.000 | 1.064 | 1.197 | 62 |"), "{page}");
        let mut half = results();
        half.spreads.retain(|spread| spread.nodes < 64);
        assert!(super::page(&half).is_err());
    }
}
