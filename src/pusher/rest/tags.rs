//! The `tags` of a publish (extensions spec 2.1): names and values that subscribers may filter by.
//!
//! Does not know filters, nor whether the app has them on: tags are checked either way.
//!
//! Invariant: a key occurs once and every bound holds.

use std::borrow::Cow;

use crate::pusher::json::{Kind, Malformed, Token};

use super::Error;

/// A key has 1 to this many bytes.
pub const TAG_KEY_BYTES_MAX: usize = 64;
/// A value has 0 to this many bytes.
pub const TAG_VALUE_BYTES_MAX: usize = 256;

/// Keys and values in the order in which the keys came.
pub type Tags<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Of a repeated key the last value counts, and is the one that is checked. Finding a repetition
/// is a walk over a list that `tags_max` bounds.
pub(super) fn parse<'a>(tags: Token<'a>, tags_max: u32) -> Result<Tags<'a>, Error<'a>> {
    if tags.kind() != Kind::Object {
        return Err(Error::Type {
            field: "tags",
            expected: "an object",
        });
    }
    let mut last: Vec<(Cow<'a, str>, Token<'a>, Token<'a>)> = Vec::new();
    for member in tags.members()? {
        let (key_token, value) = member?;
        let key = key_token.decode().ok_or(Malformed)?;
        if key.is_empty() || key.len() > TAG_KEY_BYTES_MAX {
            return Err(Error::TagKey(key_token.raw()));
        }
        match last.iter().position(|(known, ..)| *known == key) {
            Some(index) => last[index].2 = value,
            None if last.len() == tags_max as usize => {
                return Err(Error::TooManyTags { tags_max });
            }
            None => last.push((key, key_token, value)),
        }
    }
    last.into_iter()
        .map(|(key, key_token, value)| match text_of(value) {
            Some(value) => Ok((key, value)),
            None => Err(Error::TagValue(key_token.raw())),
        })
        .collect()
}

/// A string decoded, a number or boolean as its JSON text.
fn text_of(value: Token<'_>) -> Option<Cow<'_, str>> {
    let text = match value.kind() {
        Kind::String => value.decode()?,
        Kind::Number | Kind::Bool => Cow::Borrowed(value.raw()),
        Kind::Null | Kind::Object | Kind::Array => return None,
    };
    (text.len() <= TAG_VALUE_BYTES_MAX).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::json;

    fn read(text: &str) -> Result<Vec<(String, String)>, Error<'_>> {
        let tags = parse(json::document(text).expect("valid"), 3)?;
        Ok(tags
            .into_iter()
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect())
    }

    #[track_caller]
    fn assert_tags(text: &str, expected: &[(&str, &str)]) {
        let expected = expected
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!(read(text), Ok(expected.collect()));
    }

    #[test]
    fn values_become_text() {
        assert_tags("{}", &[]);
        assert_tags(
            r#"{"market":"spot","n":1.0,"on":true}"#,
            &[("market", "spot"), ("n", "1.0"), ("on", "true")],
        );
        assert_tags(
            r#"{"\u00e9":"\n","big":12345678901234567890}"#,
            &[("é", "\n"), ("big", "12345678901234567890")],
        );
        assert_tags(r#"{"a":""}"#, &[("a", "")]);
    }

    #[test]
    fn the_last_value_of_a_key_counts_and_is_the_one_checked() {
        assert_tags(
            r#"{"a":[],"b":"1","\u0061":"2"}"#,
            &[("a", "2"), ("b", "1")],
        );
        assert_tags(r#"{"a":1,"a":2,"a":3,"a":4}"#, &[("a", "4")]);
        assert_eq!(read(r#"{"a":"1","a":null}"#), Err(Error::TagValue("\"a\"")));
    }

    #[test]
    fn bounds_and_types_name_the_key() {
        for (value, kind) in [("null", "null"), ("{}", "an object"), ("[]", "an array")] {
            let text = format!(r#"{{"ok":"1","bad\u0021":{value}}}"#);
            assert_eq!(
                read(&text),
                Err(Error::TagValue(r#""bad\u0021""#)),
                "{kind}"
            );
        }
        let pair = |key: usize, value: usize| {
            format!("{{\"{}\":\"{}\"}}", "k".repeat(key), "é".repeat(value))
        };
        assert!(read(&pair(64, 128)).is_ok());
        assert!(matches!(read(&pair(65, 0)), Err(Error::TagKey(_))));
        assert!(matches!(read(&pair(0, 0)), Err(Error::TagKey("\"\""))));
        assert!(matches!(read(&pair(1, 129)), Err(Error::TagValue("\"k\""))));
        assert!(read(r#"{"a":1,"b":2,"c":3}"#).is_ok());
        let too_many = read(r#"{"a":1,"b":2,"c":3,"d":4}"#);
        assert_eq!(too_many, Err(Error::TooManyTags { tags_max: 3 }));
        for text in ["5", "[]", "\"x\"", "true"] {
            assert!(matches!(read(text), Err(Error::Type { field: "tags", .. })));
        }
    }
}
