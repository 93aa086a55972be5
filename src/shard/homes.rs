//! The channels at home on a shard: interest, order, roster, and the memory of cached events.
//!
//! Tables are per app, so that no app walks its neighbour's channels (decisions 9). What the entries
//! mean to others is `home`'s.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Now;
use crate::pusher::channel::ChannelKind;
use crate::pusher::presence::RosterPiece;

use super::channel::ChannelKey;
use super::groups::Needs;
use super::message::{Counts, Frame, ShardId};
use super::question::{CachedEvent, Page};
use super::roster::Roster;
use super::stream::Stream;
use super::table::{ChannelTable, Keyed};
use super::watchlist::UserHome;

/// Stale entries of the list of cached events, beyond twice the live ones, before it is swept.
const CACHE_ORDER_SLACK: usize = 1024;

/// A shard with subscriptions of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub shard: ShardId,
    pub count: u32,
    pub needs: Needs,
    pub round: u32,
}

/// The last event of a cache channel.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) frame: Arc<Frame>,
    expires: Now,
    stamp: u64,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) cached: Option<Cached>,
    pub(super) roster: Option<Roster>,
    /// Of the channel of a user: whom the user watches and who watches them.
    pub(super) user: Option<Box<UserHome>>,
    /// While somebody gets deltas.
    pub(super) stream: Option<Box<Stream>>,
}

/// A channel at its home.
#[derive(Debug)]
pub struct HomeChannel {
    pub(super) key: Arc<ChannelKey>,
    /// The number of the last `Deliver`.
    pub(super) seq: u64,
    pub(super) sources: SmallVec<[Source; 2]>,
    pub(super) kept: Option<Box<Kept>>,
    /// The number of its making on this shard, so that a listing can tell the channels that came
    /// while it was going on.
    born: u64,
}

/// Where a listing goes on. A channel keeps its place while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    index: u32,
    /// Places that there were when the listing began.
    end: u32,
    /// Channels made before the listing began. One made since may have been listed in an earlier
    /// life, at another place: it is left out.
    births: u64,
}

impl Keyed for HomeChannel {
    fn key(&self) -> &Arc<ChannelKey> {
        &self.key
    }
}

impl HomeChannel {
    fn new(key: Arc<ChannelKey>, born: u64) -> Self {
        Self {
            key,
            born,
            seq: 0,
            sources: SmallVec::new(),
            kept: None,
        }
    }

    pub(super) fn roster(&self) -> Option<&Roster> {
        self.kept.as_ref()?.roster.as_ref()
    }

    pub(super) fn roster_mut(&mut self) -> &mut Roster {
        self.kept
            .get_or_insert_default()
            .roster
            .get_or_insert_default()
    }

    /// Watching, at a user's home.
    pub(super) fn user(&self) -> Option<&UserHome> {
        self.kept.as_ref()?.user.as_deref()
    }

    /// The same, to change; made when first needed.
    pub(super) fn user_mut(&mut self) -> &mut UserHome {
        self.kept
            .get_or_insert_default()
            .user
            .get_or_insert_default()
    }

    /// The same, to change where it is.
    pub(super) fn user_if_any(&mut self) -> Option<&mut UserHome> {
        self.kept.as_mut()?.user.as_deref_mut()
    }

    /// Connections subscribed.
    pub(super) fn subscriptions(&self) -> u32 {
        self.sources.iter().map(|source| source.count).sum()
    }

    /// Connections subscribed, and users of a presence channel.
    pub fn counts(&self) -> Counts {
        Counts {
            subscriptions: self.subscriptions(),
            users: self.roster().map(|roster| roster.users() as u32),
        }
    }

    /// Whether somebody is subscribed, and the channel is one to be told of.
    fn is_listed(&self, prefix: &str) -> bool {
        !self.sources.is_empty()
            && self.key.name.starts_with(prefix)
            && !self.key.name.starts_with('#')
    }

