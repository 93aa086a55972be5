//! Idempotent publishing (extensions spec 4): one key, one publish, one answer, on whichever
//! connections and shards the repeats come.
//!
//! A subscriber counts what was published; `X-Idempotent-Replay` says which answers are repeats.
//! "Peers n" names a defect of another server, number n of peers section 2.

mod support;

use std::thread;
use std::time::Instant;

use serde_json::json;

use support::http::{Http, OK, Request};
use support::{A, B, Client, Config, Response, Server, WAIT, on_shards, on_shards_with, unique};

/// A publish of one event with the key in the header.
fn keyed(channel: &str, key: &str, data: &str) -> Request {
    Request::publish(&A, channel, "e", data).field(&format!("X-Idempotency-Key: {key}"))
}

/// The answer on a connection of its own.
fn ask(server: &Server, request: &Request) -> Response {
    Http::connect(server).ask(request.bytes())
}

fn is_replay(response: &Response) -> bool {
    response.header("X-Idempotent-Replay") == Some("true")
}

#[track_caller]
fn expect_first(server: &Server, request: &Request, body: &str) {
    let response = ask(server, request);
    response.expect_ok(body);
    assert!(!is_replay(&response), "{}", response.head);
}

#[track_caller]
fn expect_replay(server: &Server, request: &Request, body: &str) {
    let response = ask(server, request);
    response.expect_ok(body);
    assert!(is_replay(&response), "{}", response.head);
}

#[test]
fn a_repeat_is_answered_as_the_first_and_publishes_nothing() {
    on_shards(|server| {
        let (channel, key) = (unique("once-"), unique("key-"));
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let request = keyed(&channel, &key, "1");
        expect_first(server, &request, OK);
        // On some ten connections, so on every shard.
        for _ in 0..2 * server.shards + 1 {
            expect_replay(server, &request, OK);
        }
        let mut http = Http::connect(server);
        http.send([request.bytes(), request.bytes()].concat());
        for _ in 0..2 {
            assert!(is_replay(&http.answer()));
        }
        // The key of another app, and no key.
        let other = Request::publish(&B, &channel, "e", "1");
        expect_first(
            server,
            &other.field(&format!("X-Idempotency-Key: {key}")),
            OK,
        );
        expect_first(server, &Request::publish(&A, &channel, "e", "2"), OK);
        for data in ["1", "2"] {
            client.expect_event(&channel, "e", data);
        }
        client.sync();
    });
}

#[test]
fn a_repeat_counts_as_a_request_and_says_what_is_left() {
    on_shards(|server| {
        let request = keyed(&unique("once-"), &unique("key-"), "1");
        let mut left = u64::MAX;
        for _ in 0..3 {
            let response = ask(server, &request);
            let remaining = response.header("X-RateLimit-Remaining").expect("a budget");
            let remaining = remaining.parse().expect("a number");
            assert!(remaining < left, "{remaining} of {left}");
            left = remaining;
        }
    });
}

#[test]
fn counts_are_repeated_byte_for_byte() {
    on_shards(|server| {
        let (channel, key) = (unique("once-"), unique("key-"));
        let body = json!({
            "name": "e", "channel": channel, "data": "1", "info": "subscription_count",
        });
        let request = Request::events(&A, body.to_string());
        let request = request.field(&format!("X-Idempotency-Key: {key}"));
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let expected = json!({"channels": {&channel: {"subscription_count": 1}}}).to_string();
        expect_first(server, &request, &expected);
        let mut other = Client::connect(server);
        other.subscribe(&channel);
        expect_replay(server, &request, &expected);
        client.expect_event(&channel, "e", "1");
        client.sync();
        other.sync();
    });
}

#[test]
fn another_body_with_the_same_key_is_a_conflict() {
    on_shards(|server| {
        let (channel, key) = (unique("once-"), unique("key-"));
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        expect_first(server, &keyed(&channel, &key, "1"), OK);
        for _ in 0..server.shards + 1 {
            let response = ask(server, &keyed(&channel, &key, "2"));
            let text = response.expect_error(409, "idempotency_conflict");
            assert!(text.contains("idempotency key"), "{text}");
        }
        expect_replay(server, &keyed(&channel, &key, "1"), OK);
        client.expect_event(&channel, "e", "1");
        client.sync();
    });
}

#[test]
fn the_key_stands_in_the_body_or_in_the_header_which_wins() {
    on_shards(|server| {
        let channel = unique("once-");
        let (inner, outer) = (unique("key-"), unique("key-"));
        let body = |key: &str| {
            let body = json!({
                "name": "e", "channel": channel, "data": "1", "idempotency_key": key,
            });
            Request::events(&A, body.to_string())
        };
        expect_first(server, &body(&inner), OK);
        expect_replay(server, &body(&inner), OK);
        let with_header = body(&inner).field(&format!("x-idempotency-KEY: {outer}"));
        expect_first(server, &with_header, OK);
        expect_replay(server, &with_header, OK);
        // The header's key, not the body's, was the one that it used.
        ask(server, &body(&outer)).expect_error(409, "idempotency_conflict");
        // A batch has that of its header; what its events say is ignored.
        let event = json!({
            "name": "e", "channel": channel, "data": "1", "idempotency_key": inner,
        });
        let batch = Request::batch(&A, json!({"batch": [event]}).to_string());
        expect_first(server, &batch, "{}");
        expect_first(server, &batch, "{}");
        let batch = batch.field(&format!("X-Idempotency-Key: {inner}"));
        expect_first(server, &batch, "{}");
        expect_replay(server, &batch, "{}");
    });
}

