//! Plots as inline SVG: axes with round ticks, lines, dots, shaded spans. No script, and colours
//! from the page's style, so that they follow its light or dark.

use std::fmt::Write;

use crate::report::compare::spread;
use crate::report::text::{Bytes, Rounded};

/// Of half a page, and of a whole one.
pub(super) const HALF: f64 = 460.0;
pub(super) const WHOLE: f64 = 960.0;
const HEIGHT: f64 = 230.0;
/// Around the area where things are drawn.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 34.0;
/// Of a row of the legend beyond the first.
const LEGEND_ROW: f64 = 15.0;
/// Points of a line that say what they are when pointed at; of longer lines some do.
const TOLD_MAX: usize = 240;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
    /// A quantile, by how many nines it has.
    Nines,
}

/// What the numbers of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Plain,
    Bytes,
}

/// One plot. It is wider than high.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x_label: &'static str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) y_unit: Unit,
    pub(super) series: Vec<Series>,
    /// Spans of x that are shaded.
    pub(super) shaded: Vec<(f64, f64)>,
    /// The axis reaches to here at least.
    pub(super) x_max: f64,
}

pub(super) struct Series {
    pub(super) name: String,
    /// Which of the colours of the page, and whether dashed.
    pub(super) colour: usize,
    pub(super) is_dashed: bool,
    pub(super) has_dots: bool,
    pub(super) points: Vec<(f64, f64)>,
}

/// One axis: from values to a place between 0 and 1.
struct Axis {
    scale: Scale,
    min: f64,
    max: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn over(scale: Scale, unit: Unit, values: impl Iterator<Item = f64>) -> Option<Self> {
        let finite = values.filter(|value| value.is_finite());
        let (mut min, mut max) = finite
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), v| {
                (min.min(v), max.max(v))
            });
        if min > max {
            return None;
        }
        let ticks = match scale {
            Scale::Linear => {
                min = min.min(0.0);
                if max <= min {
                    max = min + 1.0;
                }
                let one = match unit {
                    Unit::Plain => 1.0,
                    Unit::Bytes => Bytes(max).unit().0,
                };
                let step = round_step((max - min) / one / 4.5) * one;
                max = (max / step).ceil() * step;
                min = (min / step).floor() * step;
                let count = ((max - min) / step).round() as u32;
                (0..=count).map(|n| min + f64::from(n) * step).collect()
            }
            Scale::Log => {
                let steps = log_steps();
                let (low, high) = (min.max(1e-6), max.max(1e-6));
                min = steps
                    .iter()
                    .copied()
                    .rfind(|&step| step <= low)
                    .unwrap_or(1e-6);
                max = steps
                    .iter()
                    .copied()
                    .find(|&step| step >= high && step > min)
                    .unwrap_or(1e9);
                let is_long = max / min > 200.0;
                let is_tick = |step: &&f64| {
                    let is_decade = step.log10().fract().abs() < 1e-9;
                    (min..=max).contains(*step) && (is_decade || !is_long)
                };
                steps.iter().filter(is_tick).copied().collect()
            }
            Scale::Nines => {
                (min, max) = (0.0, max.max(1.0));
                let nines = (1..=max.floor() as u32).map(f64::from);
                std::iter::once(2f64.log10()).chain(nines).collect()
            }
        };
        Some(Self {
            scale,
            min,
            max,
            ticks,
        })
    }

    /// Around 1, wider only where ratios are.
    fn of_ratios(ratios: impl Iterator<Item = f64>) -> Self {
        const TICKS: [f64; 15] = [
            0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0,
        ];
        let (low, high) = ratios.fold((0.8, 1.25), |(low, high): (f64, f64), ratio| {
            (low.min(ratio), high.max(ratio))
        });
        let min = TICKS.into_iter().rfind(|&tick| tick <= low).unwrap_or(low);
        let max = TICKS.into_iter().find(|&tick| tick >= high).unwrap_or(high);
        // Where there is much to show, the ticks near 1 would touch.
        let is_wide = max / min > 6.0;
        let is_tick = |tick: &f64| {
            let is_fine = [0.9, 1.1, 0.67, 0.8, 1.25, 1.5].contains(tick);
            (min..=max).contains(tick) && !(is_wide && is_fine)
        };
        Self {
            scale: Scale::Log,
            min,
            max,
            ticks: TICKS.into_iter().filter(is_tick).collect(),
        }
    }

    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Log => {
                let (min, max) = (self.min.log10(), self.max.log10());
                (value.max(self.min).log10() - min) / (max - min)
            }
            Scale::Linear | Scale::Nines => (value - self.min) / (self.max - self.min),
        }
    }

    fn label(&self, tick: f64, unit: Unit) -> String {
        match (self.scale, unit) {
            (Scale::Nines, _) => ["50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]
                .get(tick as usize)
                .map_or_else(|| format!("{tick} nines"), |&label| label.to_owned()),
            (_, Unit::Bytes) if tick == 0.0 => "0".to_owned(),
            (_, Unit::Bytes) => Bytes(tick).to_string().replace(".000", ""),
            (_, Unit::Plain) if tick >= 10_000.0 && tick % 1_000.0 == 0.0 => short(tick),
            (_, Unit::Plain) => trimmed(tick),
        }
    }
}

