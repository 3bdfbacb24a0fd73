//! The project's tasks, one file each: `cargo xtask --help` lists them.
//!
//! What CI runs is `ci`, and nothing else; so whatever CI can find can be found before. Only Rust is needed; `install` gets what some measurements
//! use besides, where it can be had.

mod attacks;
mod bench;
mod ci;
mod cluster;
mod external;
mod fuzz;
mod measure;
mod sim;
mod targets;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The tasks of the project.")]
enum Task {
    /// Measures an area beside its peers, and writes the page of results.
    Bench(bench::Args),
    /// Runs a cluster under faults, and finds every value that was older than the contract allows.
    CheckConsistency(cluster::CheckArgs),
    /// Runs every gate of CI, and prints how long each took.
    Ci(ci::Args),
    /// Runs a cluster of real processes through a script of checks.
    Cluster(cluster::Args),
    /// Gets the programs that measurements need beyond Rust, into the target folder.
    Install(tools::Args),
    /// Simulates clusters in virtual time, from seeds, with faults.
    #[command(disable_help_flag = true)]
    Sim(sim::Args),
    /// Measures an area, and tells for each target whether it is reached.
    Targets(targets::Args),
    /// Runs the tests, or those that need servers of others.
    Test(external::Args),
    /// Checks the repository's own rules.
    Tidy,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Bench(args) => bench::run(&args),
        Task::CheckConsistency(args) => cluster::check(&args),
        Task::Ci(args) => ci::run(&args),
        Task::Cluster(args) => cluster::run(&args),
        Task::Install(args) => tools::run(&args),
        Task::Sim(args) => sim::run(&args),
        Task::Targets(args) => targets::run(&args),
        Task::Test(args) => external::run(&args),
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
