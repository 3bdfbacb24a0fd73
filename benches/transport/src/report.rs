//! `transport-bench report`: the page of results, from what was measured.

use std::{fmt::Write, fs, path::Path};

use anyhow::Context;

use crate::{
    Subject,
    engine::{Cache, Gets},
    round_trips::Rate,
    targets::{Results, targets},
};
use distcache_benches::{results::paired_ratio, stats};

/// Writes `TRANSPORT.md` into a folder.
///
/// # Errors
///
/// What was measured cannot be read, or the page not be written.
pub fn run(out: &Path, folder: &Path) -> anyhow::Result<()> {
    let results = Results::read(out)?;
    let page = page(&results)?;
    let path = folder.join("TRANSPORT.md");
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn page(results: &Results) -> Result<String, std::fmt::Error> {
    let mut page = String::from(HEAD);
    for target in targets(results) {
        writeln!(page, "{target}")?;
    }
    page.push_str(
        "```\n\n## Answers a second\n\nIn parentheses, the share of what a raw socket does with the same bytes.\n",
    );
    table(&mut page, &results.rates)?;
    page.push_str(ENGINE);
    caches(&mut page, &results.gets)?;
    page.push_str("\n## A hundred keys in one call\n");
    table(&mut page, &results.batches)?;
    page.push_str("\n## A small call beside values of 1 MiB\n\n| lane | large calls in flight on the data lane | p99 |\n| :--- | ---: | ---: |\n");
    for beside in &results.besides {
        let lane = format!("{:?}", beside.lane).to_lowercase();
        writeln!(page, "| {lane} | {} | {:.0} us |", beside.large, stats::median(&beside.p99_us))?;
    }
    for idle in &results.idle {
        writeln!(page, "\n## {} idle links\n", idle.links)?;
        let (server, client) = (idle.server_bytes / 1024.0, idle.client_bytes / 1024.0);
        writeln!(page, "Memory of one end: {server:.1} KiB at the server, {client:.1} KiB at the client.")?;
        let (server, client) = (idle.server_cpu, idle.client_cpu);
        writeln!(page, "Of one processor, for all of them: {server:.2} % at the server, {client:.2} % at the client.")?;
    }
    Ok(page)
}

/// A row for each number of gets in flight, a column for each cache that was measured.
fn caches(page: &mut String, gets: &[Gets]) -> std::fmt::Result {
    let find = |cache, in_flight| gets.iter().find(|gets| (gets.cache, gets.in_flight) == (cache, in_flight));
    let caches: Vec<_> = Cache::ALL.iter().filter(|cache| gets.iter().any(|gets| gets.cache == **cache)).collect();
    write!(page, "\n| gets in flight |")?;
    caches.iter().try_for_each(|cache| write!(page, " {cache} |"))?;
    write!(page, "\n| ---: |")?;
    caches.iter().try_for_each(|_| write!(page, " ---: |"))?;
    writeln!(page)?;
    let mut loads: Vec<_> = gets.iter().map(|gets| gets.in_flight).collect();
    loads.sort_unstable();
    loads.dedup();
    for in_flight in loads {
        write!(page, "| {in_flight} |")?;
        let ours = find(Cache::Ours, in_flight);
        for cache in &caches {
            match (find(**cache, in_flight), ours) {
                (Some(gets), Some(ours)) => {
                    let times = paired_ratio(&ours.rounds, &gets.rounds);
                    write!(page, " {:.0} ({times:.2}) |", stats::median(&gets.rounds))?;
                }
                _ => write!(page, " |")?,
            }
        }
        writeln!(page)?;
    }
    Ok(())
}

fn table(page: &mut String, rates: &[Rate]) -> std::fmt::Result {
    let subjects: Vec<_> =
        Subject::ALL.iter().filter(|subject| rates.iter().any(|rate| rate.subject == **subject)).collect();
    write!(page, "\n| value, calls in flight |")?;
    subjects.iter().try_for_each(|subject| write!(page, " {subject} |"))?;
    write!(page, "\n| --- |")?;
    subjects.iter().try_for_each(|_| write!(page, " ---: |"))?;
    writeln!(page)?;
    let mut loads: Vec<_> = rates.iter().map(|rate| (rate.value, rate.in_flight)).collect();
    loads.sort_unstable();
    loads.dedup();
    for (value, in_flight) in loads {
        write!(page, "| {value} B, {in_flight} |")?;
        let rate = |subject: Subject| {
            let is_it = |rate: &&Rate| (rate.subject, rate.value, rate.in_flight) == (subject, value, in_flight);
            rates.iter().find(is_it).map(|rate| stats::median(&rate.rounds))
        };
        let limit = rate(Subject::Raw);
        for subject in &subjects {
            match (rate(**subject), limit) {
                (Some(rate), Some(limit)) => write!(page, " {rate:.0} ({:.2}) |", rate / limit)?,
                _ => write!(page, " |")?,
            }
        }
        writeln!(page)?;
    }
    Ok(())
}

const ENGINE: &str = "
## Gets a second through a whole cache

A node asks for keys of 33 bytes whose values of 128 bytes the other node owns and holds. Each cache is two processes of its own, ours an
`Engine` with its membership at work. Nobody answers from a copy at the asker: ours keeps none, `groupcache` has a hot cache without
room, `groupcache-go` a group without room; and a figure counts only if, in its round, the owner served exactly as many gets as
were made and nobody loaded a value. No two gets in flight ask for one key, so none joins another. `groupcache` and ours use one
connection; `groupcache-go` uses one for each get in flight, and keeps all of them, where Go alone would keep two. In
parentheses, how many times as fast ours is.
";

const HEAD: &str = "# distcache-transport, measured

This page is written by

```sh
cargo xtask bench transport
```

Client and server are two processes on one machine, over loopback; keys have 33 bytes, the loop is closed, and each call in flight is a
task that waits for its own answer. Only ratios within one run mean anything. Each figure is the median of several rounds, in which the
servers take turns. The raw socket carries the same bytes, and writes together whatever is there to be written: the limit. With one
call in flight it is slower than what it should limit, most likely because its processes fall asleep between requests and a virtual
machine is slow to wake them: those rows say little.

## Targets

As `cargo xtask targets transport` prints them.

```text
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_was_not_measured_has_no_column_and_a_load_that_was_not_no_figure() {
        let gets = |cache, in_flight, rounds: &[f64]| Gets { cache, in_flight, rounds: rounds.to_vec() };
        let all = [
            gets(Cache::Ours, 64, &[40.0, 20.0, 60.0]),
            gets(Cache::Ours, 1, &[9.0]),
            gets(Cache::GroupcacheGo, 64, &[4.0, 4.0, 6.0]),
        ];
        let mut page = String::new();
        caches(&mut page, &all).unwrap();
        let rows = "\n| gets in flight | DistCache | groupcache-go 3.5 |\n| ---: | ---: | ---: |\n\
                    | 1 | 9 (1.00) | |\n| 64 | 40 (1.00) | 4 (10.00) |\n";
        assert_eq!(page, rows);
    }
}
