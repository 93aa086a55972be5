//! The configuration file: TOML into settings with the line of each.
//!
//! Reads all of it and collects every problem. Does not decide what wins over what, nor whether
//! apps fit together.
//!
//! Invariant: a setting that is given here is within the bounds of its row.

use std::fs;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::endpoint::EndpointEntry;
use super::form;
use super::problem::{Problem, Source};
use super::table::{self, Place, Row};
use super::value::{Kind, Value};

/// A value that somebody gave to an option.
#[derive(Clone, Debug)]
pub struct Setting {
    pub row: &'static Row,
    pub value: Value,
    pub source: Source,
}

/// One `[[apps]]`.
#[derive(Debug)]
pub struct AppEntry {
    pub source: Source,
    pub id: String,
    /// Each with its secret.
    pub keys: Vec<(String, String)>,
    /// What the app does not take from the settings of the process.
    pub own: Vec<Setting>,
    pub webhooks: Vec<EndpointEntry>,
}

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub settings: Vec<Setting>,
    pub apps: Vec<AppEntry>,
}

/// Reads and parses; `source` is who named the file.
pub(super) fn read(path: &Path, source: &Source, problems: &mut Vec<Problem>) -> File {
    match fs::read_to_string(path) {
        Ok(text) => parse(&path.display().to_string(), &text, problems),
        Err(error) => {
            let value = Some(path.display().to_string());
            let reason = format!("cannot be read: {error}");
            problems.push(Problem {
                option: "config".into(),
                value,
                source: source.to_string(),
                reason,
            });
            File::default()
        }
    }
}

/// Parses a file of this name.
pub(super) fn parse(name: &str, text: &str, problems: &mut Vec<Problem>) -> File {
    let mut reader = Reader {
        name,
        text,
        problems,
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let place = reader.place(error.span().unwrap_or_default().start);
            reader
                .problems
                .push(Problem::other("config", place, error.message()));
        }
        return File::default();
    }
    reader.root(root.get_ref())
}

