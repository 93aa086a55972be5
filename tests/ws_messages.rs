//! Messages that mean nothing: each is answered with a `pusher:error`, and the connection stays.

mod support;

use serde_json::json;

use support::{A, Client, Config};
use support::{on_shards, on_shards_with, text_frame};

// Cases 40, 41 and 43, peers.md 21; 2 and 3.1.
#[test]
fn what_is_no_message_is_answered_with_an_error_of_code_null() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deep = format!(r#"{{"event":"pusher:ping","data":{}}}"#, nested(128));
    let rows = [
        "hello",
        "[]",
        "\"x\"",
        "5",
        "null",
        "{}",
        "",
        " ",
        r#"{"event":5}"#,
        r#"{"event":null}"#,
        r#"{"event":["pusher:ping"]}"#,
        r#"{"event":"pusher:ping""#,
        r#"{"event":"pusher:ping"}x"#,
        r#"{"event":"pusher:ping"}{"event":"pusher:ping"}"#,
        r#"{"event":"pusher:ping",}"#,
        r#"{'event':'pusher:ping'}"#,
        r#"{"event":"pusher:ping","x":"\ud800"}"#,
        r#"{"event":"pusher:ping","x":"\udc00\ud800"}"#,
        r#"{"event":"pusher:ping","x":01}"#,
        "{\"event\":\"pusher:ping\",\"x\":\"\u{1}\"}",
        "\u{feff}{\"event\":\"pusher:ping\"}",
        &nested(10_000),
        &deep,
    ];
    on_shards(|server| {
        let mut client = Client::connect(server);
        for row in rows {
            client.send_text(row);
            assert_eq!(client.expect_error(None), "Invalid message format", "{row}");
        }
        client.sync();
    });
}

// Cases 41 and 43; 2.
#[test]
fn the_last_of_two_equal_keys_wins_and_unknown_members_are_ignored() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for row in [
            r#"{"event":"x","event":"pusher:ping"}"#,
            r#"{"event":5,"event":"pusher:ping"}"#,
            r#"{"event":"pusher:ping","event2":{"event":"x"},"user_id":"u"}"#,
            r#"{"\u0065vent":"pusher\u003aping"}"#,
            "\r\n\t {\"event\":\"pusher:ping\"} \n",
        ] {
            client.send_text(row);
            client.expect("pusher:pong");
        }
        // 128 levels of nesting, the object included, are enough for everybody.
        let nested = format!("{}{}", "[".repeat(127), "]".repeat(127));
        client.send_text(&format!(r#"{{"event":"pusher:ping","data":{nested}}}"#));
        client.expect("pusher:pong");
    });
}

// Case 42; 3 and 3.1.
#[test]
fn unknown_events_are_answered_with_an_error_that_names_them() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for event in [
            "pusher:foo",
            "pusher_internal:subscription_succeeded",
            "hello",
            "",
            "client",
            "pusher:connection_established",
            "Pusher:ping",
            "\u{1f600}\"\\",
        ] {
            client.send(&json!({"event": event, "data": {}}));
            let expected = format!("Unsupported event received on socket: {event}");
            assert_eq!(client.expect_error(None), expected);
        }
    });
}

// 3.1 and 14: a sign-in without its strings fails as every sign-in that fails.
#[test]
fn a_sign_in_without_its_strings_is_4009() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for data in [
            json!({}),
            json!(null),
            json!("x"),
            json!({"auth": "x:y"}),
            json!({"user_data": "{}"}),
            json!({"auth": 5, "user_data": "{}"}),
            json!({"auth": "x:y", "user_data": {}}),
        ] {
            client.send(&json!({"event": "pusher:signin", "data": data}));
            client.expect_error(4009);
        }
        client.sync();
    });
}

// 3.1: a flood is cut off with 1008, after which pusher-js comes back.
#[test]
fn more_messages_in_a_second_than_the_app_allows_are_closed_with_1008() {
    let config = Config::only(&A, "messages_per_sec = 20");
    on_shards_with(&config, |server| {
        let mut client = Client::connect(server);
        let bytes: Vec<u8> = (0..30).flat_map(|_| text_frame("hello")).collect();
        client.tcp.send(bytes);
        for _ in 0..20 {
            client.expect_error(None);
        }
        client.expect_closed(1008);
        // Pings are no messages; who stays below the limit stays.
        let mut client = Client::connect(server);
        for _ in 0..15 {
            client.ping(b"");
            client.sync();
        }
    });
}
