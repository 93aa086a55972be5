//! Connections that are subscribed and quiet: what each costs in memory, and what all of them cost
//! in CPU.
//!
//! Memory is the slope between the first level and the last, so that what the server needs without
//! connections is in neither. It is what the process has from the kernel, with all slack of its
//! allocator; sockets are the kernel's.

use std::io;
use std::time::Instant;

use crate::args::{Idle, Run};
use crate::crowd::{Crowd, Happened};
use crate::process::{self, Memory};
use crate::report::Report;
use crate::stop::Stop;

/// Connects, rests, reads.
pub(crate) fn run(run: &Run, idle: &Idle) -> io::Result<Report> {
    let stop = Stop::after(run.time_max)?;
    let channels = (0..idle.channels)
        .map(|n| format!("loadtest-idle-{n}"))
        .collect();
    let mut crowd = Crowd::new(&run.target, channels, run.opening_max)?;
    let mut report = Report::new("idle");
    let mut memories: Vec<(usize, Memory)> = Vec::new();
    for &level in &idle.levels {
        let before = run.pid.map(process::sample).transpose()?;
        let (began, opened) = (Instant::now(), level - crowd.ready());
        crowd.grow(level, &stop)?;
        let took = began.elapsed();
        let group = format!("At {level} connections");
        report.number(
            &group,
            "opened",
            opened as f64 / took.as_secs_f64(),
            "connections/s",
        );
        if let (Some(pid), Some(before)) = (run.pid, before) {
            let used = process::sample(pid)?.since(&before);
            let each = used.cpu.as_secs_f64() * 1e6 / opened as f64;
            report.number(
                &group,
                "server CPU to connect and subscribe",
                each,
                "us each",
            );
        }
        rest(&mut crowd, idle.settle, &stop)?;
        if let Some(pid) = run.pid {
            let memory = process::memory(pid)?;
            report.number(
                &group,
                "server memory, anonymous",
                memory.anonymous as f64 / 1024.0,
                "KiB",
            );
            report.number(
                &group,
                "server memory, resident",
                memory.resident as f64 / 1024.0,
                "KiB",
            );
            memories.push((level, memory));
        }
    }
    if let [(few, first), .., (many, last)] = memories[..] {
        let slope = (last.anonymous as f64 - first.anonymous as f64) / (many - few) as f64;
        report.number(
            "Each connection",
            &format!("server memory, slope {few} to {many}"),
            slope,
            "bytes",
        );
    }
    watch(run, idle, &mut crowd, &stop, &mut report)?;
    Ok(report)
}

/// CPU of the server while nothing is asked of it.
fn watch(
    run: &Run,
    idle: &Idle,
    crowd: &mut Crowd,
    stop: &Stop,
    report: &mut Report,
) -> io::Result<()> {
    let before = run.pid.map(process::sample).transpose()?;
    rest(crowd, idle.rest, stop)?;
    let group = format!("At rest, {} connections", crowd.ready());
    if let (Some(pid), Some(before)) = (run.pid, before) {
        let used = process::sample(pid)?.since(&before);
        let secs = used.wall.as_secs_f64();
        report.number(&group, "server CPU", used.load() * 100.0, "% of a core");
        report.number(
            &group,
            "server context switches",
            used.switches as f64 / secs,
            "/s",
        );
        report.number(&group, "watched", secs, "s");
    }
    let (lost, reason) = crowd.lost();
    report.number(&group, "connections lost", lost as f64, "");
    if let Some(reason) = reason {
        report.text(&group, "last reason", reason);
    }
    Ok(())
}

/// Answers pings and does nothing else.
fn rest(crowd: &mut Crowd, span: std::time::Duration, stop: &Stop) -> io::Result<()> {
    let until = Instant::now() + span;
    while !stop.is_over()
        && let Some(left) = until.checked_duration_since(Instant::now())
    {
        crowd.wait(left, &mut |_: Happened<'_>| {})?;
    }
    Ok(())
}
