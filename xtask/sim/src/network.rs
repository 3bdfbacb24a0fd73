//! The network between the nodes: byte streams that behave as TCP does when segments are late, lost or held.
//!
//! What is written at a moment arrives a latency later, in order, and is handed over at the border of a step. A lost segment is a late
//! one. A direction that is cut holds bytes; after [`USER_TIMEOUT`] the sender's end breaks. A process that dies resets its streams, a
//! machine that dies says nothing, a frozen process still takes bytes into its buffer and dials into its backlog.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use crate::{
    talk::Way,
    tap::{Frame, Tap},
    trace::Trace,
    world::World,
};

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
            Event::Refused(dial) => answer(&dial, Err(io::ErrorKind::ConnectionRefused)),
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

    fn deliver(&mut self, id: u64, dir: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get(&id) else { return };
        let (from, to) = (conn.hosts[dir], conn.hosts[1 - dir]);
        if conn.dirs[dir].stalled || conn.dirs[dir].flying.front().is_none_or(|first| first.at > now) {
            return;
        }
        if conn.ends[1 - dir].broken.is_some() || conn.ends[1 - dir].gone {
            // Nobody is there: the machine, if it has power, says so.
            if self.hosts[to].powered && !self.is_cut(from, to) && !self.is_cut(to, from) {
                let way = self.way(to, from);
                self.schedule(now + way, Event::Reset { conn: id, end: dir });
            } else if conn.ends[dir].broken.is_none() {
                self.wait(id, dir, now);
            }
            self.forget(id);
            return;
        }
        if self.is_cut(from, to) || !self.hosts[to].powered {
            self.fired.held += 1;
            let since = conn.dirs[dir].flying.front().map_or(now, |first| first.sent);
            return self.wait(id, dir, since);
        }
        if self.is_cut(to, from) {
            // It arrives, and the word that it has does not.
            self.fired.held += 1;
            self.note_unacknowledged(id, dir);
        }
        let frozen = self.hosts[to].frozen;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let direction = &mut conn.dirs[dir];
        while direction.flying.front().is_some_and(|first| first.at <= now) {
            let Some(segment) = direction.flying.pop_front() else { break };
            direction.flying_bytes -= segment.bytes.len();
            self.trace.note(&[now, id, dir as u64, segment.bytes.len() as u64, u64::from(segment.end)]);
            direction.arrived.extend(segment.bytes);
            direction.ended |= segment.end;
            self.fired.delivered += 1;
        }
        if let Some(reader) = conn.ends[1 - dir].reader.take() {
            reader.wake();
        }
        if frozen {
            self.fired.buffered += 1;
            self.hosts[to].heard += 1;
        }
    }

    /// Holds a direction until its path is open again, or its sender loses patience.
    fn wait(&mut self, id: u64, dir: usize, since: Micros) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.dirs[dir].stalled = true;
        }
        self.note_waiting(id, dir, since);
    }

    fn note_unacknowledged(&mut self, id: u64, dir: usize) {
        self.note_waiting(id, dir, self.now);
    }

    fn note_waiting(&mut self, id: u64, dir: usize, since: Micros) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.dirs[dir].waiting_since.is_none() {
            conn.dirs[dir].waiting_since = Some(since);
            self.schedule(since + USER_TIMEOUT, Event::GiveUp { conn: id, dir });
        }
    }

    /// The sender's kernel ends a stream of which nothing was acknowledged for too long.
    fn give_up(&mut self, id: u64, dir: usize) {
        let Some(conn) = self.conns.get(&id) else { return };
        if conn.dirs[dir].waiting_since.is_none_or(|since| since + USER_TIMEOUT > self.now) {
            return;
        }
        let (from, to) = (conn.hosts[dir], conn.hosts[1 - dir]);
        self.fired.reset += 1;
        self.break_end(id, dir, io::ErrorKind::TimedOut);
        if !self.is_cut(from, to) {
            let way = self.way(from, to);
            self.schedule(self.now + way, Event::Reset { conn: id, end: 1 - dir });
        }
    }

    fn break_end(&mut self, id: u64, end: usize, kind: io::ErrorKind) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end_state = &mut conn.ends[end];
        end_state.broken.get_or_insert(kind);
        [end_state.reader.take(), end_state.writer.take()].into_iter().flatten().for_each(Waker::wake);
        conn.dirs[end].flying.clear();
        self.forget(id);
    }

    /// Drops a connection that nobody holds any more.
    fn forget(&mut self, id: u64) {
        if self.conns.get(&id).is_some_and(|conn| conn.ends.iter().all(|end| end.gone)) {
            self.conns.remove(&id);
        }
    }

    /// Lets what was held go on where a path is open again.
    fn resume(&mut self) {
        let stalled: Vec<_> = self
            .conns
            .iter()
            .flat_map(|(id, conn)| [(*id, 0, conn.hosts), (*id, 1, [conn.hosts[1], conn.hosts[0]])])
            .filter(|(id, dir, _)| self.conns[id].dirs[*dir].waiting_since.is_some())
            .collect();
        for (id, dir, [from, to]) in stalled {
            if !self.is_cut(from, to) && !self.is_cut(to, from) && self.hosts[to].powered {
                // Retransmissions back off, so that the first may come late.
                let late = STEP + self.rng.random_range(0..RESUMPTION);
                self.schedule(self.now + late, Event::Resume { conn: id, dir });
            }
        }
    }

    fn syn(&mut self, dial: Dial) {
        let (from, to) = (dial.from, dial.to);
        if Arc::strong_count(&dial.answer) == 1 {
            return;
        }
        if self.is_cut(from, to) || !self.hosts[to].powered {
            self.fired.held += 1;
            return self.schedule(self.now + SYN_RETRY, Event::Syn(dial));
        }
        let Some(listening) = &self.hosts[to].listener else {
            let way = self.way(to, from);
            return self.schedule(self.now + way, Event::Refused(dial));
        };
        if listening.queue.len() >= BACKLOG {
            return self.schedule(self.now + SYN_RETRY, Event::Syn(dial));
        }
        self.last_conn += 1;
        let id = self.last_conn;
        self.conns.insert(id, Conn { hosts: [from, to], ends: Default::default(), dirs: Default::default() });
        if let Some(listening) = &mut self.hosts[to].listener {
            listening.queue.push_back(id);
            listening.waker.take().into_iter().for_each(Waker::wake);
        }
        if self.hosts[to].frozen {
            self.fired.buffered += 1;
        }
        self.trace.note(&[self.now, id, from as u64, to as u64]);
        let way = self.way(to, from);
        self.schedule(self.now + way, Event::SynAck(dial, id));
    }

    fn syn_ack(&mut self, dial: Dial, id: u64) {
        if self.is_cut(dial.to, dial.from) {
            self.fired.held += 1;
            return self.schedule(self.now + SYN_RETRY, Event::SynAck(dial, id));
        }
        if Arc::strong_count(&dial.answer) == 1 {
            self.drop_end(id, 0);
        } else {
            answer(&dial, Ok(id));
        }
    }

    /// The moment it is for a process, which is within a step.
    fn moment(&self, host: usize) -> Micros {
        let born = self.hosts[host].born;
        born.map_or(self.now, |(instant, at)| at + instant.elapsed().as_micros() as u64).max(self.now)
    }
}

