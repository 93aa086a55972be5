//! How many sends a turn may have: as many as take about 2 ms, by what the last ones took.
//!
//! A send costs 5 to 30 us, by the machine, its neighbours, the size of the frames and whether the
//! other end sleeps; in one turn 256 of them were anything up to 8 ms, and everybody else waits for
//! the turn. It does not look at a clock: it is told. The budget of the shard stays the upper bound
//! (decisions 33), and the bound of a batch in bytes is the outbox's.
//!
//! Invariant: `SENDS_MIN <= sends`, so that a slow moment costs throughput little and passes.

use std::time::Duration;

/// What the sends of a turn may take, about.
const FLUSH_AIM: Duration = Duration::from_millis(2);

/// However long they take; also the least from whose time anything is concluded.
pub const SENDS_MIN: usize = 64;

/// Of the sends, at least this share is for the bulk list, if it has them.
const BULK_SHARE: usize = 4;

/// What the next turn may send.
#[derive(Clone, Copy, Debug)]
pub struct SendPace {
    sends: usize,
}

impl Default for SendPace {
    /// As many as the budget allows.
    fn default() -> Self {
        Self { sends: usize::MAX }
    }
}

impl SendPace {
    /// Sends, and those of them that the bulk list is sure of, within the shard's budgets.
    pub fn sends(self, max: usize, bulk_max: usize) -> (usize, usize) {
        let sends = self.sends.min(max);
        (sends, bulk_max.min(sends.div_ceil(BULK_SHARE)))
    }

    /// So many sends took so long.
    pub fn on_sent(&mut self, count: usize, took: Duration) {
        if count < SENDS_MIN {
            return;
        }
        let nanos = took.as_nanos().max(1);
        let sends = count as u128 * FLUSH_AIM.as_nanos() / nanos;
        self.sends = usize::try_from(sends).map_or(usize::MAX, |sends| sends.max(SENDS_MIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_as_many_sends_as_take_two_milliseconds() {
        let rows = [
            // Sends and their microseconds; then the sends of the next turn, and for bulk.
            (256, 1_000, (256, 64)),
            (256, 2_000, (256, 64)),
            (256, 4_000, (128, 32)),
            (128, 1_000, (256, 64)),
            (256, 5_120, (100, 25)),
            (256, 30_000, (64, 16)),
            (64, 500, (256, 64)),
            (64, 0, (256, 64)),
        ];
        for (count, micros, expected) in rows {
            let mut pace = SendPace::default();
            pace.on_sent(count, Duration::from_micros(micros));
            assert_eq!(pace.sends(256, 64), expected, "{count} in {micros} us");
        }
    }

    #[test]
    fn few_sends_say_nothing() {
        let mut pace = SendPace::default();
        pace.on_sent(256, Duration::from_millis(4));
        pace.on_sent(63, Duration::from_nanos(1));
        pace.on_sent(1, Duration::from_secs(1));
        assert_eq!(pace.sends(256, 64), (128, 32));
    }

    #[test]
    fn the_budget_is_the_upper_bound() {
        assert_eq!(SendPace::default().sends(256, 64), (256, 64));
        assert_eq!(SendPace::default().sends(1, 1), (1, 1));
        assert_eq!(SendPace::default().sends(8, 0), (8, 0));
    }
}
