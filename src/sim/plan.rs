//! What is decided before the first step: which run this is, and what its seed makes of the server.

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use url::Url;

use crate::app::webhook::{Endpoint, EndpointSettings, WebhookKind, WebhookKinds};
use crate::app::{App, AppKey, AppSettings, AppTable, SubscriptionCount, Webhooks};
use crate::seed::Seed;
use crate::shard::bounds::OutboxLimits;
use crate::shard::counts::CountPace;
use crate::shard::{Budgets, Mutations, Probe, Settings};

use super::deltas;

/// Channels of each app.
pub(super) const NAMES: [&str; 6] = [
    "news",
    "private-room",
    "cache-price",
    "private-cache-price",
    "presence-lobby",
    "presence-cache-lobby",
];

/// Channels of the users of each app.
pub(super) const USER_NAMES: [&str; 4] = [
    "#server-to-user-u1",
    "#server-to-user-u2",
    "#server-to-user-u3",
    "#server-to-user-u4",
];

/// Channels of each app in the model: those above, in this order.
const CHANNELS_PER_APP: usize = NAMES.len() + USER_NAMES.len();

/// Users of a watchlist of the first app: few, so that lists are often too long.
pub(super) const WATCHLIST_USERS_MAX: u32 = 2;

/// Key and secret of each app, and its index.
pub(super) const APPS: [(u32, &str, &str); 2] =
    [(0, "key-a", "secret-a"), (3, "key-b", "secret-b")];

/// Distinct users of a presence channel of the first app: few, so that it is often full.
pub(super) const MEMBERS_MAX: u32 = 2;

/// A rule of decisions that a run may switch off, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// 1: everything addressed to a home goes through its inbox.
    OwnInbox,
    /// 2: what a home says to its own shard is applied in place.
    InPlace,
    /// 3: nothing overtakes within a list.
    Fifo,
    /// 4: carry before flush, and fences.
    Fence,
    /// 5: expand before the list changes.
    ExpandFirst,
    /// 6: announce before the answer.
    AnnounceFirst,
    /// 11: only the very subscribe that asked is committed.
    Ticket,
    /// 14: the descriptor is closed last.
    CloseLast,
    /// 17: an earlier life's deliveries are ignored.
    Round,
    /// Extensions spec 3.3: a delta only to those who have its base.
    Base,
    /// Extensions spec 3.2: whoever is left out of an event has it not as a base.
    Excluded,
    /// Extensions spec 3.3: behind a resync the full form.
    Resync,
    /// Extensions spec 3.3: to a newcomer the full form.
    Newcomer,
    /// 21: nothing inside a begun frame.
    BegunFrame,
    /// 43: a user is closed behind earlier events.
    EventsFirst,
    /// 44: word of an earlier round is no answer.
    WatchRound,
    /// 44: changes only behind the first frame.
    FirstFrame,
    /// 44: the count before the list.
    CountFirst,
}

impl Rule {
    /// The switch inside the shard; the rules of the carrier and the kernel have none there.
    pub(super) fn switch(self) -> Mutations {
        let mut mutations = Mutations::default();
        match self {
            Self::OwnInbox => mutations.skip_own_inbox = true,
            Self::InPlace => mutations.enqueue_joined = true,
            Self::Fence => mutations.no_fence = true,
            Self::ExpandFirst => mutations.change_under_open_run = true,
            Self::AnnounceFirst => mutations.answer_first = true,
            Self::Ticket => mutations.any_ticket = true,
            Self::Round => mutations.any_round = true,
            Self::Base => mutations.any_base = true,
            Self::Excluded => mutations.excluded_have_base = true,
            Self::Resync => mutations.no_resync = true,
            Self::Newcomer => mutations.newcomers_have_base = true,
            Self::BegunFrame => mutations.overtake_begun = true,
            Self::EventsFirst => mutations.close_before_events = true,
            Self::WatchRound => mutations.any_watch_round = true,
            Self::FirstFrame => mutations.tell_all_changes = true,
            Self::CountFirst => mutations.list_before_count = true,
            Self::Fifo | Self::CloseLast => {}
        }
        mutations
    }
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) shards: u16,
    /// Messages that an inbox holds.
    pub(super) inbox: usize,
    pub(super) off: Option<Rule>,
}

