//! What a shard lets every other thread see without a message: a few atomics.
//!
//! Each is written by its shard alone (but for the parked flag, which the mesh clears for whoever
//! wakes it) and read by anybody. None orders anything else, and none may decide what must not go
//! wrong by a moment: they are hints, except in the two places that say otherwise.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Four pairs of cache lines: what publishers read for each publish and hardly ever changes, what
/// changes at each park, and what changes in each turn.
#[derive(Debug, Default)]
pub struct ShardStatus {
    admission: Padded<Admission>,
    parked: Padded<AtomicBool>,
    inbox: Padded<Inbox>,
    life: Padded<Life>,
}

#[derive(Debug, Default)]
struct Admission {
    congested: AtomicBool,
    behind: AtomicBool,
}

/// Written by all who push into the inbox and by the shard that takes out of it.
#[derive(Debug, Default)]
struct Inbox {
    frame_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Life {
    turns: AtomicU64,
    sessions: AtomicU32,
    lists_empty: AtomicBool,
}

/// 128 bytes: the adjacent-line prefetcher of x86-64 pairs lines, and some aarch64 have such lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl ShardStatus {
    /// Whether homes on this shard refuse publishes for now (decisions 28).
    pub fn is_congested(&self) -> bool {
        self.admission.congested.load(Ordering::Relaxed)
    }

    /// Said by the shard itself; written only when it changes.
    pub fn set_congested(&self, congested: bool) {
        if self.is_congested() != congested {
            self.admission.congested.store(congested, Ordering::Relaxed);
        }
    }

    /// Bytes of the frames in the shard's inbox.
    pub fn inbox_bytes(&self) -> u64 {
        self.inbox.frame_bytes.load(Ordering::Relaxed)
    }

    /// Said by whoever pushes, before the push: so that what is taken out was counted in.
    pub fn add_inbox_bytes(&self, bytes: usize) {
        if bytes > 0 {
            self.inbox
                .frame_bytes
                .fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Said by the shard for what it took, and by who could not push after all.
    pub fn remove_inbox_bytes(&self, bytes: usize) {
        if bytes > 0 {
            self.inbox
                .frame_bytes
                .fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Whether this shard sends later than it should, so that homes should not feed it.
    pub fn is_behind(&self) -> bool {
        self.admission.behind.load(Ordering::Relaxed)
    }

    /// Said by the shard itself; written only when it changes.
    pub fn set_behind(&self, behind: bool) {
        if self.is_behind() != behind {
            self.admission.behind.store(behind, Ordering::Relaxed);
        }
    }

    /// For the mesh alone, which sets and clears it in the order that parking needs.
    pub(super) fn parked(&self) -> &AtomicBool {
        &self.parked
    }

    /// Whether the shard waits for events and nobody has woken it. A hint: see `prepare_park`.
    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed)
    }

    /// Turns begun. One that neither grows nor is parked for seconds is stuck (decisions 36).
    pub fn turns(&self) -> u64 {
        self.life.turns.load(Ordering::Acquire)
    }

    /// Said by the shard at the start of each turn, before it takes anything from its inbox: so
    /// that who finds the inbox emptied finds this turn too. It is not quiet until it reports.
    pub fn begin_turn(&self) {
        self.life.lists_empty.store(false, Ordering::Relaxed);
        let turns = &self.life.turns;
        // Only the shard writes it: no read-modify-write is needed.
        turns.store(
            turns.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Release,
        );
    }

    /// Sessions that the shard had at the end of its last turn.
    pub fn sessions(&self) -> u32 {
        self.life.sessions.load(Ordering::Relaxed)
    }

    /// Whether the shard ended its last turn without a session and with nothing in any of its
    /// lists, and is not in a turn now.
    pub fn is_quiet(&self) -> bool {
        self.life.lists_empty.load(Ordering::Acquire) && self.sessions() == 0
    }

    /// Said by the shard at the end of each turn: its sessions, and whether all that it owes others
    /// (outgoing messages, queued frames, departed sessions) has gone.
    pub fn report(&self, sessions: u32, lists_empty: bool) {
        self.life.sessions.store(sessions, Ordering::Relaxed);
        self.life.lists_empty.store(lists_empty, Ordering::Release);
    }
}

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_reads_as_it_was_said() {
        let status = ShardStatus::default();
        let hints = || {
            (
                status.is_congested(),
                status.is_behind(),
                status.is_parked(),
            )
        };
        assert_eq!(hints(), (false, false, false));
        status.set_congested(true);
        assert_eq!(hints(), (true, false, false));
        status.set_behind(true);
        status.set_congested(false);
        assert_eq!(hints(), (false, true, false));
        status.set_behind(false);
        status.parked().store(true, Ordering::Relaxed);
        assert_eq!(hints(), (false, false, true));
        assert_eq!(status.turns(), 0);
        status.begin_turn();
        status.begin_turn();
        assert_eq!(status.turns(), 2);
    }

    #[test]
    fn a_shard_is_quiet_without_sessions_and_with_empty_lists() {
        let status = ShardStatus::default();
        assert!(!status.is_quiet(), "it has not reported");
        for (sessions, lists_empty) in [(0, true), (1, true), (0, false), (1, false)] {
            status.report(sessions, lists_empty);
            assert_eq!(status.sessions(), sessions);
            assert_eq!(status.is_quiet(), sessions == 0 && lists_empty);
            status.begin_turn();
            assert!(!status.is_quiet(), "a turn may find anything");
        }
    }

    #[test]
    fn no_two_shards_and_no_two_groups_share_a_line() {
        assert_eq!(
            (align_of::<ShardStatus>(), size_of::<ShardStatus>()),
            (128, 4 * 128)
        );
    }
}
