//! Receivers that do not work: what they cost the others, and what becomes of what they are owed
//! (webhooks 6, issue of a dead or slow endpoint).
//!
//! That WebSocket traffic does not notice is shown without a clock: every delivery comes, in order,
//! while the dead receivers hold what they were sent. The ratio of latencies is measured by hand.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::metrics::Scrape;
use support::receiver::ALL;
use support::server::{for_shards_at_once, with_shown_log};
use support::{A, Client, Config, Publisher, Receiver, Reply, Server, WAIT};

const HALF_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Le";

/// Receivers that never answer, answer 500, and break off; each takes everything once it is told.
fn broken() -> ([Receiver; 3], Arc<AtomicBool>) {
    let recovered = Arc::new(AtomicBool::new(false));
    let receivers = [
        Reply::Nothing,
        Reply::Status(500),
        Reply::Bytes(HALF_ANSWER.into()),
    ]
    .map(|reply| {
        let recovered = Arc::clone(&recovered);
        Receiver::start_with(move |_, _| match recovered.load(Ordering::Acquire) {
            true => Reply::Status(200),
            false => reply.clone(),
        })
    });
    (receivers, recovered)
}

fn channels(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["channel"].as_str().unwrap())
        .collect()
}

/// A channel that only this number has.
fn channel(n: usize) -> String {
    format!("news-{n}")
}

/// Publishes to `steady` and receives, and subscribes to a new channel, again and again.
fn traffic(server: &Server, good: &Receiver, rounds: std::ops::Range<usize>) {
    let mut publisher = Publisher::connect(server);
    let mut client = Client::connect(server);
    client.subscribe("steady");
    for n in rounds {
        for part in 0..10 {
            let data = format!("{n}-{part}");
            publisher.publish_json(&json!({"name": "e", "channel": "steady", "data": data}));
            client.expect_event("steady", "e", &data);
        }
        client.subscribe(&channel(n));
        let expected = json!({"name": "channel_occupied", "channel": channel(n)});
        good.events_through(&A, &expected);
    }
}

#[test]
fn broken_receivers_cost_nobody_else_anything_and_get_all_after_they_recover() {
    for_shards_at_once(|shards| {
        let (good, (broken, recovered)) = (Receiver::start(), broken());
        let lines = "timeout_ms = 1000\nretry_first_ms = 50\nretry_ms_max = 400\n\
            retry_for_secs = 120\nparallel_max = 4";
        let endpoints: String = broken
            .iter()
            .chain([&good])
            .map(|receiver| receiver.endpoint(&["channel_occupied"], lines))
            .collect();
        let server = Server::start(&Config::only(&A, &endpoints), shards);
        with_shown_log(&server, |server| {
            traffic(server, &good, 0..40);
            for receiver in &broken {
                let posted = receiver.posted();
                assert!(!posted.is_empty(), "it was tried");
                assert!(receiver.busy_max() <= 4);
            }
            recovered.store(true, Ordering::Release);
            let mut expected: Vec<_> = (0..40).map(channel).collect();
            expected.push("steady".into());
            expected.sort();
            for receiver in &broken {
                let posted = receiver.wait(|posted| {
                    let events: Vec<_> = posted.iter().flat_map(|p| p.events(&A)).collect();
                    let seen = channels(&events);
                    expected
                        .iter()
                        .all(|channel| seen.contains(&channel.as_str()))
                });
                // What was sent several times was the same each time.
                for one in &posted {
                    let same = |other: &&support::Posted| other.events(&A) == one.events(&A);
                    assert!(
                        posted
                            .iter()
                            .filter(same)
                            .all(|other| other.body == one.body)
                    );
                }
            }
            let events: Vec<_> = good.posted().iter().flat_map(|p| p.events(&A)).collect();
            let mut once = channels(&events);
            once.sort_unstable();
            assert_eq!(once, expected);
        });
    });
}

#[test]
fn what_a_dead_receiver_is_owed_is_bounded_and_the_newest_of_it() {
    let dead = Arc::new(AtomicBool::new(true));
    let is_dead = Arc::clone(&dead);
    let receiver = Receiver::start_with(move |_, _| match is_dead.load(Ordering::Acquire) {
        true => Reply::Nothing,
        false => Reply::Status(200),
    });
    let lines = "timeout_ms = 1000\nretry_first_ms = 50\nretry_ms_max = 50\nparallel_max = 2\n\
        queue_max = 100\nqueue_bytes_max = 262144";
    let endpoint = receiver.endpoint(&["client_event"], lines);
    let own = "client_events_per_sec = 1000000\nwebhook_batch_events_max = 10";
    let config = Config::only(&A, &format!("{own}\n{endpoint}")).set("metrics_port", 0);
    let server = Server::start(&config, 2);
    let mut client = Client::connect(&server);
    client.subscribe_private("private-x");
    let before = server.resident_bytes();
    let big = "x".repeat(5_000);
    let send = |client: &mut Client, n: usize| {
        let data = json!({"n": n, "text": big});
        client.send(&json!({"event": "client-e", "channel": "private-x", "data": data}));
    };
    // 40 MB of events, of which a quarter of a megabyte may wait and 20 may be on their way.
    for n in 0..8_000 {
        send(&mut client, n);
        if n % 100 == 0 {
            client.sync();
        }
    }
    client.sync();
    let more = server.resident_bytes().saturating_sub(before);
    assert!(more < 24 << 20, "{more}");
    // All that were dropped are counted, whatever was full.
    let count = |scrape: &Scrape, name: &str| scrape.sum(&format!("shardcast_webhook_{name}"), &[]);
    let all =
        |scrape: &Scrape| count(scrape, "events_pending") + count(scrape, "events_dropped_total");
    let scrape = Scrape::until(&server, |scrape| {
        all(scrape) == 8_000.0 && count(scrape, "attempts_failed_total") >= 1.0
    });
    assert!(count(&scrape, "events_pending") <= 120.0);
    // The last one is among what comes after all.
    dead.store(false, Ordering::Release);
    let number = |event: &Value| -> usize {
        let data: Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
        data["n"].as_u64().unwrap() as usize
    };
    let posted = receiver.wait(|posted| {
        let mut events = posted.iter().flat_map(|p| p.events(&A));
        events.any(|event| number(&event) == 7_999)
    });
    let mut numbers: Vec<_> = posted
        .iter()
        .flat_map(|p| p.events(&A))
        .map(|event| number(&event))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    // Some of the first, which were on their way, and of the last.
    assert!(numbers.len() <= 20 + 100, "{}", numbers.len());
    let waited = numbers.iter().filter(|&&n| n > 4_000).count();
    assert!((20..=100).contains(&waited), "{waited}");
}

#[test]
fn a_receiver_that_is_not_there_is_found_when_it_comes() {
    // A port that nobody listens on, until somebody does.
    let absent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = absent.local_addr().unwrap();
    drop(absent);
    let lines = "retry_first_ms = 50\nretry_ms_max = 100";
    let url = format!("http://{address}/hook");
    let endpoint = support::receiver::endpoint(&url, &ALL, lines);
    let server = Server::start(&Config::only(&A, &endpoint), 2);
    let mut client = Client::connect(&server);
    client.subscribe("news");
    let until = Instant::now() + WAIT;
    while !server.stderr().contains("Connection refused") {
        assert!(Instant::now() < until, "it is not tried");
        std::thread::sleep(Duration::from_millis(10));
    }
    let receiver = Receiver::start_at(address, |_, _| Reply::Status(200));
    let events = receiver.events(&A, 1);
    assert_eq!(
        events,
        [json!({"name": "channel_occupied", "channel": "news"})]
    );
}
