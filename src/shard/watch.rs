//! Watchlists: who of a user's list is online, told to the user's connections (WebSocket spec 14.2).
//!
//! Three places (decisions 44). The *session* sends its list to the home of its user and is told
//! nothing before its first frame. The *home of the watcher* unites the lists, asks the homes of the
//! watched and knows what they said last. The *home of the watched* knows which users watch it, and
//! tells their homes when the first connection has signed in and when the last has gone.
//!
//! All of it goes through inboxes and outgoing lists, also where two homes are one shard, so what a
//! home says of a user arrives in the order in which it happened. A first frame has what the home
//! of the watcher knew when it sent it, and every change that it learns after that is sent behind,
//! to the same shards, through the same lists: each exactly once.
//!
//! A transition costs a message for each user who watches, as an event costs a frame for each
//! subscriber; while very many of them wait, their shard reads no input (decisions 27).
//!
//! What decisions 44 call a `Deliver` on the watcher's key is a message of its own, `Watched`: it is
//! no event of the channel, and so has no place in the channel's numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::App;
use crate::pusher::channel::USER_CHANNEL_PREFIX;
use crate::pusher::dialect::Dialect;
use crate::pusher::error::Rejection;
use crate::pusher::sign_in;

use super::Shard;
use super::channel::{ChannelKey, Entry, home};
use super::conns::Phase;
use super::homes::Source;
use super::message::{Frame, SessionKey, ShardId, ShardMessage, Ticket};
use super::session::User;
use super::watchlist::{Heard, Watcher, transition};

impl Shard {
    /// A connection has signed in: its list goes to the home of its user, behind the count that
    /// says that it is here, or a change could be told to nobody in between.
    pub(super) fn watch(&mut self, slot: u32, app: &App, user: &sign_in::User<'_>) {
        if !app.settings.watchlist {
            return;
        }
        let users_max = app.settings.watchlist_users_max;
        let list = user.watchlist(users_max as usize);
        if list.is_cut {
            self.reject(slot, &Rejection::WatchlistTooLong { users_max });
        }
        let keys = list.users.iter().map(|user_id| {
            let name = [USER_CHANNEL_PREFIX, user_id].concat().into_boxed_str();
            let hash = self.hasher.hash(app.index, &name);
            let app = app.index;
            Arc::new(ChannelKey { hash, app, name })
        });
        let keys: Box<[_]> = keys.collect();
        let session = self.conns.key(slot);
        let extra = self.conns.session(slot).extra();
        extra.tickets += 1;
        let subscription = extra.tickets;
        let Some(user) = &mut extra.user else { return };
        user.watchlist = subscription;
        let channel = user.channel;
        #[cfg(test)]
        let reports = !self.mutations.list_before_count;
        #[cfg(not(test))]
        let reports = true;
        if reports {
            self.report_channel(channel, true);
        }
        let ticket = Ticket {
            session,
            subscription,
        };
        self.send_list(channel, ticket, Some(keys));
    }

    /// The session is ending: its list is taken back.
    pub(super) fn stop_watching(&mut self, slot: u32) {
        let session = self.conns.key(slot);
        let Some(user) = self.conns.session(slot).user_mut() else {
            return;
        };
        let channel = user.channel;
        let subscription = std::mem::take(&mut user.watchlist);
        if subscription != 0 {
            let ticket = Ticket {
                session,
                subscription,
            };
            self.send_list(channel, ticket, None);
        }
    }

    fn send_list(&mut self, channel: u32, ticket: Ticket, list: Option<Box<[Arc<ChannelKey>]>>) {
        let Some(channel) = self.local.peek(channel) else {
            return;
        };
        let (user, home) = (Arc::clone(&channel.key), channel.home);
        self.send(home, ShardMessage::WatchList { user, ticket, list }, true);
    }

    /// At the home of the watcher: a connection's list, or the end of it.
    pub(super) fn on_watch_list(
        &mut self,
        user: &Arc<ChannelKey>,
        ticket: Ticket,
        list: Option<&[Arc<ChannelKey>]>,
    ) {
        let round = self.homes.begin_watch_round();
        let watching = &mut self.homes.find_or_insert(user).user_mut().watching;
        let changes = match list {
            Some(list) => watching.set(ticket, list, round),
            None => watching.remove(ticket.session),
        };
        self.ask_homes(user, changes.added, true, changes.round);
        self.ask_homes(user, changes.removed, false, changes.round);
        if changes.is_complete {
            self.tell_state(user, ticket.session);
        }
        self.homes.tidy(user);
    }

    /// Asks the homes of users to tell of them, or not to tell any more.
    fn ask_homes(
        &mut self,
        watcher: &Arc<ChannelKey>,
        targets: Vec<Arc<ChannelKey>>,
        on: bool,
        round: u32,
    ) {
        let mut by_home: BTreeMap<ShardId, Vec<_>> = BTreeMap::new();
        for target in targets {
            let home = home(target.hash, self.settings.shards);
            by_home.entry(home).or_default().push(target);
        }
        for (home, targets) in by_home {
            let message = ShardMessage::Watch {
                targets: targets.into(),
                watcher: Arc::clone(watcher),
                on,
                round,
            };
            self.send(home, message, true);
        }
    }

