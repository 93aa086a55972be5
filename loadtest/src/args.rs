//! The command line: what is common to all scenarios, then each with its own options.
//!
//! Invariant: every value that comes out of here is within the bounds that its help states, and the
//! target is this machine unless its owner has said otherwise.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::target::Target;

/// Connections of one run at most: the descriptors of this process usually end it earlier.
const CONNECTIONS_MAX: i64 = 1_000_000;

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) target: Target,
    /// The server, if it is on this machine and may be looked at.
    pub(crate) pid: Option<u32>,
    /// Handshakes at once, at most.
    pub(crate) opening_max: usize,
    /// The whole run.
    pub(crate) time_max: Duration,
    pub(crate) json: Option<PathBuf>,
    pub(crate) scenario: Scenario,
}

/// What is done to the server.
#[derive(Debug)]
pub(crate) enum Scenario {
    Idle(Idle),
    Fanout(Fanout),
}

/// Connections that are subscribed and quiet.
#[derive(Debug)]
pub(crate) struct Idle {
    /// Memory is read at each; ascending.
    pub(crate) levels: Vec<usize>,
    pub(crate) channels: usize,
    /// Between reaching a level and reading memory.
    pub(crate) settle: Duration,
    /// How long the last level is watched.
    pub(crate) rest: Duration,
}

/// One channel with many subscribers.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) subscribers: usize,
    /// Further ones that do not read while there are publishes.
    pub(crate) stalled: usize,
    pub(crate) pace: Pace,
    pub(crate) bytes: usize,
    /// The probes alone.
    pub(crate) quiet: Duration,
    /// The probes beside the fan-out.
    pub(crate) busy: Duration,
    pub(crate) probe_interval: Duration,
}

/// When the next publish goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many a second, whatever the server does.
    Rate(f64),
    /// As soon as less than so many are with subscribers incompletely.
    Window(u64),
}

/// Reads the command line.
pub(crate) fn parse() -> Result<Run, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    let Some((name, options)) = matches.subcommand() else {
        return Err(command.error(ErrorKind::MissingSubcommand, "name a scenario"));
    };
    let address = *options
        .get_one::<SocketAddr>("target")
        .expect("it has a default");
    if !address.ip().is_loopback() && !options.get_flag("i-own-this-host") {
        let text = format!(
            "{address} is not this machine: only its owner may do this to it, and says so with \
                            --i-own-this-host"
        );
        return Err(command.error(ErrorKind::ValueValidation, text));
    }
    let text = |name: &str| {
        options
            .get_one::<String>(name)
            .expect("it has a default")
            .clone()
    };
    let target = Target {
        address,
        app_id: text("app-id"),
        app_key: text("app-key"),
        app_secret: text("app-secret"),
    };
    let scenario = match name {
        "idle" => Scenario::Idle(idle(options)),
        _ => Scenario::Fanout(fanout(options)),
    };
    Ok(Run {
        target,
        pid: options.get_one::<u32>("pid").copied(),
        opening_max: count(options, "opening-max"),
        time_max: secs(options, "secs-max"),
        json: options.get_one::<PathBuf>("json").cloned(),
        scenario,
    })
}

