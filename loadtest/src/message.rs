//! Messages of the protocol, as far as scenarios send and tell them apart.
//!
//! Messages of a server are known by the names in them, whatever the order of their members and
//! however they are escaped: this program is no judge of form.

use std::io;

use memchr::memmem;

use crate::frame::{self, Opcode};

/// What a message without a stamp says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice<'a> {
    Greeting {
        socket_id: &'a str,
    },
    /// With the number of members, on a presence channel.
    Subscribed {
        members: Option<u32>,
    },
    MemberAdded,
    MemberRemoved,
    Ping,
    Pong,
    /// What the server says is wrong.
    Error(String),
    Other,
}

/// Reads a message of a server.
pub(crate) fn notice(payload: &[u8]) -> Notice<'_> {
    let has = |name: &[u8]| memmem::find(payload, name).is_some();
    if has(b"pusher_internal:subscription_succeeded") {
        let members = digits_behind(payload, b"\"count\"").and_then(|digits| digits.parse().ok());
        return Notice::Subscribed { members };
    }
    if has(b"pusher_internal:member_added") {
        return Notice::MemberAdded;
    }
    if has(b"pusher_internal:member_removed") {
        return Notice::MemberRemoved;
    }
    if has(b"pusher:connection_established") {
        let socket_id = digits_behind(payload, b"\"socket_id\"").unwrap_or_default();
        return Notice::Greeting { socket_id };
    }
    if has(b"pusher:ping") {
        return Notice::Ping;
    }
    if has(b"pusher:pong") {
        return Notice::Pong;
    }
    if has(b"pusher:error") || has(b"pusher:subscription_error") {
        return Notice::Error(readable(payload));
    }
    Notice::Other
}

/// What a Close says.
pub(crate) fn closed(payload: &[u8]) -> io::Error {
    let code = match payload {
        [a, b, ..] => u16::from_be_bytes([*a, *b]),
        _ => 1005,
    };
    let reason = readable(payload.get(2..).unwrap_or_default());
    io::Error::other(format!("closed with {code}: {reason}"))
}

/// What a server says, as it may be shown: some of it, and nothing that a terminal obeys.
pub(crate) fn readable(bytes: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 200;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * CHARACTERS_MAX)]);
    let mut shown = String::new();
    for (at, character) in text.trim().chars().enumerate() {
        match character {
            _ if at == CHARACTERS_MAX => return shown + "..",
            character if character.is_control() => shown.push('\u{fffd}'),
            character => shown.push(character),
        }
    }
    shown
}

/// Digits and dots behind a quoted name, whose quotes may be escaped.
fn digits_behind<'a>(payload: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let bare = &name[1..name.len() - 1];
    let mut rest = &payload[memmem::find(payload, bare)? + bare.len()..];
    while let [b'"' | b'\\' | b':' | b' ', behind @ ..] = rest {
        rest = behind;
    }
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let end = rest
        .iter()
        .position(|byte| !is_part(byte))
        .unwrap_or(rest.len());
    let digits = std::str::from_utf8(&rest[..end]).ok()?;
    (!digits.is_empty()).then_some(digits)
}

/// Appends a message that subscribes. `auth` for private and presence channels; `data` for the
/// latter, which is JSON.
pub(crate) fn subscribe(channel: &str, auth: Option<&str>, data: Option<&str>, out: &mut Vec<u8>) {
    let auth = auth.unwrap_or_default();
    let data = match data {
        Some(data) => format!(r#","channel_data":{}"#, serde_json::Value::from(data)),
        None => String::new(),
    };
    let message = format!(
        r#"{{"event":"pusher:subscribe","data":{{"auth":"{auth}"{data},"channel":"{channel}"}}}}"#
    );
    frame::encode(Opcode::Text, message.as_bytes(), out);
}

/// Appends a message that unsubscribes.
pub(crate) fn unsubscribe(channel: &str, out: &mut Vec<u8>) {
    let message = format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{channel}"}}}}"#);
    frame::encode(Opcode::Text, message.as_bytes(), out);
}

/// Appends a client event; `data` needs no escaping.
pub(crate) fn client_event(channel: &str, data: &str, out: &mut Vec<u8>) {
    let message = format!(r#"{{"event":"client-load","channel":"{channel}","data":"{data}"}}"#);
    frame::encode(Opcode::Text, message.as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_servers_are_told_apart() {
        let socket_id = "12.34";
        for (text, expected) in [
            (
                r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"12.34\",\"activity_timeout\":120}"}"#,
                Notice::Greeting { socket_id },
            ),
            (
                r#"{"data":"{\"activity_timeout\":120, \"socket_id\": \"12.34\"}","event":"pusher:connection_established"}"#,
                Notice::Greeting { socket_id },
            ),
            (
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"a","data":"{}"}"#,
                Notice::Subscribed { members: None },
            ),
            (
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-a","data":"{\"presence\":{\"count\":17,\"ids\":[]}}"}"#,
                Notice::Subscribed { members: Some(17) },
            ),
            (r#"{"event":"pusher:pong","data":"{}"}"#, Notice::Pong),
            (r#"{"event":"pusher:ping","data":"{}"}"#, Notice::Ping),
            (
                r#"{"event":"pusher_internal:member_added"}"#,
                Notice::MemberAdded,
            ),
            (r#"{"event":"something"}"#, Notice::Other),
            ("", Notice::Other),
        ] {
            assert_eq!(notice(text.as_bytes()), expected, "{text}");
        }
        let error = r#"{"event":"pusher:error","data":{"code":4301,"message":"no"}}"#;
        assert_eq!(notice(error.as_bytes()), Notice::Error(error.to_owned()));
    }

    #[test]
    fn what_a_server_says_commands_no_terminal_and_fills_no_screen() {
        assert_eq!(readable(b" no\x1b[2J\r\n"), "no\u{fffd}[2J");
        assert_eq!(readable(&[b'x'; 1_000_000]).len(), 202);
        let error = closed(b"\x10\x04slow").to_string();
        assert_eq!(error, "closed with 4100: slow");
        assert_eq!(closed(b"").to_string(), "closed with 1005: ");
    }

    #[test]
    fn member_data_is_escaped() {
        let mut out = Vec::new();
        subscribe(
            "presence-a",
            Some("k:s"),
            Some(r#"{"user_id":"1"}"#),
            &mut out,
        );
        let (_, text, _) = frame::parse_masked(&mut out).unwrap().unwrap();
        assert_eq!(
            std::str::from_utf8(text).unwrap(),
            r#"{"event":"pusher:subscribe","data":{"auth":"k:s","channel_data":"{\"user_id\":\"1\"}","channel":"presence-a"}}"#
        );
    }
}