pub(super) struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>) -> File {
        let mut file = File::default();
        for (key, value) in root {
            match (&**key.get_ref(), value.get_ref()) {
                ("apps", DeValue::Array(apps)) => {
                    for app in apps {
                        file.apps.extend(self.app(app));
                    }
                }
                ("apps", _) => {
                    self.complain("apps", key.span().start, "must be tables: `[[apps]]`")
                }
                // A table holds nothing of ours: names of others that are accepted have one.
                (outer, DeValue::Table(inner)) => {
                    for (key, value) in inner {
                        let option = format!("{outer}.{}", key.get_ref());
                        self.setting(
                            &option,
                            key.span().start,
                            value,
                            Place::Top,
                            &mut file.settings,
                        );
                    }
                }
                (option, _) => {
                    self.setting(
                        option,
                        key.span().start,
                        value,
                        Place::Top,
                        &mut file.settings,
                    );
                }
            }
        }
        file
    }

    /// None where the app cannot be built; then there is a problem that says why.
    fn app(&mut self, entry: &Spanned<DeValue<'_>>) -> Option<AppEntry> {
        let start = entry.span().start;
        let DeValue::Table(table) = entry.get_ref() else {
            self.complain("apps", start, "must be tables: `[[apps]]`");
            return None;
        };
        let mut app = AppEntry {
            source: Source::File(self.place(start)),
            id: String::new(),
            keys: Vec::new(),
            own: Vec::new(),
            webhooks: Vec::new(),
        };
        let (mut key, mut secret) = (None, None);
        let before = self.problems.len();
        for (name, value) in table {
            let at = name.span().start;
            match &**name.get_ref() {
                "id" => app.id = self.app_name("apps.id", value)?,
                "key" => key = Some(self.app_name("apps.key", value)?),
                "secret" => secret = Some(self.secret("apps.secret", value)?),
                "keys" => app.keys.extend(self.keys(value)?),
                "webhooks" => app.webhooks = self.endpoints(at, value),
                option => self.setting(option, at, value, Place::App, &mut app.own),
            }
        }
        match (key, secret) {
            (Some(key), Some(secret)) => app.keys.insert(0, (key, secret)),
            (None, None) => {}
            (Some(_), None) => self.complain("apps.secret", start, "missing beside `key`"),
            (None, Some(_)) => self.complain("apps.key", start, "missing beside `secret`"),
        }
        if app.id.is_empty() {
            self.complain("apps.id", start, "missing");
        }
        if app.keys.is_empty() && self.problems.len() == before {
            self.complain("apps.keys", start, "missing: `key` and `secret`, or `keys`");
        }
        (self.problems.len() == before).then_some(app)
    }

    /// `[{ key = "..", secret = ".." }]`.
    fn keys(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<(String, String)>> {
        let start = value.span().start;
        let wrong = "must be a list such as `[{ key = \"k\", secret = \"s\" }]`";
        let Some(entries) = value.get_ref().as_array() else {
            self.complain("apps.keys", start, wrong);
            return None;
        };
        let mut keys = Vec::new();
        for entry in entries {
            let pair = entry.get_ref().as_table().filter(|table| table.len() == 2);
            let pair = pair.and_then(|table| Some((table.get("key")?, table.get("secret")?)));
            let Some((key, secret)) = pair else {
                self.complain("apps.keys", entry.span().start, wrong);
                return None;
            };
            keys.push((
                self.app_name("apps.keys.key", key)?,
                self.secret("apps.keys.secret", secret)?,
            ));
        }
        Some(keys)
    }

    /// An id or a key. Ids are often numbers, so a number without quotes will do.
    fn app_name(&mut self, option: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = match value.get_ref() {
            DeValue::String(text) => Some(&**text),
            DeValue::Integer(n) if n.radix() == 10 => Some(n.as_str()),
            _ => None,
        };
        let name = text.filter(|text| form::is_app_name(text)).map(Into::into);
        if name.is_none() {
            let (shown, source) = (self.shown(value), self.place(value.span().start));
            let reason = format!("must be {}", form::APP_NAME);
            let option = option.into();
            self.problems.push(Problem {
                option,
                value: Some(shown),
                source,
                reason,
            });
        }
        name
    }

    fn secret(&mut self, option: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let secret = value
            .get_ref()
            .as_str()
            .filter(|text| form::is_secret(text))
            .map(Into::into);
        if secret.is_none() {
            self.complain(
                option,
                value.span().start,
                "must be a text that is not empty",
            );
        }
        secret
    }

    /// One setting of the table; `place` says which there are, and how they are called.
    pub(super) fn setting(
        &mut self,
        option: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        place: Place,
        settings: &mut Vec<Setting>,
    ) {
        let source = self.place(at);
        let Some((row, times)) = find(option, place) else {
            self.problems.push(Problem::unknown(option, source, place));
            return;
        };
        let shown = self.shown(value);
        let Some(read) = read_times(&row.kind, value.get_ref(), times) else {
            let mut problem = Problem::value(row, shown, source);
            if option != row.key {
                let scaled = if times == 1 {
                    String::new()
                } else {
                    format!(" / {times}")
                };
                problem.reason = format!(
                    "must be {}{scaled} (it sets `{}`)",
                    row.kind.allowed(),
                    row.key
                );
                problem.option = option.into();
            }
            self.problems.push(problem);
            return;
        };
        if settings.iter().any(|setting| setting.row.key == row.key) {
            self.problems.push(Problem::other(
                option,
                source,
                format!("`{}` is given twice", row.key),
            ));
            return;
        }
        settings.push(Setting {
            row,
            value: read,
            source: Source::File(source),
        });
    }

    pub(super) fn complain(&mut self, option: &str, at: usize, reason: &str) {
        let place = self.place(at);
        self.problems.push(Problem::other(option, place, reason));
    }

    pub(super) fn place(&self, at: usize) -> String {
        let line = self.text.bytes().take(at).filter(|&b| b == b'\n').count() + 1;
        format!("{}:{line}", self.name)
    }

    /// As it is written, cut where it is long or goes over several lines.
    pub(super) fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        const SHOWN_CHARS_MAX: usize = 60;
        let written = self.text.get(value.span()).unwrap_or_default();
        let line = written.lines().next().unwrap_or_default();
        match line.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{}...", &line[..end]),
            None => line.into(),
        }
    }
}

/// The row of a name at this place, and what its number is multiplied with.
fn find(option: &str, place: Place) -> Option<(&'static Row, u64)> {
    table::all().find_map(|row| {
        let key = row.key_at(place)?;
        let alias = row
            .aliases
            .iter()
            .find(|alias| alias.key == option && alias.place == place);
        if key == option {
            Some((row, 1))
        } else {
            Some((row, alias?.times))
        }
    })
}

fn read_times(kind: &Kind, value: &DeValue<'_>, times: u64) -> Option<Value> {
    if times == 1 {
        return kind.read_toml(value);
    }
    let n = value.as_integer()?;
    let n = u64::from_str_radix(n.as_str(), n.radix())
        .ok()?
        .checked_mul(times)?;
    kind.read_text(&n.to_string())
}
