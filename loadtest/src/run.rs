//! A run: workers are started, told what to do step by step, and asked for what they counted.
//!
//! The first process never touches a connection of the crowd. With one worker that is a thread of
//! this process; with several, or where the descriptor limit asks for several, each is a process.
//! However a run ends, by itself, by Ctrl-C or at its bound of time, what was counted is reported.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::args::Common;
use crate::clock::{self, MILLISECOND, Nanos, SECOND};
use crate::control::{FromWorker, Harvest, Line, Plan, Schedule, Share, ToWorker};
use crate::features::Features;
use crate::figures::{self, Level};
use crate::limits;
use crate::load::Scenario;
use crate::outcome::{MemoryPoint, Outcome};
use crate::probe::{Phase, Probes};
use crate::process;
use crate::progress::Progress;
use crate::stop::Stop;
use crate::target::Target;
use crate::worker;

const TICK: u64 = SECOND;
/// Between the word to begin and the begin: all workers have heard it by then.
const LEAD_TIME: u64 = 100 * MILLISECOND;
/// A worker that says nothing for so long after what is owed was waited for is given up.
const HARVEST_MAX: Duration = Duration::from_secs(10);
/// Beside what a run should take, where no bound is given.
const SPARE: Duration = Duration::from_secs(120);

/// Runs a scenario.
///
/// # Errors
/// The target is not to be reached or not to be loaded, or the machine gives too little.
pub(crate) fn run(common: &Common, scenario: Scenario, command: &str) -> io::Result<Outcome> {
    let targets = common.targets().map_err(io::Error::other)?;
    let mut outcome = Outcome::new(scenario.name(), command);
    outcome.targets = targets.iter().map(|target| target.host.clone()).collect();
    let features = Features::of(&targets[0])?;
    for lacking in features.lacks() {
        outcome.notes.push(format!("The target lacks {lacking}"));
    }
    for &pid in &common.pid {
        let mut ports = targets.iter().map(|target| target.address.port());
        if ports.all(|port| process::listens(pid, port) == Some(false)) {
            outcome.notes.push(format!(
                "Process {pid} does not listen where the target is: its CPU and memory may be \
                 those of something else"
            ));
        }
    }
    if let Some(missing) = missing(&scenario, &features) {
        outcome.notes.push(format!(
            "Nothing was measured: this scenario needs {missing}"
        ));
        return Ok(outcome);
    }
    let (processes, why) = processes(common, &scenario)?;
    outcome.notes.extend(why);
    let stop = Stop::after(common.secs_max.map_or_else(
        || expected(common, &scenario) + SPARE,
        |secs| Duration::from_secs(secs.into()),
    ))?;
    let mut run = Run::start(common, &scenario, &targets, &features, processes, stop)?;
    if !common.quiet {
        outcome.notes.iter().for_each(|note| run.progress.say(note));
    }
    let mut counted = Counted::default();
    if let Err(error) = run.steps(
        common,
        &scenario,
        &targets[0],
        &features,
        &mut outcome,
        &mut counted,
    ) {
        run.fail(error.to_string());
    }
    run.end(common, &mut counted);
    // At its bound before anything was measured: nobody takes that for a run.
    run.has_failed |= run.is_stopped && counted.measured_secs == 0.0 && !run.stop.is_signalled();
    outcome.has_failed = run.has_failed;
    outcome.notes.extend(run.trouble.take());
    outcome.timeline = run.progress.finish();
    figures::add(&scenario, &counted, &mut outcome);
    Ok(outcome)
}

/// What the scenario cannot do without, if the target lacks it.
fn missing(scenario: &Scenario, features: &Features) -> Option<&'static str> {
    let needs_publishes = match scenario {
        Scenario::Publish(_) => true,
        scenario => scenario.publishes_to_subscribers(),
    };
    let kind = match scenario {
        Scenario::Connect(connect) => connect.kind,
        Scenario::Churn(churn) => churn.kind,
        _ => crate::args::Kind::Public,
    };
    let is_chat = matches!(scenario, Scenario::Chat(_) | Scenario::Soak(_));
    if needs_publishes && features.publish.is_err() {
        Some("publishes by HTTP")
    } else if kind == crate::args::Kind::Private && features.private.is_err() {
        Some("private channels")
    } else if (is_chat || kind == crate::args::Kind::Presence) && features.presence.is_err() {
        Some("presence channels")
    } else {
        None
    }
}

