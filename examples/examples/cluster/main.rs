//! Three processes, one cache, one database: `cargo run --release -p distcache-examples --example cluster`.
//!
//! The program starts itself three times as a node, and talks to the nodes by lines of JSON. Every figure it prints was
//! measured in this run; it ends with an error if any check fails.

mod report;

use std::{
    env,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use distcache_examples::{
    Cities, City, Found, MemberList, NodeProcess, NodeStats, Pending, ReadReport, Request, Scratch, Stopped, node,
};

use report::{Checks, grouped, print_table, time};

#[derive(Debug, Parser)]
#[command(about = "Three processes on loopback, one cache over an embedded database of real cities.")]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// What the example starts itself as.
    #[command(hide = true)]
    Node(node::Args),
}

fn main() -> ExitCode {
    let ended = match Cli::parse().role {
        Some(Role::Node(args)) => node::run(&args).map(|()| ExitCode::SUCCESS),
        None => run(),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let scratch = Scratch::new("cluster")?;
    let mut show = Show::open(&scratch)?;
    show.read_cold()?;
    show.read_warm()?;
    show.update_and_delete()?;
    show.kill_one()?;
    show.shut_down()?;

    let (made, failed) = (show.checks.made(), show.checks.failed());
    let took = time(start.elapsed());
    if failed > 0 {
        println!("\n{failed} of {made} checks FAILED, in {took}");
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "\nall {made} checks passed in {took}: one load for each key whatever the number of readers, every value right on \
         every node,\nno stale read after a delete, no failed read after a kill"
    );
    Ok(ExitCode::SUCCESS)
}

/// The running cluster, and what is to be known about it.
struct Show {
    checks: Checks,
    cities: Cities,
    /// How many cities, which is how many distinct keys, there are.
    count: usize,
    nodes: Vec<NodeProcess>,
    /// What each node had counted when the current round began.
    before: Vec<NodeStats>,
}

impl Show {
    /// Makes the database and starts the nodes.
    fn open(scratch: &Scratch) -> anyhow::Result<Self> {
        let database = scratch.path().join("cities.db");
        let cities = Cities::create(&database)?;
        let count = cities.rows()?.len();
        println!(
            "{} cities in an SQLite database; three processes that share one cache of it\n",
            grouped(count as u64)
        );

        let start = Instant::now();
        let mut nodes: Vec<NodeProcess> = Vec::new();
        for name in NAMES {
            let mut command = Command::new(env::current_exe()?);
            command.args(["node", "--name", name, "--database"]).arg(&database);
            if let Some(first) = nodes.first() {
                command.args(["--seeds", first.addr()]);
            }
            if env::var_os("RUST_LOG").is_none() {
                // A killed peer is a warning to the others, and the point of this example.
                command.env("RUST_LOG", "error");
            }
            let node = NodeProcess::spawn(command, PATIENCE)?;
            println!("  {}: process {}, {}", node.name(), node.pid(), node.addr());
            nodes.push(node);
        }
        let before = vec![NodeStats::default(); nodes.len()];
        let mut show = Self { checks: Checks::default(), cities, count, nodes, before };
        let joined = show.wait_for_members();
        let took = time(start.elapsed());
        show.checks.check(joined.is_ok(), format!("each of the three sees the three of them, after {took}"));
        joined.map(|()| show)
    }

    fn read_cold(&mut self) -> anyhow::Result<()> {
        println!("\n1. nothing is cached; all three read every city, in the same order, at the same time");
        let loads = self.read_round(READERS)?;
        let reads = self.nodes.len() * self.count;
        let claim = format!(
            "{} loads for {} distinct keys and {} reads",
            grouped(loads),
            grouped(self.count as u64),
            grouped(reads as u64)
        );
        self.checks.check(loads == self.count as u64, claim);
        Ok(())
    }

    fn read_warm(&mut self) -> anyhow::Result<()> {
        println!("\n2. the same again, one read at a time on each node");
        let loads = self.read_round(1)?;
        self.checks.check(loads == 0, format!("{loads} loads: everything is in the memory of its owner"));
        Ok(())
    }

    fn update_and_delete(&mut self) -> anyhow::Result<()> {
        println!("\n3. London's population changes in the database, and {} deletes its key", self.nodes[1].name());
        let get = Request::Get { key: LONDON.to_owned() };
        let old: Found = self.nodes[0].ask(&get, PATIENCE)?;
        println!("  before the update, {} reads {}", self.nodes[0].name(), population(&old)?);
        self.cities.set_population(&[LONDON], NEW_POPULATION)?;
        let rows = self.cities.rows()?;
        let (_, row) = rows.iter().find(|(key, _)| key == LONDON).context("London is gone")?;

        let start = Instant::now();
        let deleted: Pending = self.nodes[1].ask(&Request::Delete { key: LONDON.to_owned() }, PATIENCE)?;
        let took = time(start.elapsed());
        self.checks.check(deleted.pending.is_empty(), format!("the delete was applied, in {took}"));
        for node in &mut self.nodes {
            let new: Found = node.ask(&get, PATIENCE)?;
            let is_new = new != old && new.value.as_ref().is_some_and(|value| value.as_bytes() == row);
            self.checks.check(is_new, format!("{} reads {}", node.name(), population(&new)?));
        }
        Ok(())
    }

    fn kill_one(&mut self) -> anyhow::Result<()> {
        let victim = self.nodes.pop().context("there is a third node")?;
        self.before.pop();
        println!("\n4. {} is killed; the other two go on reading every city, over and over", victim.name());
        let name = victim.name().to_owned();
        victim.kill()?;
        let killed = Instant::now();

        let mut total = ReadReport::default();
        let mut gone = None;
        for round in 0.. {
            let reports = self.read_all(READERS)?;
            if round == 0 {
                self.nodes.iter().zip(&reports).for_each(|(node, report)| print_first(node.name(), report));
            }
            for report in reports {
                total.reads += report.reads;
                total.wrong += report.wrong;
                total.errors += report.errors;
                total.first_fault = total.first_fault.or(report.first_fault);
            }
            if gone.is_some() || killed.elapsed() > PATIENCE {
                break;
            }
            if self.members()?.iter().all(|members| !members.contains(&name)) {
                // Once more from here on, with the keys of the dead node on new owners.
                gone = Some(killed.elapsed());
            }
        }
        let reads = usize::try_from(total.reads)?;
        self.checks.clean("both, from the kill on", &total, reads);
        let after = gone.map_or_else(|| "never".to_owned(), time);
        self.checks.check(gone.is_some(), format!("{name} is out of the members of both, {after} after the kill"));

        let now = self.stats()?;
        let fallbacks = now.iter().zip(&self.before).map(|(now, before)| now.since(before).fallbacks).sum();
        println!("  {} of those reads were of its keys, and went to the database", grouped(fallbacks));
        self.before = now;
        println!("  and now that its keys have new owners:");
        let loads = self.read_round(1)?;
        self.checks.check(loads == 0, format!("{loads} loads: the two hold everything"));
        Ok(())
    }

    fn shut_down(&mut self) -> anyhow::Result<()> {
        println!("\n5. the other two shut down");
        for mut node in self.nodes.drain(..) {
            let name = node.name().to_owned();
            let Stopped { took_ms } = node.ask(&Request::Shutdown, PATIENCE)?;
            let status = node.wait(PATIENCE)?;
            self.checks.check(status.success(), format!("{name}: left and ended in {took_ms} ms, {status}"));
        }
        Ok(())
    }

    /// Reads every city through every node at the same time, prints what the nodes did, and returns what the database had to.
    fn read_round(&mut self, readers: usize) -> anyhow::Result<u64> {
        let reports = self.read_all(readers)?;
        let now = self.stats()?;
        let round: Vec<_> = now.iter().zip(&self.before).map(|(now, before)| now.since(before)).collect();
        self.before = now;

        print_table(
            self.nodes.iter().zip(&round).zip(&reports).map(|((node, stats), report)| (node.name(), stats, report)),
        );
        for (node, report) in self.nodes.iter().zip(&reports) {
            self.checks.clean(node.name(), report, self.count);
        }
        let agree = round.iter().all(|stats| stats.adds_up() && stats.source_loads == stats.fetches);
        self.checks.check(agree, "the cache's own counts add up, and agree with the database's");
        Ok(round.iter().map(|stats| stats.fetches).sum())
    }

    fn read_all(&mut self, readers: usize) -> anyhow::Result<Vec<ReadReport>> {
        for node in &mut self.nodes {
            node.send(&Request::ReadAll { readers })?;
        }
        self.nodes.iter_mut().map(|node| node.receive(PATIENCE)).collect()
    }

    fn stats(&mut self) -> anyhow::Result<Vec<NodeStats>> {
        self.nodes.iter_mut().map(|node| node.ask(&Request::Stats, PATIENCE)).collect()
    }

    fn members(&mut self) -> anyhow::Result<Vec<Vec<String>>> {
        let lists = self.nodes.iter_mut().map(|node| node.ask::<MemberList>(&Request::Members, PATIENCE));
        lists.map(|list| Ok(list?.members)).collect()
    }

    fn wait_for_members(&mut self) -> anyhow::Result<()> {
        let request = Request::WaitMembers { count: self.nodes.len(), within_ms: 10_000 };
        self.nodes.iter_mut().try_for_each(|node| node.ask::<MemberList>(&request, PATIENCE).map(drop))
    }
}

fn print_first(node: &str, report: &ReadReport) {
    let (p50, p99, max) = (time(report.p50()), time(report.p99()), time(report.max()));
    let (reads, took) = (grouped(report.reads), report.took_ms);
    println!("  {node}: first {reads} reads after the kill: {took} ms, p50 {p50}, p99 {p99}, slowest {max}");
}

fn population(found: &Found) -> anyhow::Result<String> {
    let value = found.value.as_deref().context("London is not there")?;
    let city: City = serde_json::from_str(value)?;
    Ok(format!("{}, {} inhabitants", city.name, grouped(city.population.unsigned_abs())))
}

const NAMES: [&str; 3] = ["node-a", "node-b", "node-c"];
/// London's `geonameid`.
const LONDON: &str = "2643743";
/// A number that no census will find.
const NEW_POPULATION: i64 = 12_345_678;
/// How many reads each process has under way when nothing is cached: enough that many wait for one load.
const READERS: usize = 8;
/// How long anything may take before the run has failed. A dead node is out after some 4 s, and a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(15);
