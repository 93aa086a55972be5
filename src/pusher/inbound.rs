//! What a client may say: one text message into one [`ClientMessage`], borrowed from it.
//!
//! Shape only (WebSocket spec, sections 3 and 3.1): whether a channel name is legal, a signature
//! right or a client event allowed is decided by those who know the app and the connection.
//!
//! Invariant: what is not an object with a string `event` is [`Error::Format`], whatever else is
//! wrong with it, and an error leaves the connection as it was.

use std::borrow::Cow;

use super::delta::{self, Algorithm, Wish};
use super::dialect::Dialect;
use super::error::Rejection;
use super::json::tape::Reader;
use super::json::{self, Kind, Malformed, StringSource, Token};

/// One message of a client. Strings are decoded; they borrow where they had no escapes.
#[derive(Debug)]
pub enum ClientMessage<'a> {
    Ping,
    Pong,
    Subscribe(Subscribe<'a>),
    Unsubscribe {
        channel: Cow<'a, str>,
    },
    SignIn(SignIn<'a>),
    /// Deltas for all subscriptions, by this algorithm; `None` where none of the client's is known.
    EnableDelta {
        algorithm: Option<Algorithm>,
    },
    /// The client cannot apply what it gets on this channel.
    DeltaSyncError {
        channel: Cow<'a, str>,
    },
    Event(ClientEvent<'a>),
    /// Answered with "Unsupported event received on socket: NAME".
    Unknown {
        event: Cow<'a, str>,
    },
}

#[derive(Debug)]
pub struct Subscribe<'a> {
    pub channel: Cow<'a, str>,
    /// Absent, `null` and missing are one; pusher-js sends `""` for public channels.
    pub auth: Option<Cow<'a, str>>,
    /// The exact characters that were signed (WebSocket spec 7.2).
    pub channel_data: Option<Cow<'a, str>>,
    /// The tag filter (`filter`, else its alias `tags_filter`), not looked into.
    pub filter: Option<Token<'a>>,
    /// The list of event names to be filtered by, not looked into.
    pub events: Option<Token<'a>>,
    pub delta: Wish,
}

#[derive(Debug)]
pub struct SignIn<'a> {
    pub auth: Cow<'a, str>,
    /// The exact characters that were signed (WebSocket spec 7.2).
    pub user_data: Cow<'a, str>,
}

/// A `client-*` event. The rules of WebSocket spec 12.1 are the caller's, in their order.
#[derive(Debug)]
pub struct ClientEvent<'a> {
    pub name: Cow<'a, str>,
    /// The name as it is written into the frame.
    pub name_source: StringSource<'a>,
    /// `None` where it was missing or not a string: rule 3, refused with 4301.
    pub channel: Option<Cow<'a, str>>,
    /// A string as it is, anything else as its JSON text, nothing as `{}` (WebSocket spec 12.2).
    pub data: StringSource<'a>,
    /// Bytes of UTF-8 of the string that is delivered; the limit of rule 5 counts these.
    pub data_bytes: usize,
}

/// Why a message was not understood. The connection stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// `pusher:error` with code null, "Invalid message format".
    Format,
    /// A sign-in without string `auth` and `user_data`: `pusher:error` 4009.
    SignInFields,
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Self::Format
    }
}

impl From<Error> for Rejection<'_> {
    fn from(error: Error) -> Self {
        match error {
            Error::Format => Self::InvalidFormat,
            Error::SignInFields => Self::SignInFormat,
        }
    }
}

/// What one reader of messages keeps between them, so that none of them allocates.
#[derive(Default)]
pub struct Scratch {
    /// The text of a `data` that came as a string.
    text: String,
    reader: Reader,
}

