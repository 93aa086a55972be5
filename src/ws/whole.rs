//! A whole frame, judged but still masked, and where it lies.
//!
//! Places are indices: what is found must not borrow what is still being read.

use std::ops::Range;

use super::frame::FrameHeader;

#[derive(Debug)]
pub(super) struct WholeFrame {
    pub(super) header: FrameHeader,
    /// Of the payload alone.
    pub(super) payload: Place,
    pub(super) header_bytes: usize,
}

impl WholeFrame {
    /// The frame that starts at `start`. `header` must have been found to fit what lies there.
    pub(super) fn new(
        buffer: Buffer,
        start: usize,
        (header, header_bytes): (FrameHeader, usize),
    ) -> Self {
        let payload_start = start + header_bytes;
        let range = payload_start..payload_start + header.payload_bytes as usize;
        Self {
            header,
            payload: Place { buffer, range },
            header_bytes,
        }
    }

    /// Header and payload.
    pub(super) fn range(&self) -> Range<usize> {
        self.payload.range.start - self.header_bytes..self.payload.range.end
    }
}

#[derive(Debug)]
pub(super) struct Place {
    pub(super) buffer: Buffer,
    pub(super) range: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buffer {
    /// What the caller offers.
    Input,
    /// `partial.rs`.
    Partial,
    /// `held.rs`.
    Held,
}
