//! What becomes of segments: they arrive, wait, are answered by a reset, or are given up by the sender's kernel.

use std::{
    io,
    sync::{Arc, PoisonError},
    task::Waker,
};

use rand::RngExt;

use super::{BACKLOG, Conn, Dial, Event, Micros, RESUMPTION, STEP, SYN_RETRY, State, USER_TIMEOUT};

impl State {
    pub(super) fn deliver(&mut self, id: u64, dir: usize) {
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
    pub(super) fn give_up(&mut self, id: u64, dir: usize) {
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

    pub(super) fn break_end(&mut self, id: u64, end: usize, kind: io::ErrorKind) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end_state = &mut conn.ends[end];
        end_state.broken.get_or_insert(kind);
        [end_state.reader.take(), end_state.writer.take()].into_iter().flatten().for_each(Waker::wake);
        conn.dirs[end].flying.clear();
        self.forget(id);
    }

    /// Drops a connection that nobody holds any more.
    pub(super) fn forget(&mut self, id: u64) {
        if self.conns.get(&id).is_some_and(|conn| conn.ends.iter().all(|end| end.gone)) {
            self.conns.remove(&id);
        }
    }

    /// Lets what was held go on where a path is open again.
    pub(super) fn resume(&mut self) {
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

    pub(super) fn syn(&mut self, dial: Dial) {
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

    pub(super) fn syn_ack(&mut self, dial: Dial, id: u64) {
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
}

/// Answers a dialler.
pub(super) fn answer(dial: &Dial, result: Result<u64, io::ErrorKind>) {
    let mut slot = dial.answer.lock().unwrap_or_else(PoisonError::into_inner);
    slot.result = Some(result);
    slot.waker.take().into_iter().for_each(Waker::wake);
}
