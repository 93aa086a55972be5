use crate::api::testing::*;
use crate::shard::Budgets;

use super::*;

const CHANNELS: &str = "/apps/3/channels";

/// A server with two presence users on three connections, and other channels.
fn server() -> Server {
    let mut server = Server::new();
    server.joined("presence-a", 1, "1");
    server.joined("presence-a", 2, "1");
    server.joined("presence-a", 3, "u\"2");
    server.subscribed("news", 3);
    server.subscribed("cache-a", 1);
    server.subscribed("private-a", 2);
    server.subscribed("#server-to-user-u", 1);
    server.subscribed("gone", 1);
    server.subscribed("gone", 0);
    server
}

/// The body of a 200.
fn get(server: &mut Server, path: &str, query: &str) -> String {
    let response = server.get(path, query);
    assert_eq!(
        response.status,
        Status::Ok,
        "{path}?{query}: {}",
        body(&response)
    );
    body(&response)
}

/// Text of a 400.
fn refused(server: &mut Server, path: &str, query: &str) -> String {
    let response = server.get(path, query);
    let (status, code, text) = refusal(&response);
    assert_eq!((status, &*code), (400, "invalid_input"), "{path}?{query}");
    assert!(response.rate.is_some());
    text
}

#[test]
fn the_list_has_every_occupied_channel_of_the_prefix_and_no_user() {
    let mut server = server();
    let all = r#"{"channels":{"presence-a":{},"news":{},"cache-a":{},"private-a":{}}}"#;
    let presence = r#"{"channels":{"presence-a":{"user_count":2}}}"#;
    let both = r#"{"channels":{"presence-a":{"user_count":2,"subscription_count":3}}}"#;
    let none = r#"{"channels":{}}"#;
    for (query, expected) in [
        ("", all),
        ("info=&filter_by_prefix=&", all),
        ("info=%20,+,&unknown=x&", all),
        ("filter_by_prefix=presence-&info=user_count&", presence),
        (
            "filter_by_prefix=presence-&info=user_count,subscription_count&",
            both,
        ),
        (
            "filter_by_prefix=presence-&info[]=user_count&info[]=subscription_count&",
            both,
        ),
        ("filter_by_prefix=presence-b&info=user_count&", none),
        (
            "filter_by_prefix=presence-a&",
            r#"{"channels":{"presence-a":{}}}"#,
        ),
        ("filter_by_prefix=presence-aa&", none),
        ("filter_by_prefix=PRESENCE-&", none),
        ("filter_by_prefix=%23server-to-user-&", none),
        (
            "filter_by_prefix=n&info=subscription_count&",
            r#"{"channels":{"news":{"subscription_count":3}}}"#,
        ),
    ] {
        assert_eq!(get(&mut server, CHANNELS, query), expected, "{query}");
    }
    assert_eq!(get(&mut Server::new(), CHANNELS, ""), none);
}

#[test]
fn a_list_refuses_attributes_that_it_cannot_have() {
    let mut server = server();
    for (query, text) in [
        (
            "info=user_count&",
            "Invalid request: 'user_count' in 'info' needs a 'filter_by_prefix' that begins with presence-.",
        ),
        (
            "info=user_count&filter_by_prefix=presence&",
            "Invalid request: 'user_count' in 'info' needs a 'filter_by_prefix' that begins with presence-.",
        ),
        (
            "info=cache&",
            "Invalid request: 'info' of a list of channels may have user_count and subscription_count.",
        ),
        (
            "info=subscription_count,users&",
            "Invalid request: 'info' of a list of channels may have user_count and subscription_count.",
        ),
    ] {
        assert_eq!(refused(&mut server, CHANNELS, query), text, "{query}");
    }
    assert!(server.shard.outgoing(0).list.is_empty(), "nobody was asked");
}

