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

/// The app whose key the request names, for a path without an app: 401 without one, with the first
/// fault of the request, since nothing of it can be authentic.
pub(super) fn find_app_of_key<'t>(
    apps: &'t AppTable,
    head: &Head<'_>,
    path: &str,
    now_secs: u64,
) -> Result<&'t Arc<App>, Response> {
    let request = rest_request(head, path);
    let key = request.auth_key();
    if let Some((app, _)) = key.and_then(|key| apps.by_key(&key)) {
        return Ok(app);
    }
    let outcome = request.verify(now_secs, &mut Vec::new(), |_| None);
    let error = outcome.err().unwrap_or(Error::UnknownKey);
    Err(refused(&request, error))
}

/// Whether a key of the app has signed the head: 401 if not. `path` is the end of the head's path
/// that follows the configured prefix.
pub(super) fn authenticate<'h>(
    head: &Head<'h>,
    path: &'h str,
    app: &App,
    now_secs: u64,
) -> Result<Authenticated<'h>, Response> {
    let request = rest_request(head, path);
    let mut scratch = Vec::with_capacity(TO_SIGN_BYTES_USUAL);
    request
        .verify(now_secs, &mut scratch, |key| Some(&app.key(key)?.signing))
        .map_err(|error| refused(&request, error))
}

fn rest_request<'h>(head: &Head<'h>, path: &'h str) -> RestRequest<'h> {
    RestRequest {
        method: head.method.as_str(),
        path,
        prefix: head.path.strip_suffix(path).unwrap_or_default(),
        query: head.query,
        authorization: authorization(head),
        body_bytes: match head.body {
            BodyLength::None => Some(0),
            BodyLength::Length(bytes) => Some(bytes),
            BodyLength::Chunked => None,
        },
    }
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

/// The header of HTTP spec 2.4, which counts only without a signature in the query.
fn authorization<'h>(head: &Head<'h>) -> Option<&'h str> {
    if !head.has_authorization {
        return None;
    }
    str::from_utf8(head.header("Authorization").next()?).ok()
}

