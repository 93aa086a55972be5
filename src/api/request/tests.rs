//! Requests from head to answer: order, statuses, bodies in pieces, and no panic. "Peers n" names a
//! defect of another server, number n of peers section 2.

use super::*;
use crate::api::testing::*;
use crate::clock::Now;
use crate::http::Status;
use crate::seed::Seed;

const EVENT: &str = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;

/// A request of the examples of HTTP spec 3, with the signature printed there.
fn example(path: &str, md5: &str, signature: &str, body: &str) -> Vec<u8> {
    let target = format!(
        "{path}?auth_key={KEY}&auth_timestamp=1353088179&auth_version=1.0&body_md5={md5}\
         &auth_signature={signature}"
    );
    wire("POST", &target, "", body)
}

#[test]
fn the_examples_of_the_specification_are_published() {
    let event = |channel: &str, name: &str, data: &str| {
        let text = format!(r#"{{"event":"{name}","channel":"{channel}","data":"{data}"}}"#);
        (channel.to_owned(), text)
    };
    let table = [
        (
            example(
                "/apps/3/events",
                "ec365a775a4cd0599faeb73354201b6f",
                "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
                EVENT,
            ),
            r#"{"ok":true}"#,
            vec![event("project-3", "foo", r#"{\"some\":\"data\"}"#)],
        ),
        (
            example(
                "/apps/3/events",
                "b108387cbe6b23ad980989aebd4ebc3c",
                "45cd7ed796a2c17d475aeff1e474e04484ade176a99caf85a51bda3499de16a5",
                "{\"name\":\"caf\u{e9}\",\"channel\":\"my-channel\",\"data\":\"\u{2603}\"}",
            ),
            r#"{"ok":true}"#,
            vec![event("my-channel", "caf\u{e9}", "\u{2603}")],
        ),
        (
            example(
                "/apps/3/events",
                "2ea313da3dc726896fa0a76f04e63c6c",
                "1f256cf654b51cd06ffa259e77991b7079111c79b6ec288d0b47dfea973bd998",
                r##"{"name":"greet","channels":["#server-to-user-12345"],"data":"{\"m\":1}"}"##,
            ),
            r#"{"ok":true}"#,
            vec![event("#server-to-user-12345", "greet", r#"{\"m\":1}"#)],
        ),
    ];
    for (wire, expected, events) in table {
        let mut server = Server::new();
        let response = server.answer(&wire);
        assert_eq!(
            (response.status, body(&response)),
            (Status::Ok, expected.into())
        );
        assert!(!response.close);
        assert_eq!(server.events(), events);
    }
}

#[test]
fn the_batch_of_the_specification_is_published_and_counted() {
    let batch = example(
        "/apps/3/batch_events",
        "7ed9624933cde2e88ffe4a638141a6a2",
        "fed07742a26f964b3cd459b8cf91d5384f3de8dbe6498f3483a8d7acbe55c0e5",
        r#"{"batch":[{"channel":"my-channel","name":"e1","data":"1"},{"channel":"presence-room","name":"e2","data":"{\"x\":2}","info":"user_count"}]}"#,
    );
    let mut server = Server::new();
    let expected = r#"{"batch":[{},{"user_count":0}]}"#;
    assert_eq!(body(&server.answer(&batch)), expected);
    assert!(matches!(server.on_head(&batch), OnHead::Accept(_)));
}

/// Every fault at once, then one less in each row: what is left decides in the order of HTTP
/// spec 1.3.
#[test]
fn of_several_faults_the_first_of_the_order_decides() {
    let too_long = "x".repeat(800 << 10);
    let unsigned = |method: &str, path: &str, body: &str| wire(method, path, "", body);
    let bad_json = |key: &str, path: &str, body: &str| {
        wire("POST", &target_by(key, "POST", path, "", body), "", body)
    };
    let wrong_md5 = bad_json(KEY, "/apps/3/events", "{")
        .strip_suffix(b"{")
        .unwrap()
        .to_vec();
    let wrong_md5 = [&wrong_md5[..], b"["].concat();
    let body_limit = 2 << 20;
    let over = "x".repeat(body_limit + 1);
    let draining_only = |n: usize| n < 8;
    let table: [(Vec<u8>, u16, &str); 11] = [
        (unsigned("PUT", "/nope", &over), 413, "payload_too_large"),
        (unsigned("PUT", "/nope", &too_long), 404, "not_found"),
        (
            unsigned("PUT", "/apps/9/events", &too_long),
            405,
            "method_not_allowed",
        ),
        (
            unsigned("POST", "/apps/9/events", &too_long),
            404,
            "app_not_found",
        ),
        (
            unsigned("POST", "/apps/off/events", &too_long),
            413,
            "payload_too_large",
        ),
        (
            unsigned("POST", "/apps/off/events", "{"),
            401,
            "auth_failed",
        ),
        (bad_json(KEY_OFF, "/apps/off/events", "{"), 403, "forbidden"),
        (
            bad_json(KEY, "/apps/3/events", "{"),
            503,
            "service_unavailable",
        ),
        (wrong_md5, 401, "auth_failed"),
        (bad_json(KEY, "/apps/3/events", "{"), 400, "invalid_input"),
        (bad_json(KEY, "/apps/3/events", "{}"), 400, "invalid_input"),
    ];
    for (n, (wire, status, code)) in table.into_iter().enumerate() {
        let mut server = Server::new();
        server.settings.body_bytes_max = body_limit as u64;
        server.draining = draining_only(n);
        let response = server.answer(&wire);
        let (got_status, got_code, text) = refusal(&response);
        assert_eq!(
            (got_status, got_code.as_str()),
            (status, code),
            "row {n}: {text}"
        );
        assert!(server.published().is_empty());
    }
}

/// Peers 2: elsewhere the whole body is buffered before any check. Here only the head is seen.
#[test]
fn a_head_alone_refuses_what_it_can_before_a_byte_of_the_body_has_come() {
    let announce = |target: &str, bytes: u64| {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n").into_bytes()
    };
    let signed = target("POST", "/apps/3/events", "", EVENT);
    let limit = (64 << 10) + 6 * (100 << 10);
    for (target, bytes, status) in [
        ("/apps/3/events", 68, 401),
        ("/apps/9/events", 68, 404),
        ("/apps/3/events", (10 << 20) + 1, 413),
        (signed.as_str(), u64::MAX, 413),
        (signed.as_str(), limit + 1, 413),
        (signed.as_str(), limit, 200),
    ] {
        let mut server = Server::new();
        let outcome = match server.on_head(&announce(target, bytes)) {
            OnHead::Respond(response) => response.status.code(),
            OnHead::Accept(accepted) => {
                assert_eq!(accepted.length(), BodyLength::Length(bytes));
                200
            }
            OnHead::Upgrade(_) => 101,
        };
        assert_eq!(outcome, status, "{target} {bytes}");
    }
}

#[test]
fn the_limit_of_an_endpoint_follows_its_app_and_never_exceeds_the_servers() {
    let settings = |data: u32, batch: u32| AppSettings {
        event_data_bytes_max: data,
        batch_events_max: batch,
        ..Default::default()
    };
    for (settings, events, batch) in [
        (settings(100 << 10, 10), 679_936, 6_799_360),
        (settings(0, 1), 65_536, 65_536),
        (settings(1, 3), 65_542, 3 * 65_542),
        (settings(u32::MAX, u32::MAX), 10 << 20, 10 << 20),
    ] {
        let mut server = Server::with(settings);
        for (path, bytes_max) in [("/apps/3/events", events), ("/apps/3/batch_events", batch)] {
            let accepted = server.accept(&signed("POST", path, "", "", "{}"));
            assert_eq!(accepted.bytes_max(), bytes_max, "{path}");
        }
    }
    let mut server = Server::new();
    let too_long = "x".repeat(679_937);
    let response = server.post("/apps/3/events", &too_long);
    let text = "Payload too large. Maximum size is 664KB.";
    assert_eq!(
        refusal(&response),
        (413, "payload_too_large".into(), text.into())
    );
    assert!(response.close);
}

#[test]
fn probes_are_answered_unsigned_whatever_they_send() {
    let mut server = Server::new();
    for (path, calm, ending) in [
        ("/", (200, "OK"), (200, "OK")),
        ("/up", (200, "OK"), (503, "DRAINING")),
        ("/up/", (200, "OK"), (503, "DRAINING")),
        ("/ready", (200, "OK"), (503, "DRAINING")),
        ("/live", (200, "OK"), (503, "ERROR")),
        ("/up/3", (200, "OK"), (503, "DRAINING")),
        ("/up/off", (503, "DISABLED"), (503, "DISABLED")),
        ("/up/9", (404, "UNKNOWN APP"), (404, "UNKNOWN APP")),
    ] {
        for (is_ending, expected) in [(false, calm), (true, ending)] {
            (server.draining, server.stalled) = (is_ending, is_ending);
            for (method, text) in [("GET", ""), ("HEAD", ""), ("GET", "ignored")] {
                let response = server.answer(&wire(method, path, "", text));
                let got = (response.status.code(), body(&response));
                assert_eq!(got, (expected.0, expected.1.to_owned()), "{method} {path}");
            }
        }
    }
    let response = server.answer(&wire("POST", "/up", "", ""));
    assert_eq!(
        (response.status.code(), response.fields[0]),
        (405, ("Allow", "GET, HEAD"))
    );
}

#[test]
fn options_is_a_method_only_where_origins_are_configured() {
    let options = wire(
        "OPTIONS",
        "/apps/3/events",
        "Origin: https://a.example\r\n",
        "",
    );
    let mut server = Server::new();
    let response = server.answer(&options);
    assert_eq!(refusal(&response).0, 405);
    assert_eq!(response.fields, [("Allow", "POST")]);

    server.settings.cors_origins = vec!["http://b".into(), "https://a.example".into()];
    assert_eq!(server.answer(&options).status, Status::NoContent);
    for (header, allowed) in [
        ("Origin: https://a.example\r\n", Some("https://a.example")),
        ("Origin: https://evil.example\r\n", None),
        ("", None),
    ] {
        let wire = signed("POST", "/apps/3/events", "", header, EVENT);
        let accepted = server.accept(&wire);
        let kept = accepted.framing(&server.settings);
        assert_eq!(
            kept,
            Framing::of(&head(&wire).0, &server.settings.cors_origins)
        );
        assert_eq!(kept.allow_origin, allowed);
    }
}

/// Peers 20: elsewhere every API response closes its connection.
#[test]
fn a_connection_lives_on_unless_the_client_ends_it() {
    let mut server = Server::new();
    for (header, close) in [("", false), ("Connection: close\r\n", true)] {
        let accepted = server.accept(&signed("POST", "/apps/3/events", "", header, EVENT));
        assert_eq!(accepted.framing(&server.settings).close, close);
    }
    let refused = [
        wire("GET", "/nope", "", ""),
        wire("POST", "/apps/9/events", "", "{}"),
        wire("POST", "/apps/3/events", "", "{}"),
        signed("POST", "/apps/3/events", "", "", "{"),
        signed("POST", "/apps/3/events", "", "", "{}"),
    ];
    for wire in refused {
        assert!(!server.answer(&wire).close);
    }
}

#[test]
fn a_prefix_may_be_signed_or_not_but_must_be_there() {
    let mut server = Server::new();
    server.settings.path_prefix = "/ws".into();
    let without = target("POST", "/apps/3/events", "", EVENT);
    let with = target("POST", "/ws/apps/3/events", "", EVENT);
    for (target, status) in [
        (format!("/ws{without}"), 200),
        (with.clone(), 200),
        (without, 404),
        (format!("/ws{with}"), 404),
        (format!("/other{with}"), 404),
    ] {
        let response = server.answer(&wire("POST", &target, "", EVENT));
        assert_eq!(response.status.code(), status, "{target}");
    }
    assert_eq!(
        server.answer(&wire("GET", "/ws/up", "", "")).status,
        Status::Ok
    );
    assert_eq!(
        server.answer(&wire("GET", "/ws", "", "")).status,
        Status::Ok
    );
    assert_eq!(
        server.answer(&wire("GET", "/up", "", "")).status,
        Status::NotFound
    );
}

#[test]
fn a_body_is_waited_for_only_if_there_is_one() {
    let mut server = Server::new();
    let expect = "Expect: 100-continue\r\n";
    for (header, body, waits) in [
        (expect, EVENT, true),
        ("", EVENT, false),
        (expect, "", false),
    ] {
        let accepted = server.accept(&signed("POST", "/apps/3/events", "", header, body));
        assert_eq!(accepted.expects_continue(), waits, "{header} {body}");
    }
    let unsigned = wire("POST", "/apps/3/events", expect, EVENT);
    assert!(matches!(server.on_head(&unsigned), OnHead::Respond(_)));
}

/// A body with its framing, fed up to `cut` and from there on.
fn collected(accepted: Accepted, framed: &[u8], cut: usize) -> Result<Collecting, http::Error> {
    let mut collecting = Collecting::new(accepted);
    let (taken, done) = collecting.feed(&framed[..cut])?;
    if !done {
        assert_eq!(taken, cut);
        let (taken, done) = collecting.feed(&framed[cut..])?;
        assert!(done && cut + taken <= framed.len());
    }
    assert!(collecting.buffered_bytes() >= collecting.body.len());
    Ok(collecting)
}

#[test]
fn a_body_in_two_pieces_is_the_body_in_one_wherever_it_is_cut() {
    let target = target("POST", "/apps/3/events", "", EVENT);
    let (first, second) = EVENT.split_at(11);
    let chunked = format!(
        "b;x=y\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\nT: u\r\n\r\n",
        second.len()
    );
    let plain = wire("POST", &target, "", EVENT);
    let head_of_chunked = wire("POST", &target, "Transfer-Encoding: chunked\r\n", "");
    let mut server = Server::new();
    assert_eq!(server.answer(&plain), ok_true(1));
    let mut nth = 1;
    let expected = server.events();
    assert_eq!(expected.len(), 1);
    for (head, framed) in [(&plain, EVENT), (&head_of_chunked, chunked.as_str())] {
        let framed = [framed.as_bytes(), b"GET / HTTP/1.1"].concat();
        for cut in 0..=framed.len() {
            let accepted = server.accept(head);
            let collecting = collected(accepted, &framed, cut).expect("lawful framing");
            assert_eq!(collecting.body, EVENT.as_bytes());
            let reply_to = server.reply_to();
            let outcome = collecting.finish(&mut server.context(), reply_to);
            nth += 1;
            let OnBody::Respond(response) = outcome else {
                panic!("cut {cut}: {outcome:?}")
            };
            assert_eq!(response, ok_true(nth), "cut {cut}");
            assert_eq!(server.events(), expected);
        }
    }
}

#[test]
fn a_body_other_than_the_signed_one_is_refused_however_it_comes() {
    let target = target("POST", "/apps/3/events", "", EVENT);
    let other = EVENT.replace("foo", "bar");
    let chunked = |body: &str| {
        let head = wire("POST", &target, "Transfer-Encoding: chunked\r\n", "");
        let chunk = match body.len() {
            0 => String::new(),
            bytes => format!("{bytes:x}\r\n{body}\r\n"),
        };
        [&head[..], chunk.as_bytes(), b"0\r\n\r\n"].concat()
    };
    let mut server = Server::new();
    assert_eq!(server.answer(&chunked(EVENT)), ok_true(1));
    assert_eq!(server.events().len(), 1);
    let wrong = "Invalid body_md5: not the MD5 of the body received";
    for wire in [
        wire("POST", &target, "", &other),
        chunked(&other),
        chunked(""),
    ] {
        let response = server.answer(&wire);
        assert_eq!(
            refusal(&response),
            (401, "auth_failed".into(), wrong.into())
        );
        assert!(server.published().is_empty());
        assert_eq!(response.rate, None);
    }
    // None of them has taken anything of the app's budget.
    assert_eq!(server.answer(&chunked(EVENT)), ok_true(2));
}

#[test]
fn a_chunked_body_without_digest_must_be_empty() {
    let target = target("POST", "/apps/3/events", "", "");
    let head = wire("POST", &target, "Transfer-Encoding: chunked\r\n", "");
    let mut server = Server::new();
    let response = server.answer(&[&head[..], b"2\r\n{}\r\n0\r\n\r\n"].concat());
    assert_eq!(refusal(&response).2, "Missing parameter: body_md5");
    let response = server.answer(&[&head[..], b"0\r\n\r\n"].concat());
    assert_eq!(
        refusal(&response).2,
        "Invalid request: 'name' field is required."
    );
}

#[test]
fn a_chunked_body_over_the_limit_is_cut_off_and_not_kept() {
    let target = target("POST", "/apps/3/events", "", EVENT);
    let head = wire("POST", &target, "Transfer-Encoding: chunked\r\n", "");
    let mut server = Server::new();
    let accepted = server.accept(&head);
    let bytes_max = accepted.bytes_max();
    let mut collecting = Collecting::new(accepted);
    let size = format!("{:x}\r\n", bytes_max + 1);
    let too_large = Err(http::Error::BodyTooLarge { bytes_max });
    assert_eq!(collecting.feed(size.as_bytes()), too_large);
    assert_eq!(collecting.buffered_bytes(), 0);
    assert!(Response::from(http::Error::BodyTooLarge { bytes_max }).close);
}

/// Whatever comes: no panic, an error object for every error under `/apps/`, and nothing published
/// by what is not answered 200.
fn fuzz_request(server: &mut Server, data: &[u8]) {
    let limits = http::HeadLimits::default();
    let Ok(Some((head, at))) = Head::parse(data, &limits) else {
        return;
    };
    let reply_to = server.reply_to();
    let response = match on_head(&mut server.context(), &head) {
        OnHead::Respond(response) => response,
        OnHead::Upgrade(_) => return,
        OnHead::Accept(accepted) => {
            let mut collecting = Collecting::new(accepted);
            match collecting.feed(&data[at..]) {
                Err(error) => error.into(),
                Ok((_, false)) => return,
                Ok((_, true)) => match collecting.finish(&mut server.context(), reply_to) {
                    OnBody::Respond(response) => response,
                    OnBody::Wait(waiting) => server.settle(*waiting),
                },
            }
        }
    };
    if response.status == Status::Ok {
        server.published();
        return;
    }
    assert!(server.published().is_empty());
    if head.path.starts_with("/apps/") {
        assert_eq!(refusal(&response).0, response.status.code());
    }
}

#[test]
fn mutated_requests_never_panic_and_never_half_succeed() {
    let counted = r#"{"name":"e","channels":["presence-a","cache-b"],"data":{"x":[1]},"info":"user_count,subscription_count","socket_id":"1.2"}"#;
    let requests = [
        wire(
            "POST",
            &target("POST", "/apps/3/events", "", EVENT),
            "",
            EVENT,
        ),
        wire(
            "POST",
            &target("POST", "/apps/3/events", "name=n&data=d&channel=c&", ""),
            "",
            "",
        ),
        wire("GET", "/up/3", "", ""),
    ];
    let mut seed = Seed::new(6);
    let mut server = Server::new();
    for _ in 0..4_000 {
        let mut wire = requests[seed.below(requests.len())].clone();
        seed.mutate(&mut wire, b"%+&=?/ \r\n{}[]\",:3x\xc3\xa9");
        fuzz_request(&mut server, &wire);
        // Signed after the mutation, so that the body is reached.
        let body = [EVENT, counted][seed.below(2)];
        let mut body = body.as_bytes().to_vec();
        seed.mutate(&mut body, b"{}[]\",:\\u0#-x\xc3\xa9");
        if let Ok(body) = String::from_utf8(body) {
            fuzz_request(
                &mut server,
                &signed("POST", "/apps/3/events", "", "", &body),
            );
        }
    }
}

/// What a response says of the budget: requests left, if anything.
fn left(response: &Response) -> Option<u64> {
    response.rate.map(|rate| rate.remaining)
}

/// Peers 24: one budget for the app, and a refusal in the form of all others.
#[test]
fn every_request_that_has_passed_its_signature_counts_whatever_comes_of_it() {
    let mut server = Server::with(AppSettings {
        publish_requests_max: 8,
        event_data_bytes_max: 10,
        ..AppSettings::default()
    });
    let events = "/apps/3/events";
    let event = |members: &str| format!(r#"{{"name":"e","data":"1",{members}}}"#);
    let publish = event(r#""channels":["a","b","c"]"#);
    assert_eq!(left(&server.post(events, &publish)), Some(7));
    for (path, body, status, remaining) in [
        (events, "no json", 400, 6),
        (
            events,
            r#"{"name":"e","data":"12345678901","channel":"a"}"#,
            413,
            5,
        ),
        (events, &event(r##""channel":"#x""##), 403, 4),
        ("/apps/3/users/u/terminate_connections", "", 200, 3),
        ("/apps/3/batch_events", r#"{"batch":[]}"#, 200, 2),
        (
            events,
            &event(r#""channel":"a","info":"subscription_count""#),
            200,
            1,
        ),
    ] {
        let response = server.post(path, body);
        assert_eq!(
            (response.status.code(), left(&response)),
            (status, Some(remaining)),
            "{body}"
        );
    }
    // Refusals before the rate step neither count nor tell.
    for wire in [
        wire("POST", events, "", &publish),
        signed("GET", events, "", "", ""),
        signed("POST", "/apps/4/events", "", "", &publish),
        signed("POST", "/apps/off/events", "", "", &publish),
    ] {
        assert_eq!(server.answer(&wire).rate, None);
    }
    // The app's reading is another budget.
    assert_eq!(server.get("/apps/3/channels", "").rate, Some(rate(1)));
    assert_eq!(left(&server.post(events, &publish)), Some(0));
    server.published();
    for _ in 0..3 {
        let response = server.post(events, &publish);
        assert_eq!((response.status.code(), left(&response)), (429, Some(0)));
        assert_eq!(response.retry_after_secs, Some(60));
        assert!(server.published().is_empty());
    }
    server.shard.on_time(Now(59_001));
    assert_eq!(server.post(events, &publish).retry_after_secs, Some(1));
    server.shard.on_time(Now(60_000));
    assert_eq!(left(&server.post(events, &publish)), Some(7));
    let app = server.shard.counters.app(0).rates;
    let count = |limiter| app[limiter as usize];
    let (publishing, reading) = (count(Limiter::Publish), count(Limiter::Read));
    assert_eq!((publishing.checks, publishing.triggered), (13, 4));
    assert_eq!((reading.checks, reading.triggered), (1, 0));
}

#[test]
fn reading_has_a_budget_of_its_own() {
    let mut server = Server::with(AppSettings {
        read_requests_max: 3,
        ..AppSettings::default()
    });
    let channels = "/apps/3/channels";
    for (path, status, remaining) in [
        (channels, 200, 2),
        ("/apps/3/channels/%23", 400, 1),
        ("/apps/3/connections", 200, 0),
        (channels, 429, 0),
        ("/apps/3/channels/news", 429, 0),
        ("/apps/3/channels/presence-a/users", 429, 0),
        ("/apps/3/connections", 429, 0),
    ] {
        let response = server.get(path, "");
        assert_eq!(
            (response.status.code(), left(&response)),
            (status, Some(remaining)),
            "{path}"
        );
    }
    assert!(server.shard.outgoing(0).list.is_empty(), "nobody was asked");
    assert_eq!(server.post("/apps/3/events", EVENT), ok_true(1));
}
