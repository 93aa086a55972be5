//! The inside of a JSON string: runs without escapes, and what an escape means.
//!
//! Knows no quotes and no documents. The scanner steps with it, and [`super::Token`] decodes with
//! it, so there is one reading of escapes.
//!
//! Invariant: a surrogate is never a character; `\uD83D\uDE00` is one, half of it is none.

/// Bytes before the next one that a string cannot hold as it is: a quote, a backslash or a control
/// character. Eight at a time; the tests hold it against the obvious loop.
#[inline]
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let (chunks, tail) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        let marks = (control | quote | backslash) & HIGHS;
        if marks != 0 {
            // The lowest mark is exact. Those above it may be borrows of it.
            return index * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    chunks.len() * 8 + tail.iter().take_while(|byte| is_plain(**byte)).count()
}

fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// The character of the `\uXXXX` (or the pair of them) at the beginning of `rest`, and its length
/// in bytes. `None` where a digit is missing or a surrogate stands alone.
pub(super) fn unicode_escape(rest: &[u8]) -> Option<(char, usize)> {
    let first = code_unit(rest)?;
    if let Some(char) = char::from_u32(first) {
        return Some((char, 6));
    }
    let second = code_unit(rest.get(6..)?)?;
    if first >= 0xDC00 || !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    let char = char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))?;
    Some((char, 12))
}

/// The value of the `\uXXXX` at the beginning of `rest`.
fn code_unit(rest: &[u8]) -> Option<u32> {
    let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |value, digit| {
        Some(value << 4 | char::from(*digit).to_digit(16)?)
    })
}

/// The inside of a valid string, piece by piece.
pub(super) struct Pieces<'a> {
    rest: &'a str,
}

pub(super) enum Piece<'a> {
    /// A run that means itself.
    Plain(&'a str),
    Escaped(char),
}

impl<'a> Pieces<'a> {
    pub(super) fn of(inner: &'a str) -> Self {
        Self { rest: inner }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    /// Ends early where the text is not the inside of a valid string, which no token is.
    fn next(&mut self) -> Option<Piece<'a>> {
        let bytes = self.rest.as_bytes();
        let plain = plain_run(bytes);
        if plain > 0 {
            let (run, rest) = self.rest.split_at_checked(plain)?;
            self.rest = rest;
            return Some(Piece::Plain(run));
        }
        let (char, length) = match *bytes.get(1)? {
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => unicode_escape(bytes)?,
            itself => (char::from(itself), 2),
        };
        self.rest = self.rest.get(length..)?;
        Some(Piece::Escaped(char))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn plain_run_slow(bytes: &[u8]) -> usize {
        bytes.iter().take_while(|byte| is_plain(**byte)).count()
    }

    #[test]
    fn a_run_ends_at_every_byte_that_must_be_escaped() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut bytes = [b'a'; 20];
                bytes[at] = byte;
                assert_eq!(plain_run(&bytes), plain_run_slow(&bytes), "{byte} at {at}");
            }
        }
    }

    #[test]
    fn runs_agree_with_the_obvious_loop() {
        let mut random = Seed::new(42);
        for _ in 0..4_000 {
            // Neighbours of the bytes that are looked for, where a borrow would show.
            let bytes = random.mixture(b"ab!#[]\x1f\x20\x21\x7f\x80\x9f\xa0\xa2\xdc\xff\"\\", 40);
            for start in 0..bytes.len() {
                assert_eq!(plain_run(&bytes[start..]), plain_run_slow(&bytes[start..]));
            }
        }
    }

    #[test]
    fn surrogates_make_a_character_in_pairs_only() {
        for (escape, meant) in [
            (r"\u0041", Some(('A', 6))),
            (r"\uD7FF", Some(('\u{D7FF}', 6))),
            (r"\uE000", Some(('\u{E000}', 6))),
            (r"\ud800\udc00", Some(('\u{10000}', 12))),
            (r"\uDBFF\uDFFF", Some(('\u{10FFFF}', 12))),
            (r"\uD800", None),
            (r"\uD800\", None),
            (r"\uD800\uDBFF", None),
            (r"\uD800\uE000", None),
            (r"\uD800\n1234", None),
            (r"\uDC00\uDC00", None),
            (r"\u00e", None),
            (r"\u+123", None),
            (r"\u 123", None),
            (r"\U0041", None),
        ] {
            assert_eq!(unicode_escape(escape.as_bytes()), meant, "{escape}");
        }
    }
}
