//! Frame headers (RFC 6455 section 5.2): parsing those of either side, encoding those of a server.
//!
//! A header is judged alone. Whether it may stand where it stands, and whether a peer had to mask,
//! is for `message.rs`; payloads are not looked at.
//!
//! Invariant: `parse` reports a violation as soon as the bytes that show it are there, and once it
//! has given a header for some bytes it gives the same one however many follow.

use super::Error;

/// The longest header: 2 bytes, a length of 8, a mask of 4.
pub const HEADER_BYTES_MAX: usize = 14;

/// The longest header of a frame that a server sends: it does not mask.
pub const SERVER_HEADER_BYTES_MAX: usize = 10;

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// What a frame is. The ten reserved opcodes have no value here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl OpCode {
    /// Close, Ping and Pong: never fragmented, and allowed between the fragments of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn parse(nibble: u8) -> Result<Self, Error> {
        match nibble {
            0 => Ok(Self::Continuation),
            1 => Ok(Self::Text),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            _ => Err(Error::ReservedOpcode),
        }
    }
}

/// What precedes a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last frame of its message.
    pub fin: bool,
    pub opcode: OpCode,
    /// The masking key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// Below 2^63; at most [`CONTROL_PAYLOAD_BYTES_MAX`] where the opcode is a control one.
    pub payload_bytes: u64,
}

impl FrameHeader {
    /// The header at the start of `bytes` and its own length; `None` if more bytes are needed.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        if first & RSV != 0 {
            return Err(Error::ReservedBits);
        }
        let fin = first & FIN != 0;
        let opcode = OpCode::parse(first & OPCODE)?;
        if opcode.is_control() && !fin {
            return Err(Error::FragmentedControl);
        }

        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let length = second & LENGTH;
        if opcode.is_control() && usize::from(length) > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(Error::ControlTooLong);
        }
        let Some((payload_bytes, mask_at)) = parse_length(length, bytes)? else {
            return Ok(None);
        };

        let (mask, header_bytes) = if second & MASK == 0 {
            (None, mask_at)
        } else {
            let Some(&key) = bytes[mask_at..].first_chunk::<4>() else {
                return Ok(None);
            };
            (Some(key), mask_at + 4)
        };
        let header = Self {
            fin,
            opcode,
            mask,
            payload_bytes,
        };
        Ok(Some((header, header_bytes)))
    }
}

/// Appends the header of an unmasked frame: 2, 4 or [`SERVER_HEADER_BYTES_MAX`] bytes.
pub fn encode_header(opcode: OpCode, fin: bool, payload_bytes: usize, out: &mut Vec<u8>) {
    encode(opcode, fin, 0, payload_bytes, out);
}

/// The length of the frame that starts at `bytes`, header included, if it was made by a server;
/// `None` if `bytes` hold no whole header of such a frame. Finds the boundaries inside a run of
/// joined frames, and does not ask whether the payload is there.
pub fn server_frame_bytes(bytes: &[u8]) -> Option<usize> {
    let (header, header_bytes) = FrameHeader::parse(bytes).ok()??;
    if header.mask.is_some() {
        return None;
    }
    usize::try_from(header.payload_bytes)
        .ok()?
        .checked_add(header_bytes)
}

/// Appends a header without the masking key; `mask_bit` says whether one will follow.
pub(super) fn encode(
    opcode: OpCode,
    fin: bool,
    mask_bit: u8,
    payload_bytes: usize,
    out: &mut Vec<u8>,
) {
    out.push(if fin { FIN } else { 0 } | opcode as u8);
    if let Ok(length) = u8::try_from(payload_bytes)
        && length < LENGTH_16
    {
        out.push(mask_bit | length);
    } else if let Ok(length) = u16::try_from(payload_bytes) {
        out.push(mask_bit | LENGTH_16);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(mask_bit | LENGTH_64);
        out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
    }
}

