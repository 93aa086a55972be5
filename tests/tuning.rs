//! The scripts and the unit of `tuning/`: on hosts made of files, and as the tools that read them do.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::server::{run, temporary_directory};

/// A host made of files; it goes with the test.
struct Made(PathBuf);

impl Made {
    fn new(files: &[(&str, &str)]) -> Self {
        let made = Self(temporary_directory());
        files.iter().for_each(|(path, text)| made.write(path, text));
        made
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap()
    }

    /// Exit code, standard output, standard error.
    fn check(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = script("check");
        run(command.args(arguments).env("CHECK_ROOT", &self.0))
    }

    fn irq(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = script("irq");
        run(command.args(arguments).env("IRQ_ROOT", &self.0))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tuning(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tuning")
        .join(name)
}

fn script(name: &str) -> Command {
    Command::new(tuning(name))
}

const SET_UP: [(&str, &str); 10] = [
    ("proc/sys/kernel/io_uring_disabled", "0"),
    ("proc/sys/net/core/somaxconn", "4096"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "8192"),
    ("proc/sys/net/core/netdev_max_backlog", "16384"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"),
    ("proc/sys/net/ipv4/tcp_mem", "1000\t200000\t400000"),
    ("proc/sys/fs/nr_open", "1048576"),
    ("proc/sys/fs/file-max", "2000000"),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never",
    ),
    ("proc/meminfo", "MemAvailable:  8000000 kB\n"),
];

/// Subjects of lines that begin so.
fn subjects<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(word));
    lines
        .map(|line| line.get(..40).unwrap_or(line).trim())
        .collect()
}