fn answer(dial: &Dial, result: Result<u64, io::ErrorKind>) {
    let mut slot = dial.answer.lock().unwrap_or_else(PoisonError::into_inner);
    slot.result = Some(result);
    slot.waker.take().into_iter().for_each(Waker::wake);
}

/// What processes do.
impl State {
    pub(super) fn dial(&mut self, from: usize, to: SocketAddr) -> Arc<Mutex<Answer>> {
        let slot = Arc::new(Mutex::new(Answer::default()));
        let dial = Dial { from, to: host_of(to), answer: Arc::clone(&slot) };
        let at = self.moment(from) + self.way(from, dial.to);
        self.schedule(at, Event::Syn(dial));
        slot
    }

    pub(super) fn write(&mut self, id: u64, end: usize, bytes: &[u8]) -> io::Result<usize> {
        let Some(conn) = self.conns.get_mut(&id) else { return Err(io::ErrorKind::ConnectionReset.into()) };
        if let Some(kind) = conn.ends[end].broken {
            return Err(kind.into());
        }
        if conn.dirs[end].end_sent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = BUFFER.saturating_sub(conn.dirs[end].flying_bytes + conn.dirs[end].arrived.len());
        let taken = bytes.len().min(room);
        if taken > 0 {
            let (mut frames, [dialler, listener]) = (Vec::new(), conn.hosts);
            conn.dirs[end].tap.take(&bytes[..taken], &mut frames);
            let dialled = end == 0;
            let (from, to) = if dialled { (dialler, listener) } else { (listener, dialler) };
            frames.iter().for_each(|frame| self.note(Way { conn: id, dialled, from, to }, frame));
            self.send(id, end, bytes[..taken].to_vec(), false);
        }
        Ok(taken)
    }

