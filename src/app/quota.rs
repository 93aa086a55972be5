//! The connections that an app has at this moment, over all shards.
//!
//! Taken before the greeting, released with the session, exactly once each. Does not know the
//! limit, which may change by a reload while the count goes on.
//!
//! Invariant: the count never exceeds the greatest limit it was ever taken with, not even for an
//! instant. Adding first and undoing after would refuse a rightful connection in between.

use std::sync::atomic::{AtomicU64, Ordering};

/// One atomic that all shards share.
#[derive(Debug, Default)]
pub struct ConnectionQuota(AtomicU64);

impl ConnectionQuota {
    /// Counts one more connection if fewer than `max` are counted; `None` always counts it.
    #[must_use = "what was taken must be released"]
    pub fn try_take(&self, max: Option<u64>) -> bool {
        let room = |taken: u64| (taken < max.unwrap_or(u64::MAX)).then(|| taken + 1);
        // Relaxed: the number itself is all that is shared.
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .is_ok()
    }

    /// Gives back what one successful `try_take` took.
    pub fn release(&self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a quota is released as often as it was taken");
    }

    /// Connections at this moment.
    pub fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;

    #[test]
    fn exactly_the_limit_is_granted_under_contention() {
        const THREADS: u64 = 8;
        const EACH: u64 = 2_000;
        let quota = Arc::new(ConnectionQuota::default());
        let start = Arc::new(Barrier::new(THREADS as usize));
        let granted = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (quota, start, granted) = (quota.clone(), start.clone(), granted.clone());
                thread::spawn(move || {
                    start.wait();
                    for _ in 0..EACH {
                        granted.fetch_add(quota.try_take(Some(1_000)).into(), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(
            (granted.load(Ordering::Relaxed), quota.taken()),
            (1_000, 1_000)
        );
    }

    #[test]
    fn whoever_gave_one_back_may_take_one_whatever_the_others_try() {
        const THREADS: usize = 4;
        // As many places as threads, each holding at most one: no attempt may ever fail.
        let quota = Arc::new(ConnectionQuota::default());
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let quota = quota.clone();
                thread::spawn(move || {
                    for _ in 0..5_000 {
                        assert!(quota.try_take(Some(THREADS as u64)));
                        quota.release();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(quota.taken(), 0);
    }

    #[test]
    fn no_limit_grants_always_and_a_lowered_limit_refuses_at_once() {
        let quota = ConnectionQuota::default();
        assert!(quota.try_take(None) && quota.try_take(None));
        assert!(!quota.try_take(Some(2)));
        assert!(!quota.try_take(Some(0)));
        assert!(quota.try_take(Some(3)));
    }
}
