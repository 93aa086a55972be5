//! The one place that asks what time it is; everyone else is told.
//!
//! A shard is given a [`Now`] by its turn and keeps no clock of its own, so that the simulation can
//! turn time by hand.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment of monotonic time: milliseconds since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(pub u64);

impl Now {
    /// Whole seconds since the process started.
    pub fn secs(self) -> u32 {
        (self.0 / 1000) as u32
    }

    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_millis() as u64))
    }
}

/// The same, where a millisecond is too much: microseconds since the process started. 0 is "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

/// Reads the clocks of the machine. One copy per worker, all with the same start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting now, a little above zero so that 0 can mean "never".
    pub fn start() -> Self {
        let start = Instant::now();
        Self {
            start: start.checked_sub(Duration::from_secs(1)).unwrap_or(start),
        }
    }

    /// Monotonic time.
    pub fn now(&self) -> Now {
        self.now_at(Instant::now())
    }

    /// The same of a moment whose time has been read already.
    pub fn now_at(&self, moment: Instant) -> Now {
        Now(moment.duration_since(self.start).as_millis() as u64)
    }

    /// The same, finer.
    pub fn micros_at(&self, moment: Instant) -> Micros {
        Micros(moment.duration_since(self.start).as_micros() as u64)
    }

    /// Seconds since the Unix epoch, for the window of signed requests (HTTP spec 2.3).
    pub fn unix_secs(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }
}
