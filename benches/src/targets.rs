//! `core-bench targets`: a line for each target of the core area, from what was measured.

use std::{fmt, path::Path};

use crate::{
    collide::Choice,
    contest::Workload,
    flight::Loader,
    hit_ratio::Summary,
    memory::Shape,
    peers::Candidate,
    results::{Results, paired_ratio},
    stats,
};

/// A target and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    area: &'static str,
    name: String,
    bound: Bound,
    figure: Result<f64, &'static str>,
}

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// More than this.
    MoreThan(f64),
    /// This or less.
    AtMost(f64),
    /// This.
    Exactly(f64),
}

/// Prints the line of each target.
///
/// # Errors
///
/// What was measured cannot be read.
pub fn run(out: &Path) -> anyhow::Result<()> {
    targets(&Results::read(out)?).iter().for_each(|target| println!("{target}"));
    Ok(())
}

/// Returns every target of the core area.
#[must_use]
pub fn targets(results: &Results) -> Vec<Target> {
    let mut targets = Vec::new();
    targets.extend(get_hit(results));
    targets.extend(mixed(results));
    targets.extend(hit_ratio(results));
    targets.extend(memory(results));
    targets.extend(flight(results));
    targets.extend(collide(results));
    targets.extend(build(results));
    targets
}

impl Target {
    /// Makes a target of a figure, which may not have been measured.
    #[must_use]
    pub fn new(area: &'static str, name: impl Into<String>, bound: Bound, figure: Option<f64>) -> Self {
        let figure = figure.filter(|figure| !figure.is_nan()).ok_or(NOT_MEASURED);
        Self { area, name: name.into(), bound, figure }
    }

    /// Makes a target of which nothing can be said.
    #[must_use]
    pub fn skipped(area: &'static str, name: impl Into<String>, why: &'static str) -> Self {
        Self { area, name: name.into(), bound: Bound::AtLeast(0.0), figure: Err(why) }
    }

    /// Says whether it was measured, and is not reached.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        self.figure.is_ok_and(|figure| !self.bound.holds(figure))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { area, name, bound, figure } = self;
        match figure {
            Err(why) => write!(f, "target {area} {name} - {bound} skipped: {why}"),
            Ok(figure) => {
                let verdict = if bound.holds(*figure) { "reached" } else { "missed" };
                write!(f, "target {area} {name} {figure:.2} {bound} {verdict}")
            }
        }
    }
}

impl Bound {
    /// Judges the figure to the two places that are printed, so that a line never contradicts itself.
    fn holds(self, figure: f64) -> bool {
        let figure = (figure * 100.0).round() / 100.0;
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::MoreThan(bound) => figure > bound,
            Self::AtMost(bound) => figure <= bound,
            Self::Exactly(bound) => figure == bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">={bound:.2}"),
            Self::MoreThan(bound) => write!(f, ">{bound:.2}"),
            Self::AtMost(bound) => write!(f, "<={bound:.2}"),
            Self::Exactly(bound) => write!(f, "=={bound:.2}"),
        }
    }
}

/// core.1: hits by threads.
fn get_hit(results: &Results) -> Vec<Target> {
    let line = |threads: usize, against: &str, bound, peers: &[Candidate]| {
        let name = format!("get-hit-{threads}t{against}");
        Target::new("core.1", name, Bound::AtLeast(bound), speed_ratio(results, Workload::GetHit, threads, peers))
    };
    let mut lines = Vec::new();
    for (threads, bound) in [(1, 1.3), (2, 1.5), (8, 1.5)] {
        lines.push(line(threads, "", bound, GET_HIT_PEERS));
    }
    for (threads, bound) in [(1, 1.3), (2, 1.1), (8, 1.1)] {
        lines.push(line(threads, "-tinyufo", bound, &[Candidate::TinyUfo]));
    }
    lines
}

/// core.2: gets and inserts by threads, and the time of the slowest gets.
fn mixed(results: &Results) -> Vec<Target> {
    let mut lines = Vec::new();
    for workload in [Workload::Mix95, Workload::Mix75] {
        for threads in [2, 8] {
            let name = format!("{}-{threads}t", workload.name());
            let ratio = speed_ratio(results, workload, threads, Candidate::ALL);
            lines.push(Target::new("core.2", name, Bound::AtLeast(1.1), ratio));
        }
    }
    for threads in [2, 8] {
        let name = format!("p999-{threads}t");
        lines.push(Target::new("core.2", name, Bound::AtMost(1.0), tail_ratio(results, threads)));
    }
    lines
}

