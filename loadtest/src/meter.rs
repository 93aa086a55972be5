//! What a worker counts and times.
//!
//! Everything is counted; figures are made of what falls into the measured span, which begins when
//! the warm-up is over. A latency belongs to the moment at which its event was due: an event that
//! was due in the span and came after it counts, or late ones would go unseen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::{self, NEVER, Nanos, Timetable};
use crate::latency::Latencies;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Connections subscribed to all that they wanted.
    Opened,
    /// Connections that did not come so far.
    Failed,
    /// Connections that ended later, other than by this program.
    Ended,
    /// Those of them that did not read and were to be ended.
    Shed,
    /// Publishes that were accepted.
    Published,
    /// Publishes with another answer.
    Refused,
    /// Publishes whose connection ended before the answer.
    Unanswered,
    /// Events that came to a subscriber.
    Delivered,
    /// Client events that were sent.
    Sent,
    /// Errors that a server sent to client events.
    Rejected,
    /// Client events that came to a member.
    Passed,
    /// What was due before the end, and was not done by then.
    Overdue,
    /// Events of another run against the same server.
    Foreign,
    /// Deliveries of either kind to somebody who is not subscribed to what they belong to.
    Misrouted,
    /// Deliveries of either kind that came again.
    Repeated,
    /// Deliveries of either kind that came behind a later one of the same stream.
    Reordered,
    /// Subscriptions to presence channels that were confirmed.
    Joined,
    /// Members that left a presence channel.
    Left,
    /// `member_added` and `member_removed`.
    Members,
    /// Rounds of connecting, subscribing and leaving.
    Cycles,
    /// Changes from one channel to another.
    Switched,
    /// Connections of a storm that were subscribed again.
    Returned,
}

const COUNTS: usize = Count::Returned as usize + 1;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// From when a connection was wanted to its subscription.
    Connect,
    /// From when a publish was due to its delivery.
    Delivery,
    /// From when a publish was due to its answer.
    Answer,
    /// From when a client event was due to each member that got it.
    Pass,
    /// From when a subscription to a presence channel was due to its confirmation.
    Join,
    /// From when a change was due to the confirmation of the new channel.
    Switch,
    /// From when a connection was due to be opened to its subscription, in `churn`.
    Cycle,
    /// From the end of all connections until all were subscribed again.
    Storm,
}

const SPANS: usize = Span::Storm as usize + 1;

/// Different reasons that are kept; further ones count together.
const REASONS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Meter {
    /// Set by whoever reads the clock.
    pub(crate) now: Nanos,
    from: Nanos,
    until: Nanos,
    totals: [u64; COUNTS],
    measured: [u64; COUNTS],
    spans: [Option<Box<Latencies>>; SPANS],
    reasons: BTreeMap<String, u64>,
    /// Since the last tick: what the progress line and the timeline show.
    shown: (Count, Span),
    recent: Latencies,
    shown_before: u64,
    /// When the last tick was taken.
    ticked: Nanos,
}

impl Meter {
    pub(crate) fn new(shown: (Count, Span)) -> Self {
        Self {
            now: 0,
            from: NEVER,
            until: NEVER,
            totals: [0; COUNTS],
            measured: [0; COUNTS],
            spans: [const { None }; SPANS],
            reasons: BTreeMap::new(),
            shown,
            recent: Latencies::new(),
            shown_before: 0,
            ticked: 0,
        }
    }

    /// Sets the span of which figures are made.
    pub(crate) fn measure(&mut self, from: Nanos, until: Nanos) {
        (self.from, self.until) = (from, until);
    }

    pub(crate) fn count(&mut self, what: Count, many: u64) {
        self.totals[what as usize] += many;
        if self.is_measured(self.now) {
            self.measured[what as usize] += many;
        }
    }

    /// Something that was due at `due` is done.
    pub(crate) fn time(&mut self, what: Span, due: Nanos) {
        self.time_some(what, due, 1);
    }

