//! The settings of a host that matter, each with what it should be. `tuning/check` says the same
//! where there is no binary.

use crate::config::{Config, Driver};

use super::system::System;
use super::{Finding, Wanted};

/// Connections that wait to be accepted; what a listener asks for, and the kernel cuts down.
const BACKLOG_MIN: u64 = 4096;
/// Packets that wait for a CPU; beyond it they are dropped and sent again 200 ms later.
const NETDEV_BACKLOG_MIN: u64 = 10_000;
/// Descriptors that are no connection (`config::host` reserves as many).
const DESCRIPTORS_RESERVED: u64 = 512;
/// Pages are 4 KiB; a connection that is sent something holds at least one.
const PAGE_BYTES: u64 = 4096;
/// Connections that conntrack follows stay in its table for a while after their end.
const CONNTRACK_SLACK: f64 = 1.25;

/// Looks at all of them but memory.
pub(super) fn all(config: &Config, wanted: Wanted, system: &System) -> Vec<Finding> {
    let mut findings = vec![driver(config, system)];
    findings.extend(descriptors(config, wanted, system));
    findings.extend([
        at_least(system, "net.core.somaxconn", BACKLOG_MIN),
        at_least(system, "net.ipv4.tcp_max_syn_backlog", BACKLOG_MIN),
        at_least(system, "net.core.netdev_max_backlog", NETDEV_BACKLOG_MIN),
        is_value(system, "net.ipv4.tcp_slow_start_after_idle", "0"),
        tcp_memory(wanted, system),
    ]);
    findings.extend(conntrack(wanted, system));
    findings.push(huge_pages(system));
    findings.push(clock(system));
    findings.extend(cpu_quota(config, system));
    findings.extend(governor(system));
    findings.extend(receive_queues(config, system));
    findings
}

fn driver(config: &Config, system: &System) -> Finding {
    let subject = "io_uring";
    match (&system.ring, config.driver) {
        (_, Driver::Epoll) => Finding::judged(
            subject,
            false,
            "not used: driver = epoll",
            "driver = \"auto\": epoll costs about a fifth more CPU for each delivery",
        ),
        (Ok(()), _) => Finding::judged(subject, true, "available", ""),
        (Err(why), _) => Finding::judged(
            subject,
            false,
            format!("not available: {why}"),
            "kernel.io_uring_disabled = 0, and a container profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register; without it the server runs on epoll",
        ),
    }
}

fn descriptors(config: &Config, wanted: Wanted, system: &System) -> Vec<Finding> {
    let needed = wanted.connections.saturating_add(DESCRIPTORS_RESERVED);
    let allowed = config.connections_max as u64;
    let mut findings = vec![Finding::judged(
        "descriptors of this process",
        wanted.connections <= allowed,
        format!("room for {allowed} connections"),
        format!(
            "LimitNOFILE={needed} in the unit, or ulimit -n {needed}; and connections_process_max \
             if it is set"
        ),
    )];
    for name in ["fs.nr_open", "fs.file-max"] {
        findings.push(at_least(system, name, needed));
    }
    findings
}

/// Pages that all sockets together may hold before the kernel makes them smaller.
fn tcp_memory(wanted: Wanted, system: &System) -> Finding {
    let subject = "net.ipv4.tcp_mem";
    let text = system.sysctl(subject);
    let pressure = text
        .as_deref()
        .and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
    let Some(pressure): Option<u64> = pressure else {
        return Finding::unknown(subject);
    };
    Finding::judged(
        subject,
        pressure >= wanted.connections,
        format!("pressure from {pressure} pages of {PAGE_BYTES} bytes on"),
        format!(
            "a second number of at least {}: a page for each connection that is sent something",
            wanted.connections
        ),
    )
}

