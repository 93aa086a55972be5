//! The bytes of a connection into calls: HTTP first, frames after an upgrade.
//!
//! Synchronous. What a call leaves over (a head or a body that is still coming, a partial frame,
//! frames held while a session waits for its home) lies here, by slot, and a connection without
//! unfinished input has nothing here but its place. Who does more than a turn's share is put into
//! the worker's `unfinished` list and goes on in the next turn.

use std::net::IpAddr;

use crate::api::{self, Collecting, Context, Framing, OnBody, OnHead, Response, Upgrade, Waiting};
use crate::http::response::CONTINUE;
use crate::http::{self, BodyLength, Head, HeadScan, Status, list_has};
use crate::shard::Shard;
use crate::shard::conns::Phase;
use crate::shard::message::{Answer, ReplyTo, SessionKey};
use crate::shard::open;
use crate::shard::text::Next;
use crate::ws::handshake;
use crate::ws::message::{Event, Reader};

use super::sys;
use super::worker::{Limits, Worker};

/// Messages or requests of one connection per turn.
const UNITS_PER_TURN: usize = 64;
/// Bytes on hand from which on nothing more is read.
const ON_HAND_BYTES_MAX: usize = 64 * 1024;
/// How long homes may take to answer a question (decisions, section 3).
const ANSWER_SECS_MAX: u32 = 2;

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
enum Stage {
    /// A head, or nothing yet.
    Head,
    Body(Box<Collecting>),
    /// Homes have been asked; what comes meanwhile waits.
    Waiting(Box<Waiting>),
}

/// The unfinished input of an HTTP connection.
struct Http {
    /// What no head or body has been made of.
    rest: Vec<u8>,
    scan: HeadScan,
    stage: Stage,
    /// When `on_expired` acts: in seconds of the shard's time.
    deadline_secs: u32,
    /// A part of a head is here, and the deadline is its.
    head_began: bool,
    /// The client will send no more; what it has asked for is still answered.
    ended: bool,
}

impl Http {
    fn bytes(&self) -> usize {
        match &self.stage {
            Stage::Body(collecting) => self.rest.len() + collecting.buffered_bytes(),
            _ => self.rest.len(),
        }
    }

    fn is_serving(&self) -> bool {
        !self.rest.is_empty() || !matches!(self.stage, Stage::Head)
    }
}

/// The unfinished input of one connection.
#[derive(Default)]
enum Input {
    /// Frames, and nothing partial; or nobody.
    #[default]
    None,
    Http(Box<Http>),
    Frames(Box<Reader>),
}

/// The unfinished input of a worker's connections, by slot.
#[derive(Default)]
pub struct Inputs {
    by_slot: Vec<Input>,
    /// Heads and bodies being collected.
    request_bytes: usize,
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
            stage: Stage::Head,
            deadline_secs,
            head_began: false,
            ended: false,
        };
        self.by_slot[slot as usize] = Input::Http(Box::new(http));
    }

    /// The connection has ended.
    pub fn end(&mut self, slot: u32) {
        if let Input::Http(http) = std::mem::take(&mut self.by_slot[slot as usize]) {
            self.request_bytes -= http.bytes();
        }
    }

    fn take_http(&mut self, slot: u32) -> Option<Box<Http>> {
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

    fn put_http(&mut self, slot: u32, http: Box<Http>) {
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
            Input::Http(http) => http.rest.len(),
            Input::Frames(reader) => reader.held_bytes(),
        }
    }
}

/// How far the requests on hand were taken.
enum Taken {
    /// As far as they are complete.
    All,
    /// The turn's share is done, or an answer is awaited.
    Share,
    /// The rest are frames.
    Upgraded,
    /// The rest is not read any more.
    Closed,
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

