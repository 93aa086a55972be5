//! The bounds of what waits for connections, and who is closed at them.
//!
//! A consumer is slow only if the kernel refused it (decisions 22): what waits because the shard has
//! not come round yet is bounded by admission, and answers to a client's own frames by not reading
//! from it.

use super::conns::{Connections, Flag};
use super::outbox::{Outbox, Spill};

/// The bounds of a connection's queue (design, section 5).
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// At the bound a blocked connection is closed with 4100.
    pub bytes_max: u32,
    /// Likewise.
    pub frames_max: u32,
    /// All runs that only blocked connections hold; over it the one with most goes first.
    pub shard_bytes_max: u64,
}

impl Outbox {
    /// The slow-consumer rule: only the kernel's refusal makes a consumer slow, and one large frame
    /// alone passes.
    pub(super) fn judge(&mut self, conns: &mut Connections, slot: u32) {
        let hot = conns.peek(slot);
        if !hot.flags.has(Flag::Blocked) {
            return;
        }
        let Some(spill) = self.spills.get(&slot) else {
            return;
        };
        let over =
            hot.pending_bytes > self.limits.bytes_max || spill.frames > self.limits.frames_max;
        if over && spill.pieces.len() > 1 {
            self.outcomes.slow.push(slot);
        }
    }

    /// Blocked connections that have made no progress since `ms` or earlier, by slot.
    pub fn stalled_before(&self, ms: u64) -> Vec<u32> {
        let is_stalled = |spill: &Spill| spill.stalled_since.0 <= ms && spill.stalled_since.0 > 0;
        let mut slots: Vec<u32> = self
            .spills
            .iter()
            .filter(|(_, s)| is_stalled(s))
            .map(|(&slot, _)| slot)
            .collect();
        slots.sort_unstable();
        slots
    }

    /// Whether the connection has half of its bound queued: then nothing more is read from it until
    /// `Outcomes::drained` names it.
    pub fn pause_if_half_full(&self, conns: &mut Connections, slot: u32) -> bool {
        let hot = conns.hot(slot);
        let half_full = hot.pending_bytes > self.limits.bytes_max / 2;
        if half_full {
            hot.flags.set(Flag::Paused);
        }
        half_full
    }

    /// The blocked connections to close so that what only they hold is under the shard's bound
    /// again, most bytes first.
    pub fn over_shard_bound(&self, conns: &Connections) -> Vec<u32> {
        let held = self.palette.bytes() - self.palette.fresh_bytes();
        if held <= self.limits.shard_bytes_max {
            return Vec::new();
        }
        let mut excess = held - self.limits.shard_bytes_max;
        let mut blocked: Vec<u32> = self
            .spills
            .keys()
            .copied()
            .filter(|&s| conns.peek(s).flags.has(Flag::Blocked))
            .collect();
        blocked.sort_by_key(|&slot| (std::cmp::Reverse(conns.peek(slot).pending_bytes), slot));
        let enough = |slot: &u32| {
            let more = excess > 0;
            excess = excess.saturating_sub(u64::from(conns.peek(*slot).pending_bytes));
            more
        };
        blocked.into_iter().take_while(enough).collect()
    }
}
