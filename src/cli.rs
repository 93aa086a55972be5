//! The command line: which flags and subcommands there are, and all that is done without serving.
//!
//! The flags of the configuration are the rows of its table; none is named here. Serving itself is
//! the caller's. Exit codes: 0, 1 for a publish that was not accepted or a host that is not as it
//! should be, 2 for a wrong command line or configuration.
//!
//! Invariant: `parse` only computes; whatever is written or sent, `run` does.

mod banner;
mod doctor;
mod publish;
mod sign;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, value_parser};

use crate::app::App;
use crate::config::{self, Host, Kind, Loaded, Row, Secrets, Sources, Unit};
use crate::pusher::query::{PARAMETERS_MAX, QueryError};

pub use banner::{Listening, banner};
pub use doctor::{Doctor, Wanted};
pub use sign::SignedRequest;

use doctor::System;
use sign::Request;

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    Serve(Box<Serving>),
    /// Write this to standard output.
    Print(String),
    /// Send this and show the answer.
    Publish(SignedRequest),
    /// Look at the host and say what is in the way.
    Examine(Doctor),
}

/// A configuration to serve with, and what to read it from again.
#[derive(Debug)]
pub struct Serving {
    pub loaded: Loaded,
    pub sources: Sources,
}

/// Why nothing can be done, and for `--help` what was asked for.
#[derive(Debug)]
pub struct Stop {
    pub text: String,
    /// To standard output if 0, else to standard error.
    pub code: u8,
}

/// Does what the process was told, except to serve: that is handed back.
///
/// # Errors
///
/// With what to exit; everything has been written.
pub fn run() -> Result<Box<Serving>, ExitCode> {
    let command = parse(
        std::env::args_os(),
        std::env::vars_os(),
        Host::observe(),
        now_secs(),
    );
    match command {
        Ok(Command::Serve(serving)) => Ok(serving),
        Ok(Command::Print(text)) => Err(print(&text)),
        Ok(Command::Publish(request)) => Err(match publish::send(&request) {
            Ok(answer) if answer.status == 200 => print(&answer.to_string()),
            Ok(answer) => stop(&answer.to_string(), 1),
            Err(error) => stop(&format!("error: {}: {error}\n", request.address()), 1),
        }),
        Ok(Command::Examine(doctor)) => {
            let examination = doctor.examine(&System::this());
            let shown = print(&examination.to_string());
            Err(if examination.is_fine() {
                shown
            } else {
                ExitCode::from(1)
            })
        }
        Err(Stop { text, code: 0 }) => Err(print(&text)),
        Err(Stop { text, code }) => Err(stop(&text, code)),
    }
}

/// Reads the arguments (the first is the program's name) and the environment, both whole.
///
/// # Errors
///
/// What to print instead, and with which code to exit.
pub fn parse(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (OsString, OsString)>,
    host: Host,
    now_secs: u64,
) -> Result<Command, Stop> {
    let matches = clap().try_get_matches_from(args).map_err(|error| Stop {
        text: error.render().to_string(),
        code: if error.use_stderr() { 2 } else { 0 },
    })?;
    let (name, matches) = matches.subcommand().unwrap_or(("", &matches));
    if name == "config" && matches.get_flag("markdown") {
        return Ok(Command::Print(config::markdown()));
    }
    let sources = Sources {
        file: matches.get_one::<PathBuf>("config").cloned(),
        env: env.collect(),
        flags: given_flags(matches),
        host,
    };
    let loaded = config::load(&sources).map_err(|problems| Stop {
        text: problems
            .iter()
            .map(|problem| format!("error: {problem}\n"))
            .collect(),
        code: 2,
    })?;
    if matches.get_flag("check") {
        return Ok(Command::Print("the configuration is valid\n".into()));
    }
    match name {
        "config" => {
            let secrets = match matches.get_flag("show-secrets") {
                true => Secrets::Shown,
                false => Secrets::Hidden,
            };
            Ok(Command::Print(config::toml(&loaded, secrets)))
        }
        "sign" => Ok(Command::Print(format!(
            "{}\n",
            signed(matches, &loaded, now_secs)?.curl()
        ))),
        "publish" => Ok(Command::Publish(signed(matches, &loaded, now_secs)?)),
        "doctor" => {
            let number = |id: &str| matches.get_one::<u64>(id).copied();
            let subscriptions = number("subscriptions").unwrap_or(1);
            let doctor = Doctor::new(Box::new(loaded), number("connections"), subscriptions);
            Ok(Command::Examine(doctor))
        }
        _ => Ok(Command::Serve(Box::new(Serving { loaded, sources }))),
    }
}