/// The payload length and where it ends, given the 7 bits that begin it.
fn parse_length(length: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, Error> {
    match length {
        LENGTH_16 => {
            let Some(&field) = bytes[2..].first_chunk::<2>() else {
                return Ok(None);
            };
            let length = u16::from_be_bytes(field);
            if length < u16::from(LENGTH_16) {
                return Err(Error::LengthNotShortest);
            }
            Ok(Some((u64::from(length), 4)))
        }
        LENGTH_64 => {
            if bytes.get(2).is_some_and(|&high| high >= 0x80) {
                return Err(Error::LengthTooLarge);
            }
            let Some(&field) = bytes[2..].first_chunk::<8>() else {
                return Ok(None);
            };
            let length = u64::from_be_bytes(field);
            if length <= u64::from(u16::MAX) {
                return Err(Error::LengthNotShortest);
            }
            Ok(Some((length, 10)))
        }
        short => Ok(Some((u64::from(short), 2))),
    }
}

// The first byte.
const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const OPCODE: u8 = 0x0f;
// The second byte.
pub(super) const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn header(fin: bool, opcode: OpCode, mask: Option<[u8; 4]>, payload_bytes: u64) -> FrameHeader {
        FrameHeader {
            fin,
            opcode,
            mask,
            payload_bytes,
        }
    }

    fn encoded(header: &FrameHeader) -> Vec<u8> {
        let mut out = Vec::new();
        let mask_bit = if header.mask.is_some() { MASK } else { 0 };
        let payload_bytes = header.payload_bytes as usize;
        encode(header.opcode, header.fin, mask_bit, payload_bytes, &mut out);
        out.extend(header.mask.into_iter().flatten());
        out
    }

    /// What a header is does not depend on where its bytes are cut or what follows: the encoder
    /// gives it back, no prefix is one, and a violation stays a violation.
    fn fuzz_header(data: &[u8]) {
        match FrameHeader::parse(data) {
            Ok(Some((header, header_bytes))) => {
                assert_eq!(encoded(&header), data[..header_bytes]);
                for end in 0..header_bytes {
                    assert_eq!(FrameHeader::parse(&data[..end]), Ok(None));
                }
                let alone = FrameHeader::parse(&data[..header_bytes]);
                assert_eq!(alone, Ok(Some((header, header_bytes))));
            }
            Ok(None) => assert!(data.len() < HEADER_BYTES_MAX),
            Err(error) => {
                let longer = [data, &[0; HEADER_BYTES_MAX]].concat();
                assert_eq!(FrameHeader::parse(&longer), Err(error));
            }
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let table: &[(&[u8], FrameHeader, usize)] = &[
            (b"\x81\x05Hello", header(true, OpCode::Text, None, 5), 2),
            (
                b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
                header(true, OpCode::Text, Some(key), 5),
                6,
            ),
            (b"\x01\x03Hel", header(false, OpCode::Text, None, 3), 2),
            (
                b"\x80\x02lo",
                header(true, OpCode::Continuation, None, 2),
                2,
            ),
            (b"\x89\x05Hello", header(true, OpCode::Ping, None, 5), 2),
            (
                b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
                header(true, OpCode::Pong, Some(key), 5),
                6,
            ),
            (
                b"\x82\x7e\x01\x00",
                header(true, OpCode::Binary, None, 256),
                4,
            ),
            (
                b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
                header(true, OpCode::Binary, None, 65536),
                10,
            ),
        ];
        for &(bytes, header, header_bytes) in table {
            assert_eq!(FrameHeader::parse(bytes), Ok(Some((header, header_bytes))));
            fuzz_header(bytes);
        }
    }

    #[test]
    fn every_first_byte_is_judged_alone() {
        let opcodes = [
            (0, OpCode::Continuation),
            (1, OpCode::Text),
            (2, OpCode::Binary),
            (8, OpCode::Close),
            (9, OpCode::Ping),
            (10, OpCode::Pong),
        ];
        for first in 0..=255u8 {
            let opcode = opcodes.iter().find(|(nibble, _)| *nibble == first % 16);
            let expected = match opcode {
                _ if first & 0b0111_0000 != 0 => Err(Error::ReservedBits),
                None => Err(Error::ReservedOpcode),
                Some(_) if first < 0x80 && first % 16 >= 8 => Err(Error::FragmentedControl),
                Some(&(_, opcode)) => Ok(opcode),
            };
            assert_eq!(FrameHeader::parse(&[first]), expected.map(|_| None));
            let whole = expected.map(|opcode| {
                let header = header(first >= 0x80, opcode, Some([1, 2, 3, 4]), 7);
                Some((header, 6))
            });
            assert_eq!(FrameHeader::parse(&[first, 0x87, 1, 2, 3, 4, 0]), whole);
        }
    }

    #[test]
    fn every_length_comes_back_and_no_prefix_is_a_header() {
        let lengths = [
            0,
            1,
            124,
            125,
            126,
            127,
            128,
            255,
            256,
            65535,
            65536,
            1 << 32,
            1 << 62,
        ];
        for payload_bytes in lengths {
            for mask in [None, Some([0; 4]), Some([1, 2, 3, 4])] {
                let header = header(true, OpCode::Binary, mask, payload_bytes);
                let bytes = encoded(&header);
                assert_eq!(FrameHeader::parse(&bytes), Ok(Some((header, bytes.len()))));
                fuzz_header(&bytes);
            }
        }
    }

    #[test]
    fn a_server_header_is_as_short_as_it_can_be() {
        let table: &[(usize, &[u8])] = &[
            (0, b"\x81\x00"),
            (125, b"\x81\x7d"),
            (126, b"\x81\x7e\x00\x7e"),
            (65535, b"\x81\x7e\xff\xff"),
            (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ];
        for &(payload_bytes, bytes) in table {
            let mut out = Vec::new();
            encode_header(OpCode::Text, true, payload_bytes, &mut out);
            assert_eq!(out, bytes);
            assert!(out.len() <= SERVER_HEADER_BYTES_MAX);
        }
    }

    #[test]
    fn a_length_must_have_its_shortest_form() {
        for length in [0u16, 1, 10, 125] {
            let bytes = [&[0x81, 0xfe][..], &length.to_be_bytes()].concat();
            assert_eq!(FrameHeader::parse(&bytes), Err(Error::LengthNotShortest));
        }
        for length in [0u64, 10, 125, 126, 65535] {
            let bytes = [&[0x81, 0xff][..], &length.to_be_bytes()].concat();
            assert_eq!(FrameHeader::parse(&bytes), Err(Error::LengthNotShortest));
        }
    }

    #[test]
    fn a_length_of_2_to_the_63_is_refused_at_its_first_byte() {
        assert_eq!(FrameHeader::parse(b"\x81\xff\x7f"), Ok(None));
        assert_eq!(
            FrameHeader::parse(b"\x81\xff\x80"),
            Err(Error::LengthTooLarge)
        );
        let largest = header(true, OpCode::Text, None, i64::MAX as u64);
        let bytes = [&[0x81, 0x7f][..], &i64::MAX.to_be_bytes()].concat();
        assert_eq!(FrameHeader::parse(&bytes), Ok(Some((largest, 10))));
    }

    #[test]
    fn a_control_frame_above_125_bytes_is_refused_at_its_second_byte() {
        for first in [0x88, 0x89, 0x8a] {
            assert_eq!(FrameHeader::parse(&[first, 0xfd]), Ok(None));
            for second in [0xfe, 0xff, 0x7e, 0x7f] {
                let parsed = FrameHeader::parse(&[first, second]);
                assert_eq!(parsed, Err(Error::ControlTooLong));
            }
        }
    }

    #[test]
    fn the_boundaries_of_a_run_are_found() {
        let lengths = [0, 5, 125, 126, 300, 65535, 65536, 70000];
        let mut run = Vec::new();
        for payload_bytes in lengths {
            encode_header(OpCode::Text, true, payload_bytes, &mut run);
            // Payloads that look like headers.
            run.resize(run.len() + payload_bytes, 0x81);
        }
        let mut rest = &run[..];
        for payload_bytes in lengths {
            let frame_bytes = server_frame_bytes(rest).unwrap();
            let (header, header_bytes) = FrameHeader::parse(rest).unwrap().unwrap();
            assert_eq!(header.payload_bytes, payload_bytes as u64);
            assert_eq!(frame_bytes, header_bytes + payload_bytes);
            for end in 0..header_bytes {
                assert_eq!(server_frame_bytes(&rest[..end]), None);
            }
            rest = &rest[frame_bytes..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn what_no_server_makes_has_no_boundary() {
        assert_eq!(server_frame_bytes(b"\x81\x80\x01\x02\x03\x04"), None);
        assert_eq!(server_frame_bytes(b"\x83\x00"), None);
        assert_eq!(
            server_frame_bytes(b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"),
            None
        );
    }

    #[test]
    fn random_bytes_are_judged_alike_at_every_cut() {
        let mut random = Seed::new(1);
        for _ in 0..50_000 {
            let mut bytes = random.bytes(HEADER_BYTES_MAX);
            if random.below(2) == 0 {
                // Past the first judgements, to where the lengths are.
                bytes[0] = [0x80, 0x81, 0x02, 0x88][random.below(4)];
                bytes[1] |= [0x7e, 0x7f, 0x00][random.below(3)];
                let zeros = random.below(9);
                bytes[2..2 + zeros].fill(0);
            }
            fuzz_header(&bytes[..random.below(HEADER_BYTES_MAX + 1)]);
        }
    }
}
