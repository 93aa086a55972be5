//! The model: what every subscriber of a channel is to get, from the order in which messages enter
//! the inbox of its home.
//!
//! A channel is a log of texts. Publishes add to it, and so do members who come and go; whoever
//! asked its home gets the log from the entry at which the question was accepted, without gap or
//! repeat. Nothing here knows shards, rounds, runs or queues.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::app::AppTable;
use crate::clock::Now;
use crate::pusher::socket_id::SocketId;
use crate::shard::Settings;
use crate::shard::channel::{ChannelHasher, home};
use crate::shard::message::{Counts, Member, Publish, ReplyTo, SessionKey, ShardMessage, Ticket};

use super::channel::{Channel, Entry, Kept, Label, User};
use super::counts::Counting;
use super::keyed::Keys;
use super::plan::{APPS, NAMES, USER_NAMES};
use super::query::Truths;
use super::sieve::Tags;
use super::text;

/// How a subscribe that asked will be answered.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The text of success, or none if there is no room.
    pub(super) succeeded: Option<String>,
    /// The first entry of the log that is for the newcomer.
    pub(super) from: usize,
    /// On a cache channel what it keeps; known once the home has taken the question.
    pub(super) cache: Option<Option<Kept>>,
    /// The count that follows, where all are told it; likewise.
    pub(super) count: Option<Rc<str>>,
}

/// An event that somebody wants to publish on a number of channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) padding: usize,
    pub(super) tags: Tags,
    /// The publisher's wish for deltas.
    pub(super) delta: Option<bool>,
    /// Who sent it, where subscribers are told.
    pub(super) user: Option<&'static str>,
    /// Channels it is for, and inboxes it has entered.
    pub(super) wanted: usize,
    pub(super) accepted: usize,
    pub(super) refused: bool,
}

impl Event {
    fn label(&self) -> Label {
        Label {
            name: self.name,
            tags: self.tags,
        }
    }
}

/// What the simulation knows to be true.
pub(super) struct Model {
    pub(super) channels: Vec<Channel>,
    pub(super) events: Vec<Event>,
    /// Terminations that a shard has queued and that have not entered an inbox, by user.
    pub(super) terminating: HashMap<(usize, usize), VecDeque<u64>>,
    /// Events that came as deltas.
    pub(super) deltas: u64,
    outcomes: HashMap<(SessionKey, u32), Outcome>,
    /// Counts that the answer to a publish will tell.
    answers: HashMap<(u16, u32, u32, u32), Counts>,
    /// What is true of questions that are under way.
    pub(super) truths: Truths,
    cache_ttl: Duration,
    pub(super) counts: Counting,
    pub(super) keys: Keys,
}

/// The names of each app's channels.
fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(USER_NAMES)
}

impl Model {
    pub(super) fn new(hash_key: [u64; 2], apps: &AppTable, settings: &Settings) -> Self {
        let shards = settings.shards;
        let hasher = ChannelHasher::new(hash_key);
        let channels = (0..APPS.len())
            .flat_map(|app| names().map(move |name| (app, name)))
            .map(|(app, name)| {
                let index = APPS[app].0;
                let found = apps.by_index(index).expect("one of the apps");
                let home = home(hasher.hash(index, name), shards);
                Channel::new(app, name, home, &found.settings, shards)
            })
            .collect();
        Self {
            channels,
            events: Vec::new(),
            terminating: HashMap::new(),
            deltas: 0,
            outcomes: HashMap::new(),
            answers: HashMap::new(),
            truths: Truths::new(),
            cache_ttl: settings.cache_ttl,
            counts: Counting::new(settings.counts),
            keys: Keys::new(hash_key[0]),
        }
    }

    /// The channel with this name in the app at place `app`.
    pub(super) fn channel(&self, app: usize, name: &str) -> usize {
        let at = self
            .channels
            .iter()
            .position(|c| c.app == app && c.name == name);
        at.unwrap_or_else(|| panic!("no channel {name}"))
    }

    /// The number of a new event for so many channels.
    pub(super) fn new_event(
        &mut self,
        name: &'static str,
        tags: Tags,
        wanted: usize,
        padding: usize,
    ) -> u64 {
        self.events.push(Event {
            name,
            padding,
            tags,
            delta: None,
            user: None,
            wanted,
            accepted: 0,
            refused: false,
        });
        (self.events.len() - 1) as u64
    }

    /// Whether an event has entered all the inboxes that it is for.
    pub(super) fn is_accepted(&self, event: u64) -> bool {
        let event = self.events[event as usize];
        event.accepted == event.wanted
    }

    /// An event will never be accepted.
    pub(super) fn refuse(&mut self, event: u64) {
        let event = &mut self.events[event as usize];
        assert_eq!(
            event.accepted, 0,
            "an event was refused after it was accepted"
        );
        event.refused = true;
    }

    /// A message enters an inbox.
    pub(super) fn on_accepted(&mut self, message: &ShardMessage) {
        if let ShardMessage::Publish(publish) = message {
            self.accept(text::number(text::payload(publish.frame.bytes())));
        }
        if !self.is_counted(message) {
            self.order(message);
        }
    }