fn clap() -> Clap {
    let flag = |id: &'static str| Arg::new(id).long(id).action(ArgAction::SetTrue);
    let app = Arg::new("app")
        .long("app")
        .value_name("ID")
        .help("Which app; the first by default");
    let event = ["CHANNEL", "EVENT", "DATA"].map(Arg::new);
    Clap::new("shardcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .after_help(
            "Without a command it serves. `--help` lists every option, `-h` the first few.\n\
             The flag `--path-prefix` is `SHARDCAST_PATH_PREFIX` in the environment, which it \
             wins over,\nand `path_prefix` in the file, which both win over.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .global(true)
                .help("The configuration, in TOML [env: SHARDCAST_CONFIG]"),
        )
        .arg(
            flag("check")
                .global(true)
                .help("Only say whether the configuration is valid"),
        )
        .args(config::rows().map(option))
        .subcommand(
            Clap::new("config")
                .about("Print the effective configuration and where each value comes from")
                .arg(flag("show-secrets").help("Print secrets too: a file that can be used"))
                .arg(flag("markdown").help("Print the table of all options")),
        )
        .subcommand(
            Clap::new("sign")
                .about("Print a signed request as a line for curl, valid for ten minutes")
                .args(event.clone().map(|arg| arg.required_unless_present("path")))
                .arg(
                    Arg::new("path")
                        .long("path")
                        .value_name("PATH")
                        .conflicts_with("CHANNEL")
                        .help("Any other request: `/apps/app-id/channels?info=user_count`"),
                )
                .arg(
                    Arg::new("method")
                        .long("method")
                        .value_name("METHOD")
                        .requires("path")
                        .help("Of `--path`; GET, or POST with `--body`"),
                )
                .arg(
                    Arg::new("body")
                        .long("body")
                        .value_name("BODY")
                        .requires("path"),
                )
                .arg(app.clone()),
        )
        .subcommand(
            Clap::new("publish")
                .about("Publish an event through the running server and print its answer")
                .args(event.map(|arg| arg.required(true)))
                .arg(app),
        )
        .subcommand(
            Clap::new("doctor")
                .about("Say what on this host is in the way of many connections, and what memory they take")
                .args([("connections", "Connections of one process; all that it takes by default"),
                    ("subscriptions", "Channels of each connection; 1 by default")]
                .map(|(id, help)| {
                    let number = value_parser!(u64).range(1..=1 << 32);
                    Arg::new(id).long(id).value_name("N").value_parser(number).help(help)
                })),
        )
}

/// The flag of an option.
fn option(row: &'static Row) -> Arg {
    let name = match row.kind {
        Kind::Number {
            unit: Unit::Plain | Unit::Characters,
            ..
        } => "N",
        Kind::Number {
            unit: Unit::Bytes, ..
        } => "SIZE",
        _ => row.key.rsplit('_').next().unwrap_or(row.key),
    };
    let arg = Arg::new(row.key)
        .long(row.flag())
        .value_name(name.to_ascii_uppercase())
        .global(true)
        .hide_short_help(row.group != "Listening")
        .help_heading(row.group)
        .help(format!(
            "{} [default: {}; must be {}]",
            row.help,
            row.default,
            row.kind.allowed()
        ));
    match row.is_switch() {
        // `--tls-only` is enough, and `--tls-only config` is not read as its value.
        true => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        false => arg,
    }
}

fn given_flags(matches: &ArgMatches) -> Vec<(&'static Row, String)> {
    let given = |row: &'static Row| Some((row, matches.get_one::<String>(row.key)?.clone()));
    config::rows().filter_map(given).collect()
}