#[test]
fn check_finds_what_is_off_and_nothing_else() {
    let made = Made::new(&SET_UP);
    let (_, said, _) = made.check(&["100", "2"]);
    // It runs on the host of the test, whose daemons are not those of the files.
    let mut off = subjects(&said, "OFF ");
    off.retain(|subject| *subject != "irqbalance");
    assert_eq!(off, [""; 0], "{said}");
    for (path, text, subject) in [
        ("proc/sys/net/core/somaxconn", "128", "net.core.somaxconn"),
        (
            "proc/sys/net/ipv4/tcp_mem",
            "1 2 3",
            "net.ipv4.tcp_mem, pages under pressure",
        ),
        (
            "sys/fs/cgroup/cpu.max",
            "50000 100000",
            "CPU quota of this group",
        ),
        // 100 connections at rest take 423 KiB.
        ("sys/fs/cgroup/memory.max", "400000", "memory, KiB"),
        ("proc/meminfo", "MemAvailable: 300 kB", "memory, KiB"),
    ] {
        let made = Made::new(&SET_UP);
        made.write(path, text);
        let (code, said, _) = made.check(&["100", "2"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            subjects(&said, "OFF ").contains(&subject),
            "{subject}: {said}"
        );
    }
    let made = Made::new(&SET_UP);
    made.write("sys/fs/cgroup/memory.max", "max\n");
    let (_, said, _) = made.check(&["100", "2"]);
    assert!(subjects(&said, "ok  ").contains(&"memory, KiB"), "{said}");
}

/// The shell would take words for names of variables, and count with what is in them.
#[test]
fn check_counts_with_numbers_alone() {
    let made = Made::new(&SET_UP);
    for arguments in [
        &["abc"][..],
        &["10", "abc"],
        &["-1"],
        &["0"],
        &["010"],
        &["1e6"],
        &["9999999999999"],
        &["a[$(echo made >&2)]"],
        &["10", "2", "3"],
    ] {
        let (code, said, told) = made.check(arguments);
        assert_eq!(
            (code, said.as_str()),
            (Some(2), ""),
            "{arguments:?}: {told}"
        );
        assert!(
            told.contains("tuning/check [CONNECTIONS] [WORKERS]"),
            "{told}"
        );
        assert!(
            !told.contains("set -e") && !told.contains("made\n"),
            "{told}"
        );
    }
}

/// Two queues on a virtio device, whose interrupts are those of the PCI device below it.
fn virtio() -> Made {
    let made = Made::new(&[
        ("sys/devices/pci0/04.0/msi_irqs/24", "msix"),
        ("sys/devices/pci0/04.0/msi_irqs/25", "msix"),
        ("sys/devices/pci0/04.0/virtio1/device", "1"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
        ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
        ("proc/irq/24/smp_affinity_list", "0-7\n"),
        ("proc/irq/25/smp_affinity_list", "0-7\n"),
        ("proc/interrupts", " 24: 0 PCI-MSIX virtio1-input.0\n"),
    ]);
    let device = made.0.join("sys/class/net/eth0/device");
    symlink("../../../devices/pci0/04.0/virtio1", device).unwrap();
    made
}

#[test]
fn irq_places_the_interrupts_of_a_virtio_device_and_says_how_to_undo_it() {
    let made = virtio();
    let (code, said, told) = made.irq(&["show", "eth0"]);
    assert_eq!((code, told.as_str()), (Some(0), ""), "{said}");
    assert_eq!(
        said,
        "interrupt 24 on CPU 0-7\ninterrupt 25 on CPU 0-7\nrx-0 spread over 0\nrx-1 spread over 0\n"
    );
    let (code, undo, told) = made.irq(&["set", "eth0", "1,34-35"]);
    assert_eq!((code, told.as_str()), (Some(0), ""), "{undo}");
    assert_eq!(made.read("proc/irq/24/smp_affinity_list"), "1\n");
    assert_eq!(made.read("proc/irq/25/smp_affinity_list"), "34\n");
    // Fewer queues than CPUs: packets are spread over all three, in groups of 32 bits.
    assert_eq!(
        made.read("sys/class/net/eth0/queues/rx-0/rps_cpus"),
        "0000000c,00000002\n"
    );
    let (code, ..) = run(Command::new("bash").args(["-c", &undo]));
    assert_eq!(code, Some(0), "{undo}");
    assert_eq!(made.read("proc/irq/25/smp_affinity_list"), "0-7\n");
    assert_eq!(made.read("sys/class/net/eth0/queues/rx-1/rps_cpus"), "0\n");
}

#[test]
fn irq_knows_interrupts_by_the_whole_name() {
    let made = Made::new(&[
        ("sys/class/net/eth1/queues/rx-0/rps_cpus", "0\n"),
        ("proc/irq/30/smp_affinity_list", "0\n"),
        ("proc/irq/31/smp_affinity_list", "0\n"),
        ("proc/irq/32/smp_affinity_list", "0\n"),
        (
            "proc/interrupts",
            "       CPU0\n 30: 5 xen-dyn eth1\n 31: 6 xen-dyn eth1-q0-rx\n 32: 7 xen-dyn eth10\n",
        ),
    ]);
    let (code, said, told) = made.irq(&["show", "eth1"]);
    assert_eq!((code, told.as_str()), (Some(0), ""), "{said}");
    assert!(
        said.contains("interrupt 30") && said.contains("interrupt 31"),
        "{said}"
    );
    assert!(
        !said.contains("interrupt 32"),
        "of another interface: {said}"
    );
}

#[test]
fn irq_says_what_it_could_not_do() {
    let made = virtio();
    fs::remove_dir_all(made.0.join("proc/irq/25")).unwrap();
    let (code, undo, told) = made.irq(&["set", "eth0", "0-1"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("irq/25/smp_affinity_list does not take 1"),
        "{told}"
    );
    assert_eq!(undo.lines().count(), 1, "the other one was placed: {undo}");
    for arguments in [
        &[][..],
        &["show"],
        &["show", "../eth0"],
        &["set", "eth0"],
        &["set", "eth0", "3-1"],
        &["set", "eth0", "x"],
        &["move", "eth0"],
    ] {
        let (code, said, told) = made.irq(arguments);
        assert_eq!(
            (code, said.as_str()),
            (Some(2), ""),
            "{arguments:?}: {told}"
        );
        assert!(!told.contains("set -e"), "{told}");
    }
    let (code, _, told) = made.irq(&["show", "eth7"]);
    assert_eq!(
        (code, told.as_str()),
        (Some(1), "there is no interface eth7\n")
    );
}

/// Each with its reason and its effect, and `check` looks at it.
#[test]
fn every_setting_of_the_kernel_is_accounted_for() {
    let [settings, readme, check] =
        ["sysctl.conf", "README.md", "check"].map(|name| fs::read_to_string(tuning(name)).unwrap());
    let mut count = 0;
    for line in settings.lines() {
        let line = line.trim_start_matches(['#', '-']);
        let Some((name, value)) = line.split_once(" = ") else {
            continue;
        };
        let name = name.trim();
        let row = readme
            .lines()
            .find(|row| row.starts_with("| ") && row.contains(name));
        let row: Vec<&str> = row.unwrap_or_else(|| panic!("{name}")).split('|').collect();
        assert!(row[2].contains(value), "{name} = {value}: {row:?}");
        assert!(row[3].len() > 30 && row[4].len() > 30, "{name}: {row:?}");
        assert!(check.contains(name), "{name}");
        count += 1;
    }
    assert_eq!(count, 8, "{settings}");
}

/// A credential is a copy of when the service started: a reload would read the old file.
#[test]
fn the_unit_reads_the_file_that_people_edit_and_can_be_reloaded() {
    let unit = fs::read_to_string(tuning("shardcast.service")).unwrap();
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name));
    assert_eq!(value("ExecReload="), Some("/bin/kill -HUP $MAINPID"));
    let file = "--config /etc/shardcast/shardcast.toml";
    assert!(value("ExecStart=").unwrap().contains(file), "{unit}");
    assert!(
        value("ExecStartPre=")
            .unwrap()
            .contains(&format!("{file} --check"))
    );
    // Longer than the default of `shutdown_grace_secs`.
    assert!(value("TimeoutStopSec=").unwrap().parse::<u32>().unwrap() > 10);
}

/// Where there is no systemd nobody can tell.
#[test]
fn the_unit_is_one_that_systemd_reads() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return;
    }
    let made = Made::new(&[]);
    let unit = fs::read_to_string(tuning("shardcast.service")).unwrap();
    let binary = env!("CARGO_BIN_EXE_shardcast");
    made.write(
        "shardcast.service",
        &unit.replace("/usr/local/bin/shardcast", binary),
    );
    let path = made.0.join("shardcast.service");
    let (code, said, told) = run(Command::new("systemd-analyze").arg("verify").arg(path));
    assert_eq!(code, Some(0), "{said}{told}");
    assert!(!told.contains("shardcast.service"), "{told}");
}
