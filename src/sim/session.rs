//! What the server has been made to do: the session behind a client, message by message, and what
//! the client will see of each. The answers themselves are checked in `client`, when they come.

use std::rc::Rc;

use super::client::{Action, Client, Expect};
use super::deltas::Wish;
use super::model::Model;
use super::sieve::Sieve;

impl Client {
    /// The server handles a message on an open session. `refused` says whether it counted a refused
    /// client event. Returns whether later messages have to wait.
    pub(super) fn on_handled(&mut self, action: &Action, refused: bool, model: &mut Model) -> bool {
        let mut is_event_refused = false;
        match *action {
            Action::Ping => self.expected.push_back(Expect::Pong),
            Action::Pong => {}
            Action::Nonsense => self.expected.push_back(Expect::Error(None)),
            Action::Subscribe {
                channel,
                valid,
                user,
                ref sieve,
                wish,
            } => {
                return self.on_subscribe(channel, valid, user, (sieve.clone(), wish), model);
            }
            Action::EnableDeltas { algorithm } => {
                let may = self.rules.deltas.delta_compression;
                if may {
                    self.delta = self.delta.or(algorithm);
                }
                self.expected.push_back(Expect::DeltasConfirmed(self.delta));
            }
            Action::Resync { channel } => {
                if self.session.contains_key(&channel) {
                    if let Some(sub) = self.subs.get_mut(&channel) {
                        sub.got_full = false;
                    }
                    self.expected.push_back(Expect::Resynced { channel });
                }
            }
            Action::Unsubscribe { channel } => {
                self.expected
                    .push_back(match self.session.remove(&channel) {
                        Some(_) => Expect::Gone { channel },
                        None => Expect::Error(None),
                    })
            }
            Action::SubscribeSignedIn { channel, valid } => {
                let user = self
                    .person
                    .channel
                    .map(|user| model.channels[user].user_id());
                return self.on_subscribe(
                    channel,
                    valid && user.is_some(),
                    user,
                    (None, None),
                    model,
                );
            }
            // What is under way decides too: see `on_sign_in`.
            Action::SignIn(_) => {}
            Action::SubscribeUser { channel } => self.on_subscribe_user(channel),
            Action::UnsubscribeUser { channel } => self.on_unsubscribe_user(channel),
            Action::Event { channel, number } => {
                let may = self.may_publish(channel, model);
                assert!(
                    may || refused,
                    "a client event was accepted that may not be sent"
                );
                model.events[number as usize].user = self.session.get(&channel).copied().flatten();
                is_event_refused = refused;
                if refused {
                    model.refuse(number);
                    self.expected.push_back(Expect::Error(Some(4301)));
                } else {
                    self.expected.push_back(Expect::Published { number });
                }
            }
        }
        assert_eq!(refused, is_event_refused);
        false
    }

    fn may_publish(&self, channel: usize, model: &Model) -> bool {
        self.app == 0 && model.channels[channel].needs_auth() && self.session.contains_key(&channel)
    }

    fn on_subscribe(
        &mut self,
        at: usize,
        valid: bool,
        user: Option<&'static str>,
        (sieve, wish): (Option<Rc<Sieve>>, Option<Wish>),
        model: &Model,
    ) -> bool {
        let channel = &model.channels[at];
        // A sign-in is none of the connection's subscriptions.
        let own = self.session.len() - usize::from(self.person.channel.is_some());
        let full = self
            .rules
            .subscriptions_max
            .is_some_and(|max| own >= max as usize);
        if self.session.contains_key(&at) {
            self.expected.push_back(Expect::Error(None));
            return false;
        }
        if channel.needs_auth() && !valid {
            self.refused(Some(4009));
            return false;
        }
        if sieve.is_some() && !self.rules.tag_filtering {
            self.refused(None);
            return false;
        }
        if full {
            self.refused(Some(4100));
            return false;
        }
        if channel.is_asked() {
            self.asked += 1;
            self.pending = Some((at, user));
            let subscription = self.asked;
            self.expected.push_back(Expect::Asked {
                channel: at,
                subscription,
                sieve,
                wish,
            });
            return true;
        }
        self.session.insert(at, user);
        self.person.is_authorised |= channel.needs_auth();
        let from = channel.seen[self.shard];
        self.expected.push_back(Expect::Succeeded {
            channel: at,
            from,
            sieve,
            wish,
        });
        false
    }

    pub(super) fn refused(&mut self, code: Option<u16>) {
        self.expected.push_back(Expect::Error(code));
        if self.rules.subscription_errors {
            self.expected.push_back(Expect::SubscriptionError);
        }
    }

    /// The pending subscribe has been answered: the session is subscribed, or was refused.
    pub(super) fn on_resumed(&mut self, model: &Model) {
        let (channel, user) = self
            .pending
            .take()
            .expect("resumed because something was pending");
        let outcome = model.outcome(self.key.expect("it has asked"), self.asked);
        if outcome.succeeded.is_some() {
            self.session.insert(channel, user);
            self.person.is_authorised |= model.channels[channel].needs_auth();
        }
    }
}
