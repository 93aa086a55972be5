//! What `/proc` tells of a process: CPU, memory, context switches.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What a process has used up to one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    at: Instant,
    /// Of each thread that still lives, from the scheduler's own clock: on a CPU, and ready to run
    /// while the CPU was with somebody else.
    threads: HashMap<u32, [Duration; 2]>,
    /// In units of 1/100 s, of which the kernel guesses how they divide.
    user_ticks: u64,
    system_ticks: u64,
    switches: u64,
}

/// What a process used between two moments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Of the thread that had least rest: on a CPU, or waiting for one.
    pub(crate) busiest: Duration,
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

    /// Several processes, or several threads, as if they were one.
    pub(crate) fn sum(all: &[Self]) -> Option<Self> {
        let mut sum = *all.first()?;
        for one in &all[1..] {
            let user =
                sum.user_share * sum.cpu.as_secs_f64() + one.user_share * one.cpu.as_secs_f64();
            sum.wall = sum.wall.max(one.wall);
            sum.cpu += one.cpu;
            sum.busiest = sum.busiest.max(one.busiest);
            sum.delayed += one.delayed;
            sum.switches += one.switches;
            sum.user_share = user / sum.cpu.as_secs_f64().max(1e-9);
        }
        Some(sum)
    }
}

/// Samples this process or another.
pub(crate) fn sample(pid: u32) -> io::Result<Sample> {
    let sampled = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
        let threads = threads.filter_map(|thread| thread.ok()?.file_name().to_str()?.parse().ok());
        let threads: Vec<u32> = threads.collect();
        sample_threads(Path::new(&format!("/proc/{pid}")), &threads)
    };
    sampled().map_err(|error| of_process(pid, &error))
}

fn of_process(pid: u32, error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::NotFound => "there is none of that number (any more)".to_owned(),
        _ => error.to_string(),
    };
    io::Error::other(format!("process {pid}: {text}"))
}

/// Samples the calling thread alone.
pub(crate) fn sample_thread() -> io::Result<Sample> {
    let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    sample_threads(Path::new(&format!("/proc/self/task/{thread}")), &[thread])
}

/// `whole` has the times in user mode and in the kernel; its tasks the rest.
fn sample_threads(whole: &Path, tasks: &[u32]) -> io::Result<Sample> {
    let at = Instant::now();
    let (mut threads, mut switches) = (HashMap::new(), 0);
    for &task in tasks {
        let path = match whole.join("task").exists() {
            true => whole.join(format!("task/{task}")),
            false => whole.to_owned(),
        };
        // A thread may end while we look.
        let Ok(schedstat) = fs::read_to_string(path.join("schedstat")) else {
            continue;
        };
        let mut nanos = schedstat
            .split(' ')
            .map(|n| Duration::from_nanos(n.parse().unwrap_or(0)));
        let both = [(); 2].map(|()| nanos.next().unwrap_or_default());
        threads.insert(task, both);
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        switches += field(&status, "voluntary_ctxt_switches")
            + field(&status, "nonvoluntary_ctxt_switches");
    }
    let stat = fs::read_to_string(whole.join("stat"))?;
    // Behind the name, which may hold anything: state is field 3, utime field 14.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |field: usize| {
        rest.split_whitespace()
            .nth(field - 3)
            .and_then(|t| t.parse().ok())
            .unwrap_or(0)
    };
    Ok(Sample {
        at,
        threads,
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
        // Threads that have ended are in the ticks alone, which are two short or long at most.
        let ticks = Duration::from_millis(10) * u32::try_from(user + system).unwrap_or(u32::MAX);
        let each = self.threads.iter().map(|(thread, now)| {
            let before = earlier.threads.get(thread).copied().unwrap_or_default();
            [0, 1].map(|n| now[n].saturating_sub(before[n]))
        });
        Used {
            wall: self.at - earlier.at,
            cpu: match each.clone().map(|[cpu, _]| cpu).sum() {
                living if ticks > living + Duration::from_millis(20) => ticks,
                living => living,
            },
            busiest: each
                .clone()
                .map(|[cpu, delayed]| cpu + delayed)
                .max()
                .unwrap_or_default(),
            delayed: each.map(|[_, delayed]| delayed).sum(),
            switches: self.switches.saturating_sub(earlier.switches),
            user_share: user as f64 / (user + system).max(1) as f64,
        }
    }
}

