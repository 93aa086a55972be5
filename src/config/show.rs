//! The configuration written out: as the file that would give it again, and as the README's table.
//!
//! Reads nothing and decides nothing. Invariant: the file, with its secrets shown, is read back as
//! the same configuration.

use std::fmt::Write as _;

use super::endpoint::EndpointEntry;
use super::load::Loaded;
use super::table::{self, ENV_PREFIX, Place, Scope};
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
        for endpoint in &app.webhooks {
            write_endpoint(&mut out, endpoint, secrets);
        }
    }
    out
}

fn write_endpoint(out: &mut String, endpoint: &EndpointEntry, secrets: Secrets) {
    let _ = writeln!(out, "\n[[apps.webhooks]]");
    let source = endpoint.source.to_string();
    line(out, "url", &quoted(endpoint.url.as_str()), &source);
    let kinds = endpoint.kinds.iter().map(|kind| quoted(kind.name()));
    let _ = writeln!(
        out,
        "event_types = [{}]",
        kinds.collect::<Vec<_>>().join(", ")
    );
    for (key, part) in [
        ("channel_prefix", &endpoint.channel_prefix),
        ("channel_suffix", &endpoint.channel_suffix),
    ] {
        if !part.is_empty() {
            let _ = writeln!(out, "{key} = {}", quoted(part));
        }
    }
    let headers = endpoint.headers.iter().map(|(name, value)| {
        let value = match secrets {
            Secrets::Shown => value.to_str().expect("only visible ASCII is taken"),
            Secrets::Hidden => HIDDEN,
        };
        format!("{} = {}", quoted(name.as_str()), quoted(value))
    });
    let headers = headers.collect::<Vec<_>>().join(", ");
    if !headers.is_empty() {
        let _ = writeln!(out, "headers = {{ {headers} }}");
    }
    for own in &endpoint.own {
        let key = own.row.key_at(Place::Endpoint).unwrap_or(own.row.key);
        let value = own.row.kind.toml(&own.value);
        line(out, key, &value, &own.source.to_string());
    }
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
The options of **Apps** and **Webhooks of apps** hold for every app; an app of the file may have its
own value for each, which wins over all others. Instead of `keys` it may have one `key` and one
`secret`. The options of **Webhook endpoints** hold for every endpoint; one of the file may have its
own value for each, written without `webhook_`.

```toml
[[apps]]
id = \"shop\"
keys = [{ key = \"k1\", secret = \"s1\" }, { key = \"k2\", secret = \"s2\" }]
client_events = true

[[apps.webhooks]]
url = \"https://shop.example/webhooks\"
event_types = [\"channel_occupied\", \"channel_vacated\"]
channel_prefix = \"order-\"
channel_suffix = \"\"
headers = { Authorization = \"Bearer x\" }
timeout_ms = 2000
```
";
