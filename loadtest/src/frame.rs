//! WebSocket frames as a client sees them: masked ones out, unmasked ones in.
//!
//! Only what this program needs: it never sends fragments and gives up on a server that does.

/// A frame of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Close,
    Ping,
    Pong,
}

/// What a server may not send, or what this program does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Larger than any frame of a scenario.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The frame at the start of `bytes` and its length with its header; `None` if it has not come
/// whole.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Unreadable> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    let kind = match first {
        0x81 => Kind::Text,
        0x88 => Kind::Close,
        0x89 => Kind::Ping,
        0x8a => Kind::Pong,
        _ => return Err(Unreadable),
    };
    let (header, length) = match (second, bytes) {
        (0..126, _) => (2, usize::from(second)),
        (126, &[_, _, a, b, ..]) => (4, usize::from(u16::from_be_bytes([a, b]))),
        (127, &[_, _, a, b, c, d, e, f, g, h, ..]) => {
            (10, u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize)
        }
        (126 | 127, _) => return Ok(None),
        _ => return Err(Unreadable),
    };
    if length > PAYLOAD_BYTES_MAX {
        return Err(Unreadable);
    }
    let frame = bytes.get(header..header + length);
    Ok(frame.map(|payload| (Frame { kind, payload }, header + length)))
}

/// Appends a masked frame. `payload` is below 64 KiB.
pub(crate) fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let opcode = match kind {
        Kind::Text => 0x81,
        Kind::Close => 0x88,
        Kind::Ping => 0x89,
        Kind::Pong => 0x8a,
    };
    match payload.len() {
        length @ 0..126 => out.extend_from_slice(&[opcode, 0x80 | length as u8]),
        length => {
            let length = u16::try_from(length).expect("a client of ours sends little");
            let [a, b] = length.to_be_bytes();
            out.extend_from_slice(&[opcode, 0x80 | 126, a, b]);
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

/// A message that subscribes to a public channel.
pub(crate) fn subscribe(channel: &str, out: &mut Vec<u8>) {
    let message = format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{channel}"}}}}"#);
    encode(Kind::Text, message.as_bytes(), out);
}

/// Whether `part` is somewhere in `bytes`.
pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
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
                (frame.kind, frame.payload.len(), used),
                (Kind::Text, length, whole)
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
    fn the_example_of_rfc_6455_5_7_is_what_is_sent() {
        let mut out = Vec::new();
        encode(Kind::Text, b"Hello", &mut out);
        assert_eq!(
            out,
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
    }
}
