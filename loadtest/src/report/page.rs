//! A run, or two side by side, as one page that needs nothing else: figures, tables, plots.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::outcome::{Moment, Outcome, Percentiles};
use crate::report::plot::{HALF, Plot, Scale, Series, Unit, WHOLE, escaped, nines};
use crate::report::text::{Rounded, shown};

/// Lines of one plot, at most: more say nothing.
const LINES_MAX: usize = 6;

/// Writes the page of a run.
pub(crate) fn write(outcome: &Outcome, path: &Path) -> io::Result<()> {
    fs::write(path, page_of(outcome))
}

/// The page of a run.
fn page_of(outcome: &Outcome) -> String {
    let runs = [("", outcome)];
    let mut body = String::new();
    head(
        &mut body,
        &format!("loadtest {}", outcome.scenario),
        outcome,
    );
    tiles(&mut body, outcome);
    section(
        &mut body,
        "Latency",
        &(percentiles(&runs) + &latency_table(outcome)),
    );
    section(&mut body, "Over time", &timelines(&runs));
    section(&mut body, "Memory", &memory(&runs));
    section(&mut body, "Figures", &groups(outcome));
    frame(&format!("loadtest {}", outcome.scenario), &body)
}

/// A whole document.
pub(super) fn frame(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n\
         <style>\n{}</style>\n<body>\n{body}\
         <footer>loadtest {}, the load generator of shardcast. Any server of the Pusher Channels \
         protocol can be measured with it, and each figure set beside what the kernel of the same \
         machine charges.</footer>\n</body>\n</html>\n",
        escaped(title),
        include_str!("page.css"),
        env!("CARGO_PKG_VERSION"),
    )
}

/// A part of the page, unless there is nothing in it.
pub(super) fn section(body: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        let _ = write!(body, "<h2>{title}</h2>\n{content}\n");
    }
}

/// What ran where, and what is to be known first.
pub(super) fn head(body: &mut String, title: &str, outcome: &Outcome) {
    let machine = &outcome.machine;
    let _ = write!(
        body,
        "<h1>{}</h1>\n<p class=\"meta\">{} against {} · {}, {} cores, Linux {}</p>\n\
         <pre>{}</pre>\n",
        escaped(title),
        escaped(&outcome.began),
        escaped(&outcome.targets.join(", ")),
        escaped(&machine.cpu),
        machine.cores,
        escaped(&machine.kernel),
        escaped(&outcome.command),
    );
    verdict(body, outcome);
}

pub(super) fn verdict(body: &mut String, outcome: &Outcome) {
    let faults = outcome.faults();
    let class = match (faults.is_empty(), outcome.has_failed) {
        (true, false) => "verdict good",
        _ => "verdict bad",
    };
    let _ = write!(body, "<div class=\"{class}\">");
    let checked = outcome
        .figures
        .iter()
        .find(|f| f.name == "deliveries checked");
    if let Some(checked) = checked.filter(|_| faults.is_empty()) {
        let _ = write!(
            body,
            "<p class=\"good\">{} deliveries, each known by its number: none lost, repeated, out of \
             order or misdirected.</p>",
            Rounded(checked.value)
        );
    }
    for fault in faults {
        let _ = write!(
            body,
            "<p class=\"bad\">{}: {}</p>",
            escaped(&fault.name),
            Rounded(fault.value)
        );
    }
    let _ = write!(body, "<p>Saturated: {}</p>", escaped(&outcome.saturated));
    for note in &outcome.notes {
        let _ = write!(body, "<p class=\"meta\">{}</p>", escaped(note));
    }
    body.push_str("</div>\n");
}

