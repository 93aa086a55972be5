//! Cross-origin answers for the origins that the configuration lists (HTTP spec 1).
//!
//! None are listed by default and then nothing here acts: an app secret has no place in a browser.
//! This does not touch WebSocket origins, which are a setting of each app.

use crate::http::{Head, Status};

use super::route::Methods;
use super::{Body, Response};

/// The entry that stands for every origin.
pub const ANY: &str = "*";

/// The value of `Access-Control-Allow-Origin` for this request: the configured entry that its
/// `Origin` equals (in any case), or `*`. Nothing without an `Origin`, or where it is not listed.
pub fn allowed_origin<'c>(head: &Head<'_>, cors_origins: &'c [String]) -> Option<&'c str> {
    allowed_index(head, cors_origins).map(|index| cors_origins[index].as_str())
}

/// The place of that entry.
pub(super) fn allowed_index(head: &Head<'_>, cors_origins: &[String]) -> Option<usize> {
    if cors_origins.is_empty() {
        return None;
    }
    let origin = head.header("Origin").next()?;
    cors_origins
        .iter()
        .position(|entry| entry == ANY || entry.as_bytes().eq_ignore_ascii_case(origin))
}

/// The answer to `OPTIONS` on a path that takes `methods`, unsigned. The origin's own field comes
/// from `Framing`. `None` where no origin is configured: then OPTIONS is a method like any other.
pub fn preflight(methods: Methods, cors_origins: &[String]) -> Option<Response> {
    if cors_origins.is_empty() {
        return None;
    }
    let mut response = Response::new(Status::NoContent, Body::None);
    response.fields = match methods {
        Methods::Get => &[
            ("Access-Control-Allow-Methods", "GET, HEAD"),
            (
                "Access-Control-Allow-Headers",
                "Authorization, Content-Type",
            ),
        ],
        Methods::Post => &[
            ("Access-Control-Allow-Methods", "POST"),
            (
                "Access-Control-Allow-Headers",
                "Authorization, Content-Type",
            ),
        ],
    };
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;

    fn allowed<'c>(origin: Option<&str>, cors_origins: &'c [String]) -> Option<&'c str> {
        let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{origin}\r\n");
        let (head, _) = Head::parse(text.as_bytes(), &HeadLimits::default())
            .expect("a lawful head")
            .expect("a whole head");
        allowed_origin(&head, cors_origins)
    }

    #[test]
    fn only_a_listed_origin_is_answered_and_with_its_configured_form() {
        let listed = ["https://a.example".to_owned(), "http://b:3000".to_owned()];
        assert_eq!(
            allowed(Some("https://A.example"), &listed),
            Some("https://a.example")
        );
        assert_eq!(
            allowed(Some("http://b:3000"), &listed),
            Some("http://b:3000")
        );
        for other in [
            "https://a.example.evil",
            "https://a.example:444",
            "null",
            "",
        ] {
            assert_eq!(allowed(Some(other), &listed), None, "{other}");
        }
        assert_eq!(allowed(None, &listed), None);
    }

    #[test]
    fn a_star_allows_every_origin_and_an_empty_list_none() {
        let any = [ANY.to_owned()];
        assert_eq!(allowed(Some("https://a.example"), &any), Some(ANY));
        assert_eq!(allowed(None, &any), None);
        assert_eq!(allowed(Some("https://a.example"), &[]), None);
    }

    #[test]
    fn a_preflight_names_methods_and_headers() {
        let listed = ["https://a.example".to_owned()];
        let response = preflight(Methods::Post, &listed).expect("origins are configured");
        assert_eq!(response.status, Status::NoContent);
        assert_eq!(response.fields[0], ("Access-Control-Allow-Methods", "POST"));
        assert_eq!(preflight(Methods::Post, &[]), None);
    }
}
