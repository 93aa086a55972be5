//! The end of a session, seen from the wire: Close, and what is still sent around it.
//!
//! The session leaves every channel at once, so that presence and counts are right even if the peer
//! never answers. `net` half-closes when the last byte is out and gives the peer a moment
//! (WebSocket spec 5.3).

use crate::pusher::error::CloseReason;
use crate::ws::close::encode_close;

use super::Shard;
use super::conns::Phase;
use super::message::SessionKey;
use super::outbox::List;

/// Seconds between the last byte of a Close and the end of the connection, at most.
pub const CLOSING_SECS_MAX: u32 = 1;

impl Shard {
    /// Sends a Close and takes nothing more. What a blocked connection has queued behind its begun
    /// frame is dropped.
    pub fn close(&mut self, slot: u32, code: u16, reason: &str) {
        self.close_in(slot, List::Express, code, reason);
    }

    /// The same, in a list of the caller's choice.
    pub(super) fn close_in(&mut self, slot: u32, list: List, code: u16, reason: &str) {
        if self.conns.peek(slot).phase != Phase::Open {
            return;
        }
        self.conns.hot(slot).phase = Phase::Closing;
        self.outbox
            .seal(&mut self.conns, slot, list, self.time, |out| {
                encode_close(code, reason, out)
            });
        self.begin_leaving(slot);
        let secs = self.time_secs() + CLOSING_SECS_MAX + 1;
        self.wheel.set(slot, secs);
    }

    /// The client's Close: answered with its code, 1000 if it gave none.
    pub fn on_close(&mut self, slot: u32, code: Option<u16>) {
        self.close(slot, code.unwrap_or(1000), "");
    }

    /// The last answer of a connection that speaks HTTP has been appended: nothing follows it.
    pub fn finish_http(&mut self, slot: u32) {
        if self.conns.peek(slot).phase != Phase::Http {
            return;
        }
        self.conns.hot(slot).phase = Phase::Closing;
        self.outbox.seal_behind(&mut self.conns, slot);
        let secs = self.time_secs() + CLOSING_SECS_MAX + 1;
        self.wheel.set(slot, secs);
    }

    /// Connections over a bound that only blocked ones can reach.
    pub fn close_slow_consumers(&mut self) {
        let mut slow = std::mem::take(&mut self.outbox.outcomes.slow);
        slow.extend(self.outbox.over_shard_bound(&self.conns));
        for slot in slow {
            if self.conns.peek(slot).phase == Phase::Open {
                self.counters.slow_consumer_closes += 1;
                self.close_for(slot, CloseReason::SlowConsumer);
            }
        }
    }

    /// The stream has ended, for whatever reason: the slot is released when the session is out of
    /// every table.
    pub fn on_departed(&mut self, key: SessionKey) {
        if !self.conns.is_current(key) || self.conns.peek(key.slot).phase == Phase::Departed {
            return;
        }
        self.outbox.discard(&mut self.conns, key.slot);
        self.wheel.clear(key.slot);
        self.begin_leaving(key.slot);
        self.conns.hot(key.slot).phase = Phase::Departed;
        self.leave_or_release(key.slot);
    }

    /// Slots whose session has left every table: their descriptors may be closed, then
    /// [`Shard::on_closed`].
    pub fn take_released(&mut self, into: &mut Vec<u32>) {
        into.append(&mut self.released);
    }

    /// The descriptor of a released slot is closed.
    pub fn on_closed(&mut self, slot: u32) {
        self.conns.give_back(slot);
        self.capacity.release();
    }
}
