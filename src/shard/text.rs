//! A text message of a client: one `match`, and the answers that need no channel.

use crate::metrics::Limiter;
use crate::pusher::error::{CloseReason, Rejection};
use crate::pusher::inbound::{self, ClientMessage};
use crate::pusher::outbound::{self, write_text_frame};
use crate::ws::{self, frame::OpCode};

use super::Shard;
use super::conns::{Flag, Phase};
use super::message::Frame;
use super::outbox::List;

/// Whether the session's later messages must wait (decisions 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Go on.
    Go,
    /// A subscribe waits for its home: hold what comes until `take_resumed` names the session.
    Wait,
}

impl Shard {
    /// A complete text message, valid UTF-8.
    pub fn on_text(&mut self, slot: u32, text: &str) -> Next {
        if self.conns.peek(slot).phase != Phase::Open {
            return Next::Go;
        }
        self.on_seen(slot);
        if !self.may_send(slot) {
            return Next::Go;
        }
        let app = self.conns.session(slot).app;
        let counters = self.counters.app(app);
        counters.messages_received += 1;
        counters.received_bytes += text.len() as u64;
        self.serving = Some(slot);
        let mut scratch = std::mem::take(&mut self.scratch);
        let dialect = self.conns.session(slot).dialect();
        match ClientMessage::parse(text, dialect, &mut scratch) {
            Ok(message) => self.on_client_message(slot, message),
            Err(inbound::Error::Format) => self.reject(slot, &Rejection::InvalidFormat),
            Err(inbound::Error::SignInFields) => self.reject(slot, &Rejection::SignInFormat),
        }
        self.scratch = scratch;
        self.serving = None;
        match self.is_waiting(slot) {
            true => Next::Wait,
            false => Next::Go,
        }
    }

    fn on_client_message(&mut self, slot: u32, message: ClientMessage<'_>) {
        match message {
            ClientMessage::Ping => self.answer(slot, outbound::pong),
            ClientMessage::Pong => {}
            ClientMessage::Subscribe(subscribe) => self.subscribe(slot, &subscribe),
            ClientMessage::Unsubscribe { channel } => self.unsubscribe(slot, &channel),
            ClientMessage::SignIn(sign_in) => self.sign_in(slot, &sign_in),
            ClientMessage::EnableDelta { algorithm } => self.enable_deltas(slot, algorithm),
            ClientMessage::DeltaSyncError { channel } => self.forget_base(slot, &channel),
            ClientMessage::Event(event) => self.client_event(slot, &event),
            ClientMessage::Unknown { event } => {
                self.reject(slot, &Rejection::UnsupportedEvent { event: &event });
            }
        }
    }

    /// The app's bound on messages per second and connection; over it the connection is closed with
    /// 1008.
    fn may_send(&mut self, slot: u32) -> bool {
        let app = self.conns.session(slot).app;
        let Some(max) = self.app(app).and_then(|app| app.settings.messages_per_sec) else {
            return true;
        };
        let time_ms = self.time.0;
        let within = self.conns.session(slot).messages.take(time_ms, max);
        self.counters.app(app).rate(Limiter::Messages, within);
        if !within {
            self.close_for_fault(slot, 1008, "Too many messages");
        }
        within
    }

    /// Whether a subscribe of the session waits for its home.
    pub fn is_waiting(&self, slot: u32) -> bool {
        self.conns
            .peek_session(slot)
            .is_some_and(|session| session.pending().is_some())
    }

    /// Any complete frame is a sign of life (WebSocket spec 4.3).
    pub(super) fn on_seen(&mut self, slot: u32) {
        let secs = self.time_secs();
        let hot = self.conns.hot(slot);
        hot.last_seen_secs = secs;
        hot.flags.clear(Flag::Pinged);
        hot.flags.clear(Flag::PingQueued);
    }

    /// A protocol Ping: answered at once, behind the frame already begun and in front of what
    /// waits.
    pub fn on_ping(&mut self, slot: u32, payload: &[u8]) {
        if self.conns.peek(slot).phase != Phase::Open {
            return;
        }
        self.on_seen(slot);
        self.outbox.urgent(&mut self.conns, slot, self.time, |out| {
            ws::frame::encode_header(OpCode::Pong, true, payload.len(), out);
            out.extend_from_slice(payload);
        });
    }

