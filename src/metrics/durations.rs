//! How long things took: a fine histogram of a shard, and a coarse one that is small enough to have
//! one for each app.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest span that is told apart from longer ones.
const SPAN_MAX: Duration = Duration::from_secs(60);

/// Spans in microseconds, to two digits; some 20 KiB.
#[derive(Clone, Debug)]
pub struct Durations {
    histogram: Histogram<u64>,
    sum: Duration,
}

impl Default for Durations {
    fn default() -> Self {
        let max = SPAN_MAX.as_micros() as u64;
        Self {
            histogram: Histogram::new_with_bounds(1, max, 2).expect("these bounds are valid"),
            sum: Duration::ZERO,
        }
    }
}

impl Durations {
    /// Counts one; some ten nanoseconds.
    pub fn record(&mut self, took: Duration) {
        self.histogram.saturating_record(took.as_micros() as u64);
        self.sum += took;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Those that took no longer.
    pub fn up_to(&self, limit: Duration) -> u64 {
        self.histogram.count_between(0, limit.as_micros() as u64)
    }

    /// Those that took longer.
    pub fn over(&self, limit: Duration) -> u64 {
        self.histogram.len() - self.up_to(limit)
    }

    /// What so many of a hundred do not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.histogram.value_at_quantile(percent / 100.0))
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.histogram.max())
    }

    /// All together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// The bounds of [`Latency`], in milliseconds: those that boards for the peers' metric know.
pub const LATENCY_BOUNDS_MS: [f64; 13] = [
    0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0,
];

/// Spans by a few bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Of each bound those that are not above it, but above the one before.
    pub counts: [u64; LATENCY_BOUNDS_MS.len()],
    pub count: u64,
    pub sum_micros: u64,
}

impl Latency {
    /// Counts one.
    pub fn record(&mut self, micros: u64) {
        let ms = micros as f64 / 1000.0;
        let at = LATENCY_BOUNDS_MS.partition_point(|bound| *bound < ms);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.count += 1;
        self.sum_micros += micros;
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum_micros += other.sum_micros;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_counted_by_length() {
        let mut spans = Durations::default();
        for micros in [0, 50, 50, 9_000, 11_000, 3_600_000_000] {
            spans.record(Duration::from_micros(micros));
        }
        assert_eq!(
            (spans.count(), spans.over(Duration::from_millis(10))),
            (6, 2)
        );
        assert_eq!(spans.percentile(50.0), Duration::from_micros(50));
        assert!(spans.max() >= SPAN_MAX);
        assert_eq!(spans.sum(), Duration::from_micros(3_600_020_100));
    }

    #[test]
    fn a_bound_is_the_last_that_counts_to_it() {
        let mut latency = Latency::default();
        for micros in [0, 500, 501, 1_000, 5_000_000, 5_000_001] {
            latency.record(micros);
        }
        let mut expected = [0; 13];
        (expected[0], expected[1], expected[12]) = (2, 2, 1);
        assert_eq!((latency.counts, latency.count), (expected, 6));
        let mut twice = latency;
        twice.add(&latency);
        assert_eq!((twice.counts[1], twice.count), (4, 12));
        assert_eq!(twice.sum_micros, 2 * latency.sum_micros);
    }
}
