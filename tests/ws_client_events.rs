//! Client events: what is relayed to whom, what is refused, and that nothing is kept.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::{B, Client, Publisher, Server, on_shards, text_frame, unique};

fn event(channel: &str, name: &str, data: &Value) -> Value {
    json!({"event": name, "channel": channel, "data": data})
}

fn private_pair(server: &Server, channel: &str) -> [Client; 2] {
    [(); 2].map(|()| {
        let mut client = Client::connect(server);
        client.subscribe_private(channel);
        client
    })
}

fn member(server: &Server, channel: &str, id: &str) -> Client {
    let mut client = Client::connect(server);
    client.subscribe_presence(channel, &json!({"user_id": id}));
    client
}

// Cases 84 and 86; 12.2: object data becomes a string, which swift needs.
#[test]
fn the_others_get_it_with_its_data_as_a_string_and_the_sender_gets_nothing() {
    on_shards(|server| {
        let channel = unique("private-chat-");
        let [mut sender, mut other] = private_pair(server, &channel);
        sender.send_text(&format!(
            r#"{{"event":"client-typing","channel":"{channel}","data":{{"on":true}}}}"#
        ));
        let raw = format!(
            r#"{{"event":"client-typing","channel":"{channel}","data":"{{\"on\":true}}"}}"#
        );
        assert_eq!(other.text(), raw);
        sender.sync();
        sender.expect_nothing();
    });
}

