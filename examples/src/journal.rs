//! What is told of every read and write, for whoever judges whether a value was too old.
//!
//! Times are microseconds since 1970 by the machine's clock: those of processes on one machine can be compared.

use serde::{Deserialize, Serialize};

/// How to read and write numbered keys so that every read and write is told.
///
/// Keys are written in the mode of `modes[number % modes.len()]`. Keys that are put are written by one of the `writers` each, for of two
/// values that are put at once either may stay; keys that are deleted are written by all of them. Half of the reads are of the first eighth of the
/// keys, so that these are hot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// How many keys, from 0.
    pub keys: u32,
    /// How many reads are under way at one time, and how many writes.
    pub callers: u32,
    /// Reads a second, if the callers keep up.
    pub reads: u32,
    /// Writes a second, likewise. None if it is 0.
    pub writes: u32,
    /// The ways to write.
    pub modes: Vec<Mode>,
    /// Which of the writers this node is, from 0.
    pub writer: u32,
    /// How many nodes write.
    pub writers: u32,
    /// What keys are chosen by.
    pub seed: u64,
    /// Every so many writes is told as made though the cache was not told: a defect, to see that it is found. Defaults to none.
    #[serde(default)]
    pub forget_every: u32,
}

/// How a key is written, after its row in the database was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is deleted.
    Delete,
    /// Its new value is put.
    Put,
    /// It is deleted on every node before the write returns.
    Strict,
    /// Its new value is put, and the old one gone from every node, before the write returns.
    StrictPut,
}

impl Mode {
    /// Whether a value is put.
    #[must_use]
    pub const fn puts(self) -> bool {
        matches!(self, Self::Put | Self::StrictPut)
    }
}

/// The reads and writes of a tenth of a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The node's name.
    pub node: String,
    /// Its process: the next one under this name is another.
    pub pid: u32,
    /// When this was told.
    pub at_us: u64,
    /// How often the process saw a member go since it began to tell.
    pub left: u64,
    /// Reads that found a value of their key.
    pub reads: Vec<Seen>,
    /// Reads that failed.
    pub errors: u64,
    /// Reads of something else than a value of their key.
    pub wrong: u64,
    /// The first that failed or was wrong, if any.
    pub first_fault: Option<String>,
    /// Writes that came to an end.
    pub writes: Vec<Written>,
    /// Writes that the database did not take: nothing was changed and nobody told.
    pub unwritten: u64,
}

/// A read: which number, which version, when it began and when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen(pub u32, pub u64, pub u64, pub u64);

/// A write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Which key.
    pub number: u32,
    /// The version that the database has had since `committed_us`.
    pub version: u64,
    /// How the cache was told.
    pub mode: Mode,
    /// When the database had it.
    pub committed_us: u64,
    /// When the cache had said that it is done.
    pub returned_us: u64,
    /// Who had not heard; nobody, when it was applied.
    pub pending: Vec<String>,
    /// The cache's error, which is none of the promised outcomes.
    pub error: Option<String>,
}
