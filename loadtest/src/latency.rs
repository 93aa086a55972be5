//! Latencies in nanoseconds, from 1 us to a minute, three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What took how long.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

const LONGEST: Duration = Duration::from_secs(60);

impl Latencies {
    pub(crate) fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1000, LONGEST.as_nanos() as u64, 3);
        Self(bounds.expect("the bounds are twice apart and three digits are allowed"))
    }

    /// Something took so long; longer than a minute counts as a minute.
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos() as u64);
    }

    /// Something that happens every `interval` took so long, and what should have begun meanwhile
    /// had to wait.
    pub(crate) fn add_of_series(&mut self, took: Duration, interval: Duration) {
        let took = took.min(LONGEST).as_nanos() as u64;
        self.0
            .record_correct(took, interval.as_nanos() as u64)
            .expect("it is within the bounds");
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
        latencies.add(Duration::from_secs(3600));
        assert!((latencies.max() - 60_000.0).abs() < 60.0);
    }
}
