//! A worker: one thread with its share of the connections and of the work.
//!
//! It does what the first process says, in this order: open connections, begin, end, wait until
//! what is owed has come, hand over what was counted. Its CPU, and the servers', are sampled by
//! itself when the measured span begins and ends, so that they belong to what it counted.

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::clock::{self, NEVER, Nanos};
use crate::control::{FromWorker, Harvest, Line, Plan, Schedule, ToWorker};
use crate::crowd::Crowd;
use crate::load::{Load, Scenario};
use crate::meter::{Count, Meter};
use crate::process::{self, Sample};

/// Connections that may fail while connecting, before the run is given up, beside one in a hundred.
const FAILURES_MAX: u64 = 100;

/// Runs until all is done or the other end of the line is gone.
pub(crate) fn run(stream: UnixStream) {
    let mut line = Line::new(stream);
    if let Err(error) = Worker::start(&mut line).and_then(|worker| worker.run(&mut line)) {
        // If the other end is gone, nobody needs to know.
        let _ = line.tell(&FromWorker::Failed(error.to_string()));
    }
}

/// A worker that is a process of its own: its standard input is the socket.
pub(crate) fn run_as_process() -> io::Result<()> {
    use std::os::fd::AsFd;
    // The first process tells the others when to end, whoever is told by a signal.
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, std::sync::Arc::default())?;
    }
    crate::limits::raise()?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    run(UnixStream::from(socket));
    Ok(())
}

struct Worker {
    plan: Plan,
    crowd: Crowd,
    loads: Vec<Box<dyn Load>>,
    /// The number of connections that was asked for last, until they are there.
    growing: Option<u64>,
    schedule: Option<Schedule>,
    next_tick: Nanos,
    started: Option<Sampled>,
    harvest: Harvest,
    is_expecting: bool,
    is_told_to_stop: bool,
}

/// Both sides when the measured span began.
struct Sampled {
    client: Sample,
    /// Nothing if one of them is gone: figures of some would pass for those of all.
    servers: Vec<Sample>,
}

impl Sampled {
    fn take(pids: &[u32]) -> io::Result<Self> {
        let servers = pids.iter().map(|&pid| process::sample(pid));
        Ok(Self {
            servers: servers.collect::<io::Result<_>>().unwrap_or_default(),
            client: process::sample_thread()?,
        })
    }
}

impl Worker {
    fn start(line: &mut Line) -> io::Result<Self> {
        let mut messages = line.wait::<ToWorker>()?.into_iter();
        let Some(ToWorker::Plan(plan)) = messages.next() else {
            return Err(io::Error::other("a worker is told its plan first"));
        };
        let meter = Meter::new(plan.scenario.shown());
        let mut crowd = Crowd::new(&plan, meter)?;
        crowd.watch_control(&*line)?;
        crowd.meter.now = clock::now();
        let mut worker = Self {
            loads: Scenario::loads(&plan),
            next_tick: (crowd.meter.now / plan.tick + 1) * plan.tick,
            plan: *plan,
            crowd,
            growing: None,
            schedule: None,
            started: None,
            harvest: Harvest::default(),
            is_expecting: false,
            is_told_to_stop: false,
        };
        messages.for_each(|message| worker.on_message(message));
        Ok(worker)
    }

    fn run(mut self, line: &mut Line) -> io::Result<()> {
        while !self.is_done() {
            let mut next = self.next_tick.min(self.next_sample());
            for load in &mut self.loads {
                next = next.min(load.act(&mut self.crowd));
            }
            if self.crowd.wait(next, &mut self.loads)? {
                for message in line.take()? {
                    self.on_message(message);
                }
            }
            self.sample()?;
            self.tell(line)?;
        }
        self.crowd.meter.now = clock::now();
        for load in &mut self.loads {
            load.give_up(&mut self.crowd);
            load.harvest(&mut self.harvest);
        }
        self.harvest.metered = self.crowd.meter.finish();
        line.tell(&FromWorker::Done(Box::new(self.harvest)))
    }

