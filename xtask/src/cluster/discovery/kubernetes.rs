//! The stand-in for a Kubernetes API server, which lists a pod for each node.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, ensure};

use super::{
    meeting::{Meeting, Opened, Place, free_port},
    process::Server,
};
use crate::workspace::{built, cargo};

struct Api {
    program: PathBuf,
    port: u16,
    listed: BTreeSet<u8>,
    server: Server,
    talk: Option<(ChildStdin, BufReader<ChildStdout>)>,
}

pub(super) fn open() -> Opened {
    let program = built(cargo(&["build", "--package", "distcache-kube-api"]), PROGRAM)?;
    let (port, listed) = (free_port()?, BTreeSet::new());
    let mut api = Api { program, port, listed, server: Server::default(), talk: None };
    api.serve()?;
    Ok(Ok(Box::new(api)))
}

impl Api {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = self.server.start(command)?;
        let input = child.stdin.take().context("standard input was asked for")?;
        let mut output = BufReader::new(child.stdout.take().context("standard output was asked for")?);
        let mut url = String::new();
        output.read_line(&mut url)?;
        ensure!(url.starts_with("http"), "{PROGRAM} said {url:?} and not where it serves");
        self.talk = Some((input, output));
        Ok(())
    }

    fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let Some((input, output)) = &mut self.talk else { return Ok(()) };
        writeln!(input, "{line}")?;
        let mut answer = String::new();
        output.read_line(&mut answer)?;
        ensure!(answer.trim() == "ok", "{PROGRAM} answered {answer:?} to {line}");
        Ok(())
    }

    /// A pod that starts: not ready, as all are whose readiness waits for the cluster.
    fn add(&mut self, place: Place, node: u8) -> anyhow::Result<()> {
        self.tell(&format!("add node-{node} {} {} starting", place.ip(node), place.port()))
    }
}

impl Meeting for Api {
    fn server(&self) -> String {
        format!("the stand-in API server, 127.0.0.1:{}", self.port)
    }

    fn arguments(&self, _place: Place) -> Vec<String> {
        vec!["--kubernetes".to_owned(), format!("http://127.0.0.1:{}", self.port)]
    }

    fn list(&mut self, place: Place, node: u8) -> anyhow::Result<()> {
        self.listed.insert(node);
        self.add(place, node)
    }

    fn unlist(&mut self, _place: Place, node: u8) -> anyhow::Result<()> {
        if self.listed.remove(&node) { self.tell(&format!("remove node-{node}")) } else { Ok(()) }
    }

    fn stop(&mut self) -> anyhow::Result<bool> {
        self.talk = None;
        self.server.kill();
        Ok(true)
    }

    fn start(&mut self, place: Place) -> anyhow::Result<()> {
        self.serve()?;
        for node in self.listed.clone() {
            self.add(place, node)?;
        }
        Ok(())
    }
}

const PROGRAM: &str = "distcache-kube-api";
