//! How webhooks are delivered: batches, attempts, their bytes and their times (webhooks 3 and 6).
//!
//! Intervals are short, by configuration. Times are only held to their lower bounds, which a busy
//! machine cannot break, unless a test says otherwise.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::receiver::{AUTHORITY, endpoint};
use support::{A, Client, Config, Posted, Receiver, Reply, Server, WAIT, on_shards_with_receiver};

const OCCUPIED: &[&str] = &["channel_occupied"];

fn occupied(channel: &str) -> Value {
    json!({"name": "channel_occupied", "channel": channel})
}

/// One endpoint of app A, with these lines, which wants to know what is occupied.
fn config(receiver: &Receiver, lines: &str) -> Config {
    Config::only(&A, &receiver.endpoint(OCCUPIED, lines))
}

/// A server on two shards, and a client of it.
fn start(config: &Config) -> (Server, Client) {
    let server = Server::start(config, 2);
    let client = Client::connect(&server);
    (server, client)
}

fn attempts(posted: &[Posted], channel: &str) -> Vec<Posted> {
    let is_of = |p: &&Posted| p.events(&A).contains(&occupied(channel));
    posted.iter().filter(is_of).cloned().collect()
}

/// Pauses between requests.
fn gaps(posted: &[Posted]) -> Vec<Duration> {
    posted
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect()
}

// Case 174.
#[test]
fn what_fails_is_sent_again_byte_for_byte_after_growing_pauses() {
    let receiver = Receiver::start_with(|n, _| Reply::Status(if n < 3 { 500 } else { 200 }));
    let lines = "retry_first_ms = 200\nretry_jitter_percent = 0";
    let (_server, mut client) = start(&config(&receiver, lines));
    client.subscribe("news");
    let posted = receiver.wait(|posted| posted.len() == 4);
    for again in &posted[1..] {
        assert_eq!(again.body, posted[0].body);
        assert_eq!(again.head, posted[0].head);
    }
    assert_eq!(posted[0].events(&A), [occupied("news")]);
    let expected = [200, 400, 800].map(Duration::from_millis);
    for (gap, expected) in gaps(&posted).into_iter().zip(expected) {
        assert!(gap >= expected, "{gap:?} {expected:?}");
    }
    receiver.expect_silence(Duration::from_millis(300));
}

// Case 174; webhooks 6: 4xx like everything else.
#[test]
fn every_status_but_2xx_is_a_failure_and_every_2xx_is_success() {
    const FAILURES: [u16; 9] = [300, 301, 304, 400, 401, 404, 410, 429, 503];
    for status in [200, 201, 202, 204, 299] {
        let receiver =
            Receiver::start_with(move |n, _| Reply::Status(*FAILURES.get(n).unwrap_or(&status)));
        let lines = "retry_first_ms = 10\nretry_ms_max = 10";
        let (_server, mut client) = start(&config(&receiver, lines));
        client.subscribe("news");
        receiver.wait(|posted| posted.len() > FAILURES.len());
        receiver.expect_silence(Duration::from_millis(100));
    }
}

// Case 174.
#[test]
fn an_attempt_that_gets_no_answer_is_abandoned_and_made_again() {
    let receiver = Receiver::start_with(|n, _| match n {
        0 => Reply::Nothing,
        _ => Reply::Status(200),
    });
    let lines = "timeout_ms = 500\nretry_first_ms = 100\nretry_jitter_percent = 0";
    let (_server, mut client) = start(&config(&receiver, lines));
    client.subscribe("news");
    let posted = receiver.wait(|posted| posted.len() == 2);
    assert_eq!(posted[1].body, posted[0].body);
    assert!(gaps(&posted)[0] >= Duration::from_millis(600));
    assert_ne!(posted[0].connection, posted[1].connection);
}

