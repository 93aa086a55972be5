//! Two runs side by side: a table with their ratios, and a page with both in each plot.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::io;

use crate::args::Compare;
use crate::outcome::{Figure, Outcome};
use crate::report::page;
use crate::report::plot::escaped;
use crate::report::text::shown;

/// A figure that both have, or one.
struct Row {
    group: String,
    name: String,
    unit: String,
    a: Option<f64>,
    b: Option<f64>,
}

impl Row {
    /// The first as a multiple of the second.
    fn ratio(&self) -> Option<f64> {
        let ratio = self.a? / self.b?;
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }

    fn values(&self) -> [String; 2] {
        let text = |value| value_text(value, &self.unit);
        [self.a, self.b].map(|value| value.map_or_else(|| "-".to_owned(), text))
    }

    fn ratio_text(&self) -> String {
        self.ratio()
            .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"))
    }
}

/// A value as people read it, with its unit only where that is not the one of the row.
pub(crate) fn value_text(value: f64, unit: &str) -> String {
    let (text, shown) = shown(&Figure {
        group: String::new(),
        name: String::new(),
        value,
        unit: unit.to_owned(),
        is_fault: false,
    });
    if unit == shown {
        text
    } else {
        format!("{text} {shown}")
    }
}

/// Reads two runs, prints them side by side, writes the page.
pub(crate) fn run(options: &Compare) -> io::Result<()> {
    let (a, b) = (Outcome::read(&options.a)?, Outcome::read(&options.b)?);
    println!(
        "a  {}  {}\nb  {}  {}",
        a.began, a.command, b.began, b.command
    );
    println!(
        "a  saturated: {}\nb  saturated: {}",
        a.saturated, b.saturated
    );
    print!("{}", table(&rows(&a, &b)));
    match &options.html {
        Some(path) => fs::write(path, page_of(&a, &b)),
        None => Ok(()),
    }
}

/// All figures and percentiles of a run as one list.
pub(crate) fn values(outcome: &Outcome) -> Vec<(String, String, String, f64)> {
    let figures = outcome.figures.iter().map(|figure| {
        let (group, name, unit) = (
            figure.group.clone(),
            figure.name.clone(),
            figure.unit.clone(),
        );
        (group, name, unit, figure.value)
    });
    let latencies = outcome.latencies.iter().flat_map(|row| {
        [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")].map(|(quantile, label)| {
            let value = row.quantile(quantile).unwrap_or(f64::NAN);
            (
                row.group.clone(),
                format!("{}, {label}", row.name),
                "ms".to_owned(),
                value,
            )
        })
    });
    figures.chain(latencies).collect()
}

fn rows(a: &Outcome, b: &Outcome) -> Vec<Row> {
    let second = values(b);
    let find: HashMap<(&str, &str), f64> = second
        .iter()
        .map(|(group, name, _, value)| ((group.as_str(), name.as_str()), *value))
        .collect();
    let first = values(a);
    let mut rows: Vec<Row> = first
        .iter()
        .map(|(group, name, unit, value)| Row {
            b: find.get(&(group.as_str(), name.as_str())).copied(),
            group: group.clone(),
            name: name.clone(),
            unit: unit.clone(),
            a: Some(*value),
        })
        .collect();
    for (group, name, unit, value) in &second {
        if !rows
            .iter()
            .any(|row| (&row.group, &row.name) == (group, name))
        {
            rows.push(Row {
                group: group.clone(),
                name: name.clone(),
                unit: unit.clone(),
                a: None,
                b: Some(*value),
            });
        }
    }
    rows
}

fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    let mut last = None;
    for row in rows {
        if last != Some(&row.group) {
            let _ = writeln!(out, "\n{:<46}{:>15}{:>15}{:>9}", row.group, "a", "b", "a/b");
            last = Some(&row.group);
        }
        let [a, b] = row.values();
        let ratio = row.ratio_text();
        let _ = writeln!(
            out,
            "  {:<44}{a:>15}{b:>15}{ratio:>9}  {}",
            row.name, row.unit
        );
    }
    out
}

fn page_of(a: &Outcome, b: &Outcome) -> String {
    let title = match a.scenario == b.scenario {
        true => format!("loadtest {}, two runs", a.scenario),
        false => format!("loadtest {} and {}", a.scenario, b.scenario),
    };
    let mut body = format!("<h1>{}</h1>\n", escaped(&title));
    for (label, outcome) in [("a", a), ("b", b)] {
        let machine = &outcome.machine;
        let _ = write!(
            body,
            "<p class=\"meta\"><b>{label}</b> · {} against {} · {}, {} cores, Linux {}</p><pre>{}</pre>",
            escaped(&outcome.began),
            escaped(&outcome.targets.join(", ")),
            escaped(&machine.cpu),
            machine.cores,
            escaped(&machine.kernel),
            escaped(&outcome.command),
        );
        page::verdict(&mut body, outcome);
    }
    let runs = [("a", a), ("b", b)];
    page::section(&mut body, "Latency", &page::percentiles(&runs));
    page::section(&mut body, "Over time", &page::timelines(&runs));
    page::section(&mut body, "Memory", &page::memory(&runs));
    let mut table = String::from("<div class=\"scroll\"><table>");
    let mut last = None;
    for row in rows(a, b) {
        if last.as_ref() != Some(&row.group) {
            let heads = ["a", "b", "a/b"].map(|head| format!("<th class=\"n\">{head}</th>"));
            let _ = write!(
                table,
                "<tr><th><b>{}</b></th>{}<th></th></tr>",
                escaped(&row.group),
                heads.concat()
            );
            last = Some(row.group.clone());
        }
        let [a, b] = row.values();
        let values = [a, b, row.ratio_text()].map(|value| format!("<td class=\"n\">{value}</td>"));
        let unit = escaped(&row.unit.replace("us", "µs"));
        let _ = write!(
            table,
            "<tr><td>{}</td>{}<td class=\"u\">{unit}</td></tr>",
            escaped(&row.name),
            values.concat()
        );
    }
    page::section(&mut body, "Figures", &(table + "</table></div>"));
    page::frame(&title, &body)
}

/// Smallest, middle and largest of some ratios.
pub(crate) fn spread(ratios: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        0 if middle > 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => *sorted.get(middle)?,
    };
    Some([*sorted.first()?, median, *sorted.last()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_are_set_side_by_side() {
        let mut a = Outcome::new("fanout", "a");
        let mut b = Outcome::new("fanout", "b");
        a.figure("CPU", "each", 3.0, "us");
        b.figure("CPU", "each", 2.0, "us");
        a.figure("CPU", "only a", 0.0, "");
        b.figure("Memory", "only b", 1_048_576.0, "bytes");
        let rows = rows(&a, &b);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].ratio(), Some(1.5));
        assert_eq!((rows[1].ratio(), rows[2].ratio()), (None, None));
        let text = table(&rows);
        assert!(text.contains("1.500") && text.contains("1 MiB"), "{text}");
        assert!(page_of(&a, &b).contains("only b"));
    }

    #[test]
    fn a_spread_is_smallest_median_and_largest() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some([1.0, 2.0, 3.0]));
        assert_eq!(spread(&[4.0, 1.0]), Some([1.0, 2.5, 4.0]));
        assert_eq!(spread(&[]), None);
    }
}