// Case 85, peers.md 7; 12.2.
#[test]
fn on_a_presence_channel_the_server_says_who_sent_it() {
    on_shards(|server| {
        let channel = unique("presence-chat-");
        let mut other = member(server, &channel, "u2");
        let mut sender = member(server, &channel, "u1");
        other.expect("pusher_internal:member_added");
        sender.send_text(&format!(
            r#"{{"user_id":"admin","event":"client-x","channel":"{channel}","data":{{}},"socket_id":"1.1","more":1}}"#
        ));
        let raw =
            format!(r#"{{"event":"client-x","channel":"{channel}","data":"{{}}","user_id":"u1"}}"#);
        assert_eq!(other.text(), raw);
        // What the API publishes has no user, whatever its name (9.1).
        Publisher::connect(server).publish(&channel, "client-x", "x");
        other.expect_event(&channel, "client-x", "x");
        sender.expect_event(&channel, "client-x", "x");
    });
}

// Case 86; 12.2.
#[test]
fn on_a_private_channel_a_user_id_is_dropped() {
    on_shards(|server| {
        let channel = unique("private-chat-");
        let [mut sender, mut other] = private_pair(server, &channel);
        let mut forged = event(&channel, "client-x", &json!({}));
        forged["user_id"] = json!("admin");
        sender.send(&forged);
        assert_eq!(other.expect("client-x").user_id, None);
    });
}

// Case 87; 12.2.
#[test]
fn another_connection_of_the_same_user_gets_it() {
    on_shards(|server| {
        let channel = unique("presence-same-");
        let mut sender = member(server, &channel, "u1");
        let mut tab = member(server, &channel, "u1");
        sender.send(&event(&channel, "client-x", &json!("hello")));
        let got = tab.expect("client-x");
        assert_eq!((got.text(), got.user_id.as_deref()), ("hello", Some("u1")));
        sender.sync();
        sender.expect_nothing();
    });
}

// Case 88; 12.2.
#[test]
fn strings_pass_as_they_are_and_missing_data_is_an_empty_object() {
    on_shards(|server| {
        let channel = unique("private-data-");
        let [mut sender, mut other] = private_pair(server, &channel);
        for (data, text) in [
            (r#","data":"raw""#, "raw"),
            (r#","data":"\u0041\n\ud83d\ude00\"""#, "A\n\u{1f600}\""),
            (r#","data":"{\"a\":1}""#, r#"{"a":1}"#),
            (
                r#","data":{ "n": 1.0, "big": 12345678901234567890 }"#,
                r#"{ "n": 1.0, "big": 12345678901234567890 }"#,
            ),
            (r#","data":[1,2]"#, "[1,2]"),
            (r#","data":5"#, "5"),
            (r#","data":null"#, "null"),
            (r#","data":"""#, ""),
            ("", "{}"),
        ] {
            sender.send_text(&format!(
                r#"{{"event":"client-x","channel":"{channel}"{data}}}"#
            ));
            assert_eq!(other.expect("client-x").text(), text);
        }
    });
}

// Cases 89 and 94; 12.1.3 and 12.1.4, in this order.
#[test]
fn where_they_are_not_allowed_they_are_refused_with_4301_and_nobody_gets_them() {
    const KIND: &str = "Client event rejected - only supported on private and presence channels";
    on_shards(|server| {
        let public = unique("public-");
        let private = unique("private-");
        let left = unique("private-left-");
        let [mut sender, mut other] = private_pair(server, &left);
        sender.subscribe(&public);
        other.subscribe(&public);
        other.subscribe_private(&private);
        sender.unsubscribe(&left);
        for channel in [&*public, "#server-to-user-u1", "#x", "cache-x", "a b", ""] {
            sender.send(&event(channel, "client-x", &json!({})));
            assert_eq!(sender.expect_error(4301), KIND, "{channel}");
        }
        for channel in [&private, &left] {
            sender.send(&event(channel, "client-x", &json!({})));
            let expected = format!(
                "Cannot broadcast client event (connection not subscribed to channel {channel})"
            );
            assert_eq!(sender.expect_error(4301), expected);
        }
        for channel in [json!(null), json!(5), json!([private])] {
            let message = json!({"event": "client-x", "channel": channel, "data": {}});
            sender.send(&message);
            sender.expect_error(4301);
        }
        sender.send(&json!({"event": "client-x", "data": {}}));
        sender.expect_error(4301);
        sender.sync();
        other.sync();
        other.expect_nothing();
    });
}

// Case 89; 12.1.4: only a committed subscription counts.
#[test]
fn behind_a_refused_subscribe_nothing_is_relayed() {
    on_shards(|server| {
        for prefix in ["private-", "presence-"] {
            let channel = unique(prefix);
            let mut client = Client::connect(server);
            let auth = json!({"channel": channel, "auth": "x:y", "channel_data": "{}"});
            let mut bytes =
                text_frame(&json!({"event": "pusher:subscribe", "data": auth}).to_string());
            bytes.extend(text_frame(
                &event(&channel, "client-x", &json!({})).to_string(),
            ));
            client.tcp.send(bytes);
            client.expect_refused(&channel, 4009, "AuthError", 401);
            client.expect_error(4301);
        }
    });
}

// Case 90; 12.1.1: the app's switch comes first.
#[test]
fn where_the_app_has_them_off_all_are_refused() {
    on_shards(|server| {
        let channel = unique("private-off-");
        let mut sender = Client::connect_to(server, B);
        let mut other = Client::connect_to(server, B);
        sender.subscribe_private(&channel);
        other.subscribe_private(&channel);
        for channel in [&*channel, "public", ""] {
            sender.send(&event(channel, "client-x", &json!({})));
            let message = sender.expect_error(4301);
            assert!(message.starts_with("To send client events"), "{message}");
        }
        other.expect_nothing();
    });
}

// Case 91; 12.1.2 and 3.1.
#[test]
fn other_names_are_no_client_events() {
    on_shards(|server| {
        let channel = unique("private-names-");
        let [mut sender, mut other] = private_pair(server, &channel);
        for name in ["client", "Client-x", "my-event", "client_x", " client-x"] {
            sender.send(&event(&channel, name, &json!({})));
            let expected = format!("Unsupported event received on socket: {name}");
            assert_eq!(sender.expect_error(None), expected);
        }
        // The prefix alone is one, with an empty rest.
        sender.send(&event(&channel, "client-", &json!({})));
        other.expect("client-");
    });
}

// Case 92; 12.1.2 and 12.1.5: characters of a name, bytes of what is delivered.
#[test]
fn a_name_may_have_200_characters_and_data_10_kib() {
    on_shards(|server| {
        let channel = unique("private-limits-");
        let [mut sender, mut other] = private_pair(server, &channel);
        let name = |chars: usize| format!("client-{}", "\u{e9}".repeat(chars - 7));
        sender.send(&event(&channel, &name(200), &json!({})));
        other.expect(&name(200));
        sender.send(&event(&channel, &name(201), &json!({})));
        sender.expect_error(4301);
        // Escaped twice as long in the message; as a string it has its 10 240 bytes.
        let quotes = "\"".repeat(10_240);
        let object = |bytes: usize| json!({"a": "x".repeat(bytes - r#"{"a":""}"#.len())});
        for data in [json!(quotes), object(10_240), json!("\u{e9}".repeat(5120))] {
            sender.send(&event(&channel, "client-x", &data));
            assert_eq!(other.expect("client-x").text().len(), 10_240);
        }
        for data in [
            json!(quotes + "x"),
            object(10_241),
            json!("\u{e9}".repeat(5121)),
        ] {
            sender.send(&event(&channel, "client-x", &data));
            sender.expect_error(4301);
        }
        sender.sync();
    });
}

// Case 93; 12.1.6: refused ones are not counted against it.
#[test]
fn ten_in_a_second_are_relayed_and_the_limit_is_the_connections_own() {
    on_shards(|server| {
        let channel = unique("private-rate-");
        let [mut sender, mut other] = private_pair(server, &channel);
        // Not subscribed: they come before the rate is looked at.
        let refused = event("private-elsewhere", "client-x", &json!({})).to_string();
        let sent: Vec<u8> = (0..5)
            .flat_map(|_| text_frame(&refused))
            .chain((0..12).flat_map(|n| {
                text_frame(&event(&channel, "client-x", &json!(n.to_string())).to_string())
            }))
            .collect();
        let began = Instant::now();
        sender.tcp.send(sent);
        for _ in 0..5 {
            sender.expect_error(4301);
        }
        for _ in 10..12 {
            sender.expect_error(4301);
        }
        for n in 0..10 {
            assert_eq!(other.expect("client-x").text(), n.to_string());
        }
        other.send(&event(&channel, "client-y", &json!({})));
        sender.expect("client-y");
        std::thread::sleep(Duration::from_millis(1100).saturating_sub(began.elapsed()));
        sender.send(&event(&channel, "client-x", &json!("again")));
        assert_eq!(other.expect("client-x").text(), "again");
    });
}

// Case 95, peers.md 18; 12.2 and 13.
#[test]
fn on_cache_channels_they_are_relayed_and_not_cached() {
    on_shards(|server| {
        let private = unique("private-cache-");
        let presence = unique("presence-cache-");
        let channel_data = json!({"user_id": "u1"});
        let connect = || {
            let mut client = Client::connect(server);
            client.subscribe_private(&private);
            client.expect("pusher:cache_miss");
            client.subscribe_presence(&presence, &channel_data);
            client.expect("pusher:cache_miss");
            client
        };
        let mut sender = connect();
        let mut other = connect();
        for channel in [&private, &presence] {
            sender.send(&event(channel, "client-x", &json!({})));
            let got = other.expect("client-x");
            assert_eq!(got.channel.as_ref(), Some(channel));
        }
        connect().sync();
    });
}

// 11: nothing forbids them on encrypted channels.
#[test]
fn encrypted_channels_are_private_channels_here() {
    on_shards(|server| {
        let channel = unique("private-encrypted-");
        let [mut sender, mut other] = private_pair(server, &channel);
        sender.send(&event(
            &channel,
            "client-x",
            &json!({"nonce": "n", "ciphertext": "c"}),
        ));
        let got = other.expect("client-x");
        assert_eq!(got.json(), json!({"nonce": "n", "ciphertext": "c"}));
    });
}
