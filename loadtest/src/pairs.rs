//! Two servers in turns: each run of the scenario has a server of its own, started for it and
//! pinned, so that neither inherits what another run left behind. Their order changes from pair to
//! pair, so that a machine that becomes slower is slower for both. What is given is the ratio of
//! each figure within a pair, and how far the ratios spread.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use crate::args::{self, Pairs};
use crate::outcome::{Machine, Outcome};
use crate::report::pairs as report;
use crate::stop::Stop;

/// From the start of a server until it takes a connection, at most; and to its end.
const START_MAX: Duration = Duration::from_secs(15);
const END_MAX: Duration = Duration::from_secs(15);
/// What a scenario exits with if it found faults: that is a result.
const FAULTS: i32 = 3;

/// What all pairs found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) command: String,
    pub(crate) began: String,
    pub(crate) machine: Machine,
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) notes: Vec<String>,
    pub(crate) ratios: Vec<Ratios>,
    pub(crate) pairs: Vec<Pair>,
}

/// One run each.
#[derive(Debug, Serialize)]
pub(crate) struct Pair {
    pub(crate) a: Outcome,
    pub(crate) b: Outcome,
}

/// A figure of the first server as a multiple of the second's, pair by pair.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Ratios {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) unit: String,
    /// Of each side over all pairs.
    pub(crate) a_median: f64,
    pub(crate) b_median: f64,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
    pub(crate) all: Vec<f64>,
}

/// Runs all pairs and reports.
pub(crate) fn run(options: &Pairs) -> io::Result<ExitCode> {
    crate::may_write([&options.json, &options.html])?;
    let mut scenario = options.scenario.clone();
    // Each run is anyway.
    scenario.retain(|word| word != "--quiet");
    let mut scenarios = [scenario.clone(), scenario];
    if !options.a_adds.trim().is_empty() {
        scenarios[0].extend(split(&options.a_adds)?);
    }
    scenarios.iter().try_for_each(|scenario| check(scenario))?;
    let sides = [command(&options.a)?, command(&options.b)?];
    let stop = Stop::after(Duration::MAX)?;
    let mut pairs: Vec<Pair> = Vec::new();
    let mut trouble = None;
    while pairs.len() < options.pairs as usize && !stop.is_over() {
        // a b, b a, a b, ..
        let is_swapped = pairs.len() % 2 == 1;
        let order = if is_swapped { [1, 0] } else { [0, 1] };
        let mut outcomes = Vec::new();
        for side in order {
            match one(&sides[side], &scenarios[side], options) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    trouble = Some(format!("{}: {error}", ["a", "b"][side]));
                    break;
                }
            }
        }
        let (Some(second), Some(first)) = (outcomes.pop(), outcomes.pop()) else {
            break;
        };
        // The run during which Ctrl-C came is not whole.
        if stop.is_over() {
            break;
        }
        let (a, b) = if is_swapped {
            (second, first)
        } else {
            (first, second)
        };
        pairs.push(Pair { a, b });
        let ratios = report::ratios(&pairs[pairs.len() - 1..]);
        eprintln!(
            "pair {} of {}: {}",
            pairs.len(),
            options.pairs,
            report::line(&ratios)
        );
    }
    let Some(first) = pairs.first() else {
        return Err(io::Error::other(
            trouble.unwrap_or_else(|| "interrupted".to_owned()),
        ));
    };
    let found = Found {
        command: crate::command_line(),
        began: first.a.began.clone(),
        machine: first.a.machine.clone(),
        a: crate::without_secret(&options.a),
        b: crate::without_secret(&options.b),
        notes: trouble
            .iter()
            .map(|text| format!("Ended early: {text}"))
            .collect(),
        ratios: report::ratios(&pairs),
        pairs,
    };
    match options.rows.is_empty() {
        true => crate::print(&report::Table(&found)),
        false => crate::print(&report::Rows(&found, &options.rows)),
    }
    let json = options.json.as_ref();
    let json = json.map(|path| fs::write(path, serde_json::to_string_pretty(&found)? + "\n"));
    let html = options.html.as_ref();
    let html = html.map(|path| fs::write(path, report::page_of(&found)));
    json.into_iter().chain(html).collect::<io::Result<()>>()?;
    let is_whole = trouble.is_none() && !stop.is_over();
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether the words are a scenario that this can run.
fn check(scenario: &[String]) -> io::Result<()> {
    let words = std::iter::once("loadtest".to_owned()).chain(scenario.iter().cloned());
    let command = args::parse_from(words.collect())
        .map_err(|error| io::Error::other(format!("behind --: {error}")))?;
    let (common, _) = command
        .scenario()
        .ok_or_else(|| io::Error::other("behind -- there is a scenario and its options"))?;
    let is_ours = common.json.is_some() || common.html.is_some() || !common.pid.is_empty();
    match is_ours || scenario.iter().any(|word| word.starts_with("--target")) {
        true => Err(io::Error::other(
            "--target, --pid, --json and --html of the scenario are set for each run",
        )),
        false => Ok(()),
    }
}

