//! Users in the simulation: who a client is, in both views, and the requests that end all
//! connections of a user.
//!
//! A user's channel is a channel of the model like any other, and a sign-in a plain subscription to
//! it; what differs is here. A termination is a place in the order of that channel: who has been
//! told of its sign-in before must be closed, behind what the log has up to there.

use std::collections::VecDeque;

use crate::pusher::channel::{USER_CHANNEL_PREFIX, UserId};
use crate::shard::channel::ChannelKey;
use crate::shard::message::ShardMessage;

use super::channel::Channel;
use super::client::{Client, Cursor, Expect, Sub};
use super::model::Model;
use super::plan::APPS;
use super::publish::answer;
use super::watch::Watch;
use super::world::World;

/// The name of events that stand for terminations.
pub(super) const TERMINATION: &str = "terminate";

const TERMINATED: &str = "You got disconnected by the app.";
const NOT_AUTHORISED: &str = "Connection not authorized within timeout.";

/// A sign-in that a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignIn {
    /// The user's channel.
    pub(super) channel: usize,
    pub(super) valid: bool,
    /// The channels of the watched, distinct and not too many.
    pub(super) list: Vec<usize>,
    /// There were too many.
    pub(super) is_cut: bool,
    /// The text of the success.
    pub(super) success: String,
}

/// What is under way when a sign-in is handled.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// By the place in the list: transitions that the home of the watcher knows of, or will.
    known: Vec<usize>,
    /// Terminations that may concern it are not over.
    is_terminating: bool,
}

/// The user that a client is.
#[derive(Debug, Default)]
pub(super) struct Person {
    /// The channel of the user that the session is signed in as.
    pub(super) channel: Option<usize>,
    is_subscribed: bool,
    /// The session has shown who it is, somehow (14.1).
    pub(super) is_authorised: bool,
    /// Terminations of the user that are over for this session; `None` if that cannot be known.
    handled: Option<usize>,
    /// Terminations accepted before the client was told that it is signed in.
    told: Option<usize>,
    /// Whom the session watches.
    pub(super) list: Vec<usize>,
    /// What the client knows of them.
    pub(super) watch: Option<Watch>,
}

impl Client {
    /// The server handles a sign-in.
    pub(super) fn on_sign_in(&mut self, sign_in: &SignIn, sight: &Sight, model: &mut Model) {
        let channel = sign_in.channel;
        let is_other = self.person.channel.is_some_and(|signed| signed != channel);
        if !sign_in.valid || is_other {
            return self.expected.push_back(Expect::Error(Some(4009)));
        }
        let person = &mut self.person;
        if person.channel.is_none() {
            let accepted = model.channels[channel].terminations.len();
            person.handled = (!sight.is_terminating).then_some(accepted);
        }
        person.channel = Some(channel);
        person.is_authorised = true;
        self.session.insert(channel, None);
        let watches = self.rules.watchlist_users_max.is_some();
        person.list = if watches {
            sign_in.list.clone()
        } else {
            Vec::new()
        };
        for &watched in &person.list {
            model.channels[watched].watched_by.insert(channel);
        }
        // A list has a ticket as a subscribe that asks has.
        self.asked += u32::from(watches);
        let list = person.list.iter().copied().zip(sight.known.iter().copied());
        self.expected.push_back(Expect::SignedIn {
            channel,
            from: model.channels[channel].seen[self.shard],
            success: sign_in.success.clone(),
            watch: watches.then(|| list.collect()),
        });
        if watches && sign_in.is_cut {
            self.expected.push_back(Expect::Error(Some(4302)));
        }
    }

    /// The server handles a subscribe to the channel of a user.
    pub(super) fn on_subscribe_user(&mut self, channel: usize) {
        if self.person.channel != Some(channel) {
            return self.refused(Some(4009));
        }
        let is_subscribed = std::mem::replace(&mut self.person.is_subscribed, true);
        self.expected.push_back(match is_subscribed {
            true => Expect::Error(None),
            false => Expect::UserSubscribed { channel },
        });
    }

    /// The server handles an unsubscribe from the channel of a user.
    pub(super) fn on_unsubscribe_user(&mut self, channel: usize) {
        let is_own = self.person.channel == Some(channel);
        if !is_own || !std::mem::take(&mut self.person.is_subscribed) {
            self.expected.push_back(Expect::Error(None));
        }
    }

    /// The client is told that it is signed in.
    pub(super) fn on_signed_in(&mut self, text: &str, model: &Model) {
        let Expect::SignedIn {
            channel,
            from,
            success,
            watch,
        } = self.answered(model)
        else {
            panic!("{text}, though nobody signed in")
        };
        assert_eq!(text, success);
        let found = &model.channels[channel];
        let cursor = Cursor::Between(from, found.log.len());
        self.subs
            .entry(channel)
            .or_insert_with(|| Sub::plain(cursor));
        self.person.told.get_or_insert(found.terminations.len());
        self.person.watch = watch.map(Watch::new);
    }