    fn on_message(&mut self, message: ToWorker) {
        match message {
            ToWorker::Plan(_) => {}
            ToWorker::Grow(level) => {
                self.growing = Some(level);
                self.loads
                    .iter_mut()
                    .for_each(|load| load.grow(&mut self.crowd, level));
            }
            ToWorker::Go(schedule) => self.begin(schedule),
            ToWorker::Settled(settled) => {
                self.loads
                    .iter_mut()
                    .for_each(|load| load.on_settled(&settled));
            }
            ToWorker::Expect(accepted) => {
                self.is_expecting = true;
                self.loads
                    .iter_mut()
                    .for_each(|load| load.expect(&accepted));
            }
            ToWorker::Stop => self.stop(),
        }
    }

    fn begin(&mut self, schedule: Schedule) {
        self.crowd.meter.measure(schedule.from, schedule.until);
        self.loads
            .iter_mut()
            .for_each(|load| load.begin(&mut self.crowd, schedule));
        self.schedule = Some(schedule);
    }

    /// The end is now, whatever the schedule says.
    fn stop(&mut self) {
        self.is_told_to_stop = true;
        let now = self.crowd.meter.now;
        if let Some(schedule) = self.schedule.filter(|schedule| now < schedule.until) {
            self.begin(Schedule {
                until: now,
                ..schedule
            });
        }
    }

    /// When the measured span begins or ends next.
    fn next_sample(&self) -> Nanos {
        match (&self.schedule, &self.started, &self.harvest.client) {
            (Some(schedule), None, _) if schedule.from < schedule.until => schedule.from,
            (Some(schedule), Some(_), None) => schedule.until,
            _ => NEVER,
        }
    }

    fn sample(&mut self) -> io::Result<()> {
        // The end may have come before the measured span, and then there is none.
        let Some(schedule) = self.schedule.filter(|s| s.from < s.until) else {
            return Ok(());
        };
        let now = self.crowd.meter.now;
        if self.started.is_none() && now >= schedule.from {
            self.started = Some(Sampled::take(&self.plan.pids)?);
        }
        if let Some(started) = &self.started
            && self.harvest.client.is_none()
            && now >= schedule.until
        {
            let ended = Sampled::take(&self.plan.pids)?;
            self.harvest.client = Some(ended.client.since(&started.client));
            let servers = started.servers.iter().zip(&ended.servers);
            self.harvest.servers = servers.map(|(before, after)| after.since(before)).collect();
        }
        Ok(())
    }

    fn tell(&mut self, line: &mut Line) -> io::Result<()> {
        for load in &mut self.loads {
            if let Some(settled) = load.take_settled() {
                line.tell(&FromWorker::Settled(settled))?;
            }
            if let Some(accepted) = load.take_published() {
                line.tell(&FromWorker::Published(accepted))?;
            }
        }
        if let Some(level) = self.growing {
            let allowed = FAILURES_MAX + level / 100;
            if self.loads.iter().all(|load| load.is_ready()) {
                self.growing = None;
                line.tell(&FromWorker::Ready(self.crowd.connections()))?;
            } else if self.crowd.meter.total(Count::Failed) + self.crowd.meter.total(Count::Ended)
                > allowed
            {
                self.growing = None;
                let reason = self
                    .crowd
                    .meter
                    .main_reason()
                    .unwrap_or("no reason is known");
                let text = format!(
                    "{} connections stand and more do not come to stand: {reason}",
                    self.crowd.connections()
                );
                line.tell(&FromWorker::Failed(text))?;
            }
        }
        let now = self.crowd.meter.now;
        if now >= self.next_tick {
            self.crowd.expire();
            let tick = self.crowd.meter.take_tick(self.crowd.connections());
            let number = self.next_tick / self.plan.tick;
            line.tell(&FromWorker::Tick(number, Box::new(tick)))?;
            self.next_tick = (now / self.plan.tick + 1) * self.plan.tick;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let Some(schedule) = self.schedule else {
            return self.is_told_to_stop;
        };
        let now = self.crowd.meter.now;
        if now < schedule.until {
            return false;
        }
        let is_expecting = self.is_expecting || !self.plan.scenario.publishes_to_subscribers();
        let is_settled = self.loads.iter().all(|load| load.is_settled(&self.crowd));
        (is_expecting && is_settled) || now >= schedule.until + schedule.tail
    }
}
