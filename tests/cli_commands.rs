//! The subcommands as a person runs them: `config`, `--check`, `sign` and `publish`, against a
//! running server, through a real shell and a real curl.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::server::{command, run, temporary_directory};
use support::{A, B, Client, Config, Server, unique};

/// The same program with the configuration and the port of a running server.
fn beside(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let port = server.address.port().to_string();
    let mut command = command();
    command
        .arg("--config")
        .arg(server.config_path())
        .args(["--port", &port]);
    run(command.args(arguments))
}

/// Runs a line in a shell.
fn shell(line: &str) -> (Option<i32>, String, String) {
    run(Command::new("sh").args(["-c", line]).stdin(Stdio::null()))
}

#[test]
fn a_publish_reaches_subscribers_and_prints_the_answer() {
    for shards in [1, 5] {
        let server = Server::start(&Config::standard(), shards);
        let mut client = Client::connect(&server);
        client.subscribe("my-channel");
        let data = r#"{"message":"it's \"quoted\", caf\u00e9 é"}"#;
        let outcome = beside(&server, &["publish", "my-channel", "my-event", data]);
        assert_eq!(
            outcome,
            (Some(0), "200 OK\n{\"ok\":true}\n".into(), String::new())
        );
        client.expect_event("my-channel", "my-event", data);
        // Another app of the file.
        let outcome = beside(&server, &["publish", "--app", B.id, "my-channel", "e", ""]);
        assert_eq!(outcome.0, Some(0), "{outcome:?}");
        client.sync();
    }
}

#[test]
fn doctor_names_what_it_looked_at_and_ends_with_1_only_where_something_is_off() {
    for (connections, too_many) in [(10, false), (100_000_000, true)] {
        let connections = connections.to_string();
        let (code, stdout, stderr) = run(command().args(["doctor", "--connections", &connections]));
        assert_eq!(stderr, "");
        let first = format!("For {connections} connections, 1 subscription each:");
        assert_eq!(stdout.lines().next(), Some(first.as_str()));
        for name in [
            "io_uring",
            "descriptors of this process",
            "net.core.somaxconn",
            "the kernel",
        ] {
            assert!(stdout.contains(name), "{name}: {stdout}");
        }
        let is_off = stdout.lines().any(|line| line.starts_with("OFF "));
        assert_eq!(code, Some(i32::from(is_off)), "{stdout}");
        assert!(is_off || !too_many, "{stdout}");
    }
}

