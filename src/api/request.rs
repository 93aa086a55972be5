//! One HTTP request from head to answer: what the head decides, then what the body decides.
//!
//! The order of HTTP spec 1.3 is the order of the code. Everything that the head alone can refuse
//! is refused there, so that of an unauthenticated connection no body is ever kept. The calls are
//! synchronous: the connection code reads and writes, and is told the time.
//!
//! Invariant: an [`Accepted`] exists only for a request whose route, app, size and signature have
//! passed, and nothing is published before its whole body has.

use std::sync::Arc;

use md5::{Digest, Md5};

use crate::app::{App, AppSettings, Rate};
use crate::http::{self, BodyDecoder, BodyLength, Head};
use crate::metrics::Limiter;
use crate::shard::Shard;
use crate::shard::message::ReplyTo;

use super::auth;
use super::channels::{self, Query, Subject};
use super::events::{self, Endpoint, Fields};
use super::health::{self, AppState};
use super::route::{self, Refusal, Route};
use super::upgrade::Upgrade;
use super::users;
use super::waiting::Waiting;
use super::{Framing, KeptFraming, Response};

/// The body of a request that has no use for one.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// What all requests of a process share, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Precedes every path: empty, or `/ws`.
    pub path_prefix: String,
    /// Who may read answers in a browser. Empty: nobody, and `OPTIONS` is no method of ours.
    pub cors_origins: Vec<String>,
    /// Longest body of any request; over it 413. An endpoint's own limit may be lower.
    pub body_bytes_max: u64,
    /// Longest answer to a query; over it 400.
    pub query_response_bytes_max: usize,
    /// A publish is answered `{}`, as Pusher does, instead of `{"ok":true}`.
    pub events_response_empty: bool,
    /// `Retry-After` of what is refused while draining.
    pub shutdown_grace_secs: u64,
}

/// What a decision is made with.
pub struct Context<'a> {
    pub settings: &'a Settings,
    pub shard: &'a mut Shard,
    /// Seconds since the Unix epoch.
    pub now_secs: u64,
    /// The server is about to end: it takes no new work.
    pub draining: bool,
    /// Some shard has not turned for long (decisions 36).
    pub stalled: bool,
}

/// What becomes of a request whose head has come.
#[derive(Debug)]
pub enum OnHead {
    /// The answer. A body that was announced is not wanted: unless the rest of it is already there
    /// to be skipped, the connection ends with this answer (HTTP spec 1).
    Respond(Response),
    /// The connection speaks WebSocket from here on. Whom it may speak to is for the shard to say.
    Upgrade(Upgrade),
    /// The body is wanted.
    Accept(Accepted),
}

/// What becomes of a request whose body has come.
#[derive(Debug)]
pub enum OnBody {
    Respond(Response),
    /// The answer needs what homes know.
    Wait(Box<Waiting>),
}

/// A request whose head has passed every check; its body is expected. Borrows nothing of the head.
#[derive(Debug)]
pub struct Accepted {
    pub(super) app: Arc<App>,
    pub(super) framing: KeptFraming,
    /// The value of `X-Idempotency-Key`.
    pub(super) idempotency_key: Option<Box<[u8]>>,
    body_md5: Option<[u8; 16]>,
    length: BodyLength,
    bytes_max: u64,
    expects_continue: bool,
    wanted: Wanted,
}

/// What an accepted request is for.
#[derive(Debug)]
enum Wanted {
    /// With the fields in the query, where the body may turn out to be empty (HTTP spec 4.1).
    Publish(Endpoint, Option<Box<Fields>>),
    TerminateUser(Box<str>),
    Query(Box<Query>),
}

/// The same, before its parameters are known to be authentic.
enum Purpose {
    Publish(Endpoint),
    TerminateUser(Box<str>),
    Query(Subject),
}

impl Purpose {
    /// The longest body that can be a good one (HTTP spec 1.3).
    fn body_bytes_max(&self, settings: &AppSettings) -> u64 {
        match self {
            Self::Publish(endpoint) => endpoint.body_bytes_max(settings),
            Self::TerminateUser(_) | Self::Query(_) => BODY_BYTES_MAX,
        }
    }
}

/// Decides all that the head can.
pub fn on_head(context: &mut Context<'_>, head: &Head<'_>) -> OnHead {
    decide(context, head).unwrap_or_else(OnHead::Respond)
}

