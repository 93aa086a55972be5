//! Questions over HTTP, and what the model expects of their answers: the truth at the moment at
//! which each entered the inbox of the home.
//!
//! A channel whose counts are told has its order from the moment at which its home takes a message;
//! what is asked of it is expected then, too. A list is several questions, each with a truth of its
//! own; of the whole list is asked that no channel is in it twice, and that every channel is in it
//! that was occupied from the first question to a home to the last.

use std::collections::{BTreeMap, HashMap};

use crate::clock::Now;
use crate::shard::message::{Counts, ReplyTo};
use crate::shard::question::{
    About, Answer, CachedEvent, Found, MemberUser, Page, Place, Question,
};

use super::keyed::Question as Asked;
use super::model::Model;
use super::plan::APPS;
use super::publish::{answer, reply_to};
use super::text;
use super::world::World;

/// Prefixes of lists.
pub(super) const PREFIXES: [&str; 4] = ["", "presence-", "private-", "no-such-"];

/// The words that stand for answers to questions.
pub(super) const FOUND: &str = "found";
pub(super) const NOT_FOUND: &str = "not-found";

/// What somebody asks over HTTP.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject {
    /// Counts, and with `true` the cached event.
    Channel(usize, bool),
    /// With `true` also what they said of themselves.
    Users(usize, bool),
    /// Of the app at a place, by prefix.
    Listing(usize, &'static str),
}

/// A question that is not answered to its end.
pub(super) struct Query {
    pub(super) number: u64,
    subject: Subject,
    /// Shards that have not given their last page, or the one home that has not answered.
    unanswered: usize,
    /// Channels of the list so far.
    listed: Vec<usize>,
    /// By shard, the channels that were occupied when it was first asked, with their lives.
    first: BTreeMap<u32, BTreeMap<usize, u64>>,
}

/// What is true of the part of a question when it enters its home's inbox.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Of every channel in question that is occupied: counts, and which life of it this is.
    channels: BTreeMap<usize, (Counts, u64)>,
    users: Vec<(Box<str>, Box<str>)>,
    /// Text and rest of its time in milliseconds.
    cached: Option<(Box<str>, u64)>,
}

/// Truths by asking connection and part.
pub(super) type Truths = HashMap<(u16, u32, u32, u32), Truth>;

impl Model {
    /// A question enters the inbox of `home`.
    pub(super) fn on_ask_accepted(&mut self, home: usize, question: &Question, from: ReplyTo) {
        if let About::Claim(_) = question.about {
            return;
        }
        let mut truth = Truth::default();
        for at in self.asked_about(home, question) {
            if !self.channels[at].counted {
                truth.see(self, at);
            }
            if let About::Users { .. } = question.about {
                let users = self.channels[at].roster.iter();
                truth.users = users
                    .map(|user| (user.id.clone(), user.info().into()))
                    .collect();
            }
        }
        self.truths.insert(part(from, question.index), truth);
    }

    /// The home takes it out.
    pub(super) fn on_ask_taken(
        &mut self,
        home: usize,
        question: &Question,
        from: ReplyTo,
        now: Now,
    ) {
        let key = part(from, question.index);
        let Some(mut truth) = self.truths.remove(&key) else {
            return;
        };
        for at in self.asked_about(home, question) {
            if self.channels[at].counted {
                truth.see(self, at);
            }
            let kept = self.channels[at].cached.as_ref();
            truth.cached = kept
                .filter(|(_, expires)| *expires > now)
                .map(|(kept, expires)| ((&*kept.text).into(), expires.0 - now.0));
        }
        self.truths.insert(key, truth);
    }

    /// Channels at home there that a question is about, occupied or not.
    fn asked_about(&self, home: usize, question: &Question) -> Vec<usize> {
        let app = APPS.iter().position(|&(index, ..)| index == question.app);
        let is_asked = |name: &str| match &question.about {
            About::Channel { name: asked, .. } | About::Users { name: asked, .. } => {
                **asked == *name
            }
            About::Claim(_) => false,
            // Users are not listed.
            About::Listing { prefix, .. } => name.starts_with(&**prefix) && !name.starts_with('#'),
        };
        let channels = self.channels.iter().enumerate();
        channels
            .filter(|(_, c)| Some(c.app) == app && c.home == home && is_asked(c.name))
            .map(|(at, _)| at)
            .collect()
    }
}

impl Truth {
    fn see(&mut self, model: &Model, at: usize) {
        let channel = &model.channels[at];
        let counts = channel.counts();
        if counts.subscriptions > 0 {
            self.channels.insert(at, (counts, channel.life));
        }
    }
}

impl World {
    /// A question: asked of the home, or of all shards.
    pub(super) fn query(&mut self, at: usize, slot: usize, number: u64, subject: Subject) {
        let (app, targets) = match subject {
            Subject::Channel(channel, _) | Subject::Users(channel, _) => {
                let channel = &self.model.channels[channel];
                (channel.app, channel.home..channel.home + 1)
            }
            Subject::Listing(app, _) => (app, 0..self.nodes.len()),
        };
        let node = &mut self.nodes[at];
        let Some(task) = node.tasks[slot].as_mut() else {
            return;
        };
        // As `api` finds it: neither removed nor switched off.
        let app = node.shard.apps().by_id(APPS[app].1);
        if app.is_none_or(|app| !app.settings.enabled) {
            return answer(node, slot, NOT_FOUND, number);
        }
        let to = reply_to(at, task.key);
        task.question = Some(Asked::Query(Query {
            number,
            subject,
            unanswered: targets.len(),
            listed: Vec::new(),
            first: BTreeMap::new(),
        }));
        for target in targets {
            self.ask(to, target as u16, subject, None);
        }
    }

