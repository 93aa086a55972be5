//! The settings of the process, typed; where they come from is in the files below this one.
//!
//! `table` has every option once; `file` and the process's environment and flags say values; `load`
//! decides between them. Does not open sockets or start anything.
//!
//! Invariant: every field of a `Config` that exists is within the bounds of its row in the table.

use std::net::IpAddr;
use std::time::Duration;

/// What the rest of the server is told. One for the process; apps are in the `AppTable`.
///
/// `_max` at a bound: see the table of bounds in the README; each says what happens there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address to listen on.
    pub host: IpAddr,
    /// 0: the kernel chooses one.
    pub port: u16,
    /// Before every path: empty, or begins with `/` and does not end with one.
    pub path_prefix: String,
    /// CPU numbers that workers are pinned to, in order of shards; at least one.
    pub cores: Vec<usize>,
    /// At least one; more than cores is for tests, and shares them.
    pub shards: usize,
    pub driver: Driver,
    /// How long a worker spins before it parks.
    pub spin: Duration,

    pub activity_timeout: Duration,
    pub pong_timeout: Duration,
    pub liveness_probe: LivenessProbe,
    /// Refuse connections that name no protocol version with 4008.
    pub strict_protocol: bool,
    /// Send `pusher:subscription_error` after the `pusher:error` (WebSocket spec 7.4).
    pub subscription_error: bool,
    pub message_bytes_max: usize,
    /// Of one connection.
    pub subscriptions_max: Option<usize>,
    pub subscriptions_shard_max: usize,
    pub cache_ttl: Duration,
    pub cache_shard_bytes_max: usize,

    pub outbox_bytes_max: usize,
    pub outbox_frames_max: usize,
    pub outbox_stall: Duration,
    pub outbox_shard_bytes_max: usize,
    pub inbox_depth_max: usize,
    pub lag_bytes_max: usize,
    pub lag_max: Duration,
    /// Connections of the process, WebSocket and HTTP together.
    pub process_connections_max: usize,

    pub head_bytes_max: usize,
    pub headers_max: usize,
    pub body_bytes_max: usize,
    pub request_shard_bytes_max: usize,
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    pub keep_alive_timeout: Duration,
    /// Whole origins in lower case, or `*`; empty: no CORS headers at all.
    pub cors_origins: Vec<String>,
    /// Whose `X-Forwarded-Proto` is believed.
    pub trusted_proxies: Vec<Network>,
    pub events_response: EventsResponse,

    pub shutdown_grace: Duration,
    pub log: String,
    pub log_format: LogFormat,
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

/// An address with the number of its leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}
