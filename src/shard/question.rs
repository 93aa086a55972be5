//! Questions of HTTP requests to homes, and what a home answers (HTTP spec 6-8).
//!
//! A question enters the home's inbox like all that is addressed to a home, also from its own shard
//! (decisions 1): what was confirmed before it was asked is in the answer. It names channels; only
//! answers carry keys and values (decisions 16). Which request asked, and how the answer is shown,
//! is others' business.
//!
//! Invariant: answering one question is a bounded part of a turn. A count is O(1) in subscribers, a
//! page of a listing looks at a bounded number of channels, and what is walked counts among the
//! turn's expansions.

use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::channel::{ChannelKey, home};
use super::claims::{Claimed, ClaimedKey};
use super::message::{Counts, Frame, ReplyTo, ShardId, ShardMessage};

pub use super::homes::Place;

/// What a request wants to know of a home.
#[derive(Debug)]
pub struct Question {
    /// Which part of the request it is, for the answer to repeat.
    pub index: u32,
    pub app: u32,
    pub about: About,
}

/// The subject of a question.
#[derive(Debug)]
pub enum About {
    /// To the channel's home: its counts, and its cached event if `cache`.
    Channel {
        hash: u64,
        name: Box<str>,
        cache: bool,
    },
    /// To a presence channel's home: its users.
    Users {
        hash: u64,
        name: Box<str>,
        with_info: bool,
    },
    /// To the home of an idempotency key: whether the request is the first with it.
    Claim(ClaimedKey),
    /// To any shard: a page of the app's occupied channels at home there, from a place on.
    Listing {
        prefix: Arc<str>,
        from: Option<Place>,
    },
}

/// The answer to the part `index` of a request.
#[derive(Debug)]
pub struct Answer {
    pub index: u32,
    pub found: Found,
}

/// What a home found.
#[derive(Debug)]
pub enum Found {
    /// To a publish that asks for counts.
    Counts(Counts),
    /// To [`About::Channel`].
    Channel {
        counts: Counts,
        cached: Option<CachedEvent>,
    },
    /// To [`About::Users`], in the order of joining.
    Users(Vec<MemberUser>),
    /// To [`About::Claim`].
    Claim(Claimed),
    /// To [`About::Listing`].
    Page(Page),
}

/// The event that a cache channel keeps.
#[derive(Debug)]
pub struct CachedEvent {
    pub frame: Arc<Frame>,
    /// How long it will still be kept.
    pub left: Duration,
}

/// A user of a presence channel.
#[derive(Debug)]
pub struct MemberUser {
    pub id: Box<str>,
    /// JSON text, if it was asked for.
    pub info: Option<Box<str>>,
}

/// A part of a listing.
#[derive(Debug)]
pub struct Page {
    pub channels: Vec<(Arc<ChannelKey>, Counts)>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<Place>,
}

impl Shard {
    /// Asks a shard something for an HTTP connection, which has no other question unanswered. The
    /// answer comes out of [`Shard::take_answers`].
    pub fn on_ask(&mut self, target: ShardId, question: Question, from: ReplyTo) {
        let question = Box::new(question);
        self.send(target, ShardMessage::Ask { question, from }, true);
    }

    /// The home of a channel by its hash.
    pub fn home_of(&self, hash: u64) -> ShardId {
        home(hash, self.settings.shards)
    }

    /// Shards of the process: a listing asks every one.
    pub fn shards(&self) -> u16 {
        self.settings.shards
    }

    pub(super) fn on_ask_at_home(&mut self, question: Question, from: ReplyTo) {
        let Question { index, app, about } = question;
        let found = match about {
            About::Channel { hash, name, cache } => self.find_channel(app, hash, &name, cache),
            About::Users {
                hash,
                name,
                with_info,
            } => self.find_users(app, hash, &name, with_info),
            // While another holds the claim there is no answer.
            About::Claim(key) => return self.on_claim_at_home(app, key, (from, index)),
            About::Listing { prefix, from } => {
                let walk_max = self.settings.budgets.page.max(1);
                let (page, walked) = self.homes.page(app, &prefix, from, walk_max);
                self.expanded += walked;
                Found::Page(page)
            }
        };
        self.answer_question(from, index, found);
    }

    /// Answers a part of a request.
    pub(super) fn answer_question(&mut self, to: ReplyTo, index: u32, found: Found) {
        let answer = Box::new(Answer { index, found });
        self.tell(to.shard, ShardMessage::Answer { to, answer });
    }

