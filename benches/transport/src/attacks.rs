//! What attacks on a server made it hold, and what fuzzing found: `cargo xtask` runs them and stores this.

use serde::{Deserialize, Serialize};

/// How attacks ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Attacks {
    /// The largest share of what an attack was allowed to make the server hold that one did make it hold.
    pub memory_share: f64,
    /// Whether the test passed: it also looks at what attacks leave behind.
    pub memory_passed: bool,
    /// How many fuzz targets found a panic; none if they were not run.
    pub fuzz_panics: Option<u32>,
    /// For how many seconds each was run.
    pub fuzz_seconds: u32,
}

/// The file of [`Attacks`].
pub const FILE: &str = "attacks.jsonl";
