//! Subscribing: the checks in their order, and the commit.
//!
//! A subscribe is *asked* or *plain*, and [`is_asked`] alone decides (decisions 7). Plain: added
//! here at once, the home told how many there are. Asked (presence, cache, counted): pending until
//! `Joined` arrives through the same inbox as everything else the home says, so that a roster and
//! the frames behind it, or a cached event and live ones, have no gap and no repeat. While a
//! subscribe is pending the connection's later messages wait (decisions 12).

use std::sync::Arc;

use crate::app::{App, AppSettings, SubscriptionCount};
use crate::pusher::channel::{ChannelKind, ChannelName};
use crate::pusher::error::Rejection;
use crate::pusher::filter::{self, Filter};
use crate::pusher::inbound::Subscribe;
use crate::pusher::outbound;
use crate::pusher::presence::{Member as ParsedMember, MemberLimits};
use crate::pusher::signature::{Claim, ClientAuth, Explanation};

use super::Shard;
use super::channel::{ChannelKey, Entry, home};
use super::conns::Phase;
use super::groups::Wanted;
use super::message::{
    Admitted, Cache, Frame, Joined, Member, Refusal, ShardMessage, Ticket, Welcome,
};
use super::session::{Membership, Pending, Record, Terms};

/// Channels whose filters may fill what a shard has for filters: a publish asks all of its channel's,
/// and must not have to ask all of the shard's.
const FILTER_BYTES_CHANNELS: u64 = 16;

/// Whether the home has to be asked before a subscribe is committed.
pub fn is_asked(channel: ChannelName<'_>, settings: &AppSettings) -> bool {
    let is_counted = settings.subscription_count == SubscriptionCount::On
        && channel.kind().announces_subscription_count();
    channel.is_presence() || channel.is_cache() || is_counted
}

/// What a subscribe asks for beyond the plain protocol.
fn terms(app: &App, subscribe: &Subscribe<'_>) -> Result<Terms, filter::Error> {
    let filters = subscribe.filter.is_some() || subscribe.events.is_some();
    if filters && !app.settings.tag_filtering {
        return Err(filter::Error::Disabled);
    }
    let filter = Filter::parse(subscribe.filter, subscribe.events)?;
    Ok(Terms {
        filter: filter.map(Arc::new),
        delta: subscribe.delta,
    })
}

impl Shard {
    /// Whether a channel's last event is kept.
    pub(super) fn is_cache(&self, name: &str) -> bool {
        ChannelName::parse(name, usize::MAX).is_ok_and(ChannelName::is_cache)
    }

    /// `pusher:subscribe` (WebSocket spec 7.1): name, not yet subscribed, authorised, presence
    /// rules, commit.
    pub(super) fn subscribe(&mut self, slot: u32, subscribe: &Subscribe<'_>) {
        let app = self.conns.session(slot).app;
        let Some(app) = self.app(app).cloned() else {
            return;
        };
        let name = &*subscribe.channel;
        let channel = match ChannelName::parse(name, app.settings.channel_name_chars_max as usize) {
            Ok(channel) => channel,
            Err(error) => {
                return self.refuse_subscription(slot, name, &Rejection::InvalidChannel(error));
            }
        };
        if channel.kind() == ChannelKind::User {
            return self.subscribe_to_user(slot, name);
        }
        let hash = self.hasher.hash(app.index, name);
        let found = self.local.find(hash, app.index, name);
        if found.is_some_and(|index| self.conns.session(slot).find(index).is_some()) {
            return self.reject(slot, &Rejection::AlreadySubscribed { channel: name });
        }
        let member = match self.check(slot, &app, channel, subscribe) {
            Ok(member) => member,
            Err(rejection) => return self.refuse_subscription(slot, name, &rejection),
        };
        let terms = match terms(&app, subscribe) {
            Ok(terms) => terms,
            Err(error) => return self.refuse_subscription(slot, name, &Rejection::Filter(error)),
        };
        if !self.has_room(slot) || !self.has_room_for(found, terms.filter.as_deref()) {
            return self.refuse_subscription(slot, name, &Rejection::TooManySubscriptions);
        }
        let index = found.unwrap_or_else(|| self.begin_channel(hash, app.index, channel));
        self.subscriptions += 1;
        if is_asked(channel, &app.settings) {
            self.ask(slot, index, member, terms);
        } else {
            let delta = terms.delta;
            self.commit(slot, index, None, terms);
            self.answer(slot, |out| outbound::subscription_succeeded(out, name));
            self.confirm_delta(slot, index, delta);
            self.settle(index);
            self.note_subscribed(slot, name);
        }
    }

    /// The life of a channel that has none here.
    pub(super) fn begin_channel(&mut self, hash: u64, app: u32, channel: ChannelName<'_>) -> u32 {
        let key = Arc::new(ChannelKey {
            hash,
            app,
            name: channel.as_str().into(),
        });
        let home = home(hash, self.settings.shards);
        self.local.insert(key, home, channel.is_presence())
    }

