//! The network between the nodes: byte streams that behave as TCP does when segments are late, lost or held.
//!
//! What is written at a moment arrives a latency later, in order, and is handed over at the border of a step. A lost segment is a late
//! one. A direction that is cut holds bytes; after [`USER_TIMEOUT`] the sender's end breaks. A process that dies resets its streams, a
//! machine that dies says nothing, a frozen process still takes bytes into its buffer and dials into its backlog.

mod sockets;
mod tcp;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use crate::{tap::Tap, trace::Trace, world::World};

/// Microseconds of virtual time since the start of a run.
pub(crate) type Micros = u64;

/// The network of one run. Clones share it.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

/// What became of the faults: a scenario whose fault did not fire proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fired {
    pub(crate) held: u64,
    pub(crate) retransmitted: u64,
    pub(crate) reset: u64,
    pub(crate) buffered: u64,
    pub(crate) delivered: u64,
}

pub(crate) struct State {
    rng: StdRng,
    now: Micros,
    seq: u64,
    events: BTreeMap<(Micros, u64), Event>,
    hosts: Vec<Host>,
    paths: Vec<Vec<Path>>,
    pub(super) conns: BTreeMap<u64, Conn>,
    last_conn: u64,
    pub(crate) fired: Fired,
    pub(crate) trace: Trace,
    /// Judges what nodes say.
    world: World,
}

/// A machine.
#[derive(Default)]
struct Host {
    /// When the process's clock began, by its own clock and by the run's.
    born: Option<(Instant, Micros)>,
    powered: bool,
    frozen: bool,
    dying: bool,
    listener: Option<Listening>,
    /// Wakes what a frozen process was told meanwhile.
    heard: u64,
}

#[derive(Default)]
struct Listening {
    queue: VecDeque<u64>,
    waker: Option<Waker>,
}

/// One direction between two machines.
#[derive(Clone, Copy)]
struct Path {
    latency: Micros,
    jitter: Micros,
    loss: f64,
    cut: bool,
}

enum Event {
    Segment { conn: u64, dir: usize },
    Resume { conn: u64, dir: usize },
    GiveUp { conn: u64, dir: usize },
    Reset { conn: u64, end: usize },
    Syn(Dial),
    SynAck(Dial, u64),
    Refused(Dial),
}

#[derive(Clone)]
struct Dial {
    from: usize,
    to: usize,
    answer: Arc<Mutex<Answer>>,
}

/// What a dialler waits for.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) result: Option<Result<u64, io::ErrorKind>>,
    pub(super) waker: Option<Waker>,
}

/// A connection: two ends, and a direction from each to the other.
pub(super) struct Conn {
    hosts: [usize; 2],
    pub(super) ends: [End; 2],
    dirs: [Direction; 2],
}

#[derive(Default)]
pub(super) struct End {
    pub(super) broken: Option<io::ErrorKind>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Nobody holds it any more.
    gone: bool,
}

#[derive(Default)]
struct Direction {
    flying: VecDeque<Segment>,
    arrived: VecDeque<u8>,
    flying_bytes: usize,
    last_arrival: Micros,
    ended: bool,
    end_sent: bool,
    stalled: bool,
    waiting_since: Option<Micros>,
    tap: Tap,
}

struct Segment {
    at: Micros,
    sent: Micros,
    bytes: Vec<u8>,
    end: bool,
}