// Case 174.
#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start();
    let location = elsewhere.url();
    for status in [301, 302, 303, 307, 308] {
        let location = location.clone();
        let receiver = Receiver::start_with(move |n, _| match n {
            0 => Reply::Bytes(
                format!(
                    "HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
                )
                .into(),
            ),
            _ => Reply::Status(200),
        });
        let (_server, mut client) = start(&config(&receiver, "retry_first_ms = 50"));
        client.subscribe("news");
        let posted = receiver.wait(|posted| posted.len() == 2);
        assert_eq!(posted[1].body, posted[0].body);
    }
    assert!(elsewhere.posted().is_empty());
}

// Case 174: at 300 s; here at 2.
#[test]
fn a_webhook_is_given_up_at_its_age() {
    let receiver = Receiver::start_with(|_, _| Reply::Status(500));
    let lines = "retry_first_ms = 100\nretry_ms_max = 100\nretry_for_secs = 2";
    let (_server, mut client) = start(&config(&receiver, lines));
    client.subscribe("news");
    let posted = receiver.wait(|posted| !posted.is_empty());
    let created = posted[0].json()["time_ms"].as_u64().unwrap();
    thread::sleep(Duration::from_millis(3_000));
    let posted = receiver.posted();
    assert!(posted.len() >= 5, "{}", posted.len());
    // On its way to the receiver it may have grown older.
    let last = posted.last().unwrap();
    assert!(last.unix_ms < created + 2_500, "{}", last.unix_ms - created);
    receiver.expect_silence(Duration::from_millis(300));
}

// Case 175.
#[test]
fn quick_events_share_requests_in_their_order() {
    let batches = |receiver: &Receiver| config(receiver, "").set("webhook_batch_ms", 300);
    on_shards_with_receiver(batches, |server, receiver| {
        let mut client = Client::connect(server);
        let channels: Vec<_> = (0..30).map(|n| format!("news-{n}")).collect();
        for channel in &channels {
            client.send_subscribe(channel);
        }
        let mut events = receiver.events(&A, 30);
        let posted = receiver.posted();
        assert!(posted.len() < 15, "{}", posted.len());
        // One home tells of its channels in their order; of several homes nothing is said.
        if server.shards > 1 {
            let place = |event: &Value| channels.iter().position(|c| event["channel"] == **c);
            events.sort_by_key(place);
        }
        assert_eq!(
            events,
            channels.iter().map(|c| occupied(c)).collect::<Vec<_>>()
        );
    });
}

// Case 175.
#[test]
fn without_batches_each_event_has_its_request() {
    let single = |receiver: &Receiver| {
        let endpoint = receiver.endpoint(OCCUPIED, "");
        Config::only(&A, &format!("webhook_batch = false\n{endpoint}"))
    };
    on_shards_with_receiver(single, |server, receiver| {
        let mut client = Client::connect(server);
        for n in 0..30 {
            client.send_subscribe(&format!("news-{n}"));
        }
        receiver.events(&A, 30);
        let posted = receiver.posted();
        assert_eq!(posted.len(), 30);
        assert!(posted.iter().all(|p| p.events(&A).len() == 1));
    });
}

#[test]
fn a_batch_is_full_with_its_events_or_its_bytes() {
    let full = |receiver: &Receiver, lines: &str| {
        let endpoint = receiver.endpoint(OCCUPIED, "");
        Config::only(&A, &format!("webhook_batch_ms = 2000\n{lines}\n{endpoint}"))
    };
    for (lines, events_max, bytes_max) in [
        ("webhook_batch_events_max = 7", 7, usize::MAX),
        // Each of the events has some 150 bytes.
        ("webhook_batch_bytes_max = 1024", 6, 1024),
    ] {
        let receiver = Receiver::start();
        let (_server, mut client) = start(&full(&receiver, lines));
        let long = "x".repeat(100);
        for n in 0..50 {
            client.send_subscribe(&format!("{long}-{n}"));
        }
        receiver.events(&A, 50);
        for posted in receiver.posted() {
            assert!(posted.events(&A).len() <= events_max, "{lines}");
            assert!(posted.body.len() <= bytes_max, "{lines}");
        }
    }
}

