//! The requests of an app in a window of time, over all shards (HTTP spec 11).
//!
//! One atomic for publishing and one for reading, each packing when its window began and how many
//! requests it has had. A window begins with the first request after the one before has ended. Does
//! not know the limit, which may change by a reload while the count goes on.
//!
//! Invariant: of one window at most as many requests are granted as the greatest limit that it was
//! asked with. Adding first and undoing after would show others a count that was never true.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Most requests of a window that can be counted, and the largest limit.
pub const RATE_REQUESTS_MAX: u32 = (1 << COUNT_BITS) - 1;

const COUNT_BITS: u32 = 30;
/// The beginning in milliseconds, without what is above 198 days: an app that sends nothing for
/// just that long may find the rest of its last window.
const START_MASK: u64 = (1 << (64 - COUNT_BITS)) - 1;
/// How far behind another shard's clock one may be: a window that begins in so near a future has
/// just begun.
const SKEW_MS_MAX: u64 = 60_000;

/// How many requests, in how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Up to [`RATE_REQUESTS_MAX`].
    pub requests: u32,
    pub window: Duration,
}

/// A budget after one request, as the `X-RateLimit-*` fields show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per window.
    pub limit: u64,
    /// Requests left in it.
    pub remaining: u64,
    /// Seconds until it ends, rounded up: whoever waits so long is in the next one.
    pub reset_secs: u64,
}

/// The budgets of an app, each on a cache line of its own: whoever publishes does not wait for
/// those who read.
#[derive(Debug, Default)]
pub struct RateBudgets {
    pub publishing: RateBudget,
    pub reading: RateBudget,
}

/// One budget.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RateBudget(AtomicU64);

impl RateBudget {
    /// Counts one request at `now_ms` of a clock that all shards share.
    ///
    /// # Errors
    /// The window has no more; then nothing is counted.
    pub fn try_take(&self, limit: RateLimit, now_ms: u64) -> Result<Rate, Rate> {
        let window_ms = limit.window.as_millis() as u64;
        let next = |packed: u64| {
            let (start_ms, count) = unpack(packed);
            if count == 0 || age_ms(start_ms, now_ms) >= window_ms {
                return Some(pack(now_ms, 1));
            }
            (count < limit.requests).then(|| pack(start_ms, count + 1))
        };
        // Relaxed: the value itself is all that is shared.
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let shown = |packed: u64| {
            let (start_ms, count) = unpack(packed);
            let left_ms = window_ms.saturating_sub(age_ms(start_ms, now_ms));
            Rate {
                limit: limit.requests.into(),
                remaining: limit.requests.saturating_sub(count).into(),
                reset_secs: left_ms.div_ceil(1000),
            }
        };
        match before {
            Ok(before) => Ok(shown(next(before).unwrap_or(before))),
            Err(full) => Err(shown(full)),
        }
    }
}

fn pack(start_ms: u64, count: u32) -> u64 {
    (start_ms & START_MASK) << COUNT_BITS | u64::from(count)
}

fn unpack(packed: u64) -> (u64, u32) {
    (packed >> COUNT_BITS, packed as u32 & RATE_REQUESTS_MAX)
}

fn age_ms(start_ms: u64, now_ms: u64) -> u64 {
    let age = now_ms.wrapping_sub(start_ms) & START_MASK;
    if age > START_MASK - SKEW_MS_MAX {
        0
    } else {
        age
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    const LIMIT: RateLimit = RateLimit {
        requests: 3,
        window: Duration::from_secs(10),
    };

    fn rate(remaining: u64, reset_secs: u64) -> Rate {
        Rate {
            limit: 3,
            remaining,
            reset_secs,
        }
    }

    /// Peers 24: elsewhere `Retry-After` is rounded down, and who obeys it is refused again.
    #[test]
    fn a_window_begins_with_its_first_request_and_its_rest_is_rounded_up() {
        let budget = RateBudget::default();
        for (now_ms, expected) in [
            (5_000, Ok(rate(2, 10))),
            (5_001, Ok(rate(1, 10))),
            (6_000, Ok(rate(0, 9))),
            (6_000, Err(rate(0, 9))),
            (14_001, Err(rate(0, 1))),
            (14_999, Err(rate(0, 1))),
            (15_000, Ok(rate(2, 10))),
            (60_000, Ok(rate(2, 10))),
        ] {
            assert_eq!(budget.try_take(LIMIT, now_ms), expected, "{now_ms}");
        }
    }

    #[test]
    fn a_refused_request_counts_nothing_and_a_changed_limit_holds_at_once() {
        let budget = RateBudget::default();
        let with = |requests| RateLimit { requests, ..LIMIT };
        assert!(budget.try_take(with(1), 0).is_ok());
        for _ in 0..5 {
            assert!(budget.try_take(with(1), 0).is_err());
        }
        assert_eq!(budget.try_take(LIMIT, 0), Ok(rate(1, 10)));
        assert_eq!(budget.try_take(with(1), 0).map_err(|r| r.remaining), Err(0));
        let short = RateLimit {
            window: Duration::from_secs(1),
            ..LIMIT
        };
        assert_eq!(budget.try_take(short, 1_000), Ok(rate(2, 1)));
    }

    #[test]
    fn a_shard_whose_clock_is_behind_counts_in_the_same_window() {
        let budget = RateBudget::default();
        assert_eq!(budget.try_take(LIMIT, 5_000), Ok(rate(2, 10)));
        assert_eq!(budget.try_take(LIMIT, 4_000), Ok(rate(1, 10)));
        assert_eq!(budget.try_take(LIMIT, 15_000), Ok(rate(2, 10)));
    }

    #[test]
    fn windows_are_told_apart_where_the_packed_time_wraps() {
        let budget = RateBudget::default();
        let wrap = START_MASK + 1;
        for (now_ms, expected) in [
            (wrap - 1_000, Ok(rate(2, 10))),
            (wrap + 1_000, Ok(rate(1, 8))),
            (wrap + 9_000, Ok(rate(2, 10))),
            (wrap + 9_000 + START_MASK / 2, Ok(rate(2, 10))),
        ] {
            assert_eq!(budget.try_take(LIMIT, now_ms), expected, "{now_ms}");
        }
        let most = RateLimit {
            requests: RATE_REQUESTS_MAX,
            ..LIMIT
        };
        let full = RateBudget(AtomicU64::new(pack(u64::MAX, RATE_REQUESTS_MAX - 1)));
        assert_eq!(full.try_take(most, u64::MAX).map(|r| r.remaining), Ok(0));
        assert!(full.try_take(most, u64::MAX).is_err());
    }

    #[test]
    fn exactly_the_limit_is_granted_under_contention_and_each_sees_another_rest() {
        const THREADS: usize = 5;
        const EACH: usize = 2_000;
        let limit = RateLimit {
            requests: 1_000,
            ..LIMIT
        };
        let (budget, start) = (RateBudget::default(), Barrier::new(THREADS));
        let ask = || {
            start.wait();
            let granted = (0..EACH).filter_map(|_| budget.try_take(limit, 7).ok());
            granted.map(|rate| rate.remaining).collect::<Vec<_>>()
        };
        let mut rests: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
            let seen = threads.into_iter().map(|thread| thread.join().unwrap());
            seen.flatten().collect()
        });
        rests.sort_unstable();
        assert!(rests.into_iter().eq(0..1_000));
    }

    #[test]
    fn the_two_budgets_share_no_cache_line() {
        assert!(size_of::<RateBudgets>() >= 256);
    }
}
