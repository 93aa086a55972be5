//! The upgrade and the greeting; who is refused is in `ws_refusals`.

mod support;

use std::collections::HashSet;

use serde_json::json;

use support::websocket::{ACCEPT, KEY, upgrade_request};
use support::{A, Client, Config, Event, Response, Tcp, WebSocket};
use support::{expect_refused, on_shards, on_shards_with, text_frame, unique};

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
