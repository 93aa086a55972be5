//! What a shard says of itself when asked: its counters, and of everything else what is there at
//! this moment, taken from what holds it.
//!
//! Invariant: taking one costs the shard no walk over connections, channels or subscriptions; only
//! apps are walked.

use crate::clock::Now;
use crate::metrics::Counters;

use super::Shard;
use super::homes::Occupied;
use super::message::ShardId;

/// The span within which the highest of something is told.
const HIGH_MS: u64 = 60_000;

/// A shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub shard: ShardId,
    /// The version of its apps.
    pub apps: u64,
    pub counters: Counters,
    /// Connections of any kind, and the sessions among them.
    pub connections: usize,
    pub sessions: u32,
    /// Of local sessions, pending ones included; and the channels that they are for.
    pub subscriptions: usize,
    pub channels: usize,
    /// Occupied channels at home here, by the index of the app.
    pub occupied: Vec<Occupied>,
    pub inbox_depth: usize,
    /// The deepest that a turn has found it in the last one to two minutes.
    pub inbox_depth_high: usize,
    /// Messages that found no room in other inboxes.
    pub leftovers: usize,
    /// All that waits for connections; the part that nobody has tried to send; connections that
    /// the kernel has refused or that have much queued.
    pub outbox_bytes: u64,
    pub outbox_bytes_fresh: u64,
    pub queues: usize,
    pub cache_bytes: u64,
    /// Texts that deltas are made from, and filters of subscribers.
    pub base_bytes: u64,
    pub filter_bytes: u64,
    pub congested: bool,
    pub behind: bool,
}

/// The highest of what was noted lately: in the present span and in the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct High {
    span: u64,
    present: usize,
    before: usize,
}

impl High {
    /// Notes a value.
    pub fn note(&mut self, now: Now, value: usize) {
        let span = now.0 / HIGH_MS;
        if span != self.span {
            self.before = match span == self.span + 1 {
                true => self.present,
                false => 0,
            };
            (self.span, self.present) = (span, 0);
        }
        self.present = self.present.max(value);
    }

    /// The highest.
    pub fn value(self) -> usize {
        self.present.max(self.before)
    }
}

impl Shard {
    /// What the shard is at this moment, with so many messages in its inbox.
    pub fn sample(&mut self, inbox_depth: usize) -> Sample {
        let palette = &self.outbox.palette;
        Sample {
            shard: self.id,
            apps: self.apps.version(),
            counters: self.counters.clone(),
            connections: self.conns.len(),
            sessions: self.sessions(),
            subscriptions: self.subscriptions,
            channels: self.local.len(),
            occupied: self.homes.occupied().to_vec(),
            inbox_depth,
            inbox_depth_high: self.inbox_high.value(),
            leftovers: self.leftovers(),
            outbox_bytes: palette.bytes(),
            outbox_bytes_fresh: palette.fresh_bytes(),
            queues: self.outbox.queues(),
            cache_bytes: self.homes.cache_bytes(),
            base_bytes: self.base_bytes(),
            filter_bytes: self.filter_bytes,
            congested: self.congested,
            behind: self.is_behind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_forgotten_after_a_while_and_not_before() {
        let mut high = High::default();
        for (ms, value, expected) in [
            (0, 3, 3),
            (59_999, 1, 3),
            (60_000, 2, 3),
            (119_999, 1, 3),
            (120_000, 1, 2),
            (500_000, 0, 0),
        ] {
            high.note(Now(ms), value);
            assert_eq!(high.value(), expected, "at {ms}");
        }
    }
}
