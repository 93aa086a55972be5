//! Who may use the HTTP API (HTTP spec 2; cases J): keys, signatures, digests and timestamps, in
//! the query or in a header, and what every fault is answered.
//!
//! Requests are publishes, because these exist; what is shown of them holds for all. How parameters
//! are read is in `http_parameters`.

mod support;

use support::http::{Http, OK, Request, expect_verdict, md5_hex, now_secs, publish};
use support::{A, App, B, D, Server, on_shards, unique};

#[test]
fn the_example_of_the_documentation_is_signed_as_documented() {
    // Case 117 with the fixed clock of HTTP spec 3: this pins the signer of these tests, which
    // shares nothing with the server's, to the documented values; the rest holds by the table.
    let signed = |method: &str, path: &str, body: &str, pairs: &[&str]| {
        let mut request = Request::new(&A, method, path, body).set("auth_timestamp", "1353088179");
        for pair in pairs {
            request = request.with(pair);
        }
        request.signature()
    };
    let publish = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
    let cafe = "{\"name\":\"caf\u{e9}\",\"channel\":\"my-channel\",\"data\":\"\u{2603}\"}";
    for (signature, expected) in [
        (
            signed("POST", "/apps/3/events", publish, &[]),
            "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
        ),
        (
            signed("POST", "/apps/3/batch_events", BATCH, &[]),
            "fed07742a26f964b3cd459b8cf91d5384f3de8dbe6498f3483a8d7acbe55c0e5",
        ),
        (
            signed("GET", "/apps/3/channels", "", &["Name=Something else"]),
            "e661e8bf75b3959cbeab2cee466c873b918e39bfd0980693aadf77d4da8ba77c",
        ),
        (
            signed(
                "GET",
                "/apps/3/channels",
                "",
                &["info[]=user_count", "info[]=subscription_count"],
            ),
            "175192df3115c9975cc5fa47eec612907413e243ddbfa27967814593f0e0bf82",
        ),
        (
            signed("POST", "/apps/3/events", cafe, &[]),
            "45cd7ed796a2c17d475aeff1e474e04484ade176a99caf85a51bda3499de16a5",
        ),
    ] {
        assert_eq!(signature, expected);
    }
}

#[test]
fn the_bodies_of_the_documentation_are_accepted_when_signed_now() {
    // Case 117: examples 1, 2, 10, 11 of HTTP spec 3.
    on_shards(|server| {
        let publish = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let cafe = "{\"name\":\"caf\u{e9}\",\"channel\":\"my-channel\",\"data\":\"\u{2603}\"}";
        let user = r##"{"name":"greet","channels":["#server-to-user-12345"],"data":"{\"m\":1}"}"##;
        for body in [publish, cafe, user] {
            expect_verdict(server, Request::events(&A, body).bytes(), 200);
        }
        let answer = Http::connect(server).ask(Request::batch(&A, BATCH).bytes());
        answer.expect_ok(r#"{"batch":[{},{"user_count":0}]}"#);
    });
}

#[test]
fn every_missing_or_wrong_credential_is_401() {
    // Case 118. Peers 17: an unknown key is no 404, and the version is checked.
    on_shards(|server| {
        let channel = unique("auth-");
        let good = || Request::publish(&A, &channel, "e", "d");
        let of = |id: &'static str, key: &'static str, secret: &'static str| {
            let app = App {
                id,
                key,
                secret,
                settings: "",
            };
            Request::publish(&app, &channel, "e", "d").bytes()
        };
        expect_verdict(server, good().bytes(), 200);
        for (request, text) in [
            (of(A.id, A.key, "wrong"), "Invalid signature"),
            (of(A.id, "unknown", A.secret), "Unknown auth_key"),
            (of(A.id, B.key, B.secret), "Unknown auth_key"),
            (of(A.id, &A.key[1..], A.secret), "Unknown auth_key"),
            (of(A.id, B.key, A.secret), "Unknown auth_key"),
            (
                good().without("auth_key").bytes(),
                "Missing parameter: auth_key",
            ),
            (
                good().without("auth_timestamp").bytes(),
                "Missing parameter: auth_timestamp",
            ),
            (
                good().without("auth_version").bytes(),
                "Missing parameter: auth_version",
            ),
            (
                good().without("body_md5").bytes(),
                "Missing parameter: body_md5",
            ),
            (
                good().bytes_to(&good().target_with("")),
                "Missing parameter: auth_signature",
            ),
            (
                good().bytes_to("/apps/3/events"),
                "Missing parameter: auth_key",
            ),
            (
                good().bytes_to("/apps/3/events?"),
                "Missing parameter: auth_key",
            ),
            // Case 121.
            (good().set("auth_version", "1.1").bytes(), "auth_version"),
            (good().set("auth_version", "1").bytes(), "auth_version"),
            (good().set("auth_version", "").bytes(), "auth_version"),
        ] {
            let said = expect_verdict(server, request, 401);
            assert!(said.contains(text), "{text}: {said}");
        }
    });
}

