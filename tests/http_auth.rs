//! Who may use the HTTP API (HTTP spec 2; cases J): signatures by query and by header, their
//! byte-level rules, and what every fault is answered.
//!
//! Requests are publishes, because these exist; what is shown of them holds for all. A parameter
//! that is used as well as signed is the query form of a publish (HTTP spec 4.1).

mod support;

use support::http::{Http, OK, Request, md5_hex, now_secs, publish};
use support::{A, App, B, D, Server, on_shards, unique};

/// Asserts what becomes of a request. Nothing of it ends the connection.
#[track_caller]
fn expect(server: &Server, request: impl AsRef<[u8]>, status: u16) -> String {
    let answer = Http::connect(server).ask(request);
    assert!(!answer.closes(), "{}", answer.head);
    match status {
        200 => {
            answer.expect_ok(OK);
            String::new()
        }
        401 => answer.expect_error(401, "auth_failed"),
        status => panic!("{status} is not expected here"),
    }
}

fn to(request: &Request, target: &str) -> Vec<u8> {
    request.bytes_to(target)
}

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
    let batch = r#"{"batch":[{"channel":"my-channel","name":"e1","data":"1"},{"channel":"presence-room","name":"e2","data":"{\"x\":2}","info":"user_count"}]}"#;
    let cafe = "{\"name\":\"caf\u{e9}\",\"channel\":\"my-channel\",\"data\":\"\u{2603}\"}";
    for (signature, expected) in [
        (
            signed("POST", "/apps/3/events", publish, &[]),
            "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
        ),
        (
            signed("POST", "/apps/3/batch_events", batch, &[]),
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
    // Case 117: examples 1, 2, 10 of HTTP spec 3.
    on_shards(|server| {
        let publish = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let cafe = "{\"name\":\"caf\u{e9}\",\"channel\":\"my-channel\",\"data\":\"\u{2603}\"}";
        for body in [publish, cafe] {
            expect(server, Request::events(&A, body).bytes(), 200);
        }
        let batch = r#"{"batch":[{"channel":"my-channel","name":"e1","data":"1"},{"channel":"presence-room","name":"e2","data":"{\"x\":2}","info":"user_count"}]}"#;
        let answer = Http::connect(server).ask(Request::batch(&A, batch).bytes());
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
        expect(server, good().bytes(), 200);
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
                to(&good(), &good().target_with("")),
                "Missing parameter: auth_signature",
            ),
            (to(&good(), "/apps/3/events"), "Missing parameter: auth_key"),
            (
                to(&good(), "/apps/3/events?"),
                "Missing parameter: auth_key",
            ),
            // Case 121.
            (good().set("auth_version", "1.1").bytes(), "auth_version"),
            (good().set("auth_version", "1").bytes(), "auth_version"),
            (good().set("auth_version", "").bytes(), "auth_version"),
        ] {
            let said = expect(server, request, 401);
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
        let said = expect(server, request.bytes(), 401);
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
            expect(server, at(&good.to_string()), 200);
        }
        for bad in [now - 610, now + 610, 0, 1_353_088_179, u64::MAX] {
            let said = expect(server, at(&bad.to_string()), 401);
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
            expect(server, at(bad), 401);
        }
        expect(server, at(&format!("99999999999{now}")), 401);
    });
}

#[test]
fn the_digest_is_of_the_bytes_that_came() {
    // Case 122. The signature over the wrong digest is right.
    on_shards(|server| {
        let wrong = md5_hex("another body");
        expect(server, publish().set("body_md5", &wrong).bytes(), 401);
        expect(server, publish().set("body_md5", &wrong).chunked(7), 401);
        for bad in [
            "",
            "x",
            &md5_hex(&publish().body)[1..],
            &wrong.to_uppercase(),
        ] {
            expect(server, publish().set("body_md5", bad).bytes(), 401);
        }
        let upper = md5_hex(&publish().body).to_uppercase();
        expect(server, publish().set("body_md5", &upper).bytes(), 401);
        expect(server, publish().without("body_md5").chunked(7), 401);
        // One byte more or less than what was signed.
        let mut longer = publish();
        longer.body.push(b' ');
        expect(server, longer.bytes(), 401);
    });
}

#[test]
fn an_empty_body_needs_no_digest_and_may_have_one() {
    // Cases 123 and HTTP spec 4.1: the fields are in the query.
    on_shards(|server| {
        let empty = |request: Request| request.with("name=e").with("data=d").with("channel=c");
        let request = empty(Request::events(&A, ""));
        expect(server, request.bytes(), 200);
        expect(server, request.chunked(1), 200);
        expect(server, request.head(&request.target(), ""), 200);
        let digest = format!("body_md5={}", md5_hex(""));
        assert_eq!(digest, "body_md5=d41d8cd98f00b204e9800998ecf8427e");
        expect(server, request.clone().with(&digest).bytes(), 200);
        let other = format!("body_md5={}", md5_hex("{}"));
        expect(server, request.with(&other).bytes(), 401);
    });
}