impl<'a> ClientMessage<'a> {
    /// Reads one text message of a client of this dialect. `scratch` is used where `data` came as a
    /// string holding JSON.
    pub fn parse(text: &'a str, dialect: Dialect, scratch: &'a mut Scratch) -> Result<Self, Error> {
        let [event, channel, data] = json::fields(text, &["event", "channel", "data"])?;
        let event = event.ok_or(Error::Format)?;
        let name = event.decode().ok_or(Error::Format)?;
        match dialect.command(&name) {
            Some("ping") => Ok(ClientMessage::Ping),
            Some("pong") => Ok(ClientMessage::Pong),
            Some("subscribe") => subscribe(data, scratch),
            // Needs `channel` alone, but is refused for the same members as a subscribe.
            Some("unsubscribe") => {
                let channel = channel_of(data, &SUBSCRIPTION, scratch)?;
                Ok(ClientMessage::Unsubscribe { channel })
            }
            Some("signin") => sign_in(data, scratch).map_err(|_| Error::SignInFields),
            Some("enable_delta_compression") => enable_delta(data, scratch),
            Some("delta_sync_error") => {
                let channel = channel_of(data, &["channel"], scratch)?;
                Ok(ClientMessage::DeltaSyncError { channel })
            }
            None if name.starts_with("client-") => Ok(ClientMessage::Event(ClientEvent {
                name_source: event.as_string(),
                name,
                channel: channel.and_then(|channel| channel.decode()),
                data: data.map_or(NO_DATA, |data| data.as_string()),
                data_bytes: data.map_or(NO_DATA_BYTES, |data| data.delivered_bytes()),
            })),
            _ => Ok(ClientMessage::Unknown { event: name }),
        }
    }
}

/// What a client event without `data` delivers.
const NO_DATA: StringSource<'static> = StringSource::Text("{}");
const NO_DATA_BYTES: usize = "{}".len();

fn subscribe<'a>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
) -> Result<ClientMessage<'a>, Error> {
    let (object, reader) = object_of(data, scratch)?;
    let names = [
        "channel",
        "auth",
        "channel_data",
        "filter",
        "tags_filter",
        "events",
        "delta",
    ];
    let [
        channel,
        auth,
        channel_data,
        filter,
        tags_filter,
        events,
        delta,
    ] = present(object, &names)?;
    let [channel, auth, channel_data] =
        strings(object, &SUBSCRIPTION, [channel, auth, channel_data], reader)?;
    Ok(ClientMessage::Subscribe(Subscribe {
        channel: channel.ok_or(Error::Format)?,
        auth,
        channel_data,
        filter: filter.or(tags_filter),
        events,
        delta: delta.map_or_else(Wish::default, Wish::parse),
    }))
}

const SUBSCRIPTION: [&str; 3] = ["channel", "auth", "channel_data"];

/// The first of the string members `names`: the channel that is meant.
fn channel_of<'a, const N: usize>(
    data: Option<Token<'a>>,
    names: &[&str; N],
    scratch: &'a mut Scratch,
) -> Result<Cow<'a, str>, Error> {
    let (object, reader) = object_of(data, scratch)?;
    let tokens = present(object, names)?;
    let channel = strings(object, names, tokens, reader)?.into_iter().next();
    channel.flatten().ok_or(Error::Format)
}

/// Its `data` may be missing.
fn enable_delta<'a>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
) -> Result<ClientMessage<'a>, Error> {
    let list = match data.filter(|data| !data.is_null()) {
        Some(data) => {
            let (object, _) = object_of(Some(data), scratch)?;
            let [list] = present(object, &["algorithms"])?;
            list
        }
        None => None,
    };
    Ok(ClientMessage::EnableDelta {
        algorithm: delta::first_known(list),
    })
}

fn sign_in<'a>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
) -> Result<ClientMessage<'a>, Error> {
    let (object, reader) = object_of(data, scratch)?;
    let names = ["auth", "user_data"];
    let tokens = present(object, &names)?;
    match strings(object, &names, tokens, reader)? {
        [Some(auth), Some(user_data)] => Ok(ClientMessage::SignIn(SignIn { auth, user_data })),
        _ => Err(Error::SignInFields),
    }
}

/// The text of `data`, an object or a string holding the text of one (Reverb accepts that), and
/// the reader for its strings.
fn object_of<'a>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
) -> Result<(&'a str, &'a mut Reader), Error> {
    let data = data.ok_or(Error::Format)?;
    let Scratch { text, reader } = scratch;
    match data.kind() {
        Kind::Object => Ok((data.raw(), reader)),
        Kind::String => {
            text.clear();
            data.decode_into(text);
            Ok((text, reader))
        }
        _ => Err(Error::Format),
    }
}

/// The strings that `tokens` mean, the members `names` of `object`. Any other kind is an error.
fn strings<'a, const N: usize>(
    object: &str,
    names: &[&str; N],
    tokens: [Option<Token<'a>>; N],
    reader: &'a mut Reader,
) -> Result<[Option<Cow<'a, str>>; N], Error> {
    if tokens
        .iter()
        .flatten()
        .any(|token| token.kind() != Kind::String)
    {
        return Err(Error::Format);
    }
    if tokens.iter().flatten().any(Token::has_escapes)
        && let Some(found) = reader.strings(object, names)
    {
        return Ok(found.map(|text| text.map(Cow::Borrowed)));
    }
    Ok(tokens.map(|token| token.and_then(|token| token.decode())))
}

