//! The query of an API request as the parameters that are signed and used.
//!
//! One query can be read in up to three ways ([`Decoding`]), since libraries differ in what they
//! escape; which one holds is found out by the signature, in `rest_signature`. What is signed and
//! what is used is therefore one and the same [`Query`]. It does not know which parameters exist.
//!
//! Invariant: parameters are sorted by name without brackets, bytewise; of equal names that are not
//! arrays only the last is left (HTTP spec 2.3).

use std::borrow::Cow;
use std::cmp::Ordering;

use memchr::{memchr, memchr2};
use smallvec::SmallVec;

/// Parameters of a query, repeated ones included; one more is refused. The libraries send 4 to 8.
pub const PARAMETERS_MAX: usize = 64;

/// A longer query, which no head can hold, is refused as one with too many parameters.
const QUERY_BYTES_MAX: usize = 16 << 20;

/// How names and values are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoding {
    /// `%XX` is a byte, `+` is a space.
    Form,
    /// `%XX` is a byte, `+` is itself: fallback (a) of HTTP spec 2.3.
    KeepPlus,
    /// Nothing is decoded: fallback (b).
    Raw,
}

/// How array parameters stand in the string to sign. What was sent may be `info[]=a&info[]=b` as
/// well as `info[0]=a&info[1]=b`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArrayForm {
    /// `info[]=a&info[]=b`, as Pusher's own verifier has it.
    Brackets,
    /// `info=a,b`, as the PHP library signs.
    Joined,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueryError {
    TooManyParameters,
    /// A decoded name or value is not UTF-8.
    NotUtf8,
}

/// The parameters of a request under one [`Decoding`].
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// The query as it was sent, and behind it what reads otherwise than it was sent.
    text: Cow<'a, str>,
    parameters: SmallVec<[Parameter; 8]>,
}

#[derive(Clone, Copy, Debug)]
struct Parameter {
    /// In lower case, of an array without its brackets.
    name: Span,
    value: Span,
    is_array: bool,
}

/// Where a name or value stands in the text of its query.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

impl<'a> Query<'a> {
    /// Reads the query of a target, without its `?`.
    pub fn parse(query: &'a str, decoding: Decoding) -> Result<Self, QueryError> {
        let mut read = Self {
            text: Cow::Borrowed(query),
            parameters: SmallVec::new(),
        };
        if query.len() > QUERY_BYTES_MAX {
            return Err(QueryError::TooManyParameters);
        }
        // Mostly so of the whole query, which is quicker seen than of each name.
        let names_are_lower = decoding == Decoding::Raw && is_lower(query.as_bytes());
        let (mut start, mut pairs) = (0, 0);
        while start < query.len() {
            let pair = &query.as_bytes()[start..];
            // Only the first `=` separates, and a name alone has the empty value.
            let name_bytes = memchr2(b'=', b'&', pair).unwrap_or(pair.len());
            let value_at = name_bytes + usize::from(pair.get(name_bytes) == Some(&b'='));
            let value = &pair[value_at..];
            let value_bytes = memchr(b'&', value).unwrap_or(value.len());
            let spans = [(start, name_bytes), (start + value_at, value_bytes)];
            start += value_at + value_bytes + 1;
            if value_at == 0 {
                continue; // Nothing stands between two `&`.
            }
            pairs += 1;
            if pairs > PARAMETERS_MAX {
                return Err(QueryError::TooManyParameters);
            }
            let [name, value] = spans.map(|(start, bytes)| Span::of(start, bytes));
            let [name, value] = match decoding {
                Decoding::Form => [read.decode(name, b' ')?, read.decode(value, b' ')?],
                Decoding::KeepPlus => [read.decode(name, b'+')?, read.decode(value, b'+')?],
                Decoding::Raw => [name, value],
            };
            let name = match names_are_lower {
                true => name,
                false => read.lower(name),
            };
            read.add(name, value);
        }
        Ok(read)
    }

