//! Slow consumers: who does not read is closed with 4100 within bounds, and nobody else notices.
//!
//! The kernels of both sides hold some 10 MB for a connection, and only what they refuse counts
//! here. So that this much is quickly published, the slow client is subscribed to many channels and
//! each request publishes 100 KB to all of them.

mod support;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use support::frame::{FIN, PING, PONG, TEXT};
use support::{B, Client, Config, Event, Publisher, Received, Server, WAIT, WebSocket};
use support::{client_frame, on_shards, on_shards_at_once, text_frame, unique};

const DATA_BYTES: usize = 100_000;
/// More than both kernels hold for a connection.
const BEYOND_KERNELS_BYTES: usize = 24 << 20;

/// Channels, and a client that will not read what is published to them.
fn slow_client(server: &Server, channel_count: usize) -> (WebSocket, Vec<String>) {
    let channels: Vec<_> = (0..channel_count).map(|_| unique("slow-")).collect();
    let mut client = Client::connect_to(server, B);
    for channel in &channels {
        client.subscribe(channel);
    }
    (client.into_socket(), channels)
}

/// Publishes 100 KB to each channel; how many connections the first of them has.
fn publish_to_all(publisher: &mut Publisher, channels: &[String], name: &str) -> u64 {
    let body = json!({
        "name": name, "channels": channels, "data": "x".repeat(DATA_BYTES),
        "info": "subscription_count",
    });
    let body = body.to_string();
    let began = Instant::now();
    loop {
        let answer = publisher.post("events", body.as_bytes());
        if answer.status == 200 {
            let count = &answer.json()["channels"][&channels[0]]["subscription_count"];
            return count.as_u64().unwrap();
        }
        // A shard that is late refuses what would make it later (decisions 28).
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(began.elapsed() < WAIT, "{}", answer.text());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Publishes until so many connections are left; how many times.
fn publish_until(publisher: &mut Publisher, channels: &[String], left: u64) -> usize {
    let began = Instant::now();
    for count in 1.. {
        if publish_to_all(publisher, channels, &count.to_string()) == left {
            return count;
        }
        assert!(
            began.elapsed() < 3 * WAIT,
            "{count} times and nobody is closed"
        );
    }
    unreachable!("a test ends before its numbers")
}

fn publish_beyond_kernels(publisher: &mut Publisher, channels: &[String]) -> usize {
    let count = BEYOND_KERNELS_BYTES.div_ceil(channels.len() * DATA_BYTES);
    for _ in 0..count {
        publish_to_all(publisher, channels, "e");
    }
    count * channels.len()
}

/// Whole events and perhaps a Close, then the end, clean or not.
fn read_to_end(slow: &mut WebSocket) -> (usize, Option<u16>) {
    let (mut events, mut code) = (0, None);
    loop {
        match slow.frame_until(Instant::now() + WAIT) {
            Ok(frame) if frame.opcode == TEXT => {
                assert_eq!(code, None, "behind the Close");
                assert!(frame.payload.len() > DATA_BYTES && frame.payload.ends_with(b"x\"}"));
                events += 1;
            }
            Ok(frame) => {
                assert_eq!(frame.close().1, "Connection reads too slowly");
                code = frame.close().0;
            }
            Err(Received::End | Received::Reset) => return (events, code),
            Err(other) => panic!("{other:?} after {events} events"),
        }
    }
}

// Case 164, peers.md 4; 5.2.
#[test]
fn a_client_that_does_not_read_is_closed_and_the_others_get_everything() {
    on_shards(|server| {
        let (mut slow, channels) = slow_client(server, 40);
        let mut reader = Client::connect_to(server, B);
        reader.subscribe(&channels[0]);
        let mut elsewhere = Client::connect_to(server, B);
        elsewhere.subscribe("elsewhere");
        let mut publisher = Publisher::connect_to(server, B);
        let count = publish_until(&mut publisher, &channels, 1);
        for n in 1..=count {
            assert_eq!(reader.expect(&n.to_string()).text().len(), DATA_BYTES);
        }
        reader.sync();
        elsewhere.sync();
        let (events, code) = read_to_end(&mut slow);
        assert!(events < count * channels.len(), "{events}");
        assert!(matches!(code, None | Some(4100)), "{code:?}");
    });
}

// 5.3: the frame in flight is finished, then comes the Close; what was queued behind is skipped.
#[test]
fn who_begins_to_read_again_finds_whole_frames_and_then_4100() {
    on_shards(|server| {
        // The Close has a second to leave, which a busy machine may need for something else.
        let codes: Vec<_> = (0..5)
            .map(|_| {
                let (mut slow, channels) = slow_client(server, 40);
                let mut publisher = Publisher::connect_to(server, B);
                publish_until(&mut publisher, &channels, 0);
                read_to_end(&mut slow).1
            })
            .take_while(Option::is_none)
            .collect();
        assert!(codes.len() < 5, "no Close could be read");
    });
}

// Case 164; 18, `outbox_shard_bytes_max`.
#[test]
fn the_memory_of_many_slow_clients_is_bounded() {
    const BOUND: u64 = 8 << 20;
    // No client is over its own bound: that of the shard decides.
    let config = Config::only(&B, "")
        .set("outbox_bytes_max", BOUND)
        .set("outbox_frames_max", 1 << 20)
        .set("outbox_shard_bytes_max", BOUND);
    for shards in [1, 5] {
        let server = Server::start(&config, shards);
        let mut publisher = Publisher::connect_to(&server, B);
        // No frame is shared: a hundred channels, and ten for each client.
        let (_clients, channels): (Vec<_>, Vec<_>) =
            (0..10).map(|_| slow_client(&server, 10)).unzip();
        let channels = channels.concat();
        publish_to_all(&mut publisher, &channels, "e");
        let before = server.resident_bytes();
        for _ in 0..25 {
            publish_to_all(&mut publisher, &channels, "e");
        }
        let grown = server.resident_bytes().saturating_sub(before);
        // A request has 10 MB, and a few of them may be between the shards.
        let allowed = shards as u64 * BOUND + (48 << 20);
        assert!(grown < allowed, "{} of {} MiB", grown >> 20, allowed >> 20);
        let left: u64 = channels
            .iter()
            .step_by(10)
            .map(|channel| publisher.subscription_count(channel))
            .sum();
        assert!(left < 10, "nobody was closed");
    }
}

// 18, `outbox_frames_max`: the bound in frames is one of its own.
#[test]
fn the_bound_counts_frames_too() {
    let config = Config::only(&B, "")
        .set("outbox_bytes_max", 200 << 20)
        .set("outbox_frames_max", 32);
    on_shards_at_once(&config, |server| {
        let (_slow, channels) = slow_client(server, 40);
        publish_until(&mut Publisher::connect_to(server, B), &channels, 0);
    });
}

// Decisions 22: within its bytes, but it takes nothing for too long.
#[test]
fn who_takes_nothing_at_all_for_a_while_is_closed_within_its_bounds() {
    let config = Config::only(&B, "")
        .set("outbox_bytes_max", 200 << 20)
        .set("outbox_frames_max", 1 << 20)
        .set("outbox_stall_secs", 1);
    on_shards_at_once(&config, |server| {
        let (mut slow, channels) = slow_client(server, 40);
        let mut quiet = Client::connect_to(server, B);
        quiet.subscribe("quiet");
        let mut publisher = Publisher::connect_to(server, B);
        publish_beyond_kernels(&mut publisher, &channels);
        let began = Instant::now();
        while publisher.subscription_count(&channels[0]) > 0 {
            assert!(began.elapsed() < WAIT);
            thread::sleep(Duration::from_millis(100));
        }
        quiet.sync();
        thread::sleep(Duration::from_millis(2500));
        // Nothing could be said within the second that a Close has: the end is all there is.
        slow.answers_pings = false;
        let mut bytes = 0;
        while let Received::Bytes = slow.tcp.receive_until(Instant::now() + WAIT) {
            bytes += slow.tcp.unread.len();
            slow.tcp.unread.clear();
        }
        assert!(bytes > DATA_BYTES, "{bytes}");
    });
}

// 4.1, 4.2 and decisions 21: the answer to a protocol ping is in front of what waits.
#[test]
fn a_ping_is_answered_in_front_of_the_backlog() {
    let config = Config::only(&B, "")
        .set("outbox_bytes_max", 200 << 20)
        .set("outbox_frames_max", 1 << 20);
    on_shards_at_once(&config, |server| {
        let (mut slow, channels) = slow_client(server, 40);
        let events = publish_beyond_kernels(&mut Publisher::connect_to(server, B), &channels);
        slow.tcp.send(client_frame(FIN | PING, b"urgent"));
        // Read by the server before the first bytes of the backlog are taken here.
        thread::sleep(Duration::from_millis(500));
        let mut before = 0;
        loop {
            let frame = slow.frame();
            match frame.opcode {
                TEXT => before += 1,
                PONG => break assert_eq!(frame.payload, b"urgent"),
                other => panic!("opcode {other}"),
            }
        }
        assert!(before < events, "behind all {events}");
        for _ in before..events {
            assert_eq!(slow.frame().opcode, TEXT);
        }
    });
}

// Decisions 22: answers to its own messages are bounded by not reading more of them.
#[test]
fn who_does_not_read_its_own_answers_is_not_read_and_loses_none() {
    const NAME_BYTES: usize = 20_000;
    on_shards_at_once(&Config::only(&B, ""), |server| {
        let mut client = Client::connect_to(server, B);
        let name = "x".repeat(NAME_BYTES);
        let message = text_frame(&json!({ "event": name }).to_string());
        let count = BEYOND_KERNELS_BYTES / NAME_BYTES;
        let mut stream = client.tcp.stream.try_clone().unwrap();
        let first = thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..count {
                    stream.write_all(&message).unwrap();
                }
            });
            thread::sleep(Duration::from_millis(1000));
            let first = client.text();
            for _ in 1..count {
                assert!(client.text() == first);
            }
            first
        });
        let error = Event::parse(first);
        let expected = format!("Unsupported event received on socket: {name}");
        assert_eq!(error.data["message"], expected);
        client.sync();
    });
}