/// Only where connections are followed at all.
fn conntrack(wanted: Wanted, system: &System) -> Option<Finding> {
    let subject = "net.netfilter.nf_conntrack_max";
    let max: u64 = system.sysctl(subject)?.parse().ok()?;
    let needed = (wanted.connections as f64 * CONNTRACK_SLACK) as u64;
    Some(Finding::judged(
        subject,
        max >= needed,
        max.to_string(),
        format!(
            "at least {needed}, or no tracking of the server's port: new connections are dropped over it"
        ),
    ))
}

fn huge_pages(system: &System) -> Finding {
    let subject = "transparent huge pages";
    let Some(text) = system.text("sys/kernel/mm/transparent_hugepage/enabled") else {
        return Finding::unknown(subject);
    };
    let chosen = text.split(['[', ']']).nth(1).unwrap_or(&text).to_owned();
    let is_fine = chosen != "always";
    Finding::judged(
        subject,
        is_fine,
        chosen,
        "madvise: with always, idle connections take more memory",
    )
}

fn clock(system: &System) -> Finding {
    let subject = "clock source";
    let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    let Some(source) = system.text(path) else {
        return Finding::unknown(subject);
    };
    let is_slow = ["hpet", "acpi_pm", "jiffies"].contains(&source.as_str());
    Finding::judged(
        subject,
        !is_slow,
        source,
        "tsc, or that of the hypervisor: this one takes a system call",
    )
}

/// Only where there is a quota.
fn cpu_quota(config: &Config, system: &System) -> Option<Finding> {
    let text = system.text("sys/fs/cgroup/cpu.max")?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let (quota, period) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let cpus = quota / period;
    Some(Finding::judged(
        "CPU quota of this group",
        cpus >= config.shards as f64,
        format!("{cpus:.2} CPUs"),
        format!(
            "{} CPUs, or fewer shards: a worker that has used up its quota stands still for the \
             rest of each period",
            config.shards
        ),
    ))
}

/// Only where the host chooses the clock rate of its CPUs.
fn governor(system: &System) -> Option<Finding> {
    let governor = system.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")?;
    Some(Finding::judged(
        "CPU frequency governor",
        governor == "performance",
        governor,
        "performance: a worker that sleeps between turns is woken on a slow clock",
    ))
}

/// Whether the packets of an interface are spread over the workers' CPUs. Loopback and what has no
/// device behind it spread by themselves.
fn receive_queues(config: &Config, system: &System) -> Vec<Finding> {
    let interfaces = system.names("sys/class/net").into_iter();
    let spread = interfaces.filter_map(|interface| {
        let path = format!("sys/class/net/{interface}");
        if system.names(&format!("{path}/device")).is_empty() {
            return None;
        }
        let queues = system.names(&format!("{path}/queues"));
        let receiving: Vec<_> = queues
            .iter()
            .filter(|queue| queue.starts_with("rx-"))
            .collect();
        let is_steered = receiving.iter().any(|queue| {
            let cpus = system.text(&format!("{path}/queues/{queue}/rps_cpus"));
            cpus.is_some_and(|cpus| {
                cpus.chars()
                    .any(|digit| digit.is_ascii_hexdigit() && digit != '0')
            })
        });
        let count = receiving.len();
        Some(Finding::judged(
            "receive queues",
            count >= config.shards || is_steered,
            format!("{interface}: {count} for {} workers", config.shards),
            "tuning/irq: as many queues as the card has, then RPS over the workers' CPUs",
        ))
    });
    spread.collect()
}

fn at_least(system: &System, name: &'static str, least: u64) -> Finding {
    match system
        .sysctl(name)
        .and_then(|text| text.parse::<u64>().ok())
    {
        Some(value) => Finding::judged(
            name,
            value >= least,
            value.to_string(),
            format!("at least {least}"),
        ),
        None => Finding::unknown(name),
    }
}

fn is_value(system: &System, name: &'static str, wanted: &str) -> Finding {
    match system.sysctl(name) {
        Some(value) => Finding::judged(name, value == wanted, value, wanted),
        None => Finding::unknown(name),
    }
}
