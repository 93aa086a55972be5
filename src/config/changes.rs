//! What is different between two configurations of one process: for the log of a reload, and to
//! know what only a restart can change.
//!
//! Names options and apps, never values: a secret may be among them.

use std::collections::BTreeSet;
use std::fmt;

use super::apps::Own;
use super::file::Setting;
use super::load::Loaded;
use super::table::{self, Lookup, Row, Scope};
use crate::app::{App, AppKey};

/// Everything that is different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Options of the process: they hold from the next start on.
    pub process: Vec<&'static str>,
    /// Ids of apps, in the order of the new configuration, or of the old one where they are gone.
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<AppChange>,
}

/// An app and what is different about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppChange {
    pub id: String,
    /// Names of options; `keys` and `webhooks` stand for themselves.
    pub settings: Vec<&'static str>,
}

impl Changes {
    /// From one configuration to the next.
    pub fn between(before: &Loaded, after: &Loaded) -> Self {
        let is_other = |row: &&Row| before.settings.value(row.key) != after.settings.value(row.key);
        let process = table::all().filter(|row| row.scope == Scope::Process);
        let known: BTreeSet<&str> = before.apps.iter().map(|app| &*app.id).collect();
        let kept: BTreeSet<&str> = after.apps.iter().map(|app| &*app.id).collect();
        let ids = |loaded: &Loaded, others: &BTreeSet<&str>| {
            let apps = loaded.apps.iter().filter(|app| !others.contains(&*app.id));
            apps.map(|app| app.id.to_string()).collect()
        };
        let changed = after.apps.iter().filter_map(|app| {
            let earlier = before.apps.by_id(&app.id)?;
            let settings = differences((before, earlier), (after, app));
            let id = app.id.to_string();
            (!settings.is_empty()).then_some(AppChange { id, settings })
        });
        Self {
            process: process.filter(is_other).map(|row| row.key).collect(),
            added: ids(after, &known),
            removed: ids(before, &kept),
            changed: changed.collect(),
        }
    }

    /// Whether the apps are the same in every respect.
    pub fn leaves_apps(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// As a log has it: `a (enabled, keys), b (tls_only)`.
impl fmt::Display for AppChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.settings.join(", "))
    }
}

fn differences(before: (&Loaded, &App), after: (&Loaded, &App)) -> Vec<&'static str> {
    let (old, new) = (own(before.0, before.1), own(after.0, after.1));
    let (old, new) = (Own(old, &before.0.settings), Own(new, &after.0.settings));
    let rows = table::all().filter(|row| row.scope == Scope::App);
    let is_other = |row: &&Row| old.value(row.key) != new.value(row.key);
    let mut names: Vec<_> = rows.filter(is_other).map(|row| row.key).collect();
    let same_key = |(a, b): (&AppKey, &AppKey)| a.key == b.key && a.secret == b.secret;
    let (old, new) = (&before.1.keys, &after.1.keys);
    if old.len() != new.len() || !old.iter().zip(new).all(same_key) {
        names.push("keys");
    }
    if before.1.webhooks != after.1.webhooks {
        names.push("webhooks");
    }
    names
}

/// What an app does not take from the settings of the process.
fn own<'l>(loaded: &'l Loaded, app: &App) -> &'l [Setting] {
    let entry = loaded.app_entries.iter().find(|entry| *entry.id == *app.id);
    entry.map_or(&[], |entry| &entry.own)
}