    /// The value of a parameter that is not an array. `name` is in lower case.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|parameter| !parameter.is_array && self.is_named(parameter, name))
            .map(|parameter| self.text(parameter.value))
    }

    /// Every value under a name: the plain parameter if there is one, then the elements of the
    /// array in the order in which they were sent. Elements are not split at commas.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.parameters
            .iter()
            .filter(move |parameter| self.is_named(parameter, name))
            .map(|parameter| self.text(parameter.value))
    }

    pub fn has_arrays(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.is_array)
    }

    /// Adds a plain parameter, in place of any of that name. `name` is in lower case.
    pub(super) fn insert(&mut self, name: &'static str, value: &str) {
        let [name, value] = [name, value].map(|text| self.append(text));
        self.add(name, value);
    }

    /// Appends the third part of the string to sign (HTTP spec 2.2): everything but
    /// `auth_signature`, without any escaping.
    pub fn write_to_sign(&self, out: &mut Vec<u8>, arrays: ArrayForm) {
        let start = out.len();
        let mut joining: Option<&[u8]> = None;
        for &Parameter {
            name,
            value,
            is_array,
        } in &self.parameters
        {
            let [name, value] = [name, value].map(|span| self.bytes(span));
            if name == b"auth_signature" && !is_array {
                continue;
            }
            if is_array && joining == Some(name) {
                out.push(b',');
                out.extend_from_slice(value);
                continue;
            }
            joining = (is_array && arrays == ArrayForm::Joined).then_some(name);
            if out.len() > start {
                out.push(b'&');
            }
            out.extend_from_slice(name);
            if is_array && arrays == ArrayForm::Brackets {
                out.extend_from_slice(b"[]");
            }
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }

    /// A name or value as it is meant: where it was sent, if that is how it reads.
    fn decode(&mut self, span: Span, plus: u8) -> Result<Span, QueryError> {
        let decoded = match percent_decode(self.text(span), plus) {
            Some(Cow::Borrowed(_)) => return Ok(span),
            Some(Cow::Owned(decoded)) => decoded,
            None => return Err(QueryError::NotUtf8),
        };
        Ok(self.append(&decoded))
    }

    /// A name in lower case.
    fn lower(&mut self, name: Span) -> Span {
        if is_lower(self.bytes(name)) {
            return name;
        }
        let lower = self.text(name).to_lowercase();
        self.append(&lower)
    }

    /// Adds a parameter whose name is decoded and in lower case, in the place that the invariant
    /// gives it: for most that is the end, or a few before it.
    fn add(&mut self, name: Span, value: Span) {
        let (name, is_array) = match array_name(self.text(name)) {
            Some(bare) => (Span::of(name.start as usize, bare.len()), true),
            None => (name, false),
        };
        let added = Parameter {
            name,
            value,
            is_array,
        };
        let mut at = self.parameters.len();
        while let Some(before) = at.checked_sub(1) {
            let other = self.parameters[before];
            match (self.bytes(other.name), other.is_array).cmp(&(self.bytes(name), is_array)) {
                Ordering::Equal if !is_array => {
                    self.parameters[before] = added;
                    return;
                }
                Ordering::Less | Ordering::Equal => break,
                Ordering::Greater => at = before,
            }
        }
        self.parameters.insert(at, added);
    }

    fn is_named(&self, parameter: &Parameter, name: &str) -> bool {
        let Span { start, end } = parameter.name;
        (end - start) as usize == name.len() && self.bytes(parameter.name) == name.as_bytes()
    }

    fn append(&mut self, text: &str) -> Span {
        let span = Span::of(self.text.len(), text.len());
        self.text.to_mut().push_str(text);
        span
    }

    fn text(&self, span: Span) -> &str {
        let Span { start, end } = span;
        // All begin and end where a `&` or `=` is, or a text that was appended.
        self.text
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    fn bytes(&self, span: Span) -> &[u8] {
        let bytes = self.text.as_bytes();
        bytes
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }
}

impl Span {
    /// A query of `QUERY_BYTES_MAX` fits with what is appended to it, at most three times as much.
    fn of(start: usize, bytes: usize) -> Self {
        Self {
            start: start as u32,
            end: (start + bytes) as u32,
        }
    }
}

/// Whether text is as it is in lower case; what is not ASCII may be or not, and counts as not.
/// Looks at every byte, because that goes many at a time.
fn is_lower(text: &[u8]) -> bool {
    let is_other = |byte: &u8| !byte.is_ascii() | byte.is_ascii_uppercase();
    !text.iter().fold(false, |has, byte| has | is_other(byte))
}

/// `info` of `info[]` and `info[12]`. Nested names are not arrays and are taken literally.
fn array_name(name: &str) -> Option<&str> {
    let (bare, index) = name.strip_suffix(']')?.split_once('[')?;
    (!bare.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())).then_some(bare)
}

