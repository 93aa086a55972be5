//! What a server may publish: the bodies of `events` and `batch_events` into checked values.
//!
//! All or nothing: a value of [`Publish`] has passed every rule of HTTP spec 4.1 that the body
//! alone can decide, and a body with any fault gives the first one, by the rows of that table from
//! top to bottom. Signatures, rates and what a publish does are other modules' business.
//!
//! Invariant: nothing is allocated for an ordinary body except the list of a batch. Names and data
//! stay tokens of the body, which is left untouched, so that a frame can be built by copying them.

use std::{borrow::Cow, fmt};

use smallvec::SmallVec;

use super::json::{self, Kind, Malformed, StringSource, Token};

/// The limits that an app has for what it publishes (WebSocket spec 18.1).
#[derive(Clone, Copy, Debug)]
pub struct PublishLimits {
    pub name_chars_max: usize,
    pub channel_chars_max: usize,
    /// Channels of one event, counted as sent.
    pub channels_max: usize,
    /// UTF-8 of the delivered data; exactly this many are accepted.
    pub data_bytes_max: usize,
    pub batch_events_max: usize,
    pub tags_max: usize,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            name_chars_max: 200,
            channel_chars_max: 200,
            channels_max: 100,
            data_bytes_max: 100 * 1024,
            batch_events_max: 10,
            tags_max: 32,
        }
    }
}

/// Bytes of a tag's key, and characters of an idempotency key: 1 to these.
pub const TAG_KEY_BYTES_MAX: usize = 64;
pub const TAG_VALUE_BYTES_MAX: usize = 256;
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// The channels of one event: most have one.
pub type Channels<'a> = SmallVec<[Cow<'a, str>; 1]>;

/// Keys and values, each key once.
pub type Tags<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// One event to publish, every field checked.
#[derive(Debug)]
pub struct Publish<'a> {
    /// The name decoded, for whoever compares it.
    pub name: Cow<'a, str>,
    /// The name as it is written into frames.
    pub name_source: StringSource<'a>,
    pub data: StringSource<'a>,
    /// UTF-8 of the string that `data` becomes.
    pub data_bytes: usize,
    /// Legal names in the order sent, each once, at least one.
    pub channels: Channels<'a>,
    /// `^\d+\.\d+$`; the connection to leave out.
    pub socket_id: Option<Cow<'a, str>>,
    /// Present, even if it asks for nothing: the answer has the long form.
    pub info: Option<Info>,
    pub tags: Tags<'a>,
    pub delta: Option<bool>,
    pub idempotency_key: Option<Cow<'a, str>>,
}

/// Attributes asked for with `info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    pub user_count: bool,
    pub subscription_count: bool,
    pub cache: bool,
    /// Something else was asked for: left out on a publish, refused on a query.
    pub unknown: bool,
}

impl Info {
    /// Reads a comma-separated list. Blanks around an item and empty items are ignored.
    pub fn parse(list: &str) -> Self {
        let mut info = Self::default();
        info.add(list);
        info
    }

    fn add(&mut self, list: &str) {
        for item in list.split(',') {
            match item.trim_matches([' ', '\t']) {
                "" => {}
                "user_count" => self.user_count = true,
                "subscription_count" => self.subscription_count = true,
                "cache" => self.cache = true,
                _ => self.unknown = true,
            }
        }
    }
}

/// The fields of a publish whose body is empty, as the query gives them (HTTP spec 4.1, end).
/// `channels` holds the values of `channels[]`; where there are any, `channel` is ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryFields<'a> {
    pub name: Option<&'a str>,
    pub data: Option<&'a str>,
    pub channels: &'a [&'a str],
    pub channel: Option<&'a str>,
    pub socket_id: Option<&'a str>,
    pub info: Option<&'a str>,
}

