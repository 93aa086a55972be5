//! The command line: what is common to all scenarios, then each with its own options.
//!
//! Invariant: every value that comes out of here is within the bounds that its help states, and the
//! target is this machine unless its owner has said otherwise.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, value_parser};
use serde::{Deserialize, Serialize};

use crate::load::Scenario;
use crate::target::{self, Target};

/// Connections of one run at most: the descriptors of its processes usually end it earlier.
const CONNECTIONS_MAX: i64 = 4_000_000;
/// Members that the members of all rooms see, at most: each pair has a number in memory.
const PAIRS_MAX: u64 = 32_000_000;

/// Puts load on a server of the Pusher Channels protocol and says what it cost.
#[derive(Debug, Parser)]
#[command(name = "loadtest", subcommand_required = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Opens connections level by level, each subscribed, and leaves them alone: memory, CPU.
    Connect {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        connect: Connect,
    },
    /// Publishes to channels with many subscribers.
    Fanout {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        fanout: Fanout,
    },
    /// Publishes to channels that nobody is subscribed to: what a publish costs.
    Publish {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        publish: Publish,
    },
    /// Presence rooms whose members send client events, leave and come back.
    Chat {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        chat: Chat,
    },
    /// Connections and subscriptions that come and go.
    Churn {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        churn: Churn,
    },
    /// All at once for a long time: memory must not grow, nothing may be lost.
    Soak {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        soak: Soak,
    },
    /// Says which features the target has.
    Features {
        #[command(flatten)]
        common: Common,
    },
    /// Is the bare server that checks nothing, for figures to be given as ratios.
    Floor(Floor),
    /// Runs a scenario against two servers in turns, and gives their ratios.
    Pairs(Pairs),
    /// Sets two runs side by side.
    Compare(Compare),
    /// One process of a run with several; started by the first.
    #[command(hide = true)]
    Worker,
}

/// What every scenario needs.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The server. Several, separated by commas, share the connections (not: publishes) among them
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:6001",
        value_delimiter = ','
    )]
    pub(crate) target: Vec<String>,
    /// Precedes every path of the server
    #[arg(long, default_value = "")]
    pub(crate) path_prefix: String,
    /// App that is used
    #[arg(long, default_value = "app-id")]
    pub(crate) app_id: String,
    /// Its key
    #[arg(long, default_value = "app-key")]
    pub(crate) app_key: String,
    /// Its secret
    #[arg(long, default_value = "app-secret")]
    pub(crate) app_secret: String,
    /// Processes of the server, if on this machine: for their CPU and memory
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// Before what is measured
    #[arg(long, default_value = "2", value_parser = value_parser!(u32).range(0..=3_600))]
    pub(crate) warmup_secs: u32,
    /// What is measured
    #[arg(long, default_value = "10", value_parser = value_parser!(u32).range(1..=604_800))]
    pub(crate) secs: u32,
    /// How long what is owed is waited for after the end
    #[arg(long, default_value = "10", value_parser = value_parser!(u32).range(0..=3_600))]
    pub(crate) tail_secs: u32,
    /// Bound of the whole run [default: what it should take, and two minutes]
    #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) secs_max: Option<u32>,
    /// Processes of this program [default: as many as the descriptor limit asks for]
    #[arg(long, value_parser = value_parser!(u32).range(1..=250))]
    pub(crate) processes: Option<u32>,
    /// Connections of a process that are being opened at once
    #[arg(long, default_value = "128", value_parser = value_parser!(u32).range(1..=16_384))]
    pub(crate) opening_max: u32,
    /// Write the figures there, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report there: one page with figures and plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// No line about how it goes while it runs
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Needed for any target that is not this machine
    #[arg(long)]
    pub(crate) i_own_this_host: bool,
}

/// Connections that are subscribed and quiet.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[group(skip)]
pub(crate) struct Connect {
    /// Numbers of connections at which memory is read, ascending
    #[arg(long, default_value = "9000,18000", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) levels: Vec<u32>,
    /// Channels that they are spread over
    #[arg(long, default_value = "100", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) channels: u32,
    /// Kind of the channels
    #[arg(long, value_enum, default_value = "public")]
    pub(crate) kind: Kind,
    /// Connections opened a second, due whatever the server does [default: as fast as handshakes go]
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// From a level to the reading of memory
    #[arg(long, default_value = "3", value_parser = value_parser!(u32).range(0..=600))]
    pub(crate) settle_secs: u32,
}

