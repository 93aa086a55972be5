//! The events that wait for an endpoint, in batches that are made as they come (webhooks 3).
//!
//! Told the time; sends nothing. A batch is created when it closes: with enough events, enough
//! bytes, or after its time. It then waits for its turn and is given up at the age at which its
//! retries would end, so that what is sent late is never older than what is retried.
//!
//! Invariant: no more events, and no more bytes of more than one event, are held than the limits
//! say; the oldest event goes first.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::app::AppSettings;
use crate::app::webhook::EndpointSettings;
use crate::pusher::webhook::BODY_BYTES_AROUND;

/// A moment on both clocks: the one that waits are measured with, and the one that is printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub instant: Instant,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// What batches and queue of an endpoint are held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Zero without batches.
    pub batch_time: Duration,
    pub batch_events_max: usize,
    pub batch_bytes_max: usize,
    pub queue_max: usize,
    pub queue_bytes_max: usize,
    pub age_max: Duration,
}

/// Events that leave in one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub created: Instant,
    pub time_ms: u64,
    /// At least one; each is a JSON object.
    pub events: VecDeque<Bytes>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    open: Option<Open>,
    closed: VecDeque<Batch>,
    events: usize,
    bytes: usize,
}

/// The batch that still takes events.
#[derive(Debug)]
struct Open {
    closes: Instant,
    /// Of the body that it will have.
    bytes: usize,
    events: VecDeque<Bytes>,
}

impl Limits {
    pub(super) fn new(app: &AppSettings, endpoint: &EndpointSettings) -> Self {
        let batch_events_max = if app.webhook_batch {
            app.webhook_batch_events_max
        } else {
            1
        };
        Self {
            batch_time: app.webhook_batch_time,
            batch_events_max,
            batch_bytes_max: app.webhook_batch_bytes_max,
            queue_max: endpoint.queue_max,
            queue_bytes_max: endpoint.queue_bytes_max,
            age_max: endpoint.retry_for,
        }
    }
}

impl Queue {
    /// Adds an event, behind all others. Says how many had to go for it.
    pub(super) fn push(&mut self, event: Bytes, now: Moment, limits: &Limits) -> usize {
        let over = |open: &Open| open.bytes + event.len() > limits.batch_bytes_max;
        if self.open.as_ref().is_some_and(over) {
            self.close(now);
        }
        self.events += 1;
        self.bytes += event.len();
        let open = self.open.get_or_insert_with(|| Open {
            closes: now.instant + limits.batch_time,
            bytes: BODY_BYTES_AROUND,
            events: VecDeque::new(),
        });
        open.bytes += event.len() + 1;
        open.events.push_back(event);
        if open.events.len() >= limits.batch_events_max || open.bytes >= limits.batch_bytes_max {
            self.close(now);
        }
        let mut dropped = 0;
        while self.events > limits.queue_max
            || (self.bytes > limits.queue_bytes_max && self.events > 1)
        {
            self.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// When [`Queue::turn`] has something to do next.
    pub(super) fn due(&self, limits: &Limits) -> Option<Instant> {
        let closes = self.open.as_ref().map(|open| open.closes);
        let expires = self.closed.front().map(|b| b.created + limits.age_max);
        closes.into_iter().chain(expires).min()
    }

    /// Closes the open batch if its time has come, and gives up what is too old. Says how many
    /// events that were.
    pub(super) fn turn(&mut self, now: Moment, limits: &Limits) -> usize {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.closes <= now.instant)
        {
            self.close(now);
        }
        let before = self.events;
        while let Some(batch) = self.closed.front() {
            if batch.created + limits.age_max > now.instant {
                break;
            }
            self.take();
        }
        before - self.events
    }

    /// Closes the open batch before its time: the process ends.
    pub(super) fn close(&mut self, now: Moment) {
        if let Some(open) = self.open.take() {
            self.closed.push_back(Batch {
                created: now.instant,
                time_ms: now.unix_ms,
                events: open.events,
            });
        }
    }

    /// The oldest closed batch.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let batch = self.closed.pop_front()?;
        self.events -= batch.events.len();
        self.bytes -= batch.events.iter().map(Bytes::len).sum::<usize>();
        Some(batch)
    }

