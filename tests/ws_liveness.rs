//! Who is alive: pings of both levels in both directions, and the silent client that is closed.
//!
//! The server asks after 2 seconds of silence and closes after one more. Its wheel turns once a
//! second, so that either may come up to a second later; the bounds here are wide enough for a
//! busy machine.

mod support;

use std::time::{Duration, Instant};

use support::frame::{CLOSE, FIN, PING, PONG, TEXT};
use support::{A, Client, Config, Event, Publisher, Received, WAIT, WebSocket};
use support::{client_frame, on_shards, on_shards_at_once, text_frame, unique};

const ACTIVITY: Duration = Duration::from_secs(2);
const PONG_WAIT: Duration = Duration::from_secs(1);

fn quick() -> Config {
    Config::only(&A, "")
        .set("activity_timeout_secs", ACTIVITY.as_secs())
        .set("pong_timeout_secs", PONG_WAIT.as_secs())
}

// Cases 20 and 21; 4.1. Also with white space and without data, as pusher-websocket-java has it.
#[test]
fn a_pusher_ping_is_answered_at_once_whatever_its_data() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        let mut fastest = WAIT;
        for ping in [
            r#"{"event":"pusher:ping","data":{}}"#,
            r#"{"event": "pusher:ping"}"#,
            r#"{"event":"pusher:ping","data":null}"#,
            r#"{"event":"pusher:ping","data":""}"#,
            r#"{"event":"pusher:ping","data":"{}"}"#,
            " {\n\t\"data\" : [1] ,\r\n \"event\" : \"pusher:ping\" } ",
        ] {
            let began = Instant::now();
            client.send_text(ping);
            assert_eq!(client.text(), r#"{"event":"pusher:pong","data":"{}"}"#);
            fastest = fastest.min(began.elapsed());
        }
        assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    });
}

// Case 22; 4.2.
#[test]
fn a_protocol_ping_is_answered_with_what_it_carried() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        for length in [0, 1, 4, 64, 125] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8 ^ 0xa5).collect();
            client.ping(&payload);
        }
    });
}

