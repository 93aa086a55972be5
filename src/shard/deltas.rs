//! Delta compression on both sides of a `Deliver` (extensions spec 3).
//!
//! At the home each event of a channel whose subscribers get deltas becomes a [`Step`] of its
//! stream, encoded once by each algorithm in use against the event before it. On a shard a group
//! that gets deltas is sent that one frame, shared; those who have not got the base are sent the
//! full form, shared likewise; and where a filter has let the event before it not through, the
//! shard encodes against the last one that it did, once for each such base. Nothing is encoded, and
//! no text is kept, for a single subscriber.
//!
//! Whoever was left out of an event gets the next one of any key in full, as a newcomer does: a
//! delta against an older base would save little once, and cost an encoding.

use std::sync::Arc;

use crate::app::delta::{DeltaPolicy, KEYS_MAX_USUAL, Preference};
use crate::pusher::channel::ChannelKind;
use crate::pusher::delta::{Algorithm, TEXT_BYTES_MAX, Wish, conflation};
use crate::pusher::{json, outbound};

use super::Shard;
use super::channel::{ChannelKey, Entry};
use super::deliver::GroupPlace;
use super::groups::{Form, GroupId};
use super::message::Frame;
use super::stream::{Choice, Entering, Held, Step, kept_bytes};
use super::variants::Variants;

/// A delta, and the number of the `Deliver` that brought its base.
type Based = (Arc<Frame>, u64);

impl Shard {
    /// What the app says of deltas on a channel, if it allows any.
    fn delta_policy(&self, key: &ChannelKey) -> Option<Option<&DeltaPolicy>> {
        let settings = &self.app(key.app)?.settings;
        let kind = ChannelKind::of(&key.name);
        // Ciphertexts have nothing in common; events to a user follow the sign-in, not a subscribe.
        let may = settings.delta_compression
            && !matches!(kind, ChannelKind::Encrypted | ChannelKind::User);
        may.then(|| settings.delta_channels.find(&key.name))
    }

    /// The algorithm by which a new subscription gets deltas, if it does (extensions spec 3.1).
    pub(super) fn algorithm_for(&self, slot: u32, index: u32, wish: Wish) -> Option<Algorithm> {
        let connection = self.conns.peek_session(slot)?.delta;
        if !wish.enabled.unwrap_or_else(|| connection.is_some()) {
            return None;
        }
        let policy = self.delta_policy(&self.local.peek(index)?.key)?;
        let preferred = match policy.map(|policy| policy.preference) {
            Some(Preference::Algorithm(algorithm)) => Some(algorithm),
            _ => None,
        };
        let asked = wish.algorithm.or(connection).or(preferred);
        Some(asked.unwrap_or_default())
    }

    /// Tells a subscriber who has asked for deltas what becomes of it.
    pub(super) fn confirm_delta(&mut self, slot: u32, index: u32, wish: Wish) {
        if wish.enabled != Some(true) {
            return;
        }
        let algorithm = self.algorithm_for(slot, index, wish);
        let Some(key) = self
            .local
            .peek(index)
            .map(|channel| Arc::clone(&channel.key))
        else {
            return;
        };
        self.answer(slot, |out| {
            outbound::delta_compression_enabled(out, Some(&key.name), algorithm);
        });
    }

    /// `pusher:enable_delta_compression`: deltas on all subscriptions, present and future. The first
    /// algorithm stays: asking again with another one would move every subscription each time.
    pub(super) fn enable_deltas(&mut self, slot: u32, algorithm: Option<Algorithm>) {
        let app = self.conns.session(slot).app;
        let may = self
            .app(app)
            .is_some_and(|app| app.settings.delta_compression);
        let session = self.conns.session(slot);
        let is_first = session.delta.is_none();
        if may {
            session.delta = session.delta.or(algorithm);
        }
        let algorithm = session.delta;
        let subscriptions = session.subs.len() as u32;
        if is_first && algorithm.is_some() {
            self.switching
                .push_back((self.conns.key(slot), subscriptions));
            self.switch_to_deltas();
        }
        self.answer(slot, |out| {
            outbound::delta_compression_enabled(out, None, algorithm.filter(|_| may));
        });
    }

    /// Goes on moving subscriptions of connections that have asked for deltas, within the budget of a
    /// turn for sessions that leave. Until a subscription is moved its events are ordinary ones.
    pub fn switch_to_deltas(&mut self) {
        let mut budget = self.settings.budgets.leaving.max(1);
        while budget > 0
            && let Some((key, left)) = self.switching.pop_front()
        {
            if !self.conns.is_current(key) {
                continue;
            }
            // Downwards: a subscription that takes the place of one that has gone has been moved, or
            // comes at its new place.
            let left = left.min(self.conns.session(key.slot).subs.len() as u32);
            let stop = left.saturating_sub(budget as u32);
            for nth in (stop..left).rev() {
                self.move_to_deltas(key.slot, nth);
            }
            budget -= (left - stop) as usize;
            if stop > 0 {
                self.switching.push_front((key, stop));
            }
        }
    }

