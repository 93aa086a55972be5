//! One shared frame to this shard's subscribers: runs and their expansion.
//!
//! Two steps (decisions 18). Here a `Deliver` joins the open run of its channel; at the end of the
//! drain, at 64 KiB, or before the list of subscribers changes, the run is *expanded*: every
//! subscriber's queue gets its id. Flushing is `outbox`'s and slow; expanding is whole and quick,
//! so no cursor survives a change of the list.
//!
//! Each group of a channel has its own run. For the plain one the frame is shared as it came; what
//! the others get instead is made once per `Deliver`, not at the home (instead of the encodings of
//! decisions 10, "other prefixes"): a translated prefix is a copy of some hundred bytes, and so no
//! shard can be without it while its interest is on the way.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::pusher::channel::ChannelKind;
use crate::pusher::dialect::{self, Dialect};
use crate::pusher::socket_id::SocketId;

use super::Shard;
use super::channel::ChannelKey;
use super::conns::Flag;
use super::groups::GroupId;
use super::message::Frame;
use super::outbox::EXPRESS_SUBSCRIBERS_MAX;
use super::palette::{Addressees, RUN_BYTES_MAX, RunId};

/// A frame of an open run that one connection is not to get.
#[derive(Clone, Copy, Debug)]
pub struct Exclusion {
    slot: u32,
    generation: u32,
    start: u32,
    end: u32,
}

/// A group of a channel whose run takes the frames of this drain.
#[derive(Debug)]
pub struct OpenRun {
    channel: u32,
    group: GroupId,
    run: RunId,
    excluded: SmallVec<[Exclusion; 2]>,
}

/// What a home sends to the shards with subscribers.
#[derive(Debug)]
pub(super) struct Delivery {
    pub frame: Arc<Frame>,
    pub except: Option<SocketId>,
    pub seq: u64,
    pub round: u32,
}

impl Shard {
    /// A frame from the channel's home.
    pub(super) fn on_deliver(&mut self, key: &Arc<ChannelKey>, delivery: Delivery) {
        let Delivery { seq, round, .. } = delivery;
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
        if channel.subscribers() == 0 {
            // While only pending subscriptions keep this life going the home may know of none, and
            // what it numbers then is for nobody here; `Joined` says where they begin.
            return;
        }
        if before != 0 && seq != before + 1 && !any_round {
            self.counters.sequence_gaps += 1;
            debug_assert!(false, "{}: {seq} behind {before}", key.name);
        }
        let has_plain = !channel.plain.entries.is_empty();
        if channel.others.is_some() {
            self.deliver_to_others(index, key.app, &delivery);
        }
        if has_plain {
            self.join_run(index, GroupId::PLAIN, delivery.frame, delivery.except);
        }
    }

    /// The same for the groups that are not sent the plain form.
    fn deliver_to_others(&mut self, index: u32, app: u32, delivery: &Delivery) {
        let frame = &delivery.frame;
        let channel = self.local.at(index);
        let Some(others) = channel.and_then(|channel| channel.others.as_mut()) else {
            return;
        };
        self.expanded += others.filters();
        let is_platform = dialect::is_platform(frame.payload());
        let chosen = match is_platform {
            true => others.all(),
            false if others.filters() == 0 => others.all(),
            false => others.choose(&frame.event_name(), frame.tags()),
        };
        let shows_tags = !is_platform && self.shows_tags(app, frame);
        let (mut translated, mut tagged): (Option<Arc<Frame>>, Option<Arc<Frame>>) = (None, None);
        for (group, form) in chosen {
            let frame = if is_platform && form.dialect != Dialect::Pusher {
                translated.get_or_insert_with(|| frame.translated(form.dialect))
            } else if shows_tags && form.is_filtered() {
                tagged.get_or_insert_with(|| frame.with_tags())
            } else {
                frame
            };
            self.join_run(index, group, Arc::clone(frame), delivery.except);
        }
    }

    /// Whether those who filter are sent an event with its tags (extensions spec 2.3).
    pub(super) fn shows_tags(&self, app: u32, frame: &Frame) -> bool {
        let app = self.app(app);
        !frame.tags().is_empty() && app.is_some_and(|app| app.settings.tags_in_messages)
    }

