//! Reload by SIGHUP: what changes at once, what does not, and that nobody else notices
//! (decisions 39, WebSocket spec 18.1).

mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use support::http::{Http, OK, Request};
use support::{A, App, B, Client, Config, Event, Publisher, Q, Received, Server, WAIT, WebSocket};
use support::{expect_refused, on_shards_at_once, on_shards_with};

const RELOADED: &str = " reloaded ";
const NOT_RELOADED: &str = "not reloaded";

/// App B with a second key, or with that alone.
const B2: App = App {
    key: "b-key-2",
    secret: "b-secret-2",
    ..B
};

/// An app that is not there from the start.
const N: App = App {
    id: "n-id",
    key: "n-key",
    secret: "n-secret",
    settings: "",
};

fn both() -> Config {
    Config::default().app(&A, "").app(&B, "")
}

/// A subscriber and a publisher of app A who go on all the time; every event has a number, and all
/// have to come, once and in order.
fn amid_traffic(server: &Server, test: impl FnOnce(&AtomicU32)) {
    let mut subscriber = Client::connect(server);
    subscriber.subscribe("numbers");
    let (published, done) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            // On one connection: it is not closed either.
            let mut publisher = Publisher::connect(server);
            while !done.load(Ordering::Relaxed) {
                let number = published.load(Ordering::Relaxed);
                publisher.publish("numbers", "n", &number.to_string());
                published.store(number + 1, Ordering::Relaxed);
            }
            publisher.publish("numbers", "end", "");
        });
        scope.spawn(|| {
            for number in 0.. {
                let event = subscriber.event();
                if event.event == "end" {
                    assert_eq!(number, published.load(Ordering::Relaxed));
                    return;
                }
                assert_eq!(event.text(), number.to_string());
            }
        });
        // If the test fails the publisher has to end all the same.
        let stop = Stop(&done);
        test(&published);
        drop(stop);
    });
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Until so many more events were published.
fn wait_for_more(published: &AtomicU32, more: u32) {
    let goal = published.load(Ordering::Relaxed) + more;
    let until = Instant::now() + WAIT;
    while published.load(Ordering::Relaxed) < goal {
        assert!(Instant::now() < until, "publishing goes on");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_broken_file_changes_nothing_and_every_problem_is_logged() {
    on_shards_with(&both(), |server| {
        let mut client = Client::connect_to(server, B);
        amid_traffic(server, |published| {
            let broken = [
                (
                    "enabled = maybe\n",
                    "config (",
                    "string values must be quoted",
                ),
                (
                    "client_event_bytes_max = 0\n",
                    "client_event_bytes_max = 0 (",
                    "must be",
                ),
                ("nonsense = 1\n", "nonsense (", "unknown option"),
            ];
            for (line, option, reason) in broken {
                // App B is gone in it, and the limit of A another: nothing of that may show.
                let file = Config::only(&A, line).toml();
                let log = server.reload(&file, NOT_RELOADED);
                let lines: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
                assert!(
                    lines.iter().any(|line| line.contains(option)),
                    "{option}: {lines:?}"
                );
                assert!(
                    log.contains(reason) || option.starts_with("config"),
                    "{log}"
                );
                wait_for_more(published, 20);
            }
            // No file at all is as bad.
            std::fs::remove_file(server.config_path()).expect("it is there");
            server.signal(Signal::HUP);
            wait_for_log(server, "cannot be read");
        });
        client.sync();
        Client::connect_to(server, B).sync();
        assert!(!server.stderr().contains(RELOADED));
        // And the next good one is taken.
        server.reload(&Config::only(&A, "").toml(), RELOADED);
        client.expect_closed(4001);
    });
}

fn wait_for_log(server: &Server, text: &str) {
    let until = Instant::now() + WAIT;
    while !server.stderr().contains(text) {
        assert!(Instant::now() < until, "{text} in {}", server.stderr());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_good_file_is_live_within_a_second_and_nobody_else_notices() {
    on_shards_with(&both(), |server| {
        amid_traffic(server, |published| {
            wait_for_more(published, 50);
            let began = Instant::now();
            let log = server.reload(&both().app(&N, "").toml(), RELOADED);
            assert!(log.contains("added=\"n-id\""), "{log}");
            // The kernel spreads these over all shards.
            for _ in 0..40 {
                Client::connect_to(server, N).sync();
            }
            let mut publisher = Publisher::connect_to(server, N);
            publisher.publish("news", "e", "x");
            // A second, and what a busy machine may add to it.
            let took = began.elapsed();
            assert!(took < Duration::from_secs(1) + WAIT / 2, "{took:?}");
            wait_for_more(published, 50);
        });
    });
}

#[test]
fn many_reloads_under_traffic_lose_no_event() {
    on_shards_with(&both(), |server| {
        amid_traffic(server, |published| {
            for round in 0..10 {
                let with = both().app(&N, &format!("channels_per_event_max = {}", 1 + round));
                server.reload(&with.toml(), RELOADED);
                wait_for_more(published, 5);
                server.reload(&both().toml(), RELOADED);
            }
        });
    });
}

#[test]
fn a_disabled_apps_connections_are_closed_with_4003_and_a_removed_ones_with_4001() {
    on_shards_with(&both(), |server| {
        amid_traffic(server, |_| {
            let mut clients: Vec<_> = (0..20).map(|_| Client::connect_to(server, B)).collect();
            let mut old = WebSocket::open(server, &B.target_with("protocol=5"));
            old.text();
            let off = Config::only(&A, "").app(&B, "enabled = false");
            let log = server.reload(&off.toml(), RELOADED);
            assert!(log.contains("changed=\"b-id (enabled)\""), "{log}");
            for client in &mut clients {
                assert_eq!(client.expect_close_frame(4003), "Application disabled");
                client.tcp.expect_end();
            }
            // Before protocol 6 an error says so first.
            assert_eq!(Event::parse(old.text()).data["code"], 4003);
            old.expect_closed(4003);
            expect_refused(WebSocket::open(server, &B.target()), 4003);
            let body = json!({"name": "e", "channel": "c", "data": ""}).to_string();
            let mut publisher = Publisher::connect_to(server, B);
            assert_eq!(publisher.post("events", body.as_bytes()).status, 403);

            server.reload(&both().toml(), RELOADED);
            let mut clients: Vec<_> = (0..20).map(|_| Client::connect_to(server, B)).collect();
            let log = server.reload(&Config::only(&A, "").toml(), RELOADED);
            assert!(log.contains("removed=\"b-id\""), "{log}");
            for client in &mut clients {
                client.expect_closed(4001);
            }
            expect_refused(WebSocket::open(server, &B.target()), 4001);
            let answer = publisher.post("events", body.as_bytes());
            answer.expect_error(404, "app_not_found");
        });
    });
}

/// Peers 27, extended: as at the end of the process, nobody has all of them come back at once.
#[test]
fn closes_of_a_removed_app_are_spread_but_not_slower_than_a_thousand_a_second() {
    const CLIENTS: usize = 2000;
    let config = both().set("shutdown_grace_secs", 60);
    for shards in [1, 5] {
        let server = Server::start(&config, shards);
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|_| Client::connect_to(&server, B))
            .collect();
        let mut stays = Client::connect(&server);
        let began = Instant::now();
        server.reload(
            &Config::only(&A, "").set("shutdown_grace_secs", 60).toml(),
            RELOADED,
        );
        // At 1000 a second it takes 2 seconds; in the first of them some go and some stay.
        thread::sleep(Duration::from_millis(700).saturating_sub(began.elapsed()));
        let gone = clients
            .iter()
            .filter(|client| client.tcp.has_more())
            .count();
        assert!(
            (100..CLIENTS).contains(&gone),
            "{gone} after {:?}",
            began.elapsed()
        );
        for client in &mut clients {
            client.expect_closed(4001);
        }
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1500), "{took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
        stays.sync();
    }
}

#[test]
fn what_a_removed_app_had_accepted_is_delivered_and_what_it_had_cached_is_dropped() {
    on_shards_with(&both(), |server| {
        let mut client = Client::connect_to(server, B);
        client.subscribe("news");
        let mut publisher = Publisher::connect_to(server, B);
        publisher.publish("cache-price", "e", "12");
        for number in 0..50 {
            publisher.publish("news", "n", &number.to_string());
        }
        server.reload(&Config::only(&A, "").toml(), RELOADED);
        for number in 0..50 {
            client.expect_event("news", "n", &number.to_string());
        }
        client.expect_closed(4001);
        // The app comes back, and begins anew.
        server.reload(&both().toml(), RELOADED);
        let mut client = Client::connect_to(server, B);
        client.subscribe("cache-price");
        client.expect("pusher:cache_miss");
    });
}

#[test]
fn keys_that_are_added_or_revoked_take_effect_for_running_connections_too() {
    let keys = |list: &str| {
        let lines = format!("\n[[apps]]\nid = \"{}\"\nkeys = [{list}]\n", B.id);
        Config::only(&A, "").toml() + &lines
    };
    let pair = |app: &App| format!("{{ key = \"{}\", secret = \"{}\" }}", app.key, app.secret);
    on_shards_with(&both(), |server| {
        let mut client = Client::connect_to(server, B);
        let log = server.reload(&keys(&[pair(&B), pair(&B2)].join(", ")), RELOADED);
        assert!(log.contains("changed=\"b-id (keys)\""), "{log}");
        for app in [B, B2] {
            Client::connect_to(server, app).sync();
            Publisher::connect_to(server, app).publish("news", "e", "x");
        }
        server.reload(&keys(&pair(&B2)), RELOADED);
        // The connection stays; what it signs with the old key is refused, with the new one good.
        client.send_signed("private-a", None);
        client.expect_refused("private-a", 4009, "AuthError", 401);
        client.app = B2;
        client.subscribe_private("private-a");
        expect_refused(WebSocket::open(server, &B.target()), 4001);
        let body = json!({"name": "e", "channel": "private-a", "data": "x"}).to_string();
        let answer = Publisher::connect_to(server, B).post("events", body.as_bytes());
        answer.expect_error(401, "auth_failed");
        Publisher::connect_to(server, B2).publish("private-a", "e", "x");
        client.expect_event("private-a", "e", "x");
    });
}

#[test]
fn limits_that_change_hold_for_running_connections() {
    let with = |lines: &str| Config::only(&B, lines);
    on_shards_with(&with("client_events = false"), |server| {
        let mut client = Client::connect_to(server, B);
        let mut other = Client::connect_to(server, B);
        client.subscribe_private("private-a");
        other.subscribe_private("private-a");
        let mut publisher = Publisher::connect_to(server, B);
        let event = json!({"event": "client-e", "channel": "private-a", "data": "four"});
        client.send(&event);
        client.expect_error(4301);

        server.reload(
            &with("client_events = true\nclient_event_bytes_max = 4").toml(),
            RELOADED,
        );
        client.send(&event);
        other.expect("client-e");
        client.sync();

        server.reload(
            &with("client_events = true\nclient_event_bytes_max = 3").toml(),
            RELOADED,
        );
        client.send(&event);
        client.expect_error(4301);

        let body = json!({"name": "e", "channel": "news", "data": "twelve bytes"}).to_string();
        server.reload(&with("event_data_bytes_max = 11").toml(), RELOADED);
        assert_eq!(publisher.post("events", body.as_bytes()).status, 413);
        server.reload(&with("event_data_bytes_max = 12").toml(), RELOADED);
        publisher.publish("news", "e", "twelve bytes");

        let member = |id: &str| json!({"user_id": id});
        server.reload(&with("presence_members_max = 1").toml(), RELOADED);
        client.subscribe_presence("presence-a", &member("ann"));
        other.send_signed("presence-a", Some(&member("bob").to_string()));
        other.expect_refused("presence-a", 4100, "LimitReached", 4100);
        server.reload(&with("presence_members_max = 2").toml(), RELOADED);
        other.subscribe_presence("presence-a", &member("bob"));
        client.expect("pusher_internal:member_added");
    });
}

/// Peers 12, extended: the quota is one count over all shards and all reloads.
#[test]
fn the_quota_counts_on_over_reloads() {
    let quota = |max: u32| {
        Config::only(&A, "")
            .app(&Q, "")
            .toml()
            .replace("connections_max = 1", &format!("connections_max = {max}"))
    };
    let config = Config::only(&A, "").app(&Q, "");
    on_shards_with(&config, |server| {
        let full = || expect_refused(WebSocket::open(server, &Q.target()), 4004);
        let first = Client::connect_to(server, Q);
        full();
        server.reload(&quota(3), RELOADED);
        let mut others: Vec<_> = (0..2).map(|_| Client::connect_to(server, Q)).collect();
        full();
        // Something else of the app changes: the count goes on.
        let other = quota(3) + "batch_events_max = 5\n";
        server.reload(&other, RELOADED);
        full();
        // Fewer than there are: nobody is closed, and nobody comes in until some have gone.
        server.reload(&quota(2), RELOADED);
        others.iter_mut().for_each(|client| client.sync());
        full();
        first.into_socket().close(1000);
        full();
        others.remove(0).into_socket().close(1000);
        let until = Instant::now() + WAIT;
        let _third = loop {
            // A place is free when the session is out of every table.
            let mut socket = WebSocket::open(server, &Q.target());
            let event = Event::parse(socket.text());
            if event.event == "pusher:connection_established" {
                break socket;
            }
            assert!(Instant::now() < until, "{event:?}");
        };
        full();
        others[0].sync();
    });
}

#[test]
fn options_of_the_process_need_a_restart_and_are_named_each_time() {
    on_shards_at_once(&both(), |server| {
        let changed = both()
            .set("message_bytes_max", 2048)
            .set("spin_us", 7)
            .app(&N, "");
        for _ in 0..2 {
            let log = server.reload(&changed.toml(), RELOADED);
            let last = log
                .lines()
                .rev()
                .find(|line| line.contains("needs a restart"));
            let last = last.expect(&log);
            assert!(last.contains("spin_us, message_bytes_max"), "{last}");
        }
        // The apps of the same file hold at once, the bound of messages does not.
        let mut client = Client::connect_to(server, N);
        let long = "x".repeat(3000);
        client.send(&json!({"event": "pusher:ping", "data": long}));
        client.expect("pusher:pong");
        // Back to what runs: nothing is left to say.
        let log = server.reload(&both().app(&N, "").toml(), RELOADED);
        assert_eq!(log.matches("needs a restart").count(), 2, "{log}");
    });
}

#[test]
fn a_change_of_the_file_is_taken_up_where_that_is_wished() {
    let config = both().set("reload_on_change", true);
    on_shards_at_once(&config, |server| {
        let mut client = Client::connect_to(server, B);
        let with = config.clone().app(&N, "");
        server.replace_file(&with.toml());
        wait_for_log(server, "added=\"n-id\"");
        Client::connect_to(server, N).sync();
        // Written in place, and broken: it is read once, and nothing changes.
        std::fs::write(server.config_path(), "nonsense = 1\n").expect("a file");
        wait_for_log(server, NOT_RELOADED);
        thread::sleep(Duration::from_millis(2500));
        assert_eq!(server.stderr().matches(NOT_RELOADED).count(), 1);
        client.sync();
        server.replace_file(&config.clone().set("spin_us", 1).toml());
        wait_for_log(server, "removed=\"n-id\"");
    });
}

#[test]
fn without_that_wish_a_change_waits_for_the_signal() {
    let server = Server::start(&both(), 2);
    server.replace_file(&Config::only(&A, "").toml());
    let mut client = Client::connect_to(&server, B);
    client.expect_silence(Duration::from_millis(2500));
    server.signal(Signal::HUP);
    client.expect_closed(4001);
}

#[test]
fn a_signal_while_the_process_ends_changes_nothing() {
    let config = both().set("shutdown_grace_secs", 3);
    let server = Server::start(&config, 2);
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(&server)).collect();
    server.signal(Signal::TERM);
    wait_for_log(&server, "draining");
    server.replace_file(&Config::only(&B, "").toml());
    server.signal(Signal::HUP);
    for client in &mut clients {
        client.expect_closed(4200);
    }
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

#[test]
fn whoever_is_connected_before_the_upgrade_is_judged_by_the_new_apps() {
    on_shards_with(&both(), |server| {
        // Accepted before, and a request whose body is still to come.
        let mut early = Http::connect(server);
        early.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        server.reload(&Config::only(&A, "").toml(), RELOADED);
        let request = Request::events(&B, r#"{"name":"e","channel":"c","data":""}"#);
        early
            .ask(request.bytes())
            .expect_error(404, "app_not_found");
        let request = Request::events(&A, r#"{"name":"e","channel":"c","data":""}"#);
        early.ask(request.bytes()).expect_ok(OK);
        assert_eq!(
            early.receive_until(Instant::now() + Duration::from_millis(50)),
            Received::Nothing
        );
    });
}
