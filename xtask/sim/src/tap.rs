//! Reads along on a stream: the frames that go by, as far as the trace and the checks want them.

use std::fmt;

/// Follows one direction of a connection. The handshake is skipped: its nonce differs from run to run.
#[derive(Debug, Default)]
pub(super) struct Tap {
    hands_shaken: bool,
    head: Vec<u8>,
    /// Bytes of the payload that are still to come.
    left: usize,
}

/// What is known of a frame by its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    kind: u8,
    code: u16,
    id: u64,
    deadline_ms: u32,
    length: u32,
    /// How many peers a write has crossed.
    pub(super) hops: Option<u8>,
}

impl Tap {
    pub(super) fn take(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                (self.left, bytes) = (self.left - skipped, &bytes[skipped..]);
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            self.look(frames);
        }
    }

    fn look(&mut self, frames: &mut Vec<Frame>) {
        let head = &self.head;
        if !self.hands_shaken {
            if let [_, _, _, _, _, low, high] = head[..] {
                (self.hands_shaken, self.left) = (true, usize::from(u16::from_le_bytes([low, high])));
                self.head.clear();
            }
            return;
        }
        let Some((fixed, rest)) = head.split_first_chunk::<HEADER>() else { return };
        let [l0, l1, l2, l3, kind, _, c0, c1, i0, i1, i2, i3, i4, i5, i6, i7, d0, d1, d2, d3] = *fixed;
        let length = u32::from_le_bytes([l0, l1, l2, l3]).saturating_sub(AFTER_LENGTH);
        let code = u16::from_le_bytes([c0, c1]);
        let is_write = kind == REQUEST && (code == PUT || code == DELETE) && length > 0;
        if is_write && rest.is_empty() {
            return;
        }
        frames.push(Frame {
            kind,
            code,
            id: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            deadline_ms: u32::from_le_bytes([d0, d1, d2, d3]),
            length,
            hops: rest.first().copied(),
        });
        self.left = length as usize - rest.len();
        self.head.clear();
    }
}

impl Frame {
    pub(super) fn numbers(&self) -> [u64; 6] {
        let hops = self.hops.map_or(u64::MAX, u64::from);
        [self.kind.into(), self.code.into(), self.id, self.deadline_ms.into(), self.length.into(), hops]
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.get(usize::from(self.kind)).copied().unwrap_or("unknown");
        write!(f, "{name} {} id {} of {} bytes, {} ms", self.code, self.id, self.length, self.deadline_ms)?;
        self.hops.map_or(Ok(()), |hops| write!(f, ", {hops} hops"))
    }
}

/// As `distcache-transport`'s frame module draws it.
const HEADER: usize = 20;
const AFTER_LENGTH: u32 = 16;
const REQUEST: u8 = 1;
const KINDS: [&str; 14] = [
    "?", "request", "response", "error", "cancel", "notice", "ping", "pong", "go away", "loading", "event", "lost",
    "ack", "head",
];
/// As `distcache-cluster`'s message module numbers them.
const PUT: u16 = 3;
const DELETE: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_seen_however_they_are_cut() {
        let mut bytes = b"DCHE\x01\x03\x00abc".to_vec();
        for (kind, code, payload) in [(1_u8, DELETE, &b"\x02rest"[..]), (6, 0, b""), (1, 1, b"get")] {
            bytes.extend((16 + payload.len() as u32).to_le_bytes());
            bytes.extend([kind, 0]);
            bytes.extend(code.to_le_bytes());
            bytes.extend(7_u64.to_le_bytes());
            bytes.extend(9_u32.to_le_bytes());
            bytes.extend(payload);
        }
        for piece in [1, 3, 1_000] {
            let (mut tap, mut frames) = (Tap::default(), Vec::new());
            bytes.chunks(piece).for_each(|piece| tap.take(piece, &mut frames));
            let seen: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.code, frame.hops)).collect();
            assert_eq!(seen, [(1, DELETE, Some(2)), (6, 0, None), (1, 1, None)]);
        }
    }
}
