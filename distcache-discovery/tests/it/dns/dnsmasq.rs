//! A dnsmasq of a test's own, on a port and in a folder of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::process::{Child, Command};
use tokio::sync::Mutex;

pub(super) struct Dnsmasq {
    pub(super) addr: SocketAddr,
    pub(super) version: String,
    folder: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Dnsmasq {
    /// Starts one, or says that it is not installed and returns nothing.
    ///
    /// # Panics
    ///
    /// If it is not installed and `DISTCACHE_EXTERNAL=required` is set.
    pub(super) async fn start() -> Option<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let Ok(output) = Command::new("dnsmasq").arg("--version").output().await else {
            let required = std::env::var("DISTCACHE_EXTERNAL").is_ok_and(|value| value == "required");
            assert!(!required, "dnsmasq is not installed, and DISTCACHE_EXTERNAL says that it must be");
            println!("skipped: dns against dnsmasq: dnsmasq is not installed (cargo xtask test --external gets it)");
            return None;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().nth(2).unwrap_or("of unknown version").to_owned();
        let number = STARTED.fetch_add(1, SeqCst);
        let folder = std::env::temp_dir().join(format!("distcache-dnsmasq-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let dnsmasq = Self { addr: super::free_port(), version, folder, child: Mutex::new(None) };
        dnsmasq.write_hosts(&[]);
        dnsmasq.write_config("");
        dnsmasq.restart().await;
        Some(dnsmasq)
    }

    /// Writes the hosts file: address and name. It is read at the next [`reload`](Self::reload).
    pub(super) fn write_hosts(&self, hosts: &[(&str, &str)]) {
        let lines: String = hosts.iter().map(|(ip, name)| format!("{ip} {name}\n")).collect();
        std::fs::write(self.folder.join("hosts"), lines).unwrap();
    }

    /// Writes the rest of the configuration. It is read at the next [`restart`](Self::restart).
    pub(super) fn write_config(&self, lines: &str) {
        std::fs::write(self.folder.join("config"), lines).unwrap();
    }

    /// Has the hosts file read again.
    pub(super) async fn reload(&self) {
        let child = self.child.lock().await;
        let Some(id) = child.as_ref().and_then(Child::id) else { return };
        let status = Command::new("sh").args(["-c", &format!("kill -HUP {id}")]).status().await.unwrap();
        assert!(status.success());
    }

    /// Kills it where it stands, and waits for its end.
    pub(super) async fn kill(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            child.kill().await.unwrap();
        }
    }

    /// Starts it again, and waits until it listens.
    pub(super) async fn restart(&self) {
        self.kill().await;
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--no-poll", "--bind-interfaces"]);
        command.args(["--local=/example/", "--local-ttl=1", "--log-facility=-", "--pid-file=", "--user=root"]);
        command.arg(format!("--port={}", self.addr.port()));
        command.arg(format!("--listen-address={}", self.addr.ip()));
        command.arg(format!("--addn-hosts={}", file("hosts")));
        command.arg(format!("--conf-file={}", file("config")));
        command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        *self.child.lock().await = Some(command.spawn().unwrap());
        let command = Mutex::new(command);
        super::until(|| async {
            let mut child = self.child.lock().await;
            // A client may have the port for a moment.
            if let Ok(Some(status)) = child.as_mut().unwrap().try_wait() {
                *child = Some(command.lock().await.spawn().unwrap());
                return Err(format!("dnsmasq ended by itself: {status}"));
            }
            tokio::net::TcpStream::connect(self.addr).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
