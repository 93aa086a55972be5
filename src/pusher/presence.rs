//! Members of presence channels: `channel_data` into a member, and a member as a piece of a roster.
//!
//! Does not keep rosters and does not check signatures: `channel_data` has been verified before it
//! comes here. `user_info` is opaque JSON whose text is kept byte for byte.
//!
//! Invariant: a [`RosterPiece`] is escaped once, ready for a `data` string, so that a roster of any
//! size is written by copying (decisions 34).

use std::borrow::Cow;
use std::fmt;

use super::escape;
use super::json::{self, Kind};

/// How large a member may be. The defaults are those of WebSocket spec 18.
#[derive(Clone, Copy, Debug)]
pub struct MemberLimits {
    pub user_id_chars_max: u32,
    /// Of the JSON text.
    pub user_info_bytes_max: u32,
}

impl Default for MemberLimits {
    fn default() -> Self {
        Self {
            user_id_chars_max: 128,
            user_info_bytes_max: 2 * 1024,
        }
    }
}

/// What is shown for a member without `user_info`.
pub const USER_INFO_ABSENT: &str = "{}";

/// Who a subscriber of a presence channel is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member<'a> {
    /// Not empty, and not limited to the channel alphabet.
    pub user_id: Cow<'a, str>,
    /// JSON text as it was sent, [`USER_INFO_ABSENT`] where it was not or was `null`.
    pub user_info: &'a str,
}

impl<'a> Member<'a> {
    /// Reads `channel_data`. Numbers become their decimal text, so that 10 and "10" are one user.
    pub fn parse(channel_data: &'a str, limits: MemberLimits) -> Result<Self, MemberError> {
        let [user_id, user_info] = json::fields(channel_data, &["user_id", "user_info"])
            .map_err(|_| MemberError::NotAnObject)?;
        let user_id = user_id.ok_or(MemberError::UserId)?;
        let user_id = match user_id.kind() {
            Kind::Number => decimal_text(user_id.raw())?,
            _ => user_id.decode().ok_or(MemberError::UserId)?,
        };
        let user_info = match user_info {
            Some(info) if !info.is_null() => info.raw(),
            _ => USER_INFO_ABSENT,
        };
        Self::new(user_id, user_info, limits)
    }

    /// A member whose parts are known, as those of a signed-in user; the limits apply all the same.
    pub fn new(
        user_id: Cow<'a, str>,
        user_info: &'a str,
        limits: MemberLimits,
    ) -> Result<Self, MemberError> {
        if user_id.is_empty() {
            return Err(MemberError::UserId);
        }
        let chars_max = limits.user_id_chars_max;
        if user_id.chars().nth(chars_max as usize).is_some() {
            return Err(MemberError::UserIdTooLong { chars_max });
        }
        let bytes_max = limits.user_info_bytes_max;
        if user_info.len() > bytes_max as usize {
            return Err(MemberError::UserInfoTooLarge { bytes_max });
        }
        Ok(Self { user_id, user_info })
    }
}

/// Why `channel_data` does not make a member. The limits are `LimitReached` in the frame of
/// WebSocket spec 7.4, the others `InvalidData`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberError {
    NotAnObject,
    /// Absent, empty, or neither a string nor a finite number.
    UserId,
    UserIdTooLong {
        chars_max: u32,
    },
    UserInfoTooLarge {
        bytes_max: u32,
    },
}

impl MemberError {
    pub fn is_limit(self) -> bool {
        matches!(
            self,
            Self::UserIdTooLong { .. } | Self::UserInfoTooLarge { .. }
        )
    }
}

impl fmt::Display for MemberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("channel_data must be a JSON object"),
            Self::UserId => {
                f.write_str("channel_data must have a user_id, a non-empty string or a number")
            }
            Self::UserIdTooLong { chars_max } => {
                write!(f, "user_id must not exceed {chars_max} characters")
            }
            Self::UserInfoTooLarge { bytes_max } => {
                write!(f, "user_info must not exceed {bytes_max} bytes")
            }
        }
    }
}

