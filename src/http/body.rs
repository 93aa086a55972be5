//! A request body, decoded as it comes (RFC 9112 sections 6 and 7).
//!
//! The decoder takes input cut anywhere, appends the decoded bytes to a buffer of the caller's and
//! stops after the body's last byte, so that what follows is the next request. Chunk extensions
//! and trailers are read, bounded and ignored. It keeps no bytes itself.
//!
//! A body of known length that lies in the receive buffer whole needs no decoder: with
//! `BodyLength::Length(n)` the `n` bytes behind the head are the body, in place.
//!
//! Invariant: what it has appended is never more than its limit.

use super::{BodyLength, Error};

/// Bytes of chunk extensions and trailers in one body, together. At the bound: 400. One-byte
/// chunks with long extensions would otherwise make a small body cost any amount of reading.
pub const CHUNK_EXTRAS_BYTES_MAX: usize = 8 * 1024;
/// Most digits of a chunk size, leading zeros included: as many as 64 bits have.
const CHUNK_DIGITS_MAX: u8 = 16;

/// The state of one body between two pieces of input.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
    bytes_max: u64,
    /// How much more may be appended. `bytes_left <= bytes_max`.
    bytes_left: u64,
    extras_left: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `left` bytes of a body of known length.
    Fixed {
        left: u64,
    },
    /// In the digits of a chunk size.
    Size {
        digits: u8,
        size: u64,
    },
    /// White space or an extension between the size and the end of its line.
    Extension {
        size: u64,
    },
    /// CR of a size line has come.
    SizeLf {
        size: u64,
    },
    /// `left` bytes of a chunk, at least one.
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// In a trailer section; `empty` while the line has no byte yet.
    Trailer {
        empty: bool,
    },
    /// CR of a trailer line has come.
    TrailerLf {
        empty: bool,
    },
    Done,
}

impl BodyDecoder {
    /// A decoder for a body announced as `length`. A length beyond `bytes_max` is refused here,
    /// before a byte of it is read.
    pub fn new(length: BodyLength, bytes_max: u64) -> Result<Self, Error> {
        length.check(bytes_max)?;
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Done,
            BodyLength::Length(left) => State::Fixed { left },
            BodyLength::Chunked => State::Size { digits: 0, size: 0 },
        };
        Ok(Self {
            state,
            bytes_max,
            bytes_left: bytes_max,
            extras_left: CHUNK_EXTRAS_BYTES_MAX,
        })
    }

    /// Whether the body has ended. True from the start where there is none.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes what it can of `input` and appends what that decodes to. Gives the bytes taken and
    /// whether the body has ended; unless it has, all of `input` was taken.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), Error> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            match self.state {
                State::Fixed { left } | State::Data { left } => {
                    let take = left.min((input.len() - at) as u64) as usize;
                    out.extend_from_slice(&input[at..at + take]);
                    at += take;
                    self.advance(take as u64);
                }
                _ => {
                    self.state = self.step(input[at])?;
                    at += 1;
                }
            }
        }
        Ok((at, self.is_done()))
    }

    /// `taken` more bytes of content have come.
    fn advance(&mut self, taken: u64) {
        self.state = match self.state {
            State::Fixed { left } if left == taken => State::Done,
            State::Fixed { left } => State::Fixed { left: left - taken },
            State::Data { left } if left == taken => State::DataCr,
            State::Data { left } => State::Data { left: left - taken },
            other => other,
        };
    }

    /// One byte of chunk framing. Lines end with CR LF only: a proxy that reads a lone LF
    /// otherwise than we do would see other requests than we see.
    fn step(&mut self, byte: u8) -> Result<State, Error> {
        match self.state {
            State::Size { digits, size } => match (byte as char).to_digit(16) {
                Some(_) if digits == CHUNK_DIGITS_MAX => Err(Error::ChunkSize),
                Some(digit) => Ok(State::Size {
                    digits: digits + 1,
                    size: size << 4 | u64::from(digit),
                }),
                None if digits == 0 => Err(Error::ChunkSize),
                None => match byte {
                    b'\r' => Ok(State::SizeLf { size }),
                    b';' | b' ' | b'\t' => self.extra(byte, State::Extension { size }),
                    _ => Err(Error::ChunkSize),
                },
            },
            State::Extension { size } => match byte {
                b'\r' => Ok(State::SizeLf { size }),
                _ if is_text(byte) => self.extra(byte, State::Extension { size }),
                _ => Err(Error::ChunkSize),
            },
            State::SizeLf { .. } if byte != b'\n' => Err(Error::ChunkSize),
            State::SizeLf { size: 0 } => Ok(State::Trailer { empty: true }),
            State::SizeLf { size } if size > self.bytes_left => Err(Error::BodyTooLarge {
                bytes_max: self.bytes_max,
            }),
            State::SizeLf { size } => {
                self.bytes_left -= size;
                Ok(State::Data { left: size })
            }
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size { digits: 0, size: 0 }),
            State::DataCr | State::DataLf => Err(Error::ChunkEnd),
            State::Trailer { empty } => match byte {
                b'\r' => Ok(State::TrailerLf { empty }),
                _ if is_text(byte) => self.extra(byte, State::Trailer { empty: false }),
                _ => Err(Error::ChunkEnd),
            },
            State::TrailerLf { .. } if byte != b'\n' => Err(Error::ChunkEnd),
            State::TrailerLf { empty: true } => Ok(State::Done),
            State::TrailerLf { empty: false } => Ok(State::Trailer { empty: true }),
            State::Fixed { .. } | State::Data { .. } | State::Done => Ok(self.state),
        }
    }

    /// Counts a byte that is read only to be ignored.
    fn extra(&mut self, _byte: u8, next: State) -> Result<State, Error> {
        if self.extras_left == 0 {
            return Err(Error::ChunkExtras {
                bytes_max: CHUNK_EXTRAS_BYTES_MAX,
            });
        }
        self.extras_left -= 1;
        Ok(next)
    }
}

/// TAB, or no control character.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
