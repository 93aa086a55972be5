//! `UserHome`: what a user's home knows of watching, in both directions.
//!
//! As a watcher (`Watching`): the lists of the user's connections, their union, and what is known of
//! each user on it. As a target: which users watch this one. Sends nothing; `watch` does.
//!
//! A target that is new in the union is asked for under a *round*, and what is told under another
//! round is about an earlier time and ignored; so no change between two homes is missed, doubled or
//! taken for the answer (decisions 44). A list is *complete* once each of its users is known.
//!
//! Invariant: a target is in the union exactly while a list names it, and a list waits at a target
//! exactly while that target's answer has not come.

use std::collections::HashMap;
use std::iter;
use std::sync::Arc;

use crate::pusher::channel::USER_CHANNEL_PREFIX;
use crate::pusher::outbound;

use super::channel::ChannelKey;
use super::message::{Frame, SessionKey, Ticket};
use super::table::{ChannelTable, Keyed};

/// A user who watches this one.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) key: Arc<ChannelKey>,
    /// Under which its home has asked.
    pub(super) round: u32,
}

impl Keyed for Watcher {
    fn key(&self) -> &Arc<ChannelKey> {
        &self.key
    }
}

/// Watching, at the home of one user.
#[derive(Debug, Default)]
pub(super) struct UserHome {
    pub(super) watching: Watching,
    pub(super) watchers: ChannelTable<Watcher>,
}

impl UserHome {
    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty() && self.watching.lists.is_empty()
    }

    /// A user who does not watch this one watches it from now on.
    pub(super) fn add_watcher(&mut self, key: &Arc<ChannelKey>, round: u32) {
        let key = Arc::clone(key);
        self.watchers.insert(Watcher { key, round });
    }

    pub(super) fn remove_watcher(&mut self, key: &Arc<ChannelKey>) {
        if let Some(index) = self.watchers.find_key(key) {
            self.watchers.remove(index);
        }
    }
}

/// The list of one connection.
#[derive(Debug)]
struct List {
    ticket: Ticket,
    /// Indexes of targets, in the order in which the client gave them.
    targets: Vec<u32>,
    /// How many of them are not known yet.
    missing: usize,
}

/// A watched user.
#[derive(Debug)]
struct Target {
    key: Arc<ChannelKey>,
    round: u32,
    /// Lists that name it.
    lists: u32,
    /// `None` until its home has answered.
    is_online: Option<bool>,
    /// Sessions whose list waits for the answer.
    waiting: Vec<SessionKey>,
}

impl Keyed for Target {
    fn key(&self) -> &Arc<ChannelKey> {
        &self.key
    }
}

/// What a list that comes or goes changes in the union.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// To be asked for, under `round`.
    pub(super) added: Vec<Arc<ChannelKey>>,
    pub(super) round: u32,
    pub(super) removed: Vec<Arc<ChannelKey>>,
    /// Whether all of the list is known already.
    pub(super) is_complete: bool,
}

/// What word of a watched user means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is about an earlier time, or not new.
    Nothing,
    /// The user has come or gone.
    Changed,
    /// The answer to a question; the sessions whose lists are now complete.
    Answered(Vec<SessionKey>),
}

/// The lists of a user's connections and those on them.
#[derive(Debug, Default)]
pub(super) struct Watching {
    lists: HashMap<SessionKey, List>,
    targets: ChannelTable<Target>,
}

impl Watching {
    /// A connection has a list, instead of the one that it may have had. `keys` are distinct;
    /// `round` is given once by the home, whatever users it forgets meanwhile, or word of an earlier
    /// life of this user would answer for a later one.
    pub(super) fn set(&mut self, ticket: Ticket, keys: &[Arc<ChannelKey>], round: u32) -> Changes {
        let mut changes = Changes {
            round,
            ..Changes::default()
        };
        let before = self.lists.remove(&ticket.session);
        let mut list = List {
            ticket,
            targets: Vec::with_capacity(keys.len()),
            missing: 0,
        };
        for key in keys {
            let found = self.targets.find_key(key);
            let index = found.unwrap_or_else(|| {
                changes.added.push(Arc::clone(key));
                self.targets.insert(Target {
                    key: Arc::clone(key),
                    round,
                    lists: 0,
                    is_online: None,
                    waiting: Vec::new(),
                })
            });
            list.targets.push(index);
            if let Some(target) = self.targets.at(index) {
                target.lists += 1;
            }
        }
        // Only now, so that whom both lists name is not asked for again.
        changes.removed = before.map_or_else(Vec::new, |before| self.release(before));
        for &index in &list.targets {
            if let Some(target) = self.targets.at(index)
                && target.is_online.is_none()
            {
                target.waiting.push(ticket.session);
                list.missing += 1;
            }
        }
        changes.is_complete = list.missing == 0;
        self.lists.insert(ticket.session, list);
        changes
    }

