//! From the bytes of a connection to messages, pings, pongs and a close: [`Reader`].
//!
//! A whole message in one frame is unmasked where it lies and handed out without a copy. Only what
//! is incomplete is kept: a frame cut by the end of the input (`partial.rs`), a message cut into
//! fragments (`fragments.rs`), frames that must wait (`held.rs`). Answering is for the caller.
//!
//! Invariant: every frame is judged once, when its header is complete and before its payload is
//! kept, and events come out in the order of their frames. [`Reader::hold`] is the one exception:
//! pings, pongs and a Close go before the data frames that it puts aside.

use std::ops::Range;

use super::{
    Error, close,
    fragments::{Fragments, Joined},
    frame::{FrameHeader, OpCode},
    held::Held,
    mask,
    partial::Partial,
};

/// What a peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message; it is UTF-8.
    Text(&'a mut [u8]),
    /// A whole message.
    Binary(&'a mut [u8]),
    /// To be answered with a pong of the same payload (RFC 6455 section 5.5.2).
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The peer's Close, with its code if it gave one; to be answered with [`close::echo`].
    Close(Option<u16>),
}

/// What a call has made of its input.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Bytes of the input that need not be offered again.
    pub consumed: usize,
    /// `None` once all input is consumed.
    pub event: Option<Event<'a>>,
}

/// What has to be remembered of a connection's input between two calls.
///
/// Between most calls that is nothing: an [idle](Self::is_idle) reader is equal to a new one, so
/// its owner may drop it and a connection without unfinished input costs no memory.
#[derive(Debug, Default)]
pub struct Reader {
    partial: Partial,
    /// The message that the next data frame must continue, as far as headers have been seen.
    begun: Option<Begun>,
    /// The same message as far as payloads have been joined: held frames lie between the two.
    fragments: Fragments,
    held: Held,
    /// After a Close or an error. Every further byte is ignored.
    is_finished: bool,
}

