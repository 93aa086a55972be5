//! The questions of `GET`: channels, one channel, its users, the app's connections (HTTP spec 6-8).
//!
//! What may be asked is decided here; what the homes answer is put into the object that shows it.
//! Counts come from homes alone, at the moment at which the question enters their inboxes.
//!
//! Invariant: a question is asked only after all of it has been found good.

use crate::app::{App, AppSettings, SubscriptionCount};
use crate::http::Status;
use crate::pusher::channel::ChannelName;
use crate::pusher::rest::Info;
use crate::pusher::{escape, json, query};
use crate::shard::message::{Counts, ReplyTo};
use crate::shard::question::{About, CachedEvent, MemberUser, Question};

use super::counts::{write_counts, write_member};
use super::listing::Listing;
use super::request::{Accepted, Context, OnBody};
use super::waiting::{Asked, Waiting};
use super::{Body, Response};

/// What kind of channels have users, and how a prefix of theirs begins.
const PRESENCE_PREFIX: &str = "presence-";

/// What a `GET` asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Occupied channels.
    Channels,
    /// A channel, by the name in the path.
    Channel(Box<str>),
    /// The users of a channel.
    Users(Box<str>),
    /// How many connections the app has.
    Connections,
}

/// A signed question, not yet looked at.
#[derive(Debug)]
pub(super) struct Query {
    subject: Subject,
    prefix: Box<str>,
    info: Info,
    with_user_info: bool,
}

impl Query {
    /// Takes the parameters that are ours; others are only signed.
    pub(super) fn of(subject: Subject, query: &query::Query<'_>) -> Self {
        let info: Vec<_> = query.values("info").collect();
        Self {
            subject,
            prefix: query.value("filter_by_prefix").unwrap_or_default().into(),
            info: Info::parse(&info.join(",")),
            with_user_info: query.value("with_user_info") == Some("1"),
        }
    }
}

/// Answers a question at once, or asks those who know.
pub(super) fn on_query(
    context: &mut Context<'_>,
    accepted: &Accepted,
    query: &Query,
    reply_to: ReplyTo,
) -> OnBody {
    let app = &accepted.app;
    let asked = match &query.subject {
        Subject::Connections => {
            let json = format!(r#"{{"connections":{}}}"#, app.quota.taken());
            return OnBody::Respond(ok(json.into_bytes()));
        }
        Subject::Channels => ask_listing(context, app, query, reply_to),
        Subject::Channel(name) => ask_channel(context, app, name, query.info, reply_to),
        Subject::Users(name) => ask_users(context, app, name, query.with_user_info, reply_to),
    };
    match asked {
        Ok(asked) => OnBody::Wait(Box::new(Waiting::new(accepted, asked))),
        Err(response) => OnBody::Respond(response),
    }
}

fn ask_listing(
    context: &mut Context<'_>,
    app: &App,
    query: &Query,
    reply_to: ReplyTo,
) -> Result<Asked, Response> {
    let info = query.info;
    if info.unknown || info.cache {
        let text = "'info' of a list of channels may have user_count and subscription_count";
        return Err(invalid(text));
    }
    if info.user_count && !query.prefix.starts_with(PRESENCE_PREFIX) {
        let text = "'user_count' in 'info' needs a 'filter_by_prefix' that begins with presence-";
        return Err(invalid(text));
    }
    check_subscription_count(info, &app.settings)?;
    let shards = context.shard.shards();
    let listing = Listing::new(app.index, &query.prefix, info, shards);
    for shard in 0..shards {
        let question = listing.question(shard, None);
        context.shard.on_ask(shard, question, reply_to);
    }
    Ok(Asked::Listing(listing))
}

fn ask_channel(
    context: &mut Context<'_>,
    app: &App,
    name: &str,
    info: Info,
    reply_to: ReplyTo,
) -> Result<Asked, Response> {
    let channel = parse_name(name, &app.settings)?;
    if info.unknown {
        let text = "'info' of a channel may have user_count, subscription_count and cache";
        return Err(invalid(text));
    }
    if info.user_count && !channel.is_presence() {
        return Err(invalid("'user_count' in 'info' needs a presence channel"));
    }
    if info.cache && !channel.is_cache() {
        return Err(invalid("'cache' in 'info' needs a cache channel"));
    }
    check_subscription_count(info, &app.settings)?;
    let about = |hash| About::Channel {
        hash,
        name: name.into(),
        cache: info.cache,
    };
    ask_home(context, app, name, about, reply_to);
    Ok(Asked::Channel(info))
}

fn ask_users(
    context: &mut Context<'_>,
    app: &App,
    name: &str,
    with_info: bool,
    reply_to: ReplyTo,
) -> Result<Asked, Response> {
    if !parse_name(name, &app.settings)?.is_presence() {
        return Err(invalid("only presence channels have users"));
    }
    let about = |hash| About::Users {
        hash,
        name: name.into(),
        with_info,
    };
    ask_home(context, app, name, about, reply_to);
    Ok(Asked::Users)
}

fn ask_home(
    context: &mut Context<'_>,
    app: &App,
    name: &str,
    about: impl FnOnce(u64) -> About,
    reply_to: ReplyTo,
) {
    let hash = context.shard.hash(app.index, name);
    let question = Question {
        index: 0,
        app: app.index,
        about: about(hash),
    };
    let home = context.shard.home_of(hash);
    context.shard.on_ask(home, question, reply_to);
}

/// Names of users' channels are no names here.
fn parse_name<'n>(name: &'n str, settings: &AppSettings) -> Result<ChannelName<'n>, Response> {
    if name.starts_with('#') {
        return Err(invalid("the channel is of a reserved type"));
    }
    ChannelName::parse(name, settings.channel_name_chars_max as usize)
        .map_err(|rule| invalid(&format!("the channel name {rule}")))
}

