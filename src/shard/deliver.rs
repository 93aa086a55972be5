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
use crate::pusher::dialect;
use crate::pusher::socket_id::SocketId;

use super::Shard;
use super::channel::ChannelKey;
use super::conns::Flag;
use super::groups::GroupId;
use super::message::Frame;
use super::outbox::EXPRESS_SUBSCRIBERS_MAX;
use super::palette::{Addressees, RUN_BYTES_MAX, RunId};
use super::stream::Step;
use super::variants::Variants;

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

/// Where in a channel a subscription is.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupPlace {
    pub slot: u32,
    pub group: GroupId,
    pub position: u32,
}

/// What a home sends to the shards with subscribers.
#[derive(Debug)]
pub(super) struct Delivery {
    pub frame: Arc<Frame>,
    pub except: Option<SocketId>,
    /// For those who get deltas.
    pub step: Option<Arc<Step>>,
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
        let has_others = channel.others.is_some();
        let excluded = delivery.except.and_then(|id| self.slot_of(id));
        if has_others {
            self.deliver_to_others(index, key.app, &delivery, excluded);
        }
        if has_plain {
            self.join(index, GroupId::PLAIN, delivery.frame, None, excluded);
        }
    }

    /// The same for the groups that are not sent the plain form.
    fn deliver_to_others(
        &mut self,
        index: u32,
        app: u32,
        delivery: &Delivery,
        excluded: Option<u32>,
    ) {
        let frame = &delivery.frame;
        let channel = self.local.at(index);
        let Some(others) = channel.and_then(|channel| channel.others.as_mut()) else {
            return;
        };
        others.begin(delivery.seq);
        self.expanded += others.filters();
        let is_platform = dialect::is_platform(frame.payload());
        let chosen = match is_platform {
            true => others.all(),
            false if others.filters() == 0 => others.all(),
            false => others.choose(&frame.event_name(), frame.tags()),
        };
        let shows_tags = !is_platform && self.shows_tags(app, frame);
        let mut variants = Variants::new(Arc::clone(frame), delivery.step.clone(), shows_tags);
        let place = excluded.and_then(|slot| self.place_of(slot, index));
        let mut is_base = false;
        for (group, form) in chosen {
            if form.delta.is_some() && !is_platform {
                is_base |= form.is_filtered();
                let excluded = place.filter(|place| place.group == group);
                self.deliver_delta((index, group), form, &mut variants, excluded);
                continue;
            }
            let frame = match is_platform {
                true => variants.platform(form),
                false => variants.ordinary(form),
            };
            self.join(index, group, frame, None, excluded);
        }
        if is_base {
            self.keep_base(index, &variants, delivery.seq);
            self.count_variants(&variants);
        }
    }

    /// Where in a channel the subscription of a connection is.
    fn place_of(&self, slot: u32, index: u32) -> Option<GroupPlace> {
        let session = self.conns.peek_session(slot)?;
        let sub = session.subs[session.find(index)? as usize];
        Some(GroupPlace {
            slot,
            group: session.group(sub),
            position: sub.position,
        })
    }

    /// Whether those who filter are sent an event with its tags (extensions spec 2.3).
    pub(super) fn shows_tags(&self, app: u32, frame: &Frame) -> bool {
        let app = self.app(app);
        !frame.tags().is_empty() && app.is_some_and(|app| app.settings.tags_in_messages)
    }

    /// Adds the frame to the open run of a group, or opens one. `full` is what those get instead
    /// who have not got the `Deliver` of its number, the base of `frame`.
    pub(super) fn join(
        &mut self,
        index: u32,
        id: GroupId,
        frame: Arc<Frame>,
        full: Option<(Arc<Frame>, u64)>,
        excluded: Option<u32>,
    ) {
        let length = frame.bytes().len() as u32;
        if !self.fits(index, id, &frame, full.as_ref()) {
            self.expand_group(index, id);
        }
        self.join_full(index, id, &frame, full);
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

    /// Whether a frame can be joined to what is open: not beyond the bound of a run, and not where
    /// from here on subscribers are sent different bytes.
    fn fits(
        &self,
        index: u32,
        id: GroupId,
        frame: &Frame,
        full: Option<&(Arc<Frame>, u64)>,
    ) -> bool {
        let Some(channel) = self.local.peek(index) else {
            return true;
        };
        let run = channel
            .peek_group(id)
            .map_or(RunId::NONE, |group| group.open);
        if run == RunId::NONE {
            return true;
        }
        let palette = &self.outbox.palette;
        let fits = |run, frame: &Frame| palette.len(run) + frame.bytes().len() <= RUN_BYTES_MAX;
        let full_run = channel.bases(id).map_or(RunId::NONE, |bases| bases.full);
        fits(run, frame)
            && match full {
                Some((full, _)) => full_run != RunId::NONE && fits(full_run, full),
                None => full_run == RunId::NONE || fits(full_run, frame),
            }
    }

    /// The part of [`Shard::join`] for those who have no base.
    fn join_full(
        &mut self,
        index: u32,
        id: GroupId,
        frame: &Arc<Frame>,
        full: Option<(Arc<Frame>, u64)>,
    ) {
        if id == GroupId::PLAIN {
            return;
        }
        let others = self
            .local
            .at(index)
            .and_then(|channel| channel.others.as_mut());
        let Some((_, bases)) = others.and_then(|others| others.with_bases(id)) else {
            return;
        };
        if full.is_none() && bases.full == RunId::NONE {
            return;
        }
        let (frame, base) = full.unwrap_or_else(|| (Arc::clone(frame), u64::MAX));
        bases.needed = bases.needed.min(base);
        match bases.full {
            RunId::NONE => bases.full = self.outbox.palette.open(frame, self.time),
            run => self.outbox.palette.join(run, &frame),
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
        let full = channel
            .others
            .as_mut()
            .and_then(|others| others.take_full(id));
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
        match full {
            None => {
                let taken = self.outbox.expand(&mut self.conns, slots, run);
                self.count_expanded(run, app, kind, taken);
            }
            Some((full, based, others)) => {
                for (run, slots) in [(run, based), (full, others)] {
                    let taken = self.outbox.expand(&mut self.conns, slots.into_iter(), run);
                    self.count_expanded(run, app, kind, taken);
                }
                self.outbox.palette.release(full, true);
            }
        }
        for at in 0..excluded.len() {
            self.expand_excluded((index, id), run, &excluded, at, express);
        }
        self.outbox.palette.release(run, true);
    }

    /// Counts a run that so many connections have taken.
    fn count_expanded(&mut self, run: RunId, app: u32, kind: ChannelKind, taken: usize) {
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