#[test]
fn parameters_come_in_any_order_and_names_in_any_case() {
    // Case 124.
    on_shards(|server| {
        let mut request = publish().with("Other=1").with("zebra=2");
        let signature = request.signature();
        for _ in 0..request.query.len() {
            request.query.rotate_left(1);
            expect(server, request.bytes(), 200);
        }
        let first = format!(
            "{}?auth_signature={signature}&{}",
            request.path,
            request.query.join("&")
        );
        expect(server, to(&request, &first), 200);
        for query in &mut request.query {
            let (name, value) = query.split_once('=').expect("a pair");
            *query = format!("{}={value}", name.to_uppercase());
        }
        expect(server, request.bytes(), 200);
    });
}

#[test]
fn values_may_be_escaped_or_not_and_are_signed_without_escapes() {
    // Cases 125, 129; HTTP spec 2.3, decoding and fallbacks. `sent`, `signed`, accepted.
    on_shards(|server| {
        for (sent, signed, status) in [
            ("x=a%2Cb", "x=a,b", 200),
            ("x=a,b", "x=a,b", 200),
            ("x=Something%20else", "x=Something else", 200),
            ("x=Something+else", "x=Something else", 200),
            ("x=a%40b%2Cc%3Bd%3De", "x=a@b,c;d=e", 200),
            ("x=a@b,c;d=e", "x=a@b,c;d=e", 200),
            ("x=caf%C3%A9", "x=caf\u{e9}", 200),
            ("x=caf\u{e9}", "x=caf\u{e9}", 200),
            ("%78=y", "x=y", 200),
            ("x", "x=", 200),
            ("x=", "x=", 200),
            ("x==", "x==", 200),
            ("x=a%26b", "x=a&b", 200),
            // Invalid escapes stay as they are.
            ("x=100%", "x=100%", 200),
            ("x=%zz%4", "x=%zz%4", 200),
            // (a) a plus kept, (b) nothing decoded.
            ("x=a+b", "x=a+b", 200),
            ("x=a+b%20c", "x=a+b c", 200),
            ("x=a%2Cb", "x=a%2Cb", 200),
            ("x=a%20b+c", "x=a%20b+c", 200),
            ("x=%ff", "x=%ff", 200),
            // No mixture that is none of these.
            ("x=a+b+c", "x=a b+c", 401),
            ("x=a%2Cb", "x=a%2cb", 401),
            ("x=a%20b", "x=a+b", 401),
            ("x=ab", "x=a b", 401),
        ] {
            let request = publish().with(sent).signing(&[signed]);
            expect(server, request.bytes(), status);
        }
    });
}

#[test]
fn what_was_signed_is_what_is_used() {
    // Cases 126, 127: of two parameters of one name the last is signed and used, or none.
    on_shards(|server| {
        let channel = unique("auth-");
        let mut client = support::Client::connect(server);
        client.subscribe(&channel);
        let form = |data: &[&str]| {
            let mut request = Request::events(&A, "").with("name=e");
            request = request.with(&format!("channel={channel}"));
            for pair in data {
                request = request.with(pair);
            }
            request
        };
        let signing = |request: Request, data: &str| {
            let channel = format!("channel={channel}");
            request.signing(&["name=e", &channel, data])
        };
        let twice = form(&["data=first", "Data=last"]);
        expect(server, signing(twice.clone(), "data=first").bytes(), 401);
        expect(server, signing(twice, "data=last").bytes(), 200);
        client.expect_event(&channel, "e", "last");
        // The interpretation that was signed is the one that is used.
        let plus = form(&["data=a+b%2Cc"]);
        expect(server, signing(plus.clone(), "data=a b,c").bytes(), 200);
        client.expect_event(&channel, "e", "a b,c");
        expect(server, signing(plus.clone(), "data=a+b,c").bytes(), 200);
        client.expect_event(&channel, "e", "a+b,c");
        expect(server, signing(plus, "data=a+b%2Cc").bytes(), 200);
        client.expect_event(&channel, "e", "a+b%2Cc");

        let (old, fresh) = (now_secs() - 10_000, now_secs());
        for (first, last, status) in [(old, fresh, 200), (fresh, old, 401)] {
            let mut request = Request::publish(&A, &channel, "e", "d").without("auth_timestamp");
            request.signed_query = Some(
                request
                    .clone()
                    .with(&format!("auth_timestamp={last}"))
                    .query,
            );
            let request = request
                .with(&format!("auth_timestamp={first}"))
                .with(&format!("auth_timestamp={last}"));
            expect(server, request.bytes(), status);
        }
        client.expect_event(&channel, "e", "d");
        client.sync();
    });
}

