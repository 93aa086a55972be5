//! Channel names and what their prefix says; user ids of sign-in.
//!
//! The kind of a channel and whether it caches are two independent properties, both decided by
//! literal prefixes, longest first (WebSocket spec 6.1): `private-cache-x` is as private as
//! `private-x`, and `room-cache-1` caches nothing. Nothing is normalised or decoded here.
//!
//! Invariant: a [`ChannelName`] has only characters of the alphabet, so it holds no `:` (the signed
//! strings of WebSocket spec 7.2 are colon-joined) and nothing that JSON would escape.

use std::fmt;

/// Longest user id of a sign-in and of `#server-to-user-` channels (WebSocket spec 14).
pub const USER_ID_CHARS_MAX: usize = 200;

/// What precedes the id in the name of a user's channel.
pub const USER_CHANNEL_PREFIX: &str = "#server-to-user-";

/// Kind and cache property by prefix. Longest first, so that the first match is the answer.
const PREFIXES: [(&str, ChannelKind, bool); 7] = [
    ("private-encrypted-cache-", ChannelKind::Encrypted, true),
    ("private-encrypted-", ChannelKind::Encrypted, false),
    ("presence-cache-", ChannelKind::Presence, true),
    ("private-cache-", ChannelKind::Private, true),
    ("presence-", ChannelKind::Presence, false),
    ("private-", ChannelKind::Private, false),
    ("cache-", ChannelKind::Public, true),
];

/// Who may subscribe, and what else the channel carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChannelKind {
    Public,
    Private,
    /// Private; its payloads are unreadable to us and are passed through.
    Encrypted,
    /// Private, with a roster of members.
    Presence,
    /// `#server-to-user-<id>`: the events of a signed-in user (WebSocket spec 15).
    User,
}

impl ChannelKind {
    pub const ALL: [Self; 5] = [
        Self::Public,
        Self::Private,
        Self::Encrypted,
        Self::Presence,
        Self::User,
    ];

    /// The kind of a name that has been found valid before.
    pub fn of(name: &str) -> Self {
        match name.starts_with(USER_CHANNEL_PREFIX) {
            true => Self::User,
            false => by_prefix(name).0,
        }
    }

    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Encrypted => "encrypted",
            Self::Presence => "presence",
            Self::User => "user",
        }
    }

    /// Whether a subscribe must carry a signature.
    pub fn requires_auth(self) -> bool {
        matches!(self, Self::Private | Self::Encrypted | Self::Presence)
    }

    /// Whether subscribers may send `client-` events (WebSocket spec 12.1).
    pub fn accepts_client_events(self) -> bool {
        self.requires_auth()
    }

    /// Whether the frames and webhooks of subscription counts exist for it (WebSocket spec 17).
    pub fn announces_subscription_count(self) -> bool {
        !matches!(self, Self::Presence | Self::User)
    }
}

/// A valid name of a channel that can be subscribed or published to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChannelName<'a> {
    name: &'a str,
    kind: ChannelKind,
    cache: bool,
}

impl<'a> ChannelName<'a> {
    /// Checks a name. `chars_max` is the app's limit, prefix included; it does not apply to
    /// `#server-to-user-<id>`, where the id has its own (WebSocket spec 6.2).
    pub fn parse(name: &'a str, chars_max: usize) -> Result<Self, NameError> {
        if let Some(user_id) = name.strip_prefix(USER_CHANNEL_PREFIX) {
            UserId::parse(user_id)?;
            return Ok(Self {
                name,
                kind: ChannelKind::User,
                cache: false,
            });
        }
        if name.starts_with('#') {
            return Err(NameError::Reserved);
        }
        check_text(name, chars_max)?;
        let (kind, cache) = by_prefix(name);
        Ok(Self { name, kind, cache })
    }

