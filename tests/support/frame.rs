//! WebSocket frames by hand: any bits in a client's header, and a strict reader of a server's.

/// A frame as the server has sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The bits in front of an opcode.
pub const FIN: u8 = 0x80;

impl Frame {
    /// The first whole frame, and its length. A server's frame is whole, has no extension, no mask
    /// and the shortest length; anything else is a failure.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        assert_eq!(first & 0xf0, FIN, "whole and without extension: {first:#x}");
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (length, start) = match second {
            126 => (u16::from_be_bytes(*rest.first_chunk()?).into(), 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
            length => (length.into(), 2),
        };
        let shortest = match length {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        assert_eq!(start, shortest, "the shortest form of the length {length}");
        let end = start + length as usize;
        let payload = bytes.get(start..end)?.to_vec();
        let opcode = first & 0xf;
        assert!(
            matches!(opcode, TEXT | CLOSE | PING | PONG),
            "opcode {opcode}"
        );
        Some((Self { opcode, payload }, end))
    }

    /// Code and reason of a Close.
    pub fn close(&self) -> (Option<u16>, &str) {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        let Some((code, reason)) = self.payload.split_first_chunk() else {
            return (None, "");
        };
        let reason = std::str::from_utf8(reason).expect("a reason is UTF-8");
        (Some(u16::from_be_bytes(*code)), reason)
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.payload);
        match self.opcode {
            CLOSE => write!(f, "Close{:?}", self.close()),
            _ => write!(f, "{}:{text}", self.opcode),
        }
    }
}

/// A masked frame of a client with any first byte and the shortest length.
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

/// A whole text message in one frame.
pub fn text_frame(text: &str) -> Vec<u8> {
    client_frame(FIN | TEXT, text.as_bytes())
}

/// A fragmented message, each fragment a frame.
pub fn fragments<'a>(opcode: u8, parts: &'a [&'a [u8]]) -> impl Iterator<Item = Vec<u8>> + 'a {
    parts.iter().enumerate().map(move |(index, part)| {
        let opcode = if index == 0 { opcode } else { CONTINUATION };
        let fin = if index + 1 == parts.len() { FIN } else { 0 };
        client_frame(fin | opcode, part)
    })
}

/// A Close with this code.
pub fn close_frame(code: u16) -> Vec<u8> {
    client_frame(FIN | CLOSE, &code.to_be_bytes())
}