    fn time_some(&mut self, what: Span, due: Nanos, many: u64) {
        let took = self.now.saturating_sub(due);
        if what == self.shown.1 {
            self.recent.add(took, many);
        }
        // Connecting precedes the measured span, and is a result all the same.
        if self.is_measured(due) || what == Span::Connect {
            self.spans[what as usize]
                .get_or_insert_with(|| Box::new(Latencies::new()))
                .add(took, many);
        }
    }

    /// Something that was due at `due` is not done, and will not be: it took this long at least.
    pub(crate) fn overdue(&mut self, what: Span, due: Nanos) {
        self.count(Count::Overdue, 1);
        self.time(what, due);
    }

    /// The same for all that a timetable had due before `until` and nobody has taken in hand, each of
    /// which would have been timed so many times. Of very many, one stands for some.
    pub(crate) fn overdue_all(&mut self, what: Span, table: &Timetable, until: Nanos, times: u64) {
        const TIMED_MAX: u64 = 100_000;
        let count = table.left(until);
        self.count(Count::Overdue, count);
        let step = count.div_ceil(TIMED_MAX).max(1);
        for nth in (0..count).step_by(step as usize) {
            self.time_some(what, table.due_in(nth), times * step.min(count - nth));
        }
    }

    fn is_measured(&self, at: Nanos) -> bool {
        self.from <= at && at < self.until
    }

    /// Why something went wrong.
    pub(crate) fn blame(&mut self, reason: &str) {
        let is_known = self.reasons.contains_key(reason);
        let reason = match is_known || self.reasons.len() < REASONS_MAX {
            true => reason,
            false => "other reasons",
        };
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    pub(crate) fn total(&self, what: Count) -> u64 {
        self.totals[what as usize]
    }

    /// The reason that came most often.
    pub(crate) fn main_reason(&self) -> Option<&str> {
        let most = self.reasons.iter().max_by_key(|(_, count)| **count);
        most.map(|(reason, _)| reason.as_str())
    }

    /// What has happened since the last tick.
    pub(crate) fn take_tick(&mut self, connections: u64) -> Tick {
        let shown = self.total(self.shown.0);
        let done = shown - self.shown_before;
        // A worker that is late tells of more than a second.
        let span = match self.ticked {
            0 => clock::SECOND,
            ticked => self.now.saturating_sub(ticked).max(clock::MILLISECOND),
        };
        self.ticked = self.now;
        let tick = Tick {
            rate: done as f64 / clock::secs(span),
            errors: [
                Count::Failed,
                Count::Ended,
                Count::Refused,
                Count::Unanswered,
                Count::Rejected,
                Count::Misrouted,
                Count::Repeated,
                Count::Reordered,
            ]
            .map(|error| self.total(error))
            .iter()
            .sum(),
            connections,
            latencies: self.recent.clone(),
        };
        self.shown_before = shown;
        self.recent.clear();
        tick
    }

    /// All that was counted and timed.
    pub(crate) fn finish(self) -> Metered {
        Metered {
            totals: self.totals.to_vec(),
            measured: self.measured.to_vec(),
            spans: self
                .spans
                .into_iter()
                .map(|span| span.map(|span| *span))
                .collect(),
            reasons: self.reasons,
        }
    }
}

/// A second or so of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tick {
    /// Done a second.
    pub(crate) rate: f64,
    /// Of the whole run so far.
    pub(crate) errors: u64,
    pub(crate) connections: u64,
    pub(crate) latencies: Latencies,
}

impl Tick {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.rate += other.rate;
        self.errors += other.errors;
        self.connections += other.connections;
        self.latencies.merge(&other.latencies);
    }
}

/// What one worker, or all of them, counted and timed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Metered {
    totals: Vec<u64>,
    measured: Vec<u64>,
    spans: Vec<Option<Latencies>>,
    pub(crate) reasons: BTreeMap<String, u64>,
}