#[test]
fn arrays_are_signed_in_either_form() {
    // Case 128; example 9 of HTTP spec 3. `info` in the query with an empty body is used.
    on_shards(|server| {
        let presence = unique("presence-auth-");
        let channel = format!("channel={presence}");
        let form = |pairs: &[&str]| {
            let request = Request::events(&A, "")
                .with("name=e")
                .with("data=d")
                .with(&channel);
            pairs
                .iter()
                .fold(request, |request, pair| request.with(pair))
        };
        let own = ["name=e", "data=d", &*channel];
        let counts =
            format!(r#"{{"channels":{{"{presence}":{{"user_count":0,"subscription_count":0}}}}}}"#);
        for (sent, signed) in [
            (
                &["info[]=user_count", "info[]=subscription_count"][..],
                &["info[]=user_count", "info[]=subscription_count"][..],
            ),
            (
                &["info%5B%5D=user_count", "info%5B%5D=subscription_count"],
                &["info[]=user_count", "info[]=subscription_count"],
            ),
            (
                &["info[0]=user_count", "info[1]=subscription_count"],
                &["info=user_count,subscription_count"],
            ),
            (
                &["info%5B0%5D=user_count", "info%5B1%5D=subscription_count"],
                &["info=user_count,subscription_count"],
            ),
        ] {
            let request = form(sent).signing(&[&own[..], signed].concat());
            Http::connect(server)
                .ask(request.bytes())
                .expect_ok(&counts);
        }
        let turned = ["info[]=subscription_count", "info[]=user_count"];
        let request = form(&["info[]=user_count", "info[]=subscription_count"])
            .signing(&[&own[..], &turned].concat());
        expect(server, request.bytes(), 401);
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
            expect(
                server,
                to(
                    &request,
                    &request.target_with(&format!("auth_signature={bad}")),
                ),
                401,
            );
        }
        let twice = format!("auth_signature={}&auth_signature={good}", "0".repeat(64));
        expect(server, to(&request, &request.target_with(&twice)), 200);
        let twice = format!("auth_signature={good}&auth_signature={}", "0".repeat(64));
        expect(server, to(&request, &request.target_with(&twice)), 401);
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
        expect(server, sent(&request, &format!("{key}:{good}"), ""), 200);
        expect(
            server,
            sent(&request, &format!("  {key} : {good}\t"), ""),
            200,
        );
        expect(server, sent(&request, &format!("{key}:{wrong}"), ""), 401);
        expect(server, sent(&request, &format!("{other}:{good}"), ""), 401);
        expect(
            server,
            sent(&request, &format!("Bearer {key}:{good}"), ""),
            401,
        );
        expect(server, sent(&request, &format!("{key} {good}"), ""), 401);
        expect(server, sent(&request, "", ""), 401);
        expect(server, sent(&request, ":", ""), 401);
        // Without it there, it is signed as if it were.
        let mut keyless = request.clone().without("auth_key");
        keyless.signed_query = Some(request.query.clone());
        expect(server, sent(&keyless, &format!("{key}:{good}"), ""), 200);
        expect(server, sent(&keyless, &format!("{other}:{good}"), ""), 401);
        keyless.signed_query = None;
        let without_key = keyless.signature();
        expect(
            server,
            sent(&keyless, &format!("{key}:{without_key}"), ""),
            401,
        );
        // What else is required stays required in the query.
        let no_time = request.clone().without("auth_timestamp");
        expect(
            server,
            sent(&no_time, &format!("{key}:{}", no_time.signature()), ""),
            401,
        );
        // A signature in the query wins.
        let wrong_query = format!("auth_signature={wrong}");
        expect(
            server,
            sent(&request, &format!("{key}:{good}"), &wrong_query),
            401,
        );
        let good_query = format!("auth_signature={good}");
        expect(
            server,
            sent(&request, &format!("{key}:{wrong}"), &good_query),
            200,
        );
        expect(
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
            expect(server, &request, 200);
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
            expect(server, request.bytes(), 401);
        }
    });
}

#[test]
fn an_escaped_path_may_be_signed_escaped_or_not() {
    on_shards(|server| {
        let mut request = publish();
        request.path = "/apps/%33/events".into();
        expect(server, request.bytes(), 200);
        request.signed_path = Some("/apps/3/events".into());
        expect(server, request.bytes(), 200);
        request.signed_path = Some("/apps/%334/events".into());
        expect(server, request.bytes(), 401);
    });
}

#[test]
fn too_many_parameters_are_refused() {
    on_shards(|server| {
        let with = |count: usize| {
            let request = publish();
            let extra = count - request.query.len() - 1;
            (0..extra).fold(request, |request, n| request.with(&format!("x{n}=y")))
        };
        expect(server, with(64).bytes(), 200);
        expect(server, with(65).bytes(), 401);
        expect(server, with(1_000).bytes(), 401);
    });
}

#[test]
fn a_second_key_of_an_app_is_as_good_as_its_first() {
    let app = App {
        settings: "keys = [{ key = \"second\", secret = \"other\" }]\n",
        ..B
    };
    let server = Server::start(&support::Config::only(&app, ""), 1);
    expect(&server, Request::publish(&app, "c", "e", "d").bytes(), 200);
    let second = App {
        key: "second",
        secret: "other",
        ..app
    };
    expect(
        &server,
        Request::publish(&second, "c", "e", "d").bytes(),
        200,
    );
    let mixed = App {
        key: "second",
        ..app
    };
    expect(
        &server,
        Request::publish(&mixed, "c", "e", "d").bytes(),
        401,
    );
}