/// The request that `sign` and `publish` mean.
fn signed(matches: &ArgMatches, loaded: &Loaded, now_secs: u64) -> Result<SignedRequest, Stop> {
    let text = |id: &str| {
        matches
            .try_get_one::<String>(id)
            .ok()
            .flatten()
            .map(|text| &**text)
    };
    let app = match text("app") {
        None => loaded
            .apps
            .iter()
            .next()
            .expect("a configuration has an app"),
        Some(id) => loaded.apps.by_id(id).ok_or_else(|| Stop {
            text: format!("error: app = {id} (--app): must be the id of one of the apps\n"),
            code: 2,
        })?,
    };
    let request = match text("path") {
        Some(path) => Request::any(text("method"), path, text("body")),
        None => {
            let [channel, event, data] =
                ["CHANNEL", "EVENT", "DATA"].map(|id| text(id).unwrap_or(""));
            Request::publish(app, channel, event, data)
        }
    };
    sign_for(request, app, loaded, loaded.config.port, now_secs)
}

fn sign_for(
    request: Request,
    app: &App,
    loaded: &Loaded,
    port: u16,
    now_secs: u64,
) -> Result<SignedRequest, Stop> {
    let config = &loaded.config;
    let origin = sign::Origin {
        host: config.host,
        port,
        path_prefix: &config.path_prefix,
    };
    request.sign(&app.keys[0], origin, now_secs).map_err(|_: QueryError| Stop {
        text: format!(
            "error: path (--path): its query must be UTF-8 of at most {PARAMETERS_MAX} parameters\n"
        ),
        code: 2,
    })
}