/// How many processes, and what there is to say about it.
fn processes(common: &Common, scenario: &Scenario) -> io::Result<(u32, Option<String>)> {
    let limit = limits::raise()?;
    let connections = scenario.connections();
    let needed = limits::processes(connections, limit) as u32;
    match common.processes {
        Some(processes) if processes < needed => Err(io::Error::other(format!(
            "{connections} connections take {needed} processes: the descriptor limit is {limit}"
        ))),
        Some(processes) => Ok((processes, None)),
        None if needed > 250 => Err(io::Error::other(format!(
            "{connections} connections would take {needed} processes: the descriptor limit is {limit}"
        ))),
        None if needed > 1 => Ok((
            needed,
            Some(format!(
                "{needed} processes hold {connections} connections: the descriptor limit is {limit}"
            )),
        )),
        None => Ok((1, None)),
    }
}

/// How long a run should take.
fn expected(common: &Common, scenario: &Scenario) -> Duration {
    let connections = scenario.connections();
    let (settling, connecting) = match scenario {
        Scenario::Connect(connect) => (
            connect.levels.len() as u64 * u64::from(connect.settle_secs),
            connect.rate.map_or(connections / 1_000, |rate| {
                (connections as f64 / rate) as u64
            }),
        ),
        _ => (0, connections / 1_000),
    };
    let probing = match scenario {
        Scenario::Fanout(fanout) if fanout.probes => common.secs / 2,
        _ => 0,
    };
    let secs = common.warmup_secs * 2 + probing + common.secs + common.tail_secs;
    let secs = u64::from(secs) + settling + connecting;
    Duration::from_secs(secs)
}

/// What the steps found beside what workers counted.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) harvest: Harvest,
    /// CPU of each worker in the measured span.
    pub(crate) clients: Vec<process::Used>,
    pub(crate) levels: Vec<Level>,
    /// The server's before the first connection, and after the last event.
    pub(crate) memory: Option<(process::Memory, process::Memory)>,
    /// Of this program, at the end.
    pub(crate) client_memory: process::Memory,
    pub(crate) measured_secs: f64,
}

struct Run {
    workers: Vec<Worker>,
    inbox: Receiver<(usize, io::Result<FromWorker>)>,
    stop: Stop,
    is_stopped: bool,
    /// When the workers were told to stop.
    stopped_at: Option<Nanos>,
    /// It ended early, and nobody had asked for that.
    has_failed: bool,
    /// Workers that have all connections they were asked for, and how many these are.
    ready: usize,
    connections: u64,
    harvests: Vec<Option<Harvest>>,
    progress: Progress,
    trouble: Option<String>,
}

struct Worker {
    line: Line,
    child: Option<Child>,
}

impl Run {
    fn start(
        common: &Common,
        scenario: &Scenario,
        targets: &[Target],
        features: &Features,
        processes: u32,
        stop: Stop,
    ) -> io::Result<Self> {
        let (sender, inbox) = mpsc::channel();
        let mut workers = Vec::new();
        for number in 0..processes {
            let share = Share {
                worker: number,
                of: processes,
            };
            let mut worker = Worker::start(number as usize, processes > 1, sender.clone())?;
            worker.line.tell(&ToWorker::Plan(Box::new(Plan {
                scenario: scenario.clone(),
                targets: targets.to_vec(),
                share,
                run: std::process::id() as u8,
                pids: if share.leads() {
                    common.pid.clone()
                } else {
                    Vec::new()
                },
                opening_max: common.opening_max as usize,
                tick: TICK,
                closes: !features.keeps_alive,
                passes_client_events: features.client_events.is_ok(),
            })))?;
            workers.push(worker);
        }
        Ok(Self {
            harvests: workers.iter().map(|_| None).collect(),
            progress: Progress::new(workers.len(), &common.pid, common.quiet),
            workers,
            inbox,
            stop,
            is_stopped: false,
            stopped_at: None,
            has_failed: false,
            ready: 0,
            connections: 0,
            trouble: None,
        })
    }

