//! A client: parses the bytes it gets and checks each against what the model says.
//!
//! Two views are kept apart. What the *server* has been made to do: the session's subscriptions,
//! changed when a message is handled. And what the *client* has been told: answers come in the
//! order of the messages that they answer (WebSocket spec 3.2), so whatever was handled waits in
//! `expected` until an answer shows that it has happened.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::app::AppSettings;
use crate::pusher::delta::Algorithm;
use crate::pusher::socket_id::SocketId;
use crate::shard::message::SessionKey;

use super::channel::{Entry, Kept, Label};
use super::deltas::{self, Decoded, Decoder, Wish};
use super::model::Model;
use super::sieve::Sieve;
use super::text;
use super::user::{Person, SignIn};

/// What a client says; the text itself is beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Ping,
    Pong,
    Subscribe {
        channel: usize,
        valid: bool,
        user: Option<&'static str>,
        sieve: Option<Rc<Sieve>>,
        wish: Option<Wish>,
    },
    EnableDeltas {
        algorithm: Option<Algorithm>,
    },
    Resync {
        channel: usize,
    },
    Unsubscribe {
        channel: usize,
    },
    Event {
        channel: usize,
        number: u64,
    },
    SignIn(Rc<SignIn>),
    /// A presence channel, as the user who is signed in.
    SubscribeSignedIn {
        channel: usize,
        valid: bool,
    },
    SubscribeUser {
        channel: usize,
    },
    UnsubscribeUser {
        channel: usize,
    },
    Nonsense,
}

/// What the client will see of a message that the server has handled.
#[derive(Debug)]
pub(super) enum Expect {
    Greeting,
    Pong,
    /// A plain subscribe, and the first entry of the log that may come.
    Succeeded {
        channel: usize,
        from: usize,
        sieve: Option<Rc<Sieve>>,
        wish: Option<Wish>,
    },
    /// A subscribe that asked its home.
    Asked {
        channel: usize,
        subscription: u32,
        sieve: Option<Rc<Sieve>>,
        wish: Option<Wish>,
    },
    /// The text of success, the first entry of the user's log that may come, and for each user on
    /// the list how many transitions the first frame has at least.
    SignedIn {
        channel: usize,
        from: usize,
        success: String,
        watch: Option<Vec<(usize, usize)>>,
    },
    /// A subscribe to the channel of the own user, which changes nothing.
    UserSubscribed {
        channel: usize,
    },
    /// The answer to a wish for deltas of the whole connection.
    DeltasConfirmed(Option<Algorithm>),
    Error(Option<u16>),
    SubscriptionError,
    /// No answer: an unsubscribe.
    Gone {
        channel: usize,
    },
    /// No answer: the client has said that it cannot apply what it got.
    Resynced {
        channel: usize,
    },
    /// No answer: a client event, which has been accepted.
    Published {
        number: u64,
    },
}

/// Where in a channel's log a subscription is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cursor {
    /// The next entry is this one.
    At(usize),
    /// The first entry is one of these: plain subscriptions may get what was under way, and must
    /// get all that came after their success (decisions 7).
    Between(usize, usize),
}

/// A subscription that a client has been told of.
#[derive(Debug)]
pub(super) struct Sub {
    pub(super) cursor: Cursor,
    /// What it lets through.
    sieve: Option<Rc<Sieve>>,
    /// Whether it may be sent deltas, now or once the connection has asked.
    may_have_deltas: bool,
    /// Whether an event has come in full since the last resync that the server has handled.
    pub(super) got_full: bool,
    /// Whether the next event must, because that resync is known to be handled.
    must_be_full: bool,
    decoder: Decoder,
}

impl Sub {
    /// One that lets everything through and never has deltas: the channel of a user.
    pub(super) fn plain(cursor: Cursor) -> Self {
        Self {
            may_have_deltas: false,
            ..Self::new(cursor, None, None)
        }
    }

    fn new(cursor: Cursor, sieve: Option<Rc<Sieve>>, wish: Option<Wish>) -> Self {
        Self {
            cursor,
            sieve,
            may_have_deltas: wish.is_none_or(|wish| wish.1 != Some(false)),
            got_full: false,
            must_be_full: false,
            decoder: Decoder::default(),
        }
    }