/// Where a quantile of so many values stands on a scale of nines.
pub(super) fn nines(quantile: f64, count: u64) -> f64 {
    let most = (count.max(1) as f64).log10();
    match quantile {
        1.0 => most,
        _ => (-(1.0 - quantile).log10()).min(most),
    }
}

/// 1, 2 and 5 times powers of ten.
fn log_steps() -> Vec<f64> {
    let decades = (-6..=9).map(|power| 10f64.powi(power));
    decades
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * decade))
        .collect()
}

/// The next step of 1, 2 or 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-12).log10().floor());
    let found = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|n| n * power >= step * 0.999_9);
    found.unwrap_or(10.0) * power
}

/// `250k`, `1.5M`.
fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{}M", trimmed(value / 1e6)),
        _ => format!("{}k", trimmed(value / 1e3)),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Plot {
    /// Whether there is something to show.
    pub(super) fn has_points(&self) -> bool {
        self.series.iter().any(|series| !series.points.is_empty())
    }

    /// The SVG, or nothing if there is nothing to show.
    pub(super) fn svg(&self, whole_width: f64) -> String {
        if !self.has_points() {
            return String::new();
        }
        let points = || self.series.iter().flat_map(|series| &series.points);
        let (Some(x), Some(y)) = (
            Axis::over(
                self.x,
                Unit::Plain,
                points().map(|(x, _)| *x).chain([self.x_max]),
            ),
            Axis::over(self.y, self.y_unit, points().map(|(_, y)| *y)),
        ) else {
            return String::new();
        };
        let legend = self.legend(whole_width);
        let rows = legend.iter().map(|(_, row)| *row).max().unwrap_or(0);
        let more = f64::from(rows) * LEGEND_ROW;
        let (top, height) = (TOP + more, HEIGHT + more);
        let (right, bottom) = (whole_width - RIGHT, height - BOTTOM);
        let at_x = |value: f64| LEFT + x.place(value) * (right - LEFT);
        let at_y = |value: f64| bottom - y.place(value) * (bottom - top);
        let class = if whole_width > HALF { "wide" } else { "half" };
        let mut svg = format!(
            r#"<svg class="{class}" viewBox="0 0 {whole_width} {height}" role="img" aria-label="{title}"><text class="title" x="4" y="14">{title}</text>"#,
            title = escaped(&self.title),
        );
        for &(from, to) in &self.shaded {
            let (from, to) = (at_x(from.max(x.min)), at_x(to.min(x.max)));
            if to > from {
                let (width, height) = (to - from, bottom - top);
                let _ = write!(
                    svg,
                    r#"<rect class="shade" x="{from:.1}" y="{top}" width="{width:.1}" height="{height:.1}"/>"#
                );
            }
        }
        for &tick in &y.ticks {
            let (place, label) = (at_y(tick), y.label(tick, self.y_unit));
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{place:.1}" y2="{place:.1}"/><text class="tick" text-anchor="end" x="{:.1}" y="{:.1}">{label}</text>"#,
                LEFT - 6.0,
                place + 3.5,
            );
        }
        for &tick in &x.ticks {
            let (place, label) = (at_x(tick), x.label(tick, Unit::Plain));
            // One at the edge would leave the picture.
            let (anchor, text) = match place + label_width(&label) / 2.0 > whole_width {
                true => ("end", whole_width),
                false => ("middle", place),
            };
            let _ = write!(
                svg,
                r#"<line class="axis" x1="{place:.1}" x2="{place:.1}" y1="{bottom}" y2="{:.1}"/><text class="tick" text-anchor="{anchor}" x="{text:.1}" y="{:.1}">{label}</text>"#,
                bottom + 4.0,
                bottom + 15.0,
            );
        }
        let _ = write!(
            svg,
            r#"<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/><text class="tick" text-anchor="end" x="{right}" y="{:.1}">{}</text>"#,
            height - 5.0,
            escaped(self.x_label),
        );
        let is_alone = self.series.len() == 1 && self.y == Scale::Linear;
        for series in &self.series {
            if is_alone {
                series.fill(&mut svg, &at_x, &at_y, bottom);
            }
            series.draw(&mut svg, &at_x, &at_y);
        }
        for series in &self.series {
            let step = series.points.len().div_ceil(TOLD_MAX).max(1);
            for &(px, py) in series.points.iter().step_by(step) {
                self.tell(&mut svg, series, (px, py), (at_x(px), at_y(py)));
            }
        }
        for (series, (x, row)) in self.series.iter().zip(legend) {
            series.name(&mut svg, x, 29.0 + f64::from(row) * LEGEND_ROW);
        }
        svg + "</svg>"
    }

    /// Where the name of each series stands, and in which row; nowhere if there is one alone.
    fn legend(&self, whole_width: f64) -> Vec<(f64, u32)> {
        let (mut x, mut row) = (4.0, 0);
        let places = self.series.iter().map(|series| {
            let width = 20.0 + label_width(&series.name);
            if x > 4.0 && x + width > whole_width {
                (x, row) = (4.0, row + 1);
            }
            let place = (x, row);
            x += width + 14.0;
            place
        });
        match self.series.len() {
            1 => Vec::new(),
            _ => places.collect(),
        }
    }

    /// What a point is, for whoever points at it.
    fn tell(&self, svg: &mut String, series: &Series, (x, y): (f64, f64), at: (f64, f64)) {
        if !(at.0.is_finite() && at.1.is_finite()) {
            return;
        }
        let value = match self.y_unit {
            Unit::Plain => Rounded(y).to_string(),
            Unit::Bytes => Bytes(y).to_string(),
        };
        let place = match self.x {
            Scale::Nines => format!("{} %", trimmed(100.0 - 100.0 * 10f64.powf(-x))),
            _ => Rounded(x).to_string(),
        };
        let name = match series.name.as_str() {
            "" => &self.title,
            name => name,
        };
        let _ = write!(
            svg,
            r#"<circle class="told" cx="{:.1}" cy="{:.1}" r="6"><title>{}: {value} at {place}</title></circle>"#,
            at.0,
            at.1,
            escaped(name),
        );
    }
}

