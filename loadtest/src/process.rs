//! What `/proc` tells of a process: CPU, memory, context switches.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// What a process has used up to one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at: Instant,
    /// On a CPU, of all threads that still live; from the scheduler's own clock.
    cpu: Duration,
    /// Ready to run, while the CPU was with somebody else.
    delayed: Duration,
    /// In units of 1/100 s, of which the kernel guesses how they divide.
    user_ticks: u64,
    system_ticks: u64,
    switches: u64,
}

/// What a process used between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Ready to run, while the CPU was with somebody else: what disturbed the run.
    pub(crate) delayed: Duration,
    pub(crate) switches: u64,
    /// Share of CPU time in user mode, 0 to 1.
    pub(crate) user_share: f64,
}

impl Used {
    /// CPU time of a second, 1 for one core.
    pub(crate) fn load(&self) -> f64 {
        self.share(self.cpu)
    }

    /// A span as a share of the time between the two moments.
    pub(crate) fn share(&self, span: Duration) -> f64 {
        span.as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }
}

/// Samples this process or another.
pub(crate) fn sample(pid: u32) -> io::Result<Sample> {
    let (mut cpu, mut delayed, mut switches) = (Duration::ZERO, Duration::ZERO, 0);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        // A thread may end while we look.
        let Ok(schedstat) = fs::read_to_string(path.join("schedstat")) else {
            continue;
        };
        let mut nanos = schedstat
            .split(' ')
            .map(|n| Duration::from_nanos(n.parse().unwrap_or(0)));
        cpu += nanos.next().unwrap_or_default();
        delayed += nanos.next().unwrap_or_default();
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        switches += field(&status, "voluntary_ctxt_switches")
            + field(&status, "nonvoluntary_ctxt_switches");
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything: state is field 3, utime field 14.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |field: usize| {
        rest.split_whitespace()
            .nth(field - 3)
            .and_then(|t| t.parse().ok())
            .unwrap_or(0)
    };
    Ok(Sample {
        at: Instant::now(),
        cpu,
        delayed,
        user_ticks: ticks(14),
        system_ticks: ticks(15),
        switches,
    })
}

impl Sample {
    /// What was used from the earlier sample to this one.
    pub(crate) fn since(&self, earlier: &Self) -> Used {
        let user = self.user_ticks.saturating_sub(earlier.user_ticks);
        let system = self.system_ticks.saturating_sub(earlier.system_ticks);
        Used {
            wall: self.at - earlier.at,
            cpu: self.cpu.saturating_sub(earlier.cpu),
            delayed: self.delayed.saturating_sub(earlier.delayed),
            switches: self.switches.saturating_sub(earlier.switches),
            user_share: user as f64 / (user + system).max(1) as f64,
        }
    }
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) resident: u64,
    /// What belongs to no file: heap and stacks.
    pub(crate) anonymous: u64,
}

/// Reads the memory of a process of this user.
pub(crate) fn memory(pid: u32) -> io::Result<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(Memory {
        resident: field(&rollup, "Rss") << 10,
        anonymous: field(&rollup, "Anonymous") << 10,
    })
}

/// The number behind `name:` at the start of a line; 0 without it.
fn field(text: &str, name: &str) -> u64 {
    let value = |line: &str| {
        line.strip_prefix(name)?
            .strip_prefix(':')?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    text.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_cpu() {
        let pid = std::process::id();
        let before = sample(pid).unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(30) {}
        let used = sample(pid).unwrap().since(&before);
        assert!(
            used.cpu > Duration::ZERO && used.wall >= Duration::from_millis(30),
            "{used:?}"
        );
        let memory = memory(pid).unwrap();
        assert!(
            memory.anonymous > 0 && memory.anonymous <= memory.resident,
            "{memory:?}"
        );
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\nRss:    12 kB\n";
        assert_eq!(field(text, "voluntary_ctxt_switches"), 7);
        assert_eq!(field(text, "nonvoluntary_ctxt_switches"), 3);
        assert_eq!(field(text, "Rss"), 12);
        assert_eq!(field(text, "Pss"), 0);
    }
}
