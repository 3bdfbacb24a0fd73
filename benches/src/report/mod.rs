//! `core-bench report`: a page of tables and two plots, from what was measured.

mod losses;
mod plots;
mod svg;
mod tables;

use std::{fs, path::Path};

use anyhow::Context;

use crate::{parallel, results::Results, targets};

/// Writes `RESULTS.md` and the plots into a folder.
///
/// # Errors
///
/// What was measured cannot be read, or the page not be written.
pub fn run(out: &Path, folder: &Path) -> anyhow::Result<()> {
    let results = Results::read(out)?;
    let plots = folder.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("cannot create {}", plots.display()))?;
    let write = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
        anyhow::Ok(())
    };
    if !results.hit_ratio.is_empty() {
        write(&plots.join(HIT_RATIO_PLOT), &plots::hit_ratio(&results.hit_ratio))?;
    }
    if !results.throughput.is_empty() {
        write(&plots.join(THROUGHPUT_PLOT), &plots::throughput(&results.throughput))?;
    }
    write(&folder.join("RESULTS.md"), &page(&results))
}

fn page(results: &Results) -> String {
    let mut sections = vec![head()];
    sections.push(target_lines(results));
    sections.push(losses::section(results));
    sections.extend(tables::throughput(results, &format!("plots/{THROUGHPUT_PLOT}")));
    sections.extend(tables::latency(results));
    sections.extend(tables::hit_ratio(results, &format!("plots/{HIT_RATIO_PLOT}")));
    sections.extend(tables::memory(results));
    sections.extend(tables::flight(results));
    sections.extend(tables::collide(results));
    sections.extend(tables::clean_build(results));
    sections.join("\n")
}

fn head() -> String {
    format!(
        "# distcache-core, measured\n\n\
         This page and its plots are written by\n\n\
         ```sh\ncargo xtask bench core\n```\n\n\
         Machine: {} processors, {}. Only ratios within one run mean anything on another. Every figure of speed is the median of \
         several rounds, in which the caches take turns; peers are set up as their documentation says, with their own hashers and, \
         but where the name says otherwise, their own number of shards.\n",
        parallel::processors(),
        processor_name()
    )
}

fn processor_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "of unknown name".to_owned(), |(_, name)| name.trim().to_owned())
}

fn target_lines(results: &Results) -> String {
    let lines: Vec<_> = targets::targets(results).iter().map(ToString::to_string).collect();
    format!("## Targets\n\nAs `cargo xtask targets core` prints them.\n\n```text\n{}\n```\n", lines.join("\n"))
}

const HIT_RATIO_PLOT: &str = "core-hit-ratio.svg";
const THROUGHPUT_PLOT: &str = "core-throughput.svg";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_measurements_says_so_and_has_no_tables() {
        let page = page(&Results::default());
        assert!(page.starts_with("# distcache-core, measured\n"));
        assert!(page.contains("skipped: not measured"));
        assert!(!page.contains('|'), "{page}");
    }
}
