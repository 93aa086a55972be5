//! The metrics of the peers, by app: their names and labels, the truth of our shards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::app::App;
use crate::metrics::{AppCounters, Limiter, RateCount};
use crate::pusher::channel::ChannelKind;
use crate::shard::homes::Occupied;

use super::families::{Families, Labels, histogram_ms, labels};
use super::{Exposition, Facts};

/// The label of all apps that have none of their own.
const OTHER: &str = "other";

/// What all shards have counted of the apps of one label.
#[derive(Default)]
struct Total {
    connected: u64,
    counters: AppCounters,
    occupied: Occupied,
}

impl Exposition<'_> {
    /// The metrics of the peers, by app.
    pub(super) fn write_apps(&self, families: &mut Families<'_>, facts: &Facts<'_>) {
        let port = self.port.to_string();
        let totals = self.totals(facts);
        let labels = |app: &str, more: &[(&str, &str)]| {
            let both = [("app_id", app), ("port", &port)];
            labels(both.iter().chain(more))
        };
        let each = |value: &dyn Fn(&Total) -> u64| -> Vec<(Labels, u64)> {
            let value = |(app, total): (&String, &Total)| (labels(app, &[]), value(total));
            totals.iter().map(value).collect()
        };
        let by_kind = |value: &dyn Fn(&Total, usize) -> u64| -> Vec<(Labels, u64)> {
            let kinds = |(app, total)| {
                ChannelKind::ALL.map(|kind| {
                    let labels = labels(app, &[("channel_type", kind.label())]);
                    (labels, value(total, kind as usize))
                })
            };
            let pairs = totals
                .iter()
                .map(|(app, total): (&String, &Total)| (&**app, total));
            pairs.flat_map(kinds).collect()
        };
        let by_limit = |value: &dyn Fn(RateCount) -> u64| -> Vec<(Labels, u64)> {
            let limits = |(app, total): (&String, &Total)| {
                Limiter::ALL.map(|limiter| {
                    let labels = labels(app, &[("limiter_type", limiter.label())]);
                    (labels, value(total.counters.rates[limiter as usize]))
                })
            };
            totals.iter().flat_map(limits).collect()
        };
        families.gauges(
            "connected",
            "WebSocket connections at this moment.",
            each(&|total| total.connected),
        );
        for (name, help, value) in PER_APP {
            families.counters(name, help, each(&|total| value(&total.counters)));
        }
        let errors = totals.iter().flat_map(|(app, total)| {
            let errors = total.counters.errors.iter();
            errors.map(|(code, count)| (labels(app, &[("error_type", &code.to_string())]), *count))
        });
        families.counters(
            "connection_errors_total",
            "Connections refused or closed by the server, by the code of the Close.",
            errors.collect(),
        );
        families.gauges(
            "active_channels",
            "Channels with a subscription at this moment.",
            by_kind(&|total, kind| total.occupied[kind].into()),
        );
        families.counters(
            "channel_subscriptions_total",
            "Subscriptions made.",
            by_kind(&|total, kind| total.counters.subscriptions[kind]),
        );
        families.counters(
            "channel_unsubscriptions_total",
            "Subscriptions ended, with their connection or before it.",
            by_kind(&|total, kind| total.counters.unsubscriptions[kind]),
        );
        families.counters(
            "rate_limit_checks_total",
            "Questions whether something is within a rate limit.",
            by_limit(&|count| count.checks),
        );
        families.counters(
            "rate_limit_triggered_total",
            "Those answered with no.",
            by_limit(&|count| count.triggered),
        );
        let latencies = totals.iter().flat_map(|(app, total)| {
            let latencies = total.counters.latencies.iter();
            latencies.map(|(&(kind, audience), latency)| {
                let more = [
                    ("channel_type", kind.label()),
                    ("recipient_count_bucket", audience.label()),
                ];
                (labels(app, &more), histogram_ms(latency))
            })
        });
        families.histograms(
            "broadcast_latency_ms",
            "From an accepted event to the moment when all subscribers on a shard had been tried.",
            latencies.collect(),
        );
    }

    /// By label: the first apps of the configuration have one each.
    fn totals(&self, facts: &Facts<'_>) -> BTreeMap<String, Total> {
        let own: BTreeSet<&str> = facts
            .apps
            .iter()
            .take(self.apps_max)
            .map(|app| &*app.id)
            .collect();
        let label = |app: Option<&App>| {
            // A closing app's too, if it has come back.
            let has_own = |app: &&App| own.contains(&*app.id);
            app.filter(has_own)
                .map_or_else(|| OTHER.to_owned(), |app| app.id.to_string())
        };
        let mut totals: BTreeMap<String, Total> = BTreeMap::new();
        // An app that comes back while it is closing shares its quota with what it was.
        let mut quotas = BTreeSet::new();
        for app in facts.apps.iter().chain(facts.apps.closing()) {
            let total = totals.entry(label(Some(app))).or_default();
            if quotas.insert(Arc::as_ptr(&app.quota)) {
                total.connected += app.quota.taken();
            }
        }
        for shard in &facts.samples.shards {
            for (index, counters) in shard.counters.apps() {
                let app = facts.apps.by_index(index).map(|app| &**app);
                totals.entry(label(app)).or_default().counters.add(counters);
            }
            for (index, occupied) in (0..).zip(&shard.occupied) {
                let app = facts.apps.by_index(index).map(|app| &**app);
                if occupied.iter().any(|count| *count > 0) {
                    let total = totals.entry(label(app)).or_default();
                    total
                        .occupied
                        .iter_mut()
                        .zip(occupied)
                        .for_each(|(sum, n)| *sum += n);
                }
            }
        }
        let unknown = facts
            .samples
            .shards
            .iter()
            .map(|shard| &shard.counters.errors);
        for (code, count) in unknown.flatten() {
            let total = totals.entry(String::new()).or_default();
            *total.counters.errors.entry(*code).or_default() += count;
        }
        totals
    }
}

/// Counters by app, with the peers' names.
type PerApp = (&'static str, &'static str, fn(&AppCounters) -> u64);
const PER_APP: [PerApp; 12] = [
    ("new_connections_total", "Connections greeted.", |app| {
        app.opened
    }),
    (
        "new_disconnections_total",
        "Connections that have ended.",
        |app| app.left,
    ),
    (
        "socket_received_bytes",
        "Bytes of messages from clients.",
        |app| app.received_bytes,
    ),
    (
        "socket_transmitted_bytes",
        "Bytes of frames queued for clients.",
        |app| app.sent_bytes,
    ),
    (
        "ws_messages_received_total",
        "Messages from clients.",
        |app| app.messages_received,
    ),
    (
        "ws_messages_sent_total",
        "Frames queued for clients.",
        |app| app.messages_sent,
    ),
    (
        "http_received_bytes",
        "Bytes of bodies of requests.",
        |app| app.http_received_bytes,
    ),
    (
        "http_transmitted_bytes",
        "Bytes of bodies of answers.",
        |app| app.http_sent_bytes,
    ),
    ("http_calls_received_total", "Signed requests.", |app| {
        app.http_calls
    }),
    (
        "idempotent_replays_total",
        "Requests answered as the first with their idempotency key was.",
        |app| app.idempotent_replays,
    ),
    (
        "idempotency_conflicts_total",
        "Requests whose idempotency key stood for another body.",
        |app| app.idempotency_conflicts,
    ),
    (
        "idempotency_keys_evicted_total",
        "Idempotency keys forgotten before their time, for want of room.",
        |app| app.idempotency_evicted,
    ),
];
