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
