//! What has become of webhooks since the process started: shared atomics, which nothing depends on.

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

/// Events, where nothing else is said.
#[derive(Debug, Default)]
pub struct WebhookCounters {
    /// Dropped because the queue to the side thread was full.
    pub dropped_inbox: Count,
}