/// The first fault of a body. [`fmt::Display`] gives the text of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<'a> {
    /// Not UTF-8, not JSON by our rules, or no object.
    Malformed,
    Required(&'static str),
    Type {
        field: &'static str,
        expected: &'static str,
    },
    NameLength {
        chars_max: usize,
    },
    NameReserved,
    DataSize {
        bytes_max: usize,
    },
    ChannelsEmpty,
    ChannelsCount {
        channels_max: usize,
    },
    ChannelName {
        chars_max: usize,
    },
    /// A `#` name other than a user's channel.
    ChannelReserved,
    EncryptedNotAlone,
    SocketId,
    TagsCount {
        tags_max: usize,
    },
    /// The raw token of the key, quotes included.
    TagKey(&'a str),
    TagValue(&'a str),
    IdempotencyKey,
    BatchCount {
        batch_events_max: usize,
    },
}

impl Error<'_> {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Error::DataSize { .. } => 413,
            Error::ChannelReserved => 403,
            _ => 400,
        }
    }

    /// The `code` of the error object (HTTP spec 1.2).
    pub fn slug(&self) -> &'static str {
        match self {
            Error::DataSize { .. } => "payload_too_large",
            Error::ChannelReserved => "forbidden",
            Error::ChannelsCount { .. } | Error::TagsCount { .. } | Error::BatchCount { .. } => {
                "limit_exceeded"
            }
            _ => "invalid_input",
        }
    }
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::DataSize { bytes_max } if bytes_max % 1024 == 0 => {
                return write!(
                    f,
                    "Payload too large. Maximum size is {}KB.",
                    bytes_max / 1024
                );
            }
            Error::DataSize { bytes_max } => {
                return write!(f, "Payload too large. Maximum size is {bytes_max} bytes.");
            }
            Error::ChannelReserved => {
                return f.write_str("Forbidden: channels that begin with '#' are reserved.");
            }
            _ => f.write_str("Invalid request: ")?,
        }
        match *self {
            Error::Malformed => f.write_str("the body is not a JSON object."),
            Error::Required(field) => write!(f, "'{field}' field is required."),
            Error::Type { field, expected } => write!(f, "'{field}' must be {expected}."),
            Error::NameLength { chars_max } => {
                write!(f, "'name' must have 1 to {chars_max} characters.")
            }
            Error::NameReserved => {
                f.write_str("'name' must not begin with 'pusher:' or 'pusher_internal:'.")
            }
            Error::ChannelsEmpty => f.write_str("'channels' must not be empty."),
            Error::ChannelsCount { channels_max } => {
                write!(f, "'channels' may have at most {channels_max} entries.")
            }
            Error::ChannelName { chars_max } => write!(
                f,
                "a channel name must have 1 to {chars_max} characters of A-Z a-z 0-9 _ - = @ , . ;"
            ),
            Error::EncryptedNotAlone => {
                f.write_str("an encrypted channel must be the only one of 'channels'.")
            }
            Error::SocketId => f.write_str("'socket_id' must be two integers joined by a dot."),
            Error::TagsCount { tags_max } => {
                write!(f, "'tags' may have at most {tags_max} members.")
            }
            Error::TagKey(key) => write!(
                f,
                "the key {} of 'tags' must have 1 to {TAG_KEY_BYTES_MAX} bytes.",
                Shortened(key)
            ),
            Error::TagValue(key) => write!(
                f,
                "{} of 'tags' must be a string, number or boolean of at most \
                 {TAG_VALUE_BYTES_MAX} bytes.",
                Shortened(key)
            ),
            Error::IdempotencyKey => write!(
                f,
                "'idempotency_key' must have 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters."
            ),
            Error::BatchCount { batch_events_max } => {
                write!(f, "'batch' may have at most {batch_events_max} events.")
            }
            Error::DataSize { .. } | Error::ChannelReserved => Ok(()),
        }
    }
}

/// A token of the body in an error text: its beginning is enough to find it.
struct Shortened<'a>(&'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for char in chars.by_ref().take(TAG_KEY_BYTES_MAX) {
            fmt::Write::write_char(f, char)?;
        }
        if chars.next().is_some() {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

impl From<Malformed> for Error<'_> {
    fn from(_: Malformed) -> Self {
        Error::Malformed
    }
}