/// The handful of figures that people look for.
fn tiles(body: &mut String, outcome: &Outcome) {
    let mut tiles = Vec::new();
    let rate = outcome
        .figures
        .iter()
        .find(|figure| figure.name.ends_with(", rate"));
    if let Some(rate) = rate {
        tiles.push((
            Rounded(rate.value).to_string(),
            rate.name.replace(", rate", " a second"),
        ));
    }
    if let Some(row) = outcome
        .latencies
        .iter()
        .find(|row| !row.group.starts_with("Probes"))
    {
        for (quantile, name) in [(0.5, "p50"), (0.99, "p99")] {
            let value = row.quantile(quantile).unwrap_or(0.0);
            tiles.push((
                format!("{} ms", Rounded(value)),
                format!("{name} of {}", row.name),
            ));
        }
    }
    let storm = outcome
        .latencies
        .iter()
        .find(|row| row.name.starts_with("storm, "));
    if let Some(longest) = storm.and_then(|row| row.quantile(1.0)) {
        let value = format!("{} ms", Rounded(longest));
        tiles.push((
            value,
            "until all are back from a storm, the longest".to_owned(),
        ));
    }
    // Where nothing else was done, connecting is the work.
    let last = |name: &str| outcome.figures.iter().rfind(|figure| figure.name == name);
    if rate.is_none()
        && let Some(rate) = last("connected and subscribed")
    {
        let name = "connected and subscribed a second".to_owned();
        tiles.insert(0, (Rounded(rate.value).to_string(), name));
    }
    let each = outcome
        .figures
        .iter()
        .find(|f| f.group == "Server CPU" && f.name.starts_with("each "));
    if let Some(each) = each.or_else(|| last("server CPU, each connection")) {
        let value = format!("{} {}", Rounded(each.value), each.unit.replace("us", "µs"));
        let name = each.name.trim_start_matches("server CPU, ");
        tiles.push((value, format!("server CPU, {name}")));
    }
    let slope = outcome
        .figures
        .iter()
        .find(|f| f.name.starts_with("server, each connection"));
    if let Some(slope) = slope {
        tiles.push((format!("{} B", Rounded(slope.value)), slope.name.clone()));
    }
    let lost = outcome
        .figures
        .iter()
        .find(|figure| figure.name.ends_with(" lost"));
    if let Some(lost) = lost {
        tiles.push((Rounded(lost.value).to_string(), lost.name.clone()));
    }
    body.push_str("<div class=\"tiles\">");
    for (value, name) in tiles {
        let (value, name) = (escaped(&value), escaped(&name));
        let _ = write!(
            body,
            "<div class=\"tile\"><b>{value}</b><span>{name}</span></div>"
        );
    }
    body.push_str("</div>\n");
}

/// Latencies by percentile: of one run all in one plot, of two a plot for each kind.
pub(super) fn percentiles(runs: &[(&str, &Outcome)]) -> String {
    let Some((_, first)) = runs.first() else {
        return String::new();
    };
    let groups: Vec<Vec<Series>> = match runs {
        [(_, outcome)] => {
            let mut by_group: Vec<(&str, Vec<Series>)> = Vec::new();
            for row in &outcome.latencies {
                match by_group.iter_mut().find(|(group, _)| *group == row.group) {
                    Some((_, series)) => {
                        series.push(percentile_series(row, &row.name, series.len(), false))
                    }
                    None => by_group.push((
                        &row.group,
                        vec![percentile_series(row, &row.name, 0, false)],
                    )),
                }
            }
            by_group.into_iter().map(|(_, series)| series).collect()
        }
        runs => first
            .latencies
            .iter()
            .map(|row| {
                let same = |outcome: &&Outcome| {
                    let mut rows = outcome.latencies.iter();
                    rows.find(|other| (&other.group, &other.name) == (&row.group, &row.name))
                        .cloned()
                };
                let rows = runs.iter().enumerate().filter_map(|(n, (label, outcome))| {
                    let row = same(outcome)?;
                    Some(percentile_series(&row, label, n, n > 0))
                });
                rows.collect()
            })
            .collect(),
    };
    let titles: Vec<String> = match runs.len() {
        1 => {
            let mut titles: Vec<String> = first
                .latencies
                .iter()
                .map(|row| row.group.clone())
                .collect();
            titles.dedup();
            titles
        }
        _ => first.latencies.iter().map(full_name).collect(),
    };
    let mut plots: Vec<Plot> = groups
        .into_iter()
        .zip(titles)
        .map(|(mut series, title)| {
            series.truncate(LINES_MAX);
            Plot {
                title: format!("{title}, ms"),
                x_label: "share of all that was as fast",
                x: Scale::Nines,
                y: Scale::Log,
                y_unit: Unit::Plain,
                series,
                shaded: Vec::new(),
                x_max: 0.0,
            }
        })
        .collect();
    // What the run is about, then what others noticed.
    plots.sort_by_key(|plot| plot.title.starts_with("Probes"));
    in_plots(plots)
}