// Case 22; 4.2.
#[test]
fn a_ping_between_fragments_is_answered_before_their_message() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        client.tcp.send(client_frame(TEXT, br#"{"event":"#));
        client.ping(b"between");
        client.tcp.send(client_frame(FIN, br#""pusher:ping"}"#));
        client.expect("pusher:pong");
        // All in one segment: the message is complete before the ping is read.
        let mut bytes = client_frame(TEXT, br#"{"event":"#);
        bytes.extend(client_frame(FIN | PING, b"x"));
        bytes.extend(client_frame(FIN, br#""pusher:ping"}"#));
        client.tcp.send(bytes);
        let mut opcodes = [client.frame().opcode, client.frame().opcode];
        opcodes.sort_unstable();
        assert_eq!(opcodes, [TEXT, PONG]);
    });
}

// Case 23; 4.3, and 4.3.4: who answers pings may be silent for ever.
#[test]
fn a_silent_client_that_answers_protocol_pings_stays() {
    on_shards_at_once(&quick(), |server| {
        let mut client = Client::connect(server);
        client.expect_silence(4 * ACTIVITY);
        client.sync();
    });
}

// Case 24; 4.3: never closed without having been asked.
#[test]
fn a_client_that_answers_nothing_is_pinged_then_closed_with_4201() {
    on_shards_at_once(&quick(), |server| {
        let mut client = Client::connect(server);
        client.answers_pings = false;
        client.sync();
        let silent_since = Instant::now();
        let ping = client.frame();
        assert_eq!((ping.opcode, &*ping.payload), (PING, &b""[..]));
        let asked_after = silent_since.elapsed();
        // The server has counted from the message, we from its answer.
        let way = Duration::from_millis(200);
        assert!(asked_after > ACTIVITY - way, "{asked_after:?}");
        let reason = client.expect_closed(4201);
        assert!(!reason.is_empty());
        let closed_after = silent_since.elapsed();
        assert!(
            closed_after > asked_after + PONG_WAIT / 2,
            "{asked_after:?} {closed_after:?}"
        );
        let second = Duration::from_secs(1);
        let latest = ACTIVITY + PONG_WAIT + second + 3 * second;
        assert!(closed_after < latest, "{closed_after:?}");
    });
}

// Case 25; 4.3.1: any complete frame counts.
#[test]
fn a_pusher_pong_answers_a_protocol_ping() {
    on_shards_at_once(&quick(), |server| {
        let mut client = Client::connect(server);
        client.answers_pings = false;
        for _ in 0..3 {
            assert_eq!(client.frame().opcode, PING);
            client.send_text(r#"{"event":"pusher:pong","data":{}}"#);
        }
        client.sync();
    });
}

// Case 26; 4.3.4. What the server sends is no sign of life of the client, but its pongs are.
#[test]
fn a_receive_only_client_that_answers_pings_stays() {
    on_shards_at_once(&quick(), |server| {
        let mut client = Client::connect(server);
        client.subscribe("news");
        let mut publisher = Publisher::connect(server);
        let began = Instant::now();
        let mut count = 0;
        while began.elapsed() < 4 * ACTIVITY {
            publisher.publish("news", "tick", &count.to_string());
            client.expect_event("news", "tick", &count.to_string());
            count += 1;
            std::thread::sleep(Duration::from_millis(500));
        }
        client.sync();
    });
}

// Case 27; 4.1 and 4.2.
#[test]
fn pongs_that_nobody_asked_for_are_not_answered() {
    on_shards(|server| {
        let mut client = Client::connect(server);
        client
            .tcp
            .send(client_frame(FIN | PONG, b"out of the blue"));
        client.send_text(r#"{"event":"pusher:pong","data":{}}"#);
        client.send_text(r#"{"event":"pusher:pong"}"#);
        client.sync();
    });
}

// Case 28; 5.3 and 1.2: before protocol 6 errors came in frames.
#[test]
fn protocol_5_is_told_by_a_frame_why_it_is_closed_and_protocol_6_is_not() {
    on_shards_at_once(&quick(), |server| {
        let mut clients = [4, 5, 6, 7].map(|p| (p, Client::connect_with_protocol(server, p)));
        for (protocol, client) in &mut clients {
            client.answers_pings = false;
            assert_eq!(client.frame().opcode, PING);
            if *protocol < 6 {
                let message = client.expect_error(4201);
                assert_eq!(client.expect_closed(4201), message);
            } else {
                client.expect_closed(4201);
            }
        }
    });
}

// 4.3.2: the other probe.
#[test]
fn the_probe_may_be_a_pusher_ping() {
    let config = quick().set("liveness_probe", "\"pusher\"");
    on_shards_at_once(&config, |server| {
        let mut answering = Client::connect(server);
        let mut silent = Client::connect(server);
        for _ in 0..2 {
            answering.expect("pusher:ping");
            answering.send_text(r#"{"event":"pusher:pong","data":{}}"#);
        }
        answering.sync();
        assert_eq!(silent.expect("pusher:ping").text(), "{}");
        silent.expect_closed(4201);
    });
}

// 4.3.1: complete frames count, not bytes; 1.4: the clock starts with the greeting.
#[test]
fn half_a_frame_is_no_sign_of_life() {
    on_shards_at_once(&quick(), |server| {
        let mut socket = WebSocket::open(server, &A.target());
        let greeting = Event::parse(socket.text());
        assert_eq!(greeting.json()["activity_timeout"], ACTIVITY.as_secs());
        let frame = text_frame(r#"{"event":"pusher:ping"}"#);
        for byte in frame[..frame.len() - 1].iter().cycle().take(4) {
            socket.tcp.try_send([*byte]);
            std::thread::sleep(Duration::from_millis(250));
        }
        let frames: Vec<_> = std::iter::from_fn(|| socket.frame_until(Instant::now() + WAIT).ok())
            .map(|frame| frame.opcode)
            .collect();
        assert_eq!(frames, [PING, CLOSE]);
    });
}

// Peers.md 3 (soketi): silence of the client alone never ends a connection; channels stay too.
#[test]
fn what_a_silent_client_is_subscribed_to_goes_when_it_is_closed() {
    on_shards_at_once(&quick(), |server| {
        let channel = unique("presence-silent-");
        let mut watcher = Client::connect(server);
        watcher.subscribe_presence(&channel, &serde_json::json!({"user_id": "watcher"}));
        let mut silent = Client::connect(server);
        silent.answers_pings = false;
        silent.subscribe_presence(&channel, &serde_json::json!({"user_id": "silent"}));
        watcher.expect("pusher_internal:member_added");
        let removed = watcher.expect("pusher_internal:member_removed");
        assert_eq!(removed.json(), serde_json::json!({"user_id": "silent"}));
        assert_eq!(silent.frame().opcode, PING);
        silent.expect_closed(4201);
        let ended = silent.frame_until(Instant::now() + WAIT);
        assert_eq!(ended, Err(Received::End));
    });
}
