//! `cargo xtask cluster --discovery`: real processes that find each other through a real server, which goes away and comes back.

mod dns;
mod fixed;
mod kubernetes;
mod meeting;
mod nats;
mod process;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::json;

use super::{
    Build, Folder, build,
    node::{Node, Unasked},
};
use meeting::{Meeting, Place};

/// A way to find peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    Static,
    Dns,
    Nats,
    Kubernetes,
}

/// Runs a cluster through each way, and says of each what it took, or that it was skipped.
///
/// # Errors
/// A step does not hold, or a program cannot be built or run. A server that cannot be had is a skip.
pub(super) fn run(ways: &[Way]) -> anyhow::Result<()> {
    let program = build(Build::Discovery)?;
    let (mut held, mut skipped) = (0, 0);
    for way in ways {
        let folder = Folder::create()?;
        let meeting = match way {
            Way::Static => fixed::open()?,
            Way::Dns => dns::open(&folder.path)?,
            Way::Nats => nats::open(&folder.path)?,
            Way::Kubernetes => kubernetes::open()?,
        };
        match meeting {
            Ok(meeting) => {
                println!("\n{way:?} discovery, at {}", meeting.server());
                Run::new(program.clone(), &folder.path, meeting)?.run()?;
                held += 1;
            }
            Err(why) => {
                println!("\nskipped: {way:?} discovery, {why}");
                skipped += 1;
            }
        }
    }
    println!("\n{held} ways to find peers hold, {skipped} were skipped");
    Ok(())
}

/// A cluster that meets somewhere.
struct Run {
    program: PathBuf,
    database: PathBuf,
    meeting: Box<dyn Meeting>,
    place: Place,
    /// With the number of each.
    nodes: Vec<(u8, Node)>,
}

/// A step of the run. What it returns are its figures.
type Step = fn(&mut Run) -> anyhow::Result<String>;

impl Run {
    fn new(program: PathBuf, folder: &Path, meeting: Box<dyn Meeting>) -> anyhow::Result<Self> {
        let (database, place) = (folder.join("cities.db"), Place::choose()?);
        Ok(Self { program, database, meeting, place, nodes: Vec::new() })
    }

    fn run(mut self) -> anyhow::Result<()> {
        for (claim, step) in STEPS {
            let start = Instant::now();
            let figures = step(&mut self).with_context(|| format!("does not hold: {claim}"))?;
            println!("ok {:>7.2} s  {claim}: {figures}", start.elapsed().as_secs_f64());
        }
        Ok(())
    }

    fn three_started_at_once_form_one_cluster(&mut self) -> anyhow::Result<String> {
        for number in 1..=3 {
            self.launch(number)?;
        }
        self.agree(3)?;
        self.read_everywhere()
    }

    fn a_fourth_is_found(&mut self) -> anyhow::Result<String> {
        self.launch(4)?;
        self.agree(4)?;
        self.read_everywhere()
    }

    fn a_killed_one_is_out(&mut self) -> anyhow::Result<String> {
        let at = self.nodes.iter().position(|(number, _)| *number == 2).context("there is a second node")?;
        let (number, node) = self.nodes.remove(at);
        node.kill()?;
        self.meeting.unlist(self.place, number)?;
        self.agree(3)?;
        self.read_everywhere()
    }

    fn the_server_is_not_missed(&mut self) -> anyhow::Result<String> {
        if !self.meeting.stop()? {
            return Ok("there is no server".to_owned());
        }
        self.agree(3)?;
        self.read_everywhere()
    }

    fn the_server_is_found_again(&mut self) -> anyhow::Result<String> {
        self.meeting.start(self.place)?;
        self.launch(5)?;
        self.agree(4)?;
        self.read_everywhere()
    }

    fn all_leave(&mut self) -> anyhow::Result<String> {
        let count = self.nodes.len();
        for (number, mut node) in self.nodes.drain(..) {
            node.ask(&json!({ "do": "shutdown" }))?;
            let name = node.name.clone();
            let status = node.wait(END)?;
            ensure!(status.success(), "{name} ended with {status}");
            self.meeting.unlist(self.place, number)?;
        }
        Ok(format!("{count} processes ended by themselves"))
    }

    fn launch(&mut self, number: u8) -> anyhow::Result<()> {
        // As a platform does: what is to start is listed, or starts first. Both must do.
        if number.is_multiple_of(2) {
            self.meeting.list(self.place, number)?;
        }
        let name = format!("node-{number}");
        let mut command = Command::new(&self.program);
        command.args(["--name", &name, "--bind", &self.place.addr(number), "--database"]).arg(&self.database);
        if self.nodes.is_empty() {
            command.arg("--create");
        }
        command.args(self.meeting.arguments(self.place));
        let mut node = Node::launch(&name, command, Unasked::default())?;
        if !number.is_multiple_of(2) {
            self.meeting.list(self.place, number)?;
        }
        if self.nodes.is_empty() {
            // It makes the database that the others open.
            node.wait_ready(START)?;
        }
        self.nodes.push((number, node));
        Ok(())
    }

    /// Waits until every node serves and sees that many members.
    fn agree(&mut self, count: usize) -> anyhow::Result<()> {
        for (_, node) in &mut self.nodes {
            if node.addr.is_empty() {
                node.wait_ready(START)?;
            }
        }
        let within = u64::try_from(AGREE.as_millis())?;
        for (_, node) in &mut self.nodes {
            node.ask(&json!({ "do": "wait-members", "count": count, "within_ms": within }))?;
        }
        Ok(())
    }

    /// Has every node read every city, and compare it with the database.
    fn read_everywhere(&mut self) -> anyhow::Result<String> {
        let mut reads = 0;
        for (_, node) in &mut self.nodes {
            let report = node.ask(&json!({ "do": "read-all", "readers": 8 }))?;
            let figure = |name: &str| report[name].as_u64().with_context(|| format!("no {name} in {report}"));
            ensure!(figure("wrong")? == 0 && figure("errors")? == 0, "{} reads {report}", node.name);
            reads += figure("reads")?;
        }
        Ok(format!("{} members on each node; {reads} reads, 0 wrong, 0 errors", self.nodes.len()))
    }
}

const STEPS: &[(&str, Step)] = &[
    ("three processes find each other", Run::three_started_at_once_form_one_cluster),
    ("a fourth is found", Run::a_fourth_is_found),
    ("one that is killed is out", Run::a_killed_one_is_out),
    ("while the server is away the cluster serves", Run::the_server_is_not_missed),
    ("the server comes back, and a new node is found", Run::the_server_is_found_again),
    ("all leave", Run::all_leave),
];

/// A start waits up to ten seconds for peers that are listed.
const START: Duration = Duration::from_secs(30);
/// Far longer than discovery is asked again, and a dead node suspected.
const AGREE: Duration = Duration::from_secs(25);
const END: Duration = Duration::from_secs(15);
