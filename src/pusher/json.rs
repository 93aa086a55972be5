//! JSON text as spans: where each member of an object lies in bytes that nobody has touched.
//!
//! A publish is delivered by copying tokens (the event name, the string of `data`), so what is read
//! must survive the reading. One pass checks the whole document and remembers nothing but the raw
//! tokens asked for. It builds no tree, converts no number and copies no string.
//!
//! Invariant: a [`Token`] is valid JSON text of its [`Kind`] by the rules of the WebSocket spec,
//! section 2 (no lone surrogate escapes, at most [`DEPTH_MAX`] levels), and begins and ends on
//! ASCII. Only the scanner makes tokens.

use std::borrow::Cow;

/// Levels of arrays and objects, the outermost included; one more is [`Malformed`].
pub const DEPTH_MAX: u32 = 128;

/// The text is not JSON by our rules. Where does not matter: the answer names no position.
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
    /// A string with at least one backslash.
    escaped: bool,
}

/// What becomes a JSON string in a frame: a token to copy, or text to escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringSource<'a> {
    /// A string token with its quotes, copied as it is.
    Token(&'a str),
    /// Text to be written between quotes, escaped.
    Text(&'a str),
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

    /// The characters that a string means; `None` for any other kind. Allocates only where there
    /// is an escape.
    pub fn decode(&self) -> Option<Cow<'a, str>> {
        let inner = self.inner()?;
        if !self.escaped {
            return Some(Cow::Borrowed(inner));
        }
        let mut out = String::with_capacity(inner.len());
        self.decode_into(&mut out);
        Some(Cow::Owned(out))
    }

    /// Appends the characters that a string means; false, and nothing, for any other kind.
    pub fn decode_into(&self, out: &mut String) -> bool {
        let Some(inner) = self.inner() else {
            return false;
        };
        for piece in Pieces::of(inner) {
            match piece {
                Piece::Plain(text) => out.push_str(text),
                Piece::Escaped(char) => out.push(char),
            }
        }
        true
    }

    /// Bytes of UTF-8 that a string decodes to; `None` for any other kind.
    pub fn decoded_bytes(&self) -> Option<usize> {
        let inner = self.inner()?;
        if !self.escaped {
            return Some(inner.len());
        }
        Some(
            Pieces::of(inner)
                .map(|piece| match piece {
                    Piece::Plain(text) => text.len(),
                    Piece::Escaped(char) => char.len_utf8(),
                })
                .sum(),
        )
    }

    /// Whether a string means exactly `text`, whatever its escapes.
    pub fn means(&self, text: &str) -> bool {
        let Some(inner) = self.inner() else {
            return false;
        };
        if !self.escaped {
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

    /// How this value is delivered as a string: a string as it is, anything else as its JSON text.
    pub fn as_delivered(&self) -> StringSource<'a> {
        match self.kind {
            Kind::String => StringSource::Token(self.raw),
            _ => StringSource::Text(self.raw),
        }
    }

    /// Bytes of UTF-8 of the string that [`Token::as_delivered`] becomes.
    pub fn delivered_bytes(&self) -> usize {
        self.decoded_bytes().unwrap_or(self.raw.len())
    }

    /// The members of an object in the order written, repetitions included.
    /// [`Malformed`] at once if this is no object.
    pub fn members(&self) -> Result<Members<'a>, Malformed> {
        Members::open(Scanner::new(self.raw))
    }

    /// The elements of an array. [`Malformed`] at once if this is no array.
    pub fn elements(&self) -> Result<Elements<'a>, Malformed> {
        Elements::open(Scanner::new(self.raw))
    }

    /// The values of `names` in an object; of a repeated key the last. Other members are ignored.
    pub fn fields<const N: usize>(
        &self,
        names: &[&str; N],
    ) -> Result<[Option<Self>; N], Malformed> {
        fields(self.raw, names)
    }

    /// The text between the quotes of a string.
    fn inner(&self) -> Option<&'a str> {
        match self.kind {
            Kind::String => self.raw.get(1..self.raw.len() - 1),
            _ => None,
        }
    }
}

