//! Latencies in nanoseconds, from 1 us to ten minutes, three digits.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Nanos;

/// What took how long. For other processes it is a list of values and how often each came.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

const LONGEST: Duration = Duration::from_secs(600);

impl Latencies {
    pub(crate) fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1000, LONGEST.as_nanos() as u64, 3);
        Self(bounds.expect("the bounds are twice apart and three digits are allowed"))
    }

    /// So many things took so long; longer than the bound counts as the bound.
    pub(crate) fn add(&mut self, took: Nanos, many: u64) {
        self.0.saturating_record_n(took, many);
    }

    /// Something that happens every `interval` took so long, and what should have begun meanwhile
    /// had to wait.
    pub(crate) fn add_of_series(&mut self, took: Duration, interval: Duration) {
        let took = took.min(LONGEST).as_nanos() as u64;
        self.0
            .record_correct(took, interval.as_nanos() as u64)
            .expect("it is within the bounds");
    }

    /// What another has, too.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// In milliseconds; `quantile` from 0 to 1.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e6
    }

    /// The longest, in milliseconds.
    pub(crate) fn max(&self) -> f64 {
        self.0.max() as f64 / 1e6
    }

    /// In milliseconds.
    pub(crate) fn mean(&self) -> f64 {
        self.0.mean() / 1e6
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = self.0.iter_recorded();
        serializer.collect_seq(recorded.map(|v| (v.value_iterated_to(), v.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latencies = Self::new();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            latencies.0.saturating_record_n(value, count);
        }
        Ok(latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_behind_a_slow_one_is_counted() {
        let mut latencies = Latencies::new();
        latencies.add_of_series(Duration::from_millis(100), Duration::from_millis(10));
        assert_eq!(latencies.count(), 10, "100, 90, .. 10 ms");
        assert!(
            (latencies.at(0.5) - 50.0).abs() < 0.1,
            "{}",
            latencies.at(0.5)
        );
        latencies.add(3_600_000_000_000, 1);
        assert!((latencies.max() - 600_000.0).abs() < 600.0);
    }

    #[test]
    fn percentiles_survive_the_way_to_another_process() {
        let mut latencies = Latencies::new();
        (1..=10_000).for_each(|n| latencies.add(n * 1_234, 1));
        let text = serde_json::to_string(&latencies).unwrap();
        let mut read: Latencies = serde_json::from_str(&text).unwrap();
        assert_eq!(read.count(), 10_000);
        for quantile in [0.0, 0.5, 0.99, 0.999, 1.0] {
            assert_eq!(read.at(quantile), latencies.at(quantile), "{quantile}");
        }
        read.merge(&latencies);
        assert_eq!((read.count(), read.at(0.5)), (20_000, latencies.at(0.5)));
    }
}
