//! Where a peer is ahead of us: computed, so that no loss can be left out.

use crate::{
    contest::Workload,
    flight::Loader,
    latency::Tail,
    memory::Shape,
    peers::Candidate,
    results::{Results, paired_ratio},
    stats,
};

/// Lists every figure in which some peer is better.
pub(super) fn section(results: &Results) -> String {
    let mut losses = Vec::new();
    losses.extend(speed(results));
    losses.extend(latency(results));
    losses.extend(hits(results));
    losses.extend(memory(results));
    losses.extend(flight(results));
    let list: String = losses.iter().map(|loss| format!("* {loss}\n")).collect();
    let list = if list.is_empty() { "Nowhere in what was measured.\n".to_owned() } else { list };
    format!("## Where we lose\n\nEvery figure in which a peer is ahead.\n\n{list}")
}

fn peers() -> impl Iterator<Item = Candidate> {
    Candidate::ALL.iter().copied().filter(|cache| cache.is_peer())
}

fn speed(results: &Results) -> Vec<String> {
    let ours = results.throughput.iter().filter(|speed| speed.cache == Candidate::Ours);
    let ahead = |speed: &crate::throughput::Speed| {
        let (workload, threads): (Workload, usize) = (speed.workload, speed.threads);
        let rivals = peers().filter_map(|peer| {
            let ratio = paired_ratio(results.speed(workload, threads, peer)?, &speed.rounds);
            (ratio > 1.0).then(|| format!("{peer} {ratio:.2} times as fast"))
        });
        named(&format!("{} by {threads} threads", workload.name()), rivals)
    };
    ours.filter_map(ahead).collect()
}

fn latency(results: &Results) -> Vec<String> {
    type Percentile = (&'static str, fn(&Tail) -> &[f64]);
    const PERCENTILES: [Percentile; 3] =
        [("p50", |tail| &tail.p50), ("p99", |tail| &tail.p99), ("p99.9", |tail| &tail.p999)];
    let mut losses = Vec::new();
    for ours in results.latency.iter().filter(|tail| tail.cache == Candidate::Ours) {
        for (name, percentile) in PERCENTILES {
            let rivals = peers().filter_map(|peer| {
                let ratio = paired_ratio(percentile(ours), percentile(results.tail(ours.threads, peer)?));
                (ratio > 1.0).then(|| format!("{peer}, where we take {ratio:.2} times as long"))
            });
            losses.extend(named(&format!("{name} of a get by {} threads", ours.threads), rivals));
        }
    }
    losses
}

fn hits(results: &Results) -> Vec<String> {
    let mut losses = Vec::new();
    let mut narrow = 0;
    for row in &results.hit_ratio {
        let (Some((peer, _)), Some(regret)) = (row.best_peer(), row.regret(Candidate::Ours)) else { continue };
        if regret > NARROW {
            losses.push(format!("hits on {} at {} %: {peer} by {regret:.1} points", row.trace, row.percent));
        } else if regret > 0.0 {
            narrow += 1;
        }
    }
    if narrow > 0 {
        losses.push(format!("hits on {narrow} more rows, by at most {NARROW} points each: see the table"));
    }
    losses
}

fn memory(results: &Results) -> Vec<String> {
    let mut losses = Vec::new();
    for shape in Shape::ALL {
        let Some(ours) = results.overhead(*shape, Candidate::Ours) else { continue };
        for (when, ours, churned) in [("filled", &ours.filled, false), ("churned", &ours.churned, true)] {
            let ours = stats::median(ours);
            let rivals = peers().filter_map(|peer| {
                let theirs = results.overhead(*shape, peer)?;
                let theirs = stats::median(if churned { &theirs.churned } else { &theirs.filled });
                (theirs < ours).then(|| format!("{peer} {theirs:.1}"))
            });
            losses.extend(named(&format!("bytes per entry, {}, {when}, ours {ours:.1}", shape.name()), rivals));
        }
    }
    losses
}

fn flight(results: &Results) -> Option<String> {
    let ours = results.storms(Loader::Ours)?;
    let rivals = Loader::ALL.iter().filter(|loader| **loader != Loader::Ours).filter_map(|loader| {
        let ratio = paired_ratio(&ours.rounds, &results.storms(*loader)?.rounds);
        (ratio > 1.0).then(|| format!("{}, where we take {ratio:.2} times as long", loader.name()))
    });
    named("64 tasks that ask for one key", rivals)
}

fn named(what: &str, rivals: impl Iterator<Item = String>) -> Option<String> {
    let rivals: Vec<_> = rivals.collect();
    (!rivals.is_empty()).then(|| format!("{what}: {}", rivals.join("; ")))
}

/// In points. Closer rows are counted, not listed: between such caches the trace of another day may decide.
const NARROW: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hit_ratio::Row, throughput::Speed};

    #[test]
    fn every_peer_that_is_ahead_is_named_with_its_lead() {
        let speed = |cache, mops| Speed { workload: Workload::Mix95, threads: 2, cache, rounds: vec![mops] };
        let throughput = vec![speed(Candidate::Ours, 2.0), speed(Candidate::Moka, 1.0), speed(Candidate::TinyUfo, 3.0)];
        let text = section(&Results { throughput, ..Results::default() });
        assert!(text.contains("* mix-95 by 2 threads: TinyUFO 1.50 times as fast\n"), "{text}");
        assert!(!text.contains("moka"));
    }

    #[test]
    fn rows_that_are_close_are_counted() {
        let row = |ours, moka| Row {
            trace: "t".to_owned(),
            percent: 1.0,
            capacity: 100,
            requests: 1,
            hits: [(Candidate::Ours, ours), (Candidate::Moka, moka)].into(),
            byte_hits: None,
            optimum: None,
            lru: None,
        };
        let hit_ratio = vec![row(10.0, 20.0), row(10.0, 10.2), row(10.0, 5.0)];
        let text = section(&Results { hit_ratio, ..Results::default() });
        assert!(text.contains("* hits on t at 1 %: moka by 10.0 points\n"), "{text}");
        assert!(text.contains("* hits on 1 more rows, by at most 0.5 points each"), "{text}");
    }

    #[test]
    fn without_losses_it_says_so() {
        assert!(section(&Results::default()).contains("Nowhere"));
    }
}