/// Checks a whole document, which must be an object, and gives the values of `names` in it; of a
/// repeated key the last (WebSocket spec, section 2). Other members are checked and ignored.
pub fn fields<'a, const N: usize>(
    text: &'a str,
    names: &[&str; N],
) -> Result<[Option<Token<'a>>; N], Malformed> {
    let mut found = [None; N];
    for member in Members::open(Scanner::new(text))? {
        let (key, value) = member?;
        if let Some(index) = names.iter().position(|name| key.means(name)) {
            found[index] = Some(value);
        }
    }
    Ok(found)
}

/// Checks a whole document of any kind.
pub fn document(text: &str) -> Result<Token<'_>, Malformed> {
    let mut scanner = Scanner::new(text);
    scanner.skip_space();
    let token = scanner.value()?;
    scanner.end()?;
    Ok(token)
}

/// Members of one object, each checked when it is reached. The end of the iteration without an
/// error means that the whole text was the object and nothing else.
pub struct Members<'a> {
    items: Items<'a>,
}

impl<'a> Members<'a> {
    fn open(scanner: Scanner<'a>) -> Result<Self, Malformed> {
        Ok(Members {
            items: Items::open(scanner, b'{', b'}')?,
        })
    }

    fn member(scanner: &mut Scanner<'a>) -> Result<(Token<'a>, Token<'a>), Malformed> {
        let key = scanner.key()?;
        let value = scanner.value()?;
        Ok((key, value))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<(Token<'a>, Token<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.items.next_with(Self::member)
    }
}

/// Elements of one array; ends as [`Members`] does.
pub struct Elements<'a> {
    items: Items<'a>,
}

