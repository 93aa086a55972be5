//! Every event that the server sends, written as JSON text in one pass.
//!
//! Functions append to a buffer; [`write_text_frame`] puts the WebSocket header before what one of
//! them wrote. Members come in the order event, channel, data, user_id (WebSocket spec 2), absent
//! ones are left out, and `data` is a string except where table 2.1 there says object. Nothing here
//! decides who is told; messages of errors come from `error`.
//!
//! Invariant: what a call appends is one complete JSON object in UTF-8, given valid tokens.

use std::fmt::{Display, Write};

use super::error::SubscriptionError;
use super::escape::{self, Depth, Escaping};
use super::json::StringSource;
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
        Some(code) => write_number(out, code.into()),
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
    write_number(out, error.status.into());
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

fn write_number(out: &mut Vec<u8>, number: u32) {
    write_escaped(out, Depth::Once, number);
}

fn write_escaped(out: &mut Vec<u8>, depth: Depth, message: impl Display) {
    write!(Escaping { out, depth }, "{message}").expect("writing into a buffer does not fail");
}
