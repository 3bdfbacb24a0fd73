//! What processes do: they dial, listen, write and read.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::Waker,
};

use super::{Answer, BUFFER, BYTES_PER_MICRO, Conn, Dial, Event, Listening, Segment, State, host_of};
use crate::{talk::Way, tap::Frame};

impl State {
    pub(crate) fn dial(&mut self, from: usize, to: SocketAddr) -> Arc<Mutex<Answer>> {
        let slot = Arc::new(Mutex::new(Answer::default()));
        let dial = Dial { from, to: host_of(to), answer: Arc::clone(&slot) };
        let at = self.moment(from) + self.way(from, dial.to);
        self.schedule(at, Event::Syn(dial));
        slot
    }

    pub(crate) fn write(&mut self, id: u64, end: usize, bytes: &[u8]) -> io::Result<usize> {
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
    pub(crate) fn read(&mut self, id: u64, end: usize, most: usize) -> Option<io::Result<Vec<u8>>> {
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

    pub(crate) fn shut(&mut self, id: u64, end: usize) {
        let open = |conn: &Conn| !conn.dirs[end].end_sent && conn.ends[end].broken.is_none();
        if self.conns.get(&id).is_some_and(open) {
            self.send(id, end, Vec::new(), true);
        }
    }

    pub(crate) fn drop_end(&mut self, id: u64, end: usize) {
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

    pub(crate) fn accept(&mut self, host: usize, waker: &Waker) -> Option<(u64, usize)> {
        let listening = self.hosts[host].listener.as_mut()?;
        let Some(id) = listening.queue.pop_front() else {
            listening.waker = Some(waker.clone());
            return None;
        };
        let from = self.conns.get(&id).map_or(host, |conn| conn.hosts[0]);
        Some((id, from))
    }

    pub(crate) fn listen(&mut self, host: usize) {
        self.hosts[host].listener = Some(Listening::default());
    }

    pub(crate) fn unlisten(&mut self, host: usize) {
        let queue = self.hosts[host].listener.take().map_or_else(VecDeque::new, |listening| listening.queue);
        queue.into_iter().for_each(|id| self.drop_end(id, 1));
    }
}
