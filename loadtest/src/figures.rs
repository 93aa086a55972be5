//! From what was counted to figures: rates, costs of an operation, whether all came.

use crate::args::Churning;
use crate::load::Scenario;
use crate::meter::{Count, Span};
use crate::outcome::Outcome;
use crate::process::{self, Used};
use crate::run::Counted;

/// One thread that is hardly ever without work.
const SATURATED: f64 = 0.9;

/// A number of connections that was reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub(crate) connections: u64,
    /// To come from the level before.
    pub(crate) opened: u64,
    pub(crate) secs: f64,
    pub(crate) server: Option<Used>,
    pub(crate) memory: Option<process::Memory>,
}

/// Adds all figures of a run.
pub(crate) fn add(scenario: &Scenario, counted: &Counted, outcome: &mut Outcome) {
    let server = Used::sum(&counted.harvest.servers);
    let client = Used::sum(&counted.clients);
    outcome.saturated = saturated(server.as_ref(), client.as_ref());
    work(scenario, counted, outcome);
    let operation = operation(scenario, counted);
    for (side, used) in [("server", &server), ("client", &client)] {
        if let Some(used) = used {
            cpu(side, used, operation.as_ref(), outcome);
        }
    }
    accounting(counted, outcome);
    connections(scenario, counted, outcome);
    memory(scenario, counted, outcome);
    latencies(counted, outcome);
}

/// Which side was at its limit: the busiest thread of each is what limits it.
fn saturated(server: Option<&Used>, client: Option<&Used>) -> String {
    let busiest = |used: &Used| used.share(used.busiest);
    let is_saturated = |used: Option<&Used>| used.map(|used| busiest(used) > SATURATED);
    let text = match (is_saturated(server), is_saturated(client)) {
        (_, None) => return "not known: nothing was measured".to_owned(),
        (None, Some(true)) => "the client: latencies are its own; the server is not known (--pid)",
        (None, Some(false)) => "not the client; the server is not known (--pid)",
        (Some(true), Some(false)) => "the server",
        (Some(false), Some(true)) => "the client: latencies are its own",
        (Some(true), Some(true)) => "both: latencies are of either",
        (Some(false), Some(false)) => "neither",
    };
    let load = |used: Option<&Used>| {
        used.map_or_else(|| "?".to_owned(), |used| format!("{:.2}", busiest(used)))
    };
    format!(
        "{text} (busiest thread, of its time: server {}, client {})",
        load(server),
        load(client)
    )
}

/// What one operation is, in singular, and how many there were.
fn operation(scenario: &Scenario, counted: &Counted) -> Option<(&'static str, u64)> {
    let metered = &counted.harvest.metered;
    let (name, count) = match scenario {
        Scenario::Connect(_) => return None,
        Scenario::Fanout(_) => ("delivery", Count::Delivered),
        Scenario::Publish(_) => ("publish", Count::Published),
        Scenario::Chat(chat) if chat.rate > 0.0 => ("delivery", Count::Passed),
        Scenario::Chat(_) => ("join", Count::Joined),
        Scenario::Churn(churn) => match churn.of {
            Churning::Connections => ("cycle", Count::Cycles),
            Churning::Rooms => ("change", Count::Switched),
            Churning::Storm => ("return", Count::Returned),
        },
        Scenario::Soak(_) => {
            let both = metered.measured(Count::Delivered) + metered.measured(Count::Passed);
            return Some(("delivery", both));
        }
    };
    Some((name, metered.measured(count)))
}

/// What was done in the measured span.
fn work(scenario: &Scenario, counted: &Counted, outcome: &mut Outcome) {
    let group = "Work";
    let metered = &counted.harvest.metered;
    let pace = match scenario {
        Scenario::Fanout(o) => match (o.rate, o.queued) {
            (Some(_), _) => "publishes due at a rate",
            (None, Some(_)) => "publishes queued at once",
            (None, None) => "publishes under way at once",
        },
        _ => "",
    };
    if let Scenario::Fanout(o) = scenario {
        let count = o
            .rate
            .unwrap_or_else(|| o.queued.unwrap_or(o.window).into());
        outcome.figure(group, pace, count, if o.rate.is_some() { "/s" } else { "" });
        outcome.figure(group, "subscribers", o.subscribers.into(), "");
    }
    outcome.figure(group, "measured", counted.measured_secs, "s");
    for (count, name) in [
        (Count::Delivered, "deliveries"),
        (Count::Published, "publishes"),
        (Count::Passed, "client events delivered"),
        (Count::Sent, "client events sent"),
        (Count::Joined, "joins"),
        (Count::Left, "leaves"),
        (Count::Members, "member frames"),
        (Count::Cycles, "connect-subscribe-leave"),
        (Count::Switched, "changes of channel"),
        (Count::Returned, "returns from a storm"),
    ] {
        let many = metered.measured(count);
        if many > 0 {
            outcome.figure(group, name, many as f64, "");
            outcome.figure(
                group,
                &format!("{name}, rate"),
                many as f64 / counted.measured_secs,
                "/s",
            );
        }
    }
}

