//! What a client may say: one text message into one [`ClientMessage`], borrowed from it.
//!
//! Shape only (WebSocket spec, sections 3 and 3.1): whether a channel name is legal, a signature
//! right or a client event allowed is decided by those who know the app and the connection.
//!
//! Invariant: what is not an object with a string `event` is [`Error::Format`], whatever else is
//! wrong with it, and an error leaves the connection as it was.

use std::borrow::Cow;

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
    /// The name as a string token, to be copied into the frame.
    pub name_token: &'a str,
    /// `None` where it was missing or not a string: rule 3, refused with 4301.
    pub channel: Option<Cow<'a, str>>,
    /// A string as it is, anything else as its JSON text, nothing as `{}` (WebSocket spec 12.2).
    pub data: StringSource<'a>,
    /// Bytes of UTF-8 of the string that `data` becomes; the limit of rule 5 counts these.
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

/// Buffers that one reader of messages keeps between them.
#[derive(Default)]
pub struct Scratch {
    /// The text of a `data` that came as a string.
    inner: String,
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
            "pusher:signin" => sign_in(data, scratch),
            client if client.starts_with("client-") => {
                let data = Data::of(data);
                Ok(ClientMessage::Event(ClientEvent {
                    name,
                    name_token: event.raw(),
                    channel: channel.and_then(|channel| channel.decode()),
                    data: data.source,
                    data_bytes: data.bytes,
                }))
            }
            _ => Ok(ClientMessage::Unknown { event: name }),
        }
    }
}

fn subscribe<'a>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
) -> Result<ClientMessage<'a>, Error> {
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
    ] = object_fields(data, scratch, &names)?;
    Ok(ClientMessage::Subscribe(Subscribe {
        channel: string(channel)?.ok_or(Error::Format)?,
        auth: string(auth)?,
        channel_data: string(channel_data)?,
        filter: filter.or(tags_filter),
        events,
        delta,
    }))
}

fn unsubscribe<'a>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
) -> Result<ClientMessage<'a>, Error> {
    let [channel, auth, channel_data] =
        object_fields(data, scratch, &["channel", "auth", "channel_data"])?;
    // Nothing needs them, but a wrong type is refused as it is in a subscribe.
    string(auth)?;
    string(channel_data)?;
    Ok(ClientMessage::Unsubscribe {
        channel: string(channel)?.ok_or(Error::Format)?,
    })
}

fn sign_in<'a>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
) -> Result<ClientMessage<'a>, Error> {
    let [auth, user_data] =
        object_fields(data, scratch, &["auth", "user_data"]).map_err(|_| Error::SignInFields)?;
    let required = |value: Option<Token<'a>>| value.and_then(|value| value.decode());
    let (auth, user_data) = required(auth)
        .zip(required(user_data))
        .ok_or(Error::SignInFields)?;
    Ok(ClientMessage::SignIn(SignIn { auth, user_data }))
}

/// The members `names` of `data`: an object, or a string holding the text of one (Reverb's
/// clients may send that). `null` is absence.
fn object_fields<'a, const N: usize>(
    data: Option<Token<'a>>,
    scratch: &'a mut Scratch,
    names: &[&str; N],
) -> Result<[Option<Token<'a>>; N], Error> {
    let data = data.ok_or(Error::Format)?;
    let found = if data.kind() == Kind::String {
        scratch.inner.clear();
        data.decode_into(&mut scratch.inner);
        json::fields(&scratch.inner, names)?
    } else {
        data.fields(names)?
    };
    Ok(found.map(|value| value.filter(|value| !value.is_null())))
}

/// A string, or nothing where there is none; any other kind is an error.
fn string(value: Option<Token<'_>>) -> Result<Option<Cow<'_, str>>, Error> {
    value
        .map(|value| value.decode().ok_or(Error::Format))
        .transpose()
}

/// What a client event delivers.
struct Data<'a> {
    source: StringSource<'a>,
    bytes: usize,
}

impl<'a> Data<'a> {
    fn of(data: Option<Token<'a>>) -> Self {
        match data {
            Some(data) => Data {
                source: data.as_delivered(),
                bytes: data.delivered_bytes(),
            },
            None => Data {
                source: StringSource::Text("{}"),
                bytes: 2,
            },
        }
    }
}
