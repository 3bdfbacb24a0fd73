//! A name in a zone that dnsmasq serves.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context;

use super::{
    meeting::{Meeting, Opened, Place, free_port, until_open},
    process::Server,
};
use crate::{tools, workspace};

struct Zone {
    port: u16,
    hosts: PathBuf,
    listed: BTreeSet<u8>,
    server: Server,
}

pub(super) fn open(folder: &Path) -> Opened {
    if !tools::provide(&["dnsmasq"])?.is_empty() {
        return Ok(Err("dnsmasq is not to be had".to_owned()));
    }
    let hosts = folder.join("hosts");
    let mut zone = Zone { port: free_port()?, hosts, listed: BTreeSet::new(), server: Server::default() };
    fs::write(&zone.hosts, "")?;
    zone.serve()?;
    Ok(Ok(Box::new(zone)))
}

impl Zone {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new("dnsmasq");
        command.env("PATH", tools::path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts"]);
        // It would become a user who may not read the file.
        command.args(["--user=root", "--group=root", "--bind-interfaces", "--listen-address=127.0.0.1"]);
        command.args(["--local=/test/", "--local-ttl=1", &format!("--port={}", self.port)]);
        command.arg(format!("--addn-hosts={}", self.hosts.display()));
        self.server.start(command)?;
        until_open(([127, 0, 0, 1], self.port).into()).context("dnsmasq")
    }

    fn write(&self, place: Place) -> anyhow::Result<()> {
        let lines: String = self.listed.iter().map(|node| format!("{} {NAME}\n", place.ip(*node))).collect();
        fs::write(&self.hosts, lines)?;
        let Some(pid) = self.server.pid() else { return Ok(()) };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("kill -HUP {pid}")]);
        workspace::run(command)
    }
}

impl Meeting for Zone {
    fn server(&self) -> String {
        format!("dnsmasq, 127.0.0.1:{}", self.port)
    }

    fn arguments(&self, place: Place) -> Vec<String> {
        let (name, server) = (format!("{NAME}:{}", place.port()), format!("127.0.0.1:{}", self.port));
        ["--dns", &name, "--dns-server", &server].map(str::to_owned).into()
    }

    fn list(&mut self, place: Place, node: u8) -> anyhow::Result<()> {
        self.listed.insert(node);
        self.write(place)
    }

    fn unlist(&mut self, place: Place, node: u8) -> anyhow::Result<()> {
        self.listed.remove(&node);
        self.write(place)
    }

    fn stop(&mut self) -> anyhow::Result<bool> {
        self.server.kill();
        Ok(true)
    }

    fn start(&mut self, _place: Place) -> anyhow::Result<()> {
        self.serve()
    }
}

/// The name that has the addresses of all nodes.
const NAME: &str = "cache.test";
