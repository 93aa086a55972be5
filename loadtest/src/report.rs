//! The figures of a run: a table for people, JSON for programs.
//!
//! A figure has a group, a name, a value and a unit; latencies are rows of percentiles. Nothing is
//! computed here.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::latency::Latencies;

/// What a scenario found, in the order in which it is shown.
#[derive(Debug)]
pub(crate) struct Report {
    scenario: &'static str,
    rows: Vec<(String, String, Row)>,
}

#[derive(Debug)]
enum Row {
    Text(String),
    Number(f64, &'static str),
    /// p50, p99, p99.9, max in milliseconds, and how many.
    Latency([f64; 4], u64),
}

impl Report {
    pub(crate) fn new(scenario: &'static str) -> Self {
        Self {
            scenario,
            rows: Vec::new(),
        }
    }

    pub(crate) fn text(&mut self, group: &str, name: &str, text: impl Into<String>) {
        self.rows
            .push((group.into(), name.into(), Row::Text(text.into())));
    }

    pub(crate) fn number(&mut self, group: &str, name: &str, value: f64, unit: &'static str) {
        self.rows
            .push((group.into(), name.into(), Row::Number(value, unit)));
    }

    pub(crate) fn latency(&mut self, group: &str, name: &str, latencies: &Latencies) {
        let quantiles = [
            latencies.at(0.5),
            latencies.at(0.99),
            latencies.at(0.999),
            latencies.max(),
        ];
        self.rows.push((
            group.into(),
            name.into(),
            Row::Latency(quantiles, latencies.count()),
        ));
    }

    /// Prints the table, and writes JSON where a path is given.
    pub(crate) fn write(&self, path: Option<&Path>) -> io::Result<()> {
        print!("{self}");
        match path {
            Some(path) => fs::write(path, format!("{:#}\n", self.json())),
            None => Ok(()),
        }
    }

    fn json(&self) -> Value {
        let mut groups = Map::new();
        groups.insert("scenario".into(), self.scenario.into());
        for (group, name, row) in &self.rows {
            let value = match row {
                Row::Text(text) => json!(text),
                Row::Number(value, unit) => json!({ "value": value, "unit": unit }),
                Row::Latency([p50, p99, p999, max], count) => {
                    json!({
                        "unit": "ms",
                        "p50": p50,
                        "p99": p99,
                        "p99.9": p999,
                        "max": max,
                        "count": count,
                    })
                }
            };
            let group = groups.entry(group.clone()).or_insert_with(|| json!({}));
            if let Some(group) = group.as_object_mut() {
                group.insert(name.clone(), value);
            }
        }
        groups.into()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for (group, name, row) in &self.rows {
            let is_first_latency = matches!(row, Row::Latency(..)) && last != Some(group);
            if last != Some(group) {
                writeln!(f, "\n{group}")?;
                last = Some(group);
            }
            if is_first_latency {
                writeln!(
                    f,
                    "  {:<34}{:>10}{:>10}{:>10}{:>10}{:>12}",
                    "", "p50 ms", "p99", "p99.9", "max", "count"
                )?;
            }
            match row {
                Row::Text(text) => writeln!(f, "  {name:<34}{text}")?,
                Row::Number(value, unit) => {
                    writeln!(f, "  {name:<34}{:>14} {unit}", Rounded(*value))?
                }
                Row::Latency([p50, p99, p999, max], count) => {
                    writeln!(
                        f,
                        "  {name:<34}{p50:>10.3}{p99:>10.3}{p999:>10.3}{max:>10.3}{count:>12}"
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// A number with as many digits as say something.
struct Rounded(f64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0.abs() {
            value if value.fract() == 0.0 || value >= 1000.0 => 0,
            value if value >= 10.0 => 1,
            value if value >= 0.1 => 3,
            _ => 5,
        };
        f.pad(&format!("{:.digits$}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_table_and_the_json_say_the_same() {
        let mut report = Report::new("test");
        let mut latencies = Latencies::new();
        latencies.add(Duration::from_millis(2));
        report.text("Run", "saturated", "neither");
        report.number("Run", "load", 0.25, "cores");
        report.latency("Latency", "ping", &latencies);
        let text = report.to_string();
        assert!(
            text.contains("saturated") && text.contains("0.250 cores") && text.contains("p99.9"),
            "{text}"
        );
        let json = report.json();
        assert_eq!(
            json["Run"]["load"],
            json!({ "value": 0.25, "unit": "cores" })
        );
        assert_eq!(json["Latency"]["ping"]["count"], 1);
        assert_eq!(json["scenario"], "test");
    }
}
