//! Opening a WebSocket: the upgrade, the greeting, and refusals that a browser can read.
//!
//! A refusal comes after the `101`, as a `pusher:error` and a Close with the same code: a browser
//! shows scripts neither an HTTP status nor a dropped connection (WebSocket spec 1.3).

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use support::frame::close_frame;
use support::websocket::{ACCEPT, KEY, upgrade_request};
use support::{A, App, Client, Config, D, Event, O, Q, Response, Server, T, Tcp, WebSocket};
use support::{on_shards, on_shards_with, text_frame, unique};

/// Refused with this code, in a frame and in the Close, which has the same text as its reason.
fn expect_refused(mut socket: WebSocket, code: u16) {
    let error = Event::parse(socket.text());
    assert_eq!(error.event, "pusher:error");
    assert_eq!(error.channel, None);
    let message = error.data["message"]
        .as_str()
        .expect("a message")
        .to_owned();
    assert_eq!(error.data, json!({"code": code, "message": message}));
    let reason = socket.expect_close_frame(code);
    assert_eq!(reason, message);
    assert!(!reason.is_empty());
    // The peer gives no answer: the stream ends nevertheless.
    let began = Instant::now();
    socket.tcp.expect_end();
    assert!(began.elapsed() < Duration::from_secs(5));
}

// Cases 1 and 2; 1.4.
#[test]
fn the_greeting_is_first_and_its_data_is_a_string() {
    on_shards(|server| {
        let mut socket = WebSocket::open(server, &A.target());
        let greeting = Event::parse(socket.text());
        assert_eq!(greeting.event, "pusher:connection_established");
        assert_eq!((&greeting.channel, &greeting.user_id), (&None, &None));
        let data = greeting.json();
        let id = data["socket_id"].as_str().unwrap();
        assert!(id.len() <= 33, "two numbers of 16 digits: {id}");
        for part in id.split('.') {
            assert!(part.bytes().all(|b| b.is_ascii_digit()), "{id}");
            assert!(part.parse::<u64>().unwrap() < 1 << 53, "{id}");
        }
        assert_eq!(id.split('.').count(), 2);
        assert_eq!(data, json!({"socket_id": id, "activity_timeout": 120}));
        let raw = format!(
            r#"{{"event":"pusher:connection_established","data":"{{\"socket_id\":\"{id}\",\"activity_timeout\":120}}"}}"#
        );
        assert_eq!(greeting.raw, raw);
    });
}

// Case 3; 1.4: unique among live connections.
#[test]
fn two_hundred_connections_have_two_hundred_ids() {
    on_shards(|server| {
        let clients: Vec<_> = (0..200).map(|_| Client::connect(server)).collect();
        let ids: HashSet<_> = clients.iter().map(|client| &client.socket_id).collect();
        assert_eq!(ids.len(), clients.len());
    });
}

// Cases 4 and 5; 1.1 and 1.2.
#[test]
fn parameters_may_come_in_any_order_and_protocols_4_to_7_are_served() {
    on_shards(|server| {
        for query in [
            "flash=false&version=8.6.0&client=js&protocol=7",
            "foo=bar&version=&protocol=7&client",
            "protocol=4",
            "protocol=5&client=java-client&version=2.4.4",
            "protocol=6",
            "protocol=7",
            "",
        ] {
            let socket = WebSocket::open(server, &A.target_with(query));
            Client::greeted(socket, A).sync();
        }
        let socket = WebSocket::open(server, &format!("/app/{}", A.key));
        Client::greeted(socket, A).sync();
    });
}

// Case 6; 1.2. Protocol 2 is refused as 3 is, while its clients are not served.
#[test]
fn other_protocols_are_refused_with_4007() {
    on_shards(|server| {
        for protocol in ["1", "2", "3", "8", "abc", "", "7.0", "-7"] {
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
            let first = Client::connect_to(server, Q);
            for _ in 0..3 {
                expect_refused(WebSocket::open(server, &Q.target()), 4004);
            }
            let socket = first.into_socket();
            match ends_with_close {
                true => socket.close(1000),
                false => drop(socket),
            }
            let began = Instant::now();
            let mut next = loop {
                let mut socket = WebSocket::open(server, &Q.target());
                let first = Event::parse(socket.text());
                if first.event == "pusher:connection_established" {
                    break socket;
                }
                assert!(began.elapsed() < Duration::from_secs(5), "{}", first.raw);
            };
            next.ping(b"");
            next.close(1000);
            wait_for_place(server);
        }
    });
}