    /// Whether the shard and the connection may have one more subscription. A sign-in is one of the
    /// shard's and none of the connection's.
    fn has_room(&mut self, slot: u32) -> bool {
        let session = self.conns.session(slot);
        let own = session.subs.len() - usize::from(session.user().is_some());
        let own_max = self.settings.subscriptions_per_connection_max;
        self.subscriptions < self.settings.subscriptions_max
            && own_max.is_none_or(|max| own < max as usize)
    }

    /// Whether a filter is known to the channel or may be kept.
    fn has_room_for(&self, channel: Option<u32>, filter: Option<&Filter>) -> bool {
        let Some(filter) = filter else { return true };
        let channel = channel.and_then(|index| self.local.peek(index));
        let others = channel.and_then(|channel| channel.others.as_ref());
        let filters = others.map_or(0, |others| others.filters());
        let (bytes, bytes_max) = (filter.bytes() as u64, self.settings.filters_bytes_max);
        let channel_bytes = others.map_or(0, |others| others.filter_bytes());
        others.is_some_and(|others| others.has_filter(filter))
            || (filters < self.settings.filters_channel_max
                && channel_bytes + bytes <= bytes_max / FILTER_BYTES_CHANNELS
                && self.filter_bytes + bytes <= bytes_max)
    }

