//! Who is not welcome, told so that a browser can read it.
//!
//! A refusal comes after the `101`, as a `pusher:error` and a Close with the same code: a browser
//! shows scripts neither an HTTP status nor a dropped connection (WebSocket spec 1.3).

mod support;

use std::time::{Duration, Instant};

use support::frame::close_frame;
use support::websocket::upgrade_request;
use support::{A, App, Client, Config, D, Event, O, Q, Response, Server, T, Tcp, WAIT, WebSocket};
use support::{expect_refused, on_shards, on_shards_with};

// Case 6; 1.2. What becomes of protocol 2 is in `ws_sockudo`.
#[test]
fn other_protocols_are_refused_with_4007() {
    on_shards(|server| {
        for protocol in ["1", "3", "8", "abc", "", "7.0", "-7"] {
            let target = A.target_with(&format!("protocol={protocol}"));
            expect_refused(WebSocket::open(server, &target), 4007);
        }
    });
}

// Case 7; 1.2.
#[test]
fn a_missing_protocol_is_refused_with_4008_only_in_strict_mode() {
    let config = Config::standard().set("strict_protocol", true);
    on_shards_with(&config, |server| {
        let target = A.target_with("client=js");
        expect_refused(WebSocket::open(server, &target), 4008);
        Client::connect(server).sync();
    });
}

// Case 8, peers.md 8; 1.3.
#[test]
fn an_unknown_key_is_refused_with_4001_in_a_frame_and_a_close() {
    on_shards(|server| {
        // The id is not the key.
        for key in ["unknown", A.id, "%", "%00", "%ff", "278D425BDF160C739803"] {
            let socket = WebSocket::open(server, &format!("/app/{key}?protocol=7"));
            expect_refused(socket, 4001);
        }
    });
}

// Case 9, peers.md 8; 1.3.
#[test]
fn a_disabled_app_is_refused_with_4003_and_a_tls_only_app_with_4000() {
    on_shards(|server| {
        expect_refused(WebSocket::open(server, &D.target()), 4003);
        expect_refused(WebSocket::open(server, &T.target()), 4000);
        // Without a trusted proxy the header proves nothing (peers.md 10).
        let socket = WebSocket::open_with(server, &T.target(), "X-Forwarded-Proto: https\r\n");
        expect_refused(socket, 4000);
    });
}

// Peers.md 10: forwarding headers count from configured proxies only.
#[test]
fn a_trusted_proxy_may_say_that_the_client_is_encrypted() {
    let config = Config::standard().set("trusted_proxies", r#"["127.0.0.1"]"#);
    on_shards_with(&config, |server| {
        let socket = WebSocket::open_with(server, &T.target(), "X-Forwarded-Proto: https\r\n");
        Client::greeted(socket, T).sync();
        expect_refused(WebSocket::open(server, &T.target()), 4000);
    });
}

// Case 9; 1.3.
#[test]
fn a_place_within_the_quota_is_free_again_when_its_holder_has_gone() {
    // Not shared: the app has one place for all tests.
    on_shards_with(&Config::only(&Q, ""), |server| {
        for ends_with_close in [true, false] {
            let holder = greeted_when_there_is_room(server);
            for _ in 0..3 {
                expect_refused(WebSocket::open(server, &Q.target()), 4004);
            }
            match ends_with_close {
                true => holder.close(1000),
                false => drop(holder),
            }
        }
        greeted_when_there_is_room(server).ping(b"");
    });
}

/// Tries until the server has noticed that the last holder of app Q's place has gone.
fn greeted_when_there_is_room(server: &Server) -> WebSocket {
    let began = Instant::now();
    loop {
        let mut socket = WebSocket::open(server, &Q.target());
        let first = Event::parse(socket.text());
        if first.event == "pusher:connection_established" {
            return socket;
        }
        assert_eq!(first.data["code"], 4004);
        assert!(began.elapsed() < WAIT);
    }
}

// Peers.md 12, decisions 38: the quota is taken by one atomic step.
#[test]
fn of_connections_that_come_at_once_exactly_the_quota_is_served() {
    const PLACES: usize = 10;
    let app = App { settings: "", ..Q };
    let config = Config::only(&app, &format!("connections_max = {PLACES}"));
    on_shards_with(&config, |server| {
        let sockets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3 * PLACES)
                .map(|_| scope.spawn(|| WebSocket::open(server, &app.target())))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mut greeted = Vec::new();
        for mut socket in sockets {
            let first = Event::parse(socket.text());
            if first.event == "pusher:connection_established" {
                greeted.push(socket);
            } else {
                assert_eq!(first.data["code"], 4004);
            }
        }
        assert_eq!(greeted.len(), PLACES);
    });
}

