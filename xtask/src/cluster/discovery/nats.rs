//! A NATS server, at which nodes say themselves that they are there.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context;

use super::{
    meeting::{Meeting, Opened, Place, free_port, until_open},
    process::Server,
};
use crate::tools;

struct Hall {
    port: u16,
    log: PathBuf,
    server: Server,
}

pub(super) fn open(folder: &Path) -> Opened {
    if !tools::provide(&["nats-server"])?.is_empty() {
        return Ok(Err("nats-server is not to be had".to_owned()));
    }
    let mut hall = Hall { port: free_port()?, log: folder.join("nats.log"), server: Server::default() };
    hall.serve()?;
    Ok(Ok(Box::new(hall)))
}

impl Hall {
    fn serve(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new("nats-server");
        command.env("PATH", tools::path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string(), "--log"]).arg(&self.log);
        self.server.start(command)?;
        until_open(([127, 0, 0, 1], self.port).into()).context("nats-server")
    }
}

impl Meeting for Hall {
    fn server(&self) -> String {
        format!("nats-server, 127.0.0.1:{}", self.port)
    }

    fn arguments(&self, _place: Place) -> Vec<String> {
        vec!["--nats".to_owned(), format!("nats://127.0.0.1:{}", self.port)]
    }

    fn stop(&mut self) -> anyhow::Result<bool> {
        self.server.kill();
        Ok(true)
    }

    fn start(&mut self, _place: Place) -> anyhow::Result<()> {
        self.serve()
    }
}
