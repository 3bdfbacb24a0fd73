//! Where nodes look for each other.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

/// A list of nodes that processes can ask, or a server that has one.
pub(super) trait Meeting {
    /// Names what is asked.
    fn server(&self) -> String;

    /// Returns the arguments by which a node finds it.
    fn arguments(&self, place: Place) -> Vec<String>;

    /// Puts a node on the list, unless nodes do that themselves.
    fn list(&mut self, _place: Place, _node: u8) -> anyhow::Result<()> {
        Ok(())
    }

    /// Takes a node off the list, which may be done already.
    fn unlist(&mut self, _place: Place, _node: u8) -> anyhow::Result<()> {
        Ok(())
    }

    /// Kills the server. Returns `false` if there is none.
    fn stop(&mut self) -> anyhow::Result<bool> {
        Ok(false)
    }

    /// Starts it again at the same address, with the list as it is.
    fn start(&mut self, _place: Place) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A meeting that is open, or the reason why there cannot be one here.
pub(super) type Opened = anyhow::Result<Result<Box<dyn Meeting>, String>>;

/// Where the nodes listen: an address each, and one port for all, as containers have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    port: u16,
}

impl Place {
    pub(super) fn choose() -> anyhow::Result<Self> {
        Ok(Self { port: free_port()? })
    }

    pub(super) const fn port(self) -> u16 {
        self.port
    }

    pub(super) const fn ip(self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 0, 10 + node)
    }

    pub(super) fn addr(self, node: u8) -> String {
        format!("{}:{}", self.ip(node), self.port)
    }
}

/// Returns a port that is free on all addresses of the machine just now.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Waits until something listens there.
pub(super) fn until_open(addr: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + OPEN;
    while TcpStream::connect_timeout(&addr, OPEN).is_err() {
        ensure!(Instant::now() < deadline, "nothing listens at {addr} after {OPEN:?}");
        thread::sleep(POLL);
    }
    Ok(())
}

/// A server that takes longer to start is broken.
const OPEN: Duration = Duration::from_secs(10);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);
