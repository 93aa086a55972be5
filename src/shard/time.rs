//! What time does to a shard: liveness, stalled consumers.
//!
//! Deadlines of clients run on the shard's own time, which stands still while the shard does: after
//! a stall nobody is closed for a silence that was ours (decisions 41).

use crate::clock::{Micros, Now};
use crate::pusher::error::CloseReason;
use crate::pusher::outbound;
use crate::ws::frame::{self, OpCode};

use super::conns::{Flag, Phase};
use super::message::SessionKey;
use super::outbox::List;
use super::{Probe, Shard};

/// A turn that begins so much later than the last one follows a stall; a parked shard wakes each
/// second.
const STALL_MS: u64 = 2000;

impl Shard {
    /// Seconds of the shard's own time.
    pub(super) fn time_secs(&self) -> u32 {
        self.time.secs()
    }

    /// The clock of the turn.
    pub fn on_time(&mut self, now: Now) {
        let gap = now.0.saturating_sub(self.now.0);
        let passed = match self.now {
            Now(0) => gap,
            _ if !self.reading => 0,
            _ if gap > STALL_MS => STALL_MS / 2,
            _ => gap,
        };
        self.time = Now(self.time.0 + passed);
        self.now = now;
    }

    /// What comes next has come at this moment.
    pub fn on_moment(&mut self, moment: Micros) {
        self.moment = moment;
    }

    /// The moment of what is being handled.
    pub fn moment(&self) -> Micros {
        self.moment
    }

    /// The time of the turn.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Looks at the connections that are due, and goes on with what is done little by little, within
    /// the turn's budgets.
    pub fn turn_wheel(&mut self) {
        let secs = self.time_secs();
        let mut budget = self.settings.budgets.due.max(1);
        while budget > 0
            && let Some(slot) = self.wheel.due(secs)
        {
            budget -= 1;
            self.on_due(slot, secs);
        }
        self.end_count_windows();
        self.end_delays();
        self.close_terminated();
        self.go_on_closing();
        self.forget_cached();
        self.expire_claims();
    }

    fn on_due(&mut self, slot: u32, secs: u32) {
        match self.conns.peek(slot).phase {
            Phase::Free | Phase::Departed => {}
            Phase::Http | Phase::Closing => self.expired.push(self.conns.key(slot)),
            Phase::Open => self.on_session_due(slot, secs),
        }
    }

    /// Connections that are not sessions and whose deadline may have come; `net` knows which it
    /// was.
    pub fn take_expired(&mut self, into: &mut Vec<SessionKey>) {
        into.append(&mut self.expired);
    }

    /// Asks for a connection to be handed out by [`Shard::take_expired`], `secs` from now or
    /// earlier. Gives the second of the shard's time, for [`Shard::secs_until`].
    pub fn expire_in(&mut self, slot: u32, secs: u32) -> u32 {
        let at = self.time_secs() + secs;
        self.wheel.set(slot, at);
        at
    }

    /// Seconds left until a second of the shard's time; 0 when it has come.
    pub fn secs_until(&self, at: u32) -> u32 {
        at.saturating_sub(self.time_secs())
    }

    /// A session is looked at: not authorised in time, stalled, unanswered, silent, or alive.
    /// A silent client is always asked first, so 4202 is never reached (WebSocket spec 4.3).
    fn on_session_due(&mut self, slot: u32, secs: u32) {
        if !self.watch_authorisation(slot, secs) {
            return;
        }
        let hot = *self.conns.peek(slot);
        let activity = self.settings.activity_timeout.as_secs() as u32;
        let pong = self.settings.pong_timeout.as_secs() as u32;
        if hot.flags.has(Flag::Blocked) {
            // A ping cannot enter; the rule for slow consumers decides (see `watch_stalls`).
            return self.wheel.set(slot, secs + pong);
        }
        if self.is_waiting(slot) {
            // What it says is held, so that nobody knows whether it is silent.
            return self.wheel.set(slot, secs + pong);
        }
        if !hot.flags.has(Flag::Pinged) {
            // A second more, since the frame may have come at the end of its second.
            let due = hot.last_seen_secs + activity + 1;
            if secs < due {
                return self.wheel.set(slot, due);
            }
            return self.ping(slot, secs);
        }
        if hot.flags.has(Flag::PingQueued) {
            return self.wheel.set(slot, secs + pong);
        }
        let due = self.conns.session(slot).pinged_secs + pong;
        if secs < due {
            return self.wheel.set(slot, due);
        }
        self.counters.pong_timeouts += 1;
        self.close_for(slot, CloseReason::PongTimeout);
    }

    fn ping(&mut self, slot: u32, secs: u32) {
        match self.settings.probe {
            Probe::Ping => {
                let write = |out: &mut Vec<u8>| frame::encode_header(OpCode::Ping, true, 0, out);
                self.outbox
                    .answer_in(&mut self.conns, slot, List::Bulk, self.time, write);
            }
            Probe::Pusher => self.answer_in(slot, List::Bulk, outbound::ping),
        }
        let hot = self.conns.hot(slot);
        hot.flags.set(Flag::Pinged);
        hot.flags.set(Flag::PingQueued);
        self.wheel
            .set(slot, secs + self.settings.pong_timeout.as_secs() as u32);
    }

    /// Pings that have entered the kernel: the pong deadline begins.
    pub fn on_pings_sent(&mut self) {
        // Counted from the end of this second, or a short deadline would be mostly over.
        let secs = self.time_secs() + 1;
        for slot in std::mem::take(&mut self.outbox.outcomes.pinged) {
            self.conns.session(slot).pinged_secs = secs;
        }
    }

    /// Closes blocked connections whose socket has taken nothing for too long; looks once a second.
    pub fn watch_stalls(&mut self) {
        let secs = self.time_secs();
        if std::mem::replace(&mut self.stalls_watched, secs) == secs {
            return;
        }
        let stall_ms = self.settings.stall_max.as_millis() as u64;
        for slot in self
            .outbox
            .stalled_before(self.time.0.saturating_sub(stall_ms))
        {
            if self.conns.peek(slot).phase == Phase::Open {
                self.counters.slow_consumer_closes += 1;
                self.close_for(slot, CloseReason::SlowConsumer);
            }
        }
    }
}