/// A number as the clients of the channel print it. Integers keep their digits, however many;
/// others are printed as JavaScript would a number of that size, since pusher-js looks itself up
/// in the roster by the text of the number that its own auth response held: 1.0 is "1".
fn decimal_text(number: &str) -> Result<Cow<'_, str>, MemberError> {
    if !number.contains(['.', 'e', 'E']) {
        return Ok(Cow::Borrowed(number));
    }
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Cow::Owned(value.to_string())),
        _ => Err(MemberError::UserId),
    }
}

/// A member as a roster holds it: `\"u1\":{\"name\":\"Ann\"}`, escaped once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterPiece {
    text: Box<[u8]>,
    /// Bytes of the id with its quotes; a colon follows it.
    id_bytes: u32,
}

impl RosterPiece {
    /// `user_info` is JSON text.
    pub fn new(user_id: &str, user_info: &str) -> Self {
        let mut text = Vec::with_capacity(user_id.len() + user_info.len() + 16);
        escape::write_nested_string(&mut text, user_id);
        let id_bytes = text
            .len()
            .try_into()
            .expect("an id has 128 characters at most");
        text.push(b':');
        escape::write_contents(&mut text, user_info);
        Self {
            text: text.into_boxed_slice(),
            id_bytes,
        }
    }

    /// The id: `\"u1\"`.
    pub fn id(&self) -> &[u8] {
        &self.text[..self.id_bytes as usize]
    }

    /// The info: `{\"name\":\"Ann\"}`.
    pub fn info(&self) -> &[u8] {
        &self.text[self.id_bytes as usize + 1..]
    }

