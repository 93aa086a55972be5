//! What a client may say: one text message into one [`ClientMessage`], borrowed from it.
//!
//! Shape only (WebSocket spec, sections 3 and 3.1): whether a channel name is legal, a signature
//! right or a client event allowed is decided by those who know the app and the connection.
//!
//! Invariant: what is not an object with a string `event` is [`Error::Format`], whatever else is
//! wrong with it, and an error leaves the connection as it was.

use std::borrow::Cow;

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
    /// The wish for delta compression, not looked into.
    pub delta: Option<Token<'a>>,
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
    /// Reads one text message. `scratch` is used where `data` came as a string holding JSON.
    pub fn parse(text: &'a str, scratch: &'a mut Scratch) -> Result<Self, Error> {
        let [event, channel, data] = json::fields(text, &["event", "channel", "data"])?;
        let event = event.ok_or(Error::Format)?;
        let name = event.decode().ok_or(Error::Format)?;
        match &*name {
            "pusher:ping" => Ok(ClientMessage::Ping),
            "pusher:pong" => Ok(ClientMessage::Pong),
            "pusher:subscribe" => subscribe(data, scratch),
            "pusher:unsubscribe" => unsubscribe(data, scratch),
            "pusher:signin" => sign_in(data, scratch).map_err(|_| Error::SignInFields),
            client if client.starts_with("client-") => Ok(ClientMessage::Event(ClientEvent {
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
    ] = present(json::fields(object, &names)?);
    let [channel, auth, channel_data] =
        strings(object, &SUBSCRIPTION, [channel, auth, channel_data], reader)?;
    Ok(ClientMessage::Subscribe(Subscribe {
        channel: channel.ok_or(Error::Format)?,
        auth,
        channel_data,
        filter: filter.or(tags_filter),
        events,
        delta,
    }))
}

const SUBSCRIPTION: [&str; 3] = ["channel", "auth", "channel_data"];

/// An unsubscribe needs `channel` alone, but is refused for the same members as a subscribe.
fn unsubscribe<'a>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
) -> Result<ClientMessage<'a>, Error> {
    let (object, reader) = object_of(data, scratch)?;
    let tokens = present(json::fields(object, &SUBSCRIPTION)?);
    let [channel, ..] = strings(object, &SUBSCRIPTION, tokens, reader)?;
    Ok(ClientMessage::Unsubscribe {
        channel: channel.ok_or(Error::Format)?,
    })
}

fn sign_in<'a>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
) -> Result<ClientMessage<'a>, Error> {
    let (object, reader) = object_of(data, scratch)?;
    let names = ["auth", "user_data"];
    let tokens = present(json::fields(object, &names)?);
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

/// `null` is absence.
fn present<const N: usize>(found: [Option<Token<'_>>; N]) -> [Option<Token<'_>>; N] {
    found.map(|token| token.filter(|token| !token.is_null()))
}