// 1.3: node capacity comes last and is 4100.
#[test]
fn connections_beyond_those_of_the_process_are_refused_with_4100() {
    let config = Config::only(&A, "").set("connections_process_max", 3);
    on_shards_with(&config, |server| {
        let clients: Vec<_> = (0..3).map(|_| Client::connect(server)).collect();
        expect_refused(WebSocket::open(server, &A.target()), 4100);
        drop(clients);
    });
}

// Case 10; 1.3.
#[test]
fn where_origins_are_listed_others_and_none_are_refused_with_4009() {
    on_shards(|server| {
        let open = |headers: &str| WebSocket::open_with(server, &O.target(), headers);
        for headers in [
            "",
            "Origin: https://evil.example\r\n",
            "Origin: http://ok.example\r\n",
            "Origin: https://ok.example.evil.example\r\n",
            "Origin: null\r\n",
        ] {
            expect_refused(open(headers), 4009);
        }
        for headers in [
            "Origin: https://ok.example\r\n",
            "origin: HTTPS://OK.EXAMPLE\r\n",
        ] {
            Client::greeted(open(headers), O).sync();
        }
    });
}

// 1.3: entries without a scheme, and of whole domains.
#[test]
fn an_entry_may_be_a_host_of_any_scheme_or_all_hosts_of_a_domain() {
    let app = App {
        settings: "allowed_origins = [\"a.example\", \"https://*.b.example\"]\n",
        ..O
    };
    on_shards_with(&Config::only(&app, ""), |server| {
        let open = |origin: &str| {
            WebSocket::open_with(server, &app.target(), &format!("Origin: {origin}\r\n"))
        };
        for origin in [
            "https://a.example",
            "http://a.example:8080",
            "https://x.b.example",
            "https://y.x.B.example",
        ] {
            Client::greeted(open(origin), app).sync();
        }
        for origin in [
            "https://x.a.example",
            "https://b.example",
            "http://x.b.example",
            "https://xb.example",
            "https://a.example.evil.example",
            "a.example",
        ] {
            expect_refused(open(origin), 4009);
        }
    });
}

// 1.3: the peer's Close ends the wait.
#[test]
fn a_refusal_that_is_answered_ends_at_once() {
    on_shards(|server| {
        let mut socket = WebSocket::open(server, "/app/unknown?protocol=7");
        socket.text();
        socket.expect_close_frame(4001);
        let began = Instant::now();
        socket.tcp.try_send(close_frame(4001));
        socket.tcp.expect_end();
        assert!(began.elapsed() < Duration::from_secs(1));
    });
}

// 1.3: the first failure wins.
#[test]
fn refusals_come_in_the_order_of_the_checks() {
    let both = App {
        settings: "enabled = false\ntls_only = true\nallowed_origins = [\"ok.example\"]\n",
        ..T
    };
    let tls = App {
        settings: "tls_only = true\nallowed_origins = [\"ok.example\"]\n",
        ..O
    };
    let config = Config::only(&both, "").app(&tls, "");
    on_shards_with(&config, |server| {
        for (target, code) in [
            ("/app/?protocol=3".to_owned(), 4005),
            ("/app/unknown?protocol=3".to_owned(), 4007),
            ("/app/unknown?protocol=7".to_owned(), 4001),
            (both.target(), 4003),
            (tls.target(), 4000),
        ] {
            expect_refused(WebSocket::open(server, &target), code);
        }
    });
}

// Case 11; 1.3.
#[test]
fn a_wrong_path_under_app_is_4005_and_any_other_is_404() {
    on_shards(|server| {
        for path in ["/app", "/app/", "/app/k/x", &format!("/app/{}/x", A.key)] {
            expect_refused(WebSocket::open(server, path), 4005);
        }
        for path in ["/nope", "/", "/apps", "/appx", "/application/k"] {
            let mut tcp = Tcp::connect(server.address);
            tcp.send(upgrade_request(path, ""));
            let answer = Response::read(&mut tcp);
            assert!(
                matches!((path, answer.status), ("/", 200) | (_, 404)),
                "{path}: {}",
                answer.status
            );
        }
    });
}