    fn ask(&mut self, from: ReplyTo, target: u16, subject: Subject, place: Option<Place>) {
        let shard = &mut self.nodes[usize::from(from.shard)].shard;
        let named = |channel: usize| {
            let channel = &self.model.channels[channel];
            (APPS[channel.app].0, channel.name)
        };
        let (app, about) = match subject {
            Subject::Channel(channel, cache) => {
                let (app, name) = named(channel);
                let (hash, name) = (shard.hash(app, name), name.into());
                (app, About::Channel { hash, name, cache })
            }
            Subject::Users(channel, with_info) => {
                let (app, name) = named(channel);
                let (hash, name) = (shard.hash(app, name), name.into());
                let about = About::Users {
                    hash,
                    name,
                    with_info,
                };
                (app, about)
            }
            Subject::Listing(app, prefix) => {
                let (prefix, from) = (prefix.into(), place);
                (APPS[app].0, About::Listing { prefix, from })
            }
        };
        let index = target.into();
        shard.begin_serving(from.slot);
        shard.on_ask(target, Question { index, app, about }, from);
        shard.end_serving();
    }

    /// A part of a question has been answered: is it true, and is there more to ask?
    pub(super) fn on_found(&mut self, to: ReplyTo, found: Answer) {
        let Answer { index, found } = found;
        let truth = self.model.truths.remove(&part(to, index));
        let truth = truth.unwrap_or_else(|| panic!("an answer that nobody asked for: {to:?}"));
        let task = self.nodes[usize::from(to.shard)].tasks[to.slot as usize].as_mut();
        let task = task.filter(|task| task.key.generation == to.generation);
        let Some(Asked::Query(query)) = task.and_then(|task| task.question.as_mut()) else {
            return;
        };
        let subject = query.subject;
        match (subject, found) {
            (Subject::Channel(at, with_cached), Found::Channel { counts, cached }) => {
                truth.check_counts(at, counts);
                truth.check_cached(cached.as_ref(), with_cached);
            }
            (Subject::Users(_, with_info), Found::Users(users)) => {
                truth.check_users(&users, with_info);
            }
            (Subject::Listing(..), Found::Page(page)) => {
                query.check_page(&self.model, index, &page, &truth);
                if let Some(place) = page.next {
                    return self.ask(to, index as u16, subject, Some(place));
                }
            }
            (_, found) => panic!("{subject:?} is no question for {found:?}"),
        }
        query.unanswered -= 1;
        if query.unanswered == 0 {
            let number = query.number;
            let node = &mut self.nodes[usize::from(to.shard)];
            if let Some(task) = node.tasks[to.slot as usize].as_mut() {
                task.question = None;
            }
            answer(node, to.slot as usize, FOUND, number);
        }
    }
}

impl Query {
    /// A page is a part of what was true when it was asked for; the last one completes its shard.
    fn check_page(&mut self, model: &Model, shard: u32, page: &Page, truth: &Truth) {
        for (key, counts) in &page.channels {
            let at = model.at(key.app, &key.name);
            truth.check_counts(at, *counts);
            assert!(counts.subscriptions > 0, "nobody is on {}", key.name);
            assert!(!self.listed.contains(&at), "{} is listed twice", key.name);
            self.listed.push(at);
        }
        let lives = truth.channels.iter().map(|(&at, &(_, life))| (at, life));
        let first = self
            .first
            .entry(shard)
            .or_insert_with(|| lives.clone().collect());
        if page.next.is_some() {
            return;
        }
        for (at, life) in lives {
            let all_the_while = first.get(&at) == Some(&life);
            let name = model.channels[at].name;
            assert!(
                !all_the_while || self.listed.contains(&at),
                "{name} is not listed"
            );
        }
    }
}

impl Truth {
    fn check_counts(&self, at: usize, found: Counts) {
        let (counts, _) = self.channels.get(&at).copied().unwrap_or_default();
        assert_eq!(
            (found.subscriptions, found.users.unwrap_or(0)),
            (counts.subscriptions, counts.users.unwrap_or(0))
        );
    }

    fn check_cached(&self, found: Option<&CachedEvent>, was_asked: bool) {
        let expected = self.cached.as_ref().filter(|_| was_asked);
        let found = found.map(|cached| {
            let text = text::payload(cached.frame.bytes());
            (text.into(), cached.left.as_millis() as u64)
        });
        assert_eq!(found.as_ref(), expected);
    }

    fn check_users(&self, found: &[MemberUser], with_info: bool) {
        let found = found.iter().map(|user| (&*user.id, user.info.as_deref()));
        let expected = self.users.iter();
        let expected = expected.map(|(id, info)| (&**id, with_info.then_some(&**info)));
        assert!(
            found.clone().eq(expected.clone()),
            "{:?}",
            found.zip(expected).collect::<Vec<_>>()
        );
    }
}

/// The asking connection, and which part of its question.
fn part(to: ReplyTo, index: u32) -> (u16, u32, u32, u32) {
    (to.shard, to.slot, to.generation, index)
}
