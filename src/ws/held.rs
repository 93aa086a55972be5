//! Complete data frames put aside, raw, while their connection waits for an answer
//! (decisions 12).
//!
//! How much may be held is the owner's bound: it stops reading. Frames come out in the order in
//! which they went in.

use std::ops::Range;

use super::frame::FrameHeader;

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

    /// The oldest frame's header and where its payload is; that stays there until the next call.
    pub(super) fn take(&mut self) -> Option<(FrameHeader, Range<usize>)> {
        if self.len() == 0 {
            *self = Self::default();
            return None;
        }
        let (header, header_bytes) = FrameHeader::parse(&self.bytes[self.taken..])
            .expect("held frames have good headers")
            .expect("held frames are complete");
        let start = self.taken + header_bytes;
        let end = start + header.payload_bytes as usize;
        self.taken = end;
        Some((header, start..end))
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
