//! Watchlists in the simulation: what a client was told of the users on its list.
//!
//! The model numbers the transitions of a user in the order in which the user's home takes them:
//! after an odd number the user is online. A first frame stands at one such number, not earlier than
//! what was under way when the sign-in was handled, not later than what the home had taken when the
//! frame came. Every later transition must come once: so at rest the number of those that came,
//! taken from all that there were, must be one at which the first frame may have stood.

use std::collections::BTreeMap;

use super::channel::Channel;
use super::client::{Client, Expect};
use super::model::Model;
use super::plan::APPS;
use super::text;
use super::world::World;

/// What a client knows of one user.
#[derive(Debug)]
struct Seen {
    /// Where the first frame stood, at least and at most.
    low: usize,
    high: usize,
    /// Transitions that have come since.
    changes: usize,
    is_online: bool,
}

/// What a client knows of its list.
#[derive(Debug)]
pub(super) struct Watch {
    /// Users, in the order of the list, and the transitions that the first frame has at least.
    list: Vec<(usize, usize)>,
    /// By user, once the first frame has come; at once where nobody is on the list.
    seen: Option<BTreeMap<usize, Seen>>,
}

impl Watch {
    pub(super) fn new(list: Vec<(usize, usize)>) -> Self {
        let seen = list.is_empty().then(BTreeMap::new);
        Self { list, seen }
    }

    fn first(&mut self, online: &[usize], text: &str, model: &Model) {
        let is_online = |&(user, _): &(usize, usize)| online.contains(&user);
        let (there, gone): (Vec<_>, Vec<_>) = self.list.iter().copied().partition(is_online);
        let names = |users: &[(usize, usize)]| -> Vec<&str> {
            users
                .iter()
                .map(|&(user, _)| model.channels[user].user_id())
                .collect()
        };
        assert_eq!(text, text::watchlist(&names(&there), &names(&gone)));
        let seen = self.list.iter().map(|&(user, low)| {
            let is_online = online.contains(&user);
            let stands = |number: &usize| (number % 2 == 1) == is_online;
            let mut numbers = (low..=model.channels[user].transitions).filter(stands);
            let low = numbers.next();
            let low = low.unwrap_or_else(|| panic!("{text}, though nobody was so since"));
            let seen = Seen {
                low,
                high: numbers.next_back().unwrap_or(low),
                changes: 0,
                is_online,
            };
            (user, seen)
        });
        self.seen = Some(seen.collect());
    }

    fn change(&mut self, user: usize, is_online: bool, text: &str, model: &Model) {
        let channel = &model.channels[user];
        assert_eq!(
            text,
            match is_online {
                true => text::watchlist(&[channel.user_id()], &[]),
                false => text::watchlist(&[], &[channel.user_id()]),
            }
        );
        // Others of the same user watch it, and this one may not have been told from the start.
        let Some(seen) = self.seen.as_mut().and_then(|seen| seen.get_mut(&user)) else {
            return;
        };
        assert_ne!(seen.is_online, is_online, "told twice: {text}");
        seen.is_online = is_online;
        seen.changes += 1;
        assert!(
            seen.low + seen.changes <= channel.transitions,
            "{text}: {seen:?}"
        );
    }

    /// Nothing moves: everything has come, once.
    fn check(&self, model: &Model) {
        let seen = self.seen.as_ref();
        for (&user, seen) in seen.expect("the first frame has come") {
            let transitions = model.channels[user].transitions;
            assert_eq!(
                seen.is_online,
                transitions % 2 == 1,
                "{}",
                model.channels[user].name
            );
            let stood = transitions - seen.changes;
            assert!(
                (seen.low..=seen.high).contains(&stood),
                "of {transitions} transitions of {}: {seen:?}",
                model.channels[user].name
            );
        }
    }
}

impl Client {
    /// A frame of the watchlist.
    pub(super) fn on_watchlist(&mut self, text: &str, model: &Model) {
        let (online, offline) = text::watched(text);
        let user = |id: &&str| {
            let is_it = |c: &Channel| c.app == self.app && c.user_id() == *id;
            model.channels.iter().position(is_it).expect("a user")
        };
        let online: Vec<usize> = online.iter().map(user).collect();
        let offline: Vec<usize> = offline.iter().map(user).collect();
        let watch = self.person.watch.as_mut();
        let watch = watch.unwrap_or_else(|| panic!("{text}, though nobody is watched"));
        if watch.seen.is_none() {
            let is_cut = matches!(self.expected.front(), Some(Expect::Error(Some(4302))));
            assert!(!is_cut, "told of the cut behind the first frame");
            return watch.first(&online, text, model);
        }
        let (user, is_online) = match (&online[..], &offline[..]) {
            (&[user], &[]) => (user, true),
            (&[], &[user]) => (user, false),
            _ => panic!("more than one transition: {text}"),
        };
        let watcher = self.person.channel.expect("only users watch");
        let is_watched = model.channels[user].watched_by.contains(&watcher);
        assert!(is_watched, "{text}, though nobody asked");
        watch.change(user, is_online, text, model);
    }

    /// Nothing moves: the client knows how everybody on its list is.
    pub(super) fn check_watch(&self, model: &Model) {
        if let Some(watch) = &self.person.watch {
            watch.check(model);
        }
    }
}

impl World {
    /// Nothing moves: homes know exactly who watches whom.
    pub(super) fn check_watchers(&self, lists: &BTreeMap<usize, Vec<usize>>) {
        for (at, channel) in self.model.channels.iter().enumerate() {
            let home = &self.nodes[channel.home].shard;
            let found = home.watchers(APPS[channel.app].0, channel.name);
            let watchers = lists.iter().filter(|(_, list)| list.contains(&at));
            let mut watchers: Vec<&str> = watchers
                .map(|(&watcher, _)| self.model.channels[watcher].name)
                .collect();
            watchers.sort_unstable();
            assert_eq!(found, watchers, "who watches {}", channel.name);
        }
    }
}