fn cpu(side: &str, used: &Used, operation: Option<&(&str, u64)>, outcome: &mut Outcome) {
    let group = if side == "server" {
        "Server CPU"
    } else {
        "Client CPU"
    };
    outcome.figure(group, "load", used.load(), "cores");
    let delayed = used.share(used.delayed);
    outcome.figure(group, "kept waiting by others", delayed, "cores");
    if let Some(&(name, count)) = operation.filter(|(_, count)| *count > 0) {
        let each = used.cpu.as_secs_f64() * 1e6 / count as f64;
        outcome.figure(group, &format!("each {name}"), each, "us");
        outcome.figure(group, "of it in user mode", each * used.user_share, "us");
        let switches = used.switches as f64 / count as f64;
        outcome.figure(
            group,
            &format!("context switches, each {name}"),
            switches,
            "",
        );
    }
    let switches = used.switches as f64 / used.wall.as_secs_f64().max(1e-9);
    outcome.figure(group, "context switches", switches, "/s");
}

/// Whether all came, once, and in order. Of the whole run, warm-up included.
fn accounting(counted: &Counted, outcome: &mut Outcome) {
    let group = "Accounting of the whole run";
    let metered = &counted.harvest.metered;
    for check in &counted.harvest.checks {
        match check.is_fault {
            true => outcome.fault(group, &check.name, check.count),
            false => outcome.figure(group, &check.name, check.count as f64, ""),
        }
    }
    let deliveries = metered.total(Count::Delivered) + metered.total(Count::Passed);
    if deliveries + metered.total(Count::Misrouted) > 0 {
        outcome.figure(group, "deliveries checked", deliveries as f64, "");
        outcome.fault(group, "came to others", metered.total(Count::Misrouted));
        outcome.fault(group, "came again", metered.total(Count::Repeated));
        outcome.fault(group, "out of order", metered.total(Count::Reordered));
    }
    for (count, name) in [
        (Count::Refused, "publishes refused"),
        (Count::Unanswered, "publishes without an answer"),
        (Count::Rejected, "errors from the server"),
        (Count::Overdue, "due and not done by the end"),
        (Count::Foreign, "events of another run at the same time"),
        (Count::Failed, "connections that failed while connecting"),
    ] {
        let many = metered.total(count);
        if many > 0 {
            outcome.figure(group, name, many as f64, "");
        }
    }
    // What it is owed is forgotten then: or a server would lose nothing by ending whom it loses for.
    let ended = metered.total(Count::Ended) - metered.total(Count::Shed);
    outcome.fault(group, "connections that the server ended", ended);
    let mut reasons: Vec<_> = metered.reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (reason, count) in reasons {
        outcome.notes.push(format!("{count} times: {reason}"));
    }
}

fn connections(scenario: &Scenario, counted: &Counted, outcome: &mut Outcome) {
    for level in counted.levels.iter().filter(|level| level.opened > 0) {
        let group = match scenario {
            Scenario::Connect(_) => format!("At {} connections", level.connections),
            _ => "Connecting".to_owned(),
        };
        let opened = level.opened as f64;
        outcome.figure(
            &group,
            "connected and subscribed",
            opened / level.secs.max(1e-9),
            "/s",
        );
        if let Some(used) = &level.server {
            let each = used.cpu.as_secs_f64() * 1e6 / opened;
            outcome.figure(&group, "server CPU, each connection", each, "us");
        }
        if let (Scenario::Connect(_), Some(memory)) = (scenario, level.memory) {
            outcome.figure(
                &group,
                "server memory, anonymous",
                memory.anonymous as f64,
                "bytes",
            );
            outcome.figure(
                &group,
                "server memory, resident",
                memory.resident as f64,
                "bytes",
            );
        }
    }
}

