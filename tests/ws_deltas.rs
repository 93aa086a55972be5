//! Delta compression on the wire: who gets which form of an event (extensions spec 3). What the
//! decoders of clients make of it is in `tests/clients`.

mod support;

use base64::Engine as _;
use serde_json::{Value, json};

use support::websocket::WebSocket;
use support::{A, Client, Config, Publisher, Server, on_shards, on_shards_with, unique};

/// A text of some length, of which little differs from one number to the next.
fn data(number: u32) -> String {
    format!(
        "{}{number}",
        "all work and no play makes a dull stream. ".repeat(8)
    )
}

/// The event as it is without deltas.
fn event(channel: &str, data: &str) -> String {
    format!(r#"{{"event":"tick","channel":"{channel}","data":"{data}"}}"#)
}

/// The same with its place in a stream.
fn full(channel: &str, data: &str, seq: u64) -> String {
    let event = event(channel, data);
    let event = event.strip_suffix('}').unwrap();
    format!(r#"{event},"__delta_seq":{seq}}}"#)
}

/// A client that puts events together; what it gets is compared whole.
struct Decoding {
    client: Client,
    base: String,
}

impl Decoding {
    /// Subscribed with this wish.
    fn subscribed(server: &Server, channel: &str, wish: Value) -> Self {
        let mut client = Client::connect(server);
        let data = json!({"channel": channel, "delta": wish});
        client.send(&json!({"event": "pusher:subscribe", "data": data}));
        client.expect_subscribed(channel);
        assert!(
            client
                .text()
                .starts_with(r#"{"event":"pusher:delta_compression_enabled""#)
        );
        Self::new(client)
    }

    fn new(client: Client) -> Self {
        Self {
            client,
            base: String::new(),
        }
    }

    /// The next event comes in full.
    #[track_caller]
    fn expect_full(&mut self, channel: &str, data: &str, seq: u64) {
        assert_eq!(self.client.text(), full(channel, data, seq));
        self.base = event(channel, data);
    }

    /// The next event comes as a delta against the one before it.
    #[track_caller]
    fn expect_delta(&mut self, channel: &str, data: &str, seq: u64, base: u64) {
        let text = self.client.text();
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["event"], "pusher:delta", "{text}");
        let delta = frame["data"]["delta"].as_str().expect("a delta");
        let expected = format!(
            r#"{{"event":"pusher:delta","channel":"{channel}","data":{{"event":"tick","delta":"{delta}","seq":{seq},"base_index":{base},"algorithm":"fossil"}}}}"#
        );
        assert_eq!(text, expected);
        let delta = base64::engine::general_purpose::STANDARD
            .decode(delta)
            .unwrap();
        self.base = fossil(&self.base, &delta);
        assert_eq!(self.base, event(channel, data));
    }
}

/// A fossil delta applied; its checksum is not looked at.
fn fossil(base: &str, delta: &[u8]) -> String {
    let mut rest = delta;
    number(&mut rest);
    let mut target = String::new();
    loop {
        match number(&mut rest) {
            (count, b'@') => {
                let (from, _) = number(&mut rest);
                target += &base[from..from + count];
            }
            (count, b':') => {
                let (literal, behind) = rest.split_at(count);
                target += std::str::from_utf8(literal).unwrap();
                rest = behind;
            }
            _ => return target,
        }
    }
}

/// A number, and the byte behind it.
fn number(rest: &mut &[u8]) -> (usize, u8) {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
    let mut number = 0;
    loop {
        let (&byte, behind) = rest.split_first().unwrap();
        *rest = behind;
        match DIGITS.iter().position(|digit| *digit == byte) {
            Some(digit) => number = number * 64 + digit,
            None => return (number, byte),
        }
    }
}

#[test]
fn the_first_event_is_full_and_the_next_ones_are_deltas_up_to_the_interval() {
    on_shards(|server| {
        let channel = unique("stream-");
        let mut plain = Client::connect(server);
        plain.subscribe(&channel);
        let mut client = Decoding::subscribed(server, &channel, json!(true));
        let mut publisher = Publisher::connect(server);
        for number in 1..=13 {
            let data = data(number);
            publisher.publish(&channel, "tick", &data);
            let seq = u64::from(number);
            match number {
                // Ten deltas, and then one in full.
                1 | 12 => client.expect_full(&channel, &data, seq),
                _ => client.expect_delta(&channel, &data, seq, seq - 1),
            }
            assert_eq!(plain.text(), event(&channel, &data));
        }
    });
}

#[test]
fn confirmations_say_what_is_on() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for (wish, confirmed) in [
            (r#","data":{"algorithms":["zip"]}"#, r#"{"enabled":false}"#),
            (
                r#","data":{"algorithms":["zip","xdelta3","fossil"]}"#,
                r#"{"enabled":true,"algorithm":"xdelta3"}"#,
            ),
            // The first algorithm stays.
            ("", r#"{"enabled":true,"algorithm":"xdelta3"}"#),
        ] {
            client.send_text(&format!(
                r#"{{"event":"pusher:enable_delta_compression"{wish}}}"#
            ));
            let text =
                format!(r#"{{"event":"pusher:delta_compression_enabled","data":{confirmed}}}"#);
            assert_eq!(client.text(), text);
        }
        // Of a subscription, behind its success and in front of what is cached.
        let channel = unique("cache-confirmed-");
        let data = json!({"channel": channel, "delta": {"enabled": true, "algorithm": "fossil"}});
        client.send(&json!({"event": "pusher:subscribe", "data": data}));
        client.expect_subscribed(&channel);
        let text = format!(
            r#"{{"event":"pusher:delta_compression_enabled","channel":"{channel}","data":{{"enabled":true,"algorithm":"fossil","channel":"{channel}"}}}}"#
        );
        assert_eq!(client.text(), text);
        client.expect("pusher:cache_miss");
        client.sync();
    });
}

#[test]
fn a_connection_that_enables_deltas_gets_them_on_what_it_has_and_what_it_will_have() {
    on_shards(|server| {
        let (before, after, never) = (unique("before-"), unique("after-"), unique("never-"));
        let mut client = Client::connect(server);
        client.subscribe(&before);
        let data_never = json!({"channel": never, "delta": false});
        client.send(&json!({"event": "pusher:subscribe", "data": data_never}));
        client.expect_subscribed(&never);
        client.send_text(r#"{"event":"pusher:enable_delta_compression","data":{}}"#);
        client.expect("pusher:delta_compression_enabled");
        client.subscribe(&after);
        let mut publisher = Publisher::connect(server);
        let mut client = Decoding::new(client);
        for channel in [&before, &after] {
            for number in 1..=2 {
                publisher.publish(channel, "tick", &data(number));
            }
            client.expect_full(channel, &data(1), 1);
            client.expect_delta(channel, &data(2), 2, 1);
        }
        publisher.publish(&never, "tick", &data(1));
        assert_eq!(client.client.text(), event(&never, &data(1)));
    });
}

#[test]
fn a_resync_a_resubscription_and_an_exclusion_are_followed_by_a_full_event() {
    on_shards(|server| {
        let channel = unique("again-");
        let mut client = Decoding::subscribed(server, &channel, json!(true));
        let mut other = Decoding::subscribed(server, &channel, json!("fossil"));
        let mut publisher = Publisher::connect(server);
        let mut publish = |number, except: Option<&str>| match except {
            Some(id) => publisher.publish_except(id, &channel, "tick", &data(number)),
            None => publisher.publish(&channel, "tick", &data(number)),
        };
        publish(1, None);
        publish(2, None);
        for client in [&mut client, &mut other] {
            client.expect_full(&channel, &data(1), 1);
            client.expect_delta(&channel, &data(2), 2, 1);
        }
        let resync = json!({"event": "pusher:delta_sync_error", "data": {"channel": channel}});
        client.client.send(&resync);
        client.client.sync();
        publish(3, None);
        client.expect_full(&channel, &data(3), 3);
        other.expect_delta(&channel, &data(3), 3, 2);
        let id = client.client.socket_id.clone();
        publish(4, Some(&id));
        publish(5, None);
        client.expect_full(&channel, &data(5), 5);
        other.expect_delta(&channel, &data(4), 4, 3);
        other.expect_delta(&channel, &data(5), 5, 4);
        publish(6, None);
        client.expect_delta(&channel, &data(6), 6, 5);
        other.expect_delta(&channel, &data(6), 6, 5);
        client.client.unsubscribe(&channel);
        let wish = json!({"channel": channel, "delta": true});
        client
            .client
            .send(&json!({"event": "pusher:subscribe", "data": wish}));
        client.client.expect_subscribed(&channel);
        client.client.expect("pusher:delta_compression_enabled");
        publish(7, None);
        client.expect_full(&channel, &data(7), 7);
        other.expect_delta(&channel, &data(7), 7, 6);
        // Of what nobody is subscribed to there is nothing to forget.
        let resync = json!({"event": "pusher:delta_sync_error", "data": {"channel": "nothing"}});
        client.client.send(&resync);
        client.client.sync();
    });
}

// Peers 22: the publisher's wish has an effect.
#[test]
fn a_publisher_may_wish_for_deltas_or_against_them() {
    on_shards(|server| {
        let channel = unique("wish-");
        let mut client = Decoding::subscribed(server, &channel, json!(true));
        let mut publisher = Publisher::connect(server);
        let mut publish = |data: &str, delta: Value| {
            let body = json!({"name": "tick", "channel": channel, "data": data, "delta": delta});
            publisher.publish_json(&body);
        };
        // Small events are sent in full, unless somebody wishes otherwise.
        publish("a", Value::Null);
        client.expect_full(&channel, "a", 1);
        publish("b", Value::Null);
        client.expect_full(&channel, "b", 2);
        publish("c", json!(true));
        client.expect_delta(&channel, "c", 3, 2);
        publish(&data(4), json!(false));
        client.expect_full(&channel, &data(4), 4);
        publish(&data(5), Value::Null);
        client.expect_delta(&channel, &data(5), 5, 4);
        // Nothing in common: the delta would be no smaller.
        let other: String = (0..400)
            .map(|n| char::from(b'A' + (n * n % 23) as u8))
            .collect();
        publish(&other, Value::Null);
        client.expect_full(&channel, &other, 6);
    });
}

#[test]
fn each_conflation_key_has_its_own_stream() {
    let config = Config::only(
        &A,
        "delta_channels = [\"ticker-* conflation_key=asset.name\"]\n",
    );
    on_shards_with(&config, |server| {
        let channel = "ticker-1";
        let mut client = Client::connect(server);
        let wish = json!({"channel": channel, "delta": true});
        client.send(&json!({"event": "pusher:subscribe", "data": wish}));
        client.expect_subscribed(channel);
        client.expect("pusher:delta_compression_enabled");
        let mut publisher = Publisher::connect(server);
        let mut publish = |name: Option<&str>, price: u32| {
            let asset = name.map_or_else(|| json!({}), |name| json!({"name": name}));
            let data = json!({"asset": asset, "note": data(0), "price": price}).to_string();
            publisher.publish(channel, "tick", &data);
        };
        let mut bases: Vec<(String, u64)> = Vec::new();
        for (key, price, is_delta) in [
            (Some("BTC"), 1, false),
            (Some("ETH"), 1, false),
            (Some("BTC"), 2, true),
            (None, 1, false),
            (Some("ETH"), 2, true),
            (None, 2, true),
        ] {
            publish(key, price);
            let text = client.text();
            let frame: Value = serde_json::from_str(&text).unwrap();
            let key = key.unwrap_or_default();
            let last = bases.iter().rev().find(|(known, _)| known == key);
            let last = last.map_or(0, |(_, seq)| *seq);
            let seq = match is_delta {
                true => {
                    assert_eq!(frame["data"]["conflation_key"], key, "{text}");
                    assert_eq!(frame["data"]["base_index"], last, "{text}");
                    frame["data"]["seq"].as_u64().unwrap()
                }
                false => {
                    let end = format!(
                        r#","__delta_seq":{},"__conflation_key":"{key}"}}"#,
                        last + 1
                    );
                    assert!(text.ends_with(&end), "{text}");
                    frame["__delta_seq"].as_u64().unwrap()
                }
            };
            assert_eq!(seq, last + 1);
            bases.push((key.to_owned(), seq));
        }
    });
}

#[test]
fn a_filter_leaves_each_subscription_the_last_event_that_passed_as_its_base() {
    on_shards(|server| {
        let channel = unique("filtered-");
        let mut client = Client::connect(server);
        let filter = json!({"key": "n", "cmp": "eq", "val": "1"});
        let wish = json!({"channel": channel, "delta": true, "filter": filter});
        client.send(&json!({"event": "pusher:subscribe", "data": wish}));
        client.expect_subscribed(&channel);
        client.expect("pusher:delta_compression_enabled");
        let mut client = Decoding::new(client);
        let mut publisher = Publisher::connect(server);
        for (number, tag) in [(1, 1), (2, 2), (3, 1), (4, 1), (5, 2), (6, 2), (7, 1)] {
            publisher.publish_json(&json!({
                "name": "tick", "channel": channel, "data": data(number), "tags": {"n": tag},
            }));
        }
        client.expect_full(&channel, &data(1), 1);
        client.expect_delta(&channel, &data(3), 3, 1);
        client.expect_delta(&channel, &data(4), 4, 3);
        client.expect_delta(&channel, &data(7), 7, 4);
        client.client.sync();
    });
}

#[test]
fn the_interval_counts_for_those_who_filter_too() {
    on_shards(|server| {
        let channel = unique("filtered-interval-");
        let mut client = Client::connect(server);
        let filter = json!({"key": "n", "cmp": "ex"});
        let wish = json!({"channel": channel, "delta": true, "filter": filter});
        client.send(&json!({"event": "pusher:subscribe", "data": wish}));
        client.expect_subscribed(&channel);
        client.expect("pusher:delta_compression_enabled");
        let mut client = Decoding::new(client);
        let mut publisher = Publisher::connect(server);
        for number in 1..=13 {
            let data = data(number);
            publisher.publish_json(&json!({
                "name": "tick", "channel": channel, "data": data, "tags": {"n": 1},
            }));
            let seq = u64::from(number);
            match number {
                1 | 12 => client.expect_full(&channel, &data, seq),
                _ => client.expect_delta(&channel, &data, seq, seq - 1),
            }
        }
    });
}

#[test]
fn events_of_presence_channels_are_compressed_and_client_events_too() {
    on_shards(|server| {
        let room = unique("presence-");
        let [mut client, mut other] = [(); 2].map(|()| Client::connect(server));
        other.subscribe_presence(&room, &json!({"user_id": "u2"}));
        let member = json!({"user_id": "u1"}).to_string();
        let auth = A.auth(&client.socket_id, &room, Some(&member));
        let wish = json!({"channel": room, "auth": auth, "channel_data": member, "delta": true});
        client.send(&json!({"event": "pusher:subscribe", "data": wish}));
        client.expect("pusher_internal:subscription_succeeded");
        client.expect("pusher:delta_compression_enabled");
        let mut client = Decoding::new(client);
        let mut publisher = Publisher::connect(server);
        for number in 1..=2 {
            publisher.publish(&room, "tick", &data(number));
        }
        // Numbers begin behind the frames of the two who have come.
        client.expect_full(&room, &data(1), 3);
        client.expect_delta(&room, &data(2), 4, 3);
        // What a client says has its place in the same stream, with the user who said it.
        let said = json!({"event": "client-said", "channel": room, "data": data(3)});
        other.send(&said);
        let delta: Value = serde_json::from_str(&client.client.text()).unwrap();
        assert_eq!(delta["data"]["event"], "client-said", "{delta}");
        assert_eq!(delta["data"]["base_index"], 4, "{delta}");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(delta["data"]["delta"].as_str().unwrap())
            .unwrap();
        let text: Value = serde_json::from_str(&fossil(&client.base, &bytes)).unwrap();
        assert_eq!(
            (&text["data"], &text["user_id"]),
            (&json!(data(3)), &json!("u2"))
        );
    });
}

/// Who has just subscribed and wished for deltas is told that there are none, and gets none.
fn expect_without_deltas(server: &Server, client: &mut Client, channel: &str) {
    client.expect_subscribed(channel);
    let confirmed = client.expect("pusher:delta_compression_enabled");
    assert_eq!(confirmed.data["enabled"], false);
    let mut publisher = Publisher::connect(server);
    for number in 1..=2 {
        publisher.publish(channel, "tick", &data(number));
        assert_eq!(client.text(), event(channel, &data(number)));
    }
}

#[test]
fn encrypted_channels_and_platform_events_have_none() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        client.send_text(r#"{"event":"pusher:enable_delta_compression"}"#);
        client.expect("pusher:delta_compression_enabled");
        let channel = unique("private-encrypted-");
        let auth = A.auth(&client.socket_id, &channel, None);
        let wish = json!({"channel": channel, "auth": auth, "delta": true});
        client.send(&json!({"event": "pusher:subscribe", "data": wish}));
        expect_without_deltas(server, &mut client, &channel);
        let room = unique("presence-");
        client.subscribe_presence(&room, &json!({"user_id": "u1"}));
        let mut other = Client::connect(server);
        other.subscribe_presence(&room, &json!({"user_id": "u2", "user_info": data(1)}));
        let added = client.expect("pusher_internal:member_added");
        assert!(!added.raw.contains("delta"), "{}", added.raw);
    });
}

#[test]
fn where_the_app_forbids_deltas_nobody_gets_any() {
    let config = Config::only(&A, "delta_compression = false\n");
    on_shards_with(&config, |server| {
        let channel = unique("off-");
        let mut client = Client::connect(server);
        client.send_text(r#"{"event":"pusher:enable_delta_compression"}"#);
        let text = r#"{"event":"pusher:delta_compression_enabled","data":{"enabled":false}}"#;
        assert_eq!(client.text(), text);
        let wish = json!({"channel": channel, "delta": "fossil"});
        client.send(&json!({"event": "pusher:subscribe", "data": wish}));
        expect_without_deltas(server, &mut client, &channel);
    });
}

#[test]
fn clients_of_protocol_2_get_them_under_their_prefix() {
    on_shards(|server| {
        let channel = unique("two-");
        let mut pusher = Decoding::subscribed(server, &channel, json!(true));
        let mut socket = WebSocket::open(server, &A.target_with("protocol=2"));
        socket.text();
        socket.send_text(r#"{"event":"sockudo:enable_delta_compression"}"#);
        let text = r#"{"event":"sockudo:delta_compression_enabled","data":{"enabled":true,"algorithm":"fossil"}}"#;
        assert_eq!(socket.text(), text);
        let data_of_subscribe = json!({"channel": channel});
        let subscribe = json!({"event": "sockudo:subscribe", "data": data_of_subscribe});
        socket.send_text(&subscribe.to_string());
        socket.text();
        let mut publisher = Publisher::connect(server);
        for number in 1..=2 {
            publisher.publish(&channel, "tick", &data(number));
        }
        assert_eq!(socket.text(), full(&channel, &data(1), 1));
        pusher.expect_full(&channel, &data(1), 1);
        let delta = socket.text();
        assert!(delta.starts_with(r#"{"event":"sockudo:delta","#), "{delta}");
        let same = delta.replacen("sockudo", "pusher", 1);
        assert_eq!(pusher.client.text(), same);
    });
}