    pub fn as_str(self) -> &'a str {
        self.name
    }

    pub fn kind(self) -> ChannelKind {
        self.kind
    }

    /// Whether the last published event is kept for newcomers.
    pub fn is_cache(self) -> bool {
        self.cache
    }

    pub fn is_presence(self) -> bool {
        self.kind == ChannelKind::Presence
    }

    /// The user that a `#server-to-user-` channel belongs to.
    pub fn user_id(self) -> Option<UserId<'a>> {
        self.name.strip_prefix(USER_CHANNEL_PREFIX).map(UserId)
    }
}

/// Kind and cache property of a name that is no user's channel.
fn by_prefix(name: &str) -> (ChannelKind, bool) {
    PREFIXES
        .iter()
        .find(|(prefix, ..)| name.starts_with(prefix))
        .map_or((ChannelKind::Public, false), |&(_, kind, cache)| {
            (kind, cache)
        })
}

impl fmt::Display for ChannelName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The id of a user who signs in: 1 to [`USER_ID_CHARS_MAX`] characters of the channel alphabet.
/// Ids of presence members are freer, see `presence`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UserId<'a>(&'a str);

impl<'a> UserId<'a> {
    pub fn parse(id: &'a str) -> Result<Self, NameError> {
        check_text(id, USER_ID_CHARS_MAX)?;
        Ok(Self(id))
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The channel on which the events of this user are sent.
    pub fn channel_name(self) -> String {
        [USER_CHANNEL_PREFIX, self.0].concat()
    }
}

/// Why a channel name or a user id was refused. Its text names the rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    Empty,
    TooLong {
        chars_max: u32,
    },
    Character,
    /// Begins with `#` and is not a user channel: 403 over HTTP (HTTP spec 4.1), 400 elsewhere.
    Reserved,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("must not be empty"),
            Self::TooLong { chars_max } => write!(f, "must not exceed {chars_max} characters"),
            Self::Character => f.write_str("may only contain A-Z a-z 0-9 _ - = @ , . ;"),
            Self::Reserved => f.write_str("is of a reserved type"),
        }
    }
}

/// One pass over the bytes: the alphabet is ASCII, so bytes are characters as soon as it holds.
fn check_text(text: &str, chars_max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > chars_max {
        return Err(NameError::TooLong {
            chars_max: chars_max.try_into().unwrap_or(u32::MAX),
        });
    }
    if !text.bytes().all(|byte| ALPHABET[usize::from(byte)]) {
        return Err(NameError::Character);
    }
    Ok(())
}

