//! shardcast: a realtime server that speaks the Pusher Channels protocol, one shard per core.

pub mod app;
pub mod clock;
pub mod config;
pub mod metrics;

pub mod http;
pub mod pusher;
pub mod ws;

pub mod api;
pub mod shard;

pub mod cli;
pub mod net;
pub mod side;

#[cfg(test)]
mod seed;
