//! Cache channels: the last event for newcomers, at one point in the order of the channel.

mod support;

use std::thread;
use std::time::Duration;

use serde_json::json;

use support::{A, Client, Config, Publisher, on_shards, on_shards_at_once, unique};

// Case 96; 13.
#[test]
fn an_empty_channel_is_a_miss_behind_the_success_frame() {
    on_shards(|server| {
        let channel = unique("cache-empty-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let raw = format!(r#"{{"event":"pusher:cache_miss","channel":"{channel}","data":"{{}}"}}"#);
        assert_eq!(client.text(), raw);
        client.sync();
    });
}

// Cases 97 and 98; 13.
#[test]
fn a_newcomer_gets_the_last_event_as_an_ordinary_one() {
    on_shards(|server| {
        let channel = unique("cache-last-");
        let mut publisher = Publisher::connect(server);
        publisher.publish(&channel, "a", "first");
        publisher.publish(&channel, "b", r#"{"second":"\u0000"}"#);
        // The cached event outlives every subscriber (6.3).
        for _ in 0..3 {
            let mut client = Client::connect(server);
            client.subscribe(&channel);
            client.expect_event(&channel, "b", r#"{"second":"\u0000"}"#);
            client.sync();
            client.unsubscribe(&channel);
            client.sync();
        }
    });
}

// Case 99; 13. The shards' clocks tick in seconds.
#[test]
fn an_event_is_kept_for_its_time_which_every_publish_restarts() {
    let config = Config::only(&A, "").set("cache_ttl_secs", 3);
    on_shards_at_once(&config, |server| {
        let mut publisher = Publisher::connect(server);
        let hits = |channel: &str| {
            let mut client = Client::connect(server);
            client.subscribe(channel);
            client.event().event == "e"
        };
        publisher.publish("cache-kept", "e", "1");
        publisher.publish("cache-once", "e", "1");
        thread::sleep(Duration::from_millis(2000));
        publisher.publish("cache-kept", "e", "2");
        thread::sleep(Duration::from_millis(1500));
        assert!(hits("cache-kept"));
        thread::sleep(Duration::from_millis(2700));
        assert!(!hits("cache-kept"));
        assert!(!hits("cache-once"));
    });
}

// Case 100; 13.
#[test]
fn who_is_excluded_from_an_event_still_finds_it_cached() {
    on_shards(|server| {
        let channel = unique("cache-except-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        client.expect("pusher:cache_miss");
        let mut publisher = Publisher::connect(server);
        publisher.publish_except(&client.socket_id, &channel, "e", "x");
        client.expect_nothing();
        client.unsubscribe(&channel);
        client.subscribe(&channel);
        client.expect_event(&channel, "e", "x");
    });
}

// Case 101, peers.md 18; 7.3.
#[test]
fn presence_and_encrypted_cache_channels_have_roster_and_payload() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut publisher = Publisher::connect(server);
        let presence = unique("presence-cache-");
        publisher.publish(&presence, "e", "cached");
        client.subscribe_presence(&presence, &json!({"user_id": "u1"}));
        client.expect_event(&presence, "e", "cached");
        let encrypted = unique("private-encrypted-cache-");
        let payload = r#"{"nonce":"bm9uY2U=","ciphertext":"Y2lwaGVy"}"#;
        publisher.publish(&encrypted, "e", payload);
        client.subscribe_private(&encrypted);
        client.expect_event(&encrypted, "e", payload);
        client.sync();
    });
}

// Case 102, peers.md 19; 13: each event once, from the cache or live, and none is missing between.
#[test]
fn who_subscribes_amid_publishes_sees_a_gapless_sequence() {
    const EVENTS: u32 = 400;
    on_shards(|server| {
        let channel = unique("cache-race-");
        thread::scope(|scope| {
            for _ in 0..4 {
                let channel = &channel;
                scope.spawn(move || {
                    let mut client = Client::connect(server);
                    let mut last = 0;
                    // Ever newer, also from one subscription to the next.
                    while last < EVENTS {
                        last = one_subscription(&mut client, channel, last);
                    }
                });
            }
            let mut publisher = Publisher::connect(server);
            for n in 1..=EVENTS {
                publisher.publish(channel.as_str(), "e", &n.to_string());
            }
        });
    });
}

/// Subscribes, follows for some events, leaves; the last number that was seen.
fn one_subscription(client: &mut Client, channel: &str, seen: u32) -> u32 {
    client.subscribe(channel);
    let first = client.event();
    let mut last = None;
    match &*first.event {
        "pusher:cache_miss" => assert_eq!(seen, 0),
        _ => last = Some(number(&first)),
    }
    assert!(
        last.is_none_or(|last| last >= seen),
        "{last:?} after {seen}"
    );
    client.unsubscribe(channel);
    client.send_text(r#"{"event":"pusher:ping"}"#);
    loop {
        let event = client.event();
        if event.event == "pusher:pong" {
            return last.unwrap_or(seen);
        }
        let number = number(&event);
        assert_eq!(number, last.map_or(number, |last| last + 1));
        last = Some(number);
    }
}

fn number(event: &support::Event) -> u32 {
    assert_eq!(event.event, "e", "{}", event.raw);
    event.text().parse().unwrap()
}

// Case 102: the same, staying.
#[test]
fn a_subscriber_that_stays_sees_everything_behind_its_first_event() {
    const EVENTS: u32 = 300;
    on_shards(|server| {
        let channel = unique("cache-stay-");
        thread::scope(|scope| {
            for index in 0..6 {
                let channel = &channel;
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(10 * index));
                    let mut client = Client::connect(server);
                    client.subscribe(channel);
                    let first = client.event();
                    let mut last = match &*first.event {
                        "pusher:cache_miss" => 0,
                        _ => number(&first),
                    };
                    while last < EVENTS {
                        assert_eq!(number(&client.event()), last + 1);
                        last += 1;
                    }
                });
            }
            let mut publisher = Publisher::connect(server);
            for n in 1..=EVENTS {
                publisher.publish(channel.as_str(), "e", &n.to_string());
            }
        });
    });
}