#[test]
fn one_channel_shows_what_was_asked_for() {
    let mut server = server();
    for (name, query, expected) in [
        ("news", "", r#"{"occupied":true}"#),
        (
            "news",
            "info=subscription_count&",
            r#"{"occupied":true,"subscription_count":3}"#,
        ),
        (
            "gone",
            "info=subscription_count&",
            r#"{"occupied":false,"subscription_count":0}"#,
        ),
        (
            "presence-a",
            "info=user_count,subscription_count&",
            r#"{"occupied":true,"user_count":2,"subscription_count":3}"#,
        ),
        (
            "presence-b",
            "info=user_count&",
            r#"{"occupied":false,"user_count":0}"#,
        ),
        (
            "presence%2Da/",
            "info=user_count&",
            r#"{"occupied":true,"user_count":2}"#,
        ),
        (
            "cache-a",
            "info=cache,subscription_count&",
            r#"{"occupied":true,"subscription_count":1,"cache":null}"#,
        ),
        ("a=b@c,.;", "", r#"{"occupied":false}"#),
    ] {
        assert_eq!(
            get(&mut server, &format!("{CHANNELS}/{name}"), query),
            expected
        );
    }
}

#[test]
fn a_cached_event_is_shown_with_the_string_that_subscribers_get() {
    let mut server = Server::new();
    let event = r#"{"name":"e","channel":"cache-a","data":"\u0041 \"x\"\n\ud83d\ude00"}"#;
    assert_eq!(server.post("/apps/3/events", event), ok_true(1));
    let channel = &format!("{CHANNELS}/cache-a");
    let cached = |ttl| {
        format!(
            r#"{{"occupied":false,"cache":{{"data":"\u0041 \"x\"\n\ud83d\ude00","ttl":{ttl}}}}}"#
        )
    };
    for (now_ms, expected) in [
        (0, cached(1800)),
        (1, cached(1799)),
        (1_799_999, cached(0)),
        (1_800_000, r#"{"occupied":false,"cache":null}"#.to_owned()),
    ] {
        server.shard.on_time(crate::clock::Now(now_ms));
        assert_eq!(
            get(&mut server, channel, "info=cache&"),
            expected,
            "{now_ms}"
        );
    }
    // Other than strings are shown as their text, as they are delivered.
    let event = r#"{"name":"e","channel":"cache-a","data":{"a":"b"}}"#;
    server.post("/apps/3/events", event);
    let shown = get(&mut server, channel, "info=cache&");
    assert_eq!(
        shown,
        r#"{"occupied":false,"cache":{"data":"{\"a\":\"b\"}","ttl":1800}}"#
    );
}

#[test]
fn a_channel_refuses_attributes_that_it_cannot_have_and_names_that_are_none() {
    let mut server = server();
    for (name, query, text) in [
        (
            "news",
            "info=user_count&",
            "'user_count' in 'info' needs a presence channel",
        ),
        (
            "news",
            "info=cache&",
            "'cache' in 'info' needs a cache channel",
        ),
        (
            "presence-a",
            "info=cache&",
            "'cache' in 'info' needs a cache channel",
        ),
        (
            "news",
            "info=nope&",
            "'info' of a channel may have user_count, subscription_count and cache",
        ),
        ("/", "", "the channel name must not be empty"),
        (
            "a b",
            "",
            "the channel name may only contain A-Z a-z 0-9 _ - = @ , . ;",
        ),
        (
            "a%2Fb",
            "",
            "the channel name may only contain A-Z a-z 0-9 _ - = @ , . ;",
        ),
        (
            "a%zz",
            "",
            "the channel name may only contain A-Z a-z 0-9 _ - = @ , . ;",
        ),
        (
            "%ff",
            "",
            "the channel name may only contain A-Z a-z 0-9 _ - = @ , . ;",
        ),
        (
            "%23server-to-user-u",
            "",
            "the channel is of a reserved type",
        ),
        ("%23x", "", "the channel is of a reserved type"),
    ] {
        let text = format!("Invalid request: {text}.");
        // The name as it would stand in a request line.
        let path = format!("{CHANNELS}/{}", name.replace(' ', "%20"));
        assert_eq!(refused(&mut server, &path, query), text);
        let users = match name {
            "news" => "Invalid request: only presence channels have users.".to_owned(),
            "presence-a" | "/" => continue,
            _ => text,
        };
        assert_eq!(refused(&mut server, &format!("{path}/users"), query), users);
    }
    let long = format!("{CHANNELS}/{}", "x".repeat(201));
    assert!(refused(&mut server, &long, "").contains("must not exceed 200 characters"));
}

#[test]
fn counts_that_are_switched_off_are_refused() {
    let mut server = Server::with(AppSettings {
        subscription_count: SubscriptionCount::Off,
        ..AppSettings::default()
    });
    server.joined("presence-a", 1, "1");
    let text = "Invalid request: 'subscription_count' in 'info' is switched off for this app.";
    let info = "info=subscription_count&";
    assert_eq!(refused(&mut server, CHANNELS, info), text);
    assert_eq!(
        refused(&mut server, &format!("{CHANNELS}/news"), info),
        text
    );
    let users = get(
        &mut server,
        &format!("{CHANNELS}/presence-a"),
        "info=user_count&",
    );
    assert_eq!(users, r#"{"occupied":true,"user_count":1}"#);
}

#[test]
fn users_are_told_once_each_as_strings() {
    let mut server = server();
    for (name, query, expected) in [
        ("presence-a", "", r#"{"users":[{"id":"1"},{"id":"u\"2"}]}"#),
        (
            "presence-a",
            "with_user_info=1&",
            r#"{"users":[{"id":"1","user_info":{}},{"id":"u\"2","user_info":{}}]}"#,
        ),
        (
            "presence-a",
            "with_user_info=true&",
            r#"{"users":[{"id":"1"},{"id":"u\"2"}]}"#,
        ),
        ("presence-b", "", r#"{"users":[]}"#),
        ("presence-cache-b", "", r#"{"users":[]}"#),
    ] {
        let path = format!("{CHANNELS}/{name}/users");
        assert_eq!(get(&mut server, &path, query), expected);
    }
    assert_eq!(
        refused(&mut server, "/apps/3/channels/news/users", ""),
        "Invalid request: only presence channels have users."
    );
}

#[test]
fn connections_are_those_of_the_app() {
    let mut server = Server::new();
    let connections = "/apps/3/connections";
    assert_eq!(get(&mut server, connections, ""), r#"{"connections":0}"#);
    let app = server.shard.apps().by_id("3").cloned();
    assert!(app.is_some_and(|app| app.quota.try_take(None)));
    assert_eq!(get(&mut server, connections, ""), r#"{"connections":1}"#);
}

#[test]
fn a_long_list_is_fetched_page_by_page() {
    let mut server = Server::new();
    let count = 2 * Budgets::default().page + 1;
    for nth in 0..count {
        server.subscribed(&format!("c{nth}"), 1);
    }
    let listed = get(&mut server, CHANNELS, "info=subscription_count&");
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let channels = listed["channels"].as_object().expect("an object");
    assert_eq!(channels.len(), count);
    assert!(
        channels
            .values()
            .all(|counts| counts["subscription_count"] == 1)
    );
}

#[test]
fn an_answer_over_the_bound_is_refused_and_one_at_the_bound_is_not() {
    let mut server = Server::new();
    let count = Budgets::default().page + 1;
    for nth in 0..count {
        server.subscribed(&format!("c{nth:05}"), 1);
    }
    server.joined("presence-a", 1, "1");
    let users = "/apps/3/channels/presence-a/users";
    for (path, query, advice) in [
        (
            CHANNELS,
            "filter_by_prefix=c&",
            "; a longer 'filter_by_prefix' asks for less",
        ),
        (users, "", ""),
    ] {
        server.settings.query_response_bytes_max = 1 << 20;
        let bytes = get(&mut server, path, query).len();
        server.settings.query_response_bytes_max = bytes;
        assert_eq!(get(&mut server, path, query).len(), bytes);
        server.settings.query_response_bytes_max = bytes - 1;
        let text = format!("The answer would exceed {} bytes{advice}.", bytes - 1);
        assert_eq!(
            refusal(&server.get(path, query)),
            (400, "limit_exceeded".into(), text)
        );
    }
    assert_eq!(server.shard.counters.answers_too_large, 2);
}

/// Peers 18: the python library sends the digest of nothing with every GET.
#[test]
fn queries_are_signed_like_everything_and_may_have_a_body() {
    let mut server = server();
    let md5 = format!("body_md5={}&", md5_hex(""));
    assert_eq!(
        get(&mut server, "/apps/3/channels/presence-a/users", &md5),
        r#"{"users":[{"id":"1"},{"id":"u\"2"}]}"#
    );
    // A body counts for the signature alone.
    let response = server.answer(&signed("GET", CHANNELS, "", "", "{}"));
    assert_eq!(
        (response.status, response.rate),
        (Status::Ok, Some(rate(2)))
    );
    let unsigned = server.answer(&wire("GET", CHANNELS, "", ""));
    assert_eq!((refusal(&unsigned).0, unsigned.rate), (401, None));
    let other = target("GET", CHANNELS, "", "{}");
    let response = server.answer(&wire("GET", &other, "", "[]"));
    assert_eq!((refusal(&response).0, response.rate), (401, None));
}

#[test]
fn head_is_get_without_the_body() {
    let mut server = server();
    let wire = signed("HEAD", CHANNELS, "filter_by_prefix=news&", "", "");
    let OnBody::Wait(waiting) = server.begin(&wire) else {
        panic!("a list waits for its shards")
    };
    let framing = waiting.framing(&server.settings);
    assert!(framing.head_only && !framing.close);
    let response = server.settle(*waiting);
    assert_eq!(body(&response), r#"{"channels":{"news":{}}}"#);
}