/// A probe asks the same alone and beside the load.
fn full_name(row: &Percentiles) -> String {
    match row.group.starts_with("Probes") {
        true => format!("{}: {}", row.group, row.name),
        false => row.name.clone(),
    }
}

fn percentile_series(row: &Percentiles, name: &str, colour: usize, is_dashed: bool) -> Series {
    // A quantile beyond what so few values can tell is their largest, which is there by itself.
    let most = nines(1.0, row.count);
    let is_told = |quantile: f64| quantile == 1.0 || nines(quantile, row.count) < most;
    let points = row.at.iter().filter(|(quantile, _)| is_told(*quantile));
    let points = points.map(|&(quantile, ms)| (nines(quantile, row.count), ms.max(1e-3)));
    Series {
        name: name.to_owned(),
        colour,
        is_dashed,
        has_dots: false,
        points: points.collect(),
    }
}

/// A quantity of each second; `None` where there is none.
type Quantity = fn(&Moment) -> Option<f64>;

/// A plot over time: title, scale, unit, and what it shows.
type Timeline<'a> = (&'a str, Scale, Unit, &'a [(&'a str, Quantity)]);

/// Each quantity over time in a plot of its own.
pub(super) fn timelines(runs: &[(&str, &Outcome)]) -> String {
    let rate = |label: &str| match label {
        "connect" => "Connections opened, a second",
        "publish" => "Publishes answered, a second",
        "chat" => "Client events delivered, a second",
        "churn" => "Changes, a second",
        _ => "Deliveries, a second",
    };
    let scenario = runs
        .first()
        .map_or("", |(_, outcome)| outcome.scenario.as_str());
    let plots: [Timeline<'_>; 6] = [
        (
            rate(scenario),
            Scale::Linear,
            Unit::Plain,
            &[("", |m| Some(m.rate))],
        ),
        (
            "Latency, ms",
            Scale::Log,
            Unit::Plain,
            &[("p50", |m| m.p50), ("p99", |m| m.p99)],
        ),
        (
            "Connections",
            Scale::Linear,
            Unit::Plain,
            &[("", |m| Some(m.connections as f64))],
        ),
        (
            "Errors so far",
            Scale::Linear,
            Unit::Plain,
            &[("", |m| Some(m.errors as f64))],
        ),
        (
            "Server CPU, cores",
            Scale::Linear,
            Unit::Plain,
            &[("", |m| m.server_cpu)],
        ),
        (
            "Server memory, resident",
            Scale::Linear,
            Unit::Bytes,
            &[("", |m| m.server_bytes.map(|b| b as f64))],
        ),
    ];
    let shaded = match runs {
        [(_, outcome)] => unmeasured(&outcome.timeline),
        _ => Vec::new(),
    };
    let ends = runs
        .iter()
        .filter_map(|(_, outcome)| outcome.timeline.last());
    let x_max = ends.map(|moment| moment.at).fold(0.0, f64::max);
    let plots = plots
        .into_iter()
        .filter_map(|(title, y, y_unit, quantities)| {
            let series = runs.iter().enumerate().flat_map(|(n, (label, outcome))| {
                quantities
                    .iter()
                    .enumerate()
                    .filter_map(move |(q, (name, quantity))| {
                        let points = outcome.timeline.iter();
                        let points: Vec<_> =
                            points.filter_map(|m| Some((m.at, quantity(m)?))).collect();
                        let is_single = runs.len() == 1;
                        (!points.is_empty()).then(|| Series {
                            name: [*label, *name].join(" ").trim().to_owned(),
                            colour: if is_single { q } else { n },
                            is_dashed: !is_single && q == 1,
                            has_dots: false,
                            points,
                        })
                    })
            });
            let series: Vec<Series> = series.collect();
            // A line of nothing but 0 says nothing that the tables do not.
            let is_nothing = title.starts_with("Errors")
                && series
                    .iter()
                    .all(|s| s.points.iter().all(|(_, y)| *y == 0.0));
            (!is_nothing).then(|| Plot {
                title: title.to_owned(),
                x_label: if shaded.is_empty() {
                    "seconds"
                } else {
                    "seconds; shaded: not measured"
                },
                x: Scale::Linear,
                y,
                y_unit,
                series,
                shaded: shaded.clone(),
                x_max,
            })
        });
    in_plots(plots.collect())
}