/// About what a text takes at the size of ticks.
fn label_width(text: &str) -> f64 {
    text.chars().count() as f64 * 5.9
}

impl Series {
    fn draw(&self, svg: &mut String, at_x: &impl Fn(f64) -> f64, at_y: &impl Fn(f64) -> f64) {
        let places: Vec<(f64, f64)> = self
            .points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .map(|&(x, y)| (at_x(x), at_y(y)))
            .collect();
        let list: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let (class, dashes) = (self.class(), self.dashes());
        let _ = write!(
            svg,
            r#"<polyline class="{class}"{dashes} points="{}"/>"#,
            list.join(" ")
        );
        // A single point has no line.
        if self.has_dots || places.len() == 1 {
            for (x, y) in places {
                let _ = write!(
                    svg,
                    r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#
                );
            }
        }
    }

    /// Shades what is below the line.
    fn fill(
        &self,
        svg: &mut String,
        at_x: &impl Fn(f64) -> f64,
        at_y: &impl Fn(f64) -> f64,
        bottom: f64,
    ) {
        let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
        let places = self.points.iter().filter(finite);
        let places: Vec<String> = places
            .map(|&(x, y)| format!("{:.1},{:.1}", at_x(x), at_y(y)))
            .collect();
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return;
        };
        let _ = write!(
            svg,
            r#"<polygon class="{}" points="{:.1},{bottom} {} {:.1},{bottom}"/>"#,
            self.class(),
            at_x(first.0),
            places.join(" "),
            at_x(last.0),
        );
    }

    fn name(&self, svg: &mut String, x: f64, y: f64) {
        let (class, dashes) = (self.class(), self.dashes());
        let _ = write!(
            svg,
            r#"<line class="{class}"{dashes} x1="{x:.1}" x2="{:.1}" y1="{y}" y2="{y}"/><text class="tick" x="{:.1}" y="{}">{}</text>"#,
            x + 16.0,
            x + 20.0,
            y + 3.5,
            escaped(&self.name),
        );
    }

    fn class(&self) -> String {
        format!("c{}", self.colour % 6)
    }

    fn dashes(&self) -> &'static str {
        if self.is_dashed {
            r#" stroke-dasharray="4 3""#
        } else {
            ""
        }
    }
}