    /// The text of an event as this subscription gets it, if it does.
    fn sifted(&self, text: &Rc<str>, label: Label, shows_tags: bool) -> Option<Rc<str>> {
        let Some(sieve) = &self.sieve else {
            return Some(Rc::clone(text));
        };
        let passes = sieve.passes(label.name, label.tags);
        passes.then(|| match shows_tags {
            true => text::tagged(text, &label.tags.pairs()).into(),
            false => Rc::clone(text),
        })
    }

    /// The same of any entry of a log, for this client.
    fn sees(&self, entry: &Entry, id: Option<SocketId>, shows_tags: bool) -> Option<Rc<str>> {
        match entry.label {
            _ if entry.except.is_some() && entry.except == id => None,
            None => Some(Rc::clone(&entry.text)),
            Some(label) => self.sifted(&entry.text, label, shows_tags),
        }
    }
}

/// One WebSocket connection, from the visitor's side.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) rules: Rules,
    pub(super) app: usize,
    pub(super) shard: usize,
    /// Speaks the V2 protocol of Sockudo.
    pub(super) sockudo: bool,
    pub(super) key: Option<SessionKey>,
    pub(super) socket_id: Option<SocketId>,
    pub(super) expected: VecDeque<Expect>,
    /// Payloads of pings that have not been answered.
    pub(super) pongs: Vec<Vec<u8>>,
    /// What the client has been told it is subscribed to.
    pub(super) subs: BTreeMap<usize, Sub>,
    /// The texts that have to come next.
    pub(super) due: VecDeque<Rc<str>>,
    /// The last count that it was told of each channel.
    pub(super) counts: BTreeMap<usize, u32>,
    /// The algorithm of the connection, as the session has it.
    pub(super) delta: Option<Algorithm>,
    /// The same, as the client has been told.
    told_delta: Option<Algorithm>,
    /// What the session is subscribed to, and as whom.
    pub(super) session: BTreeMap<usize, Option<&'static str>>,
    /// Who it is signed in as.
    pub(super) person: Person,
    pub(super) pending: Option<(usize, Option<&'static str>)>,
    /// Tickets so far: of subscribes that have asked, and of watchlists.
    pub(super) asked: u32,
    /// The user who it wants to be, by place.
    pub(super) chosen: Option<usize>,
    /// What the client itself intends, by what it has sent.
    pub(super) wants: Vec<usize>,
    /// Says nothing more, and answers no ping.
    pub(super) mute: bool,
    /// The code of the Close that it has sent.
    pub(super) closing: Option<u16>,
    /// The code of the Close that it has got.
    pub(super) closed: Option<u16>,
    /// The reason in it.
    pub(super) reason: String,
}

impl Client {
    pub(super) fn new(app: usize, shard: usize, sockudo: bool, rules: Rules) -> Self {
        Self {
            rules,
            app,
            shard,
            sockudo,
            key: None,
            socket_id: None,
            expected: VecDeque::new(),
            pongs: Vec::new(),
            subs: BTreeMap::new(),
            due: VecDeque::new(),
            counts: BTreeMap::new(),
            delta: None,
            told_delta: None,
            session: BTreeMap::new(),
            person: Person::default(),
            pending: None,
            asked: 0,
            chosen: None,
            wants: Vec::new(),
            mute: false,
            closing: None,
            closed: None,
            reason: String::new(),
        }
    }

    /// A text from the server; the answer to it, if it wants one.
    pub(super) fn on_text(&mut self, text: &str, model: &mut Model) -> Option<Action> {
        let (event, channel) = text::head(text);
        if event == "pusher_internal:subscription_count" {
            let at = model.channel(self.app, channel.expect("counts are of a channel"));
            self.counts.insert(at, text::counted(text));
        }
        if let Some(due) = self.due.pop_front() {
            assert_eq!(text, &*due, "this text belongs directly behind the success");
            return None;
        }
        let decoded = channel.and_then(|name| self.decode(name, text, model));
        let text = decoded.as_deref().unwrap_or(text);
        match event {
            "pusher:delta_compression_enabled" => match self.answered(model) {
                Expect::DeltasConfirmed(algorithm) => {
                    assert_eq!(text, deltas::confirmation(None, algorithm));
                    self.told_delta = algorithm;
                }
                answered => panic!("{text} instead of {answered:?}"),
            },
            "pusher:connection_established" => self.on_greeting(text, model),
            "pusher:ping" => return (!self.mute).then_some(Action::Pong),
            "pusher:pong" => {
                let answered = self.answered(model);
                assert!(
                    matches!(answered, Expect::Pong),
                    "a pong instead of {answered:?}"
                );
            }
            "pusher:error" => self.on_error(text::error_code(text), model),
            "pusher:subscription_error" => {
                let answered = self.answered(model);
                assert!(
                    matches!(answered, Expect::SubscriptionError),
                    "{text}: {answered:?}"
                );
            }
            "pusher:signin_success" => self.on_signed_in(text, model),
            "pusher_internal:watchlist_events" => self.on_watchlist(text, model),
            "pusher_internal:subscription_succeeded" => self.on_succeeded(text, model),
            _ => {
                let channel = channel.unwrap_or_else(|| panic!("no channel: {text}"));
                self.on_channel_text(model.channel(self.app, channel), text, model);
            }
        }
        None
    }

