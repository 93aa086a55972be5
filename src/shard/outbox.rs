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

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::clock::Now;
use crate::ws::frame::server_frame_bytes;

use super::bounds::OutboxLimits;
use super::conns::{Connections, Flag, PENDING_INLINE};
use super::flush::Outcomes;
use super::palette::{Palette, RUN_BYTES_MAX, RunId};

/// Runs with at most this many subscribers go into the express list.
pub const EXPRESS_SUBSCRIBERS_MAX: usize = 64;

/// Part of a run: `start <= end <= length`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub run: RunId,
    pub start: u32,
    pub end: u32,
    /// Frames of a channel that begin in it; 0 for answers.
    pub frames: u32,
}

/// The queue of a connection whose pieces do not fit inline.
#[derive(Debug, Default)]
pub(super) struct Spill {
    pub pieces: VecDeque<Piece>,
    /// Leading pieces that nothing overtakes: the frame already begun, and pongs put behind it.
    pub urgent: usize,
    /// The sum over the pieces.
    pub frames: u32,
    /// Since when the kernel has taken nothing.
    pub stalled_since: Now,
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

/// The queues and dirty lists of a shard.
pub struct Outbox {
    pub palette: Palette,
    pub outcomes: Outcomes,
    pub(super) limits: OutboxLimits,
    pub(super) spills: HashMap<u32, Spill>,
    pub(super) express: VecDeque<u32>,
    pub(super) bulk: VecDeque<u32>,
    /// Connections that have more than one turn's worth, back in a list next turn.
    pub(super) again: Vec<u32>,
    /// Dirty connections behind a fence.
    pub(super) held: Vec<u32>,
    pub(super) batch: Vec<(u32, u32)>,
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

    /// The same, in a list of the caller's choice; how many bytes were written.
    pub fn answer_in(
        &mut self,
        conns: &mut Connections,
        slot: u32,
        list: List,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> u32 {
        if conns.peek(slot).flags.has(Flag::Sealed) {
            return 0;
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
            self.push(
                conns,
                slot,
                Piece {
                    run,
                    start: 0,
                    end,
                    frames: 0,
                },
            );
        }
        conns.hot(slot).pending_bytes += written;
        self.mark(conns, slot, list == List::Express);
        written
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

    /// Connections with a queue of pieces.
    pub fn queues(&self) -> usize {
        self.spills.len()
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
        let frames = self.palette.frames(run);
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
                        frames,
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
            let frames = self.palette.frames_in(run, start, end);
            self.push(
                conns,
                slot,
                Piece {
                    run,
                    start,
                    end,
                    frames,
                },
            );
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
                    frames: 0,
                },
            );
            spill.urgent += 1;
        }
        conns.hot(slot).pending_bytes += written;
        self.mark(conns, slot, true);
    }

    /// Makes the rest of a frame that was sent in part a piece of its own, which nothing overtakes.
    pub(super) fn finish_begun(&mut self, slot: u32) {
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
        let Some(&Piece {
            run, start, end, ..
        }) = spill.pieces.front()
        else {
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
        let frames = self.palette.frames_in(run, boundary, end);
        let Some(spill) = self.spills.get_mut(&slot) else {
            return;
        };
        spill.urgent = 1;
        if boundary < end {
            spill.pieces[0].end = boundary;
            spill.pieces[0].frames -= frames;
            spill.pieces.insert(
                1,
                Piece {
                    run,
                    start: boundary,
                    end,
                    frames,
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
    pub(super) fn cut(
        &mut self,
        conns: &mut Connections,
        slot: u32,
        keep: impl Fn(&Spill) -> usize,
    ) {
        let blocked = conns.peek(slot).flags.has(Flag::Blocked);
        let Some(spill) = self.spills.get_mut(&slot) else {
            return;
        };
        let keep = keep(spill);
        for piece in spill.pieces.drain(keep..) {
            conns.hot(slot).pending_bytes -= piece.end - piece.start;
            spill.frames -= piece.frames;
            self.palette.release(piece.run, !blocked);
        }
        spill.urgent = spill.urgent.min(keep);
    }

    /// Adds a piece whose bytes and reference are already counted.
    pub(super) fn push(&mut self, conns: &mut Connections, slot: u32, piece: Piece) {
        let hot = conns.hot(slot);
        let len = usize::from(hot.pending_len);
        if !hot.flags.has(Flag::Spilled) && len < PENDING_INLINE {
            hot.pending[len] = piece.run;
            hot.pending_len += 1;
            return;
        }
        self.spill(conns, slot);
        if let Some(spill) = self.spills.get_mut(&slot) {
            spill.pieces.push_back(piece);
            spill.frames += piece.frames;
        }
    }

    /// Moves the inline runs to a queue of pieces.
    pub(super) fn spill(&mut self, conns: &mut Connections, slot: u32) {
        let hot = conns.hot(slot);
        if hot.flags.has(Flag::Spilled) {
            return;
        }
        hot.flags.set(Flag::Spilled);
        let spill = self.spills.entry(slot).or_default();
        for &run in &hot.pending[..usize::from(hot.pending_len)] {
            let frames = self.palette.frames(run);
            spill.pieces.push_back(Piece {
                run,
                start: 0,
                end: self.palette.len(run) as u32,
                frames,
            });
            spill.frames += frames;
        }
        hot.pending_len = 0;
    }

    /// Ends the answers so far: what follows is WebSocket frames, and what came before is not.
    pub fn end_opaque(&mut self, conns: &Connections, slot: u32) {
        if let Some(run) = self.last_private(conns, slot) {
            self.palette.make_opaque(run);
        }
    }
}