/// How many times as fast as the fastest of some peers ours is.
fn speed_ratio(results: &Results, workload: Workload, threads: usize, peers: &[Candidate]) -> Option<f64> {
    let ours = results.speed(workload, threads, Candidate::Ours)?;
    let peers = peers.iter().filter(|peer| peer.is_peer());
    let ratios = peers.filter_map(|peer| Some(paired_ratio(ours, results.speed(workload, threads, *peer)?)));
    ratios.min_by(f64::total_cmp)
}

/// How many times as long as with the best peer one get of a thousand takes at least.
fn tail_ratio(results: &Results, threads: usize) -> Option<f64> {
    let ours = &results.tail(threads, Candidate::Ours)?.p999;
    let peers = Candidate::ALL.iter().filter(|peer| peer.is_peer());
    let ratios = peers.filter_map(|peer| Some(paired_ratio(ours, &results.tail(threads, *peer)?.p999)));
    ratios.max_by(f64::total_cmp)
}

/// core.3: hits on traces.
fn hit_ratio(results: &Results) -> [Target; 3] {
    let summary = |candidate| Summary::new(&results.hit_ratio, candidate);
    let ours = summary(Candidate::Ours);
    let peers = Candidate::ALL.iter().filter(|peer| peer.is_peer());
    let best = peers.filter_map(|peer| Some(summary(*peer)?.mean)).max_by(f64::total_cmp);
    let lead = ours.as_ref().zip(best).map(|(ours, best)| ours.mean - best);
    let regret = ours.as_ref().map(|ours| ours.mean_regret);
    let worst = ours.as_ref().map(|ours| ours.worst_regret);
    [
        Target::new("core.3", "hit-ratio-mean-above-every-peer", Bound::MoreThan(0.0), lead),
        Target::new("core.3", "hit-ratio-regret-mean", Bound::AtMost(0.5), regret),
        Target::new("core.3", "hit-ratio-regret-worst", Bound::AtMost(3.5), worst),
    ]
}

/// core.4: memory, in the shape that is worse.
fn memory(results: &Results) -> [Target; 2] {
    let bytes = |shape, cache| Some(stats::median(&results.overhead(shape, cache)?.filled));
    let worse = |figure: &dyn Fn(Shape) -> Option<f64>| {
        let figures = Shape::ALL.iter().filter_map(|shape| Some((shape.id(), figure(*shape)?)));
        figures
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or((String::new(), None), |(shape, figure)| (format!("-{shape}"), Some(figure)))
    };
    let (shape, overhead) = worse(&|shape| bytes(shape, Candidate::Ours));
    let (shape_of_ratio, ratio) = worse(&|shape| {
        let peers = Candidate::ALL.iter().filter(|peer| peer.is_peer());
        let leanest = peers.filter_map(|peer| bytes(shape, *peer)).min_by(f64::total_cmp)?;
        Some(bytes(shape, Candidate::Ours)? / leanest)
    });
    [
        Target::new("core.4", format!("overhead-bytes{shape}"), Bound::AtMost(40.0), overhead),
        Target::new("core.4", format!("overhead-vs-leanest-peer{shape_of_ratio}"), Bound::AtMost(1.0), ratio),
    ]
}

/// core.5: many who wait for one load.
fn flight(results: &Results) -> [Target; 2] {
    let ours = results.storms(Loader::Ours);
    let loads = ours.map(|storms| storms.most_loads as f64);
    let ratio = ours.zip(results.storms(Loader::Moka)).map(|(ours, moka)| paired_ratio(&ours.rounds, &moka.rounds));
    [
        Target::new("core.5", "loads", Bound::Exactly(1.0), loads),
        Target::new("core.5", "time-vs-moka", Bound::AtMost(0.7), ratio),
    ]
}

/// core.6: keys that were chosen to collide.
fn collide(results: &Results) -> [Target; 2] {
    let random = results.spread(Choice::Random);
    [Choice::Xxh3, Choice::Fnv].map(|keys| {
        let ratio = random.zip(results.spread(keys)).map(|(random, chosen)| paired_ratio(chosen, random));
        Target::new("core.6", format!("collide-p99-{}", keys.name()), Bound::AtMost(2.0), ratio)
    })
}

/// core.7: the build.
fn build(results: &Results) -> [Target; 2] {
    let build = results.clean_build.first();
    let seconds = build.map(|build| stats::median(&build.seconds));
    let dependencies = build.map(|build| build.dependencies as f64);
    [
        Target::new("core.7", "clean-build-seconds", Bound::AtMost(5.0), seconds),
        Target::new("core.7", "dependencies", Bound::Exactly(0.0), dependencies),
    ]
}

