//! Every option once: its name, its default, its unit, its bounds, its help.
//!
//! Flags, environment names, the reading of the file, `shardcast config` and the table of the
//! README all come from here. The key `activity_timeout_secs` is the flag `--activity-timeout-secs`
//! and the environment name `SHARDCAST_ACTIVITY_TIMEOUT_SECS`.
//!
//! Invariant: a field of `Config`, of `AppSettings`, of `EndpointSettings` or of `SingleApp` has
//! exactly one row, because the rows also build the struct.

use std::fmt;

use super::convert::FromValue;
use super::value::{Form, Kind, Unit, Value};
use super::{Config, Host, SingleApp, form};
use crate::app::webhook::EndpointSettings;
use crate::app::{AppSettings, RATE_REQUESTS_MAX};

/// One option.
#[derive(Debug)]
pub struct Row {
    /// In the file; flag and environment name follow from it.
    pub key: &'static str,
    /// The heading that it is listed under.
    pub group: &'static str,
    pub scope: Scope,
    pub kind: Kind,
    pub default: Default,
    /// One sentence or two.
    pub help: &'static str,
    pub aliases: &'static [Alias],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of the process.
    Process,
    /// A default for all apps, and the same key in `[[apps]]` for one.
    App,
    /// Of the one app that there is without `[[apps]]`.
    SingleApp,
    /// A default for all webhook endpoints, and in `[[apps.webhooks]]`, where it is written without
    /// its `webhook_`, for one.
    Endpoint,
}

