//! From the value of an option to the type of its field.
//!
//! Cannot fail: the kind of the row has let through only what the field can be. A row whose kind
//! does not fit its field is our own bug and ends in a panic at start; a test converts every row at
//! both of its bounds.

use std::net::IpAddr;
use std::time::Duration;

use url::Url;

use super::form::webhook_url;
use super::host::parse_cores;
use super::network::Network;
use super::value::{Unit, Value};
use super::{Driver, EventsResponse, LivenessProbe, LogFormat};
use crate::app::{DeltaPolicies, DeltaPolicy, OriginList, OriginPattern, SubscriptionCount};

/// A type that a field of the configuration may have.
pub(super) trait FromValue: Sized {
    /// # Panics
    ///
    /// If the value is not one that the row's kind gives.
    fn from_value(value: &Value, unit: Unit) -> Self;
}

impl FromValue for bool {
    fn from_value(value: &Value, _: Unit) -> Self {
        match value {
            Value::Switch(on) => *on,
            other => mismatch(other),
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: &Value, _: Unit) -> Self {
        match value {
            Value::Number(n) => *n,
            other => mismatch(other),
        }
    }
}

/// Narrower numbers; the bounds of the row are those of the type or closer.
macro_rules! narrow {
    ($($type:ty),*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value, unit: Unit) -> Self {
                Self::try_from(u64::from_value(value, unit)).unwrap_or_else(|_| mismatch(value))
            }
        }
    )*};
}
narrow!(u16, u32, usize);

/// 0 is no limit.
impl<N: FromValue> FromValue for Option<N> {
    fn from_value(value: &Value, unit: Unit) -> Self {
        (*value != Value::Number(0)).then(|| N::from_value(value, unit))
    }
}

impl FromValue for Duration {
    fn from_value(value: &Value, unit: Unit) -> Self {
        let n = u64::from_value(value, unit);
        match unit {
            Unit::Seconds => Self::from_secs(n),
            Unit::Milliseconds => Self::from_millis(n),
            Unit::Microseconds => Self::from_micros(n),
            Unit::Plain | Unit::Bytes | Unit::Characters => mismatch(value),
        }
    }
}

impl FromValue for String {
    fn from_value(value: &Value, _: Unit) -> Self {
        text(value).into()
    }
}

impl FromValue for IpAddr {
    fn from_value(value: &Value, _: Unit) -> Self {
        text(value).parse().unwrap_or_else(|_| mismatch(value))
    }
}

/// CPU numbers.
impl FromValue for Vec<usize> {
    fn from_value(value: &Value, _: Unit) -> Self {
        parse_cores(text(value)).unwrap_or_else(|| mismatch(value))
    }
}

/// Origins, which are compared in lower case.
impl FromValue for Vec<String> {
    fn from_value(value: &Value, _: Unit) -> Self {
        list(value)
            .iter()
            .map(|entry| entry.to_ascii_lowercase())
            .collect()
    }
}

impl FromValue for Vec<Network> {
    fn from_value(value: &Value, _: Unit) -> Self {
        entries(value, Network::parse)
    }
}

impl FromValue for Vec<Url> {
    fn from_value(value: &Value, _: Unit) -> Self {
        entries(value, webhook_url)
    }
}

impl FromValue for DeltaPolicies {
    fn from_value(value: &Value, _: Unit) -> Self {
        Self::new(entries(value, DeltaPolicy::parse))
    }
}

impl FromValue for OriginList {
    fn from_value(value: &Value, _: Unit) -> Self {
        Self::new(entries(value, OriginPattern::parse))
    }
}

/// The entries of a list, each of which its row has checked.
fn entries<T>(value: &Value, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let parsed = list(value).iter().map(|entry| parse(entry));
    parsed
        .collect::<Option<_>>()
        .unwrap_or_else(|| mismatch(value))
}

/// Enums by the words of their rows.
macro_rules! words {
    ($($type:ty { $($word:literal => $variant:expr),* $(,)? })*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value, _: Unit) -> Self {
                match text(value) {
                    $($word => $variant,)*
                    _ => mismatch(value),
                }
            }
        }
    )*};
}

words! {
    Driver { "auto" => Self::Auto, "io_uring" => Self::IoUring, "epoll" => Self::Epoll }
    LivenessProbe { "ping" => Self::Ping, "pusher" => Self::Pusher }
    EventsResponse { "ok" => Self::Ok, "empty" => Self::Empty }
    LogFormat { "text" => Self::Text, "json" => Self::Json }
    SubscriptionCount { "query" => Self::Query, "on" => Self::On, "off" => Self::Off }
    tracing::Level {
        "error" => Self::ERROR,
        "warn" => Self::WARN,
        "info" => Self::INFO,
        "debug" => Self::DEBUG,
        "trace" => Self::TRACE,
    }
}

fn text(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        other => mismatch(other),
    }
}

fn list(value: &Value) -> &[String] {
    match value {
        Value::List(entries) => entries,
        other => mismatch(other),
    }
}

fn mismatch(value: &Value) -> ! {
    panic!("the kind of a row fits its field: {value:?}")
}
