//! Published events as subscribers see them: their form, their data, who does not get them.

mod support;

use std::thread;

use serde_json::{Value, json};

use support::{B, Client, Publisher, SILENCE, on_shards, unique};

// Case 46; 9.1.
#[test]
fn an_event_has_name_channel_and_data_in_this_order_and_nothing_else() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let channel = unique("news");
        client.subscribe(&channel);
        Publisher::connect(server).publish(&channel, "e", r#"{"a":1}"#);
        let raw = format!(r#"{{"event":"e","channel":"{channel}","data":"{{\"a\":1}}"}}"#);
        assert_eq!(client.text(), raw);
        client.sync();
    });
}

// Case 47; 9.2.
#[test]
fn published_strings_arrive_as_they_were() {
    let quotes = "\"".repeat(10_240);
    let rows = [
        "hello",
        "",
        "null",
        "\0",
        "\u{1f600}\u{e9}",
        "\u{2028}\u{2029}\u{7f}\u{ffff}",
        "\\\"/\u{8}\u{c}\n\r\t\u{1f}",
        r#"{"nested":"{\"twice\":\"\\u0000\"}"}"#,
        &quotes,
    ];
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        let channel = unique("strings");
        client.subscribe(&channel);
        for data in rows {
            publisher.publish(&channel, "e", data);
            client.expect_event(&channel, "e", data);
        }
        // Written with other escapes than ours; event names are strings too.
        let body = format!(
            r#"{{"name":"\u0065\ud83d\ude00","channel":"{channel}","data":"\u0041\/\ud83d\ude00"}}"#
        );
        assert_eq!(publisher.post("events", body.as_bytes()).status, 200);
        client.expect_event(&channel, "e\u{1f600}", "A/\u{1f600}");
    });
}

// Case 48, peers.md 18; 9.2: numbers keep their spelling.
#[test]
fn other_json_arrives_as_its_text() {
    let rows = [
        (r#"{"n":1.0,"big":12345678901234567890}"#, None),
        ("5", None),
        ("false", None),
        ("[1e400, -0.0 ,\"\u{e9}\"]", None),
        (r#"{ "a" : { } }"#, Some(r#"{ "a" : { } }"#)),
    ];
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        let channel = unique("json");
        client.subscribe(&channel);
        for (data, text) in rows {
            let body = format!(r#"{{"name":"e","channel":"{channel}","data":{data}}}"#);
            let answer = publisher.post("events", body.as_bytes());
            assert_eq!(answer.status, 200, "{data}: {}", answer.text());
            client.expect_event(&channel, "e", text.unwrap_or(data));
        }
    });
}

// Case 56: a fan-out that a subscriber leaves is whole for the others.
#[test]
fn a_client_that_goes_amid_a_fan_out_takes_nothing_from_the_others() {
    const EVENTS: usize = 3000;
    on_shards(|server| {
        let channel = unique("fan-out");
        let mut clients: Vec<_> = (0..6).map(|_| Client::connect(server)).collect();
        for client in &mut clients {
            client.subscribe(&channel);
        }
        let leaving = clients.split_off(3);
        thread::scope(|scope| {
            for mut client in clients {
                let channel = &channel;
                scope.spawn(move || {
                    for n in 0..EVENTS {
                        client.expect_event(channel, "e", &n.to_string());
                    }
                });
            }
            for (index, mut client) in leaving.into_iter().enumerate() {
                let channel = &channel;
                scope.spawn(move || {
                    for n in 0..(index + 1) * EVENTS / 5 {
                        client.expect_event(channel, "e", &n.to_string());
                    }
                    match index {
                        0 => client.into_socket().tcp.reset(),
                        1 => drop(client),
                        _ => client.unsubscribe(channel),
                    }
                });
            }
            let mut publisher = Publisher::connect(server);
            for first in (0..EVENTS).step_by(10) {
                let batch: Vec<Value> = (first..first + 10)
                    .map(|n| json!({"name": "e", "channel": channel, "data": n.to_string()}))
                    .collect();
                let body = json!({"batch": batch}).to_string();
                assert_eq!(publisher.post("batch_events", body.as_bytes()).status, 200);
            }
        });
    });
}

// Cases 136 and 137 from the subscribers' side; 9.1.
#[test]
fn the_publishers_own_socket_is_excluded_on_every_channel_and_nobody_else() {
    on_shards(|server| {
        let channels = [unique("except"), unique("except"), unique("except")];
        let mut own = Client::connect(server);
        let mut others: Vec<_> = (0..5).map(|_| Client::connect(server)).collect();
        for channel in &channels {
            own.subscribe(channel);
            for other in &mut others {
                other.subscribe(channel);
            }
        }
        let mut publisher = Publisher::connect(server);
        publisher.publish_json(&json!({
            "name": "e", "channels": channels, "data": "x", "socket_id": own.socket_id,
        }));
        for other in &mut others {
            let mut got: Vec<_> = (0..3).map(|_| other.event().channel.unwrap()).collect();
            got.sort_unstable();
            let mut expected = channels.to_vec();
            expected.sort_unstable();
            assert_eq!(got, expected);
        }
        // Of each channel the next event is the first that the excluded socket sees.
        for channel in &channels {
            publisher.publish(channel, "e", "for all");
            own.expect_event(channel, "e", "for all");
        }
    });
}

// 9.3: one publish is one frame for each channel that a connection is subscribed to.
#[test]
fn a_publish_to_several_channels_is_a_frame_for_each() {
    on_shards(|server| {
        let channels: Vec<_> = (0..10).map(|_| unique("several")).collect();
        let mut client = Client::connect(server);
        for channel in &channels[..7] {
            client.subscribe(channel);
        }
        // Named twice, delivered once (case 138).
        let named: Vec<_> = channels.iter().chain(&channels[..3]).collect();
        let body = json!({"name": "e", "channels": named, "data": "x"});
        Publisher::connect(server).publish_json(&body);
        let mut got: Vec<_> = (0..7).map(|_| client.event().channel.unwrap()).collect();
        got.sort_unstable();
        let mut expected = channels[..7].to_vec();
        expected.sort_unstable();
        assert_eq!(got, expected);
        client.expect_silence(SILENCE);
    });
}

// Case 150; 9.1: an app never sees another's events.
#[test]
fn channels_of_the_same_name_in_two_apps_are_two() {
    on_shards(|server| {
        let channel = unique("both");
        let mut a = Client::connect(server);
        let mut b = Client::connect_to(server, B);
        a.subscribe(&channel);
        b.subscribe(&channel);
        Publisher::connect(server).publish(&channel, "e", "for a");
        a.expect_event(&channel, "e", "for a");
        let mut publisher = Publisher::connect_to(server, B);
        publisher.publish(&channel, "e", "for b");
        b.expect_event(&channel, "e", "for b");
        // A socket id of app A excludes nobody in app B.
        publisher.publish_except(&a.socket_id, &channel, "e", "also for b");
        b.expect_event(&channel, "e", "also for b");
        assert_eq!(publisher.subscription_count(&channel), 1);
        a.expect_nothing();
    });
}
