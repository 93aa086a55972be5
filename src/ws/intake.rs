//! From input to whole frames, each judged where it stands.
//!
//! Payloads are neither unmasked nor understood: what a frame says is for `message.rs`.
//!
//! Invariant: a frame is judged once, when its header is complete and before its payload is kept.
//! So the rules hold for frames that are held as for those that are handed out, and no frame is
//! counted twice.

use super::{
    Error,
    frame::{FrameHeader, OpCode},
    partial::Partial,
    whole::{Buffer, WholeFrame},
};

#[derive(Debug, Default)]
pub(super) struct Intake {
    partial: Partial,
    /// The message that the next data frame must continue.
    begun: Option<Begun>,
}

/// A message whose last frame is still to come.
#[derive(Clone, Copy, Debug)]
struct Begun {
    message_bytes: usize,
}

impl Intake {
    /// The next whole frame, in `input` from `consumed` on or in [`partial_mut`](Self::partial_mut),
    /// where it stays until the next call. `None` once all input is consumed.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        consumed: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<WholeFrame>, Error> {
        if self.partial.len() > 0 {
            return self.complete_partial(input, consumed, message_bytes_max);
        }
        let start = *consumed;
        let rest = &input[start..];
        let header = FrameHeader::parse(rest)?;
        if let Some((header, header_bytes)) = header {
            let payload_bytes = self.admit(&header, message_bytes_max)?;
            if payload_bytes <= rest.len() - header_bytes {
                *consumed += header_bytes + payload_bytes;
                return Ok(Some(WholeFrame::new(
                    Buffer::Input,
                    start,
                    (header, header_bytes),
                )));
            }
        }
        self.partial.begin(rest, header);
        *consumed = input.len();
        Ok(None)
    }

    /// Neither a frame nor a message has been begun.
    pub(super) fn is_idle(&self) -> bool {
        self.partial.len() == 0 && self.begun.is_none()
    }

    /// Bytes of a frame that is not complete.
    pub(super) fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Where frames of [`Buffer::Partial`] lie.
    pub(super) fn partial_mut(&mut self) -> &mut [u8] {
        self.partial.bytes_mut()
    }

    fn complete_partial(
        &mut self,
        input: &[u8],
        consumed: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<WholeFrame>, Error> {
        if self.partial.header().is_none() {
            *consumed += self.partial.fill_header(&input[*consumed..])?;
            if let Some((header, _)) = self.partial.header() {
                self.admit(&header, message_bytes_max)?;
            }
        }
        *consumed += self.partial.fill_payload(&input[*consumed..]);
        Ok(self
            .partial
            .complete()
            .map(|header| WholeFrame::new(Buffer::Partial, 0, header)))
    }

    /// Judges a header where it stands, once, and gives the length of its payload.
    fn admit(&mut self, header: &FrameHeader, message_bytes_max: usize) -> Result<usize, Error> {
        if header.mask.is_none() {
            return Err(Error::Unmasked);
        }
        let before = match (header.opcode, self.begun) {
            (OpCode::Close | OpCode::Ping | OpCode::Pong, _) => {
                return Ok(header.payload_bytes as usize);
            }
            (OpCode::Continuation, Some(begun)) => begun.message_bytes,
            (OpCode::Continuation, None) => return Err(Error::ContinuationWithoutStart),
            (OpCode::Text | OpCode::Binary, Some(_)) => return Err(Error::StartWithinMessage),
            (OpCode::Text | OpCode::Binary, None) => 0,
        };
        // The limit may have been lowered since the message began.
        let room = message_bytes_max.saturating_sub(before);
        let payload_bytes = usize::try_from(header.payload_bytes)
            .ok()
            .filter(|&payload_bytes| payload_bytes <= room)
            .ok_or(Error::MessageTooBig)?;
        self.begun = (!header.fin).then_some(Begun {
            message_bytes: before + payload_bytes,
        });
        Ok(payload_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::client::encode_masked;

    const LIMIT: usize = 20;

    fn frame(opcode: OpCode, fin: bool, payload_bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        encode_masked(
            opcode,
            fin,
            [1, 2, 3, 4],
            &vec![b'x'; payload_bytes],
            &mut out,
        );
        out
    }

    /// The raw frames of `input`, or the error that ended them, offered in pieces of `cut` bytes.
    fn take_all(input: &[u8], cut: usize) -> (Vec<Vec<u8>>, Option<Error>) {
        let mut intake = Intake::default();
        let mut frames = Vec::new();
        for piece in input.chunks(cut) {
            let mut consumed = 0;
            loop {
                match intake.take(piece, &mut consumed, LIMIT) {
                    Ok(Some(frame)) if frame.payload.buffer == Buffer::Input => {
                        frames.push(piece[frame.range()].to_vec());
                    }
                    Ok(Some(frame)) => frames.push(intake.partial_mut()[frame.range()].to_vec()),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert_eq!(consumed, piece.len());
        }
        (frames, None)
    }

    #[test]
    fn frames_must_stand_where_they_may() {
        use OpCode::{Binary, Close, Continuation, Ping, Pong, Text};
        type Sequence<'a> = &'a [(OpCode, bool)];
        let table: &[(Sequence<'_>, Option<Error>)] = &[
            (&[(Text, true), (Binary, true), (Text, true)], None),
            (
                &[
                    (Text, false),
                    (Continuation, false),
                    (Continuation, true),
                    (Binary, true),
                ],
                None,
            ),
            (
                &[
                    (Text, false),
                    (Ping, true),
                    (Pong, true),
                    (Continuation, true),
                ],
                None,
            ),
            (
                &[(Binary, false), (Close, true), (Continuation, true)],
                None,
            ),
            (
                &[(Continuation, true)],
                Some(Error::ContinuationWithoutStart),
            ),
            (
                &[(Continuation, false)],
                Some(Error::ContinuationWithoutStart),
            ),
            (
                &[(Text, true), (Continuation, true)],
                Some(Error::ContinuationWithoutStart),
            ),
            (
                &[(Text, false), (Continuation, true), (Continuation, true)],
                Some(Error::ContinuationWithoutStart),
            ),
            (
                &[(Text, false), (Text, true)],
                Some(Error::StartWithinMessage),
            ),
            (
                &[(Text, false), (Ping, true), (Binary, false)],
                Some(Error::StartWithinMessage),
            ),
            (
                &[(Binary, false), (Continuation, false), (Binary, true)],
                Some(Error::StartWithinMessage),
            ),
        ];
        for &(sequence, error) in table {
            let mut frames: Vec<_> = sequence
                .iter()
                .map(|&(opcode, fin)| frame(opcode, fin, 3))
                .collect();
            let input = frames.concat();
            if error.is_some() {
                frames.pop();
            }
            for cut in 1..=input.len() {
                assert_eq!(
                    take_all(&input, cut),
                    (frames.clone(), error),
                    "{sequence:?} {cut}"
                );
            }
        }
    }

    #[test]
    fn an_unmasked_frame_is_refused_whatever_it_is() {
        for first in [0x80, 0x81, 0x82, 0x88, 0x89, 0x8a] {
            let input = [first, 0];
            assert_eq!(take_all(&input, 2), (vec![], Some(Error::Unmasked)));
            assert_eq!(take_all(&input, 1), (vec![], Some(Error::Unmasked)));
        }
    }

    #[test]
    fn a_message_may_have_the_limit_and_no_more() {
        let fits = frame(OpCode::Text, true, LIMIT);
        let over = frame(OpCode::Text, true, LIMIT + 1);
        for cut in 1..=over.len() {
            assert_eq!(take_all(&fits, cut), (vec![fits.clone()], None));
            assert_eq!(take_all(&over, cut), (vec![], Some(Error::MessageTooBig)));
        }
    }

    #[test]
    fn fragments_count_together_and_control_frames_do_not() {
        let begin = frame(OpCode::Text, false, LIMIT - 1);
        let ping = frame(OpCode::Ping, true, 125);
        let fits = frame(OpCode::Continuation, false, 1);
        let over = frame(OpCode::Continuation, true, 1);
        let input = [&begin[..], &ping, &fits, &over].concat();
        for cut in 1..=input.len() {
            let frames = vec![begin.clone(), ping.clone(), fits.clone()];
            assert_eq!(take_all(&input, cut), (frames, Some(Error::MessageTooBig)));
        }
        let empty = frame(OpCode::Continuation, true, 0);
        let input = [&begin[..], &fits, &empty, &begin].concat();
        assert_eq!(take_all(&input, input.len()).1, None);
    }

    #[test]
    fn an_announced_length_is_refused_by_its_header_alone() {
        for (length, error) in [
            (LIMIT as u64 + 70_000, Error::MessageTooBig),
            (1 << 62, Error::MessageTooBig),
            (i64::MAX as u64, Error::MessageTooBig),
            (1 << 63, Error::LengthTooLarge),
            (u64::MAX, Error::LengthTooLarge),
        ] {
            let header = [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
            for cut in 1..=header.len() {
                assert_eq!(take_all(&header, cut), (vec![], Some(error)), "{length:#x}");
            }
        }
    }

    #[test]
    fn a_limit_lowered_inside_a_message_is_no_underflow() {
        let mut intake = Intake::default();
        let mut consumed = 0;
        let begin = frame(OpCode::Text, false, 10);
        assert!(intake.take(&begin, &mut consumed, 10).unwrap().is_some());
        let more = frame(OpCode::Continuation, true, 1);
        assert_eq!(
            intake.take(&more, &mut 0, 5).unwrap_err(),
            Error::MessageTooBig
        );
    }
}
