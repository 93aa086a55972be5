//! What a home does: it orders a channel, keeps its roster, and answers those who ask.
//!
//! Everything addressed to a home comes out of that home's inbox, also from its own shard: entering
//! the inbox is the linearisation point (decisions 1). What a home says to its own shard is applied
//! in place, at once (decisions 2). A home announces before it answers (decisions 6).

use std::sync::Arc;

use crate::pusher::channel::ChannelKind;
use crate::pusher::outbound;
use crate::pusher::presence::RosterPiece;
use crate::pusher::socket_id::SocketId;
use crate::pusher::webhook::WebhookEvent;

use super::Shard;
use super::channel::ChannelKey;
use super::groups::Needs;
use super::homes::{HomeChannel, Source};
use super::message::{
    Admitted, Cache, Frame, Joined, Member, Publish, Refusal, SessionKey, ShardMessage, Ticket,
    Welcome,
};
use super::question::Found;
use super::roster::{JoinedAs, LeftAs};

impl Shard {
    /// A publish at its home: one order for the channel, the cached event, and one `Deliver` per
    /// interested shard.
    pub(super) fn on_publish_at_home(&mut self, publish: Publish) {
        let Publish {
            app,
            hash,
            channel: name,
            frame,
            except,
            cached,
            delta,
            ask,
            webhook,
            ..
        } = publish;
        self.counters.published += 1;
        // What an app that is going has cached is dropped, and nothing new takes its place.
        let cached = cached && self.apps.is_live(app);
        let table = self.homes.table(app);
        let key = match table
            .find(hash, app, &name)
            .and_then(|index| table.peek(index))
        {
            Some(channel) => Some(Arc::clone(&channel.key)),
            None if cached || webhook.is_some() => Some(Arc::new(ChannelKey { hash, app, name })),
            None => None,
        };
        if let Some(key) = &key {
            if cached {
                let expires = self.now.after(self.settings.cache_ttl);
                self.homes.keep(key, Arc::clone(&frame), expires);
                self.expire_cached();
                self.on_cached(key);
            }
            self.deliver(key, frame, except, Some(delta));
            if let Some(sent) = webhook {
                self.notify(key, WebhookEvent::ClientEvent(sent));
            }
        }
        if let Some((to, index)) = ask {
            let channel = key.and_then(|key| self.homes.find(&key).map(|(_, c)| c.counts()));
            self.answer_question(to, index, Found::Counts(channel.unwrap_or_default()));
        }
    }

    /// Sends something that the platform says to every shard with subscribers.
    pub(super) fn announce(
        &mut self,
        key: &Arc<ChannelKey>,
        frame: Arc<Frame>,
        except: Option<SocketId>,
    ) {
        self.deliver(key, frame, except, None);
    }

    /// Numbers a frame and sends it to every shard with subscribers. An event comes with its
    /// publisher's wish for deltas.
    fn deliver(
        &mut self,
        key: &Arc<ChannelKey>,
        frame: Arc<Frame>,
        except: Option<SocketId>,
        event: Option<Option<bool>>,
    ) {
        let Some((_, channel)) = self.homes.find(key) else {
            return;
        };
        channel.seq += 1;
        let seq = channel.seq;
        // The list is short and small; a copy leaves the table free for what is applied in place.
        let sources = channel.sources.clone();
        let has_stream = channel
            .kept
            .as_ref()
            .is_some_and(|kept| kept.stream.is_some());
        let step = match event {
            Some(wish) if has_stream => self.compress(key, &frame, seq, wish),
            _ => None,
        };
        for Source { shard, round, .. } in sources {
            self.interested[usize::from(shard)] = true;
            let channel = Arc::clone(key);
            let (frame, step) = (Arc::clone(&frame), step.clone());
            self.tell(
                shard,
                ShardMessage::Deliver {
                    channel,
                    frame,
                    except,
                    step,
                    seq,
                    round,
                },
            );
        }
    }

    /// How many subscriptions a shard has; answers where it asked.
    pub(super) fn on_interest(
        &mut self,
        key: &Arc<ChannelKey>,
        report: Source,
        ask: Option<Ticket>,
    ) {
        if ChannelKind::of(&key.name) == ChannelKind::Presence {
            return self.on_needs(key, report);
        }
        let before = self.homes.find_or_insert(key).subscriptions();
        let count = self.homes.set_source(key, report);
        self.on_occupancy(key, before, count);
        let told = (count != before).then(|| self.on_count(key, count));
        if (count == 0) != (before == 0) {
            self.tell_watchers(key, count > 0);
        }
        if let Some(ticket) = ask {
            let cache = self.cached(key);
            let welcome = Welcome {
                succeeded: None,
                cache,
                count: told.flatten(),
            };
            self.answer_join(key, ticket, Ok(welcome));
        }
        self.homes.tidy(key);
    }

