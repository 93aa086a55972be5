//! What everybody else on the server notices while a scenario runs: three probes, a thread and a
//! connection each.
//!
//! `pusher:ping` to its pong, `GET /up` to its answer, and a publish to a channel of three until
//! the last of them has it. Each asks at a fixed interval; what should have been asked while an
//! answer was late counts as late too. The threads ask for precedence over the crowd's, so that
//! they measure the server and not this program. What the target lacks is not asked for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::features::Features;
use crate::latency::Latencies;
use crate::outcome::Outcome;
use crate::sign::Signer;
use crate::target::Target;

/// Parts of a run whose latencies are kept apart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// Nothing is kept.
    Setup,
    Quiet,
    Busy,
    /// The threads end.
    Over,
}

/// Probes that are running.
pub(crate) struct Probes {
    phase: Arc<AtomicUsize>,
    threads: Vec<(&'static str, JoinHandle<io::Result<Found>>)>,
}

/// Asks once and waits for the answer; false if the server was too busy to take the question.
type Ask = Box<dyn FnMut() -> io::Result<bool> + Send>;

/// What one probe found in the quiet phase and in the busy one.
#[derive(Clone, Debug)]
struct Found {
    latencies: [Latencies; 2],
    refused: [u64; 2],
}

const TRIO: &str = "loadtest-trio";
/// A server that is silent for so long has failed the run.
const TIMEOUT: Duration = Duration::from_secs(30);
const PRECEDENCE: i32 = -10;

impl Probes {
    /// Connects them and begins to ask.
    pub(crate) fn start(
        target: &Target,
        features: &Features,
        interval: Duration,
    ) -> io::Result<Self> {
        let phase = Arc::new(AtomicUsize::new(Phase::Setup as usize));
        let mut asks = Vec::new();
        if features.answers_ping {
            asks.push(("ping to pong", ping(target)?));
        }
        if features.has_up && features.keeps_alive {
            asks.push(("GET /up", up(target)?));
        }
        if features.publish.is_ok() && features.keeps_alive {
            asks.push(("channel of three", trio(target)?));
        }
        let mut threads = Vec::new();
        for (name, ask) in asks {
            let phase = Arc::clone(&phase);
            threads.push((
                name,
                thread::Builder::new().spawn(move || ask_on(&phase, interval, ask))?,
            ));
        }
        Ok(Self { phase, threads })
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as usize, Ordering::Relaxed);
    }

    /// Ends the probes and reports what they found; one that got no answer spoils nothing else.
    pub(crate) fn finish(self, outcome: &mut Outcome) {
        self.enter(Phase::Over);
        let mut found = Vec::new();
        for (name, thread) in self.threads {
            let ended = match thread.join() {
                Ok(ended) => ended,
                Err(_) => Err(io::Error::other("it panicked")),
            };
            match ended {
                Ok(one) => found.push((name, one)),
                Err(error) => {
                    outcome
                        .notes
                        .push(format!("The probe {name} ended early: {error}"));
                    outcome.fault("Probes", &format!("{name}: no answer"), 1);
                }
            }
        }
        for (index, group) in ["Probes alone", "Probes beside the load"]
            .into_iter()
            .enumerate()
        {
            for (name, found) in &found {
                outcome.latency(group, name, &found.latencies[index]);
            }
            for (name, found) in found.iter().filter(|(_, found)| found.refused[index] > 0) {
                let refused = found.refused[index] as f64;
                outcome.figure(group, &format!("{name}, refused with 503"), refused, "");
            }
        }
    }
}

/// Asks at each interval until the run is over.
fn ask_on(phase: &AtomicUsize, interval: Duration, mut ask: Ask) -> io::Result<Found> {
    // Without the right to it the figures are only a little worse.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), PRECEDENCE);
    let mut found = Found {
        latencies: [Latencies::new(), Latencies::new()],
        refused: [0; 2],
    };
    loop {
        let before = phase.load(Ordering::Relaxed);
        if before == Phase::Over as usize {
            return Ok(found);
        }
        let asked = Instant::now();
        let taken = ask()?;
        let took = asked.elapsed();
        // What straddles two phases belongs to neither.
        let kept = [Phase::Quiet, Phase::Busy]
            .iter()
            .position(|&kept| kept as usize == before);
        if let Some(index) = kept
            && phase.load(Ordering::Relaxed) == before
        {
            if taken {
                found.latencies[index].add_of_series(took, interval);
            } else {
                found.refused[index] += 1;
            }
        }
        thread::sleep(interval.saturating_sub(took));
    }
}

fn ping(target: &Target) -> io::Result<Ask> {
    let mut client = Client::websocket(target, TIMEOUT)?;
    Ok(Box::new(move || {
        client.send_text(br#"{"event":"pusher:ping","data":{}}"#)?;
        client.await_text(b"pusher:pong")?;
        Ok(true)
    }))
}

fn up(target: &Target) -> io::Result<Ask> {
    let mut client = Client::http(target, TIMEOUT)?;
    let (prefix, host) = (&target.path_prefix, &target.host);
    let request = format!("GET {prefix}/up HTTP/1.1\r\nHost: {host}\r\n\r\n");
    Ok(Box::new(move || {
        client.send(request.as_bytes())?;
        is_taken(client.await_answer()?.0)
    }))
}

fn trio(target: &Target) -> io::Result<Ask> {
    let mut publisher = Client::http(target, TIMEOUT)?;
    let signer = Signer::new(target);
    let mut members = Vec::new();
    for _ in 0..3 {
        let mut member = Client::websocket(target, TIMEOUT)?;
        member.subscribe(TRIO, None, None)?;
        members.push(member);
    }
    Ok(Box::new(move || {
        publisher.send(&signer.publish(TRIO, "hello"))?;
        // The answer comes first; a publish that is refused reaches nobody.
        if !is_taken(publisher.await_answer()?.0)? {
            return Ok(false);
        }
        for member in &mut members {
            member.await_text(b"hello")?;
        }
        Ok(true)
    }))
}

fn is_taken(status: u16) -> io::Result<bool> {
    match status {
        200 => Ok(true),
        503 => Ok(false),
        status => Err(io::Error::other(format!("answered {status}"))),
    }
}
