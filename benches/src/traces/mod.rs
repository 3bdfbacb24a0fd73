//! Traces of real accesses: data to measure with, which is not part of the project.

mod formats;

use std::{
    collections::HashMap,
    env,
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use flate2::read::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use self::formats::Format;

/// The accesses of one trace, in order.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The short name.
    pub name: &'static str,
    /// What was asked for.
    pub requests: Vec<Request>,
    /// How many different keys that are.
    pub unique: u64,
    /// The bytes of all different keys together, each in the size it was first asked in, if the trace knows sizes.
    pub unique_bytes: Option<u64>,
}

/// One access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub key: u64,
    /// Its size in bytes, or 1 if the trace does not know sizes.
    pub size: u32,
}

/// A trace that may be there.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// The short name.
    pub name: &'static str,
    file: &'static str,
    format: Format,
}

/// Returns the folder in which traces are looked for: `DISTCACHE_TRACES`, or `../shared/traces` beside the workspace.
#[must_use]
pub fn folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    env::var_os("DISTCACHE_TRACES").map_or_else(beside, PathBuf::from)
}

impl Source {
    /// Reads the trace.
    ///
    /// # Errors
    ///
    /// It is not there, or not in the format it should have.
    pub fn read(&self, folder: &Path) -> anyhow::Result<Trace> {
        let path = folder.join(self.file);
        let bytes = decompress(&path).with_context(|| format!("cannot read the trace {}", path.display()))?;
        let requests = self
            .format
            .parse(&bytes)
            .with_context(|| format!("the trace {} is not what it should be", path.display()))?;
        Ok(Trace::new(self.name, requests, self.format == Format::Sized))
    }
}

impl Trace {
    /// Creates a trace of its requests.
    #[must_use]
    pub fn new(name: &'static str, requests: Vec<Request>, is_sized: bool) -> Self {
        let mut sizes = HashMap::new();
        for request in &requests {
            sizes.entry(request.key).or_insert(request.size);
        }
        let unique_bytes = is_sized.then(|| sizes.values().map(|size| u64::from(*size)).sum());
        Self { name, requests, unique: sizes.len() as u64, unique_bytes }
    }
}

fn decompress(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = BufReader::new(File::open(path)?);
    let mut bytes = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => GzDecoder::new(file).read_to_end(&mut bytes)?,
        Some("xz") => XzReader::new(file, true).read_to_end(&mut bytes)?,
        Some("zst") => StreamingDecoder::new(file)?.read_to_end(&mut bytes)?,
        _ => bail!("it has no known ending"),
    };
    Ok(bytes)
}

/// Every trace that is measured with.
pub const SOURCES: &[Source] = &[
    Source { name: "oltp", file: "arc_OLTP.lis.zst", format: Format::Arc },
    Source { name: "w106", file: "cloud_physics_w106.trace.xz", format: Format::BigEndian32 },
    Source { name: "scarab-recs", file: "scarab_scarab-recs.trace.xz", format: Format::BigEndian64 },
    Source { name: "corda", file: "corda_trace_vaultservice.gz", format: Format::BigEndian64 },
    Source { name: "orm-busy", file: "cache2k_orm-busy.trace.xz", format: Format::BigEndian32 },
    Source { name: "web07", file: "cache2k_web07.trace.xz", format: Format::BigEndian32 },
    Source { name: "gli", file: "lirs_gli.trace.gz", format: Format::Lines },
    Source { name: "multi1", file: "lirs_multi1.trace.gz", format: Format::Lines },
    Source { name: "multi3", file: "lirs_multi3.trace.gz", format: Format::Lines },
    Source { name: "2_pools", file: "lirs_2_pools.trace.gz", format: Format::Lines },
    Source { name: "cpp", file: "lirs_cpp.trace.gz", format: Format::Lines },
    Source { name: "cs", file: "lirs_cs.trace.gz", format: Format::Lines },
    Source { name: "ps", file: "lirs_ps.trace.gz", format: Format::Lines },
    Source { name: "loop", file: "lirs_loop.trace.gz", format: Format::Lines },
    Source { name: "adaptsize", file: "adapt_size_request.trace.xz", format: Format::Sized },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_knows_how_much_it_asks_for_in_all() {
        let requests = [(1, 10), (2, 20), (1, 11)].map(|(key, size)| Request { key, size });
        let sized = Trace::new("sized", requests.to_vec(), true);
        assert_eq!((sized.unique, sized.unique_bytes), (2, Some(30)));
        assert_eq!(Trace::new("plain", requests.to_vec(), false).unique_bytes, None);
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_with_its_name() {
        let error = SOURCES[0].read(Path::new("no/such/folder")).unwrap_err();
        assert!(error.to_string().contains(SOURCES[0].file), "{error:#}");
    }
}
