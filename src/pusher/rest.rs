//! What a server may publish: the bodies of `events` and `batch_events` into checked values.
//!
//! All or nothing: a value of [`Publish`] has passed every rule of HTTP spec 4.1 that the body
//! alone can decide, and a body with any fault gives the first one, by the rows of that table from
//! top to bottom. Signatures, rates and what a publish does are other modules' business.
//!
//! Invariant: the body is left untouched. Names and data stay tokens of it, so that a frame is
//! built by copying them, and an ordinary `events` body is read without an allocation.

mod error;
mod tags;

use std::borrow::Cow;

use smallvec::SmallVec;

use super::channel::{ChannelKind, ChannelName};
use super::json::{self, Kind, Malformed, StringSource, Token};
use super::socket_id::SocketId;

pub use error::Error;
pub use tags::{TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX, Tags};

/// An idempotency key has 1 to this many characters (extensions spec, section 4).
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// The limits of what an app may publish (WebSocket spec 18.1).
#[derive(Clone, Copy, Debug)]
pub struct PublishLimits {
    pub event_name_chars_max: u32,
    pub channel_name_chars_max: u32,
    /// Channels of one event, counted as sent.
    pub channels_per_event_max: u32,
    /// UTF-8 of the delivered `data` of one event; exactly this many are accepted.
    pub event_data_bytes_max: u32,
    pub batch_events_max: u32,
    pub tags_max: u32,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            event_name_chars_max: 200,
            channel_name_chars_max: 200,
            channels_per_event_max: 100,
            event_data_bytes_max: 100 << 10,
            batch_events_max: 10,
            tags_max: 32,
        }
    }
}

/// One event to publish, every field checked.
#[derive(Debug)]
pub struct Publish<'a> {
    pub name: Cow<'a, str>,
    /// The name as it is written into frames.
    pub name_source: StringSource<'a>,
    pub data: StringSource<'a>,
    /// UTF-8 of the string that is delivered.
    pub data_bytes: usize,
    pub channels: Channels<'a>,
    /// The connection to leave out; `None` also where the id is one that nobody can have.
    pub except: Option<SocketId>,
    /// Present even if it asks for nothing: then the answer has the long form (HTTP spec 4.3).
    pub info: Option<Info>,
    pub tags: Tags<'a>,
    /// Wish for or against delta compression (extensions spec 3.3).
    pub delta: Option<bool>,
    /// Always `None` for the events of a batch.
    pub idempotency_key: Option<Cow<'a, str>>,
}

/// Names that [`ChannelName::parse`] accepts, in the order sent, each once, at least one.
pub type Channels<'a> = SmallVec<[Cow<'a, str>; 1]>;

/// The attributes that an `info` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Info {
    pub user_count: bool,
    pub subscription_count: bool,
    pub cache: bool,
    /// Something else: left out of the answer to a publish, refused in a query.
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
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryFields<'a> {
    pub name: Option<&'a str>,
    pub data: Option<&'a str>,
    /// The values of `channels[]`; where there are any, `channel` is ignored.
    pub channels: &'a [&'a str],
    pub channel: Option<&'a str>,
    pub socket_id: Option<&'a str>,
    pub info: Option<&'a str>,
}

