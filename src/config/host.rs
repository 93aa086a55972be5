//! What the defaults of the configuration take from the machine.
//!
//! Looked at once, at start, and handed on as values, so that a configuration can be decided
//! anywhere else (tests) as well. Does not pin anything or raise a limit.

use rustix::process::{Resource, getrlimit};

use super::convert::FromValue;
use super::table::Lookup;
use super::value::Value;

/// The machine, as far as defaults depend on it.
#[derive(Clone, Debug)]
pub struct Host {
    /// The CPUs that the process may run on, ascending; at least one.
    pub cores: Vec<usize>,
    /// Descriptors that the process may have after it has raised its soft limit.
    pub descriptors_max: u64,
}

/// Descriptors that are not client connections: listeners, rings, logs, outgoing webhooks.
const DESCRIPTORS_RESERVED: u64 = 512;

/// CPU numbers beyond this are a typing error.
const CORE_MAX: usize = 4_095;

impl Host {
    /// This machine, as this process sees it.
    pub fn observe() -> Self {
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        let mut cores: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
        cores.sort_unstable();
        if cores.is_empty() {
            cores.push(0);
        }
        let descriptors_max = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        Self {
            cores,
            descriptors_max,
        }
    }

    pub(super) fn cores(&self, _: &dyn Lookup) -> Value {
        Value::Text(show_cores(&self.cores))
    }

    pub(super) fn shards(&self, values: &dyn Lookup) -> Value {
        let cores = Vec::<usize>::from_value(values.value("cores"), super::value::Unit::Plain);
        Value::Number(cores.len() as u64)
    }

    pub(super) fn connections_max(&self, _: &dyn Lookup) -> Value {
        let left = self.descriptors_max.saturating_sub(DESCRIPTORS_RESERVED);
        Value::Number(left.clamp(1, 1 << 30))
    }
}

/// Reads `0-3,6`: at least one number, none twice; the order is that of the shards.
pub(super) fn parse_cores(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_core(first)?, parse_core(last)?);
        if first > last {
            return None;
        }
        for core in first..=last {
            if cores.contains(&core) {
                return None;
            }
            cores.push(core);
        }
    }
    Some(cores)
}

fn parse_core(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&core| digits && core <= CORE_MAX)
}

/// The shortest form of the list; its order is kept.
pub fn show_cores(cores: &[usize]) -> String {
    let mut parts = Vec::new();
    let mut rest = cores;
    while let Some(&first) = rest.first() {
        let run = rest
            .iter()
            .zip(first..)
            .take_while(|(core, expected)| **core == *expected)
            .count();
        parts.push(match run {
            1 => first.to_string(),
            _ => format!("{first}-{}", first + run - 1),
        });
        rest = &rest[run..];
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores_is_read_and_written() {
        let rows: [(&str, &[usize]); 5] = [
            ("0", &[0]),
            ("0-3,6", &[0, 1, 2, 3, 6]),
            ("6,0-1", &[6, 0, 1]),
            ("2-3", &[2, 3]),
            ("9,7", &[9, 7]),
        ];
        for (text, cores) in rows {
            assert_eq!(parse_cores(text).as_deref(), Some(cores), "{text}");
            assert_eq!(show_cores(cores), text);
        }
        for text in [
            "",
            ",",
            "0,",
            "3-1",
            "0-",
            "-1",
            "0,0",
            "0-3,2",
            "a",
            "+1",
            "0-9999",
            "99999999999999999999",
        ] {
            assert_eq!(parse_cores(text), None, "{text}");
        }
    }

    #[test]
    fn this_machine_has_a_core_and_descriptors() {
        let host = Host::observe();
        assert!(!host.cores.is_empty() && host.descriptors_max > 0);
    }
}
