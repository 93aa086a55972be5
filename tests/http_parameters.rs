//! The query of a signed request at byte level (HTTP spec 2.3): order, case, escapes, repetitions,
//! arrays; and that what was signed is what is used.
//!
//! A parameter that is used as well as signed is the query form of a publish (HTTP spec 4.1).

mod support;

use support::http::{Http, Request, expect_verdict, now_secs, publish};
use support::{A, Client, on_shards, unique};

#[test]
fn parameters_come_in_any_order_and_names_in_any_case() {
    // Case 124.
    on_shards(|server| {
        let mut request = publish().with("Other=1").with("zebra=2");
        let signature = request.signature();
        for _ in 0..request.query.len() {
            request.query.rotate_left(1);
            expect_verdict(server, request.bytes(), 200);
        }
        let first = format!(
            "{}?auth_signature={signature}&{}",
            request.path,
            request.query.join("&")
        );
        expect_verdict(server, request.bytes_to(&first), 200);
        for query in &mut request.query {
            let (name, value) = query.split_once('=').expect("a pair");
            *query = format!("{}={value}", name.to_uppercase());
        }
        expect_verdict(server, request.bytes(), 200);
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
            expect_verdict(server, request.bytes(), status);
        }
    });
}

#[test]
fn what_was_signed_is_what_is_used() {
    // Cases 126, 127: of two parameters of one name the last is signed and used, or none.
    on_shards(|server| {
        let channel = unique("auth-");
        let mut client = Client::connect(server);
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
        expect_verdict(server, signing(twice.clone(), "data=first").bytes(), 401);
        expect_verdict(server, signing(twice, "data=last").bytes(), 200);
        client.expect_event(&channel, "e", "last");
        // The interpretation that was signed is the one that is used.
        let plus = form(&["data=a+b%2Cc"]);
        expect_verdict(server, signing(plus.clone(), "data=a b,c").bytes(), 200);
        client.expect_event(&channel, "e", "a b,c");
        expect_verdict(server, signing(plus.clone(), "data=a+b,c").bytes(), 200);
        client.expect_event(&channel, "e", "a+b,c");
        expect_verdict(server, signing(plus, "data=a+b%2Cc").bytes(), 200);
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
            expect_verdict(server, request.bytes(), status);
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
        expect_verdict(server, request.bytes(), 401);
    });
}

#[test]
fn an_escaped_path_may_be_signed_escaped_or_not() {
    on_shards(|server| {
        let mut request = publish();
        request.path = "/apps/%33/events".into();
        expect_verdict(server, request.bytes(), 200);
        request.signed_path = Some("/apps/3/events".into());
        expect_verdict(server, request.bytes(), 200);
        request.signed_path = Some("/apps/%334/events".into());
        expect_verdict(server, request.bytes(), 401);
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
        expect_verdict(server, with(64).bytes(), 200);
        expect_verdict(server, with(65).bytes(), 401);
        expect_verdict(server, with(1_000).bytes(), 401);
    });
}
