//! What is wrong with a configuration, a line each; and where values come from.
//!
//! All problems of one reading are collected, so that a person mends them in one go. Secrets are
//! never in a message.

use std::fmt;

use super::table::{self, Place, Row};

/// Names the option, its value, where it was given, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub option: String,
    /// As it was written; none where the option itself is the problem, or is secret.
    pub value: Option<String>,
    /// `shardcast.toml:3`, `SHARDCAST_PORT`, `--port`.
    pub source: String,
    pub reason: String,
}

/// Who said what the value of an option is, from weakest to strongest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    /// A default that depends on something: on what.
    Found(&'static str),
    /// `path:line`.
    File(String),
    /// The name in the environment.
    Env(String),
    Flag(String),
}

impl Problem {
    /// A value that the option does not take.
    pub fn value(row: &Row, value: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            option: row.key.into(),
            value: (!row.is_secret()).then(|| value.into()),
            source: source.into(),
            reason: format!("must be {}", row.kind.allowed()),
        }
    }

    /// An option that there is not, with the one that was perhaps meant.
    pub fn unknown(option: &str, source: impl Into<String>, place: Place) -> Self {
        let names = table::all().filter_map(|row| row.key_at(place));
        let reason = match nearest(option, names) {
            Some(near) => format!("unknown option; did you mean `{near}`?"),
            None => "unknown option; `shardcast config` lists those there are".into(),
        };
        Self {
            option: option.into(),
            value: None,
            source: source.into(),
            reason,
        }
    }

    /// Anything else about an option.
    pub fn other(option: &str, source: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            option: option.into(),
            value: None,
            source: source.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.option)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}): {}", self.source, self.reason)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Found(how) => write!(f, "default: {how}"),
            Self::File(place) => f.write_str(place),
            Self::Env(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// The name that is at most two edits (and half of its length) away, or else that begins so:
/// the unit at the end is what people forget.
fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &&str| match edits(given, name) {
        few if few <= (name.len() / 2).min(2) => Some(few),
        _ if given.len() >= 4 && name.starts_with(given) => Some(name.len()),
        _ => None,
    };
    names
        .filter(|name| distance(name).is_some())
        .min_by_key(distance)
}

/// Insertions, deletions and replacements that make one text of the other.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = corner + usize::from(from != to);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        let rows = [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("port", "prot", 2),
            ("port", "ports", 1),
            ("kitten", "sitting", 3),
        ];
        for (a, b, expected) in rows {
            assert_eq!(edits(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn an_unknown_option_is_told_its_nearest_name() {
        let near = |option| Problem::unknown(option, "--x", Place::Top).reason;
        assert!(near("activity_timeout").contains("`activity_timeout_secs`"));
        assert!(near("frobnicate").contains("lists those"));
        assert!(near("spin_ms").contains("`spin_us`"));
        assert!(near("shard").contains("`shards`"));
        assert!(
            Problem::unknown("prt", "a:1", Place::App)
                .reason
                .contains("lists those")
        );
    }
}
