//! A wrong configuration: exit code 2, a line for every fault, naming the option, its value, where
//! it was given, and what is allowed. Nothing is guessed, nothing is half used.

mod support;

use std::fs;

use support::server::{command, run, temporary_directory};

/// Runs with a file of this text, in a directory of its own.
fn run_with_file(text: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let directory = temporary_directory();
    fs::write(directory.join("s.toml"), text).expect("a directory of ours");
    let mut command = command();
    command
        .current_dir(&directory)
        .args(["--config", "s.toml"])
        .args(arguments);
    let outcome = run(&mut command);
    let _ = fs::remove_dir_all(directory);
    outcome
}

/// Asserts that it does not start, and says these lines and no others.
#[track_caller]
fn assert_refused(outcome: (Option<i32>, String, String), lines: &[&str]) {
    let (code, stdout, stderr) = outcome;
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    let said: Vec<_> = stderr.lines().collect();
    assert_eq!(said.len(), lines.len(), "{stderr}");
    for line in lines {
        assert!(
            said.iter().any(|said| said.starts_with(line)),
            "{line}: {stderr}"
        );
    }
}

const APP: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"s\"\n";

#[test]
fn a_flag_out_of_bounds_names_option_value_and_what_is_allowed() {
    for (arguments, line) in [
        (
            ["--port", "65536"],
            "error: port = 65536 (--port): must be 0 to 65535",
        ),
        (
            ["--port", "x"],
            "error: port = x (--port): must be 0 to 65535",
        ),
        (
            ["--shards", "0"],
            "error: shards = 0 (--shards): must be 1 to 1024",
        ),
        (
            ["--host", "localhost"],
            "error: host = localhost (--host): must be an IPv4 or IPv6 address",
        ),
        (
            ["--driver", "kqueue"],
            "error: driver = kqueue (--driver): must be auto or io_uring or epoll",
        ),
        (
            ["--message-bytes-max", "1"],
            "error: message_bytes_max = 1 (--message-bytes-max): must be ",
        ),
        (["--cores", "4000"], "error: cores = "),
    ] {
        assert_refused(run(command().args(arguments)), &[line]);
    }
}

#[test]
fn every_fault_of_file_environment_and_flags_is_told_at_once() {
    let directory = temporary_directory();
    fs::write(
        directory.join("s.toml"),
        format!("port = 70000\nprot = 1\n{APP}"),
    )
    .expect("ours");
    let mut command = command();
    command
        .current_dir(&directory)
        .args(["--config", "s.toml", "--shards", "9999"])
        .env("SHARDCAST_SPIN_US", "-1")
        .env("SHARDCAST_NOPE", "1");
    let outcome = run(&mut command);
    let _ = fs::remove_dir_all(directory);
    assert_refused(
        outcome,
        &[
            "error: port = 70000 (s.toml:1): must be 0 to 65535",
            "error: prot (s.toml:2): unknown option; did you mean `port`?",
            "error: spin_us = -1 (SHARDCAST_SPIN_US): must be 0 to 10000",
            "error: nope (SHARDCAST_NOPE): unknown option",
            "error: shards = 9999 (--shards): must be 1 to 1024",
        ],
    );
}

#[test]
fn a_file_that_cannot_be_read_or_is_no_toml_is_an_error() {
    // Peers 26.
    let missing = run(command().args(["--config", "/nonexistent/s.toml"]));
    assert_refused(
        missing,
        &["error: config = /nonexistent/s.toml (--config): cannot be read: "],
    );
    let missing = run(command().env("SHARDCAST_CONFIG", "/nonexistent/s.toml"));
    assert_refused(
        missing,
        &["error: config = /nonexistent/s.toml (SHARDCAST_CONFIG): cannot be read: "],
    );
    assert_refused(
        run(command().args(["--config", "/tmp"])),
        &["error: config = /tmp (--config): cannot be read: "],
    );
    assert_refused(
        run_with_file("port = \n", &[]),
        &["error: config (s.toml:1): "],
    );
    assert_refused(
        run_with_file("port = 1\nport = 2\n", &[]),
        &["error: config (s.toml:2): "],
    );
}

#[test]
fn apps_that_do_not_fit_together_are_refused() {
    for (file, line) in [
        (
            format!("{APP}{APP}"),
            "error: apps.id = a (s.toml:5): must be of one app only",
        ),
        (APP.replace("secret", "secrets"), "error: apps.secret"),
        (
            APP.replace("key = \"k\"\n", ""),
            "error: apps.key (s.toml:1): missing beside `secret`",
        ),
        (
            APP.replace("id = \"a\"\n", ""),
            "error: apps.id (s.toml:1): missing",
        ),
        (
            format!("{APP}event_data_bytes_max = 0\n"),
            "error: event_data_bytes_max = 0 (s.toml:5): must be",
        ),
    ] {
        let (code, _, stderr) = run_with_file(&file, &[]);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(
            stderr.lines().any(|said| said.starts_with(line)),
            "{line}: {stderr}"
        );
    }
    // Beside `[[apps]]` nobody could say whose these are.
    let both = run_with_file(APP, &["--app-key", "other"]);
    assert_refused(
        both,
        &["error: app_key (--app-key): the file has `[[apps]]`"],
    );
}

#[test]
fn a_secret_is_never_shown() {
    let file = APP.replace("\"s\"", "\"hush-hush\"") + "nope = 1\n";
    for arguments in [&[][..], &["config"], &["--check"]] {
        let (_, stdout, stderr) = run_with_file(&file, arguments);
        assert!(
            !stdout.contains("hush") && !stderr.contains("hush"),
            "{stderr}"
        );
    }
    let (code, stdout, stderr) = run(command().arg("--app-secret").arg(""));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert_eq!(
        stderr,
        "error: app_secret (--app-secret): must be not empty\n"
    );
}

#[test]
fn an_unknown_flag_or_command_is_refused_with_the_usage() {
    for (arguments, text) in [
        (&["--prot", "1"][..], "unexpected argument '--prot'"),
        (&["serve"], "unrecognized subcommand"),
        (&["publish", "only-a-channel"], "EVENT"),
        (&["sign"], "CHANNEL"),
        (
            &["sign", "c", "e", "d", "--app", "nobody"],
            "error: app = nobody (--app): must be the id",
        ),
    ] {
        let (code, stdout, stderr) = run(command().args(arguments));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(text), "{text}: {stderr}");
    }
}
