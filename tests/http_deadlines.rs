//! What comes too late (design, section 5): heads, bodies, the next request, and the end of a
//! connection that has had its last answer.
//!
//! Deadlines are full seconds on a clock that is looked at once a second, so each is tested with
//! one or two seconds and given some more.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::http::{Http, OK, announced, publish, unsigned};
use support::{Config, Received, Server};

fn deadlines(secs: u64) -> Config {
    Config::standard()
        .set("head_timeout_secs", secs)
        .set("body_timeout_secs", secs)
        .set("keep_alive_timeout_secs", secs)
}

/// Deadlines of one second, the shortest there are.
fn impatient() -> Server {
    Server::start(&deadlines(1), 1)
}

/// Deadlines are full seconds on a clock that is looked at once a second.
const DEADLINE_MAX: Duration = Duration::from_millis(4_000);

#[test]
fn a_request_that_is_not_finished_in_time_gets_408() {
    let server = impatient();
    let head = announced(&publish(), 400);
    let chunked = publish().chunked(5);
    let parts = [
        (b"G".to_vec(), false),
        (b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec(), false),
        (b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec(), true),
        (head.clone().into_bytes(), false),
        (format!("{head}half").into_bytes(), true),
        (chunked[..chunked.len() - 1].to_vec(), false),
    ];
    let begun: Vec<_> = parts
        .into_iter()
        .map(|(part, behind_a_request)| {
            let mut http = Http::connect(&server);
            if behind_a_request {
                http.ask(publish().bytes()).expect_ok(OK);
            }
            let began = Instant::now();
            http.send(part);
            (http, began)
        })
        .collect();
    for (mut http, began) in begun {
        let answer = http.answer();
        let took = began.elapsed();
        answer.expect_last_error(408, "request_timeout", &mut http);
        assert!(took > Duration::from_millis(500), "{took:?}");
        assert!(took < DEADLINE_MAX, "{took:?}");
    }
}

#[test]
fn a_request_that_dribbles_gets_408_all_the_same() {
    // The deadline is of the whole head and the whole body, not of the next byte.
    let server = impatient();
    let request = publish();
    for head in [
        "GET / HTTP/1.1\r\nX-Slow: ".to_owned(),
        announced(&request, 4_000),
    ] {
        let mut http = Http::connect(&server);
        http.send(head);
        let began = Instant::now();
        while http.receive_until(Instant::now() + Duration::from_millis(100)) == Received::Nothing {
            assert!(began.elapsed() < DEADLINE_MAX, "it is still read");
            http.send("y");
        }
        http.answer().expect_error(408, "request_timeout");
        http.expect_end();
    }
}

#[test]
fn a_connection_that_waits_too_long_between_requests_is_closed_without_a_word() {
    let server = impatient();
    let mut never_asked = Http::connect(&server);
    let mut asked = Http::connect(&server);
    assert_eq!(asked.ask(publish().bytes()).status, 200);
    let mut skipped = Http::connect(&server);
    skipped.send("\r\n");
    let began = Instant::now();
    never_asked.expect_end();
    asked.expect_end();
    assert!(
        began.elapsed() > Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    assert!(began.elapsed() < DEADLINE_MAX, "{:?}", began.elapsed());
    // Something has come of a request, if only an empty line.
    assert_eq!(skipped.answer().status, 408);
}

#[test]
fn each_request_has_its_own_deadline() {
    // Two heads and two bodies, each in time, together longer than one of the deadlines.
    let server = Server::start(&deadlines(2), 1);
    let mut http = Http::connect(&server);
    for _ in 0..3 {
        let bytes = publish().bytes();
        let (head, rest) = bytes.split_at(100);
        http.send(head);
        thread::sleep(Duration::from_millis(600));
        let (more, body) = rest.split_at(rest.len() - 10);
        http.send(more);
        thread::sleep(Duration::from_millis(600));
        http.ask(body).expect_ok(OK);
    }
}

#[test]
fn many_short_requests_in_one_segment_leave_the_connection_its_keep_alive_time() {
    // A turn takes 64 requests of a connection; what is exactly that many must not be forgotten.
    let config = deadlines(1).set("keep_alive_timeout_secs", 60);
    let server = Server::start(&config, 1);
    for count in [63, 64, 65, 128, 200] {
        let mut http = Http::connect(&server);
        http.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(count));
        for _ in 0..count {
            assert_eq!(http.answer().status, 200);
        }
        http.expect_nothing(Duration::from_millis(if count == 64 { 3_500 } else { 20 }));
        http.ask(publish().bytes()).expect_ok(OK);
    }
}

#[test]
fn who_goes_on_sending_after_the_last_answer_is_cut_off() {
    // Design section 5: unread input after a final answer, 1 s.
    let server = Server::start(&Config::standard(), 1);
    let mut http = Http::connect(&server);
    let answer = http.ask(announced(&unsigned("/nope"), 10 << 20));
    assert_eq!(answer.status, 404);
    let began = Instant::now();
    while http.try_send("x") {
        assert!(began.elapsed() < Duration::from_secs(8), "it is still read");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(
        began.elapsed() > Duration::from_millis(700),
        "{:?}",
        began.elapsed()
    );
}
