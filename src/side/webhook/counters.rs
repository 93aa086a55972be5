//! What has become of webhooks since the process started: shared atomics, which nothing depends on.
//!
//! There is no gauge among them, so that none can drift from the truth: how many events wait is
//! what has been accepted less what has come to an end. Written by the side thread, but for the
//! events that shards could not hand over.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that several threads share.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Events are counted once for each endpoint that wants them.
#[derive(Debug, Default)]
pub struct WebhookCounters {
    /// Events put into the queue of an endpoint.
    pub accepted: Count,
    /// Events that an endpoint has taken.
    pub sent: Count,
    /// Requests that an endpoint has taken.
    pub requests_sent: Count,
    failed: [Count; Failure::ALL.len()],
    dropped: [Count; Dropped::ALL.len()],
}

/// Why an attempt failed. It is made again, unless the webhook is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No complete response head in time.
    Timeout,
    /// No connection, or it ended before the response head did; TLS and names included.
    Network,
    /// A status other than 2xx.
    Status(u16),
    /// The address is one that webhooks must not go to.
    PrivateAddress,
}

/// Why an event was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The queue from the shards was full.
    Inbox,
    /// The endpoint's queue was full; the oldest went.
    Queue,
    /// It was not taken in the time for retries.
    Expired,
    /// Its endpoint, or its app, has left the configuration.
    Gone,
    /// The process ended.
    Shutdown,
}

impl WebhookCounters {
    /// Attempts that failed so, whatever the status.
    pub fn failed(&self, failure: Failure) -> &Count {
        &self.failed[failure.place()]
    }

    /// Events given up so.
    pub fn dropped(&self, dropped: Dropped) -> &Count {
        &self.dropped[dropped as usize]
    }

    /// Events that wait for an endpoint, or for its answer.
    pub fn pending(&self) -> u64 {
        let dropped = Dropped::ALL.iter().filter(|d| **d != Dropped::Inbox);
        let dropped: u64 = dropped.map(|&dropped| self.dropped(dropped).get()).sum();
        // What is accepted later than it is read here only makes it smaller.
        self.accepted
            .get()
            .saturating_sub(self.sent.get() + dropped)
    }
}

impl Failure {
    pub const ALL: [Self; 4] = [
        Self::Timeout,
        Self::Network,
        Self::Status(0),
        Self::PrivateAddress,
    ];

    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Status(_) => "status",
            Self::PrivateAddress => "private_address",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Timeout => 0,
            Self::Network => 1,
            Self::Status(_) => 2,
            Self::PrivateAddress => 3,
        }
    }
}

impl Dropped {
    pub const ALL: [Self; 5] = [
        Self::Inbox,
        Self::Queue,
        Self::Expired,
        Self::Gone,
        Self::Shutdown,
    ];

    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Queue => "queue",
            Self::Expired => "expired",
            Self::Gone => "gone",
            Self::Shutdown => "shutdown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let counters = WebhookCounters::default();
        for (n, failure) in (1..).zip(Failure::ALL) {
            counters.failed(failure).add(n);
        }
        for (n, dropped) in (1..).zip(Dropped::ALL) {
            counters.dropped(dropped).add(n);
        }
        let failed = Failure::ALL.map(|failure| counters.failed(failure).get());
        let dropped = Dropped::ALL.map(|dropped| counters.dropped(dropped).get());
        assert_eq!((failed, dropped), ([1, 2, 3, 4], [1, 2, 3, 4, 5]));
        assert_eq!(counters.failed(Failure::Status(500)).get(), 3);
    }

    #[test]
    fn what_has_not_come_to_an_end_is_pending() {
        let counters = WebhookCounters::default();
        counters.accepted.add(20);
        counters.sent.add(7);
        counters.dropped(Dropped::Expired).add(3);
        counters.dropped(Dropped::Inbox).add(100);
        assert_eq!(counters.pending(), 10);
    }
}
