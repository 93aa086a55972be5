//! Messages as people send them one after the other on a channel: what deltas are for.
#![allow(dead_code)] // Each bench uses a part of it.

#[path = "../../src/seed.rs"]
mod seed;

use std::collections::HashMap;

pub(crate) use seed::Seed;

/// Messages of a stream.
pub(crate) const MESSAGES: usize = 500;

/// A price, ten levels of the order book on both sides, and the figures of the day. A level keeps its
/// size until somebody trades there; the price moves a step now and then.
pub(crate) fn ticks(random: &mut Seed) -> Vec<String> {
    // Prices in steps of 10 cents.
    let mut last = 640_125;
    let mut sizes: HashMap<usize, usize> = HashMap::new();
    let mut volume = 1_234_567_890;
    (0..MESSAGES)
        .map(|nth| {
            match random.below(8) {
                0 => last += 1,
                1 => last -= 1,
                _ => {}
            }
            for _ in 0..1 + random.below(3) {
                let level = last - 10 + random.below(20);
                sizes.insert(level, random.below(90_000));
            }
            volume += random.below(5_000);
            let fixed = |number: usize| format!("{}.{:02}", number / 100, number % 100);
            let mut side = |levels: Vec<usize>| {
                let shown = levels.into_iter().map(|level| {
                    let size = sizes.entry(level).or_insert_with(|| random.below(90_000));
                    format!("[\"{}\",\"{}\"]", fixed(10 * level), fixed(*size))
                });
                shown.collect::<Vec<_>>().join(",")
            };
            let bids = side((last - 9..=last).rev().collect());
            let asks = side((last + 1..=last + 10).collect());
            format!(
                "{{\"symbol\":\"BTC-EUR\",\"venue\":\"spot\",\"time\":{},\"last\":\"{}\",\
                 \"bids\":[{bids}],\"asks\":[{asks}],\"open\":\"63100.00\",\
                 \"high\":\"65000.00\",\"low\":\"62900.00\",\"volume\":\"{}\"}}",
                1_764_100_000_000 + 250 * nth,
                fixed(10 * last),
                fixed(volume),
            )
        })
        .collect()
}

/// Sixty rows; each save changes some values, and now and then a row comes or goes.
pub(crate) fn document(random: &mut Seed) -> Vec<String> {
    let words = ["draft", "in review", "accepted", "rejected", "archived"];
    let row = |random: &mut Seed| (random.below(100_000), random.below(5), random.below(10_000));
    let mut rows: Vec<_> = (0..60).map(|_| row(random)).collect();
    (0..MESSAGES)
        .map(|revision| {
            for _ in 0..1 + random.below(4) {
                let at = random.below(rows.len());
                rows[at].1 = random.below(5);
                rows[at].2 = random.below(10_000);
            }
            match random.below(8) {
                0 => {
                    let (at, row) = (random.below(rows.len()), row(random));
                    rows.insert(at, row);
                }
                1 => drop(rows.remove(random.below(rows.len()))),
                _ => {}
            }
            let rows = rows.iter().map(|(id, state, cents)| {
                format!(
                    "{{\"id\":{id},\"title\":\"Invoice {id}\",\"state\":\"{}\",\
                     \"amount\":{}.{:02},\"assignee\":null}}",
                    words[*state],
                    cents / 100,
                    cents % 100
                )
            });
            let rows: Vec<_> = rows.collect();
            format!("{{\"revision\":{revision},\"rows\":[{}]}}", rows.join(","))
        })
        .collect()
}

/// Forty gauges of a machine, a third of which have moved.
pub(crate) fn telemetry(random: &mut Seed) -> Vec<String> {
    let mut gauges: Vec<usize> = (0..40).map(|_| random.below(100_000)).collect();
    (0..MESSAGES)
        .map(|nth| {
            for gauge in &mut gauges {
                if random.below(3) == 0 {
                    *gauge = (*gauge + random.below(200)).saturating_sub(100);
                }
            }
            let shown = gauges.iter().enumerate().map(|(id, gauge)| {
                format!(
                    "\"axis-{id}.temperature\":{}.{:03}",
                    gauge / 1000,
                    gauge % 1000
                )
            });
            let shown: Vec<_> = shown.collect();
            let time = 1_764_100_000 + nth;
            format!(
                "{{\"machine\":\"press-7\",\"time\":{time},\"gauges\":{{{}}}}}",
                shown.join(",")
            )
        })
        .collect()
}