impl<'a> Publish<'a> {
    /// The body of `events`.
    pub fn parse(body: &'a [u8], limits: &PublishLimits) -> Result<Self, Error<'a>> {
        let event = Fields::of(text(body)?)?;
        let mut publish = event.check(limits)?;
        publish.idempotency_key = idempotency_key(event.idempotency_key)?;
        Ok(publish)
    }

    /// The fields of the query, where the body is empty.
    pub fn from_query(query: &QueryFields<'a>, limits: &PublishLimits) -> Result<Self, Error<'a>> {
        let name = Cow::Borrowed(query.name.ok_or(Error::Required("name"))?);
        check_name(&name, limits)?;
        let data = query.data.ok_or(Error::Required("data"))?;
        check_data(data.len(), limits)?;
        let channels = if query.channels.is_empty() {
            let channel = query.channel.ok_or(Error::Required("channels"))?;
            SmallVec::from_iter([Cow::Borrowed(channel)])
        } else {
            check_count(query.channels.len(), limits)?;
            query
                .channels
                .iter()
                .map(|channel| Cow::Borrowed(*channel))
                .collect()
        };
        Ok(Publish {
            name_source: StringSource::Text(query.name.unwrap_or_default()),
            name,
            data: StringSource::Text(data),
            data_bytes: data.len(),
            channels: check_channels(channels, limits)?,
            socket_id: query
                .socket_id
                .map(|id| socket_id(Cow::Borrowed(id)))
                .transpose()?,
            info: query.info.map(Info::parse),
            tags: Vec::new(),
            delta: None,
            idempotency_key: None,
        })
    }
}

/// The body of `batch_events`: all of its events in order, or the first fault. An
/// `idempotency_key` inside an event is ignored, whatever it is (extensions spec, section 4).
pub fn parse_batch<'a>(
    body: &'a [u8],
    limits: &PublishLimits,
) -> Result<Vec<Publish<'a>>, Error<'a>> {
    let [batch] = json::fields(text(body)?, &["batch"])?;
    let batch = batch
        .filter(|batch| !batch.is_null())
        .ok_or(Error::Required("batch"))?;
    if batch.kind() != Kind::Array {
        return Err(Error::Type {
            field: "batch",
            expected: "an array",
        });
    }
    let count = batch.elements()?.count();
    if count > limits.batch_events_max {
        return Err(Error::BatchCount {
            batch_events_max: limits.batch_events_max,
        });
    }
    let mut events = Vec::with_capacity(count);
    for event in batch.elements()? {
        let event = event?;
        if event.kind() != Kind::Object {
            return Err(Error::Type {
                field: "batch",
                expected: "an array of objects",
            });
        }
        events.push(Fields::of(event.raw())?.check(limits)?);
    }
    Ok(events)
}

fn text(body: &[u8]) -> Result<&str, Malformed> {
    simdutf8::basic::from_utf8(body).map_err(|_| Malformed)
}

/// The members of an event as found; `null` is absence, except for `data`.
struct Fields<'a> {
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
    fn of(event: &'a str) -> Result<Self, Malformed> {
        let names = [
            "name",
            "data",
            "channels",
            "channel",
            "socket_id",
            "info",
            "tags",
            "delta",
            "idempotency_key",
        ];
        let [name, data, optional @ ..] = json::fields(event, &names)?;
        let name = name.filter(|name| !name.is_null());
        let [
            channels,
            channel,
            socket_id,
            info,
            tags,
            delta,
            idempotency_key,
        ] = optional.map(|value| value.filter(|value| !value.is_null()));
        Ok(Fields {
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
    fn check(&self, limits: &PublishLimits) -> Result<Publish<'a>, Error<'a>> {
        let name_token = self.name.ok_or(Error::Required("name"))?;
        let name = string(name_token, "name")?;
        check_name(&name, limits)?;
        let data = self.data.ok_or(Error::Required("data"))?;
        let data_bytes = data.delivered_bytes();
        check_data(data_bytes, limits)?;
        let channels = check_channels(self.channel_list(limits)?, limits)?;
        let socket_id = match self.socket_id {
            Some(token) => Some(socket_id(string(token, "socket_id")?)?),
            None => None,
        };
        Ok(Publish {
            name,
            name_source: name_token.as_delivered(),
            data: data.as_delivered(),
            data_bytes,
            channels,
            socket_id,
            info: self.info.map(info).transpose()?,
            tags: self
                .tags
                .map_or(Ok(Vec::new()), |tags| self::tags(tags, limits))?,
            delta: self.delta.map(delta).transpose()?,
            idempotency_key: None,
        })
    }

    fn channel_list(&self, limits: &PublishLimits) -> Result<Channels<'a>, Error<'a>> {
        let Some(list) = self.channels else {
            let channel = self.channel.ok_or(Error::Required("channels"))?;
            return Ok(SmallVec::from_iter([string(channel, "channel")?]));
        };
        let wrong = Error::Type {
            field: "channels",
            expected: "an array of strings",
        };
        if list.kind() != Kind::Array {
            return Err(wrong);
        }
        let mut channels = Channels::new();
        check_count(list.elements()?.count(), limits)?;
        for channel in list.elements()? {
            channels.push(channel?.decode().ok_or(wrong)?);
        }
        Ok(channels)
    }
}

fn string<'a>(token: Token<'a>, field: &'static str) -> Result<Cow<'a, str>, Error<'a>> {
    token.decode().ok_or(Error::Type {
        field,
        expected: "a string",
    })
}

fn check_name<'a>(name: &str, limits: &PublishLimits) -> Result<(), Error<'a>> {
    if name.is_empty() || longer_than(name, limits.name_chars_max) {
        return Err(Error::NameLength {
            chars_max: limits.name_chars_max,
        });
    }
    if name.starts_with("pusher:") || name.starts_with("pusher_internal:") {
        return Err(Error::NameReserved);
    }
    Ok(())
}

fn check_data<'a>(bytes: usize, limits: &PublishLimits) -> Result<(), Error<'a>> {
    if bytes > limits.data_bytes_max {
        return Err(Error::DataSize {
            bytes_max: limits.data_bytes_max,
        });
    }
    Ok(())
}

fn check_count<'a>(count: usize, limits: &PublishLimits) -> Result<(), Error<'a>> {
    match count {
        0 => Err(Error::ChannelsEmpty),
        _ if count > limits.channels_max => Err(Error::ChannelsCount {
            channels_max: limits.channels_max,
        }),
        _ => Ok(()),
    }
}

/// Every name legal, each kept once, an encrypted one alone.
fn check_channels<'a>(
    mut channels: Channels<'a>,
    limits: &PublishLimits,
) -> Result<Channels<'a>, Error<'a>> {
    for channel in &channels {
        check_channel(channel, limits)?;
    }
    keep_first(&mut channels);
    let encrypted = |channel: &Cow<'_, str>| channel.starts_with("private-encrypted-");
    if channels.len() > 1 && channels.iter().any(encrypted) {
        return Err(Error::EncryptedNotAlone);
    }
    Ok(channels)
}

fn check_channel<'a>(channel: &str, limits: &PublishLimits) -> Result<(), Error<'a>> {
    let (name, chars_max) = match channel.strip_prefix('#') {
        Some(rest) => (
            rest.strip_prefix("server-to-user-")
                .ok_or(Error::ChannelReserved)?,
            200,
        ),
        None => (channel, limits.channel_chars_max),
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=@,.;".contains(&byte);
    if name.is_empty() || name.len() > chars_max || !name.bytes().all(legal) {
        return Err(Error::ChannelName { chars_max });
    }
    Ok(())
}

/// Drops what was there before. Quadratic, over a list that `channels_max` bounds.
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

fn socket_id<'a>(id: Cow<'a, str>) -> Result<Cow<'a, str>, Error<'a>> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match id.split_once('.') {
        Some((left, right)) if digits(left) && digits(right) => Ok(id),
        _ => Err(Error::SocketId),
    }
}

