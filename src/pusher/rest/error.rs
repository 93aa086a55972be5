//! The first fault of a publish: its status, its slug and the text of the answer.
//!
//! Texts are for the developer who reads them (HTTP spec 1.2): they name the field and the limit,
//! and begin as the Sockudo guide's do. Nobody parses them.
//!
//! Invariant: an error holds at most a piece of the body, so refusing a body allocates nothing.

use std::fmt;

use crate::pusher::channel::NameError;
use crate::pusher::json::Malformed;

use super::{IDEMPOTENCY_KEY_CHARS_MAX, TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX};

/// Why a body was refused. `Display` is the text of the answer; it may hold any character that a
/// JSON string can, escaped or not, so the writer of the answer escapes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error<'a> {
    /// Not UTF-8, not JSON by our rules, or no object.
    Malformed,
    Required(&'static str),
    Type {
        field: &'static str,
        expected: &'static str,
    },
    NameLength {
        chars_max: u32,
    },
    NameReserved,
    DataTooLarge {
        bytes_max: u32,
    },
    ChannelsCount {
        channels_max: u32,
    },
    Channel(NameError),
    EncryptedNotAlone,
    SocketId,
    TooManyTags {
        tags_max: u32,
    },
    /// The key, as the token that it was.
    TagKey(&'a str),
    TagValue(&'a str),
    IdempotencyKey,
    BatchTooLong {
        events_max: u32,
    },
}

impl Error<'_> {
    pub fn status(&self) -> u16 {
        match self {
            Self::DataTooLarge { .. } => 413,
            Self::Channel(NameError::Reserved) => 403,
            _ => 400,
        }
    }

    /// The `code` of the error object (HTTP spec 1.2).
    pub fn slug(&self) -> &'static str {
        match self {
            Self::DataTooLarge { .. } => "payload_too_large",
            Self::Channel(NameError::Reserved) => "forbidden",
            Self::ChannelsCount { .. } | Self::TooManyTags { .. } | Self::BatchTooLong { .. } => {
                "limit_exceeded"
            }
            _ => "invalid_input",
        }
    }
}

impl From<Malformed> for Error<'_> {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DataTooLarge { .. } => "Payload too large. ",
            Self::Channel(NameError::Reserved) => "Forbidden: ",
            _ => "Invalid request: ",
        })?;
        match *self {
            Self::Malformed => f.write_str("the body is not a JSON object."),
            Self::Required(field) => write!(f, "'{field}' field is required."),
            Self::Type { field, expected } => write!(f, "'{field}' must be {expected}."),
            Self::NameLength { chars_max } => {
                write!(f, "'name' must have 1 to {chars_max} characters.")
            }
            Self::NameReserved => {
                f.write_str("'name' must not begin with 'pusher:' or 'pusher_internal:'.")
            }
            Self::DataTooLarge { bytes_max } if bytes_max % 1024 == 0 => {
                write!(f, "Maximum size is {}KB.", bytes_max / 1024)
            }
            Self::DataTooLarge { bytes_max } => write!(f, "Maximum size is {bytes_max} bytes."),
            Self::ChannelsCount { channels_max } => {
                write!(f, "'channels' must have 1 to {channels_max} entries.")
            }
            Self::Channel(rule) => write!(f, "a channel name {rule}."),
            Self::EncryptedNotAlone => {
                f.write_str("an encrypted channel must be the only one of 'channels'.")
            }
            Self::SocketId => f.write_str("'socket_id' must be two integers joined by a dot."),
            Self::TooManyTags { tags_max } => {
                write!(f, "'tags' must not have more than {tags_max} members.")
            }
            Self::TagKey(key) => {
                let key = Shortened(key);
                write!(
                    f,
                    "the key {key} of 'tags' must have 1 to {TAG_KEY_BYTES_MAX} bytes."
                )
            }
            Self::TagValue(key) => write!(
                f,
                "the value of {} in 'tags' must be a string, number or boolean of at most \
                 {TAG_VALUE_BYTES_MAX} bytes.",
                Shortened(key)
            ),
            Self::IdempotencyKey => write!(
                f,
                "'idempotency_key' must have 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters."
            ),
            Self::BatchTooLong { events_max } => {
                write!(f, "'batch' must not have more than {events_max} events.")
            }
        }
    }
}

/// The beginning of a key, which is enough to find it.
struct Shortened<'a>(&'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(TAG_KEY_BYTES_MAX) {
            Some((end, _)) => write!(f, "{}...", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_the_field_and_the_limit() {
        let long_key = format!("\"{}\"", "é".repeat(1_000));
        for (error, status, slug, text) in [
            (
                Error::Malformed,
                400,
                "invalid_input",
                "Invalid request: the body is not a JSON object.",
            ),
            (
                Error::Required("name"),
                400,
                "invalid_input",
                "Invalid request: 'name' field is required.",
            ),
            (
                Error::Type {
                    field: "delta",
                    expected: "a boolean",
                },
                400,
                "invalid_input",
                "Invalid request: 'delta' must be a boolean.",
            ),
            (
                Error::DataTooLarge { bytes_max: 102_400 },
                413,
                "payload_too_large",
                "Payload too large. Maximum size is 100KB.",
            ),
            (
                Error::DataTooLarge { bytes_max: 1_000 },
                413,
                "payload_too_large",
                "Payload too large. Maximum size is 1000 bytes.",
            ),
            (
                Error::ChannelsCount { channels_max: 100 },
                400,
                "limit_exceeded",
                "Invalid request: 'channels' must have 1 to 100 entries.",
            ),
            (
                Error::Channel(NameError::Empty),
                400,
                "invalid_input",
                "Invalid request: a channel name must not be empty.",
            ),
            (
                Error::Channel(NameError::Reserved),
                403,
                "forbidden",
                "Forbidden: a channel name is of a reserved type.",
            ),
            (
                Error::BatchTooLong { events_max: 10 },
                400,
                "limit_exceeded",
                "Invalid request: 'batch' must not have more than 10 events.",
            ),
            (
                Error::TagKey(&long_key),
                400,
                "invalid_input",
                &format!(
                    "Invalid request: the key \"{}... of 'tags' must have 1 to 64 bytes.",
                    "é".repeat(63)
                ),
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!((error.status(), error.slug()), (status, slug), "{text}");
        }
    }
}