/// Spans that no figure is made of.
fn unmeasured(timeline: &[Moment]) -> Vec<(f64, f64)> {
    let mut spans: Vec<(f64, f64)> = Vec::new();
    let mut before = 0.0;
    for moment in timeline {
        if moment.phase != "measured" {
            match spans.last_mut() {
                Some((_, to)) if *to == before => *to = moment.at,
                _ => spans.push((before, moment.at)),
            }
        }
        before = moment.at;
    }
    spans
}

/// Memory against connections.
pub(super) fn memory(runs: &[(&str, &Outcome)]) -> String {
    type Of = fn(&crate::outcome::MemoryPoint) -> u64;
    let of: [(&str, Of); 2] = [("anonymous", |p| p.anonymous), ("resident", |p| p.resident)];
    let has_levels = |outcome: &Outcome| outcome.memory.len() > 2;
    if !runs.iter().any(|(_, outcome)| has_levels(outcome)) {
        return String::new();
    }
    let series = runs.iter().enumerate().flat_map(|(n, (label, outcome))| {
        of.iter().enumerate().map(move |(q, (name, bytes))| {
            let points = outcome
                .memory
                .iter()
                .map(|p| (p.connections as f64, bytes(p) as f64));
            Series {
                name: [*label, *name].join(" ").trim().to_owned(),
                colour: n * of.len() + q,
                is_dashed: q == 1,
                has_dots: true,
                points: points.collect(),
            }
        })
    });
    let plot = Plot {
        title: "Memory of the server".to_owned(),
        x_label: "connections",
        x: Scale::Linear,
        y: Scale::Linear,
        y_unit: Unit::Bytes,
        series: series.collect(),
        shaded: Vec::new(),
        x_max: 0.0,
    };
    in_plots(vec![plot])
}

/// Two in a row; the last of an odd number has a row for itself.
fn in_plots(mut plots: Vec<Plot>) -> String {
    plots.retain(Plot::has_points);
    let count = plots.len();
    let svgs = plots.iter().enumerate().map(|(nth, plot)| {
        let is_alone = nth + 1 == count && count % 2 == 1;
        plot.svg(if is_alone { WHOLE } else { HALF }) + "\n"
    });
    match count {
        0 => String::new(),
        _ => format!(
            "<div class=\"plots\">\n{}</div>\n",
            svgs.collect::<String>()
        ),
    }
}

