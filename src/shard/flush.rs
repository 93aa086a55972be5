//! The flush: dirty lists, batches of sends, and what the kernel said of each.
//!
//! Express goes before bulk, which is sure of a share (decisions 20). A connection sends all it has,
//! in its order, up to a bound per turn. What the kernel does not take makes it *blocked* until its
//! queue is empty again.

use smallvec::SmallVec;

use crate::clock::Now;

use super::conns::{Connections, Flag, Phase};
use super::outbox::{Outbox, Piece};

/// Bytes offered to the kernel per connection and turn, at most.
pub const SEND_BYTES_MAX: usize = 256 * 1024;
/// Pieces of one gathered send, at most.
pub const SEND_PIECES_MAX: usize = 64;
/// A blocked connection that holds less than this of a run more than four times as long gets a copy
/// of its rest.
const COPIED_REST_BYTES_MAX: usize = 4 * 1024;

/// What the kernel said of one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were taken.
    Bytes(usize),
    /// None were: the socket's buffer is full.
    Refused,
    /// The connection is broken.
    Failed,
}

/// One connection of a batch: what to send to which descriptor.
#[derive(Debug)]
pub struct Slices<'a> {
    pub slot: u32,
    pub fd: i32,
    pub slices: SmallVec<[&'a [u8]; 4]>,
}

/// What a flushed connection means for the shard or for `net`; each list is emptied by whoever acts
/// on it.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Over the bound while blocked, to be closed with 4100.
    pub slow: Vec<u32>,
    /// To be watched until writable.
    pub blocked: Vec<u32>,
    /// The kernel reported an error: to be shut down.
    pub broken: Vec<u32>,
    /// Sealed, and everything is sent.
    pub finished: Vec<u32>,
    /// Paused, and drained below half of the bound.
    pub drained: Vec<u32>,
    /// A queued ping has entered the kernel.
    pub pinged: Vec<u32>,
}

impl Outbox {
    /// Puts a connection into a dirty list, unless it waits for the kernel.
    pub(super) fn mark(&mut self, conns: &mut Connections, slot: u32, express: bool) {
        let flags = &mut conns.hot(slot).flags;
        if flags.has(Flag::Waiting) || flags.has(Flag::Held) {
            return;
        }
        if express {
            if !flags.has(Flag::Express) {
                flags.set(Flag::Express);
                self.express.push_back(slot);
            }
        } else if !flags.has(Flag::Bulk) && !flags.has(Flag::Express) {
            flags.set(Flag::Bulk);
            self.bulk.push_back(slot);
        }
    }

    /// The socket takes bytes again.
    pub fn writable(&mut self, conns: &mut Connections, slot: u32) {
        conns.hot(slot).flags.clear(Flag::Waiting);
        self.mark(conns, slot, true);
    }

    /// Lets connections that had more than a turn's worth, or were fenced and are not any more, be
    /// flushed again.
    pub fn begin_flush(&mut self, conns: &mut Connections) {
        for slot in std::mem::take(&mut self.again) {
            self.mark(conns, slot, false);
        }
        for slot in std::mem::take(&mut self.held) {
            if conns.peek(slot).flags.has(Flag::Fenced) {
                self.held.push(slot);
            } else {
                conns.hot(slot).flags.clear(Flag::Held);
                self.mark(conns, slot, true);
            }
        }
    }

    /// Chooses up to `max` connections to flush, at least `bulk_min` of them from the bulk list if
    /// it has them.
    pub fn fill_batch(&mut self, conns: &mut Connections, max: usize, bulk_min: usize) -> usize {
        self.batch.clear();
        let express_max = max - bulk_min.min(self.bulk.len()).min(max);
        while self.batch.len() < express_max
            && let Some(slot) = self.express.pop_front()
        {
            self.choose(conns, slot, Flag::Express);
        }
        while self.batch.len() < max
            && let Some(slot) = self.bulk.pop_front()
        {
            self.choose(conns, slot, Flag::Bulk);
        }
        self.batch.len()
    }

