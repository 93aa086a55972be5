//! How a connection goes on from request to request, and how it ends (HTTP spec 1).
//!
//! What is refused is in `http_refusals`, what comes too late in `http_deadlines`.

mod support;

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use support::http::{Http, OK, Request, publish, unsigned};
use support::{A, Config, Server, WAIT, on_shards_with};

#[test]
fn a_connection_lives_on_after_every_answer_that_has_read_its_request() {
    // Peers 20.
    let server = Server::start(&Config::standard(), 2);
    let mut http = Http::connect(&server);
    for _ in 0..3 {
        let requests = [
            (publish().bytes(), 200),
            (unsigned("/apps/3/events").bytes(), 401),
            (unsigned("/nope").bytes(), 404),
            (unsigned("/apps/unknown/events").bytes(), 404),
            (unsigned("/up").bytes(), 405),
            (Request::events(&A, "{").bytes(), 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 200),
        ];
        for (request, status) in requests {
            let answer = http.ask(request);
            assert_eq!(
                (answer.status, answer.closes()),
                (status, false),
                "{answer:?}"
            );
        }
    }
    http.expect_nothing(Duration::from_millis(50));
}

#[test]
fn http_1_0_and_connection_close_are_answered_and_closed() {
    let server = Server::start(&Config::standard(), 2);
    let old = String::from_utf8(publish().bytes()).expect("text");
    let old = old.replace("HTTP/1.1", "HTTP/1.0");
    let requests = [
        old.replace("Host: test\r\n", "").into_bytes(),
        old.replace("Host: test\r\n", "Connection: keep-alive\r\n")
            .into_bytes(),
        publish().field("Connection: close").bytes(),
        publish().field("CONNECTION: Keep-Alive , CLOSE").bytes(),
        publish().field("Connection: close").chunked(20),
        {
            let asking = r#"{"name":"e","channel":"presence-x","data":"","info":"user_count"}"#;
            Request::events(&A, asking)
                .field("Connection: close")
                .bytes()
        },
    ];
    for request in requests {
        let mut http = Http::connect(&server);
        let answer = http.ask(&request);
        assert_eq!((answer.status, answer.closes()), (200, true), "{answer:?}");
        http.expect_end();
    }
    // RFC 9110 10.1.1: an HTTP/1.0 client's expectation is ignored.
    let expecting = old.replace("Host: test", "Expect: 100-continue");
    let (head, body) = expecting.split_at(expecting.len() - 5);
    let mut http = Http::connect(&server);
    http.send(head);
    http.expect_nothing(Duration::from_millis(50));
    http.ask(body).expect_ok(OK);
    let mut http = Http::connect(&server);
    http.ask(publish().field("Connection: keep-alive").bytes());
    http.expect_nothing(Duration::from_millis(50));
}

#[test]
fn nothing_behind_a_request_that_closes_is_served() {
    let server = Server::start(&Config::standard(), 1);
    let mut http = Http::connect(&server);
    let last = publish().field("Connection: close").bytes();
    http.send([publish().bytes(), last, publish().bytes()].concat());
    http.answer().expect_ok(OK);
    assert!(http.answer().closes());
    http.expect_end();
}

