//! WebSocket frames as a client sees them: masked ones out, unmasked ones in; and the other way
//! round for the floor.
//!
//! Only what this program needs: it never sends fragments and gives up on a peer that does.

/// A frame of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: Opcode,
    pub(crate) payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Text,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// The first byte of a whole message.
    fn byte(self) -> u8 {
        match self {
            Self::Text => 0x81,
            Self::Close => 0x88,
            Self::Ping => 0x89,
            Self::Pong => 0x8a,
        }
    }

    fn of(byte: u8) -> Result<Self, Unreadable> {
        [Self::Text, Self::Close, Self::Ping, Self::Pong]
            .into_iter()
            .find(|opcode| opcode.byte() == byte)
            .ok_or(Unreadable)
    }
}

/// What a peer may not send, or what this program does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Larger than any frame of a scenario.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The frame of a server at the start of `bytes` and its length with its header; `None` if it has
/// not come whole.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Unreadable> {
    let Some((opcode, header, length)) = parse_header(bytes, 0)? else {
        return Ok(None);
    };
    let frame = bytes.get(header..header + length);
    Ok(frame.map(|payload| (Frame { opcode, payload }, header + length)))
}

/// Opcode, payload, and length with the header.
type Masked<'a> = (Opcode, &'a [u8], usize);

/// The same for a frame of a client, which is unmasked where it lies.
pub(crate) fn parse_masked(bytes: &mut [u8]) -> Result<Option<Masked<'_>>, Unreadable> {
    let Some((opcode, header, length)) = parse_header(bytes, 0x80)? else {
        return Ok(None);
    };
    let Some(rest) = bytes.get_mut(header..header + 4 + length) else {
        return Ok(None);
    };
    let (mask, payload) = rest.split_at_mut(4);
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    Ok(Some((opcode, payload, header + 4 + length)))
}

/// Opcode, bytes before the mask or payload, bytes of the payload. `mask_bit` is what is expected.
fn parse_header(bytes: &[u8], mask_bit: u8) -> Result<Option<(Opcode, usize, usize)>, Unreadable> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    let opcode = Opcode::of(first)?;
    if second & 0x80 != mask_bit {
        return Err(Unreadable);
    }
    let (header, length) = match (second & 0x7f, bytes) {
        (126, &[_, _, a, b, ..]) => (4, u64::from(u16::from_be_bytes([a, b]))),
        (127, &[_, _, a, b, c, d, e, f, g, h, ..]) => {
            (10, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
        }
        (126 | 127, _) => return Ok(None),
        (length, _) => (2, u64::from(length)),
    };
    match usize::try_from(length) {
        Ok(length) if length <= PAYLOAD_BYTES_MAX => Ok(Some((opcode, header, length))),
        _ => Err(Unreadable),
    }
}

/// Appends a masked frame, as a client sends it.
pub(crate) fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    header(opcode, payload.len(), true, out);
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

/// Appends a frame as a server sends it.
pub(crate) fn encode_plain(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    header(opcode, payload.len(), false, out);
    out.extend_from_slice(payload);
}

/// Appends what precedes the mask or payload.
pub(crate) fn header(opcode: Opcode, payload_bytes: usize, is_masked: bool, out: &mut Vec<u8>) {
    let mask_bit = if is_masked { 0x80 } else { 0 };
    out.push(opcode.byte());
    match payload_bytes {
        0..126 => out.push(mask_bit | payload_bytes as u8),
        126..65_536 => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_each_length_are_read_at_every_split() {
        for length in [0usize, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = vec![0x81];
            match length {
                0..126 => bytes.push(length as u8),
                126..65_536 => bytes.extend([126, (length >> 8) as u8, length as u8]),
                _ => {
                    bytes.push(127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.resize(bytes.len() + length, b'x');
            let whole = bytes.len();
            for split in (0..whole.min(300)).chain([whole - 1]) {
                assert_eq!(parse(&bytes[..split]), Ok(None), "{length} cut at {split}");
            }
            bytes.push(0x81);
            let (frame, used) = parse(&bytes).unwrap().unwrap();
            assert_eq!(
                (frame.opcode, frame.payload.len(), used),
                (Opcode::Text, length, whole)
            );
        }
    }

    #[test]
    fn masked_fragmented_and_huge_frames_are_unreadable() {
        for bytes in [
            &[0x81, 0x80][..],
            &[0x01, 0],
            &[0x80, 0],
            &[0x82, 0],
            &[0x81, 127, 0, 0, 0, 0, 0, 16, 0, 1],
        ] {
            assert_eq!(parse(bytes), Err(Unreadable), "{bytes:?}");
        }
    }

    #[test]
    fn what_a_client_sends_a_server_reads() {
        for length in [0, 3, 125, 126, 70_000] {
            let payload = vec![b'y'; length];
            let mut bytes = Vec::new();
            encode(Opcode::Text, &payload, &mut bytes);
            let whole = bytes.len();
            assert_eq!(parse_masked(&mut bytes[..whole - 1]), Ok(None));
            let read = parse_masked(&mut bytes);
            assert_eq!(read, Ok(Some((Opcode::Text, &payload[..], whole))));
        }
        let mut unmasked = vec![];
        encode_plain(Opcode::Ping, b"p", &mut unmasked);
        assert_eq!(parse_masked(&mut unmasked), Err(Unreadable));
        assert_eq!(parse(&unmasked).unwrap().unwrap().0.opcode, Opcode::Ping);
    }

    #[test]
    fn the_example_of_rfc_6455_5_7_is_what_is_sent() {
        let mut out = Vec::new();
        encode(Opcode::Text, b"Hello", &mut out);
        assert_eq!(
            out,
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
    }
}
