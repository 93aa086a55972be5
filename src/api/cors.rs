//! Cross-origin answers for the origins that the configuration lists (HTTP spec 1).
//!
//! None are listed by default and then nothing here acts: an app secret has no place in a browser.
//! This does not touch WebSocket origins, which are a setting of each app.

use crate::http::{Head, Status};

use super::{Body, Response};

/// The entry that stands for every origin.
pub const ANY: &str = "*";

/// The value of `Access-Control-Allow-Origin` for this request: the configured entry that its
/// `Origin` equals (in any case), or `*`. Nothing without an `Origin`, or where it is not listed.
pub fn allowed_origin<'c>(head: &Head<'_>, cors_origins: &'c [String]) -> Option<&'c str> {
    if cors_origins.is_empty() {
        return None;
    }
    let origin = head.header("Origin").next()?;
    cors_origins
        .iter()
        .map(String::as_str)
        .find(|entry| *entry == ANY || entry.as_bytes().eq_ignore_ascii_case(origin))
}

/// The answer to `OPTIONS` on a known path, unsigned. The origin's own field is added from
/// `Framing`. `None` where no origin is configured: then OPTIONS is a method like any other, 405.
pub fn preflight(cors_origins: &[String]) -> Option<Response> {
    if cors_origins.is_empty() {
        return None;
    }
    let mut response = Response::new(Status::NoContent, Body::None);
    response.fields = &[
        ("Access-Control-Allow-Methods", "GET, HEAD, POST"),
        (
            "Access-Control-Allow-Headers",
            "Authorization, Content-Type",
        ),
    ];
    Some(response)
}
