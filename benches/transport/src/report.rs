//! `transport-bench report`: the page of results, from what was measured.

use std::{fmt::Write, fs, path::Path};

use anyhow::Context;

use crate::{
    Subject,
    round_trips::Rate,
    targets::{Results, targets},
};
use distcache_benches::stats;

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
    page.push_str("\n## A hundred keys in one call\n");
    table(&mut page, &results.batches)?;
    page.push_str("\n## A small call beside values of 1 MiB on the same link\n\n| large calls in flight | p99 |\n| ---: | ---: |\n");
    for beside in &results.besides {
        writeln!(page, "| {} | {:.0} us |", beside.large, stats::median(&beside.p99_us))?;
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
