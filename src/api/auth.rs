//! The checks of a signed request that its head decides, each with its status (HTTP spec 1.3, 2).
//!
//! Called in the order in which they stand here: app, signature, whether the app is open; then,
//! when the body has come, its digest. What a signature is, is `pusher::rest_signature`'s.
//!
//! Invariant: who has not signed learns whether an app exists, and nothing else of it.

use std::sync::Arc;

use crate::app::{App, AppTable};
use crate::http::{BodyLength, Head, Status};
use crate::pusher::rest_signature::{self, Authenticated, Error, RestRequest};

use super::Response;
use super::request::Context;

/// Room for a string to sign of usual length.
const TO_SIGN_BYTES_USUAL: usize = 256;

/// The app of the path: 404 without one.
pub(super) fn find_app<'t>(apps: &'t AppTable, app_id: &str) -> Result<&'t Arc<App>, Response> {
    apps.by_id(app_id).ok_or_else(|| {
        let text = "Unknown app: no app has the id in the path.";
        Response::error(Status::NotFound, "app_not_found", text)
    })
}

/// Whether a key of the app has signed the head: 401 if not. `path` is the end of the head's path
/// that follows the configured prefix.
pub(super) fn authenticate<'h>(
    head: &Head<'h>,
    path: &'h str,
    app: &App,
    now_secs: u64,
) -> Result<Authenticated<'h>, Response> {
    let prefix = head.path.strip_suffix(path).unwrap_or_default();
    let request = RestRequest {
        method: head.method.as_str(),
        path,
        prefix,
        query: head.query,
        authorization: authorization(head),
        body_bytes: match head.body {
            BodyLength::None => Some(0),
            BodyLength::Length(bytes) => Some(bytes),
            BodyLength::Chunked => None,
        },
    };
    let mut scratch = Vec::with_capacity(TO_SIGN_BYTES_USUAL);
    request
        .verify(now_secs, &mut scratch, |key| Some(&app.key(key)?.signing))
        .map_err(|error| refused(&request, error))
}

/// Whether the app takes requests: 403 where it is switched off, 503 where the server is ending.
pub(super) fn check_open(context: &Context<'_>, app: &App) -> Result<(), Response> {
    if !app.settings.enabled {
        let text = "Forbidden: Application is disabled.";
        return Err(Response::error(Status::Forbidden, "forbidden", text));
    }
    if context.draining {
        let secs = context.settings.shutdown_grace_secs.max(1);
        let secs = u32::try_from(secs).unwrap_or(u32::MAX);
        return Err(Response::unavailable("The server is shutting down.", secs));
    }
    Ok(())
}

/// Whether the body is the one whose digest was signed: 401 if not.
pub(super) fn check_body(
    signed_md5: Option<[u8; 16]>,
    body: &[u8],
    md5: [u8; 16],
) -> Result<(), Response> {
    rest_signature::check_body(signed_md5, body.len() as u64, md5)
        .map_err(|error| refused(&RestRequest::default(), error))
}

/// The header of HTTP spec 2.4. It counts only without a signature in the query, and finding it is
/// a walk over the head, so a query that has one in the plain form spares the walk.
fn authorization<'h>(head: &Head<'h>) -> Option<&'h str> {
    let is_signature = |pair: &str| pair.starts_with("auth_signature=");
    if head.query.split('&').any(is_signature) {
        return None;
    }
    str::from_utf8(head.header("Authorization").next()?).ok()
}

fn refused(request: &RestRequest<'_>, error: Error) -> Response {
    Response::error(Status::Unauthorized, "auth_failed", request.explain(error))
}