// Case 103.
#[test]
fn a_batch_leaves_its_last_event_of_the_channel() {
    on_shards(|server| {
        let [one, two] = [unique("cache-batch-"), unique("cache-batch-")];
        let event =
            |channel: &str, data: &str| json!({"name": "e", "channel": channel, "data": data});
        let batch = json!({"batch": [
            event(&one, "1"), event(&two, "2"), event(&one, "3"), event(&two, "4"),
        ]});
        let mut publisher = Publisher::connect(server);
        assert_eq!(
            publisher
                .post("batch_events", batch.to_string().as_bytes())
                .status,
            200
        );
        let mut client = Client::connect(server);
        for (channel, data) in [(&one, "3"), (&two, "4")] {
            client.subscribe(channel);
            client.expect_event(channel, "e", data);
        }
    });
}

// 18, `cache_shard_bytes_max`: the oldest goes first.
#[test]
fn over_the_bytes_of_a_shard_the_oldest_event_is_forgotten() {
    let config = Config::only(&A, "").set("cache_shard_bytes_max", 64 << 10);
    let server = support::Server::start(&config, 1);
    let mut publisher = Publisher::connect(&server);
    let data = "x".repeat(10_000);
    for n in 0..10 {
        publisher.publish(&format!("cache-{n}"), "e", &data);
    }
    let mut client = Client::connect(&server);
    let hits: Vec<_> = (0..10)
        .filter(|n| {
            client.subscribe(&format!("cache-{n}"));
            client.event().event == "e"
        })
        .collect();
    assert_eq!(hits.last(), Some(&9));
    assert!((2..=6).contains(&hits.len()), "{hits:?}");
    assert!(
        hits.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{hits:?}"
    );
}
