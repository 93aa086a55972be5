//! The bytes of one frame that is still arriving.
//!
//! It knows lengths only; whether the frame may come at all is asked by `intake.rs` as soon as its
//! header is known.
//!
//! Invariant: `bytes` never holds more than one frame, and grows with what has arrived. A header
//! is parsed at most [`HEADER_BYTES_MAX`] times and a payload is never looked at, so that a peer
//! that sends one byte at a time costs no more than in proportion to its bytes.

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
        match self.complete() {
            Some(_) => 0,
            None => self.bytes.len(),
        }
    }

    pub(super) fn header(&self) -> Option<(FrameHeader, usize)> {
        self.header
    }

    /// The header if all of its payload is there.
    pub(super) fn complete(&self) -> Option<(FrameHeader, usize)> {
        self.header.filter(|_| self.missing_bytes() == 0)
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Begins with the incomplete frame `bytes`, which may be empty, and its header if that is
    /// complete. The frame before has been handed out, and is forgotten.
    pub(super) fn begin(&mut self, bytes: &[u8], header: Option<(FrameHeader, usize)>) {
        // With room for as much again, most frames need no second allocation.
        let frame_bytes = header.map_or(HEADER_BYTES_MAX, |(header, header_bytes)| {
            usize::try_from(header.payload_bytes)
                .unwrap_or(usize::MAX)
                .saturating_add(header_bytes)
        });
        self.bytes = Vec::with_capacity(frame_bytes.min(2 * bytes.len()));
        self.bytes.extend_from_slice(bytes);
        self.header = header;
    }

    /// Takes from `input` towards a header that is not yet known, and says how much.
    pub(super) fn fill_header(&mut self, input: &[u8]) -> Result<usize, Error> {
        debug_assert!(self.header.is_none() && self.bytes.len() < HEADER_BYTES_MAX);
        let had = self.bytes.len();
        let wanted = input.len().min(HEADER_BYTES_MAX - had);
        self.bytes.extend_from_slice(&input[..wanted]);
        self.header = FrameHeader::parse(&self.bytes)?;
        if let Some((header, header_bytes)) = self.header {
            // A short frame ends within the bytes just taken; what follows is not of this frame.
            let payload_bytes = (self.bytes.len() - header_bytes) as u64;
            let beyond = payload_bytes.saturating_sub(header.payload_bytes) as usize;
            self.bytes.truncate(self.bytes.len() - beyond);
        }
        Ok(self.bytes.len() - had)
    }

    /// Takes from `input` towards the payload, and says how much.
    pub(super) fn fill_payload(&mut self, input: &[u8]) -> usize {
        let missing = usize::try_from(self.missing_bytes()).unwrap_or(usize::MAX);
        let taken = missing.min(input.len());
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    /// A header that announces `payload_bytes` in the form of 2 or 8 bytes.
    fn header(payload_bytes: u64) -> Vec<u8> {
        match u16::try_from(payload_bytes) {
            Ok(short) => [&[0x81, 0xfe][..], &short.to_be_bytes(), &KEY].concat(),
            Err(_) => [&[0x81, 0xff][..], &payload_bytes.to_be_bytes(), &KEY].concat(),
        }
    }

    #[test]
    fn memory_grows_with_what_has_arrived() {
        for announced in [50_000, 1 << 40] {
            let header = header(announced);
            let mut partial = Partial::default();
            partial.begin(&header[..1], None);
            assert_eq!(partial.fill_header(&header[1..]), Ok(header.len() - 1));
            assert_eq!(partial.fill_payload(&[0; 100]), 100);
            assert_eq!(partial.len(), header.len() + 100);
            assert!(partial.bytes.capacity() < 1000);

            partial.begin(&header, FrameHeader::parse(&header).unwrap());
            assert!(partial.bytes.capacity() <= 2 * header.len());
        }
    }

    #[test]
    fn a_byte_of_the_next_frame_is_never_taken() {
        // Empty, and shorter than the longest header: both end within what is taken for a header.
        for payload_bytes in 0..20 {
            let first = [&[0x82, 0x80 | payload_bytes as u8][..], &KEY].concat();
            let frame = [first, vec![7; payload_bytes]].concat();
            let input = [&frame[..], &[0x89, 0x80]].concat();
            for start in 1..6 {
                let mut partial = Partial::default();
                partial.begin(&input[..start], None);
                let mut at = start + partial.fill_header(&input[start..]).unwrap();
                at += partial.fill_payload(&input[at..]);
                assert_eq!(at, frame.len());
                assert_eq!(partial.bytes_mut(), frame);
                assert!(partial.complete().is_some());
                assert_eq!(partial.len(), 0);
                partial.begin(&input[at..], None);
                assert_eq!(partial.len(), 2);
            }
        }
    }

    #[test]
    fn a_frame_is_complete_with_its_last_byte_and_not_before() {
        let mut partial = Partial::default();
        partial.begin(&header(300), FrameHeader::parse(&header(300)).unwrap());
        for taken in 0..300 {
            assert_eq!(partial.complete(), None);
            assert_eq!(partial.len(), 8 + taken);
            assert_eq!(partial.fill_payload(b"x"), 1);
        }
        assert!(partial.complete().is_some());
        assert_eq!(partial.fill_payload(b"x"), 0);
    }
}
