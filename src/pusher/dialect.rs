//! The two prefixes of platform events: `pusher:` and, for `protocol=2`, `sockudo:` (extensions
//! spec 1).
//!
//! Everything is written and understood in Pusher's words; this file translates at the edge, in one
//! place for each direction, so that no event can be forgotten. Application events have no prefix
//! and are never touched: no publisher can send one whose name begins with `pusher:`, and names of
//! clients begin with `client-`.

/// Which prefix a connection's platform events have, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    #[default]
    Pusher,
    /// The clients of Sockudo's V2 protocol.
    Sockudo,
}

/// How the text of a platform event begins, up to where the dialects differ.
const OPENING: &[u8] = br#"{"event":""#;
const PUSHER: &[u8] = b"pusher";
const SOCKUDO: &[u8] = b"sockudo";

impl Dialect {
    /// A client's event without the prefix; `None` where it does not have this dialect's.
    pub fn command(self, event: &str) -> Option<&str> {
        event.strip_prefix(match self {
            Self::Pusher => "pusher:",
            Self::Sockudo => "sockudo:",
        })
    }

    /// Puts the text of a platform event, which begins at `start`, into this dialect. Anything else
    /// stays as it is.
    pub fn translate(self, out: &mut Vec<u8>, start: usize) {
        if self == Self::Sockudo && is_platform(&out[start..]) {
            let name = start + OPENING.len();
            out.splice(name..name + PUSHER.len(), SOCKUDO.iter().copied());
        }
    }
}

/// Whether a text that the server sends is an event of the platform, in Pusher's words.
pub fn is_platform(text: &[u8]) -> bool {
    let name = text.strip_prefix(OPENING);
    name.and_then(|name| name.strip_prefix(PUSHER))
        .is_some_and(|rest| rest.starts_with(b":") || rest.starts_with(b"_internal:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(dialect: Dialect, text: &str) -> String {
        let mut out = b"before".to_vec();
        out.extend_from_slice(text.as_bytes());
        dialect.translate(&mut out, 6);
        String::from_utf8(out).unwrap().split_off(6)
    }

    #[test]
    fn platform_events_change_their_prefix_and_nothing_else() {
        for (pusher, sockudo) in [
            (
                r#"{"event":"pusher:pong","data":"{}"}"#,
                r#"{"event":"sockudo:pong","data":"{}"}"#,
            ),
            (
                r#"{"event":"pusher_internal:member_added","channel":"pusher:x","data":"pusher:"}"#,
                r#"{"event":"sockudo_internal:member_added","channel":"pusher:x","data":"pusher:"}"#,
            ),
        ] {
            assert_eq!(translated(Dialect::Sockudo, pusher), sockudo);
            assert_eq!(translated(Dialect::Pusher, pusher), pusher);
            assert!(is_platform(pusher.as_bytes()));
        }
    }

    #[test]
    fn other_events_stay_as_they_are() {
        for text in [
            r#"{"event":"price","channel":"news","data":"pusher:"}"#,
            r#"{"event":"pusher","channel":"news","data":""}"#,
            r#"{"event":"pusherx:ping"}"#,
            r#"{"event":"client-pusher:"}"#,
            "",
        ] {
            assert_eq!(translated(Dialect::Sockudo, text), text);
            assert!(!is_platform(text.as_bytes()));
        }
    }

    #[test]
    fn a_command_has_the_prefix_of_its_dialect() {
        assert_eq!(Dialect::Pusher.command("pusher:ping"), Some("ping"));
        assert_eq!(Dialect::Sockudo.command("sockudo:ping"), Some("ping"));
        for event in [
            "ping",
            "sockudo_internal:x",
            "pusher_internal:x",
            "client-x",
            "",
        ] {
            assert_eq!(Dialect::Pusher.command(event), None);
            assert_eq!(Dialect::Sockudo.command(event), None);
        }
        assert_eq!(Dialect::Pusher.command("sockudo:ping"), None);
        assert_eq!(Dialect::Sockudo.command("pusher:ping"), None);
    }
}