    fn note(&mut self, way: Way, frame: &Frame) {
        let now = self.moment(way.from);
        if self.trace.is_loud() {
            self.trace.say(now, || format!("{} -> {} {frame}", way.from, way.to));
        } else {
            self.trace.note(&frame.numbers());
        }
        self.world.lock().heard(way, frame);
    }

    fn send(&mut self, id: u64, end: usize, bytes: Vec<u8>, is_end: bool) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (from, to) = (conn.hosts[end], conn.hosts[1 - end]);
        let sent = self.moment(from);
        let way = self.way(from, to) + bytes.len() as u64 / BYTES_PER_MICRO;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let direction = &mut conn.dirs[end];
        let at = (sent + way).max(direction.last_arrival);
        direction.last_arrival = at;
        direction.flying_bytes += bytes.len();
        direction.end_sent |= is_end;
        direction.flying.push_back(Segment { at, sent, bytes, end: is_end });
        self.schedule(at, Event::Segment { conn: id, dir: end });
    }

    /// Returns what has arrived, at most so much; nothing yet is `None`.
    pub(super) fn read(&mut self, id: u64, end: usize, most: usize) -> Option<io::Result<Vec<u8>>> {
        let Some(conn) = self.conns.get_mut(&id) else { return Some(Err(io::ErrorKind::ConnectionReset.into())) };
        if let Some(kind) = conn.ends[end].broken {
            return Some(Err(kind.into()));
        }
        let direction = &mut conn.dirs[1 - end];
        if direction.arrived.is_empty() {
            return direction.ended.then(|| Ok(Vec::new()));
        }
        let count = direction.arrived.len().min(most);
        let bytes = direction.arrived.drain(..count).collect();
        conn.ends[1 - end].writer.take().into_iter().for_each(Waker::wake);
        Some(Ok(bytes))
    }

    pub(super) fn shut(&mut self, id: u64, end: usize) {
        let open = |conn: &Conn| !conn.dirs[end].end_sent && conn.ends[end].broken.is_none();
        if self.conns.get(&id).is_some_and(open) {
            self.send(id, end, Vec::new(), true);
        }
    }

    pub(super) fn drop_end(&mut self, id: u64, end: usize) {
        let Some(conn) = self.conns.get(&id) else { return };
        // The machine of a process that is killed speaks for it, later.
        if !self.hosts[conn.hosts[end]].dying {
            self.shut(id, end);
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.ends[end].gone = true;
        }
        self.forget(id);
    }

    pub(super) fn accept(&mut self, host: usize, waker: &Waker) -> Option<(u64, usize)> {
        let listening = self.hosts[host].listener.as_mut()?;
        let Some(id) = listening.queue.pop_front() else {
            listening.waker = Some(waker.clone());
            return None;
        };
        let from = self.conns.get(&id).map_or(host, |conn| conn.hosts[0]);
        Some((id, from))
    }

    pub(super) fn listen(&mut self, host: usize) {
        self.hosts[host].listener = Some(Listening::default());
    }

    pub(super) fn unlisten(&mut self, host: usize) {
        let queue = self.hosts[host].listener.take().map_or_else(VecDeque::new, |listening| listening.queue);
        queue.into_iter().for_each(|id| self.drop_end(id, 1));
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