    /// The event that is kept for newcomers, and for how long yet.
    pub(super) fn cached(&self, now: Now) -> Option<CachedEvent> {
        let cached = self.kept.as_ref()?.cached.as_ref()?;
        Some(CachedEvent {
            frame: Arc::clone(&cached.frame),
            left: Duration::from_millis(cached.expires.0.saturating_sub(now.0)),
        })
    }

    /// The members of a presence channel in the order of joining.
    pub fn members(&self) -> impl Iterator<Item = &RosterPiece> + Clone {
        self.roster().into_iter().flat_map(Roster::iter)
    }

    /// Sets what a shard has. See [`Homes::set_source`].
    fn set_source(&mut self, source: Source) {
        let is_it = |known: &Source| known.shard == source.shard;
        match (self.sources.iter().position(is_it), source.count) {
            (Some(at), 0) => {
                self.sources.swap_remove(at);
            }
            (Some(at), _) => self.sources[at] = source,
            (None, 0) => {}
            (None, _) => self.sources.push(source),
        }
    }

    /// The source of a shard.
    pub(super) fn source(&mut self, shard: ShardId) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.shard == shard)
    }

    /// What is needed by any shard.
    pub(super) fn needs(&self) -> Needs {
        let needs = self.sources.iter().map(|source| source.needs);
        needs.fold(Needs::default(), Needs::and)
    }

    fn is_needed(&self) -> bool {
        let is_kept = |kept: &Kept| kept.cached.is_some() || kept.user.is_some();
        !self.sources.is_empty() || self.kept.as_deref().is_some_and(is_kept)
    }
}

/// How many channels of each kind are occupied.
pub type Occupied = [u32; ChannelKind::ALL.len()];

/// The channels at home on a shard, and the memory of cached events.
#[derive(Default)]
pub struct Homes {
    apps: Vec<ChannelTable<HomeChannel>>,
    /// By app, like the tables. Changed where a channel's first source comes and its last one goes,
    /// and nowhere else.
    occupied: Vec<Occupied>,
    cache_bytes: u64,
    stream_bytes: u64,
    /// Cached events, oldest first; an entry whose stamp is not the channel's is stale.
    cache_order: VecDeque<(Arc<ChannelKey>, u64)>,
    cached: usize,
    stamp: u64,
    /// Channels ever made.
    births: u64,
    /// Rounds of watching ever begun, of all users: a user's own count would go with the user.
    watch_rounds: u32,
}

impl Homes {
    /// The number of a round of watching, never given before.
    pub(super) fn begin_watch_round(&mut self) -> u32 {
        self.watch_rounds = self.watch_rounds.wrapping_add(1);
        self.watch_rounds
    }

    pub(super) fn table(&mut self, app: u32) -> &mut ChannelTable<HomeChannel> {
        if self.apps.len() <= app as usize {
            self.apps
                .resize_with(app as usize + 1, ChannelTable::default);
        }
        &mut self.apps[app as usize]
    }

    pub(super) fn find(&mut self, key: &Arc<ChannelKey>) -> Option<(u32, &mut HomeChannel)> {
        let table = self.table(key.app);
        let index = table.find_key(key)?;
        Some((index, table.at(index)?))
    }

    pub(super) fn find_or_insert(&mut self, key: &Arc<ChannelKey>) -> &mut HomeChannel {
        let index = match self.table(key.app).find_key(key) {
            Some(index) => index,
            None => {
                self.births += 1;
                let channel = HomeChannel::new(Arc::clone(key), self.births);
                self.table(key.app).insert(channel)
            }
        };
        self.table(key.app)
            .at(index)
            .expect("the index was found or made on the line above")
    }

