//! Users: sign-in, the user's channel, and the end of all connections of a user.
//!
//! A user is a channel (decisions 43): the key of `#server-to-user-<id>`, with the same interest,
//! round, deliveries and exclusion as any other. Its entries are the *signed-in* connections, plain
//! ones. Subscribing to that name is a flag of the session, which decides what the client is
//! answered and nothing else; so an event is neither lost between the sign-in and the client's own
//! subscribe nor delivered twice after it.
//!
//! Invariant: a session has `User` in its `extra` exactly while its list of subscriptions has the
//! user's channel.

use std::borrow::Cow;
use std::sync::Arc;

use crate::pusher::channel::{ChannelName, UserId};
use crate::pusher::error::{CloseReason, Rejection};
use crate::pusher::inbound::SignIn;
use crate::pusher::outbound;
use crate::pusher::presence::{Member, MemberError, MemberLimits};
use crate::pusher::sign_in;
use crate::pusher::signature::Claim;

use super::Shard;
use super::channel::{ChannelKey, Entry, home};
use super::conns::Phase;
use super::homes::Source;
use super::message::ShardMessage;
use super::outbox::List;
use super::publish::Overloaded;
use super::session::{Terms, User};

impl Shard {
    /// `pusher:signin` (WebSocket spec 14).
    pub(super) fn sign_in(&mut self, slot: u32, sign_in: &SignIn<'_>) {
        if let Err(rejection) = self.try_sign_in(slot, sign_in) {
            self.counters.sign_ins_refused += 1;
            self.reject(slot, &rejection);
        }
    }

    fn try_sign_in<'a>(&mut self, slot: u32, sign_in: &'a SignIn<'_>) -> Result<(), Rejection<'a>> {
        let app = self.conns.session(slot).app;
        let app = self.app(app).cloned().ok_or(Rejection::SignInDisabled)?;
        if !app.settings.user_authentication {
            return Err(Rejection::SignInDisabled);
        }
        let user_data = &*sign_in.user_data;
        let claim = Claim::SignIn { user_data };
        self.verify(slot, &app, claim, Some(&sign_in.auth))
            .map_err(Rejection::SignInAuth)?;
        let user = sign_in::User::parse(user_data).map_err(|_| Rejection::SignInUser)?;
        let index = self.enter(slot, app.index, &user.id)?;
        let info_bytes_max = app.settings.presence_user_info_bytes_max as usize;
        let user_info = Some(user.user_info).filter(|info| info.len() <= info_bytes_max);
        let session = self.conns.session(slot);
        session.authorise_by = 0;
        let before = session.extra().user.take();
        let before = before.unwrap_or_else(|| User::new(index));
        session.extra().user = Some(User {
            user_info: user_info.map(Into::into),
            is_watching: false,
            ..before
        });
        self.answer(slot, |out| outbound::signin_success(out, user_data));
        self.settle(index);
        self.watch(slot, &app, &user);
        Ok(())
    }

