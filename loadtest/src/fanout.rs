//! One channel with many subscribers, and what everybody else notices of it.
//!
//! Every delivery is known by the number of its publish, so that lost, repeated and reordered ones
//! are counted, and carries the time at which its publish was due: latency includes what either
//! side was late. First the probes run alone, then beside the publishes.
//!
//! Invariant: `owed` is what subscribers that are still here have yet to get of publishes that were
//! not refused, as far as answers have come; 0 at the end unless deliveries were lost.

use std::io;
use std::time::{Duration, Instant};

use crate::args::{Fanout, Pace, Run};
use crate::crowd::{Crowd, Happened};
use crate::latency::Latencies;
use crate::probe::{Phase, Probes};
use crate::process::{self, Used};
use crate::publisher::Publisher;
use crate::report::Report;
use crate::sequence::{Arrival, Sequence};
use crate::stop::Stop;

const CHANNEL: &str = "loadtest-crowd";
/// From the last publish to the last delivery, at most.
const TAIL_MAX: Duration = Duration::from_secs(10);
/// Publishes that are sent late in one go, at most: a run far behind still reads.
const BURST_MAX: u64 = 64;

/// What has been counted.
struct Tally {
    start: Instant,
    subscribers: Vec<Subscriber>,
    owed: i64,
    published: u64,
    delivered: u64,
    late: u64,
    again: u64,
    unknown: u64,
    latencies: Latencies,
}

#[derive(Clone, Copy, Default)]
struct Subscriber {
    sequence: Sequence,
    got: u64,
}

/// Connects, probes, publishes, counts.
pub(crate) fn run(run: &Run, fanout: &Fanout) -> io::Result<Report> {
    let stop = Stop::after(run.time_max)?;
    let mut crowd = Crowd::new(&run.target, vec![CHANNEL.to_owned()], run.opening_max)?;
    crowd.grow(fanout.subscribers, &stop)?;
    let probes = Probes::start(&run.target, fanout.probe_interval)?;
    let mut publisher = Publisher::connect(&run.target, CHANNEL)?;
    crowd.watch(&publisher)?;
    let mut tally = Tally::new(fanout.subscribers);

    probes.enter(Phase::Quiet);
    let until = Instant::now() + fanout.quiet;
    while Instant::now() < until && !stop.is_over() {
        tally.step(&mut crowd, &mut publisher, fanout.quiet)?;
    }
    probes.enter(Phase::Busy);
    let sides = Sides::sample(run.pid)?;
    tally.start = Instant::now();
    tally.publish_all(fanout, &mut crowd, &mut publisher, &stop)?;
    probes.enter(Phase::Setup);
    tally.await_tail(&mut crowd, &mut publisher, &stop)?;
    let used = sides.used()?;

    let mut report = Report::new("fanout");
    used.report(tally.delivered, &mut report);
    tally.report(fanout, &crowd, &publisher, &mut report);
    probes.finish(&mut report)?;
    Ok(report)
}

impl Tally {
    fn new(subscribers: usize) -> Self {
        Self {
            start: Instant::now(),
            subscribers: vec![Subscriber::default(); subscribers],
            owed: 0,
            published: 0,
            delivered: 0,
            late: 0,
            again: 0,
            unknown: 0,
            latencies: Latencies::new(),
        }
    }

    /// Publishes at the pace that was asked for.
    fn publish_all(
        &mut self,
        fanout: &Fanout,
        crowd: &mut Crowd,
        publisher: &mut Publisher,
        stop: &Stop,
    ) -> io::Result<()> {
        loop {
            let elapsed = self.start.elapsed();
            if elapsed >= fanout.busy || stop.is_over() {
                return Ok(());
            }
            let mut span = fanout.busy - elapsed;
            for _ in 0..BURST_MAX {
                let due = self.next_due(fanout.pace, crowd.ready(), elapsed);
                match due {
                    Some(due) if due <= elapsed => {
                        self.publish(fanout, crowd.ready(), publisher, due)?
                    }
                    Some(due) => {
                        span = span.min(due - elapsed);
                        break;
                    }
                    None => break,
                }
            }
            self.step(crowd, publisher, span)?;
        }
    }

    /// When the next publish is due, from the start; `None` as long as the window is full.
    fn next_due(&self, pace: Pace, ready: usize, elapsed: Duration) -> Option<Duration> {
        match pace {
            Pace::Rate(rate) => Some(Duration::from_secs_f64(self.published as f64 / rate)),
            Pace::Window(window) => {
                let room = self.owed < (window * ready as u64) as i64 - ready as i64 + 1;
                room.then_some(elapsed)
            }
        }
    }

    fn publish(
        &mut self,
        fanout: &Fanout,
        ready: usize,
        publisher: &mut Publisher,
        due: Duration,
    ) -> io::Result<()> {
        let stamp = Stamp {
            number: self.published,
            due,
        };
        publisher.publish(&stamp.text(fanout.bytes))?;
        self.published += 1;
        self.owed += ready as i64;
        Ok(())
    }

    /// Waits for deliveries, answers and ends of connections, and counts them.
    fn step(
        &mut self,
        crowd: &mut Crowd,
        publisher: &mut Publisher,
        span: Duration,
    ) -> io::Result<()> {
        let mut publisher_ready = false;
        crowd.wait(span, &mut |happened| match happened {
            Happened::Message { member, payload } => self.on_message(member, payload),
            Happened::Lost { member } => {
                if let Some(subscriber) = self.subscribers.get(member) {
                    self.owed -= (self.published - subscriber.got) as i64;
                }
            }
            Happened::Other => publisher_ready = true,
        })?;
        if publisher_ready {
            publisher.flush()?;
            let refused = publisher.take_answers()?;
            self.owed -= (refused * crowd.ready() as u64) as i64;
        }
        Ok(())
    }