    /// Nobody who was signed in when the user was terminated is still here.
    pub(super) fn check_terminated(&self, model: &Model) {
        if let (Some(channel), Some(told)) = (self.person.channel, self.person.told) {
            let accepted = model.channels[channel].terminations.len();
            assert_eq!(accepted, told, "still here after its user was terminated");
        }
    }

    /// The client was closed with 4009.
    pub(super) fn check_unauthorised(&self, never_refused: bool, model: &Model) {
        if self.reason == NOT_AUTHORISED {
            return assert!(!self.person.is_authorised, "it had authorised itself");
        }
        assert_eq!(self.reason, TERMINATED);
        let channel = self.person.channel.expect("nobody else is terminated");
        let terminations = &model.channels[channel].terminations;
        let Some(handled) = self.person.handled else {
            return;
        };
        assert!(terminations.len() > handled, "terminated by nobody");
        // Whom the kernel refused loses what was queued.
        if self.person.told == Some(handled) && never_refused {
            let until = terminations[handled];
            assert!(
                self.has_until(channel, until, model),
                "closed before an event that came before"
            );
        }
    }
}

impl World {
    /// What is under way for somebody who is about to sign in.
    pub(super) fn sight(&self, sign_in: &SignIn) -> Sight {
        let mut sight = Sight::default();
        let is_it = |key: &ChannelKey, channel| self.model.at(key.app, &key.name) == channel;
        let watcher_at = &self.model.channels[sign_in.channel];
        let home = &self.nodes[watcher_at.home].shard;
        for &watched in &sign_in.list {
            let name = self.model.channels[watched].name;
            // Who is not watched yet will be asked for, and word of an earlier round is no answer.
            let asked = home.watch_round(APPS[watcher_at.app].0, watcher_at.name, name);
            let told = self.count_messages(|message| match message {
                ShardMessage::Online {
                    watcher,
                    states,
                    round,
                } if is_it(watcher, sign_in.channel) && asked == Some(*round) => {
                    states.iter().filter(|(key, _)| is_it(key, watched)).count()
                }
                _ => 0,
            });
            let transitions = self.model.channels[watched].transitions;
            sight.known.push(transitions.saturating_sub(told));
        }
        let terminations = self.count_messages(|message| match message {
            ShardMessage::Terminate { user } | ShardMessage::CloseUser { user, .. } => {
                usize::from(is_it(user, sign_in.channel))
            }
            _ => 0,
        });
        sight.is_terminating = terminations > 0;
        sight
    }

    /// Counts among all messages that are under way.
    fn count_messages(&self, count: impl Fn(&ShardMessage) -> usize) -> usize {
        let inboxes = self.mesh.inboxes.iter().flatten();
        let outgoing = self
            .nodes
            .iter()
            .flat_map(|node| node.shard.queued_messages());
        inboxes.chain(outgoing).map(count).sum()
    }

    /// A request to end all connections of a user: accepted or refused at once.
    pub(super) fn terminate(&mut self, at: usize, slot: usize, number: u64, channel: usize) {
        let Channel { app, name, .. } = self.model.channels[channel];
        let node = &mut self.nodes[at];
        let (index, key, _) = APPS[app];
        let found = node.shard.apps().by_id(key);
        if found.is_none_or(|app| !app.settings.enabled) {
            self.model.refuse(number);
            return answer(node, slot, "404", number);
        }
        let id = name
            .strip_prefix(USER_CHANNEL_PREFIX)
            .expect("a user's channel");
        let user = UserId::parse(id).expect("the id of a user");
        node.shard.begin_serving(slot as u32);
        if node.shard.on_terminate(index, user).is_ok() {
            self.model
                .terminating
                .entry((at, channel))
                .or_default()
                .push_back(number);
            answer(node, slot, "200", number);
        } else {
            self.model.refuse(number);
            answer(node, slot, "503", number);
        }
        self.nodes[at].shard.end_serving();
    }
}

impl Model {
    /// The termination of a user, which shard `from` was asked for, enters the inbox of its home.
    pub(super) fn on_terminate(&mut self, from: usize, user: &ChannelKey) {
        let at = self.at(user.app, &user.name);
        let waiting = self.terminating.get_mut(&(from, at));
        let number = waiting.and_then(VecDeque::pop_front);
        self.accept(number.expect("somebody has asked for it"));
        let channel = &mut self.channels[at];
        channel.terminations.push(channel.log.len());
    }

    /// A watchlist, which shard `from` has sent, enters the inbox of its user's home: behind the
    /// count that says that the shard has the user, or changes might be told to nobody there.
    pub(super) fn on_watch_list(&self, from: usize, user: &ChannelKey) {
        let channel = &self.channels[self.at(user.app, &user.name)];
        assert!(channel.told[from] > 0, "{} watches from nowhere", user.name);
    }

    /// The home of a user learns how many connections a shard has.
    pub(super) fn on_user_taken(&mut self, at: usize, source: usize, subscribers: u32) {
        let channel = &mut self.channels[at];
        let before = channel.taken.iter().any(|&count| count > 0);
        channel.taken[source] = subscribers;
        let after = channel.taken.iter().any(|&count| count > 0);
        channel.transitions += usize::from(before != after);
    }
}