    /// Sets what a shard has of a channel; gives how many subscriptions there are then.
    pub(super) fn set_source(&mut self, key: &Arc<ChannelKey>, source: Source) -> u32 {
        let channel = self.find_or_insert(key);
        let before = channel.sources.is_empty();
        channel.set_source(source);
        self.tend_stream(key);
        let channel = self.find_or_insert(key);
        let after = channel.sources.is_empty();
        let subscriptions = channel.subscriptions();
        if before == after {
            return subscriptions;
        }
        let (app, kind) = (key.app as usize, ChannelKind::of(&key.name) as usize);
        if self.occupied.len() <= app {
            self.occupied.resize(app + 1, Occupied::default());
        }
        match after {
            true => self.occupied[app][kind] -= 1,
            false => self.occupied[app][kind] += 1,
        }
        subscriptions
    }

    /// Begins the stream of a channel that needs one, and ends one that nobody needs.
    pub(super) fn tend_stream(&mut self, key: &Arc<ChannelKey>) {
        let Some((_, channel)) = self.find(key) else {
            return;
        };
        if channel.needs().stream() {
            let begin = || Box::new(Stream::beginning(channel.seq));
            let kept = channel.kept.get_or_insert_default();
            kept.stream.get_or_insert_with(begin);
        } else if let Some(kept) = &mut channel.kept {
            let stream = kept.stream.take();
            self.stream_bytes -= stream.map_or(0, |stream| stream.bytes());
        }
    }

    /// Ends the stream of a channel, although somebody would get deltas, and begins it anew.
    pub(super) fn end_stream(&mut self, key: &Arc<ChannelKey>) {
        self.take_stream(key);
        self.tend_stream(key);
    }

    /// Takes the stream of a channel out, to work with it. [`Homes::put_stream`] brings it back.
    pub(super) fn take_stream(&mut self, key: &Arc<ChannelKey>) -> Option<Box<Stream>> {
        let kept = self.find(key)?.1.kept.as_mut()?;
        let stream = kept.stream.take()?;
        self.stream_bytes -= stream.bytes();
        Some(stream)
    }

    /// See [`Homes::take_stream`].
    pub(super) fn put_stream(&mut self, key: &Arc<ChannelKey>, stream: Box<Stream>) {
        self.stream_bytes += stream.bytes();
        self.find_or_insert(key).kept.get_or_insert_default().stream = Some(stream);
    }

    /// Bytes of the texts of all streams.
    pub fn stream_bytes(&self) -> u64 {
        self.stream_bytes
    }

    /// Occupied channels at home here, by the index of the app.
    pub fn occupied(&self) -> &[Occupied] {
        &self.occupied
    }

    /// Drops the cached events of an app, at most `walk_max` channels of it, from the place `end`
    /// downwards; where to go on, if anything is left.
    pub(super) fn forget_cached(
        &mut self,
        app: u32,
        end: Option<u32>,
        walk_max: usize,
    ) -> Option<u32> {
        let table = self.table(app);
        let end = end.unwrap_or_else(|| table.places());
        let start = end.saturating_sub(walk_max as u32);
        for index in (start..end).rev() {
            let Some(channel) = self.table(app).at(index) else {
                continue;
            };
            let cached = channel.kept.as_mut().and_then(|kept| kept.cached.take());
            if let Some(cached) = cached {
                let key = Arc::clone(&channel.key);
                self.cache_bytes -= cached.frame.held_bytes() as u64;
                self.cached -= 1;
                self.tidy(&key);
            }
        }
        (start > 0).then_some(start)
    }

    /// Forgets a channel that nobody needs, and the watching of a user that is none any more.
    pub(super) fn tidy(&mut self, key: &Arc<ChannelKey>) {
        let Some((index, channel)) = self.find(key) else {
            return;
        };
        if let Some(kept) = &mut channel.kept
            && kept.user.as_ref().is_some_and(|user| user.is_empty())
        {
            kept.user = None;
        }
        if !channel.is_needed() {
            self.table(key.app).remove(index);
        }
    }

    /// A channel by name.
    pub fn peek(&self, hash: u64, app: u32, name: &str) -> Option<&HomeChannel> {
        let table = self.apps.get(app as usize)?;
        table.peek(table.find(hash, app, name)?)
    }

