//! The configuration written out: as the file that would give it again, and as the README's table.
//!
//! Reads nothing and decides nothing. Invariant: the file, with its secrets shown, is read back as
//! the same configuration.

use std::fmt::Write as _;

use super::load::Loaded;
use super::table::{self, ENV_PREFIX, Scope};
use super::value::quoted;

/// Whether secrets are written; without them the file cannot be used as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    Hidden,
    Shown,
}

const HIDDEN: &str = "(hidden)";

/// The column at which sources begin, where the value leaves room.
const SOURCE_COLUMN: usize = 48;

/// Every option with its value and, behind it, where the value came from.
pub fn toml(loaded: &Loaded, secrets: Secrets) -> String {
    let mut out = String::new();
    let mut group = "";
    for setting in &loaded.settings.0 {
        let row = setting.row;
        if row.scope == Scope::SingleApp && !loaded.app_entries.is_empty() {
            continue;
        }
        if row.group != group {
            let space = if group.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{space}# {}", row.group);
            group = row.group;
        }
        let value = match row.is_secret() && secrets == Secrets::Hidden {
            true => quoted(HIDDEN),
            false => row.kind.toml(&setting.value),
        };
        line(&mut out, row.key, &value, &setting.source.to_string());
    }
    for app in &loaded.app_entries {
        let _ = writeln!(out, "\n[[apps]]");
        line(&mut out, "id", &quoted(&app.id), &app.source.to_string());
        let keys = app.keys.iter().map(|(key, secret)| {
            let secret = if secrets == Secrets::Shown {
                secret
            } else {
                HIDDEN
            };
            format!("{{ key = {}, secret = {} }}", quoted(key), quoted(secret))
        });
        let _ = writeln!(out, "keys = [{}]", keys.collect::<Vec<_>>().join(", "));
        for own in &app.own {
            line(
                &mut out,
                own.row.key,
                &own.row.kind.toml(&own.value),
                &own.source.to_string(),
            );
        }
    }
    out
}

fn line(out: &mut String, key: &str, value: &str, source: &str) {
    let assignment = format!("{key} = {value}");
    let _ = writeln!(out, "{assignment:<SOURCE_COLUMN$} # {source}");
}

/// The options as tables in Markdown.
pub fn markdown() -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "An option has one name: `path_prefix` in the file is `{ENV_PREFIX}PATH_PREFIX` in the\n\
         environment and `--path-prefix` as a flag. A flag wins over the environment, the\n\
         environment over the file. Sizes are bytes, or text such as `\"64 KiB\"`. A list is\n\
         separated by commas in the environment and in flags.\n"
    );
    let mut group = "";
    for row in table::all() {
        if row.group != group {
            let space = if group.is_empty() { "" } else { "\n" };
            let _ = writeln!(
                out,
                "{space}**{}**\n\n| Option | Default | Allowed | |\n|---|---|---|---|",
                row.group
            );
            group = row.group;
        }
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            row.key,
            row.default,
            row.kind.allowed(),
            row.help
        );
    }
    out.push_str(APPS);
    out
}

const APPS: &str = "
The options of **Apps** hold for every app; an app of the file may have its own value for each,
which wins over all others. Instead of `keys` it may have one `key` and one `secret`.

```toml
[[apps]]
id = \"shop\"
keys = [{ key = \"k1\", secret = \"s1\" }, { key = \"k2\", secret = \"s2\" }]
client_events = true
```
";
