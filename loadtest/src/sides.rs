//! CPU of both sides of a run: which was saturated, and what a unit of work cost each.
//!
//! A saturated client measures itself, so this comes first in a report. So does the time for which
//! other processes kept either side waiting: latencies of a disturbed run are not the server's.

use std::io;

use crate::process::{self, Sample, Used};
use crate::report::Report;

/// CPU of both sides.
pub(crate) struct Sides {
    client: Sample,
    server: Option<(u32, Sample)>,
}

pub(crate) struct SidesUsed {
    client: Used,
    server: Option<Used>,
}

impl Sides {
    /// What both have used so far.
    pub(crate) fn sample(pid: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            client: process::sample(std::process::id())?,
            server: pid
                .map(|pid| Ok::<_, io::Error>((pid, process::sample(pid)?)))
                .transpose()?,
        })
    }

    /// What both have used since.
    pub(crate) fn used(&self) -> io::Result<SidesUsed> {
        let server = match &self.server {
            Some((pid, before)) => Some(process::sample(*pid)?.since(before)),
            None => None,
        };
        Ok(SidesUsed {
            client: process::sample(std::process::id())?.since(&self.client),
            server,
        })
    }
}

impl SidesUsed {
    /// Which side was at its limit, and what a delivery cost each.
    pub(crate) fn report(&self, delivered: u64, report: &mut Report) {
        /// One thread that is hardly ever without work. The client's crowd is one thread, too.
        const SATURATED: f64 = 0.9;
        let is_saturated = |used: &Used| used.load() > SATURATED;
        let saturated = match (
            self.server.as_ref().map(is_saturated),
            is_saturated(&self.client),
        ) {
            (None, true) => "the client; the server is not known (--pid)",
            (None, false) => "not the client; the server is not known (--pid)",
            (Some(true), false) => "the server",
            (Some(false), true) => "the client: these figures are its own",
            (Some(true), true) => "both",
            (Some(false), false) => "neither",
        };
        report.text("CPU", "saturated", saturated);
        let sides = [
            ("client", Some(&self.client)),
            ("server", self.server.as_ref()),
        ];
        for (side, used) in sides
            .into_iter()
            .filter_map(|(side, used)| Some((side, used?)))
        {
            report.number("CPU", &format!("{side}, load"), used.load(), "cores");
            let delayed = used.share(used.delayed);
            report.number(
                "CPU",
                &format!("{side}, kept waiting by others"),
                delayed,
                "cores",
            );
            let each = used.cpu.as_secs_f64() * 1e6 / delivered.max(1) as f64;
            report.number("CPU", &format!("{side}, each delivery"), each, "us");
            report.number(
                "CPU",
                &format!("{side}, of it in user mode"),
                used.user_share * 100.0,
                "%",
            );
            let switches = used.switches as f64 / used.wall.as_secs_f64();
            report.number("CPU", &format!("{side}, context switches"), switches, "/s");
        }
    }
}
