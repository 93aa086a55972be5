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
                    b';' | b' ' | b'\t' => self.ignored(State::Extension { size }),
                    _ => Err(Error::ChunkSize),
                },
            },
            State::Extension { size } => match byte {
                b'\r' => Ok(State::SizeLf { size }),
                _ if is_text(byte) => self.ignored(State::Extension { size }),
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
                _ if is_text(byte) => self.ignored(State::Trailer { empty: false }),
                _ => Err(Error::ChunkEnd),
            },
            State::TrailerLf { .. } if byte != b'\n' => Err(Error::ChunkEnd),
            State::TrailerLf { empty: true } => Ok(State::Done),
            State::TrailerLf { empty: false } => Ok(State::Trailer { empty: true }),
            State::Fixed { .. } | State::Data { .. } | State::Done => Ok(self.state),
        }
    }

    /// Counts a byte that is read and ignored, and goes on to `next`.
    fn ignored(&mut self, next: State) -> Result<State, Error> {
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

/// Whole and byte by byte must agree, and the limit must hold.
#[cfg(test)]
pub fn fuzz_body(data: &[u8]) {
    const BYTES_MAX: u64 = 64;
    let decode = |piece_bytes: usize| {
        let mut decoder = BodyDecoder::new(BodyLength::Chunked, BYTES_MAX)?;
        let mut out = Vec::new();
        let mut taken = 0;
        for piece in data.chunks(piece_bytes) {
            taken += decoder.decode(piece, &mut out)?.0;
            assert!(out.len() as u64 <= BYTES_MAX);
        }
        Ok::<_, Error>((taken, decoder.is_done(), out))
    };
    assert_eq!(decode(data.len().max(1)), decode(1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    /// Bytes taken, whether done, and the body; or the error.
    type Outcome = Result<(usize, bool, Vec<u8>), Error>;

    /// Decodes `input` in pieces of which each ends at a cut.
    fn decode(
        length: BodyLength,
        bytes_max: u64,
        input: &[u8],
        cuts: impl IntoIterator<Item = usize>,
    ) -> Outcome {
        let mut decoder = BodyDecoder::new(length, bytes_max)?;
        let mut out = Vec::new();
        let mut at = 0;
        for cut in cuts.into_iter().chain([input.len()]) {
            let (taken, done) = decoder.decode(&input[at..cut], &mut out)?;
            at += taken;
            assert_eq!(done, decoder.is_done());
            assert!(out.len() as u64 <= bytes_max);
            if done {
                break;
            }
            assert_eq!(at, cut, "unless the body has ended, all input is taken");
        }
        Ok((at, decoder.is_done(), out))
    }

    fn chunked(input: &str) -> Outcome {
        decode(BodyLength::Chunked, 1000, input.as_bytes(), [])
    }

    const NEXT: &str = "GET / HTTP/1.1\r\n";

    /// Chunked bodies and what they hold.
    const CHUNKED: [(&str, &str); 9] = [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("3\r\nhel\r\n2\r\nlo\r\n000\r\n\r\n", "hello"),
        (
            "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            "01234567890123456789",
        ),
        ("0000000000000002\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("5;name=value;q=\"a;b\"\r\nhello\r\n0;last\r\n\r\n", "hello"),
        ("5 \t\r\nhello\r\n0 ; x\r\n\r\n", "hello"),
        (
            "1\r\n\n\r\n0\r\nTrailer: 1\r\nOther: caf\u{e9}\r\n\r\n",
            "\n",
        ),
        ("4\r\n0\r\n\r\r\n0\r\n\r\n", "0\r\n\r"),
    ];

    #[test]
    fn a_chunked_body_is_the_same_at_every_cut_and_leaves_the_next_request() {
        for (body, expected) in CHUNKED {
            let input = format!("{body}{NEXT}");
            let expected = Ok((body.len(), true, expected.as_bytes().to_vec()));
            let feed = |cuts: &[usize]| {
                decode(
                    BodyLength::Chunked,
                    20,
                    input.as_bytes(),
                    cuts.iter().copied(),
                )
            };
            for first in 0..=input.len() {
                for second in first..=input.len() {
                    assert_eq!(
                        feed(&[first, second]),
                        expected,
                        "{body:?} cut {first} {second}"
                    );
                }
            }
            let bytes: Vec<_> = (0..input.len()).collect();
            assert_eq!(feed(&bytes), expected, "{body:?} byte by byte");
        }
    }

    #[test]
    fn no_prefix_of_a_chunked_body_is_a_body() {
        for (body, _) in CHUNKED {
            for end in 0..body.len() {
                let prefix = decode(BodyLength::Chunked, 1000, &body.as_bytes()[..end], []);
                assert!(
                    prefix.is_ok_and(|(taken, done, _)| taken == end && !done),
                    "{body:?}"
                );
            }
        }
    }

    #[test]
    fn a_body_of_known_length_ends_at_that_length() {
        let input = b"{\"a\":1}GET /";
        for cut in 0..=input.len() {
            let decoded = decode(BodyLength::Length(7), 7, input, [cut]);
            assert_eq!(decoded, Ok((7, true, b"{\"a\":1}".to_vec())));
        }
        for none in [BodyLength::None, BodyLength::Length(0)] {
            assert_eq!(decode(none, 0, input, []), Ok((0, true, Vec::new())));
        }
    }

    #[test]
    fn malformed_framing_is_refused() {
        let table = [
            ("\r\n", Error::ChunkSize),
            (";x\r\n", Error::ChunkSize),
            (" 5\r\n", Error::ChunkSize),
            ("0x5\r\n", Error::ChunkSize),
            ("+5\r\n", Error::ChunkSize),
            ("-1\r\n", Error::ChunkSize),
            ("g\r\n", Error::ChunkSize),
            ("5\n", Error::ChunkSize),
            ("5;x\n", Error::ChunkSize),
            ("5;x\0\r\n", Error::ChunkSize),
            ("5\rx", Error::ChunkSize),
            ("00000000000000000", Error::ChunkSize),
            ("5\r\nhello0\r\n", Error::ChunkEnd),
            ("5\r\nhello\n", Error::ChunkEnd),
            ("5\r\nhello\r0", Error::ChunkEnd),
            ("0\r\n\n", Error::ChunkEnd),
            ("0\r\nX: y\n", Error::ChunkEnd),
            ("0\r\nX: \x01\r\n", Error::ChunkEnd),
            ("0\r\n\rX", Error::ChunkEnd),
        ];
        for (input, expected) in table {
            assert_eq!(chunked(input), Err(expected), "{input:?}");
        }
    }

    #[test]
    fn a_body_over_the_limit_is_refused_before_it_is_read() {
        let too_large = Err(Error::BodyTooLarge { bytes_max: 10 });
        let with = |length, input: &str| decode(length, 10, input.as_bytes(), []);
        assert_eq!(with(BodyLength::Length(11), ""), too_large);
        assert_eq!(with(BodyLength::Length(u64::MAX), ""), too_large);
        assert_eq!(with(BodyLength::Chunked, "b\r\n"), too_large);
        assert_eq!(with(BodyLength::Chunked, "ffffffffffffffff\r\n"), too_large);
        assert_eq!(
            with(BodyLength::Chunked, "9\r\n123456789\r\n2\r\n"),
            too_large
        );
        let exact = "9\r\n123456789\r\n1\r\n0\r\n0\r\n\r\n";
        assert!(with(BodyLength::Chunked, exact).is_ok_and(|(_, done, _)| done));
    }

    #[test]
    fn extensions_and_trailers_are_bounded_together() {
        let half = "x".repeat(CHUNK_EXTRAS_BYTES_MAX / 2 - 1);
        let exact = format!("0;{half}\r\nt{half}\r\n\r\n");
        assert!(chunked(&exact).is_ok_and(|(_, done, _)| done));
        let over = format!("0;{half}\r\nt{half}y\r\n\r\n");
        let refused = Err(Error::ChunkExtras {
            bytes_max: CHUNK_EXTRAS_BYTES_MAX,
        });
        assert_eq!(chunked(&over), refused);
        let many = "1;x\r\n1\r\n".repeat(CHUNK_EXTRAS_BYTES_MAX);
        assert_eq!(
            decode(BodyLength::Chunked, 1 << 20, many.as_bytes(), []),
            refused
        );
    }

    #[test]
    fn mutated_bodies_decode_alike_whole_and_in_pieces() {
        let mut seed = Seed::new(3);
        for _ in 0..20_000 {
            let (body, _) = CHUNKED[seed.below(CHUNKED.len())];
            let mut body = body.as_bytes().to_vec();
            seed.mutate(&mut body, b"\r\n0123aF; x\0\xff");
            fuzz_body(&body);
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut seed = Seed::new(4);
        for _ in 0..2_000 {
            let body: Vec<u8> = (0..seed.below(300)).map(|_| seed.next() as u8).collect();
            let mut wire = Vec::new();
            let mut rest = &body[..];
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(1 + seed.below(rest.len()));
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
                rest = after;
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let cut = seed.below(wire.len());
            let decoded = decode(BodyLength::Chunked, 300, &wire, [cut]);
            assert_eq!(decoded, Ok((wire.len(), true, body)));
        }
    }
}
