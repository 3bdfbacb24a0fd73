//! The project's tasks, one file each: `cargo xtask --help` lists them.
//!
//! What CI runs is `ci`, and nothing else; so whatever CI can find can be found before. Only Rust is needed.

mod ci;
mod cluster;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The tasks of the project.")]
enum Task {
    /// Runs every gate of CI, and prints how long each took.
    Ci(ci::Args),
    /// Runs a cluster of real processes through a script of checks.
    Cluster(cluster::Args),
    /// Checks the repository's own rules.
    Tidy,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Ci(args) => ci::run(&args),
        Task::Cluster(args) => cluster::run(&args),
        Task::Tidy => tidy::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
