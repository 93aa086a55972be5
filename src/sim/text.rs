//! Every text of the protocol as the model expects it, written by hand and not by the code under
//! test. Names and ids of the simulation need no escapes.

use crate::ws::frame::FrameHeader;

use super::channel::User;

/// Success on a channel without a roster.
pub(super) fn succeeded(channel: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
    )
}

/// Success on a presence channel, with the members in the order of joining.
pub(super) fn roster(channel: &str, users: &[User]) -> String {
    let ids: Vec<String> = users
        .iter()
        .map(|user| format!(r#"\"{}\""#, user.id))
        .collect();
    let hash: Vec<String> = users
        .iter()
        .map(|user| format!(r#"\"{}\":{}"#, user.id, nested(user.info())))
        .collect();
    format!(
        r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{\"presence\":{{\"ids\":[{}],\"hash\":{{{}}},\"count\":{}}}}}"}}"#,
        ids.join(","),
        hash.join(","),
        users.len()
    )
}

/// A user's first connection.
pub(super) fn added(channel: &str, user: &str, info: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:member_added","channel":"{channel}","data":"{{\"user_id\":\"{user}\",\"user_info\":{}}}"}}"#,
        nested(info)
    )
}

/// A user's last connection.
pub(super) fn removed(channel: &str, user: &str) -> String {
    format!(
        r#"{{"event":"pusher_internal:member_removed","channel":"{channel}","data":"{{\"user_id\":\"{user}\"}}"}}"#
    )
}

/// So many connections are subscribed.
pub(super) fn count(channel: &str, count: u32) -> String {
    format!(
        r#"{{"event":"pusher_internal:subscription_count","channel":"{channel}","data":"{{\"subscription_count\":{count}}}"}}"#
    )
}

/// The number that [`count`] wrote.
pub(super) fn counted(text: &str) -> u32 {
    let (_, rest) = text.split_once(r#"count\":"#).expect("a count");
    let (number, _) = rest.split_once('}').expect("the data ends");
    number.parse().expect("a number")
}

/// Nothing is cached.
pub(super) fn cache_miss(channel: &str) -> String {
    format!(r#"{{"event":"pusher:cache_miss","channel":"{channel}","data":"{{}}"}}"#)
}

/// A published event, or a client event; `user` only for those on presence channels.
pub(super) fn event(name: &str, channel: &str, data: &str, user: Option<&str>) -> String {
    let user = user.map_or(String::new(), |user| format!(r#","user_id":"{user}""#));
    format!(r#"{{"event":"{name}","channel":"{channel}","data":"{data}"{user}}}"#)
}

/// An event with its tags.
pub(super) fn tagged(text: &str, tags: &[(&str, &str)]) -> String {
    if tags.is_empty() {
        return text.to_owned();
    }
    let tags: Vec<String> = tags
        .iter()
        .map(|(k, v)| format!(r#""{k}":"{v}""#))
        .collect();
    let text = text.strip_suffix('}').expect("an object");
    format!(r#"{text},"tags":{{{}}}}}"#, tags.join(","))
}

/// The data of event `number`, as it stands in a JSON string: unique, as long as wanted, mostly with
/// a conflation key.
pub(super) fn data(number: u64, padding: usize) -> String {
    let keys = [r#"\"k\":\"a\","#, r#"\"k\":\"b\","#, r#"\"k\":3,"#, ""];
    let key = keys[number as usize % keys.len()];
    format!(
        r#"{{\"n\":{number},{key}\"p\":\"{}\"}}"#,
        "x".repeat(padding)
    )
}

/// The number of an event whose data [`data`] wrote.
pub(super) fn number(text: &str) -> u64 {
    let (_, data) = text
        .split_once(r#""data":"{\"n\":"#)
        .expect("an event has data");
    let (number, _) = data.split_once(',').expect("data begins with a number");
    number.parse().expect("data begins with a number")
}

/// Users on a watchlist: those who are online, and those who are not.
pub(super) fn watchlist(online: &[&str], offline: &[&str]) -> String {
    let entry = |name: &str, users: &[&str]| {
        let ids: Vec<String> = users.iter().map(|id| format!(r#"\"{id}\""#)).collect();
        let ids = ids.join(",");
        (!users.is_empty()).then(|| format!(r#"{{\"name\":\"{name}\",\"user_ids\":[{ids}]}}"#))
    };
    let entries = [entry("online", online), entry("offline", offline)];
    let entries: Vec<String> = entries.into_iter().flatten().collect();
    format!(
        r#"{{"event":"pusher_internal:watchlist_events","data":"{{\"events\":[{}]}}"}}"#,
        entries.join(",")
    )
}

/// The users in what [`watchlist`] wrote.
pub(super) fn watched(text: &str) -> (Vec<&str>, Vec<&str>) {
    let users = |name: &str| {
        let found = text.split_once(&format!(r#"\"name\":\"{name}\",\"user_ids\":["#));
        let (ids, _) = found
            .and_then(|(_, rest)| rest.split_once(']'))
            .unwrap_or_default();
        let ids = ids.split(',').map(|id| id.trim_matches(['\\', '"']));
        ids.filter(|id| !id.is_empty()).collect()
    };
    (users("online"), users("offline"))
}

/// A sign-in has succeeded.
pub(super) fn signed_in(user_data: &str) -> String {
    format!(
        r#"{{"event":"pusher:signin_success","data":{{"user_data":"{}"}}}}"#,
        nested(user_data)
    )
}

/// What a client says, as its protocol has it.
pub(super) fn spoken(text: &str, sockudo: bool) -> String {
    match sockudo {
        true => text.replacen(r#"{"event":"pusher:"#, r#"{"event":"sockudo:"#, 1),
        false => text.to_owned(),
    }
}

/// What a client hears, in Pusher's words: every platform event must have the prefix of its
/// protocol.
pub(super) fn heard(text: &str, sockudo: bool) -> String {
    const NAMES: [&str; 2] = [":", "_internal:"];
    let (own, foreign) = match sockudo {
        true => ("sockudo", "pusher"),
        false => ("pusher", "sockudo"),
    };
    let begins = |prefix: &str, name| text.starts_with(&format!(r#"{{"event":"{prefix}{name}"#));
    assert!(!NAMES.iter().any(|name| begins(foreign, name)), "{text}");
    match NAMES.iter().any(|name| begins(own, name)) {
        true => text.replacen(own, "pusher", 1),
        false => text.to_owned(),
    }
}

/// The text in a frame.
pub(super) fn payload(frame: &[u8]) -> &str {
    let header = FrameHeader::parse(frame).expect("frames are well-formed");
    let (_, header_bytes) = header.expect("frames are whole");
    std::str::from_utf8(&frame[header_bytes..]).expect("frames hold UTF-8")
}

/// Name and channel of a text that the server sent.
pub(super) fn head(text: &str) -> (&str, Option<&str>) {
    let rest = text
        .strip_prefix(r#"{"event":""#)
        .unwrap_or_else(|| panic!("no event: {text}"));
    let (event, rest) = rest.split_once('"').expect("the name ends");
    let channel = rest
        .strip_prefix(r#","channel":""#)
        .and_then(|rest| rest.split_once('"'))
        .map(|(channel, _)| channel);
    (event, channel)
}

/// A string member of a text that [`event`] wrote, as it stands there.
pub(super) fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!(r#""{name}":""#))?;
    let mut quotes = rest.match_indices('"');
    let (end, _) = quotes.find(|&(at, _)| !rest[..at].ends_with('\\'))?;
    Some(&rest[..end])
}

/// What a member means: there are no escapes but those of quotes.
pub(super) fn unescaped(member: &str) -> String {
    member.replace(r#"\""#, "\"")
}

/// The code of a `pusher:error`.
pub(super) fn error_code(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once(r#"{"code":"#).expect("an error has a code");
    let (code, _) = rest.split_once(',').expect("a message follows");
    (code != "null").then(|| code.parse().expect("a number or null"))
}

/// JSON text inside a string.
fn nested(json: &str) -> String {
    json.replace('"', r#"\""#)
}
