//! A node process, seen from outside: what it is asked and what it answers are lines of JSON. `examples/src/protocol.rs` lists
//! them. Here they are plain JSON values, so that this program does not need the library to be built before it runs.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    mem,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// A node process. It is killed when this is dropped, on whichever way out.
pub(super) struct Node {
    pub(super) name: String,
    /// Empty until it serves.
    pub(super) addr: String,
    /// The time it believed it was when it began to serve, in milliseconds since 1970.
    pub(super) clock_ms: u64,
    child: Child,
    /// `None` once it was closed.
    input: Option<ChildStdin>,
    /// Answers only.
    lines: Receiver<io::Result<String>>,
}

/// What nodes say unasked, of their loads and of their reads and writes. Nodes may share it, so that what one said is not lost with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Unasked(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    samples: Vec<Value>,
    journals: Vec<Value>,
}

impl Unasked {
    /// Takes what the loads said since this was called last.
    pub(super) fn take_samples(&self) -> Vec<Value> {
        mem::take(&mut self.said().samples)
    }

    /// Takes what was told of reads and writes since this was called last.
    pub(super) fn take_journals(&self) -> Vec<Value> {
        mem::take(&mut self.said().journals)
    }

    /// Keeps a line if it is no answer.
    fn takes(&self, line: &str) -> bool {
        // Lines of JSON begin with their only name; answers are not parsed twice.
        let (name, kept): (_, fn(&mut Said) -> &mut Vec<Value>) = if line.starts_with("{\"sample\"") {
            ("sample", |said| &mut said.samples)
        } else if line.starts_with("{\"journal\"") {
            ("journal", |said| &mut said.journals)
        } else {
            return false;
        };
        let line = serde_json::from_str::<Value>(line);
        line.map(|mut line| kept(&mut self.said()).push(line[name].take())).is_ok()
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Starts a node and waits until it serves. Without `seeds` it is the first.
    pub(super) fn spawn(program: &Path, name: &str, database: &Path, seeds: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(["--name", name, "--database"]).arg(database);
        if seeds.is_empty() {
            command.arg("--create");
        } else {
            command.args(["--seeds", &seeds.join(",")]);
        }
        let mut node = Self::launch(name, command, Unasked::default())?;
        node.wait_ready(ANSWER)?;
        Ok(node)
    }

    /// Starts a node, and does not wait.
    pub(super) fn launch(name: &str, mut command: Command, unasked: Unasked) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if env::var_os("RUST_LOG").is_none() {
            // Killed peers are warnings to the others, and what is done here on purpose.
            command.env("RUST_LOG", "error");
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("standard output was asked for")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(output).lines().try_for_each(|line| match line {
                Ok(line) if unasked.takes(&line) => Ok(()),
                line => sender.send(line),
            })
        });
        Ok(Self { name: name.to_owned(), addr: String::new(), clock_ms: 0, child, input, lines })
    }

    /// Waits until a launched node serves.
    pub(super) fn wait_ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let ready = self.receive_within(within)?;
        self.note_ready(&ready)
    }

    /// Whether it said that it serves; does not wait.
    pub(super) fn serves(&mut self) -> anyhow::Result<bool> {
        if self.addr.is_empty() {
            match self.lines.try_recv() {
                Err(TryRecvError::Empty) => return Ok(false),
                Err(TryRecvError::Disconnected) => bail!("{} ended before it served", self.name),
                Ok(line) => self.note_ready(&answer(&self.name, &line?)?)?,
            }
        }
        Ok(true)
    }

    fn note_ready(&mut self, ready: &Value) -> anyhow::Result<()> {
        self.addr = ready["addr"].as_str().context("a node that serves says where")?.to_owned();
        self.clock_ms = ready["clock_ms"].as_u64().context("a node that serves says when")?;
        Ok(())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the process a signal.
    pub(super) fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("kill -{signal} {}", self.pid())]);
        crate::workspace::run(command)
    }

    /// Returns the letter that the system has for the state of the process: `T` when it is stopped.
    fn state(&self) -> anyhow::Result<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name before it may hold anything, brackets too.
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        state.context("the system does not tell the state of a process")
    }

    /// Whether the process is stopped, or is within a second: a signal takes effect when the process would run next.
    pub(super) fn is_stopped(&self) -> anyhow::Result<bool> {
        let deadline = Instant::now() + SIGNALLED;
        while self.state()? != 'T' {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
        Ok(true)
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
        self.receive_within(ANSWER)
    }

    /// Waits for it no longer than that.
    pub(super) fn receive_within(&mut self, within: Duration) -> anyhow::Result<Value> {
        let line = match self.lines.recv_timeout(within) {
            Ok(line) => line?,
            Err(RecvTimeoutError::Timeout) => bail!("{} did not answer within {within:?}", self.name),
            Err(RecvTimeoutError::Disconnected) => bail!("{} ended without an answer", self.name),
        };
        answer(&self.name, &line)
    }

    /// Kills the process, with no chance to say goodbye (SIGKILL on Unix).
    pub(super) fn kill(mut self) -> anyhow::Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
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

fn answer(name: &str, line: &str) -> anyhow::Result<Value> {
    let mut answer: Value = serde_json::from_str(line).with_context(|| format!("{name} said {line}"))?;
    ensure!(answer.get("ok").is_some(), "{name} answered {line}");
    Ok(answer["ok"].take())
}

/// Reading every city takes a second or two in a debug build; a busy machine may take ten times as long.
const ANSWER: Duration = Duration::from_secs(30);
/// Much longer than a process waits for a processor.
const SIGNALLED: Duration = Duration::from_secs(1);
/// The standard library can wait for a child or ask after it, but not wait for a while: so ask often.
const POLL: Duration = Duration::from_millis(5);
