//! The two plots of the page: hits by cache size for each trace, and speed by threads for each workload.

use crate::{
    contest::Workload,
    hit_ratio::{PERCENTS, Row},
    peers::Candidate,
    stats,
    throughput::Speed,
};

use super::svg::{Anchor, Drawing, Panel, Stroke};

/// Draws the hits on each trace.
pub(super) fn hit_ratio(rows: &[Row]) -> String {
    let mut traces: Vec<&str> = rows.iter().map(|row| row.trace.as_str()).collect();
    traces.dedup();
    let lines = traces.len().div_ceil(TRACES_A_LINE);
    let mut drawing = Drawing::new(WIDTH, HEAD + TRACE_HEIGHT * lines as f64);
    drawing.title(MARGIN, 24.0, "Hits by size of the cache, in percent of what all keys take");
    let mut legend = vec![("optimum", OPTIMUM), ("exact LRU", EXACT_LRU)];
    legend.extend(CURVES.iter().map(|(cache, stroke)| (cache.name(), *stroke)));
    drawing.legend(MARGIN, 48.0, &legend);
    let width = (WIDTH - MARGIN) / TRACES_A_LINE as f64;
    for (at, trace) in traces.into_iter().enumerate() {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.trace == trace).collect();
        let panel = Panel {
            left: MARGIN + width * (at % TRACES_A_LINE) as f64,
            top: HEAD + 30.0 + TRACE_HEIGHT * (at / TRACES_A_LINE) as f64,
            width: width - MARGIN,
            height: TRACE_HEIGHT - 80.0,
            most: highest(&rows),
        };
        drawing.title(panel.left, panel.top - 10.0, trace);
        drawing.scale(&panel, "%");
        for percent in PERCENTS {
            let name = format!("{percent}%");
            drawing.text(x_of(&panel, *percent), panel.top + panel.height + 18.0, Anchor::Middle, &name);
        }
        curve(&mut drawing, &panel, &rows, OPTIMUM, |row| row.optimum);
        curve(&mut drawing, &panel, &rows, EXACT_LRU, |row| row.lru);
        // Ours last, over the others.
        for (cache, stroke) in CURVES.iter().rev() {
            curve(&mut drawing, &panel, &rows, *stroke, |row| row.hits.get(cache).copied());
        }
    }
    drawing.finish()
}

fn curve(drawing: &mut Drawing, panel: &Panel, rows: &[&Row], stroke: Stroke, value: impl Fn(&Row) -> Option<f64>) {
    let points = rows.iter().filter_map(|row| Some((x_of(panel, row.percent), panel.y(value(row)?))));
    let points: Vec<_> = points.collect();
    if !points.is_empty() {
        drawing.line(&points, stroke);
    }
}

/// Sizes lie side by side at equal distances: they grow by about the same factor.
fn x_of(panel: &Panel, percent: f64) -> f64 {
    let at = PERCENTS.iter().position(|other| *other == percent).unwrap_or_default();
    panel.left + panel.width * (at as f64 + 0.5) / PERCENTS.len() as f64
}

fn highest(rows: &[&Row]) -> f64 {
    let values = rows.iter().flat_map(|row| row.hits.values().chain(&row.optimum).copied());
    let highest = values.fold(0.0, f64::max);
    ((highest / 10.0).ceil() * 10.0).max(10.0)
}

