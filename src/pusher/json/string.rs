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