#[test]
fn requests_one_at_a_time_are_in_strict_order_also_when_they_fail() {
    // Every other request fails, and the first one thrice.
    let receiver = Receiver::start_with(|n, _| match n {
        0..3 => Reply::Status(500),
        n if n % 2 == 0 => Reply::Bytes(Vec::new()),
        _ => Reply::Status(200),
    });
    let endpoint = receiver.endpoint(OCCUPIED, "parallel_max = 1\nretry_first_ms = 20");
    let alone = Config::only(&A, &format!("webhook_batch = false\n{endpoint}"));
    let server = Server::start(&alone, 1);
    let mut client = Client::connect(&server);
    let channels: Vec<_> = (0..10).map(|n| format!("news-{n}")).collect();
    for channel in &channels {
        client.subscribe(channel);
    }
    receiver.wait(|posted| !attempts(posted, "news-9").is_empty());
    let posted = receiver.posted();
    let mut seen: Vec<_> = posted.iter().flat_map(|p| p.events(&A)).collect();
    seen.dedup();
    assert_eq!(
        seen,
        channels.iter().map(|c| occupied(c)).collect::<Vec<_>>()
    );
}

#[test]
fn a_connection_is_used_again() {
    let receiver = Receiver::start();
    let (_server, mut client) = start(&config(&receiver, ""));
    for n in 1..=5 {
        client.subscribe(&format!("news-{n}"));
        receiver.wait(|posted| posted.len() == n);
    }
    let posted = receiver.posted();
    // The first may still be in use when the second comes, on a busy machine; but not always.
    assert!(
        posted
            .windows(2)
            .any(|pair| pair[0].connection == pair[1].connection)
    );
}

#[test]
fn what_an_answer_says_is_discarded_however_much_it_is() {
    let answers = |n: usize| -> Reply {
        let body = match n {
            0 => vec![b'x'; 60 << 10],
            _ => vec![b'x'; 4 << 20],
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        Reply::Bytes([head.into_bytes(), body].concat())
    };
    let receiver = Receiver::start_with(move |n, _| answers(n));
    let (server, mut client) = start(&config(&receiver, "parallel_max = 1"));
    let before = server.resident_bytes_peak();
    for n in 1..=12 {
        client.subscribe(&format!("news-{n}"));
        receiver.wait(|posted| posted.len() == n);
    }
    let more = server.resident_bytes_peak() - before;
    assert!(more < 16 << 20, "{more}");
}

// An answer whose head is complete is an answer: what the receiver says after it is not waited for.
#[test]
fn an_answer_that_breaks_off_is_none_before_the_end_of_its_head_and_one_after_it() {
    let receiver = Receiver::start_with(|n, _| match n {
        0 => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Len".into()),
        1 => Reply::Bytes(b"HTTP/1.1 200 OK\r\n".into()),
        2 => Reply::Bytes(b"nonsense\r\n\r\n".into()),
        _ => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome of it".into()),
    });
    let (_server, mut client) = start(&config(&receiver, "retry_first_ms = 20"));
    client.subscribe("news");
    let posted = receiver.wait(|posted| posted.len() == 4);
    assert!(posted.iter().all(|p| p.body == posted[0].body));
    receiver.expect_silence(Duration::from_millis(300));
}

#[test]
fn headers_of_the_configuration_are_sent_along() {
    let receiver = Receiver::start();
    let lines = "headers = { Authorization = \"Bearer x\", \"x-tenant\" = \"7\" }";
    let (_server, mut client) = start(&config(&receiver, lines));
    client.subscribe("news");
    let posted = receiver.wait(|posted| posted.len() == 1);
    assert_eq!(posted[0].events(&A), [occupied("news")]);
    assert_eq!(posted[0].header("Authorization"), Some("Bearer x"));
    assert_eq!(posted[0].header("X-Tenant"), Some("7"));
}

#[test]
fn the_oldest_of_several_keys_signs() {
    let receiver = Receiver::start();
    let more = format!(
        "keys = [{{ key = \"younger\", secret = \"other\" }}]\n{}",
        receiver.endpoint(OCCUPIED, "")
    );
    let (_server, mut client) = start(&Config::only(&A, &more));
    client.subscribe("news");
    // The receiver holds it to the key and the secret of A.
    assert_eq!(receiver.events(&A, 1), [occupied("news")]);
}

#[test]
fn a_proxy_of_the_environment_sees_no_webhooks() {
    let (receiver, proxy) = (Receiver::start(), Receiver::start());
    let url = format!("http://{}", proxy.address);
    let mut config = config(&receiver, "");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        config = config.env(name, &url);
    }
    let (_server, mut client) = start(&config);
    client.subscribe("news");
    assert_eq!(receiver.events(&A, 1), [occupied("news")]);
    assert!(proxy.posted().is_empty());
}

