//! The end of the process: whom a signal closes, how fast, what is still answered, the exit status.

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use support::frame::{CLOSE, FIN, close_frame};
use support::websocket::upgrade_request;
use support::{A, Client, Config, Event, Publisher, Received, Response, Server, Tcp, WAIT};
use support::{WebSocket, client_frame, on_shards_at_once, signed_target};

const GRACE: Duration = Duration::from_secs(3);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(3);

fn config() -> Config {
    Config::only(&A, "").set("shutdown_grace_secs", GRACE.as_secs())
}

/// A publish whose head has been read, as `100 Continue` shows, and the body that it waits for.
fn begun_publish(server: &Server, channel: &str) -> (Tcp, String) {
    let body = json!({"name": "e", "channel": channel, "data": "x"}).to_string();
    let target = signed_target(&A, "POST", "/apps/3/events", "", body.as_bytes());
    let mut tcp = Tcp::connect(server.address);
    tcp.send(format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    assert_eq!(Response::read(&mut tcp).status, 100);
    (tcp, body)
}

/// Until the server has heard the signal: it closes a client.
fn wait_for_drain(client: &mut Client) {
    assert_eq!(
        client.expect_close_frame(4200),
        "Server is restarting, please reconnect"
    );
    client.tcp.expect_end();
}

// Case 165; 5.3 and 5.4.
#[test]
fn every_client_is_closed_with_4200_and_the_exit_status_is_0() {
    for signal in [Signal::TERM, Signal::INT] {
        on_shards_at_once(&config(), |server| {
            let mut clients: Vec<_> = (0..40).map(|_| Client::connect(server)).collect();
            let mut old = Client::connect_with_protocol(server, 5);
            clients[0].subscribe("news");
            let began = Instant::now();
            server.signal(signal);
            for client in &mut clients {
                wait_for_drain(client);
            }
            // Before protocol 6 an error says so first.
            old.expect_error(4200);
            wait_for_drain(&mut old);
            assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
            assert!(began.elapsed() < GRACE + Duration::from_secs(1) + SLACK);
        });
    }
}

// 5.4: as soon as all is done, not at the end of the grace period.
#[test]
fn without_anybody_it_ends_at_once_also_in_front_of_idle_connections() {
    let config = Config::only(&A, "").set("shutdown_grace_secs", 60);
    on_shards_at_once(&config, |server| {
        let mut idle = Tcp::connect(server.address);
        let mut publisher = Publisher::connect(server);
        publisher.publish("news", "e", "x");
        server.signal(Signal::TERM);
        let began = Instant::now();
        assert_eq!(server.wait().code(), Some(0));
        assert!(began.elapsed() < WAIT);
        let ended = idle.receive_until(Instant::now() + WAIT);
        assert!(matches!(ended, Received::End | Received::Reset));
    });
}

// Peers.md 27; 5.4: spread over the grace period, but never slower than 1000 a second.
#[test]
fn closes_are_spread_instead_of_bringing_everybody_back_at_once() {
    const CLIENTS: usize = 3000;
    let config = Config::only(&A, "").set("shutdown_grace_secs", 30);
    for shards in [1, 5] {
        let server = Server::start(&config, shards);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
        let began = Instant::now();
        server.signal(Signal::TERM);
        // At 1000 a second it takes 3 seconds; in the first of them some go and some stay.
        std::thread::sleep(Duration::from_millis(700));
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
            client.expect_closed(4200);
        }
        let took = began.elapsed();
        assert!(took > Duration::from_millis(2500), "{took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert_eq!(server.wait().code(), Some(0));
    }
}

// 5.4 and 18: a grace period of 0 is no spread at all.
#[test]
fn without_grace_everybody_is_closed_at_once() {
    let config = Config::only(&A, "").set("shutdown_grace_secs", 0);
    on_shards_at_once(&config, |server| {
        let mut clients: Vec<_> = (0..100).map(|_| Client::connect(server)).collect();
        server.signal(Signal::TERM);
        for client in &mut clients {
            wait_for_drain(client);
        }
        assert_eq!(server.wait().code(), Some(0));
    });
}

// 5.4: an answer within the grace period, and `Connection: close`.
#[test]
fn a_request_whose_head_had_arrived_is_answered_and_the_event_delivered() {
    on_shards_at_once(&config(), |server| {
        let mut first = Client::connect(server);
        let (mut tcp, body) = begun_publish(server, "news");
        server.signal(Signal::TERM);
        wait_for_drain(&mut first);
        assert!(server.is_running());
        tcp.send(body);
        let answer = Response::read(&mut tcp);
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        if answer.status == 503 {
            assert_eq!(answer.json()["code"], "service_unavailable");
        }
        assert_eq!(answer.header("Connection"), Some("close"));
        tcp.expect_end();
        assert_eq!(server.wait().code(), Some(0));
    });
}

// 5.4: the whole takes at most the grace period and a second, whoever does not finish.
#[test]
fn a_request_that_never_ends_does_not_hold_the_process() {
    on_shards_at_once(&config(), |server| {
        let (_tcp, _body) = begun_publish(server, "news");
        let mut client = Client::connect(server);
        let began = Instant::now();
        server.signal(Signal::TERM);
        wait_for_drain(&mut client);
        assert_eq!(server.wait().code(), Some(0));
        let took = began.elapsed();
        let second = Duration::from_secs(1);
        assert!(took > GRACE - second, "{took:?}");
        assert!(took < GRACE + second + SLACK, "{took:?}");
    });
}

// Case 19; 1.3 and 5.4.
#[test]
fn while_it_drains_nobody_new_is_served() {
    on_shards_at_once(&config(), |server| {
        let (mut held, body) = begun_publish(server, "news");
        let mut client = Client::connect(server);
        // Accepted before the drain, upgraded in it.
        let mut early = Tcp::connect(server.address);
        early.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        Response::read(&mut early);
        server.signal(Signal::TERM);
        wait_for_drain(&mut client);
        if early.try_send(upgrade_request(&A.target(), "")) {
            expect_turned_away(early);
        }
        if let Ok(stream) = std::net::TcpStream::connect(server.address) {
            let mut late = Tcp {
                stream,
                unread: Vec::new(),
            };
            if late.try_send(upgrade_request(&A.target(), "")) {
                expect_turned_away(late);
            }
        }
        held.send(body);
        Response::read(&mut held);
        assert_eq!(server.wait().code(), Some(0));
    });
}

/// Closed without an answer, 503, or the refusal with 4200.
fn expect_turned_away(mut tcp: Tcp) {
    match tcp.receive_until(Instant::now() + WAIT) {
        Received::End | Received::Reset => return,
        other => assert_eq!(other, Received::Bytes),
    }
    if tcp.unread.starts_with(b"HTTP/1.1 503 ") {
        return;
    }
    let mut socket = WebSocket::after_upgrade(tcp);
    assert_eq!(Event::parse(socket.text()).data["code"], 4200);
    socket.expect_closed(4200);
}

// Case 165; 5.4: a load balancer sees it while requests are still answered.
#[test]
fn while_it_drains_ready_is_503() {
    on_shards_at_once(&config(), |server| {
        let mut tcp = Tcp::connect(server.address);
        tcp.send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(Response::read(&mut tcp).status, 200);
        // Its head is not whole, so the connection is kept.
        tcp.send("GET /ready HTTP/1.1\r\n");
        let mut client = Client::connect(server);
        std::thread::sleep(Duration::from_millis(200));
        server.signal(Signal::TERM);
        wait_for_drain(&mut client);
        tcp.send("Host: x\r\n\r\n");
        let answer = Response::read(&mut tcp);
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("Connection"), Some("close"));
        assert_eq!(server.wait().code(), Some(0));
    });
}