/// Unix time.
fn now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Not `println!`, which panics where the reader has gone (`shardcast config | head`).
fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn stop(text: &str, code: u8) -> ExitCode {
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Command, Stop> {
        let host = Host {
            cores: vec![0, 1],
            descriptors_max: 20_000,
        };
        let args = std::iter::once("shardcast")
            .chain(args.iter().copied())
            .map(Into::into);
        let env = env.iter().map(|(name, value)| (name.into(), value.into()));
        parse(args, env, host, 1_700_000_000)
    }

    fn printed(args: &[&str], env: &[(&str, &str)]) -> String {
        match run(args, env) {
            Ok(Command::Print(text)) => text,
            other => panic!("{args:?} prints: {other:?}"),
        }
    }

    #[test]
    fn clap_finds_no_fault_with_the_commands() {
        clap().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves_what_the_flags_say() {
        let rows: [(&[&str], u16, bool); 3] = [
            (&[], 6001, false),
            (&["--port", "7000", "--tls-only"], 7000, true),
            (&["--port=7000", "--tls-only=false"], 7000, false),
        ];
        for (args, port, tls_only) in rows {
            let Ok(Command::Serve(serving)) = run(args, &[]) else {
                panic!("{args:?} serves")
            };
            let loaded = serving.loaded;
            assert_eq!(loaded.config.port, port);
            assert_eq!(
                loaded.apps.by_id("app-id").unwrap().settings.tls_only,
                tls_only
            );
        }
    }

    #[test]
    fn flags_may_stand_on_either_side_of_a_command() {
        for args in [
            &["--port", "7000", "config"][..],
            &["config", "--port", "7000"],
        ] {
            let printed = printed(args, &[]);
            let line = printed
                .lines()
                .find(|line| line.starts_with("port = "))
                .unwrap();
            assert!(
                line.starts_with("port = 7000 ") && line.ends_with("# --port"),
                "{line}"
            );
        }
        assert!(printed(&["--strict-protocol", "config"], &[]).contains("strict_protocol = true"));
    }

    #[test]
    fn a_wrong_command_line_or_configuration_exits_with_2_and_says_all_that_is_wrong() {
        type Row = (
            &'static [&'static str],
            &'static [(&'static str, &'static str)],
            &'static [&'static str],
        );
        let rows: [Row; 6] = [
            (&["--prot", "1"], &[], &["unexpected argument '--prot'"]),
            (&["serve"], &[], &["unrecognized subcommand 'serve'"]),
            (&["sign", "my-channel"], &[], &["EVENT"]),
            (
                &["sign", "c", "e", "d", "--app", "x"],
                &[],
                &["app = x (--app): must be"],
            ),
            (
                &["config", "--config", "/nonexistent"],
                &[],
                &["config = /nonexistent (--config): cannot be read"],
            ),
            (
                &["--check", "--port", "70000"],
                &[("SHARDCAST_DRIVER", "kqueue"), ("SHARDCAST_X", "")],
                &[
                    "error: driver = kqueue (SHARDCAST_DRIVER): must be auto or io_uring or epoll\n",
                    "error: x (SHARDCAST_X): unknown option",
                    "error: port = 70000 (--port): must be 0 to 65535\n",
                ],
            ),
        ];
        for (args, env, texts) in rows {
            let stop = run(args, env).unwrap_err();
            assert_eq!(stop.code, 2);
            for text in texts {
                assert!(stop.text.contains(text), "{text}: {}", stop.text);
            }
        }
    }

    #[test]
    fn check_only_says_that_all_is_well() {
        for args in [
            &["--check"][..],
            &["config", "--check"],
            &["--check", "publish", "c", "e", "d"],
        ] {
            assert_eq!(printed(args, &[]), "the configuration is valid\n");
        }
    }

    #[test]
    fn help_and_version_are_no_errors_and_help_has_every_option() {
        assert_eq!(run(&["--version"], &[]).unwrap_err().code, 0);
        let help = run(&["--help"], &[]).unwrap_err();
        assert_eq!(help.code, 0);
        for row in config::rows() {
            assert!(
                help.text.contains(&format!("--{}", row.flag())),
                "{}",
                row.key
            );
        }
    }

    #[test]
    fn a_publish_is_for_the_app_that_is_named_or_the_first() {
        let sent = |args: &[&str]| match run(args, &[("SHARDCAST_APP_ID", "shop")]).unwrap() {
            Command::Publish(request) => request.http(),
            other => panic!("{other:?}"),
        };
        for args in [
            &["publish", "c", "e", "d"][..],
            &["publish", "--app", "shop", "c", "e", "d"],
        ] {
            assert!(sent(args).starts_with("POST /apps/shop/events?auth_key=app-key&"));
        }
    }

    #[test]
    fn any_request_can_be_signed() {
        let args = [
            "sign",
            "--path",
            "/apps/app-id/channels",
            "--path-prefix",
            "/ws",
        ];
        let target = "http://127.0.0.1:6001/ws/apps/app-id/channels?auth_key=";
        assert!(printed(&args, &[]).starts_with(&format!("curl -sS '{target}")));
        let args = ["sign", "--path", "/x", "--body", "{}", "--method", "put"];
        assert!(printed(&args, &[]).starts_with("curl -sS -X 'PUT' -H "));
    }

    #[test]
    fn the_banner_has_what_a_newcomer_pastes_and_warns_only_of_development_credentials() {
        let listening = Listening {
            port: 6002,
            driver: "io_uring",
            now_secs: 1_700_000_000,
            metrics: Some(([127, 0, 0, 1], 9601).into()),
        };
        let text = |env: &[(&str, &str)]| match run(&["--path-prefix", "/ws"], env).unwrap() {
            Command::Serve(serving) => banner(&serving.loaded, listening),
            other => panic!("{other:?}"),
        };
        let development = text(&[]);
        for part in [
            "listens on 127.0.0.1:6002 with 2 shards on cores 0-1, driver io_uring.",
            "Metrics are on http://127.0.0.1:9601/metrics.",
            "DEVELOPMENT CREDENTIALS",
            "  curl -sS -H 'Content-Type: application/json' --data-raw '{\"name\":\"my-event\",",
            "'http://127.0.0.1:6002/ws/apps/app-id/events?auth_key=app-key&auth_timestamp=1700000000&",
            "new Pusher(\"app-key\", {",
            "wsHost: \"127.0.0.1\", wsPort: 6002, wsPath: \"/ws\", forceTLS: false,",
        ] {
            assert!(development.contains(part), "{part}: {development}");
        }
        let production = text(&[("SHARDCAST_APP_SECRET", "s3cret")]);
        assert!(!production.contains("DEVELOPMENT") && !production.contains("curl"));
        assert!(!production.contains("s3cret"));
    }
}