    /// Authorisation and presence rules; the member where there is one.
    fn check<'a>(
        &mut self,
        slot: u32,
        app: &App,
        channel: ChannelName<'a>,
        subscribe: &'a Subscribe<'_>,
    ) -> Result<Option<Box<Member>>, Rejection<'a>> {
        let name = channel.as_str();
        if !channel.kind().requires_auth() {
            return Ok(None);
        }
        let channel_data = subscribe.channel_data.as_deref();
        let claim = Claim::Subscribe {
            channel,
            channel_data,
        };
        self.verify(slot, app, claim, subscribe.auth.as_deref())
            .map_err(Rejection::SubscriptionAuth)?;
        if !channel.is_presence() {
            return Ok(None);
        }
        let limits = MemberLimits {
            user_id_chars_max: app.settings.presence_user_id_chars_max,
            user_info_bytes_max: app.settings.presence_user_info_bytes_max,
        };
        let member = match channel_data {
            Some(channel_data) => ParsedMember::parse(channel_data, limits),
            None => self
                .signed_in_member(slot, limits)
                .ok_or(Rejection::NobodyToPresent { channel: name })?,
        };
        let member = member.map_err(Rejection::Member)?;
        Ok(Some(Box::new(Member {
            user_id: member.user_id.into(),
            user_info: member.user_info.into(),
        })))
    }

    /// Whether a key of the app has signed the claim for this connection.
    pub(super) fn verify<'a>(
        &self,
        slot: u32,
        app: &App,
        claim: Claim<'a>,
        auth: Option<&'a str>,
    ) -> Result<(), Explanation<'a>> {
        let session = self.conns.peek_session(slot);
        let socket_id = session.and_then(|session| session.socket_id);
        let auth = ClientAuth {
            socket_id: socket_id
                .expect("messages are handled of open sessions only, which have an id"),
            claim,
            auth,
        };
        auth.verify(|key| app.key(key).map(|key| &key.signing))
            .map_err(|error| auth.explain(error))
    }

    /// Asks the home; the session waits.
    fn ask(&mut self, slot: u32, index: u32, member: Option<Box<Member>>, terms: Terms) {
        let session = self.conns.key(slot);
        let extra = self.conns.session(slot).extra();
        extra.tickets += 1;
        let ticket = Ticket {
            session,
            subscription: extra.tickets,
        };
        let subscription = ticket.subscription;
        extra.pending = Some(Pending {
            channel: index,
            subscription,
            member: member.clone(),
            terms,
        });
        let source = self.id;
        let Some(local) = self.local.at(index) else {
            return;
        };
        local.pending += 1;
        let (channel, round, target) = (Arc::clone(&local.key), local.round, local.home);
        let message = match member {
            Some(member) => ShardMessage::Join {
                channel,
                ticket,
                round,
                member,
            },
            None => {
                let subscribers = local.subscribers() as u32 + local.pending;
                let needs = local.needs();
                local.told = Some(subscribers);
                local.told_needs = needs;
                local.report = false;
                ShardMessage::Interest {
                    channel,
                    source,
                    subscribers,
                    needs,
                    round,
                    ask: Some(ticket),
                }
            }
        };
        self.send(target, message, true);
    }

    /// Adds a subscription to both lists. The open run belongs to those who were subscribed before.
    pub(super) fn commit(
        &mut self,
        slot: u32,
        index: u32,
        membership: Option<Membership>,
        terms: Terms,
    ) {
        let wanted = Wanted {
            dialect: self.conns.session(slot).dialect(),
            delta: self.algorithm_for(slot, index, terms.delta),
            filter: terms.filter,
        };
        let Some(channel) = self.local.at(index) else {
            return;
        };
        let before = channel.filter_bytes();
        let group = channel.group_of(&wanted);
        self.filter_bytes += channel.filter_bytes() - before;
        self.expand_group(index, group);
        let Some(channel) = self.local.at(index) else {
            return;
        };
        let session = self.conns.session(slot);
        let nth = session.subs.len() as u32;
        let position = channel.add(group, Entry { slot, nth });
        let record = Record {
            membership,
            group,
            refuses_deltas: terms.delta.enabled == Some(false),
        };
        session.add(index, position, record);
        let kind = ChannelKind::of(&channel.key.name);
        self.counters.app(channel.key.app).subscriptions[kind as usize] += 1;
        #[cfg(test)]
        if self.mutations.newcomers_have_base {
            self.leave_out(index, group, position, 0);
        }
    }

    /// The home's answer. It commits only if the very subscribe that asked still waits (decisions
    /// 11).
    pub(super) fn on_joined(&mut self, ticket: Ticket, key: &Arc<ChannelKey>, joined: Joined) {
        let slot = ticket.session.slot;
        #[cfg(test)]
        let any_ticket = self.mutations.any_ticket;
        #[cfg(not(test))]
        let any_ticket = false;
        let is_current = self.conns.is_current(ticket.session)
            || (any_ticket && self.conns.peek(slot).phase == Phase::Open);
        if !is_current {
            return;
        }
        let session = self.conns.session(slot);
        let waits = |p: &Pending| p.subscription == ticket.subscription || any_ticket;
        if !session.pending().is_some_and(waits) {
            return;
        }
        let Some(pending) = session.extra().pending.take() else {
            return;
        };
        if let Some(channel) = self.local.at(pending.channel) {
            channel.pending -= 1;
        }
        self.resumed.push(self.conns.key(slot));
        // Whatever came meanwhile is held, a `pusher:pong` too: silence is counted from here.
        self.on_seen(slot);
        match joined.outcome {
            Ok(admitted) => self.on_admitted(slot, key, pending, admitted),
            Err(refusal) => self.on_refused(slot, key, &pending, refusal),
        }
    }

    fn on_admitted(
        &mut self,
        slot: u32,
        key: &Arc<ChannelKey>,
        pending: Pending,
        admitted: Admitted,
    ) {
        let Admitted { welcome, seq } = admitted;
        let Welcome {
            succeeded,
            cache,
            count,
        } = welcome;
        let membership = pending.member.map(|member| Membership {
            subscription: pending.subscription,
            user_id: member.user_id,
        });
        if let Some(channel) = self.local.at(pending.channel) {
            debug_assert!(
                channel.seq == 0 || channel.seq == seq || cfg!(test),
                "{}",
                key.name
            );
            // First: what the newcomer is without begins behind this number.
            channel.seq = seq;
        }
        let terms = pending.terms;
        let (filter, delta) = (terms.filter.clone(), terms.delta);
        self.commit(slot, pending.channel, membership, terms);
        match succeeded {
            Some(frame) => self.answer_frame(slot, &frame),
            None => self.answer(slot, |out| outbound::subscription_succeeded(out, &key.name)),
        }
        self.confirm_delta(slot, pending.channel, delta);
        match cache {
            Cache::None => {}
            Cache::Hit(frame) => self.answer_cached(slot, key, &frame, filter.as_deref()),
            Cache::Miss => self.answer(slot, |out| outbound::cache_miss(out, &key.name)),
        }
        if let Some(frame) = count {
            self.answer_frame(slot, &frame);
        }
        self.note_subscribed(slot, &key.name);
        self.settle_needs(pending.channel);
    }

    /// The cached event is offered to the filter like any other (extensions spec 2.2); where it does
    /// not pass, there is nothing in the cache for this subscriber.
    fn answer_cached(
        &mut self,
        slot: u32,
        key: &ChannelKey,
        frame: &Frame,
        filter: Option<&Filter>,
    ) {
        let Some(filter) = filter else {
            return self.answer_frame(slot, frame);
        };
        if !filter.matches(&frame.event_name(), frame.tags()) {
            return self.answer(slot, |out| outbound::cache_miss(out, &key.name));
        }
        match self.shows_tags(key.app, frame) {
            true => self.answer_frame(slot, &frame.with_tags()),
            false => self.answer_frame(slot, frame),
        }
    }

    fn on_refused(
        &mut self,
        slot: u32,
        key: &Arc<ChannelKey>,
        pending: &Pending,
        refusal: Refusal,
    ) {
        self.subscriptions -= 1;
        let Refusal::Full = refusal;
        let users_max = self.member_limit(key.app) as u32;
        self.refuse_subscription(slot, &key.name, &Rejection::ChannelFull { users_max });
        self.settle(pending.channel);
    }
}
