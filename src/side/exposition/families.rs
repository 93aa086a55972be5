//! Families of metrics, as the library that writes them wants them.

use std::time::Duration;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair};
use prometheus::proto::{Metric, MetricFamily, MetricType};

use crate::metrics::{Durations, LATENCY_BOUNDS_MS, Latency};

/// The bounds of histograms of ours, in seconds.
const BOUNDS_SECS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// The labels of a series.
pub(super) type Labels = Vec<LabelPair>;

/// Families in the making.
pub(super) struct Families<'a> {
    pub prefix: &'a str,
    pub list: Vec<MetricFamily>,
}

impl Families<'_> {
    pub(super) fn gauges(&mut self, name: &str, help: &str, series: Vec<(Labels, u64)>) {
        let series = series
            .into_iter()
            .map(|(labels, value)| (labels, value as f64));
        self.floats(name, help, series.collect());
    }

    pub(super) fn floats(&mut self, name: &str, help: &str, series: Vec<(Labels, f64)>) {
        self.add(name, help, MetricType::GAUGE, series, |metric, value| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
    }

    pub(super) fn counters(&mut self, name: &str, help: &str, series: Vec<(Labels, u64)>) {
        let series = series
            .into_iter()
            .map(|(labels, value)| (labels, value as f64));
        self.float_counters(name, help, series.collect());
    }

    pub(super) fn float_counters(&mut self, name: &str, help: &str, series: Vec<(Labels, f64)>) {
        self.add(name, help, MetricType::COUNTER, series, |metric, value| {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        });
    }

    pub(super) fn histograms(&mut self, name: &str, help: &str, series: Vec<(Labels, Histogram)>) {
        self.add(
            name,
            help,
            MetricType::HISTOGRAM,
            series,
            Metric::set_histogram,
        );
    }

    /// A family without series is none.
    fn add<V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: Vec<(Labels, V)>,
        set: impl Fn(&mut Metric, V),
    ) {
        if series.is_empty() {
            return;
        }
        let metrics = series.into_iter().map(|(labels, value)| {
            let mut metric = Metric::from_label(labels);
            set(&mut metric, value);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name([self.prefix, name].concat());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics.collect());
        self.list.push(family);
    }
}

pub(super) fn labels<'l>(pairs: impl IntoIterator<Item = &'l (&'l str, &'l str)>) -> Labels {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    pairs.into_iter().map(pair).collect()
}

pub(super) fn histogram_ms(latency: &Latency) -> Histogram {
    let mut sum = 0;
    let cumulative = latency.counts.iter().map(|count| {
        sum += count;
        sum
    });
    let buckets = LATENCY_BOUNDS_MS.into_iter().zip(cumulative);
    let sum_ms = latency.sum_micros as f64 / 1000.0;
    histogram(buckets, latency.count, sum_ms)
}

pub(super) fn histogram_secs(durations: &Durations) -> Histogram {
    let buckets = BOUNDS_SECS.map(|bound| (bound, durations.up_to(Duration::from_secs_f64(bound))));
    histogram(buckets, durations.count(), durations.sum().as_secs_f64())
}

/// Each bucket has what is not above its bound.
fn histogram(buckets: impl IntoIterator<Item = (f64, u64)>, count: u64, sum: f64) -> Histogram {
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.into_iter().map(bucket).collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum);
    histogram
}
