//! The ends of connections: deadlines, half-closes, a client that sends no more, a drain.

use crate::api::{Framing, Response};
use crate::http::Status;
use crate::shard::conns::Phase;
use crate::shard::message::SessionKey;

use super::input::Stage;
use super::sys;
use super::worker::Worker;

impl Worker {
    /// The client sends no more. True if answers are still owed to it: then the task is to wait for
    /// them. What is on hand is served first, however many turns that takes.
    pub fn on_end(&self, slot: u32) -> bool {
        if self.shard.borrow().phase(slot) == Phase::Open {
            return false;
        }
        let mut inputs = self.inputs.borrow_mut();
        if let Some(mut http) = inputs.take_http(slot) {
            http.ended = true;
            inputs.put_http(slot, http);
            self.go_on_later(slot);
        }
        self.owes_answers(slot)
    }

    /// Whether something is still to be sent to a client that sends no more.
    pub fn owes_answers(&self, slot: u32) -> bool {
        let shard = self.shard.borrow();
        shard.phase(slot) == Phase::Http || shard.has_queued(slot)
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
        let Some(mut http) = self.inputs.borrow_mut().take_http(slot) else {
            return;
        };
        let left = self.shard.borrow().secs_until(http.deadline_secs);
        if left > 0 {
            self.shard.borrow_mut().expire_in(slot, left);
            return self.inputs.borrow_mut().put_http(slot, http);
        }
        match &mut http.stage {
            Stage::Waiting(waiting) => {
                let response = self.serve(slot, |context, _| waiting.expired(context.shard));
                self.after_waiting(slot, http, &response);
            }
            Stage::Proxied => self.shut_down(slot),
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
