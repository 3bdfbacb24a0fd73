//! `transport-bench targets`: a line for each target of the transport, from what was measured.

use std::path::Path;

use crate::{
    Subject,
    attacks::{self, Attacks},
    batch,
    engine::{self, Cache, Gets},
    idle::{self, Idle},
    large::{self, Beside, Way},
    redis,
    round_trips::{self, Rate},
};
use distcache_benches::{
    records,
    results::paired_ratio,
    stats,
    targets::{Bound, Target},
};

/// All that was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// Answers a second.
    pub rates: Vec<Rate>,
    /// Answers a second, of a hundred keys each.
    pub batches: Vec<Rate>,
    /// Small calls beside large ones.
    pub besides: Vec<Beside>,
    /// Links on which nothing happens.
    pub idle: Vec<Idle>,
    /// Gets a second, through whole caches.
    pub gets: Vec<Gets>,
    /// Attacks and fuzzing.
    pub attacks: Vec<Attacks>,
}

impl Results {
    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            rates: records::read(folder, round_trips::FILE)?,
            batches: records::read(folder, batch::FILE)?,
            besides: records::read(folder, large::FILE)?,
            idle: records::read(folder, idle::FILE)?,
            gets: records::read(folder, engine::FILE)?,
            attacks: records::read(folder, attacks::FILE)?,
        })
    }
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

/// Returns every target of the transport.
#[must_use]
pub fn targets(results: &Results) -> Vec<Target> {
    let share = |value, in_flight, of, against| ratio(&results.rates, value, in_flight, of, against);
    let mut targets = Vec::new();
    for (in_flight, least) in [(1, 0.75), (16, 0.35), (64, 0.3)] {
        let figure = share(128, in_flight, Subject::Ours, Subject::Raw);
        targets.push(Target::new(
            "transport.1",
            format!("of-raw-{in_flight}-in-flight"),
            Bound::AtLeast(least),
            figure,
        ));
    }
    for in_flight in [64, 256] {
        let figure = share(128, in_flight, Subject::Ours, Subject::Tonic);
        let name = format!("of-tonic-{in_flight}-in-flight");
        targets.push(Target::new("transport.1", name, Bound::AtLeast(10.0), figure));
    }
    for (cache, bounds) in [(Cache::GroupcacheRs, [5.0, 10.0, 10.0]), (Cache::GroupcacheGo, [5.0, 12.0, 12.0])] {
        for (in_flight, least) in [1, 64, 256].into_iter().zip(bounds) {
            let name = format!("engine-of-{}-{in_flight}", cache.id());
            let target = match (engine_ratio(&results.gets, in_flight, cache), cache.missing()) {
                (None, Some(why)) => Target::skipped("transport.2", name, why),
                (figure, _) => Target::new("transport.2", name, Bound::AtLeast(least), figure),
            };
            targets.push(target);
        }
    }
    let batch = ratio(&results.batches, 128, 16, Subject::Ours, Subject::Raw);
    targets.push(Target::new("transport.3", "get-many-of-raw", Bound::AtLeast(0.5), batch));
    let large = share(1 << 20, 4, Subject::Ours, Subject::Raw);
    targets.push(Target::new("transport.4", "1-mib-of-raw", Bound::AtLeast(0.8), large));
    let is_it = |beside: &&Beside| beside.lane == Way::Control && beside.large == 4;
    let beside = results.besides.iter().find(is_it).map(|beside| stats::median(&beside.p99_us));
    targets.push(Target::new("transport.4", "ping-beside-1-mib-p99-ms", Bound::AtMost(2.0), beside.map(|us| us / 1e3)));
    let tls = share(1 << 10, 64, Subject::OursTls, Subject::Ours);
    targets.push(Target::new("transport.5", "tls-of-plain", Bound::AtLeast(0.7), tls));
    let idle = results.idle.first();
    let kib = idle.map(|idle| idle.server_bytes.max(idle.client_bytes) / 1024.0);
    targets.push(Target::new("transport.6", "idle-link-kib", Bound::AtMost(16.0), kib));
    let cpu = idle.map(|idle| idle.server_cpu.max(idle.client_cpu));
    targets.push(Target::new("transport.6", "1000-idle-links-cpu-percent", Bound::AtMost(1.0), cpu));
    let attacks = results.attacks.first();
    let memory = attacks.map(|attacks| {
        // A test that fails for another reason is missed by no figure.
        let tells = attacks.memory_passed || attacks.memory_share > 1.0;
        if tells { attacks.memory_share } else { f64::INFINITY }
    });
    targets.push(Target::new("transport.7", "memory-under-attack", Bound::AtMost(1.0), memory));
    targets.push(match attacks.and_then(|attacks| attacks.fuzz_panics) {
        None => Target::skipped("transport.7", "fuzz-panics", "not run, which needs cargo-fuzz"),
        panics => Target::new("transport.7", "fuzz-panics", Bound::AtMost(0.0), panics.map(f64::from)),
    });
    let has_redis = results.rates.iter().any(|rate| rate.subject == Subject::Redis);
    if let Some(why) = redis::missing().filter(|_| !has_redis) {
        targets.push(Target::skipped("transport", "redis", why));
    }
    targets
}