/// What the seed makes of the server and its visitors.
pub(super) struct Scene {
    pub(super) settings: Settings,
    pub(super) apps: Arc<AppTable>,
    /// Connected clients and publishers, at most.
    pub(super) clients_max: usize,
    pub(super) publishers_max: usize,
    /// The channels that are used, as indexes into the model's.
    pub(super) channels: Vec<usize>,
    /// Users who sign in: so many of the first of [`USER_NAMES`].
    pub(super) users: usize,
    /// Mostly they sign in, with other lists each time, and are gone again.
    pub(super) crowd: bool,
    pub(super) steps: usize,
    /// A step takes below so many milliseconds.
    pub(super) step_ms: usize,
    /// Sockets are sometimes slow.
    pub(super) slow: bool,
    /// Shards are sometimes frozen for a minute.
    pub(super) freezes: bool,
}

impl Scene {
    pub(super) fn new(plan: Plan, chance: &mut Seed) -> Self {
        let channels = 1 + chance.below(3);
        let mut channels: Vec<usize> = (0..channels)
            .map(|_| chance.below(APPS.len()) * CHANNELS_PER_APP + chance.below(NAMES.len()))
            .collect();
        let users = [0, 1, 2, 3][chance.below(4)];
        let crowd = users > 1 && chance.below(2) == 0;
        for user in 0..users {
            let app = usize::from(!crowd && chance.below(5) == 0);
            channels.push(app * CHANNELS_PER_APP + NAMES.len() + user);
        }
        let freezes = chance.below(6) == 0;
        Self {
            settings: settings(plan, chance),
            apps: apps(chance),
            clients_max: 2 + chance.below(11),
            publishers_max: 1 + chance.below(3),
            channels,
            users,
            crowd,
            steps: 1200 + chance.below(1600),
            step_ms: [4, 20, 200][chance.below(3)],
            slow: chance.below(3) > 0,
            freezes,
        }
    }
}

fn settings(plan: Plan, chance: &mut Seed) -> Settings {
    let ones = Budgets {
        messages: 1,
        page: 1 + chance.below(3),
        expansions: 1,
        leaving: 1,
        due: 1,
        slots: 1 + chance.below(4),
        sends: 1,
        sends_bulk: chance.below(2),
    };
    let brief = chance.below(2) == 0;
    Settings {
        shards: plan.shards,
        activity_timeout: Duration::from_secs(if brief { 5 } else { 120 }),
        pong_timeout: Duration::from_secs(if brief { 4 } else { 30 }),
        probe: if chance.below(2) == 0 {
            Probe::Ping
        } else {
            Probe::Pusher
        },
        strict_protocol: false,
        sockudo_clients: true,
        subscription_errors: chance.below(4) > 0,
        cache_ttl: Duration::from_secs(if chance.below(4) == 0 { 2 } else { 1800 }),
        cache_bytes_max: 256 << 20,
        counts: count_pace(chance),
        delays_max: if chance.below(4) == 0 { 2 } else { 1000 },
        outbox: outbox_limits(chance),
        close_spread: Duration::from_secs(chance.below(3) as u64),
        stall_max: Duration::from_secs(if brief { 3 } else { 30 }),
        inbox_depth_max: plan.inbox,
        lag_bytes_max: if chance.below(4) == 0 { 200 } else { 64 << 20 },
        lag_max: Duration::from_millis(if chance.below(4) == 0 { 20 } else { 1000 }),
        filters_channel_max: 10_000,
        delta_texts_max: 1 + chance.below(4),
        delta_bytes_max: if chance.below(4) == 0 {
            2000
        } else {
            256 << 20
        },
        filters_bytes_max: 64 << 20,
        subscriptions_max: 4_000_000,
        subscriptions_per_connection_max: (chance.below(4) == 0).then_some(2),
        budgets: if chance.below(2) == 0 {
            ones
        } else {
            Budgets::default()
        },
    }
}