    /// Moves a subscription that has said nothing of deltas to the group that gets them.
    fn move_to_deltas(&mut self, slot: u32, nth: u32) {
        let session = self.conns.session(slot);
        let sub = session.subs[nth as usize];
        let refuses = session
            .record(sub)
            .is_some_and(|record| record.refuses_deltas);
        let from = session.group(sub);
        let index = sub.channel;
        let algorithm = self.algorithm_for(slot, index, Wish::default());
        let Some(channel) = self.local.at(index).filter(|_| !refuses) else {
            return;
        };
        let mut wanted = channel.wanted(from);
        if wanted.delta.is_some() || algorithm.is_none() {
            return;
        }
        wanted.delta = algorithm;
        let to = channel.group_of(&wanted);
        self.expand_group(index, from);
        self.expand_group(index, to);
        let Some(channel) = self.local.at(index) else {
            return;
        };
        let position = channel.add(to, Entry { slot, nth });
        if let Some(moved) = channel.remove(from, sub.position) {
            let subs = &mut self.conns.session(moved.slot).subs;
            subs[moved.nth as usize].position = sub.position;
        }
        self.conns.session(slot).regroup(nth, to, position);
        self.settle(index);
    }

    /// `pusher:delta_sync_error`: the next event is sent in full. There is no reply.
    pub(super) fn forget_base(&mut self, slot: u32, name: &str) {
        let app = self.conns.session(slot).app;
        let hash = self.hasher.hash(app, name);
        let Some(index) = self.local.find(hash, app, name) else {
            return;
        };
        let session = self.conns.session(slot);
        let Some(sub) = session.find(index).map(|nth| session.subs[nth as usize]) else {
            return;
        };
        let group = session.group(sub);
        #[cfg(test)]
        if self.mutations.no_resync {
            return;
        }
        self.expand_group(index, group);
        self.leave_out_now(index, group, sub.position);
    }

    /// Who has a place in a group has not got, or cannot use, what was delivered up to now.
    fn leave_out_now(&mut self, index: u32, group: GroupId, position: u32) {
        if let Some(channel) = self.local.peek(index) {
            self.leave_out(index, group, position, channel.seq);
        }
    }

    /// The same of what was delivered up to this number.
    pub(super) fn leave_out(&mut self, index: u32, group: GroupId, position: u32, delivered: u64) {
        let channel = self.local.at(index);
        let others = channel.and_then(|channel| channel.others.as_mut());
        if let Some((_, bases)) = others.and_then(|others| others.with_bases(group)) {
            bases.forget(position, delivered);
        }
    }

    /// Reports what the home has to do, if that has changed.
    pub(super) fn settle_needs(&mut self, index: u32) {
        let channel = self.local.peek(index);
        if channel.is_some_and(|channel| channel.needs() != channel.told_needs) {
            self.settle(index);
        }
    }

    /// Bytes of the texts that deltas are made from.
    pub fn base_bytes(&self) -> u64 {
        self.homes.stream_bytes() + self.ring_bytes
    }

    /// Whether another text may be kept as a base, here or at home. One that is too long for deltas
    /// is none.
    fn has_room_for_text(&mut self, frame: &Frame) -> bool {
        let has_room = frame.payload().len() <= TEXT_BYTES_MAX
            && self.base_bytes() + kept_bytes(frame) <= self.settings.delta_bytes_max;
        self.counters.delta_texts_dropped += u64::from(!has_room);
        has_room
    }

    /// An event at the home of a channel that has a stream.
    pub(super) fn compress(
        &mut self,
        key: &Arc<ChannelKey>,
        frame: &Arc<Frame>,
        delivered: u64,
        wish: Option<bool>,
    ) -> Option<Arc<Step>> {
        let needs = self.homes.find(key)?.1.needs();
        let Some(rules) = self.rules(key, frame, wish) else {
            // Switched off since: what was kept is no base for what comes when it is on again.
            self.homes.end_stream(key);
            return None;
        };
        let has_room = self.has_room_for_text(frame);
        let mut stream = self.homes.take_stream(key)?;
        let entering = Entering {
            channel: &key.name,
            frame,
            delivered,
            key: rules.key.as_deref().unwrap_or_default(),
            has_keys: rules.key.is_some(),
            keys_max: rules.keys_max,
            choice: rules.choice,
            full_interval: rules.full_interval,
            is_filtered: needs.filtered(),
            has_room,
        };
        let step = stream.enter(&entering, &mut self.encoder, needs.algorithms());
        self.homes.put_stream(key, stream);
        self.counters.deltas_encoded += step.deltas.iter().flatten().count() as u64;
        Some(Arc::new(step))
    }