    /// The member of `hash`: id, colon, info.
    pub fn entry(&self) -> &[u8] {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn parse(channel_data: &str) -> Result<(String, &str), MemberError> {
        let member = Member::parse(channel_data, MemberLimits::default())?;
        Ok((member.user_id.into_owned(), member.user_info))
    }

    #[test]
    fn user_ids_are_strings_or_the_decimal_text_of_numbers() {
        for (channel_data, user_id) in [
            (r#"{"user_id":"u1"}"#, "u1"),
            (r#"{"user_id":"10"}"#, "10"),
            (r#"{"user_id":10}"#, "10"),
            (r#"{"user_id":0}"#, "0"),
            (r#"{"user_id":-7}"#, "-7"),
            (
                r#"{"user_id":12345678901234567890123}"#,
                "12345678901234567890123",
            ),
            (r#"{"user_id":1.0}"#, "1"),
            (r#"{"user_id":1.5}"#, "1.5"),
            (r#"{"user_id":1e3}"#, "1000"),
            (r#"{"user_id":25E-2}"#, "0.25"),
            (r#"{"user_id":" "}"#, " "),
            (r#"{"user_id":"a:b \u00e9\"\n"}"#, "a:b \u{e9}\"\n"),
            (r#"{"user_id":"a","user_id":"b"}"#, "b"),
            (r#"{"user\u005fid":"a"}"#, "a"),
            ("\t{ \"user_id\" : \"a\" }\n", "a"),
        ] {
            assert_eq!(
                parse(channel_data),
                Ok((user_id.to_owned(), "{}")),
                "{channel_data}"
            );
        }
    }

    #[test]
    fn other_channel_data_is_refused() {
        use MemberError::*;
        for (channel_data, error) in [
            ("", NotAnObject),
            ("u1", NotAnObject),
            ("null", NotAnObject),
            ("[]", NotAnObject),
            (r#""{}""#, NotAnObject),
            (r#"{"user_id":"u1"} x"#, NotAnObject),
            (r#"{"user_id":"u1""#, NotAnObject),
            (r#"{"user_id":"\ud800"}"#, NotAnObject),
            ("{}", UserId),
            (r#"{"user_id":null}"#, UserId),
            (r#"{"user_id":""}"#, UserId),
            (r#"{"user_id":true}"#, UserId),
            (r#"{"user_id":{}}"#, UserId),
            (r#"{"user_id":["u1"]}"#, UserId),
            (r#"{"user_id":1e400}"#, UserId),
            (r#"{"user_id":1e300}"#, UserIdTooLong { chars_max: 128 }),
            (r#"{"user_id":"a","user_id":null}"#, UserId),
            (r#"{"id":"u1"}"#, UserId),
        ] {
            assert_eq!(parse(channel_data), Err(error), "{channel_data}");
        }
    }

    #[test]
    fn user_info_is_kept_byte_for_byte() {
        for info in [
            "{}",
            r#"{"name":"Ann"}"#,
            r#"{ "n" : 1.0, "big":12345678901234567890, "u":"\u00e9\/" }"#,
            "[]",
            r#""text""#,
            "1e400",
            "false",
            "{\"nested\":{\"\u{1f600}\":[1,2]}}",
        ] {
            let channel_data = format!(r#"{{"user_info":{info},"user_id":"u"}}"#);
            assert_eq!(parse(&channel_data), Ok(("u".to_owned(), info)));
        }
        assert_eq!(
            parse(r#"{"user_id":"u","user_info":null}"#),
            Ok(("u".to_owned(), "{}"))
        );
    }

    #[test]
    fn limits_are_inclusive_and_ids_are_counted_in_characters() {
        let with_id = |id: &str| parse(&format!(r#"{{"user_id":"{id}"}}"#)).map(|_| ());
        assert_eq!(with_id(&"\u{e9}".repeat(128)), Ok(()));
        assert_eq!(
            with_id(&"\u{e9}".repeat(129)),
            Err(MemberError::UserIdTooLong { chars_max: 128 })
        );
        let with_info = |bytes: usize| {
            let info = "a".repeat(bytes - 2);
            parse(&format!(r#"{{"user_id":"u","user_info":"{info}"}}"#)).map(|_| ())
        };
        let bytes_max = 2048;
        assert_eq!(with_info(2048), Ok(()));
        assert_eq!(
            with_info(2049),
            Err(MemberError::UserInfoTooLarge { bytes_max })
        );
    }

    #[test]
    fn limits_may_be_others_and_only_they_are_limits() {
        let limits = MemberLimits {
            user_id_chars_max: 2,
            user_info_bytes_max: 4,
        };
        let new = |id: &'static str, info| Member::new(id.into(), info, limits).map(|_| ());
        assert_eq!(new("\u{e9}\u{e9}", "null"), Ok(()));
        assert!(new("abc", "{}").unwrap_err().is_limit());
        assert!(new("a", "false").unwrap_err().is_limit());
        assert!(!new("", "{}").unwrap_err().is_limit());
    }

    #[test]
    fn a_roster_piece_is_escaped_once() {
        let piece = RosterPiece::new("u\"1", r#"{"name":"A\n\"n\""}"#);
        assert_eq!(piece.id(), br#"\"u\\\"1\""#);
        assert_eq!(piece.info(), br#"{\"name\":\"A\\n\\\"n\\\"\"}"#);
        assert_eq!(piece.entry(), [piece.id(), b":", piece.info()].concat());
    }

    #[test]
    fn arbitrary_channel_data_makes_pieces_that_decode_to_it() {
        let mut random = Seed::new(10);
        let vocabulary = br#"{"user_id":"u1\u00e9\n","user_info":{"name":"Mr. P"},"x":[1.0e3]}"#;
        for _ in 0..4_000 {
            fuzz_member(&random.mixture(vocabulary, 100));
            fuzz_member(&[&vocabulary[..20], &random.mixture(vocabulary, 30), b"}"].concat());
        }
        fuzz_member(vocabulary);
    }

    pub(crate) fn fuzz_member(data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let Ok(member) = Member::parse(text, MemberLimits::default()) else {
            return;
        };
        let piece = RosterPiece::new(&member.user_id, member.user_info);
        let decode = |piece: &[u8]| -> String {
            serde_json::from_slice(&[b"\"", piece, b"\""].concat()).unwrap()
        };
        assert_eq!(
            serde_json::from_str::<String>(&decode(piece.id())).unwrap(),
            member.user_id
        );
        assert_eq!(decode(piece.info()), member.user_info);
    }
}