impl Reader {
    /// The next event of `input`: held frames come first, then what is left of a partial frame.
    ///
    /// To be called again with what `consumed` leaves until there is no event; an incomplete frame
    /// at the end of `input` is kept here. A message above `message_bytes_max` is an error as soon
    /// as a header shows it, and nothing of that frame is kept. After an error, as after a Close,
    /// all input is consumed and nothing comes out.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut [u8],
        message_bytes_max: usize,
    ) -> Result<Step<'a>, Error> {
        self.step(input, message_bytes_max, DataFrames::HandOut)
    }

    /// Like [`next`](Self::next), but puts complete data frames aside: only pings, pongs and a
    /// Close come out. Violations that a header shows are reported at once, those of a text when
    /// it is taken up. Those that a Close or an error finds here are dropped with it.
    pub fn hold<'a>(
        &'a mut self,
        input: &'a mut [u8],
        message_bytes_max: usize,
    ) -> Result<Step<'a>, Error> {
        self.step(input, message_bytes_max, DataFrames::Hold)
    }

    /// The next message that [`hold`](Self::hold) has put aside, in order; `None` if no whole one
    /// is left. The same as [`next`](Self::next) without input.
    pub fn next_held(&mut self) -> Result<Option<Event<'_>>, Error> {
        // No header is judged without input, so no limit applies.
        Ok(self.next(&mut [], 0)?.event)
    }

    /// Nothing is remembered: the next call would do the same on a new reader.
    pub fn is_idle(&self) -> bool {
        self.buffered_bytes() == 0 && self.begun.is_none() && !self.is_finished
    }

    /// Bytes kept, of whatever kind.
    pub fn buffered_bytes(&self) -> usize {
        self.held_bytes() + self.fragments.len()
    }

    /// Bytes kept that no message has been made of: held frames and the partial frame behind them.
    pub fn held_bytes(&self) -> usize {
        self.held.len() + self.partial.len()
    }

    fn step<'a>(
        &'a mut self,
        input: &'a mut [u8],
        message_bytes_max: usize,
        data_frames: DataFrames,
    ) -> Result<Step<'a>, Error> {
        let mut consumed = 0;
        let found = match self.find(input, &mut consumed, message_bytes_max, data_frames) {
            Ok(found) => found,
            Err(error) => {
                self.finish();
                return Err(error);
            }
        };
        if self.is_finished {
            consumed = input.len();
        }
        let event = found.map(|found| match found {
            Found::Text(place) => {
                Event::Text(place.bytes_mut(input, &mut self.partial, &mut self.held))
            }
            Found::Binary(place) => {
                Event::Binary(place.bytes_mut(input, &mut self.partial, &mut self.held))
            }
            Found::Joined(Joined::Text) => Event::Text(self.fragments.bytes_mut()),
            Found::Joined(Joined::Binary) => Event::Binary(self.fragments.bytes_mut()),
            Found::Ping(place) => {
                Event::Ping(place.bytes_mut(input, &mut self.partial, &mut self.held))
            }
            Found::Pong(place) => {
                Event::Pong(place.bytes_mut(input, &mut self.partial, &mut self.held))
            }
            Found::Close(code) => Event::Close(code),
        });
        Ok(Step { consumed, event })
    }

    fn find(
        &mut self,
        input: &mut [u8],
        consumed: &mut usize,
        message_bytes_max: usize,
        data_frames: DataFrames,
    ) -> Result<Option<Found>, Error> {
        if self.is_finished {
            return Ok(None);
        }
        self.fragments.release();
        if data_frames == DataFrames::HandOut {
            while let Some((header, range)) = self.held.take() {
                let payload = Place {
                    buffer: Buffer::Held,
                    range,
                };
                if let Some(found) = self.open(input, header, payload)? {
                    return Ok(Some(found));
                }
            }
        }
        while let Some(frame) = self.take_frame(input, consumed, message_bytes_max)? {
            let Frame {
                header,
                header_bytes,
                mut place,
            } = frame;
            if header.opcode.is_control() || data_frames == DataFrames::HandOut {
                place.range.start += header_bytes;
                if let Some(found) = self.open(input, header, place)? {
                    return Ok(Some(found));
                }
            } else if place.buffer == Buffer::Input {
                self.held.push(&input[place.range]);
            } else {
                self.held.push(self.partial.bytes());
            }
        }
        Ok(None)
    }

    /// The next whole frame, judged but not yet opened.
    fn take_frame(
        &mut self,
        input: &[u8],
        consumed: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<Frame>, Error> {
        if self.partial.is_complete() {
            self.partial = Partial::default();
        }
        if self.partial.len() > 0 {
            return self.complete_partial(input, consumed, message_bytes_max);
        }
        let start = *consumed;
        let rest = &input[start..];
        let header = FrameHeader::parse(rest)?;
        if let Some((header, header_bytes)) = header {
            let payload_bytes = self.admit(&header, message_bytes_max)?;
            if payload_bytes <= rest.len() - header_bytes {
                let end = start + header_bytes + payload_bytes;
                *consumed = end;
                let place = Place {
                    buffer: Buffer::Input,
                    range: start..end,
                };
                return Ok(Some(Frame {
                    header,
                    header_bytes,
                    place,
                }));
            }
        }
        self.partial.begin(rest, header);
        *consumed = input.len();
        Ok(None)
    }

    fn complete_partial(
        &mut self,
        input: &[u8],
        consumed: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<Frame>, Error> {
        if self.partial.header().is_none() {
            *consumed += self.partial.fill_header(&input[*consumed..])?;
            if let Some((header, _)) = self.partial.header() {
                self.admit(&header, message_bytes_max)?;
            }
        }
        *consumed += self.partial.fill_payload(&input[*consumed..]);
        let Some((header, header_bytes)) = self.partial.header() else {
            return Ok(None);
        };
        if !self.partial.is_complete() {
            return Ok(None);
        }
        let place = Place {
            buffer: Buffer::Partial,
            range: 0..self.partial.bytes().len(),
        };
        Ok(Some(Frame {
            header,
            header_bytes,
            place,
        }))
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

    /// Unmasks a frame and says what it is; `None` if it is a fragment and not the last.
    fn open(
        &mut self,
        input: &mut [u8],
        header: FrameHeader,
        place: Place,
    ) -> Result<Option<Found>, Error> {
        let payload = place.bytes_mut(input, &mut self.partial, &mut self.held);
        if let Some(key) = header.mask {
            mask::unmask(payload, key);
        }
        let found = match header.opcode {
            OpCode::Ping => Found::Ping(place),
            OpCode::Pong => Found::Pong(place),
            OpCode::Close => {
                let code = close::parse_close(payload)?.map(|(code, _)| code);
                self.finish();
                Found::Close(code)
            }
            OpCode::Text if header.fin => {
                simdutf8::basic::from_utf8(payload).map_err(|_| Error::TextNotUtf8)?;
                Found::Text(place)
            }
            OpCode::Binary if header.fin => Found::Binary(place),
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                let joined = self.fragments.push(header.opcode, header.fin, payload)?;
                return Ok(joined.map(Found::Joined));
            }
        };
        Ok(Some(found))
    }

    fn finish(&mut self) {
        *self = Self {
            is_finished: true,
            ..Self::default()
        };
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DataFrames {
    HandOut,
    Hold,
}

/// A message whose last frame is still to come.
#[derive(Clone, Copy, Debug)]
struct Begun {
    message_bytes: usize,
}

/// A whole frame that has been judged.
struct Frame {
    header: FrameHeader,
    header_bytes: usize,
    /// Header included.
    place: Place,
}

/// An [`Event`] whose bytes have not been borrowed yet: what is found must not borrow what is
/// still being read.
enum Found {
    Text(Place),
    Binary(Place),
    Joined(Joined),
    Ping(Place),
    Pong(Place),
    Close(Option<u16>),
}

/// Where a frame or its payload lies.
struct Place {
    buffer: Buffer,
    range: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Buffer {
    Input,
    Partial,
    Held,
}

impl Place {
    fn bytes_mut<'a>(
        &self,
        input: &'a mut [u8],
        partial: &'a mut Partial,
        held: &'a mut Held,
    ) -> &'a mut [u8] {
        let buffer = match self.buffer {
            Buffer::Input => input,
            Buffer::Partial => partial.bytes_mut(),
            Buffer::Held => held.bytes_mut(),
        };
        &mut buffer[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::client::encode_masked;

    #[test]
    fn a_whole_message_is_handed_out_where_it_lies() {
        let mut input = Vec::new();
        encode_masked(OpCode::Text, true, [1, 2, 3, 4], b"hello", &mut input);
        let at = input.as_ptr().wrapping_add(6);
        let mut reader = Reader::default();
        let step = reader.next(&mut input, 100).unwrap();
        assert_eq!(step.consumed, 11);
        let Some(Event::Text(text)) = step.event else {
            panic!("no text");
        };
        assert_eq!(text, b"hello");
        assert_eq!(text.as_ptr(), at);
        assert!(reader.is_idle());
    }
}
