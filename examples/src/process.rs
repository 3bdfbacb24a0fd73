//! The other end of a node process: starts it, talks to it, and takes it down.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use serde::de::DeserializeOwned;

use crate::{Answer, Ready, Request};

/// A node in a process of its own. The process is killed when this is dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    /// `None` once it was closed.
    input: Option<ChildStdin>,
    lines: Receiver<io::Result<String>>,
    ready: Ready,
}

impl NodeProcess {
    /// Starts `command`, which must be a program that calls [`node::run`](crate::node::run), and waits until it serves.
    ///
    /// # Errors
    /// The program cannot be started, ends before it serves, or takes longer than `within`. No process is left behind.
    pub fn spawn(mut command: Command, within: Duration) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("standard output was asked for");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| sender.send(line)));

        let nobody = Ready { name: "a new node".to_owned(), addr: String::new(), pid: child.id(), clock_ms: 0 };
        let mut node = Self { child, input, lines, ready: nobody };
        node.ready = node.receive(within)?;
        Ok(node)
    }

    /// Returns the node's name on the ring.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.ready.name
    }

    /// Returns the address the node listens on.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.ready.addr
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.ready.pid
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request, within: Duration) -> anyhow::Result<T> {
        self.send(request)?;
        self.receive(within)
    }

    /// Sends a request. Its answer is the next one to [`receive`](Self::receive).
    ///
    /// # Errors
    /// The process is gone.
    pub fn send(&mut self, request: &Request) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        self.send_line(&line)
    }

    /// Sends text as it is, for those who want to see what becomes of it.
    ///
    /// # Errors
    /// The process is gone.
    pub fn send_line(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the input was closed")?;
        input.write_all(line.as_bytes()).with_context(|| format!("{} is gone", self.ready.name))
    }

    /// Waits for the next answer. Samples of a load that come before it are dropped.
    ///
    /// # Errors
    /// The answer is an error, or another than `T`; the process is gone; or nothing came in time.
    pub fn receive<T: DeserializeOwned>(&mut self, within: Duration) -> anyhow::Result<T> {
        let deadline = Instant::now() + within;
        loop {
            let line = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line?,
                Err(RecvTimeoutError::Timeout) => bail!("{} did not answer within {within:?}", self.name()),
                Err(RecvTimeoutError::Disconnected) => bail!("{} ended without an answer", self.name()),
            };
            match serde_json::from_str(&line)? {
                Answer::Ok(value) => {
                    return serde_json::from_value(value).with_context(|| format!("{} answered {line}", self.name()));
                }
                Answer::Error(error) => {
                    return Err(anyhow!(error).context(format!("{} answered with an error", self.name())));
                }
                Answer::Sample(_) | Answer::Journal(_) => {}
            }
        }
    }

    /// Kills the process, with no chance to say goodbye (SIGKILL on Unix).
    ///
    /// # Errors
    /// What the system fails with.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Closes the process's standard input and waits for its end.
    ///
    /// # Errors
    /// It takes longer than `within`; then it is killed.
    pub fn wait(mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.input = None;
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} did not end within {within:?}", self.name());
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Fails for a process that ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The standard library can wait for a child or ask after it, but not wait for a while: so ask often.
const POLL: Duration = Duration::from_millis(5);
