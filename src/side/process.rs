//! What the kernel says of the process and of its memory, read from `/proc` and the control group
//! when somebody asks.
//!
//! What cannot be read is left out: no metric is worth a failed scrape.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The process at this moment. `None` is unknown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub cpu: Duration,
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub descriptors: Option<u64>,
    pub descriptors_max: Option<u64>,
    pub threads: Option<u64>,
}

/// Memory that the process may use: of the machine, or of its control group where that is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub total_bytes: u64,
    /// What can still be had without swapping; at most the total.
    pub free_bytes: u64,
}

impl Process {
    pub(super) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = read("/proc/self/status");
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            cpu: Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32),
            resident_bytes: field(&status, "VmRSS:").map(kib),
            virtual_bytes: field(&status, "VmSize:").map(kib),
            descriptors: descriptors(),
            descriptors_max: limit.current,
            threads: field(&status, "Threads:"),
        }
    }
}

/// Open descriptors. Since Linux 6.2 that is the length of the directory; before, it is walked,
/// which for a million takes the better part of a second.
fn descriptors() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // The walk opens one itself.
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

impl Memory {
    pub(super) fn now() -> Option<Self> {
        let machine = Self::of_machine(&read("/proc/meminfo"))?;
        let group = group_directory(&read("/proc/self/cgroup")).and_then(|directory| {
            let file = |name: &str| read(Path::new(&directory).join(name));
            Self::of_group(&file("memory.max"), &file("memory.current"))
        });
        let is_less = |group: &Self| group.total_bytes < machine.total_bytes;
        Some(group.filter(is_less).unwrap_or(machine))
    }

    fn of_machine(meminfo: &str) -> Option<Self> {
        let total_bytes = kib(field(meminfo, "MemTotal:")?);
        let free_bytes = kib(field(meminfo, "MemAvailable:")?).min(total_bytes);
        Some(Self {
            total_bytes,
            free_bytes,
        })
    }

    fn of_group(max: &str, current: &str) -> Option<Self> {
        let total_bytes: u64 = max.trim().parse().ok()?;
        let used: u64 = current.trim().parse().ok()?;
        Some(Self {
            total_bytes,
            free_bytes: total_bytes.saturating_sub(used),
        })
    }

    pub(super) fn used_bytes(self) -> u64 {
        self.total_bytes - self.free_bytes
    }

    pub(super) fn percent(self) -> f64 {
        match self.total_bytes {
            0 => 0.0,
            total => self.used_bytes() as f64 * 100.0 / total as f64,
        }
    }
}

/// Where the files of the process's group are (version 2 of control groups).
fn group_directory(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(format!("/sys/fs/cgroup{path}"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number behind a name in a list such as `/proc/meminfo`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kib(kib: u64) -> u64 {
    kib.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peers 13: theirs are wrong by a factor of 1024.
    #[test]
    fn memory_is_in_bytes() {
        let meminfo = "MemTotal:       16316412 kB\nMemFree:          123 kB\n\
                       MemAvailable:    8158206 kB\n";
        let memory = Memory::of_machine(meminfo).expect("it is complete");
        assert_eq!(memory.total_bytes, 16_316_412 * 1024);
        assert_eq!(memory.used_bytes(), 8_158_206 * 1024);
        assert_eq!(memory.percent(), 50.0);
        assert_eq!(Memory::of_machine("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn a_group_without_a_limit_is_none() {
        assert_eq!(Memory::of_group("max\n", "100\n"), None);
        let memory = Memory::of_group("1000\n", "250\n").expect("a limit");
        assert_eq!((memory.free_bytes, memory.percent()), (750, 25.0));
        // More than there may be, for a moment.
        let memory = Memory::of_group("1000\n", "1001\n").expect("a limit");
        assert_eq!((memory.free_bytes, memory.used_bytes()), (0, 1000));
        let directory = group_directory("1:cpu:/x\n0::/system.slice/a.service\n");
        assert_eq!(
            directory.as_deref(),
            Some("/sys/fs/cgroup/system.slice/a.service")
        );
    }

    #[test]
    fn this_process_has_memory_descriptors_and_threads() {
        let process = Process::now();
        assert!(process.resident_bytes > Some(1 << 20));
        assert!(process.descriptors > Some(2) && process.threads > Some(0));
        assert!(process.descriptors <= process.descriptors_max);
        let memory = Memory::now().expect("a machine has memory");
        assert!(memory.total_bytes > process.resident_bytes.unwrap_or(u64::MAX));
    }
}
