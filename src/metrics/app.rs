//! What a shard counts of one app.

use std::collections::BTreeMap;

use crate::pusher::channel::ChannelKind;

use super::durations::Latency;

/// One app's share of a shard's work. Bytes of HTTP are of bodies, without heads.
#[derive(Clone, Debug, Default)]
pub struct AppCounters {
    /// Sessions greeted, and sessions that have left every table.
    pub opened: u64,
    pub left: u64,
    /// Sessions refused or closed by the server, by the code of the Close. Those that end because
    /// the process does are none of them.
    pub errors: BTreeMap<u16, u64>,
    /// Messages of clients, and the bytes of their texts.
    pub messages_received: u64,
    pub received_bytes: u64,
    /// Frames queued for clients, of channels and answers, and their bytes with the headers. Who
    /// is closed before the kernel has taken them is sent less.
    pub messages_sent: u64,
    pub sent_bytes: u64,
    /// Requests that the app has signed, and the bytes of their bodies and of the answers'.
    pub http_calls: u64,
    pub http_received_bytes: u64,
    pub http_sent_bytes: u64,
    /// Committed subscriptions, and the end of those, by [`ChannelKind`].
    pub subscriptions: [u64; ChannelKind::ALL.len()],
    pub unsubscriptions: [u64; ChannelKind::ALL.len()],
    /// Requests answered as the first one with their idempotency key was, requests refused because
    /// theirs stood for another body, and keys forgotten before their time for want of room.
    pub idempotent_replays: u64,
    pub idempotency_conflicts: u64,
    pub idempotency_evicted: u64,
    /// By [`Limiter`].
    pub rates: [RateCount; Limiter::ALL.len()],
    /// From an accepted event to the moment when everybody on a shard had been tried, per run.
    pub latencies: BTreeMap<(ChannelKind, Audience), Latency>,
}

impl AppCounters {
    /// Adds what another shard has counted.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.left += other.left;
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
        self.messages_received += other.messages_received;
        self.received_bytes += other.received_bytes;
        self.messages_sent += other.messages_sent;
        self.sent_bytes += other.sent_bytes;
        self.http_calls += other.http_calls;
        self.http_received_bytes += other.http_received_bytes;
        self.http_sent_bytes += other.http_sent_bytes;
        self.idempotent_replays += other.idempotent_replays;
        self.idempotency_conflicts += other.idempotency_conflicts;
        self.idempotency_evicted += other.idempotency_evicted;
        add_each(&mut self.subscriptions, &other.subscriptions);
        add_each(&mut self.unsubscriptions, &other.unsubscriptions);
        for (rate, more) in self.rates.iter_mut().zip(other.rates) {
            rate.checks += more.checks;
            rate.triggered += more.triggered;
        }
        for (audience, latency) in &other.latencies {
            self.latencies.entry(*audience).or_default().add(latency);
        }
    }

    /// Counts a question whether something is within a limit, and the answer.
    pub fn rate(&mut self, limiter: Limiter, within: bool) {
        let count = &mut self.rates[limiter as usize];
        count.checks += 1;
        count.triggered += u64::from(!within);
    }
}

fn add_each(counts: &mut [u64], more: &[u64]) {
    counts
        .iter_mut()
        .zip(more)
        .for_each(|(count, n)| *count += n);
}

/// How many subscribers a run went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    UpTo10,
    UpTo100,
    UpTo1000,
    UpTo10000,
    More,
}

impl Audience {
    /// The class of a number.
    pub fn of(subscribers: u32) -> Self {
        match subscribers {
            0..=10 => Self::UpTo10,
            11..=100 => Self::UpTo100,
            101..=1000 => Self::UpTo1000,
            1001..=10_000 => Self::UpTo10000,
            _ => Self::More,
        }
    }

    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::UpTo10 => "xs",
            Self::UpTo100 => "sm",
            Self::UpTo1000 => "md",
            Self::UpTo10000 => "lg",
            Self::More => "xl",
        }
    }
}

/// Questions to a limit, and those that it answered with no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateCount {
    pub checks: u64,
    pub triggered: u64,
}

/// What limits how often something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limiter {
    /// The app's budget for publishing.
    Publish,
    /// The app's budget for reading.
    Read,
    /// Client events of a connection.
    ClientEvents,
    /// Messages of a connection.
    Messages,
}

impl Limiter {
    pub const ALL: [Self; 4] = [
        Self::Publish,
        Self::Read,
        Self::ClientEvents,
        Self::Messages,
    ];

    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::ClientEvents => "client_events",
            Self::Messages => "messages",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_stands_where_its_counter_is() {
        for (at, limiter) in Limiter::ALL.into_iter().enumerate() {
            assert_eq!(limiter as usize, at);
        }
        for (at, kind) in ChannelKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
        }
    }

    #[test]
    fn audiences_have_the_bounds_of_the_peers() {
        let label = |subscribers| Audience::of(subscribers).label();
        for (first, last, expected) in [
            (1, 10, "xs"),
            (11, 100, "sm"),
            (101, 1000, "md"),
            (1001, 10_000, "lg"),
            (10_001, u32::MAX, "xl"),
        ] {
            assert_eq!((label(first), label(last)), (expected, expected));
        }
    }

    #[test]
    fn a_limit_that_says_no_is_counted_twice_over() {
        let mut app = AppCounters::default();
        app.rate(Limiter::Read, true);
        app.rate(Limiter::Read, false);
        let count = app.rates[Limiter::Read as usize];
        assert_eq!((count.checks, count.triggered), (2, 1));
    }
}