/// How many times as many gets a second ours answers.
fn engine_ratio(gets: &[Gets], in_flight: usize, against: Cache) -> Option<f64> {
    let find = |cache| gets.iter().find(|gets| gets.cache == cache && gets.in_flight == in_flight);
    Some(paired_ratio(&find(Cache::Ours)?.rounds, &find(against)?.rounds))
}

fn ratio(rates: &[Rate], value: usize, in_flight: usize, of: Subject, against: Subject) -> Option<f64> {
    let find = |subject| {
        let is_it = |rate: &&Rate| rate.subject == subject && rate.value == value && rate.in_flight == in_flight;
        rates.iter().find(is_it).map(|rate| rate.rounds.as_slice())
    };
    Some(paired_ratio(find(of)?, find(against)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(results: &Results, name: &str) -> String {
        let lines = targets(results).into_iter().map(|target| target.to_string());
        lines.filter(|line| line.split(' ').nth(2) == Some(name)).collect()
    }

    #[test]
    fn the_engine_is_compared_with_each_cache_round_by_round() {
        let gets = |cache, rounds: &[f64]| Gets { cache, in_flight: 64, rounds: rounds.to_vec() };
        let rounds = [gets(Cache::Ours, &[100.0, 10.0, 120.0]), gets(Cache::GroupcacheRs, &[10.0, 1.0, 11.0])];
        let results = Results { gets: rounds.to_vec(), ..Results::default() };
        assert_eq!(
            line(&results, "engine-of-groupcache-rs-64"),
            "target transport.2 engine-of-groupcache-rs-64 10.00 >=10.00 reached"
        );
        assert!(line(&results, "engine-of-groupcache-rs-1").contains("skipped"));
        assert!(line(&results, "engine-of-groupcache-go-64").contains("skipped"));
    }

    #[test]
    fn a_memory_test_that_failed_is_missed_whatever_the_share() {
        let verdict = |memory_share, memory_passed| {
            let attacks = Attacks { memory_share, memory_passed, fuzz_panics: Some(1), fuzz_seconds: 10 };
            let results = Results { attacks: vec![attacks], ..Results::default() };
            assert!(line(&results, "fuzz-panics").ends_with("1.00 <=0.00 missed"));
            line(&results, "memory-under-attack").rsplit(' ').next().map(str::to_owned)
        };
        assert_eq!(verdict(0.9, true).as_deref(), Some("reached"));
        assert_eq!(verdict(1.2, false).as_deref(), Some("missed"));
        assert_eq!(verdict(0.9, false).as_deref(), Some("missed"));
        assert!(line(&Results::default(), "memory-under-attack").contains("skipped"));
    }
}