/// The members `names` of `object`; `null` is absence.
fn present<'a, const N: usize>(
    object: &'a str,
    names: &[&str; N],
) -> Result<[Option<Token<'a>>; N], Malformed> {
    let mut found = json::fields(object, names)?;
    json::drop_nulls(&mut found);
    Ok(found)
}

/// No text panics, and what is understood is what serde_json reads there.
#[cfg(test)]
pub fn fuzz_client_message(scratch: &mut Scratch, data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(message) = ClientMessage::parse(text, Dialect::Pusher, scratch) else {
        return;
    };
    // Numbers that serde_json cannot hold, and nothing else, make this fail.
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
        return;
    };
    let event = value["event"].as_str().expect("event is a string");
    let object = match &value["data"] {
        serde_json::Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        object => object.clone(),
    };
    match message {
        ClientMessage::Ping => assert_eq!(event, "pusher:ping"),
        ClientMessage::Pong => assert_eq!(event, "pusher:pong"),
        ClientMessage::Subscribe(subscribe) => {
            assert_eq!(event, "pusher:subscribe");
            assert_eq!(object["channel"].as_str(), Some(&*subscribe.channel));
            assert_eq!(object["auth"].as_str(), subscribe.auth.as_deref());
            assert_eq!(
                object["channel_data"].as_str(),
                subscribe.channel_data.as_deref()
            );
        }
        ClientMessage::Unsubscribe { channel } => {
            assert_eq!(event, "pusher:unsubscribe");
            assert_eq!(object["channel"].as_str(), Some(&*channel));
        }
        ClientMessage::EnableDelta { .. } => {
            assert_eq!(event, "pusher:enable_delta_compression");
        }
        ClientMessage::DeltaSyncError { channel } => {
            assert_eq!(event, "pusher:delta_sync_error");
            assert_eq!(object["channel"].as_str(), Some(&*channel));
        }
        ClientMessage::SignIn(sign_in) => {
            assert_eq!(event, "pusher:signin");
            assert_eq!(object["auth"].as_str(), Some(&*sign_in.auth));
            assert_eq!(object["user_data"].as_str(), Some(&*sign_in.user_data));
        }
        ClientMessage::Event(client) => {
            assert!(event.starts_with("client-") && client.name == event);
            assert_eq!(client.channel.as_deref(), value["channel"].as_str());
            let delivered = match client.data {
                StringSource::Token(token) => serde_json::from_str(token).expect("a string"),
                StringSource::Text(text) => text.to_owned(),
            };
            assert_eq!(client.data_bytes, delivered.len());
            match (value.get("data"), serde_json::from_str(&delivered)) {
                (Some(serde_json::Value::String(data)), _) => assert_eq!(data, &delivered),
                (data, delivered) => {
                    let empty = serde_json::json!({});
                    assert_eq!(delivered.ok().as_ref(), Some(data.unwrap_or(&empty)));
                }
            }
        }
        ClientMessage::Unknown { event: name } => assert_eq!(name, event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::json::sample;
    use crate::seed::Seed;

    /// What a message was understood as, in a form that compares.
    fn read(text: &str) -> Result<String, Error> {
        read_as(Dialect::Pusher, text)
    }

    fn read_as(dialect: Dialect, text: &str) -> Result<String, Error> {
        let mut scratch = Scratch::default();
        let shown = |text: Option<Cow<'_, str>>| text.as_deref().unwrap_or("-").to_owned();
        let raw = |token: Option<Token<'_>>| token.map_or("-", |token| token.raw()).to_owned();
        let name = |algorithm: Option<Algorithm>| algorithm.map_or("-", Algorithm::name).to_owned();
        let wish = |wish: Wish| match wish.enabled {
            None => "-".to_owned(),
            Some(on) => format!("{on} {}", name(wish.algorithm)),
        };
        Ok(match ClientMessage::parse(text, dialect, &mut scratch)? {
            ClientMessage::Ping => "ping".to_owned(),
            ClientMessage::Pong => "pong".to_owned(),
            ClientMessage::Subscribe(subscribe) => [
                "subscribe".to_owned(),
                subscribe.channel.into_owned(),
                shown(subscribe.auth),
                shown(subscribe.channel_data),
                raw(subscribe.filter),
                raw(subscribe.events),
                wish(subscribe.delta),
            ]
            .join("|"),
            ClientMessage::Unsubscribe { channel } => format!("unsubscribe|{channel}"),
            ClientMessage::SignIn(SignIn { auth, user_data }) => {
                format!("signin|{auth}|{user_data}")
            }
            ClientMessage::EnableDelta { algorithm } => format!("delta|{}", name(algorithm)),
            ClientMessage::DeltaSyncError { channel } => format!("resync|{channel}"),
            ClientMessage::Event(event) => {
                let source = |source| match source {
                    StringSource::Token(token) => format!("token {token}"),
                    StringSource::Text(text) => format!("text {text}"),
                };
                format!(
                    "event|{}|{}|{}|{}|{}",
                    event.name,
                    source(event.name_source),
                    shown(event.channel),
                    source(event.data),
                    event.data_bytes
                )
            }
            ClientMessage::Unknown { event } => format!("unknown|{event}"),
        })
    }

    #[test]
    fn messages_of_real_clients_are_understood() {
        for (text, expected) in [
            // pusher-js, and pusher-websocket-java with its space.
            (r#"{"event":"pusher:ping","data":{}}"#, "ping"),
            (r#"{"event": "pusher:ping"}"#, "ping"),
            (r#"{"event":"pusher:ping","data":null}"#, "ping"),
            (r#"{"event":"pusher:ping","data":""}"#, "ping"),
            (r#"{"event":"pusher:pong","data":{}}"#, "pong"),
            (
                r#"{"event":"pusher:subscribe","data":{"auth":"","channel":"news"}}"#,
                "subscribe|news||-|-|-|-",
            ),
            (
                r#"{"event":"pusher:subscribe","data":{"channel":"private-x","auth":"k:s","channel_data":null}}"#,
                "subscribe|private-x|k:s|-|-|-|-",
            ),
            (
                r#"{"event":"pusher:subscribe","data":{"auth":"k:s","channel_data":"{\"user_id\":\"\u00e9\"}","channel":"presence-x"}}"#,
                "subscribe|presence-x|k:s|{\"user_id\":\"é\"}|-|-|-",
            ),
            // A string that holds the object, with a string that holds JSON within.
            (
                r#"{"event":"pusher:subscribe","data":"{\"channel\":\"presence-x\",\"channel_data\":\"{\\\"user_id\\\":1}\"}"}"#,
                r#"subscribe|presence-x|-|{"user_id":1}|-|-|-"#,
            ),
            (
                r#"{"event":"pusher:subscribe","data":{"channel":"x","filter":{"op":1.0},"events":["a"],"delta":true}}"#,
                r#"subscribe|x|-|-|{"op":1.0}|["a"]|true -"#,
            ),
            (
                r#"{"event":"pusher:subscribe","data":{"channel":"x","delta":{"enabled":true,"algorithm":"vcdiff"}}}"#,
                "subscribe|x|-|-|-|-|true xdelta3",
            ),
            (
                r#"{"event":"pusher:enable_delta_compression"}"#,
                "delta|fossil",
            ),
            (
                r#"{"event":"pusher:enable_delta_compression","data":{"algorithms":["xdelta3","fossil"]}}"#,
                "delta|xdelta3",
            ),
            (
                r#"{"event":"pusher:enable_delta_compression","data":"{\"algorithms\":[\"zip\"]}"}"#,
                "delta|-",
            ),
            (
                r#"{"event":"pusher:delta_sync_error","data":{"channel":"n\u0065ws"}}"#,
                "resync|news",
            ),
            (
                r#"{"event":"pusher:subscribe","data":{"channel":"x","filter":null,"tags_filter":{}}}"#,
                "subscribe|x|-|-|{}|-|-",
            ),
            (
                r#"{"event":"pusher:unsubscribe","data":{"channel":"news"}}"#,
                "unsubscribe|news",
            ),
            (
                r#"{"event":"pusher:signin","data":{"auth":"k:s","user_data":"{\"id\":\"u1\"}"}}"#,
                r#"signin|k:s|{"id":"u1"}"#,
            ),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn each_dialect_understands_its_own_prefix() {
        let message = |event: &str| format!(r#"{{"event":"{event}","data":{{"channel":"news"}}}}"#);
        for command in ["ping", "pong", "subscribe", "unsubscribe"] {
            let pusher = message(&format!("pusher:{command}"));
            let sockudo = message(&format!("sockudo:{command}"));
            let understood = read(&pusher);
            assert!(
                understood
                    .as_ref()
                    .is_ok_and(|text| text.starts_with(command))
            );
            assert_eq!(read_as(Dialect::Sockudo, &sockudo), understood);
            assert_eq!(read(&sockudo), Ok(format!("unknown|sockudo:{command}")));
            let foreign = read_as(Dialect::Sockudo, &pusher);
            assert_eq!(foreign, Ok(format!("unknown|pusher:{command}")));
        }
        let event = read_as(Dialect::Sockudo, r#"{"event":"client-x","channel":"c"}"#);
        assert_eq!(
            event.as_deref(),
            Ok("event|client-x|token \"client-x\"|c|text {}|2")
        );
    }

    #[test]
    fn escapes_space_repetitions_and_unknown_members_change_nothing() {
        for text in [
            r#" {"event":"pusher:subscribe","data":{"channel":"news"}} "#,
            r#"{"x":[1e400],"\u0065vent":"pusher:subscr\u0069be","data":{"ch\u0061nnel":"new\u0073"}}"#,
            r#"{"event":5,"event":"pusher:subscribe","data":1,"data":{"channel":[],"channel":"news"}}"#,
            // The number is one that simd-json refuses, beside a string with escapes.
            r#"{"event":"pusher:subscribe","data":{"channel":"new\u0073","n":1e400}}"#,
            r#"{"data":{"user_id":7,"channel":"news"},"channel":9,"event":"pusher:subscribe"}"#,
        ] {
            assert_eq!(
                read(text).as_deref(),
                Ok("subscribe|news|-|-|-|-|-"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_has_no_string_event_is_a_format_error() {
        for text in [
            "hello",
            "[]",
            "\"x\"",
            "{}",
            "",
            "5",
            r#"{"event":5}"#,
            r#"{"event":null}"#,
            r#"{"event":"pusher:ping","event":null}"#,
            r#"{"event":{"a":"pusher:ping"}}"#,
            r#"{"event":"pusher:ping"}}"#,
            r#"{"event":"pusher:ping","data":{"a":"\ud800"}}"#,
            "\u{feff}{\"event\":\"pusher:ping\"}",
            "{\"event\":\"pusher:ping\n\"}",
        ] {
            assert_eq!(read(text), Err(Error::Format), "{text}");
        }
        let deep = "[".repeat(10_000);
        assert_eq!(read(&deep), Err(Error::Format));
        assert_eq!(
            read(&format!(r#"{{"event":"pusher:ping","data":{deep}"#)),
            Err(Error::Format)
        );
    }

    #[test]
    fn subscriptions_of_the_wrong_shape_are_format_errors() {
        for data in [
            "{}",
            "[]",
            "null",
            "5",
            "\"\"",
            "\"news\"",
            r#""[\"channel\"]""#,
            r#""{\"channel\":5}""#,
            r#""{\"channel\":\"a\"""#,
            r#""{\"channel\":\"\\ud800\"}""#,
            r#"{"channel":5}"#,
            r#"{"channel":null}"#,
            r#"{"channel":["a"]}"#,
            r#"{"channel":"a","auth":5}"#,
            r#"{"channel":"a","auth":{}}"#,
            r#"{"channel":"a","channel_data":{"user_id":1}}"#,
            r#"{"channel":"a","channel_data":false}"#,
        ] {
            for event in ["pusher:subscribe", "pusher:unsubscribe"] {
                let text = format!(r#"{{"event":"{event}","data":{data}}}"#);
                assert_eq!(read(&text), Err(Error::Format), "{text}");
            }
        }
        assert_eq!(
            read(r#"{"event":"pusher:subscribe","channel":"a"}"#),
            Err(Error::Format)
        );
        // A number nobody asked for is not a fault.
        let fine =
            r#"{"event":"pusher:unsubscribe","data":{"channel":"a","n":12345678901234567890123}}"#;
        assert_eq!(read(fine).as_deref(), Ok("unsubscribe|a"));
    }

    #[test]
    fn a_sign_in_without_both_strings_has_its_own_error() {
        for data in [
            "null",
            "{}",
            "\"x\"",
            r#"{"auth":"a"}"#,
            r#"{"user_data":"{}"}"#,
            r#"{"auth":"a","user_data":{"id":"1"}}"#,
            r#"{"auth":5,"user_data":"{}"}"#,
            r#"{"auth":"a","user_data":null}"#,
        ] {
            let text = format!(r#"{{"event":"pusher:signin","data":{data}}}"#);
            assert_eq!(read(&text), Err(Error::SignInFields), "{text}");
        }
        assert_eq!(
            read(r#"{"event":"pusher:signin"}"#),
            Err(Error::SignInFields)
        );
    }

    #[test]
    fn client_events_carry_what_is_delivered_and_its_size() {
        let big = "12345678901234567890";
        let long = "é".repeat(5_121);
        for (members, expected) in [
            (
                r#","data":{"on":true}"#,
                r#"text {"on":true}|11"#.to_owned(),
            ),
            (r#","data":"raw""#, r#"token "raw"|3"#.to_owned()),
            (r#","data":"\u00e9\"""#, r#"token "\u00e9\""|3"#.to_owned()),
            (r#","data":"""#, r#"token ""|0"#.to_owned()),
            ("", "text {}|2".to_owned()),
            // `null` is any JSON here: what one pusher-js triggers, the other gets.
            (r#","data":null"#, "text null|4".to_owned()),
            (&format!(r#","data":{big}"#), format!("text {big}|20")),
            (r#","data":[1.0, 2]"#, "text [1.0, 2]|8".to_owned()),
            (
                &format!(r#","data":"{long}""#),
                format!("token \"{long}\"|10242"),
            ),
        ] {
            let text = format!(r#"{{"event":"client-x","channel":"private-a"{members}}}"#);
            let expected = format!(r#"event|client-x|token "client-x"|private-a|{expected}"#);
            assert_eq!(read(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_client_event_without_a_string_channel_is_still_one() {
        for members in [
            "",
            r#","channel":5"#,
            r#","channel":["private-a"]"#,
            r#","channel":null"#,
        ] {
            let text = format!(r#"{{"event":"client-x","data":1{members}}}"#);
            let expected = r#"event|client-x|token "client-x"|-|text 1|1"#;
            assert_eq!(read(&text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_events_are_unknown_by_their_name() {
        for event in [
            "pusher:foo",
            "pusher_internal:subscription_succeeded",
            "hello",
            "client",
            "Client-x",
            "my-event",
            "pusher:Ping",
            "",
        ] {
            let text = format!(r#"{{"event":"{event}","data":{{}}}}"#);
            assert_eq!(read(&text), Ok(format!("unknown|{event}")));
        }
    }

    #[test]
    fn every_prefix_of_a_message_is_a_format_error() {
        for text in [
            r#"{"event":"pusher:subscribe","data":{"channel":"a","channel_data":"{\"user_id\":1}"}}"#,
            r#"{"event":"client-é","channel":"private-a","data":{"a":[1,2,{"b":null}]}}"#,
        ] {
            assert!(read(text).is_ok());
            for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
                assert_eq!(read(&text[..end]), Err(Error::Format), "{}", &text[..end]);
            }
        }
    }

    #[test]
    fn agrees_with_serde_json_on_seeded_messages() {
        const EVENTS: [&str; 9] = [
            "pusher:enable_delta_compression",
            "pusher:delta_sync_error",
            "pusher:ping",
            "pusher:pong",
            "pusher:subscribe",
            "pusher:unsubscribe",
            "pusher:signin",
            "client-x",
            "other",
        ];
        let mut random = Seed::new(44);
        let mut scratch = Scratch::default();
        for round in 0..9_000 {
            let mut text = format!(r#"{{"event":"{}","data":"#, EVENTS[round % 9]).into_bytes();
            match round % 4 {
                0 => {
                    text.extend(br#"{"auth":"","user_data":"{}","channel":"a\u002db","x":"#);
                    text.extend(sample::json(&mut random, 2));
                    text.push(b'}');
                }
                levels => text.extend(sample::json(&mut random, levels as u32)),
            }
            text.extend(br#","channel":"#);
            text.extend(sample::json(&mut random, 0));
            text.push(b'}');
            fuzz_client_message(&mut scratch, &text);
            fuzz_client_message(&mut scratch, &sample::json(&mut random, 3));
        }
    }
}
