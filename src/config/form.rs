//! The shapes of texts in the configuration, as the option table names them.
//!
//! Says whether a text has the shape; the types that are made of it are built in `convert`, from
//! the same functions. Invariant: what is held here to be of a shape can be converted.

use std::net::IpAddr;

use super::host::parse_cores;
use super::network::Network;
use crate::app::OriginPattern;

/// Everybody knows it, so an app that has it is for development only.
pub(super) const DEVELOPMENT_SECRET: &str = "app-secret";

/// Completes "must be ...", for ids and keys of apps.
pub(super) const APP_NAME: &str = "1 to 200 letters, digits, `-`, `_`, `.` or `~`";

const APP_NAME_CHARS_MAX: usize = 200;

pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Segments of unreserved characters, so that a prefix is written in only one way.
pub(super) fn is_prefix(text: &str) -> bool {
    let segment = |s: &str| !s.is_empty() && s.chars().all(is_unreserved) && s != "." && s != "..";
    text.is_empty()
        || text
            .strip_prefix('/')
            .is_some_and(|t| t.split('/').all(segment))
}

pub(super) fn is_network(text: &str) -> bool {
    Network::parse(text).is_some()
}

pub(super) fn is_cores(text: &str) -> bool {
    parse_cores(text).is_some()
}

pub(super) fn is_origin(text: &str) -> bool {
    OriginPattern::parse(text).is_some()
}

/// An origin is compared whole, so a pattern would never match.
pub(super) fn is_cors_origin(text: &str) -> bool {
    text == "*" || (text.contains("://") && !text.contains('*') && is_origin(text))
}

/// Ids and keys stand in paths, in queries and before the colon of an `auth`.
pub(super) fn is_app_name(text: &str) -> bool {
    (1..=APP_NAME_CHARS_MAX).contains(&text.len()) && text.chars().all(is_unreserved)
}

pub(super) fn is_secret(text: &str) -> bool {
    !text.is_empty()
}

/// RFC 3986, 2.3: never changed by percent-encoding.
fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_holds_for_what_it_says_and_for_nothing_else() {
        type Row = (
            fn(&str) -> bool,
            &'static [&'static str],
            &'static [&'static str],
        );
        let rows: [Row; 6] = [
            (
                is_address,
                &["127.0.0.1", "::", "::1"],
                &["", "localhost", "127.0.0.1:80", "[::]"],
            ),
            (
                is_prefix,
                &["", "/ws", "/a/b-c"],
                &["ws", "/", "/ws/", "/a//b", "/a b", "/a?b", "/..", "/%41"],
            ),
            (
                is_network,
                &["10.0.0.0/8", "10.1.2.3", "fd00::/8"],
                &["", "10.0.0.0/33", "a/8"],
            ),
            (
                is_cors_origin,
                &["*", "https://a.example"],
                &["a.example", "https://*.a", "", "https://a/"],
            ),
            (
                is_app_name,
                &["a", "app-id", "A.b_~9"],
                &["", "a:b", "a/b", "a b", "ä"],
            ),
            (is_secret, &["x"], &[""]),
        ];
        for (holds, good, bad) in rows {
            for text in good {
                assert!(holds(text), "{text}");
            }
            for text in bad {
                assert!(!holds(text), "{text}");
            }
        }
        assert!(is_app_name(&"a".repeat(200)) && !is_app_name(&"a".repeat(201)));
    }
}
