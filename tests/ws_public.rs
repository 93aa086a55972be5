//! Public channels: names, subscribing twice or never, what is published, who does not get it.

mod support;

use std::thread;

use serde_json::{Value, json};

use support::{A, B, Client, Config, Publisher, SILENCE, WAIT, on_shards, on_shards_with, unique};

// Case 44; 2 and 7.3.
#[test]
fn success_has_the_channel_and_an_empty_object_as_a_string() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let channel = unique("news");
        client.send_subscribe(&channel);
        let raw = format!(
            r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
        );
        assert_eq!(client.text(), raw);
    });
}

// Case 45; 2 and 3: how libraries say it.
#[test]
fn data_may_be_a_string_and_null_is_absence() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let channel = unique("forms");
        for data in [
            json!(format!(r#"{{"channel":"{channel}"}}"#)),
            json!({"channel": channel}),
            json!({"channel": channel, "auth": null, "channel_data": null}),
            json!({"channel": channel, "auth": "ignored:here", "channel_data": "x", "more": [1]}),
        ] {
            client.send(&json!({"event": "pusher:subscribe", "data": data}));
            client.expect_subscribed(&channel);
            client.send(&json!({"event": "pusher:unsubscribe", "data": data}));
            client.sync();
        }
    });
}

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

// Case 49; 7.1: the subscription that there is stays as it is.
#[test]
fn a_second_subscribe_is_an_error_and_events_still_come_once() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        for channel in [unique("twice"), unique("cache-twice")] {
            client.subscribe(&channel);
            if channel.starts_with("cache-") {
                client.expect("pusher:cache_miss");
            }
            client.send_subscribe(&channel);
            let message = client.expect_error(None);
            assert_eq!(
                message,
                format!("Existing subscription to channel {channel}")
            );
            assert_eq!(publisher.subscription_count(&channel), 1);
            client.expect("counted");
            publisher.publish(&channel, "e", "once");
            client.expect_event(&channel, "e", "once");
            client.sync();
        }
    });
}

// Case 50; 8.
#[test]
fn unsubscribing_is_silent_and_ends_events_until_the_next_subscribe() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        let channel = unique("left");
        client.subscribe(&channel);
        client.unsubscribe(&channel);
        client.sync();
        publisher.publish(&channel, "e", "nobody");
        client.expect_nothing();
        client.unsubscribe(&channel);
        let message = client.expect_error(None);
        let expected =
            format!("No current subscription to channel {channel}, or subscription in progress");
        assert_eq!(message, expected);
        client.subscribe(&channel);
        publisher.publish(&channel, "e", "again");
        client.expect_event(&channel, "e", "again");
    });
}

// Case 51; 8.
#[test]
fn unsubscribing_from_what_was_never_subscribed_is_an_error() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for channel in [&*unique("never"), "presence-never", "a b", "", "#x"] {
            client.unsubscribe(channel);
            client.expect_error(None);
        }
        client.sync();
    });
}

// Case 52; 6.2.
#[test]
fn names_up_to_200_characters_of_the_alphabet_are_channels() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        let longest = unique(&"x".repeat(190));
        let longest = format!("{longest:y<200}");
        for channel in [&*longest, &unique("aZ0_-=@,.;"), &unique("_"), &unique(";")] {
            client.subscribe(channel);
            publisher.publish(channel, "e", "x");
            client.expect_event(channel, "e", "x");
        }
    });
}

// Case 52; 6.2 and 7.4.
#[test]
fn other_names_are_refused_with_the_rule_and_invalid_channel() {
    let too_long = "x".repeat(201);
    let rows = [
        " ",
        "a b",
        "a/b",
        "a:b",
        "#x",
        "#server-to-user",
        "*",
        "\u{e9}",
        "\u{65e5}",
        "",
        "a\n",
        "%20",
        "a%3Db",
        "a\0",
        "private-a:b",
        &too_long,
    ];
    on_shards(|server| {
        let mut client = Client::connect(server);
        for name in rows {
            client.send_subscribe(name);
            client.expect_refused(name, None, "InvalidChannel", 400);
            client.unsubscribe(name);
            client.expect_error(None);
        }
        client.sync();
    });
}

// Case 53; 3.1: no string, no `pusher:subscription_error`.
#[test]
fn a_subscribe_that_names_no_channel_is_no_message() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for event in ["pusher:subscribe", "pusher:unsubscribe"] {
            for data in [
                json!({}),
                json!({"channel": 5}),
                json!({"channel": null}),
                json!({"channel": ["news"]}),
                json!({"channel": "news", "auth": 5}),
                json!({"channel": "news", "channel_data": {"user_id": "u"}}),
                json!(null),
                json!("news"),
                json!("{\"channel\":5}"),
                json!([{"channel": "news"}]),
            ] {
                client.send(&json!({"event": event, "data": data}));
                assert_eq!(
                    client.expect_error(None),
                    "Invalid message format",
                    "{data}"
                );
            }
            client.send(&json!({"event": event}));
            assert_eq!(client.expect_error(None), "Invalid message format");
        }
        client.sync();
    });
}

// Case 54, peers.md 9; 6.1: prefixes are literal and at the start.
#[test]
fn what_only_resembles_a_prefix_is_public_and_not_cached() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        for prefix in [
            "Private-x",
            "privatex",
            "presence",
            "presencex",
            "room-cache-1",
            "x-private-y",
            "cache",
            "Cache-x",
            "cachex",
        ] {
            let channel = unique(prefix);
            publisher.publish(&channel, "e", "before");
            client.subscribe(&channel);
            client.sync();
            client.send_text(&format!(
                r#"{{"event":"client-x","channel":"{channel}","data":{{}}}}"#
            ));
            client.expect_error(4301);
        }
    });
}

// Case 55; 6.3: no limit on channels per connection.
#[test]
fn a_thousand_subscriptions_of_one_connection() {
    on_shards(|server| {
        let channels: Vec<_> = (0..1000).map(|_| unique("thousand")).collect();
        let mut client = Client::connect(server);
        for some in channels.chunks(50) {
            for channel in some {
                client.send_subscribe(channel);
            }
            for channel in some {
                client.expect_subscribed(channel);
            }
        }
        let mut publisher = Publisher::connect(server);
        let sample: Vec<_> = channels.iter().step_by(97).collect();
        for channel in &sample {
            publisher.publish(channel, "e", "x");
            client.expect_event(channel, "e", "x");
        }
        drop(client);
        let began = std::time::Instant::now();
        for channel in sample {
            while publisher.subscription_count(channel) > 0 {
                assert!(began.elapsed() < WAIT, "{channel} is still occupied");
            }
        }
    });
}

// 6.3 and 18.1: a limit can be set.
#[test]
fn subscriptions_over_a_limit_that_was_set_are_refused() {
    let config = Config::only(&A, "").set("subscriptions_connection_max", 2);
    on_shards_with(&config, |server| {
        let mut client = Client::connect(server);
        client.subscribe("a");
        client.subscribe("b");
        client.send_subscribe("c");
        client.expect_refused("c", 4100, "LimitReached", 4100);
        client.unsubscribe("a");
        client.subscribe("c");
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
