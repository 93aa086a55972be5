//! The outbox: what each connection still has to send, and which connections are dirty.
//!
//! One ordered queue per connection. Three runs fit beside the descriptor; more, or a run that is
//! sent in part, spill to a queue of *pieces*. Two dirty lists: *express* (answers, small channels)
//! goes before *bulk* (decisions 20). Only the turn sends; it takes a batch here, hands the slices
//! to the kernel and reports each result.
//!
//! A connection is *blocked* while bytes that the kernel refused are queued, and only then can it
//! be called slow (decisions 22). Invariant: `pending_bytes` is the sum of the pieces; the pieces
//! of a connection that is not blocked are fresh, those of a blocked one are not.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Now;
use crate::ws::frame::server_frame_bytes;

use super::conns::{Connections, Flag, PENDING_INLINE, Phase};
use super::message::Frame;
pub use super::palette::RunId;
use super::palette::{Palette, RUN_BYTES_MAX};

/// Bytes offered to the kernel per connection and turn, at most.
pub const SEND_BYTES_MAX: usize = 256 * 1024;
/// Pieces of one gathered send, at most.
pub const SEND_PIECES_MAX: usize = 64;
/// Runs with at most this many subscribers go into the express list.
pub const EXPRESS_SUBSCRIBERS_MAX: usize = 64;
/// A blocked connection that holds less than this of a run more than four times as long gets a copy
/// of its rest.
const COPIED_REST_BYTES_MAX: usize = 4 * 1024;

/// The bounds of a connection's queue (design, section 5).
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// At the bound a blocked connection is closed with 4100.
    pub bytes_max: u32,
    /// Likewise.
    pub frames_max: u32,
    /// All runs that only blocked connections hold; over it the one with most goes first.
    pub shard_bytes_max: u64,
}

/// Part of a run: `start <= end <= length`.
#[derive(Clone, Copy, Debug)]
struct Piece {
    run: RunId,
    start: u32,
    end: u32,
}

/// The queue of a connection whose pieces do not fit inline.
#[derive(Debug, Default)]
struct Spill {
    pieces: VecDeque<Piece>,
    /// Leading pieces that nothing overtakes: the frame already begun, and pongs put behind it.
    urgent: usize,
    /// Frames of channels among the pieces.
    frames: u32,
    /// Since when the kernel has taken nothing.
    stalled_since: Now,
}

/// Which of the dirty lists (decisions 20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Answers, and runs of small channels.
    Express,
    /// Runs of large channels, pings of the wheel, closes of a drain: many at once, and none in a
    /// hurry.
    Bulk,
}

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

/// The queues and dirty lists of a shard.
pub struct Outbox {
    pub palette: Palette,
    pub outcomes: Outcomes,
    limits: OutboxLimits,
    spills: HashMap<u32, Spill>,
    express: VecDeque<u32>,
    bulk: VecDeque<u32>,
    /// Connections that have more than one turn's worth, back in a list next turn.
    again: Vec<u32>,
    /// Dirty connections behind a fence.
    held: Vec<u32>,
    batch: Vec<(u32, u32)>,
    #[cfg(test)]
    pub mutations: super::Mutations,
}