    /// Puts a connection among those of the user; nothing to do where it is one already.
    fn enter(&mut self, slot: u32, app: u32, user_id: &str) -> Result<u32, Rejection<'static>> {
        let name = UserId::parse(user_id)
            .map_err(|_| Rejection::SignInUser)?
            .channel_name();
        let hash = self.hasher.hash(app, &name);
        let found = self.local.find(hash, app, &name);
        if let Some(user) = self.conns.session(slot).user() {
            let is_same = found == Some(user.channel);
            return is_same
                .then_some(user.channel)
                .ok_or(Rejection::SignInOtherUser);
        }
        if self.subscriptions >= self.settings.subscriptions_max {
            return Err(Rejection::SignInNoRoom);
        }
        let channel = ChannelName::parse(&name, usize::MAX).map_err(|_| Rejection::SignInUser)?;
        let index = found.unwrap_or_else(|| self.begin_channel(hash, app, channel));
        self.subscriptions += 1;
        self.counters.sign_ins += 1;
        self.commit(slot, index, None, Terms::default());
        Ok(index)
    }

    /// The user signed in on a connection, if this is the name of their channel.
    fn owner_of(&mut self, slot: u32, name: &str) -> Option<&mut User> {
        let user = self.conns.session(slot).user()?;
        let channel = self.local.peek(user.channel)?;
        if *channel.key.name != *name {
            return None;
        }
        self.conns.session(slot).user_mut()
    }

    /// A subscribe to the channel of a user: it must be the connection's own.
    pub(super) fn subscribe_to_user(&mut self, slot: u32, name: &str) {
        let Some(user) = self.owner_of(slot, name) else {
            let rejection = Rejection::ForeignUserChannel { channel: name };
            return self.refuse_subscription(slot, name, &rejection);
        };
        if std::mem::replace(&mut user.is_subscribed, true) {
            return self.reject(slot, &Rejection::AlreadySubscribed { channel: name });
        }
        self.answer(slot, |out| outbound::subscription_succeeded(out, name));
    }

    /// An unsubscribe from a reserved name: the user stays signed in (WebSocket spec 8).
    pub(super) fn unsubscribe_from_user(&mut self, slot: u32, name: &str) {
        let user = self.owner_of(slot, name);
        if !user.is_some_and(|user| std::mem::take(&mut user.is_subscribed)) {
            self.reject(slot, &Rejection::NotSubscribed { channel: name });
        }
    }

    /// The signed-in user as a member of a presence channel; `None` where nobody is signed in.
    pub(super) fn signed_in_member(
        &self,
        slot: u32,
        limits: MemberLimits,
    ) -> Option<Result<Member<'_>, MemberError>> {
        let user = self.conns.peek_session(slot)?.user()?;
        let channel = self.local.peek(user.channel)?;
        let name = ChannelName::parse(&channel.key.name, usize::MAX).ok()?;
        let user_id = Cow::Borrowed(name.user_id()?.as_str());
        let bytes_max = limits.user_info_bytes_max;
        Some(match &user.user_info {
            Some(user_info) => Member::new(user_id, user_info, limits),
            None => Err(MemberError::UserInfoTooLarge { bytes_max }),
        })
    }

    /// `terminate_connections` (HTTP spec 9). Admitted like a publish; the answer to the request
    /// must not leave before the message is in its inbox: see [`Shard::begin_serving`].
    pub fn on_terminate(&mut self, app: u32, user: UserId<'_>) -> Result<(), Overloaded> {
        let name = user.channel_name().into_boxed_str();
        let hash = self.hasher.hash(app, &name);
        let target = home(hash, self.settings.shards);
        if let Some(refusal) = self.refusal_of(target) {
            self.counters.publishes_refused[refusal as usize] += 1;
            return Err(Overloaded);
        }
        let user = Arc::new(ChannelKey { hash, app, name });
        self.send(target, ShardMessage::Terminate { user }, true);
        Ok(())
    }

    /// At the user's home: every shard with connections is told, behind what it was told to deliver
    /// before.
    pub(super) fn on_terminate_at_home(&mut self, key: &Arc<ChannelKey>) {
        let Some((_, channel)) = self.homes.find(key) else {
            return;
        };
        let key = Arc::clone(&channel.key);
        for Source { shard, round, .. } in channel.sources.clone() {
            let user = Arc::clone(&key);
            self.tell(shard, ShardMessage::CloseUser { user, round });
        }
    }

    /// The connections that are signed in now are to be closed, behind what has been delivered.
    pub(super) fn on_close_user(&mut self, key: &Arc<ChannelKey>, round: u32) {
        let Some(index) = self.local.find_key(key) else {
            return;
        };
        #[cfg(test)]
        let overtakes = self.mutations.close_before_events;
        #[cfg(not(test))]
        let overtakes = false;
        if !overtakes {
            self.expand_channel(index);
        }
        let Some(channel) = self.local.peek(index).filter(|c| c.round == round) else {
            return;
        };
        for Entry { slot, .. } in channel.entries() {
            // Once: however often the user is terminated, the list has each connection once.
            let user = self.conns.session(slot).user_mut();
            if user.is_some_and(|user| !std::mem::replace(&mut user.is_terminated, true)) {
                self.terminated.push_back(self.conns.key(slot));
            }
        }
    }

    /// Closes connections of terminated users within the turn's budget: a user may have many.
    pub(super) fn close_terminated(&mut self) {
        let due = self.settings.budgets.due.max(1).min(self.terminated.len());
        for key in self.terminated.drain(..due).collect::<Vec<_>>() {
            if self.conns.is_current(key) && self.conns.peek(key.slot).phase == Phase::Open {
                self.counters.terminated += 1;
                self.close_for_in(key.slot, List::Bulk, CloseReason::Terminated);
            }
        }
    }
}
