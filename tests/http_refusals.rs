//! Requests that end their connection (HTTP spec 1, 1.3): what is not HTTP, what is too large, and
//! what is left unread behind a refusal.
//!
//! Each answer is read to the end of the stream: the connection closes in order, never by a reset
//! that would take the answer with it.

mod support;

use std::thread;
use std::time::Duration;

use support::http::{Http, OK, Request, announced, publish, unsigned};
use support::{A, B, Config, Server};

#[test]
fn what_is_no_lawful_request_is_refused_and_ends_the_connection() {
    let server = Server::start(&Config::standard(), 1);
    let get = |line: &str| format!("GET / HTTP/1.1\r\n{line}\r\n\r\n");
    let post = |lines: &str| format!("POST /apps/3/events HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
    let rows = [
        (get("X-Host: a"), 400),
        (get("Host: a\r\nHost: a"), 400),
        (get("Host : a"), 400),
        (get("Host: a\r\nX\t: b"), 400),
        (get("Host: a\r\n folded: b"), 400),
        (get("Host: a\r\nX: b\r\n folded"), 400),
        (get("Host: a\r\nX: \0"), 400),
        (get("Host: a\r\nX: b\x07c"), 400),
        (get("Host: a\r\nX: b\x7fc"), 400),
        (get("Host: a\r\nno colon"), 400),
        (get("Host: a\r\n: no name"), 400),
        (post("Content-Length: 1x"), 400),
        (post("Content-Length: -1"), 400),
        (post("Content-Length: +1"), 400),
        (post("Content-Length: 0x1"), 400),
        (post("Content-Length: "), 400),
        (post("Content-Length: 1, 1"), 400),
        (post("Content-Length: 1\r\nContent-Length: 2"), 400),
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5"), 400),
        (post("Transfer-Encoding: gzip"), 501),
        (post("Transfer-Encoding: gzip, chunked"), 501),
        (
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            501,
        ),
        (post("Transfer-Encoding: identity"), 501),
        (post("Expect: something"), 417),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n".into(), 505),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("GET / HTTX/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET /\r\n\r\n".into(), 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET apps HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            400,
        ),
        ("\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n".into(), 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03".into(), 400),
        ("SSH-2.0-OpenSSH_9.6\r\n".into(), 400),
    ];
    for (request, status) in rows {
        let mut http = Http::connect(&server);
        let answer = http.ask(&request);
        let code = match status {
            400 => "invalid_input",
            _ => "unsupported",
        };
        answer.expect_last_error(status, code, &mut http);
    }
    // The server is none the worse for it.
    Http::connect(&server).ask(publish().bytes()).expect_ok(OK);
}

#[test]
fn a_head_is_held_to_its_limits() {
    // Case 16, second half; design section 5.
    let server = Server::start(&Config::standard(), 1);
    let filler = |count: usize| "X-Filler: a\r\n".repeat(count);
    let of_bytes = |bytes: usize| {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
        head.replace("X: ", &format!("X: {}", "y".repeat(bytes - head.len())))
    };
    let mut http = Http::connect(&server);
    for request in [
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", filler(63)),
        of_bytes(16 << 10),
    ] {
        let answer = http.ask(request);
        assert_eq!((answer.status, answer.closes()), (200, false));
    }
    for request in [
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", filler(64)),
        of_bytes((16 << 10) + 1),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(16 << 10)),
        // Without an end, and far beyond the limit.
        format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(16 << 10)),
        format!("GET /{}", "a".repeat(200 << 10)),
    ] {
        let mut http = Http::connect(&server);
        let answer = http.ask(&request);
        answer.expect_last_error(431, "head_too_large", &mut http);
    }
}

#[test]
fn a_larger_limit_for_heads_is_kept_too() {
    let config = Config::standard().set("head_bytes_max", "\"256 KiB\"");
    let server = Server::start(&config, 1);
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "y".repeat(200 << 10)
    );
    let mut http = Http::connect(&server);
    assert_eq!(http.ask(&long).status, 200);
    http.send_in_pieces(long.as_bytes(), 10_000);
    assert_eq!(http.answer().status, 200);
}