impl Outbox {
    /// Empty queues under these bounds.
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            palette: Palette::default(),
            outcomes: Outcomes::default(),
            limits,
            spills: HashMap::new(),
            express: VecDeque::new(),
            bulk: VecDeque::new(),
            again: Vec::new(),
            held: Vec::new(),
            batch: Vec::new(),
            #[cfg(test)]
            mutations: super::Mutations::default(),
        }
    }

    /// Appends an answer to the connection's own queue; written in place where the last piece is an
    /// answer too.
    pub fn answer(
        &mut self,
        conns: &mut Connections,
        slot: u32,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.answer_in(conns, slot, List::Express, now, write);
    }

    /// The same, in a list of the caller's choice.
    pub fn answer_in(
        &mut self,
        conns: &mut Connections,
        slot: u32,
        list: List,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if conns.peek(slot).flags.has(Flag::Sealed) {
            return;
        }
        let last = self.last_private(conns, slot);
        let run = last.unwrap_or_else(|| self.palette.private(now));
        let written = self.palette.write(run, write) as u32;
        if last.is_some() {
            if let Some(piece) = self.spills.get_mut(&slot).and_then(|s| s.pieces.back_mut()) {
                piece.end += written;
            }
        } else {
            let end = self.palette.len(run) as u32;
            self.push(conns, slot, Piece { run, start: 0, end });
        }
        conns.hot(slot).pending_bytes += written;
        self.mark(conns, slot, list == List::Express);
    }

    /// The last piece, if it is an answer run that may still grow.
    fn last_private(&self, conns: &Connections, slot: u32) -> Option<RunId> {
        let hot = conns.peek(slot);
        let run = if hot.flags.has(Flag::Spilled) {
            let spill = self.spills.get(&slot)?;
            if spill.pieces.len() <= spill.urgent {
                return None;
            }
            spill.pieces.back()?.run
        } else {
            hot.pending[usize::from(hot.pending_len).checked_sub(1)?]
        };
        let may_grow = self.palette.is_private(run)
            && !self.palette.is_opaque(run)
            && self.palette.len(run) < RUN_BYTES_MAX;
        may_grow.then_some(run)
    }

    /// Appends the shared frame to one connection only.
    pub fn frame(&mut self, conns: &mut Connections, slot: u32, frame: &Arc<Frame>, now: Now) {
        self.answer(conns, slot, now, |buffer| {
            buffer.extend_from_slice(frame.bytes())
        });
    }

    /// Appends a run to every entry's connection; returns how many took it. The run is open: the
    /// caller still holds it.
    pub fn expand(
        &mut self,
        conns: &mut Connections,
        slots: impl ExactSizeIterator<Item = u32>,
        run: RunId,
    ) -> usize {
        let express = slots.len() <= EXPRESS_SUBSCRIBERS_MAX;
        let bytes = self.palette.len(run) as u32;
        let (mut fresh, mut blocked) = (0, 0);
        for slot in slots {
            let hot = conns.hot(slot);
            if hot.flags.has(Flag::Sealed) || hot.flags.has(Flag::Marked) {
                continue;
            }
            hot.pending_bytes += bytes;
            if hot.flags.has(Flag::Blocked) {
                blocked += 1;
            } else {
                fresh += 1;
            }
            let len = usize::from(hot.pending_len);
            if !hot.flags.has(Flag::Spilled) && len < PENDING_INLINE {
                hot.pending[len] = run;
                hot.pending_len += 1;
            } else {
                self.push(
                    conns,
                    slot,
                    Piece {
                        run,
                        start: 0,
                        end: bytes,
                    },
                );
                self.judge(conns, slot);
            }
            self.mark(conns, slot, express);
        }
        self.palette.hold(run, fresh, blocked);
        (fresh + blocked) as usize
    }

    /// Appends parts of an open run to one connection, for somebody who is excluded from a frame
    /// between them.
    pub fn parts(
        &mut self,
        conns: &mut Connections,
        slot: u32,
        run: RunId,
        parts: impl Iterator<Item = (u32, u32)>,
        express: bool,
    ) {
        if conns.peek(slot).flags.has(Flag::Sealed) {
            return;
        }
        for (start, end) in parts.filter(|(start, end)| start < end) {
            self.spill(conns, slot);
            let blocked = conns.peek(slot).flags.has(Flag::Blocked);
            self.palette
                .hold(run, u32::from(!blocked), u32::from(blocked));
            conns.hot(slot).pending_bytes += end - start;
            self.push(conns, slot, Piece { run, start, end });
        }
        self.judge(conns, slot);
        self.mark(conns, slot, express);
    }

    /// Puts a pong or a Close in front of what waits, behind the frame already begun (decisions
    /// 21).
    pub fn urgent(
        &mut self,
        conns: &mut Connections,
        slot: u32,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let flags = conns.peek(slot).flags;
        if flags.has(Flag::Sealed) || !flags.has(Flag::Spilled) {
            return self.answer(conns, slot, now, write);
        }
        self.finish_begun(slot);
        let run = self.palette.private(now);
        let written = self.palette.write(run, write) as u32;
        if let Some(spill) = self.spills.get_mut(&slot) {
            spill.pieces.insert(
                spill.urgent,
                Piece {
                    run,
                    start: 0,
                    end: written,
                },
            );
            spill.urgent += 1;
        }
        conns.hot(slot).pending_bytes += written;
        self.mark(conns, slot, true);
    }

    /// Makes the rest of a frame that was sent in part a piece of its own, which nothing overtakes.
    fn finish_begun(&mut self, slot: u32) {
        #[cfg(test)]
        if self.mutations.overtake_begun {
            return;
        }
        let Some(spill) = self.spills.get_mut(&slot) else {
            return;
        };
        if spill.urgent > 0 {
            return;
        }
        let Some(&Piece { run, start, end }) = spill.pieces.front() else {
            return;
        };
        let bytes = self.palette.slice(run);
        let mut boundary = if self.palette.is_opaque(run) {
            bytes.len()
        } else {
            0
        };
        while boundary < start as usize {
            boundary += server_frame_bytes(&bytes[boundary..]).unwrap_or(bytes.len() - boundary);
        }
        let boundary = (boundary as u32).min(end);
        if boundary == start {
            return;
        }
        spill.urgent = 1;
        if boundary < end {
            spill.pieces[0].end = boundary;
            spill.pieces.insert(
                1,
                Piece {
                    run,
                    start: boundary,
                    end,
                },
            );
            self.hold_again(slot, run);
        }
    }

    /// A split piece holds its run twice, fresh or not like the first.
    fn hold_again(&mut self, slot: u32, run: RunId) {
        let fresh = !self.blocked_spill(slot);
        self.palette.hold(run, u32::from(fresh), u32::from(!fresh));
    }

    fn blocked_spill(&self, slot: u32) -> bool {
        self.spills
            .get(&slot)
            .is_some_and(|spill| spill.stalled_since != Now::default())
    }

    /// Takes no more frames. What a blocked connection has queued behind the frame already begun is
    /// dropped, and `write` (a Close) goes out last.
    pub fn seal(
        &mut self,
        conns: &mut Connections,
        slot: u32,
        list: List,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if conns.peek(slot).flags.has(Flag::Sealed) {
            return;
        }
        if conns.peek(slot).flags.has(Flag::Blocked) {
            self.finish_begun(slot);
            self.cut(conns, slot, |spill| spill.urgent);
        }
        self.answer_in(conns, slot, list, now, write);
        self.seal_behind(conns, slot);
    }

    /// Takes no more frames; all that is queued still goes out.
    pub fn seal_behind(&mut self, conns: &mut Connections, slot: u32) {
        conns.hot(slot).flags.set(Flag::Sealed);
        if conns.peek(slot).pending_bytes == 0 {
            self.emptied(conns, slot);
        }
    }

    /// Drops everything queued and takes no more: the stream has ended.
    pub fn discard(&mut self, conns: &mut Connections, slot: u32) {
        self.spill(conns, slot);
        self.cut(conns, slot, |_| 0);
        self.spills.remove(&slot);
        let hot = conns.hot(slot);
        hot.flags.clear(Flag::Spilled);
        hot.flags.clear(Flag::Blocked);
        hot.flags.set(Flag::Sealed);
    }

    /// Drops the pieces from the index that `keep` gives on.
    fn cut(&mut self, conns: &mut Connections, slot: u32, keep: impl Fn(&Spill) -> usize) {
        let blocked = conns.peek(slot).flags.has(Flag::Blocked);
        let Some(spill) = self.spills.get_mut(&slot) else {
            return;
        };
        let keep = keep(spill);
        for piece in spill.pieces.drain(keep..) {
            conns.hot(slot).pending_bytes -= piece.end - piece.start;
            self.palette.release(piece.run, !blocked);
        }
        spill.frames = 0;
        spill.urgent = spill.urgent.min(keep);
    }

    /// Adds a piece whose bytes and reference are already counted.
    fn push(&mut self, conns: &mut Connections, slot: u32, piece: Piece) {
        let hot = conns.hot(slot);
        let len = usize::from(hot.pending_len);
        if !hot.flags.has(Flag::Spilled) && len < PENDING_INLINE {
            hot.pending[len] = piece.run;
            hot.pending_len += 1;
            return;
        }
        self.spill(conns, slot);
        let frames = self.palette.frames(piece.run);
        if let Some(spill) = self.spills.get_mut(&slot) {
            spill.pieces.push_back(piece);
            spill.frames += frames;
        }
    }

    /// Moves the inline runs to a queue of pieces.
    fn spill(&mut self, conns: &mut Connections, slot: u32) {
        let hot = conns.hot(slot);
        if hot.flags.has(Flag::Spilled) {
            return;
        }
        hot.flags.set(Flag::Spilled);
        let spill = self.spills.entry(slot).or_default();
        for &run in &hot.pending[..usize::from(hot.pending_len)] {
            spill.pieces.push_back(Piece {
                run,
                start: 0,
                end: self.palette.len(run) as u32,
            });
            spill.frames += self.palette.frames(run);
        }
        hot.pending_len = 0;
    }

    /// The slow-consumer rule: only the kernel's refusal makes a consumer slow, and one large frame
    /// alone passes.
    fn judge(&mut self, conns: &mut Connections, slot: u32) {
        let hot = conns.peek(slot);
        if !hot.flags.has(Flag::Blocked) {
            return;
        }
        let Some(spill) = self.spills.get(&slot) else {
            return;
        };
        let over =
            hot.pending_bytes > self.limits.bytes_max || spill.frames > self.limits.frames_max;
        if over && spill.pieces.len() > 1 {
            self.outcomes.slow.push(slot);
        }
    }

    /// Puts a connection into a dirty list, unless it waits for the kernel.
    fn mark(&mut self, conns: &mut Connections, slot: u32, express: bool) {
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

    /// Ends the answers so far: what follows is WebSocket frames, and what came before is not.
    pub fn end_opaque(&mut self, conns: &Connections, slot: u32) {
        if let Some(run) = self.last_private(conns, slot) {
            self.palette.make_opaque(run);
        }
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
                piece.start += bytes;
                return;
            }
            bytes -= length;
            spill.frames = spill.frames.saturating_sub(self.palette.frames(piece.run));
            spill.urgent = spill.urgent.saturating_sub(1);
            self.palette.release(piece.run, !blocked);
            spill.pieces.pop_front();
        }
    }

    /// Nothing is queued any more.
    fn emptied(&mut self, conns: &mut Connections, slot: u32) {
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
        let Some(&Piece { run, start, end }) =
            self.spills.get(&slot).and_then(|s| s.pieces.front())
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
            *piece = Piece {
                run: copy,
                start: 0,
                end: bytes.len() as u32,
            };
        }
    }

    /// Blocked connections that have made no progress since `ms` or earlier, by slot.
    pub fn stalled_before(&self, ms: u64) -> Vec<u32> {
        let is_stalled = |spill: &Spill| spill.stalled_since.0 <= ms && spill.stalled_since.0 > 0;
        let mut slots: Vec<u32> = self
            .spills
            .iter()
            .filter(|(_, s)| is_stalled(s))
            .map(|(&slot, _)| slot)
            .collect();
        slots.sort_unstable();
        slots
    }

    /// Whether the connection has half of its bound queued: then nothing more is read from it until
    /// `Outcomes::drained` names it.
    pub fn pause_if_half_full(&self, conns: &mut Connections, slot: u32) -> bool {
        let hot = conns.hot(slot);
        let half_full = hot.pending_bytes > self.limits.bytes_max / 2;
        if half_full {
            hot.flags.set(Flag::Paused);
        }
        half_full
    }

    /// The blocked connections to close so that what only they hold is under the shard's bound
    /// again, most bytes first.
    pub fn over_shard_bound(&self, conns: &Connections) -> Vec<u32> {
        let held = self.palette.bytes() - self.palette.fresh_bytes();
        if held <= self.limits.shard_bytes_max {
            return Vec::new();
        }
        let mut excess = held - self.limits.shard_bytes_max;
        let mut blocked: Vec<u32> = self
            .spills
            .keys()
            .copied()
            .filter(|&s| conns.peek(s).flags.has(Flag::Blocked))
            .collect();
        blocked.sort_by_key(|&slot| (std::cmp::Reverse(conns.peek(slot).pending_bytes), slot));
        let enough = |slot: &u32| {
            let more = excess > 0;
            excess = excess.saturating_sub(u64::from(conns.peek(*slot).pending_bytes));
            more
        };
        blocked.into_iter().take_while(enough).collect()
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
