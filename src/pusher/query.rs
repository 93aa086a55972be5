//! The query of an API request as the parameters that are signed and used.
//!
//! One query can be read in up to three ways ([`Decoding`]), since libraries differ in what they
//! escape; which one holds is found out by the signature, in `rest_signature`. What is signed and
//! what is used is therefore one and the same [`Query`]. It does not know which parameters exist.
//!
//! Invariant: parameters are sorted by name without brackets, bytewise; of equal names that are not
//! arrays only the last is left (HTTP spec 2.3).

use std::borrow::Cow;

use smallvec::SmallVec;

/// Parameters of a query; one more is refused. The libraries send 4 to 8.
pub const PARAMETERS_MAX: usize = 64;

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
    parameters: SmallVec<[Parameter<'a>; 8]>,
}

#[derive(Clone, Debug)]
struct Parameter<'a> {
    /// In lower case, of an array without its brackets.
    name: Cow<'a, str>,
    value: Cow<'a, str>,
    is_array: bool,
}

impl<'a> Query<'a> {
    /// Reads the query of a target, without its `?`.
    pub fn parse(query: &'a str, decoding: Decoding) -> Result<Self, QueryError> {
        let mut parameters = SmallVec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(QueryError::TooManyParameters);
            }
            // Only the first `=` separates, and a name alone has the empty value.
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, decoding).ok_or(QueryError::NotUtf8)?;
            let value = decode(value, decoding).ok_or(QueryError::NotUtf8)?;
            parameters.push(Parameter::new(name, value));
        }
        let mut query = Self { parameters };
        query.sort();
        Ok(query)
    }

    /// The value of a parameter that is not an array. `name` is in lower case.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|parameter| parameter.name == name && !parameter.is_array)
            .map(|parameter| &*parameter.value)
    }

    /// Every value under a name: the plain parameter if there is one, then the elements of the
    /// array in the order in which they were sent. Elements are not split at commas.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.parameters
            .iter()
            .filter(move |parameter| parameter.name == name)
            .map(|parameter| &*parameter.value)
    }

    pub fn has_arrays(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.is_array)
    }

    /// Adds a plain parameter, in place of any of that name.
    pub(super) fn insert(&mut self, name: &'static str, value: &'a str) {
        self.parameters.push(Parameter {
            name: Cow::Borrowed(name),
            value: Cow::Borrowed(value),
            is_array: false,
        });
        self.sort();
    }

    /// Appends the third part of the string to sign (HTTP spec 2.2): everything but
    /// `auth_signature`, without any escaping.
    pub fn write_to_sign(&self, out: &mut Vec<u8>, arrays: ArrayForm) {
        let start = out.len();
        let mut joining: Option<&str> = None;
        for Parameter {
            name,
            value,
            is_array,
        } in &self.parameters
        {
            if name == "auth_signature" && !is_array {
                continue;
            }
            if *is_array && joining == Some(name) {
                out.push(b',');
                out.extend_from_slice(value.as_bytes());
                continue;
            }
            joining = (*is_array && arrays == ArrayForm::Joined).then_some(name);
            if out.len() > start {
                out.push(b'&');
            }
            out.extend_from_slice(name.as_bytes());
            if *is_array && arrays == ArrayForm::Brackets {
                out.extend_from_slice(b"[]");
            }
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
        }
    }

    /// Restores the invariant. The sort is stable: equal names stay in the order sent.
    fn sort(&mut self) {
        let key = |parameter: &Parameter<'a>| parameter.is_array;
        self.parameters
            .sort_by(|a, b| a.name.cmp(&b.name).then(key(a).cmp(&key(b))));
        self.parameters.dedup_by(|later, kept| {
            let is_repeated = later.name == kept.name && !later.is_array && !kept.is_array;
            if is_repeated {
                std::mem::swap(later, kept);
            }
            is_repeated
        });
    }
}

impl<'a> Parameter<'a> {
    fn new(mut name: Cow<'a, str>, value: Cow<'a, str>) -> Self {
        if name
            .bytes()
            .any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
        {
            name = Cow::Owned(name.to_lowercase());
        }
        let array = array_name(&name).map(str::len);
        if let Some(bare_bytes) = array {
            name = match name {
                Cow::Borrowed(name) => Cow::Borrowed(&name[..bare_bytes]),
                Cow::Owned(mut name) => {
                    name.truncate(bare_bytes);
                    Cow::Owned(name)
                }
            };
        }
        Self {
            name,
            value,
            is_array: array.is_some(),
        }
    }
}

/// `info` of `info[]` and `info[12]`. Nested names are not arrays and are taken literally.
fn array_name(name: &str) -> Option<&str> {
    let (bare, index) = name.strip_suffix(']')?.split_once('[')?;
    (!bare.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())).then_some(bare)
}

fn decode(text: &str, decoding: Decoding) -> Option<Cow<'_, str>> {
    match decoding {
        Decoding::Form => percent_decode(text, b' '),
        Decoding::KeepPlus => percent_decode(text, b'+'),
        Decoding::Raw => Some(Cow::Borrowed(text)),
    }
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
            fuzz_query(&random.mixture(b"a=1&b=%41+&info[]=x&info[12]=y&auth_signature=&B&", 80));
        }
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
                (&a.name, a.is_array) < (&b.name, b.is_array) || (a.name == b.name && a.is_array)
            });
            assert!(is_sorted, "{query:?}");
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
