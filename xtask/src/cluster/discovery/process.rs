//! A server process, which is killed with whoever started it.

use std::process::{Child, Command};

use anyhow::Context;

/// A process that runs, or does not just now.
#[derive(Debug, Default)]
pub(super) struct Server(Option<Child>);

impl Server {
    /// Starts it, in the place of one that runs.
    pub(super) fn start(&mut self, mut command: Command) -> anyhow::Result<&mut Child> {
        self.kill();
        let program = command.get_program().to_owned();
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(self.0.insert(child))
    }

    /// Ends it without a word.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Fails for a process that ended, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The number of the process, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.0.as_ref().map(Child::id)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