/// Channels with many subscribers.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[group(skip)]
pub(crate) struct Fanout {
    /// Connections, each subscribed to one channel
    #[arg(long, default_value = "1000", value_parser = value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) subscribers: u32,
    /// Channels that they are spread over; publishes go to each in turn
    #[arg(long, default_value = "1", value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) channels: u32,
    /// Publishes under way at once: the next goes out when one has come to all
    #[arg(long, default_value = "1", value_parser = value_parser!(u32).range(1..=100_000), conflicts_with_all = ["rate", "queued"])]
    pub(crate) window: u32,
    /// Instead: so many go out at once, and as many again when all have come to all
    #[arg(long, value_parser = value_parser!(u32).range(1..=10_000), conflicts_with = "rate")]
    pub(crate) queued: Option<u32>,
    /// Instead: publishes a second, due whatever the server does
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Bytes of data in an event
    #[arg(long, default_value = "300", value_parser = value_parser!(u32).range(40..=100_000))]
    pub(crate) bytes: u32,
    /// Publishes in all [default: as many as the time has room for]
    #[arg(long, value_parser = value_parser!(u32).range(1..))]
    pub(crate) publishes: Option<u32>,
    /// Further subscribers that do not read while there are publishes
    #[arg(long, default_value = "0", value_parser = value_parser!(u32).range(0..=CONNECTIONS_MAX))]
    pub(crate) stalled: u32,
    /// Ask the server other things meanwhile, and before: ping, HTTP, a channel of three
    #[arg(long)]
    pub(crate) probes: bool,
    /// Between two questions of a probe
    #[arg(long, default_value = "10", value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) probe_ms: u32,
}

/// Publishes without subscribers.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[group(skip)]
pub(crate) struct Publish {
    /// HTTP connections
    #[arg(long, default_value = "1", value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Requests under way on each
    #[arg(long, default_value = "1", value_parser = value_parser!(u32).range(1..=1_024))]
    pub(crate) pipeline: u32,
    /// Publishes a second, due whatever the server does [default: as fast as answers come]
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Channels that are published to in turn
    #[arg(long, default_value = "1", value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) channels: u32,
    /// Other channels that exist meanwhile, each with a subscriber
    #[arg(long, default_value = "0", value_parser = value_parser!(u32).range(0..=1_000_000))]
    pub(crate) existing: u32,
    /// Bytes of data in an event
    #[arg(long, default_value = "300", value_parser = value_parser!(u32).range(40..=100_000))]
    pub(crate) bytes: u32,
}

/// Presence rooms.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[group(skip)]
pub(crate) struct Chat {
    /// Presence channels
    #[arg(long, default_value = "50", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rooms: u32,
    /// Members of each, a connection and a user of its own each
    #[arg(long, default_value = "10", value_parser = value_parser!(u32).range(2..=10_000))]
    pub(crate) members: u32,
    /// Client events a second of all members together; 0 for none
    #[arg(long, default_value = "500", value_parser = rate_or_none)]
    pub(crate) rate: f64,
    /// Members that leave their room each second, and come back; 0 for none
    #[arg(long, default_value = "10", value_parser = rate_or_none)]
    pub(crate) leaves: f64,
    /// How long they stay away
    #[arg(long, default_value = "200", value_parser = value_parser!(u32).range(0..=60_000))]
    pub(crate) away_ms: u32,
    /// Bytes of data in a client event
    #[arg(long, default_value = "100", value_parser = value_parser!(u32).range(40..=60_000))]
    pub(crate) bytes: u32,
}

/// Coming and going.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[group(skip)]
pub(crate) struct Churn {
    /// What comes and goes
    #[arg(long, value_enum, default_value = "connections")]
    pub(crate) of: Churning,
    /// Connections at once
    #[arg(long, default_value = "100", value_parser = value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) connections: u32,
    /// Changes a second [default: as fast as the server answers]
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Channels that they are spread over, and change between
    #[arg(long, default_value = "100", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) channels: u32,
    /// Kind of the channels
    #[arg(long, value_enum, default_value = "public")]
    pub(crate) kind: Kind,
    /// Of a storm: connections that stay, and get a publish --observed-rate times a second
    #[arg(long, default_value = "20", value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) observers: u32,
    /// Of a storm: publishes a second for those who stay
    #[arg(long, default_value = "20", value_parser = rate)]
    pub(crate) observed_rate: f64,
    /// Of a storm: rest between two
    #[arg(long, default_value = "2", value_parser = value_parser!(u32).range(0..=3_600))]
    pub(crate) calm_secs: u32,
}

/// What comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Churning {
    /// Connections: connect, subscribe, leave
    Connections,
    /// Subscriptions: from one channel to the next
    Rooms,
    /// All connections at once, and back
    Storm,
}

/// Kinds of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Anybody may subscribe
    Public,
    /// With a signature
    Private,
    /// With a signature and a member
    Presence,
}

