//! Public channels: names, subscribing once, twice or never, leaving.

mod support;

use serde_json::json;

use support::{A, Client, Config, Publisher, WAIT, on_shards, on_shards_with, unique};

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