    /// What the app and the publisher say of an event; `None` where deltas are off.
    fn rules(&self, key: &ChannelKey, frame: &Frame, wish: Option<bool>) -> Option<Rules> {
        let policy = self.delta_policy(key)?;
        let settings = &self.app(key.app)?.settings;
        let is_small = frame.payload().len() < settings.delta_message_bytes_min as usize;
        let is_off = policy.is_some_and(|policy| policy.preference == Preference::None);
        let path = policy.and_then(|policy| policy.conflation_key.as_deref());
        Some(Rules {
            choice: match wish {
                Some(false) => Choice::Full,
                Some(true) => Choice::Always,
                None if is_small || is_off => Choice::Full,
                None => Choice::Smaller,
            },
            key: path.map(|path| conflation_key(frame, path)),
            keys_max: policy.map_or(KEYS_MAX_USUAL, |policy| policy.keys_max) as usize,
            full_interval: settings.delta_full_interval,
        })
    }

    /// An event for a group that gets deltas. `excluded` is a subscriber of it who does
    /// not get this one.
    pub(super) fn deliver_delta(
        &mut self,
        (index, id): (u32, GroupId),
        form: Form,
        variants: &mut Variants,
        excluded: Option<GroupPlace>,
    ) {
        let delta = self.delta_for(index, form, variants);
        if excluded.is_some() {
            // A delta behind this event is of no use to whoever has not got it: what it got before
            // leaves, and it is told apart from here on.
            self.expand_group(index, id);
        }
        let bases = self.local.peek(index).and_then(|channel| channel.bases(id));
        #[cfg(test)]
        let any_base = self.mutations.any_base;
        #[cfg(not(test))]
        let any_base = false;
        // Also behind full forms that have not left yet: what is a base came later than all of them.
        let has_base = |base| any_base || bases.is_some_and(|bases| bases.youngest < base);
        let (frame, full) = match delta {
            Some((delta, base)) if has_base(base) => (delta, None),
            Some((delta, base)) => (delta, Some((variants.full(form), base))),
            None => (variants.full(form), None),
        };
        self.join(index, id, frame, full, excluded.map(|place| place.slot));
        if let Some(place) = excluded {
            self.expand_group(index, id);
            #[cfg(test)]
            if self.mutations.excluded_have_base {
                return;
            }
            self.leave_out_now(index, id, place.position);
        }
    }

    /// The delta for the subscribers of a group who have its base.
    fn delta_for(&mut self, index: u32, form: Form, variants: &mut Variants) -> Option<Based> {
        let step = Arc::clone(variants.step()?);
        let algorithm = form.delta?;
        let base = step.base.filter(|_| step.choice != Choice::Full)?;
        let channel = self.local.peek(index)?;
        let others = channel.others.as_ref()?;
        if !form.is_filtered() {
            let delta = variants.of_home(&step, algorithm, form.dialect)?;
            // Before the first `Deliver` that they got nobody here has got any.
            return (base >= others.began()).then_some((delta, base));
        }
        let held = others.last_passed(form, step.kept_key())?;
        let is_of_home = held.delivered == base && !held.shows_tags && !variants.shows_tags();
        let of_home = is_of_home
            .then(|| variants.of_home(&step, algorithm, form.dialect))
            .flatten();
        let delivered = held.delivered;
        let delta = match of_home {
            Some(delta) => delta,
            None => variants.own(&channel.key.name, &held, form, &mut self.encoder)?,
        };
        Some((delta, delivered))
    }

    /// Counts what was made of an event here.
    pub(super) fn count_variants(&mut self, variants: &Variants) {
        self.counters.deltas_encoded += variants.encoded();
        self.counters.deltas_left += variants.left();
    }

    /// Keeps an event that a group which filters has got. Others need not be kept: a filter that has
    /// not let them through will not find them.
    pub(super) fn keep_base(&mut self, index: u32, variants: &Variants, delivered: u64) {
        let Some(step) = variants.step() else { return };
        let has_room = self.has_room_for_text(variants.frame());
        let held = Held {
            delivered,
            seq: step.seq,
            frame: Arc::clone(variants.frame()),
            name: variants.frame().event_name().into(),
            shows_tags: variants.shows_tags(),
        };
        let others = self
            .local
            .at(index)
            .and_then(|channel| channel.others.as_mut());
        if let Some(ring) = others.map(|others| others.ring()) {
            let before = ring.bytes();
            ring.push(step, held, self.settings.delta_texts_max, has_room);
            self.ring_bytes = self.ring_bytes + ring.bytes() - before;
        }
    }
}

/// How one event goes into a stream.
struct Rules {
    choice: Choice,
    /// On channels that have keys.
    key: Option<String>,
    keys_max: usize,
    full_interval: u32,
}

/// The conflation key of an event.
fn conflation_key(frame: &Frame, path: &str) -> String {
    let (mut text, mut key) = (String::new(), String::new());
    let fields = std::str::from_utf8(frame.payload());
    let fields = fields
        .ok()
        .and_then(|text| json::fields(text, &["data"]).ok());
    if let Some([Some(data)]) = fields {
        conflation::key(data, path, &mut text, &mut key);
    }
    key
}