/// Whether a process listens on a port; `None` if this process may not know.
pub(crate) fn listens(pid: u32, port: u16) -> Option<bool> {
    let sockets: HashSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|fd| {
            let link = fs::read_link(fd.ok()?.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let table = |name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let is_it = |line: &str| {
        // Number, local address, other address, state, .., inode.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, local, _, "0A", _, _, _, _, _, inode, ..] = &fields[..] else {
            return false;
        };
        let is_port = local.rsplit(':').next() == Some(&format!("{port:04X}"));
        is_port && sockets.contains(inode)
    };
    Some(
        ["tcp", "tcp6"]
            .map(table)
            .iter()
            .any(|table| table.lines().any(is_it)),
    )
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) resident: u64,
    /// What belongs to no file: heap and stacks.
    pub(crate) anonymous: u64,
    /// What the kernel keeps in its tables for the whole machine: sockets, files, timers, requests
    /// of rings.
    pub(crate) slab: u64,
}

/// Reads the memory of processes of this user, together, and the kernel's.
pub(crate) fn memory(pids: &[u32]) -> io::Result<Memory> {
    let mut sum = Memory::default();
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let rollup = rollup.map_err(|error| of_process(*pid, &error))?;
        sum.resident += field(&rollup, "Rss") << 10;
        sum.anonymous += field(&rollup, "Anonymous") << 10;
    }
    sum.slab = field(&fs::read_to_string("/proc/meminfo")?, "Slab") << 10;
    Ok(sum)
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
    fn this_process_and_thread_use_memory_and_cpu() {
        let pid = std::process::id();
        let (process, thread) = (sample(pid).unwrap(), sample_thread().unwrap());
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(30) {}
        let process = sample(pid).unwrap().since(&process);
        let thread = sample_thread().unwrap().since(&thread);
        for used in [process, thread] {
            assert!(
                used.cpu > Duration::ZERO && used.wall >= Duration::from_millis(30),
                "{used:?}"
            );
            assert!(used.busiest <= used.cpu + used.delayed, "{used:?}");
        }
        assert_eq!(thread.busiest, thread.cpu + thread.delayed);
        let memory = memory(&[pid]).unwrap();
        assert!(
            memory.anonymous > 0 && memory.anonymous <= memory.resident,
            "{memory:?}"
        );
    }

    /// A server with a thread for each task would be cheap otherwise.
    #[test]
    fn threads_that_have_ended_have_used_cpu() {
        let before = sample(std::process::id()).unwrap();
        let busy = || {
            let began = sample_thread().unwrap();
            while sample_thread().unwrap().since(&began).cpu < Duration::from_millis(100) {}
        };
        std::thread::spawn(busy).join().unwrap();
        let used = sample(std::process::id()).unwrap().since(&before);
        assert!(used.cpu >= Duration::from_millis(80), "{used:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = sample(u32::MAX).unwrap_err().to_string();
        assert_eq!(
            error,
            "process 4294967295: there is none of that number (any more)"
        );
        assert_eq!(memory(&[u32::MAX]).unwrap_err().to_string(), error);
    }

    #[test]
    fn a_process_is_known_by_the_port_that_it_listens_on() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else {
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            assert_eq!(listens(std::process::id(), port), Some(true), "{address}");
            drop(listener);
            assert_eq!(listens(std::process::id(), port), Some(false), "{address}");
        }
        assert_eq!(listens(u32::MAX, 80), None);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\nRss:    12 kB\n";
        assert_eq!(field(text, "voluntary_ctxt_switches"), 7);
        assert_eq!(field(text, "nonvoluntary_ctxt_switches"), 3);
        assert_eq!(field(text, "Rss"), 12);
        assert_eq!(field(text, "Pss"), 0);
    }

    #[test]
    fn several_processes_are_summed() {
        let one = |cpu: u64, user_share: f64| Used {
            wall: Duration::from_secs(10),
            cpu: Duration::from_secs(cpu),
            busiest: Duration::from_secs(cpu),
            user_share,
            ..Used::default()
        };
        let sum = Used::sum(&[one(6, 0.5), one(2, 0.1)]).unwrap();
        assert_eq!((sum.load(), sum.busiest.as_secs()), (0.8, 6));
        assert!((sum.user_share - 0.4).abs() < 1e-9);
        assert!(Used::sum(&[]).is_none());
    }
}