    /// A connection has no list any more.
    pub(super) fn remove(&mut self, session: SessionKey) -> Changes {
        let before = self.lists.remove(&session);
        Changes {
            removed: before.map_or_else(Vec::new, |before| self.release(before)),
            ..Changes::default()
        }
    }

    /// Takes a list out of the union; returns whom nobody watches any more.
    fn release(&mut self, list: List) -> Vec<Arc<ChannelKey>> {
        let mut removed = Vec::new();
        for index in list.targets {
            let Some(target) = self.targets.at(index) else {
                continue;
            };
            target.lists -= 1;
            target
                .waiting
                .retain(|&waiting| waiting != list.ticket.session);
            if target.lists == 0 {
                removed.extend(self.targets.remove(index).map(|target| target.key));
            }
        }
        removed
    }

    /// The home of a watched user says whether they are there.
    pub(super) fn on_state(&mut self, key: &Arc<ChannelKey>, is_online: bool, round: u32) -> Heard {
        let index = self.targets.find_key(key);
        let target = index.and_then(|index| self.targets.at(index));
        let Some(target) = target.filter(|target| target.round == round) else {
            return Heard::Nothing;
        };
        match target.is_online.replace(is_online) {
            Some(before) if before == is_online => Heard::Nothing,
            Some(_) => Heard::Changed,
            None => {
                let mut waiting = std::mem::take(&mut target.waiting);
                waiting.retain(|session| {
                    let list = self.lists.get_mut(session);
                    list.is_some_and(|list| {
                        list.missing -= 1;
                        list.missing == 0
                    })
                });
                Heard::Answered(waiting)
            }
        }
    }

    /// The round under which a user is watched.
    #[cfg(test)]
    pub(super) fn round_of(&self, hash: u64, app: u32, name: &str) -> Option<u32> {
        let index = self.targets.find(hash, app, name)?;
        Some(self.targets.peek(index)?.round)
    }

    /// The number of a connection's list, and the frame that says what is known of it; no frame
    /// where nobody is on it.
    pub(super) fn state(&self, session: SessionKey) -> Option<(Ticket, Option<Arc<Frame>>)> {
        let list = self.lists.get(&session)?;
        let targets = list.targets.iter();
        let targets: Vec<&Target> = targets.filter_map(|&at| self.targets.peek(at)).collect();
        let of = |is_online| {
            let targets = targets.iter();
            let found = targets.filter(move |target| target.is_online == Some(is_online));
            found.map(|target| user_id(&target.key))
        };
        let frame = (!targets.is_empty())
            .then(|| Frame::text(|out| outbound::watchlist_events(out, of(true), of(false))));
        Some((list.ticket, frame))
    }
}

/// The frame that says that one user has come or gone.
pub(super) fn transition(key: &ChannelKey, is_online: bool) -> Arc<Frame> {
    let user = iter::once(user_id(key));
    Frame::text(|out| match is_online {
        true => outbound::watchlist_events(out, user, iter::empty()),
        false => outbound::watchlist_events(out, iter::empty(), user),
    })
}

