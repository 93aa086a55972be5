//! Ratios of two servers, as a table and as a page.

use std::fmt::{self, Write};

use crate::outcome::{Figure, Outcome};
use crate::pairs::{Found, Pair, Ratios};
use crate::report::compare::{spread, value_text, values};
use crate::report::page;
use crate::report::plot::{escaped, strips};
use crate::report::text::Rounded;

/// The figures that people ask for first; the plot and the line of a pair have these alone.
fn is_key(ratios: &Ratios) -> bool {
    let is_cost = ratios.group == "Server CPU" && ratios.name.starts_with("each ");
    let is_rate = ratios.group == "Work" && ratios.name.ends_with(", rate");
    let is_latency = ratios.group.starts_with("Latency") && !ratios.name.ends_with("max");
    let is_memory = ratios.name.starts_with("server, each connection");
    let is_connect = ratios.name == "server CPU, each connection";
    is_cost || is_rate || is_latency || is_memory || is_connect
}

/// Its name where the group does not stand beside it.
fn key_name(ratios: &Ratios) -> String {
    match ratios.group.as_str() {
        "Server CPU" => format!("server CPU, {}", ratios.name),
        _ => ratios.name.clone(),
    }
}

/// Ratios of all figures that both sides of every pair have.
pub(crate) fn ratios(pairs: &[Pair]) -> Vec<Ratios> {
    let Some(first) = pairs.first() else {
        return Vec::new();
    };
    let all: Vec<[Vec<_>; 2]> = pairs
        .iter()
        .map(|pair| [values(&pair.a), values(&pair.b)])
        .collect();
    let ratios = values(&first.a)
        .into_iter()
        .filter_map(|(group, name, unit, _)| {
            let value = |side: &Vec<(String, String, String, f64)>| {
                let mut found = side.iter().filter(|(g, n, ..)| (g, n) == (&group, &name));
                found.next().map(|(.., value)| *value)
            };
            let both = all.iter().map(|[a, b]| Some((value(a)?, value(b)?)));
            let both: Vec<(f64, f64)> = both.collect::<Option<_>>()?;
            let each: Vec<f64> = both.iter().map(|(a, b)| a / b).collect();
            // Of what is 0 there is no ratio.
            if each.iter().any(|ratio| !ratio.is_finite() || *ratio <= 0.0) {
                return None;
            }
            let [min, median, max] = spread(&each)?;
            let median_of = |side: Vec<f64>| spread(&side).map(|[_, median, _]| median);
            Some(Ratios {
                a_median: median_of(both.iter().map(|(a, _)| *a).collect())?,
                b_median: median_of(both.iter().map(|(_, b)| *b).collect())?,
                group,
                name,
                unit,
                min,
                median,
                max,
                all: each,
            })
        });
    ratios.collect()
}

/// The key ratios of one pair in a line.
pub(crate) fn line(ratios: &[Ratios]) -> String {
    let key = ratios.iter().filter(|ratios| is_key(ratios)).take(4);
    let parts = key.map(|r| format!("{} {:.3}", key_name(r), r.median));
    let parts: Vec<String> = parts.collect();
    parts.join(", ")
}

/// The medians of both sides as people read them.
fn both(ratios: &Ratios) -> [String; 2] {
    [ratios.a_median, ratios.b_median].map(|value| value_text(value, &ratios.unit))
}

