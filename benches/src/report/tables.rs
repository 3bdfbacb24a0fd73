//! The tables of the page. A section is left out if nothing was measured for it.

use std::fmt::Write;

use crate::{
    collide::Choice,
    contest::Workload,
    flight::Loader,
    hit_ratio::{PERCENTS, Row, Summary},
    memory::Shape,
    peers::Candidate,
    results::{Results, paired_ratio},
    stats,
};

/// A table that grows by rows.
struct Table(String);

impl Table {
    fn new<T: AsRef<str>>(head: &[T]) -> Self {
        let mut table = Self(String::new());
        table.row(head);
        let rule: Vec<_> = (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
        table.row(&rule);
        table
    }

    fn row<T: AsRef<str>>(&mut self, cells: &[T]) {
        let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
        writeln!(self.0, "| {} |", cells.join(" | ")).expect("a string takes whatever is written");
    }
}

/// How fast the caches are.
pub(super) fn throughput(results: &Results, plot: &str) -> Option<String> {
    let mut threads: Vec<usize> = results.throughput.iter().map(|speed| speed.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    let mut section = format!(
        "## Speed\n\nA million resident entries; keys of 24 to 40 bytes, asked for by Zipf's law (0.99), and values of 100 bytes. \
         `get-hit` finds all it asks for. `mix-95` and `mix-75` ask for twice as many keys as there is room for, and insert with every \
         20th and every 4th operation. `insert-evict` inserts keys that never were there. Million operations per second; in \
         parentheses, how many times as fast DistCache is, as the median of the ratios of each round.\n\n![speed]({plot})\n"
    );
    for workload in Workload::ALL {
        let mut head = vec![workload.name().to_owned()];
        head.extend(threads.iter().map(|threads| format!("{threads} threads")));
        let mut table = Table::new(&head);
        for cache in Candidate::ALL {
            let mut cells = vec![cache.name().to_owned()];
            cells.extend(threads.iter().map(|threads| speed_cell(results, *workload, *threads, *cache)));
            table.row(&cells);
        }
        write!(section, "\n{}", table.0).expect("a string takes whatever is written");
    }
    (!threads.is_empty()).then_some(section)
}

fn speed_cell(results: &Results, workload: Workload, threads: usize, cache: Candidate) -> String {
    let Some(rounds) = results.speed(workload, threads, cache) else { return "-".to_owned() };
    let middle = stats::median(rounds);
    match results.speed(workload, threads, Candidate::Ours) {
        Some(ours) if cache != Candidate::Ours => format!("{middle:.2} ({:.2})", paired_ratio(ours, rounds)),
        _ => format!("{middle:.2}"),
    }
}

/// How long single gets take.
pub(super) fn latency(results: &Results) -> Option<String> {
    let mut threads: Vec<usize> = results.latency.iter().map(|tail| tail.threads).collect();
    threads.dedup();
    let mut section =
        "## Time of a get\n\nNanoseconds of single gets in `mix-95`, each timed, the clock's own time included: \
                       p50 / p99 / p99.9.\n\n"
            .to_owned();
    let mut head = vec!["cache".to_owned()];
    head.extend(threads.iter().map(|threads| format!("{threads} threads")));
    let mut table = Table::new(&head);
    for cache in Candidate::ALL {
        let mut cells = vec![cache.name().to_owned()];
        cells.extend(threads.iter().map(|threads| match results.tail(*threads, *cache) {
            None => "-".to_owned(),
            Some(tail) => {
                let [p50, p99, p999] = [&tail.p50, &tail.p99, &tail.p999].map(|rounds| stats::median(rounds));
                format!("{p50:.0} / {p99:.0} / {p999:.0}")
            }
        }));
        table.row(&cells);
    }
    section += &table.0;
    (!threads.is_empty()).then_some(section)
}

/// How many requests are hits.
pub(super) fn hit_ratio(results: &Results, plot: &str) -> Option<String> {
    let rows = &results.hit_ratio;
    let summaries =
        |caches: &'static [Candidate]| caches.iter().filter_map(|cache| Some((*cache, Summary::new(rows, *cache)?)));
    summaries(Candidate::ALL).next()?;
    let mut section = format!(
        "## Hits\n\nReal traces, read through by one thread, in caches of {} of what all keys of a trace take; rows of fewer \
         than 50 entries are left out. Regret is the distance to the best peer of a row, in points, and none above it. The optimum \
         knows the future; it and exact LRU are told where all entries are of one size. In `adaptsize` entries have their own sizes. \
         Each cache has its default number of shards, or that of its name, though in a small cache a shard then holds few entries.\n\n\
         ![hits]({plot})\n\nOver {} rows:\n\n",
        PERCENTS.iter().map(|percent| format!("{percent} %")).collect::<Vec<_>>().join(", "),
        rows.len()
    );
    let mut table = Table::new(&["cache", "mean hits, %", "mean regret", "worst regret", "worst row"]);
    for (cache, summary) in summaries(Candidate::ALL) {
        table.row(&[
            cache.name().to_owned(),
            format!("{:.2}", summary.mean),
            format!("{:.2}", summary.mean_regret),
            format!("{:.2}", summary.worst_regret),
            format!("{} at {} %", summary.worst.trace, summary.worst.percent),
        ]);
    }
    section += &table.0;
    section += &rows_table("\nEach row, hits in %:\n\n", rows, |row, cache| row.hits.get(&cache).copied());
    let sized: Vec<_> = rows.iter().filter(|row| row.byte_hits.is_some()).cloned().collect();
    if !sized.is_empty() {
        let byte_hits = |row: &Row, cache| row.byte_hits.as_ref().and_then(|hits| hits.get(&cache)).copied();
        section += &rows_table("\nBytes that were hits, in %, where entries have sizes:\n\n", &sized, byte_hits);
    }
    Some(section)
}

fn rows_table(title: &str, rows: &[Row], value: impl Fn(&Row, Candidate) -> Option<f64>) -> String {
    let mut head = vec!["trace".to_owned(), "size".to_owned(), "optimum".to_owned(), "LRU".to_owned()];
    head.extend(Candidate::ALL.iter().map(|cache| cache.name().to_owned()));
    let mut table = Table::new(&head);
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for row in rows {
        let mut cells =
            vec![row.trace.clone(), format!("{} %: {}", row.percent, row.capacity), cell(row.optimum), cell(row.lru)];
        cells.extend(Candidate::ALL.iter().map(|cache| cell(value(row, *cache))));
        table.row(&cells);
    }
    format!("{title}{}", table.0)
}

/// What entries cost.
pub(super) fn memory(results: &Results) -> Option<String> {
    results.memory.first()?;
    let mut section = "## Memory\n\nBytes per entry beyond its key and its value, of the memory that the operating system counts for a \
                       process of its own; a million entries. Beyond 108 bytes for a number and 100 bytes beside it; and for a string \
                       and 100 bytes behind an `Arc`, beyond what a plain vector of them takes. Churned: after two million more \
                       inserts.\n\n"
        .to_owned();
    let mut head = vec!["cache".to_owned()];
    head.extend(
        Shape::ALL.iter().flat_map(|shape| ["filled", "churned"].map(|when| format!("{}, {when}", shape.name()))),
    );
    let mut table = Table::new(&head);
    let cell =
        |rounds: &[f64]| if rounds.is_empty() { "-".to_owned() } else { format!("{:.1}", stats::median(rounds)) };
    for cache in Candidate::ALL {
        let mut cells = vec![cache.name().to_owned()];
        for shape in Shape::ALL {
            let overhead = results.overhead(*shape, *cache);
            cells.push(overhead.map_or_else(|| "-".to_owned(), |overhead| cell(&overhead.filled)));
            cells.push(overhead.map_or_else(|| "-".to_owned(), |overhead| cell(&overhead.churned)));
        }
        table.row(&cells);
    }
    section += &table.0;
    Some(section)
}

/// How many wait for one load.
pub(super) fn flight(results: &Results) -> Option<String> {
    let ours = results.storms(Loader::Ours)?;
    let mut table = Table::new(&["call", "µs for all 64", "most loads", "times as long as DistCache"]);
    for loader in Loader::ALL {
        let Some(storms) = results.storms(*loader) else { continue };
        table.row(&[
            loader.name().to_owned(),
            format!("{:.1}", stats::median(&storms.rounds)),
            storms.most_loads.to_string(),
            format!("{:.2}", paired_ratio(&storms.rounds, &ours.rounds)),
        ]);
    }
    Some(format!(
        "## One load for many\n\n64 tasks on two threads ask at once for a key that is not there.\n\n{}",
        table.0
    ))
}

/// How chosen keys fare.
pub(super) fn collide(results: &Results) -> Option<String> {
    let random = results.spread(Choice::Random)?;
    let mut table = Table::new(&["keys", "p99 of a get, ns", "times as long as random keys"]);
    for choice in Choice::ALL {
        let Some(p99) = results.spread(*choice) else { continue };
        let ratio = format!("{:.2}", paired_ratio(p99, random));
        table.row(&[choice.name().to_owned(), format!("{:.0}", stats::median(p99)), ratio]);
    }
    Some(format!(
        "## Chosen keys\n\nGets in DistCache, by two threads that also insert, of keys whose hashes agree in their lower 12 bits \
         under XXH3 without a seed and under FNV-1a.\n\n{}",
        table.0
    ))
}

/// What the build takes.
pub(super) fn clean_build(results: &Results) -> Option<String> {
    let build = results.clean_build.first()?;
    Some(format!(
        "## Build\n\n`cargo build -p distcache-core --release` where nothing is built yet: {:.2} s. Dependencies: {}.\n",
        stats::median(&build.seconds),
        build.dependencies
    ))
}