fn command() -> Command {
    let connections = |default| number("subscribers", default, 1, CONNECTIONS_MAX);
    let idle = Command::new("idle")
        .about("Connections subscribed to some channels and quiet: memory of each, CPU of all")
        .arg(
            Arg::new("levels")
                .long("levels")
                .value_delimiter(',')
                .default_value("9000,18000")
                .value_parser(value_parser!(u32).range(1..=CONNECTIONS_MAX))
                .help("Numbers of connections at which memory is read, ascending"),
        )
        .arg(number("channels", "100", 1, 1_000_000).help("Channels that they are spread over"))
        .arg(number("settle-secs", "3", 0, 600).help("Before memory is read"))
        .arg(number("rest-secs", "10", 1, 3_600).help("How long CPU is watched at the last level"));
    let fanout = Command::new("fanout")
        .about("One channel with many subscribers, and three probes beside it")
        .arg(connections("10000").help("Connections subscribed to the channel"))
        .arg(
            number("stalled", "0", 0, CONNECTIONS_MAX)
                .help("Further ones that do not read while there are publishes"),
        )
        .arg(
            Arg::new("rate")
                .long("rate")
                .value_parser(value_parser!(f64))
                .help("Publishes a second, sent when they are due whatever the server does"),
        )
        .arg(
            number("window", "1", 1, 100_000)
                .conflicts_with("rate")
                .help("Publishes under way at once, without --rate"),
        )
        .arg(number("bytes", "300", 33, 100_000).help("Bytes of data in an event"))
        .arg(number("quiet-secs", "5", 1, 3_600).help("Probes without the fan-out"))
        .arg(number("secs", "10", 1, 3_600).help("Probes beside the fan-out"))
        .arg(number("probe-ms", "10", 1, 10_000).help("Between two probes of a kind"));
    Command::new("loadtest")
        .about("Puts load on a server of the Pusher Channels protocol and says what it cost")
        .subcommand_required(true)
        .subcommands([idle, fanout].map(|scenario| scenario.args(common())))
}

fn common() -> Vec<Arg> {
    let text = |name: &'static str, default: &'static str| {
        Arg::new(name).long(name).default_value(default)
    };
    vec![
        text("target", "127.0.0.1:6001")
            .value_parser(value_parser!(SocketAddr))
            .help("Address of the server"),
        text("app-id", "app-id").help("App that is used"),
        text("app-key", "app-key").help("Its key"),
        text("app-secret", "app-secret").help("Its secret"),
        Arg::new("pid")
            .long("pid")
            .value_parser(value_parser!(u32))
            .help("Process of the server, if it is on this machine: for its CPU and memory"),
        number("opening-max", "128", 1, 4_096).help("Connections being opened at once"),
        number("secs-max", "300", 1, 86_400).help("Bound of the whole run"),
        Arg::new("json")
            .long("json")
            .value_parser(value_parser!(PathBuf))
            .help("Also write the figures there, as JSON"),
        Arg::new("i-own-this-host")
            .long("i-own-this-host")
            .action(ArgAction::SetTrue)
            .help("Needed for any target that is not this machine"),
    ]
}

fn number(name: &'static str, default: &'static str, min: i64, max: i64) -> Arg {
    Arg::new(name)
        .long(name)
        .default_value(default)
        .value_parser(value_parser!(u32).range(min..=max))
}

fn idle(options: &ArgMatches) -> Idle {
    let levels = options.get_many::<u32>("levels").expect("it has a default");
    let mut levels: Vec<usize> = levels.map(|&level| level as usize).collect();
    levels.sort_unstable();
    levels.dedup();
    Idle {
        levels,
        channels: count(options, "channels"),
        settle: secs(options, "settle-secs"),
        rest: secs(options, "rest-secs"),
    }
}

fn fanout(options: &ArgMatches) -> Fanout {
    let pace = match options.get_one::<f64>("rate") {
        Some(&rate) => Pace::Rate(rate.clamp(0.01, 1e6)),
        None => Pace::Window(count(options, "window") as u64),
    };
    Fanout {
        subscribers: count(options, "subscribers"),
        stalled: count(options, "stalled"),
        pace,
        bytes: count(options, "bytes"),
        quiet: secs(options, "quiet-secs"),
        busy: secs(options, "secs"),
        probe_interval: Duration::from_millis(count(options, "probe-ms") as u64),
    }
}

fn count(options: &ArgMatches, name: &str) -> usize {
    *options.get_one::<u32>(name).expect("it has a default") as usize
}

fn secs(options: &ArgMatches, name: &str) -> Duration {
    Duration::from_secs(count(options, name) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn numbers_outside_their_bounds_are_refused() {
        for arguments in [
            ["loadtest", "idle", "--channels", "0"],
            ["loadtest", "idle", "--levels", "0,5"],
            ["loadtest", "fanout", "--bytes", "32"],
            ["loadtest", "fanout", "--secs", "3601"],
        ] {
            let error = command().try_get_matches_from(arguments).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{arguments:?}");
        }
    }
}
