//! The metrics of each shard: what it has and does, how full its queues are, how long things take.

use crate::metrics::{PublishRefusal, TURN_AIM};
use crate::shard::sample::Sample;

use super::families::{Families, histogram_secs, labels};

/// One number of a shard.
type PerShard = (&'static str, &'static str, fn(&Sample) -> u64);

const SHARD_GAUGES: [PerShard; 14] = [
    ("shard_connections", "Connections, HTTP ones too.", |s| {
        s.connections as u64
    }),
    ("shard_sessions", "WebSocket sessions.", |s| {
        s.sessions.into()
    }),
    ("shard_subscriptions", "Subscriptions.", |s| {
        s.subscriptions as u64
    }),
    (
        "shard_channels",
        "Channels with a local subscription.",
        |s| s.channels as u64,
    ),
    ("shard_inbox_depth", "Messages in the inbox.", |s| {
        s.inbox_depth as u64
    }),
    (
        "shard_inbox_depth_high",
        "The most of them in the last one to two minutes.",
        |s| s.inbox_depth_high as u64,
    ),
    (
        "shard_leftovers",
        "Messages that wait for room in other inboxes.",
        |s| s.leftovers as u64,
    ),
    (
        "shard_outbox_bytes",
        "Bytes that wait for connections.",
        |s| s.outbox_bytes,
    ),
    (
        "shard_outbox_untried_bytes",
        "Those that nobody has tried to send.",
        |s| s.outbox_bytes_fresh,
    ),
    (
        "shard_outbox_queues",
        "Connections with much queued, or refused by the kernel.",
        |s| s.queues as u64,
    ),
    ("shard_cache_bytes", "Bytes of cached events.", |s| {
        s.cache_bytes
    }),
    (
        "shard_congested",
        "1 while publishes to its channels are refused.",
        |s| s.congested.into(),
    ),
    ("shard_behind", "1 while its sends lag.", |s| {
        s.behind.into()
    }),
    ("shard_apps_version", "Reloads that it has followed.", |s| {
        s.apps
    }),
];

const SHARD_COUNTERS: [PerShard; 24] = [
    ("shard_accepted_total", "Connections accepted.", |s| {
        s.counters.accepted
    }),
    (
        "shard_refused_total",
        "Sessions refused before the greeting.",
        |s| s.counters.refused,
    ),
    (
        "shard_published_total",
        "Events that it has ordered.",
        |s| s.counters.published,
    ),
    (
        "shard_deliveries_total",
        "Frames of channels queued for connections.",
        |s| s.counters.delivered,
    ),
    ("shard_sends_total", "Sends to connections.", |s| {
        s.counters.sends
    }),
    (
        "shard_sends_refused_total",
        "Those that the kernel refused.",
        |s| s.counters.sends_refused,
    ),
    (
        "shard_sent_bytes_total",
        "Bytes that the kernel took.",
        |s| s.counters.sent_bytes,
    ),
    (
        "shard_wakes_total",
        "Parked shards that it has woken.",
        |s| s.counters.wakes,
    ),
    (
        "slow_consumer_closes_total",
        "Connections closed because they did not read.",
        |s| s.counters.slow_consumer_closes,
    ),
    (
        "pong_timeouts_total",
        "Connections closed because they did not answer a ping.",
        |s| s.counters.pong_timeouts,
    ),
    (
        "unauthorised_closes_total",
        "Connections closed because they did not authorise themselves in time.",
        |s| s.counters.unauthorised_closes,
    ),
    (
        "terminated_closes_total",
        "Connections closed because their user was terminated.",
        |s| s.counters.terminated,
    ),
    ("sign_ins_total", "Connections that have signed in.", |s| {
        s.counters.sign_ins
    }),
    ("sign_ins_refused_total", "Sign-ins refused.", |s| {
        s.counters.sign_ins_refused
    }),
    (
        "client_events_refused_total",
        "Client events refused.",
        |s| s.counters.client_events_refused,
    ),
    (
        "cache_evicted_total",
        "Cached events that went before their time.",
        |s| s.counters.cache_evicted,
    ),
    (
        "questions_expired_total",
        "Requests to which homes did not answer in time.",
        |s| s.counters.questions_expired,
    ),
    (
        "answers_too_large_total",
        "Answers to queries that were over their bound.",
        |s| s.counters.answers_too_large,
    ),
    (
        "requests_out_of_room_total",
        "Requests ended because there was no room to collect them or their answer.",
        |s| s.counters.requests_out_of_room,
    ),
    (
        "webhook_events_early_total",
        "Webhook events that were held back for less than their delay, for want of room.",
        |s| s.counters.webhooks_early,
    ),
    (
        "webhook_events_lost_total",
        "Webhook events that never left their shard, for want of room.",
        |s| s.counters.webhooks_dropped,
    ),
    (
        "proxy_headers_missing_total",
        "Connections whose proxy did not name the client.",
        |s| s.counters.proxy_headers_missing,
    ),
    (
        "sequence_gaps_total",
        "Deliveries out of order: 0, or the server has a defect.",
        |s| s.counters.sequence_gaps,
    ),
    ("long_turns_total", "Turns over 10 ms.", |s| {
        s.counters.turns.over(TURN_AIM)
    }),
];

/// All of them, a series for each shard that has answered.
pub(super) fn write_shards(families: &mut Families<'_>, shards: &[Sample]) {
    let label = |shard: &Sample, more: &[(&str, &str)]| {
        let number = shard.shard.to_string();
        labels([("shard", &*number)].iter().chain(more))
    };
    let each = |value: fn(&Sample) -> u64| {
        let value = |shard| (label(shard, &[]), value(shard));
        shards.iter().map(value).collect()
    };
    for (name, help, value) in SHARD_GAUGES {
        families.gauges(name, help, each(value));
    }
    for (name, help, value) in SHARD_COUNTERS {
        families.counters(name, help, each(value));
    }
    let coalescing = shards
        .iter()
        .filter(|shard| shard.counters.sends > 0)
        .map(|shard| {
            let factor = shard.counters.delivered as f64 / shard.counters.sends as f64;
            (label(shard, &[]), factor)
        });
    families.floats(
        "shard_frames_per_send",
        "Frames of channels per send since the start: how much is coalesced.",
        coalescing.collect(),
    );
    let refused = shards.iter().flat_map(|shard| {
        PublishRefusal::ALL.map(|reason| {
            let count = shard.counters.publishes_refused[reason as usize];
            (label(shard, &[("reason", reason.label())]), count)
        })
    });
    families.counters(
        "publishes_refused_total",
        "Publishes answered 503, or client events 4301, for want of room.",
        refused.collect(),
    );
    let turns = shards
        .iter()
        .map(|s| (label(s, &[]), histogram_secs(&s.counters.turns)));
    families.histograms(
        "shard_turn_seconds",
        "How long turns took.",
        turns.collect(),
    );
    let deliveries = shards
        .iter()
        .map(|s| (label(s, &[]), histogram_secs(&s.counters.deliveries)));
    families.histograms(
        "shard_delivery_seconds",
        "From an accepted event to the moment when all subscribers here had been tried, per run.",
        deliveries.collect(),
    );
}
