//! The fields of one event and the rules of HTTP spec 4.1, row by row.
//!
//! The rows are checked from top to bottom, because the first fault is the answer. The check of a
//! row that the query form has too is a function of its own.

use std::borrow::Cow;

use crate::pusher::channel::{ChannelKind, ChannelName};
use crate::pusher::json::{self, Kind, Malformed, Token};
use crate::pusher::socket_id::SocketId;

use super::{Channels, Error, IDEMPOTENCY_KEY_CHARS_MAX, Publish, PublishLimits, Tags, info, tags};

/// The members of an event as found; `null` is absence, except for `data`.
pub(super) struct Fields<'a> {
    name: Option<Token<'a>>,
    data: Option<Token<'a>>,
    channels: Option<Token<'a>>,
    channel: Option<Token<'a>>,
    socket_id: Option<Token<'a>>,
    info: Option<Token<'a>>,
    tags: Option<Token<'a>>,
    delta: Option<Token<'a>>,
    idempotency_key: Option<Token<'a>>,
}

impl<'a> Fields<'a> {
    const NAMES: [&'static str; 9] = [
        "data",
        "name",
        "channels",
        "channel",
        "socket_id",
        "info",
        "tags",
        "delta",
        "idempotency_key",
    ];

    pub(super) fn of(event: &'a str) -> Result<Self, Malformed> {
        let mut found = json::fields(event, &Self::NAMES)?;
        let [_data, others @ ..] = &mut found;
        json::drop_nulls(others);
        let [
            data,
            name,
            channels,
            channel,
            socket_id,
            info,
            tags,
            delta,
            idempotency_key,
        ] = found;
        Ok(Self {
            name,
            data,
            channels,
            channel,
            socket_id,
            info,
            tags,
            delta,
            idempotency_key,
        })
    }

    /// The rows of HTTP spec 4.1 from top to bottom, down to `delta`.
    pub(super) fn check(&self, limits: &PublishLimits) -> Result<Publish<'a>, Error<'a>> {
        let name_token = self.name.ok_or(Error::Required("name"))?;
        let name = string(name_token, "name")?;
        check_name(&name, limits)?;
        let data = self.data.ok_or(Error::Required("data"))?;
        let data_bytes = data.delivered_bytes();
        check_data(data_bytes, limits)?;
        let channels = check_channels(self.channel_list(limits)?, limits)?;
        let except = match self.socket_id {
            Some(id) => socket_id(&string(id, "socket_id")?)?,
            None => None,
        };
        Ok(Publish {
            name,
            name_source: name_token.as_string(),
            data: data.as_string(),
            data_bytes,
            channels,
            except,
            info: self.info.map(info::parse).transpose()?,
            tags: self
                .tags
                .map_or(Ok(Tags::new()), |tags| tags::parse(tags, limits.tags_max))?,
            delta: self.delta.map(delta).transpose()?,
            idempotency_key: None,
        })
    }

    /// The row of the idempotency key, which does not count in a batch.
    pub(super) fn idempotency_key(&self) -> Result<Option<Cow<'a, str>>, Error<'a>> {
        let Some(token) = self.idempotency_key else {
            return Ok(None);
        };
        let key = string(token, "idempotency_key")?;
        if key.is_empty() || longer_than(&key, IDEMPOTENCY_KEY_CHARS_MAX) {
            return Err(Error::IdempotencyKey);
        }
        Ok(Some(key))
    }

    fn channel_list(&self, limits: &PublishLimits) -> Result<Channels<'a>, Error<'a>> {
        let Some(list) = self.channels else {
            let channel = self.channel.ok_or(Error::Required("channels"))?;
            return Ok(Channels::from_iter([string(channel, "channel")?]));
        };
        let wrong = Error::Type {
            field: "channels",
            expected: "an array of strings",
        };
        if list.kind() != Kind::Array {
            return Err(wrong);
        }
        let mut channels = Channels::new();
        for channel in list.elements()? {
            channels.push(channel?.decode().ok_or(wrong)?);
            check_count(channels.len(), limits)?;
        }
        check_count(channels.len(), limits)?;
        Ok(channels)
    }
}

fn string<'a>(token: Token<'a>, field: &'static str) -> Result<Cow<'a, str>, Error<'a>> {
    token.decode().ok_or(Error::Type {
        field,
        expected: "a string",
    })
}

