//! The line about how a run goes, and the timeline that remains of it.
//!
//! Workers tell each second of the clock; it is shown when all have told it, or when one of them
//! tells the next but one: a worker that is late holds nobody up.

use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal, Write, stderr};

use crate::clock::{self, Nanos, SECOND};
use crate::meter::Tick;
use crate::outcome::Moment;
use crate::process::{self, Sample};
use crate::report::text::{Bytes, Rounded};

/// Moments of a timeline, at most; of longer runs every second one is dropped, again and again.
const MOMENTS_MAX: usize = 2_400;

pub(crate) struct Progress {
    workers: usize,
    pids: Vec<u32>,
    is_quiet: bool,
    is_terminal: bool,
    began: Nanos,
    phase: &'static str,
    /// Ticks that not all have told, and how many have.
    open: BTreeMap<u64, (Tick, usize)>,
    before: HashMap<u32, Sample>,
    timeline: Vec<Moment>,
    /// One of so many moments is kept.
    step: u64,
    shown: u64,
}

impl Progress {
    pub(crate) fn new(workers: usize, pids: &[u32], is_quiet: bool) -> Self {
        Self {
            workers,
            pids: pids.to_vec(),
            is_quiet,
            is_terminal: stderr().is_terminal(),
            began: clock::now(),
            phase: "connecting",
            open: BTreeMap::new(),
            before: HashMap::new(),
            timeline: Vec::new(),
            step: 1,
            shown: 0,
        }
    }

    /// The next part of the run begins.
    pub(crate) fn enter(&mut self, phase: &'static str) {
        self.phase = phase;
    }

    /// Says something before the line.
    pub(crate) fn say(&self, text: &str) {
        let _ = writeln!(stderr(), "{text}");
    }

    pub(crate) fn on_tick(&mut self, number: u64, tick: Tick) {
        match self.open.get_mut(&number) {
            Some((sum, told)) => {
                sum.merge(&tick);
                *told += 1;
            }
            None => drop(self.open.insert(number, (tick, 1))),
        }
        while let Some(entry) = self.open.first_entry() {
            let is_whole = entry.get().1 == self.workers;
            if !is_whole && *entry.key() + 2 > number {
                break;
            }
            let (number, (tick, _)) = entry.remove_entry();
            self.show(number, &tick);
        }
    }

    /// The timeline.
    pub(crate) fn finish(self) -> Vec<Moment> {
        if !self.is_quiet && self.is_terminal {
            let _ = writeln!(stderr());
        }
        self.timeline
    }

    fn show(&mut self, number: u64, tick: &Tick) {
        let has_latencies = tick.latencies.count() > 0;
        // One of them may have ended.
        let samples = self.pids.iter();
        let samples: HashMap<u32, Sample> = samples
            .filter_map(|&pid| Some((pid, process::sample(pid).ok()?)))
            .collect();
        let used = samples
            .iter()
            .filter_map(|(pid, now)| Some(now.since(self.before.get(pid)?)));
        let used: Vec<_> = used.collect();
        let memory = (!self.pids.is_empty())
            .then(|| process::memory(&self.pids).ok())
            .flatten();
        let moment = Moment {
            at: (number * SECOND).saturating_sub(self.began) as f64 / 1e9,
            phase: self.phase.to_owned(),
            rate: tick.rate,
            p50: has_latencies.then(|| tick.latencies.at(0.5)),
            p99: has_latencies.then(|| tick.latencies.at(0.99)),
            connections: tick.connections,
            errors: tick.errors,
            server_cpu: process::Used::sum(&used).map(|used| used.load()),
            server_bytes: memory.map(|memory| memory.resident),
        };
        self.before = samples;
        if !self.is_quiet {
            self.print(&moment);
        }
        if self.shown.is_multiple_of(self.step) {
            self.timeline.push(moment);
        }
        self.shown += 1;
        if self.timeline.len() > MOMENTS_MAX {
            let mut nth = 0;
            self.timeline.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
            self.step *= 2;
        }
    }

    fn print(&self, moment: &Moment) {
        let mut line = format!(
            "{:>5.0} s  {:<12} {:>10}/s",
            moment.at,
            moment.phase,
            Rounded(moment.rate).to_string()
        );
        if let (Some(p50), Some(p99)) = (moment.p50, moment.p99) {
            line += &format!("  p50 {} ms  p99 {} ms", Rounded(p50), Rounded(p99));
        }
        line += &format!(
            "  {} connections  {} errors",
            moment.connections, moment.errors
        );
        if let Some(cpu) = moment.server_cpu {
            line += &format!("  server {cpu:.2} cores");
        }
        if let Some(bytes) = moment.server_bytes {
            line += &format!("  {}", Bytes(bytes as f64));
        }
        // A terminal has one line that changes; a file has all of them.
        let _ = match self.is_terminal {
            true => stderr().write_all(in_place(&line).as_bytes()),
            false => writeln!(stderr(), "{line}"),
        };
    }
}

/// A line in the place of the one before. Where it is longer than the terminal is wide, it ends at
/// the edge: in two rows, the upper one would stay.
fn in_place(line: &str) -> String {
    const CLEARED: &str = "\r\x1b[2K";
    const CUT: &str = "\x1b[?7l";
    const WRAPPED: &str = "\x1b[?7h";
    format!("{CLEARED}{CUT}{line}{WRAPPED}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;

    #[test]
    fn a_line_of_a_terminal_stays_one_row() {
        assert_eq!(in_place("  7 s"), "\r\x1b[2K\x1b[?7l  7 s\x1b[?7h");
    }

    fn tick(rate: f64) -> Tick {
        Tick {
            rate,
            errors: 0,
            connections: 1,
            latencies: Latencies::new(),
        }
    }

    #[test]
    fn a_second_is_shown_when_all_have_told_it_or_one_is_two_ahead() {
        let mut progress = Progress::new(2, &[], true);
        progress.on_tick(5, tick(1.0));
        assert!(progress.timeline.is_empty());
        progress.on_tick(5, tick(2.0));
        progress.on_tick(6, tick(4.0));
        progress.on_tick(7, tick(4.0));
        progress.on_tick(8, tick(4.0));
        let rates: Vec<f64> = progress.finish().iter().map(|moment| moment.rate).collect();
        assert_eq!(
            rates,
            [3.0, 4.0],
            "the sixth without the worker that is late"
        );
    }

    #[test]
    fn a_timeline_is_bounded_and_keeps_its_span() {
        let mut progress = Progress::new(1, &[], true);
        progress.began = 0;
        (0..10_000).for_each(|second| progress.on_tick(second, tick(1.0)));
        let timeline = progress.finish();
        assert!((MOMENTS_MAX / 2..=MOMENTS_MAX).contains(&timeline.len()));
        assert_eq!(timeline[0].at, 0.0);
        let steps: Vec<f64> = timeline
            .windows(2)
            .map(|two| two[1].at - two[0].at)
            .collect();
        assert!(steps.iter().all(|step| *step == steps[0]), "{steps:?}");
        assert!(timeline[timeline.len() - 1].at > 9_900.0);
    }
}