// Webhooks 6, optional.
#[test]
fn private_addresses_are_refused_where_that_is_configured() {
    let receiver = Receiver::start();
    let port = receiver.address.port();
    let endpoints: String = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"]
        .map(|host| {
            endpoint(
                &format!("http://{host}:{port}/"),
                OCCUPIED,
                "retry_first_ms = 20",
            )
        })
        .concat();
    let config = Config::only(&A, &endpoints).set("webhook_refuse_private", true);
    let (server, mut client) = start(&config);
    client.subscribe("news");
    receiver.expect_silence(Duration::from_millis(500));
    let log = server.stderr();
    assert_eq!(log.matches("private_address").count(), 3, "{log}");
    assert_eq!(receiver.connections(), 0);
}

// Webhooks 6: certificates are verified.
#[test]
fn over_tls_only_a_receiver_with_a_trusted_certificate_for_its_name_is_sent_anything() {
    let lines = "retry_first_ms = 50\nretry_ms_max = 50";
    // The system's authorities are read from this file, if it is named.
    let trusting = |url: &str| {
        let config = Config::only(&A, &endpoint(url, OCCUPIED, lines));
        config.env("SSL_CERT_FILE", AUTHORITY)
    };
    let receiver = Receiver::start_tls();
    let (_server, mut client) = start(&trusting(&receiver.url()));
    client.subscribe("news");
    assert_eq!(receiver.events(&A, 1), [occupied("news")]);
    let other_name = trusting(&receiver.url().replace("localhost", "127.0.0.1"));
    let unknown_authority = config(&receiver, lines);
    for config in [other_name, unknown_authority] {
        let (server, mut client) = start(&config);
        let connections = receiver.connections();
        client.subscribe("news");
        let until = Instant::now() + WAIT;
        while !server.stderr().contains("invalid peer certificate") {
            assert!(Instant::now() < until, "it is not tried");
            thread::sleep(Duration::from_millis(10));
        }
        assert!(receiver.connections() > connections);
        assert_eq!(receiver.posted().len(), 1);
    }
}

// The signature is over what is sent, of whatever characters it is.
#[test]
fn bodies_are_utf_8_and_signed_as_they_are_sent() {
    let receiver = Receiver::start();
    let config = Config::only(&A, &receiver.endpoint(&["client_event"], ""));
    let (_server, mut client) = start(&config);
    client.subscribe_private("private-x");
    let data = "Grüße, \u{2603} \u{1f980} \u{2028} \"quoted\" \\ \u{7} </script>";
    client.send(&json!({"event": "client-ü", "channel": "private-x", "data": data}));
    let events = receiver.events(&A, 1);
    assert_eq!(
        (&events[0]["event"], &events[0]["data"]),
        (&json!("client-ü"), &json!(data))
    );
}

#[test]
fn a_slow_receiver_gets_no_more_at_once_than_allowed() {
    let receiver = Receiver::start_with(|_, _| Reply::After(Duration::from_millis(100), 200));
    let endpoint = receiver.endpoint(OCCUPIED, "parallel_max = 3");
    let config = Config::only(&A, &format!("webhook_batch = false\n{endpoint}"));
    let (_server, mut client) = start(&config);
    for n in 0..20 {
        client.send_subscribe(&format!("news-{n}"));
    }
    receiver.events(&A, 20);
    assert_eq!(receiver.busy_max(), 3);
}