fn info<'a>(token: Token<'a>) -> Result<Info, Error<'a>> {
    let wrong = Error::Type {
        field: "info",
        expected: "a comma-separated string",
    };
    let mut info = Info::default();
    match token.kind() {
        Kind::String => info.add(&token.decode().ok_or(wrong)?),
        Kind::Array => {
            for item in token.elements()? {
                info.add(&item?.decode().ok_or(wrong)?);
            }
        }
        _ => return Err(wrong),
    }
    Ok(info)
}

fn delta<'a>(token: Token<'a>) -> Result<bool, Error<'a>> {
    token.as_bool().ok_or(Error::Type {
        field: "delta",
        expected: "a boolean",
    })
}

/// Extensions spec 2.1. Of a repeated key the last value counts, and is the one that is checked.
fn tags<'a>(token: Token<'a>, limits: &PublishLimits) -> Result<Tags<'a>, Error<'a>> {
    if token.kind() != Kind::Object {
        return Err(Error::Type {
            field: "tags",
            expected: "an object",
        });
    }
    let mut last: Vec<(Cow<'a, str>, Token<'a>, Token<'a>)> = Vec::new();
    for member in token.members()? {
        let (key_token, value) = member?;
        let key = key_token.decode().ok_or(Malformed)?;
        if key.is_empty() || key.len() > TAG_KEY_BYTES_MAX {
            return Err(Error::TagKey(key_token.raw()));
        }
        match last.iter().position(|(known, ..)| *known == key) {
            Some(index) => last[index].2 = value,
            None if last.len() == limits.tags_max => {
                return Err(Error::TagsCount {
                    tags_max: limits.tags_max,
                });
            }
            None => last.push((key, key_token, value)),
        }
    }
    last.into_iter()
        .map(|(key, key_token, value)| match tag_value(value) {
            Some(value) => Ok((key, value)),
            None => Err(Error::TagValue(key_token.raw())),
        })
        .collect()
}

/// A string decoded, a number or boolean as its JSON text.
fn tag_value<'a>(value: Token<'a>) -> Option<Cow<'a, str>> {
    let text = match value.kind() {
        Kind::String => value.decode()?,
        Kind::Number | Kind::Bool => Cow::Borrowed(value.raw()),
        Kind::Null | Kind::Object | Kind::Array => return None,
    };
    (text.len() <= TAG_VALUE_BYTES_MAX).then_some(text)
}

fn idempotency_key<'a>(token: Option<Token<'a>>) -> Result<Option<Cow<'a, str>>, Error<'a>> {
    let Some(token) = token else { return Ok(None) };
    let key = string(token, "idempotency_key")?;
    if key.is_empty() || longer_than(&key, IDEMPOTENCY_KEY_CHARS_MAX) {
        return Err(Error::IdempotencyKey);
    }
    Ok(Some(key))
}

/// Counted in characters (Unicode scalar values), and only as far as needed.
fn longer_than(text: &str, chars_max: usize) -> bool {
    text.len() > chars_max && text.chars().nth(chars_max).is_some()
}
