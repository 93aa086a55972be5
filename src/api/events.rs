//! `events` and `batch_events`: a checked body into one call of the shard (HTTP spec 4, 5).
//!
//! Every rule about fields is `pusher::rest`'s, every rule about order the shard's. This file
//! builds each frame once, says which counts are asked for, and words the answer.
//!
//! Invariant: `Shard::on_publish` is called once per request, for all of its events and channels,
//! after all of them have been found good: what is published is everything or nothing.

use std::slice;
use std::sync::Arc;

use crate::app::{App, AppSettings};
use crate::clock::Micros;
use crate::http::Status;
use crate::pusher::channel::ChannelName;
use crate::pusher::filter::TagSet;
use crate::pusher::json::StringSource;
use crate::pusher::outbound::{self, write_text_frame};
use crate::pusher::query::Query;
use crate::pusher::rest::{self, PublishLimits, QueryFields};
use crate::shard::claims::Digest;
use crate::shard::message::{Frame, Origin, Publish, ReplyTo};
use crate::shard::publish::Publishes;

use super::counts::{Form, PublishCounts};
use super::keyed;
use super::request::{Accepted, Context, OnBody};
use super::waiting::{Asked, RETRY_SECS, Waiting};
use super::{Body, Response};

/// What a body may hold beside the data of one event: names, channels, JSON around them.
const BODY_BESIDE_DATA_BYTES_MAX: u64 = 64 << 10;
/// Bytes that one byte of data may take in a body, as `\u00XX`.
const BYTES_PER_DATA_BYTE_MAX: u64 = 6;
/// Bytes of a frame beside name, channel and data: header, keys, quotes.
const FRAME_BESIDE_BYTES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Events,
    BatchEvents,
}

impl Endpoint {
    /// The longest body that can be a good one (HTTP spec 1.3).
    pub(super) fn body_bytes_max(self, settings: &AppSettings) -> u64 {
        let event = BODY_BESIDE_DATA_BYTES_MAX
            + BYTES_PER_DATA_BYTE_MAX * u64::from(settings.event_data_bytes_max);
        match self {
            Self::Events => event,
            Self::BatchEvents => event.saturating_mul(settings.batch_events_max.into()),
        }
    }
}

/// The fields of a publish that stand in the query, kept for a body that turns out to be empty.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    name: Option<String>,
    data: Option<String>,
    channels: Vec<String>,
    channel: Option<String>,
    socket_id: Option<String>,
    info: Option<String>,
}

impl Fields {
    pub(super) fn of(query: &Query<'_>) -> Self {
        let value = |name| query.value(name).map(str::to_owned);
        let info: Vec<_> = query.values("info").collect();
        Self {
            name: value("name"),
            data: value("data"),
            channels: query.values("channels").map(str::to_owned).collect(),
            channel: value("channel"),
            socket_id: value("socket_id"),
            info: (!info.is_empty()).then(|| info.join(",")),
        }
    }

    /// The same, borrowed. `channels` are [`Fields::channels`].
    fn lend<'f>(&'f self, channels: &'f [&'f str]) -> QueryFields<'f> {
        QueryFields {
            name: self.name.as_deref(),
            data: self.data.as_deref(),
            channels,
            channel: self.channel.as_deref(),
            socket_id: self.socket_id.as_deref(),
            info: self.info.as_deref(),
        }
    }

    fn channels(&self) -> Vec<&str> {
        self.channels.iter().map(String::as_str).collect()
    }
}

/// A publish whose body is whole, not read yet.
#[derive(Clone, Copy)]
pub(super) struct Request<'r> {
    pub(super) app: &'r Arc<App>,
    pub(super) form: Form,
    /// Those in the query, in case the body is empty.
    pub(super) fields: Option<&'r Fields>,
    pub(super) body: &'r [u8],
}

/// What has become of a publish.
pub(super) enum Acted {
    /// Published, or refused.
    Done(Response),
    /// Published; the homes of its channels have been asked for counts.
    Asked(PublishCounts),
}

/// The body of a publish whose digest is right.
pub(super) fn on_body(
    context: &mut Context<'_>,
    accepted: &Accepted,
    endpoint: Endpoint,
    fields: Option<&Fields>,
    reply_to: ReplyTo,
    body: &[u8],
    md5: Digest,
) -> OnBody {
    let request = Request {
        app: &accepted.app,
        form: match endpoint {
            Endpoint::Events => Form::Channels,
            Endpoint::BatchEvents => Form::Batch,
        },
        fields,
        body,
    };
    let wait = |asked| OnBody::Wait(Box::new(Waiting::new(accepted, asked)));
    let outcome = request.read(|events| {
        let key = keyed::key_of(accepted.idempotency_key.as_deref(), events)?;
        if let Some(key) = key {
            let claimant = keyed::claim(context, &request, reply_to, &key, md5);
            return Ok(wait(Asked::Claim(claimant)));
        }
        Ok(match request.act(context, reply_to, events) {
            Acted::Done(response) => OnBody::Respond(response),
            Acted::Asked(counts) => wait(Asked::Counts {
                counts,
                claim: None,
            }),
        })
    });
    outcome.unwrap_or_else(OnBody::Respond)
}

