//! The script: what a cluster of processes is put through, and what must hold after each step.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::node::Node;
use crate::workspace::root;

pub(super) struct Script {
    program: PathBuf,
    database: PathBuf,
    /// How many nodes there shall be.
    size: usize,
    /// The keys of all cities.
    keys: Vec<String>,
    nodes: Vec<Node>,
}

/// A step of the script. What it returns are its figures.
type Step = fn(&mut Script) -> anyhow::Result<String>;

impl Script {
    pub(super) fn new(program: &Path, database: &Path, size: usize) -> anyhow::Result<Self> {
        let keys = keys()?;
        Ok(Self { program: program.to_owned(), database: database.to_owned(), size, keys, nodes: Vec::new() })
    }

    /// Takes the steps one after the other.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        for (claim, step) in STEPS {
            let start = Instant::now();
            let figures = step(&mut self).with_context(|| format!("does not hold: {claim}"))?;
            println!("ok {:>7.2} s  {claim}: {figures}", start.elapsed().as_secs_f64());
        }
        Ok(())
    }

    fn form(&mut self) -> anyhow::Result<String> {
        for number in 1..=self.size {
            self.spawn(number)?;
        }
        self.wait_for_members(self.size, JOIN)?;
        Ok(format!("{} processes see {} members", self.size, self.size))
    }

    fn everyone_reads_everything(&mut self) -> anyhow::Result<String> {
        let reads = self.read_everything()?;
        Ok(format!("{reads} reads, 0 wrong, 0 errors"))
    }

    fn one_load_a_key(&mut self) -> anyhow::Result<String> {
        // The data source's own count; the cache's must agree.
        let (loads, counted) = (self.sum("fetches")?, self.sum("source_loads")?);
        let keys = self.keys.len() as u64;
        ensure!(loads == keys && counted == keys, "{loads} loads ({counted} by the cache's count) of {keys} keys");
        Ok(format!("{loads} loads of {keys} keys"))
    }

    fn a_put_is_read_everywhere(&mut self) -> anyhow::Result<String> {
        applied(&self.nodes[0].ask(&json!({ "do": "put", "key": ODD, "value": ODD }))?)?;
        for node in &mut self.nodes {
            let found = node.ask(&json!({ "do": "get", "key": ODD }))?;
            ensure!(found["value"] == ODD, "{} reads {found}", node.name);
        }
        Ok(format!("put on {}, read on {} nodes", self.nodes[0].name, self.nodes.len()))
    }

    fn deleted_is_not_stale(&mut self) -> anyhow::Result<String> {
        let keys: Vec<_> = self.keys.iter().step_by(self.keys.len() / BATCH).take(BATCH).collect();
        let [first, .., last] = &mut self.nodes[..] else { bail!("there are two nodes at least") };
        let updated = first.ask(&json!({ "do": "update", "keys": keys, "population": 7 }))?;
        ensure!(updated["rows"] == BATCH, "{updated} of {BATCH} rows updated");
        // Were these not seen as stale now, none being seen afterwards would mean nothing.
        let before = last.ask(&json!({ "do": "read-all" }))?;
        ensure!(before["wrong"] == BATCH, "before the delete, {} reads {before}", last.name);

        applied(&first.ask(&json!({ "do": "delete-many", "keys": keys }))?)?;
        self.read_everything()?;
        Ok(format!(
            "{BATCH} rows updated: {BATCH} stale reads before the delete, 0 on {} nodes after",
            self.nodes.len()
        ))
    }

    fn missing_is_missing(&mut self) -> anyhow::Result<String> {
        for node in &mut self.nodes {
            let before = count(&node.ask(&json!({ "do": "stats" }))?, "missing")?;
            let found = node.ask(&json!({ "do": "get", "key": "no such city" }))?;
            let after = count(&node.ask(&json!({ "do": "stats" }))?, "missing")?;
            ensure!(found["value"].is_null(), "{} reads {found}", node.name);
            ensure!(after == before + 1, "{} counts {} missing reads for one", node.name, after - before);
        }
        Ok(format!("null on {} nodes, and counted so", self.nodes.len()))
    }

    fn killed_is_not_missed(&mut self) -> anyhow::Result<String> {
        let dead = self.nodes.pop().context("there is a node to kill")?;
        let name = dead.name.clone();
        dead.kill()?;
        let killed = Instant::now();
        let mut reads = 0;
        let mut first = None;
        loop {
            reads += self.read_everything()?;
            first.get_or_insert_with(|| killed.elapsed());
            if self.members()?.iter().all(|members| !members.contains(&name)) {
                break;
            }
            ensure!(killed.elapsed() < GONE, "{name} is a member still, {GONE:?} after it was killed");
        }
        let gone = killed.elapsed();
        reads += self.read_everything()?;
        let first = first.unwrap_or_default().as_secs_f64();
        Ok(format!(
            "{reads} reads, 0 wrong, 0 errors; all read once after {first:.2} s, {name} out of the members after {:.1} s",
            gone.as_secs_f64()
        ))
    }

    fn restarted_comes_back(&mut self) -> anyhow::Result<String> {
        self.spawn(self.size)?;
        self.wait_for_members(self.size, JOIN)?;
        let reads = self.read_everything()?;
        let back = &mut self.nodes[self.size - 1];
        let entries = count(&back.ask(&json!({ "do": "stats" }))?, "entries")?;
        ensure!(entries > 0, "{} holds nothing: it owns no key", back.name);
        Ok(format!("{} holds {entries} entries again; {reads} reads, 0 wrong, 0 errors", back.name))
    }

    fn all_leave(&mut self) -> anyhow::Result<String> {
        let mut slowest = Duration::ZERO;
        while let Some(mut node) = self.nodes.pop() {
            let start = Instant::now();
            node.ask(&json!({ "do": "shutdown" }))?;
            let name = node.name.clone();
            let status = node.wait(LEAVE)?;
            slowest = slowest.max(start.elapsed());
            ensure!(status.success(), "{name} ended with {status}");
            ensure!(start.elapsed() < LEAVE, "{name} took {:?} to leave", start.elapsed());
            // A node that takes its leave is out at once: nobody has to find out by its silence.
            self.wait_for_members(self.nodes.len(), LEAVE)?;
        }
        Ok(format!("{} nodes, one after the other; the slowest took {:.2} s", self.size, slowest.as_secs_f64()))
    }

    fn spawn(&mut self, number: usize) -> anyhow::Result<()> {
        let seeds: Vec<_> = self.nodes.iter().map(|node| node.addr.clone()).collect();
        let node = Node::spawn(&self.program, &format!("node-{number}"), &self.database, &seeds)?;
        self.nodes.push(node);
        Ok(())
    }

    /// Reads every city through every node at the same time, and returns how many reads that was.
    fn read_everything(&mut self) -> anyhow::Result<u64> {
        for node in &mut self.nodes {
            node.send(&json!({ "do": "read-all", "readers": READERS }))?;
        }
        let mut reads = 0;
        for node in &mut self.nodes {
            let report = node.receive()?;
            let clean = report["reads"] == self.keys.len() && report["wrong"] == 0 && report["errors"] == 0;
            ensure!(clean, "of {} cities, {} reports {report}", self.keys.len(), node.name);
            reads += count(&report, "reads")?;
        }
        Ok(reads)
    }

    fn sum(&mut self, counter: &str) -> anyhow::Result<u64> {
        self.nodes.iter_mut().map(|node| count(&node.ask(&json!({ "do": "stats" }))?, counter)).sum()
    }

    fn members(&mut self) -> anyhow::Result<Vec<Vec<String>>> {
        let lists = self.nodes.iter_mut().map(|node| {
            let mut answer = node.ask(&json!({ "do": "members" }))?;
            Ok(serde_json::from_value(answer["members"].take())?)
        });
        lists.collect()
    }

    fn wait_for_members(&mut self, members: usize, within: Duration) -> anyhow::Result<()> {
        let within = u64::try_from(within.as_millis())?;
        for node in &mut self.nodes {
            node.ask(&json!({ "do": "wait-members", "count": members, "within_ms": within }))?;
        }
        Ok(())
    }
}

