//! A load generator for servers that speak the Pusher Channels protocol.
//!
//! One scenario each run: it connects, does its work for a bounded time, and says first which side
//! was saturated, because a client at its limit measures itself. It checks what it counts: every
//! delivery is known by its number. Except in `pairs` it never starts, configures or stops a
//! server, and it reads of a server's process only what `/proc` shows.

use std::env;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

mod args;
mod client;
mod clock;
mod control;
mod crowd;
mod features;
mod figures;
mod floor;
mod frame;
mod http;
mod latency;
mod limits;
mod load;
mod message;
mod meter;
mod outcome;
mod pairs;
mod probe;
mod process;
mod progress;
mod publisher;
mod report;
mod run;
mod sequence;
mod sign;
mod stamp;
mod stop;
mod target;
mod worker;

use args::Command;
use features::Features;
use report::{compare, page, text};

/// The run ended, and the server has lost, repeated or reordered something.
const FAULTS: u8 = 3;

fn main() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> io::Result<ExitCode> {
    match command {
        Command::Worker => worker::run_as_process().map(|()| ExitCode::SUCCESS),
        Command::Floor(options) => floor::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Pairs(options) => pairs::run(&options),
        Command::Compare(options) => compare::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Features { common } => look(&common),
        scenario => {
            let Some((common, scenario)) = scenario.scenario() else {
                return Ok(ExitCode::FAILURE);
            };
            may_write([&common.json, &common.html])?;
            let outcome = run::run(&common, scenario, &command_line())?;
            print(&text::Tables(&outcome));
            // A file that cannot be written costs neither the other nor what was printed.
            let json = common.json.as_ref().map(|path| outcome.write(path));
            let html = common.html.as_ref().map(|path| page::write(&outcome, path));
            json.into_iter().chain(html).collect::<io::Result<()>>()?;
            Ok(match (outcome.faults().is_empty(), outcome.has_failed) {
                (true, false) => ExitCode::SUCCESS,
                (true, true) => ExitCode::FAILURE,
                (false, _) => ExitCode::from(FAULTS),
            })
        }
    }
}

/// Prints to whoever reads; one that has gone, as `head` does, has seen enough.
fn print(text: &impl Display) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Whether the files can be written that are wanted: found out before the run and not behind it.
fn may_write(files: [&Option<PathBuf>; 2]) -> io::Result<()> {
    for path in files.into_iter().flatten() {
        let was_there = path.exists();
        let opened = File::options().append(true).create(true).open(path);
        opened.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        if !was_there {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// What a target has.
fn look(common: &args::Common) -> io::Result<ExitCode> {
    for target in common.targets().map_err(io::Error::other)? {
        let lacks = Features::of(&target)?.lacks();
        match lacks[..] {
            [] => println!("{} has all that scenarios use", target.address),
            [..] => println!("{} lacks {}", target.address, lacks.join("; ")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How this program was started, without its directory and without a secret.
fn command_line() -> String {
    let mut words: Vec<String> = env::args().skip(1).collect();
    hide_secret(&mut words);
    let words = words.into_iter();
    let quoted = words.map(|word| match word.contains([' ', '\'', '"', '$', '*']) {
        true => format!("'{}'", word.replace('\'', r"'\''")),
        false => word,
    });
    std::iter::once("loadtest".to_owned())
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A report goes to other people.
fn hide_secret(words: &mut [String]) {
    let mut is_secret = false;
    for word in words {
        if std::mem::replace(&mut is_secret, word == "--app-secret") {
            "...".clone_into(word);
        } else {
            *word = without_secret(word);
        }
    }
}

/// The command of a server may have one, too.
fn without_secret(command: &str) -> String {
    const NAME: &str = "--app-secret";
    let mut shown = String::new();
    let mut rest = command;
    while let Some(at) = rest.find(NAME) {
        let (before, behind) = rest.split_at(at + NAME.len());
        shown += before;
        let Some(value) = behind.strip_prefix([' ', '=']) else {
            rest = behind;
            continue;
        };
        shown += &behind[..1];
        shown += "...";
        let quote = value
            .chars()
            .next()
            .filter(|first| ['\'', '"'].contains(first));
        let end = match quote {
            Some(quote) => value[1..].find(quote).map(|end| end + 2),
            None => value.find(' '),
        };
        rest = &value[end.unwrap_or(value.len())..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_report_has_no_secret() {
        let mut words = ["--app-secret", "s", "--app-secret=s", "fanout"].map(str::to_owned);
        super::hide_secret(&mut words);
        assert_eq!(words, ["--app-secret", "...", "--app-secret=...", "fanout"]);
        for (command, expected) in [
            ("s --app-secret x --port 1", "s --app-secret ... --port 1"),
            ("s --app-secret='x y' -v", "s --app-secret=... -v"),
            ("s --app-secret", "s --app-secret"),
            ("s --app-secret \"x", "s --app-secret ..."),
            ("s --app-secrets", "s --app-secrets"),
        ] {
            assert_eq!(super::without_secret(command), expected);
        }
    }
}