    fn on_message(&mut self, member: usize, payload: &[u8]) {
        let Some(stamp) = Stamp::read(payload) else {
            self.unknown += 1;
            return;
        };
        let subscriber = &mut self.subscribers[member];
        match subscriber.sequence.take(stamp.number) {
            Arrival::Again => return self.again += 1,
            Arrival::Late => self.late += 1,
            Arrival::InOrder => {}
        }
        subscriber.got += 1;
        self.delivered += 1;
        self.owed -= 1;
        self.latencies
            .add(self.start.elapsed().saturating_sub(stamp.due));
    }

    /// Waits until everybody has everything.
    fn await_tail(
        &mut self,
        crowd: &mut Crowd,
        publisher: &mut Publisher,
        stop: &Stop,
    ) -> io::Result<()> {
        let until = Instant::now() + TAIL_MAX;
        while (self.owed > 0 || publisher.unanswered() > 0)
            && Instant::now() < until
            && !stop.is_over()
        {
            self.step(crowd, publisher, TAIL_MAX)?;
        }
        Ok(())
    }

    fn report(&self, fanout: &Fanout, crowd: &Crowd, publisher: &Publisher, report: &mut Report) {
        let group = "Deliveries";
        let pace = match fanout.pace {
            Pace::Rate(rate) => format!("{rate} a second"),
            Pace::Window(window) => format!("back to back, {window} under way"),
        };
        report.text(group, "publishes", pace);
        report.number(group, "subscribers", self.subscribers.len() as f64, "");
        report.number(group, "published", self.published as f64, "");
        report.number(group, "refused", publisher.refused as f64, "");
        if let Some(status) = publisher.refused_status {
            report.number(group, "last refused with", f64::from(status), "");
        }
        let secs = fanout.busy.min(self.start.elapsed()).as_secs_f64();
        report.number(group, "delivered", self.delivered as f64, "");
        report.number(group, "rate", self.delivered as f64 / secs, "/s");
        report.number(group, "lost", self.owed as f64, "");
        report.number(group, "repeated", self.again as f64, "");
        report.number(group, "out of order", self.late as f64, "");
        report.number(group, "not understood", self.unknown as f64, "");
        let (closed, reason) = crowd.lost();
        report.number(group, "connections lost", closed as f64, "");
        if let Some(reason) = reason {
            report.text(group, "last reason", reason);
        }
        report.latency(
            "Latency from when a publish was due",
            "each delivery",
            &self.latencies,
        );
    }
}

/// CPU of both sides.
struct Sides {
    client: process::Sample,
    server: Option<(u32, process::Sample)>,
}

struct SidesUsed {
    client: Used,
    server: Option<Used>,
}

impl Sides {
    fn sample(pid: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            client: process::sample(std::process::id())?,
            server: pid
                .map(|pid| Ok::<_, io::Error>((pid, process::sample(pid)?)))
                .transpose()?,
        })
    }

    fn used(&self) -> io::Result<SidesUsed> {
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
    fn report(&self, delivered: u64, report: &mut Report) {
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

/// What an event says of its publish: `#`, its number and when it was due, in 16 digits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    number: u64,
    due: Duration,
}

impl Stamp {
    const DIGITS: usize = 16;

    /// Data of `bytes` bytes, 33 at least.
    fn text(self, bytes: usize) -> String {
        let mut text = format!("#{:016x}{:016x}", self.number, self.due.as_nanos() as u64);
        let padding = bytes.saturating_sub(text.len());
        text.extend(std::iter::repeat_n('x', padding));
        text
    }

    /// Finds it in a message: no name of ours has a `#`.
    fn read(payload: &[u8]) -> Option<Self> {
        let at = payload.iter().position(|&byte| byte == b'#')? + 1;
        let number = |at: usize| {
            let digits = std::str::from_utf8(payload.get(at..at + Self::DIGITS)?).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        Some(Self {
            number: number(at)?,
            due: Duration::from_nanos(number(at + Self::DIGITS)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_out_of_its_event() {
        let stamp = Stamp {
            number: 42,
            due: Duration::from_nanos(1_234_567),
        };
        let text = stamp.text(300);
        assert_eq!(text.len(), 300);
        let event = format!(r#"{{"event":"load","channel":"{CHANNEL}","data":"{text}"}}"#);
        assert_eq!(Stamp::read(event.as_bytes()), Some(stamp));
        assert_eq!(Stamp::read(&event.as_bytes()[..70]), None);
        assert_eq!(Stamp::read(b"{}"), None);
    }

    #[test]
    fn a_window_of_one_is_open_when_nothing_is_owed() {
        let mut tally = Tally::new(10);
        for (owed, window, open) in [
            (0, 1, true),
            (1, 1, false),
            (10, 1, false),
            (10, 2, true),
            (11, 2, false),
        ] {
            tally.owed = owed;
            let due = tally.next_due(Pace::Window(window), 10, Duration::ZERO);
            assert_eq!(due.is_some(), open, "{owed} owed, window {window}");
        }
    }
}
