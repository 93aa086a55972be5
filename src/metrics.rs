//! What a shard counts: plain integers that it owns, summed when somebody asks.
//!
//! Nothing here is shared between threads and nothing is a gauge: how many there are of something
//! at this moment is asked of what holds them (`shard::sample`), so that no number can drift from
//! the truth. A count of an app is in [`AppCounters`], a count of the shard in [`Counters`].
//!
//! Invariant: a counter only grows while its process lives.

use std::collections::BTreeMap;
use std::time::Duration;

mod app;
mod durations;

pub use app::{AppCounters, Audience, Limiter, RateCount};
pub use durations::{Durations, LATENCY_BOUNDS_MS, Latency};

/// What a shard has done since it started.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Sessions greeted.
    pub opened: u64,
    /// Sessions refused before the greeting.
    pub refused: u64,
    /// Those of them that no app could be told of, by the code of the Close.
    pub errors: BTreeMap<u16, u64>,
    /// Connections closed at once because their proxy did not say who the client is.
    pub proxy_headers_missing: u64,
    /// Sessions that have ended.
    pub ended: u64,
    /// Sessions that have left every table.
    pub left: u64,
    /// Events that a home has ordered.
    pub published: u64,
    /// Publishes, and terminations of users, refused for want of room, by [`PublishRefusal`].
    pub publishes_refused: [u64; PublishRefusal::ALL.len()],
    /// Frames of channels queued for a connection.
    pub delivered: u64,
    /// Sends to connections, those that the kernel refused, and the bytes that it took.
    pub sends: u64,
    pub sends_refused: u64,
    pub sent_bytes: u64,
    /// Parked shards that this one has woken.
    pub wakes: u64,
    /// Connections closed because they did not take what they were sent.
    pub slow_consumer_closes: u64,
    /// Connections closed because they did not answer a ping.
    pub pong_timeouts: u64,
    /// Connections closed because they did not authorise themselves in time.
    pub unauthorised_closes: u64,
    /// Connections that have signed in as a user.
    pub sign_ins: u64,
    /// Sign-ins refused.
    pub sign_ins_refused: u64,
    /// Connections closed because their user was terminated.
    pub terminated: u64,
    /// Cached events that went before their time, for want of room.
    pub cache_evicted: u64,
    /// Requests to which homes did not answer in time.
    pub questions_expired: u64,
    /// Answers to queries that were over their bound.
    pub answers_too_large: u64,
    /// Requests ended because the shard had no room to collect them or their answer.
    pub requests_out_of_room: u64,
    /// Deltas encoded, and texts that could not be kept as bases for want of room.
    pub deltas_encoded: u64,
    pub delta_texts_dropped: u64,
    /// Deltas for those who filter that were not looked for, because enough texts had been compared
    /// for their event.
    pub deltas_left: u64,
    /// Deliveries whose number was not the last plus one: 0 unless the server has a defect.
    pub sequence_gaps: u64,
    /// Webhook events that were held back for a shorter time than they should, for want of room.
    pub webhooks_early: u64,
    /// Webhook events that never left the shard, for want of room.
    pub webhooks_dropped: u64,
    /// Client events refused.
    pub client_events_refused: u64,
    /// How long turns took (decisions 33).
    pub turns: Durations,
    /// From an accepted event to the moment when everybody here had been tried, per run.
    pub deliveries: Durations,
    /// By the index of the app.
    apps: Vec<Option<Box<AppCounters>>>,
}

/// Why a home took no publish (decisions 28).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefusal {
    /// Its inbox, and what waits for it, is over three quarters full.
    Inbox,
    /// The frames in its inbox are over the bound in bytes.
    InboxBytes,
    /// It has leftovers, or a shard that it feeds is behind with its sends.
    Congested,
}

impl PublishRefusal {
    pub const ALL: [Self; 3] = [Self::Inbox, Self::InboxBytes, Self::Congested];

    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::InboxBytes => "inbox_bytes",
            Self::Congested => "congested",
        }
    }
}

impl Counters {
    /// The counters of an app, by its index.
    pub fn app(&mut self, index: u32) -> &mut AppCounters {
        let at = index as usize;
        if self.apps.len() <= at {
            self.apps.resize_with(at + 1, || None);
        }
        self.apps[at].get_or_insert_default()
    }

    /// The apps that have something counted, with their indexes.
    pub fn apps(&self) -> impl Iterator<Item = (u32, &AppCounters)> {
        let apps = (0..).zip(&self.apps);
        apps.filter_map(|(index, app)| Some((index, app.as_deref()?)))
    }

    /// The sum of a counter over all apps.
    pub fn sum(&self, counter: impl Fn(&AppCounters) -> u64) -> u64 {
        self.apps().map(|(_, app)| counter(app)).sum()
    }
}

/// No turn should be longer: a pong, an HTTP answer and a small channel wait for it.
pub const TURN_AIM: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_are_counted_apart_and_summed() {
        let mut counters = Counters::default();
        counters.app(7).messages_received += 2;
        counters.app(0).messages_received += 3;
        assert_eq!(counters.sum(|app| app.messages_received), 5);
        let counted: Vec<u32> = counters.apps().map(|(index, _)| index).collect();
        assert_eq!(counted, [0, 7]);
    }
}
