//! What was measured, kept as lines of JSON: a file for each kind of measurement, written anew each time.

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};

/// Writes the records of one kind into a folder.
///
/// # Errors
///
/// The file cannot be written.
pub fn write<T: Serialize>(folder: &Path, name: &str, records: &[T]) -> anyhow::Result<()> {
    let path = folder.join(name);
    let written = || {
        fs::create_dir_all(folder)?;
        let mut file = BufWriter::new(fs::File::create(&path)?);
        for record in records {
            serde_json::to_writer(&mut file, record)?;
            file.write_all(b"\n")?;
        }
        anyhow::Ok(file.flush()?)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the records of one kind. None were measured if the file is not there.
///
/// # Errors
///
/// The file cannot be read, or a line is no such record.
pub fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> anyhow::Result<Vec<T>> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let records = text.lines().map(serde_json::from_str);
    records.collect::<Result<_, _>>().with_context(|| format!("{} holds other records", path.display()))
}

/// The file of [`hit_ratio::Row`](crate::hit_ratio::Row)s.
pub const HIT_RATIO: &str = "hit-ratio.jsonl";
/// The file of [`throughput::Speed`](crate::throughput::Speed)s.
pub const THROUGHPUT: &str = "throughput.jsonl";
/// The file of [`latency::Tail`](crate::latency::Tail)s.
pub const LATENCY: &str = "latency.jsonl";
/// The file of [`memory::Overhead`](crate::memory::Overhead)s.
pub const MEMORY: &str = "memory.jsonl";
/// The file of [`flight::Storms`](crate::flight::Storms).
pub const FLIGHT: &str = "flight.jsonl";
/// The file of [`collide::Spread`](crate::collide::Spread)s.
pub const COLLIDE: &str = "collide.jsonl";
/// The file of [`clean_build::CleanBuild`](crate::clean_build::CleanBuild)s.
pub const CLEAN_BUILD: &str = "clean-build.jsonl";
