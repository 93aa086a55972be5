//! Numbers of subscribers, told to the subscribers of apps that want it (WebSocket spec 17).

mod support;

use std::time::Instant;

use serde_json::json;

use support::presence::{expect_added, user};
use support::{A, B, Client, Config, Publisher, Server};
use support::{on_shards_at_once, on_shards_with};

const COUNT: &str = "pusher_internal:subscription_count";

/// Every change is told up to so many, above it one in [`INTERVAL_SECS`].
const EXACT_MAX: u64 = 100;
const INTERVAL_SECS: u64 = 5;

/// Counts are on for one of two apps.
fn counted() -> Config {
    Config::only(&A, "").app(&B, "subscription_count = \"on\"\n")
}

fn connect(server: &Server) -> Client {
    Client::connect_to(server, B)
}

/// A subscriber, and the count that comes with it.
fn subscribed(server: &Server, channel: &str, count: u64) -> Client {
    let mut client = connect(server);
    client.subscribe(channel);
    expect_count(&mut client, channel, count);
    client
}

/// The counts that come up to and with this one.
fn counts_through(client: &mut Client, last: u64) -> Vec<u64> {
    let mut told = Vec::new();
    while told.last() != Some(&last) {
        let count = client.expect(COUNT).json()["subscription_count"].take();
        told.push(count.as_u64().expect("a number"));
    }
    told
}

fn expect_count(client: &mut Client, channel: &str, count: u64) {
    let event = client.expect(COUNT);
    assert_eq!(event.channel.as_deref(), Some(channel), "{}", event.raw);
    assert_eq!(event.json(), json!({"subscription_count": count}));
}

// Case 166; 17.
#[test]
fn every_subscribe_and_every_leave_is_told_to_those_who_are_there() {
    on_shards_with(&counted(), |server| {
        let mut first = connect(server);
        first.subscribe("news");
        let raw = r#"{"event":"pusher_internal:subscription_count","channel":"news","data":"{\"subscription_count\":1}"}"#;
        assert_eq!(first.text(), raw);
        let mut second = subscribed(server, "news", 2);
        expect_count(&mut first, "news", 2);
        second.unsubscribe("news");
        // The leaver gets none.
        second.sync();
        expect_count(&mut first, "news", 1);
        second.subscribe("news");
        expect_count(&mut second, "news", 2);
        expect_count(&mut first, "news", 2);
        drop(second);
        expect_count(&mut first, "news", 1);
        first.expect_nothing();
    });
}

// 17: exact whichever shard a subscriber is on.
#[test]
fn each_number_is_told_once_on_the_way_up_and_on_the_way_down() {
    on_shards_with(&counted(), |server| {
        let mut clients: Vec<Client> = Vec::new();
        for count in 1..=20 {
            let newcomer = subscribed(server, "news", count);
            for client in &mut clients {
                expect_count(client, "news", count);
            }
            clients.push(newcomer);
        }
        for count in (1..20).rev() {
            drop(clients.pop());
            for client in &mut clients {
                expect_count(client, "news", count);
            }
        }
        clients[0].sync();
    });
}

// 17: several connections are several subscriptions, several channels several counts.
#[test]
fn subscriptions_are_counted_and_each_channel_by_itself() {
    on_shards_with(&counted(), |server| {
        for channel in [
            "public",
            "private-a",
            "private-encrypted-a",
            "cache-a",
            "private-cache-a",
        ] {
            let is_cache = channel.contains("cache-");
            let join = |count| {
                let mut client = connect(server);
                client.send_signed(channel, None);
                client.expect_subscribed(channel);
                if is_cache {
                    client.expect("pusher:cache_miss");
                }
                expect_count(&mut client, channel, count);
                client
            };
            let mut first = join(1);
            let mut second = join(2);
            expect_count(&mut first, channel, 2);
            first.sync();
            second.sync();
        }
    });
}

// 7.3: success, cached event, count, live events.
#[test]
fn the_count_comes_behind_the_cached_event_and_before_live_ones() {
    on_shards_with(&counted(), |server| {
        let mut publisher = Publisher::connect_to(server, B);
        publisher.publish("cache-price", "price", "1");
        let mut client = connect(server);
        client.subscribe("cache-price");
        client.expect_event("cache-price", "price", "1");
        expect_count(&mut client, "cache-price", 1);
        publisher.publish("cache-price", "price", "2");
        client.expect_event("cache-price", "price", "2");
    });
}

// Case 167; 17.
#[test]
fn presence_channels_and_apps_that_did_not_ask_get_none() {
    on_shards_with(&counted(), |server| {
        let presence = |id: &str| {
            let mut client = connect(server);
            client.subscribe_presence("presence-room", &user(id));
            client
        };
        let mut watcher = presence("u1");
        let member = presence("u2");
        expect_added(&mut watcher, "presence-room", "u2");
        drop(member);
        watcher.expect("pusher_internal:member_removed");
        watcher.sync();
        let mut other = Client::connect_to(server, A);
        other.subscribe("news");
        let mut another = Client::connect_to(server, A);
        another.subscribe("news");
        other.expect_nothing();
        another.sync();
    });
}

// 17: what is refused was never there.
#[test]
fn a_refused_subscriber_is_not_counted() {
    on_shards_with(&counted(), |server| {
        let mut first = connect(server);
        first.subscribe_private("private-room");
        expect_count(&mut first, "private-room", 1);
        let mut other = connect(server);
        other.send_auth("private-room", "b-key:00", None);
        other.expect_refused("private-room", 4009, "AuthError", 401);
        other.sync();
        first.expect_nothing();
    });
}

// Case 167; 17.
#[test]
fn above_a_hundred_subscribers_a_count_is_told_now_and_then_and_the_last_one_in_the_end() {
    let subscribers = 150;
    on_shards_at_once(&counted(), |server| {
        let began = Instant::now();
        let mut first = subscribed(server, "news", 1);
        let others: Vec<Client> = (1..subscribers)
            .map(|_| {
                let mut client = connect(server);
                client.subscribe("news");
                client
            })
            .collect();
        let told = counts_through(&mut first, subscribers);
        let exact: Vec<u64> = (2..=EXACT_MAX).collect();
        let (below, above) = told.split_at(exact.len());
        assert_eq!(below, exact);
        let intervals = began.elapsed().as_secs() / INTERVAL_SECS;
        assert!(above.len() as u64 <= intervals, "{above:?} in {intervals}");
        // On the way down each is told again from the bound on.
        drop(others);
        let told = counts_through(&mut first, 1);
        let exact: Vec<u64> = (1..=EXACT_MAX).rev().collect();
        assert!(told.ends_with(&exact), "{told:?}");
        first.sync();
    });
}
