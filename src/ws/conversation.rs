//! A [`Reader`] as its owner drives it, for the tests of this module: offers input until there is
//! no event, drops the reader whenever it is idle, and notes what came out.

use super::{
    Error,
    client::encode_masked,
    frame::OpCode,
    message::{DataFrames, Event, Reader, Step},
};

/// The limit for messages in these tests.
pub(super) const LIMIT: usize = 1000;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An event that owns its bytes, or the error that came instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Failed(Error),
}

impl From<Event<'_>> for Said {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.to_vec()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(code) => Self::Close(code),
        }
    }
}

pub(super) fn is_data(said: &Said) -> bool {
    matches!(said, Said::Text(_) | Said::Binary(_))
}

/// More than any test says: a reader that never ends fails before it fills the memory.
const EVENTS_MAX: usize = 1000;

/// A reader whose owner drops it whenever it is idle, and what came out of it.
#[derive(Default)]
pub(super) struct Conversation {
    pub(super) reader: Reader,
    pub(super) said: Vec<Said>,
}

impl Conversation {
    /// One call; returns the bytes consumed, and whether there may be more to come.
    pub(super) fn step(&mut self, input: &mut [u8], data_frames: DataFrames) -> (usize, bool) {
        let result = match data_frames {
            DataFrames::HandOut => self.reader.next(input, LIMIT),
            DataFrames::Hold => self.reader.hold(input, LIMIT),
        };
        let outcome = match result {
            Ok(Step {
                consumed,
                event: Some(event),
            }) => {
                self.said.push(event.into());
                (consumed, true)
            }
            Ok(Step {
                consumed,
                event: None,
            }) => {
                assert_eq!(consumed, input.len());
                (consumed, false)
            }
            Err(error) => {
                self.said.push(Said::Failed(error));
                (0, true)
            }
        };
        assert!(self.said.len() <= EVENTS_MAX);
        if self.reader.is_idle() {
            self.reader = Reader::default();
        }
        outcome
    }

    fn feed(&mut self, input: &[u8], data_frames: DataFrames) {
        let mut input = input.to_vec();
        let mut at = 0;
        loop {
            let (consumed, goes_on) = self.step(&mut input[at..], data_frames);
            at += consumed;
            if !goes_on {
                return;
            }
        }
    }

    pub(super) fn next(&mut self, input: &[u8]) {
        self.feed(input, DataFrames::HandOut);
    }

    pub(super) fn hold(&mut self, input: &[u8]) {
        self.feed(input, DataFrames::Hold);
    }
}

pub(super) fn read_cut(input: &[u8], piece_bytes: usize) -> Vec<Said> {
    let mut conversation = Conversation::default();
    input
        .chunks(piece_bytes)
        .for_each(|piece| conversation.next(piece));
    conversation.said
}

pub(super) fn frame(opcode: OpCode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_masked(opcode, fin, KEY, payload, &mut out);
    out
}

pub(super) fn text(payload: &str) -> Vec<u8> {
    frame(OpCode::Text, true, payload.as_bytes())
}

pub(super) fn ping(payload: &str) -> Vec<u8> {
    frame(OpCode::Ping, true, payload.as_bytes())
}
