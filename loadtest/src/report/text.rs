//! A run as tables for a terminal.

use std::fmt;

use crate::outcome::{Figure, Outcome};

/// Prints a run.
pub(crate) struct Tables<'a>(pub(crate) &'a Outcome);

impl fmt::Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.0;
        writeln!(f, "Saturated: {}", outcome.saturated)?;
        for note in &outcome.notes {
            writeln!(f, "Note: {note}")?;
        }
        let names = outcome.figures.iter().map(|f| f.name.chars().count());
        let width = names.max().unwrap_or(0).max(44);
        let mut last = None;
        for figure in &outcome.figures {
            if last != Some(&figure.group) {
                writeln!(f, "\n{}", figure.group)?;
                last = Some(&figure.group);
            }
            let (value, unit) = shown(figure);
            writeln!(f, "  {:<width$}{value:>14} {unit}", figure.name)?;
        }
        let mut last = None;
        for row in &outcome.latencies {
            if last != Some(&row.group) {
                let heads = ["p50 ms", "p90", "p99", "p99.9", "max", "count"];
                writeln!(
                    f,
                    "\n{:<36}{}",
                    row.group,
                    columns(&heads.map(str::to_owned))
                )?;
                last = Some(&row.group);
            }
            let at = |quantile| Rounded(row.quantile(quantile).unwrap_or(0.0)).to_string();
            let values = [
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                at(1.0),
                row.count.to_string(),
            ];
            writeln!(f, "  {:<34}{}", row.name, columns(&values))?;
        }
        match outcome.faults()[..] {
            [] => Ok(()),
            ref faults => {
                let names: Vec<_> = faults.iter().map(|fault| fault.name.as_str()).collect();
                writeln!(f, "\nFAULTS: {}", names.join(", "))
            }
        }
    }
}

fn columns(values: &[String]) -> String {
    values.iter().map(|value| format!("{value:>11}")).collect()
}

/// A figure as people read it: bytes in their larger units.
pub(crate) fn shown(figure: &Figure) -> (String, String) {
    if figure.unit == "bytes" && figure.value.abs() >= 10_240.0 {
        let text = Bytes(figure.value).to_string();
        let (value, unit) = text.split_once(' ').unwrap_or((&text, ""));
        return (value.to_owned(), unit.to_owned());
    }
    (Rounded(figure.value).to_string(), figure.unit.clone())
}

/// A number with as many digits as say something, in groups of three.
pub(crate) struct Rounded(pub(crate) f64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0.abs() {
            value if value.fract() == 0.0 || value >= 1000.0 => 0,
            value if value >= 100.0 => 1,
            value if value >= 10.0 => 2,
            value if value >= 0.1 => 3,
            _ => 5,
        };
        let text = format!("{:.digits$}", self.0);
        let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
        let (sign, whole) = whole.split_at(usize::from(whole.starts_with('-')));
        let mut grouped = String::from(sign);
        for (at, digit) in whole.chars().enumerate() {
            // A space that does not break.
            if at > 0 && (whole.len() - at).is_multiple_of(3) {
                grouped.push('\u{202f}');
            }
            grouped.push(digit);
        }
        f.pad(&(grouped + fraction))
    }
}

/// Bytes in the unit that suits them.
pub(crate) struct Bytes(pub(crate) f64);

impl Bytes {
    /// The unit that suits them: how many bytes, and its name.
    pub(crate) fn unit(&self) -> (f64, &'static str) {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let units = units.map(|(power, name)| (2f64.powi(power), name));
        let found = units.into_iter().find(|(bytes, _)| self.0.abs() >= *bytes);
        found.unwrap_or((1.0, "bytes"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, unit) = self.unit();
        f.pad(&format!("{} {unit}", Rounded(self.0 / bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        for (value, expected) in [
            (0.0, "0"),
            (1_234_567.0, "1\u{202f}234\u{202f}567"),
            (-1_234.5, "-1\u{202f}234"),
            (999.0, "999"),
            (123.456, "123.5"),
            (12.345_6, "12.35"),
            (0.123_45, "0.123"),
            (0.000_123, "0.00012"),
        ] {
            assert_eq!(Rounded(value).to_string(), expected);
        }
        assert_eq!(Bytes(1536.0).to_string(), "1.500 KiB");
        assert_eq!(Bytes(10.0).to_string(), "10 bytes");
    }

    #[test]
    fn a_table_says_what_was_found_and_what_is_wrong() {
        let mut outcome = Outcome::new("test", "loadtest test");
        let mut latencies = Latencies::new();
        latencies.add(2_000_000, 1);
        outcome.saturated = "neither".to_owned();
        outcome.notes.push("The target lacks GET /up".to_owned());
        outcome.figure("Server CPU", "load", 0.25, "cores");
        outcome.fault("Accounting", "deliveries lost", 0);
        outcome.latency("Latency", "delivery", &latencies);
        let text = Tables(&outcome).to_string();
        assert!(
            text.starts_with("Saturated: neither\nNote: The target lacks GET /up\n"),
            "{text}"
        );
        assert!(
            text.contains("0.250 cores") && text.contains("p99.9"),
            "{text}"
        );
        assert!(!text.contains("FAULTS"), "{text}");
        outcome.figures[1].value = 2.0;
        assert!(
            Tables(&outcome)
                .to_string()
                .ends_with("FAULTS: deliveries lost\n")
        );
    }
}