    fn choose(&mut self, conns: &mut Connections, slot: u32, list: Flag) {
        let hot = conns.hot(slot);
        if !hot.flags.has(list) {
            return;
        }
        hot.flags.clear(Flag::Express);
        hot.flags.clear(Flag::Bulk);
        if hot.pending_bytes == 0 || matches!(hot.phase, Phase::Free | Phase::Departed) {
            return;
        }
        if hot.flags.has(Flag::Fenced) {
            hot.flags.set(Flag::Held);
            self.held.push(slot);
            return;
        }
        let offered: usize = self
            .slices(conns, slot)
            .iter()
            .map(|slice| slice.len())
            .sum();
        self.batch.push((slot, offered as u32));
    }

    /// What the chosen connections send. The slices live until the results are reported.
    pub fn batch<'a>(&'a self, conns: &'a Connections) -> impl Iterator<Item = Slices<'a>> {
        self.batch.iter().map(|&(slot, _)| Slices {
            slot,
            fd: conns.peek(slot).fd,
            slices: self.slices(conns, slot),
        })
    }

    fn slices<'a>(&'a self, conns: &Connections, slot: u32) -> SmallVec<[&'a [u8]; 4]> {
        let hot = conns.peek(slot);
        let mut slices = SmallVec::new();
        if !hot.flags.has(Flag::Spilled) {
            let runs = &hot.pending[..usize::from(hot.pending_len)];
            slices.extend(runs.iter().map(|&run| self.palette.slice(run)));
            return slices;
        }
        let mut room = SEND_BYTES_MAX;
        let pieces = self
            .spills
            .get(&slot)
            .into_iter()
            .flat_map(|spill| &spill.pieces);
        for piece in pieces.take(SEND_PIECES_MAX) {
            let slice = &self.palette.slice(piece.run)[piece.start as usize..piece.end as usize];
            let slice = &slice[..slice.len().min(room)];
            room -= slice.len();
            slices.push(slice);
            if room == 0 {
                break;
            }
        }
        slices
    }

    /// Reports the result for the connection at `index` of the batch.
    pub fn on_sent(&mut self, conns: &mut Connections, index: usize, sent: Sent, now: Now) {
        let Some(&(slot, offered)) = self.batch.get(index) else {
            return;
        };
        match sent {
            Sent::Failed => {
                self.outcomes.broken.push(slot);
                self.discard(conns, slot);
            }
            Sent::Refused => self.block(conns, slot, now),
            Sent::Bytes(bytes) => {
                self.consume(conns, slot, bytes as u32, now);
                if bytes < offered as usize {
                    self.block(conns, slot, now);
                } else if conns.peek(slot).pending_bytes > 0 {
                    self.again.push(slot);
                }
            }
        }
    }

    /// Takes sent bytes off the front.
    fn consume(&mut self, conns: &mut Connections, slot: u32, bytes: u32, now: Now) {
        let hot = conns.hot(slot);
        hot.pending_bytes -= bytes;
        let (blocked, empty) = (hot.flags.has(Flag::Blocked), hot.pending_bytes == 0);
        if !hot.flags.has(Flag::Spilled) {
            if !empty {
                self.spill(conns, slot);
                return self.consume_pieces(slot, bytes, blocked, now);
            }
            for &run in &hot.pending[..usize::from(hot.pending_len)] {
                self.palette.release(run, !blocked);
            }
            hot.pending_len = 0;
            return self.emptied(conns, slot);
        }
        self.consume_pieces(slot, bytes, blocked, now);
        if empty {
            self.spills.remove(&slot);
            hot.flags.clear(Flag::Spilled);
            hot.flags.clear(Flag::Blocked);
            self.emptied(conns, slot);
        } else if hot.flags.has(Flag::Paused) && hot.pending_bytes <= self.limits.bytes_max / 2 {
            hot.flags.clear(Flag::Paused);
            self.outcomes.drained.push(slot);
        }
    }

    fn consume_pieces(&mut self, slot: u32, mut bytes: u32, blocked: bool, now: Now) {
        let Some(spill) = self.spills.get_mut(&slot) else {
            return;
        };
        if blocked && bytes > 0 {
            spill.stalled_since = now;
        }
        while let Some(piece) = spill.pieces.front_mut() {
            let length = piece.end - piece.start;
            if bytes < length {
                if bytes > 0 {
                    piece.start += bytes;
                    let rest = self.palette.frames_in(piece.run, piece.start, piece.end);
                    spill.frames -= piece.frames - rest;
                    piece.frames = rest;
                }
                return;
            }
            bytes -= length;
            spill.frames -= piece.frames;
            spill.urgent = spill.urgent.saturating_sub(1);
            self.palette.release(piece.run, !blocked);
            spill.pieces.pop_front();
        }
    }

    /// Nothing is queued any more.
    pub(super) fn emptied(&mut self, conns: &mut Connections, slot: u32) {
        let flags = &mut conns.hot(slot).flags;
        if flags.has(Flag::Paused) {
            flags.clear(Flag::Paused);
            self.outcomes.drained.push(slot);
        }
        if flags.has(Flag::PingQueued) {
            flags.clear(Flag::PingQueued);
            self.outcomes.pinged.push(slot);
        }
        if flags.has(Flag::Sealed) && !flags.has(Flag::Finished) {
            flags.set(Flag::Finished);
            self.outcomes.finished.push(slot);
        }
    }

    /// The kernel took less than all: the connection waits until it is writable.
    fn block(&mut self, conns: &mut Connections, slot: u32, now: Now) {
        self.spill(conns, slot);
        let flags = &mut conns.hot(slot).flags;
        flags.set(Flag::Waiting);
        self.outcomes.blocked.push(slot);
        if flags.has(Flag::Blocked) {
            return;
        }
        flags.set(Flag::Blocked);
        let Some(spill) = self.spills.get_mut(&slot) else {
            return;
        };
        spill.stalled_since = now;
        for piece in &spill.pieces {
            self.palette.tried(piece.run);
        }
        self.copy_rest(slot, now);
        self.judge(conns, slot);
    }

    /// A small rest of a large run is copied, so that one late reader does not keep the run alive
    /// (decisions 23).
    fn copy_rest(&mut self, slot: u32, now: Now) {
        let Some(&Piece {
            run, start, end, ..
        }) = self.spills.get(&slot).and_then(|s| s.pieces.front())
        else {
            return;
        };
        let rest = (end - start) as usize;
        let is_small = rest <= COPIED_REST_BYTES_MAX && rest * 4 <= self.palette.len(run);
        if !is_small || self.palette.is_private(run) {
            return;
        }
        // The begun frame becomes a piece of its own first: a copy no longer shows where its frames
        // begin.
        self.finish_begun(slot);
        let Some(spill) = self.spills.get_mut(&slot) else {
            return;
        };
        for piece in spill.pieces.iter_mut().take_while(|piece| piece.run == run) {
            let copy = self.palette.private(now);
            let bytes = self.palette.slice(run)[piece.start as usize..piece.end as usize].to_vec();
            self.palette
                .write(copy, |buffer| buffer.extend_from_slice(&bytes));
            self.palette.release(run, false);
            // A copied rest is small, and from here on counts as an answer does.
            spill.frames -= piece.frames;
            *piece = Piece {
                run: copy,
                start: 0,
                end: bytes.len() as u32,
                frames: 0,
            };
        }
    }

    /// Whether a dirty connection waits for its flush.
    pub fn has_dirty(&self) -> bool {
        !self.express.is_empty() || !self.bulk.is_empty() || !self.again.is_empty()
    }

    /// Connections with a queue of pieces, and connections in a list: 0 when all is sent.
    pub fn queued(&self) -> usize {
        self.spills.len()
            + self.express.len()
            + self.bulk.len()
            + self.again.len()
            + self.held.len()
    }
}