    /// Connections, level by level; then the load.
    fn steps(
        &mut self,
        common: &Common,
        scenario: &Scenario,
        target: &Target,
        features: &Features,
        outcome: &mut Outcome,
        counted: &mut Counted,
    ) -> io::Result<()> {
        let memory = || match common.pid.is_empty() {
            true => Ok(None),
            false => process::memory(&common.pid).map(Some),
        };
        let before = memory()?;
        if let Some(memory) = before {
            outcome.memory.push(point(0, memory));
        }
        let levels = match scenario {
            Scenario::Connect(connect) => {
                let mut levels = connect.levels.clone();
                levels.sort_unstable();
                levels.dedup();
                levels
            }
            _ => vec![u32::try_from(scenario.connections()).unwrap_or(u32::MAX)],
        };
        self.progress.enter("connecting");
        for level in levels {
            let cpu = self.server_samples(common)?;
            let (began, before) = (Instant::now(), self.connections);
            (self.ready, self.connections) = (0, 0);
            self.tell_all(&ToWorker::Grow(level.into()));
            self.pump(None, |run| run.ready == run.workers.len())?;
            if self.is_stopped {
                break;
            }
            let secs = began.elapsed().as_secs_f64();
            let used = self.server_used(common, cpu)?;
            if let Scenario::Connect(connect) = scenario {
                self.pump(
                    Some(Duration::from_secs(connect.settle_secs.into())),
                    |_| false,
                )?;
            }
            let now = memory()?;
            if let Some(memory) = now {
                outcome.memory.push(point(self.connections, memory));
            }
            counted.levels.push(Level {
                connections: self.connections,
                opened: self.connections.saturating_sub(before),
                secs,
                server: used,
                memory: now,
            });
        }
        let probes = match scenario {
            Scenario::Fanout(fanout) if fanout.probes && !self.is_stopped => {
                let interval = Duration::from_millis(fanout.probe_ms.into());
                Some(Probes::start(target, features, interval)?)
            }
            _ => None,
        };
        if let Some(probes) = &probes {
            self.progress.enter("probes alone");
            probes.enter(Phase::Quiet);
            self.pump(Some(Duration::from_secs(common.secs.into()) / 2), |_| false)?;
            probes.enter(Phase::Setup);
        }
        if !self.is_stopped {
            counted.measured_secs = self.load(common, probes.as_ref())?;
        }
        if let Some(probes) = probes {
            probes.finish(outcome);
        }
        if let (Some(before), Some(after)) = (before, memory()?) {
            counted.memory = Some((before, after));
        }
        Ok(())
    }

    /// Begins, and waits for the end of the measured span; how long that was, in seconds.
    fn load(&mut self, common: &Common, probes: Option<&Probes>) -> io::Result<f64> {
        let start = clock::now() + LEAD_TIME;
        let from = start + u64::from(common.warmup_secs) * SECOND;
        let until = from + u64::from(common.secs) * SECOND;
        let tail = u64::from(common.tail_secs) * SECOND;
        self.tell_all(&ToWorker::Go(Schedule {
            start,
            from,
            until,
            tail,
        }));
        let span = |until: u64| Duration::from_nanos(until.saturating_sub(clock::now()));
        self.enter("warm-up");
        self.pump(Some(span(from)), Self::is_over)?;
        if let Some(probes) = probes {
            probes.enter(Phase::Busy);
        }
        self.enter("measured");
        self.pump(Some(span(until)), Self::is_over)?;
        if let Some(probes) = probes {
            probes.enter(Phase::Setup);
        }
        self.enter("end");
        // Told to stop, workers measure no longer, and may still wait for what is owed.
        let ended = self.stopped_at.unwrap_or(until).min(until);
        Ok(clock::secs(ended.saturating_sub(from)).max(1e-3))
    }

    /// The next part begins, unless the last has: after an early end nothing is measured.
    fn enter(&mut self, phase: &'static str) {
        if !self.is_stopped {
            self.progress.enter(phase);
        }
    }

    /// Waits for what all workers have, and for their end.
    fn end(&mut self, common: &Common, counted: &mut Counted) {
        let tail = Duration::from_secs(common.tail_secs.into());
        if let Err(error) = self.pump(Some(tail + HARVEST_MAX), Self::is_over) {
            self.fail(error.to_string());
        }
        let mut pids = vec![std::process::id()];
        pids.extend(
            self.workers
                .iter()
                .filter_map(|w| w.child.as_ref().map(Child::id)),
        );
        counted.client_memory = process::memory(&pids).unwrap_or_default();
        for (number, harvest) in self.harvests.iter_mut().enumerate() {
            let Some(harvest) = harvest.take() else {
                let text = format!("worker {number} did not end in time; its figures are missing");
                self.trouble.get_or_insert(text);
                self.has_failed = true;
                continue;
            };
            counted.clients.extend(harvest.client);
            counted.harvest.metered.merge(harvest.metered);
            counted.harvest.servers.extend(harvest.servers);
            for check in harvest.checks {
                let sum = counted.harvest.checks.iter_mut();
                match sum.into_iter().find(|sum| sum.name == check.name) {
                    Some(sum) => sum.count += check.count,
                    None => counted.harvest.checks.push(check),
                }
            }
        }
        for worker in self.workers.drain(..) {
            worker.end();
        }
    }

    fn is_over(&self) -> bool {
        self.harvests.iter().all(Option::is_some)
    }