#[test]
fn a_request_whose_sender_has_closed_its_side_is_answered_all_the_same() {
    for shards in [1, 5] {
        let server = Server::start(&Config::standard(), shards);
        for info in ["", r#","info":"subscription_count""#] {
            // More than a turn takes of a connection.
            for count in [1, 2, 150] {
                let body = format!(r#"{{"name":"e","channel":"half","data":""{info}}}"#);
                let mut http = Http::connect(&server);
                http.send(Request::events(&A, body).bytes().repeat(count));
                http.half_close();
                for _ in 0..count {
                    assert_eq!(http.answer().status, 200);
                }
                http.expect_end();
            }
        }
    }
}

#[test]
fn who_does_not_read_its_answers_is_not_read_either() {
    // Decisions 22: answers to a connection's own requests are bounded by not reading it.
    let server = Server::start(&Config::standard(), 1);
    Http::connect(&server).ask(publish().bytes()).expect_ok(OK);
    let before = server.resident_bytes_peak();
    let mut http = Http::connect(&server);
    // Long answers: they show what was to be signed. No body, which might be cut off from its head
    // and then end the connection.
    let mut request = unsigned("/apps/3/events").with(&format!("x={}", "y".repeat(2_000)));
    request.body.clear();
    let count = 4_000;
    let mut writer = http.stream.try_clone().expect("a descriptor");
    let writing = thread::spawn(move || writer.write_all(&request.bytes().repeat(count)));
    thread::sleep(Duration::from_millis(500));
    for _ in 0..count {
        let answer = http.answer();
        assert!(
            answer.status == 401 && answer.body.len() > 2_000,
            "{}",
            answer.head
        );
    }
    let written = writing.join().expect("no panic");
    written.expect("it is read in the end");
    http.ask(publish().bytes()).expect_ok(OK);
    let grown = server.resident_bytes_peak() - before;
    assert!(grown < 5 << 20, "{grown} bytes of more than 9 million");
}

#[test]
fn connections_leave_nothing_behind_however_they_end() {
    on_shards_with(&Config::standard(), |server| {
        // Every shard has started and has served somebody.
        for _ in 0..50 {
            Http::connect(server).ask(publish().bytes()).expect_ok(OK);
        }
        thread::sleep(Duration::from_millis(200));
        let before = server.descriptors();
        let request = publish().bytes();
        let asking = r#"{"name":"e","channel":"presence-x","data":"","info":"user_count"}"#;
        let asking = Request::events(&A, asking).bytes();
        let (half, waiting) = (&request[..request.len() - 5], asking.repeat(20));
        for sent in [&b""[..], b"GET", half, &request, &waiting] {
            for _ in 0..10 {
                let mut reset = Http::connect(server);
                reset.send(sent);
                reset.0.reset();
                let mut closed = Http::connect(server);
                closed.send(sent);
                drop(closed);
                let mut half_closed = Http::connect(server);
                half_closed.send(sent);
                half_closed.half_close();
                half_closed.take_to_end();
            }
        }
        let until = Instant::now() + WAIT;
        while server.descriptors() > before {
            assert!(
                Instant::now() < until,
                "{before} became {}",
                server.descriptors()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Http::connect(server).ask(&request).expect_ok(OK);
    });
}

#[test]
fn no_bytes_bring_the_server_down() {
    // Requests with some bytes changed, removed or doubled, in pieces. Whatever they have become,
    // each connection ends in order, and what is answered is a known refusal or a success.
    let server = Server::start(&Config::standard(), 2);
    let whole = [
        publish().bytes(),
        publish().field("Expect: 100-continue").chunked(5),
        Request::batch(
            &A,
            r#"{"batch":[{"name":"e","channel":"c","data":[1],"info":""}]}"#,
        )
        .bytes(),
        format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", publish().target()).into_bytes(),
    ];
    let bytes = b"\r\n\0 :;=%&+{}[]\",0f\xff\xc3";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |max: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % max as u64) as usize
    };
    for round in 0..400 {
        let mut request = whole[round % whole.len()].repeat(2);
        for _ in 0..=below(4) {
            let at = below(request.len());
            match below(4) {
                0 => request[at] = bytes[below(bytes.len())],
                1 => request.insert(at, bytes[below(bytes.len())]),
                2 => drop(request.drain(at..(at + below(20)).min(request.len()))),
                _ => request.truncate(at.max(1)),
            }
        }
        let mut http = Http::connect(&server);
        let cut = below(request.len());
        for piece in [&request[..cut], &request[cut..]] {
            // It may have been refused by the first piece and closed by the time of the second.
            let _ = http.try_send(piece);
        }
        let _ = http.stream.shutdown(Shutdown::Write);
        let answers = String::from_utf8(http.take_to_end()).expect("text");
        for line in answers.lines().filter(|line| line.starts_with("HTTP/1.1 ")) {
            let status = &line[9..12];
            let known = [
                "100", "200", "400", "401", "404", "405", "413", "417", "431", "501", "505",
            ];
            assert!(
                known.contains(&status),
                "{line}: {:?}",
                String::from_utf8_lossy(&request)
            );
        }
        assert!(
            server.is_running(),
            "{:?}",
            String::from_utf8_lossy(&request)
        );
    }
    Http::connect(&server).ask(publish().bytes()).expect_ok(OK);
}
