//! Which paths there are, which methods they take, and which refusal wins (HTTP spec 1, 1.1 to
//! 1.3, 10).

mod support;

use support::http::{Http, OK, Request, publish, unsigned};
use support::{A, Config, D, Response, Server, on_shards};

/// A request without a body.
fn plain(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A publish to the events of A.
fn events(body: &str) -> Request {
    Request::events(&A, body)
}

#[test]
fn probes_answer_their_word_unsigned() {
    // Case 163; HTTP spec 10.
    on_shards(|server| {
        let mut http = Http::connect(server);
        for (path, status, word) in [
            ("/", 200, "OK"),
            ("/up", 200, "OK"),
            ("/up/3", 200, "OK"),
            ("/up/3/", 200, "OK"),
            ("/up/d-id", 503, "DISABLED"),
            ("/up/unknown", 404, "UNKNOWN APP"),
            ("/live", 200, "OK"),
            ("/ready", 200, "OK"),
            ("/ready/?probe=1", 200, "OK"),
        ] {
            let answer = http.ask(plain("GET", path));
            assert_eq!((answer.status, answer.text()), (status, word), "{path}");
            let kind = answer.header("Content-Type").expect("a type");
            assert!(kind.starts_with("text/plain"), "{kind}");
            assert!(!answer.closes());
        }
    });
}

#[test]
fn unknown_paths_are_404_whatever_the_method_and_metrics_are_elsewhere() {
    // Cases 163, 12 and 180: also what clients try whose WebSocket is blocked. Peers 13.
    on_shards(|server| {
        let mut http = Http::connect(server);
        for path in [
            "/nope",
            "/metrics",
            "/usage",
            "/stats",
            "/apps",
            "/apps/3",
            "/apps/3/nope",
            "/apps/3/events/more",
            "/apps/3/channels/c/events",
            "/apps/3/channels/c/stats",
            "/apps/3/Events",
            "//apps/3/events",
            "/pusher/app/278d425bdf160c739803/1/s/xhr_streaming",
            "/up/3/4",
        ] {
            for method in ["GET", "POST", "PUT", "OPTIONS"] {
                let mut request = plain(method, path);
                if method == "POST" {
                    request = request.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n{}");
                }
                let answer = http.ask(request);
                answer.expect_error(404, "not_found");
                assert!(!answer.closes(), "{path}");
            }
        }
        // Not upgraded: neither a hang nor a frame.
        for path in ["/app/278d425bdf160c739803", "/app/unknown", "/app/", "/app"] {
            let answer = http.ask(plain("GET", path));
            answer.expect_error(404, "not_found");
        }
    });
}

#[test]
fn a_known_path_with_another_method_is_405_and_names_its_methods() {
    on_shards(|server| {
        let mut http = Http::connect(server);
        for (path, methods, allow) in [
            ("/apps/3/events", ["GET", "PUT", "OPTIONS", "post"], "POST"),
            (
                "/apps/3/batch_events",
                ["GET", "DELETE", "OPTIONS", "PATCH"],
                "POST",
            ),
            (
                "/apps/unknown/events",
                ["GET", "PUT", "OPTIONS", "TRACE"],
                "POST",
            ),
            (
                "/apps/3/channels",
                ["POST", "PUT", "OPTIONS", "get"],
                "GET, HEAD",
            ),
            (
                "/apps/3/channels/c",
                ["POST", "DELETE", "OPTIONS", "PATCH"],
                "GET, HEAD",
            ),
            (
                "/apps/unknown/channels/c/users",
                ["POST", "PUT", "OPTIONS", "TRACE"],
                "GET, HEAD",
            ),
            (
                "/apps/3/connections",
                ["POST", "PUT", "OPTIONS", "DELETE"],
                "GET, HEAD",
            ),
            ("/", ["POST", "PUT", "OPTIONS", "get"], "GET, HEAD"),
            ("/up", ["POST", "PUT", "OPTIONS", "DELETE"], "GET, HEAD"),
            ("/up/3", ["POST", "PUT", "OPTIONS", "DELETE"], "GET, HEAD"),
            ("/live", ["POST", "PUT", "OPTIONS", "DELETE"], "GET, HEAD"),
            ("/ready", ["POST", "PUT", "OPTIONS", "X-Y"], "GET, HEAD"),
        ] {
            for method in methods {
                let answer = http.ask(plain(method, path));
                answer.expect_error(405, "method_not_allowed");
                assert_eq!(answer.header("Allow"), Some(allow), "{method} {path}");
                assert!(!answer.closes());
            }
        }
    });
}

#[test]
fn head_is_get_without_the_body() {
    on_shards(|server| {
        let mut http = Http::connect(server);
        for (path, status) in [
            ("/up", 200),
            ("/", 200),
            ("/up/unknown", 404),
            ("/nope", 404),
            ("/apps/3/events", 405),
        ] {
            let whole = http.ask(plain("GET", path));
            http.send(plain("HEAD", path));
            let head = Response::read_head(&mut http);
            assert_eq!((head.status, &head.head), (status, &whole.head), "{path}");
            // What comes next is the next answer, so there was no body.
            http.ask(publish().bytes()).expect_ok(OK);
        }
    });
}

#[test]
fn one_trailing_slash_is_tolerated_and_signed_as_sent() {
    // Case 134.
    on_shards(|server| {
        let mut http = Http::connect(server);
        let mut slash = publish();
        slash.path = "/apps/3/events/".into();
        http.ask(slash.bytes()).expect_ok(OK);
        let mut other = slash.clone();
        other.signed_path = Some("/apps/3/events".into());
        http.ask(other.bytes()).expect_error(401, "auth_failed");
        slash.path = "/apps/3/events//".into();
        http.ask(slash.bytes()).expect_error(404, "not_found");
    });
}

#[test]
fn a_path_prefix_precedes_every_path_and_may_be_signed_or_not() {
    let server = Server::start(&Config::standard().set("path_prefix", "\"/ws\""), 2);
    let mut http = Http::connect(&server);
    let mut request = publish();
    request.path = "/ws/apps/3/events".into();
    http.ask(request.bytes()).expect_ok(OK);
    request.signed_path = Some("/apps/3/events".into());
    http.ask(request.bytes()).expect_ok(OK);
    request.signed_path = Some("/s/apps/3/events".into());
    http.ask(request.bytes()).expect_error(401, "auth_failed");
    assert_eq!(http.ask(plain("GET", "/ws/up")).text(), "OK");
    assert_eq!(http.ask(plain("GET", "/ws")).text(), "OK");
    for path in ["/up", "/apps/3/events", "/wsx/up", "/WS/up", "/"] {
        http.ask(plain("GET", path)).expect_error(404, "not_found");
    }
}

#[test]
fn without_origins_no_answer_has_a_cors_header() {
    on_shards(|server| {
        let mut http = Http::connect(server);
        let preflight = plain("OPTIONS", "/apps/3/events").replace("\r\n\r\n", PREFLIGHT);
        let answers = [
            http.ask(preflight),
            http.ask(publish().field("Origin: https://a.example").bytes()),
            http.ask(plain("GET", "/up").replace("\r\n\r\n", "\r\nOrigin: https://a\r\n\r\n")),
        ];
        for answer in answers {
            assert!(!answer.head.contains("Access-Control"), "{}", answer.head);
        }
    });
}

/// What a browser asks before it publishes from another origin.
const PREFLIGHT: &str = "\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\
                         Access-Control-Request-Headers: content-type\r\n\r\n";

#[test]
fn a_configured_origin_is_named_on_every_answer() {
    let config = Config::standard().set("cors_origins", "[\"https://a.example\"]");
    let server = Server::start(&config, 2);
    let mut http = Http::connect(&server);
    let origin = "Access-Control-Allow-Origin";
    let answer = http.ask(plain("OPTIONS", "/apps/3/events").replace("\r\n\r\n", PREFLIGHT));
    assert_eq!(
        (answer.status, answer.header(origin)),
        (204, Some("https://a.example"))
    );
    assert_eq!(answer.header("Access-Control-Allow-Methods"), Some("POST"));
    let headers = answer
        .header("Access-Control-Allow-Headers")
        .expect("headers");
    assert!(headers.contains("Content-Type"), "{headers}");
    for request in [
        publish(),
        unsigned("/apps/3/events"),
        unsigned("/nope"),
        unsigned("/up"),
        events("{"),
        events(r#"{"name":"e","channel":"presence-c","data":"","info":"user_count"}"#),
    ] {
        let named = http.ask(request.clone().field("Origin: https://A.example").bytes());
        assert_eq!(
            named.header(origin),
            Some("https://a.example"),
            "{}",
            named.head
        );
        assert_eq!(named.header("Vary"), Some("Origin"));
        let other = http.ask(request.clone().field("Origin: https://b.example").bytes());
        assert_eq!(other.header(origin), None, "{}", other.head);
        assert_eq!(http.ask(request.bytes()).header(origin), None);
    }
    let unknown = http.ask(plain("OPTIONS", "/nope").replace("\r\n\r\n", PREFLIGHT));
    assert_eq!(unknown.status, 404);
}

#[test]
fn the_first_refusal_of_the_order_of_evaluation_is_the_answer() {
    // HTTP spec 1.3. Each request has the fault of its row and those of all rows below.
    let disabled = |body: &str| Request::events(&D, body);
    let mut forged = events("{");
    forged.signed_method = Some("OTHER".into());
    let mut forged_at_disabled = disabled("{");
    forged_at_disabled.signed_method = Some("OTHER".into());
    let over_server = format!("Content-Length: {}\r\n", (10 << 20) + 1);
    let over_endpoint = format!("Content-Length: {}\r\n", 1 << 20);
    let over_data = format!(
        r#"{{"name":"e","data":"{}","channel":"a b","socket_id":"x"}}"#,
        "d".repeat(10_241)
    );
    let head = |request: &Request, path: &str, lines: &str| {
        let target = request.target().replacen(&request.path, path, 1);
        request.head(&target, lines).into_bytes()
    };
    let without_host = String::from_utf8(head(&forged, "/nope", &over_server)).expect("text");
    let without_host = without_host.replace("Host: test\r\n", "").into_bytes();
    let rows: Vec<(Vec<u8>, u16, &str)> = vec![
        (without_host, 400, "invalid_input"),
        (
            head(&forged, "/nope", &over_server),
            413,
            "payload_too_large",
        ),
        (head(&forged, "/up", &over_server), 413, "payload_too_large"),
        (head(&forged, "/nope", &over_endpoint), 404, "not_found"),
        (
            head(&forged, "/apps/unknown/events", &over_endpoint),
            404,
            "app_not_found",
        ),
        (
            head(&forged, "/apps/3/events", &over_endpoint),
            413,
            "payload_too_large",
        ),
        (forged.bytes(), 401, "auth_failed"),
        (forged_at_disabled.bytes(), 401, "auth_failed"),
        (disabled("{").bytes(), 403, "forbidden"),
        (events("{").bytes(), 400, "invalid_input"),
        (events(&over_data).bytes(), 413, "payload_too_large"),
    ];
    on_shards(|server| {
        for (request, status, code) in &rows {
            let mut http = Http::connect(server);
            http.ask(request).expect_error(*status, code);
        }
    });
}