#[test]
fn a_key_has_1_to_128_characters() {
    on_shards(|server| {
        let channel = unique("once-");
        let long = |unit: &str| {
            let start = unique("k");
            let left = 128 - start.chars().count();
            format!("{start}{}", unit.repeat(left))
        };
        for key in [long("x"), long("é")] {
            expect_first(server, &keyed(&channel, &key, "1"), OK);
            expect_replay(server, &keyed(&channel, &key, "1"), OK);
            let response = ask(server, &keyed(&channel, &format!("{key}x"), "1"));
            let text = response.expect_error(400, "invalid_input");
            assert!(text.contains("X-Idempotency-Key"), "{text}");
        }
        let response = ask(server, &keyed(&channel, "", "1"));
        response.expect_error(400, "invalid_input");
        for key in [json!(""), json!("k".repeat(129)), json!(5)] {
            let body = json!({
                "name": "e", "channel": channel, "data": "1", "idempotency_key": key,
            });
            let response = ask(server, &Request::events(&A, body.to_string()));
            let text = response.expect_error(400, "invalid_input");
            assert!(text.contains("'idempotency_key'"), "{text}");
        }
    });
}

/// Peers 25: a failed publish leaves its key claimed until it expires.
#[test]
fn a_failed_publish_leaves_no_trace() {
    on_shards(|server| {
        let (channel, key) = (unique("once-"), unique("key-"));
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        for (data, status, code) in [
            ("x".repeat(10_241), 413, "payload_too_large"),
            ("x".repeat(10_242), 413, "payload_too_large"),
        ] {
            ask(server, &keyed(&channel, &key, &data)).expect_error(status, code);
        }
        let bad_channel = keyed("not a channel", &key, "1");
        ask(server, &bad_channel).expect_error(400, "invalid_input");
        let mut unsigned = keyed(&channel, &key, "2");
        unsigned.signed_method = Some("OTHER".into());
        ask(server, &unsigned).expect_error(401, "auth_failed");
        expect_first(server, &keyed(&channel, &key, "3"), OK);
        expect_replay(server, &keyed(&channel, &key, "3"), OK);
        client.expect_event(&channel, "e", "3");
        client.sync();
    });
}

#[test]
fn of_requests_at_the_same_time_one_publishes_and_the_others_wait_for_its_answer() {
    on_shards(|server| {
        let channel = unique("once-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        for round in 0..20 {
            let key = unique("key-");
            let request = keyed(&channel, &key, &round.to_string()).bytes();
            let mut connections: Vec<_> = (0..8).map(|_| Http::connect(server)).collect();
            thread::scope(|scope| {
                for http in &mut connections {
                    scope.spawn(|| http.send(request.clone()));
                }
            });
            let answers: Vec<_> = connections.iter_mut().map(Http::answer).collect();
            for answer in &answers {
                answer.expect_ok(OK);
            }
            let replays = answers.iter().filter(|answer| is_replay(answer));
            assert_eq!(replays.count(), 7);
            client.expect_event(&channel, "e", &round.to_string());
        }
        client.sync();
    });
}

#[test]
fn a_client_that_has_gone_has_published_once_or_not_at_all() {
    on_shards(|server| {
        let channel = unique("once-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        for round in 0..30 {
            let body = json!({
                "name": "e", "channel": channel, "data": round.to_string(),
                "info": if round % 2 == 0 { "subscription_count" } else { "" },
            });
            let request = Request::events(&A, body.to_string());
            let request = request.field(&format!("X-Idempotency-Key: {}", unique("key-")));
            let mut http = Http::connect(server);
            http.send(request.bytes());
            drop(http);
            // Whoever was first: by now it has been published, and only once.
            assert_eq!(ask(server, &request).status, 200);
            client.expect_event(&channel, "e", &round.to_string());
        }
        client.sync();
    });
}

#[test]
fn a_key_is_forgotten_when_its_window_is_over() {
    let config = Config::standard().set("idempotency_window_secs", 1);
    on_shards_with(&config, |server| {
        let (channel, key) = (unique("once-"), unique("key-"));
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let request = keyed(&channel, &key, "1");
        let begun = Instant::now();
        expect_first(server, &request, OK);
        while is_replay(&ask(server, &request)) {
            assert!(begun.elapsed() < WAIT, "the key is not forgotten");
            thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(begun.elapsed().as_millis() >= 1000, "{:?}", begun.elapsed());
        for _ in 0..2 {
            client.expect_event(&channel, "e", "1");
        }
        client.sync();
    });
}

#[test]
fn over_the_bound_the_oldest_keys_go_first() {
    let config = Config::standard().set("idempotency_keys_max", 10);
    on_shards_with(&config, |server| {
        let channel = unique("once-");
        let request = |nth: usize| keyed(&channel, &format!("key-{nth}"), "1");
        for nth in 0..100 {
            expect_first(server, &request(nth), OK);
        }
        // The last is there, and of the others at most the ten that there is room for.
        expect_replay(server, &request(99), OK);
        let kept = (0..99)
            .rev()
            .filter(|nth| is_replay(&ask(server, &request(*nth))));
        assert!(kept.count() < 10);
    });
}
