//! What a home knows of its channels: interest, order, cached event, roster; and its answers to
//! those who ask.
//!
//! Everything addressed to a home comes out of that home's inbox, also from its own shard: entering
//! the inbox is the linearisation point (decisions 1). What a home says to its own shard is applied
//! in place, at once (decisions 2). A home announces before it answers (decisions 6). Tables are
//! per app, so that no app walks its neighbour's channels (decisions 9).

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Now;
use crate::pusher::outbound;
use crate::pusher::presence::RosterPiece;
use crate::pusher::socket_id::SocketId;

use super::Shard;
use super::channel::ChannelKey;
use super::message::{
    Admitted, Answer, Cache, Counts, Frame, Joined, Member, Publish, Refusal, SessionKey, ShardId,
    ShardMessage, Ticket,
};
use super::roster::{JoinedAs, LeftAs, Roster};
use super::table::{ChannelTable, Keyed};

/// Stale entries of the list of cached events, beyond twice the live ones, before it is swept.
const CACHE_ORDER_SLACK: usize = 1024;

/// A shard with subscriptions of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub shard: ShardId,
    pub count: u32,
    pub round: u32,
}

/// The last event of a cache channel.
#[derive(Debug)]
struct Cached {
    frame: Arc<Frame>,
    expires: Now,
    stamp: u64,
}

#[derive(Debug, Default)]
struct Kept {
    cached: Option<Cached>,
    roster: Option<Roster>,
}

/// A channel at its home.
#[derive(Debug)]
pub struct HomeChannel {
    key: Arc<ChannelKey>,
    /// The number of the last `Deliver`.
    seq: u64,
    sources: SmallVec<[Source; 2]>,
    kept: Option<Box<Kept>>,
}

impl Keyed for HomeChannel {
    fn key(&self) -> &Arc<ChannelKey> {
        &self.key
    }
}

impl HomeChannel {
    fn new(key: Arc<ChannelKey>) -> Self {
        Self {
            key,
            seq: 0,
            sources: SmallVec::new(),
            kept: None,
        }
    }

    fn roster(&self) -> Option<&Roster> {
        self.kept.as_ref()?.roster.as_ref()
    }

    fn roster_mut(&mut self) -> &mut Roster {
        self.kept
            .get_or_insert_default()
            .roster
            .get_or_insert_default()
    }

    /// Connections subscribed, and users of a presence channel.
    pub fn counts(&self) -> Counts {
        Counts {
            subscriptions: self.sources.iter().map(|source| source.count).sum(),
            users: self.roster().map(|roster| roster.users() as u32),
        }
    }

    /// The members of a presence channel in the order of joining.
    pub fn members(&self) -> impl Iterator<Item = &RosterPiece> + Clone {
        self.roster().into_iter().flat_map(Roster::iter)
    }

    /// Sets how many subscriptions a shard has.
    fn set_source(&mut self, shard: ShardId, count: u32, round: u32) {
        let at = self.sources.iter().position(|source| source.shard == shard);
        match (at, count) {
            (Some(at), 0) => {
                self.sources.swap_remove(at);
            }
            (Some(at), _) => {
                self.sources[at] = Source {
                    shard,
                    count,
                    round,
                }
            }
            (None, 0) => {}
            (None, _) => self.sources.push(Source {
                shard,
                count,
                round,
            }),
        }
    }

    fn count_of(&self, shard: ShardId) -> u32 {
        self.sources
            .iter()
            .find(|source| source.shard == shard)
            .map_or(0, |source| source.count)
    }

    fn is_needed(&self) -> bool {
        !self.sources.is_empty() || self.kept.as_ref().is_some_and(|kept| kept.cached.is_some())
    }
}

/// The channels at home on a shard, and the memory of cached events.
#[derive(Default)]
pub struct Homes {
    apps: Vec<ChannelTable<HomeChannel>>,
    cache_bytes: u64,
    /// Cached events, oldest first; an entry whose stamp is not the channel's is stale.
    cache_order: VecDeque<(Arc<ChannelKey>, u64)>,
    cached: usize,
    stamp: u64,
}