    /// Events that are held.
    pub(super) fn len(&self) -> usize {
        self.events
    }

    fn drop_oldest(&mut self) {
        let events = match self.closed.front_mut() {
            Some(batch) => &mut batch.events,
            None => &mut self.open.as_mut().expect("an event is held").events,
        };
        let event = events.pop_front().expect("no batch is empty");
        let emptied = events.is_empty();
        self.events -= 1;
        self.bytes -= event.len();
        if emptied && self.closed.pop_front().is_none() {
            self.open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        batch_time: Duration::from_millis(50),
        batch_events_max: 3,
        batch_bytes_max: 1_000,
        queue_max: 10,
        queue_bytes_max: 10_000,
        age_max: Duration::from_secs(300),
    };

    /// A queue, and moments counted from its beginning.
    struct Bench {
        queue: Queue,
        began: Instant,
        limits: Limits,
    }

    impl Bench {
        fn new(limits: Limits) -> Self {
            Self {
                queue: Queue::default(),
                began: Instant::now(),
                limits,
            }
        }

        fn moment(&self, ms: u64) -> Moment {
            Moment {
                instant: self.began + Duration::from_millis(ms),
                unix_ms: ms,
            }
        }

        fn push(&mut self, ms: u64, event: &str) -> usize {
            let event = Bytes::copy_from_slice(event.as_bytes());
            self.queue.push(event, self.moment(ms), &self.limits)
        }

        fn turn(&mut self, ms: u64) -> usize {
            self.queue.turn(self.moment(ms), &self.limits)
        }

        fn due(&self) -> Option<u128> {
            let due = self.queue.due(&self.limits)?;
            Some((due - self.began).as_millis())
        }

        /// Time and events of the next batch.
        fn take(&mut self) -> Option<(u64, String)> {
            let batch = self.queue.take()?;
            let events: Vec<_> = batch.events.iter().map(|e| &e[..]).collect();
            Some((
                batch.time_ms,
                String::from_utf8(events.join(&b' ')).unwrap(),
            ))
        }
    }

    #[test]
    fn a_batch_closes_after_its_time() {
        let mut bench = Bench::new(LIMITS);
        assert_eq!(bench.due(), None);
        bench.push(100, "a");
        bench.push(130, "b");
        assert_eq!(bench.due(), Some(150));
        bench.turn(149);
        assert_eq!(bench.take(), None);
        bench.turn(150);
        assert_eq!(bench.take(), Some((150, "a b".into())));
        assert_eq!(bench.queue.len(), 0);
    }

    #[test]
    fn a_batch_closes_with_enough_events() {
        let mut bench = Bench::new(LIMITS);
        for event in ["a", "b", "c", "d"] {
            bench.push(7, event);
        }
        assert_eq!(bench.take(), Some((7, "a b c".into())));
        assert_eq!(bench.take(), None);
        bench.turn(57);
        assert_eq!(bench.take(), Some((57, "d".into())));
    }

    #[test]
    fn without_batches_each_event_is_alone_at_once() {
        let mut bench = Bench::new(Limits {
            batch_events_max: 1,
            ..LIMITS
        });
        bench.push(1, "a");
        bench.push(2, "b");
        assert_eq!(bench.take(), Some((1, "a".into())));
        assert_eq!(bench.take(), Some((2, "b".into())));
    }

    #[test]
    fn no_body_of_several_events_is_over_its_bound() {
        for len in [1, 300, 433, 478, 479, 480, 600, 2_000] {
            let mut bench = Bench::new(Limits {
                batch_events_max: 100,
                queue_bytes_max: 1 << 20,
                ..LIMITS
            });
            for _ in 0..9 {
                bench.push(0, &"x".repeat(len));
            }
            bench.turn(50);
            let mut seen = 0;
            while let Some(batch) = bench.queue.take() {
                seen += batch.events.len();
                let events = batch.events.iter().map(|e| &e[..]);
                let body = crate::pusher::webhook::body(u64::MAX, events);
                assert!(body.len() <= 1_000 || batch.events.len() == 1);
            }
            assert_eq!(seen, 9);
        }
    }

    #[test]
    fn over_the_bound_the_oldest_event_goes() {
        let mut bench = Bench::new(LIMITS);
        let dropped: usize = (0..14).map(|n| bench.push(n, &n.to_string())).sum();
        assert_eq!((dropped, bench.queue.len()), (4, 10));
        assert_eq!(bench.take(), Some((5, "4 5".into())));
        assert_eq!(bench.take(), Some((8, "6 7 8".into())));
        // Also where nothing is closed yet.
        let mut bench = Bench::new(Limits {
            queue_max: 2,
            batch_events_max: 100,
            ..LIMITS
        });
        let dropped: usize = (0..5).map(|n| bench.push(n, &n.to_string())).sum();
        bench.turn(100);
        assert_eq!((dropped, bench.take()), (3, Some((100, "3 4".into()))));
    }

    #[test]
    fn bytes_have_a_bound_but_one_event_passes_alone() {
        let mut bench = Bench::new(Limits {
            queue_bytes_max: 100,
            ..LIMITS
        });
        assert_eq!(bench.push(0, &"a".repeat(60)), 0);
        assert_eq!(bench.push(0, &"b".repeat(40)), 0);
        assert_eq!(bench.push(0, "c"), 1);
        assert_eq!(bench.push(0, &"d".repeat(500)), 2);
        assert_eq!(bench.push(0, "e"), 1);
        assert_eq!(bench.queue.len(), 1);
    }

    #[test]
    fn a_batch_is_given_up_at_its_age_and_not_before() {
        let mut bench = Bench::new(LIMITS);
        for event in ["a", "b", "c"] {
            bench.push(1_000, event);
        }
        bench.push(1_000, "d");
        bench.turn(1_050);
        assert_eq!(bench.due(), Some(301_000));
        assert_eq!(bench.turn(300_999), 0);
        assert_eq!(bench.turn(301_000), 3);
        assert_eq!(bench.due(), Some(301_050));
        assert_eq!(bench.turn(301_050), 1);
        assert_eq!((bench.queue.len(), bench.due()), (0, None));
    }

    #[test]
    fn what_is_held_is_what_was_added_less_what_left() {
        let mut random = crate::seed::Seed::new(7);
        for _ in 0..200 {
            let mut bench = Bench::new(Limits {
                queue_max: 1 + random.below(20),
                queue_bytes_max: 1 + random.below(200),
                batch_events_max: 1 + random.below(6),
                batch_bytes_max: 1 + random.below(200),
                ..LIMITS
            });
            let (mut ms, mut added, mut left) = (0, 0, 0);
            for _ in 0..100 {
                ms += random.below(40) as u64;
                if random.below(4) == 0 {
                    left += bench.queue.take().map_or(0, |b| b.events.len());
                    left += bench.turn(ms);
                } else {
                    added += 1;
                    left += bench.push(ms, &"x".repeat(random.below(50)));
                }
                let Queue { open, closed, .. } = &bench.queue;
                let held = closed.iter().flat_map(|b| &b.events);
                let held: Vec<_> = held.chain(open.iter().flat_map(|o| &o.events)).collect();
                assert_eq!(bench.queue.events, held.len());
                assert_eq!(
                    bench.queue.bytes,
                    held.iter().map(|e| e.len()).sum::<usize>()
                );
                assert_eq!(added, left + held.len());
                assert!(closed.iter().all(|batch| !batch.events.is_empty()));
                assert!(held.len() <= bench.limits.queue_max);
            }
        }
    }
}