/// Everything, moderately, for long.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[group(skip)]
pub(crate) struct Soak {
    /// Subscribers of published channels
    #[arg(long, default_value = "500", value_parser = value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) subscribers: u32,
    /// Channels that they are spread over
    #[arg(long, default_value = "10", value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) channels: u32,
    /// Publishes a second
    #[arg(long, default_value = "100", value_parser = rate)]
    pub(crate) rate: f64,
    /// Presence rooms
    #[arg(long, default_value = "20", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rooms: u32,
    /// Members of each
    #[arg(long, default_value = "10", value_parser = value_parser!(u32).range(2..=10_000))]
    pub(crate) members: u32,
    /// Client events a second
    #[arg(long, default_value = "100", value_parser = rate_or_none)]
    pub(crate) chat_rate: f64,
    /// Members a second that leave and come back
    #[arg(long, default_value = "10", value_parser = rate_or_none)]
    pub(crate) leaves: f64,
    /// Connections a second that come, subscribe and go
    #[arg(long, default_value = "20", value_parser = rate)]
    pub(crate) cycles: f64,
    /// Bytes of data in an event
    #[arg(long, default_value = "300", value_parser = value_parser!(u32).range(40..=60_000))]
    pub(crate) bytes: u32,
}

/// The bare server.
#[derive(Clone, Debug, Args)]
pub(crate) struct Floor {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port to listen on; 0 lets the kernel choose one
    #[arg(long, default_value = "6002")]
    pub(crate) port: u16,
    /// Events of a channel that come in one turn leave as one send for each subscriber
    #[arg(long)]
    pub(crate) joined: bool,
    /// A system call for each send, even where io_uring is to be had
    #[arg(long)]
    pub(crate) plain_sends: bool,
    /// Needed to listen for others than this machine: it checks nothing
    #[arg(long)]
    pub(crate) i_own_this_host: bool,
}

/// Two servers in turns.
#[derive(Clone, Debug, Args)]
pub(crate) struct Pairs {
    /// Command that starts the first server; {port} in it is replaced
    #[arg(long, value_name = "COMMAND")]
    pub(crate) a: String,
    /// Command that starts the second; its figures are what ratios are of
    #[arg(long, value_name = "COMMAND", default_value = "floor")]
    pub(crate) b: String,
    /// Pairs of runs
    #[arg(long, default_value = "9", value_parser = value_parser!(u32).range(1..=1_000))]
    pub(crate) pairs: u32,
    /// CPU that the servers are pinned to
    #[arg(
        long,
        default_value = "0",
        value_delimiter = ',',
        value_name = "CPU,.."
    )]
    pub(crate) server_cpus: Vec<u16>,
    /// CPU that this program is pinned to
    #[arg(
        long,
        default_value = "1",
        value_delimiter = ',',
        value_name = "CPU,.."
    )]
    pub(crate) client_cpus: Vec<u16>,
    /// Words that the scenario has for the first server alone: what they change is then the ratio
    #[arg(
        long,
        value_name = "OPTIONS",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub(crate) a_adds: String,
    /// Print these figures alone, each as a row of a Markdown table: "Server CPU, each delivery".
    /// Several with `;` between them
    #[arg(long, value_name = "FIGURE;..", value_delimiter = ';')]
    pub(crate) rows: Vec<String>,
    /// Write all runs and their ratios there, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report there
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// The scenario and its options, behind `--`
    #[arg(last = true, required = true)]
    pub(crate) scenario: Vec<String>,
}

/// Two reports.
#[derive(Clone, Debug, Args)]
pub(crate) struct Compare {
    /// What a run with --json has written
    pub(crate) a: PathBuf,
    /// What another has
    pub(crate) b: PathBuf,
    /// Write both there, side by side in tables and plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Reads the command line.
pub(crate) fn parse() -> Result<Command, clap::Error> {
    parse_from(std::env::args().collect())
}

/// Reads any command line; the first word is the program.
pub(crate) fn parse_from(words: Vec<String>) -> Result<Command, clap::Error> {
    let command = CommandLine::try_parse_from(words)?.command;
    check(&command)
        .map_err(|text| CommandLine::command().error(ErrorKind::ValueValidation, text))?;
    Ok(command)
}

/// What one option alone does not show.
fn check(command: &Command) -> Result<(), String> {
    let rooms = match command {
        Command::Chat { chat, .. } => Some((chat.rooms, chat.members)),
        Command::Soak { soak, .. } => Some((soak.rooms, soak.members)),
        Command::Floor(floor) if !floor.host.is_loopback() && !floor.i_own_this_host => {
            return Err(foreign(&floor.host.to_string()));
        }
        _ => None,
    };
    let pairs = rooms.map_or(0, |(rooms, members)| {
        u64::from(rooms) * u64::from(members).pow(2)
    });
    if pairs > PAIRS_MAX {
        return Err(format!(
            "--rooms times --members squared is {pairs}; up to {PAIRS_MAX} are allowed"
        ));
    }
    Ok(())
}

fn foreign(address: &str) -> String {
    format!(
        "{address} is not this machine: only its owner may do this to it, and says so with \
         --i-own-this-host"
    )
}

impl Common {
    /// The listeners of the server.
    ///
    /// # Errors
    /// A name that has no address, or a machine that is not this one and not said to be owned.
    pub(crate) fn targets(&self) -> Result<Vec<Target>, String> {
        let target = |host: &String| {
            let address = target::resolve(host).map_err(|error| format!("{host}: {error}"))?;
            self.allow(address)?;
            Ok(Target {
                address,
                host: host.clone(),
                path_prefix: self.path_prefix.clone(),
                app_id: self.app_id.clone(),
                app_key: self.app_key.clone(),
                app_secret: self.app_secret.clone(),
            })
        };
        self.target.iter().map(target).collect()
    }

