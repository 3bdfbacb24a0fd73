//! Which faults, one after the other: all of it follows from a seed.

use std::time::Duration;

use super::judge::Kind;

/// A fault and the quiet after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) kind: Kind,
    /// Whom it befalls; of two sides, one, and the one that is deaf.
    pub(super) nodes: Vec<usize>,
    pub(super) lasts: Duration,
    pub(super) quiet: Duration,
}

/// Makes as many steps as take `seconds` at least: every kind in turn, in another order each time.
///
/// Most are too short for a node to be given up. Where there is time for it, some are not; and some are followed by a quiet in which all that
/// they may leave behind is over, so that what is stale after it is found.
pub(super) fn plan(seed: u64, nodes: usize, seconds: u64, kinds: &[Kind]) -> Vec<Step> {
    let mut random = Random(seed);
    let (mut steps, mut left) = (Vec::new(), Duration::from_secs(seconds));
    let mut lap = Vec::new();
    while !left.is_zero() {
        if lap.is_empty() {
            lap = kinds.to_vec();
            random.shuffle(&mut lap);
        }
        let Some(kind) = lap.pop() else { break };
        let step = random.step(kind, nodes, steps.len(), seconds);
        left = left.saturating_sub(step.lasts + step.quiet);
        steps.push(step);
    }
    steps
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the same in every run.
struct Random(u64);

impl Random {
    fn step(&mut self, kind: Kind, nodes: usize, at: usize, seconds: u64) -> Step {
        let mut all: Vec<_> = (0..nodes).collect();
        self.shuffle(&mut all);
        // Of two halves neither is the cluster, and a single node is the other extreme.
        let splits = matches!(kind, Kind::Partition | Kind::OneWay);
        let befallen = if splits { 1 + self.below(nodes as u64 / 2) as usize } else { 1 };
        all.truncate(befallen);
        all.sort_unstable();
        let is_long = seconds >= LONG_RUN && at % 8 == 6;
        let lasts = match kind {
            Kind::Restart => 0,
            _ if is_long => 6_000 + self.below(3_000),
            _ => 700 + self.below(1_500),
        };
        let quiet = match at {
            _ if is_long => 58_000,
            at if seconds >= MEDIUM_RUN && at % 3 == 2 => 15_000,
            _ => 800 + self.below(2_000),
        };
        Step { kind, nodes: all, lasts: Duration::from_millis(lasts), quiet: Duration::from_millis(quiet) }
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at as u64 + 1) as usize);
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// From here on there is time for a fault that has a node given up, and for what it leaves behind to be over.
const LONG_RUN: u64 = 150;
/// From here on there is time for some that have nobody given up to be over.
const MEDIUM_RUN: u64 = 45;

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 5] = [Kind::Restart, Kind::Kill, Kind::Stop, Kind::Partition, Kind::OneWay];

    #[test]
    fn same_seed_makes_the_same_faults_and_another_makes_others() {
        assert_eq!(plan(7, 5, 60, &KINDS), plan(7, 5, 60, &KINDS));
        assert_ne!(plan(7, 5, 60, &KINDS), plan(8, 5, 60, &KINDS));
    }

    #[test]
    fn every_kind_comes_in_turn_and_a_partition_leaves_two_sides() {
        for seed in 0..200 {
            let steps = plan(seed, 3, 25, &KINDS);
            let mut first: Vec<_> = steps[..5].iter().map(|step| step.kind).collect();
            first.sort();
            assert_eq!(first, KINDS);
            assert!(steps.iter().all(|step| step.nodes.len() == 1 && step.lasts < Duration::from_secs(3)));
            let sides = plan(seed, 5, 20, &KINDS).into_iter().filter(|step| step.kind == Kind::Partition);
            assert!(sides.map(|step| step.nodes.len()).all(|side| (1..=2).contains(&side)));
        }
    }

    #[test]
    fn long_run_has_a_fault_that_gives_a_node_up_and_waits_until_it_is_over() {
        let steps = plan(1, 5, 300, &KINDS);
        let long = steps.iter().find(|step| step.lasts >= Duration::from_secs(6)).unwrap();
        assert!(long.quiet > Duration::from_secs(57));
    }
}
