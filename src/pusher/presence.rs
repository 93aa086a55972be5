//! Members of presence channels: `channel_data` into a member, and a member as a piece of a roster.
//!
//! Does not keep rosters and does not check signatures: `channel_data` has been verified before it
//! comes here. `user_info` is opaque JSON whose text is kept byte for byte.
//!
//! Invariant: a [`RosterPiece`] is escaped once, ready for a `data` string, so that a roster of any
//! size is written by copying (decisions 34).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use super::escape;

/// Longest user id of a member (WebSocket spec 10.1), in characters.
pub const MEMBER_ID_CHARS_MAX: usize = 128;
/// Default limit of `user_info` (WebSocket spec 18), in bytes of its JSON text.
pub const USER_INFO_BYTES_MAX: usize = 2 * 1024;
/// What is shown for a member without `user_info`.
pub const USER_INFO_ABSENT: &str = "{}";

/// Who a subscriber of a presence channel is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member<'a> {
    /// 1 to [`MEMBER_ID_CHARS_MAX`] characters, not limited to the channel alphabet.
    pub user_id: Cow<'a, str>,
    /// JSON text as it was sent, [`USER_INFO_ABSENT`] where it was not or was `null`.
    pub user_info: &'a str,
}

impl<'a> Member<'a> {
    /// Reads `channel_data`. Numbers become their decimal text, so that 10 and "10" are one user.
    pub fn parse(channel_data: &'a str, user_info_bytes_max: usize) -> Result<Self, MemberError> {
        let object: BTreeMap<Cow<'a, str>, &'a RawValue> =
            serde_json::from_str(channel_data).map_err(|_| MemberError::NotAnObject)?;
        let user_id = object.get("user_id").ok_or(MemberError::UserId)?.get();
        let user_id = match user_id.as_bytes()[0] {
            b'"' => serde_json::from_str(user_id).map_err(|_| MemberError::UserId)?,
            b'-' | b'0'..=b'9' => decimal_text(user_id)?,
            _ => return Err(MemberError::UserId),
        };
        let user_info = match object.get("user_info").map(|info| info.get()) {
            None | Some("null") => USER_INFO_ABSENT,
            Some(info) => info,
        };
        Self::new(user_id, user_info, user_info_bytes_max)
    }

    /// A member whose parts are known, as those of a signed-in user; the limits apply all the same.
    pub fn new(
        user_id: Cow<'a, str>,
        user_info: &'a str,
        user_info_bytes_max: usize,
    ) -> Result<Self, MemberError> {
        if user_id.is_empty() {
            return Err(MemberError::UserId);
        }
        if user_id.chars().nth(MEMBER_ID_CHARS_MAX).is_some() {
            return Err(MemberError::UserIdTooLong);
        }
        if user_info.len() > user_info_bytes_max {
            let bytes_max = user_info_bytes_max.try_into().unwrap_or(u32::MAX);
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
    UserIdTooLong,
    UserInfoTooLarge {
        bytes_max: u32,
    },
}

impl MemberError {
    pub fn is_limit(self) -> bool {
        matches!(self, Self::UserIdTooLong | Self::UserInfoTooLarge { .. })
    }
}

impl fmt::Display for MemberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("channel_data must be a JSON object"),
            Self::UserId => {
                f.write_str("channel_data must have a user_id, a non-empty string or a number")
            }
            Self::UserIdTooLong => {
                write!(
                    f,
                    "user_id must not exceed {MEMBER_ID_CHARS_MAX} characters"
                )
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
