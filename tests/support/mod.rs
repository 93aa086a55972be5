//! The black-box harness: the real binary on a port of its own, raw bytes in, raw bytes out.
//!
//! Nothing here shares code with what it tests, but for the key of a signature, whose vectors are
//! in `pusher`: frames, requests and JSON are written and read by hand or by other libraries, so
//! that a mistake is not made twice and cancelled. No wait is unbounded ([`WAIT`]).
//!
//! A test runs its body on 1, 2 and 5 shards, because both must behave alike to a client: with one
//! shard every channel is at home where its subscribers are, with five most are not.

// Each test binary is a crate that uses a part of this one.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod apps;
mod client;
pub mod frame;
pub mod http;
pub mod metrics;
pub mod presence;
pub mod publisher;
pub mod receiver;
pub mod server;
mod tcp;
pub mod websocket;

use std::time::Duration;

pub use apps::{A, App, B, Config, D, O, Q, T, W};
pub use client::{Client, Event, expect_refused};
pub use frame::{Frame, client_frame, text_frame};
pub use publisher::{Publisher, Response, signed_target};
pub use receiver::{Posted, Receiver, Reply, on_shards_with_receiver};
pub use server::{Server, on_shards, on_shards_at_once, on_shards_with};
pub use tcp::{Received, Tcp};
pub use websocket::WebSocket;

/// Longest wait for anything that has to come. Only a failure waits so long, on a busy machine too.
pub const WAIT: Duration = Duration::from_secs(10);

/// How long nothing may come where nothing has to come.
pub const SILENCE: Duration = Duration::from_millis(200);

/// A name that no other test, and no other run of this one, uses in a shared server.
pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
