//! The time that all processes of a run agree on: nanoseconds of the machine's monotonic clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine started, or a span of them.
pub(crate) type Nanos = u64;

pub(crate) const SECOND: Nanos = 1_000_000_000;
pub(crate) const MILLISECOND: Nanos = 1_000_000;
/// Nothing is due.
pub(crate) const NEVER: Nanos = Nanos::MAX;

/// Now.
pub(crate) fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// Seconds since 1970, for signatures and for the report.
pub(crate) fn unix_secs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A span in seconds.
pub(crate) fn secs(span: Nanos) -> f64 {
    Duration::from_nanos(span).as_secs_f64()
}

/// Things that happen at a rate: when each is due, whatever has become of those before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timetable {
    start: Nanos,
    interval: f64,
    taken: u64,
}

impl Timetable {
    /// `rate` a second from `start` on; the first is due at once.
    pub(crate) fn new(start: Nanos, rate: f64) -> Self {
        Self {
            start,
            interval: SECOND as f64 / rate,
            taken: 0,
        }
    }

    /// When the next is due.
    pub(crate) fn due(&self) -> Nanos {
        self.due_in(0)
    }

    /// When the one so many behind the next is due.
    pub(crate) fn due_in(&self, nth: u64) -> Nanos {
        self.start + ((self.taken + nth) as f64 * self.interval) as Nanos
    }

    /// How many are due before a moment and have not been taken in hand.
    pub(crate) fn left(&self, until: Nanos) -> u64 {
        let all = (until.saturating_sub(self.start) as f64 / self.interval).ceil() as u64;
        all.saturating_sub(self.taken)
    }

    /// The next has been taken in hand.
    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_does_not_depend_on_when_it_was_done() {
        let mut table = Timetable::new(5 * SECOND, 4.0);
        let dues: Vec<f64> = (0..5)
            .map(|_| {
                let due = secs(table.due());
                table.take();
                due
            })
            .collect();
        assert_eq!(dues, [5.0, 5.25, 5.5, 5.75, 6.0]);
        let left = [6, 7, 8].map(|until| table.left(until * SECOND));
        assert_eq!(left, [0, 3, 7], "6.25, 6.5, 6.75, ..");
        assert_eq!(secs(table.due_in(2)), 6.75);
    }
}