fn decide(context: &Context<'_>, head: &Head<'_>) -> Result<OnHead, Response> {
    let settings = context.settings;
    head.body.check(settings.body_bytes_max)?;
    let refused = |refusal: Refusal| refusal.answer(&head.method, &settings.cors_origins);
    let path = route::strip_prefix(head.path, &settings.path_prefix)
        .ok_or_else(|| refused(Refusal::NotFound))?;
    let route = Route::find(&head.method, path, head.websocket_upgrade).map_err(refused)?;
    let app_of = |app_id: &str| auth::find_app(context.shard.apps(), app_id);
    let (app, purpose) = match route {
        Route::Root => return respond(health::root()),
        Route::Up => return respond(health::up(context.draining)),
        Route::UpApp { app_id } => {
            let app = app_state(context, &app_id);
            return respond(health::up_app(context.draining, app));
        }
        Route::Live => return respond(health::live(context.stalled)),
        Route::Ready => return respond(health::ready(context.draining)),
        Route::WebSocket { key } => return Upgrade::of(head, Some(&key)).map(OnHead::Upgrade),
        Route::WebSocketPath => return Upgrade::of(head, None).map(OnHead::Upgrade),
        Route::Events { app_id } => (app_of(&app_id)?, Purpose::Publish(Endpoint::Events)),
        Route::BatchEvents { app_id } => {
            (app_of(&app_id)?, Purpose::Publish(Endpoint::BatchEvents))
        }
        Route::TerminateUser { app_id, user_id } => {
            (app_of(&app_id)?, Purpose::TerminateUser(user_id.into()))
        }
        Route::TerminateUserOfKey { user_id } => {
            let apps = context.shard.apps();
            let app = auth::find_app_of_key(apps, head, path, context.now_secs)?;
            (app, Purpose::TerminateUser(user_id.into()))
        }
        Route::Channels { app_id } => (app_of(&app_id)?, Purpose::Query(Subject::Channels)),
        Route::Channel { app_id, channel } => {
            let subject = Subject::Channel(channel.into());
            (app_of(&app_id)?, Purpose::Query(subject))
        }
        Route::ChannelUsers { app_id, channel } => {
            let subject = Subject::Users(channel.into());
            (app_of(&app_id)?, Purpose::Query(subject))
        }
        Route::Connections { app_id } => (app_of(&app_id)?, Purpose::Query(Subject::Connections)),
    };
    accept(context, head, path, app, purpose)
}

fn respond(response: Response) -> Result<OnHead, Response> {
    Ok(OnHead::Respond(response))
}

fn app_state(context: &Context<'_>, app_id: &str) -> AppState {
    match context.shard.apps().by_id(app_id) {
        Some(app) if app.settings.enabled => AppState::Enabled,
        Some(_) => AppState::Disabled,
        None => AppState::Unknown,
    }
}

fn accept(
    context: &Context<'_>,
    head: &Head<'_>,
    path: &str,
    app: &Arc<App>,
    purpose: Purpose,
) -> Result<OnHead, Response> {
    let bytes_max = purpose
        .body_bytes_max(&app.settings)
        .min(context.settings.body_bytes_max);
    head.body.check(bytes_max)?;
    let authentic = auth::authenticate(head, path, app, context.now_secs)?;
    auth::check_open(context, app)?;
    let may_be_empty = matches!(
        head.body,
        BodyLength::None | BodyLength::Length(0) | BodyLength::Chunked
    );
    let wanted = match purpose {
        Purpose::Publish(endpoint) => {
            let fields = may_be_empty.then(|| Box::new(Fields::of(&authentic.query)));
            Wanted::Publish(endpoint, fields)
        }
        Purpose::TerminateUser(user_id) => Wanted::TerminateUser(user_id),
        Purpose::Query(subject) => Wanted::Query(Box::new(Query::of(subject, &authentic.query))),
    };
    Ok(OnHead::Accept(Accepted {
        app: Arc::clone(app),
        framing: KeptFraming::of(head, &context.settings.cors_origins),
        idempotency_key: match head.has_idempotency_key {
            true => head.header("X-Idempotency-Key").next().map(Box::from),
            false => None,
        },
        body_md5: authentic.body_md5,
        length: head.body,
        bytes_max,
        expects_continue: head.expect_continue,
        wanted,
    }))
}

impl Accepted {
    pub fn length(&self) -> BodyLength {
        self.length
    }

    /// The longest body that the endpoint takes. One of known length is known not to be longer.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Whether the client holds its body back until it is told to go on.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue && !matches!(self.length, BodyLength::None | BodyLength::Length(0))
    }

    /// The form of the answer, now that the head is gone.
    pub fn framing<'c>(&self, settings: &'c Settings) -> Framing<'c> {
        self.framing.framing(&settings.cors_origins)
    }
}

