//! From the bytes of a connection to messages, pings, pongs and a close: [`Reader`].
//!
//! A whole message in one frame is unmasked where it lies and handed out without a copy. Only what
//! cannot be handed out is kept: a frame cut by the end of the input (`intake.rs`), a message cut
//! into fragments (`fragments.rs`), frames that must wait (`held.rs`). Answering is the caller's.
//!
//! Invariant: events come out in the order of their frames. [`Reader::hold`] is the one exception:
//! pings, pongs and a Close go before the data frames that it puts aside.

use super::{
    Error, close,
    fragments::{Fragments, Joined},
    frame::OpCode,
    held::Held,
    intake::Intake,
    mask,
    whole::{Buffer, Place, WholeFrame},
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
    frames: Frames,
    /// What has been joined of a message in fragments. More of them may be among the held frames.
    fragments: Fragments,
    /// After a Close or an error: every further byte is ignored.
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
    /// it is taken up. What is held when a Close or an error comes is dropped.
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
        self.buffered_bytes() == 0 && self.frames.intake.is_idle() && !self.is_finished
    }

    /// Bytes kept, of whatever kind.
    pub fn buffered_bytes(&self) -> usize {
        self.held_bytes() + self.frames.intake.partial_bytes() + self.fragments.len()
    }

    /// Bytes of whole frames put aside. The partial frame behind them does not count: only more
    /// input can end it, and the limit of a message bounds it.
    pub fn held_bytes(&self) -> usize {
        self.frames.held.len()
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
            Found::Text(place) => Event::Text(self.frames.bytes_mut(input, &place)),
            Found::Binary(place) => Event::Binary(self.frames.bytes_mut(input, &place)),
            Found::Joined(Joined::Text) => Event::Text(self.fragments.bytes_mut()),
            Found::Joined(Joined::Binary) => Event::Binary(self.fragments.bytes_mut()),
            Found::Ping(place) => Event::Ping(self.frames.bytes_mut(input, &place)),
            Found::Pong(place) => Event::Pong(self.frames.bytes_mut(input, &place)),
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
        while let Some(frame) = self
            .frames
            .take(input, consumed, message_bytes_max, data_frames)?
        {
            if let Some(found) = self.open(input, frame)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Unmasks a frame and says what it is; `None` if it is a fragment and not the last.
    fn open(&mut self, input: &mut [u8], frame: WholeFrame) -> Result<Option<Found>, Error> {
        let WholeFrame {
            header,
            payload: place,
            ..
        } = frame;
        let payload = self.frames.bytes_mut(input, &place);
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

/// Frames as they arrive, with those put aside before them.
#[derive(Debug, Default)]
struct Frames {
    held: Held,
    intake: Intake,
}

/// What becomes of data frames that arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DataFrames {
    HandOut,
    Hold,
}

impl Frames {
    fn take(
        &mut self,
        input: &[u8],
        consumed: &mut usize,
        message_bytes_max: usize,
        data_frames: DataFrames,
    ) -> Result<Option<WholeFrame>, Error> {
        if data_frames == DataFrames::HandOut
            && let Some(frame) = self.held.take()
        {
            return Ok(Some(frame));
        }
        while let Some(frame) = self.intake.take(input, consumed, message_bytes_max)? {
            if data_frames == DataFrames::HandOut || frame.header.opcode.is_control() {
                return Ok(Some(frame));
            }
            self.held.push(match frame.payload.buffer {
                Buffer::Input => &input[frame.range()],
                Buffer::Partial | Buffer::Held => &self.intake.partial_mut()[frame.range()],
            });
        }
        Ok(None)
    }

    fn bytes_mut<'a>(&'a mut self, input: &'a mut [u8], place: &Place) -> &'a mut [u8] {
        let buffer = match place.buffer {
            Buffer::Input => input,
            Buffer::Partial => self.intake.partial_mut(),
            Buffer::Held => self.held.bytes_mut(),
        };
        &mut buffer[place.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::conversation::{Conversation, LIMIT, Said, frame, ping, read_cut, text};

    #[test]
    fn held_messages_come_out_before_the_partial_frame_behind_them() {
        let input = [text("one"), text("two"), text("three")].concat();
        let mut reader = Reader::default();
        let cut = input.len() - 2;
        let mut begin = input[..cut].to_vec();
        let step = reader.hold(&mut begin, LIMIT).unwrap();
        assert_eq!((step.consumed, step.event), (cut, None));
        assert_eq!(
            (reader.held_bytes(), reader.buffered_bytes()),
            (cut - 9, cut)
        );
        assert_eq!(
            reader.next_held(),
            Ok(Some(Event::Text(&mut b"one".to_owned())))
        );
        assert_eq!(
            reader.next_held(),
            Ok(Some(Event::Text(&mut b"two".to_owned())))
        );
        assert_eq!(reader.next_held(), Ok(None));
        assert_eq!((reader.held_bytes(), reader.buffered_bytes()), (0, 9));
        assert!(!reader.is_idle());
        let mut rest = input[cut..].to_vec();
        let step = reader.next(&mut rest, LIMIT).unwrap();
        assert_eq!(step.event, Some(Event::Text(&mut b"three".to_owned())));
    }

    #[test]
    fn a_resume_may_stop_in_the_middle_and_hold_again() {
        let mut conversation = Conversation::default();
        conversation.hold(&[text("one"), ping("p"), text("two")].concat());
        conversation.step(&mut [], DataFrames::HandOut);
        conversation.hold(&[text("three"), frame(OpCode::Text, false, b"fo")].concat());
        conversation.step(&mut [], DataFrames::HandOut);
        conversation.hold(&frame(OpCode::Continuation, true, b"ur"));
        conversation.next(&text("five"));
        let texts = ["one", "two", "three", "four", "five"];
        let texts = texts.map(|text| Said::Text(text.as_bytes().to_vec()));
        assert_eq!(conversation.said[0], Said::Ping(b"p".to_vec()));
        assert_eq!(conversation.said[1..], texts);
        assert!(conversation.reader.is_idle());
    }

    #[test]
    fn held_fragments_count_once_for_the_limit() {
        let half = "x".repeat(LIMIT / 2);
        let input = [
            frame(OpCode::Text, false, half.as_bytes()),
            frame(OpCode::Continuation, true, half.as_bytes()),
        ];
        let mut conversation = Conversation::default();
        conversation.hold(&input.concat());
        conversation.next(&input.concat());
        assert_eq!(
            conversation.said,
            vec![Said::Text([&half[..]; 2].concat().into_bytes()); 2]
        );
        conversation.hold(&input[0]);
        conversation.hold(&frame(
            OpCode::Continuation,
            true,
            format!("{half}x").as_bytes(),
        ));
        assert_eq!(conversation.said[2..], [Said::Failed(Error::MessageTooBig)]);
    }

    #[test]
    fn a_violation_shows_while_frames_are_held() {
        let mut conversation = Conversation::default();
        conversation.hold(&[text("one"), frame(OpCode::Continuation, true, b"")].concat());
        assert_eq!(
            conversation.said,
            [Said::Failed(Error::ContinuationWithoutStart)]
        );
        assert_eq!(conversation.reader.next_held(), Ok(None));
    }

    #[test]
    fn a_bad_text_shows_when_it_is_taken_up() {
        let mut conversation = Conversation::default();
        let bad = frame(OpCode::Text, true, b"\xc3\x28");
        conversation.hold(&[text("one"), bad, text("two")].concat());
        assert_eq!(conversation.said, []);
        conversation.next(&[]);
        let said = [
            Said::Text(b"one".to_vec()),
            Said::Failed(Error::TextNotUtf8),
        ];
        assert_eq!(conversation.said, said);
    }

    #[test]
    fn nothing_comes_out_after_a_close() {
        let closes = [
            (
                frame(OpCode::Close, true, b"\x03\xe8bye"),
                Said::Close(Some(1000)),
            ),
            (frame(OpCode::Close, true, b""), Said::Close(None)),
            (
                frame(OpCode::Close, true, b"\x03"),
                Said::Failed(Error::CloseBodyOfOneByte),
            ),
            (
                frame(OpCode::Close, true, &1005u16.to_be_bytes()),
                Said::Failed(Error::CloseCodeNotAllowed),
            ),
            (
                frame(OpCode::Close, true, b"\x03\xe8\xff"),
                Said::Failed(Error::CloseReasonNotUtf8),
            ),
        ];
        for (close, said) in closes {
            let input = [&close[..], &ping("late"), &text("late"), b"\xff\xff\xff"].concat();
            for piece_bytes in 1..=input.len() {
                assert_eq!(read_cut(&input, piece_bytes), std::slice::from_ref(&said));
            }
            let mut conversation = Conversation::default();
            conversation.hold(&text("held"));
            conversation.hold(&input);
            conversation.next(&input);
            assert_eq!(conversation.said, [said]);
            assert_eq!(conversation.reader.buffered_bytes(), 0);
            // Or its owner would drop it, and a new one would read on.
            assert!(!conversation.reader.is_idle());
        }
    }

    #[test]
    fn a_bad_text_ends_the_conversation_wherever_it_is_cut() {
        let input = [
            text("one"),
            frame(OpCode::Text, false, b"\xc3"),
            ping("p"),
            frame(OpCode::Continuation, false, b"\x28"),
            ping("late"),
        ];
        let said = [
            Said::Text(b"one".to_vec()),
            Said::Ping(b"p".to_vec()),
            Said::Failed(Error::TextNotUtf8),
        ];
        let input = input.concat();
        for piece_bytes in 1..=input.len() {
            assert_eq!(read_cut(&input, piece_bytes), said);
        }
    }

    #[test]
    fn a_message_too_big_is_not_kept() {
        let input = frame(OpCode::Text, true, &[b'x'; LIMIT + 1]);
        let mut conversation = Conversation::default();
        conversation.next(&input[..8]);
        assert_eq!(conversation.said, [Said::Failed(Error::MessageTooBig)]);
        conversation.next(&input[8..]);
        assert_eq!(conversation.reader.buffered_bytes(), 0);
    }

    #[test]
    fn a_whole_message_is_handed_out_where_it_lies() {
        for frame in [
            text("hello"),
            ping("hello"),
            frame(OpCode::Binary, true, b"hello"),
        ] {
            let mut input = frame;
            let range = input[6..].as_ptr_range();
            let mut reader = Reader::default();
            let step = reader.next(&mut input, LIMIT).unwrap();
            assert_eq!(step.consumed, 11);
            let payload: &[u8] = match step.event.unwrap() {
                Event::Text(payload) | Event::Binary(payload) => payload,
                Event::Ping(payload) | Event::Pong(payload) => payload,
                Event::Close(_) => panic!("no Close was sent"),
            };
            assert_eq!((payload, payload.as_ptr_range()), (&b"hello"[..], range));
            assert!(reader.is_idle());
        }
    }

    #[test]
    fn what_has_been_handed_out_is_freed_by_the_next_call() {
        let mut reader = Reader::default();
        let halves = [
            frame(OpCode::Text, false, b"one"),
            frame(OpCode::Continuation, true, b"two"),
        ];
        let mut input = halves.concat();
        let step = reader.next(&mut input, LIMIT).unwrap();
        assert_eq!(step.event, Some(Event::Text(&mut b"onetwo".to_owned())));
        reader.next(&mut text("cut")[..3], LIMIT).unwrap();
        assert!(reader.fragments.bytes_mut().is_empty());
        reader.next(&mut text("cut")[3..], LIMIT).unwrap();
        reader.next(&mut [], LIMIT).unwrap();
        assert!(reader.frames.intake.partial_mut().is_empty());
    }

    #[test]
    fn a_reader_is_idle_exactly_between_messages() {
        let mut conversation = Conversation::default();
        assert!(conversation.reader.is_idle());
        let steps: &[(&[u8], bool, usize)] = &[
            (&text("one"), true, 0),
            (&text("two")[..8], false, 8),
            (&text("two")[8..], true, 0),
            // An empty fragment keeps nothing, but its message has begun.
            (&frame(OpCode::Text, false, b""), false, 0),
            (&frame(OpCode::Continuation, false, b"abc"), false, 3),
            (&ping("")[..1], false, 4),
            (&ping("")[1..], false, 3),
            (&frame(OpCode::Continuation, true, b"d"), true, 0),
        ];
        for &(input, is_idle, buffered_bytes) in steps {
            conversation.next(input);
            let reader = &conversation.reader;
            assert_eq!(
                (reader.is_idle(), reader.buffered_bytes()),
                (is_idle, buffered_bytes)
            );
        }
    }
}