    /// Whether a message is for a channel whose counts are told.
    fn is_counted(&self, message: &ShardMessage) -> bool {
        let (app, name) = match message {
            ShardMessage::Publish(publish) => (publish.app, &publish.channel),
            ShardMessage::Interest { channel, .. } => (channel.app, &channel.name),
            _ => return false,
        };
        self.channels[self.at(app, name)].counted
    }

    /// A message has its place in the order of its channel.
    fn order(&mut self, message: &ShardMessage) {
        let (ShardMessage::Interest { channel, .. }
        | ShardMessage::Join { channel, .. }
        | ShardMessage::Leave { channel, .. }) = message
        else {
            return self.apply(message);
        };
        let at = self.at(channel.app, &channel.name);
        let was_empty = self.channels[at].counts().subscriptions == 0;
        self.apply(message);
        let is_empty = self.channels[at].counts().subscriptions == 0;
        self.channels[at].life += u64::from(was_empty && !is_empty);
    }

    fn apply(&mut self, message: &ShardMessage) {
        match message {
            ShardMessage::Publish(publish) => self.on_publish(publish),
            ShardMessage::Interest {
                channel,
                source,
                subscribers,
                ask,
                ..
            } => {
                let at = self.at(channel.app, &channel.name);
                self.channels[at].told[usize::from(*source)] = *subscribers;
                if let Some(ticket) = ask {
                    let channel = &self.channels[at];
                    let succeeded = text::succeeded(channel.name);
                    self.expect(*ticket, Some(succeeded), channel.log.len());
                }
            }
            ShardMessage::Join {
                channel,
                ticket,
                member,
                ..
            } => {
                self.on_join(self.at(channel.app, &channel.name), *ticket, member);
            }
            ShardMessage::Leave {
                channel,
                session,
                subscription,
            } => {
                self.on_leave(self.at(channel.app, &channel.name), *session, *subscription);
            }
            _ => {}
        }
    }

    /// A table of apps enters an inbox: what comes behind it is judged by it.
    pub(super) fn on_apps_accepted(&mut self, home: usize, apps: &AppTable) {
        for channel in self.channels.iter_mut().filter(|c| c.home == home) {
            if let Some(app) = apps.by_index(APPS[channel.app].0) {
                channel.members_max = app.settings.presence_members_max as usize;
            }
        }
    }

    /// Every shard has another table, and nothing is under way: who is told counts.
    pub(super) fn recount(&mut self, apps: &AppTable) {
        for channel in &mut self.channels {
            if let Some(app) = apps.by_index(APPS[channel.app].0) {
                let before = channel.counted;
                channel.set_counted(&app.settings);
                channel.recounted |= channel.counted != before;
            }
        }
    }

    /// A home has taken a table of apps: what those that are none any more have cached is dropped.
    fn on_apps_taken(&mut self, home: usize, apps: &AppTable) {
        for channel in self.channels.iter_mut().filter(|c| c.home == home) {
            if !apps.is_live(APPS[channel.app].0) {
                channel.cached = None;
                channel.dropped = true;
            }
        }
    }

    fn on_publish(&mut self, publish: &Publish) {
        let at = self.at(publish.app, &publish.channel);
        let text = text::payload(publish.frame.bytes());
        let number = text::number(text);
        self.append(number, at, publish.except, publish.ask);
        let entry = self.channels[at].log.last();
        assert_eq!(entry.map(|entry| &*entry.text), Some(text));
    }

    /// An event has entered an inbox that it is for.
    pub(super) fn accept(&mut self, number: u64) {
        self.keys.on_accepted(number);
        let event = &mut self.events[number as usize];
        event.accepted += 1;
        assert!(
            !event.refused && event.accepted <= event.wanted,
            "accepted once: {event:?}"
        );
    }

    /// An event is the next one of a channel.
    pub(super) fn append(
        &mut self,
        number: u64,
        at: usize,
        except: Option<SocketId>,
        ask: Option<(ReplyTo, u32)>,
    ) {
        let event = self.events[number as usize];
        let channel = &mut self.channels[at];
        let data = text::data(number, event.padding);
        let text = text::event(event.name, channel.name, &data, event.user);
        let label = Some(event.label());
        let text = text.into();
        channel.log.push(Entry {
            text,
            except,
            label,
        });
        if let Some(ask) = ask {
            self.answers.insert(question(ask), channel.counts());
        }
    }

    fn on_join(&mut self, at: usize, ticket: Ticket, member: &Member) {
        let channel = &mut self.channels[at];
        let connection = (
            ticket.session,
            ticket.subscription,
            member.user_info.clone(),
        );
        let known = channel
            .roster
            .iter()
            .position(|user| user.id == member.user_id);
        match known {
            Some(user) => channel.roster[user].connections.push(connection),
            None if channel.roster.len() >= channel.members_max => {
                return self.expect(ticket, None, 0);
            }
            None => {
                let text = text::added(channel.name, &member.user_id, &member.user_info).into();
                channel.log.push(Entry::of_platform(text));
                channel.roster.push(User {
                    id: member.user_id.clone(),
                    connections: vec![connection],
                });
            }
        }
        let succeeded = text::roster(channel.name, &channel.roster);
        let from = channel.log.len();
        self.expect(ticket, Some(succeeded), from);
    }

