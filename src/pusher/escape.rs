//! JSON string escaping, once and twice, appended to a buffer.
//!
//! Twice, because the `data` of most server events is a string that holds JSON (WebSocket spec 2.1):
//! a user id in a roster is a string within a string. Only what RFC 8259 section 7 requires is
//! escaped: `"`, `\` and the control characters below U+0020. It does not parse or check JSON.
//!
//! Invariant: what is appended is the contents of a valid JSON string (with its quotes where the
//! name says `string`), and decoding it once (or twice) gives the text back.

use std::fmt;

/// Appends the JSON string token of `text`, with quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_contents(out, text);
    out.push(b'"');
}

/// Appends `text` as it stands between the quotes of a JSON string.
pub fn write_contents(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let clean = clean_prefix(rest);
        out.extend_from_slice(&rest[..clean]);
        let Some((&byte, tail)) = rest[clean..].split_first() else {
            return;
        };
        out.extend_from_slice(Escape::of(byte).as_bytes());
        rest = tail;
    }
}

/// Appends the JSON string token of `text` as it stands inside another JSON string: `\"u1\"`.
pub fn write_nested_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(br#"\""#);
    write_nested_contents(out, text);
    out.extend_from_slice(br#"\""#);
}

/// Appends `text` escaped twice, without any quotes around it.
pub fn write_nested_contents(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let clean = clean_prefix(rest);
        out.extend_from_slice(&rest[..clean]);
        let Some((&byte, tail)) = rest[clean..].split_first() else {
            return;
        };
        for &byte in Escape::of(byte).as_bytes() {
            match needs_escape(byte) {
                true => out.extend_from_slice(Escape::of(byte).as_bytes()),
                false => out.push(byte),
            }
        }
        rest = tail;
    }
}

/// How often [`Escaping`] escapes what is formatted into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    Once,
    Twice,
}

/// A formatter's target that escapes on the way into the buffer, so that messages made of several
/// pieces need no text of their own. It writes no quotes.
pub struct Escaping<'a> {
    pub out: &'a mut Vec<u8>,
    pub depth: Depth,
}

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.depth {
            Depth::Once => write_contents(self.out, text),
            Depth::Twice => write_nested_contents(self.out, text),
        }
        Ok(())
    }
}

fn needs_escape(byte: u8) -> bool {
    // Without `||`, so that the compiler can do many bytes at once.
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Length of the longest prefix that is copied as it is. Whole chunks are tested without a branch
/// per byte; the slow twin is the last line alone.
fn clean_prefix(bytes: &[u8]) -> usize {
    const CHUNK: usize = 32;
    let clean_chunks = bytes
        .chunks_exact(CHUNK)
        .take_while(|chunk| {
            !chunk
                .iter()
                .fold(false, |dirty, &byte| dirty | needs_escape(byte))
        })
        .count();
    let start = clean_chunks * CHUNK;
    let rest = &bytes[start..];
    start
        + rest
            .iter()
            .position(|&byte| needs_escape(byte))
            .unwrap_or(rest.len())
}

/// The escape sequence of one byte.
struct Escape {
    bytes: [u8; 6],
    /// 2 or 6.
    len: usize,
}

impl Escape {
    fn of(byte: u8) -> Self {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                return Self {
                    bytes: [b'\\', b'u', b'0', b'0', high, low],
                    len: 6,
                };
            }
        };
        Self {
            bytes: [b'\\', short, 0, 0, 0, 0],
            len: 2,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::seed::Seed;

    /// The definition: one character at a time.
    fn contents_slowly(text: &str) -> String {
        let mut out = String::new();
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\u{8}' => out.push_str("\\b"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\u{c}' => out.push_str("\\f"),
                '\r' => out.push_str("\\r"),
                control if control < ' ' => write!(out, "\\u{:04x}", u32::from(control)).unwrap(),
                other => out.push(other),
            }
        }
        out
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_ascii_character_decodes_to_itself() {
        for byte in 0..128u8 {
            let text = char::from(byte).to_string();
            let once = written(|out| write_string(out, &text));
            assert_eq!(
                serde_json::from_str::<String>(&once).unwrap(),
                text,
                "{byte:#x}"
            );
            let twice = format!("\"{}\"", written(|out| write_nested_string(out, &text)));
            let inner = serde_json::from_str::<String>(&twice).unwrap();
            assert_eq!(inner, once, "{byte:#x}");
        }
    }

    #[test]
    fn a_dirty_byte_is_found_at_every_place_of_every_length() {
        for len in 1..100 {
            for place in 0..len {
                let mut text = "a".repeat(len);
                text.replace_range(place..=place, "\"");
                assert_eq!(
                    written(|out| write_contents(out, &text)),
                    contents_slowly(&text)
                );
            }
        }
    }

    #[test]
    fn text_beyond_ascii_is_copied() {
        for text in [
            "\u{e9}",
            "\u{2603}",
            "\u{2028}\u{2029}",
            "\u{1f600}",
            "\u{7f}",
            "\u{feff}",
        ] {
            assert_eq!(written(|out| write_contents(out, text)), text);
            assert_eq!(written(|out| write_nested_contents(out, text)), text);
        }
    }

    #[test]
    fn formatting_into_a_buffer_escapes_at_both_depths() {
        for (depth, expected) in [(Depth::Once, r#"a\"1\nb"#), (Depth::Twice, r#"a\\\"1\\nb"#)] {
            let text = written(|out| write!(Escaping { out, depth }, "a\"{}\nb", 1).unwrap());
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn arbitrary_text_is_escaped_as_the_slow_twin_does() {
        let mut random = Seed::new(2);
        for _ in 0..4_000 {
            let vocabulary = b"plain text \"\\/\n\t\x00\x1f{\"user_id\":\"u1\"} \xf0\x9f\x98\x80";
            fuzz_escape(random.text(vocabulary, 200).as_bytes());
        }
    }

    pub(crate) fn fuzz_escape(data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let once = contents_slowly(text);
        assert_eq!(written(|out| write_contents(out, text)), once);
        assert_eq!(
            written(|out| write_nested_contents(out, text)),
            contents_slowly(&once)
        );
    }
}
