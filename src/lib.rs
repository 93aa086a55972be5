//! shardcast: a realtime server that speaks the Pusher Channels protocol, one shard per core.
//!
//! # The shape
//!
//! A process is one *worker* per core: a pinned thread with its own io_uring runtime, its own
//! `SO_REUSEPORT` listener and one *shard*, which is all the state that the thread owns. A shard
//! has the connections that it accepted, the list of local subscribers of every channel that has
//! one here, and it is *home* to the channels whose hash maps to it. Nothing is shared: no lock and
//! no concurrent map lies between a frame in and a frame out. Shards say one enum to each other,
//! [`shard::message::ShardMessage`], through one bounded inbox each.
//!
//! ```text
//!   POST /events on any shard                      home shard of the channel            shards with subscribers
//!   net::conn -> net::input -> api::events         order, cached event, interest        runs, expanded once
//!     one finished frame ----- Publish ----------> shard::home ------ Deliver --------> shard::deliver
//!   200 after it is in the inbox                                                        shard::outbox -> net::turn -> net::ring
//! ```
//!
//! # Reading order
//!
//! * **Bytes are understood by pure functions**: [`ws`] (RFC 6455), [`http`] (HTTP/1.1), [`pusher`]
//!   (the protocol). They take slices and give values; no async, no clock, no socket.
//! * **Decisions are made by a synchronous state machine that one core owns**: [`shard`]. Time,
//!   text and descriptors are arguments; what it owes to others waits in lists that somebody
//!   carries. [`api`] turns a request into calls of it.
//! * **Only one module talks to the kernel**: [`net`]. Tasks read and ask for a *turn*; the turn
//!   carries messages, takes the inbox and sends. It decides when, never what.
//! * Around them: [`config`] has every option once, [`app`] the apps, [`clock`] the time,
//!   [`metrics`] the counters, [`cli`] the subcommands, [`side`] what is not the hot path. `sim`
//!   drives the very code of `shard` on several shards, with a hand-turned clock, full inboxes and
//!   a model that predicts every delivery.
//!
//! Dependencies point one way:
//!
//! ```text
//! main  -> cli, net              net -> api, shard, http, ws, config, cli (the banner), side, clock
//! api   -> app, shard, pusher, http, ws::handshake
//! shard -> app, metrics, pusher, ws::frame and ws::close
//! side  -> app, config, metrics, pusher, shard (messages, samples, webhooks), net::mesh
//! config -> app          app -> pusher::signature, pusher::webhook          metrics -> pusher::channel
//! ws, http, pusher, clock -> nothing of ours
//! ```
//!
//! # What holds
//!
//! * Entering a home's inbox is the linearisation point of everything addressed to it, also from
//!   its own shard. An answer leaves after the message that it stands for is in that inbox; so the
//!   order of a channel is the order of answers.
//! * An accepted publish reaches every subscriber, or that subscriber is closed with a code and
//!   counted.
//! * Every queue, buffer, name and loop has a bound with a name, and says what happens at it.
//! * Nothing that the network sends can panic; and if a shard ever did, the process ends loudly: a
//!   shard less would be channels without a home.

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
#[cfg(test)]
mod sim;
