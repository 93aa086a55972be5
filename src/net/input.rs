//! The bytes of a connection into calls: HTTP first, frames after an upgrade.
//!
//! Synchronous. What a call leaves over (a head or a body that is still coming, a partial frame,
//! frames held while a session waits for its home) lies here, by slot, and a connection without
//! unfinished input has nothing here but its place. Who does more than a turn's share is put into
//! the worker's `unfinished` list and goes on in the next turn.

use crate::api::{Collecting, Waiting};
use crate::http::HeadScan;
use crate::shard::Shard;
use crate::shard::conns::Phase;
use crate::ws::message::Reader;

use super::proxied::Proxied;
use super::worker::{Limits, Worker};

/// Bytes on hand from which on nothing more is read.
const ON_HAND_BYTES_MAX: usize = 64 * 1024;
/// What the reading task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Awaits more.
    On,
    /// Waits until the connection has made progress.
    Paused,
    /// The stream has ended.
    End,
}

/// Where an HTTP connection is between two pieces of input.
pub(super) enum Stage {
    /// What a proxy has to say before everything else.
    Proxied,
    /// A head, or nothing yet.
    Head,
    Body(Box<Collecting>),
    /// Homes have been asked; what comes meanwhile waits.
    Waiting(Box<Waiting>),
}

/// The unfinished input of an HTTP connection.
pub(super) struct Http {
    /// What no head or body has been made of.
    pub(super) rest: Vec<u8>,
    pub(super) scan: HeadScan,
    pub(super) stage: Stage,
    /// What the proxy in front said of its client.
    pub(super) proxied: Proxied,
    /// When `on_expired` acts: in seconds of the shard's time.
    pub(super) deadline_secs: u32,
    /// A part of a head is here, and the deadline is its.
    pub(super) head_began: bool,
    /// The client will send no more; what it has asked for is still answered.
    pub(super) ended: bool,
}

impl Http {
    pub(super) fn bytes(&self) -> usize {
        match &self.stage {
            Stage::Proxied | Stage::Head => self.rest.len(),
            Stage::Body(collecting) => self.rest.len() + collecting.buffered_bytes(),
            Stage::Waiting(waiting) => self.rest.len() + waiting.buffered_bytes(),
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        !self.rest.is_empty() || matches!(self.stage, Stage::Body(_) | Stage::Waiting(_))
    }
}

/// The unfinished input of one connection.
#[derive(Default)]
pub(super) enum Input {
    /// Frames, and nothing partial; or nobody.
    #[default]
    None,
    Http(Box<Http>),
    Frames(Box<Reader>),
}

/// The unfinished input of a worker's connections, by slot.
#[derive(Default)]
pub struct Inputs {
    pub(super) by_slot: Vec<Input>,
    /// Heads, bodies and answers being collected.
    pub(super) request_bytes: usize,
}

impl Inputs {
    /// A connection was accepted: something has to come soon.
    pub fn begin(&mut self, shard: &mut Shard, slot: u32, limits: &Limits) {
        if self.by_slot.len() <= slot as usize {
            self.by_slot.resize_with(slot as usize + 1, Input::default);
        }
        let secs = limits.head_timeout.as_secs() as u32;
        let deadline_secs = shard.expire_in(slot, secs);
        let http = Http {
            rest: Vec::new(),
            scan: HeadScan::default(),
            stage: match limits.speaks_proxy(shard.fd(slot)) {
                true => Stage::Proxied,
                false => Stage::Head,
            },
            proxied: Proxied::default(),
            deadline_secs,
            head_began: false,
            ended: false,
        };
        self.by_slot[slot as usize] = Input::Http(Box::new(http));
    }

    /// The connection has ended; the request that waited on it.
    pub fn end(&mut self, slot: u32) -> Option<Box<Waiting>> {
        let Input::Http(http) = std::mem::take(&mut self.by_slot[slot as usize]) else {
            return None;
        };
        self.request_bytes -= http.bytes();
        match http.stage {
            Stage::Waiting(waiting) => Some(waiting),
            _ => None,
        }
    }

    pub(super) fn take_http(&mut self, slot: u32) -> Option<Box<Http>> {
        match std::mem::take(&mut self.by_slot[slot as usize]) {
            Input::Http(http) => {
                self.request_bytes -= http.bytes();
                Some(http)
            }
            other => {
                self.by_slot[slot as usize] = other;
                None
            }
        }
    }

    pub(super) fn put_http(&mut self, slot: u32, http: Box<Http>) {
        self.request_bytes += http.bytes();
        self.by_slot[slot as usize] = Input::Http(http);
    }

    /// Whether a request has begun and is not answered.
    pub fn is_serving(&self) -> bool {
        self.by_slot
            .iter()
            .any(|input| matches!(input, Input::Http(http) if http.is_serving()))
    }

    fn bytes_on_hand(&self, slot: u32) -> usize {
        match &self.by_slot[slot as usize] {
            Input::None => 0,
            // A part of a head needs more to get on, and the limit of heads bounds it.
            Input::Http(http) if http.head_began => 0,
            Input::Http(http) => http.rest.len(),
            Input::Frames(reader) => reader.held_bytes(),
        }
    }
}

impl Worker {
    /// Bytes of a connection, in the worker's buffer.
    pub fn on_bytes(&self, slot: u32, bytes: &mut [u8]) -> Reading {
        let phase = self.shard.borrow().phase(slot);
        match phase {
            Phase::Http => self.on_http(slot, bytes),
            Phase::Open => self.on_frames(slot, bytes),
            Phase::Closing | Phase::Departed | Phase::Free => {}
        }
        match self.may_go_on(slot) {
            true => Reading::On,
            false => Reading::Paused,
        }
    }

    /// Whether a connection may be read: not too much on hand, not too much to send. If not, it is
    /// noted as paused.
    pub fn may_go_on(&self, slot: u32) -> bool {
        let mut shard = self.shard.borrow_mut();
        if !matches!(shard.phase(slot), Phase::Http | Phase::Open) {
            return true;
        }
        self.inputs.borrow().bytes_on_hand(slot) < ON_HAND_BYTES_MAX
            && !shard.pause_if_half_full(slot)
    }

    /// Takes up what connections had on hand when the last turn ended.
    pub fn go_on_with_input(&self) {
        let count = self.unfinished.borrow().len();
        for _ in 0..count {
            if !self.may_receive() {
                return;
            }
            let Some(key) = self.unfinished.borrow_mut().pop_front() else {
                return;
            };
            if !self.shard.borrow().is_current(key) {
                continue;
            }
            let _ = self.on_bytes(key.slot, &mut []);
            self.resume_reading(key.slot);
        }
    }

    pub(super) fn go_on_later(&self, slot: u32) {
        let key = self.shard.borrow().key(slot);
        self.unfinished.borrow_mut().push_back(key);
        self.want_turn();
    }
}
