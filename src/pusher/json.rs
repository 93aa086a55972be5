//! JSON text as spans: where each member of an object lies in bytes that nobody has touched.
//!
//! Frames are built by copying what was published (the tokens of `name` and `data`), so the text
//! must survive its reading. One pass checks the whole document and remembers nothing but the raw
//! tokens asked for. It builds no tree, converts no number and copies no string.
//!
//! Why not simd-json for this: it unescapes in place, so the raw tokens are gone; it reads a lone
//! surrogate as NUL, takes any depth and refuses `1e400`. Nor is it faster here, because it stores
//! all that this pass skips (`benches/json.rs`). What it is used for is in [`tape`].
//!
//! Invariant: a [`Token`] is valid JSON text of its [`Kind`] by the rules of the WebSocket spec,
//! section 2 (no lone surrogate escapes, at most [`DEPTH_MAX`] levels), and begins and ends on
//! ASCII. Only the scanner makes tokens.

mod scanner;
mod string;
pub mod tape;

use std::borrow::Cow;

use scanner::{Items, Scanner};
use string::{Piece, Pieces};

pub use scanner::DEPTH_MAX;

/// The text is not JSON by our rules, or not of the kind that was asked for. Where does not
/// matter: no answer names a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What a token is, known from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Number,
    Bool,
    Null,
    Object,
    Array,
}

/// One value, as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    raw: &'a str,
    kind: Kind,
    /// In a string: bytes that its escapes take beyond what they mean. Every escape takes at
    /// least one, so 0 means that there is none.
    escape_bytes: usize,
}

/// What becomes a JSON string in a frame: a token to copy, or text to escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringSource<'a> {
    /// A string token with its quotes, copied as it is.
    Token(&'a str),
    /// Text to be written between quotes, escaped.
    Text(&'a str),
}

/// Checks a whole document of any kind.
pub fn document(text: &str) -> Result<Token<'_>, Malformed> {
    let mut scanner = Scanner::new(text);
    scanner.skip_space();
    let token = scanner.value()?;
    scanner.end()?;
    Ok(token)
}

/// Checks a whole document, which must be an object, and gives the values of `names` in it; of a
/// repeated key the last (WebSocket spec, section 2). Other members are checked and ignored.
pub fn fields<'a, const N: usize>(
    text: &'a str,
    names: &[&str; N],
) -> Result<[Option<Token<'a>>; N], Malformed> {
    let mut found = [None; N];
    for member in Members::of(text)? {
        let (key, value) = member?;
        if let Some(index) = names.iter().position(|name| key.means(name)) {
            found[index] = Some(value);
        }
    }
    Ok(found)
}

impl<'a> Token<'a> {
    /// The text as it was received: a string with its quotes and escapes, a number digit by digit.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    pub fn as_bool(&self) -> Option<bool> {
        (self.kind == Kind::Bool).then_some(self.raw == "true")
    }

    /// Whether this is a string that is not written as it means.
    pub fn has_escapes(&self) -> bool {
        self.escape_bytes > 0
    }

    /// The characters that a string means; `None` for any other kind. Allocates only where there
    /// is an escape.
    pub fn decode(&self) -> Option<Cow<'a, str>> {
        let inner = self.inner()?;
        if !self.has_escapes() {
            return Some(Cow::Borrowed(inner));
        }
        let mut out = String::with_capacity(inner.len() - self.escape_bytes);
        self.decode_into(&mut out);
        Some(Cow::Owned(out))
    }

    /// Appends the characters that a string means; nothing for any other kind.
    pub fn decode_into(&self, out: &mut String) {
        for piece in Pieces::of(self.inner().unwrap_or_default()) {
            match piece {
                Piece::Plain(text) => out.push_str(text),
                Piece::Escaped(char) => out.push(char),
            }
        }
    }

    /// Whether a string means exactly `text`, whatever its escapes.
    pub fn means(&self, text: &str) -> bool {
        let Some(inner) = self.inner() else {
            return false;
        };
        if !self.has_escapes() {
            return inner == text;
        }
        let mut rest = text;
        for piece in Pieces::of(inner) {
            let tail = match piece {
                Piece::Plain(plain) => rest.strip_prefix(plain),
                Piece::Escaped(char) => rest.strip_prefix(char),
            };
            let Some(tail) = tail else { return false };
            rest = tail;
        }
        rest.is_empty()
    }

    /// How this value is delivered as a string: a string as it is, anything else as its JSON text
    /// (WebSocket spec 9.2).
    pub fn as_string(&self) -> StringSource<'a> {
        match self.kind {
            Kind::String => StringSource::Token(self.raw),
            _ => StringSource::Text(self.raw),
        }
    }

    /// Bytes of UTF-8 of the string that [`Token::as_string`] becomes: its escapes decoded.
    pub fn delivered_bytes(&self) -> usize {
        match self.inner() {
            Some(inner) => inner.len() - self.escape_bytes,
            None => self.raw.len(),
        }
    }

    /// The members of an object, repetitions included. [`Malformed`] if this is no object.
    pub fn members(&self) -> Result<Members<'a>, Malformed> {
        Members::of(self.raw)
    }

    /// The elements of an array. [`Malformed`] if this is no array.
    pub fn elements(&self) -> Result<Elements<'a>, Malformed> {
        Ok(Elements(Items::open(self.raw, b'[')?))
    }

    /// The text between the quotes of a string.
    fn inner(&self) -> Option<&'a str> {
        match self.kind {
            Kind::String => self.raw.get(1..self.raw.len() - 1),
            _ => None,
        }
    }
}

/// Keys and values of one object in the order written, each checked when it is reached. The end
/// without an error means that the whole text was the object and nothing else.
pub struct Members<'a>(Items<'a>);

impl<'a> Members<'a> {
    fn of(text: &'a str) -> Result<Self, Malformed> {
        Ok(Self(Items::open(text, b'{')?))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<(Token<'a>, Token<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0
            .next_with(|scanner| Ok((scanner.key()?, scanner.value()?)))
    }
}

/// Elements of one array; ends as [`Members`] does.
pub struct Elements<'a>(Items<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Token<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_with(Scanner::value)
    }
}
