//! One value of one option: read from text or TOML, held against its bounds, written back.
//!
//! Knows kinds of values, not which options there are (`table`) nor what a value is for (`Config`).
//!
//! Invariant: a `Value` that `Kind::read_*` has given is of that kind and within its bounds, and
//! `Kind::toml` of it is read back as the same value.

use std::fmt::Write as _;

use toml::de::DeValue;

/// What an option was set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Switch(bool),
    Number(u64),
    Text(String),
    List(Vec<String>),
}

/// What an option may be set to.
#[derive(Debug)]
pub enum Kind {
    Switch,
    Number {
        min: u64,
        max: u64,
        unit: Unit,
        /// What 0 means where it is not simply a number; else empty.
        zero: &'static str,
    },
    Choice(&'static [&'static str]),
    Text(Form),
    /// In text separated by commas.
    List(Form),
}

/// The shape of a text or of each entry of a list.
#[derive(Debug)]
pub struct Form {
    /// Completes "must be ...".
    pub allowed: &'static str,
    pub holds: fn(&str) -> bool,
}

/// Units are part of an option's name; `Bytes` may also be written as `64 KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Plain,
    Bytes,
    Characters,
    Seconds,
    Milliseconds,
    Microseconds,
}

/// Binary multiples only, greatest first: one KiB is 1024 bytes.
const SIZES: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

impl Kind {
    /// Reads what the environment or a flag says.
    pub fn read_text(&self, text: &str) -> Option<Value> {
        let text = text.trim();
        match self {
            Self::Switch => match text {
                "true" | "1" => Some(Value::Switch(true)),
                "false" | "0" => Some(Value::Switch(false)),
                _ => None,
            },
            Self::Number { unit, .. } => self.bounded(read_number(text, *unit)?),
            Self::Choice(choices) => choices.contains(&text).then(|| Value::Text(text.into())),
            Self::Text(form) => (form.holds)(text).then(|| Value::Text(text.into())),
            Self::List(form) => {
                let entries = text.split(',').map(str::trim).filter(|e| !e.is_empty());
                form.list(entries.map(Into::into).collect())
            }
        }
    }

    /// Reads what the file says.
    pub fn read_toml(&self, value: &DeValue<'_>) -> Option<Value> {
        match (self, value) {
            (Self::Switch, DeValue::Boolean(on)) => Some(Value::Switch(*on)),
            (Self::Number { .. }, DeValue::Integer(n)) => {
                self.bounded(u64::from_str_radix(n.as_str(), n.radix()).ok()?)
            }
            // A list has its own syntax in TOML, and so has a switch.
            (Self::Switch | Self::List(_), DeValue::String(_)) => None,
            (_, DeValue::String(text)) => self.read_text(text),
            (Self::List(form), DeValue::Array(entries)) => {
                let entries = entries.iter().map(|e| e.get_ref().as_str().map(Into::into));
                form.list(entries.collect::<Option<_>>()?)
            }
            _ => None,
        }
    }

    /// Completes "must be ...".
    pub fn allowed(&self) -> String {
        match self {
            Self::Switch => "true or false".into(),
            Self::Number {
                min,
                max,
                unit,
                zero,
            } => {
                let mut text = format!("{} to {}", unit.show(*min), unit.show(*max));
                let _ = match unit.word() {
                    "" => Ok(()),
                    word => write!(text, " {word}"),
                };
                if !zero.is_empty() {
                    let _ = write!(text, " (0: {zero})");
                }
                text
            }
            Self::Choice(choices) => choices.join(" or "),
            Self::Text(form) => form.allowed.into(),
            Self::List(form) => format!("a list of {}", form.allowed),
        }
    }

    /// As the file would have it.
    pub fn toml(&self, value: &Value) -> String {
        match value {
            Value::Switch(on) => on.to_string(),
            Value::Number(n) => match self.unit().show(*n) {
                shown if shown.ends_with('B') => quoted(&shown),
                shown => shown,
            },
            Value::Text(text) => quoted(text),
            Value::List(entries) => {
                format!(
                    "[{}]",
                    entries
                        .iter()
                        .map(|e| quoted(e))
                        .collect::<Vec<_>>()
                        .join(", ")
                )
            }
        }
    }