/// The value of an option that nobody has set.
#[derive(Debug)]
pub enum Default {
    /// As it would be written in the environment.
    Is(&'static str),
    /// Found on the machine; the text says how.
    Found(&'static str, fn(&Host, &dyn Lookup) -> Value),
}

/// The values of the rows before this one.
pub trait Lookup {
    fn value(&self, key: &str) -> &Value;
}

/// Another name that is accepted in the file (WebSocket spec 18.1).
#[derive(Debug)]
pub struct Alias {
    /// With a dot if it is in a table.
    pub key: &'static str,
    pub place: Place,
    /// Its number times this is ours.
    pub times: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Top,
    App,
    Endpoint,
}

/// Rows by group, and the function that builds the struct whose fields they are: a field without a
/// row, or a row without a field, does not compile.
macro_rules! rows {
    ($rows:ident, $build:ident -> $target:ident, $scope:ident; $(
        $group:literal: $(
            $field:ident = $key:literal, $kind:expr, $default:expr, $help:literal
            $(, also [$($alias:expr),*])?;
        )*
    )*) => {
        pub(super) static $rows: &[Row] = &[$($(
            Row {
                key: $key,
                group: $group,
                scope: Scope::$scope,
                kind: $kind,
                default: $default,
                help: $help,
                aliases: &[$($($alias),*)?],
            },
        )*)*];

        pub(super) fn $build(values: &dyn Lookup) -> $target {
            $target { $($( $field: FromValue::from_value(values.value($key), $kind.unit()), )*)* }
        }
    };
}

rows! { PROCESS, build_config -> Config, Process;

"Listening":
    host = "host", text("an IPv4 or IPv6 address", form::is_address), is("127.0.0.1"),
        "Address to listen on; `0.0.0.0` and `::` are all.";
    port = "port", number(0, 65_535), is("6001"),
        "Port to listen on; 0 lets the kernel choose one.";
    path_prefix = "path_prefix", text("empty or a path such as `/ws`", form::is_prefix), is(""),
        "Precedes every path of both protocols.";
    connections_max = "connections_process_max", number(1, 1 << 30),
        Default::Found("the descriptor limit less 512", Host::connections_max),
        "Connections of the process, WebSocket and HTTP together; 4100 over it.";
    trusted_proxies = "trusted_proxies",
        list("addresses or networks such as `10.0.0.0/8`", form::is_network), is(""),
        "Whose `X-Forwarded-Proto`, `X-Forwarded-For` and `X-Real-IP` are believed.";
    proxy_protocol = "proxy_protocol", Kind::Switch, is("false"),
        "Connections of `trusted_proxies` must begin with the PROXY protocol, version 1 or 2.";
    address_connects_max = "address_connects_max", optional(1_048_575, "no limit"), is("0"),
        "WebSocket connections that one address (IPv6: one /64) begins in a window; 4100 over it.";
    address_connects_window = "address_connects_window_secs", seconds(1, 86_400), is("60"),
        "That window, which begins with the first of them.";
    shutdown_grace = "shutdown_grace_secs", seconds(0, 3_600), is("10"),
        "Connections are closed spread over this time when the process is told to end; 0: at once.";

"Workers":
    cores = "cores", text("a list of CPU numbers such as `0-3,6`", form::is_cores),
        Default::Found("those the process may run on", Host::cores),
        "CPUs that workers are pinned to.";
    shards = "shards", number(1, 1_024), Default::Found("one per core", Host::shards),
        "Workers. More than cores share them, which is for tests only.";
    driver = "driver", Kind::Choice(&["auto", "io_uring", "epoll"]), is("auto"),
        "What talks to the kernel; `auto` is io_uring where it is allowed, else epoll.";
    spin = "spin_us", span(Unit::Microseconds, 0, 10_000), is("0"),
        "How long an idle worker looks for work before it sleeps; costs CPU, saves wake-ups.";
    inbox_depth_max = "inbox_depth_max", number(16, 1 << 20), is("16384"),
        "Messages in the inbox of a shard; publishes are answered 503 from three quarters on.";
    lag_bytes_max = "lag_bytes_max", bytes(64 << 10, 1 << 40), is("64 MiB"),
        "Frames that a shard has not yet sent once; over it publishes that feed it get 503.";
    lag_max = "lag_ms_max", span(Unit::Milliseconds, 1, 60_000), is("1000"),
        "Age of the oldest of those frames; likewise.";

"WebSocket connections":
    activity_timeout = "activity_timeout_secs", seconds(1, 86_400), is("120"),
        "Silence after which a client is asked whether it is there; clients are told it.";
    pong_timeout = "pong_timeout_secs", seconds(1, 3_600), is("30"),
        "Further silence after which it is closed with 4201.";
    liveness_probe = "liveness_probe", Kind::Choice(&["ping", "pusher"]), is("ping"),
        "What asks: a WebSocket ping, or a `pusher:ping` message.";
    strict_protocol = "strict_protocol", Kind::Switch, is("false"),
        "Refuse clients that name no protocol version with 4008.";
    sockudo_clients = "sockudo_clients", Kind::Switch, is("true"),
        "Serve clients of Sockudo's V2 protocol (`protocol=2`); off: 4007.";
    subscription_error = "subscription_error", Kind::Switch, is("true"),
        "Send `pusher:subscription_error` for a refused subscription.";
    message_bytes_max = "message_bytes_max", bytes(1 << 10, 16 << 20), is("64 KiB"),
        "One message of a client; closed with 1009 over it.";
    subscriptions_max = "subscriptions_connection_max", optional(1 << 20, "no limit"), is("0"),
        "Channels that one connection is subscribed to; over it `LimitReached`.";
    subscriptions_shard_max = "subscriptions_shard_max", number(1, 1 << 30), is("4000000"),
        "Subscriptions of all connections of a shard; over it `LimitReached`.";
    delta_texts_max = "delta_texts_max", number(1, 30), is("10"),
        "Last events of a channel, or of each conflation key, that deltas of filtered subscriptions are made from.";
    delta_shard_bytes_max = "delta_shard_bytes_max", bytes(64 << 10, 1 << 40), is("256 MiB"),
        "Last events of all channels of a shard; over it events are sent in full.";
    outbox_bytes_max = "outbox_bytes_max", bytes(1 << 10, 1 << 30), is("1 MiB"),
        "Waiting for a client that does not read; closed with 4100 over it.";
    outbox_frames_max = "outbox_frames_max", number(1, 1 << 20), is("2048"),
        "The same in frames.";
    outbox_stall = "outbox_stall_secs", seconds(1, 3_600), is("30"),
        "Time in which such a client takes nothing at all; closed with 4100 after it.";
    filters_channel_max = "filters_channel_max", number(1, 1 << 20), is("10000"),
        "Different filters of the subscribers of a channel on one shard; over it `LimitReached`.";
    filters_shard_bytes_max = "filters_shard_bytes_max", bytes(64 << 10, 1 << 40), is("64 MiB"),
        "All different filters of a shard, and 16 times those of a channel; likewise.";
    outbox_shard_bytes_max = "outbox_shard_bytes_max", bytes(64 << 10, 1 << 40), is("256 MiB"),
        "Waiting for all such clients of a shard; over it the one with most is closed.";

"Cache channels":
    cache_ttl = "cache_ttl_secs", seconds(1, 86_400), is("1800"),
        "How long the last event of a cache channel is kept.";
    cache_shard_bytes_max = "cache_shard_bytes_max", bytes(64 << 10, 1 << 40), is("256 MiB"),
        "Cached events of a shard; over it the oldest goes.";

"HTTP":
    head_bytes_max = "head_bytes_max", bytes(1 << 10, 1 << 20), is("16 KiB"),
        "Request line and headers; 431 over it.";
    headers_max = "headers_max", number(8, 64), is("64"),
        "Headers of a request; 431 over it.";
    body_bytes_max = "body_bytes_max", bytes(1 << 10, 1 << 30), is("10 MiB"),
        "Body of a request, whatever its endpoint allows; 413 over it.";
    request_shard_bytes_max = "request_shard_bytes_max", bytes(64 << 10, 1 << 40), is("128 MiB"),
        "Requests that a shard is still collecting; 503 over it.";
    head_timeout = "head_timeout_secs", seconds(1, 3_600), is("10"),
        "From the connection or its first byte to the end of the head; 408 after it.";
    body_timeout = "body_timeout_secs", seconds(1, 3_600), is("30"),
        "From the head to the end of the body; 408 after it.";
    keep_alive_timeout = "keep_alive_timeout_secs", seconds(1, 3_600), is("75"),
        "How long a connection may wait for its next request.";
    cors_origins = "cors_origins",
        list("origins such as `https://a.example`, or `*`", form::is_cors_origin), is(""),
        "Origins whose pages may use the HTTP API; empty: no CORS headers.";
    query_response_bytes_max = "query_response_bytes_max", bytes(1 << 10, 1 << 30), is("32 MiB"),
        "Answer to a query, such as a list of channels; 400 over it.";
    events_response = "events_response", Kind::Choice(&["ok", "empty"]), is("ok"),
        "Body of the answer to a publish: `{\"ok\":true}`, or `{}` as Pusher has it.";

"Webhooks":
    webhook_inbox_max = "webhook_inbox_max", number(16, 1 << 24), is("65536"),
        "Events on their way from the shards to the thread that sends; dropped and counted over it.";
    webhook_inbox_bytes_max = "webhook_inbox_bytes_max", bytes(64 << 10, 1 << 40), is("64 MiB"),
        "Their texts; likewise.";
    webhook_refuse_private = "webhook_refuse_private", Kind::Switch, is("false"),
        "Send nothing to loopback, private and link-local addresses, whatever a name resolves to.";

"Metrics and reload":
    metrics = "metrics", Kind::Switch, is("true"),
        "Serve `/metrics` (Prometheus) and `/usage` on an address of their own.";
    metrics_host = "metrics_host", text("an IPv4 or IPv6 address", form::is_address),
        is("127.0.0.1"),
        "Address to listen on for them: who can reach it learns ids of apps.";
    metrics_port = "metrics_port", number(0, 65_535), is("9601"),
        "Port to listen on for them; 0 lets the kernel choose one.";
    metrics_prefix = "metrics_prefix",
        text("empty or letters, digits and `_` that begin with no digit", form::is_metric_prefix),
        is("shardcast_"),
        "Precedes the names of metrics: `soketi_` or `sockudo_` for the boards of these.";
    metrics_apps_max = "metrics_apps_max", number(0, 10_000), is("100"),
        "Apps with series of their own, the first of the file; the others are summed as `other`.";
    reload_on_change = "reload_on_change", Kind::Switch, is("false"),
        "Reload when the file changes, as on SIGHUP; looked at each second.";

"Logs":
    log_level = "log_level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), is("info"),
        "How much is logged.";
    log_format = "log_format", Kind::Choice(&["text", "json"]), is("text"),
        "How it is written.";
}

rows! { APP, build_app_settings -> AppSettings, App;

"Apps":
    enabled = "enabled", Kind::Switch, is("true"),
        "Off: connections are refused with 4003 and requests with 403.";
    allowed_origins = "allowed_origins",
        list("origins such as `https://a.example` or hosts such as `*.a.example`", form::is_origin),
        is(""),
        "Pages that may connect, by their `Origin` (4009); empty: all.";
    tls_only = "tls_only", Kind::Switch, is("false"),
        "Refuse plain connections with 4000.";
    connections_max = "connections_max", optional(1 << 40, "no limit"), is("0"),
        "Connections of the app at once; refused with 4004 over it.";
    messages_per_sec = "messages_per_sec", optional(1 << 20, "no limit"), is("0"),
        "Messages of one connection in a second; closed with 1008 over it.";
    client_events = "client_events", Kind::Switch, is("false"),
        "Whether clients may send `client-` events.";
    client_events_per_sec = "client_events_per_sec", number(1, 1 << 20), is("10"),
        "Client events of one connection in a second; 4301 over it.";
    client_event_bytes_max = "client_event_bytes_max", bytes(1, 16 << 20), is("10 KiB"),
        "Data of a client event; 4301 over it.";
    user_authentication = "user_authentication", Kind::Switch, is("true"),
        "Whether connections may sign in as a user.";
    authorized_connections = "authorized_connections", Kind::Switch, is("false"),
        "Whether a connection must sign in, or subscribe to a private or presence channel.";
    authorization_timeout = "authorization_timeout_secs", seconds(1, 3_600), is("30"),
        "The time in which it must; closed with 4009 after it.";
    watchlist = "watchlist", Kind::Switch, is("false"),
        "Whether signed-in users are told who of their watchlist is online.";
    watchlist_users_max = "watchlist_users_max", number(1, 10_000), is("100"),
        "Users of a watchlist; those over it are not watched, and the client gets 4302.";
    subscription_count = "subscription_count", Kind::Choice(&["query", "on", "off"]), is("query"),
        "Who learns subscriber numbers: whoever asks (`query`), clients and webhooks too (`on`), nobody.";
    channel_name_chars_max = "channel_name_chars_max", characters(1, 1_000), is("200"),
        "Length of a channel's name.";
    event_name_chars_max = "event_name_chars_max", characters(1, 1_000), is("200"),
        "Length of an event's name.";
    event_data_bytes_max = "event_data_bytes_max", bytes(1, 64 << 20), is("100 KiB"),
        "Data of a published event; 413 over it.",
        also [
            Alias { key: "event_limits.max_payload_in_kb", place: Place::Top, times: 1_024 },
            Alias { key: "max_event_payload_in_kb", place: Place::App, times: 1_024 }
        ];
    channels_per_event_max = "channels_per_event_max", number(1, 10_000), is("100"),
        "Channels of one publish; 400 over it.",
        also [
            Alias { key: "event_limits.max_channels_at_once", place: Place::Top, times: 1 },
            Alias { key: "max_event_channels_at_once", place: Place::App, times: 1 }
        ];
    batch_events_max = "batch_events_max", number(1, 10_000), is("10"),
        "Events of one batch; 400 over it.";
    tag_filtering = "tag_filtering", Kind::Switch, is("true"),
        "Whether subscribers may filter by the tags of events; off: a filter is refused.",
        also [Alias { key: "tag_filtering.enabled", place: Place::Top, times: 1 }];
    tags_in_messages = "tags_in_messages", Kind::Switch, is("false"),
        "Whether those who filter are sent the tags too.";
    publish_requests_max = "publish_requests_max", number(1, REQUESTS_MAX), is("1000000000"),
        "Publishing requests in a window, whatever they publish; 429 over it.";
    publish_window = "publish_window_secs", seconds(1, 86_400), is("60"),
        "That window, which begins with the first of them.";
    read_requests_max = "read_requests_max", number(1, REQUESTS_MAX), is("1000000000"),
        "Requests in a window that only ask; 429 over it.";
    read_window = "read_window_secs", seconds(1, 86_400), is("60"),
        "That window.";
    idempotency_window = "idempotency_window_secs", seconds(1, 86_400), is("120"),
        "How long an idempotency key is remembered, from the first answer on.";
    idempotency_keys_max = "idempotency_keys_max", number(1, 1 << 24), is("100000"),
        "Idempotency keys remembered at once; over it the oldest goes.";
    idempotency_bytes_max = "idempotency_bytes_max", bytes(64 << 10, 1 << 40), is("64 MiB"),
        "These keys and the answers kept with them; likewise.";
    delta_compression = "delta_compression", Kind::Switch, is("true"),
        "Whether subscribers may get events as their difference from the one before.";
    delta_message_bytes_min = "delta_message_bytes_min", bytes(0, 16 << 20), is("100"),
        "Text of an event; shorter ones are sent in full.";
    delta_full_interval = "delta_full_interval", number(1, 1 << 20), is("10"),
        "Deltas in a row, after which an event is sent in full.";
    delta_channels = "delta_channels", list(form::DELTA_POLICY, form::is_delta_policy), is(""),
        "How channels use deltas; the first pattern that fits counts.";
    presence_members_max = "presence_members_max", number(1, 1 << 20), is("100"),
        "Users of a presence channel; subscribing is refused with 4100 over it.";
    presence_user_info_bytes_max = "presence_user_info_bytes_max", bytes(1, 1 << 20), is("2 KiB"),
        "`user_info` of a presence member.";
    presence_user_id_chars_max = "presence_user_id_chars_max", characters(1, 10_000), is("128"),
        "`user_id` of a presence member.";

"Webhooks of apps":
    webhook_batch = "webhook_batch", Kind::Switch, is("true"),
        "Several events in one webhook; off: one event each.";
    webhook_batch_time = "webhook_batch_ms", span(Unit::Milliseconds, 0, 60_000), is("50"),
        "How long a webhook takes further events after its first.";
    webhook_batch_events_max = "webhook_batch_events_max", number(1, 10_000), is("100"),
        "Events of a webhook.";
    webhook_batch_bytes_max = "webhook_batch_bytes_max", bytes(1 << 10, 16 << 20), is("256 KiB"),
        "Body of a webhook; a single event may exceed it.";
    webhook_delay = "webhook_delay_ms", span(Unit::Milliseconds, 0, 60_000), is("3000"),
        "How long a channel is empty, or a user gone, before that is reported; 0: at once.";
    webhook_cache_miss_window = "webhook_cache_miss_ms", span(Unit::Milliseconds, 0, 600_000),
        is("3000"),
        "Time in which a channel has at most one `cache_miss`.";
}

rows! { ENDPOINT, build_endpoint_settings -> EndpointSettings, Endpoint;

"Webhook endpoints":
    timeout = "webhook_timeout_ms", span(Unit::Milliseconds, 1, 60_000), is("4000"),
        "How long an endpoint may take to answer.";
    retry_first = "webhook_retry_first_ms", span(Unit::Milliseconds, 1, 600_000), is("1000"),
        "Pause after the first failure; each further one is twice as long.";
    retry_max = "webhook_retry_ms_max", span(Unit::Milliseconds, 1, 600_000), is("60000"),
        "The longest such pause.";
    retry_jitter_percent = "webhook_retry_jitter_percent", number(0, 100), is("20"),
        "How much of a pause chance adds or takes away.";
    retry_for = "webhook_retry_for_secs", seconds(0, 86_400), is("300"),
        "Age at which a webhook is given up and counted; 0: it is sent once.";
    parallel_max = "webhook_parallel_max", number(1, 1_000), is("20"),
        "Webhooks that an endpoint is being sent at once, pauses included; 1: in strict order.";
    queue_max = "webhook_queue_max", number(1, 1 << 24), is("10000"),
        "Events that wait for an endpoint; over it the oldest is dropped and counted.";
    queue_bytes_max = "webhook_queue_bytes_max", bytes(64 << 10, 1 << 40), is("32 MiB"),
        "The same in bytes; a single event may exceed it.";
}

rows! { SINGLE_APP, build_single_app -> SingleApp, SingleApp;

"The app, where the file has no `[[apps]]`":
    id = "app_id", text(form::APP_NAME, form::is_app_name), is("app-id"), "Its id.";
    key = "app_key", text(form::APP_NAME, form::is_app_name), is("app-key"), "Its key.";
    secret = "app_secret", text("not empty", form::is_secret), is(form::DEVELOPMENT_SECRET),
        "Its secret. With the default, which everybody knows, client events are on.";
    webhook_urls = "app_webhook_urls", list("URLs such as `https://a.example/hook`", form::is_webhook_url),
        is(""),
        "Where its webhooks are posted, of every kind; `[[apps.webhooks]]` says more.";
}

/// Every option, in the order of the documentation; a row's default may look at those before it.
pub fn all() -> impl Iterator<Item = &'static Row> {
    PROCESS.iter().chain(SINGLE_APP).chain(APP).chain(ENDPOINT)
}

impl Row {
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    pub fn env(&self) -> String {
        format!("{}{}", ENV_PREFIX, self.key.to_ascii_uppercase())
    }