fn applied(outcome: &Value) -> anyhow::Result<()> {
    let all_heard = outcome["pending"].as_array().is_some_and(Vec::is_empty);
    ensure!(all_heard, "a write on a healthy cluster was answered with {outcome}");
    Ok(())
}

fn count(answer: &Value, name: &str) -> anyhow::Result<u64> {
    answer[name].as_u64().with_context(|| format!("there is no count called {name} in {answer}"))
}

/// The first column of the table that the database is made of.
fn keys() -> anyhow::Result<Vec<String>> {
    let table = fs::read_to_string(root().join("examples/data/cities.csv"))?;
    let keys: Vec<_> = table.lines().skip(1).filter_map(|line| Some(line.split_once(',')?.0.to_owned())).collect();
    ensure!(keys.len() >= BATCH, "examples/data/cities.csv holds {} cities only", keys.len());
    Ok(keys)
}

const STEPS: &[(&str, Step)] = &[
    ("the nodes find each other", Script::form),
    ("every node reads every city", Script::everyone_reads_everything),
    ("each key was loaded once", Script::one_load_a_key),
    ("a put on one node is read on all", Script::a_put_is_read_everywhere),
    ("after delete_many no node reads an old value", Script::deleted_is_not_stale),
    ("a key that does not exist is missing", Script::missing_is_missing),
    ("a node is killed, and reads go on", Script::killed_is_not_missed),
    ("it is restarted under its name, and joins again", Script::restarted_comes_back),
    ("all shut down in time", Script::all_leave),
];

/// A key and value with everything that quoting could spoil.
const ODD: &str = "two words, \"quotes\", a\nline end, Golestān";
/// How many keys are deleted in one call.
const BATCH: usize = 50;
/// How many reads each process has under way: enough that many wait for one load.
const READERS: usize = 8;
/// A node joins in well under a second; a busy machine may take ten times as long.
const JOIN: Duration = Duration::from_secs(10);
/// A dead node is suspected after a second and declared dead 3 s later.
const GONE: Duration = Duration::from_secs(10);
/// Nothing is in flight when the nodes shut down, so this is ample.
const LEAVE: Duration = Duration::from_secs(5);