pub(super) fn check_name<'a>(name: &str, limits: &PublishLimits) -> Result<(), Error<'a>> {
    let chars_max = limits.event_name_chars_max;
    if name.is_empty() || longer_than(name, chars_max as usize) {
        return Err(Error::NameLength { chars_max });
    }
    if name.starts_with("pusher:") || name.starts_with("pusher_internal:") {
        return Err(Error::NameReserved);
    }
    Ok(())
}

pub(super) fn check_data<'a>(bytes: usize, limits: &PublishLimits) -> Result<(), Error<'a>> {
    let bytes_max = limits.event_data_bytes_max;
    if bytes > bytes_max as usize {
        return Err(Error::DataTooLarge { bytes_max });
    }
    Ok(())
}

pub(super) fn check_count<'a>(count: usize, limits: &PublishLimits) -> Result<(), Error<'a>> {
    let channels_max = limits.channels_per_event_max;
    if count == 0 || count > channels_max as usize {
        return Err(Error::ChannelsCount { channels_max });
    }
    Ok(())
}

/// Every name legal, each kept once, an encrypted one alone.
pub(super) fn check_channels<'a>(
    mut channels: Channels<'a>,
    limits: &PublishLimits,
) -> Result<Channels<'a>, Error<'a>> {
    let mut encrypted = false;
    for channel in &channels {
        let name = ChannelName::parse(channel, limits.channel_name_chars_max as usize)
            .map_err(Error::Channel)?;
        encrypted |= name.kind() == ChannelKind::Encrypted;
    }
    keep_first(&mut channels);
    if encrypted && channels.len() > 1 {
        return Err(Error::EncryptedNotAlone);
    }
    Ok(channels)
}

/// Drops repetitions. Quadratic, over a list that `channels_per_event_max` bounds.
fn keep_first(channels: &mut Channels<'_>) {
    let mut kept = 0;
    for index in 0..channels.len() {
        if !channels[..kept].contains(&channels[index]) {
            channels.swap(kept, index);
            kept += 1;
        }
    }
    channels.truncate(kept);
}

pub(super) fn socket_id<'a>(id: &str) -> Result<Option<SocketId>, Error<'a>> {
    match SocketId::parse(id) {
        Ok(id) => Ok(id.possible()),
        Err(_) => Err(Error::SocketId),
    }
}

fn delta<'a>(token: Token<'a>) -> Result<bool, Error<'a>> {
    token.as_bool().ok_or(Error::Type {
        field: "delta",
        expected: "a boolean",
    })
}