impl Network {
    /// `stretch` says how much longer than the shortest all ways are.
    pub(crate) fn new(hosts: usize, seed: u64, stretch: u64, trace: Trace, world: World) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut path = |_| {
            let latency = stretch * (STEP + rng.random_range(0..STEP));
            Path { latency, jitter: stretch * STEP / 2, loss: 0.0, cut: false }
        };
        let paths = (0..hosts).map(|_| (0..hosts).map(&mut path).collect()).collect();
        let state = State {
            rng,
            now: 0,
            seq: 0,
            events: BTreeMap::new(),
            hosts: (0..hosts).map(|_| Host::default()).collect(),
            paths,
            conns: BTreeMap::new(),
            last_conn: 0,
            fired: Fired::default(),
            trace,
            world,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Hands over all that arrives up to a moment, in order.
    pub(crate) fn advance(&mut self, to: Micros) {
        self.now = to;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > to {
                break;
            }
            let event = entry.remove();
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Segment { conn, dir } => self.deliver(conn, dir),
            Event::Resume { conn, dir } => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    (conn.dirs[dir].stalled, conn.dirs[dir].waiting_since) = (false, None);
                }
                self.deliver(conn, dir);
            }
            Event::GiveUp { conn, dir } => self.give_up(conn, dir),
            Event::Reset { conn, end } => self.break_end(conn, end, io::ErrorKind::ConnectionReset),
            Event::Syn(dial) => self.syn(dial),
            Event::SynAck(dial, conn) => self.syn_ack(dial, conn),
            Event::Refused(dial) => tcp::answer(&dial, Err(io::ErrorKind::ConnectionRefused)),
        }
    }

    fn schedule(&mut self, at: Micros, event: Event) {
        self.seq += 1;
        self.events.insert((at, self.seq), event);
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.paths[from][to].cut
    }

    /// How long a segment takes, retransmissions included.
    fn way(&mut self, from: usize, to: usize) -> Micros {
        let Path { latency, jitter, loss, .. } = self.paths[from][to];
        let mut way = latency + self.rng.random_range(0..=jitter);
        let mut timeout = RETRANSMISSION;
        while loss > 0.0 && timeout < USER_TIMEOUT && self.rng.random_bool(loss) {
            self.fired.retransmitted += 1;
            way += timeout;
            timeout *= 2;
        }
        way
    }

    /// The moment it is for a process, which is within a step.
    fn moment(&self, host: usize) -> Micros {
        let born = self.hosts[host].born;
        born.map_or(self.now, |(instant, at)| at + instant.elapsed().as_micros() as u64).max(self.now)
    }
}

/// What a scenario does.
impl State {
    /// A process begins, with a clock of its own.
    pub(crate) fn born(&mut self, host: usize, instant: Instant) {
        let was_off = !self.hosts[host].powered;
        self.hosts[host] = Host { born: Some((instant, self.now)), powered: true, ..Host::default() };
        if was_off {
            self.resume();
        }
    }

    /// From here on what a process lets go of is not its own doing.
    pub(crate) fn dying(&mut self, host: usize) {
        self.hosts[host].dying = true;
    }

    /// The process is gone. Its machine resets its streams, unless it lost power too.
    pub(crate) fn dead(&mut self, host: usize, powered: bool) {
        self.hosts[host] = Host { powered, ..Host::default() };
        let ends: Vec<_> = self
            .conns
            .iter()
            .flat_map(|(id, conn)| [(*id, 0, conn.hosts), (*id, 1, conn.hosts)])
            .filter(|(_, end, hosts)| hosts[*end] == host)
            .collect();
        for (id, end, hosts) in ends {
            self.break_end(id, end, io::ErrorKind::ConnectionReset);
            let other = hosts[1 - end];
            if powered && self.conns.contains_key(&id) && !self.is_cut(host, other) {
                self.fired.reset += 1;
                let way = self.way(host, other);
                self.schedule(self.now + way, Event::Reset { conn: id, end: 1 - end });
            }
        }
    }

    pub(crate) fn freeze(&mut self, host: usize, frozen: bool) {
        self.hosts[host].frozen = frozen;
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.paths[from][to].cut = true;
    }

    /// Opens every path.
    pub(crate) fn heal(&mut self) {
        self.paths.iter_mut().flatten().for_each(|path| (path.cut, path.loss) = (false, 0.0));
        self.resume();
    }

    pub(crate) fn lose(&mut self, loss: f64) {
        self.paths.iter_mut().flatten().for_each(|path| path.loss = loss);
    }

    pub(crate) fn now(&self) -> Micros {
        self.now
    }
}

/// The address of a machine.
pub(crate) fn addr_of(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(host + 1).unwrap_or(u8::MAX)], PORT))
}

fn host_of(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(addr) => usize::from(addr.ip().octets()[3]) - 1,
        SocketAddr::V6(_) => 0,
    }
}

const PORT: u16 = 3320;
/// The shortest latency, and so the longest that nodes may run without hearing of each other.
pub(crate) const STEP: Micros = 2_000;
/// A gigabit a second.
const BYTES_PER_MICRO: u64 = 125;
/// Linux's least retransmission timeout.
const RETRANSMISSION: Micros = 200_000;
/// As the transport sets it on its sockets.
pub(crate) const USER_TIMEOUT: Micros = 5_000_000;
/// The longest that a held stream takes to go on once it could.
const RESUMPTION: Micros = 1_000_000;
const SYN_RETRY: Micros = 1_000_000;
const BACKLOG: usize = 128;
/// What the buffers of both sockets take together.
const BUFFER: usize = 256 * 1_024;
