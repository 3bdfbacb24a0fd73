//! A real `nats-server` on a free port, which can be killed and started again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A server, and the folder of its files. Both end with this.
pub(super) struct Server {
    folder: Folder,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Starts a server with JetStream and these lines in its configuration. `None` if there is no such program here, which is an error
    /// if the environment says that it has to be there.
    pub(super) fn start(config: &str) -> Option<Self> {
        Self::start_in(Folder::new(), config)
    }

    /// As [`start`](Self::start), in a folder that holds what the configuration names.
    pub(super) fn start_in(folder: Folder, config: &str) -> Option<Self> {
        version()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let store = folder.path("store");
        let text = format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n{config}\n");
        fs::write(folder.path("server.conf"), text).unwrap();
        let server = Self { folder, port, child: Mutex::new(None) };
        server.run();
        Some(server)
    }

    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.folder.path(file)
    }

    /// Ends the server without a word.
    pub(super) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Freezes the server: it keeps its connections, and does nothing.
    pub(super) fn freeze(&self) {
        self.signal("-STOP");
        // Its threads stop one after the other.
        while self.greets() {}
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Has the server read its configuration again.
    pub(super) fn reload(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.lock().unwrap();
        let id = child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Starts the server again, at the same port.
    pub(super) fn run(&self) {
        let log = fs::File::create(self.path("server.log")).unwrap();
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(self.path("server.conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *self.child.lock().unwrap() = Some(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.greets() {
            let log = || fs::read_to_string(self.path("server.log")).unwrap();
            assert!(Instant::now() < deadline, "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn greets(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.addr()) else { return false };
        let mut greeting = [0; 4];
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        stream.read_exact(&mut greeting).is_ok() && &greeting == b"INFO"
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder of its own, which is removed with this.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("distcache-nats-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    pub(super) fn write(&self, file: &str, text: &str) -> PathBuf {
        fs::write(self.path(file), text).unwrap();
        self.path(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the version of the server on the `PATH`, or says that there is none.
///
/// # Panics
/// There is none, and it is required.
pub(super) fn version() -> Option<String> {
    let asked = Command::new(Path::new("nats-server")).arg("--version").output();
    if let Ok(answer) = asked {
        let text = String::from_utf8(answer.stdout).unwrap();
        return Some(text.trim().rsplit(' ').next().unwrap().trim_start_matches('v').to_owned());
    }
    let required = std::env::var("DISTCACHE_EXTERNAL").is_ok_and(|value| value == "required");
    assert!(!required, "nats-server is not on the PATH");
    // Not by a macro, whose words the test harness would keep to itself.
    let line = "skipped: nats: nats-server is not installed (cargo xtask test --external gets it)\n";
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    None
}
