//! The listener for those who run the server: what is there, that it is the truth, and that it is
//! not where clients are (HTTP spec 10).

mod support;

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use support::WebSocket;
use support::http::{Http, OK, publish};
use support::metrics::{Scrape, ask, get};
use support::server::{command, run};
use support::{A, B, Client, Config, D, Publisher, Q, Server, Tcp, WAIT};
use support::{expect_refused, on_shards_with};

const APP_A: &str = r#"app_id="3""#;

/// Gauges of connections, channels and what waits for them.
const GAUGES: [&str; 11] = [
    "shardcast_connected",
    "shardcast_active_channels",
    "shardcast_shard_connections",
    "shardcast_shard_sessions",
    "shardcast_shard_subscriptions",
    "shardcast_shard_channels",
    "shardcast_shard_inbox_depth",
    "shardcast_shard_leftovers",
    "shardcast_shard_outbox_bytes",
    "shardcast_shard_outbox_untried_bytes",
    "shardcast_shard_outbox_queues",
];

/// Peers, from their users' reports: gauges that only grow.
#[test]
fn gauges_are_what_is_there_and_return_to_zero() {
    on_shards_with(&Config::standard(), |server| {
        let channel = |kind: &str| format!(r#"channel_type="{kind}""#);
        let mut clients: Vec<_> = (0..6).map(|_| Client::connect(server)).collect();
        for (nth, client) in clients.iter_mut().enumerate() {
            client.subscribe("news");
            client.subscribe(&format!("own-{nth}"));
            client.subscribe_private("private-room");
            client.sync();
        }
        let member = json!({"user_id": "ann"});
        clients[0].subscribe_presence("presence-room", &member);
        let other = Client::connect_to(server, B);
        let scrape = Scrape::until(server, |scrape| {
            scrape.sum("shardcast_shard_sessions", &[]) == 7.0
                && scrape.sum("shardcast_active_channels", &[APP_A]) == 9.0
        });
        assert_eq!(scrape.sum("shardcast_connected", &[APP_A]), 6.0);
        assert_eq!(scrape.sum("shardcast_connected", &[]), 7.0);
        assert_eq!(scrape.sum("shardcast_shard_subscriptions", &[]), 19.0);
        for (kind, count) in [("public", 7.0), ("private", 1.0), ("presence", 1.0)] {
            let labels = [APP_A, &channel(kind)];
            assert_eq!(
                scrape.sum("shardcast_active_channels", &labels),
                count,
                "{kind}"
            );
        }
        clients[1].unsubscribe("news");
        clients[1].sync();
        // Some say goodbye, others do not.
        for (nth, client) in clients.into_iter().enumerate() {
            match nth % 2 {
                0 => client.into_socket().close(1000),
                _ => client.into_socket().tcp.reset(),
            }
        }
        other.into_socket().close(1000);
        let is_zero = |scrape: &Scrape| GAUGES.iter().all(|name| scrape.sum(name, &[]) == 0.0);
        let scrape = Scrape::until(server, is_zero);
        // Counters stay, and agree with each other.
        let total = |name: &str| scrape.sum(&format!("shardcast_{name}"), &[APP_A]);
        assert_eq!(total("new_connections_total"), 6.0);
        assert_eq!(total("new_disconnections_total"), 6.0);
        assert_eq!(total("channel_subscriptions_total"), 19.0);
        assert_eq!(total("channel_unsubscriptions_total"), 19.0);
        assert_eq!(scrape.sum("shardcast_shards", &[]), server.shards as f64);
        assert_eq!(scrape.sum("shardcast_shards_unanswered", &[]), 0.0);
    });
}

/// Peers, section 1: what boards ask for, under the prefix that they ask it with.
#[test]
fn the_names_that_boards_know_are_there_with_any_prefix() {
    let config = Config::standard().set("metrics_prefix", "\"soketi_\"");
    on_shards_with(&config, |server| {
        let port = format!(r#"port="{}""#, server.address.port());
        let mut client = Client::connect(server);
        client.subscribe("news");
        let mut publisher = Publisher::connect(server);
        publisher.publish("news", "e", "twelve bytes");
        client.expect_event("news", "e", "twelve bytes");
        client.sync();
        client.unsubscribe("news");
        client.sync();
        expect_refused(WebSocket::open(server, &D.target()), 4003);
        expect_refused(WebSocket::open(server, "/app/nobody?protocol=7"), 4001);
        let scrape = Scrape::until(server, |scrape| {
            scrape.sum("soketi_broadcast_latency_ms_count", &[APP_A]) >= 1.0
        });
        let at_least = [
            ("connected", 1.0),
            ("new_connections_total", 1.0),
            ("new_disconnections_total", 0.0),
            ("socket_received_bytes", 100.0),
            ("socket_transmitted_bytes", 100.0),
            ("ws_messages_received_total", 4.0),
            ("ws_messages_sent_total", 5.0),
            ("http_received_bytes", 40.0),
            ("http_transmitted_bytes", 11.0),
            ("http_calls_received_total", 1.0),
            ("active_channels", 0.0),
            ("channel_subscriptions_total", 1.0),
            ("channel_unsubscriptions_total", 1.0),
            ("rate_limit_checks_total", 0.0),
            ("rate_limit_triggered_total", 0.0),
        ];
        for (name, least) in at_least {
            let value = scrape.sum(&format!("soketi_{name}"), &[APP_A, &port]);
            assert!(value >= least, "{name} is {value}");
        }
        let errors = "soketi_connection_errors_total";
        let disabled = [r#"app_id="d-id""#, r#"error_type="4003""#];
        assert_eq!(scrape.sum(errors, &disabled), 1.0);
        assert_eq!(
            scrape.sum(errors, &[r#"app_id="""#, r#"error_type="4001""#]),
            1.0
        );
        let latency = [
            APP_A,
            r#"channel_type="public""#,
            r#"recipient_count_bucket="xs""#,
        ];
        assert_eq!(
            scrape.sum("soketi_broadcast_latency_ms_count", &latency),
            1.0
        );
        assert!(scrape.sum("soketi_broadcast_latency_ms_sum", &latency) > 0.0);
        // Of ours, and of every client of Prometheus.
        for (name, least) in [
            ("soketi_shard_deliveries_total", 1.0),
            ("soketi_shard_sends_total", 3.0),
            ("soketi_shard_frames_per_send", 0.0),
            ("soketi_shard_turn_seconds_count", 1.0),
            ("soketi_shard_delivery_seconds_count", 1.0),
            ("soketi_webhook_events_pending", 0.0),
            ("process_resident_memory_bytes", 1_000_000.0),
            ("process_open_fds", 10.0),
            ("process_cpu_seconds_total", 0.0),
            ("process_start_time_seconds", 1_600_000_000.0),
        ] {
            let value = scrape.sum(name, &[]);
            assert!(value >= least, "{name} is {value}");
        }
        // Memory that we believe to have and what the kernel says agree.
        let resident = scrape.sum("process_resident_memory_bytes", &[]);
        let ratio = resident / server.resident_bytes() as f64;
        assert!((0.5..2.0).contains(&ratio), "{ratio}");
    });
}

/// Peers 13: theirs are on the port for clients, and wrong by a factor of 1024.
#[test]
fn usage_and_metrics_are_not_on_the_port_for_clients_and_count_bytes() {
    let server = Server::start(&Config::standard(), 2);
    for path in ["/metrics", "/usage", "/stats"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = Http::connect(&server).ask(request);
        answer.expect_error(404, "not_found");
    }
    let address = server.metrics_address();
    let answer = get(address, "/usage");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let usage = answer.json();
    let memory = usage["memory"].as_object().expect("an object");
    let number = |name: &str| memory[name].as_f64().expect(name);
    assert_eq!(memory.len(), 4, "{usage}");
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("a kernel says so");
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total
        .and_then(|rest| rest.split_whitespace().next())
        .expect(&meminfo);
    let machine = total.parse::<f64>().expect("a number") * 1024.0;
    // Or less, in a group with a limit; but never by a factor of 1024.
    assert!(
        number("total") <= machine && number("total") > machine / 512.0,
        "{usage}"
    );
    assert_eq!(number("free") + number("used"), number("total"), "{usage}");
    let percent = number("used") * 100.0 / number("total");
    assert!((number("percent") - percent).abs() < 0.01, "{usage}");
    assert!(
        memory["free"].is_u64() && memory["percent"].is_f64(),
        "{usage}"
    );
}

#[test]
fn nothing_else_is_there() {
    let server = Server::start(&Config::standard(), 1);
    let address = server.metrics_address();
    assert_ne!(address.port(), server.address.port());
    assert!(address.ip().is_loopback());
    let root = get(address, "/");
    assert_eq!((root.status, root.text()), (200, "OK"));
    for path in [
        "/up",
        "/metrics/",
        "/app/278d425bdf160c739803",
        "/apps/3/channels",
        "//",
    ] {
        assert_eq!(get(address, path).status, 404, "{path}");
    }
    let post = ask(
        address,
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(
        (post.status, post.header("Allow")),
        (405, Some("GET, HEAD"))
    );
    let head = ask(address, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(head.status, 200);
    // What is no HTTP is refused or dropped, and the next one is served.
    let mut tcp = Tcp::connect(address);
    tcp.send("\x16\x03\x01\x02\x00 nonsense\r\n\r\n");
    let _ = tcp.receive_until(Instant::now() + WAIT);
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn clients_that_say_nothing_do_not_keep_a_scrape_out_for_long() {
    let server = Server::start(&Config::standard(), 1);
    let address = server.metrics_address();
    let mut idle: Vec<_> = (0..40).map(|_| Tcp::connect(address)).collect();
    for tcp in idle.iter_mut().step_by(2) {
        tcp.send("GET /metrics HTTP/1.1\r\n");
    }
    let descriptors = server.descriptors();
    let mut tcp = Tcp::connect(address);
    tcp.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    // Those in front of it have five seconds each, sixteen at a time.
    let until = Instant::now() + 4 * WAIT;
    while tcp.unread.is_empty() && Instant::now() < until {
        let _ = tcp.receive_until(until);
    }
    assert!(tcp.unread.starts_with(b"HTTP/1.1 200 "), "{:?}", tcp.unread);
    assert!(descriptors < 100, "{descriptors}");
}

#[test]
fn apps_beyond_the_bound_are_told_as_one() {
    let config = Config::standard().set("metrics_apps_max", 1);
    let server = Server::start(&config, 2);
    let _clients = [
        Client::connect(&server),
        Client::connect_to(&server, B),
        Client::connect_to(&server, Q),
    ];
    let scrape = Scrape::until(&server, |scrape| {
        scrape.sum("shardcast_new_connections_total", &[]) == 3.0
    });
    assert_eq!(scrape.sum("shardcast_connected", &[APP_A]), 1.0);
    assert_eq!(
        scrape.sum("shardcast_connected", &[r#"app_id="other""#]),
        2.0
    );
    assert!(!scrape.0.keys().any(|series| series.contains("b-id")));
}

#[test]
fn latency_is_counted_per_run_and_not_per_subscriber() {
    let server = Server::start(&Config::standard(), 1);
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(&server)).collect();
    clients
        .iter_mut()
        .for_each(|client| client.subscribe("news"));
    let mut publisher = Publisher::connect(&server);
    for _ in 0..5 {
        publisher.publish("news", "e", "x");
        // One after the other: no two of them in one run.
        clients
            .iter_mut()
            .for_each(|client| client.expect_event("news", "e", "x"));
    }
    let count = "shardcast_broadcast_latency_ms_count";
    let scrape = Scrape::until(&server, |scrape| scrape.sum(count, &[APP_A]) >= 5.0);
    assert_eq!(scrape.sum(count, &[r#"recipient_count_bucket="sm""#]), 5.0);
    assert_eq!(scrape.sum("shardcast_shard_deliveries_total", &[]), 100.0);
    assert_eq!(
        scrape.sum("shardcast_shard_delivery_seconds_count", &[]),
        5.0
    );
    let sum = scrape.sum("shardcast_shard_delivery_seconds_sum", &[]);
    assert!(sum > 0.0 && sum < 5.0 * WAIT.as_secs_f64(), "{sum}");
}

#[test]
fn refused_client_events_and_limits_are_counted() {
    let config = Config::only(&A, "client_events_per_sec = 2");
    let server = Server::start(&config, 1);
    let mut client = Client::connect(&server);
    client.subscribe_private("private-room");
    for _ in 0..4 {
        client.send(&json!({"event": "client-e", "channel": "private-room", "data": Value::Null}));
    }
    client.expect_error(4301);
    let limit = [APP_A, r#"limiter_type="client_events""#];
    let scrape = Scrape::until(&server, |scrape| {
        scrape.sum("shardcast_rate_limit_checks_total", &limit) == 4.0
    });
    let triggered = scrape.sum("shardcast_rate_limit_triggered_total", &limit);
    assert!((1.0..=2.0).contains(&triggered), "{triggered}");
    assert_eq!(
        scrape.sum("shardcast_client_events_refused_total", &[]),
        triggered
    );
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = other.local_addr().expect("bound").port().to_string();
    let flags = ["--port", "0", "--metrics-port", &port];
    let (code, stdout, stderr) = run(command().args(flags));
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    for part in [
        &*format!("127.0.0.1:{port}"),
        "in use",
        "metrics_port",
        "metrics = false",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn switched_off_it_listens_nowhere_else() {
    let server = Server::start_with(&Config::standard(), &["--metrics=false"], 1);
    Http::connect(&server).ask(publish().bytes()).expect_ok(OK);
    let said = server.stdout_with("forceTLS: false");
    assert!(!said.contains("etrics"), "{said}");
}

/// A file that is wrong in twenty thousand places has a line in the log for each, and the queue of
/// the log's writer holds 8192: while nobody reads, what is too much is dropped and counted, and
/// the server goes on.
#[test]
fn a_line_of_the_log_is_written_or_counted() {
    const MISTAKES: usize = 20_000;
    let server = Server::start(&Config::standard(), 1);
    let dropped = |scrape: &Scrape| scrape.sum("shardcast_log_lines_dropped_total", &[]);
    assert_eq!(dropped(&Scrape::of(&server)), 0.0);
    let unread = server.withhold_stderr();
    let mistakes: String = (0..MISTAKES)
        .map(|n| format!("mistake_{n} = 1\n"))
        .collect();
    server.replace_file(&mistakes);
    server.signal(Signal::HUP);
    let is_refused =
        |scrape: &Scrape| scrape.sum("shardcast_reloads_total", &[r#"outcome="refused""#]) == 1.0;
    let dropped = dropped(&Scrape::until(&server, is_refused)) as usize;
    assert!((1..MISTAKES).contains(&dropped), "{dropped}");
    Http::connect(&server).ask(publish().bytes()).expect_ok(OK);
    drop(unread);
    // A line for each mistake, and one for the outcome.
    let until = Instant::now() + WAIT;
    loop {
        let log = server.stderr();
        let written = log.lines().filter(|line| line.contains(" ERROR ")).count();
        if written + dropped == MISTAKES + 1 {
            break;
        }
        let missing = (MISTAKES + 1).abs_diff(written + dropped);
        assert!(Instant::now() < until, "{written} + {dropped}: {missing}");
        thread::sleep(Duration::from_millis(5));
    }
}
