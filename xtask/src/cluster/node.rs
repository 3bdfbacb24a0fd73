//! A node process, seen from outside: what it is asked and what it answers are lines of JSON. `examples/src/protocol.rs` lists
//! them. Here they are plain JSON values, so that this program does not need the library to be built before it runs.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// A node process. It is killed when this is dropped, on whichever way out.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) addr: String,
    child: Child,
    /// `None` once it was closed.
    input: Option<ChildStdin>,
    lines: Receiver<io::Result<String>>,
}

impl Node {
    /// Starts a node and waits until it serves. Without `seeds` it is the first.
    pub(super) fn spawn(program: &Path, name: &str, database: &Path, seeds: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(["--name", name, "--database"]).arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
        if seeds.is_empty() {
            command.arg("--create");
        } else {
            command.args(["--seeds", &seeds.join(",")]);
        }
        if env::var_os("RUST_LOG").is_none() {
            // Killed peers are warnings to the others, and what is done here on purpose.
            command.env("RUST_LOG", "error");
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("standard output was asked for")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| sender.send(line)));

        let mut node = Self { name: name.to_owned(), addr: String::new(), child, input, lines };
        let ready = node.receive()?;
        node.addr = ready["addr"].as_str().context("a node that serves says where")?.to_owned();
        Ok(node)
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(&mut self, request: &Value) -> anyhow::Result<Value> {
        self.send(request)?;
        self.receive()
    }

    /// Sends a request; its answer is the next one to receive.
    pub(super) fn send(&mut self, request: &Value) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the input was closed")?;
        writeln!(input, "{request}").with_context(|| format!("{} is gone", self.name))
    }

    /// Waits for the next answer.
    pub(super) fn receive(&mut self) -> anyhow::Result<Value> {
        let line = match self.lines.recv_timeout(ANSWER) {
            Ok(line) => line?,
            Err(RecvTimeoutError::Timeout) => bail!("{} did not answer within {ANSWER:?}", self.name),
            Err(RecvTimeoutError::Disconnected) => bail!("{} ended without an answer", self.name),
        };
        let mut answer: Value = serde_json::from_str(&line).with_context(|| format!("{} said {line}", self.name))?;
        ensure!(answer.get("ok").is_some(), "{} answered {line}", self.name);
        Ok(answer["ok"].take())
    }

    /// Kills the process, with no chance to say goodbye (SIGKILL on Unix).
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Closes the input and waits for the end of the process.
    pub(super) fn wait(mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.input = None;
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "{} did not end within {within:?}", self.name);
            thread::sleep(POLL);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails for a process that ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reading every city takes a second or two in a debug build; a busy machine may take ten times as long.
const ANSWER: Duration = Duration::from_secs(30);
/// The standard library can wait for a child or ask after it, but not wait for a while: so ask often.
const POLL: Duration = Duration::from_millis(5);