/// The id in a user's key, which for watched ones may be any text.
fn user_id(key: &ChannelKey) -> &str {
    key.name
        .strip_prefix(USER_CHANNEL_PREFIX)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::channel::ChannelHasher;

    fn key(user: &str) -> Arc<ChannelKey> {
        let name = format!("{USER_CHANNEL_PREFIX}{user}").into_boxed_str();
        let hash = ChannelHasher::new([1, 2]).hash(0, &name);
        Arc::new(ChannelKey { hash, app: 0, name })
    }

    fn ticket(slot: u32, subscription: u32) -> Ticket {
        let session = SessionKey {
            node: 0,
            shard: 0,
            slot,
            generation: 1,
        };
        Ticket {
            session,
            subscription,
        }
    }

    fn names(keys: &[Arc<ChannelKey>]) -> Vec<&str> {
        keys.iter().map(|key| user_id(key)).collect()
    }

    fn set(watching: &mut Watching, ticket: Ticket, users: &[&str]) -> Changes {
        let keys: Vec<_> = users.iter().map(|user| key(user)).collect();
        // No two of a test have the same number.
        let round = ticket.session.slot * 100 + ticket.subscription;
        watching.set(ticket, &keys, round)
    }

    fn state(watching: &Watching, slot: u32) -> Option<String> {
        let (_, frame) = watching.state(ticket(slot, 0).session)?;
        Some(frame.map_or_else(String::new, |frame| {
            String::from_utf8_lossy(frame.payload()).replace('\\', "")
        }))
    }

    #[test]
    fn the_union_is_asked_for_once_and_given_up_with_the_last_list() {
        let mut watching = Watching::default();
        let first = set(&mut watching, ticket(1, 1), &["a", "b"]);
        assert_eq!(names(&first.added), ["a", "b"]);
        let second = set(&mut watching, ticket(2, 1), &["b", "c"]);
        assert_eq!(names(&second.added), ["c"]);
        assert_ne!(first.round, second.round);
        let third = set(&mut watching, ticket(1, 2), &["b", "d"]);
        assert_eq!(
            (names(&third.added), names(&third.removed)),
            (vec!["d"], vec!["a"])
        );
        let mut remove = |slot| watching.remove(ticket(slot, 0).session).removed;
        assert_eq!(names(&remove(1)), ["d"]);
        assert_eq!(names(&remove(2)), ["b", "c"]);
        assert!(remove(2).is_empty());
        assert!(watching.lists.is_empty() && watching.targets.is_empty());
    }

    #[test]
    fn a_list_is_complete_when_all_have_answered_and_changes_meanwhile_are_in_its_frame() {
        let mut watching = Watching::default();
        let round = set(&mut watching, ticket(1, 1), &["a", "b"]).round;
        assert_eq!(
            watching.on_state(&key("b"), true, round),
            Heard::Answered(vec![])
        );
        assert_eq!(watching.on_state(&key("b"), false, round), Heard::Changed);
        let complete = Heard::Answered(vec![ticket(1, 1).session]);
        assert_eq!(watching.on_state(&key("a"), true, round), complete);
        assert_eq!(
            state(&watching, 1).as_deref(),
            Some(
                r#"{"event":"pusher_internal:watchlist_events","data":"{"events":[{"name":"online","user_ids":["a"]},{"name":"offline","user_ids":["b"]}]}"}"#
            )
        );
        assert!(set(&mut watching, ticket(2, 1), &["b"]).is_complete);
        assert!(set(&mut watching, ticket(3, 1), &[]).is_complete);
        assert_eq!(state(&watching, 3).as_deref(), Some(""));
        assert_eq!(state(&watching, 4), None);
    }

    #[test]
    fn word_of_an_earlier_round_is_no_answer() {
        let mut watching = Watching::default();
        let earlier = set(&mut watching, ticket(1, 1), &["a"]).round;
        watching.remove(ticket(1, 1).session);
        let round = set(&mut watching, ticket(1, 2), &["a"]).round;
        assert_eq!(watching.on_state(&key("a"), true, earlier), Heard::Nothing);
        assert_eq!(watching.on_state(&key("z"), true, round), Heard::Nothing);
        let complete = Heard::Answered(vec![ticket(1, 2).session]);
        assert_eq!(watching.on_state(&key("a"), false, round), complete);
        assert_eq!(watching.on_state(&key("a"), false, round), Heard::Nothing);
    }

    #[test]
    fn a_list_that_is_replaced_or_gone_waits_nowhere() {
        let mut watching = Watching::default();
        let round = set(&mut watching, ticket(1, 1), &["a"]).round;
        set(&mut watching, ticket(2, 1), &["a"]);
        set(&mut watching, ticket(3, 1), &["a"]);
        assert!(set(&mut watching, ticket(1, 2), &[]).is_complete);
        watching.remove(ticket(2, 1).session);
        let complete = Heard::Answered(vec![ticket(3, 1).session]);
        assert_eq!(watching.on_state(&key("a"), true, round), complete);
        // The same users again: known, and nobody is asked.
        let again = set(&mut watching, ticket(3, 2), &["a"]);
        assert!(again.is_complete && again.added.is_empty() && again.removed.is_empty());
    }
}
