//! The settings of the process, typed, and how they are decided.
//!
//! `table` has every option once, `value` is what one is set to, `file` reads TOML, `load` decides
//! between default, file, environment and flag, `show` prints the outcome. Starts nothing and
//! listens on nothing.
//!
//! Invariant: every field of a `Config` that `load` gives is within the bounds of its row.

mod apps;
mod changes;
mod convert;
mod endpoint;
mod file;
mod form;
mod host;
mod load;
mod network;
mod problem;
mod show;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::net::IpAddr;
use std::time::Duration;

use url::Url;

pub use changes::{AppChange, Changes};
pub use endpoint::EndpointEntry;
pub use file::{AppEntry, Setting};
pub use host::{Host, show_cores};
pub use load::{Loaded, Settings, Sources, load};
pub use network::Network;
pub use problem::{Problem, Source};
pub use show::{Secrets, markdown, toml};
pub use table::{Row, all as rows};
pub use value::{Kind, Unit};

/// What the rest of the server is told. One for the process; apps are in the `AppTable`.
///
/// The row of each field in `table` has its default, its bounds and what happens at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub host: IpAddr,
    pub port: u16,
    /// Empty, or begins with `/` and does not end with one.
    pub path_prefix: String,
    pub connections_max: usize,
    pub trusted_proxies: Vec<Network>,
    pub proxy_protocol: bool,
    /// None: no limit.
    pub address_connects_max: Option<u32>,
    pub address_connects_window: Duration,
    pub shutdown_grace: Duration,

    /// In the order of shards; at least one.
    pub cores: Vec<usize>,
    pub shards: usize,
    pub driver: Driver,
    pub spin: Duration,
    pub inbox_depth_max: usize,
    pub lag_bytes_max: usize,
    pub lag_max: Duration,

    pub activity_timeout: Duration,
    pub pong_timeout: Duration,
    pub liveness_probe: LivenessProbe,
    pub strict_protocol: bool,
    pub sockudo_clients: bool,
    pub subscription_error: bool,
    pub message_bytes_max: usize,
    /// None: no limit.
    pub subscriptions_max: Option<usize>,
    pub subscriptions_shard_max: usize,
    pub delta_texts_max: usize,
    pub delta_shard_bytes_max: u64,
    pub outbox_bytes_max: usize,
    pub outbox_frames_max: usize,
    pub outbox_stall: Duration,
    pub filters_channel_max: usize,
    pub filters_shard_bytes_max: u64,
    pub outbox_shard_bytes_max: usize,

    pub cache_ttl: Duration,
    pub cache_shard_bytes_max: usize,

    pub head_bytes_max: usize,
    pub headers_max: usize,
    pub body_bytes_max: usize,
    pub request_shard_bytes_max: usize,
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    pub keep_alive_timeout: Duration,
    /// Whole origins in lower case, or `*`.
    pub cors_origins: Vec<String>,
    pub query_response_bytes_max: usize,
    pub events_response: EventsResponse,

    pub webhook_inbox_max: usize,
    pub webhook_inbox_bytes_max: usize,
    pub webhook_refuse_private: bool,

    /// Whether `/metrics` and `/usage` are served, on an address of their own.
    pub metrics: bool,
    pub metrics_host: IpAddr,
    pub metrics_port: u16,
    pub metrics_prefix: String,
    /// Apps that have series of their own.
    pub metrics_apps_max: usize,
    pub reload_on_change: bool,

    pub log_level: tracing::Level,
    pub log_format: LogFormat,
}

/// The app that there is where the file has no `[[apps]]`.
#[derive(Clone, PartialEq, Eq)]
pub struct SingleApp {
    pub id: String,
    pub key: String,
    pub secret: String,
    pub webhook_urls: Vec<Url>,
}

/// What moves bytes in and out of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where the kernel allows it, else epoll.
    Auto,
    IoUring,
    Epoll,
}

/// What asks a silent client whether it is there (WebSocket spec 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessProbe {
    /// A protocol ping, answered without the application.
    Ping,
    /// A `pusher:ping` message.
    Pusher,
}

/// The body of a publish that asked for no attributes (HTTP spec 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsResponse {
    /// `{"ok":true}`.
    Ok,
    /// `{}`.
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}
