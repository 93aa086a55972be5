//! The apps of a configuration: those of the file, or the single one.
//!
//! Reads no TOML (`file` does). An app's own settings win over those of the process, in either
//! direction (WebSocket spec 18.1). Invariant: indices are the places in the file.

use std::sync::Arc;

use hyper::HeaderMap;
use url::Url;

use super::SingleApp;
use super::endpoint::EndpointEntry;
use super::file::{AppEntry, Setting};
use super::load::Settings;
use super::problem::Problem;
use super::table::{self, Lookup};
use super::value::Value;
use crate::app::webhook::{Endpoint, WebhookKind};
use crate::app::{App, AppKey, AppTable, TableError, Webhooks};

/// None where two apps cannot be in one table; every problem is added to the list.
pub(super) fn build(
    entries: &[AppEntry],
    single: &SingleApp,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<AppTable> {
    let mut apps = Vec::new();
    if entries.is_empty() {
        let own = Own(&[], settings);
        let keys = vec![AppKey::new(&single.key, &single.secret)];
        let mut app = App::new(0, &single.id, keys, table::build_app_settings(&own));
        let endpoints = single.webhook_urls.iter().map(|u| of_every_kind(u, &own));
        app.webhooks = Webhooks::new(endpoints.collect());
        apps.push(app);
    }
    for (index, entry) in (0..).zip(entries) {
        let keys = entry
            .keys
            .iter()
            .map(|(key, secret)| AppKey::new(key, secret))
            .collect();
        let own = table::build_app_settings(&Own(&entry.own, settings));
        let endpoints = entry.webhooks.iter().map(|e| endpoint(e, settings));
        let mut app = App::new(index, &entry.id, keys, own);
        app.webhooks = Webhooks::new(endpoints.collect());
        apps.push(app);
    }
    match AppTable::new(apps.into_iter().map(Arc::new).collect()) {
        Ok(table) => Some(table),
        Err(error) => {
            problems.push(clash(error, entries));
            None
        }
    }
}

fn endpoint(entry: &EndpointEntry, settings: &Settings) -> Endpoint {
    Endpoint {
        url: entry.url.clone(),
        kinds: entry.kinds,
        channel_prefix: entry.channel_prefix.as_str().into(),
        channel_suffix: entry.channel_suffix.as_str().into(),
        headers: entry.headers.clone(),
        settings: table::build_endpoint_settings(&Own(&entry.own, settings)),
    }
}

/// An endpoint that is given by its URL alone.
fn of_every_kind(url: &Url, own: &Own<'_>) -> Endpoint {
    Endpoint {
        url: url.clone(),
        kinds: WebhookKind::ALL.into_iter().collect(),
        channel_prefix: "".into(),
        channel_suffix: "".into(),
        headers: HeaderMap::new(),
        settings: table::build_endpoint_settings(own),
    }
}

fn clash(error: TableError, entries: &[AppEntry]) -> Problem {
    let (first, second, option, value) = match error {
        TableError::IdTwice { first, second } => (first, second, "apps.id", &entries[second].id),
        TableError::KeyTwice {
            first,
            second,
            second_key,
        } => (
            first,
            second,
            "apps.key",
            &entries[second].keys[second_key].0,
        ),
        TableError::IndexTwice { .. } | TableError::NoKeys { .. } => {
            unreachable!("indices are counted here, and an entry without keys is not read")
        }
    };
    Problem {
        option: option.into(),
        value: Some(value.clone()),
        source: entries[second].source.to_string(),
        reason: format!("must be of one app only; also at {}", entries[first].source),
    }
}

/// The settings of one app or one endpoint: its own before those of the process.
pub(super) struct Own<'a>(pub &'a [Setting], pub &'a Settings);

impl Lookup for Own<'_> {
    fn value(&self, key: &str) -> &Value {
        let own = self.0.iter().find(|setting| setting.row.key == key);
        &own.unwrap_or_else(|| self.1.setting(key)).value
    }
}
