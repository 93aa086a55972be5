//! What a run found: figures with a unit, latencies as percentiles, a timeline, memory.
//!
//! This is what is written as JSON, and what tables and plots are made of. Nothing is computed
//! here.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::latency::Latencies;

/// The form of the JSON; a reader refuses another.
const FORM: u32 = 1;

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    form: u32,
    pub(crate) scenario: String,
    pub(crate) command: String,
    /// UTC.
    pub(crate) began: String,
    pub(crate) machine: Machine,
    pub(crate) targets: Vec<String>,
    /// Which side was saturated.
    pub(crate) saturated: String,
    /// It ended early, and not because somebody wanted it to: it could not go on, or reached its bound
    /// of time before anything was measured.
    #[serde(default)]
    pub(crate) has_failed: bool,
    /// What the target lacks, why the run ended early, what went wrong.
    pub(crate) notes: Vec<String>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) latencies: Vec<Percentiles>,
    pub(crate) timeline: Vec<Moment>,
    pub(crate) memory: Vec<MemoryPoint>,
}

/// Where it ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// Anything but 0 is a fault.
    pub(crate) is_fault: bool,
}

/// Milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) mean: f64,
    /// Quantile and value; the last is the maximum.
    pub(crate) at: Vec<(f64, f64)>,
}

/// Which quantiles are kept.
const QUANTILES: [f64; 12] = [
    0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 0.99999, 1.0,
];

/// A second or so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// Seconds from the begin of the run.
    pub(crate) at: f64,
    /// Connecting, warm-up, measured, end.
    pub(crate) phase: String,
    pub(crate) rate: f64,
    /// Milliseconds; `None` if nothing was timed.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) connections: u64,
    pub(crate) errors: u64,
    /// Cores.
    pub(crate) server_cpu: Option<f64>,
    /// Resident bytes.
    pub(crate) server_bytes: Option<u64>,
}

/// Bytes of the server at a number of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemoryPoint {
    pub(crate) connections: u64,
    pub(crate) anonymous: u64,
    pub(crate) resident: u64,
}

impl Percentiles {
    /// In milliseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let found = self.at.iter().find(|(at, _)| *at == quantile);
        found.map(|(_, value)| *value)
    }
}

impl Outcome {
    pub(crate) fn new(scenario: &str, command: &str) -> Self {
        Self {
            form: FORM,
            scenario: scenario.to_owned(),
            command: command.to_owned(),
            began: utc(crate::clock::unix_secs()),
            machine: Machine::this(),
            ..Self::default()
        }
    }

    /// Adds a figure. What is no number is none: JSON has no room for it.
    pub(crate) fn figure(&mut self, group: &str, name: &str, value: f64, unit: &str) {
        if !value.is_finite() {
            return;
        }
        self.figures.push(Figure {
            group: group.to_owned(),
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            is_fault: false,
        });
    }

    /// A count that ought to be 0.
    pub(crate) fn fault(&mut self, group: &str, name: &str, count: u64) {
        self.figure(group, name, count as f64, "");
        if let Some(figure) = self.figures.last_mut() {
            figure.is_fault = true;
        }
    }

    pub(crate) fn latency(&mut self, group: &str, name: &str, latencies: &Latencies) {
        let at = QUANTILES.map(|quantile| match quantile {
            1.0 => (1.0, latencies.max()),
            _ => (quantile, latencies.at(quantile)),
        });
        self.latencies.push(Percentiles {
            group: group.to_owned(),
            name: name.to_owned(),
            count: latencies.count(),
            mean: latencies.mean(),
            at: at.to_vec(),
        });
    }

    /// What should be 0 and is not.
    pub(crate) fn faults(&self) -> Vec<&Figure> {
        let is_wrong = |figure: &&Figure| figure.is_fault && figure.value != 0.0;
        self.figures.iter().filter(is_wrong).collect()
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text).map_err(|error| at(path, &error.to_string()))
    }

    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read(path).map_err(|error| at(path, &error.to_string()))?;
        let outcome: Self =
            serde_json::from_slice(&text).map_err(|error| at(path, &error.to_string()))?;
        match outcome.form {
            FORM => Ok(outcome),
            form => Err(at(
                path,
                &format!("written in form {form}, and this reads {FORM}"),
            )),
        }
    }
}

fn at(path: &Path, text: &str) -> io::Error {
    io::Error::other(format!("{}: {text}", path.display()))
}

impl Machine {
    fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let models = cpuinfo
            .lines()
            .filter(|line| line.starts_with("model name"));
        let model = models.filter_map(|line| line.split_once(':')).next();
        Self {
            cpu: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            // Of the machine, not those that this process may run on.
            cores: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// `2026-01-31 23:59:59 UTC`.
fn utc(secs: u64) -> String {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    // Days since the 1st of March of the year 0, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let mut latencies = Latencies::new();
        (1..1_000).for_each(|n| latencies.add(n * 10_000, 1));
        let mut outcome = Outcome::new("test", "loadtest test");
        outcome.figure("CPU", "server", 0.25, "cores");
        outcome.fault("Accounting", "lost", 3);
        outcome.latency("Latency", "delivery", &latencies);
        outcome.timeline.push(Moment {
            at: 1.5,
            p50: Some(0.1),
            server_bytes: Some(12),
            ..Moment::default()
        });
        outcome.memory.push(MemoryPoint::default());
        let path = std::env::temp_dir().join(format!("loadtest-{}.json", std::process::id()));
        outcome.write(&path).unwrap();
        assert_eq!(Outcome::read(&path).unwrap(), outcome);
        assert_eq!(outcome.faults().len(), 1);
        assert_eq!(outcome.latencies[0].quantile(0.5), Some(latencies.at(0.5)));

        let other = fs::read_to_string(&path)
            .unwrap()
            .replace("\"form\": 1", "\"form\": 9");
        fs::write(&path, other).unwrap();
        let error = Outcome::read(&path).unwrap_err().to_string();
        assert!(error.contains("form 9"), "{error}");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (secs, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_651_200, "2026-11-26 00:00:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(secs), expected);
        }
    }
}