/// What went wrong in runs of one side.
fn faults<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for fault in outcomes.flat_map(Outcome::faults) {
        let text = format!("{}: {}", fault.name, Rounded(fault.value));
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

/// The runs of each side.
fn sides(found: &Found) -> [(&'static str, Vec<&Outcome>); 2] {
    let of = |side: fn(&Pair) -> &Outcome| found.pairs.iter().map(side).collect();
    [("a", of(|pair| &pair.a)), ("b", of(|pair| &pair.b))]
}

/// What was wrong in any run of a side, and what was checked in all of them; the rest is that of the
/// first.
fn together(outcomes: &[&Outcome]) -> Option<Outcome> {
    let (first, others) = outcomes.split_first()?;
    let mut all = (*first).clone();
    all.saturated += ", in the first run";
    for other in others {
        for figure in &other.figures {
            let is_same =
                |mine: &&mut Figure| (&mine.group, &mine.name) == (&figure.group, &figure.name);
            match all.figures.iter_mut().find(is_same) {
                Some(mine) if mine.is_fault || mine.name == "deliveries checked" => {
                    mine.value += figure.value;
                }
                None if figure.is_fault => all.figures.push(figure.clone()),
                _ => {}
            }
        }
        all.has_failed |= other.has_failed;
    }
    Some(all)
}

/// For a terminal.
pub(crate) struct Table<'a>(pub(crate) &'a Found);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.0;
        writeln!(
            f,
            "a  {}\nb  {}\n{} pairs",
            found.a,
            found.b,
            found.pairs.len()
        )?;
        for note in &found.notes {
            writeln!(f, "Note: {note}")?;
        }
        for (side, outcomes) in sides(found) {
            if let Some(first) = outcomes.first() {
                writeln!(f, "{side}  saturated: {}", first.saturated)?;
            }
            for fault in faults(outcomes.into_iter()) {
                writeln!(f, "{side}  FAULT  {fault}")?;
            }
        }
        let mut last = None;
        for ratios in &found.ratios {
            if last != Some(&ratios.group) {
                writeln!(
                    f,
                    "\n{:<46}{:>12}{:>12}   {:>8}{:>8}{:>8}",
                    ratios.group, "a", "b", "a/b min", "median", "max"
                )?;
                last = Some(&ratios.group);
            }
            let [a, b] = both(ratios);
            writeln!(
                f,
                "  {:<44}{a:>12}{b:>12}   {:>8.3}{:>8.3}{:>8.3}  {}",
                ratios.name, ratios.min, ratios.median, ratios.max, ratios.unit
            )?;
        }
        Ok(())
    }
}

/// Chosen figures for a document: name, both medians, and the ratio in all pairs.
pub(crate) struct Rows<'a>(pub(crate) &'a Found, pub(crate) &'a [String]);

impl fmt::Display for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(found, wanted) = self;
        let pairs = found.pairs.len();
        for name in *wanted {
            let is_it = |ratios: &&Ratios| format!("{}, {}", ratios.group, ratios.name) == *name;
            let Some(ratios) = found.ratios.iter().find(is_it) else {
                writeln!(f, "| {name} | not measured in each of {pairs} pairs | | |")?;
                continue;
            };
            let [a, b] = both(ratios);
            writeln!(
                f,
                "| {name} | {} | {} | **{:.3}** ({:.3} to {:.3}, {pairs} pairs) |",
                with_unit(&a, &ratios.unit),
                with_unit(&b, &ratios.unit),
                ratios.median,
                ratios.min,
                ratios.max,
            )?;
        }
        let outcomes = found.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]);
        for fault in faults(outcomes) {
            writeln!(f, "FAULT  {fault}")?;
        }
        Ok(())
    }
}

/// Bytes have been given their unit with their size.
fn with_unit(value: &str, unit: &str) -> String {
    match unit {
        "" | "bytes" => value.to_owned(),
        unit => format!("{value} {unit}"),
    }
}