    /// The client sends no more. True if answers are still owed to it: then the task is to wait for
    /// them.
    pub fn on_end(&self, slot: u32) -> bool {
        if self.shard.borrow().phase(slot) != Phase::Http {
            return false;
        }
        let Some(mut http) = self.inputs.borrow_mut().take_http(slot) else {
            return false;
        };
        http.ended = true;
        let waits = matches!(http.stage, Stage::Waiting(_));
        self.inputs.borrow_mut().put_http(slot, http);
        if !waits {
            self.shard.borrow_mut().finish_http(slot);
        }
        self.owes_answers(slot)
    }

    /// Whether something is still to be sent to a client that sends no more.
    pub fn owes_answers(&self, slot: u32) -> bool {
        let shard = self.shard.borrow();
        shard.phase(slot) == Phase::Http || shard.has_queued(slot)
    }

    fn go_on_later(&self, slot: u32) {
        let key = self.shard.borrow().key(slot);
        self.unfinished.borrow_mut().push_back(key);
        self.want_turn();
    }

    fn on_http(&self, slot: u32, bytes: &mut [u8]) {
        let Some(mut http) = self.inputs.borrow_mut().take_http(slot) else {
            return;
        };
        let taken = if http.rest.is_empty() {
            let (taken, used) = self.on_requests(slot, &mut http, bytes);
            http.rest.extend_from_slice(&bytes[used..]);
            taken
        } else {
            let mut rest = std::mem::take(&mut http.rest);
            rest.extend_from_slice(bytes);
            let (taken, used) = self.on_requests(slot, &mut http, &rest);
            rest.drain(..used);
            http.rest = rest;
            taken
        };
        match taken {
            Taken::Closed => return,
            Taken::Upgraded => {
                let mut rest = std::mem::take(&mut http.rest);
                drop(http);
                return self.on_frames(slot, &mut rest);
            }
            Taken::Share if !http.rest.is_empty() && !matches!(http.stage, Stage::Waiting(_)) => {
                self.go_on_later(slot);
            }
            Taken::Share | Taken::All => {}
        }
        let too_much =
            self.inputs.borrow().request_bytes + http.bytes() > self.limits.request_bytes_max;
        if too_much && http.is_serving() {
            let text = "Too many requests are being received, try again.";
            return self.respond(
                slot,
                &Response::unavailable(text, 1).closing(),
                &Framing::default(),
            );
        }
        self.inputs.borrow_mut().put_http(slot, http);
    }

    /// Takes requests off the front of `bytes`, at most a turn's share; how many bytes were used.
    fn on_requests(&self, slot: u32, http: &mut Http, bytes: &[u8]) -> (Taken, usize) {
        let mut at = 0;
        for _ in 0..UNITS_PER_TURN {
            let rest = &bytes[at..];
            let taken = match &mut http.stage {
                Stage::Waiting(_) => return (Taken::Share, at),
                Stage::Body(collecting) => match collecting.feed(rest) {
                    Ok((used, true)) => {
                        at += used;
                        self.on_collected(slot, http)
                    }
                    Ok((used, false)) => return (Taken::All, at + used),
                    Err(error) => self.refuse(slot, error),
                },
                Stage::Head => match http.scan.parse(rest, &self.limits.head) {
                    Ok(Some((head, length))) => {
                        http.head_began = false;
                        let (taken, used) = self.on_head(slot, http, &head, &rest[length..]);
                        at += length + used;
                        taken
                    }
                    Ok(None) => {
                        self.await_head(slot, http, rest.is_empty());
                        return (Taken::All, at);
                    }
                    Err(error) => self.refuse(slot, error),
                },
            };
            if !matches!(taken, Taken::All) {
                return (taken, at);
            }
        }
        (Taken::Share, at)
    }

    /// Sets the deadline of a head that has not come, or not whole.
    fn await_head(&self, slot: u32, http: &mut Http, nothing: bool) {
        let limits = &self.limits;
        if nothing {
            self.set_deadline(slot, http, limits.keep_alive_timeout.as_secs() as u32);
        } else if !http.head_began {
            // One deadline for the whole head, however many pieces it comes in.
            http.head_began = true;
            self.set_deadline(slot, http, limits.head_timeout.as_secs() as u32);
        }
    }