    fn on_leave(&mut self, at: usize, session: SessionKey, subscription: u32) {
        let channel = &mut self.channels[at];
        let is_it = |c: &(SessionKey, u32, Box<str>)| (c.0, c.1) == (session, subscription);
        for user in &mut channel.roster {
            user.connections.retain(|connection| !is_it(connection));
        }
        let Some(gone) = channel
            .roster
            .iter()
            .position(|user| user.connections.is_empty())
        else {
            return;
        };
        let user = channel.roster.remove(gone);
        let text = text::removed(channel.name, &user.id).into();
        channel.log.push(Entry::of_platform(text));
    }

    fn expect(&mut self, ticket: Ticket, succeeded: Option<String>, from: usize) {
        let outcome = Outcome {
            succeeded,
            from,
            cache: None,
            count: None,
        };
        self.outcomes
            .insert((ticket.session, ticket.subscription), outcome);
    }

    /// A message leaves the inbox of its home at `now`, the home's time.
    pub(super) fn on_taken(&mut self, home: usize, message: &ShardMessage, now: Now) {
        if let ShardMessage::Interest {
            channel,
            source,
            subscribers,
            ..
        } = message
        {
            let at = self.at(channel.app, &channel.name);
            self.on_user_taken(at, usize::from(*source), *subscribers);
        }
        if self.is_counted(message) {
            self.order_counted(message, now);
        }
        let (channel, ticket) = match message {
            ShardMessage::Apps(apps) => return self.on_apps_taken(home, apps),
            ShardMessage::Ask { question, from } => {
                return self.on_ask_taken(home, question, *from, now);
            }
            ShardMessage::Publish(publish) if publish.cached => {
                let at = self.at(publish.app, &publish.channel);
                if self.channels[at].dropped {
                    return;
                }
                let number = text::number(text::payload(publish.frame.bytes()));
                return self.keep(at, number, now);
            }
            ShardMessage::Interest {
                channel,
                ask: Some(ticket),
                ..
            }
            | ShardMessage::Join {
                channel, ticket, ..
            } => (channel, ticket),
            _ => return,
        };
        let channel = &self.channels[self.at(channel.app, &channel.name)];
        if !channel.is_cache() {
            return;
        }
        let live = channel
            .cached
            .as_ref()
            .filter(|(_, expires)| *expires > now);
        let cache = live.map(|(kept, _)| kept.clone());
        let outcome = self
            .outcomes
            .get_mut(&(ticket.session, ticket.subscription));
        outcome.expect("what is taken was accepted").cache = Some(cache);
    }

    /// The same for a channel whose counts are told.
    fn order_counted(&mut self, message: &ShardMessage, now: Now) {
        let ShardMessage::Interest { channel, ask, .. } = message else {
            return self.order(message);
        };
        let at = self.at(channel.app, &channel.name);
        let before = self.channels[at].counts().subscriptions;
        self.order(message);
        let channel = &mut self.channels[at];
        let count = channel.counts().subscriptions;
        let told = (count != before).then(|| self.counts.on_change(at, channel, count, now));
        if let Some(ticket) = ask
            && let Some(outcome) = self
                .outcomes
                .get_mut(&(ticket.session, ticket.subscription))
        {
            outcome.from = channel.log.len();
            outcome.count = told.flatten();
        }
    }

    /// Shard `home` looks at its deadlines, at most so many.
    pub(super) fn on_deadlines(&mut self, home: usize, now: Now, budget: usize) {
        self.counts
            .end_windows(&mut self.channels, home, now, budget);
    }

    /// The home keeps an event.
    pub(super) fn keep(&mut self, at: usize, number: u64, now: Now) {
        let event = self.events[number as usize];
        let channel = &mut self.channels[at];
        let data = text::data(number, event.padding);
        let text = text::event(event.name, channel.name, &data, None).into();
        let kept = Kept {
            text,
            label: event.label(),
        };
        channel.cached = Some((kept, now.after(self.cache_ttl)));
    }

    /// How the subscribe number `subscription` of a session is answered.
    pub(super) fn outcome(&self, session: SessionKey, subscription: u32) -> &Outcome {
        self.outcomes
            .get(&(session, subscription))
            .unwrap_or_else(|| panic!("{session:?} was answered before it asked"))
    }

    /// The counts that belong into an answer.
    pub(super) fn answer(&mut self, to: ReplyTo, index: u32) -> Counts {
        let counts = self.answers.remove(&question((to, index)));
        counts.unwrap_or_else(|| panic!("an answer that nobody asked for: {to:?}"))
    }

    /// The channel with this name in the app of this index.
    pub(super) fn at(&self, app: u32, name: &str) -> usize {
        let app = APPS.iter().position(|&(index, ..)| index == app);
        self.channel(app.expect("one of the apps"), name)
    }
}

/// The connection that asks, and which part of its question.
fn question((to, index): (ReplyTo, u32)) -> (u16, u32, u32, u32) {
    (to.shard, to.slot, to.generation, index)
}