/// Few enough that they are often exceeded.
fn count_pace(chance: &mut Seed) -> CountPace {
    CountPace {
        exact_max: 1 + chance.below(4) as u32,
        interval: Duration::from_millis([10, 300, 5000][chance.below(3)]),
    }
}

pub(super) fn subscription_count(chance: &mut Seed) -> SubscriptionCount {
    match chance.below(3) {
        0 => SubscriptionCount::On,
        1 => SubscriptionCount::Off,
        _ => SubscriptionCount::Query,
    }
}

fn outbox_limits(chance: &mut Seed) -> OutboxLimits {
    let usual = OutboxLimits {
        bytes_max: 1 << 20,
        frames_max: 2048,
        shard_bytes_max: 256 << 20,
    };
    match chance.below(4) {
        0 => OutboxLimits {
            bytes_max: 2000,
            ..usual
        },
        1 => OutboxLimits {
            frames_max: 8,
            ..usual
        },
        2 => OutboxLimits {
            shard_bytes_max: 3000,
            ..usual
        },
        _ => usual,
    }
}

/// All kinds, some, or none; who is told of beginnings is told of ends.
fn webhooks(chance: &mut Seed) -> Webhooks {
    let some = [
        [WebhookKind::ChannelOccupied, WebhookKind::ChannelVacated],
        [WebhookKind::MemberAdded, WebhookKind::MemberRemoved],
        [WebhookKind::ClientEvent, WebhookKind::CacheMiss],
    ];
    let kinds: WebhookKinds = match chance.below(4) {
        0 => WebhookKinds::NONE,
        1 => some
            .into_iter()
            .filter(|_| chance.below(2) == 0)
            .flatten()
            .collect(),
        _ => WebhookKind::ALL.into_iter().collect(),
    };
    Webhooks::new(vec![Endpoint {
        url: Url::parse("http://receiver.example/").expect("a URL"),
        kinds,
        channel_prefix: "".into(),
        channel_suffix: "".into(),
        headers: HeaderMap::new(),
        settings: EndpointSettings::default(),
    }])
}

/// Two apps with the same channel names. The second has no client events, and a quota.
fn apps(chance: &mut Seed) -> Arc<AppTable> {
    let delay = |chance: &mut Seed| Duration::from_millis([0, 200, 10_000][chance.below(3)]);
    let settings = [
        AppSettings {
            client_events: true,
            client_events_per_sec: 1_000_000,
            presence_members_max: MEMBERS_MAX,
            watchlist: true,
            watchlist_users_max: WATCHLIST_USERS_MAX,
            // Longer than a run: a key whose window is over is another key.
            idempotency_window: Duration::from_secs(86_400),
            subscription_count: subscription_count(chance),
            tags_in_messages: chance.below(2) == 0,
            webhook_delay: delay(chance),
            webhook_cache_miss_window: delay(chance),
            ..deltas::settings(chance)
        },
        AppSettings {
            tag_filtering: chance.below(2) == 0,
            connections_max: Some(3 + chance.below(6) as u64),
            authorized_connections: chance.below(4) == 0,
            authorization_timeout: Duration::from_secs(2),
            subscription_count: subscription_count(chance),
            webhook_delay: delay(chance),
            webhook_cache_miss_window: delay(chance),
            ..deltas::settings(chance)
        },
    ];
    let apps = APPS
        .iter()
        .zip(settings)
        .map(|(&(index, key, secret), settings)| {
            let keys = vec![AppKey::new(key, secret)];
            let mut app = App::new(index, key, keys, settings);
            app.webhooks = webhooks(chance);
            Arc::new(app)
        })
        .collect();
    Arc::new(AppTable::new(apps).expect("no two apps share anything"))
}