    fn set_deadline(&self, slot: u32, http: &mut Http, secs: u32) {
        http.deadline_secs = self.shard.borrow_mut().expire_in(slot, secs);
    }

    /// A whole head, and what has come behind it; how many bytes of that are its body.
    fn on_head(
        &self,
        slot: u32,
        http: &mut Http,
        head: &Head<'_>,
        behind: &[u8],
    ) -> (Taken, usize) {
        let mut framing = Framing::of(head, &self.api.cors_origins);
        framing.close |= self.shard.borrow().is_draining();
        let decision = self.with_context(|context| api::on_head(context, head));
        match decision {
            OnHead::Upgrade(upgrade) => (self.upgrade(slot, head, &upgrade), 0),
            OnHead::Respond(response) => {
                let unread = match head.body {
                    BodyLength::None => Some(0),
                    BodyLength::Length(length) => usize::try_from(length)
                        .ok()
                        .filter(|&length| length <= behind.len()),
                    BodyLength::Chunked => None,
                };
                let Some(used) = unread else {
                    self.respond(slot, &response.closing(), &framing);
                    return (Taken::Closed, 0);
                };
                (self.respond_and_go_on(slot, &response, &framing), used)
            }
            OnHead::Accept(accepted) => {
                let length = match accepted.length() {
                    BodyLength::None => Some(0),
                    BodyLength::Length(length) => usize::try_from(length).ok(),
                    BodyLength::Chunked => None,
                };
                if let Some(body) = length.and_then(|length| behind.get(..length)) {
                    let outcome = self.serve(slot, |context, reply_to| {
                        api::on_body(context, &accepted, reply_to, body)
                    });
                    return (self.on_outcome(slot, http, outcome, &framing), body.len());
                }
                if accepted.expects_continue() {
                    self.shard
                        .borrow_mut()
                        .answer_http(slot, |out| out.extend_from_slice(CONTINUE));
                }
                http.stage = Stage::Body(Box::new(Collecting::new(accepted)));
                self.set_deadline(slot, http, self.limits.body_timeout.as_secs() as u32);
                (Taken::All, 0)
            }
        }
    }

    /// The body that came in pieces is complete.
    fn on_collected(&self, slot: u32, http: &mut Http) -> Taken {
        let stage = std::mem::replace(&mut http.stage, Stage::Head);
        let Stage::Body(collecting) = stage else {
            return Taken::All;
        };
        let mut framing = collecting.accepted().framing(&self.api);
        framing.close |= self.shard.borrow().is_draining();
        let outcome = self.serve(slot, |context, reply_to| {
            collecting.finish(context, reply_to)
        });
        self.on_outcome(slot, http, outcome, &framing)
    }

    fn on_outcome(
        &self,
        slot: u32,
        http: &mut Http,
        outcome: OnBody,
        framing: &Framing<'_>,
    ) -> Taken {
        match outcome {
            OnBody::Respond(response) => self.respond_and_go_on(slot, &response, framing),
            OnBody::Wait(waiting) => {
                http.stage = Stage::Waiting(waiting);
                self.set_deadline(slot, http, ANSWER_SECS_MAX);
                Taken::Share
            }
        }
    }

    fn with_context<R>(&self, call: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let mut shard = self.shard.borrow_mut();
        let draining = shard.is_draining();
        let mut context = Context {
            settings: &self.api,
            shard: &mut shard,
            now_secs: self.clock.unix_secs(),
            draining,
            stalled: self.stalled.load(std::sync::atomic::Ordering::Relaxed),
        };
        call(&mut context)
    }