fn refused(request: &RestRequest<'_>, error: Error) -> Response {
    Response::error(Status::Unauthorized, "auth_failed", request.explain(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::*;

    /// Key, timestamp and version as all examples of HTTP spec 3 have them.
    const AUTH: &str = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0";

    /// What a head says to app `3`: the error text, if it is refused.
    fn judge(wire: &[u8]) -> Result<(), String> {
        let server = Server::new();
        let app = find_app(server.shard.apps(), "3").expect("app 3 exists");
        let (head, _) = head(wire);
        match authenticate(&head, head.path, app, NOW_SECS) {
            Ok(_) => Ok(()),
            Err(response) => {
                let (status, code, text) = refusal(&response);
                assert_eq!((status, code.as_str()), (401, "auth_failed"));
                Err(text)
            }
        }
    }

    /// The examples of HTTP spec 3 for endpoints that are not routes yet, and the header form.
    /// Peers 18: the python library sends the digest of nothing with every GET, and a POST without
    /// a body needs none.
    #[test]
    fn the_examples_of_the_specification_are_authentic() {
        let header = "Authorization: 278d425bdf160c739803:1cafa6382331c976588eb6bd3925a988e4158402be06c4626d0e97d2981f5382\r\n";
        let auth_of =
            |fields: &str, signature: &str| format!("{AUTH}{fields}&auth_signature={signature}");
        let terminate = "/apps/3/users/12345/terminate_connections";
        for (method, path, query, headers, body) in [
            (
                "GET",
                "/apps/3/channels",
                auth_of(
                    "&info=user_count&filter_by_prefix=presence-",
                    "16819168891cb5dfd72b5c7a5d3d602605b26c6ba1930033b5e2eeeb65010291",
                ),
                "",
                "",
            ),
            (
                "GET",
                "/apps/3/channels/cache-room",
                auth_of(
                    "&info=subscription_count%2Ccache",
                    "f489e1fdaefe95a5968ea294bd0a48a27e3ffcc4f7daaaf04050838d75216970",
                ),
                "",
                "",
            ),
            (
                "GET",
                "/apps/3/channels/presence-foobar/users",
                auth_of(
                    "&body_md5=d41d8cd98f00b204e9800998ecf8427e",
                    "3d68b512095fd42cb6741cc80616761b1c77d00fcc4d6d9740f09504a4b761b0",
                ),
                "",
                "",
            ),
            (
                "POST",
                terminate,
                auth_of(
                    "&body_md5=99914b932bd37a50b983c5e7c90ae93b",
                    "01fa634edeb0cae84115307cad5c23f65a46cd286461b1c89637a3b5871a8f0e",
                ),
                "",
                "{}",
            ),
            (
                "POST",
                terminate,
                auth_of(
                    "",
                    "0bd2da4cd2c60cbe4627bea865cb306fda26121f3665d934db3e0f3f542a91f8",
                ),
                "",
                "",
            ),
            (
                "GET",
                "/apps/3/channels",
                auth_of(
                    "&Name=Something%20else",
                    "e661e8bf75b3959cbeab2cee466c873b918e39bfd0980693aadf77d4da8ba77c",
                ),
                "",
                "",
            ),
            (
                "GET",
                "/apps/3/channels",
                auth_of(
                    "&Name=Something+else",
                    "e661e8bf75b3959cbeab2cee466c873b918e39bfd0980693aadf77d4da8ba77c",
                ),
                "",
                "",
            ),
            (
                "GET",
                "/apps/3/channels",
                auth_of(
                    "&filter_by_prefix=a%40b%2Cc%3Bd%3De",
                    "1170b20d7f1514961b256999ee810ba746b7bb9e40993556f80d0625fabad34b",
                ),
                "",
                "",
            ),
            (
                "GET",
                "/apps/3/channels",
                auth_of(
                    "&info[]=user_count&info[]=subscription_count",
                    "175192df3115c9975cc5fa47eec612907413e243ddbfa27967814593f0e0bf82",
                ),
                "",
                "",
            ),
            (
                "GET",
                "/apps/3/channels",
                auth_of(
                    "&info[0]=user_count&info[1]=subscription_count",
                    "b5d3066c50a4e758b7d677e4f65cf6e909baab523911ba9dea505a65412149e6",
                ),
                "",
                "",
            ),
            (
                "GET",
                "/apps/3/channels",
                "auth_timestamp=1353088179&auth_version=1.0".into(),
                header,
                "",
            ),
            ("GET", "/apps/3/channels", AUTH.into(), header, ""),
        ] {
            let target = format!("{path}?{query}");
            assert_eq!(
                judge(&wire(method, &target, headers, body)),
                Ok(()),
                "{target}"
            );
        }
    }

    /// Peers 17: an unknown key is 401, not 404; the version is looked at.
    #[test]
    fn every_failure_is_401_and_says_what_is_wrong() {
        let bad = "0".repeat(64);
        for (query, headers, text) in [
            ("", "", "Missing parameter: auth_key"),
            ("auth_key=k", "", "Missing parameter: auth_timestamp"),
            (
                "auth_key=k&auth_timestamp=1353088179",
                "",
                "Missing parameter: auth_version",
            ),
            (AUTH, "", "Missing parameter: auth_signature"),
            (
                AUTH,
                "Authorization: Bearer x\r\n",
                "Missing parameter: auth_signature",
            ),
            (
                AUTH,
                "Authorization: k:x\r\n",
                "auth_key differs from the key of the Authorization header",
            ),
            (
                "auth_key=k&auth_timestamp=1353088179&auth_version=1.0&auth_signature=x",
                "",
                "Unknown auth_key",
            ),
            (
                "auth_key=off-key&auth_timestamp=1353088179&auth_version=1.0&auth_signature=x",
                "",
                "Unknown auth_key",
            ),
            (
                "auth_key=k&auth_timestamp=1353088179&auth_version=1.1",
                "",
                "Invalid auth_version: only 1.0 is supported",
            ),
            (
                "auth_key=k&auth_timestamp=now&auth_version=1.0",
                "",
                "Invalid auth_timestamp: must be Unix seconds",
            ),
            (
                "auth_key=k&auth_timestamp=1353088779&auth_version=1.0",
                "",
                "Timestamp expired: Given timestamp (1353088779) not within 600s of server time (1353088179)",
            ),
        ] {
            let wire = wire("GET", &format!("/x?{query}"), headers, "");
            assert_eq!(judge(&wire), Err(text.to_owned()), "{query}");
        }
        for headers in ["", "Authorization: 278d425bdf160c739803:right\r\n"] {
            let target = format!("/x?{AUTH}&auth_signature={bad}");
            let text = judge(&wire("GET", &target, headers, "")).expect_err("a wrong signature");
            let start = "Authentication failed: Invalid signature. You should have sent \
                         HmacSHA256Hex(\"GET\n/x\n";
            assert!(
                text.starts_with(start) && text.ends_with(&format!("sent \"{bad}\"")),
                "{text}"
            );
        }
        let no_md5 = format!("/x?{AUTH}&auth_signature={bad}");
        let text = judge(&wire("POST", &no_md5, "", "{}"));
        assert_eq!(text, Err("Missing parameter: body_md5".into()));
    }

    #[test]
    fn a_parameter_that_only_mentions_a_signature_does_not_hide_the_header() {
        let query = "auth_timestamp=1353088179&auth_version=1.0&x=auth_signature=";
        let to_sign = "GET\n/x\nauth_key=278d425bdf160c739803&auth_timestamp=1353088179\
                       &auth_version=1.0&x=auth_signature=";
        let key = crate::pusher::signature::SigningKey::new(SECRET.as_bytes());
        let signature = key.sign_hex(&[to_sign.as_bytes()]);
        let signature = str::from_utf8(&signature).expect("hex digits");
        let header = format!("Authorization: {KEY}:{signature}\r\n");
        assert_eq!(
            judge(&wire("GET", &format!("/x?{query}"), &header, "")),
            Ok(())
        );
    }

    /// Peers 17: elsewhere a disabled app can publish.
    #[test]
    fn a_disabled_app_is_forbidden_to_those_who_sign_and_unknown_to_those_who_do_not() {
        let mut server = Server::new();
        let body = r#"{"name":"e","channel":"c","data":""}"#;
        let target = target_by(KEY_OFF, "POST", "/apps/off/events", "", body);
        let response = server.answer(&wire("POST", &target, "", body));
        let forbidden = "Forbidden: Application is disabled.";
        assert_eq!(
            refusal(&response),
            (403, "forbidden".into(), forbidden.into())
        );
        let response = server.answer(&wire("POST", "/apps/off/events", "", body));
        assert_eq!(refusal(&response).0, 401);
        // The key of another app, with a signature that is right for it.
        let target = target_by(KEY, "POST", "/apps/off/events", "", body);
        let response = server.answer(&wire("POST", &target, "", body));
        assert_eq!(refusal(&response).2, "Unknown auth_key");
        assert!(server.published().is_empty());
    }

    #[test]
    fn a_draining_server_says_when_to_come_again() {
        let mut server = Server::new();
        server.draining = true;
        for (grace_secs, retry_after_secs) in [(10, 10), (0, 1), (u64::MAX, u32::MAX)] {
            server.settings.shutdown_grace_secs = grace_secs;
            let response = server.post("/apps/3/events", r#"{"name":"e","channel":"c","data":""}"#);
            assert_eq!(refusal(&response).0, 503);
            assert_eq!(response.retry_after_secs, Some(retry_after_secs));
        }
    }
}
