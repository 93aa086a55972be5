//! JSON text as spans: where each member of an object lies in bytes that nobody has touched.
//!
//! Frames are built by copying what was published (the tokens of `name` and `data`), so the text
//! must survive its reading. One pass checks the whole document and remembers nothing but the raw
//! tokens asked for. It builds no tree, converts no number and copies no string.
//!
//! Why not simd-json for this: it unescapes in place, so the raw tokens are gone; it reads a lone
//! surrogate as NUL, takes any depth and refuses `1e400`. Nor is it faster: with reused buffers it
//! takes 1.2 to 1.6 times as long from 300 B to 100 KiB (`benches/json.rs`), because it stores all
//! that this pass skips. Strings that are read and not copied on are another matter, see [`tape`].
//!
//! Invariant: a [`Token`] is valid JSON text of its [`Kind`] by the rules of the WebSocket spec,
//! section 2 (no lone surrogate escapes, at most [`DEPTH_MAX`] levels), and begins and ends on
//! ASCII. Only the scanner makes tokens.

#[cfg(test)]
pub(crate) mod sample;
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

impl<'a> StringSource<'a> {
    /// The characters that the string has.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text.into(),
            // A token was checked when it was found.
            Self::Token(token) => document(token)
                .ok()
                .and_then(|token| token.decode())
                .unwrap_or_default(),
        }
    }
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
    let mut members = Items::open(text, b'{')?;
    while members.more()? {
        let key = members.read(Scanner::key)?;
        let value = members.read(Scanner::value)?;
        let index = match key.inner() {
            Some(plain) if !key.has_escapes() => names.iter().position(|name| *name == plain),
            _ => names.iter().position(|name| key.means(name)),
        };
        if let Some(index) = index {
            found[index] = Some(value);
        }
    }
    Ok(found)
}

/// Makes `null` what it is for most members: absence (HTTP spec 1, WebSocket spec 3).
pub fn drop_nulls(values: &mut [Option<Token<'_>>]) {
    for value in values {
        if value.is_some_and(|value| value.is_null()) {
            *value = None;
        }
    }
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
        let member = |scanner: &mut Scanner<'a>| Ok((scanner.key()?, scanner.value()?));
        match self.0.more() {
            Ok(false) => None,
            Ok(true) => Some(self.0.read(member)),
            Err(malformed) => Some(Err(malformed)),
        }
    }
}

/// Elements of one array; ends as [`Members`] does.
pub struct Elements<'a>(Items<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Token<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.0.more() {
            Ok(false) => None,
            Ok(true) => Some(self.0.read(Scanner::value)),
            Err(malformed) => Some(Err(malformed)),
        }
    }
}

