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
/// Bytes of one batch, or one connection's share more: what the kernel copies in about 2 ms. A
/// batch of joined runs would otherwise hold up everybody else for ten times as long as one of
/// small frames (decisions 33).
const BATCH_BYTES_MAX: usize = 1024 * 1024;
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
    /// it has them; fewer of either where they have much to send.
    pub fn fill_batch(&mut self, conns: &mut Connections, max: usize, bulk_min: usize) -> usize {
        self.batch.clear();
        let express_max = max - bulk_min.min(self.bulk.len()).min(max);
        let express_bytes_max = match self.bulk.is_empty() {
            true => BATCH_BYTES_MAX,
            false => BATCH_BYTES_MAX / 4 * 3,
        };
        let mut bytes = 0;
        while self.batch.len() < express_max
            && bytes < express_bytes_max
            && let Some(slot) = self.express.pop_front()
        {
            bytes += self.choose(conns, slot, Flag::Express);
        }
        while self.batch.len() < max
            && bytes < BATCH_BYTES_MAX
            && let Some(slot) = self.bulk.pop_front()
        {
            bytes += self.choose(conns, slot, Flag::Bulk);
        }
        self.batch.len()
    }

    /// Puts a connection into the batch, if it has anything to send now; how many bytes it offers.
    fn choose(&mut self, conns: &mut Connections, slot: u32, list: Flag) -> usize {
        let hot = conns.hot(slot);
        if !hot.flags.has(list) {
            return 0;
        }
        hot.flags.clear(Flag::Express);
        hot.flags.clear(Flag::Bulk);
        if hot.pending_bytes == 0 || matches!(hot.phase, Phase::Free | Phase::Departed) {
            return 0;
        }
        if hot.flags.has(Flag::Fenced) {
            hot.flags.set(Flag::Held);
            self.held.push(slot);
            return 0;
        }
        // A connection whose runs fit beside its descriptor sends them all.
        let offered = match hot.flags.has(Flag::Spilled) {
            false => hot.pending_bytes as usize,
            true => self.slices(conns, slot).iter().map(|s| s.len()).sum(),
        };
        self.batch.push((slot, offered as u32));
        offered
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
        if !hot.flags.has(Flag::Spilled) {
            let runs = &hot.pending[..usize::from(hot.pending_len)];
            let mut slices = [&[][..]; 4];
            for (slice, &run) in slices.iter_mut().zip(runs) {
                *slice = self.palette.slice(run);
            }
            return SmallVec::from_buf_and_len(slices, runs.len());
        }
        let mut slices = SmallVec::new();
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
        if !flags.has_any([Flag::Paused, Flag::PingQueued, Flag::Sealed]) {
            return;
        }
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

#[cfg(test)]
mod tests {
    use super::super::bounds::OutboxLimits;
    use super::super::message::Frame;
    use super::super::palette::RUN_BYTES_MAX;
    use super::*;

    const NOW: Now = Now(1000);

    fn outbox() -> Outbox {
        Outbox::new(OutboxLimits {
            bytes_max: 1 << 20,
            frames_max: 2048,
            shard_bytes_max: 1 << 28,
        })
    }

    fn connections(count: u32) -> Connections {
        let mut conns = Connections::new(0);
        for slot in 0..count {
            assert_eq!(conns.take(slot as i32, 1).slot, slot);
            conns.hot(slot).phase = Phase::Open;
        }
        conns
    }

    fn send_to(
        outbox: &mut Outbox,
        conns: &mut Connections,
        slots: std::ops::Range<u32>,
        bytes: usize,
    ) {
        let run = outbox.palette.open(Frame::new(vec![0; bytes]), NOW);
        outbox.expand(conns, slots, run);
        outbox.palette.release(run, true);
    }

    /// Sends a batch whole; the slots in it and their bytes.
    fn flush(outbox: &mut Outbox, conns: &mut Connections) -> (Vec<u32>, usize) {
        outbox.begin_flush(conns);
        outbox.fill_batch(conns, 256, 64);
        let chosen = outbox.batch.clone();
        for (index, &(_, bytes)) in chosen.iter().enumerate() {
            outbox.on_sent(conns, index, Sent::Bytes(bytes as usize), NOW);
        }
        let bytes = chosen.iter().map(|&(_, bytes)| bytes as usize).sum();
        (chosen.into_iter().map(|(slot, _)| slot).collect(), bytes)
    }

    #[test]
    fn a_batch_of_large_runs_is_bounded_by_its_bytes_and_all_are_served_in_order() {
        let (mut outbox, mut conns) = (outbox(), connections(300));
        send_to(&mut outbox, &mut conns, 0..300, RUN_BYTES_MAX);
        let mut served = Vec::new();
        while outbox.has_dirty() {
            let (slots, bytes) = flush(&mut outbox, &mut conns);
            assert!(
                !slots.is_empty() && bytes < BATCH_BYTES_MAX + SEND_BYTES_MAX,
                "{bytes}"
            );
            served.extend(slots);
        }
        assert_eq!(served, (0..300).collect::<Vec<_>>());
        assert_eq!((outbox.queued(), outbox.palette.held()), (0, 0));
    }

    #[test]
    fn small_runs_are_bounded_by_their_number() {
        let (mut outbox, mut conns) = (outbox(), connections(300));
        send_to(&mut outbox, &mut conns, 0..300, 100);
        assert_eq!(flush(&mut outbox, &mut conns).0.len(), 256);
        assert_eq!(flush(&mut outbox, &mut conns).0.len(), 44);
    }

    #[test]
    fn much_in_the_express_list_leaves_room_for_the_bulk_list() {
        let (mut outbox, mut conns) = (outbox(), connections(300));
        // 64 subscribers are few enough to be express.
        for first in [100, 164, 228] {
            send_to(&mut outbox, &mut conns, first..first + 64, RUN_BYTES_MAX);
        }
        send_to(&mut outbox, &mut conns, 0..100, RUN_BYTES_MAX);
        let (slots, _) = flush(&mut outbox, &mut conns);
        let is_bulk = |slot: &&u32| **slot < 100;
        let bulk = slots.iter().filter(is_bulk).count();
        assert!(bulk > 0 && slots.len() > 2 * bulk, "{slots:?}");
        assert!(slots[0] >= 100, "express goes first");
    }
}
