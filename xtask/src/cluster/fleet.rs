//! The nodes of a scenario: each a process in its place of the network, over one database.

use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    Folder,
    guard::Guard,
    netns::{self, Kind, Network},
    nft::{self, Counted, Rule},
    node::{Node, Unasked},
};
use crate::tools;

/// Nodes `node-1` and so on; they are named by their place from 0 here.
pub(super) struct Fleet {
    nodes: Vec<Option<Node>>,
    network: Network,
    program: PathBuf,
    source_delay: Duration,
    /// Further arguments of every node that is started from now on.
    options: Vec<String>,
    unasked: Unasked,
    folder: Folder,
}

/// Which time a node is to believe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Right,
    /// A day ago. Its monotonic clock is right.
    Yesterday,
}

impl Fleet {
    /// Lays the network and the database for that many nodes, and starts none.
    pub(super) fn lay(kind: &Kind, program: &Path, size: usize, source_delay: Duration) -> anyhow::Result<Self> {
        let network = Network::lay(kind, size, Guard::start(program)?)?;
        let folder = Folder::create()?;
        Node::spawn(program, "maker", &folder.path.join(DATABASE), &[])?.wait(END)?;
        let nodes = (0..size).map(|_| None).collect();
        let (options, unasked) = (Vec::new(), Unasked::default());
        Ok(Self { nodes, network, program: program.to_owned(), source_delay, options, unasked, folder })
    }

