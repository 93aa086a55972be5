//! A receiver of webhooks: believes what it is told, and holds it against the homes themselves.
//!
//! The truth is what a home has after each message: how many subscriptions, which users. What a
//! message has to report at once follows from it and from what was told before, in full. What a
//! home reports later has to be true then, not told yet, and old enough.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::app::AppTable;
use crate::app::webhook::Webhooks;
use crate::clock::Now;
use crate::pusher::webhook::{ClientEventSent, WebhookEvent, WebhookKind};
use crate::shard::message::{Origin, ShardMessage};
use crate::shard::webhook::Webhook;

use super::model::Model;
use super::plan::APPS;
use super::text;
use super::world::World;

/// Of a channel that is occupied, or a user who is a member.
#[derive(Debug, Default)]
struct Presence {
    here: bool,
    since: Now,
    /// What the receiver believes.
    told: bool,
}

impl Presence {
    /// Gives what is to be told at once: that it is here, or that it is not.
    fn change(&mut self, here: bool, now: Now, at_once: bool) -> Option<bool> {
        if here == self.here {
            return None;
        }
        (self.here, self.since) = (here, now);
        let tell = self.told != here && (here || at_once);
        tell.then(|| self.told = here).map(|()| here)
    }
}

/// A channel as the receiver sees it.
#[derive(Debug, Default)]
struct Known {
    occupied: Presence,
    users: BTreeMap<String, Presence>,
    /// When a miss was reported, unless something was cached since.
    missed: Option<Now>,
}

/// What the receiver needs to know of an app.
#[derive(Debug)]
struct Wishes {
    webhooks: Webhooks,
    delay: Duration,
    miss_window: Duration,
}

/// The back end of all apps.
#[derive(Debug)]
pub(super) struct Receiver {
    /// By the place of the channel in the model.
    channels: Vec<Known>,
    apps: Vec<Wishes>,
    /// By shard, events that came early for want of room.
    early: BTreeMap<usize, u64>,
}

/// What a home knows of a channel, and the counts that its subscribers were told.
#[derive(Debug)]
struct Truth {
    now: Now,
    draining: bool,
    count: u32,
    members: Vec<String>,
    told: Vec<(usize, u32)>,
}

/// What a message says, kept while the home takes it.
#[derive(Debug)]
pub(super) struct Noted {
    channel: usize,
    client_event: Option<ClientEventSent>,
    cached: bool,
    /// Somebody who asked finds nothing cached.
    missed: bool,
}

impl Receiver {
    pub(super) fn new(model: &Model, apps: &AppTable) -> Self {
        let apps = APPS.iter().map(|&(index, ..)| {
            let app = apps.by_index(index).expect("one of the apps");
            Wishes {
                webhooks: app.webhooks.clone(),
                delay: app.settings.webhook_delay,
                miss_window: app.settings.webhook_cache_miss_window,
            }
        });
        Self {
            channels: model.channels.iter().map(|_| Known::default()).collect(),
            apps: apps.collect(),
            early: BTreeMap::new(),
        }
    }

    /// A home is about to take a message, which the model has taken.
    pub(super) fn note(&self, message: &ShardMessage, model: &Model) -> Option<Noted> {
        let (app, name) = match message {
            ShardMessage::Publish(publish) => (publish.app, &publish.channel),
            ShardMessage::Interest { channel, .. }
            | ShardMessage::Join { channel, .. }
            | ShardMessage::Leave { channel, .. } => (channel.app, &channel.name),
            _ => return None,
        };
        // Nobody is told of users.
        if model.channels[model.at(app, name)].is_user() {
            return None;
        }
        let mut noted = Noted {
            channel: model.at(app, name),
            client_event: None,
            cached: false,
            missed: false,
        };
        match message {
            ShardMessage::Publish(publish) => {
                noted.cached = publish.cached && !model.channels[noted.channel].dropped;
                if let Origin::Client(_) = publish.origin {
                    let text = text::payload(publish.frame.bytes());
                    noted.client_event = Some(ClientEventSent {
                        event: text::head(text).0.into(),
                        data: text::unescaped(text::member(text, "data").expect("data")).into(),
                        socket_id: publish.except.expect("its sender does not get it"),
                        user_id: text::member(text, "user_id").map(Into::into),
                    });
                }
            }
            ShardMessage::Interest {
                ask: Some(ticket), ..
            }
            | ShardMessage::Join { ticket, .. } => {
                let outcome = model.outcome(ticket.session, ticket.subscription);
                noted.missed = outcome.succeeded.is_some() && matches!(outcome.cache, Some(None));
            }
            _ => {}
        }
        Some(noted)
    }

    /// All that was told as here was told as gone.
    pub(super) fn check_gone(&self) {
        for (at, known) in self.channels.iter().enumerate() {
            let mut all = known.users.values().chain([&known.occupied]);
            assert!(
                all.all(|one| !one.here && !one.told),
                "channel {at}: {known:?}"
            );
        }
    }
}

