//! A channel as the model knows it: its log, its members, what its home was told.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::app::{AppSettings, SubscriptionCount};
use crate::clock::Now;
use crate::pusher::channel::USER_CHANNEL_PREFIX;
use crate::pusher::socket_id::SocketId;
use crate::shard::message::{Counts, SessionKey};

use super::sieve::Tags;

/// One text that a channel's subscribers get, except one of them.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) text: Rc<str>,
    pub(super) except: Option<SocketId>,
    /// What filters look at; `None` for what is never filtered.
    pub(super) label: Option<Label>,
}

impl Entry {
    /// Somebody has come or gone.
    pub(super) fn of_platform(text: Rc<str>) -> Self {
        Self {
            text,
            except: None,
            label: None,
        }
    }
}

/// Name and tags of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    pub(super) name: &'static str,
    pub(super) tags: Tags,
}

/// An event that a cache channel keeps.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) text: Rc<str>,
    pub(super) label: Label,
}

/// A member of a presence channel, with its connections in the order of joining.
#[derive(Debug)]
pub(super) struct User {
    pub(super) id: Box<str>,
    /// Who, which subscribe of theirs, and what they said of the user.
    pub(super) connections: Vec<(SessionKey, u32, Box<str>)>,
}

impl User {
    /// What the oldest live connection said.
    pub(super) fn info(&self) -> &str {
        &self.connections[0].2
    }
}

/// A channel of an app.
#[derive(Debug)]
pub(super) struct Channel {
    /// Place of the app in [`APPS`].
    pub(super) app: usize,
    pub(super) name: &'static str,
    pub(super) home: usize,
    pub(super) log: Vec<Entry>,
    pub(super) roster: Vec<User>,
    pub(super) members_max: usize,
    /// Whether subscribers are told how many they are: then all of it is written when the home
    /// takes it, since its clock decides which counts are told.
    pub(super) counted: bool,
    /// A reload has changed that: who was there before may never have been told.
    pub(super) recounted: bool,
    /// Subscriptions that the home was told of, by shard.
    pub(super) told: Vec<u32>,
    /// How often it has become occupied.
    pub(super) life: u64,
    /// The last event of the API that the home has taken, and when it expires.
    pub(super) cached: Option<(Kept, Now)>,
    /// Nothing is kept any more: the home knows that the app was removed.
    pub(super) dropped: bool,
    /// Of a user: entries that the log had at each termination.
    pub(super) terminations: Vec<usize>,
    /// Of a user: connections that the home has been told of, by shard, as it has taken them.
    pub(super) taken: Vec<u32>,
    /// Of a user: how often the first connection has come or the last has gone.
    pub(super) transitions: usize,
    /// Of a user: channels of the users who have ever watched it.
    pub(super) watched_by: BTreeSet<usize>,
    /// By shard, where in the log its clients are at least: nobody who comes later gets less.
    pub(super) seen: Vec<usize>,
}

impl Channel {
    pub(super) fn new(
        app: usize,
        name: &'static str,
        home: u16,
        settings: &AppSettings,
        shards: u16,
    ) -> Self {
        let members_max = settings.presence_members_max as usize;
        let mut channel = Self {
            app,
            name,
            home: usize::from(home),
            log: Vec::new(),
            roster: Vec::new(),
            members_max,
            counted: false,
            recounted: false,
            told: vec![0; usize::from(shards)],
            life: 0,
            cached: None,
            dropped: false,
            terminations: Vec::new(),
            taken: vec![0; usize::from(shards)],
            transitions: 0,
            watched_by: BTreeSet::new(),
            seen: vec![0; usize::from(shards)],
        };
        channel.set_counted(settings);
        channel
    }

    /// Whether the app's settings have counts told.
    pub(super) fn set_counted(&mut self, settings: &AppSettings) {
        let on = settings.subscription_count == SubscriptionCount::On;
        self.counted = on && !self.is_presence() && !self.is_user();
    }

    pub(super) fn is_user(&self) -> bool {
        self.name.starts_with(USER_CHANNEL_PREFIX)
    }

    /// The user whose channel it is; nobody's is nobody's.
    pub(super) fn user_id(&self) -> &'static str {
        self.name
            .strip_prefix(USER_CHANNEL_PREFIX)
            .unwrap_or_default()
    }

    pub(super) fn is_presence(&self) -> bool {
        self.name.starts_with("presence-")
    }

    pub(super) fn is_cache(&self) -> bool {
        self.name.contains("cache-")
    }

    pub(super) fn needs_auth(&self) -> bool {
        self.is_presence() || self.name.starts_with("private-")
    }

    /// Whether a subscribe has to ask the home (decisions 7).
    pub(super) fn is_asked(&self) -> bool {
        self.is_presence() || self.is_cache() || self.counted
    }

    pub(super) fn counts(&self) -> Counts {
        let connections = self.roster.iter().map(|user| user.connections.len() as u32);
        match self.is_presence() {
            true => Counts {
                subscriptions: connections.sum(),
                users: Some(self.roster.len() as u32),
            },
            false => Counts {
                subscriptions: self.told.iter().sum(),
                users: None,
            },
        }
    }
}
