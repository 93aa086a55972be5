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
            true => write!(stderr(), "\r\x1b[2K{line}"),
            false => writeln!(stderr(), "{line}"),
        };
    }
}
