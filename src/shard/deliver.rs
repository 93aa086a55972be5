//! One shared frame to this shard's subscribers: runs and their expansion.
//!
//! Two steps (decisions 18). Here a `Deliver` joins the open run of its channel; at the end of the
//! drain, at 64 KiB, or before the list of subscribers changes, the run is *expanded*: every
//! subscriber's queue gets its id. Flushing is `outbox`'s and slow; expanding is whole and quick,
//! so no cursor survives a change of the list.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::pusher::socket_id::SocketId;

use super::Shard;
use super::channel::ChannelKey;
use super::conns::Flag;
use super::message::Frame;
use super::outbox::EXPRESS_SUBSCRIBERS_MAX;
use super::palette::{RUN_BYTES_MAX, RunId};

/// A frame of an open run that one connection is not to get.
#[derive(Clone, Copy, Debug)]
pub struct Exclusion {
    slot: u32,
    generation: u32,
    start: u32,
    end: u32,
}

/// A channel whose run takes the frames of this drain.
#[derive(Debug)]
pub struct OpenRun {
    channel: u32,
    run: RunId,
    excluded: SmallVec<[Exclusion; 2]>,
}

impl Shard {
    /// A frame from the channel's home.
    pub(super) fn on_deliver(
        &mut self,
        key: &Arc<ChannelKey>,
        frame: Arc<Frame>,
        except: Option<SocketId>,
        seq: u64,
        round: u32,
    ) {
        let Some(index) = self.local.find_key(key) else {
            return;
        };
        let Some(channel) = self.local.at(index) else {
            return;
        };
        #[cfg(test)]
        let any_round = self.mutations.any_round;
        #[cfg(not(test))]
        let any_round = false;
        if channel.round != round && !any_round {
            return;
        }
        let before = std::mem::replace(&mut channel.seq, seq);
        if channel.entries.is_empty() {
            // While only pending subscriptions keep this life going the home may know of none, and
            // what it numbers then is for nobody here; `Joined` says where they begin.
            return;
        }
        if before != 0 && seq != before + 1 && !any_round {
            self.counters.sequence_gaps += 1;
            debug_assert!(false, "{}: {seq} behind {before}", key.name);
        }
        let run = channel.open;
        if run != RunId::NONE && self.outbox.palette.len(run) + frame.bytes().len() > RUN_BYTES_MAX
        {
            self.expand_channel(index);
        }
        self.join_run(index, frame, except);
    }

    /// Adds the frame to the channel's open run, or opens one.
    fn join_run(&mut self, index: u32, frame: Arc<Frame>, except: Option<SocketId>) {
        let excluded = except.and_then(|id| self.slot_of(id));
        let Some(channel) = self.local.at(index) else {
            return;
        };
        let length = frame.bytes().len() as u32;
        let start = if channel.open == RunId::NONE {
            channel.open = self.outbox.palette.open(frame, self.time);
            self.open_runs.push(OpenRun {
                channel: index,
                run: channel.open,
                excluded: SmallVec::new(),
            });
            0
        } else {
            let start = self.outbox.palette.len(channel.open) as u32;
            self.outbox.palette.join(channel.open, &frame);
            start
        };
        let Some(slot) = excluded else { return };
        let generation = self.conns.peek(slot).generation;
        let run = channel.open;
        if let Some(open) = self.open_runs.iter_mut().rev().find(|open| open.run == run) {
            open.excluded.push(Exclusion {
                slot,
                generation,
                start,
                end: start + length,
            });
        }
    }

    /// The slot of a socket id, if that session is here (decisions 15).
    pub(super) fn slot_of(&self, id: SocketId) -> Option<u32> {
        let (shard, slot) = self.socket_ids.locate(id);
        if shard != self.id {
            return None;
        }
        (self.conns.peek_session(slot)?.socket_id == Some(id)).then_some(slot)
    }

    /// Expands the runs of the drain that has ended. A channel whose last run still waits for its
    /// first flush keeps its run open, so that what queues up is joined; it is expanded when that
    /// one has gone, or at 64 KiB.
    pub fn expand(&mut self) {
        let open_runs = std::mem::take(&mut self.open_runs);
        for open in open_runs {
            let Some(channel) = self.local.peek(open.channel).filter(|c| c.open == open.run) else {
                self.outbox.palette.release(open.run, true);
                continue;
            };
            if self.outbox.palette.is_fresh(channel.last) {
                self.open_runs.push(open);
            } else {
                self.expand_run(open);
            }
        }
    }

    /// Expands the open run of a channel, if it has one: its list is about to change.
    pub(super) fn expand_channel(&mut self, index: u32) {
        #[cfg(test)]
        if self.mutations.change_under_open_run {
            return;
        }
        let Some(channel) = self.local.peek(index) else {
            return;
        };
        if channel.open == RunId::NONE {
            return;
        }
        let run = channel.open;
        if let Some(at) = self.open_runs.iter().position(|open| open.run == run) {
            let open = self.open_runs.swap_remove(at);
            self.expand_run(open);
        }
    }

    fn expand_run(&mut self, open: OpenRun) {
        let OpenRun {
            channel: index,
            run,
            excluded,
        } = open;
        let Some(channel) = self.local.at(index) else {
            return self.outbox.palette.release(run, true);
        };
        channel.open = RunId::NONE;
        channel.last = self.outbox.palette.tenant(run);
        let app = channel.key.app;
        let express = channel.entries.len() <= EXPRESS_SUBSCRIBERS_MAX;
        let excluded: SmallVec<[Exclusion; 2]> = excluded
            .into_iter()
            .filter(|e| self.conns.peek(e.slot).generation == e.generation)
            .collect();
        for exclusion in &excluded {
            self.conns.hot(exclusion.slot).flags.set(Flag::Marked);
        }
        self.expanded += channel.entries.len();
        let slots = channel.entries.iter().map(|entry| entry.slot);
        let taken = self.outbox.expand(&mut self.conns, slots, run);
        let frames = self.outbox.palette.frames(run) as usize;
        self.counters.delivered += (taken * frames) as u64;
        let counters = self.counters.app(app);
        counters.messages_sent += (taken * frames) as u64;
        counters.sent_bytes += (taken * self.outbox.palette.len(run)) as u64;
        for at in 0..excluded.len() {
            self.expand_excluded(index, run, &excluded, at, express);
        }
        self.outbox.palette.release(run, true);
    }

    /// Gives an excluded connection the frames of the run that it is not excluded from.
    fn expand_excluded(
        &mut self,
        index: u32,
        run: RunId,
        excluded: &[Exclusion],
        at: usize,
        express: bool,
    ) {
        let slot = excluded[at].slot;
        if !self.conns.peek(slot).flags.has(Flag::Marked) {
            return;
        }
        self.conns.hot(slot).flags.clear(Flag::Marked);
        let Some(session) = self.conns.peek_session(slot) else {
            return;
        };
        if session.find(index).is_none() {
            return;
        }
        let mut parts: SmallVec<[(u32, u32); 4]> = SmallVec::new();
        let mut start = 0;
        for exclusion in excluded.iter().filter(|exclusion| exclusion.slot == slot) {
            parts.push((start, exclusion.start));
            start = exclusion.end;
        }
        parts.push((start, self.outbox.palette.len(run) as u32));
        self.outbox
            .parts(&mut self.conns, slot, run, parts.into_iter(), express);
    }
}