/// Decodes `%XX` escapes and writes `plus` for `+`. Invalid escapes stay as they are. `None` where
/// the result is not UTF-8. Allocates only where something changes.
pub fn percent_decode(text: &str, plus: u8) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        decoded.push(match (byte, escaped_byte(tail)) {
            (b'%', Some(byte)) => {
                rest = &tail[2..];
                byte
            }
            (b'+', _) => plus,
            _ => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The byte that the first two of `digits` spell.
fn escaped_byte(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(*high)? << 4 | digit(*low)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn to_sign(query: &str, decoding: Decoding, arrays: ArrayForm) -> String {
        let mut out = b"before".to_vec();
        Query::parse(query, decoding)
            .unwrap()
            .write_to_sign(&mut out, arrays);
        String::from_utf8(out)
            .unwrap()
            .strip_prefix("before")
            .unwrap()
            .to_owned()
    }

    #[test]
    fn percent_decoding_leaves_invalid_escapes_alone() {
        for (text, decoded) in [
            ("", Some("")),
            ("abc", Some("abc")),
            ("%41%62%63", Some("Abc")),
            ("%", Some("%")),
            ("%4", Some("%4")),
            ("%4g", Some("%4g")),
            ("%g4", Some("%g4")),
            ("%%41", Some("%A")),
            ("%2541", Some("%41")),
            ("a%00b", Some("a\0b")),
            ("%c3%a9", Some("\u{e9}")),
            ("%c3", None),
            ("a+b", Some("a b")),
            ("%+1", Some("% 1")),
        ] {
            assert_eq!(percent_decode(text, b' ').as_deref(), decoded, "{text}");
        }
        assert_eq!(percent_decode("a+b%2b", b'+').as_deref(), Some("a+b+"));
        assert!(matches!(
            percent_decode("plain", b' '),
            Some(Cow::Borrowed("plain"))
        ));
    }

    #[test]
    fn parameters_are_sorted_by_name_without_brackets() {
        for (query, brackets, joined) in [
            ("", "", ""),
            ("&&", "", ""),
            ("b=2&a=1", "a=1&b=2", "a=1&b=2"),
            ("a=1&auth_signature=x&b=2", "a=1&b=2", "a=1&b=2"),
            ("auth_signature=x", "", ""),
            ("B=2&a_=3&a=1", "a=1&a_=3&b=2", "a=1&a_=3&b=2"),
            ("=v", "=v", "=v"),
            ("i0=z&i[]=x&i[]=y", "i[]=x&i[]=y&i0=z", "i=x,y&i0=z"),
            ("i[]=x&j=1&i[]=y", "i[]=x&i[]=y&j=1", "i=x,y&j=1"),
            ("i[]=x&j[]=y", "i[]=x&j[]=y", "i=x&j=y"),
            ("i[]=x&i=s", "i=s&i[]=x", "i=s&i=x"),
            ("i[7]=x&i[7]=y", "i[]=x&i[]=y", "i=x,y"),
            (
                "i[a]=x&i]=y&[]=z&i[=w",
                "[]=z&i[=w&i[a]=x&i]=y",
                "[]=z&i[=w&i[a]=x&i]=y",
            ),
            ("i[]=", "i[]=", "i="),
        ] {
            assert_eq!(
                to_sign(query, Decoding::Form, ArrayForm::Brackets),
                brackets,
                "{query}"
            );
            assert_eq!(
                to_sign(query, Decoding::Form, ArrayForm::Joined),
                joined,
                "{query}"
            );
        }
    }

    #[test]
    fn of_equal_names_the_last_is_left() {
        let query = Query::parse("a=1&A=2&b=x&a=3&a[]=4&a[]=5", Decoding::Raw).unwrap();
        assert_eq!(query.value("a"), Some("3"));
        assert_eq!(query.values("a").collect::<Vec<_>>(), ["3", "4", "5"]);
        assert_eq!(query.value("c"), None);
        let only_array = Query::parse("a[]=4", Decoding::Raw).unwrap();
        assert_eq!(only_array.value("a"), None);
    }

    #[test]
    fn without_escapes_every_decoding_reads_the_same() {
        let mut random = Seed::new(23);
        for _ in 0..5_000 {
            fuzz_query(&random.mixture(
                "a=1&b=%41+&info[]=x&info[12]=y&auth_signature=&B&İ=É&".as_bytes(),
                80,
            ));
        }
    }

    fn seen(query: &Query<'_>) -> Vec<(String, bool, String)> {
        let parameters = query.parameters.iter();
        let seen = parameters.map(|it| (query.text(it.name), it.is_array, query.text(it.value)));
        seen.map(|(name, is_array, value)| (name.into(), is_array, value.into()))
            .collect()
    }

    /// The obvious reading: split, decode, sort, drop what is repeated.
    fn parse_slow(query: &str, decoding: Decoding) -> Vec<(String, bool, String)> {
        let decode = |text: &str| match decoding {
            Decoding::Form => percent_decode(text, b' ').unwrap().into_owned(),
            Decoding::KeepPlus => percent_decode(text, b'+').unwrap().into_owned(),
            Decoding::Raw => text.to_owned(),
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut read: Vec<_> = pairs
            .map(|(name, value)| {
                let name = decode(name).to_lowercase();
                match array_name(&name) {
                    Some(bare) => (bare.to_owned(), true, decode(value)),
                    None => (name, false, decode(value)),
                }
            })
            .collect();
        read.sort_by_key(|(name, is_array, _)| (name.clone(), *is_array));
        let later = read.clone();
        let mut nth = 0;
        read.retain(|(name, is_array, _)| {
            nth += 1;
            let next = later.get(nth);
            *is_array || next.is_none_or(|next| (&next.0, next.1) != (name, false))
        });
        read
    }

    pub(crate) fn fuzz_query(data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let all = [Decoding::Form, Decoding::KeepPlus, Decoding::Raw];
        for query in all
            .iter()
            .filter_map(|&decoding| Query::parse(text, decoding).ok())
        {
            let is_sorted = query.parameters.is_sorted_by(|a, b| {
                let [first, second] = [a, b].map(|it| (query.text(it.name), it.is_array));
                first < second || (first == second && a.is_array)
            });
            assert!(is_sorted, "{query:?}");
        }
        for decoding in all {
            if let Ok(query) = Query::parse(text, decoding) {
                assert_eq!(seen(&query), parse_slow(text, decoding), "{text}");
            }
        }
        let plain = text.replace(['%', '+'], "");
        let [form, keep_plus, raw] = all.map(|decoding| {
            Query::parse(&plain, decoding).map(|query| {
                let mut out = Vec::new();
                query.write_to_sign(&mut out, ArrayForm::Brackets);
                out
            })
        });
        assert_eq!(form, raw);
        assert_eq!(keep_plus, raw);
    }
}
