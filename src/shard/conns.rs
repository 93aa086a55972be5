//! The connections of a shard: what the flush needs of each, dense by slot, and which slots are
//! free.
//!
//! A slot is taken when a connection is accepted and given back only after its descriptor is
//! closed, with the next generation, so that no message and no send can reach the next tenant
//! (decisions 10, 14).

use super::message::{SessionKey, ShardId};
use super::palette::RunId;
use super::session::Session;

/// How many runs a connection can hold before they spill to a queue of its own.
pub const PENDING_INLINE: usize = 3;

/// What a connection is to the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nobody.
    #[default]
    Free,
    /// HTTP: only `net` knows what is said.
    Http,
    /// A WebSocket with a session.
    Open,
    /// What is queued goes out, then the peer has a moment to close. Takes no new frames.
    Closing,
    /// The stream has ended; the slot waits until the session is out of every table.
    Departed,
}

/// One bit each; see the methods of [`Hot`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags(u16);

/// The flags of a connection.
#[derive(Clone, Copy, Debug)]
#[repr(u16)]
pub enum Flag {
    /// The kernel has refused bytes, and they are still queued.
    Blocked = 1,
    /// `net` waits until the socket takes bytes again.
    Waiting = 1 << 1,
    /// The queue is in the spill table, not inline.
    Spilled = 1 << 2,
    /// In the express list.
    Express = 1 << 3,
    /// In the bulk list.
    Bulk = 1 << 4,
    /// Caused a message that does not fit its target's inbox yet: not flushed (decisions 4).
    Fenced = 1 << 5,
    /// Dirty but fenced: comes back to a list when the fence is lifted.
    Held = 1 << 6,
    /// Excluded from a frame of the run that is being expanded (decisions 24).
    Marked = 1 << 7,
    /// A ping is out; any input takes this back.
    Pinged = 1 << 8,
    /// That ping has not entered the kernel yet.
    PingQueued = 1 << 9,
    /// `net` reads no more from this connection until its queue has drained.
    Paused = 1 << 10,
    /// Takes no more frames.
    Sealed = 1 << 11,
    /// The shard is taking the session out of its tables.
    Leaving = 1 << 12,
    /// The queue has been seen empty after sealing, and `net` was told.
    Finished = 1 << 13,
}

impl Flags {
    /// Whether a flag is set.
    pub fn has(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    /// Whether one of some flags is set.
    pub fn has_any<const N: usize>(self, flags: [Flag; N]) -> bool {
        let all = flags.into_iter().fold(0, |all, flag| all | flag as u16);
        self.0 & all != 0
    }

    /// Sets a flag.
    pub fn set(&mut self, flag: Flag) {
        self.0 |= flag as u16;
    }

    /// Clears a flag.
    pub fn clear(&mut self, flag: Flag) {
        self.0 &= !(flag as u16);
    }
}

/// What expanding and flushing touch, 32 bytes a connection.
#[derive(Clone, Copy, Debug)]
pub struct Hot {
    pub fd: i32,
    pub generation: u32,
    pub flags: Flags,
    pub phase: Phase,
    pub pending_len: u8,
    /// Seconds of the shard's own time (see `wheel`).
    pub last_seen_secs: u32,
    pub pending_bytes: u32,
    pub pending: [RunId; PENDING_INLINE],
}

const _: () = assert!(size_of::<Hot>() == 32);

/// The slots of a shard.
pub struct Connections {
    hot: Vec<Hot>,
    sessions: Vec<Session>,
    free: Vec<u32>,
    shard: ShardId,
    taken: usize,
}

impl Connections {
    /// No connections.
    pub fn new(shard: ShardId) -> Self {
        Self {
            hot: Vec::new(),
            sessions: Vec::new(),
            free: Vec::new(),
            shard,
            taken: 0,
        }
    }

    /// Gives an accepted descriptor a slot.
    pub fn take(&mut self, fd: i32, now_secs: u32) -> SessionKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.hot.push(Hot {
                fd: -1,
                generation: 0,
                flags: Flags::default(),
                phase: Phase::Free,
                pending_len: 0,
                last_seen_secs: 0,
                pending_bytes: 0,
                pending: [RunId::NONE; PENDING_INLINE],
            });
            self.sessions.push(Session::default());
            (self.hot.len() - 1) as u32
        });
        self.taken += 1;
        let hot = &mut self.hot[slot as usize];
        hot.generation = hot.generation.wrapping_add(1);
        hot.fd = fd;
        hot.flags = Flags::default();
        hot.phase = Phase::Http;
        hot.last_seen_secs = now_secs;
        hot.pending_len = 0;
        hot.pending_bytes = 0;
        self.key(slot)
    }

    /// Frees a slot whose descriptor is closed.
    pub fn give_back(&mut self, slot: u32) {
        let hot = &mut self.hot[slot as usize];
        assert!(
            hot.phase == Phase::Departed,
            "a slot is freed once, after its session has left"
        );
        hot.phase = Phase::Free;
        hot.fd = -1;
        self.sessions[slot as usize] = Session::default();
        self.taken -= 1;
        self.free.push(slot);
    }

    /// The name of whoever has the slot now.
    pub fn key(&self, slot: u32) -> SessionKey {
        let generation = self.hot[slot as usize].generation;
        SessionKey {
            node: 0,
            shard: self.shard,
            slot,
            generation,
        }
    }

    /// Whether `key` names the connection that has its slot now.
    pub fn is_current(&self, key: SessionKey) -> bool {
        self.hot.get(key.slot as usize).is_some_and(|hot| {
            hot.generation == key.generation && hot.phase != Phase::Free && key.shard == self.shard
        })
    }

    /// A taken slot.
    pub fn hot(&mut self, slot: u32) -> &mut Hot {
        &mut self.hot[slot as usize]
    }

    /// The same, to read.
    pub fn peek(&self, slot: u32) -> &Hot {
        &self.hot[slot as usize]
    }

    /// All slots, for the walk over a channel's subscribers.
    pub fn all_hot(&mut self) -> &mut [Hot] {
        &mut self.hot
    }

    /// The Pusher state of a slot.
    pub fn session(&mut self, slot: u32) -> &mut Session {
        &mut self.sessions[slot as usize]
    }

    /// The same, to read; `None` for a slot that never was.
    pub fn peek_session(&self, slot: u32) -> Option<&Session> {
        self.sessions.get(slot as usize)
    }

    /// Slots with a connection.
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Whether no slot has a connection.
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Slots ever used: every valid slot is below.
    pub fn slots(&self) -> u32 {
        self.hot.len() as u32
    }
}