    /// Takes what workers say until something is so, or for a time.
    fn pump(&mut self, span: Option<Duration>, is_done: impl Fn(&Self) -> bool) -> io::Result<()> {
        let until = span.map(|span| Instant::now() + span);
        loop {
            if is_done(self) {
                return Ok(());
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            if !self.is_stopped
                && let Some(why) = self.stop.why()
            {
                self.stop_early(why);
            }
            // Stopped: there is nothing to wait for but the workers' end.
            if self.is_stopped && self.is_over() {
                return Ok(());
            }
            let most = Duration::from_millis(50);
            match self.inbox.recv_timeout(left.unwrap_or(most).min(most)) {
                Ok((worker, said)) => self.on_said(worker, said),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("all workers are gone"));
                }
            }
        }
    }

    fn on_said(&mut self, worker: usize, said: io::Result<FromWorker>) {
        match said {
            Ok(FromWorker::Ready(connections)) => {
                self.ready += 1;
                self.connections += connections;
            }
            Ok(FromWorker::Tick(number, tick)) => self.progress.on_tick(number, *tick),
            Ok(FromWorker::Settled(settled)) => self.tell(0, &ToWorker::Settled(settled)),
            Ok(FromWorker::Published(accepted)) => self.tell_all(&ToWorker::Expect(accepted)),
            Ok(FromWorker::Done(harvest)) => self.harvests[worker] = Some(*harvest),
            Ok(FromWorker::Failed(reason)) => self.fail(reason),
            Err(_) if self.harvests[worker].is_some() => {}
            Err(error) => {
                self.harvests[worker] = Some(Harvest::default());
                self.fail(format!("worker {worker} is gone: {error}"));
            }
        }
    }

    /// It cannot go on.
    fn fail(&mut self, why: String) {
        self.has_failed = true;
        self.stop_early(why);
    }

    fn stop_early(&mut self, why: String) {
        self.trouble
            .get_or_insert_with(|| format!("The run ended early: {why}"));
        if !std::mem::replace(&mut self.is_stopped, true) {
            self.stopped_at = Some(clock::now());
            self.progress.enter("end");
            self.tell_all(&ToWorker::Stop);
        }
    }

    fn tell_all(&mut self, message: &ToWorker) {
        (0..self.workers.len()).for_each(|worker| self.tell(worker, message));
    }

    /// One that has ended hears nothing; that it has is told by its own words.
    fn tell(&mut self, worker: usize, message: &ToWorker) {
        if self.harvests[worker].is_none() {
            let _ = self.workers[worker].line.tell(message);
        }
    }

    fn server_samples(&self, common: &Common) -> io::Result<Vec<process::Sample>> {
        common.pid.iter().map(|&pid| process::sample(pid)).collect()
    }

    fn server_used(
        &self,
        common: &Common,
        before: Vec<process::Sample>,
    ) -> io::Result<Option<process::Used>> {
        let after = self.server_samples(common)?;
        let used: Vec<process::Used> = after.iter().zip(&before).map(|(a, b)| a.since(b)).collect();
        Ok(process::Used::sum(&used))
    }
}

fn point(connections: u64, memory: process::Memory) -> MemoryPoint {
    MemoryPoint {
        connections,
        anonymous: memory.anonymous,
        resident: memory.resident,
    }
}

impl Worker {
    fn start(
        number: usize,
        is_process: bool,
        said: Sender<(usize, io::Result<FromWorker>)>,
    ) -> io::Result<Self> {
        let (here, there) = UnixStream::pair()?;
        let child = match is_process {
            true => Some(
                Command::new(std::env::current_exe()?)
                    .arg("worker")
                    // Ctrl-C is for the first process alone, also before this one has begun.
                    .process_group(0)
                    .stdin(Stdio::from(OwnedFd::from(there)))
                    .stdout(Stdio::null())
                    .spawn()?,
            ),
            false => {
                let name = thread::Builder::new().name("worker".to_owned());
                name.spawn(move || worker::run(there))?;
                None
            }
        };
        let mut listening = Line::new(here.try_clone()?);
        thread::Builder::new().spawn(move || {
            loop {
                let messages = match listening.wait() {
                    Ok(messages) => messages,
                    Err(error) => return drop(said.send((number, Err(error)))),
                };
                for message in messages {
                    if said.send((number, Ok(message))).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(Self {
            line: Line::new(here),
            child,
        })
    }

    /// A process whose socket ends, ends; one that does not is ended.
    fn end(self) {
        let Self { line, child } = self;
        line.hang_up();
        let Some(mut child) = child else { return };
        for _ in 0..100 {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}