    /// The same of a presence channel, whose roster alone counts (decisions 8).
    fn on_needs(&mut self, key: &Arc<ChannelKey>, report: Source) {
        let Some((_, channel)) = self.homes.find(key) else {
            return;
        };
        if let Some(source) = channel.source(report.shard) {
            source.needs = report.needs;
            self.homes.tend_stream(key);
        }
    }

    /// The last event of a channel, now, if it is a cache channel.
    fn cached(&mut self, key: &Arc<ChannelKey>) -> Cache {
        if !self.is_cache(&key.name) {
            return Cache::None;
        }
        self.expire_cached();
        let (now, is_live) = (self.now, self.apps.is_live(key.app));
        let found = self.homes.find(key).filter(|_| is_live);
        match found.and_then(|(_, channel)| channel.cached(now)) {
            Some(cached) => Cache::Hit(cached.frame),
            None => {
                self.on_cache_miss(key);
                Cache::Miss
            }
        }
    }

    /// Forgets cached events whose time is over, and the oldest for which there is no room.
    pub(super) fn expire_cached(&mut self) {
        self.counters.cache_evicted += self.homes.expire(self.now, self.settings.cache_bytes_max);
    }

    /// A newcomer to a presence channel: announced to the others, then answered.
    pub(super) fn on_join(
        &mut self,
        key: &Arc<ChannelKey>,
        ticket: Ticket,
        round: u32,
        member: Member,
    ) {
        let members_max = self.member_limit(key.app);
        let channel = self.homes.find_or_insert(key);
        let known = channel
            .roster()
            .is_some_and(|roster| roster.has(&member.user_id));
        if !known && channel.roster_mut().users() >= members_max {
            self.answer_join(key, ticket, Err(Refusal::Full));
            return self.homes.tidy(key);
        }
        #[cfg(test)]
        let answer_first = self.mutations.answer_first;
        #[cfg(not(test))]
        let answer_first = false;
        let piece = RosterPiece::new(&member.user_id, &member.user_info);
        let added = Frame::text(|out| outbound::member_added(out, &key.name, &piece));
        if !known && !answer_first {
            self.announce(key, Arc::clone(&added), None);
        }
        let source = ticket.session.shard;
        let channel = self.homes.find_or_insert(key);
        let before = channel.subscriptions();
        self.on_occupancy(key, before, before + 1);
        if !known {
            self.on_member_added(key, &member.user_id);
        }
        let channel = self.homes.find_or_insert(key);
        let first = channel
            .roster_mut()
            .join(ticket.session, ticket.subscription, member);
        debug_assert_eq!(first == JoinedAs::First, !known, "{}", key.name);
        let before = channel.source(source).copied();
        let source = Source {
            shard: source,
            count: before.map_or(0, |before| before.count) + 1,
            needs: before.map_or_else(Needs::default, |before| before.needs),
            round,
        };
        self.homes.set_source(key, source);
        let succeeded = Frame::text(|out| {
            let channel = self.homes.peek(key.hash, key.app, &key.name);
            let members = channel.into_iter().flat_map(HomeChannel::members);
            outbound::subscription_succeeded_presence(out, &key.name, members);
        });
        let cache = self.cached(key);
        let welcome = Welcome {
            succeeded: Some(succeeded),
            cache,
            count: None,
        };
        self.answer_join(key, ticket, Ok(welcome));
        if !known && answer_first {
            self.announce(key, added, None);
        }
    }

    /// Somebody has left a presence channel. Of what is not in the roster it is nothing.
    pub(super) fn on_leave(
        &mut self,
        key: &Arc<ChannelKey>,
        session: SessionKey,
        subscription: u32,
    ) {
        let Some((_, channel)) = self.homes.find(key) else {
            return;
        };
        let Some(left) = channel.roster_mut().leave(session, subscription) else {
            return self.homes.tidy(key);
        };
        let before = channel.subscriptions();
        let mut count = before;
        if let Some(source) = channel.source(session.shard).copied() {
            let left = Source {
                count: source.count - 1,
                ..source
            };
            count = self.homes.set_source(key, left);
        }
        if let LeftAs::Last { user_id, piece } = left {
            let removed = Frame::text(|out| outbound::member_removed(out, &key.name, &piece));
            self.announce(key, removed, None);
            self.on_member_removed(key, user_id);
        }
        self.on_occupancy(key, before, count);
        self.homes.tidy(key);
    }

    /// Answers a subscribe that asked.
    fn answer_join(
        &mut self,
        key: &Arc<ChannelKey>,
        ticket: Ticket,
        outcome: Result<Welcome, Refusal>,
    ) {
        let seq = self.homes.find(key).map_or(0, |(_, channel)| channel.seq);
        let outcome = outcome.map(|welcome| Admitted { welcome, seq });
        let joined = Box::new(Joined { outcome });
        let message = ShardMessage::Joined {
            ticket,
            channel: Arc::clone(key),
            joined,
        };
        #[cfg(test)]
        if self.mutations.enqueue_joined {
            return self.send(ticket.session.shard, message, true);
        }
        self.tell(ticket.session.shard, message);
    }
}
