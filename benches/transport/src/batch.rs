//! `transport-bench batch`: a hundred keys in one call.

use std::{path::Path, time::Duration};

use crate::{Subject, round_trips, serve};
use distcache_benches::records;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many times each runs.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// For how long each time.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 300)]
    pub time: u64,
}

/// Measures our link beside a raw socket with the same bytes, and stores all.
///
/// # Errors
///
/// A server does not start, a call fails, or the results cannot be written.
pub fn run(args: &Args, out: &Path) -> anyhow::Result<()> {
    let rates = serve::runtime()?.block_on(async {
        let mut clients = round_trips::clients(&[Subject::Raw, Subject::Ours]).await?;
        let mut rates = Vec::new();
        for in_flight in [1, 16] {
            let time = Duration::from_millis(args.time);
            let load = round_trips::Load { value: 128, keys: KEYS, in_flight, time };
            rates.extend(round_trips::contest(&mut clients, &load, args.rounds).await?);
        }
        anyhow::Ok(rates)
    })?;
    records::write(out, FILE, &rates)
}

/// The file of [`Rate`](round_trips::Rate)s.
pub const FILE: &str = "batch.jsonl";
/// Keys of a call.
pub const KEYS: usize = 100;