impl Homes {
    fn table(&mut self, app: u32) -> &mut ChannelTable<HomeChannel> {
        if self.apps.len() <= app as usize {
            self.apps
                .resize_with(app as usize + 1, ChannelTable::default);
        }
        &mut self.apps[app as usize]
    }

    fn find(&mut self, key: &Arc<ChannelKey>) -> Option<(u32, &mut HomeChannel)> {
        let table = self.table(key.app);
        let index = table.find_key(key)?;
        Some((index, table.at(index)?))
    }

    fn find_or_insert(&mut self, key: &Arc<ChannelKey>) -> &mut HomeChannel {
        let table = self.table(key.app);
        let index = table
            .find_key(key)
            .unwrap_or_else(|| table.insert(HomeChannel::new(Arc::clone(key))));
        table
            .at(index)
            .expect("the index was found or made on the line above")
    }

    /// Forgets a channel that nobody needs.
    fn tidy(&mut self, key: &Arc<ChannelKey>) {
        let table = self.table(key.app);
        if let Some(index) = table.find_key(key)
            && table
                .peek(index)
                .is_some_and(|channel| !channel.is_needed())
        {
            table.remove(index);
        }
    }

    /// A channel by name.
    pub fn peek(&self, hash: u64, app: u32, name: &str) -> Option<&HomeChannel> {
        let table = self.apps.get(app as usize)?;
        table.peek(table.find(hash, app, name)?)
    }

    /// All channels of all apps.
    pub fn iter(&self) -> impl Iterator<Item = &HomeChannel> {
        self.apps.iter().flat_map(ChannelTable::iter)
    }

    /// Bytes of cached events.
    pub fn cache_bytes(&self) -> u64 {
        self.cache_bytes
    }

    /// Keeps an event as its channel's last one.
    fn keep(&mut self, key: &Arc<ChannelKey>, frame: Arc<Frame>, expires: Now) {
        self.stamp += 1;
        let stamp = self.stamp;
        let bytes = frame.bytes().len() as u64;
        let kept = self.find_or_insert(key).kept.get_or_insert_default();
        match kept.cached.replace(Cached {
            frame,
            expires,
            stamp,
        }) {
            Some(before) => self.cache_bytes -= before.frame.bytes().len() as u64,
            None => self.cached += 1,
        }
        self.cache_bytes += bytes;
        self.cache_order.push_back((Arc::clone(key), stamp));
        if self.cache_order.len() > 2 * self.cached + CACHE_ORDER_SLACK {
            self.sweep_order();
        }
    }

    fn sweep_order(&mut self) {
        let mut order = std::mem::take(&mut self.cache_order);
        order.retain(|(key, stamp)| self.cached_stamp(key) == Some(*stamp));
        self.cache_order = order;
    }

    fn cached_stamp(&mut self, key: &Arc<ChannelKey>) -> Option<u64> {
        self.find(key)?
            .1
            .kept
            .as_ref()?
            .cached
            .as_ref()
            .map(|cached| cached.stamp)
    }

