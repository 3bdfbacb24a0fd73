//! What attacks make a server of the transport hold, and what fuzzing finds in it: the tests that CI runs, as a measurement.

use std::{fs, path::Path, process::Stdio};

use anyhow::Context;
use serde_json::json;

use crate::{
    fuzz,
    workspace::{cargo, run as run_command},
};

/// Runs the attacks and the fuzz targets, and stores how they ended.
///
/// # Errors
/// They cannot be built, or the result not be written. An attack that holds too much, or a panic, is a result.
pub(crate) fn run(out: &Path, quick: bool) -> anyhow::Result<()> {
    let (memory_share, memory_passed) = memory()?;
    let fuzz_seconds = if quick { 2 } else { 10 };
    let fuzz_panics = match fuzz::missing()? {
        None => Some(panics(fuzz_seconds)?),
        Some(why) => {
            println!("skipped: fuzzing, {why}");
            None
        }
    };
    let attacks = json!({
        "memory_share": memory_share,
        "memory_passed": memory_passed,
        "fuzz_panics": fuzz_panics,
        "fuzz_seconds": fuzz_seconds,
    });
    let path = out.join("attacks.jsonl");
    fs::create_dir_all(out)?;
    fs::write(&path, format!("{attacks}\n")).with_context(|| format!("cannot write {}", path.display()))
}

/// Returns the largest share of its bound that an attack made the server hold, and whether the test passed.
fn memory() -> anyhow::Result<(f64, bool)> {
    let test = ["test", "--package", "distcache-transport", "--test", "memory"];
    // A test that does not compile has no result.
    let mut build = cargo(&test);
    build.arg("--no-run");
    run_command(build)?;
    let mut command = cargo(&test);
    command.args(["--", "--nocapture"]).stderr(Stdio::inherit());
    let done = command.output().context("cannot start the test of the memory")?;
    let printed = String::from_utf8(done.stdout)?;
    print!("{printed}");
    let share = printed.lines().filter_map(share).max_by(f64::total_cmp);
    Ok((share.context("the test of the memory told of no attack")?, done.status.success()))
}

/// Reads a line of the test, which ends with `123 KiB of 456 allowed`.
fn share(line: &str) -> Option<f64> {
    let (held, allowed) = line.strip_suffix(" allowed")?.split_once(" KiB of ")?;
    let held: f64 = held.rsplit(' ').next()?.parse().ok()?;
    let allowed: f64 = allowed.trim().parse().ok()?;
    Some(held / allowed)
}

/// Returns how many targets something was found in.
fn panics(seconds: u32) -> anyhow::Result<u32> {
    let mut found = 0;
    for target in fuzz::OF_TRANSPORT {
        // One that does not compile has no result.
        run_command(fuzz::build(target)).with_context(|| format!("fuzz target {target}"))?;
        if let Err(error) = run_command(fuzz::command(target, seconds)?) {
            eprintln!("fuzz target {target}: {error:#}");
            found += 1;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_memory_test_is_read_as_a_share() {
        assert_eq!(share("cancel flood                        256 KiB of    1024 allowed"), Some(0.25));
        assert_eq!(share("8 x half                              3 KiB of       2 allowed"), Some(1.5));
        assert_eq!(share("one connection: 8 KiB, the server: 9 KiB"), None);
        assert_eq!(share("test attacks_stay_within_the_formula ... ok"), None);
    }
}
