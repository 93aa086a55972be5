//! Metrics as Prometheus reads them: the names that boards for the peers know, under a prefix, and
//! ours beside them.
//!
//! A scrape makes all of it anew from one sample of the shards; nothing is kept, so no gauge can
//! drift. Apps beyond a bound are summed as one, so that the number of series is bounded whatever
//! the configuration says; no name from the network is ever a label.
//!
//! Invariant: every family has at least one series, and no two series of a family the same labels.

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

use crate::app::AppTable;

use families::{Families, Labels, labels};

use super::process::Process;
use super::sampling::Samples;
use super::webhook::{Dropped, Failure, WebhookCounters};

mod apps;
mod families;
mod shards;

/// How to say it.
pub(super) struct Exposition<'a> {
    pub prefix: &'a str,
    pub apps_max: usize,
    pub port: u16,
}

/// What there is to say.
pub(super) struct Facts<'a> {
    pub samples: &'a Samples,
    pub apps: &'a AppTable,
    pub webhooks: &'a WebhookCounters,
    pub process: Process,
    pub started_secs: f64,
    pub reloads_done: u64,
    pub reloads_refused: u64,
    pub log_lines_dropped: u64,
}

impl Exposition<'_> {
    /// The text format, whole.
    ///
    /// # Errors
    /// The library finds a family that is none: a defect of ours.
    pub(super) fn text(&self, facts: &Facts<'_>) -> prometheus::Result<Vec<u8>> {
        let mut families = Families {
            prefix: self.prefix,
            list: Vec::new(),
        };
        self.write_apps(&mut families, facts);
        shards::write_shards(&mut families, &facts.samples.shards);
        write_server(&mut families, facts);
        write_webhooks(&mut families, facts.webhooks);
        families.list.extend(process_families(facts));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families.list, &mut text)?;
        Ok(text)
    }
}

fn write_server(families: &mut Families<'_>, facts: &Facts<'_>) {
    let samples = facts.samples;
    let one = |value: u64| vec![(Labels::new(), value)];
    let shards = samples.shards.len() + samples.unanswered;
    families.gauges("shards", "Shards of the process.", one(shards as u64));
    families.gauges(
        "shards_unanswered",
        "Shards that did not answer this scrape in a second: their numbers are missing.",
        one(samples.unanswered as u64),
    );
    families.gauges(
        "apps",
        "Apps of the configuration.",
        one(facts.apps.iter().len() as u64),
    );
    families.gauges(
        "apps_closing",
        "Apps that are none any more and may still have connections.",
        one(facts.apps.closing().len() as u64),
    );
    let outcomes = [
        ("done", facts.reloads_done),
        ("refused", facts.reloads_refused),
    ];
    let outcomes = outcomes.map(|(outcome, n)| (labels(&[("outcome", outcome)]), n));
    families.counters(
        "reloads_total",
        "Reloads by their outcome.",
        outcomes.into(),
    );
    families.counters(
        "log_lines_dropped_total",
        "Lines that are missing in the log, because whoever reads it was too slow.",
        one(facts.log_lines_dropped),
    );
}

fn write_webhooks(families: &mut Families<'_>, webhooks: &WebhookCounters) {
    let one = |value: u64| vec![(Labels::new(), value)];
    families.gauges(
        "webhook_events_pending",
        "Events that wait for an endpoint or for its answer.",
        one(webhooks.pending()),
    );
    families.counters(
        "webhook_events_accepted_total",
        "Events put into the queue of an endpoint.",
        one(webhooks.accepted.get()),
    );
    families.counters(
        "webhook_events_sent_total",
        "Events that an endpoint has taken.",
        one(webhooks.sent.get()),
    );
    families.counters(
        "webhook_requests_sent_total",
        "Webhooks that an endpoint has taken.",
        one(webhooks.requests_sent.get()),
    );
    let failed = Failure::ALL.map(|failure| {
        let labels = labels(&[("reason", failure.label())]);
        (labels, webhooks.failed(failure).get())
    });
    families.counters(
        "webhook_attempts_failed_total",
        "Attempts that failed.",
        failed.into(),
    );
    let dropped = Dropped::ALL.map(|dropped| {
        let labels = labels(&[("reason", dropped.label())]);
        (labels, webhooks.dropped(dropped).get())
    });
    families.counters(
        "webhook_events_dropped_total",
        "Events given up.",
        dropped.into(),
    );
}