/// Draws the speed in each workload.
pub(super) fn throughput(speeds: &[Speed]) -> String {
    let mut drawing = Drawing::new(WIDTH, HEAD + WORKLOAD_HEIGHT * Workload::ALL.len() as f64);
    drawing.title(MARGIN, 24.0, "Million operations per second, by threads");
    let legend: Vec<_> = Candidate::ALL.iter().map(|cache| (cache.name(), solid(colour(*cache), 10.0))).collect();
    drawing.legend(MARGIN, 48.0, &legend);
    for (at, workload) in Workload::ALL.iter().enumerate() {
        let speeds: Vec<&Speed> = speeds.iter().filter(|speed| speed.workload == *workload).collect();
        let mut threads: Vec<usize> = speeds.iter().map(|speed| speed.threads).collect();
        threads.dedup();
        let panel = Panel {
            left: MARGIN,
            top: HEAD + 30.0 + WORKLOAD_HEIGHT * at as f64,
            width: WIDTH - 2.0 * MARGIN,
            height: WORKLOAD_HEIGHT - 80.0,
            most: speeds.iter().map(|speed| stats::median(&speed.rounds)).fold(1.0, f64::max).ceil(),
        };
        drawing.title(panel.left, panel.top - 10.0, workload.name());
        drawing.scale(&panel, "");
        let group = panel.width / threads.len().max(1) as f64;
        for (at, threads) in threads.iter().enumerate() {
            let left = panel.left + group * at as f64;
            let speeds: Vec<_> = speeds.iter().filter(|speed| speed.threads == *threads).collect();
            let bar = group * 0.9 / speeds.len() as f64;
            for (at, speed) in speeds.iter().enumerate() {
                let top = panel.y(stats::median(&speed.rounds));
                let x = left + group * 0.05 + bar * at as f64;
                drawing.bar(x, top, bar * 0.85, panel.top + panel.height - top, colour(speed.cache));
            }
            let name = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            drawing.text(left + group / 2.0, panel.top + panel.height + 18.0, Anchor::Middle, &name);
        }
    }
    drawing.finish()
}

const fn colour(cache: Candidate) -> &'static str {
    match cache {
        Candidate::Ours => "#d62728",
        Candidate::OursLru => "#f4a3a3",
        Candidate::Moka => "#8c564b",
        Candidate::Quick => "#1f77b4",
        Candidate::Quick64 => "#7fb2dd",
        Candidate::FoyerS3fifo => "#2ca02c",
        Candidate::FoyerLfu => "#7ccf7c",
        Candidate::FoyerLru => "#b9e3b9",
        Candidate::Lru16 => "#7f7f7f",
        Candidate::Lru64 => "#b5b5b5",
        Candidate::TinyUfo => "#9467bd",
    }
}

const fn solid(colour: &'static str, width: f64) -> Stroke {
    Stroke { colour, width, dashed: false }
}

/// The caches whose curves are drawn: one for each policy, ours over the others.
const CURVES: &[(Candidate, Stroke)] = &[
    (Candidate::Ours, solid(colour(Candidate::Ours), 2.5)),
    (Candidate::Moka, solid(colour(Candidate::Moka), 1.5)),
    (Candidate::Quick, solid(colour(Candidate::Quick), 1.5)),
    (Candidate::FoyerS3fifo, solid(colour(Candidate::FoyerS3fifo), 1.5)),
    (Candidate::FoyerLfu, solid(colour(Candidate::FoyerLfu), 1.5)),
    (Candidate::TinyUfo, solid(colour(Candidate::TinyUfo), 1.5)),
];
const OPTIMUM: Stroke = Stroke { colour: "#222222", width: 1.5, dashed: true };
const EXACT_LRU: Stroke = Stroke { colour: "#7f7f7f", width: 1.5, dashed: true };
/// As wide as a page of a repository shows without making it smaller.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 50.0;
/// Room for the title and the legend.
const HEAD: f64 = 90.0;
const TRACES_A_LINE: usize = 3;
const TRACE_HEIGHT: f64 = 250.0;
const WORKLOAD_HEIGHT: f64 = 250.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trace_and_every_speed_is_drawn() {
        let row = |trace: &str, percent, hits| Row {
            trace: trace.to_owned(),
            percent,
            capacity: 100,
            requests: 1_000,
            hits: [(Candidate::Ours, hits)].into(),
            byte_hits: None,
            optimum: Some(hits + 10.0),
            lru: None,
        };
        let drawn = hit_ratio(&[row("a", 1.0, 20.0), row("a", 2.0, 30.0), row("b", 1.0, 40.0)]);
        assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"));
        assert!(drawn.contains(">a</text>") && drawn.contains(">b</text>"));
        assert!(!drawn.contains("NaN"));

        let speed = |cache| Speed { workload: Workload::GetHit, threads: 2, cache, rounds: vec![1.0, 2.0, 3.0] };
        let drawn = throughput(&[speed(Candidate::Ours), speed(Candidate::Moka)]);
        assert_eq!(drawn.matches("<rect x").count(), 2);
        assert!(drawn.contains(">2 threads</text>") && !drawn.contains("NaN"));
    }
}