// 5.4.
#[test]
fn a_second_signal_ends_it_at_once() {
    let config = Config::only(&A, "").set("shutdown_grace_secs", 600);
    on_shards_at_once(&config, |server| {
        let (_tcp, _body) = begun_publish(server, "news");
        let mut client = Client::connect(server);
        server.signal(Signal::TERM);
        wait_for_drain(&mut client);
        assert!(server.is_running());
        let began = Instant::now();
        server.signal(Signal::INT);
        let status = server.wait();
        assert!(began.elapsed() < WAIT);
        assert_eq!(status.code(), Some(1));
    });
}

// 5.3: a peer that never answers the Close, and one that closes at the same moment.
#[test]
fn clients_that_do_not_answer_the_close_do_not_hold_the_process() {
    on_shards_at_once(&config(), |server| {
        let mut silent = Client::connect(server);
        let mut closing = Client::connect(server);
        let mut half = Client::connect(server);
        half.tcp.send(&client_frame(FIN | CLOSE, &[3, 232])[..5]);
        let began = Instant::now();
        server.signal(Signal::TERM);
        closing.tcp.try_send(close_frame(1000));
        let code = closing.frame().close().0;
        assert!(matches!(code, Some(1000 | 4200)), "{code:?}");
        silent.expect_close_frame(4200);
        half.expect_close_frame(4200);
        assert_eq!(server.wait().code(), Some(0));
        assert!(began.elapsed() < GRACE + Duration::from_secs(1) + SLACK);
    });
}
