//! Complete data frames put aside, raw, while their connection waits for an answer
//! (decisions 12).
//!
//! How much may be held is the owner's bound: it stops reading. Frames come out in the order in
//! which they went in.

use super::{
    frame::FrameHeader,
    whole::{Buffer, WholeFrame},
};

#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// What lies before has been taken: `0 <= taken <= bytes.len()`, at the start of a frame.
    taken: usize,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Appends a frame whose header has been parsed and found good.
    pub(super) fn push(&mut self, frame: &[u8]) {
        // At least as much is dropped as is moved, so that moving costs no more than pushing did.
        if self.taken >= self.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(frame);
    }

    /// The oldest frame, which stays where it is until the next call.
    pub(super) fn take(&mut self) -> Option<WholeFrame> {
        if self.len() == 0 {
            *self = Self::default();
            return None;
        }
        let header = FrameHeader::parse(&self.bytes[self.taken..])
            .expect("held frames have been judged")
            .expect("held frames are complete");
        let frame = WholeFrame::new(Buffer::Held, self.taken, header);
        self.taken = frame.range().end;
        Some(frame)
    }

    /// Where frames of [`Buffer::Held`] lie.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use crate::ws::frame::OpCode;

    fn frame(number: u8, payload_bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        crate::ws::frame::encode_header(OpCode::Text, true, payload_bytes, &mut out);
        out.resize(out.len() + payload_bytes, number);
        out
    }

    fn take(held: &mut Held) -> Option<Vec<u8>> {
        let frame = held.take()?;
        assert_eq!(frame.payload.buffer, Buffer::Held);
        Some(held.bytes_mut()[frame.range()].to_vec())
    }

    #[test]
    fn frames_come_out_in_the_order_in_which_they_went_in() {
        let mut random = Seed::new(3);
        let mut held = Held::default();
        let mut model = std::collections::VecDeque::new();
        for number in 0..5000 {
            if random.below(2) == 0 {
                let frame = frame(number as u8, random.below(200));
                held.push(&frame);
                model.push_back(frame);
            } else {
                assert_eq!(take(&mut held), model.pop_front());
            }
            assert_eq!(held.len(), model.iter().map(Vec::len).sum::<usize>());
        }
    }

    #[test]
    fn memory_is_bounded_by_what_is_held_and_freed_when_nothing_is() {
        let mut held = Held::default();
        held.push(&frame(1, 100));
        for number in 0..100 {
            held.push(&frame(number, 100));
            assert!(take(&mut held).is_some());
            assert!(held.bytes.len() <= 4 * 102);
        }
        assert!(take(&mut held).is_some());
        assert_eq!(held.len(), 0);
        assert_eq!(take(&mut held), None);
        assert_eq!(held.bytes.capacity(), 0);
    }
}