fn wait_for_place(server: &Server) {
    let began = Instant::now();
    loop {
        let mut socket = WebSocket::open(server, &Q.target());
        let first = Event::parse(socket.text());
        if first.event == "pusher:connection_established" {
            drop(socket);
            std::thread::sleep(Duration::from_millis(50));
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{}", first.raw);
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

// 1.1: the prefix of `wsPath`.
#[test]
fn the_configured_prefix_precedes_every_path() {
    let config = Config::standard().set("path_prefix", "\"/ws\"");
    on_shards_with(&config, |server| {
        let target = format!("/ws{}", A.target());
        Client::greeted(WebSocket::open(server, &target), A).sync();
        expect_refused(WebSocket::open(server, "/ws/app"), 4005);
        let mut tcp = Tcp::connect(server.address);
        tcp.send(upgrade_request(&A.target(), ""));
        assert_eq!(Response::read(&mut tcp).status, 404);
    });
}

// Case 12; 1.3.
#[test]
fn without_an_upgrade_the_app_path_is_an_ordinary_refusal() {
    on_shards(|server| {
        let mut tcp = Tcp::connect(server.address);
        tcp.send(format!("GET /app/{} HTTP/1.1\r\nHost: x\r\n\r\n", A.key));
        let status = Response::read(&mut tcp).status;
        assert!(matches!(status, 400 | 404 | 426), "{status}");
    });
}

// Case 13; 1.1.
#[test]
fn a_malformed_upgrade_is_400_and_another_version_426() {
    on_shards(|server| {
        let whole = upgrade_request(&A.target(), "");
        let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
        let version = "Sec-WebSocket-Version: 13\r\n";
        for (request, status) in [
            (whole.replace(&key, ""), 400),
            (whole.replace(KEY, "short"), 400),
            (whole.replace(KEY, ""), 400),
            (whole.replace(version, ""), 426),
            (whole.replace("Version: 13", "Version: 12"), 426),
        ] {
            let mut tcp = Tcp::connect(server.address);
            tcp.send(&request);
            let answer = Response::read(&mut tcp);
            assert_eq!(answer.status, status, "{request}");
            let version = answer.header("Sec-WebSocket-Version");
            assert_eq!(version, (status == 426).then_some("13"), "{}", answer.head);
        }
    });
}

// Cases 14 and 15; 1.1. Firefox sends its `Connection` as a list.
#[test]
fn the_upgrade_is_answered_with_its_accept_and_selects_nothing() {
    on_shards(|server| {
        let request = upgrade_request(
            &A.target(),
            "Sec-WebSocket-Protocol: foo, bar\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
        )
        .replace("Connection: Upgrade", "CONNECTION: keep-alive, uPGRADE")
        .replace("Upgrade: websocket", "Upgrade: WebSocket");
        let mut tcp = Tcp::connect(server.address);
        tcp.send(request);
        let socket = WebSocket::after_upgrade(tcp);
        let head = socket.head.clone();
        let lower = head.to_lowercase();
        for line in ["upgrade: websocket", "connection: upgrade"] {
            assert!(lower.lines().any(|l| l == line), "{head}");
        }
        assert!(head.contains(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")));
        assert!(!lower.contains("sec-websocket-protocol"), "{head}");
        assert!(!lower.contains("sec-websocket-extensions"), "{head}");
        Client::greeted(socket, A).sync();
    });
}

// Case 16, first half: it takes as long as its bytes.
#[test]
fn a_head_may_come_byte_by_byte() {
    on_shards(|server| {
        let mut tcp = Tcp::connect(server.address);
        tcp.send_in_pieces(upgrade_request(&A.target(), "").as_bytes(), 1);
        Client::greeted(WebSocket::after_upgrade(tcp), A).sync();
    });
}

// Case 16, second half; 1.1.
#[test]
fn a_head_over_the_limit_is_431() {
    on_shards(|server| {
        let mut tcp = Tcp::connect(server.address);
        let filler = format!("X-Filler: {}\r\n", "x".repeat(70_000));
        // The server may have answered and closed before all of it is sent.
        tcp.try_send(upgrade_request(&A.target(), &filler));
        assert_eq!(Response::read(&mut tcp).status, 431);
        Client::connect(server).sync();
    });
}

// Case 17; 1.4: frames sent before the greeting is seen are in order behind it.
#[test]
fn frames_glued_to_the_upgrade_are_answered_behind_the_greeting() {
    on_shards(|server| {
        let channel = unique("glued-");
        let subscribe = text_frame(&format!(
            r#"{{"event":"pusher:subscribe","data":{{"auth":"","channel":"{channel}"}}}}"#
        ));
        let mut bytes = upgrade_request(&A.target(), "").into_bytes();
        bytes.extend(&subscribe);
        bytes.extend(text_frame(r#"{"event":"pusher:ping"}"#));
        let head_ends = bytes.len() - subscribe.len();
        for at in (0..=bytes.len())
            .step_by(7)
            .chain([head_ends, head_ends + 1])
        {
            let mut tcp = Tcp::connect(server.address);
            tcp.send_cut(&bytes, at);
            let mut client = Client::greeted(WebSocket::after_upgrade(tcp), A);
            client.expect_subscribed(&channel);
            client.expect("pusher:pong");
        }
    });
}

// Case 18; 1.1.
#[test]
fn the_key_is_percent_decoded() {
    on_shards(|server| {
        let key = A.key.replace('2', "%32").replace('b', "%62");
        let socket = WebSocket::open(server, &format!("/app/{key}?protocol=7"));
        Client::greeted(socket, A).sync();
    });
}
