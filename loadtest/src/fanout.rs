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
use crate::publisher::Publisher;
use crate::report::Report;
use crate::sequence::{Arrival, Sequence};
use crate::sides::Sides;
use crate::stamp::Stamp;
use crate::stop::Stop;

const CHANNEL: &str = "loadtest-crowd";
/// From the last publish to the last delivery, at most.
const TAIL_MAX: Duration = Duration::from_secs(10);
/// How long the server's closes of stalled subscribers are waited for at the end.
const CLOSES_MAX: Duration = Duration::from_secs(5);
/// Publishes that are sent late in one go, at most: a run far behind still reads.
const BURST_MAX: u64 = 64;

/// What has been counted.
struct Tally {
    start: Instant,
    /// Those that read; stalled ones are numbered behind them.
    subscribers: Vec<Subscriber>,
    /// How many of them are still here.
    live: usize,
    stalled_closed: usize,
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
    crowd.grow(fanout.subscribers + fanout.stalled, &stop)?;
    let probes = Probes::start(&run.target, fanout.probe_interval)?;
    let mut publisher = Publisher::connect(&run.target, CHANNEL)?;
    crowd.watch(&publisher)?;
    let mut tally = Tally::new(fanout.subscribers);

    probes.enter(Phase::Quiet);
    let until = Instant::now() + fanout.quiet;
    while Instant::now() < until && !stop.is_over() {
        tally.step(&mut crowd, &mut publisher, fanout.quiet)?;
    }
    let stalled = fanout.subscribers..fanout.subscribers + fanout.stalled;
    for member in stalled.clone() {
        crowd.stop_reading(member)?;
    }
    probes.enter(Phase::Busy);
    let sides = Sides::sample(run.pid)?;
    tally.start = Instant::now();
    tally.publish_all(fanout, &mut crowd, &mut publisher, &stop)?;
    probes.enter(Phase::Setup);
    tally.await_tail(&mut crowd, &mut publisher, &stop)?;
    let used = sides.used()?;
    for member in stalled {
        crowd.read_again(member)?;
    }
    tally.await_closes(fanout.stalled, &mut crowd, &mut publisher, &stop)?;

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
            live: subscribers,
            stalled_closed: 0,
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
                let due = self.next_due(fanout.pace, elapsed);
                match due {
                    Some(due) if due <= elapsed => self.publish(fanout, publisher, due)?,
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
    fn next_due(&self, pace: Pace, elapsed: Duration) -> Option<Duration> {
        match pace {
            Pace::Rate(rate) => Some(Duration::from_secs_f64(self.published as f64 / rate)),
            Pace::Window(window) => {
                let live = self.live as i64;
                let room = self.owed <= (window as i64 - 1) * live;
                room.then_some(elapsed)
            }
        }
    }

    fn publish(
        &mut self,
        fanout: &Fanout,
        publisher: &mut Publisher,
        due: Duration,
    ) -> io::Result<()> {
        let stamp = Stamp {
            number: self.published,
            due,
        };
        publisher.publish(&stamp.text(fanout.bytes))?;
        self.published += 1;
        self.owed += self.live as i64;
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
            Happened::Lost { member } => self.on_lost(member),
            Happened::Other => publisher_ready = true,
        })?;
        if publisher_ready {
            publisher.flush()?;
            let refused = publisher.take_answers()?;
            self.owed -= refused as i64 * self.live as i64;
        }
        Ok(())
    }

    fn on_lost(&mut self, member: usize) {
        match self.subscribers.get(member) {
            Some(subscriber) => {
                self.live -= 1;
                self.owed -= (self.published - subscriber.got) as i64;
            }
            None => self.stalled_closed += 1,
        }
    }

    fn on_message(&mut self, member: usize, payload: &[u8]) {
        if member >= self.subscribers.len() {
            return;
        }
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

    /// Waits until the server has closed those that did not read.
    fn await_closes(
        &mut self,
        stalled: usize,
        crowd: &mut Crowd,
        publisher: &mut Publisher,
        stop: &Stop,
    ) -> io::Result<()> {
        let until = Instant::now() + CLOSES_MAX;
        while self.stalled_closed < stalled && Instant::now() < until && !stop.is_over() {
            self.step(crowd, publisher, CLOSES_MAX)?;
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
        let closed = self.subscribers.len() - self.live;
        report.number(group, "connections lost", closed as f64, "");
        if fanout.stalled > 0 {
            report.number(group, "stalled subscribers", fanout.stalled as f64, "");
            report.number(group, "of them closed", self.stalled_closed as f64, "");
        }
        let (_, reason) = crowd.lost();
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let due = tally.next_due(Pace::Window(window), Duration::ZERO);
            assert_eq!(due.is_some(), open, "{owed} owed, window {window}");
        }
    }
}