    /// A call that may publish: its answer waits for what it publishes (decisions 4).
    fn serve(&self, slot: u32, call: impl FnOnce(&mut Context<'_>, ReplyTo) -> OnBody) -> OnBody {
        let reply_to = {
            let mut shard = self.shard.borrow_mut();
            shard.begin_serving(slot);
            let SessionKey {
                shard,
                slot,
                generation,
                ..
            } = shard.key(slot);
            ReplyTo {
                shard,
                slot,
                generation,
            }
        };
        let outcome = self.with_context(|context| call(context, reply_to));
        self.shard.borrow_mut().end_serving();
        outcome
    }

    fn respond_and_go_on(&self, slot: u32, response: &Response, framing: &Framing<'_>) -> Taken {
        self.respond(slot, response, framing);
        match response.closes(framing) {
            true => Taken::Closed,
            false => Taken::All,
        }
    }

    fn respond(&self, slot: u32, response: &Response, framing: &Framing<'_>) {
        let mut shard = self.shard.borrow_mut();
        shard.answer_http(slot, |out| response.write(framing, out));
        if response.closes(framing) {
            shard.finish_http(slot);
        }
    }

    fn refuse(&self, slot: u32, error: http::Error) -> Taken {
        self.respond(slot, &Response::from(error), &Framing::default());
        Taken::Closed
    }

    /// Completes the upgrade; the session is greeted or refused behind it.
    fn upgrade(&self, slot: u32, head: &Head<'_>, upgrade: &Upgrade) -> Taken {
        let tls = self.is_tls(slot, head);
        let random = self.random.borrow_mut().session();
        let mut shard = self.shard.borrow_mut();
        shard.answer_http(slot, |out| handshake::encode_response(upgrade.accept, out));
        let opened = shard.on_open(
            slot,
            open::Upgrade {
                key: upgrade.key.as_deref(),
                protocol: upgrade.protocol.as_deref(),
                origin: upgrade.origin.as_deref(),
                tls,
                random,
            },
        );
        match opened {
            true => Taken::Upgraded,
            false => Taken::Closed,
        }
    }

    /// Whether a trusted proxy says that the client's side is encrypted.
    fn is_tls(&self, slot: u32, head: &Head<'_>) -> bool {
        let proxies = &self.limits.trusted_proxies;
        if proxies.is_empty() {
            return false;
        }
        let says_https = head
            .header("X-Forwarded-Proto")
            .any(|value| list_has(value, "https"));
        let fd = self.shard.borrow().fd(slot);
        let peer: Option<IpAddr> = sys::peer_address(fd);
        says_https && peer.is_some_and(|peer| proxies.iter().any(|proxy| proxy.contains(peer)))
    }

    fn on_frames(&self, slot: u32, bytes: &mut [u8]) {
        let mut reader = match std::mem::take(&mut self.inputs.borrow_mut().by_slot[slot as usize])
        {
            Input::Frames(reader) => *reader,
            Input::None | Input::Http(_) => Reader::default(),
        };
        let unfinished = self.take_frames(slot, &mut reader, bytes);
        if self.shard.borrow().phase(slot) != Phase::Open || reader.is_idle() {
            return;
        }
        self.inputs.borrow_mut().by_slot[slot as usize] = Input::Frames(Box::new(reader));
        if unfinished {
            self.go_on_later(slot);
        }
    }

    /// Hands events to the shard until there is none; true if messages are held that need no answer
    /// first.
    fn take_frames(&self, slot: u32, reader: &mut Reader, bytes: &mut [u8]) -> bool {
        let mut shard = self.shard.borrow_mut();
        let max = self.limits.message_bytes_max;
        let mut waits = shard.is_waiting(slot);
        let mut messages = 0;
        let mut at = 0;
        loop {
            let share_is_done = messages >= UNITS_PER_TURN;
            let step = match waits || share_is_done {
                true => reader.hold(&mut bytes[at..], max),
                false => reader.next(&mut bytes[at..], max),
            };
            let step = match step {
                Ok(step) => step,
                Err(error) => {
                    shard.on_violation(slot, error);
                    return false;
                }
            };
            at += step.consumed;
            match step.event {
                None => return share_is_done && !waits,
                Some(Event::Text(text)) => {
                    messages += 1;
                    let Ok(text) = std::str::from_utf8(text) else {
                        return false;
                    };
                    waits = shard.on_text(slot, text) == Next::Wait;
                }
                Some(Event::Binary(_)) => shard.on_binary(slot),
                Some(Event::Ping(payload)) => shard.on_ping(slot, payload),
                Some(Event::Pong(_)) => shard.on_pong(slot),
                Some(Event::Close(code)) => shard.on_close(slot, code),
            }
            if shard.phase(slot) != Phase::Open {
                return false;
            }
        }
    }

    /// A home has answered a part of a question.
    pub fn on_answer(&self, to: ReplyTo, answer: Answer) {
        let key = SessionKey {
            node: 0,
            shard: to.shard,
            slot: to.slot,
            generation: to.generation,
        };
        if !self.shard.borrow().is_current(key) {
            return;
        }
        let Some(mut http) = self.inputs.borrow_mut().take_http(to.slot) else {
            return;
        };
        let response = match &mut http.stage {
            Stage::Waiting(waiting) => waiting.on_answer(answer),
            _ => None,
        };
        self.after_waiting(to.slot, http, response);
    }

    /// Answers a request that waited, if there is an answer, and goes on with the next.
    fn after_waiting(&self, slot: u32, mut http: Box<Http>, response: Option<Response>) {
        let Some(response) = response else {
            return self.inputs.borrow_mut().put_http(slot, http);
        };
        let stage = std::mem::replace(&mut http.stage, Stage::Head);
        let Stage::Waiting(waiting) = stage else {
            return;
        };
        let mut framing = waiting.framing(&self.api);
        framing.close |= http.ended || self.shard.borrow().is_draining();
        if let Taken::All = self.respond_and_go_on(slot, &response, &framing) {
            self.set_deadline(
                slot,
                &mut http,
                self.limits.keep_alive_timeout.as_secs() as u32,
            );
            self.inputs.borrow_mut().put_http(slot, http);
            self.go_on_later(slot);
        }
        self.resume_reading(slot);
    }

    /// A deadline of a connection that is no session may have come.
    pub fn on_expired(&self, key: SessionKey) {
        let slot = key.slot;
        if !self.shard.borrow().is_current(key) {
            return;
        }
        if self.shard.borrow().phase(slot) == Phase::Closing {
            return self.shut_down(slot);
        }
        let Some(http) = self.inputs.borrow_mut().take_http(slot) else {
            return;
        };
        let left = self.shard.borrow().secs_until(http.deadline_secs);
        if left > 0 {
            self.shard.borrow_mut().expire_in(slot, left);
            return self.inputs.borrow_mut().put_http(slot, http);
        }
        match &http.stage {
            Stage::Waiting(waiting) => {
                let response = waiting.expired();
                self.after_waiting(slot, http, Some(response));
            }
            Stage::Head if http.rest.is_empty() => self.shut_down(slot),
            Stage::Head | Stage::Body(_) => {
                let text = "The request was not received in time.";
                let response = Response::error(Status::RequestTimeout, "request_timeout", text);
                self.respond(slot, &response.closing(), &Framing::default());
            }
        }
    }

    /// Everything is sent: the peer has a moment to read it and to close.
    pub fn half_close(&self, slot: u32) {
        let _ = sys::shutdown_write(self.shard.borrow().fd(slot));
        self.resume_reading(slot);
    }

    /// Ends a connection; its task finds the end and departs.
    pub fn shut_down(&self, slot: u32) {
        let _ = sys::shutdown_both(self.shard.borrow().fd(slot));
        self.resume_reading(slot);
    }

    /// What a drain asks of connections, once per turn.
    pub fn go_on_draining(&self) {
        if !self.shard.borrow().is_draining() {
            return;
        }
        self.stop_listening();
        if self.shard.borrow().is_drain_over() {
            let slots = self.shard.borrow().slots();
            for slot in 0..slots {
                if !matches!(
                    self.shard.borrow().phase(slot),
                    Phase::Free | Phase::Departed
                ) {
                    self.shut_down(slot);
                }
            }
        }
    }
}
