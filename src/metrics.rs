//! Plain counters owned by a shard, summed when asked.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What a shard has done since it started.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Sessions greeted.
    pub opened: u64,
    /// Sessions refused before the greeting.
    pub refused: u64,
    /// Connections closed at once because their proxy did not say who the client is.
    pub proxy_headers_missing: u64,
    /// Sessions that have ended.
    pub ended: u64,
    /// Text messages received.
    pub messages: u64,
    /// Sessions that have left every table.
    pub left: u64,
    /// Events that a home has ordered.
    pub published: u64,
    /// Publishes refused for want of room.
    pub publishes_refused: u64,
    /// Frames queued for a connection.
    pub delivered: u64,
    /// Connections closed because they did not take what they were sent.
    pub slow_consumer_closes: u64,
    /// Connections closed because they did not answer a ping.
    pub pong_timeouts: u64,
    /// Cached events that went before their time, for want of room.
    pub cache_evicted: u64,
    /// Deliveries whose number was not the last plus one: 0 unless the server has a defect.
    pub sequence_gaps: u64,
    /// Client events refused.
    pub client_events_refused: u64,
    pub turns: TurnLengths,
}

/// No turn should be longer: a pong, an HTTP answer and a small channel wait for it.
pub const TURN_AIM: Duration = Duration::from_millis(10);

/// The longest turn that is told apart from longer ones.
const TURN_MAX: Duration = Duration::from_secs(60);

/// How long the turns of a shard took, in microseconds, to two digits (decisions 33).
#[derive(Clone, Debug)]
pub struct TurnLengths(Histogram<u64>);

impl Default for TurnLengths {
    fn default() -> Self {
        let max = TURN_MAX.as_micros() as u64;
        Self(Histogram::new_with_bounds(1, max, 2).expect("these bounds are valid"))
    }
}

impl TurnLengths {
    /// Counts a turn; some ten nanoseconds.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(took.as_micros() as u64);
    }

    /// Turns counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Turns longer than [`TURN_AIM`].
    pub fn long(&self) -> u64 {
        self.0.len() - self.0.count_between(0, TURN_AIM.as_micros() as u64)
    }

    /// The length that so many of a hundred turns do not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(percent / 100.0))
    }

    /// The longest turn.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_counted_by_length() {
        let mut turns = TurnLengths::default();
        for micros in [0, 50, 50, 9_000, 11_000, 3_600_000_000] {
            turns.record(Duration::from_micros(micros));
        }
        assert_eq!((turns.count(), turns.long()), (6, 2));
        assert_eq!(turns.percentile(50.0), Duration::from_micros(50));
        assert!(turns.max() >= TURN_MAX);
    }
}