/// Takes a whole body that lies in one piece, decoded. `reply_to` is asked for nothing unless the
/// outcome is [`OnBody::Wait`]. To be called between `Shard::begin_serving` and `end_serving`.
pub fn on_body(
    context: &mut Context<'_>,
    accepted: &Accepted,
    reply_to: ReplyTo,
    body: &[u8],
) -> OnBody {
    on_digested(context, accepted, reply_to, body, Md5::digest(body).into())
}

fn on_digested(
    context: &mut Context<'_>,
    accepted: &Accepted,
    reply_to: ReplyTo,
    body: &[u8],
    md5: [u8; 16],
) -> OnBody {
    let outcome = auth::check_body(accepted.body_md5, body, md5)
        .and_then(|()| take_budget(context, accepted))
        .map_or_else(OnBody::Respond, |rate| {
            let outcome = act(context, accepted, reply_to, body, md5);
            outcome.with_rate(rate)
        });
    let counters = context.shard.counters.app(accepted.app.index);
    counters.http_calls += 1;
    counters.http_received_bytes += body.len() as u64;
    if let OnBody::Respond(response) = &outcome {
        counters.http_sent_bytes += response.body.bytes() as u64;
    }
    outcome
}

/// Counts the request against its budget: 429 if that is used up (HTTP spec 11).
fn take_budget(context: &mut Context<'_>, accepted: &Accepted) -> Result<Rate, Response> {
    let app = &accepted.app;
    let (limiter, budget, limit) = match accepted.wanted {
        Wanted::Publish(..) | Wanted::TerminateUser(_) => (
            Limiter::Publish,
            &app.rates.publishing,
            app.settings.publish_rate(),
        ),
        Wanted::Query(_) => (Limiter::Read, &app.rates.reading, app.settings.read_rate()),
    };
    let taken = budget.try_take(limit, context.shard.now().0);
    let counters = context.shard.counters.app(app.index);
    counters.rate(limiter, taken.is_ok());
    taken.map_err(Response::rate_limited)
}

fn act(
    context: &mut Context<'_>,
    accepted: &Accepted,
    reply_to: ReplyTo,
    body: &[u8],
    md5: [u8; 16],
) -> OnBody {
    match &accepted.wanted {
        Wanted::Publish(endpoint, fields) => events::on_body(
            context,
            accepted,
            *endpoint,
            fields.as_deref(),
            reply_to,
            body,
            md5,
        ),
        Wanted::TerminateUser(user_id) => users::terminate(context, &accepted.app, user_id),
        Wanted::Query(query) => channels::on_query(context, accepted, query, reply_to),
    }
}

impl OnBody {
    /// The same with the `X-RateLimit-*` fields, now or when it is answered.
    fn with_rate(mut self, rate: Rate) -> Self {
        match &mut self {
            Self::Respond(response) => response.rate = Some(rate),
            Self::Wait(waiting) => waiting.rate = Some(rate),
        }
        self
    }
}

/// A body that comes in pieces. It is digested as it comes, because 10 MiB at once would hold up a
/// turn for 23 ms (decisions 34).
#[derive(Debug)]
pub struct Collecting {
    accepted: Accepted,
    decoder: BodyDecoder,
    body: Vec<u8>,
    md5: Md5,
}

impl Collecting {
    pub fn new(accepted: Accepted) -> Self {
        let decoder = BodyDecoder::new(accepted.length, accepted.bytes_max)
            .expect("on_head has compared the announced length with this bound");
        Self {
            accepted,
            decoder,
            body: Vec::new(),
            md5: Md5::new(),
        }
    }

    /// Takes what it can of `input`. Gives the bytes taken and whether the body is whole; unless it
    /// is, all of `input` was taken.
    ///
    /// # Errors
    /// Bad framing, or a chunked body beyond the endpoint's limit: the connection ends.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, bool), http::Error> {
        let digested = self.body.len();
        let outcome = self.decoder.decode(input, &mut self.body);
        self.md5.update(&self.body[digested..]);
        outcome
    }

    /// The memory that the body takes now, for the bound of the shard.
    pub fn buffered_bytes(&self) -> usize {
        self.body.capacity()
    }

    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// Takes the body up, after [`Collecting::feed`] has called it whole. See [`on_body`].
    pub fn finish(self, context: &mut Context<'_>, reply_to: ReplyTo) -> OnBody {
        debug_assert!(self.decoder.is_done(), "a part of a body is no body");
        let md5 = self.md5.finalize().into();
        on_digested(context, &self.accepted, reply_to, &self.body, md5)
    }
}

#[cfg(test)]
mod tests;
