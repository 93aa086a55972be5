use std::fs;
use std::path::PathBuf;

use super::*;
use crate::config::{self, Host, Sources};

/// A host made of files; they go with it.
struct Made {
    root: PathBuf,
    system: System,
}

impl Made {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root =
            std::env::temp_dir().join(format!("shardcast-doctor-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let system = System::at(root.clone());
        Self { root, system }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn doctor(cores: usize, connections: u64, subscriptions: u64) -> Doctor {
    let loaded = config::load(&Sources {
        file: None,
        env: Vec::new(),
        flags: Vec::new(),
        host: Host {
            cores: (0..cores).collect(),
            descriptors_max: 100_512,
        },
    });
    Doctor::new(Box::new(loaded.unwrap()), Some(connections), subscriptions)
}

/// What is off, or unknown.
fn subjects(examination: &Examination, state: State) -> Vec<&'static str> {
    let found = examination
        .findings
        .iter()
        .filter(|finding| finding.state == state);
    found.map(|finding| finding.subject).collect()
}

const GOOD: [(&str, &str); 13] = [
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "8192\n"),
    ("proc/sys/net/core/netdev_max_backlog", "16384\n"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0\n"),
    ("proc/sys/net/ipv4/tcp_mem", "1000\t200000\t400000\n"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n"),
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/sys/fs/file-max", "2000000\n"),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never\n",
    ),
    (
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    ),
    (
        "proc/meminfo",
        "MemTotal: 9000000 kB\nMemAvailable:  8000000 kB\n",
    ),
    ("sys/class/net/eth0/device/vendor", "x"),
    (
        "sys/class/net/eth0/queues/rx-0/rps_cpus",
        "00000000,00000003\n",
    ),
];

#[test]
fn a_host_that_is_set_up_has_nothing_in_the_way() {
    let made = Made::new("good", &GOOD);
    let examination = doctor(2, 100_000, 1).examine(&made.system);
    assert!(examination.is_fine(), "{examination}");
    assert_eq!(subjects(&examination, State::Unknown), [""; 0]);
    assert!(
        examination
            .to_string()
            .ends_with("Nothing is in the way.\n")
    );
}

#[test]
fn each_thing_that_is_off_is_named() {
    for (path, text, subject) in [
        ("proc/sys/net/core/somaxconn", "128", "net.core.somaxconn"),
        (
            "proc/sys/net/core/netdev_max_backlog",
            "1000",
            "net.core.netdev_max_backlog",
        ),
        (
            "proc/sys/net/ipv4/tcp_slow_start_after_idle",
            "1",
            "net.ipv4.tcp_slow_start_after_idle",
        ),
        ("proc/sys/net/ipv4/tcp_mem", "1 2 3", "net.ipv4.tcp_mem"),
        (
            "proc/sys/net/netfilter/nf_conntrack_max",
            "65536",
            "net.netfilter.nf_conntrack_max",
        ),
        ("proc/sys/fs/nr_open", "65536", "fs.nr_open"),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise",
            "transparent huge pages",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
            "clock source",
        ),
        (
            "proc/meminfo",
            "MemAvailable: 1000 kB",
            "memory that is free or can be freed",
        ),
        (
            "sys/fs/cgroup/memory.max",
            "1000000",
            "memory that is free or can be freed",
        ),
        (
            "sys/fs/cgroup/cpu.max",
            "50000 100000",
            "CPU quota of this group",
        ),
        (
            "sys/class/net/eth0/queues/rx-0/rps_cpus",
            "0",
            "receive queues",
        ),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "powersave",
            "CPU frequency governor",
        ),
    ] {
        let mut files: Vec<_> = GOOD
            .into_iter()
            .filter(|(other, _)| *other != path)
            .collect();
        files.push((path, text));
        let made = Made::new(&subject.replace(' ', "-"), &files);
        let examination = doctor(2, 100_000, 1).examine(&made.system);
        assert_eq!(
            subjects(&examination, State::Off),
            [subject],
            "{examination}"
        );
    }
}

#[test]
fn what_a_host_does_not_say_is_unknown_and_not_off() {
    let made = Made::new("silent", &[]);
    let examination = doctor(1, 1_000, 1).examine(&made.system);
    assert!(examination.is_fine(), "{examination}");
    assert!(subjects(&examination, State::Unknown).len() > 5);
}

#[test]
fn more_connections_than_descriptors_are_off() {
    let made = Made::new("many", &GOOD);
    let examination = doctor(2, 100_001, 1).examine(&made.system);
    assert_eq!(
        subjects(&examination, State::Off),
        ["descriptors of this process"]
    );
    assert!(examination.to_string().contains("LimitNOFILE=100513"));
}

/// The table of decisions, section 7: one million connections, five channels each.
#[test]
fn the_estimate_is_that_of_the_tables() {
    let estimate = |subscriptions| {
        let made = Made::new(&format!("estimate-{subscriptions}"), &GOOD);
        doctor(4, 1_000_000, subscriptions)
            .examine(&made.system)
            .to_string()
    };
    let text = estimate(5);
    for line in [
        "the process, channels shared by many    701 MiB",
        "the process, each channel for one alone 1.69 GiB",
        "the kernel, beside either               3.45 GiB",
    ] {
        assert!(text.contains(line), "{text}");
    }
    // Sums of hostile numbers end at the largest, not in a panic.
    let made = Made::new("largest", &GOOD);
    let examination = doctor(1, u64::MAX, u64::MAX).examine(&made.system);
    assert!(!examination.is_fine());
}
