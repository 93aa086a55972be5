//! HTTP/1.1 on the wire (HTTP spec 1): where a request begins and ends, however it is written and
//! cut.
//!
//! What a request means is shown elsewhere; here a publish is only something with a body.

mod support;

use std::thread;
use std::time::Duration;

use support::http::{Http, OK, Request, announced, publish, unsigned};
use support::{A, Config, Server};

#[test]
fn pipelined_requests_are_answered_in_order() {
    // Case 147, second half; decisions 16: a publish that asks its channels for counts holds up
    // the answers behind it, also where the channels live on other shards.
    for shards in [1, 2, 5] {
        let server = Server::start(&Config::standard(), shards);
        let channels: Vec<_> = (0..20).map(|n| format!("presence-pipelined-{n}")).collect();
        let asking = serde_json::json!({
            "name": "e", "channels": channels, "data": "", "info": "user_count,subscription_count",
        });
        let mut bytes = Vec::new();
        for round in 0..40 {
            bytes.extend(Request::events(&A, asking.to_string()).bytes());
            bytes.extend(publish().bytes());
            bytes.extend(format!("GET /up/{round} HTTP/1.1\r\nHost: a\r\n\r\n").bytes());
            bytes.extend(publish().chunked(10));
            bytes.extend(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for piece in [bytes.len(), 4001] {
            let mut http = Http::connect(&server);
            http.send_in_pieces(&bytes, piece);
            for round in 0..40 {
                let counts = http.answer();
                assert_eq!(counts.status, 200);
                assert_eq!(
                    counts.json()["channels"].as_object().expect("a map").len(),
                    20
                );
                http.answer().expect_ok(OK);
                // Only the app called 3 is known.
                assert_eq!(http.answer().status, if round == 3 { 200 } else { 404 });
                http.answer().expect_ok(OK);
                assert_eq!(http.answer().text(), "OK");
            }
            http.expect_nothing(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_request_may_come_in_two_pieces_cut_anywhere() {
    let server = Server::start(&Config::standard(), 1);
    for bytes in [publish().bytes(), publish().chunked(9)] {
        let mut http = Http::connect(&server);
        for cut in 1..bytes.len() {
            http.send(&bytes[..cut]);
            thread::sleep(Duration::from_micros(200));
            http.send(&bytes[cut..]);
            http.answer().expect_ok(OK);
        }
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Server::start(&Config::standard(), 1);
    let mut http = Http::connect(&server);
    let mut bytes = publish().field("Expect: 100-continue").bytes();
    bytes.extend(publish().chunked(1));
    http.send_in_pieces(&bytes, 1);
    assert_eq!(http.answer().status, 100);
    http.answer().expect_ok(OK);
    http.answer().expect_ok(OK);
}

#[test]
fn chunk_extensions_and_trailers_are_read_and_ignored() {
    // Case 142: a chunked body works.
    let server = Server::start(&Config::standard(), 1);
    let request = publish();
    let (first, rest) = request.body.split_at(11);
    let body = |size: &str, end: &str| {
        let mut bytes = request
            .head(&request.target(), "transfer-encoding: Chunked\r\n")
            .into_bytes();
        bytes.extend_from_slice(format!("{size}\r\n").as_bytes());
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(format!("\r\n{:X}\r\n", rest.len()).as_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(format!("\r\n{end}").as_bytes());
        bytes
    };
    let mut http = Http::connect(&server);
    for (size, end) in [
        ("b", "0\r\n\r\n"),
        ("0B", "000\r\n\r\n"),
        ("b;name=value;other=\"quoted\"", "0;last\r\n\r\n"),
        ("b ; name", "0\r\nTrailer: x\r\nOther:\r\n\r\n"),
    ] {
        http.ask(body(size, end)).expect_ok(OK);
    }
    for (size, end) in [
        ("", "0\r\n\r\n"),
        ("g", "0\r\n\r\n"),
        ("-b", "0\r\n\r\n"),
        ("0xb", "0\r\n\r\n"),
        ("b\n", "0\r\n\r\n"),
        ("10000000000000000000b", "0\r\n\r\n"),
        ("a", "0\r\n\r\n"),
        ("b", "0\r\nTrailer\0: x\r\n\r\n"),
        // More to be ignored than is bearable.
        (&format!("b;{}", "x".repeat(9_000)), "0\r\n\r\n"),
        ("b", &format!("0\r\nTrailer: {}\r\n\r\n", "x".repeat(9_000))),
    ] {
        let mut http = Http::connect(&server);
        let answer = http.ask(body(size, end));
        answer.expect_last_error(400, "invalid_input", &mut http);
    }
}

#[test]
fn who_expects_100_continue_gets_it_before_the_body() {
    // Case 142: curl and PHP send it.
    let server = Server::start(&Config::standard(), 1);
    let mut http = Http::connect(&server);
    for lines in [
        "Content-Length: BYTES\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        let request = publish().field("expect: 100-Continue");
        let lines = lines.replace("BYTES", &request.body.len().to_string());
        let go_on = http.ask(request.head(&request.target(), &lines));
        assert_eq!(go_on.head, "HTTP/1.1 100 Continue\r\n\r\n");
        let body = match lines.starts_with('T') {
            true => {
                let mut chunked = format!("{:x}\r\n", request.body.len()).into_bytes();
                chunked.extend_from_slice(&request.body);
                chunked.extend_from_slice(b"\r\n0\r\n\r\n");
                chunked
            }
            false => request.body,
        };
        http.ask(body).expect_ok(OK);
    }
    // There is nothing to wait for: the body has come with the head, or is empty.
    http.ask(publish().field("Expect: 100-continue").bytes())
        .expect_ok(OK);
    let empty = Request::events(&A, "").field("Expect: 100-continue");
    http.ask(empty.bytes()).expect_error(400, "invalid_input");
}

#[test]
fn what_the_head_refuses_is_answered_instead_of_100_continue() {
    let server = Server::start(&Config::standard(), 1);
    let too_large = announced(&publish(), 11 << 20);
    for (head, status, code) in [
        (
            announced(&unsigned("/apps/3/events"), 50),
            401,
            "auth_failed",
        ),
        (
            announced(&unsigned("/apps/4/events"), 50),
            404,
            "app_not_found",
        ),
        (announced(&unsigned("/nope"), 50), 404, "not_found"),
        (announced(&unsigned("/up"), 50), 405, "method_not_allowed"),
        (too_large, 413, "payload_too_large"),
    ] {
        let mut http = Http::connect(&server);
        let head = head.replace("Host: test\r\n", "Host: test\r\nExpect: 100-continue\r\n");
        let answer = http.ask(head);
        answer.expect_last_error(status, code, &mut http);
    }
    let mut http = Http::connect(&server);
    let answer = http.ask(publish().field("Expect: 200-ok").bytes());
    answer.expect_last_error(417, "unsupported", &mut http);
}

#[test]
fn lawful_heads_are_read_however_they_are_written() {
    let server = Server::start(&Config::standard(), 1);
    let mut http = Http::connect(&server);
    let text = String::from_utf8(publish().bytes()).expect("text");
    let target = publish().target();
    for request in [
        format!("\r\n{text}"),
        format!("\r\n\r\n\n{text}"),
        text.replace("Host:", "hOsT:")
            .replace("Content-Length", "CONTENT-LENGTH"),
        text.replace("Host: test", "Host:test")
            .replace("Length: ", "Length: \t  "),
        text.replace(
            "\r\nHost",
            "\r\nX-Byte: \u{e9}\r\nX-Tab: a\tb\r\nX-Empty:\r\nHost",
        ),
        // Twice and the same is as good as once.
        text.replace("\r\nHost", "\r\nContent-Length: BYTES\r\nHost")
            .replace("BYTES", &publish().body.len().to_string()),
        text.replace(&target, &format!("http://anywhere.example:80{target}")),
        text.replace(&target, &format!("HTTPS://anywhere.example{target}")),
    ] {
        http.ask(request).expect_ok(OK);
    }
    for path in [
        "http://a",
        "http://a/",
        "http://a/?q",
        "/?q=%zz&&",
        "http://a?q",
        "/live",
    ] {
        let answer = http.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((answer.status, answer.text()), (200, "OK"), "{path}");
    }
}