    /// The message that is answered now. What was expected before it and has no answer has happened.
    pub(super) fn answered(&mut self, model: &Model) -> Expect {
        loop {
            match self
                .expected
                .pop_front()
                .expect("an answer that nothing asked for")
            {
                Expect::Gone { channel } => {
                    self.subs.remove(&channel);
                }
                // The first event behind it is full. None has been, so none has come yet.
                Expect::Resynced { channel } => {
                    if let Some(sub) = self.subs.get_mut(&channel) {
                        sub.must_be_full = !sub.got_full;
                    }
                }
                Expect::Published { number } => {
                    assert!(
                        model.is_accepted(number),
                        "answered before its event was accepted"
                    );
                }
                answered => return answered,
            }
        }
    }

    /// Everything has been answered: only what has no answer may be left.
    pub(super) fn settle(&mut self, model: &Model) {
        self.expected.push_back(Expect::Pong);
        let last = self.answered(model);
        assert!(
            matches!(last, Expect::Pong) && self.expected.is_empty(),
            "never answered: {last:?}"
        );
        assert!(self.due.is_empty() && self.pongs.is_empty(), "{self:?}");
    }

    fn on_greeting(&mut self, text: &str, model: &Model) {
        let answered = self.answered(model);
        assert!(
            matches!(answered, Expect::Greeting),
            "a greeting instead of {answered:?}"
        );
        let (_, rest) = text
            .split_once(r#"socket_id\":\""#)
            .expect("a greeting has an id");
        let (id, _) = rest.split_once('\\').expect("the id ends");
        self.socket_id = SocketId::parse(id).expect("an id").possible();
        assert!(self.socket_id.is_some(), "{text}");
    }

    fn on_error(&mut self, code: Option<u16>, model: &Model) {
        match self.answered(model) {
            Expect::Error(expected) => assert_eq!(code, expected),
            Expect::Asked { subscription, .. } => {
                let outcome = model.outcome(self.key.expect("it has asked"), subscription);
                assert!(
                    outcome.succeeded.is_none(),
                    "refused instead of {outcome:?}"
                );
                assert_eq!(code, Some(4100));
                if self.rules.subscription_errors {
                    self.expected.push_front(Expect::SubscriptionError);
                }
            }
            answered => panic!("error {code:?} instead of {answered:?}"),
        }
    }

    fn on_succeeded(&mut self, text: &str, model: &mut Model) {
        match self.answered(model) {
            Expect::Succeeded {
                channel,
                from,
                sieve,
                wish,
            } => {
                let name = model.channels[channel].name;
                assert_eq!(text, text::succeeded(name));
                self.due.extend(self.confirmed(name, wish));
                let end = model.channels[channel].log.len();
                let sub = Sub::new(Cursor::Between(from, end), sieve, wish);
                let before = self.subs.insert(channel, sub);
                assert!(before.is_none(), "subscribed twice: {text}");
            }
            Expect::Asked {
                channel,
                subscription,
                sieve,
                wish,
            } => {
                let outcome = model.outcome(self.key.expect("it has asked"), subscription);
                assert_eq!(Some(text), outcome.succeeded.as_deref());
                self.due
                    .extend(self.confirmed(model.channels[channel].name, wish));
                let sub = Sub::new(Cursor::At(outcome.from), sieve, wish);
                let due = outcome.cache.as_ref().map(|cache| {
                    let sifted = |kept: &Kept| {
                        sub.sifted(&kept.text, kept.label, self.rules.tags_in_messages)
                    };
                    let miss = || text::cache_miss(model.channels[channel].name).into();
                    cache.as_ref().and_then(sifted).unwrap_or_else(miss)
                });
                self.due.extend(due);
                self.due.extend(outcome.count.clone());
                let before = self.subs.insert(channel, sub);
                assert!(before.is_none(), "subscribed twice: {text}");
            }
            Expect::UserSubscribed { channel } => {
                assert_eq!(text, text::succeeded(model.channels[channel].name));
            }
            answered => panic!("{text} instead of {answered:?}"),
        }
    }

    /// What follows the success of a subscribe that wished for deltas.
    fn confirmed(&self, channel: &str, wish: Option<Wish>) -> Option<Rc<str>> {
        let asks = wish.is_some_and(|wish| wish.1 == Some(true));
        let settings = &self.rules.deltas;
        let algorithm = Wish::algorithm(wish, self.told_delta, settings, channel);
        asks.then(|| deltas::confirmation(Some(channel), algorithm).into())
    }

    /// A text of a channel as its publisher meant it, where it has a place in a stream. Who has not
    /// asked for deltas sees no trace of them.
    fn decode(&mut self, channel: &str, text: &str, model: &mut Model) -> Option<String> {
        let at = model.channel(self.app, channel);
        let Some(sub) = self.subs.get_mut(&at) else {
            assert!(
                !text.contains("delta_seq"),
                "not subscribed, yet got {text}"
            );
            return None;
        };
        let Decoded { text, is_delta } = sub.decoder.decode(text)?;
        assert!(
            sub.may_have_deltas && self.rules.deltas.delta_compression,
            "nobody has asked for deltas here: {text}"
        );
        assert!(
            !is_delta || !sub.must_be_full,
            "a delta instead of a full event: {text}"
        );
        sub.got_full |= !is_delta;
        sub.must_be_full &= is_delta;
        let event = &model.events[text::number(&text) as usize];
        assert!(!is_delta || event.delta != Some(false), "a delta of {text}");
        model.deltas += u64::from(is_delta);
        Some(text)
    }

    /// A text of a channel has to be the next one of its log.
    fn on_channel_text(&mut self, at: usize, text: &str, model: &mut Model) {
        let channel = &mut model.channels[at];
        let sub = self.subs.get(&at);
        let sub = sub.unwrap_or_else(|| panic!("not subscribed, yet got {text}"));
        let (id, shows_tags) = (self.socket_id, self.rules.tags_in_messages);
        let seen = |n: usize| sub.sees(&channel.log[n], id, shows_tags);
        let cursor = sub.cursor;
        let (first, last) = match cursor {
            Cursor::At(next) => (next, next),
            Cursor::Between(first, last) => (first, last),
        };
        // What is not for this client may lie before the first entry that it has to get.
        let end = (last..channel.log.len())
            .find(|&n| seen(n).is_some())
            .map_or(channel.log.len(), |n| n + 1);
        let found = (first..end).find(|&n| seen(n).as_deref() == Some(text));
        let found = found.unwrap_or_else(|| {
            let next: Vec<_> = channel.log[first..end].iter().rev().take(2).collect();
            panic!("got {text}\nat {cursor:?}, where the log ends in {next:?}")
        });
        if let Some(sub) = self.subs.get_mut(&at) {
            sub.cursor = Cursor::At(found + 1);
        }
        let seen = &mut channel.seen[self.shard];
        *seen = (*seen).max(found + 1);
    }

    /// Whether every entry that is for this client has come.
    pub(super) fn has_all(&self, at: usize, model: &Model) -> bool {
        self.has_until(at, model.channels[at].log.len(), model)
    }

    /// The same up to a place in the log.
    pub(super) fn has_until(&self, at: usize, until: usize, model: &Model) -> bool {
        let sub = &self.subs[&at];
        let next = match sub.cursor {
            Cursor::At(next) => next,
            Cursor::Between(_, last) => last,
        };
        let rest = &model.channels[at].log[next.min(until)..until];
        rest.iter()
            .all(|entry| sub.sees(entry, self.socket_id, false).is_none())
    }
}

/// Settings that decide what a client sees.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) subscription_errors: bool,
    pub(super) subscriptions_max: Option<u32>,
    /// Where watchlists are on.
    pub(super) watchlist_users_max: Option<usize>,
    pub(super) authorized_connections: bool,
    pub(super) tag_filtering: bool,
    pub(super) tags_in_messages: bool,
    pub(super) deltas: Rc<AppSettings>,
}
