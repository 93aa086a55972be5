//! Frames on hand into events of a session.

use crate::shard::conns::Phase;
use crate::shard::text::Next;
use crate::ws::message::{Event, Reader};

use super::input::Input;
use super::worker::{UNITS_PER_TURN, Worker};

impl Worker {
    pub(super) fn on_frames(&self, slot: u32, bytes: &mut [u8]) {
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
}
