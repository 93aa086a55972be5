//! The Pusher protocol as types and functions: what clients and publishers say, what they are told.
//!
//! Takes slices and gives values. It has no async, no clock, no socket, no registry of apps and no
//! log; keys and the time are handed in. It depends on nothing else of ours.
//!
//! Invariant: a value of a type defined here satisfies the rules of the protocol, because it can
//! only be made by a `parse` (or from random bits) that checked them.

pub mod channel;
mod hex;
pub mod signature;
pub mod socket_id;

pub mod query;
pub mod rest_signature;

pub mod json;

pub mod delta;
pub mod filter;

pub mod inbound;
pub mod presence;
pub mod rest;
pub mod sign_in;

pub mod dialect;
pub mod error;
pub mod escape;
pub mod outbound;

pub mod webhook;