impl Metered {
    pub(crate) fn merge(&mut self, other: Self) {
        self.totals.resize(COUNTS, 0);
        self.measured.resize(COUNTS, 0);
        self.spans.resize(SPANS, None);
        for (mine, theirs) in [
            (&mut self.totals, &other.totals),
            (&mut self.measured, &other.measured),
        ] {
            mine.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        }
        for (mine, theirs) in self.spans.iter_mut().zip(other.spans) {
            match (mine.as_mut(), theirs) {
                (Some(mine), Some(theirs)) => mine.merge(&theirs),
                (None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }

    /// Of the whole run, warm-up included.
    pub(crate) fn total(&self, what: Count) -> u64 {
        self.totals.get(what as usize).copied().unwrap_or(0)
    }

    /// In the measured span.
    pub(crate) fn measured(&self, what: Count) -> u64 {
        self.measured.get(what as usize).copied().unwrap_or(0)
    }

    /// What was due in the measured span.
    pub(crate) fn span(&self, what: Span) -> Option<&Latencies> {
        self.spans.get(what as usize)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_is_counted_and_not_measured() {
        let mut meter = Meter::new((Count::Delivered, Span::Delivery));
        meter.measure(100_000_000, 200_000_000);
        for (now, due) in [(50, 40), (110, 90), (150, 140), (260, 190), (270, 210)] {
            meter.now = now * 1_000_000;
            meter.count(Count::Delivered, 1);
            meter.time(Span::Delivery, due * 1_000_000);
        }
        assert_eq!(meter.take_tick(3).rate, 5.0, "of the first second");
        meter.count(Count::Delivered, 8);
        meter.now += 4_000_000_000;
        assert_eq!(meter.take_tick(3).rate, 2.0, "of four seconds");
        let metered = meter.finish();
        assert_eq!(metered.total(Count::Delivered), 13);
        assert_eq!(metered.measured(Count::Delivered), 2, "at 110 and 150");
        let latencies = metered.span(Span::Delivery).unwrap();
        assert_eq!(latencies.count(), 2, "due at 140 and 190");
        assert!(
            (latencies.max() - 70.0).abs() < 0.1,
            "the one that came at 260"
        );
    }

    /// Or a server that stands still would have the latencies of what it did before.
    #[test]
    fn what_was_due_and_not_done_took_as_long_as_was_waited() {
        let mut meter = Meter::new((Count::Cycles, Span::Cycle));
        meter.measure(0, 10 * clock::SECOND);
        let mut table = Timetable::new(0, 2.0);
        (0..4).for_each(|_| table.take());
        meter.now = 12 * clock::SECOND;
        meter.overdue_all(Span::Cycle, &table, 10 * clock::SECOND, 3);
        assert_eq!(meter.total(Count::Overdue), 16);
        let metered = meter.finish();
        let latencies = metered.span(Span::Cycle).unwrap();
        assert_eq!(latencies.count(), 3 * 16, "due at 2, 2.5, .. 9.5 s");
        assert!(
            (latencies.max() - 10_000.0).abs() < 10.0,
            "{}",
            latencies.max()
        );
        assert!((latencies.at(0.0) - 2_500.0).abs() < 5.0);
    }

    #[test]
    fn workers_add_up() {
        let worker = |latency_ms: u64| {
            let mut meter = Meter::new((Count::Opened, Span::Connect));
            meter.now = latency_ms * 1_000_000;
            meter.count(Count::Opened, latency_ms);
            meter.time(Span::Connect, 0);
            meter.blame("closed");
            meter.finish()
        };
        let mut all = Metered::default();
        all.merge(worker(2));
        all.merge(worker(4));
        assert_eq!(all.total(Count::Opened), 6);
        assert_eq!(all.span(Span::Connect).unwrap().count(), 2);
        assert_eq!(all.reasons["closed"], 2);
        assert!(all.span(Span::Storm).is_none());
    }

    #[test]
    fn reasons_are_bounded() {
        let mut meter = Meter::new((Count::Opened, Span::Connect));
        (0..100).for_each(|n| meter.blame(&format!("reason {n}")));
        assert_eq!(meter.finish().reasons.len(), REASONS_MAX + 1);
    }
}