#[test]
fn a_body_over_its_limit_is_refused_before_it_comes() {
    // Case 142: 413 early; peers 3. Limits of HTTP spec 1.3: the server's, then the endpoint's.
    let server = Server::start(&Config::standard(), 1);
    let events_max = (64 << 10) + 6 * (10 << 10);
    let rows = [
        (announced(&publish(), events_max + 1), "124KB"),
        (
            announced(&Request::batch(&A, "{}"), 10 * events_max + 1),
            "1240KB",
        ),
        (announced(&publish(), (10 << 20) + 1), "10MB"),
        (announced(&publish(), u64::MAX), "10MB"),
        (
            announced(&publish(), 1).replace(": 1\r", ": 99999999999999999999999\r"),
            "10MB",
        ),
        (announced(&unsigned("/nope"), (10 << 20) + 1), "10MB"),
        (announced(&unsigned("/up"), (10 << 20) + 1), "10MB"),
        (
            announced(&unsigned("/apps/3/events"), events_max + 1),
            "124KB",
        ),
    ];
    for (head, limit) in rows {
        let mut http = Http::connect(&server);
        let answer = http.ask(head);
        let text = answer.expect_last_error(413, "payload_too_large", &mut http);
        assert_eq!(text, format!("Payload too large. Maximum size is {limit}."));
    }
    // A chunked body is cut off at the same number of bytes: exactly so many are read.
    let blanks = |bytes: u64| {
        format!(
            "{}{}",
            publish_text(),
            " ".repeat(bytes as usize - publish_text().len())
        )
    };
    let mut http = Http::connect(&server);
    http.ask(Request::events(&A, blanks(events_max)).chunked(8_000))
        .expect_ok(OK);
    http.ask(Request::events(&A, blanks(events_max)).bytes())
        .expect_ok(OK);
    let answer = http.ask(Request::events(&A, blanks(events_max + 1)).chunked(8_000));
    answer.expect_last_error(413, "payload_too_large", &mut http);
}

fn publish_text() -> String {
    String::from_utf8(publish().body).expect("text")
}

#[test]
fn the_answer_to_an_unread_upload_is_not_lost_to_a_reset() {
    // HTTP spec 1: say `Connection: close`, half-close, read and discard, then close.
    let server = Server::start(&Config::standard(), 2);
    let forged = unsigned("/apps/3/events");
    let chunked = forged.head(&forged.target(), "Transfer-Encoding: chunked\r\n");
    let rows = [
        (format!("{chunked}100000\r\n"), 401),
        (announced(&unsigned("/apps/3/batch_events"), 1 << 20), 401),
        (announced(&unsigned("/nope"), 8 << 20), 404),
        (announced(&publish(), 64 << 20), 413),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(17 << 10)),
            431,
        ),
    ];
    for (head, status) in rows {
        let mut http = Http::connect(&server);
        http.send(head);
        // More than both socket buffers hold: this returns because the server reads on.
        http.send(vec![b'x'; 1 << 20]);
        thread::sleep(Duration::from_millis(100));
        let answer = http.answer();
        assert_eq!((answer.status, answer.closes()), (status, true));
        http.expect_end();
    }
}

#[test]
fn an_unsigned_upload_is_answered_from_its_head_and_never_collected() {
    // Peers 2; design section 5: before a signature a connection costs at most 16 KiB.
    let server = Server::start(&Config::standard(), 1);
    Http::connect(&server).ask(publish().bytes()).expect_ok(OK);
    let before = server.resident_bytes_peak();
    let batch = Request::batch(&B, "{}").path;
    let rows = [
        (6 << 20, 401, "auth_failed"),
        (10 << 20, 413, "payload_too_large"),
    ];
    for (length, status, code) in rows {
        for _ in 0..5 {
            let mut http = Http::connect(&server);
            http.send(announced(&unsigned(&batch), length));
            // All of it, or as much as is taken in a second.
            let _ = http.try_send(vec![b'x'; length as usize]);
            let answer = http.answer();
            answer.expect_last_error(status, code, &mut http);
        }
    }
    // The same for heads that do not end.
    let heads: Vec<_> = (0..50)
        .map(|_| {
            let mut http = Http::connect(&server);
            http.send(format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(15 << 10)));
            http
        })
        .collect();
    Http::connect(&server).ask(publish().bytes()).expect_ok(OK);
    let grown = server.resident_bytes_peak() - before;
    assert!(grown < 3 << 20, "{grown} bytes for 10 uploads and 50 heads");
    drop(heads);
}

#[test]
fn requests_that_a_shard_collects_are_bounded_together() {
    // Design section 5: `request_shard_bytes_max`, 503 + Retry-After, close.
    let config = Config::standard()
        .set("body_bytes_max", "\"64 KiB\"")
        .set("request_shard_bytes_max", "\"64 KiB\"");
    let server = Server::start(&config, 1);
    let body = format!("{}{}", publish_text(), " ".repeat(48 << 10));
    let request = Request::events(&A, body).bytes();
    let (most, last) = request.split_at(request.len() - 1);
    let mut first = Http::connect(&server);
    first.send(most);
    // The first has been read when this is answered behind it, on the same shard.
    thread::sleep(Duration::from_millis(200));
    let mut second = Http::connect(&server);
    let answer = second.ask(most);
    answer.expect_error(503, "service_unavailable");
    assert_eq!(answer.header("Retry-After"), Some("1"));
    assert!(answer.closes());
    second.expect_end();
    first.ask(last).expect_ok(OK);
    Http::connect(&server).ask(&request).expect_ok(OK);
}
