//! Closing many sessions, spread over a time: all of them when the process ends, those of apps that
//! were removed or disabled by a reload.
//!
//! Who is closed tries again, here or elsewhere; all at once they would come back at once. Slots
//! are looked at downwards, a bounded number in a turn; whoever opens a session meanwhile is none
//! of those meant, because it was admitted by the rules that now hold.

use crate::clock::Now;
use crate::pusher::error::CloseReason;

use super::Shard;
use super::conns::Phase;
use super::outbox::List;

/// At least so many connections are closed in a second, in the whole process (WebSocket spec 5.4).
const CLOSES_PER_SEC_MIN: u64 = 1000;

/// Whom to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    /// Everybody: the process ends.
    All,
    /// Sessions whose app is closing or disabled.
    OfApps,
}

/// A spread that is under way, or, when the process ends, over.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    whom: Whom,
    started: Now,
    until: Now,
    /// Slots to look at, downwards.
    next: u32,
    total: u32,
    closed: u32,
}

impl Spread {
    /// How many are to be closed by now, of a process with so many shards.
    fn due(&self, now: Now, shards: u16) -> u64 {
        let elapsed = now.0.saturating_sub(self.started.0);
        let span = self.until.0.saturating_sub(self.started.0);
        let rate = CLOSES_PER_SEC_MIN.div_ceil(u64::from(shards));
        if elapsed >= span {
            return u64::MAX;
        }
        (u64::from(self.total) * elapsed / span).max(rate * elapsed / 1000)
    }
}

impl Shard {
    /// The process is ending: new sessions are refused, the others closed with 4200 before `until`.
    pub(super) fn on_drain(&mut self, until: Now) {
        if self.is_draining() {
            return;
        }
        let total = self.conns.len() as u32;
        self.begin_spread(Whom::All, until, total);
    }

    /// Some apps no longer take connections: those that they have are closed over a while.
    pub(super) fn close_apps(&mut self) {
        let concerned = |index: u32| self.reason_to_close(index).is_some();
        let apps = self.counters.apps().filter(|(index, _)| concerned(*index));
        let total: u64 = apps.map(|(_, app)| app.opened - app.left).sum();
        if total > 0 && !self.is_draining() {
            let until = self.now.after(self.settings.close_spread);
            self.begin_spread(Whom::OfApps, until, total as u32);
        }
    }

    fn begin_spread(&mut self, whom: Whom, until: Now, total: u32) {
        self.spread = Some(Spread {
            whom,
            started: self.now,
            until,
            next: self.conns.slots(),
            total,
            closed: 0,
        });
        self.go_on_closing();
    }

    /// Whether the shard is closing all its sessions.
    pub fn is_draining(&self) -> bool {
        self.spread.is_some_and(|spread| spread.whom == Whom::All)
    }

    /// Whether the time of a drain is over.
    pub fn is_drain_over(&self) -> bool {
        let is_over = |spread: Spread| spread.whom == Whom::All && self.now >= spread.until;
        self.spread.is_some_and(is_over)
    }

    /// Closes as many as are due, in every turn.
    pub(super) fn go_on_closing(&mut self) {
        let Some(mut spread) = self.spread else {
            return;
        };
        let due = spread.due(self.now, self.settings.shards);
        let mut budget = self.settings.budgets.slots.max(1);
        while spread.next > 0 && u64::from(spread.closed) < due && budget > 0 {
            budget -= 1;
            spread.next -= 1;
            let slot = spread.next;
            if self.conns.peek(slot).phase != Phase::Open {
                continue;
            }
            let reason = match spread.whom {
                Whom::All => Some(CloseReason::Restart),
                Whom::OfApps => {
                    let app = self.conns.session(slot).app;
                    self.reason_to_close(app)
                }
            };
            if let Some(reason) = reason {
                spread.closed += 1;
                self.close_for_in(slot, List::Bulk, reason);
            }
        }
        // A drain goes on refusing whoever comes.
        let is_over = spread.next == 0 && spread.whom == Whom::OfApps;
        self.spread = (!is_over).then_some(spread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_due_as_the_time_says_but_never_fewer_than_the_rate() {
        let spread = |total, span: u64| Spread {
            whom: Whom::All,
            started: Now(5000),
            until: Now(5000 + span),
            next: 0,
            total,
            closed: 0,
        };
        let rows = [
            // Sessions, the span in ms, ms since the start, shards; how many.
            (100_000, 10_000, 0, 1, 0),
            (100_000, 10_000, 5_000, 1, 50_000),
            (100, 10_000, 50, 1, 50),
            (100, 10_000, 50, 4, 12),
            (100, 10_000, 10_000, 1, u64::MAX),
            (0, 0, 0, 1, u64::MAX),
        ];
        for (total, span, elapsed, shards, expected) in rows {
            let due = spread(total, span).due(Now(5000 + elapsed), shards);
            assert_eq!(due, expected, "{total} in {span} after {elapsed}");
        }
    }
}