    /// Its name at a place of the file; `None` where it cannot stand.
    pub fn key_at(&self, place: Place) -> Option<&'static str> {
        match place {
            Place::Top => Some(self.key),
            Place::App => (self.scope == Scope::App).then_some(self.key),
            Place::Endpoint if self.scope == Scope::Endpoint => {
                Some(self.key.strip_prefix(ENDPOINT_PREFIX).unwrap_or(self.key))
            }
            Place::Endpoint => None,
        }
    }

    /// On or off.
    pub fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Switch)
    }

    pub fn is_secret(&self) -> bool {
        self.key == "app_secret"
    }
}

/// As people read it.
impl fmt::Display for Default {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is("") => f.write_str("none"),
            Self::Is(text) => write!(f, "`{text}`"),
            Self::Found(how, _) => f.write_str(how),
        }
    }
}

/// Of every option of endpoints, but not where only they stand.
const ENDPOINT_PREFIX: &str = "webhook_";
const REQUESTS_MAX: u64 = RATE_REQUESTS_MAX as u64;

/// Of every environment name of ours.
pub(super) const ENV_PREFIX: &str = "SHARDCAST_";

const fn is(text: &'static str) -> Default {
    Default::Is(text)
}

const fn number(min: u64, max: u64) -> Kind {
    span(Unit::Plain, min, max)
}

const fn optional(max: u64, zero: &'static str) -> Kind {
    Kind::Number {
        min: 0,
        max,
        unit: Unit::Plain,
        zero,
    }
}

const fn bytes(min: u64, max: u64) -> Kind {
    span(Unit::Bytes, min, max)
}

const fn characters(min: u64, max: u64) -> Kind {
    span(Unit::Characters, min, max)
}

const fn seconds(min: u64, max: u64) -> Kind {
    span(Unit::Seconds, min, max)
}

const fn span(unit: Unit, min: u64, max: u64) -> Kind {
    Kind::Number {
        min,
        max,
        unit,
        zero: "",
    }
}

const fn text(allowed: &'static str, holds: fn(&str) -> bool) -> Kind {
    Kind::Text(Form { allowed, holds })
}

const fn list(allowed: &'static str, holds: fn(&str) -> bool) -> Kind {
    Kind::List(Form { allowed, holds })
}