#[test]
fn a_publish_that_is_not_accepted_ends_with_1_and_says_why() {
    let server = Server::start(&Config::standard(), 1);
    let (code, stdout, stderr) = beside(&server, &["publish", "a b", "e", "d"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(
        stderr.starts_with("400 Bad Request\n{\"error\":\"Invalid request: "),
        "{stderr}"
    );
    let (code, _, stderr) = beside(&server, &["publish", "c", "e", "d", "--app", "d-id"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("403 Forbidden\n"), "{stderr}");
    // Other credentials than the server has.
    let port = server.address.port().to_string();
    let (code, _, stderr) = run(command().args(["publish", "c", "e", "d", "--port", &port]));
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("404 Not Found\n"), "{stderr}");
    // Nobody there.
    let config = server.config_path();
    let copy = temporary_directory().join("s.toml");
    fs::copy(config, &copy).expect("ours");
    drop(server);
    let mut nobody = command();
    nobody
        .arg("--config")
        .arg(&copy)
        .args(["--port", &port, "publish", "c", "e", "d"]);
    let (code, stdout, stderr) = run(&mut nobody);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
    let _ = fs::remove_dir_all(copy.parent().expect("a directory"));
}

#[test]
fn the_line_that_sign_prints_works_in_a_shell() {
    for prefix in ["", "/ws"] {
        let config = Config::standard().set("path_prefix", format!("\"{prefix}\""));
        let server = Server::start(&config, 2);
        let mut client = Client::greeted(
            support::WebSocket::open(&server, &format!("{prefix}{}", A.target())),
            A,
        );
        let channel = unique("cli-");
        client.subscribe(&channel);
        for data in [
            "plain",
            r#"{"a":"it's $HOME `x` \\ \"q\" !"}"#,
            "",
            "two\nlines \u{1f600}",
        ] {
            let (code, line, stderr) = beside(&server, &["sign", &channel, "my-event", data]);
            assert_eq!(code, Some(0), "{stderr}");
            assert!(line.starts_with("curl "), "{line}");
            let (code, answer, stderr) = shell(&line);
            assert_eq!(
                (code, answer.as_str()),
                (Some(0), "{\"ok\":true}"),
                "{stderr}"
            );
            client.expect_event(&channel, "my-event", data);
        }
        client.sync();
    }
}

#[test]
fn any_other_request_can_be_signed_too() {
    let server = Server::start(&Config::standard(), 1);
    let body = r#"{"batch":[{"name":"e","channel":"c","data":"d"}]}"#;
    for (arguments, answer) in [
        (
            &["--path", "/apps/3/batch_events", "--body", body][..],
            "{}",
        ),
        (
            &[
                "--path",
                "/apps/3/events?name=e&data=a%20b&channel=c&info=",
                "--method",
                "POST",
            ],
            r#"{"channels":{"c":{}}}"#,
        ),
        (&["--path", "/up"], "OK"),
    ] {
        let (code, line, stderr) = beside(&server, &[&["sign"], arguments].concat());
        assert_eq!(code, Some(0), "{stderr}");
        let (code, said, stderr) = shell(&line);
        assert_eq!((code, said.as_str()), (Some(0), answer), "{line}{stderr}");
    }
}

#[test]
fn a_large_publish_by_curl_waits_for_100_continue() {
    // Case 142 with the client that it is about.
    let server = Server::start(&Config::only(&B, ""), 1);
    let mut client = Client::connect_to(&server, B);
    client.subscribe("large");
    let data = "d".repeat(100 << 10);
    let (code, line, stderr) = beside(&server, &["sign", "large", "e", &data]);
    assert_eq!(code, Some(0), "{stderr}");
    let line = line.replacen("curl -sS", "curl -sS -v -H 'Expect: 100-continue'", 1);
    let (code, answer, said) = shell(&line);
    assert_eq!(
        (code, answer.as_str()),
        (Some(0), "{\"ok\":true}"),
        "{said}"
    );
    assert!(said.contains("< HTTP/1.1 100 Continue"), "{said}");
    client.expect_event("large", "e", &data);
}

#[test]
fn what_config_prints_with_secrets_is_a_file_that_gives_the_same_again() {
    let server = Server::start(&Config::standard().set("port", 7001), 2);
    let mut first = command();
    first
        .arg("--config")
        .arg(server.config_path())
        .args(["--spin-us", "7", "config"]);
    let (code, hidden, stderr) = run(first.env("SHARDCAST_BATCH_EVENTS_MAX", "11"));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!hidden.contains(A.secret), "{hidden}");
    for (option, source) in [
        ("spin_us = 7", "--spin-us"),
        ("batch_events_max = 11", "SHARDCAST_BATCH_EVENTS_MAX"),
        ("port = 7001", "shardcast.toml:"),
        ("host = \"127.0.0.1\"", "default"),
    ] {
        let line = hidden
            .lines()
            .find(|line| line.starts_with(option))
            .expect(option);
        assert!(line.contains(source), "{source}: {line}");
    }
    let (_, shown, _) = run(first.arg("--show-secrets"));
    assert!(shown.contains(A.secret), "{shown}");
    let directory = temporary_directory();
    let copy = directory.join("s.toml");
    fs::write(&copy, &shown).expect("ours");
    let mut second = command();
    let (code, again, stderr) = run(second
        .arg("--config")
        .arg(&copy)
        .args(["config", "--show-secrets"]));
    assert_eq!(code, Some(0), "{stderr}");
    let values = |text: &str| -> Vec<String> {
        let value = |line: &str| {
            line.split(" # ")
                .next()
                .expect("a part")
                .trim_end()
                .to_owned()
        };
        text.lines().map(value).collect()
    };
    assert_eq!(values(&shown), values(&again));
    let _ = fs::remove_dir_all(directory);
}

#[test]
fn check_says_whether_the_configuration_is_good_and_starts_nothing() {
    let server = Server::start(&Config::standard(), 1);
    // On the port that is taken: it does not matter.
    let outcome = beside(&server, &["--check"]);
    assert_eq!(
        outcome,
        (
            Some(0),
            "the configuration is valid\n".into(),
            String::new()
        )
    );
    let (code, stdout, stderr) = beside(&server, &["--check", "--shards", "0"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("shards = 0"), "{stderr}");
}

#[test]
fn version_and_help_are_printed_and_the_table_has_every_option_of_the_help() {
    let (code, version, _) = run(command().arg("--version"));
    assert_eq!(
        (code, version),
        (
            Some(0),
            format!("shardcast {}\n", env!("CARGO_PKG_VERSION"))
        )
    );
    let (code, help, _) = run(command().arg("--help"));
    assert_eq!(code, Some(0));
    let (code, table, _) = run(command().args(["config", "--markdown"]));
    assert_eq!(code, Some(0));
    let options: Vec<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert!(options.len() > 30, "{table}");
    for option in options {
        let flag = format!("--{} ", option.replace('_', "-"));
        let spaced = help.replace(['\n', '=', '['], " ");
        assert!(spaced.contains(&flag), "{flag}");
    }
}