/// Names without a prefix, as every client of Prometheus has them.
fn process_families(facts: &Facts<'_>) -> Vec<MetricFamily> {
    let process = facts.process;
    let mut families = Families {
        prefix: "",
        list: Vec::new(),
    };
    let one = |value: f64| vec![(Labels::new(), value)];
    families.float_counters(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        one(process.cpu.as_secs_f64()),
    );
    families.floats(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        one(facts.started_secs),
    );
    let gauges = [
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            process.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            process.virtual_bytes,
        ),
        (
            "process_open_fds",
            "Number of open file descriptors.",
            process.descriptors,
        ),
        (
            "process_max_fds",
            "Maximum number of open file descriptors.",
            process.descriptors_max,
        ),
        (
            "process_threads",
            "Number of OS threads in the process.",
            process.threads,
        ),
    ];
    for (name, help, value) in gauges {
        let series = value.map(|value| (Labels::new(), value));
        families.gauges(name, help, series.into_iter().collect());
    }
    families.list
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::app::{App, AppKey, AppSettings};
    use crate::metrics::{Audience, Counters};
    use crate::pusher::channel::ChannelKind;
    use crate::shard::sample::Sample;

    fn app(index: u32, id: &str) -> Arc<App> {
        let keys = vec![AppKey::new(id, "s")];
        Arc::new(App::new(index, id, keys, AppSettings::default()))
    }

    fn shard(number: u16, counters: Counters) -> Sample {
        Sample {
            shard: number,
            counters,
            occupied: vec![[1, 0, 0, 2, 0]],
            inbox_depth: 3,
            ..Sample::default()
        }
    }

    /// The text for these shards and two apps, of which one has a label of its own.
    fn text(shards: Vec<Sample>) -> String {
        let apps = AppTable::new(vec![app(0, "a"), app(1, "b")]).expect("ids differ");
        assert!(apps.by_id("b").expect("b").quota.try_take(None));
        let exposition = Exposition {
            prefix: "p_",
            apps_max: 1,
            port: 6001,
        };
        let facts = Facts {
            samples: &Samples {
                shards,
                unanswered: 1,
            },
            apps: &apps,
            webhooks: &WebhookCounters::default(),
            process: Process::default(),
            started_secs: 5.0,
            reloads_done: 2,
            reloads_refused: 0,
            log_lines_dropped: 4,
        };
        String::from_utf8(exposition.text(&facts).expect("text")).expect("UTF-8")
    }

    fn expect_lines(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(
                text.lines().any(|found| found == *line),
                "{line} in\n{text}"
            );
        }
    }

    #[test]
    fn apps_are_summed_over_shards_and_those_beyond_the_bound_are_one() {
        let mut counters = Counters::default();
        for (index, opened) in [(0, 2), (1, 3), (7, 4)] {
            counters.app(index).opened = opened;
        }
        *counters.app(0).errors.entry(4004).or_default() = 5;
        *counters.errors.entry(4001).or_default() = 6;
        let text = text(vec![shard(0, counters.clone()), shard(1, counters)]);
        expect_lines(
            &text,
            &[
                "# TYPE p_new_connections_total counter",
                r#"p_new_connections_total{app_id="a",port="6001"} 4"#,
                // Of the configuration, and one that is gone.
                r#"p_new_connections_total{app_id="other",port="6001"} 14"#,
                r#"p_connected{app_id="a",port="6001"} 0"#,
                r#"p_connected{app_id="other",port="6001"} 1"#,
                r#"p_active_channels{app_id="a",port="6001",channel_type="public"} 2"#,
                r#"p_active_channels{app_id="a",port="6001",channel_type="presence"} 4"#,
                r#"p_connection_errors_total{app_id="a",port="6001",error_type="4004"} 10"#,
                r#"p_connection_errors_total{app_id="",port="6001",error_type="4001"} 12"#,
                r#"p_shard_inbox_depth{shard="1"} 3"#,
                "p_shards 3",
                "p_shards_unanswered 1",
                r#"p_reloads_total{outcome="done"} 2"#,
                "p_log_lines_dropped_total 4",
            ],
        );
        assert!(!text.contains(r#"app_id="b""#));
    }

    #[test]
    fn histograms_are_cumulative_and_end_in_all() {
        let mut counters = Counters::default();
        counters.deliveries.record(Duration::from_micros(300));
        counters.deliveries.record(Duration::from_secs(9));
        let latencies = &mut counters.app(0).latencies;
        let latency = latencies.entry((ChannelKind::Public, Audience::of(50)));
        let latency = latency.or_default();
        for micros in [700, 800, 7_000_000] {
            latency.record(micros);
        }
        let text = text(vec![shard(0, counters)]);
        let bucket = |le: &str| {
            format!(
                r#"p_broadcast_latency_ms_bucket{{app_id="a",port="6001",channel_type="public",recipient_count_bucket="sm",le="{le}"}}"#
            )
        };
        expect_lines(
            &text,
            &[
                &format!("{} 0", bucket("0.5")),
                &format!("{} 2", bucket("1")),
                &format!("{} 2", bucket("5000")),
                &format!("{} 3", bucket("+Inf")),
                r#"p_shard_delivery_seconds_bucket{shard="0",le="0.00025"} 0"#,
                r#"p_shard_delivery_seconds_bucket{shard="0",le="0.0005"} 1"#,
                r#"p_shard_delivery_seconds_bucket{shard="0",le="5"} 1"#,
                r#"p_shard_delivery_seconds_bucket{shard="0",le="+Inf"} 2"#,
                r#"p_shard_delivery_seconds_count{shard="0"} 2"#,
                r#"p_shard_delivery_seconds_sum{shard="0"} 9.0003"#,
            ],
        );
    }

    #[test]
    fn no_family_is_told_twice_and_no_series() {
        let text = text(vec![
            shard(0, Counters::default()),
            shard(1, Counters::default()),
        ]);
        let mut seen = std::collections::HashSet::new();
        for line in text.lines().filter(|line| !line.starts_with("# HELP")) {
            let name = line.rsplit_once(' ').map(|(name, _)| name);
            assert!(seen.insert(name.expect("a value").to_owned()), "{line}");
        }
        assert!(text.contains("\nprocess_cpu_seconds_total 0\n"));
    }
}