    /// Gives every node that is started from now on further arguments, in the place of those before.
    pub(super) fn set_options<'a>(&mut self, options: impl IntoIterator<Item = &'a str>) {
        self.options = options.into_iter().map(str::to_owned).collect();
    }

    /// Lays it, starts all nodes at once, and waits until they are one cluster.
    pub(super) fn start(kind: &Kind, program: &Path, size: usize) -> anyhow::Result<Self> {
        let mut fleet = Self::lay(kind, program, size, Duration::ZERO)?;
        fleet.start_all()?;
        Ok(fleet)
    }

    pub(super) fn start_all(&mut self) -> anyhow::Result<()> {
        for node in 0..self.nodes.len() {
            self.launch(node, Clock::Right)?;
        }
        self.wait_ready()?;
        let all = self.all();
        self.wait_views(&all, &all, JOIN)?.with_context(|| format!("they are no cluster after {JOIN:?}"))?;
        Ok(())
    }

    /// Starts a node, and does not wait.
    pub(super) fn launch(&mut self, node: usize, clock: Clock) -> anyhow::Result<()> {
        let mut command = match clock {
            Clock::Right => self.network.command(node, &self.program),
            Clock::Yesterday => {
                let library = tools::library(tools::FAKETIME).context("there is no library to change the time")?;
                let mut command = self.network.command(node, Path::new("env"));
                command.arg(format!("LD_PRELOAD={}", library.display()));
                // Without the last, timers would jump as well, which no clock that is set does.
                command.args(["FAKETIME=-1d", "FAKETIME_DONT_FAKE_MONOTONIC=1"]).arg(&self.program);
                command
            }
        };
        let seeds: Vec<_> = self.all().iter().map(|node| self.network.addr(*node).to_string()).collect();
        command.args(["--name", &name(node), "--bind", &self.network.addr(node).to_string()]);
        command.args(["--insecure", "--seeds", &seeds.join(","), "--database"]).arg(self.folder.path.join(DATABASE));
        command.args(["--source-delay-ms", &self.source_delay.as_millis().to_string()]);
        command.args(&self.options);
        let launched = Node::launch(&name(node), command, self.unasked.clone())?;
        self.network.guard.process(launched.pid())?;
        self.nodes[node] = Some(launched);
        Ok(())
    }

    /// Waits until every node that was launched serves.
    pub(super) fn wait_ready(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().flatten().filter(|node| node.addr.is_empty()).try_for_each(|node| node.wait_ready(JOIN))
    }

    /// Whether a node that was launched said that it serves.
    pub(super) fn serves(&mut self, node: usize) -> anyhow::Result<bool> {
        self.node(node)?.serves()
    }

    /// Returns the places of all nodes, running or not.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.nodes.len()).collect()
    }

    pub(super) fn node(&mut self, node: usize) -> anyhow::Result<&mut Node> {
        self.nodes[node].as_mut().with_context(|| format!("{} does not run", name(node)))
    }

    pub(super) fn ask(&mut self, node: usize, request: &Value) -> anyhow::Result<Value> {
        self.node(node)?.ask(request)
    }

    /// Sends nodes a request, all before the first answer, and returns the answers in order.
    pub(super) fn ask_all(&mut self, nodes: &[usize], request: &Value) -> anyhow::Result<Vec<Value>> {
        nodes.iter().try_for_each(|node| self.node(*node)?.send(request))?;
        nodes.iter().map(|node| self.node(*node)?.receive_within(SLOW_ANSWER)).collect()
    }

    /// Waits until nodes see just these members, and returns how long that took; `None` if it did not come to that.
    pub(super) fn wait_views(
        &mut self,
        nodes: &[usize],
        members: &[usize],
        within: Duration,
    ) -> anyhow::Result<Option<Duration>> {
        let mut wanted: Vec<_> = members.iter().map(|node| name(*node)).collect();
        wanted.sort();
        let start = Instant::now();
        loop {
            let views = self.ask_all(nodes, &json!({ "do": "members" }))?;
            if views.iter().all(|view| view["members"] == json!(wanted)) {
                return Ok(Some(start.elapsed()));
            }
            if start.elapsed() > within {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }

    /// Reads the first so many keys, each node its share of them, so that all are cached.
    pub(super) fn warm(&mut self, keys: u32) -> anyhow::Result<()> {
        let all = self.all();
        for node in &all {
            let share: Vec<_> = (0..keys).skip(*node).step_by(all.len()).collect();
            self.node(*node)?.send(&json!({ "do": "scan", "numbers": share, "readers": 16 }))?;
        }
        for node in all {
            let report = self.node(node)?.receive_within(SLOW_ANSWER)?;
            ensure!(report["wrong"] == 0 && report["errors"] == 0, "a healthy cluster answers {report}");
        }
        Ok(())
    }

    /// Returns which of the first so many keys a node owns. There must be no traffic.
    pub(super) fn owned(&mut self, node: usize, keys: u32) -> anyhow::Result<Vec<u64>> {
        let answer = self.ask(node, &json!({ "do": "owned", "numbers": keys }))?;
        let numbers: Option<Vec<_>> =
            answer["numbers"].as_array().map(|all| all.iter().filter_map(Value::as_u64).collect());
        let numbers = numbers.context("a node tells what it owns")?;
        ensure!(!numbers.is_empty(), "{} owns none of {keys} keys", name(node));
        Ok(numbers)
    }

    /// Starts traffic at nodes.
    pub(super) fn load(&mut self, nodes: &[usize], keys: u32, marked: &[u64], rate: u32) -> anyhow::Result<()> {
        for node in nodes {
            let load = json!({
                "do": "load", "keys": keys, "marked": marked, "callers": CALLERS, "rate": rate, "seed": node,
            });
            self.ask(*node, &load)?;
        }
        Ok(())
    }

    pub(super) fn stop_load(&mut self, nodes: &[usize]) -> anyhow::Result<()> {
        self.ask_all(nodes, &json!({ "do": "stop-load" })).map(drop)
    }

    /// Takes the samples of all nodes, those that are gone too.
    pub(super) fn take_samples(&self) -> Vec<Value> {
        self.unasked.take_samples()
    }

    /// Takes what all nodes told of their reads and writes.
    pub(super) fn take_journals(&self) -> Vec<Value> {
        self.unasked.take_journals()
    }

    /// Returns how many keys the nodes that run asked the database for.
    pub(super) fn fetches(&mut self) -> anyhow::Result<u64> {
        let running: Vec<_> = self.all().into_iter().filter(|node| self.nodes[*node].is_some()).collect();
        self.count(&running, "fetches")
    }

    /// Returns a count of numbered keys, over some nodes.
    pub(super) fn count(&mut self, nodes: &[usize], what: &str) -> anyhow::Result<u64> {
        let stats = self.ask_all(nodes, &json!({ "do": "version-stats" }))?;
        Ok(stats.iter().filter_map(|stats| stats[what].as_u64()).sum())
    }

    /// Ends a node by SIGKILL.
    pub(super) fn kill(&mut self, node: usize) -> anyhow::Result<ExitStatus> {
        self.nodes[node].take().context("it runs")?.kill()
    }

    /// Has a node take its leave.
    pub(super) fn shut_down(&mut self, node: usize) -> anyhow::Result<()> {
        let mut leaving = self.nodes[node].take().context("it runs")?;
        leaving.ask(&json!({ "do": "shutdown" }))?;
        let status = leaving.wait(END)?;
        ensure!(status.success(), "{} ended with {status}", name(node));
        Ok(())
    }

    /// Sets what becomes of packets that come in at a node. Only namespaces have such rules.
    pub(super) fn set_rule(&self, node: usize, rule: &Rule) -> anyhow::Result<()> {
        nft::set(self.namespace(node)?, rule)
    }

    /// Cuts off what comes from some nodes to some others. The way back stays open.
    pub(super) fn cut(&self, from: &[usize], to: &[usize]) -> anyhow::Result<()> {
        let senders: Vec<_> = from.iter().map(|node| netns::address(*node)).collect();
        to.iter().try_for_each(|node| self.set_rule(*node, &Rule::Cut(senders.clone())))
    }

    /// Returns what the rule of a node did, and takes it away.
    pub(super) fn heal(&self, node: usize) -> anyhow::Result<Counted> {
        let namespace = self.namespace(node)?;
        let counted = nft::counted(namespace)?;
        nft::clear(namespace)?;
        Ok(counted)
    }

    fn namespace(&self, node: usize) -> anyhow::Result<&str> {
        self.network.namespace(node).context("packets can be dropped in namespaces only")
    }
}

pub(super) fn name(node: usize) -> String {
    format!("node-{}", node + 1)
}

const DATABASE: &str = "cities.db";
/// Callers of each class at each node: enough that one that waits does not end the traffic.
const CALLERS: u32 = 8;
/// What is promised, and half of it again, so that a miss is a figure and no error.
const JOIN: Duration = Duration::from_secs(15);
/// Nothing is in flight when a node is told to end.
const END: Duration = Duration::from_secs(10);
/// A hundred thousand reads of a debug build; or some tens of reads that each time out.
const SLOW_ANSWER: Duration = Duration::from_secs(120);
/// How exactly it is known when views change.
const POLL: Duration = Duration::from_millis(20);