/// Text as HTML shows it.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            character => out.push(character),
        }
    }
    out
}

/// Ratios of several figures, each with a dot for every pair and a line at its median: a row each.
pub(super) fn strips(rows: &[(String, Vec<f64>)]) -> String {
    const ROW: f64 = 26.0;
    const NAMES: f64 = 330.0;
    if rows.is_empty() {
        return String::new();
    }
    let x = Axis::of_ratios(rows.iter().flat_map(|(_, ratios)| ratios.iter().copied()));
    let height = ROW * rows.len() as f64 + 30.0;
    let at_x = |ratio: f64| NAMES + x.place(ratio) * (WHOLE - NAMES - 90.0);
    let mut svg = format!(
        r#"<svg class="wide" viewBox="0 0 {WHOLE} {height}" role="img" aria-label="Ratios">"#
    );
    for &tick in &x.ticks {
        let class = if tick == 1.0 { "axis" } else { "grid" };
        let place = at_x(tick);
        let _ = write!(
            svg,
            r#"<line class="{class}" x1="{place:.1}" x2="{place:.1}" y1="4" y2="{:.1}"/><text class="tick" text-anchor="middle" x="{place:.1}" y="{:.1}">{}</text>"#,
            height - 24.0,
            height - 10.0,
            trimmed(tick),
        );
    }
    for (nth, (name, ratios)) in rows.iter().enumerate() {
        let y = ROW * nth as f64 + 16.0;
        let _ = write!(
            svg,
            r#"<text class="name" text-anchor="end" x="{:.1}" y="{:.1}">{}</text>"#,
            NAMES - 14.0,
            y + 4.0,
            escaped(name),
        );
        for &ratio in ratios {
            let _ = write!(
                svg,
                r#"<circle class="c0 faint" cx="{:.1}" cy="{y:.1}" r="4"/>"#,
                at_x(ratio)
            );
        }
        if let Some([_, median, _]) = spread(ratios) {
            let place = at_x(median);
            let _ = write!(
                svg,
                r#"<line class="c1" x1="{place:.1}" x2="{place:.1}" y1="{:.1}" y2="{:.1}"/><text class="name" x="{:.1}" y="{:.1}">{}</text>"#,
                y - 9.0,
                y + 9.0,
                WHOLE - 70.0,
                y + 4.0,
                Rounded(median),
            );
        }
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        for (values, expected) in [
            (&[0.0, 9.0][..], &[0.0, 2.0, 4.0, 6.0, 8.0, 10.0][..]),
            (&[0.0, 0.0], &[0.0, 0.5, 1.0]),
            (
                &[3.0, 73_000.0],
                &[0.0, 20_000.0, 40_000.0, 60_000.0, 80_000.0],
            ),
            (&[-5.0, 5.0], &[-5.0, 0.0, 5.0]),
        ] {
            let axis = Axis::over(Scale::Linear, Unit::Plain, values.iter().copied()).unwrap();
            assert_eq!(axis.ticks, expected, "{values:?}");
            for value in values {
                assert!((0.0..=1.0).contains(&axis.place(*value)), "{value}");
            }
        }
        let log = Axis::over(Scale::Log, Unit::Plain, [0.3, 45.0].into_iter()).unwrap();
        assert_eq!(
            (log.min, log.max, &log.ticks[..]),
            (0.2, 50.0, &[1.0, 10.0][..])
        );
        assert!(Axis::over(Scale::Linear, Unit::Plain, [f64::NAN].into_iter()).is_none());
    }

    #[test]
    fn quantiles_are_placed_by_their_nines() {
        assert!((nines(0.99, 1_000_000) - 2.0).abs() < 1e-9);
        assert!((nines(1.0, 1_000) - 3.0).abs() < 1e-9);
        assert!(
            (nines(0.9999, 100) - 2.0).abs() < 1e-9,
            "of a hundred values none is so rare"
        );
        assert_eq!(nines(0.0, 5), 0.0);
    }

    #[test]
    fn the_median_of_an_even_number_of_pairs_lies_between_two() {
        let svg = strips(&[("cost".to_owned(), vec![2.0, 1.0])]);
        assert!(svg.ends_with(">1.500</text></svg>"), "{svg}");
    }

    #[test]
    fn a_plot_has_no_markup_of_its_data() {
        let plot = Plot {
            title: "<a & b>".to_owned(),
            x_label: "s",
            x: Scale::Linear,
            y: Scale::Linear,
            y_unit: Unit::Plain,
            series: vec![Series {
                name: "x".to_owned(),
                colour: 0,
                is_dashed: false,
                has_dots: false,
                points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)],
            }],
            shaded: vec![(0.0, 1.0)],
            x_max: 0.0,
        };
        let svg = plot.svg(HALF);
        assert!(
            svg.contains("&lt;a &amp; b&gt;") && !svg.contains("NaN"),
            "{svg}"
        );
        assert!(svg.contains("<title>x: 3 at 2</title>"), "{svg}");
    }

    #[test]
    fn a_legend_that_is_too_long_has_further_rows() {
        let series = |name: &str| Series {
            name: name.to_owned(),
            colour: 0,
            is_dashed: false,
            has_dots: false,
            points: vec![(0.0, 1.0)],
        };
        let plot = |names: &[&str]| Plot {
            title: "t".to_owned(),
            x_label: "",
            x: Scale::Linear,
            y: Scale::Linear,
            y_unit: Unit::Plain,
            series: names.iter().map(|name| series(name)).collect(),
            shaded: Vec::new(),
            x_max: 1.0,
        };
        let long = "the delivery of a client event";
        let rows = |plot: Plot, width| -> Vec<u32> {
            let places = plot.legend(width).into_iter();
            places.map(|(_, row)| row).collect()
        };
        assert!(rows(plot(&[long]), HALF).is_empty());
        assert_eq!(rows(plot(&[long; 3]), HALF), [0, 0, 1]);
        assert_eq!(rows(plot(&[long; 3]), WHOLE), [0, 0, 0]);
        // What is wider than all has a row of its own.
        let wide = "x".repeat(200);
        assert_eq!(rows(plot(&[&wide, &wide]), HALF), [0, 1]);
    }
}