fn latency_table(outcome: &Outcome) -> String {
    if outcome.latencies.is_empty() {
        return String::new();
    }
    let heads = ["count", "mean", "p50", "p90", "p99", "p99.9", "max"];
    let heads: String = heads
        .iter()
        .map(|head| format!("<th class=\"n\">{head}</th>"))
        .collect();
    let mut table = format!("<div class=\"scroll\"><table><tr><th>Milliseconds</th>{heads}</tr>");
    let mut rows: Vec<&Percentiles> = outcome.latencies.iter().collect();
    rows.sort_by_key(|row| row.group.starts_with("Probes"));
    for row in rows {
        let name = full_name(row);
        let at = |quantile| Rounded(row.quantile(quantile).unwrap_or(0.0)).to_string();
        let values = [
            Rounded(row.count as f64).to_string(),
            Rounded(row.mean).to_string(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            at(1.0),
        ];
        let values: String = values
            .iter()
            .map(|value| format!("<td class=\"n\">{value}</td>"))
            .collect();
        let _ = write!(table, "<tr><td>{}</td>{values}</tr>", escaped(&name));
    }
    table + "</table></div>"
}

fn groups(outcome: &Outcome) -> String {
    let mut out = String::from("<div class=\"groups\">");
    let mut last = None;
    for figure in &outcome.figures {
        if last != Some(&figure.group) {
            if last.is_some() {
                out.push_str("</table></div>");
            }
            let _ = write!(
                out,
                "<div class=\"group\"><h3>{}</h3><table>",
                escaped(&figure.group)
            );
            last = Some(&figure.group);
        }
        let (value, unit) = shown(figure);
        let bad = if figure.is_fault && figure.value != 0.0 {
            " bad"
        } else {
            ""
        };
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n{bad}\">{value}</td><td class=\"u\">{}</td></tr>",
            escaped(&figure.name),
            escaped(&unit.replace("us", "µs")),
        );
    }
    if last.is_some() {
        out.push_str("</table></div>");
    }
    out + "</div>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;

    fn outcome() -> Outcome {
        let mut latencies = Latencies::new();
        (1..1_000).for_each(|n| latencies.add(n * 10_000, 1));
        let mut outcome = Outcome::new("fanout", "loadtest fanout <x>");
        outcome.saturated = "neither".to_owned();
        outcome.figure("Work", "deliveries, rate", 1_000.0, "/s");
        outcome.fault("Accounting", "deliveries lost", 2);
        outcome.latency("Latency from when it was due", "delivery", &latencies);
        for at in 0..5 {
            outcome.timeline.push(Moment {
                at: f64::from(at),
                phase: if at < 2 { "warm-up" } else { "measured" }.to_owned(),
                rate: 100.0,
                ..Moment::default()
            });
        }
        outcome
    }

    #[test]
    fn a_page_needs_nothing_else() {
        let page = page_of(&outcome());
        for part in [
            "<svg",
            "<style>",
            "deliveries lost",
            "loadtest fanout &lt;x&gt;",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("none lost"), "two are");
        for part in ["<script", "http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(part), "{part}");
        }
        let mut faultless = outcome();
        faultless.figures[1].value = 0.0;
        faultless.figure("Accounting", "deliveries checked", 1_000.0, "");
        let text = "1\u{202f}000 deliveries, each known by its number: none lost";
        assert!(page_of(&faultless).contains(text));
        assert_eq!(page.matches("<div").count(), page.matches("</div>").count());
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn plots_of_two_runs_are_told_apart_and_begin_with_the_load() {
        let mut run = Outcome::new("fanout", "");
        let mut latencies = Latencies::new();
        latencies.add(1_000_000, 1);
        for group in ["Probes alone", "Probes beside the load", "Latency"] {
            run.latency(group, "ping", &latencies);
        }
        let plots = percentiles(&[("a", &run), ("b", &run)]);
        let titles = [
            "ping, ms",
            "Probes alone: ping, ms",
            "Probes beside the load: ping, ms",
        ];
        let labels = titles.map(|title| format!("aria-label=\"{title}\""));
        let places: Vec<_> = labels.iter().map(|label| plots.find(label)).collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{plots}"
        );
    }

    #[test]
    fn a_line_of_percentiles_has_one_end() {
        let mut latencies = Latencies::new();
        (1..=10).for_each(|n| latencies.add(n * 1_000_000, 1));
        let mut outcome = Outcome::new("fanout", "");
        outcome.latency("Latency", "delivery", &latencies);
        let line = percentile_series(&outcome.latencies[0], "", 0, false).points;
        // 0, 25, 50, 75 % and the largest: 90 % and what is beyond are the largest of ten.
        assert_eq!(line.len(), 5, "{line:?}");
        assert!((line[4].0 - 1.0).abs() < 1e-9 && (line[4].1 - 10.0).abs() < 0.1);
    }

    #[test]
    fn what_is_not_measured_is_shaded() {
        assert_eq!(unmeasured(&outcome().timeline), [(0.0, 1.0)]);
    }
}