    fn allow(&self, address: SocketAddr) -> Result<(), String> {
        match address.ip().is_loopback() || self.i_own_this_host {
            true => Ok(()),
            false => Err(foreign(&address.to_string())),
        }
    }
}

impl Command {
    /// The scenario, if it is one.
    pub(crate) fn scenario(self) -> Option<(Common, Scenario)> {
        match self {
            Self::Connect { common, connect } => Some((common, Scenario::Connect(connect))),
            Self::Fanout { common, fanout } => Some((common, Scenario::Fanout(fanout))),
            Self::Publish { common, publish } => Some((common, Scenario::Publish(publish))),
            Self::Chat { common, chat } => Some((common, Scenario::Chat(chat))),
            Self::Churn { common, churn } => Some((common, Scenario::Churn(churn))),
            Self::Soak { common, soak } => Some((common, Scenario::Soak(soak))),
            _ => None,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=1e7).contains(&rate) => Ok(rate),
        _ => Err("a rate is 0.01 to 10000000 a second".to_owned()),
    }
}

fn rate_or_none(text: &str) -> Result<f64, String> {
    if text == "0" { Ok(0.0) } else { rate(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        parse_from(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn values_outside_their_bounds_are_refused() {
        for line in [
            "loadtest connect --channels 0",
            "loadtest connect --levels 0,5",
            "loadtest fanout --bytes 39",
            "loadtest fanout --secs 0",
            "loadtest fanout --rate 0",
            "loadtest fanout --rate nan",
            "loadtest publish --pipeline 1025",
            "loadtest chat --rooms 1000000 --members 100",
            "loadtest floor --host 0.0.0.0",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{line}");
        }
    }

    /// Each command of the README, with numbers where the shell would put them.
    #[test]
    fn what_the_readme_says_is_understood() {
        let readme = include_str!("../README.md").replace("\\\n", " ");
        let mut count = 0;
        for line in readme.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let line = line.split(" #").next().unwrap_or(line);
            let line = line
                .replace("taskset -c 1 ", "")
                .replace("target/release/loadtest", "loadtest");
            let Some(rest) = line.strip_prefix("loadtest ") else {
                continue;
            };
            let rest = rest
                .replace(
                    "$(seq -s, -f 127.0.0.1:%.0f 7001 7054)",
                    "127.0.0.1:7001,127.0.0.1:7002",
                )
                .replace("$(pgrep -d, -x shardcast)", "71,72")
                .replace("$PID", "71")
                .replace("$!", "71");
            assert!(!rest.contains('$'), "{rest}");
            let mut words = vec!["loadtest".to_owned()];
            words.extend(crate::pairs::split(&rest).unwrap());
            parse_from(words).unwrap_or_else(|error| panic!("{rest}: {error}"));
            count += 1;
        }
        assert!(count > 12, "{count}");
    }

    #[test]
    fn a_fanout_has_one_pace() {
        for line in [
            "loadtest fanout --rate 1 --window 2",
            "loadtest fanout --queued 2 --window 2",
            "loadtest fanout --queued 2 --rate 2",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{line}");
        }
    }

    #[test]
    fn only_this_machine_is_a_target_unless_its_owner_says_so() {
        let targets = |line: &str| {
            let (common, _) = parse(line).unwrap().scenario().unwrap();
            common.targets()
        };
        assert!(targets("loadtest fanout --target 127.0.0.1:1,[::1]:2").is_ok());
        let error = targets("loadtest fanout --target 127.0.0.1:1,10.0.0.1:2").unwrap_err();
        assert!(error.contains("10.0.0.1:2 is not this machine"), "{error}");
        assert!(targets("loadtest fanout --target 10.0.0.1:2 --i-own-this-host").is_ok());
        assert!(targets("loadtest fanout --target nowhere").is_err());
    }
}