impl<'a> Publish<'a> {
    /// Reads the body of `events`.
    pub fn parse(body: &'a [u8], limits: &PublishLimits) -> Result<Self, Error<'a>> {
        let event = Fields::of(text(body)?)?;
        let mut publish = event.check(limits)?;
        publish.idempotency_key = event.idempotency_key.map(idempotency_key).transpose()?;
        Ok(publish)
    }

    /// Reads the query of a request to `events` whose body is empty.
    pub fn from_query(query: &QueryFields<'a>, limits: &PublishLimits) -> Result<Self, Error<'a>> {
        let name = query.name.ok_or(Error::Required("name"))?;
        check_name(name, limits)?;
        let data = query.data.ok_or(Error::Required("data"))?;
        check_data(data.len(), limits)?;
        let channels = match (query.channels, query.channel) {
            ([], None) => return Err(Error::Required("channels")),
            ([], Some(channel)) => Channels::from_iter([Cow::Borrowed(channel)]),
            (list, _) => {
                check_count(list.len(), limits)?;
                list.iter().map(|channel| Cow::Borrowed(*channel)).collect()
            }
        };
        Ok(Self {
            name: Cow::Borrowed(name),
            name_source: StringSource::Text(name),
            data: StringSource::Text(data),
            data_bytes: data.len(),
            channels: check_channels(channels, limits)?,
            except: query.socket_id.map(socket_id).transpose()?.flatten(),
            info: query.info.map(Info::parse),
            tags: Tags::new(),
            delta: None,
            idempotency_key: None,
        })
    }
}

/// Reads the body of `batch_events`: all of its events in order, or the first fault. An
/// `idempotency_key` inside an event is ignored, whatever it is (extensions spec, section 4).
pub fn parse_batch<'a>(
    body: &'a [u8],
    limits: &PublishLimits,
) -> Result<Vec<Publish<'a>>, Error<'a>> {
    let [batch] = json::fields(text(body)?, &["batch"])?;
    let batch = batch.filter(|batch| !batch.is_null());
    let batch = batch.ok_or(Error::Required("batch"))?;
    let wrong = Error::Type {
        field: "batch",
        expected: "an array of objects",
    };
    if batch.kind() != Kind::Array {
        return Err(wrong);
    }
    let count = batch.elements()?.count();
    if count > limits.batch_events_max as usize {
        return Err(Error::BatchTooLong {
            events_max: limits.batch_events_max,
        });
    }
    let mut events = Vec::with_capacity(count);
    for event in batch.elements()? {
        let event = event?;
        if event.kind() != Kind::Object {
            return Err(wrong);
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

    fn of(event: &'a str) -> Result<Self, Malformed> {
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
    fn check(&self, limits: &PublishLimits) -> Result<Publish<'a>, Error<'a>> {
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
            info: self.info.map(info).transpose()?,
            tags: self
                .tags
                .map_or(Ok(Tags::new()), |tags| tags::parse(tags, limits.tags_max))?,
            delta: self.delta.map(delta).transpose()?,
            idempotency_key: None,
        })
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

fn check_name<'a>(name: &str, limits: &PublishLimits) -> Result<(), Error<'a>> {
    let chars_max = limits.event_name_chars_max;
    if name.is_empty() || longer_than(name, chars_max as usize) {
        return Err(Error::NameLength { chars_max });
    }
    if name.starts_with("pusher:") || name.starts_with("pusher_internal:") {
        return Err(Error::NameReserved);
    }
    Ok(())
}

fn check_data<'a>(bytes: usize, limits: &PublishLimits) -> Result<(), Error<'a>> {
    let bytes_max = limits.event_data_bytes_max;
    if bytes > bytes_max as usize {
        return Err(Error::DataTooLarge { bytes_max });
    }
    Ok(())
}

fn check_count<'a>(count: usize, limits: &PublishLimits) -> Result<(), Error<'a>> {
    let channels_max = limits.channels_per_event_max;
    if count == 0 || count > channels_max as usize {
        return Err(Error::ChannelsCount { channels_max });
    }
    Ok(())
}

/// Every name legal, each kept once, an encrypted one alone.
fn check_channels<'a>(
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

fn socket_id<'a>(id: &str) -> Result<Option<SocketId>, Error<'a>> {
    match SocketId::parse(id) {
        Ok(id) => Ok(id.possible()),
        Err(_) => Err(Error::SocketId),
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

fn idempotency_key<'a>(token: Token<'a>) -> Result<Cow<'a, str>, Error<'a>> {
    let key = string(token, "idempotency_key")?;
    if key.is_empty() || longer_than(&key, IDEMPOTENCY_KEY_CHARS_MAX) {
        return Err(Error::IdempotencyKey);
    }
    Ok(key)
}

/// Counted in characters (Unicode scalar values), and only as far as needed.
fn longer_than(text: &str, chars_max: usize) -> bool {
    text.len() > chars_max && text.chars().nth(chars_max).is_some()
}
