//! One cache node as a process, told what to do by lines of JSON on its standard input.
//!
//! ```text
//! $ cargo run -p distcache-examples --bin distcache-node -- --name a --database cities.db --create
//! {"ok":{"addr":"127.0.0.1:40113","clock_ms":1796000000000,"name":"a","pid":4242}}
//! {"do":"get","key":"2643743"}
//! {"ok":{"value":"{\"geonameid\":2643743,\"name\":\"London\", ...}"}}
//! ```
//!
//! A second one joins it with `--name b --database cities.db --seeds 127.0.0.1:40113`. The requests, each with its answer,
//! are those of `distcache_examples::Request`:
//!
//! ```text
//! {"do":"read-all"}  {"do":"read-all","readers":8}     reads every city, checks it against the database, times it
//! {"do":"get","key":K}  {"do":"put","key":K,"value":V}
//! {"do":"delete","key":K}  {"do":"delete-many","keys":[K,...]}
//! {"do":"update","keys":[K,...],"population":N}        changes the database, not the cache
//! {"do":"stats"}  {"do":"members"}  {"do":"wait-members","count":3,"within_ms":15000}
//! {"do":"shutdown"}
//!
//! {"do":"load","keys":2000,"callers":4,"rate":200}  {"do":"stop-load"}    reads at a steady rate, with a line every 100 ms
//! {"do":"scan","numbers":30}  {"do":"scan","numbers":[4,7],"readers":8}   as read-all, for numbered keys
//! {"do":"storm","number":4,"callers":64}               many callers, one key
//! {"do":"owned","numbers":500}                         which of them this node owns
//! {"do":"raise","numbers":[4,7]}                       a new version in the database, not the cache
//! {"do":"forget","numbers":[4,7]}  {"do":"version-stats"}
//! {"do":"audit","keys":64,"callers":4,"reads":200,"writes":10,"modes":["delete","put"],"writer":0,"writers":3,"seed":1}
//! {"do":"stop-audit"}                                  reads and writes, and a line every 100 ms that tells each
//! {"do":"fill","numbers":100000}  {"do":"hammer","number":4,"callers":8,"for_ms":2000}
//! {"do":"drop-versions"}  {"do":"define-versions"}  {"do":"wait-dropped"}
//! ```
//!
//! What is logged goes to standard error; `RUST_LOG` says how much. The process ends when its input is closed.

use std::process::ExitCode;

use clap::Parser;
use distcache_examples::node::{self, Args};

#[derive(Debug, Parser)]
#[command(name = "distcache-node", about = "One cache node, told what to do by lines of JSON on its standard input.")]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    match node::run(&Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // On one line, with its causes: whoever started the node has its errors between its own.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