    /// An answer has come back to the shard that asked. Writing it out is work, too.
    pub(super) fn on_answer(&mut self, to: ReplyTo, answer: Answer) {
        self.expanded += match &answer.found {
            Found::Page(page) => page.channels.len(),
            Found::Users(users) => users.len(),
            Found::Counts(_) | Found::Channel { .. } | Found::Claim(_) => 0,
        };
        self.answers.push((to, answer));
    }

    fn find_channel(&mut self, app: u32, hash: u64, name: &str, cache: bool) -> Found {
        // What an app that is going has cached is dropped, if not yet then soon.
        let cache = cache && self.apps.is_live(app);
        if cache {
            self.expire_cached();
        }
        let now = self.now;
        let channel = self.homes.peek(hash, app, name);
        Found::Channel {
            counts: channel.map(|channel| channel.counts()).unwrap_or_default(),
            cached: channel
                .filter(|_| cache)
                .and_then(|channel| channel.cached(now)),
        }
    }

    fn find_users(&mut self, app: u32, hash: u64, name: &str, with_info: bool) -> Found {
        let channel = self.homes.peek(hash, app, name);
        let roster = channel.and_then(|channel| channel.roster());
        let users: Vec<_> = roster
            .into_iter()
            .flat_map(|roster| roster.users_with_info())
            .map(|(id, info)| MemberUser {
                id: id.into(),
                info: with_info.then(|| info.into()),
            })
            .collect();
        self.expanded += users.len();
        Found::Users(users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::groups::Needs;
    use crate::shard::homes::{Homes, Source};

    fn key(app: u32, name: &str) -> Arc<ChannelKey> {
        Arc::new(ChannelKey {
            hash: 7,
            app,
            name: name.into(),
        })
    }

    fn occupy(homes: &mut Homes, key: &Arc<ChannelKey>, subscribers: u32) {
        let source = Source {
            shard: 0,
            count: subscribers,
            needs: Needs::default(),
            round: 1,
        };
        homes.set_source(key, source);
        homes.tidy(key);
    }

    fn names(page: &Page) -> Vec<(&str, u32)> {
        let named = page.channels.iter();
        named
            .map(|(key, counts)| (&*key.name, counts.subscriptions))
            .collect()
    }

    #[test]
    fn a_listing_has_the_occupied_channels_of_one_app_by_prefix() {
        let mut homes = Homes::default();
        for (app, name, subscribers) in [
            (1, "a-1", 2),
            (1, "b-1", 1),
            (1, "#server-to-user-u", 1),
            (1, "a-2", 3),
            (2, "a-3", 1),
        ] {
            occupy(&mut homes, &key(app, name), subscribers);
        }
        occupy(&mut homes, &key(1, "a-1"), 0);
        for (prefix, expected) in [
            ("", &[("b-1", 1), ("a-2", 3)][..]),
            ("a-", &[("a-2", 3)][..]),
            ("a-2", &[("a-2", 3)][..]),
            ("#", &[][..]),
            ("a-22", &[][..]),
        ] {
            let (page, walked) = homes.page(1, prefix, None, 4096);
            assert_eq!(
                (names(&page), page.next, walked),
                (expected.to_vec(), None, 4)
            );
        }
        assert_eq!(homes.page(9, "", None, 4096).1, 0);
    }

    #[test]
    fn a_channel_that_leaves_and_returns_during_a_listing_is_listed_once_at_most() {
        let mut homes = Homes::default();
        let keys: Vec<_> = (0..5).map(|nth| key(1, &format!("c{nth}"))).collect();
        for key in &keys {
            occupy(&mut homes, key, 1);
        }
        let (first, _) = homes.page(1, "", None, 2);
        assert_eq!(names(&first), [("c0", 1), ("c1", 1)]);
        // c0 gives its place to a newcomer and comes back behind; c3 is gone; c4 grows.
        occupy(&mut homes, &keys[0], 0);
        occupy(&mut homes, &key(1, "new"), 1);
        occupy(&mut homes, &keys[0], 1);
        occupy(&mut homes, &keys[3], 0);
        occupy(&mut homes, &keys[4], 9);
        let (second, _) = homes.page(1, "", first.next, 2);
        assert_eq!(names(&second), [("c2", 1)]);
        let (third, walked) = homes.page(1, "", second.next, 2);
        assert_eq!(
            (names(&third), third.next, walked),
            (vec![("c4", 9)], None, 1)
        );
    }
}
