//! What is taken down whatever becomes of this program: a shell that waits for its end, be it by SIGKILL.

use std::{
    io::Write,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::Context;

/// A shell at the other end of a pipe. When the pipe breaks before this is dropped, it kills the node processes it was told of
/// (a stopped one does not see that its input is closed) and deletes the namespaces.
pub(super) struct Guard {
    shell: Child,
    input: ChildStdin,
}

impl Guard {
    /// Starts it. Processes are recognised by their program, since ids come again.
    pub(super) fn start(program: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SHELL, "guard"]).arg(program).stdin(Stdio::piped());
        let mut shell = command.spawn().context("cannot start a shell")?;
        let input = shell.stdin.take().context("its input was asked for")?;
        Ok(Self { shell, input })
    }

    /// Has a process killed.
    pub(super) fn process(&mut self, pid: u32) -> anyhow::Result<()> {
        Ok(writeln!(self.input, "process {pid}")?)
    }

    /// Has a network namespace deleted.
    pub(super) fn namespace(&mut self, name: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.input, "namespace {name}")?)
    }
}

impl Drop for Guard {
    /// Everything was taken down.
    fn drop(&mut self) {
        // A shell that is gone has nothing left to do either.
        let _ = writeln!(self.input, "done");
        let _ = self.shell.wait();
    }
}

/// Signals of a terminal go to it, too, and must not end it.
const SHELL: &str = r#"
trap '' INT TERM HUP QUIT
program=$1
while read -r kind what; do
    case $kind in
        process) processes="$processes $what" ;;
        namespace) namespaces="$namespaces $what" ;;
        done) exit 0 ;;
    esac
done
for process in $processes; do
    [ "$(readlink "/proc/$process/exe")" = "$program" ] && kill -KILL "$process"
done
for namespace in $namespaces; do
    ip netns delete "$namespace" 2>/dev/null
done
"#;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn a_stopped_process_goes_with_its_starter_and_another_program_s_stays() {
        let sleep = fs::canonicalize("/bin/sleep").unwrap();
        let mut ours = Command::new(&sleep).arg("600").spawn().unwrap();
        let mut others = Command::new("sh").args(["-c", "read -r line"]).stdin(Stdio::piped()).spawn().unwrap();
        let stop = Command::new("sh").args(["-c", &format!("kill -STOP {}", ours.id())]).status().unwrap();
        assert!(stop.success());
        let mut guard = Guard::start(&sleep).unwrap();
        guard.process(ours.id()).unwrap();
        guard.process(others.id()).unwrap();
        // As the end of this program would: the pipe is closed, and nothing was said.
        let closed = Command::new("true").stdin(Stdio::piped()).spawn().unwrap().stdin.take().unwrap();
        drop(std::mem::replace(&mut guard.input, closed));
        let deadline = Instant::now() + Duration::from_secs(10);
        while ours.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it was left behind");
            std::thread::yield_now();
        }
        guard.shell.wait().unwrap();
        assert!(others.try_wait().unwrap().is_none(), "a process of another program was killed");
        others.kill().unwrap();
        others.wait().unwrap();
    }
}