    /// Adds the frame to the open run of a group, or opens one.
    fn join_run(&mut self, index: u32, id: GroupId, frame: Arc<Frame>, except: Option<SocketId>) {
        let excluded = except.and_then(|id| self.slot_of(id));
        let length = frame.bytes().len() as u32;
        let channel = self.local.peek(index);
        let Some(group) = channel.and_then(|channel| channel.peek_group(id)) else {
            return;
        };
        let run = group.open;
        if run != RunId::NONE && self.outbox.palette.len(run) + length as usize > RUN_BYTES_MAX {
            self.expand_group(index, id);
        }
        let Some(group) = self.local.at(index).and_then(|channel| channel.group(id)) else {
            return;
        };
        let start = if group.open == RunId::NONE {
            group.open = self.outbox.palette.open(frame, self.time);
            self.open_runs.push(OpenRun {
                channel: index,
                group: id,
                run: group.open,
                excluded: SmallVec::new(),
            });
            0
        } else {
            let start = self.outbox.palette.len(group.open) as u32;
            self.outbox.palette.join(group.open, &frame);
            start
        };
        let Some(slot) = excluded else { return };
        let generation = self.conns.peek(slot).generation;
        let run = group.open;
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

    /// Expands the runs of the drain that has ended. A group whose last run still waits for its
    /// first flush keeps its run open, so that what queues up is joined; it is expanded when that
    /// one has gone, or at 64 KiB.
    pub fn expand(&mut self) {
        let open_runs = std::mem::take(&mut self.open_runs);
        for open in open_runs {
            let channel = self.local.peek(open.channel);
            let group = channel.and_then(|channel| channel.peek_group(open.group));
            let Some(group) = group.filter(|group| group.open == open.run) else {
                self.outbox.palette.release(open.run, true);
                continue;
            };
            if self.outbox.palette.is_fresh(group.last) {
                self.open_runs.push(open);
            } else {
                self.expand_run(open);
            }
        }
    }

    /// Expands the open run of a group, if it has one: its list is about to change.
    pub(super) fn expand_group(&mut self, index: u32, id: GroupId) {
        #[cfg(test)]
        if self.mutations.change_under_open_run {
            return;
        }
        let channel = self.local.peek(index);
        let Some(group) = channel.and_then(|channel| channel.peek_group(id)) else {
            return;
        };
        if group.open == RunId::NONE {
            return;
        }
        let run = group.open;
        if let Some(at) = self.open_runs.iter().position(|open| open.run == run) {
            let open = self.open_runs.swap_remove(at);
            self.expand_run(open);
        }
    }

    /// Expands the open runs of all groups of a channel.
    pub(super) fn expand_channel(&mut self, index: u32) {
        let Some(channel) = self.local.peek(index) else {
            return;
        };
        let groups: SmallVec<[GroupId; 4]> = channel.groups().collect();
        for group in groups {
            self.expand_group(index, group);
        }
    }

    /// Sends a frame that is no event of a channel to some of its subscribers, at once and behind
    /// what they have.
    pub(super) fn send_to(&mut self, app: u32, slots: &[u32], frame: Arc<Frame>) {
        if slots.is_empty() {
            return;
        }
        let bytes = frame.bytes().len();
        let run = self.outbox.palette.open(frame, self.time);
        let slots = slots.iter().copied();
        self.expanded += slots.len();
        let taken = self.outbox.expand(&mut self.conns, slots, run);
        self.outbox.palette.release(run, true);
        let counters = self.counters.app(app);
        counters.messages_sent += taken as u64;
        counters.sent_bytes += (taken * bytes) as u64;
    }

    fn expand_run(&mut self, open: OpenRun) {
        let OpenRun {
            channel: index,
            group: id,
            run,
            excluded,
        } = open;
        let Some(channel) = self.local.at(index) else {
            return self.outbox.palette.release(run, true);
        };
        let (app, kind) = (channel.key.app, ChannelKind::of(&channel.key.name));
        let Some(group) = channel.group(id) else {
            return self.outbox.palette.release(run, true);
        };
        group.open = RunId::NONE;
        group.last = self.outbox.palette.tenant(run);
        let express = group.entries.len() <= EXPRESS_SUBSCRIBERS_MAX;
        let excluded: SmallVec<[Exclusion; 2]> = excluded
            .into_iter()
            .filter(|e| self.conns.peek(e.slot).generation == e.generation)
            .collect();
        for exclusion in &excluded {
            self.conns.hot(exclusion.slot).flags.set(Flag::Marked);
        }
        self.expanded += group.entries.len();
        let slots = group.entries.iter().map(|entry| entry.slot);
        let taken = self.outbox.expand(&mut self.conns, slots, run);
        if taken > 0 {
            let addressees = Addressees {
                app,
                kind,
                subscribers: taken as u32,
            };
            self.outbox.palette.address(run, addressees);
        }
        let frames = self.outbox.palette.frames(run) as usize;
        self.counters.delivered += (taken * frames) as u64;
        let counters = self.counters.app(app);
        counters.messages_sent += (taken * frames) as u64;
        counters.sent_bytes += (taken * self.outbox.palette.len(run)) as u64;
        for at in 0..excluded.len() {
            self.expand_excluded((index, id), run, &excluded, at, express);
        }
        self.outbox.palette.release(run, true);
    }

    /// Gives an excluded connection the frames of the run that it is not excluded from.
    fn expand_excluded(
        &mut self,
        (index, id): (u32, GroupId),
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
        let sub = session.find(index).map(|nth| session.subs[nth as usize]);
        if sub.map(|sub| session.group(sub)) != Some(id) {
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
