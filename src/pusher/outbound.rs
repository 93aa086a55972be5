//! Every event that the server sends, written as JSON text in one pass.
//!
//! Functions append to a buffer; [`write_text_frame`] puts the WebSocket header before what one of
//! them wrote. Members come in the order event, channel, data, user_id (WebSocket spec 2), absent
//! ones are left out, and `data` is a string except where table 2.1 there says object. Nothing here
//! decides who is told; messages of errors come from `error`.
//!
//! Invariant: what a call appends is one complete JSON object in UTF-8, given valid tokens.

use std::fmt::{Display, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::delta::Algorithm;
use super::error::SubscriptionError;
use super::escape::{self, Depth, Escaping};
use super::filter::TagSet;
use super::json::{self, StringSource, Token};
use super::presence::RosterPiece;
use super::socket_id::SocketId;

/// Appends one unmasked text frame whose payload is what `build` appends.
///
/// Room for the common header of 4 bytes is left in front; a payload below 126 bytes moves down by
/// 2, one of 64 KiB or more moves up by 6. There is no second buffer.
pub fn write_text_frame(out: &mut Vec<u8>, build: impl FnOnce(&mut Vec<u8>)) {
    const FIN_TEXT: u8 = 0x81;
    let start = out.len();
    out.extend_from_slice(&[FIN_TEXT, 126, 0, 0]);
    let payload_start = out.len();
    build(out);
    let payload_bytes = out.len() - payload_start;
    if payload_bytes < 126 {
        out[start + 1] = payload_bytes as u8;
        out.drain(start + 2..payload_start);
    } else if let Ok(length) = u16::try_from(payload_bytes) {
        out[start + 2..payload_start].copy_from_slice(&length.to_be_bytes());
    } else {
        out[start + 1] = 127;
        let length = (payload_bytes as u64).to_be_bytes();
        out.splice(start + 2..payload_start, length);
    }
}

/// A published or client event. Tokens of `name` and `data` are copied as they are; `user_id` only
/// for client events on presence channels.
pub fn event(
    out: &mut Vec<u8>,
    name: StringSource<'_>,
    channel: &str,
    data: StringSource<'_>,
    user_id: Option<&str>,
) {
    out.extend_from_slice(br#"{"event":"#);
    write_source(out, name);
    out.extend_from_slice(br#","channel":"#);
    escape::write_string(out, channel);
    out.extend_from_slice(br#","data":"#);
    write_source(out, data);
    if let Some(user_id) = user_id {
        out.extend_from_slice(br#","user_id":"#);
        escape::write_string(out, user_id);
    }
    out.push(b'}');
}

/// The text of an event with its tags as a last member (extensions spec 2.3).
pub fn event_with_tags(out: &mut Vec<u8>, event: &[u8], tags: &TagSet) {
    open_end(out, event);
    out.extend_from_slice(br#","tags":{"#);
    for (index, (key, value)) in tags.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        escape::write_string(out, key);
        out.push(b':');
        escape::write_string(out, value);
    }
    out.extend_from_slice(b"}}");
}

/// The text of an event with its place in a stream of deltas as its last members (extensions
/// spec 3.2). Bases are texts without them, so nothing may follow.
pub fn event_in_stream(out: &mut Vec<u8>, event: &[u8], seq: u64, conflation_key: Option<&str>) {
    open_end(out, event);
    out.extend_from_slice(br#","__delta_seq":"#);
    write_number(out, seq);
    if let Some(key) = conflation_key {
        out.extend_from_slice(br#","__conflation_key":"#);
        write_without_inner_quotes(out, key);
    }
    out.push(b'}');
}

/// An event as its difference from an earlier one of the same stream.
#[derive(Clone, Copy, Debug)]
pub struct DeltaEvent<'a> {
    pub name: StringSource<'a>,
    pub channel: &'a str,
    /// Bytes of the algorithm's format.
    pub delta: &'a [u8],
    pub seq: u64,
    /// The `seq` of the message that the delta is applied to.
    pub base: u64,
    pub algorithm: Algorithm,
    /// Where the channel has conflation keys.
    pub conflation_key: Option<&'a str>,
}

/// `pusher:delta`; `data` is an object.
pub fn delta(out: &mut Vec<u8>, event: &DeltaEvent<'_>) {
    out.extend_from_slice(br#"{"event":"pusher:delta","channel":"#);
    escape::write_string(out, event.channel);
    out.extend_from_slice(br#","data":{"event":"#);
    write_source(out, event.name);
    out.extend_from_slice(br#","delta":""#);
    write_base64(out, event.delta);
    out.extend_from_slice(br#"","seq":"#);
    write_number(out, event.seq);
    out.extend_from_slice(br#","base_index":"#);
    write_number(out, event.base);
    out.extend_from_slice(br#","algorithm":""#);
    out.extend_from_slice(event.algorithm.name().as_bytes());
    out.push(b'"');
    if let Some(key) = event.conflation_key {
        out.extend_from_slice(br#","conflation_key":"#);
        escape::write_string(out, key);
    }
    out.extend_from_slice(b"}}");
}

/// The answer to a wish for deltas, of a connection or of one subscription; `data` is an object.
/// `None` says that there will be none.
pub fn delta_compression_enabled(
    out: &mut Vec<u8>,
    channel: Option<&str>,
    algorithm: Option<Algorithm>,
) {
    out.extend_from_slice(br#"{"event":"pusher:delta_compression_enabled""#);
    let write_channel = |out: &mut Vec<u8>| {
        if let Some(channel) = channel {
            out.extend_from_slice(br#","channel":"#);
            escape::write_string(out, channel);
        }
    };
    write_channel(out);
    match algorithm {
        Some(algorithm) => {
            out.extend_from_slice(br#","data":{"enabled":true,"algorithm":""#);
            out.extend_from_slice(algorithm.name().as_bytes());
            out.push(b'"');
        }
        None => out.extend_from_slice(br#","data":{"enabled":false"#),
    }
    write_channel(out);
    out.extend_from_slice(b"}}");
}

/// The name in the text of an event: its token, and what that means. `None` for what [`event`] and
/// its like have not written.
pub fn event_name(text: &[u8]) -> Option<Token<'_>> {
    let token = text.strip_prefix(br#"{"event":"#)?;
    let mut end = 1;
    while *token.get(end)? != b'"' {
        end += if token[end] == b'\\' { 2 } else { 1 };
    }
    let token = std::str::from_utf8(token.get(..=end)?).ok()?;
    json::document(token).ok()
}

/// The greeting. `activity_timeout_secs` is at least 1: with 0 pusher-js gives up for good.
pub fn connection_established(out: &mut Vec<u8>, id: SocketId, activity_timeout_secs: u32) {
    out.extend_from_slice(br#"{"event":"pusher:connection_established","data":"{\"socket_id\":\""#);
    out.extend_from_slice(id.text().as_bytes());
    out.extend_from_slice(br#"\",\"activity_timeout\":"#);
    write_number(out, activity_timeout_secs);
    out.extend_from_slice(br#"}"}"#);
}

/// `pusher:error`; `data` is an object, because swift drops a string. `code` absent is `null`.
pub fn error(out: &mut Vec<u8>, code: Option<u16>, message: impl Display) {
    out.extend_from_slice(br#"{"event":"pusher:error","data":{"code":"#);
    match code {
        Some(code) => write_number(out, code),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","message":""#);
    write_escaped(out, Depth::Once, message);
    out.extend_from_slice(br#""}}"#);
}

/// The answer to `pusher:ping`.
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"event":"pusher:pong","data":"{}"}"#);
}

/// A ping at the level of the protocol, where it is configured instead of the one of RFC 6455.
pub fn ping(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"event":"pusher:ping","data":"{}"}"#);
}

/// Success on a channel without a roster.
pub fn subscription_succeeded(out: &mut Vec<u8>, channel: &str) {
    open_channel_event(out, "pusher_internal:subscription_succeeded", channel);
    out.extend_from_slice(br#"{}"}"#);
}

/// Success on a presence channel. `members` are the distinct users, the newcomer included, in the
/// order in which they joined; walked twice.
pub fn subscription_succeeded_presence<'a>(
    out: &mut Vec<u8>,
    channel: &str,
    members: impl Iterator<Item = &'a RosterPiece> + Clone,
) {
    open_channel_event(out, "pusher_internal:subscription_succeeded", channel);
    out.extend_from_slice(br#"{\"presence\":{\"ids\":["#);
    let count = write_joined(out, members.clone().map(RosterPiece::id));
    out.extend_from_slice(br#"],\"hash\":{"#);
    write_joined(out, members.map(RosterPiece::entry));
    out.extend_from_slice(br#"},\"count\":"#);
    write_number(out, count);
    out.extend_from_slice(br#"}}"}"#);
}

/// A refused subscription, for the bindings of the channel object; goes after the `pusher:error`.
pub fn subscription_error(
    out: &mut Vec<u8>,
    channel: &str,
    error: SubscriptionError,
    message: impl Display,
) {
    // Unlike elsewhere the name may be one that was refused for its characters.
    open_channel_event(out, "pusher:subscription_error", channel);
    out.extend_from_slice(br#"{\"type\":\""#);
    out.extend_from_slice(error.kind.as_bytes());
    out.extend_from_slice(br#"\",\"error\":\""#);
    write_escaped(out, Depth::Twice, message);
    out.extend_from_slice(br#"\",\"status\":"#);
    write_number(out, error.status);
    out.extend_from_slice(br#"}"}"#);
}

/// A user's first connection has joined.
pub fn member_added(out: &mut Vec<u8>, channel: &str, member: &RosterPiece) {
    open_channel_event(out, "pusher_internal:member_added", channel);
    out.extend_from_slice(br#"{\"user_id\":"#);
    out.extend_from_slice(member.id());
    out.extend_from_slice(br#",\"user_info\":"#);
    out.extend_from_slice(member.info());
    out.extend_from_slice(br#"}"}"#);
}

/// A user's last connection has left.
pub fn member_removed(out: &mut Vec<u8>, channel: &str, member: &RosterPiece) {
    open_channel_event(out, "pusher_internal:member_removed", channel);
    out.extend_from_slice(br#"{\"user_id\":"#);
    out.extend_from_slice(member.id());
    out.extend_from_slice(br#"}"}"#);
}

/// The number of subscribed connections of a channel has changed.
pub fn subscription_count(out: &mut Vec<u8>, channel: &str, count: u32) {
    open_channel_event(out, "pusher_internal:subscription_count", channel);
    out.extend_from_slice(br#"{\"subscription_count\":"#);
    write_number(out, count);
    out.extend_from_slice(br#"}"}"#);
}

/// Nothing is cached on the cache channel just subscribed.
pub fn cache_miss(out: &mut Vec<u8>, channel: &str) {
    open_channel_event(out, "pusher:cache_miss", channel);
    out.extend_from_slice(br#"{}"}"#);
}

/// Which users of a watchlist are there and which are not; a state without users is left out.
pub fn watchlist_events<'a>(
    out: &mut Vec<u8>,
    online: impl Iterator<Item = &'a str>,
    offline: impl Iterator<Item = &'a str>,
) {
    out.extend_from_slice(br#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":["#);
    let is_first = !write_watched(out, true, "online", online);
    write_watched(out, is_first, "offline", offline);
    out.extend_from_slice(br#"]}"}"#);
}

/// A sign-in succeeded. `data` is an object holding the received string unchanged.
pub fn signin_success(out: &mut Vec<u8>, user_data: &str) {
    out.extend_from_slice(br#"{"event":"pusher:signin_success","data":{"user_data":"#);
    escape::write_string(out, user_data);
    out.extend_from_slice(br#"}}"#);
}

fn write_source(out: &mut Vec<u8>, source: StringSource<'_>) {
    match source {
        StringSource::Token(token) => out.extend_from_slice(token.as_bytes()),
        StringSource::Text(text) => escape::write_string(out, text),
    }
}

/// Appends one entry of `events` unless there are no users; says whether it did.
fn write_watched<'a>(
    out: &mut Vec<u8>,
    is_first: bool,
    name: &str,
    users: impl Iterator<Item = &'a str>,
) -> bool {
    let mut users = users.peekable();
    if users.peek().is_none() {
        return false;
    }
    if !is_first {
        out.push(b',');
    }
    out.extend_from_slice(br#"{\"name\":\""#);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(br#"\",\"user_ids\":["#);
    for (index, user_id) in users.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        escape::write_nested_string(out, user_id);
    }
    out.extend_from_slice(b"]}");
    true
}

/// Everything up to and including the opening quote of `data`.
fn open_channel_event(out: &mut Vec<u8>, event: &str, channel: &str) {
    out.extend_from_slice(br#"{"event":""#);
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(br#"","channel":"#);
    escape::write_string(out, channel);
    out.extend_from_slice(br#","data":""#);
}

/// Appends the pieces with commas between them and says how many there were.
fn write_joined<'a>(out: &mut Vec<u8>, pieces: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut count = 0;
    for piece in pieces {
        if count > 0 {
            out.push(b',');
        }
        out.extend_from_slice(piece);
        count += 1;
    }
    count
}

fn write_number(out: &mut Vec<u8>, number: impl Into<u64>) {
    write_escaped(out, Depth::Once, number.into());
}

/// The text of an object, up to and without its last brace.
fn open_end(out: &mut Vec<u8>, object: &[u8]) {
    out.extend_from_slice(object.strip_suffix(b"}").unwrap_or(object));
}

/// A JSON string whose quotes are written as `\u0022`: Sockudo's client cuts this member off the
/// text at the next quote.
fn write_without_inner_quotes(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for (index, piece) in text.split('"').enumerate() {
        if index > 0 {
            out.extend_from_slice(br"\u0022");
        }
        escape::write_contents(out, piece);
    }
    out.push(b'"');
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    BASE64
        .encode_slice(bytes, &mut out[start..])
        .expect("four digits for every three bytes begun are room enough");
}

fn write_escaped(out: &mut Vec<u8>, depth: Depth, message: impl Display) {
    write!(Escaping { out, depth }, "{message}").expect("writing into a buffer does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::channel::NameError;
    use crate::pusher::error::Rejection;
    use crate::seed::Seed;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut out);
        String::from_utf8(out)
            .unwrap()
            .strip_prefix("before")
            .unwrap()
            .to_owned()
    }

    /// The `data` string of a frame.
    fn data(frame: &str) -> String {
        let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
        frame["data"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_frames_of_the_spec_byte_for_byte() {
        let id = SocketId::parse("1234567890.987654321")
            .unwrap()
            .possible()
            .unwrap();
        let ann = RosterPiece::new("u1", r#"{"name":"Ann"}"#);
        let nobody = RosterPiece::new("u2", "{}");
        let cy = RosterPiece::new("u3", r#"{"name":"Cy"}"#);
        let room = "presence-room";
        for (frame, expected) in [
            (
                written(|out| connection_established(out, id, 120)),
                r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1234567890.987654321\",\"activity_timeout\":120}"}"#,
            ),
            (
                written(|out| subscription_succeeded(out, "news")),
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}"#,
            ),
            (
                written(|out| {
                    subscription_succeeded_presence(out, room, [&ann, &nobody].into_iter());
                }),
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"ids\":[\"u1\",\"u2\"],\"hash\":{\"u1\":{\"name\":\"Ann\"},\"u2\":{}},\"count\":2}}"}"#,
            ),
            (
                written(|out| subscription_succeeded_presence(out, room, [].into_iter())),
                r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","data":"{\"presence\":{\"ids\":[],\"hash\":{},\"count\":0}}"}"#,
            ),
            (
                written(|out| member_added(out, room, &cy)),
                r#"{"event":"pusher_internal:member_added","channel":"presence-room","data":"{\"user_id\":\"u3\",\"user_info\":{\"name\":\"Cy\"}}"}"#,
            ),
            (
                written(|out| member_removed(out, room, &cy)),
                r#"{"event":"pusher_internal:member_removed","channel":"presence-room","data":"{\"user_id\":\"u3\"}"}"#,
            ),
            (
                written(|out| subscription_count(out, "news", 3)),
                r#"{"event":"pusher_internal:subscription_count","channel":"news","data":"{\"subscription_count\":3}"}"#,
            ),
            (
                written(|out| cache_miss(out, "cache-x")),
                r#"{"event":"pusher:cache_miss","channel":"cache-x","data":"{}"}"#,
            ),
            (
                written(|out| {
                    let tags = TagSet::new(&[("b", "1"), ("a", "\"")]);
                    event_with_tags(out, br#"{"event":"e","data":"d"}"#, &tags);
                }),
                r#"{"event":"e","data":"d","tags":{"b":"1","a":"\""}}"#,
            ),
            (
                written(|out| event_in_stream(out, br#"{"event":"e","data":"d"}"#, 41, None)),
                r#"{"event":"e","data":"d","__delta_seq":41}"#,
            ),
            (
                written(|out| event_in_stream(out, br#"{"event":"e"}"#, 42, Some(r#"a"\"#))),
                r#"{"event":"e","__delta_seq":42,"__conflation_key":"a\u0022\\"}"#,
            ),
            (
                written(|out| {
                    let event = DeltaEvent {
                        name: StringSource::Token(r#""tick""#),
                        channel: "ticker",
                        delta: &[0, 0xff, b'a', b'b'],
                        seq: 43,
                        base: 42,
                        algorithm: Algorithm::Fossil,
                        conflation_key: Some("BTC"),
                    };
                    delta(out, &event);
                }),
                r#"{"event":"pusher:delta","channel":"ticker","data":{"event":"tick","delta":"AP9hYg==","seq":43,"base_index":42,"algorithm":"fossil","conflation_key":"BTC"}}"#,
            ),
            (
                written(|out| delta_compression_enabled(out, None, Some(Algorithm::Xdelta3))),
                r#"{"event":"pusher:delta_compression_enabled","data":{"enabled":true,"algorithm":"xdelta3"}}"#,
            ),
            (
                written(|out| delta_compression_enabled(out, Some("a"), Some(Algorithm::Fossil))),
                r#"{"event":"pusher:delta_compression_enabled","channel":"a","data":{"enabled":true,"algorithm":"fossil","channel":"a"}}"#,
            ),
            (
                written(|out| delta_compression_enabled(out, None, None)),
                r#"{"event":"pusher:delta_compression_enabled","data":{"enabled":false}}"#,
            ),
            (written(pong), r#"{"event":"pusher:pong","data":"{}"}"#),
            (written(ping), r#"{"event":"pusher:ping","data":"{}"}"#),
            (
                written(|out| error(out, Some(4009), "a \"b\"")),
                r#"{"event":"pusher:error","data":{"code":4009,"message":"a \"b\""}}"#,
            ),
            (
                written(|out| error(out, None, Rejection::InvalidFormat)),
                r#"{"event":"pusher:error","data":{"code":null,"message":"Invalid message format"}}"#,
            ),
            (
                written(|out| {
                    let auth = SubscriptionError {
                        kind: "AuthError",
                        status: 401,
                    };
                    subscription_error(out, "private-x", auth, "...");
                }),
                r#"{"event":"pusher:subscription_error","channel":"private-x","data":"{\"type\":\"AuthError\",\"error\":\"...\",\"status\":401}"}"#,
            ),
            (
                written(|out| signin_success(out, r#"{"id":"u1"}"#)),
                r#"{"event":"pusher:signin_success","data":{"user_data":"{\"id\":\"u1\"}"}}"#,
            ),
            (
                written(|out| {
                    watchlist_events(out, ["u2"].into_iter(), ["u3", "u4"].into_iter());
                }),
                r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"u2\"]},{\"name\":\"offline\",\"user_ids\":[\"u3\",\"u4\"]}]}"}"#,
            ),
            (
                written(|out| watchlist_events(out, [].into_iter(), ["u3"].into_iter())),
                r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"offline\",\"user_ids\":[\"u3\"]}]}"}"#,
            ),
            (
                written(|out| watchlist_events(out, [].into_iter(), [].into_iter())),
                r#"{"event":"pusher_internal:watchlist_events","data":"{\"events\":[]}"}"#,
            ),
        ] {
            assert_eq!(frame, expected);
            assert!(
                serde_json::from_str::<serde_json::Value>(&frame).is_ok(),
                "{frame}"
            );
        }
    }

    #[test]
    fn an_event_copies_tokens_and_escapes_text() {
        use StringSource::{Text, Token};
        for (name, data, user_id, expected) in [
            (
                Token(r#""price""#),
                Token(r#""{\"eur\":1}""#),
                None,
                r#"{"event":"price","channel":"news","data":"{\"eur\":1}"}"#,
            ),
            (
                Text("price"),
                Text(r#"{"eur":1.0}"#),
                None,
                r#"{"event":"price","channel":"news","data":"{\"eur\":1.0}"}"#,
            ),
            (
                Token(r#""client-typing""#),
                Text("{}"),
                Some("u\"1"),
                r#"{"event":"client-typing","channel":"news","data":"{}","user_id":"u\"1"}"#,
            ),
            (
                Token(r#""\u0065\/""#),
                Token(r#""""#),
                None,
                r#"{"event":"\u0065\/","channel":"news","data":""}"#,
            ),
        ] {
            assert_eq!(
                written(|out| event(out, name, "news", data, user_id)),
                expected
            );
        }
    }

    #[test]
    fn texts_within_a_data_string_decode_to_themselves() {
        let mut random = Seed::new(22);
        for _ in 0..500 {
            fuzz_outbound(&random.mixture(b"name \"\\\n\x00\x1f{}[]\xf0\x9f\x98\x80", 60));
        }
    }

    pub(crate) fn fuzz_outbound(bytes: &[u8]) {
        let text = &*String::from_utf8_lossy(bytes);
        let invalid = Rejection::InvalidChannel(NameError::Character)
            .subscription_error()
            .unwrap();
        let frame = written(|out| subscription_error(out, text, invalid, text));
        let inner: serde_json::Value = serde_json::from_str(&data(&frame)).unwrap();
        assert_eq!(inner["error"], text);

        let piece = RosterPiece::new(text, "[1.0]");
        let frame = written(|out| member_added(out, "presence-a", &piece));
        let inner: serde_json::Value = serde_json::from_str(&data(&frame)).unwrap();
        assert_eq!(inner["user_id"], text);
        let pieces = [&piece].into_iter();
        let frame = written(|out| subscription_succeeded_presence(out, "presence-a", pieces));
        let inner: serde_json::Value = serde_json::from_str(&data(&frame)).unwrap();
        assert_eq!(inner["presence"]["ids"][0], text);
        assert!(inner["presence"]["hash"][text].is_array());

        let frame = written(|out| {
            event(
                out,
                StringSource::Text(text),
                "a",
                StringSource::Text(text),
                Some(text),
            );
        });
        let outer: serde_json::Value = serde_json::from_str(&frame).unwrap();
        assert!(
            ["event", "data", "user_id"]
                .iter()
                .all(|member| outer[member] == text)
        );
        let frame = written(|out| error(out, None, Rejection::UnsupportedEvent { event: text }));
        assert!(serde_json::from_str::<serde_json::Value>(&frame).is_ok());
        let frame = written(|out| signin_success(out, text));
        let outer: serde_json::Value = serde_json::from_str(&frame).unwrap();
        assert_eq!(outer["data"]["user_data"], text);
    }

    #[test]
    fn the_header_of_a_frame_has_its_shortest_form() {
        for (payload_bytes, header) in [
            (0, &[0x81, 0][..]),
            (1, &[0x81, 1]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (200_000, &[0x81, 127, 0, 0, 0, 0, 0, 3, 0x0d, 0x40]),
        ] {
            let payload: Vec<u8> = (0..payload_bytes).map(|i| i as u8).collect();
            // Behind another frame, as in a run.
            let mut out = b"before".to_vec();
            write_text_frame(&mut out, |out| out.extend_from_slice(&payload));
            assert_eq!(
                out,
                [b"before", header, &payload].concat(),
                "{payload_bytes}"
            );
        }
    }
}