impl Known {
    /// What a message has to report, told what the home knows behind it.
    fn on_message(&mut self, noted: Noted, truth: Truth, wishes: &Wishes) -> Vec<WebhookEvent> {
        let Truth { now, count, .. } = truth;
        let wants = |kind| wishes.webhooks.wants(kind);
        let at_once = |kind| truth.draining || wishes.delay.is_zero() || !wants(kind);
        for member in &truth.members {
            self.users.entry(member.clone()).or_default();
        }
        let mut users = Vec::new();
        for (id, user) in &mut self.users {
            let is_here = truth.members.contains(id);
            let user_id = id.as_str().into();
            match user.change(is_here, now, at_once(WebhookKind::MemberRemoved)) {
                Some(true) => users.push(WebhookEvent::MemberAdded { user_id }),
                Some(false) => users.push(WebhookEvent::MemberRemoved { user_id }),
                None => {}
            }
        }
        // Who comes finds the channel occupied; who goes leaves it empty.
        let at_once = at_once(WebhookKind::ChannelVacated);
        let channel = self.occupied.change(count > 0, now, at_once);
        let mut events = Vec::new();
        events.extend((channel == Some(true)).then_some(WebhookEvent::ChannelOccupied));
        events.extend(users);
        events.extend((channel == Some(false)).then_some(WebhookEvent::ChannelVacated));
        let told = truth.told.into_iter();
        events.extend(told.map(|(_, count)| WebhookEvent::SubscriptionCount(count)));
        if noted.cached {
            self.missed = None;
        }
        let is_over = |missed: Now| missed.after(wishes.miss_window) <= now;
        if noted.missed && self.missed.is_none_or(is_over) {
            self.missed = Some(now);
            events.push(WebhookEvent::CacheMiss);
        }
        if let Some(sent) = noted.client_event
            && wants(WebhookKind::ClientEvent)
        {
            assert!(self.occupied.here, "{sent:?} before its sender was there");
            events.push(WebhookEvent::ClientEvent(Box::new(sent)));
        }
        events.retain(|event| wants(event.kind()));
        events
    }
}

impl World {
    /// What home `at` knows of a channel.
    fn truth(&mut self, at: usize, channel: usize) -> Truth {
        let shard = &self.nodes[at].shard;
        let channel = &self.model.channels[channel];
        let home = shard.home_channel(APPS[channel.app].0, channel.name);
        let members = home.into_iter().flat_map(|home| home.members());
        Truth {
            now: shard.now(),
            draining: shard.is_draining(),
            count: home.map_or(0, |home| home.counts().subscriptions),
            members: members
                .map(|member| String::from_utf8_lossy(member.id()).replace(r#"\""#, ""))
                .collect(),
            told: std::mem::take(&mut self.model.counts.told),
        }
    }

    /// Home `at` has taken a message: what it reports of it is exactly this.
    pub(super) fn receive(&mut self, at: usize, noted: Noted) {
        let (place, missed) = (noted.channel, noted.missed);
        let truth = self.truth(at, place);
        let (now, name) = (truth.now, self.model.channels[place].name);
        let receiver = &mut self.receiver;
        let wishes = &receiver.apps[self.model.channels[place].app];
        let known = &mut receiver.channels[place];
        let mut expected = known.on_message(noted, truth, wishes);
        let mut webhooks = Vec::new();
        self.nodes[at].shard.take_webhooks(&mut webhooks);
        if self.plan.off.is_some() {
            return;
        }
        let is_own = |webhook: &Webhook| *webhook.channel.name == *name;
        assert!(webhooks.iter().all(is_own), "{webhooks:?}");
        let events: Vec<WebhookEvent> = webhooks.into_iter().map(|one| one.event).collect();
        let has_ended_early = receiver.early.get(&at).is_some_and(|&early| early > 0);
        if missed && has_ended_early && !expected.contains(&WebhookEvent::CacheMiss) {
            // Perhaps the window was among what came early; then it has begun anew.
            if events.contains(&WebhookEvent::CacheMiss) {
                known.missed = Some(now);
                expected.push(WebhookEvent::CacheMiss);
            }
        }
        assert_eq!(events, expected, "{name}: {known:?}");
    }

    /// Home `at` has taken what is no back end's business.
    pub(super) fn receive_nothing(&mut self, at: usize) {
        let mut webhooks = Vec::new();
        self.nodes[at].shard.take_webhooks(&mut webhooks);
        assert!(
            self.plan.off.is_some() || webhooks.is_empty(),
            "{webhooks:?}"
        );
    }

    /// Home `at` has looked at its deadlines.
    pub(super) fn receive_later(&mut self, at: usize) {
        let (mut webhooks, mut counts) = (Vec::new(), Vec::new());
        let shard = &mut self.nodes[at].shard;
        shard.take_webhooks(&mut webhooks);
        let early = shard.counters.webhooks_early;
        let before = self.receiver.early.insert(at, early).unwrap_or(0);
        let mut early = early - before;
        let told = std::mem::take(&mut self.model.counts.told);
        if self.plan.off.is_some() {
            return;
        }
        let (now, draining) = (shard.now(), shard.is_draining());
        for Webhook { channel, event } in webhooks {
            let place = self.model.at(channel.app, &channel.name);
            let known = &mut self.receiver.channels[place];
            let delay = self.receiver.apps[self.model.channels[place].app].delay;
            let gone = match &event {
                WebhookEvent::ChannelVacated => &mut known.occupied,
                WebhookEvent::MemberRemoved { user_id } => known
                    .users
                    .get_mut(&**user_id)
                    .expect("who is removed was here"),
                WebhookEvent::SubscriptionCount(count) => {
                    counts.push((place, *count));
                    continue;
                }
                event => panic!("{event:?} is never reported later"),
            };
            assert!(!gone.here && gone.told, "{event:?}: {gone:?}");
            gone.told = false;
            if !draining && gone.since.after(delay) > now {
                assert!(early > 0, "{event:?} at {now:?}, too early: {gone:?}");
                early -= 1;
            }
        }
        let wants_count = |&(place, count): &(usize, u32)| {
            let wishes = &self.receiver.apps[self.model.channels[place].app];
            wishes
                .webhooks
                .wants(WebhookEvent::SubscriptionCount(count).kind())
        };
        let told: Vec<(usize, u32)> = told.into_iter().filter(wants_count).collect();
        assert_eq!(counts, told);
    }
}
