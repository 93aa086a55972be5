//! What so many connections take, by the layout of the tables (decisions 7) and by what was
//! measured: 634 bytes of memory that belongs to no file for each connection with one subscription
//! to a channel that others share, and 3.6 KiB of the kernel's for each socket at rest.

use std::fmt;

use super::system::System;
use super::{Finding, State, Wanted};

/// A connection without a subscription: its state, its task, its place in the wheel.
const CONNECTION_BYTES: u64 = 622;
/// A subscription: its entry at the channel, and from the third on its record at the connection.
const ENTRY_BYTES: u64 = 12;
const FURTHER_SUBSCRIPTION_BYTES: u64 = 12;
const INLINE_SUBSCRIPTIONS: u64 = 2;
/// A channel that exists for one connection alone: its key, its subscribers, its home.
const CHANNEL_BYTES: u64 = 64 + 80 + 72;
/// Of the kernel, at rest: what is not yet read or sent comes on top, up to `tcp_rmem` and
/// `tcp_wmem`.
const SOCKET_BYTES: u64 = 3_700;
/// A shard without connections: its inbox, its rings, buffers and stacks.
const SHARD_BYTES: u64 = 4 << 20;

/// Bytes, at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Estimate {
    connections: u64,
    /// If all channels are shared by many.
    shared: u64,
    /// If every subscription has a channel of its own.
    own: u64,
    kernel: u64,
}

impl Estimate {
    pub(super) fn of(wanted: Wanted, shards: u64) -> Self {
        let Wanted {
            connections,
            subscriptions,
        } = wanted;
        let further = subscriptions.saturating_sub(INLINE_SUBSCRIPTIONS);
        let each = CONNECTION_BYTES
            .saturating_add(subscriptions.saturating_mul(ENTRY_BYTES))
            .saturating_add(further.saturating_mul(FURTHER_SUBSCRIPTION_BYTES));
        let shared = connections
            .saturating_mul(each)
            .saturating_add(shards.saturating_mul(SHARD_BYTES));
        let channels = connections.saturating_mul(subscriptions);
        Self {
            connections,
            shared,
            own: shared.saturating_add(channels.saturating_mul(CHANNEL_BYTES)),
            kernel: connections.saturating_mul(SOCKET_BYTES),
        }
    }

    /// Of the process and of the kernel, whatever the channels are.
    fn most(&self) -> u64 {
        self.own.saturating_add(self.kernel)
    }
}

/// Whether the host has that much.
pub(super) fn check(estimate: &Estimate, system: &System) -> Finding {
    let subject = "memory that is free or can be freed";
    let limit = system.number("sys/fs/cgroup/memory.max");
    let Some(available) = system.meminfo("MemAvailable:") else {
        return Finding::unknown(subject);
    };
    let available = limit.map_or(available, |limit| limit.min(available));
    let needed = estimate.most();
    Finding {
        subject,
        state: if needed <= available {
            State::Fine
        } else {
            State::Off
        },
        found: Bytes(available).to_string(),
        advice: format!(
            "{} for {} connections at rest, and what is on its way beside it",
            Bytes(needed),
            estimate.connections
        ),
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Memory at rest:")?;
        for (what, bytes) in [
            ("the process, channels shared by many", self.shared),
            ("the process, each channel for one alone", self.own),
            ("the kernel, beside either", self.kernel),
        ] {
            writeln!(f, "    {what:<40}{}", Bytes(bytes))?;
        }
        Ok(())
    }
}

/// Bytes as people read them.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_048_576 => write!(f, "{:.0} KiB", bytes / 1024.0),
            1_048_576..1_073_741_824 => write!(f, "{:.0} MiB", bytes / 1_048_576.0),
            _ => write!(f, "{:.2} GiB", bytes / 1_073_741_824.0),
        }
    }
}
