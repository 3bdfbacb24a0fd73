//! The server's process: starts to listen, says where, and serves until its standard input ends.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context;

use crate::{Subject, certificate, grpc, ours, raw, redis};

/// What to serve.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Who answers.
    pub subject: Subject,
    /// Where the certificate lies, for TLS.
    pub certificate: Option<PathBuf>,
}

/// Serves until standard input ends.
///
/// # Errors
///
/// It cannot listen.
pub fn run(args: &Args) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let addr = match args.subject {
            Subject::Raw => raw::serve().await?,
            Subject::Ours | Subject::OursTls => {
                ours::serve(args.certificate.as_deref().map(certificate::read).transpose()?).await?
            }
            Subject::Tonic => grpc::serve().await?,
            Subject::Redis => anyhow::bail!("Redis is a program of its own"),
        };
        println!("{addr}");
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        Ok(())
    })
}

/// A server in a process of its own. Dropping it ends the process.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
}

impl Served {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// The process cannot be started, or does not listen.
    pub fn start(subject: Subject, certificate: Option<&Path>) -> anyhow::Result<Self> {
        if subject == Subject::Redis {
            let (child, addr) = redis::start()?;
            return Ok(Self { addr, child });
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg(subject.id()).args(certificate).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the server's process")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("the server's output is a pipe")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let addr = line.trim().parse().context("the server did not say where it listens")?;
        Ok(Self { addr, child })
    }

    /// Returns the number of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the runtime that every client and every server of ours runs on: as tokio sets it up for an application.
///
/// # Errors
///
/// The operating system gives no threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