    /// Drops expired events, and the oldest ones over `bytes_max`; returns how many of those there
    /// were.
    fn expire(&mut self, now: Now, bytes_max: u64) -> u64 {
        let mut evicted = 0;
        while let Some((key, stamp)) = self.cache_order.front().cloned() {
            let over = self.cache_bytes > bytes_max;
            if self.cached_stamp(&key) == Some(stamp) {
                let Some((_, channel)) = self.find(&key) else {
                    break;
                };
                let Some(kept) = channel.kept.as_mut() else {
                    break;
                };
                let expired = kept
                    .cached
                    .as_ref()
                    .is_some_and(|cached| cached.expires <= now);
                if !over && !expired {
                    break;
                }
                evicted += u64::from(over && !expired);
                if let Some(cached) = kept.cached.take() {
                    self.cache_bytes -= cached.frame.bytes().len() as u64;
                    self.cached -= 1;
                }
                self.tidy(&key);
            }
            self.cache_order.pop_front();
        }
        evicted
    }
}

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
            ask,
            ..
        } = publish;
        self.counters.published += 1;
        let table = self.homes.table(app);
        let key = match table
            .find(hash, app, &name)
            .and_then(|index| table.peek(index))
        {
            Some(channel) => Some(Arc::clone(&channel.key)),
            None if cached => Some(Arc::new(ChannelKey { hash, app, name })),
            None => None,
        };
        if let Some(key) = &key {
            if cached {
                let expires = self.now.after(self.settings.cache_ttl);
                self.homes.keep(key, Arc::clone(&frame), expires);
                self.counters.cache_evicted +=
                    self.homes.expire(self.now, self.settings.cache_bytes_max);
            }
            self.announce(key, frame, except);
        }
        if let Some((to, index)) = ask {
            let channel = key.and_then(|key| self.homes.find(&key).map(|(_, c)| c.counts()));
            let counts = channel.unwrap_or_default();
            let answer = ShardMessage::Answer {
                to,
                answer: Box::new(Answer { index, counts }),
            };
            self.tell(to.shard, answer);
        }
    }

    /// Numbers a frame and sends it to every shard with subscribers.
    fn announce(&mut self, key: &Arc<ChannelKey>, frame: Arc<Frame>, except: Option<SocketId>) {
        let Some((_, channel)) = self.homes.find(key) else {
            return;
        };
        channel.seq += 1;
        let seq = channel.seq;
        // The list is short and small; a copy leaves the table free for what is applied in place.
        let sources = channel.sources.clone();
        for Source { shard, round, .. } in sources {
            self.interested[usize::from(shard)] = true;
            let channel = Arc::clone(key);
            let frame = Arc::clone(&frame);
            self.tell(
                shard,
                ShardMessage::Deliver {
                    channel,
                    frame,
                    except,
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
        source: ShardId,
        subscribers: u32,
        round: u32,
        ask: Option<Ticket>,
    ) {
        self.homes
            .find_or_insert(key)
            .set_source(source, subscribers, round);
        if let Some(ticket) = ask {
            let cache = self.cached(key);
            self.answer_join(key, ticket, Ok((None, cache)));
        }
        self.homes.tidy(key);
    }

    /// The cached event of a cache channel, now.
    fn cached(&mut self, key: &Arc<ChannelKey>) -> Cache {
        self.counters.cache_evicted += self.homes.expire(self.now, self.settings.cache_bytes_max);
        let Some((_, channel)) = self.homes.find(key) else {
            return Cache::Miss;
        };
        match channel.kept.as_ref().and_then(|kept| kept.cached.as_ref()) {
            Some(cached) => Cache::Hit(Arc::clone(&cached.frame)),
            None => Cache::Miss,
        }
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
        let first = channel
            .roster_mut()
            .join(ticket.session, ticket.subscription, member);
        debug_assert_eq!(first == JoinedAs::First, !known, "{}", key.name);
        let count = channel.count_of(source) + 1;
        channel.set_source(source, count, round);
        let succeeded = Frame::text(|out| {
            let channel = self.homes.peek(key.hash, key.app, &key.name);
            let members = channel.into_iter().flat_map(HomeChannel::members);
            outbound::subscription_succeeded_presence(out, &key.name, members);
        });
        let cache = if self.is_cache(&key.name) {
            self.cached(key)
        } else {
            Cache::None
        };
        self.answer_join(key, ticket, Ok((Some(succeeded), cache)));
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
        let count = channel.count_of(session.shard).saturating_sub(1);
        let round = channel
            .sources
            .iter()
            .find(|s| s.shard == session.shard)
            .map_or(0, |s| s.round);
        channel.set_source(session.shard, count, round);
        if let LeftAs::Last(piece) = left {
            let removed = Frame::text(|out| outbound::member_removed(out, &key.name, &piece));
            self.announce(key, removed, None);
        }
        self.homes.tidy(key);
    }

    /// Answers a subscribe that asked.
    fn answer_join(
        &mut self,
        key: &Arc<ChannelKey>,
        ticket: Ticket,
        outcome: Result<(Option<Arc<Frame>>, Cache), Refusal>,
    ) {
        let seq = self.homes.find(key).map_or(0, |(_, channel)| channel.seq);
        let outcome = outcome.map(|(succeeded, cache)| Admitted {
            succeeded,
            cache,
            seq,
        });
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
