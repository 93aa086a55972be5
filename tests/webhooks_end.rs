//! Webhooks at the end of the process: what its own closes cause is told too, at once, and sent
//! before the exit, which no receiver can put off for ever (webhooks 5, WebSocket spec 5.4,
//! peers.md 27 for webhooks).

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use support::presence::user;
use support::receiver::ALL;
use support::server::{for_shards_at_once, with_shown_log};
use support::{A, Client, Config, Receiver, Reply, Server, on_shards_with_receiver};

const GRACE: Duration = Duration::from_secs(3);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(3);

/// Delays that nobody waits for here.
fn config(endpoints: &str) -> Config {
    Config::only(&A, endpoints)
        .set("shutdown_grace_secs", GRACE.as_secs())
        .set("webhook_delay_ms", 60_000)
}

fn event(name: &str, channel: &str) -> Value {
    json!({"name": name, "channel": channel})
}

#[test]
fn what_the_closes_of_a_drain_vacate_is_told_before_the_exit() {
    let patient = |receiver: &Receiver| {
        // Batches that would stay open for a minute.
        config(&receiver.endpoint(&ALL, "")).set("webhook_batch_ms", 60_000)
    };
    on_shards_with_receiver(patient, |server, receiver| {
        let mut clients: Vec<_> = (0..12).map(|_| Client::connect(server)).collect();
        let mut expected = Vec::new();
        for (n, client) in clients.iter_mut().enumerate() {
            let (channel, room) = (format!("news-{n}"), format!("presence-{n}"));
            client.subscribe(&channel);
            client.subscribe_presence(&room, &user("ann"));
            for channel in [&channel, &room] {
                expected.push(event("channel_occupied", channel));
                expected.push(event("channel_vacated", channel));
            }
            for name in ["member_added", "member_removed"] {
                expected.push(json!({"name": name, "channel": room, "user_id": "ann"}));
            }
        }
        // One that was left already, and whose delay is not over.
        clients[0].subscribe("left");
        clients[0].unsubscribe("left");
        clients[0].sync();
        expected.extend(["channel_occupied", "channel_vacated"].map(|name| event(name, "left")));
        let began = Instant::now();
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        assert!(began.elapsed() < GRACE + Duration::from_secs(1) + SLACK);
        let mut events: Vec<_> = receiver
            .posted()
            .iter()
            .flat_map(|p| p.events(&A))
            .collect();
        let by_text = |event: &Value| event.to_string();
        events.sort_by_key(by_text);
        expected.sort_by_key(by_text);
        assert_eq!(events, expected);
    });
}

#[test]
fn a_retry_that_waits_at_the_end_is_made_at_once() {
    for_shards_at_once(|shards| {
        let receiver = Receiver::start_with(|n, _| Reply::Status(if n == 0 { 500 } else { 200 }));
        let endpoint = receiver.endpoint(&["channel_occupied"], "retry_first_ms = 60000");
        let server = Server::start(&config(&endpoint), shards);
        with_shown_log(&server, |server| {
            let mut client = Client::connect(server);
            client.subscribe("news");
            receiver.wait(|posted| posted.len() == 1);
            server.signal(Signal::TERM);
            assert_eq!(server.wait().code(), Some(0));
            let posted = receiver.posted();
            assert_eq!(posted.len(), 2);
            assert_eq!(posted[1].body, posted[0].body);
        });
    });
}

#[test]
fn a_receiver_that_does_not_answer_puts_the_exit_off_to_the_end_of_the_grace_period() {
    for_shards_at_once(|shards| {
        let dead = Receiver::start_with(|_, _| Reply::Nothing);
        let good = Receiver::start();
        let endpoints = dead.endpoint(&ALL, "") + &good.endpoint(&ALL, "");
        let server = Server::start(&config(&endpoints), shards);
        with_shown_log(&server, |server| {
            let mut client = Client::connect(server);
            client.subscribe("news");
            dead.wait(|posted| !posted.is_empty());
            let began = Instant::now();
            server.signal(Signal::TERM);
            assert_eq!(server.wait().code(), Some(0));
            let took = began.elapsed();
            assert!(
                (GRACE..GRACE + Duration::from_secs(1) + SLACK).contains(&took),
                "{took:?}"
            );
            // The other has all.
            let events: Vec<_> = good.posted().iter().flat_map(|p| p.events(&A)).collect();
            let both = ["channel_occupied", "channel_vacated"].map(|name| event(name, "news"));
            assert_eq!(events, both);
            assert!(server.stderr().contains("were not taken before the end"));
        });
    });
}

#[test]
fn a_second_signal_ends_it_also_while_webhooks_are_sent() {
    let dead = Receiver::start_with(|_, _| Reply::Nothing);
    let config = config(&dead.endpoint(&ALL, "")).set("shutdown_grace_secs", 60);
    let server = Server::start(&config, 2);
    let mut client = Client::connect(&server);
    client.subscribe("news");
    dead.wait(|posted| !posted.is_empty());
    drop(client);
    let began = Instant::now();
    server.signal(Signal::TERM);
    // The vacated channel is told when the shards are drained: from here on it is webhooks alone.
    dead.wait(|posted| posted.len() >= 2);
    server.signal(Signal::TERM);
    assert_ne!(server.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20));
}