impl<'a> Elements<'a> {
    fn open(scanner: Scanner<'a>) -> Result<Self, Malformed> {
        Ok(Elements {
            items: Items::open(scanner, b'[', b']')?,
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Token<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.items.next_with(Scanner::value)
    }
}

/// What members and elements share: the commas, the closing bracket, nothing behind it.
struct Items<'a> {
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
    fn open(mut scanner: Scanner<'a>, open: u8, close: u8) -> Result<Self, Malformed> {
        scanner.skip_space();
        scanner.expect(open)?;
        scanner.outer_levels = 1;
        Ok(Items {
            scanner,
            close,
            state: State::First,
        })
    }

    fn next_with<T>(
        &mut self,
        read: impl FnOnce(&mut Scanner<'a>) -> Result<T, Malformed>,
    ) -> Option<Result<T, Malformed>> {
        if self.state == State::Done {
            return None;
        }
        let item = self.advance(read).transpose();
        if !matches!(item, Some(Ok(_))) {
            self.state = State::Done;
        }
        item
    }

    fn advance<T>(
        &mut self,
        read: impl FnOnce(&mut Scanner<'a>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        self.scanner.skip_space();
        if self.scanner.peek() == Some(self.close) {
            self.scanner.at += 1;
            self.scanner.end()?;
            return Ok(None);
        }
        if self.state == State::Later {
            self.scanner.expect(b',')?;
            self.scanner.skip_space();
        }
        self.state = State::Later;
        read(&mut self.scanner).map(Some)
    }
}

/// One pass over the text. `at <= text.len()`, and `at` is on a character boundary wherever a
/// token begins or ends, because tokens begin and end on ASCII.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Levels already open around the next value.
    outer_levels: u32,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Scanner {
            text,
            at: 0,
            outer_levels: 0,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Nothing but white space may be left.
    fn end(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    /// A key and its colon; stops before the value.
    fn key(&mut self) -> Result<Token<'a>, Malformed> {
        let start = self.at;
        let escaped = self.string()?;
        let key = self.token(start, Kind::String, escaped)?;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(key)
    }

    fn value(&mut self) -> Result<Token<'a>, Malformed> {
        let start = self.at;
        let mut escaped = false;
        let kind = match self.peek().ok_or(Malformed)? {
            b'"' => {
                escaped = self.string()?;
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
        self.token(start, kind, escaped)
    }

    fn token(&self, start: usize, kind: Kind, escaped: bool) -> Result<Token<'a>, Malformed> {
        let raw = self.text.get(start..self.at).ok_or(Malformed)?;
        Ok(Token { raw, kind, escaped })
    }

    /// An array or object with all that it holds, level by level without recursion: bit `n` of
    /// `objects` says whether level `n` is an object.
    fn nested(&mut self) -> Result<(), Malformed> {
        let mut objects = 0_u128;
        let mut depth = 0_u32;
        loop {
            // A value begins here.
            let opener = self.peek().ok_or(Malformed)?;
            match opener {
                b'{' | b'[' => {
                    if depth + self.outer_levels >= DEPTH_MAX {
                        return Err(Malformed);
                    }
                    self.at += 1;
                    self.skip_space();
                    depth += 1;
                    objects = objects << 1 | u128::from(opener == b'{');
                    // `]` is `[` + 2 and `}` is `{` + 2.
                    if self.peek() != Some(opener + 2) {
                        if opener == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                    self.at += 1;
                    depth -= 1;
                    objects >>= 1;
                }
                b'"' => drop(self.string()?),
                _ => drop(self.scalar()?),
            }
            // A value has ended; close what ends with it.
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
                            self.key()?;
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

    /// A string, from its opening quote to behind its closing one. Returns whether it has escapes.
    fn string(&mut self) -> Result<bool, Malformed> {
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            self.at += plain_run(&self.text.as_bytes()[self.at..]);
            match self.peek().ok_or(Malformed)? {
                b'"' => {
                    self.at += 1;
                    return Ok(escaped);
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(Malformed),
            }
        }
    }

    /// An escape, from its backslash. A surrogate is an error unless it is half of a pair.
    fn escape(&mut self) -> Result<(), Malformed> {
        let rest = &self.text.as_bytes()[self.at..];
        match rest.get(1).ok_or(Malformed)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 2;
                Ok(())
            }
            b'u' => {
                let (_, length) = unicode_escape(rest).ok_or(Malformed)?;
                self.at += length;
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Result<Kind, Malformed> {
        let rest = &self.text.as_bytes()[self.at..];
        for (literal, kind) in [
            (&b"true"[..], Kind::Bool),
            (b"false", Kind::Bool),
            (b"null", Kind::Null),
        ] {
            if rest.starts_with(literal) {
                self.at += literal.len();
                return Ok(kind);
            }
        }
        self.at += number_bytes(rest).ok_or(Malformed)?;
        Ok(Kind::Number)
    }
}

/// Length of the number at the beginning of `rest`. Any size and exponent is JSON (RFC 8259,
/// section 6); nobody converts it.
fn number_bytes(rest: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        rest[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
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
        at += 1;
        at += usize::from(matches!(rest.get(at), Some(b'+' | b'-')));
        let exponent = digits(at);
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some(at)
}

/// Bytes before the next one that a string cannot hold as it is: a quote, a backslash or a control
/// character. Eight at a time; the tests hold it against the obvious loop.
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let equal = |word: u64, byte: u8| {
        let difference = word ^ (ONES * u64::from(byte));
        difference.wrapping_sub(ONES) & !difference
    };
    let (chunks, tail) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        // The lowest mark is exact; those above it may be carries, and are not looked at.
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let marks = (control | equal(word, b'"') | equal(word, b'\\')) & HIGHS;
        if marks != 0 {
            return index * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let plain = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
    chunks.len() * 8 + tail.iter().take_while(plain).count()
}

/// The character of the `\uXXXX` (or the pair of them) at the beginning of `rest`, and its length
/// in bytes. `None` where a digit is missing or a surrogate stands alone.
fn unicode_escape(rest: &[u8]) -> Option<(char, usize)> {
    let first = code_unit(rest)?;
    if let Some(char) = char::from_u32(first) {
        return Some((char, 6));
    }
    let second = code_unit(&rest[6..])?;
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

/// The inside of a valid string, piece by piece: runs as they are, escapes as characters.
struct Pieces<'a> {
    rest: &'a str,
}

enum Piece<'a> {
    Plain(&'a str),
    Escaped(char),
}

impl<'a> Pieces<'a> {
    fn of(inner: &'a str) -> Self {
        Pieces { rest: inner }
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