    /// Occupied channels of an app from a place of its table on, after a look at `walk_max` channels
    /// at most; and how many were looked at. A channel that is occupied from the first page to the
    /// last is on exactly one of them, any other on one at most.
    pub(super) fn page(
        &self,
        app: u32,
        prefix: &str,
        from: Option<Place>,
        walk_max: usize,
    ) -> (Page, usize) {
        let table = self.apps.get(app as usize);
        let Place { index, end, births } = from.unwrap_or_else(|| Place {
            index: 0,
            end: table.map_or(0, ChannelTable::places),
            births: self.births,
        });
        let stop = end.min(index.saturating_add(walk_max as u32));
        let channels = (index..stop)
            .filter_map(|index| table?.peek(index))
            .filter(|channel| channel.born <= births && channel.is_listed(prefix))
            .map(|channel| (Arc::clone(&channel.key), channel.counts()))
            .collect();
        let next = (stop < end).then_some(Place {
            index: stop,
            end,
            births,
        });
        (Page { channels, next }, stop.saturating_sub(index) as usize)
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
    pub(super) fn keep(&mut self, key: &Arc<ChannelKey>, frame: Arc<Frame>, expires: Now) {
        self.stamp += 1;
        let stamp = self.stamp;
        let bytes = frame.held_bytes() as u64;
        let kept = self.find_or_insert(key).kept.get_or_insert_default();
        match kept.cached.replace(Cached {
            frame,
            expires,
            stamp,
        }) {
            Some(before) => self.cache_bytes -= before.frame.held_bytes() as u64,
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
    pub(super) fn expire(&mut self, now: Now, bytes_max: u64) -> u64 {
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
                    self.cache_bytes -= cached.frame.held_bytes() as u64;
                    self.cached -= 1;
                }
                self.tidy(&key);
            }
            self.cache_order.pop_front();
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app: u32, name: &str) -> Arc<ChannelKey> {
        let hash = name.bytes().map(u64::from).sum();
        Arc::new(ChannelKey {
            hash,
            app,
            name: name.into(),
        })
    }

    fn source(shard: ShardId, count: u32) -> Source {
        Source {
            shard,
            count,
            needs: Needs::default(),
            round: 1,
        }
    }

    #[test]
    fn what_an_app_has_cached_is_forgotten_little_by_little_and_nothing_else() {
        let mut homes = Homes::default();
        for nth in 0..10 {
            for app in [1, 2] {
                let frame = Frame::new(vec![0; 8]);
                homes.keep(&key(app, &format!("cache-{nth}")), frame, Now(100));
            }
        }
        homes.set_source(&key(1, "cache-3"), source(0, 1));
        let (mut end, mut steps) = (None, 0);
        loop {
            steps += 1;
            end = homes.forget_cached(1, end, 4);
            if end.is_none() {
                break;
            }
        }
        assert_eq!((steps, homes.cache_bytes()), (3, 80));
        // The one that somebody is subscribed to is still there, without its event.
        let left: Vec<_> = homes.iter().map(|channel| channel.key.app).collect();
        assert_eq!(left, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(homes.expire(Now(100), u64::MAX), 0);
        assert_eq!((homes.cache_bytes(), homes.cached), (0, 0));
    }

    #[test]
    fn a_channel_is_occupied_from_its_first_source_to_its_last() {
        let mut homes = Homes::default();
        let room = key(1, "presence-room");
        let presence = ChannelKind::Presence as usize;
        for (shard, count, expected) in [(0, 2, 1), (1, 1, 1), (0, 0, 1), (1, 0, 0), (1, 0, 0)] {
            homes.set_source(&room, source(shard, count));
            assert_eq!(homes.occupied()[1][presence], expected);
        }
        assert_eq!(homes.occupied()[0], Occupied::default());
    }
}
