//! `transport-bench targets`: a line for each target of the transport, from what was measured.

use std::path::Path;

use crate::{
    Subject, batch,
    idle::{self, Idle},
    large::{self, Beside},
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
    targets.push(Target::skipped("transport.2", "engine-of-groupcache", "the whole engine is not measured yet"));
    let batch = ratio(&results.batches, 128, 16, Subject::Ours, Subject::Raw);
    targets.push(Target::new("transport.3", "get-many-of-raw", Bound::AtLeast(0.5), batch));
    let large = share(1 << 20, 4, Subject::Ours, Subject::Raw);
    targets.push(Target::new("transport.4", "1-mib-of-raw", Bound::AtLeast(0.8), large));
    let beside = results.besides.iter().find(|beside| beside.large == 4).map(|beside| stats::median(&beside.p99_us));
    targets.push(Target::new(
        "transport.4",
        "small-beside-1-mib-p99-ms",
        Bound::AtMost(2.0),
        beside.map(|us| us / 1e3),
    ));
    let tls = share(1 << 10, 64, Subject::OursTls, Subject::Ours);
    targets.push(Target::new("transport.5", "tls-of-plain", Bound::AtLeast(0.7), tls));
    let idle = results.idle.first();
    let kib = idle.map(|idle| idle.server_bytes.max(idle.client_bytes) / 1024.0);
    targets.push(Target::new("transport.6", "idle-link-kib", Bound::AtMost(16.0), kib));
    let cpu = idle.map(|idle| idle.server_cpu.max(idle.client_cpu));
    targets.push(Target::new("transport.6", "1000-idle-links-cpu-percent", Bound::AtMost(1.0), cpu));
    if let Some(why) = redis::missing() {
        targets.push(Target::skipped("transport", "redis", why));
    }
    targets
}

fn ratio(rates: &[Rate], value: usize, in_flight: usize, of: Subject, against: Subject) -> Option<f64> {
    let find = |subject| {
        let is_it = |rate: &&Rate| rate.subject == subject && rate.value == value && rate.in_flight == in_flight;
        rates.iter().find(is_it).map(|rate| rate.rounds.as_slice())
    };
    Some(paired_ratio(find(of)?, find(against)?))
}