#[test]
fn the_text_shows_what_was_to_be_signed_and_no_secret() {
    // HTTP spec 2.5.
    on_shards(|server| {
        let mut request = publish();
        request.signed_method = Some("OTHER".into());
        let signature = request.signature();
        let said = expect_verdict(server, request.bytes(), 401);
        request.signed_method = None;
        let to_sign = request.string_to_sign();
        assert!(said.contains(&to_sign), "{to_sign}: {said}");
        assert!(said.contains(&signature), "{said}");
        assert!(
            said.starts_with("Authentication failed: Invalid signature"),
            "{said}"
        );
        assert!(
            !said.contains(A.secret) && !said.contains(&request.signature()),
            "{said}"
        );
    });
}

#[test]
fn what_a_client_has_sent_is_escaped_where_it_is_shown() {
    on_shards(|server| {
        let odd = "%22%5C%0D%0A%0D%0AHTTP/1.1%20200%20OK%00%7F%E2%80%A8</script>";
        for request in [
            publish().set("auth_key", odd),
            publish().set("auth_timestamp", odd),
            publish().set("auth_version", odd),
            publish().set("body_md5", odd),
            publish().with(&format!("{odd}={odd}")),
        ] {
            // One answer, and its body is JSON: `expect_verdict` reads it so.
            let said = expect_verdict(
                server,
                request.bytes_to(&request.target_with("auth_signature=x")),
                401,
            );
            assert!(!said.is_empty());
            let mut http = Http::connect(server);
            http.ask(request.bytes_to(&request.target_with(&format!("auth_signature={odd}"))))
                .expect_error(401, "auth_failed");
            http.ask(publish().bytes()).expect_ok(OK);
        }
    });
}

