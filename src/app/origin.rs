//! The Origin allow-list of an app (WebSocket spec 1.3), compiled.
//!
//! An entry is a whole origin (`https://a.example`), or a host without scheme (any scheme, any
//! port); either may have `*.` before the host, for its subdomains. The same list serves
//! `cors_origins`. Does not look at requests: it is given the header's text.
//!
//! Invariant: entries are kept in lower case, so a comparison lowers the origin only.

use std::fmt;

/// An empty list allows everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginList(Vec<OriginPattern>);

/// One entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    /// With its `://`; `None` is any scheme and any port.
    scheme: Option<Box<str>>,
    /// The entry began with `*.`: any subdomain, not the domain itself.
    subdomains: bool,
    /// The host, and with a scheme also the port if it is not the scheme's own.
    host: Box<str>,
}

impl OriginList {
    pub fn new(patterns: Vec<OriginPattern>) -> Self {
        Self(patterns)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list is empty or names this origin. A missing header is refused by every list:
    /// native clients are given an app of their own.
    pub fn allows(&self, origin: Option<&str>) -> bool {
        self.is_empty() || origin.is_some_and(|o| self.names(o))
    }

    /// Whether an entry names this origin; unlike `allows`, never for an empty list.
    pub fn names(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let Some((scheme, authority)) = split_scheme(&origin) else {
            return false;
        };
        self.0
            .iter()
            .any(|pattern| pattern.matches(scheme, authority))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &OriginPattern> {
        self.0.iter()
    }
}

impl OriginPattern {
    /// Reads one entry; `None` for what is neither an origin nor a host.
    pub fn parse(entry: &str) -> Option<Self> {
        let entry = entry.to_ascii_lowercase();
        let (scheme, rest) = match split_scheme(&entry) {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, &*entry),
        };
        let (subdomains, host) = match rest.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, rest),
        };
        let authority = match scheme {
            Some(scheme) => without_own_port(scheme, host),
            // A port without a scheme would say something about which the rule says "any".
            None if host_of(host) == host => host,
            None => return None,
        };
        if !is_authority(authority) {
            return None;
        }
        Some(Self {
            scheme: scheme.map(Into::into),
            subdomains,
            host: authority.into(),
        })
    }

    fn matches(&self, scheme: &str, authority: &str) -> bool {
        let host = match &self.scheme {
            Some(own) if **own == *scheme => without_own_port(scheme, authority),
            Some(_) => return false,
            None => host_of(authority),
        };
        if !self.subdomains {
            return *host == *self.host;
        }
        host.strip_suffix(&*self.host)
            .and_then(|h| h.strip_suffix('.'))
            .is_some_and(|h| !h.is_empty())
    }
}

/// As it is written in the configuration.
impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.subdomains { "*." } else { "" };
        write!(
            f,
            "{}{star}{}",
            self.scheme.as_deref().unwrap_or(""),
            self.host
        )
    }
}

/// `https://` and what follows it.
fn split_scheme(origin: &str) -> Option<(&str, &str)> {
    let at = origin.find("://").filter(|&at| at > 0)? + "://".len();
    Some(origin.split_at(at))
}

/// Browsers leave out the port that the scheme implies; people who write lists may not.
fn without_own_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let own = match scheme {
        "https://" => ":443",
        "http://" => ":80",
        _ => return authority,
    };
    authority.strip_suffix(own).unwrap_or(authority)
}

/// The authority without its port. The colons of `[::1]` are not a port's.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn is_authority(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    !host_of(text).is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> OriginList {
        OriginList::new(
            entries
                .iter()
                .map(|e| OriginPattern::parse(e).unwrap())
                .collect(),
        )
    }

    #[test]
    fn an_origin_matches_as_its_entry_says() {
        let rows: &[(&str, &str, bool)] = &[
            // A whole origin: scheme, host and port.
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example:8443", "https://a.example:8443", true),
            ("https://a.example:443", "https://a.example", true),
            ("http://a.example", "http://a.example:80", true),
            ("https://a.example", "https://b.a.example", false),
            ("https://a.example", "https://a.example.evil", false),
            ("https://a.example", "https://evila.example", false),
            // A host: any scheme, any port.
            ("a.example", "https://a.example", true),
            ("a.example", "http://a.example:3000", true),
            ("a.example", "capacitor://a.example", true),
            ("a.example", "https://b.a.example", false),
            ("localhost", "http://localhost:5173", true),
            ("[::1]", "http://[::1]:5173", true),
            ("[::1]", "http://[::1]", true),
            // Subdomains, at any depth, never the domain itself.
            ("*.a.example", "https://b.a.example", true),
            ("*.a.example", "https://c.b.a.example:8443", true),
            ("*.a.example", "https://a.example", false),
            ("*.a.example", "https://.a.example", false),
            ("*.a.example", "https://ba.example", false),
            ("https://*.a.example", "https://b.a.example", true),
            ("https://*.a.example", "http://b.a.example", false),
            // Case does not count.
            ("HTTPS://A.Example", "https://a.EXAMPLE", true),
            // What is no origin matches nothing.
            ("a.example", "a.example", false),
            ("a.example", "null", false),
            ("a.example", "", false),
        ];
        for (entry, origin, expected) in rows {
            assert_eq!(
                list(&[entry]).allows(Some(origin)),
                *expected,
                "{entry} {origin}"
            );
        }
    }

    #[test]
    fn an_empty_list_allows_everybody_and_any_other_refuses_a_missing_header() {
        assert!(OriginList::default().allows(None));
        assert!(OriginList::default().allows(Some("https://a.example")));
        assert!(!OriginList::default().names("https://a.example"));
        assert!(!list(&["a.example"]).allows(None));
        assert!(list(&["b.example", "a.example"]).allows(Some("https://a.example")));
    }

    #[test]
    fn what_is_neither_an_origin_nor_a_host_is_refused() {
        for entry in [
            "",
            "*",
            "*.",
            "https://",
            "://a",
            "https://a.example/",
            "a.example:80",
            "a b",
            "*.*.a",
            "a*b",
        ] {
            assert_eq!(OriginPattern::parse(entry), None, "{entry}");
        }
    }

    #[test]
    fn an_entry_is_printed_as_it_is_read() {
        for entry in [
            "https://a.example",
            "a.example",
            "*.a.example",
            "http://*.a.example:8080",
        ] {
            assert_eq!(OriginPattern::parse(entry).unwrap().to_string(), entry);
        }
    }
}
