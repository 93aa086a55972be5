//! `shardcast doctor`: what on this host is in the way of so many connections, and what memory they
//! will take.
//!
//! It reads and changes nothing; why each setting matters and how to set it is in `tuning/`. What
//! a host does not tell is unknown, not wrong.
//!
//! Invariant: nothing here talks to a running server; it is the host that is judged, with the
//! configuration that a server would start with.

mod checks;
mod memory;
mod system;

use std::fmt;

use crate::config::Loaded;

use memory::Estimate;
pub(super) use system::System;

/// What the host is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of one process.
    pub connections: u64,
    /// Channels of each connection.
    pub subscriptions: u64,
}

/// What is to be examined.
#[derive(Debug)]
pub struct Doctor {
    loaded: Box<Loaded>,
    wanted: Wanted,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    subject: &'static str,
    state: State,
    found: String,
    /// What it should be, where it is not.
    advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    Off,
    Unknown,
}

/// All that was found.
#[derive(Debug)]
pub(super) struct Examination {
    wanted: Wanted,
    findings: Vec<Finding>,
    estimate: Estimate,
}

impl Doctor {
    /// `connections`: as many as a server with this configuration takes, if none are named.
    pub(super) fn new(loaded: Box<Loaded>, connections: Option<u64>, subscriptions: u64) -> Self {
        let all = loaded.config.connections_max as u64;
        let wanted = Wanted {
            connections: connections.unwrap_or(all),
            subscriptions,
        };
        Self { loaded, wanted }
    }

    /// Looks at the host.
    pub(super) fn examine(&self, system: &System) -> Examination {
        let estimate = Estimate::of(self.wanted, self.loaded.config.shards as u64);
        let mut findings = checks::all(&self.loaded.config, self.wanted, system);
        findings.push(memory::check(&estimate, system));
        Examination {
            wanted: self.wanted,
            findings,
            estimate,
        }
    }
}

impl Finding {
    fn unknown(subject: &'static str) -> Self {
        Self {
            subject,
            state: State::Unknown,
            found: "this host does not say".to_owned(),
            advice: String::new(),
        }
    }

    /// Fine if `is_fine`; the advice is for when it is not.
    fn judged(
        subject: &'static str,
        is_fine: bool,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let state = if is_fine { State::Fine } else { State::Off };
        Self {
            subject,
            state,
            found: found.into(),
            advice: advice.into(),
        }
    }
}

impl Examination {
    /// Whether nothing is in the way.
    pub(super) fn is_fine(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.state != State::Off)
    }
}

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted {
            connections,
            subscriptions,
        } = self.wanted;
        writeln!(
            f,
            "For {connections} connections, {subscriptions} subscription{} each:\n",
            if subscriptions == 1 { "" } else { "s" },
        )?;
        for finding in &self.findings {
            let word = match finding.state {
                State::Fine => "ok",
                State::Off => "OFF",
                State::Unknown => "?",
            };
            writeln!(f, "{word:<4}{:<40}{}", finding.subject, finding.found)?;
            if finding.state == State::Off {
                writeln!(f, "{:<8}{}", "", finding.advice)?;
            }
        }
        write!(f, "\n{}", self.estimate)?;
        let off = self
            .findings
            .iter()
            .filter(|finding| finding.state == State::Off)
            .count();
        match off {
            0 => writeln!(f, "\nNothing is in the way."),
            1 => writeln!(
                f,
                "\nOne thing is off; tuning/README.md says why and how to set it."
            ),
            _ => writeln!(
                f,
                "\n{off} things are off; tuning/README.md says why and how to set them."
            ),
        }
    }
}

#[cfg(test)]
mod tests;
