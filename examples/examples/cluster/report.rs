//! What the example prints: tables, and checks that count.

use std::{fmt, time::Duration};

use distcache_examples::{NodeStats, ReadReport};

/// The checks made so far. A check that fails does not stop the run: what follows may say why.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    made: usize,
    failed: usize,
}

impl Checks {
    /// Prints `claim`, and whether it holds.
    pub(crate) fn check(&mut self, holds: bool, claim: impl fmt::Display) {
        self.made += 1;
        self.failed += usize::from(!holds);
        println!("  {}  {claim}", if holds { "ok    " } else { "FAILED" });
    }

    /// Checks that a node read all `count` cities right. Says what went wrong, if anything did.
    pub(crate) fn clean(&mut self, node: &str, report: &ReadReport, count: usize) {
        let ReadReport { reads, wrong, errors, first_fault, .. } = report;
        let fault = first_fault.as_ref().map_or_else(String::new, |fault| format!(" ({fault})"));
        let claim = format!("{node}: {} reads, {wrong} wrong, {errors} errors{fault}", grouped(*reads));
        self.check(report.is_clean(count), claim);
    }

    pub(crate) const fn made(&self) -> usize {
        self.made
    }

    pub(crate) const fn failed(&self) -> usize {
        self.failed
    }
}

/// Prints what each node did in one round, one line a node, and the sum.
pub(crate) fn print_table<'a>(rows: impl IntoIterator<Item = (&'a str, &'a NodeStats, &'a ReadReport)>) {
    println!(
        "  {:<8}{:>8}{:>12}{:>11}{:>12}{:>14}{:>11}{:>14}{:>11}{:>11}",
        "node",
        "reads",
        "local hits",
        "peer hits",
        "own loads",
        "peers' loads",
        "fallbacks",
        "source loads",
        "p50",
        "p99"
    );
    let mut all = NodeStats::default();
    for (name, stats, report) in rows {
        println!("{}{:>11}{:>11}", counts(name, stats), time(report.p50()), time(report.p99()));
        all.reads += stats.reads;
        all.local_hits += stats.local_hits;
        all.peer_hits += stats.peer_hits;
        all.local_loads += stats.local_loads;
        all.peer_loads += stats.peer_loads;
        all.fallbacks += stats.fallbacks;
        all.fetches += stats.fetches;
    }
    println!("{}", counts("all", &all));
}

/// The source loads are the data source's own count, not the cache's.
fn counts(name: &str, stats: &NodeStats) -> String {
    let NodeStats { reads, local_hits, peer_hits, local_loads, peer_loads, fallbacks, fetches, .. } = *stats;
    let columns = [(reads, 8), (local_hits, 12), (peer_hits, 11), (local_loads, 12), (peer_loads, 14), (fallbacks, 11)];
    let mut line = format!("  {name:<8}");
    for (count, width) in columns.into_iter().chain([(fetches, 14)]) {
        line.push_str(&format!("{:>width$}", grouped(count)));
    }
    line
}

/// A time in the unit that suits it, with one decimal.
pub(crate) fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1_000.0 => format!("{micros:.1} µs"),
        ..1_000_000.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}

/// A number with commas between the thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