const ALPHABET: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        allowed[byte] = b.is_ascii_alphanumeric()
            || matches!(b, b'_' | b'-' | b'=' | b'@' | b',' | b'.' | b';');
        byte += 1;
    }
    allowed
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    const CHARS_MAX: usize = 200;

    fn parse(name: &str) -> Result<ChannelName<'_>, NameError> {
        ChannelName::parse(name, CHARS_MAX)
    }

    #[test]
    fn the_prefix_decides_kind_and_cache_independently() {
        use ChannelKind::*;
        for (name, kind, cache) in [
            ("news", Public, false),
            ("cache-news", Public, true),
            ("cache-", Public, true),
            ("cache", Public, false),
            ("room-cache-1", Public, false),
            ("Cache-x", Public, false),
            ("private-a", Private, false),
            ("private-", Private, false),
            ("private", Public, false),
            ("privatefoo", Public, false),
            ("Private-x", Public, false),
            ("private-cache-a", Private, true),
            ("private-cache", Private, false),
            ("private-mycache-x", Private, false),
            ("private-encrypted-a", Encrypted, false),
            ("private-encrypted", Private, false),
            ("private-encrypted-cache-a", Encrypted, true),
            ("private-encrypted-cache", Encrypted, false),
            ("private-cache-encrypted-a", Private, true),
            ("presence-a", Presence, false),
            ("presence-", Presence, false),
            ("presence", Public, false),
            ("presence-cache-a", Presence, true),
            ("presence-encrypted-a", Presence, false),
            ("cache-private-a", Public, true),
            ("#server-to-user-u1", User, false),
            ("#server-to-user-cache-u1", User, false),
        ] {
            let channel = parse(name).unwrap();
            assert_eq!(
                (channel.kind(), channel.is_cache()),
                (kind, cache),
                "{name}"
            );
            assert_eq!((channel.as_str(), ChannelKind::of(name)), (name, kind));
        }
    }

    #[test]
    fn no_prefix_is_hidden_behind_a_shorter_one() {
        for (i, (earlier, ..)) in PREFIXES.iter().enumerate() {
            for (later, ..) in &PREFIXES[i + 1..] {
                assert!(!later.starts_with(earlier), "{later} is never reached");
            }
        }
    }

    #[test]
    fn what_a_kind_allows() {
        use ChannelKind::*;
        for (kind, auth, client_events, counts) in [
            (Public, false, false, true),
            (Private, true, true, true),
            (Encrypted, true, true, true),
            (Presence, true, true, false),
            (User, false, false, false),
        ] {
            assert_eq!(kind.requires_auth(), auth, "{kind:?}");
            assert_eq!(kind.accepts_client_events(), client_events, "{kind:?}");
            assert_eq!(kind.announces_subscription_count(), counts, "{kind:?}");
        }
    }

    #[test]
    fn the_alphabet_is_these_69_characters() {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=@,.;";
        for code in 0..=0x2ff {
            let character = char::from_u32(code).unwrap();
            let name = format!("a{character}");
            let expected = if alphabet.contains(character) {
                Ok(name.as_str())
            } else {
                Err(NameError::Character)
            };
            assert_eq!(parse(&name).map(ChannelName::as_str), expected, "{code:#x}");
        }
    }

    #[test]
    fn length_limits_are_inclusive() {
        assert_eq!(parse(""), Err(NameError::Empty));
        assert!(parse(&"a".repeat(200)).is_ok());
        assert_eq!(
            parse(&"a".repeat(201)),
            Err(NameError::TooLong { chars_max: 200 })
        );
        assert_eq!(
            parse(&format!("private-{}", "a".repeat(193))).map(|_| ()),
            { Err(NameError::TooLong { chars_max: 200 }) }
        );
        assert!(ChannelName::parse("abc", 3).is_ok());
        assert_eq!(
            ChannelName::parse("abc", 2),
            Err(NameError::TooLong { chars_max: 2 })
        );
    }

    #[test]
    fn a_user_channel_is_bounded_by_its_id_alone() {
        let longest = format!("#server-to-user-{}", "u".repeat(200));
        assert_eq!(
            ChannelName::parse(&longest, 10)
                .unwrap()
                .user_id()
                .unwrap()
                .as_str()
                .len(),
            200
        );
        assert_eq!(
            parse(&format!("#server-to-user-{}", "u".repeat(201))),
            Err(NameError::TooLong { chars_max: 200 })
        );
        assert_eq!(parse("#server-to-user-"), Err(NameError::Empty));
        assert_eq!(parse("#server-to-user-a#b"), Err(NameError::Character));
        assert_eq!(parse("#server-to-user-a:b"), Err(NameError::Character));
        assert_eq!(
            UserId::parse("u1").unwrap().channel_name(),
            "#server-to-user-u1"
        );
        assert_eq!(parse("news").unwrap().user_id(), None);
    }

    #[test]
    fn other_names_with_a_hash_are_reserved() {
        for name in ["#", "#x", "#server-to-user", "#Server-to-user-u1", "#a b"] {
            assert_eq!(parse(name), Err(NameError::Reserved), "{name}");
        }
    }

    #[test]
    fn arbitrary_text_gives_only_names_that_need_no_escape() {
        let mut random = Seed::new(6);
        for _ in 0..4_000 {
            fuzz_channel_name(
                random
                    .text(b"private-cache-presence-#:\"\\ \xc3\xa9", 30)
                    .as_bytes(),
            );
        }
    }

    pub(crate) fn fuzz_channel_name(data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        if let Ok(channel) = parse(text) {
            assert!(!text.contains([':', '"', '\\', ' ', '/']) && text.is_ascii());
            assert_eq!(
                channel.user_id().is_some(),
                channel.kind() == ChannelKind::User
            );
            assert!(channel.kind() == ChannelKind::User || text.len() <= CHARS_MAX);
        }
    }
}
