//! The grammar of RFC 8259 over a text, in one pass and without recursion.
//!
//! Finds ends and checks; gives nothing a meaning. The levels of a nested value are bits of one
//! word, so depth costs no stack and no heap.
//!
//! Invariant: `at <= text.len()`, and it never moves back. It stands on a character boundary
//! wherever a token begins or ends, because tokens begin and end on ASCII.

use super::string::{plain_run, unicode_escape};
use super::{Kind, Malformed, Token};

/// Levels of arrays and objects, the outermost included; one more is [`Malformed`]. The bits of
/// the word in `Scanner::nested`.
pub const DEPTH_MAX: u32 = u128::BITS;

pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Levels already open around the next value.
    outer_levels: u32,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            outer_levels: 0,
        }
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Nothing but white space may be left.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    /// A key and its colon; stops at the value.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Token<'a>, Malformed> {
        let start = self.at;
        let escape_bytes = self.string()?;
        let key = self.token(start, Kind::String, escape_bytes)?;
        self.colon()?;
        Ok(key)
    }

    #[inline]
    pub(super) fn value(&mut self) -> Result<Token<'a>, Malformed> {
        let start = self.at;
        let mut escape_bytes = 0;
        let kind = match self.peek().ok_or(Malformed)? {
            b'"' => {
                escape_bytes = self.string()?;
                Kind::String
            }
            b'{' => {
                self.nested()?;
                Kind::Object
            }
            b'[' => {
                self.nested()?;
                Kind::Array
            }
            _ => self.scalar()?,
        };
        self.token(start, kind, escape_bytes)
    }

    #[inline]
    fn token(&self, start: usize, kind: Kind, escape_bytes: usize) -> Result<Token<'a>, Malformed> {
        Ok(Token {
            raw: self.text.get(start..self.at).ok_or(Malformed)?,
            kind,
            escape_bytes,
        })
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn colon(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(())
    }

    /// An array or object with all that it holds. Bit `n` of `objects` says whether the `n`th
    /// level from the innermost is an object.
    fn nested(&mut self) -> Result<(), Malformed> {
        let mut objects = 0_u128;
        let mut depth = 0_u32;
        loop {
            // A value begins here.
            match self.peek().ok_or(Malformed)? {
                opener @ (b'{' | b'[') => {
                    if self.outer_levels + depth == DEPTH_MAX {
                        return Err(Malformed);
                    }
                    self.at += 1;
                    self.skip_space();
                    let is_object = opener == b'{';
                    if self.peek() == Some(closer_of(opener)) {
                        self.at += 1;
                    } else {
                        depth += 1;
                        objects = objects << 1 | u128::from(is_object);
                        if is_object {
                            self.string()?;
                            self.colon()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                _ => {
                    self.scalar()?;
                }
            }
            // A value has ended; close what ends with it, or go on to its neighbour.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.skip_space();
                let in_object = objects & 1 == 1;
                match self.peek().ok_or(Malformed)? {
                    b',' => {
                        self.at += 1;
                        self.skip_space();
                        if in_object {
                            self.string()?;
                            self.colon()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return Err(Malformed),
                }
                self.at += 1;
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// A string, from its opening quote to behind its closing one. Returns what its escapes take
    /// beyond the UTF-8 that they mean.
    #[inline]
    fn string(&mut self) -> Result<usize, Malformed> {
        self.expect(b'"')?;
        let mut escape_bytes = 0;
        loop {
            self.at += plain_run(self.rest());
            match self.peek().ok_or(Malformed)? {
                b'"' => {
                    self.at += 1;
                    return Ok(escape_bytes);
                }
                b'\\' => escape_bytes += self.escape()?,
                _ => return Err(Malformed),
            }
        }
    }

    /// An escape, from its backslash.
    #[inline]
    fn escape(&mut self) -> Result<usize, Malformed> {
        let (length, meant) = match self.rest().get(1).ok_or(Malformed)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => (2, 1),
            b'u' => {
                let (char, length) = unicode_escape(self.rest()).ok_or(Malformed)?;
                (length, char.len_utf8())
            }
            _ => return Err(Malformed),
        };
        self.at += length;
        Ok(length - meant)
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Result<Kind, Malformed> {
        let (word, kind): (&[u8], Kind) = match self.peek().ok_or(Malformed)? {
            b't' => (b"true", Kind::Bool),
            b'f' => (b"false", Kind::Bool),
            b'n' => (b"null", Kind::Null),
            _ => {
                self.at += number_bytes(self.rest()).ok_or(Malformed)?;
                return Ok(Kind::Number);
            }
        };
        if !self.rest().starts_with(word) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(kind)
    }
}

/// `]` is `[` + 2 and `}` is `{` + 2.
fn closer_of(opener: u8) -> u8 {
    opener + 2
}

/// Length of the number at the beginning of `rest`. Any size and exponent is JSON (RFC 8259,
/// section 6); nobody converts it.
fn number_bytes(rest: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        let is_digit = |byte: &&u8| byte.is_ascii_digit();
        rest.iter().skip(from).take_while(is_digit).count()
    };
    let mut at = usize::from(rest.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && rest[at] == b'0') {
        return None;
    }
    at += whole;
    if rest.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if let Some(b'e' | b'E') = rest.get(at) {
        at += 1 + usize::from(matches!(rest.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some(at)
}

/// What members and elements share: the commas, the closing bracket, nothing behind it.
pub(super) struct Items<'a> {
    scanner: Scanner<'a>,
    close: u8,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    First,
    Later,
    Done,
}

impl<'a> Items<'a> {
    /// The items of the one value that `text` holds, which must begin with `open`.
    pub(super) fn open(text: &'a str, open: u8) -> Result<Self, Malformed> {
        let mut scanner = Scanner::new(text);
        scanner.skip_space();
        scanner.expect(open)?;
        scanner.outer_levels = 1;
        Ok(Self {
            scanner,
            close: closer_of(open),
            state: State::First,
        })
    }

    /// Goes to the next item; false where the text has ended as it should. Nothing more comes
    /// after an error.
    #[inline]
    pub(super) fn more(&mut self) -> Result<bool, Malformed> {
        let state = std::mem::replace(&mut self.state, State::Done);
        if state == State::Done {
            return Ok(false);
        }
        self.scanner.skip_space();
        if self.scanner.peek() == Some(self.close) {
            self.scanner.at += 1;
            self.scanner.end()?;
            return Ok(false);
        }
        if state == State::Later {
            self.scanner.expect(b',')?;
            self.scanner.skip_space();
        }
        self.state = State::Later;
        Ok(true)
    }

    /// Reads the item that [`Items::more`] went to.
    #[inline]
    pub(super) fn read<T>(
        &mut self,
        item: impl FnOnce(&mut Scanner<'a>) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        item(&mut self.scanner).inspect_err(|_| self.state = State::Done)
    }
}
