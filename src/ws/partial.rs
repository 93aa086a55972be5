//! The bytes of one frame that is still arriving.
//!
//! It knows lengths only; what a header may say is asked of it by `message.rs` once it is known.
//!
//! Invariant: `bytes` never holds more than one frame, and grows with what has arrived. A header
//! is parsed at most [`HEADER_BYTES_MAX`] times and a payload never looked at, so that a peer that
//! sends one byte at a time costs as much as its bytes.

use super::{
    Error,
    frame::{FrameHeader, HEADER_BYTES_MAX},
};

#[derive(Debug, Default)]
pub(super) struct Partial {
    bytes: Vec<u8>,
    /// Once it is known, with its own length.
    header: Option<(FrameHeader, usize)>,
}

impl Partial {
    /// Bytes of a frame that is not complete; none once it is, for it has been handed out then.
    pub(super) fn len(&self) -> usize {
        if self.is_complete() {
            0
        } else {
            self.bytes.len()
        }
    }

    pub(super) fn header(&self) -> Option<(FrameHeader, usize)> {
        self.header
    }

    pub(super) fn is_complete(&self) -> bool {
        self.header.is_some() && self.missing_bytes() == 0
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Begins with the incomplete frame `bytes`, and its header if that is complete.
    pub(super) fn begin(&mut self, bytes: &[u8], header: Option<(FrameHeader, usize)>) {
        self.bytes = bytes.to_vec();
        self.header = header;
    }

    /// Takes from `input` towards a header that is not yet known, and says how much.
    pub(super) fn fill_header(&mut self, input: &[u8]) -> Result<usize, Error> {
        debug_assert!(self.header.is_none() && self.bytes.len() < HEADER_BYTES_MAX);
        let had = self.bytes.len();
        let taken = input.len().min(HEADER_BYTES_MAX - had);
        self.bytes.extend_from_slice(&input[..taken]);
        self.header = FrameHeader::parse(&self.bytes)?;
        if let Some((header, header_bytes)) = self.header {
            // A short frame may have ended within the bytes just taken.
            let payload = (self.bytes.len() - header_bytes) as u64;
            let beyond = payload.saturating_sub(header.payload_bytes) as usize;
            self.bytes.truncate(self.bytes.len() - beyond);
        }
        Ok(self.bytes.len() - had)
    }

    /// Takes from `input` towards the payload, and says how much.
    pub(super) fn fill_payload(&mut self, input: &[u8]) -> usize {
        let taken = usize::try_from(self.missing_bytes())
            .unwrap_or(usize::MAX)
            .min(input.len());
        self.bytes.extend_from_slice(&input[..taken]);
        taken
    }

    /// Bytes of payload to come; 0 while the header is not known.
    fn missing_bytes(&self) -> u64 {
        self.header.map_or(0, |(header, header_bytes)| {
            header.payload_bytes - (self.bytes.len() - header_bytes) as u64
        })
    }
}
