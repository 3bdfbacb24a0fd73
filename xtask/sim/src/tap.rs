//! Reads along on a stream: the frames that a node writes to it.

use std::fmt;

/// Follows one direction of a connection. The handshake is skipped: its nonce differs from run to run.
#[derive(Debug, Default)]
pub(super) struct Tap {
    hands_shaken: bool,
    head: Vec<u8>,
    /// Whose payload is still to come.
    begun: Option<Frame>,
    /// Bytes that are still to come, of the payload or of the handshake.
    left: usize,
}

/// A frame, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) code: u16,
    pub(crate) id: u64,
    pub(crate) deadline_ms: u32,
    pub(crate) payload: Vec<u8>,
}

impl Tap {
    /// Takes what is written, and adds the frames that are whole by it.
    pub(super) fn take(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (taken, rest) = bytes.split_at(self.left.min(bytes.len()));
                (self.left, bytes) = (self.left - taken.len(), rest);
                if let Some(frame) = &mut self.begun {
                    frame.payload.extend_from_slice(taken);
                }
            } else {
                let missing = if self.hands_shaken { HEADER } else { GREETING } - self.head.len();
                let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
                self.head.extend_from_slice(taken);
                bytes = rest;
                self.look();
            }
            if self.left == 0 {
                frames.extend(self.begun.take());
            }
        }
    }

    fn look(&mut self) {
        if !self.hands_shaken {
            if let [_, _, _, _, _, low, high] = self.head[..] {
                (self.hands_shaken, self.left) = (true, usize::from(u16::from_le_bytes([low, high])));
                self.head.clear();
            }
            return;
        }
        let Ok([l0, l1, l2, l3, kind, _, c0, c1, i0, i1, i2, i3, i4, i5, i6, i7, d0, d1, d2, d3]) =
            <[u8; HEADER]>::try_from(&self.head[..])
        else {
            return;
        };
        self.left = u32::from_le_bytes([l0, l1, l2, l3]).saturating_sub(AFTER_LENGTH) as usize;
        self.begun = Some(Frame {
            kind,
            code: u16::from_le_bytes([c0, c1]),
            id: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            deadline_ms: u32::from_le_bytes([d0, d1, d2, d3]),
            payload: Vec::with_capacity(self.left),
        });
        self.head.clear();
    }
}

impl Frame {
    pub(super) fn numbers(&self) -> [u64; 6] {
        let first = self.payload.first().copied().map_or(u64::MAX, u64::from);
        [self.kind.into(), self.code.into(), self.id, self.deadline_ms.into(), self.payload.len() as u64, first]
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.get(usize::from(self.kind)).copied().unwrap_or("unknown");
        write!(f, "{name} {} id {} of {} bytes, {} ms", self.code, self.id, self.payload.len(), self.deadline_ms)
    }
}

/// As `distcache-transport`'s greeting and frame modules draw them.
const GREETING: usize = 7;
const HEADER: usize = 20;
const AFTER_LENGTH: u32 = 16;
const KINDS: [&str; 14] = [
    "?", "request", "response", "error", "cancel", "notice", "ping", "pong", "go away", "loading", "event", "lost",
    "ack", "head",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_seen_however_they_are_cut() {
        let mut bytes = b"DCHE\x01\x03\x00abc".to_vec();
        for (kind, code, payload) in [(1_u8, 4_u16, &b"\x02rest"[..]), (6, 0, b""), (1, 1, b"get")] {
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
            let seen: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.code, &frame.payload[..])).collect();
            assert_eq!(seen, [(1, 4, &b"\x02rest"[..]), (6, 0, b""), (1, 1, b"get")]);
        }
    }
}
