//! Plain counters owned by a shard, summed when asked.

use std::time::Duration;

/// What a shard has done since it started.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Sessions greeted.
    pub opened: u64,
    /// Sessions refused before the greeting.
    pub refused: u64,
    /// Sessions that have ended.
    pub ended: u64,
    /// Text messages received.
    pub messages: u64,
    /// Sessions that have left every table.
    pub left: u64,
    /// Events that a home has ordered.
    pub published: u64,
    /// Publishes refused for want of room.
    pub publishes_refused: u64,
    /// Frames queued for a connection.
    pub delivered: u64,
    /// Connections closed because they did not take what they were sent.
    pub slow_consumer_closes: u64,
    /// Connections closed because they did not answer a ping.
    pub pong_timeouts: u64,
    /// Cached events that went before their time, for want of room.
    pub cache_evicted: u64,
    /// Deliveries whose number was not the last plus one: 0 unless the server has a defect.
    pub sequence_gaps: u64,
    /// Client events refused.
    pub client_events_refused: u64,
    /// Turns begun.
    pub turns: u64,
    /// Those of them that took longer than [`TURN_AIM`].
    pub turns_long: u64,
    /// The longest turn.
    pub turn_max: Duration,
}

/// No turn should be longer: a pong, an HTTP answer and a small channel wait for it.
pub const TURN_AIM: Duration = Duration::from_millis(10);

impl Counters {
    /// Counts a turn.
    pub fn turn(&mut self, took: Duration) {
        self.turns += 1;
        self.turns_long += u64::from(took > TURN_AIM);
        self.turn_max = self.turn_max.max(took);
    }
}
