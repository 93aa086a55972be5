//! One `[[apps.webhooks]]`: where webhooks go, which ones, and what else is sent along.
//!
//! Invariant: an entry that is given here can be sent to: its URL has a host, and its headers are
//! valid and none of ours.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use url::Url;

use super::file::{Reader, Setting};
use super::form;
use super::problem::{Problem, Source};
use super::table::Place;
use crate::app::webhook::{WebhookKind, WebhookKinds};

/// Endpoints of one app: events are copied to each of them.
const ENDPOINTS_MAX: usize = 20;
/// Headers of one endpoint beside our own.
const HEADERS_MAX: usize = 32;

/// As the file has it.
#[derive(Debug)]
pub struct EndpointEntry {
    pub source: Source,
    pub url: Url,
    pub kinds: WebhookKinds,
    pub channel_prefix: String,
    pub channel_suffix: String,
    pub headers: HeaderMap,
    /// What the endpoint does not take from the settings of the process.
    pub own: Vec<Setting>,
}

impl Reader<'_> {
    /// The value of `webhooks`: those that can be built. For others there are problems.
    pub(super) fn endpoints(
        &mut self,
        at: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Vec<EndpointEntry> {
        let Some(entries) = value.get_ref().as_array() else {
            self.complain("apps.webhooks", at, "must be tables: `[[apps.webhooks]]`");
            return Vec::new();
        };
        if entries.len() > ENDPOINTS_MAX {
            let reason = format!("must be {ENDPOINTS_MAX} at most");
            self.complain("apps.webhooks", at, &reason);
        }
        entries.iter().filter_map(|e| self.endpoint(e)).collect()
    }

    fn endpoint(&mut self, entry: &Spanned<DeValue<'_>>) -> Option<EndpointEntry> {
        let start = entry.span().start;
        let Some(table) = entry.get_ref().as_table() else {
            self.complain(
                "apps.webhooks",
                start,
                "must be tables: `[[apps.webhooks]]`",
            );
            return None;
        };
        let (mut url, mut kinds) = (None, None);
        let (mut channel_prefix, mut channel_suffix) = (String::new(), String::new());
        let (mut headers, mut own) = (HeaderMap::new(), Vec::new());
        let before = self.problems.len();
        for (name, value) in table {
            let at = name.span().start;
            match &**name.get_ref() {
                "url" => url = self.url(value),
                "event_types" => kinds = self.kinds(value),
                "channel_prefix" => channel_prefix = self.name_part("channel_prefix", value),
                "channel_suffix" => channel_suffix = self.name_part("channel_suffix", value),
                "headers" => headers = self.headers(value),
                option => self.setting(option, at, value, Place::Endpoint, &mut own),
            }
        }
        let is_complete = self.problems.len() == before;
        if is_complete && url.is_none() {
            self.complain("apps.webhooks.url", start, "missing");
        }
        if is_complete && kinds.is_none() {
            let reason = format!("missing: some of {}", kind_names());
            self.complain("apps.webhooks.event_types", start, &reason);
        }
        (self.problems.len() == before).then_some(EndpointEntry {
            source: Source::File(self.place(start)),
            url: url?,
            kinds: kinds?,
            channel_prefix,
            channel_suffix,
            headers,
            own,
        })
    }

    fn url(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Url> {
        let url = value.get_ref().as_str().and_then(form::webhook_url);
        if url.is_none() {
            // Not shown: it may hold a password, which is one of the reasons.
            let reason = format!("must be {}", form::WEBHOOK_URL);
            self.complain("apps.webhooks.url", value.span().start, &reason);
        }
        url
    }

    fn kinds(&mut self, value: &Spanned<DeValue<'_>>) -> Option<WebhookKinds> {
        let entries = value.get_ref().as_array().filter(|e| !e.is_empty());
        let kinds = entries.and_then(|entries| {
            let names = entries.iter().map(|entry| entry.get_ref().as_str());
            names.map(|name| WebhookKind::from_name(name?)).collect()
        });
        if kinds.is_none() {
            let reason = format!("must be a list of {}", kind_names());
            self.refuse("event_types", value, reason);
        }
        kinds
    }

    /// How names of channels begin or end.
    fn name_part(&mut self, option: &str, value: &Spanned<DeValue<'_>>) -> String {
        let part = value.get_ref().as_str().filter(|p| form::is_name_part(p));
        if part.is_none() {
            self.refuse(option, value, format!("must be {}", form::NAME_PART));
        }
        part.unwrap_or_default().into()
    }

    /// Values may be secret and are never shown.
    fn headers(&mut self, value: &Spanned<DeValue<'_>>) -> HeaderMap {
        let start = value.span().start;
        let wrong = "must be a table such as `{ Authorization = \"Bearer x\" }`";
        let Some(table) = value.get_ref().as_table() else {
            self.complain("apps.webhooks.headers", start, wrong);
            return HeaderMap::new();
        };
        if table.len() > HEADERS_MAX {
            let reason = format!("must be {HEADERS_MAX} at most");
            self.complain("apps.webhooks.headers", start, &reason);
        }
        self.header_map(table)
    }

    fn header_map(&mut self, table: &DeTable<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in table {
            let option = format!("apps.webhooks.headers.{}", name.get_ref());
            let at = name.span().start;
            let Ok(parsed) = HeaderName::try_from(&**name.get_ref()) else {
                self.complain(&option, at, "must have the name of a header");
                continue;
            };
            if form::is_own_header(parsed.as_str()) {
                self.complain(
                    &option,
                    at,
                    "must be none of the headers that are always sent",
                );
                continue;
            }
            let text = value.get_ref().as_str();
            let Some(Ok(mut text)) = text.map(HeaderValue::from_str) else {
                self.complain(&option, at, "must be a text of visible ASCII characters");
                continue;
            };
            text.set_sensitive(true);
            if headers.insert(parsed, text).is_some() {
                self.complain(&option, at, "is given twice");
            }
        }
        headers
    }

    fn refuse(&mut self, option: &str, value: &Spanned<DeValue<'_>>, reason: String) {
        let (shown, source) = (self.shown(value), self.place(value.span().start));
        self.problems.push(Problem {
            option: format!("apps.webhooks.{option}"),
            value: Some(shown),
            source,
            reason,
        });
    }
}

fn kind_names() -> String {
    WebhookKind::ALL.map(WebhookKind::name).join(", ")
}