fn limits(settings: &AppSettings) -> PublishLimits {
    PublishLimits {
        event_name_chars_max: settings.event_name_chars_max,
        channel_name_chars_max: settings.channel_name_chars_max,
        channels_per_event_max: settings.channels_per_event_max,
        event_data_bytes_max: settings.event_data_bytes_max,
        batch_events_max: settings.batch_events_max,
        ..PublishLimits::default()
    }
}

fn refused(error: &rest::Error<'_>) -> Response {
    let status = match error.status() {
        403 => Status::Forbidden,
        413 => Status::PayloadTooLarge,
        _ => Status::BadRequest,
    };
    Response::error(status, error.slug(), error)
}

impl Request<'_> {
    /// Reads the events and does something with them; the answer, if they cannot be read.
    pub(super) fn read<R>(
        &self,
        act: impl FnOnce(&[rest::Publish<'_>]) -> Result<R, Response>,
    ) -> Result<R, Response> {
        let limits = limits(&self.app.settings);
        match (self.form, self.fields) {
            (Form::Channels, Some(fields)) if self.body.is_empty() => {
                let channels = fields.channels();
                let event = rest::Publish::from_query(&fields.lend(&channels), &limits);
                act(slice::from_ref(&event.map_err(|error| refused(&error))?))
            }
            (Form::Channels, _) => {
                let event = rest::Publish::parse(self.body, &limits);
                act(slice::from_ref(&event.map_err(|error| refused(&error))?))
            }
            (Form::Batch, _) => {
                let events = rest::parse_batch(self.body, &limits);
                act(&events.map_err(|error| refused(&error))?)
            }
        }
    }

    /// Publishes the events, all or none.
    pub(super) fn act(
        &self,
        context: &mut Context<'_>,
        reply_to: ReplyTo,
        events: &[rest::Publish<'_>],
    ) -> Acted {
        let (app, form) = (self.app, self.form);
        let asks = events.iter().any(|event| event.info.is_some());
        let mut counts = asks.then(|| PublishCounts::new(form));
        let channels = events.iter().map(|event| event.channels.len()).sum();
        let mut publishes = Publishes::with_capacity(channels);
        for event in events {
            let tags = match app.settings.tag_filtering {
                true => TagSet::new(&event.tags),
                false => TagSet::default(),
            };
            for (nth, channel) in event.channels.iter().enumerate() {
                let chars_max = app.settings.channel_name_chars_max as usize;
                let name = ChannelName::parse(channel, chars_max)
                    .expect("`rest` has parsed every name of an event with the same limit");
                let info = event.info.unwrap_or_default();
                let ask = counts
                    .as_mut()
                    // Of several channels of an event in a batch, `info` describes the first.
                    .filter(|_| form == Form::Channels || nth == 0)
                    .and_then(|counts| counts.add(name, info, &app.settings));
                publishes.push(Box::new(Publish {
                    app: app.index,
                    hash: context.shard.hash(app.index, channel),
                    channel: channel.as_ref().into(),
                    frame: frame(event, channel, context.shard.moment(), tags.clone()),
                    except: event.except,
                    origin: Origin::Api,
                    cached: name.is_cache(),
                    delta: event.delta,
                    ask: ask.map(|index| (reply_to, index)),
                    webhook: None,
                }));
            }
        }
        if context.shard.on_publish(publishes).is_err() {
            let text = "The server is overloaded: nothing was published.";
            return Acted::Done(Response::unavailable(text, RETRY_SECS));
        }
        let Some(counts) = counts else {
            return Acted::Done(published(context, form));
        };
        match counts.response() {
            Some(response) => Acted::Done(response),
            None => Acted::Asked(counts),
        }
    }
}

/// The answer without counts.
fn published(context: &Context<'_>, form: Form) -> Response {
    match form {
        Form::Channels if !context.settings.events_response_empty => Response::OK_TRUE,
        _ => Response::new(Status::Ok, Body::JsonFixed("{}")),
    }
}

/// The event as every subscriber of `channel` gets it, in a buffer that need not grow where name
/// and data are tokens to copy.
fn frame(event: &rest::Publish<'_>, channel: &str, accepted: Micros, tags: TagSet) -> Arc<Frame> {
    let source_bytes = |source| match source {
        StringSource::Token(text) | StringSource::Text(text) => str::len(text),
    };
    let (name, data) = (event.name_source, event.data);
    let bytes = FRAME_BESIDE_BYTES + source_bytes(name) + channel.len() + source_bytes(data);
    let mut frame = Vec::with_capacity(bytes);
    write_text_frame(&mut frame, |out| {
        outbound::event(out, name, channel, data, None);
    });
    Frame::published(frame, accepted, tags)
}

#[cfg(test)]
mod tests;