    /// At the home of the watched: a user watches some users here from now on, and is told how they
    /// are; or watches them no more.
    pub(super) fn on_watch(
        &mut self,
        targets: &[Arc<ChannelKey>],
        watcher: &Arc<ChannelKey>,
        on: bool,
        round: u32,
    ) {
        let mut states = Vec::with_capacity(targets.len());
        for target in targets {
            let user = self.homes.find_or_insert(target);
            user.user_mut().remove_watcher(watcher);
            if on {
                user.user_mut().add_watcher(watcher, round);
                states.push((Arc::clone(&user.key), user.subscriptions() > 0));
            }
            self.homes.tidy(target);
        }
        if on {
            self.tell_home_of(watcher, states, round);
        }
    }

    /// At the home of a user: the first connection has signed in, or the last has gone.
    pub(super) fn tell_watchers(&mut self, key: &Arc<ChannelKey>, is_online: bool) {
        let Some((_, channel)) = self.homes.find(key) else {
            return;
        };
        let watchers = channel
            .user()
            .into_iter()
            .flat_map(|user| user.watchers.iter());
        let watchers = watchers.map(|Watcher { key, round }| (Arc::clone(key), *round));
        for (watcher, round) in watchers.collect::<Vec<_>>() {
            self.tell_home_of(&watcher, vec![(Arc::clone(key), is_online)], round);
        }
    }

    fn tell_home_of(
        &mut self,
        watcher: &Arc<ChannelKey>,
        states: Vec<(Arc<ChannelKey>, bool)>,
        round: u32,
    ) {
        let home = home(watcher.hash, self.settings.shards);
        let message = ShardMessage::Online {
            watcher: Arc::clone(watcher),
            states: states.into(),
            round,
        };
        self.send(home, message, true);
    }

    /// At the home of the watcher: how users are that it asked for.
    pub(super) fn on_online(
        &mut self,
        watcher: &Arc<ChannelKey>,
        states: &[(Arc<ChannelKey>, bool)],
        round: u32,
    ) {
        for (target, is_online) in states {
            let Some(user) = self.homes.find(watcher).and_then(|(_, c)| c.user_if_any()) else {
                return;
            };
            #[cfg(test)]
            let round = match self.mutations.any_watch_round {
                true => user
                    .watching
                    .round_of(target.hash, target.app, &target.name)
                    .unwrap_or(round),
                false => round,
            };
            match user.watching.on_state(target, *is_online, round) {
                Heard::Nothing => {}
                Heard::Changed => self.tell_change(watcher, target, *is_online),
                Heard::Answered(complete) => {
                    for session in complete {
                        self.tell_state(watcher, session);
                    }
                }
            }
        }
    }

    /// The first frame of a connection whose list is complete.
    fn tell_state(&mut self, watcher: &Arc<ChannelKey>, session: SessionKey) {
        let channel = self.homes.find(watcher);
        let state = channel.and_then(|(_, c)| c.user()?.watching.state(session));
        if let Some((ticket, frame)) = state {
            self.tell(session.shard, ShardMessage::ToSession { ticket, frame });
        }
    }

    /// A change, to every shard with connections of the watcher.
    fn tell_change(&mut self, watcher: &Arc<ChannelKey>, target: &ChannelKey, is_online: bool) {
        let Some((_, channel)) = self.homes.find(watcher) else {
            return;
        };
        let (user, sources) = (Arc::clone(&channel.key), channel.sources.clone());
        let frame = transition(target, is_online);
        for Source { shard, round, .. } in sources {
            let message = ShardMessage::Watched {
                user: Arc::clone(&user),
                frame: Arc::clone(&frame),
                round,
            };
            self.tell(shard, message);
        }
    }

    /// The first frame of a session here, if its list is still the one that was asked for; from now
    /// on it is told of changes.
    pub(super) fn on_to_session(&mut self, ticket: Ticket, frame: Option<&Frame>) {
        let Ticket {
            session,
            subscription,
        } = ticket;
        let slot = session.slot;
        if !self.conns.is_current(session) || self.conns.peek(slot).phase != Phase::Open {
            return;
        }
        let user = self.conns.session(slot).user_mut();
        let Some(user) = user.filter(|user| user.watchlist == subscription) else {
            return;
        };
        user.is_watching = true;
        if let Some(frame) = frame {
            self.answer_frame(slot, frame);
        }
    }

    /// A change for the connections of a user here that have had their first frame.
    pub(super) fn on_watched(&mut self, key: &Arc<ChannelKey>, frame: &Arc<Frame>, round: u32) {
        let index = self.local.find_key(key);
        let channel = index.and_then(|index| self.local.peek(index));
        let Some(channel) = channel.filter(|channel| channel.round == round) else {
            return;
        };
        let (mut plain, mut translated) = (Vec::new(), Vec::new());
        #[cfg(test)]
        let all = self.mutations.tell_all_changes;
        #[cfg(not(test))]
        let all = false;
        for Entry { slot, .. } in channel.entries() {
            let is_told = |user: &User| user.is_watching || all;
            let session = self.conns.peek_session(slot);
            let Some(session) = session.filter(|s| s.user().is_some_and(is_told)) else {
                continue;
            };
            match session.dialect() {
                Dialect::Pusher => plain.push(slot),
                Dialect::Sockudo => translated.push(slot),
            }
        }
        self.send_to(key.app, &plain, Arc::clone(frame));
        if !translated.is_empty() {
            self.send_to(key.app, &translated, frame.translated(Dialect::Sockudo));
        }
    }
}