    pub fn unit(&self) -> Unit {
        match self {
            Self::Number { unit, .. } => *unit,
            _ => Unit::Plain,
        }
    }

    fn bounded(&self, n: u64) -> Option<Value> {
        match self {
            Self::Number { min, max, .. } if (*min..=*max).contains(&n) => Some(Value::Number(n)),
            _ => None,
        }
    }
}

impl Form {
    fn list(&self, entries: Vec<String>) -> Option<Value> {
        entries
            .iter()
            .all(|e| (self.holds)(e))
            .then_some(Value::List(entries))
    }
}

impl Unit {
    /// After a number, where the number does not carry it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain | Self::Bytes => "",
            Self::Characters => "characters",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
        }
    }

    fn show(self, n: u64) -> String {
        if self == Self::Bytes && n > 0 {
            for (name, shift) in SIZES {
                if n.trailing_zeros() >= shift {
                    return format!("{} {name}", n >> shift);
                }
            }
        }
        n.to_string()
    }
}

/// A basic string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn read_number(text: &str, unit: Unit) -> Option<u64> {
    let (digits, shift) = match SIZES
        .iter()
        .find_map(|(name, s)| Some((text.strip_suffix(name)?, s)))
    {
        Some((digits, shift)) if unit == Unit::Bytes => (digits.trim_end(), *shift),
        Some(_) => return None,
        None => (text, 0),
    };
    // `u64::from_str` would take a sign.
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Kind {
        Kind::Number {
            min: 1,
            max: 1 << 40,
            unit: Unit::Bytes,
            zero: "",
        }
    }

    #[test]
    fn sizes_are_numbers_or_binary_multiples() {
        let rows = [
            ("65536", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("64KiB", Some(65_536)),
            (" 1 MiB ", Some(1 << 20)),
            ("3 GiB", Some(3 << 30)),
            ("1024 GiB", Some(1 << 40)),
            ("1025 GiB", None),
            ("99999999999999999999 KiB", None),
            ("18446744073709551615 GiB", None),
            ("64 KB", None),
            ("64k", None),
            ("+1", None),
            ("-1", None),
            ("0", None),
            ("", None),
            ("KiB", None),
        ];
        for (text, expected) in rows {
            assert_eq!(
                bytes().read_text(text),
                expected.map(Value::Number),
                "{text}"
            );
        }
        let seconds = Kind::Number {
            min: 0,
            max: 1 << 40,
            unit: Unit::Seconds,
            zero: "",
        };
        assert_eq!(seconds.read_text("1 KiB"), None);
    }

    #[test]
    fn toml_strings_are_quoted_so_that_they_are_read_back() {
        let any = Kind::Text(Form {
            allowed: "anything",
            holds: |_| true,
        });
        for text in ["", "a", "a\"b", "\\", "\u{7f}\n\t", "ü€"] {
            let written = quoted(text);
            let read = DeValue::parse(&written).unwrap();
            assert_eq!(read.get_ref().as_str(), Some(text));
            assert_eq!(any.toml(&Value::Text(text.into())), quoted(text));
        }
    }

    #[test]
    fn a_number_is_within_its_bounds_at_both_ends() {
        let kind = Kind::Number {
            min: 5,
            max: 9,
            unit: Unit::Plain,
            zero: "",
        };
        for n in 0..12 {
            let expected = (5..=9).contains(&n).then_some(Value::Number(n));
            assert_eq!(kind.read_text(&n.to_string()), expected);
            assert_eq!(
                kind.read_toml(DeValue::parse(&n.to_string()).unwrap().get_ref()),
                expected
            );
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let list = Kind::List(Form {
            allowed: "texts",
            holds: |_| true,
        });
        let choice = Kind::Choice(&["a", "b"]);
        let rows: [(&Kind, &[&str]); 4] = [
            (&Kind::Switch, &["1", "\"true\"", "[]"]),
            (&bytes(), &["true", "1.5", "-1", "[1]", "\"x\""]),
            (&choice, &["\"c\"", "1", "true"]),
            (&list, &["\"a\"", "[1]", "[[]]"]),
        ];
        for (kind, values) in rows {
            for value in values {
                assert_eq!(
                    kind.read_toml(DeValue::parse(value).unwrap().get_ref()),
                    None,
                    "{value}"
                );
            }
        }
    }
}