/// The page of all pairs.
pub(crate) fn page_of(found: &Found) -> String {
    let scenario = found
        .pairs
        .first()
        .map_or("", |pair| pair.a.scenario.as_str());
    let title = format!("loadtest {scenario}, {} pairs", found.pairs.len());
    let machine = &found.machine;
    let mut body = format!(
        "<h1>{}</h1>\n<p class=\"meta\">{} · {}, {} cores, Linux {}</p>\n<pre>{}</pre>\n\
         <p><b>a</b> <code>{}</code></p><p><b>b</b> <code>{}</code></p>\n",
        escaped(&title),
        escaped(&found.began),
        escaped(&machine.cpu),
        machine.cores,
        escaped(&machine.kernel),
        escaped(&found.command),
        escaped(&found.a),
        escaped(&found.b),
    );
    for (side, outcomes) in sides(found) {
        if let Some(all) = together(&outcomes) {
            let _ = write!(body, "<h3>{side}</h3>");
            page::verdict(&mut body, &all);
        }
    }
    for note in &found.notes {
        let _ = write!(body, "<p class=\"bad\">{}</p>", escaped(note));
    }
    let key = found.ratios.iter().filter(|ratios| is_key(ratios));
    let rows: Vec<(String, Vec<f64>)> = key.map(|r| (key_name(r), r.all.clone())).collect();
    let about =
        "<p class=\"meta\">A dot for each pair, a line at the median: a as a multiple of b.</p>";
    page::section(&mut body, "Ratios", &format!("{about}{}", strips(&rows)));
    let mut table = String::from("<div class=\"scroll\"><table>");
    let mut last = None;
    for ratios in &found.ratios {
        if last != Some(&ratios.group) {
            let heads = ["a", "b", "a/b min", "median", "max"];
            let heads: String = heads
                .iter()
                .map(|head| format!("<th class=\"n\">{head}</th>"))
                .collect();
            let _ = write!(
                table,
                "<tr><th><b>{}</b></th>{heads}<th></th></tr>",
                escaped(&ratios.group)
            );
            last = Some(&ratios.group);
        }
        let [a, b] = both(ratios);
        let cells = [
            a,
            b,
            format!("{:.3}", ratios.min),
            format!("{:.3}", ratios.median),
            format!("{:.3}", ratios.max),
        ];
        let cells: String = cells
            .iter()
            .map(|cell| format!("<td class=\"n\">{cell}</td>"))
            .collect();
        let unit = escaped(&ratios.unit.replace("us", "µs"));
        let _ = write!(
            table,
            "<tr><td>{}</td>{cells}<td class=\"u\">{unit}</td></tr>",
            escaped(&ratios.name)
        );
    }
    page::section(
        &mut body,
        "All figures: medians, and ratios",
        &(table + "</table></div>"),
    );
    page::frame(&title, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_any_run_is_one_of_its_side() {
        let outcome = |lost: u64| {
            let mut outcome = Outcome::new("fanout", "x");
            outcome.fault("Accounting", "deliveries lost", lost);
            outcome.figure("Accounting", "deliveries checked", 10.0, "");
            outcome
        };
        let runs = [0, 0, 2].map(outcome);
        let all = together(&runs.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((all.faults()[0].value, all.figures[1].value), (2.0, 30.0));
        let mut verdict = String::new();
        page::verdict(&mut verdict, &all);
        assert!(verdict.contains("deliveries lost: 2"), "{verdict}");
        assert!(together(&[]).is_none());
    }

    #[test]
    fn ratios_are_taken_within_a_pair() {
        let outcome = |each: f64| {
            let mut outcome = Outcome::new("fanout", "x");
            outcome.figure("Server CPU", "each delivery", each, "us");
            outcome.figure("Server CPU", "nothing", 0.0, "us");
            outcome
        };
        let pairs = [(2.0, 1.0), (3.0, 2.0), (30.0, 10.0)].map(|(a, b)| Pair {
            a: outcome(a),
            b: outcome(b),
        });
        let found = ratios(&pairs);
        assert_eq!(found.len(), 1, "of 0 there is no ratio");
        assert_eq!(found[0].all, [2.0, 1.5, 3.0]);
        assert_eq!(
            (found[0].min, found[0].median, found[0].max),
            (1.5, 2.0, 3.0)
        );
        assert_eq!((found[0].a_median, found[0].b_median), (3.0, 2.0));
        assert_eq!(line(&found), "server CPU, each delivery 2.000");

        let found = Found {
            command: String::new(),
            began: String::new(),
            machine: pairs[0].a.machine.clone(),
            a: String::new(),
            b: String::new(),
            notes: Vec::new(),
            ratios: found,
            pairs: pairs.into(),
        };
        let wanted = ["Server CPU, each delivery", "Server CPU, nothing"].map(str::to_owned);
        let expected = "\
            | Server CPU, each delivery | 3 us | 2 us | **2.000** (1.500 to 3.000, 3 pairs) |\n\
            | Server CPU, nothing | not measured in each of 3 pairs | | |\n";
        assert_eq!(Rows(&found, &wanted).to_string(), expected);
    }
}