fn check_subscription_count(info: Info, settings: &AppSettings) -> Result<(), Response> {
    let is_off = settings.subscription_count == SubscriptionCount::Off;
    if info.subscription_count && is_off {
        return Err(invalid(
            "'subscription_count' in 'info' is switched off for this app",
        ));
    }
    Ok(())
}

fn invalid(text: &str) -> Response {
    let text = format_args!("Invalid request: {text}.");
    Response::error(Status::BadRequest, "invalid_input", text)
}

/// The answer to a question about one channel. `cached` counts only where it was asked for.
pub(super) fn channel_found(info: Info, counts: Counts, cached: Option<&CachedEvent>) -> Response {
    let mut json = b"{".to_vec();
    write_member(&mut json, "occupied", counts.subscriptions > 0);
    write_counts(&mut json, info.user_count, info.subscription_count, counts);
    if info.cache {
        json.extend_from_slice(b",\"cache\":");
        match cached.and_then(|cached| Some((data_token(cached.frame.payload())?, cached.left))) {
            None => json.extend_from_slice(b"null"),
            Some((data, left)) => {
                json.extend_from_slice(b"{\"data\":");
                json.extend_from_slice(data.as_bytes());
                write_member(&mut json, "ttl", left.as_secs());
                json.push(b'}');
            }
        }
    }
    json.push(b'}');
    ok(json)
}

/// The string that is the `data` of an event, as the token that every subscriber gets.
fn data_token(event: &[u8]) -> Option<&str> {
    let [data] = json::fields(str::from_utf8(event).ok()?, &["data"]).ok()?;
    Some(data?.raw())
}

const USERS_END: &[u8] = b"]}";

/// The answer to a question about the users of a channel.
pub(super) fn users_found(context: &mut Context<'_>, users: &[MemberUser]) -> Response {
    let bytes_max = context.settings.query_response_bytes_max;
    let mut json = br#"{"users":["#.to_vec();
    for (nth, user) in users.iter().enumerate() {
        if nth > 0 {
            json.push(b',');
        }
        json.extend_from_slice(b"{\"id\":");
        escape::write_string(&mut json, &user.id);
        if let Some(info) = &user.info {
            write_member(&mut json, "user_info", info);
        }
        json.push(b'}');
        if json.len() + USERS_END.len() > bytes_max {
            return too_large(context, "");
        }
    }
    json.extend_from_slice(USERS_END);
    ok(json)
}

pub(super) fn ok(json: Vec<u8>) -> Response {
    Response::new(Status::Ok, Body::Json(json))
}

/// An answer over the bound of the configuration.
pub(super) fn too_large(context: &mut Context<'_>, advice: &str) -> Response {
    context.shard.counters.answers_too_large += 1;
    let bytes_max = context.settings.query_response_bytes_max;
    let text = format_args!("The answer would exceed {bytes_max} bytes{advice}.");
    Response::error(Status::BadRequest, "limit_exceeded", text)
}

#[cfg(test)]
mod tests;
