//! See lib.rs.
pub mod inbound;
pub mod json;
pub mod rest;