#[test]
fn an_unknown_app_is_404_and_a_disabled_one_403_to_its_owner_only() {
    // Case 119; peers 17: a disabled app cannot publish.
    on_shards(|server| {
        let mut http = Http::connect(server);
        let nobody = App { id: "nobody", ..A };
        let answer = http.ask(Request::publish(&nobody, "c", "e", "d").bytes());
        answer.expect_error(404, "app_not_found");
        let answer = http.ask(Request::publish(&D, "c", "e", "d").bytes());
        let text = answer.expect_error(403, "forbidden");
        assert_eq!(text, "Forbidden: Application is disabled.");
        let batch = http.ask(Request::batch(&D, r#"{"batch":[]}"#).bytes());
        batch.expect_error(403, "forbidden");
        let stranger = App {
            secret: "wrong",
            ..D
        };
        let answer = http.ask(Request::publish(&stranger, "c", "e", "d").bytes());
        answer.expect_error(401, "auth_failed");
    });
}

#[test]
fn a_timestamp_is_good_for_ten_minutes_either_way() {
    // Case 120.
    on_shards(|server| {
        let at = |text: &str| publish().set("auth_timestamp", text).bytes();
        let now = now_secs();
        for good in [now, now - 590, now + 590] {
            expect_verdict(server, at(&good.to_string()), 200);
        }
        for bad in [now - 610, now + 610, 0, 1_353_088_179, u64::MAX] {
            let said = expect_verdict(server, at(&bad.to_string()), 401);
            assert!(said.contains("Timestamp expired"), "{said}");
            assert!(
                said.contains(&bad.to_string()) && said.contains("600s"),
                "{said}"
            );
        }
        let now = now.to_string();
        for bad in [
            "abc",
            "1e9",
            "",
            "-1",
            &format!("{now}.0"),
            &format!("{now}x"),
        ] {
            expect_verdict(server, at(bad), 401);
        }
        expect_verdict(server, at(&format!("99999999999{now}")), 401);
    });
}

#[test]
fn the_digest_is_of_the_bytes_that_came() {
    // Case 122. The signature over the wrong digest is right.
    on_shards(|server| {
        let wrong = md5_hex("another body");
        expect_verdict(server, publish().set("body_md5", &wrong).bytes(), 401);
        expect_verdict(server, publish().set("body_md5", &wrong).chunked(7), 401);
        for bad in [
            "",
            "x",
            &md5_hex(&publish().body)[1..],
            &wrong.to_uppercase(),
        ] {
            expect_verdict(server, publish().set("body_md5", bad).bytes(), 401);
        }
        let upper = md5_hex(&publish().body).to_uppercase();
        expect_verdict(server, publish().set("body_md5", &upper).bytes(), 401);
        expect_verdict(server, publish().without("body_md5").chunked(7), 401);
        // One byte more or less than what was signed.
        let mut longer = publish();
        longer.body.push(b' ');
        expect_verdict(server, longer.bytes(), 401);
    });
}

#[test]
fn an_empty_body_needs_no_digest_and_may_have_one() {
    // Cases 123 and HTTP spec 4.1: the fields are in the query.
    on_shards(|server| {
        let empty = |request: Request| request.with("name=e").with("data=d").with("channel=c");
        let request = empty(Request::events(&A, ""));
        expect_verdict(server, request.bytes(), 200);
        expect_verdict(server, request.chunked(1), 200);
        expect_verdict(server, request.head(&request.target(), ""), 200);
        let digest = format!("body_md5={}", md5_hex(""));
        assert_eq!(digest, "body_md5=d41d8cd98f00b204e9800998ecf8427e");
        expect_verdict(server, request.clone().with(&digest).bytes(), 200);
        let other = format!("body_md5={}", md5_hex("{}"));
        expect_verdict(server, request.with(&other).bytes(), 401);
    });
}

#[test]
fn a_signature_is_64_lower_case_hex_digits() {
    // Case 130.
    on_shards(|server| {
        let request = publish();
        let good = request.signature();
        for bad in [
            good.to_uppercase(),
            good[..63].to_owned(),
            format!("{good}0"),
            format!("{good}%20"),
            format!("%20{good}"),
            String::new(),
            "g".repeat(64),
            "\u{e9}".repeat(32),
            "%00".repeat(64),
            "0".repeat(64),
            "0".repeat(10_000),
        ] {
            expect_verdict(
                server,
                request.bytes_to(&request.target_with(&format!("auth_signature={bad}"))),
                401,
            );
        }
        let twice = format!("auth_signature={}&auth_signature={good}", "0".repeat(64));
        expect_verdict(server, request.bytes_to(&request.target_with(&twice)), 200);
        let twice = format!("auth_signature={good}&auth_signature={}", "0".repeat(64));
        expect_verdict(server, request.bytes_to(&request.target_with(&twice)), 401);
    });
}

#[test]
fn the_authorization_header_stands_in_for_key_and_signature() {
    // Case 131; HTTP spec 2.4.
    on_shards(|server| {
        let request = publish();
        let good = request.signature();
        let sent = |request: &Request, header: &str, last: &str| {
            let target = request.target_with(last);
            request
                .clone()
                .field(&format!("Authorization: {header}"))
                .bytes_to(&target)
        };
        let (key, other) = (A.key, B.key);
        let wrong = "0".repeat(64);
        // The key is in the query, too.
        expect_verdict(server, sent(&request, &format!("{key}:{good}"), ""), 200);
        expect_verdict(
            server,
            sent(&request, &format!("  {key} : {good}\t"), ""),
            200,
        );
        expect_verdict(server, sent(&request, &format!("{key}:{wrong}"), ""), 401);
        expect_verdict(server, sent(&request, &format!("{other}:{good}"), ""), 401);
        expect_verdict(
            server,
            sent(&request, &format!("Bearer {key}:{good}"), ""),
            401,
        );
        expect_verdict(server, sent(&request, &format!("{key} {good}"), ""), 401);
        expect_verdict(server, sent(&request, "", ""), 401);
        expect_verdict(server, sent(&request, ":", ""), 401);
        // Without it there, it is signed as if it were.
        let mut keyless = request.clone().without("auth_key");
        keyless.signed_query = Some(request.query.clone());
        expect_verdict(server, sent(&keyless, &format!("{key}:{good}"), ""), 200);
        expect_verdict(server, sent(&keyless, &format!("{other}:{good}"), ""), 401);
        keyless.signed_query = None;
        let without_key = keyless.signature();
        expect_verdict(
            server,
            sent(&keyless, &format!("{key}:{without_key}"), ""),
            401,
        );
        // What else is required stays required in the query.
        let no_time = request.clone().without("auth_timestamp");
        expect_verdict(
            server,
            sent(&no_time, &format!("{key}:{}", no_time.signature()), ""),
            401,
        );
        // A signature in the query wins.
        let wrong_query = format!("auth_signature={wrong}");
        expect_verdict(
            server,
            sent(&request, &format!("{key}:{good}"), &wrong_query),
            401,
        );
        let good_query = format!("auth_signature={good}");
        expect_verdict(
            server,
            sent(&request, &format!("{key}:{wrong}"), &good_query),
            200,
        );
        expect_verdict(
            server,
            sent(&request, "Basic dXNlcjpwYXNz", &good_query),
            200,
        );
    });
}

#[test]
fn a_request_may_come_again_and_a_signature_fits_one_method_and_path_only() {
    // Cases 132 and 133.
    on_shards(|server| {
        let request = publish().bytes();
        for _ in 0..3 {
            expect_verdict(server, &request, 200);
        }
        for (method, path) in [
            ("GET", "/apps/3/events"),
            ("post", "/apps/3/events"),
            ("POST", "/apps/3/batch_events"),
            ("POST", "/apps/b-id/events"),
            ("POST", "/"),
            ("POST", ""),
        ] {
            let mut request = publish();
            request.signed_method = Some(method.into());
            request.signed_path = Some(path.into());
            expect_verdict(server, request.bytes(), 401);
        }
    });
}

#[test]
fn a_second_key_of_an_app_is_as_good_as_its_first() {
    let app = App {
        settings: "keys = [{ key = \"second\", secret = \"other\" }]\n",
        ..B
    };
    let server = Server::start(&support::Config::only(&app, ""), 1);
    expect_verdict(&server, Request::publish(&app, "c", "e", "d").bytes(), 200);
    let second = App {
        key: "second",
        secret: "other",
        ..app
    };
    expect_verdict(
        &server,
        Request::publish(&second, "c", "e", "d").bytes(),
        200,
    );
    let mixed = App {
        key: "second",
        ..app
    };
    expect_verdict(
        &server,
        Request::publish(&mixed, "c", "e", "d").bytes(),
        401,
    );
}

/// Example 2.
const BATCH: &str = concat!(
    r#"{"batch":[{"channel":"my-channel","name":"e1","data":"1"},"#,
    r#"{"channel":"presence-room","name":"e2","data":"{\"x\":2}","info":"user_count"}]}"#,
);
