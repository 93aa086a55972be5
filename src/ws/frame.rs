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