/// Counted in characters (Unicode scalar values), and only as far as needed.
fn longer_than(text: &str, chars_max: usize) -> bool {
    text.len() > chars_max && text.chars().nth(chars_max).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::channel::NameError;

    fn parse(body: &str) -> Result<Publish<'_>, Error<'_>> {
        Publish::parse(body.as_bytes(), &PublishLimits::default())
    }

    /// The first fault of `{"name":"e","data":"d","channel":"c"}` with `members` in it. They win,
    /// being the last.
    #[track_caller]
    fn assert_fault(members: &str, fault: Error<'_>) {
        let body = format!(r#"{{"name":"e","data":"d","channel":"c",{members}}}"#);
        assert_eq!(parse(&body).map(drop), Err(fault), "{body}");
    }

    #[track_caller]
    fn assert_accepted(members: &str) {
        let body = format!(r#"{{"name":"e","data":"d","channel":"c",{members}}}"#);
        assert!(parse(&body).is_ok(), "{body}: {:?}", parse(&body));
    }

    #[test]
    fn names_have_1_to_200_characters_and_no_reserved_prefix() {
        let type_error = Error::Type {
            field: "name",
            expected: "a string",
        };
        let length = Error::NameLength { chars_max: 200 };
        assert_eq!(
            parse(r#"{"data":"d"}"#).map(drop),
            Err(Error::Required("name"))
        );
        assert_fault(r#""name":null"#, Error::Required("name"));
        assert_fault(r#""name":5"#, type_error);
        assert_fault(r#""name":"""#, length);
        assert_fault(&format!(r#""name":"{}""#, "é".repeat(201)), length);
        assert_fault(r#""name":"pusher:x""#, Error::NameReserved);
        assert_fault(r#""name":"pusher\u003ax""#, Error::NameReserved);
        assert_fault(r#""name":"pusher_internal:x""#, Error::NameReserved);
        assert_accepted(&format!(r#""name":"{}""#, "é".repeat(200)));
        assert_accepted(&format!(r#""name":"{}""#, r"\ud83d\ude00".repeat(200)));
        assert_accepted(r#""name":"client-x""#);
        assert_accepted(r#""name":"pusher""#);
    }

    #[test]
    fn data_is_measured_in_bytes_of_what_is_delivered() {
        let limits = PublishLimits {
            event_data_bytes_max: 10,
            ..PublishLimits::default()
        };
        for (data, fits) in [
            (r#""0123456789""#, true),
            (r#""0123456789a""#, false),
            (r#""ééééé""#, true),
            (r#""éééééa""#, false),
            (r#""\u00e9\u00e9\u00e9\u00e9\u00e9""#, true),
            (r#""\u00e9\u00e9\u00e9\u00e9\u00e9\n""#, false),
            ("[1,2,3,45]", true),
            ("[1,2,3,456]", false),
        ] {
            let body = format!(r#"{{"name":"e","channel":"c","data":{data}}}"#);
            let publish = Publish::parse(body.as_bytes(), &limits);
            let expected = match fits {
                true => Ok(()),
                false => Err(Error::DataTooLarge { bytes_max: 10 }),
            };
            assert_eq!(publish.map(drop), expected, "{data}");
        }
        let missing = r#"{"name":"e","channel":"c"}"#;
        assert_eq!(parse(missing).map(drop), Err(Error::Required("data")));
    }

    #[test]
    fn channels_are_counted_as_sent_and_each_is_kept_once() {
        let list = |count: usize, name: &str| {
            let names: Vec<_> = (0..count).map(|_| format!("\"{name}\"")).collect();
            format!(r#""channels":[{}]"#, names.join(","))
        };
        let count = Error::ChannelsCount { channels_max: 100 };
        let type_error = Error::Type {
            field: "channels",
            expected: "an array of strings",
        };
        assert_accepted(&list(100, "a"));
        assert_fault(&list(101, "a"), count);
        assert_fault(r#""channels":[]"#, count);
        assert_fault(r#""channels":"a""#, type_error);
        assert_fault(r#""channels":{}"#, type_error);
        assert_fault(r#""channels":["a",5]"#, type_error);
        assert_fault(r#""channels":["a",null]"#, type_error);
        assert_fault(
            r#""channel":5"#,
            Error::Type {
                field: "channel",
                expected: "a string",
            },
        );
        assert_fault(r#""channel":null"#, Error::Required("channels"));
        assert_accepted(r#""channels":null"#);
        // `channel` is ignored beside `channels`, whatever it is.
        assert_accepted(r#""channel":5,"channels":["a"]"#);

        let body = r#"{"name":"e","data":"","channels":["b","a","b","\u0061","c","a"]}"#;
        assert_eq!(*parse(body).expect("valid").channels, ["b", "a", "c"]);
    }

    #[test]
    fn channel_names_are_those_that_can_be_published_to() {
        let reserved = Error::Channel(NameError::Reserved);
        assert_fault(
            r#""channels":["a","b c","d"]"#,
            Error::Channel(NameError::Character),
        );
        assert_fault(r#""channels":["a",""]"#, Error::Channel(NameError::Empty));
        assert_fault(r##""channel":"#x""##, reserved);
        assert_fault(
            r##""channel":"#server-to-user-""##,
            Error::Channel(NameError::Empty),
        );
        assert_eq!((reserved.status(), reserved.slug()), (403, "forbidden"));
        assert_accepted(r##""channels":["#server-to-user-u1","private-a"]"##);
        let long = Error::Channel(NameError::TooLong { chars_max: 200 });
        assert_fault(&format!(r#""channel":"{}""#, "a".repeat(201)), long);
        assert_accepted(&format!(r#""channel":"{}""#, "a".repeat(200)));
    }

    #[test]
    fn an_encrypted_channel_is_published_to_alone() {
        assert_fault(
            r#""channels":["private-encrypted-a","b"]"#,
            Error::EncryptedNotAlone,
        );
        assert_fault(
            r#""channels":["a","private-encrypted-cache-b"]"#,
            Error::EncryptedNotAlone,
        );
        assert_accepted(r#""channels":["private-encrypted-a"]"#);
        assert_accepted(r#""channels":["private-encrypted-a","private-encrypted-a"]"#);
        assert_accepted(r#""channels":["private-encryptedx","b"]"#);
    }

    #[test]
    fn a_socket_id_is_two_integers_and_may_be_unknown() {
        for id in [
            r#""abc""#,
            r#""1""#,
            r#""1.2.3""#,
            r#""1.""#,
            r#""-1.2""#,
            r#"" 1.2""#,
        ] {
            assert_fault(&format!(r#""socket_id":{id}"#), Error::SocketId);
        }
        let type_error = Error::Type {
            field: "socket_id",
            expected: "a string",
        };
        assert_fault(r#""socket_id":5"#, type_error);
        assert_fault(r#""socket_id":1.2"#, type_error);
        assert_accepted(r#""socket_id":null"#);
        let except = |id: &str| {
            let body = format!(r#"{{"name":"e","data":"d","channel":"c","socket_id":"{id}"}}"#);
            parse(&body)
                .expect("valid")
                .except
                .map(|id| id.text().as_str().to_owned())
        };
        assert_eq!(except("123.456").as_deref(), Some("123.456"));
        assert_eq!(except("99999999999999999999999999.1"), None);
    }

    #[test]
    fn the_presence_of_info_counts() {
        let info = |members: &str| {
            let body = format!(r#"{{"name":"e","data":"d","channel":"c"{members}}}"#);
            parse(&body).expect("valid").info.is_some()
        };
        assert!(!info("") && !info(r#","info":null"#));
        assert!(info(r#","info":"""#) && info(r#","info":"nope""#));
    }

    #[test]
    fn delta_and_the_idempotency_key_are_checked() {
        let delta = |value: &str| {
            let body = format!(r#"{{"name":"e","data":"d","channel":"c","delta":{value}}}"#);
            parse(&body)
                .map(|publish| publish.delta)
                .map_err(|error| error.to_string())
        };
        assert_eq!(delta("true"), Ok(Some(true)));
        assert_eq!(delta("false"), Ok(Some(false)));
        assert_eq!(delta("null"), Ok(None));
        assert!(delta(r#""yes""#).is_err() && delta("1").is_err());

        assert_accepted(&format!(r#""idempotency_key":"{}""#, "é".repeat(128)));
        assert_accepted(r#""idempotency_key":null"#);
        assert_fault(r#""idempotency_key":"""#, Error::IdempotencyKey);
        assert_fault(
            &format!(r#""idempotency_key":"{}""#, "é".repeat(129)),
            Error::IdempotencyKey,
        );
        let field = "idempotency_key";
        assert_fault(
            r#""idempotency_key":5"#,
            Error::Type {
                field,
                expected: "a string",
            },
        );
        let body = r#"{"name":"e","data":"d","channel":"c","idempotency_key":"k\u0031"}"#;
        assert_eq!(
            parse(body).expect("valid").idempotency_key.as_deref(),
            Some("k1")
        );
    }

    #[test]
    fn the_first_row_that_fails_decides() {
        // Every field is wrong; repaired one by one, each gives way to the next row's fault.
        let rows = [
            (r#""name":5"#, r#""name":"e""#, "'name'"),
            (r#""x":0"#, r#""data":"d""#, "'data'"),
            (r#""channels":[]"#, r#""channels":["c"]"#, "'channels'"),
            (r#""socket_id":"x""#, r#""socket_id":"1.2""#, "'socket_id'"),
            (r#""info":5"#, r#""info":"""#, "'info'"),
            (r#""tags":5"#, r#""tags":{}"#, "'tags'"),
            (r#""delta":5"#, r#""delta":true"#, "'delta'"),
            (
                r#""idempotency_key":5"#,
                r#""idempotency_key":"k""#,
                "'idempotency_key'",
            ),
        ];
        for (fault, (.., text)) in rows.iter().enumerate() {
            let members =
                rows.iter().enumerate().rev().map(
                    |(index, (wrong, right, _))| {
                        if index < fault { *right } else { *wrong }
                    },
                );
            let body = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
            let error = parse(&body).expect_err("a field is wrong").to_string();
            assert!(
                error.starts_with("Invalid request: ") && error.contains(text),
                "{error}"
            );
        }
    }
}
