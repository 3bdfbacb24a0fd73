//! What callers saw: the samples of all nodes over a span of time, as counts and exact percentiles.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::report::{Bound, Report};

/// Milliseconds since 1970: what samples are dated by.
pub(super) type Millis = u64;

/// The reads that ended in a span of time.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    ascending_us: Vec<u64>,
    pub(super) errors: u64,
    pub(super) wrong: u64,
    pub(super) stale: u64,
    first_fault: Option<String>,
    seconds: f64,
}

/// Which reads.
#[derive(Clone, Copy)]
pub(super) enum Class {
    Others,
    Marked,
}

pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Traffic {
    /// Gathers the reads of some classes that ended after `from` and by `to`, to a tenth of a second.
    pub(super) fn between(samples: &[Value], classes: &[Class], from: Millis, to: Millis) -> Self {
        let mut all = Self { seconds: to.saturating_sub(from) as f64 / 1_000.0, ..Self::default() };
        let within = |sample: &&Value| sample["at_ms"].as_u64().is_some_and(|at| at > from && at <= to);
        for sample in samples.iter().filter(within) {
            for class in classes {
                let class = match class {
                    Class::Others => &sample["others"],
                    Class::Marked => &sample["marked"],
                };
                let count = |name: &str| class[name].as_u64().unwrap_or(0);
                all.ascending_us.extend(class["took_us"].as_array().into_iter().flatten().filter_map(Value::as_u64));
                all.errors += count("errors");
                all.wrong += count("wrong");
                all.stale += count("stale");
                if let (None, Some(fault)) = (&all.first_fault, class["first_fault"].as_str()) {
                    all.first_fault = Some(fault.to_owned());
                }
            }
        }
        all.ascending_us.sort_unstable();
        all
    }

    /// Returns the time in milliseconds that `percent` of the reads did not exceed (nearest rank).
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        let count = self.ascending_us.len();
        let rank = (percent / 100.0 * count as f64).ceil() as usize;
        self.ascending_us.get(rank.clamp(1, count.max(1)) - 1).map_or(0.0, |us| *us as f64 / 1_000.0)
    }

    /// Tells what callers saw, voids the scenario if that was too little, and requires that nothing was wrong.
    pub(super) fn tell(&self, report: &mut Report, what: &str) {
        let per_second = self.ascending_us.len() as f64 / self.seconds.max(0.001);
        report.note(format!(
            "{what}: {} reads ({per_second:.0}/s), p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms; {} errors, {} wrong, {} stale{}",
            self.ascending_us.len(),
            self.percentile(50.0),
            self.percentile(99.0),
            self.percentile(100.0),
            self.errors,
            self.wrong,
            self.stale,
            self.first_fault.as_ref().map_or_else(String::new, |fault| format!("; the first: {fault}")),
        ));
        report.void_unless(per_second >= FLOOR, format!("{what}: {per_second:.0} reads a second are too few"));
        report.require(format!("wrong values, {what}"), self.wrong as f64, Bound::Exactly(0.0));
    }
}

/// Returns the most members that any one node saw go, of those whose load began after `from`.
pub(super) fn removals(samples: &[Value], from: Millis) -> u64 {
    let after = samples.iter().filter(|sample| sample["at_ms"].as_u64() > Some(from));
    after.filter_map(|sample| sample["left"].as_u64()).max().unwrap_or(0)
}

/// etcd's robustness tests take a run below 50 to 100 requests a second for none.
const FLOOR: f64 = 100.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(at_ms: u64, took_us: &[u64], wrong: u64) -> Value {
        json!({ "at_ms": at_ms, "left": 0, "others": { "took_us": took_us, "errors": 0, "wrong": wrong, "stale": 0 },
                "marked": { "took_us": [9_000], "errors": 1, "wrong": 0, "stale": 0 } })
    }

    #[test]
    fn only_the_reads_of_the_span_and_the_class_count() {
        let samples = [sample(100, &[1_000], 1), sample(200, &[3_000, 2_000], 0), sample(300, &[7_000], 1)];
        let others = Traffic::between(&samples, &[Class::Others], 100, 200);
        assert_eq!((others.ascending_us.as_slice(), others.wrong, others.errors), (&[2_000, 3_000][..], 0, 0));
        let all = Traffic::between(&samples, &[Class::Others, Class::Marked], 0, 300);
        assert_eq!((all.ascending_us.len(), all.wrong, all.errors), (7, 2, 3));
        assert!((all.percentile(100.0) - 9.0).abs() < 1e-9);
    }

    #[test]
    fn too_little_traffic_is_void_and_a_wrong_value_fails() {
        let told = |took_us: &[u64], wrong| {
            let mut report = Report::default();
            Traffic::between(&[sample(100, took_us, wrong)], &[Class::Others], 0, 100).tell(&mut report, "traffic");
            report.fault()
        };
        assert!(told(&[1; 9], 0).unwrap().contains("VOID"));
        assert!(told(&[1; 20], 0).is_none());
        assert!(told(&[1; 20], 1).unwrap().contains("wrong values"));
    }
}
