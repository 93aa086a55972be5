//! HTTP on hand: heads and bodies off the front of what has come, decisions of `api`, answers.
//!
//! A connection serves one request at a time, in order; one that waits for the homes' answers makes
//! the next wait. A request that comes in pieces has one deadline, however many they are.

use std::sync::Arc;

use crate::api::{self, Collecting, Context, Framing, OnAnswer, OnBody, OnHead, Response, Upgrade};
use crate::http::response::CONTINUE;
use crate::http::{self, BodyLength, Head};
use crate::shard::message::{ReplyTo, SessionKey};
use crate::shard::open;
use crate::shard::question::Answer;
use crate::ws::handshake;

use super::addresses::AddressBudgets;
use super::client::Client;
use super::input::{Http, Stage};
use super::worker::{Limits, UNITS_PER_TURN, Worker};
use super::{proxied, sys};

/// How long homes may take to answer a question (decisions, section 3).
const ANSWER_SECS_MAX: u32 = 2;

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
    pub(super) fn on_http(&self, slot: u32, bytes: &mut [u8]) {
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
            // Also if nothing is left: what comes next has a deadline that is set then.
            Taken::Share if !matches!(http.stage, Stage::Waiting(_)) => self.go_on_later(slot),
            // What is unfinished stays so.
            Taken::All if http.ended => return self.shard.borrow_mut().finish_http(slot),
            Taken::Share | Taken::All => {}
        }
        let too_much = self.is_too_much(&http);
        if too_much && http.is_serving() {
            self.shard.borrow_mut().counters.requests_out_of_room += 1;
            if let Stage::Waiting(waiting) = http.stage {
                waiting.on_gone(&mut self.shard.borrow_mut());
            }
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
                Stage::Proxied => match proxied::read(rest) {
                    Ok(Some((said, length))) => {
                        http.proxied = said;
                        http.stage = Stage::Head;
                        at += length;
                        Taken::All
                    }
                    Ok(None) => return (Taken::All, at),
                    Err(proxied::NoHeader) => return (self.distrust(slot), at),
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
            OnHead::Upgrade(upgrade) => (self.upgrade(slot, http, head, &upgrade), 0),
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
        let now_secs = self.unix_secs(shard.now());
        let mut context = Context {
            settings: &self.api,
            shard: &mut shard,
            now_secs,
            draining,
            stalled: self.stalled.load(std::sync::atomic::Ordering::Relaxed),
        };
        call(&mut context)
    }

    /// A call that may publish: its answer waits for what it publishes (decisions 4).
    pub(super) fn serve<R>(
        &self,
        slot: u32,
        call: impl FnOnce(&mut Context<'_>, ReplyTo) -> R,
    ) -> R {
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
        self.has_served.set(true);
        outcome
    }

    fn respond_and_go_on(&self, slot: u32, response: &Response, framing: &Framing<'_>) -> Taken {
        self.respond(slot, response, framing);
        match response.closes(framing) {
            true => Taken::Closed,
            false => Taken::All,
        }
    }

    pub(super) fn respond(&self, slot: u32, response: &Response, framing: &Framing<'_>) {
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
    fn upgrade(&self, slot: u32, http: &Http, head: &Head<'_>, upgrade: &Upgrade) -> Taken {
        let (tls, too_often) = self.look_at_client(slot, http, head);
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
                too_often,
                random,
            },
        );
        match opened {
            true => Taken::Upgraded,
            false => Taken::Closed,
        }
    }

    /// Whether the client's side is encrypted, and whether its address begins more connections than
    /// it may. The kernel is asked for the address only where it matters.
    fn look_at_client(&self, slot: u32, http: &Http, head: &Head<'_>) -> (bool, bool) {
        let Limits {
            trusted_proxies,
            addresses,
            ..
        } = &self.limits;
        if trusted_proxies.is_empty() && addresses.is_none() {
            return (false, false);
        }
        let peer = sys::peer_address(self.shard.borrow().fd(slot));
        let client = Client::of(head, peer, http.proxied, trusted_proxies);
        let now_secs = self.clock.now().secs();
        let is_over = |budgets: &Arc<AddressBudgets>| {
            client
                .address
                .is_some_and(|address| !budgets.try_take(address, now_secs))
        };
        (client.tls, addresses.as_ref().is_some_and(is_over))
    }

    /// A proxy that does not begin with the PROXY protocol: nothing that follows can be trusted.
    fn distrust(&self, slot: u32) -> Taken {
        let mut shard = self.shard.borrow_mut();
        shard.counters.proxy_headers_missing += 1;
        shard.finish_http(slot);
        Taken::Closed
    }

    /// A home has answered a part of a question.
    pub fn on_answer(&self, to: ReplyTo, answer: Answer) {
        let key = SessionKey {
            node: 0,
            shard: to.shard,
            slot: to.slot,
            generation: to.generation,
        };
        let is_current = self.shard.borrow().is_current(key);
        let http = match is_current {
            true => self.inputs.borrow_mut().take_http(to.slot),
            false => None,
        };
        let Some(mut http) = http else {
            return api::on_stray_answer(&mut self.shard.borrow_mut(), answer);
        };
        let Stage::Waiting(waiting) = &mut http.stage else {
            api::on_stray_answer(&mut self.shard.borrow_mut(), answer);
            return self.inputs.borrow_mut().put_http(to.slot, http);
        };
        let outcome = self.serve(to.slot, |context, reply_to| {
            waiting.on_answer(context, reply_to, answer)
        });
        match outcome {
            OnAnswer::Respond(response) => return self.after_waiting(to.slot, http, &response),
            OnAnswer::AskedOn => self.set_deadline(to.slot, &mut http, ANSWER_SECS_MAX),
            OnAnswer::Wait => {}
        }
        let too_much = self.is_too_much(&http);
        match &mut http.stage {
            Stage::Waiting(waiting) if too_much => {
                let response = waiting.out_of_room(&mut self.shard.borrow_mut());
                self.after_waiting(to.slot, http, &response);
            }
            _ => self.inputs.borrow_mut().put_http(to.slot, http),
        }
    }

    /// Whether the shard has no room for what a request collects.
    fn is_too_much(&self, http: &Http) -> bool {
        self.inputs.borrow().request_bytes + http.bytes() > self.limits.request_bytes_max
    }

    /// Answers a request that waited, and goes on with the next.
    pub(super) fn after_waiting(&self, slot: u32, mut http: Box<Http>, response: &Response) {
        let stage = std::mem::replace(&mut http.stage, Stage::Head);
        let Stage::Waiting(waiting) = stage else {
            return;
        };
        let mut framing = waiting.framing(&self.api);
        framing.close |= self.shard.borrow().is_draining();
        if let Taken::All = self.respond_and_go_on(slot, response, &framing) {
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
}