    /// A protocol Pong, asked for or not.
    pub fn on_pong(&mut self, slot: u32) {
        if self.conns.peek(slot).phase == Phase::Open {
            self.on_seen(slot);
        }
    }

    /// A binary message: the protocol has none.
    pub fn on_binary(&mut self, slot: u32) {
        self.close_for_fault(slot, 1003, "Binary messages are not supported");
    }

    /// A frame that violates RFC 6455 or a bound.
    pub fn on_violation(&mut self, slot: u32, error: ws::Error) {
        self.close_for_fault(slot, error.close_code(), error.reason());
    }

    /// Closes a session for what the client did, and counts that.
    fn close_for_fault(&mut self, slot: u32, code: u16, reason: &str) {
        self.count_error(slot, code);
        self.close(slot, code, reason);
    }

    fn count_error(&mut self, slot: u32, code: u16) {
        if self.conns.peek(slot).phase == Phase::Open {
            let app = self.conns.session(slot).app;
            *self.counters.app(app).errors.entry(code).or_default() += 1;
        }
    }

    /// Appends a JSON text as a frame to the session's answers, a platform event in its dialect.
    pub(super) fn answer(&mut self, slot: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.answer_in(slot, List::Express, write);
    }

    /// The same, in a list of the caller's choice.
    pub(super) fn answer_in(&mut self, slot: u32, list: List, write: impl FnOnce(&mut Vec<u8>)) {
        let dialect = self.conns.session(slot).dialect();
        let written = self
            .outbox
            .answer_in(&mut self.conns, slot, list, self.time, |out| {
                write_text_frame(out, |out| {
                    let start = out.len();
                    write(out);
                    dialect.translate(out, start);
                });
            });
        self.count_answer(slot, written);
    }

    /// Appends the text of a shared frame to the session's answers, in the same way.
    pub(super) fn answer_frame(&mut self, slot: u32, frame: &Frame) {
        self.answer(slot, |out| out.extend_from_slice(frame.payload()));
    }

    /// Counts a frame for one session alone. Who is refused has none, and no app.
    fn count_answer(&mut self, slot: u32, written: u32) {
        let session = self.conns.session(slot);
        if session.socket_id.is_some() {
            let counters = self.counters.app(session.app);
            counters.messages_sent += 1;
            counters.sent_bytes += u64::from(written);
        }
    }

    /// A `pusher:error`; the connection stays.
    pub(super) fn reject(&mut self, slot: u32, rejection: &Rejection<'_>) {
        let code = rejection.code().map(|code| code.value());
        self.answer(slot, |out| outbound::error(out, code, rejection));
    }

    /// The `pusher:error` of a refused subscription, then `pusher:subscription_error` where it
    /// applies.
    pub(super) fn refuse_subscription(
        &mut self,
        slot: u32,
        channel: &str,
        rejection: &Rejection<'_>,
    ) {
        self.reject(slot, rejection);
        if let Some(error) = rejection.subscription_error()
            && self.settings.subscription_errors
        {
            self.answer(slot, |out| {
                outbound::subscription_error(out, channel, error, rejection)
            });
        }
    }

    /// Closes a session with a code of the protocol; before protocol 6 the client is told by a
    /// frame too (WebSocket spec 5.3).
    pub(super) fn close_for(&mut self, slot: u32, reason: CloseReason) {
        self.close_for_in(slot, List::Express, reason);
    }

    /// The same, in a list of the caller's choice.
    pub(super) fn close_for_in(&mut self, slot: u32, list: List, reason: CloseReason) {
        if reason != CloseReason::Restart {
            self.count_error(slot, reason.code().value());
        }
        let protocol = self.conns.session(slot).protocol;
        if (4..6).contains(&protocol) && self.conns.peek(slot).phase == Phase::Open {
            self.answer_in(slot, list, |out| {
                outbound::error(out, Some(reason.code().value()), reason.text());
            });
        }
        self.close_in(slot, list, reason.code().value(), reason.text());
    }
}
