//! A network namespace for each node, all on one bridge: a network of their own that can be cut. Where that cannot be had, loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{self, Command, Stdio},
};

use super::guard::Guard;
use crate::{
    tools,
    workspace::{output, run},
};

/// Where the nodes of a run are. What was laid goes when this is dropped, or when this program is killed.
pub(super) struct Network {
    /// One a node; none on loopback.
    namespaces: Vec<String>,
    /// The one that holds the bridge.
    hub: Option<String>,
    pub(super) guard: Guard,
}

/// What can be done to a network.
pub(super) enum Kind {
    /// Namespaces: packets can be dropped.
    Namespaces,
    /// Addresses of loopback, and why no more.
    Loopback(String),
}

/// Finds out what this machine allows, and removes what killed runs left.
pub(super) fn probe() -> Kind {
    if let Some(why) = lacking() { Kind::Loopback(why) } else { Kind::Namespaces }
}

fn lacking() -> Option<String> {
    match tools::provide(&["ip", "nft"]) {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => return Some(format!("no {}", missing.join(", no "))),
        Err(error) => return Some(format!("{error:#}")),
    }
    sweep();
    let name = format!("{PREFIX}{}-probe", process::id());
    let mut add = ip(&["netns", "add", &name]);
    if !add.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Some("network namespaces cannot be made: that takes root".to_owned());
    }
    let cut = super::nft::set(&name, &super::nft::Rule::Lose(1));
    delete(&name);
    cut.err().map(|error| format!("packets cannot be dropped: {error:#}"))
}

/// Deletes the namespaces of runs that are no more.
fn sweep() {
    let Ok(listed) = output(ip(&["netns", "list"])) else {
        return;
    };
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let run = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if run.is_some_and(|run| !Path::new(&format!("/proc/{run}")).exists()) {
            println!("namespace {name} was left by a run that was killed; it is deleted");
            delete(name);
        }
    }
}

impl Network {
    /// Lays the network of that many nodes.
    pub(super) fn lay(kind: &Kind, nodes: usize, guard: Guard) -> anyhow::Result<Self> {
        let mut network = Self { namespaces: Vec::new(), hub: None, guard };
        if let Kind::Loopback(_) = kind {
            return Ok(network);
        }
        let hub = network.add("hub")?;
        network.hub = Some(hub.clone());
        run(ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"]))?;
        run(ip(&["-n", &hub, "link", "set", "bridge", "up"]))?;
        for node in 0..nodes {
            let name = network.add(&node.to_string())?;
            network.namespaces.push(name.clone());
            let port = format!("port{node}");
            run(ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name]))?;
            run(ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"]))?;
            let addr = format!("{}/24", address(node));
            run(ip(&["-n", &name, "address", "add", &addr, "dev", "eth0"]))?;
            for link in ["lo", "eth0"] {
                run(ip(&["-n", &name, "link", "set", link, "up"]))?;
            }
        }
        Ok(network)
    }

    fn add(&mut self, part: &str) -> anyhow::Result<String> {
        let name = format!("{PREFIX}{}-{part}", process::id());
        self.guard.namespace(&name)?;
        run(ip(&["netns", "add", &name]))?;
        Ok(name)
    }

    /// Returns the address of a node.
    pub(super) fn addr(&self, node: usize) -> SocketAddr {
        let ip = if self.namespaces.is_empty() { loopback(node) } else { address(node) };
        SocketAddr::new(ip.into(), PORT)
    }

    /// Returns the namespace of a node, which has none on loopback.
    pub(super) fn namespace(&self, node: usize) -> Option<&str> {
        self.namespaces.get(node).map(String::as_str)
    }

    /// Makes the command that runs a program where a node is. The process becomes the program.
    pub(super) fn command(&self, node: usize, program: &Path) -> Command {
        match self.namespace(node) {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = inside(namespace);
                command.arg(program);
                command
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.namespaces.iter().chain(&self.hub).for_each(|name| delete(name));
    }
}

/// Makes a command that becomes what is added to it, in a namespace.
pub(super) fn inside(namespace: &str) -> Command {
    ip(&["netns", "exec", namespace])
}

/// Returns the address of a node in its namespace.
pub(super) fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host(node))
}

fn loopback(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, 0, host(node))
}

fn host(node: usize) -> u8 {
    u8::try_from(node + 1).expect("there are no more than 32 nodes")
}

fn delete(name: &str) {
    if let Err(error) = run(ip(&["netns", "delete", name])) {
        eprintln!("namespace {name} was not deleted: {error:#}");
    }
}

fn ip(args: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(args).env("PATH", tools::path());
    command
}

/// Every namespace of a run carries it, and the process id of the run.
const PREFIX: &str = "distcache-x-";
/// Namespaces share no ports, and 127.77.0.0/24 is nobody's.
const PORT: u16 = 3_320;
