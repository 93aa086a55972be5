//! The shapes of texts in the configuration, as the option table names them.
//!
//! Says whether a text has the shape; the types that are made of it are built in `convert`, from
//! the same functions. Invariant: what is held here to be of a shape can be converted.

use std::net::IpAddr;

use url::Url;

use super::host::parse_cores;
use super::network::Network;
use crate::app::{DeltaPolicy, OriginPattern};

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

/// What a name of Prometheus may begin with; colons are for rules there.
pub(super) fn is_metric_prefix(text: &str) -> bool {
    const CHARS_MAX: usize = 64;
    !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= CHARS_MAX
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

/// Completes "must be ...", for how channels use deltas.
pub(super) const DELTA_POLICY: &str =
    "entries such as `ticker-* conflation_key=symbol keys_max=500 algorithm=fossil`";

pub(super) fn is_delta_policy(text: &str) -> bool {
    DeltaPolicy::parse(text).is_some()
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

/// Completes "must be ...", for where webhooks go.
pub(super) const WEBHOOK_URL: &str =
    "an `http` or `https` URL with a host, without user, password and fragment";

/// None where nothing could be sent there. Credentials belong into a header, where they are secret.
pub(super) fn webhook_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain =
        url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain).then_some(url)
}

pub(super) fn is_webhook_url(text: &str) -> bool {
    webhook_url(text).is_some()
}

/// Completes "must be ...", for how names of channels begin or end.
pub(super) const NAME_PART: &str = "at most 1000 of the characters that channels are named with";

/// A part with other characters would never match.
pub(super) fn is_name_part(text: &str) -> bool {
    text.len() <= NAME_PART_CHARS_MAX
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-=@,.;".contains(&b))
}

const NAME_PART_CHARS_MAX: usize = 1_000;

/// Headers of a webhook that are ours (webhooks 2), or that say how its body is framed and how the
/// connection is used. In lower case, as names of headers are after parsing.
pub(super) fn is_own_header(name: &str) -> bool {
    const OWN: [&str; 13] = [
        "content-type",
        "content-length",
        "content-encoding",
        "user-agent",
        "x-pusher-key",
        "x-pusher-signature",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "expect",
        "te",
        "trailer",
        "upgrade",
    ];
    OWN.contains(&name)
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