/// The words of a command. `floor` alone is the floor of this program.
fn command(text: &str) -> io::Result<Vec<String>> {
    let mut words = split(text)?;
    if words.first().is_some_and(|word| word == "floor") {
        words.insert(0, std::env::current_exe()?.to_string_lossy().into_owned());
        words.extend(["--port", "{port}"].map(str::to_owned));
    }
    match words.iter().any(|word| word.contains("{port}")) {
        true => Ok(words),
        false => Err(io::Error::other(format!(
            "`{text}` has no {{port}}: the server is to listen where it is told"
        ))),
    }
}

/// Words as a shell would split them: blanks, and quotes around words.
pub(crate) fn split(text: &str) -> io::Result<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in text.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, open @ ('\'' | '"')) => {
                quote = Some(open);
                word.get_or_insert_default();
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, character) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    match quote {
        Some(_) => Err(io::Error::other(format!(
            "`{text}` has a quote that is not closed"
        ))),
        None if words.is_empty() => Err(io::Error::other("an empty command starts no server")),
        None => Ok(words),
    }
}

/// One run of the scenario against a server of its own.
fn one(command: &[String], scenario: &[String], options: &Pairs) -> io::Result<Outcome> {
    let port = free_port()?;
    let words: Vec<String> = command
        .iter()
        .map(|word| word.replace("{port}", &port.to_string()))
        .collect();
    pin(&options.server_cpus)?;
    let server = Server::start(&words, port);
    pin(&options.client_cpus)?;
    let server = server?;
    let json = temporary(&format!("{port}.json"));
    let status = Command::new(std::env::current_exe()?)
        .args(scenario)
        .args(["--quiet", "--target", &format!("127.0.0.1:{port}")])
        .args(["--pid", &server.child.id().to_string()])
        .arg("--json")
        .arg(&json)
        .stdout(Stdio::null())
        .status()?;
    let outcome = Outcome::read(&json);
    let _ = fs::remove_file(&json);
    if !status.success() && status.code() != Some(FAULTS) {
        return Err(io::Error::other(format!(
            "the scenario ended with {status}\n{}",
            server.said()
        )));
    }
    outcome
}

/// A server of one run; it ends with this.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    fn start(words: &[String], port: u16) -> io::Result<Self> {
        let log = temporary(&format!("{port}.log"));
        let file = File::create(&log)?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", words[0])))?;
        let mut server = Self { child, log };
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let until = Instant::now() + START_MAX;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "the server ended with {status}\n{}",
                    server.said()
                )));
            }
            if Instant::now() >= until {
                return Err(io::Error::other(format!(
                    "the server does not listen\n{}",
                    server.said()
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The last of what it printed.
    fn said(&self) -> String {
        const SHOWN: usize = 2_000;
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN)..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first, so that a server that counts says its counts.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let until = Instant::now() + END_MAX;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        // It may have ended by itself; then there is nobody to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// What this thread starts from now on runs there.
fn pin(cpus: &[u16]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if usize::from(cpu) >= CpuSet::MAX_CPU {
            return Err(io::Error::other(format!("there is no CPU {cpu}")));
        }
        set.set(cpu.into());
    }
    sched_setaffinity(None, &set)
        .map_err(|error| io::Error::other(format!("pinning to CPU {cpus:?}: {error}")))
}

/// A port that nobody listens on at this moment.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn temporary(name: &str) -> PathBuf {
    let name = format!("loadtest-{}-{name}", std::process::id());
    Path::new(&std::env::temp_dir()).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_a_shell_does() {
        for (text, expected) in [
            ("a  b", &["a", "b"][..]),
            ("a 'b c' \"d e\"", &["a", "b c", "d e"]),
            ("a --b='c d'", &["a", "--b=c d"]),
            ("a ''", &["a", ""]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        assert!(split("a 'b").is_err() && split(" ").is_err());
    }

    #[test]
    fn a_server_is_told_its_port() {
        assert!(command("shardcast --cores 0").is_err());
        assert!(command("shardcast --port {port}").is_ok());
        let floor = command("floor --joined").unwrap();
        assert_eq!(floor[1..], ["floor", "--joined", "--port", "{port}"]);
    }

    #[test]
    fn only_scenarios_are_run_in_pairs() {
        let check = |line: &str| check(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(check("fanout --secs 3").is_ok());
        for line in [
            "fanout --target a:1",
            "fanout --json x",
            "floor",
            "pairs",
            "fanout --none",
        ] {
            assert!(check(line).is_err(), "{line}");
        }
    }
}
