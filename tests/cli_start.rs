//! Starting: which address, which port, and what is said about it; what keeps a server from
//! starting, and how that is told.

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use support::http::{Http, OK, publish};
use support::server::{command, run};
use support::{A, Config, Server};

#[test]
fn with_port_0_all_listeners_share_the_port_that_is_told() {
    for shards in [1, 2, 5] {
        let server = Server::start(&Config::standard(), shards);
        assert_ne!(server.address.port(), 0);
        assert!(server.address.ip().is_loopback());
        let line = &server.first_line;
        let count = match shards {
            1 => "with 1 shard on".to_owned(),
            many => format!("with {many} shards on"),
        };
        assert!(line.contains(&count), "{line}");
        assert!(
            line.contains("driver io_uring") || line.contains("driver epoll"),
            "{line}"
        );
        // The kernel spreads these over all listeners, and none is refused.
        for _ in 0..50 {
            Http::connect(&server).ask(publish().bytes()).expect_ok(OK);
        }
    }
}

#[test]
fn a_second_server_on_the_same_address_is_refused_with_a_clear_error() {
    let first = Server::start(&Config::standard(), 2);
    let port = first.address.port().to_string();
    for shards in ["1", "2", "5"] {
        let (code, stdout, stderr) = run(command().args(["--port", &port, "--shards", shards]));
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(&format!("127.0.0.1:{port}")), "{stderr}");
        assert!(stderr.contains("in use"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    // The first has lost nobody.
    for _ in 0..20 {
        Http::connect(&first).ask(publish().bytes()).expect_ok(OK);
    }
}

#[test]
fn a_port_that_another_program_has_is_refused_too() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = other.local_addr().expect("bound").port().to_string();
    let (code, _, stderr) = run(command().args(["--port", &port]));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains(&port) && stderr.contains("in use"),
        "{stderr}"
    );
}

#[test]
fn a_port_is_free_again_as_soon_as_the_server_has_ended() {
    // Connections in TIME_WAIT do not keep it. On an address of this test alone: on the usual one
    // another test may be given the port in between.
    let here = ["--shards", "2", "--host", "127.0.0.77"];
    let first = Server::start_with(&Config::standard(), &here, 2);
    let port = first.address.port();
    for _ in 0..5 {
        let mut http = Http::connect(&first);
        let answer = http.ask(publish().field("Connection: close").bytes());
        answer.expect_ok(OK);
        http.expect_end();
    }
    drop(first);
    let port_text = port.to_string();
    let flags = [&here[..], &["--port", &port_text]].concat();
    let second = Server::start_with(&Config::standard(), &flags, 2);
    assert_eq!(second.address.port(), port);
    Http::connect(&second).ask(publish().bytes()).expect_ok(OK);
}

#[test]
fn an_address_that_is_not_ours_is_refused() {
    // TEST-NET-1: nobody's.
    let (code, _, stderr) = run(command().args(["--host", "192.0.2.1", "--port", "0"]));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("192.0.2.1:0"), "{stderr}");
}

#[test]
fn the_first_run_tells_how_to_publish_and_how_to_connect() {
    // Peers, section 1: a default app works at once, with a loud warning.
    let server = Server::start(&Config::default(), 2);
    let said = server.stdout_with("forceTLS: false");
    for part in [
        "DEVELOPMENT CREDENTIALS",
        "curl -sS",
        "shardcast publish",
        "new Pusher(\"app-key\"",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let line = said
        .lines()
        .find(|line| line.trim_start().starts_with("curl "))
        .expect("a line");
    let output = Command::new("sh")
        .args(["-c", line])
        .output()
        .expect("a shell");
    let answer = String::from_utf8(output.stdout).expect("text");
    assert_eq!(
        answer,
        OK,
        "{line}: {:?}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Nobody's own secret is ever shown.
    let server = Server::start(&Config::standard(), 1);
    let said = server.stdout_with("forceTLS: false");
    assert!(
        !said.contains(A.secret) && !said.contains("DEVELOPMENT"),
        "{said}"
    );
}

#[test]
fn ipv6_is_an_address_like_any_other() {
    if TcpListener::bind("[::1]:0").is_err() {
        // A machine without IPv6 can show only that the error is clear.
        let (code, _, stderr) = run(command().args(["--host", "::1", "--port", "0"]));
        assert_eq!(code, Some(1));
        assert!(stderr.contains("[::1]:0"), "{stderr}");
        return;
    }
    let server = Server::start(&Config::standard().set("host", "\"::1\""), 2);
    assert!(server.address.is_ipv6());
    Http::connect(&server).ask(publish().bytes()).expect_ok(OK);
}

#[test]
fn nothing_listens_before_the_configuration_is_good() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address: SocketAddr = free.local_addr().expect("bound");
    drop(free);
    let port = address.port().to_string();
    let (code, stdout, _) = run(command().args(["--port", &port, "--shards", "0"]));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    let refused = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    assert!(refused.is_err());
}