/// Whom hits are measured against, but for TinyUFO, against which the bar is another.
const GET_HIT_PEERS: &[Candidate] = &[
    Candidate::Moka,
    Candidate::Quick,
    Candidate::Quick64,
    Candidate::FoyerS3fifo,
    Candidate::FoyerLfu,
    Candidate::FoyerLru,
];
const NOT_MEASURED: &str = "not measured";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clean_build::CleanBuild, memory::Overhead, throughput::Speed};

    fn speed(cache: Candidate, rounds: &[f64]) -> Speed {
        Speed { workload: Workload::GetHit, threads: 2, cache, rounds: rounds.to_vec() }
    }

    fn line(results: &Results, name: &str) -> String {
        let lines = targets(results).into_iter().map(|target| target.to_string());
        lines.filter(|line| line.contains(name)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_line_tells_the_figure_the_bound_and_the_verdict() {
        let throughput = vec![speed(Candidate::Ours, &[1.62]), speed(Candidate::Moka, &[1.0])];
        let mut results = Results { throughput, ..Results::default() };
        assert_eq!(line(&results, "get-hit-2t "), "target core.1 get-hit-2t 1.62 >=1.50 reached");
        results.throughput.push(speed(Candidate::Quick, &[1.5]));
        assert_eq!(line(&results, "get-hit-2t "), "target core.1 get-hit-2t 1.08 >=1.50 missed");
    }

    #[test]
    fn what_was_not_measured_is_skipped_and_tells_why() {
        let lines = targets(&Results::default());
        assert!(lines.iter().all(|target| target.to_string().ends_with("skipped: not measured")));
        assert!(!lines.iter().any(Target::is_missed));
        let ours_alone = Results { throughput: vec![speed(Candidate::Ours, &[1.0])], ..Results::default() };
        assert!(line(&ours_alone, "get-hit-2t ").ends_with("skipped: not measured"));
    }

    #[test]
    fn lru_in_mutexes_is_no_rival_for_hits_and_one_for_the_rest() {
        let mut ours = speed(Candidate::Ours, &[1.0]);
        let mut lru = speed(Candidate::Lru64, &[1.0]);
        let results = Results { throughput: vec![ours.clone(), lru.clone()], ..Results::default() };
        assert!(line(&results, "get-hit-2t ").contains("skipped"));
        (ours.workload, lru.workload) = (Workload::Mix95, Workload::Mix95);
        let results = Results { throughput: vec![ours, lru], ..Results::default() };
        assert_eq!(line(&results, "mix-95-2t"), "target core.2 mix-95-2t 1.00 >=1.10 missed");
    }

    #[test]
    fn memory_is_judged_in_the_worse_shape_and_named_after_it() {
        let overhead = |shape, cache, bytes| Overhead { shape, cache, filled: vec![bytes], churned: Vec::new() };
        let memory = vec![
            overhead(Shape::Inline, Candidate::Ours, 30.0),
            overhead(Shape::Inline, Candidate::Quick, 20.0),
            overhead(Shape::Pointers, Candidate::Ours, 40.0),
            overhead(Shape::Pointers, Candidate::Quick, 80.0),
        ];
        let results = Results { memory, ..Results::default() };
        assert_eq!(line(&results, "overhead-bytes"), "target core.4 overhead-bytes-pointers 40.00 <=40.00 reached");
        assert!(
            line(&results, "leanest").starts_with("target core.4 overhead-vs-leanest-peer-inline 1.50 <=1.00 missed")
        );
    }

    #[test]
    fn a_figure_is_judged_as_it_is_printed() {
        assert!(Bound::AtLeast(1.5).holds(1.496));
        assert!(!Bound::AtLeast(1.5).holds(1.494));
        assert!(!Bound::MoreThan(0.0).holds(0.001));
        assert!(Bound::Exactly(0.0).holds(0.0));
        let clean_build = vec![CleanBuild { seconds: vec![1.0, 2.0, 9.0], dependencies: 1 }];
        let results = Results { clean_build, ..Results::default() };
        assert_eq!(line(&results, "clean-build"), "target core.7 clean-build-seconds 2.00 <=5.00 reached");
        assert_eq!(line(&results, "dependencies"), "target core.7 dependencies 1.00 ==0.00 missed");
    }
}
