//! Bodies of `events` and `batch_events` through the whole server: what they publish, and what each
//! refusal says. "Peers n" names a defect of another server, number n of peers section 2.

use super::*;
use crate::api::testing::*;
use crate::app::SubscriptionCount;

/// Limits small enough to reach.
fn small() -> AppSettings {
    AppSettings {
        channel_name_chars_max: 10,
        event_name_chars_max: 5,
        event_data_bytes_max: 8,
        channels_per_event_max: 3,
        batch_events_max: 2,
        ..AppSettings::default()
    }
}

const EVENTS: &str = "/apps/3/events";
const BATCH: &str = "/apps/3/batch_events";

/// Peers 3: documented limits hold. Peers 15: with one fault nothing is published on any channel.
/// Peers 16: a malformed `socket_id` is refused. Peers 18: `data` must be there. Peers 21: every
/// refusal is an error object.
#[test]
fn every_fault_of_a_body_is_refused_and_nothing_is_published() {
    let required = "field is required.";
    let table = [
        ("{", 400, "invalid_input", "the body is not a JSON object."),
        ("[]", 400, "invalid_input", "the body is not a JSON object."),
        (
            "\"x\"",
            400,
            "invalid_input",
            "the body is not a JSON object.",
        ),
        (
            r#"{"name":"n","channel":"c","data":"\ud800"}"#,
            400,
            "invalid_input",
            "not a JSON object",
        ),
        (
            r#"{"channel":"c","data":""}"#,
            400,
            "invalid_input",
            "Invalid request: 'name' field is required.",
        ),
        (
            r#"{"name":null,"channel":"c","data":""}"#,
            400,
            "invalid_input",
            required,
        ),
        (
            r#"{"name":1,"channel":"c","data":""}"#,
            400,
            "invalid_input",
            "'name' must be a string.",
        ),
        (
            r#"{"name":"","channel":"c","data":""}"#,
            400,
            "invalid_input",
            "'name' must have 1 to 5",
        ),
        (
            r#"{"name":"123456","channel":"c","data":""}"#,
            400,
            "invalid_input",
            "'name' must have 1 to 5",
        ),
        (
            r#"{"name":"n","channel":"c"}"#,
            400,
            "invalid_input",
            "'data' field is required.",
        ),
        (
            r#"{"name":"n","channel":"c","data":"123456789"}"#,
            413,
            "payload_too_large",
            "Payload too large. Maximum size is 8 bytes.",
        ),
        (
            r#"{"name":"n","channel":"c","data":[1,2,3,4]}"#,
            413,
            "payload_too_large",
            "Payload too large.",
        ),
        (
            r#"{"name":"n","data":""}"#,
            400,
            "invalid_input",
            "'channels' field is required.",
        ),
        (
            r#"{"name":"n","channels":[],"channel":"c","data":""}"#,
            400,
            "limit_exceeded",
            "1 to 3 entries",
        ),
        (
            r#"{"name":"n","channels":["a","a","a","a"],"data":""}"#,
            400,
            "limit_exceeded",
            "1 to 3 entries",
        ),
        (
            r#"{"name":"n","channels":"a","data":""}"#,
            400,
            "invalid_input",
            "'channels' must be",
        ),
        (
            r#"{"name":"n","channels":["a",1],"data":""}"#,
            400,
            "invalid_input",
            "'channels' must be",
        ),
        (
            r#"{"name":"n","channels":["a","b c"],"data":""}"#,
            400,
            "invalid_input",
            "a channel name may only contain",
        ),
        (
            r#"{"name":"n","channels":["a","12345678901"],"data":""}"#,
            400,
            "invalid_input",
            "must not exceed 10",
        ),
        (
            r##"{"name":"n","channels":["a","#x"],"data":""}"##,
            403,
            "forbidden",
            "Forbidden: ",
        ),
        (
            r#"{"name":"n","channels":["a",""],"data":""}"#,
            400,
            "invalid_input",
            "must not be empty",
        ),
        (
            r#"{"name":"n","channel":"c","data":"","socket_id":"x"}"#,
            400,
            "invalid_input",
            "'socket_id'",
        ),
        (
            r#"{"name":"n","channel":"c","data":"","socket_id":"1.2.3"}"#,
            400,
            "invalid_input",
            "'socket_id'",
        ),
        (
            r#"{"name":"n","channel":"c","data":"","socket_id":1.2}"#,
            400,
            "invalid_input",
            "'socket_id'",
        ),
        (
            r#"{"name":"n","channel":"c","data":"","info":1}"#,
            400,
            "invalid_input",
            "'info'",
        ),
        (
            r#"{"name":"n","channel":"c","data":"","tags":[]}"#,
            400,
            "invalid_input",
            "'tags'",
        ),
        (
            r#"{"name":"n","channel":"c","data":"","delta":1}"#,
            400,
            "invalid_input",
            "'delta'",
        ),
        (
            r#"{"name":"n","channel":"c","data":"","idempotency_key":""}"#,
            400,
            "invalid_input",
            "'idempotency_key'",
        ),
    ];
    for (body, status, code, text) in table {
        let mut server = Server::with(small());
        let (got_status, got_code, got_text) = refusal(&server.post(EVENTS, body));
        assert_eq!((got_status, got_code.as_str()), (status, code), "{body}");
        assert!(got_text.contains(text), "{body}: {got_text}");
        assert!(server.published().is_empty(), "{body}");
    }
    let mut server = Server::new();
    for name in ["pusher:x", "pusher_internal:x"] {
        let body = format!(r#"{{"name":"{name}","channel":"c","data":""}}"#);
        assert_eq!(refusal(&server.post(EVENTS, &body)).0, 400);
    }
    let encrypted = r#"{"name":"n","channels":["a","private-encrypted-b"],"data":""}"#;
    assert!(
        refusal(&server.post(EVENTS, encrypted))
            .2
            .contains("encrypted")
    );
    assert!(server.published().is_empty());
}

/// Peers 18: an object as `data` is delivered as its JSON text.
#[test]
fn an_event_is_framed_as_it_was_published() {
    let table = [
        (
            r#"{"name":"n","channel":"c","data":"a\u0041"}"#,
            r#"{"event":"n","channel":"c","data":"a\u0041"}"#,
        ),
        (
            r#"{"name":"n","channel":"c","data":""}"#,
            r#"{"event":"n","channel":"c","data":""}"#,
        ),
        (
            r#"{"name":"n","channel":"c","data":{"a": 1}}"#,
            r#"{"event":"n","channel":"c","data":"{\"a\": 1}"}"#,
        ),
        (
            r#"{"name":"n","channel":"c","data":null}"#,
            r#"{"event":"n","channel":"c","data":"null"}"#,
        ),
        (
            r#"{"name":"client-n","channel":"c","data":"1"}"#,
            r#"{"event":"client-n","channel":"c","data":"1"}"#,
        ),
        (
            r#"{"name":"n","channel":"c","data":"1","tags":{"a":1},"delta":true,"idempotency_key":"k","message_id":[],"info":null}"#,
            r#"{"event":"n","channel":"c","data":"1"}"#,
        ),
    ];
    let mut server = Server::new();
    for ((body, frame), nth) in table.into_iter().zip(1..) {
        assert_eq!(server.post(EVENTS, body), ok_true(nth), "{body}");
        assert_eq!(server.events(), [("c".to_owned(), frame.to_owned())]);
    }
}

#[test]
fn a_frame_of_copied_tokens_is_allocated_once() {
    for bytes in [0, 100, 126, 70_000] {
        let data = "x".repeat(bytes);
        let body = format!(r#"{{"name":"name","channel":"channel","data":"{data}"}}"#);
        let limits = limits(&AppSettings::default());
        let event = rest::Publish::parse(body.as_bytes(), &limits).expect("a lawful event");
        let frame = frame(&event, "channel", Micros::default(), TagSet::default());
        let beside = frame.bytes().len() - (r#""name""#.len() + "channel".len() + 2 + bytes);
        assert!(beside <= FRAME_BESIDE_BYTES, "{beside} for {bytes}");
    }
}

#[test]
fn each_distinct_channel_gets_the_event_once_in_the_order_sent() {
    let mut server = Server::new();
    let body =
        r#"{"name":"n","channels":["b","cache-a","b","presence-cache-c","a-cache-b"],"data":"1"}"#;
    assert_eq!(server.post(EVENTS, body), ok_true(1));
    let published = server.published();
    let got: Vec<_> = published.iter().map(|p| (&*p.channel, p.cached)).collect();
    let expected = [
        ("b", false),
        ("cache-a", true),
        ("presence-cache-c", true),
        ("a-cache-b", false),
    ];
    assert_eq!(got, expected);
    for publish in &published {
        assert_eq!(
            (publish.app, publish.origin, publish.ask),
            (0, Origin::Api, None)
        );
        assert_eq!(publish.hash, server.shard.hash(0, &publish.channel));
    }
}

#[test]
fn the_excluded_connection_is_left_out_on_every_channel() {
    let mut server = Server::new();
    let rows = [
        (r#","socket_id":"12.34""#, Some("12.34")),
        // Valid, and nobody's.
        (r#","socket_id":"0.1""#, None),
        (r#","socket_id":"99999999999999999999999.1""#, None),
        (r#","socket_id":null"#, None),
        ("", None),
    ];
    for ((socket_id, except), nth) in rows.into_iter().zip(1..) {
        let body = format!(r#"{{"name":"n","channels":["a","b"],"data":"1"{socket_id}}}"#);
        assert_eq!(server.post(EVENTS, &body), ok_true(nth));
        let got: Vec<_> = server.published().iter().map(|p| p.except).collect();
        assert_eq!(got.len(), 2);
        for id in got {
            assert_eq!(
                id.map(|id| id.to_string()).as_deref(),
                except,
                "{socket_id}"
            );
        }
    }
}

#[test]
fn an_event_to_a_user_is_published_and_has_no_counts() {
    let mut server = Server::new();
    let body_of = |info: &str| {
        format!(r##"{{"name":"n","channels":["#server-to-user-u","a"],"data":"1"{info}}}"##)
    };
    assert_eq!(server.post(EVENTS, &body_of("")), ok_true(1));
    let published = server.published();
    let channels: Vec<_> = published.iter().map(|p| &*p.channel).collect();
    assert_eq!(channels, ["#server-to-user-u", "a"]);
    let response = server.post(EVENTS, &body_of(r#","info":"subscription_count""#));
    let expected = r##"{"channels":{"#server-to-user-u":{},"a":{"subscription_count":0}}}"##;
    assert_eq!(body(&response), expected);
}

#[test]
fn counts_are_those_of_the_homes() {
    let mut server = Server::new();
    server.subscribed("another", 13);
    server.joined("presence-foobar", 1, "u1");
    server.joined("presence-foobar", 2, "u1");
    server.joined("presence-foobar", 3, "u2");
    let channels = r#""name":"n","channels":["presence-foobar","another","presence-foobar","empty"],"data":"1""#;
    for (info, expected) in [
        (
            r#""user_count,subscription_count""#,
            r#"{"channels":{"presence-foobar":{"user_count":2,"subscription_count":3},"another":{"subscription_count":13},"empty":{"subscription_count":0}}}"#,
        ),
        (
            r#"[" user_count ,, cache","nonsense"]"#,
            r#"{"channels":{"presence-foobar":{"user_count":2},"another":{},"empty":{}}}"#,
        ),
        (
            r#""""#,
            r#"{"channels":{"presence-foobar":{},"another":{},"empty":{}}}"#,
        ),
        (
            r#""cache""#,
            r#"{"channels":{"presence-foobar":{},"another":{},"empty":{}}}"#,
        ),
    ] {
        let response = server.post(EVENTS, &format!(r#"{{{channels},"info":{info}}}"#));
        assert_eq!(
            (response.status, body(&response)),
            (Status::Ok, expected.into()),
            "{info}"
        );
        server.shard.outgoing(0).list.clear();
    }
}

#[test]
fn subscription_counts_that_are_off_are_left_out() {
    let mut server = Server::with(AppSettings {
        subscription_count: SubscriptionCount::Off,
        ..AppSettings::default()
    });
    let body_of = r#"{"name":"n","channels":["presence-a","b"],"data":"1","info":"user_count,subscription_count"}"#;
    let expected = r#"{"channels":{"presence-a":{"user_count":0},"b":{}}}"#;
    assert_eq!(body(&server.post(EVENTS, body_of)), expected);
}

#[test]
fn a_batch_is_published_in_order_and_answered_by_index() {
    let mut server = Server::new();
    server.subscribed("a", 2);
    for (batch, expected, channels) in [
        ("", "{}", &[][..]),
        (r#"{"name":"n","channel":"a","data":"1"}"#, "{}", &["a"]),
        (
            r#"{"name":"n","channel":"a","data":"1"},{"name":"n","channel":"presence-b","data":"2","info":"user_count"},{"name":"n","channel":"a","data":"3","info":"subscription_count"}"#,
            r#"{"batch":[{},{"user_count":0},{"subscription_count":2}]}"#,
            &[],
        ),
        (
            r#"{"name":"n","channels":["a","presence-b"],"data":"1","info":"subscription_count"}"#,
            r#"{"batch":[{"subscription_count":2}]}"#,
            &[],
        ),
        (
            r##"{"name":"n","channel":"#server-to-user-u","data":"1","info":"user_count"}"##,
            r#"{"batch":[{}]}"#,
            &["#server-to-user-u"],
        ),
        (
            r#"{"name":"n","channel":"a","data":"1"},{"name":"m","channel":"b","data":"2","info":"user_count","idempotency_key":5}"#,
            r#"{"batch":[{},{}]}"#,
            &["a", "b"],
        ),
    ] {
        let response = server.post(BATCH, &format!(r#"{{"batch":[{batch}]}}"#));
        assert_eq!(
            (response.status, body(&response)),
            (Status::Ok, expected.into()),
            "{batch}"
        );
        let published = server.published();
        let got: Vec<_> = published.iter().map(|p| &*p.channel).collect();
        assert_eq!(got, channels, "{batch}");
    }
}

/// Peers 15, for batches.
#[test]
fn a_batch_with_one_fault_publishes_nothing() {
    let good = r#"{"name":"n","channel":"a","data":"1"}"#;
    let mut server = Server::with(small());
    for (batch, status) in [
        (
            format!(r#"{{"batch":[{good},{{"name":"n","channel":"a"}}]}}"#),
            400,
        ),
        (
            format!(r#"{{"batch":[{good},{{"name":"n","channel":"a","data":"123456789"}}]}}"#),
            413,
        ),
        (
            format!(r##"{{"batch":[{good},{{"name":"n","channel":"#a","data":""}}]}}"##),
            403,
        ),
        (format!(r#"{{"batch":[{good},1]}}"#), 400),
        (format!(r#"{{"batch":[{good},{good},{good}]}}"#), 400),
        (format!(r#"{{"batch":{good}}}"#), 400),
        ("{}".into(), 400),
        (String::new(), 400),
    ] {
        assert_eq!(refusal(&server.post(BATCH, &batch)).0, status, "{batch}");
        assert!(server.published().is_empty());
    }
}

#[test]
fn an_empty_body_takes_its_fields_from_the_query() {
    let mut server = Server::new();
    let mut post = |query: &str| {
        let response = server.answer(&signed("POST", EVENTS, query, "", ""));
        (body(&response), server.events())
    };
    let event = |channel: &str, data: &str| {
        let text = format!(r#"{{"event":"n","channel":"{channel}","data":"{data}"}}"#);
        (channel.to_owned(), text)
    };
    let ok = || r#"{"ok":true}"#.to_owned();
    assert_eq!(
        post("name=n&data=%22x%22&channel=a&"),
        (ok(), vec![event("a", r#"\"x\""#)])
    );
    assert_eq!(
        post("name=n&data=&channels[]=a&channels[]=b&channels[]=a&channel=c&"),
        (ok(), vec![event("a", ""), event("b", "")])
    );
    assert_eq!(
        post("name=n&data=1&channel=a&info=cache&"),
        (r#"{"channels":{"a":{}}}"#.to_owned(), vec![event("a", "1")])
    );
    for (query, text) in [
        ("data=1&channel=a&", "'name' field is required."),
        ("name=n&channel=a&", "'data' field is required."),
        ("name=n&data=1&", "'channels' field is required."),
        ("name=n&data=1&channel=a&socket_id=x&", "'socket_id'"),
    ] {
        let (body, events) = post(query);
        assert!(body.contains(text) && events.is_empty(), "{query}: {body}");
    }
    // With a body such parameters are only signed.
    let body_of = r#"{"name":"n","channel":"b","data":"2"}"#;
    let wire = signed("POST", EVENTS, "name=m&data=1&channel=a&", "", body_of);
    // Requests with a fault are counted like others.
    assert_eq!(server.answer(&wire), ok_true(8));
    assert_eq!(server.events(), [event("b", "2")]);
}

#[test]
fn the_answer_to_a_publish_may_be_an_empty_object() {
    let mut server = Server::new();
    server.settings.events_response_empty = true;
    let response = server.post(EVENTS, r#"{"name":"n","channel":"a","data":"1"}"#);
    assert_eq!(
        (response.status, body(&response)),
        (Status::Ok, "{}".into())
    );
}

#[test]
fn an_overloaded_home_refuses_the_request_as_a_whole() {
    let mut server = Server::new();
    server.congest(true);
    for info in ["", r#","info":"subscription_count""#] {
        let body = format!(r#"{{"name":"n","channels":["a","b","c"],"data":"1"{info}}}"#);
        let response = server.post(EVENTS, &body);
        let (status, code, _) = refusal(&response);
        assert_eq!((status, code.as_str()), (503, "service_unavailable"));
        assert_eq!(response.retry_after_secs, Some(1));
        assert!(server.published().is_empty() && !response.close);
    }
    // What publishes nothing needs no room.
    assert_eq!(body(&server.post(BATCH, r#"{"batch":[]}"#)), "{}");
}