fn memory(scenario: &Scenario, counted: &Counted, outcome: &mut Outcome) {
    let group = "Memory";
    if let Some((before, after)) = counted.memory {
        outcome.figure(
            group,
            "server before, anonymous",
            before.anonymous as f64,
            "bytes",
        );
        outcome.figure(
            group,
            "server at the end, anonymous",
            after.anonymous as f64,
            "bytes",
        );
        outcome.figure(
            group,
            "server at the end, resident",
            after.resident as f64,
            "bytes",
        );
    }
    let with_memory = counted
        .levels
        .iter()
        .filter_map(|l| Some((l.connections, l.memory?)));
    let points: Vec<_> = with_memory.collect();
    if let [(few, first), .., (many, last)] = points[..]
        && many > few
    {
        // The kernel's is of both ends: beside another server with the same client the difference is
        // the server's.
        for (what, first, last) in [
            ("server, each connection", first.anonymous, last.anonymous),
            (
                "kernel, each connection at both ends",
                first.slab,
                last.slab,
            ),
        ] {
            let slope = (last as f64 - first as f64) / (many - few) as f64;
            let name = format!("{what} from {few} to {many}");
            outcome.figure(group, &name, slope, "bytes");
        }
    }
    if matches!(scenario, Scenario::Soak(_)) {
        let measured = outcome.timeline.iter().filter(|m| m.phase == "measured");
        let points: Vec<(f64, f64)> = measured
            .filter_map(|m| Some((m.at, m.server_bytes? as f64)))
            .collect();
        if let Some((slope, error)) = slope(&points) {
            outcome.figure(group, "server, growth", slope, "bytes/s");
            outcome.figure(group, "server, growth, standard error", error, "bytes/s");
        }
    }
    let client = counted.client_memory.resident as f64;
    outcome.figure(group, "client at the end, resident", client, "bytes");
}

fn latencies(counted: &Counted, outcome: &mut Outcome) {
    for (span, name) in [
        (Span::Delivery, "delivery of a publish"),
        (Span::Answer, "answer to a publish"),
        (Span::Pass, "delivery of a client event"),
        (Span::Join, "join of a presence channel"),
        (Span::Switch, "change of channel"),
        (Span::Cycle, "connect and subscribe, in cycles"),
        (Span::Storm, "storm, until all are back"),
        (Span::Connect, "connect and subscribe"),
    ] {
        if let Some(latencies) = counted.harvest.metered.span(span) {
            outcome.latency("Latency from when it was due", name, latencies);
        }
    }
}

/// The line through points by least squares: its slope, and the standard error of that.
fn slope(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    if points.len() < 3 {
        return None;
    }
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|p| p.0), mean(|p| p.1));
    let xx: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    let xy: f64 = points
        .iter()
        .map(|(x, y)| (x - x_mean) * (y - y_mean))
        .sum();
    if xx == 0.0 {
        return None;
    }
    let slope = xy / xx;
    let rest = points
        .iter()
        .map(|(x, y)| (y - y_mean - slope * (x - x_mean)).powi(2));
    Some((slope, (rest.sum::<f64>() / (count - 2.0) / xx).sqrt()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line() {
        let line: Vec<_> = (0..10)
            .map(|n| (f64::from(n), 5.0 + 3.0 * f64::from(n)))
            .collect();
        let (found, error) = slope(&line).unwrap();
        assert!((found - 3.0).abs() < 1e-9 && error < 1e-9);
        let noisy = [(0.0, 1.0), (1.0, -1.0), (2.0, 1.0), (3.0, -1.0)];
        let (found, error) = slope(&noisy).unwrap();
        assert!(found.abs() < 2.0 * error, "{found} of {error}");
        assert!(slope(&line[..2]).is_none());
    }

    #[test]
    fn the_side_at_its_limit_is_named_first() {
        let used = |busy: u64| Used {
            wall: Duration::from_secs(100),
            cpu: Duration::from_secs(busy),
            busiest: Duration::from_secs(busy),
            ..Used::default()
        };
        for (server, client, expected) in [
            (Some(99), Some(50), "the server ("),
            (Some(20), Some(95), "the client: latencies are its own ("),
            (Some(95), Some(95), "both"),
            (Some(10), Some(20), "neither"),
            (None, Some(20), "not the client; the server is not known"),
            (None, None, "not known"),
        ] {
            let (server, client) = (server.map(used), client.map(used));
            let text = saturated(server.as_ref(), client.as_ref());
            assert!(text.starts_with(expected), "{text}");
        }
    }
}