/// The scanner against serde_json, which is a parser of another kind, and each token against what
/// serde_json makes of it.
#[cfg(test)]
pub fn fuzz_document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let theirs = serde_json::from_str::<serde_json::Value>(text);
    let Ok(token) = document(text) else {
        assert!(theirs.is_err(), "refused: {text:?}");
        return;
    };
    assert_eq!(token.raw(), text.trim_matches([' ', '\n', '\r', '\t']));
    let theirs = match theirs {
        Ok(value) => value,
        Err(error) => {
            // The two things that it refuses although they are JSON within our depth.
            let error = error.to_string();
            assert!(
                error.contains("out of range") || error.contains("recursion limit"),
                "accepted: {text:?}: {error}"
            );
            return;
        }
    };
    let (members, elements) = (token.members(), token.elements());
    match (token.kind(), &theirs) {
        (Kind::String, serde_json::Value::String(meant)) => {
            assert_eq!(token.decode().as_deref(), Some(meant.as_str()));
            assert_eq!(token.delivered_bytes(), meant.len());
            assert!(token.means(meant) && !token.means(&format!("{meant}x")));
        }
        (Kind::Object, serde_json::Value::Object(object)) => {
            let mut last = std::collections::BTreeMap::new();
            for member in members.expect("an object has members") {
                let (key, value) = member.expect("a token is valid");
                fuzz_document(value.raw().as_bytes());
                last.insert(key.decode().expect("a key is a string"), value.raw());
            }
            assert_eq!(last.len(), object.len());
            for (key, value) in &last {
                let value: serde_json::Value = serde_json::from_str(value).expect("a value");
                assert_eq!(object.get(&**key), Some(&value));
                let [found] = fields(text, &[&**key]).expect("an object");
                assert_eq!(found.map(|found| found.raw()), last.get(key).copied());
            }
        }
        (Kind::Array, serde_json::Value::Array(array)) => {
            let ours: Vec<_> = elements.expect("an array has elements").collect();
            assert_eq!(ours.len(), array.len());
            for element in ours {
                fuzz_document(element.expect("a token is valid").raw().as_bytes());
            }
        }
        (Kind::Bool, serde_json::Value::Bool(value)) => assert_eq!(token.as_bool(), Some(*value)),
        (Kind::Number, serde_json::Value::Number(_)) => {}
        (Kind::Null, serde_json::Value::Null) => assert!(token.is_null()),
        (kind, theirs) => panic!("{kind:?} is not {theirs:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    const VALID: [&str; 20] = [
        "{}",
        "[]",
        " \t\r\n{} \t\r\n",
        r#""""#,
        "0",
        "-0",
        "-0.0e-0",
        "1E+2",
        "12345678901234567890123456789",
        "1e400",
        "null",
        "true",
        "false",
        r#"{"a":{"b":[1,2,{"c":[]}]},"d":[[],{}]}"#,
        r#"{ "a" : [ 1 , 2 ] , "b" : null }"#,
        r#"{"":""}"#,
        r#""\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00""#,
        "\"\u{7f}\u{2028}\u{1F600}\"",
        r#""\u0000""#,
        r#"[true,false,null,"x",-1.5]"#,
    ];

    const MALFORMED: [&str; 54] = [
        "",
        " ",
        "\u{feff}{}",
        "hello",
        "{",
        "}",
        "[",
        "]",
        "[}",
        "{]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,,2]",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a" 1}"#,
        r#"{"a"::1}"#,
        "{a:1}",
        "{1:1}",
        r#"{"a":1}}"#,
        r#"{"a":1}x"#,
        r#"{"a":1}{}"#,
        r#"[{"a":1]"#,
        r#"{"a":[1}"#,
        "01",
        "-",
        "-a",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "nul",
        "truE",
        "nulll",
        "'a'",
        r#"""#,
        r#""\""#,
        r#""\x41""#,
        r#""\u12""#,
        r#""\u12G4""#,
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        "\"\n\"",
        "\"\u{0}\"",
        "[1]//",
    ];

    #[test]
    fn a_document_is_json_or_malformed() {
        for text in VALID {
            let token = document(text).unwrap_or_else(|_| panic!("{text:?}"));
            assert_eq!(token.raw(), text.trim_matches([' ', '\t', '\r', '\n']));
        }
        for text in MALFORMED {
            assert!(document(text).is_err(), "{text:?}");
            assert!(
                document(&format!("[{text}]")).is_err() || text.trim().is_empty(),
                "{text:?}"
            );
            assert!(
                fields(&format!("{{\"a\":{text}}}"), &["a"]).is_err(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn every_prefix_of_an_object_is_malformed() {
        let text = r#"{"e":"\u00e9\uD83D\uDE00é","d":{"a":[1.5e3,true,null,{}],"b":"\""},"c":[]}"#;
        assert!(document(text).is_ok());
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(document(&text[..end]).is_err(), "{}", &text[..end]);
            assert!(fields(&text[..end], &["d"]).is_err(), "{}", &text[..end]);
        }
    }

    #[test]
    fn the_level_after_the_last_is_malformed() {
        let nested = |levels: usize, open: &str, middle: &str, close: &str| {
            [open.repeat(levels), middle.to_owned(), close.repeat(levels)].concat()
        };
        let max = DEPTH_MAX as usize;
        for (open, middle, close) in [("[", "", "]"), ("[", "1", "]"), ("{\"a\":", "1", "}")] {
            assert!(document(&nested(max, open, middle, close)).is_ok());
            assert!(document(&nested(max + 1, open, middle, close)).is_err());
            assert!(document(&nested(10_000, open, middle, close)).is_err());
            assert!(document(&open.repeat(10_000)).is_err());
            let member = |levels| format!("{{\"a\":{}}}", nested(levels, open, middle, close));
            assert!(fields(&member(max - 1), &["a"]).is_ok());
            assert!(fields(&member(max), &["a"]).is_err());
        }
        // An empty container counts as a level too.
        assert!(document(&nested(max - 1, "[", "{}", "]")).is_ok());
        assert!(document(&nested(max, "[", "{}", "]")).is_err());
        // Levels that have been closed do not.
        assert!(document(&format!("[{}[]]", "[[]],".repeat(max * 2))).is_ok());
    }

    #[test]
    fn the_last_of_repeated_keys_wins_however_it_is_written() {
        let text = r#"{"a":1,"b":2,"\u0061":3,"c":4,"b":null}"#;
        let [a, b, c, d] = fields(text, &["a", "b", "c", "d"]).expect("an object");
        assert_eq!(a.map(|a| a.raw()), Some("3"));
        assert!(b.is_some_and(|b| b.is_null()));
        assert_eq!(c.map(|c| c.raw()), Some("4"));
        assert!(d.is_none());
        let mut found = [a, b, c, d];
        drop_nulls(&mut found);
        assert!(found[0].is_some() && found[1].is_none());
    }

    #[test]
    fn tokens_are_the_bytes_that_came() {
        let text = r#"{"n":1.0,"big":12345678901234567890,"s":"\u0041\/","o":{ "x" : [ 1 ] }}"#;
        let [n, big, s, o] = fields(text, &["n", "big", "s", "o"]).expect("an object");
        let raw = |token: Option<Token<'_>>| token.expect("present").raw().to_owned();
        assert_eq!(raw(n), "1.0");
        assert_eq!(raw(big), "12345678901234567890");
        assert_eq!(raw(s), r#""\u0041\/""#);
        assert_eq!(raw(o), r#"{ "x" : [ 1 ] }"#);
        assert_eq!(s.and_then(|s| s.decode()).as_deref(), Some("A/"));
        assert_eq!(
            s.map(|s| s.as_string()),
            Some(StringSource::Token(r#""\u0041\/""#))
        );
        assert_eq!(n.map(|n| n.as_string()), Some(StringSource::Text("1.0")));
    }

    #[test]
    fn what_is_delivered_has_the_same_characters_whether_copied_or_escaped() {
        let rows = [
            (r#""plain""#, "plain"),
            (r#""a\"b\u00e9\uD83D\uDE00""#, "a\"b\u{e9}\u{1f600}"),
            (r#"{"n":1.0}"#, r#"{"n":1.0}"#),
            ("5", "5"),
        ];
        for (json, expected) in rows {
            let source = document(json).map(|token| token.as_string());
            assert_eq!(source.map(StringSource::text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_string_borrows_unless_it_has_escapes() {
        for (raw, meant, borrows) in [
            (r#""""#, "", true),
            (r#""café""#, "café", true),
            (r#""caf\u00e9""#, "café", false),
            (r#""\ud83d\ude00""#, "\u{1F600}", false),
            (
                r#""\"\\\/\b\f\n\r\t\u0000""#,
                "\"\\/\u{8}\u{c}\n\r\t\0",
                false,
            ),
            (r#""\u2028 and on""#, "\u{2028} and on", false),
        ] {
            let token = document(raw).expect("a string");
            let decoded = token.decode().expect("a string");
            assert_eq!(decoded, meant);
            assert_eq!(matches!(decoded, Cow::Borrowed(_)), borrows);
            assert_eq!(token.delivered_bytes(), meant.len());
            assert!(token.means(meant));
        }
        assert!(document("5").expect("a number").decode().is_none());
        assert_eq!(document("[1, 2]").expect("an array").delivered_bytes(), 6);
    }

    #[test]
    fn only_objects_have_members_and_only_arrays_elements() {
        for text in ["1", "\"{}\"", "null", "[]"] {
            assert!(document(text).expect("valid").members().is_err());
            assert!(fields(text, &["a"]).is_err());
        }
        assert!(document("{}").expect("valid").elements().is_err());
        assert_eq!(
            document("[ ]")
                .expect("valid")
                .elements()
                .map(Iterator::count),
            Ok(0)
        );
        assert_eq!(
            document("[1,[2,3]]")
                .expect("valid")
                .elements()
                .map(Iterator::count),
            Ok(2)
        );
    }

    #[test]
    fn agrees_with_serde_json_on_seeded_documents() {
        let mut random = Seed::new(41);
        let mut accepted = 0;
        for round in 0..10_000 {
            let text = sample::json(&mut random, round % 5);
            accepted +=
                usize::from(std::str::from_utf8(&text).is_ok_and(|text| document(text).is_ok()));
            fuzz_document(&text);
        }
        // The loop is worth something only if both answers are common.
        assert!((2_000..8_000).contains(&accepted), "{accepted}");
    }
}
