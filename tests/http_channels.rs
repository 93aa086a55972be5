//! Queries (HTTP spec 6-8; cases M): the list of channels, one channel, its users, connections.
//!
//! Answers are compared as bytes where their order is told, else as sets. What was confirmed before
//! the question must be in the answer, whichever shards the two came to: peers 5.

mod support;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::http::{Http, Request, md5_hex};
use support::presence::{joined, user};
use support::{A, App, B, Client, Config, Publisher, Response, Server, WAIT};
use support::{on_shards, on_shards_with, unique};

/// The answer to a signed GET with these parameters.
#[track_caller]
fn get(http: &mut Http, app: &App, tail: &str, pairs: &[&str]) -> Response {
    let request = Request::get(app, tail);
    let request = pairs
        .iter()
        .fold(request, |request, pair| request.with(pair));
    http.ask(request.bytes())
}

/// The channels of a list with what is said of each.
#[track_caller]
fn list(http: &mut Http, app: &App, pairs: &[&str]) -> BTreeMap<String, Value> {
    let answer = get(http, app, "channels", pairs);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut object = answer.json();
    serde_json::from_value(object["channels"].take()).expect("an object of channels")
}

/// How many connections a channel has, and whether it says the same of being occupied.
#[track_caller]
fn count(http: &mut Http, channel: &str) -> u64 {
    let channel = format!("channels/{channel}");
    let answer = get(http, &A, &channel, &["info=subscription_count"]).json();
    let count = answer["subscription_count"].as_u64().expect("a count");
    assert_eq!(answer["occupied"], count > 0);
    count
}

/// Connections enough that several shards have one.
fn connections(server: &Server) -> Vec<Http> {
    let count = 2 * server.shards;
    (0..count).map(|_| Http::connect(server)).collect()
}

// Cases 155, 156 and 157.
#[test]
fn the_list_has_the_occupied_channels_of_the_app() {
    on_shards_with(&Config::standard(), |server| {
        let mut http = Http::connect(server);
        get(&mut http, &A, "channels", &[]).expect_ok(r#"{"channels":{}}"#);
        let mut client = Client::connect(server);
        for channel in ["news", "news-2", "gone"] {
            client.subscribe(channel);
        }
        client.subscribe_private("private-a");
        let _room = [("1"), ("1"), ("2")].map(|id| joined(server, "presence-room", id));
        let _other_room = joined(server, "presence-b", "1");
        client.unsubscribe("gone");
        client.sync();
        let mut other = Client::connect_to(server, B);
        other.subscribe("of-another-app");
        // A cached event alone does not occupy its channel.
        Publisher::connect(server).publish("cache-empty", "e", "d");

        let names = |pairs: &[&str]| {
            let listed = list(&mut Http::connect(server), &A, pairs);
            assert!(listed.values().all(|info| *info == json!({})));
            listed.into_keys().collect::<Vec<_>>()
        };
        let all = ["news", "news-2", "presence-b", "presence-room", "private-a"];
        assert_eq!(names(&[]), all);
        assert_eq!(names(&["filter_by_prefix="]), all);
        assert_eq!(names(&["info=", "unknown=only-signed"]), all);
        assert_eq!(
            names(&["filter_by_prefix=presence-"]),
            ["presence-b", "presence-room"]
        );
        assert_eq!(names(&["filter_by_prefix=news"]), ["news", "news-2"]);
        assert_eq!(names(&["filter_by_prefix=news-2"]), ["news-2"]);
        for none in ["news-22", "NEWS", "gone", "cache-", "%23"] {
            assert!(
                names(&[&format!("filter_by_prefix={none}")]).is_empty(),
                "{none}"
            );
        }

        let room = [
            "filter_by_prefix=presence-r",
            "info=user_count,subscription_count",
        ];
        get(&mut http, &A, "channels", &room)
            .expect_ok(r#"{"channels":{"presence-room":{"user_count":2,"subscription_count":3}}}"#);
        let users = list(
            &mut http,
            &A,
            &["filter_by_prefix=presence-", "info=user_count"],
        );
        assert_eq!(
            json!(users),
            json!({"presence-b": {"user_count": 1}, "presence-room": {"user_count": 2}})
        );
        for pairs in [
            &["info=user_count"][..],
            &["info=user_count", "filter_by_prefix=presence"],
            &["info=cache"],
            &["info=subscription_count,nope"],
        ] {
            get(&mut http, &A, "channels", pairs).expect_error(400, "invalid_input");
        }
    });
}

// Cases 158 and 159.
#[test]
fn one_channel_says_whether_it_is_occupied_and_what_was_asked_for() {
    on_shards(|server| {
        let (public, room) = (unique("one-"), unique("presence-one-"));
        let (private, cache) = (unique("private-one-"), unique("cache-one-"));
        let mut client = Client::connect(server);
        client.subscribe(&public);
        client.subscribe_private(&private);
        let _tabs = [("1"), ("1"), ("2")].map(|id| joined(server, &room, id));
        let mut http = Http::connect(server);
        let both = "info=user_count,subscription_count";
        for (channel, pairs, expected) in [
            (&*public, &[][..], r#"{"occupied":true}"#),
            (
                &public,
                &["info=subscription_count"],
                r#"{"occupied":true,"subscription_count":1}"#,
            ),
            (
                &private,
                &["info= subscription_count ,,"],
                r#"{"occupied":true,"subscription_count":1}"#,
            ),
            (
                &room,
                &[both],
                r#"{"occupied":true,"user_count":2,"subscription_count":3}"#,
            ),
            (
                &room,
                &["info=user_count"],
                r#"{"occupied":true,"user_count":2}"#,
            ),
            (
                &cache,
                &["info=cache"],
                r#"{"occupied":false,"cache":null}"#,
            ),
            (
                "one-nobody",
                &["info=subscription_count"],
                r#"{"occupied":false,"subscription_count":0}"#,
            ),
            (
                "presence-nobody",
                &[both],
                r#"{"occupied":false,"user_count":0,"subscription_count":0}"#,
            ),
        ] {
            let pairs: Vec<_> = pairs.iter().map(|pair| pair.replace(' ', "%20")).collect();
            let mut request = Request::get(&A, &format!("channels/{channel}"));
            for pair in &pairs {
                request = request.with(pair);
            }
            let decoded: Vec<_> = pairs.iter().map(|pair| pair.replace("%20", " ")).collect();
            let decoded: Vec<_> = decoded.iter().map(String::as_str).collect();
            http.ask(request.signing(&decoded).bytes())
                .expect_ok(expected);
        }
        for (channel, pair) in [
            (&*public, "info=user_count"),
            (&public, "info=cache"),
            (&room, "info=cache"),
            (&room, "info=nope"),
            ("a%20b", "info="),
            ("a%2Fb", "info="),
            ("%23server-to-user-u", "info="),
            ("%23x", "info="),
            (&*"x".repeat(201), "info="),
        ] {
            let answer = get(&mut http, &A, &format!("channels/{channel}"), &[pair]);
            answer.expect_error(400, "invalid_input");
            assert!(!answer.closes());
            let users = format!("channels/{channel}/users");
            if channel != room {
                get(&mut http, &A, &users, &[]).expect_error(400, "invalid_input");
            }
        }
    });
}

// Case 158: any name that can be subscribed to can be asked about, however it is escaped.
#[test]
fn a_name_in_the_path_is_decoded() {
    on_shards(|server| {
        let channel = unique("a=b@c,d.e;");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let mut http = Http::connect(server);
        let whole = channel
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>();
        let some = channel.replace('=', "%3D").replace('@', "%40");
        for written in [&channel, &whole, &some] {
            let mut request = Request::get(&A, &format!("channels/{written}"));
            http.ask(request.bytes()).expect_ok(r#"{"occupied":true}"#);
            request.signed_path = Some(format!("/apps/3/channels/{channel}"));
            http.ask(request.bytes()).expect_ok(r#"{"occupied":true}"#);
        }
    });
}

// Case 160.
#[test]
fn users_are_told_once_each_in_the_order_of_joining() {
    on_shards(|server| {
        let room = unique("presence-users-");
        let mut http = Http::connect(server);
        let users = format!("channels/{room}/users");
        get(&mut http, &A, &users, &[]).expect_ok(r#"{"users":[]}"#);
        let _members = ["2", "1", "2", "\u{e9}\"\\"].map(|id| joined(server, &room, id));
        get(&mut http, &A, &users, &[])
            .expect_ok("{\"users\":[{\"id\":\"2\"},{\"id\":\"1\"},{\"id\":\"\u{e9}\\\"\\\\\"}]}");
        let answer = get(&mut http, &A, &users, &["with_user_info=1"]);
        let shown = |id: &str| json!({"id": id, "user_info": user(id)["user_info"]});
        assert_eq!(
            answer.json(),
            json!({"users": [shown("2"), shown("1"), shown("\u{e9}\"\\")]})
        );
        get(&mut http, &A, "channels/news/users", &[]).expect_error(400, "invalid_input");
    });
}

// Peers 5: elsewhere the list may be minutes old.
#[test]
fn what_was_confirmed_is_counted_by_every_question_after_it() {
    on_shards(|server| {
        let (channel, room) = (unique("exact-"), unique("presence-exact-"));
        let mut https = connections(server);
        let asked = https.len();
        let mut clients = Vec::new();
        for nth in 1..=20 {
            let mut client = Client::connect(server);
            client.subscribe(&channel);
            let http = &mut https[nth % asked];
            assert_eq!(count(http, &channel), nth as u64);
            let prefix = format!("filter_by_prefix={channel}");
            let listed = list(http, &A, &[&prefix, "info=subscription_count"]);
            assert_eq!(
                json!(listed),
                json!({ &*channel: {"subscription_count": nth} })
            );
            // Three users are as many as app A allows.
            let id = (nth % 3).to_string();
            client.subscribe_presence_amid_events(&room, &user(&id));
            let users = get(http, &A, &format!("channels/{room}/users"), &[]).json();
            let ids: Vec<_> = (1..=nth.min(3))
                .map(|nth| json!({"id": (nth % 3).to_string()}))
                .collect();
            assert_eq!(users, json!({ "users": ids }));
            clients.push(client);
        }
        for (left, mut client) in clients.into_iter().enumerate().rev() {
            client.unsubscribe(&channel);
            client.sync_amid_events();
            let http = &mut https[left * 3 % asked];
            assert_eq!(count(http, &channel), left as u64);
        }
        assert!(list(&mut https[0], &A, &[&format!("filter_by_prefix={channel}")]).is_empty());
    });
}

// Case 161.
#[test]
fn a_connection_that_vanishes_is_not_counted_for_long() {
    on_shards(|server| {
        let channel = unique("vanishing-");
        let mut http = Http::connect(server);
        let mut clients: Vec<_> = (0..5).map(|_| Client::connect(server)).collect();
        for client in &mut clients {
            client.subscribe(&channel);
        }
        assert_eq!(count(&mut http, &channel), 5);
        drop(clients);
        let deadline = Instant::now() + WAIT;
        while count(&mut http, &channel) > 0 {
            assert!(Instant::now() < deadline, "still counted");
            thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn the_cached_event_is_shown_with_its_data_to_the_byte() {
    let config = Config::only(&A, "").set("cache_ttl_secs", 3);
    on_shards_with(&config, |server| {
        let mut http = Http::connect(server);
        let body = r#"{"name":"e","channel":"cache-x","data":"\u0041\\ \"q\" \ud83d\ude00\n"}"#;
        http.ask(Request::events(&A, body).bytes())
            .expect_ok(r#"{"ok":true}"#);
        let answer = get(
            &mut http,
            &A,
            "channels/cache-x",
            &["info=subscription_count,cache"],
        );
        let object = answer.json();
        let ttl = object["cache"]["ttl"].as_u64().expect("whole seconds");
        assert!(ttl <= 3);
        answer.expect_ok(&format!(
            r#"{{"occupied":false,"subscription_count":0,"cache":{{"data":"\u0041\\ \"q\" \ud83d\ude00\n","ttl":{ttl}}}}}"#
        ));
        let deadline = Instant::now() + WAIT;
        while get(&mut http, &A, "channels/cache-x", &["info=cache"]).json()["cache"] != json!(null)
        {
            assert!(Instant::now() < deadline, "still kept");
            thread::sleep(Duration::from_millis(50));
        }
    });
}

// Peers 18: a `body_md5` on GET is refused elsewhere, which breaks the official python library.
#[test]
fn every_way_in_which_libraries_sign_a_query_is_accepted() {
    on_shards(|server| {
        let room = unique("presence-signed-");
        let _member = joined(server, &room, "1");
        let mut http = Http::connect(server);
        let digest = format!("body_md5={}", md5_hex(""));
        let (one, users) = (format!("channels/{room}"), format!("channels/{room}/users"));
        for tail in ["channels", &one, &users, "connections"] {
            assert_eq!(get(&mut http, &A, tail, &[&digest]).status, 200, "{tail}");
        }
        let expected = r#"{"occupied":true,"user_count":1,"subscription_count":1}"#;
        let info = |pairs: &[&str]| {
            let request = Request::get(&A, &one);
            pairs
                .iter()
                .fold(request, |request, pair| request.with(pair))
        };
        let array = ["info[]=user_count", "info[]=subscription_count"];
        for request in [
            info(&["info=user_count,subscription_count"]),
            info(&["info=user_count%2Csubscription_count"])
                .signing(&["info=user_count,subscription_count"]),
            info(&array),
            info(&["info[0]=user_count", "info[1]=subscription_count"])
                .signing(&["info=user_count,subscription_count"]),
            info(&["INFO=subscription_count,user_count"]),
        ] {
            http.ask(request.bytes()).expect_ok(expected);
        }
        let unsigned = info(&["info=user_count"]);
        let header = format!("Authorization: {}:{}", A.key, unsigned.signature());
        let by_header = unsigned.field(&header);
        http.ask(by_header.bytes_to(&by_header.target_with("")))
            .expect_ok(r#"{"occupied":true,"user_count":1}"#);
        // Whoever has not signed learns nothing of the channel.
        for channel in [&*room, "presence-nobody", "%23x"] {
            let mut wrong = Request::get(&A, &format!("channels/{channel}"));
            wrong.signed_method = Some("POST".into());
            let answer = http.ask(wrong.bytes());
            answer.expect_error(401, "auth_failed");
            assert_eq!(answer.budget(), None);
        }
        get(&mut http, &B, &one, &["info=user_count"])
            .expect_ok(r#"{"occupied":false,"user_count":0}"#);
    });
}

#[test]
fn head_is_a_query_whose_answer_has_no_body() {
    on_shards(|server| {
        let channel = unique("head-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let mut http = Http::connect(server);
        for tail in [
            "channels",
            &format!("channels/{channel}"),
            "channels/presence-x/users",
            "connections",
            "channels/%23",
        ] {
            let mut request = Request::get(&A, tail);
            let whole = http.ask(request.bytes());
            request.method = "HEAD".into();
            http.send(request.bytes());
            let head = Response::read_head(&mut http);
            assert_eq!(head.status, whole.status);
            let length = head.header("Content-Length");
            // The list and the connections may change between the two.
            if tail.starts_with("channels/") {
                assert_eq!(length, whole.header("Content-Length"), "{tail}");
            }
            assert!(length.is_some_and(|length| length != "0"));
        }
        assert_eq!(get(&mut http, &A, "channels", &[]).status, 200);
    });
}

// Decisions 16: a question is answered before what came behind it.
#[test]
fn pipelined_questions_and_publishes_are_answered_in_their_order() {
    on_shards(|server| {
        let channel = unique("pipelined-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let mut http = Http::connect(server);
        let asking =
            json!({"name": "e", "channel": channel, "data": "1", "info": "subscription_count"});
        let one = format!("channels/{channel}");
        let mut requests = Vec::new();
        for nth in 0..10 {
            requests.extend(Request::events(&A, asking.to_string()).bytes());
            requests.extend(
                Request::get(&A, &one)
                    .with("info=subscription_count")
                    .bytes(),
            );
            requests.extend(Request::publish(&A, &channel, "e", &nth.to_string()).bytes());
            requests.extend(Request::get(&A, "channels/presence-nobody/users").bytes());
        }
        http.send(requests);
        for nth in 0..10 {
            let counted = format!(r#"{{"channels":{{"{channel}":{{"subscription_count":1}}}}}}"#);
            http.answer().expect_ok(&counted);
            http.answer()
                .expect_ok(r#"{"occupied":true,"subscription_count":1}"#);
            http.answer().expect_ok(r#"{"ok":true}"#);
            http.answer().expect_ok(r#"{"users":[]}"#);
            client.expect_event(&channel, "e", "1");
            client.expect_event(&channel, "e", &nth.to_string());
        }
    });
}

#[test]
fn a_list_of_many_pages_is_whole_while_channels_come_and_go() {
    // More than two pages of 4096 even where five shards share them.
    const STAYING: usize = 45_000;
    on_shards_with(&Config::only(&A, ""), |server| {
        let mut client = Client::connect(server);
        for chunk in 0..STAYING / 500 {
            for nth in 0..500 {
                client.send_subscribe(&format!("stay-{}", chunk * 500 + nth));
            }
            for nth in 0..500 {
                client.expect_subscribed(&format!("stay-{}", chunk * 500 + nth));
            }
        }
        let churn = |server: &Server, until: &dyn Fn() -> bool| {
            let mut client = Client::connect(server);
            for round in 0.. {
                let channel = format!("come-{}", round % 1_000);
                client.subscribe(&channel);
                client.unsubscribe(&channel);
                if until() {
                    return;
                }
            }
        };
        let done = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
            scope.spawn(move || churn(server, &is_done));
            let mut http = Http::connect(server);
            for _ in 0..10 {
                let answer = get(&mut http, &A, "channels", &["info=subscription_count"]);
                let stay = answer.text().matches(r#""stay-"#).count();
                let listed = answer.json();
                let listed = listed["channels"].as_object().expect("channels");
                let of_these = listed.iter().filter(|(name, _)| name.starts_with("stay-"));
                assert_eq!((stay, of_these.clone().count()), (STAYING, STAYING));
                for (_, info) in of_these {
                    assert_eq!(*info, json!({"subscription_count": 1}));
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
}

#[test]
fn an_answer_over_the_bound_is_refused_and_the_connection_goes_on() {
    let config = Config::only(&B, "").set("query_response_bytes_max", 1024);
    on_shards_with(&config, |server| {
        let mut client = Client::connect_to(server, B);
        for nth in 0..100 {
            client.subscribe(&format!("channel-{nth:03}"));
        }
        let mut http = Http::connect(server);
        for _ in 0..3 {
            let text = get(&mut http, &B, "channels", &[]).expect_error(400, "limit_exceeded");
            assert!(
                text.contains("1024 bytes") && text.contains("filter_by_prefix"),
                "{text}"
            );
            let some = list(&mut http, &B, &["filter_by_prefix=channel-00"]);
            assert_eq!(some.len(), 10);
        }
        let member = |nth: u32| {
            let mut client = Client::connect_to(server, B);
            client.subscribe_presence_amid_events("presence-x", &user(&format!("user-{nth}")));
            client
        };
        let _members: Vec<_> = (0..80).map(member).collect();
        get(&mut http, &B, "channels/presence-x/users", &[]).expect_error(400, "limit_exceeded");
        get(&mut http, &B, "channels/presence-x", &["info=user_count"])
            .expect_ok(r#"{"occupied":true,"user_count":80}"#);
    });
}

#[test]
fn counts_that_are_switched_off_are_refused() {
    let config = Config::only(&A, "subscription_count = \"off\"\n");
    on_shards_with(&config, |server| {
        let _member = joined(server, "presence-a", "1");
        let mut http = Http::connect(server);
        for tail in ["channels", "channels/news", "channels/presence-a"] {
            let text = get(&mut http, &A, tail, &["info=subscription_count"]);
            assert!(
                text.expect_error(400, "invalid_input")
                    .contains("subscription_count")
            );
        }
        get(&mut http, &A, "channels/presence-a", &["info=user_count"])
            .expect_ok(r#"{"occupied":true,"user_count":1}"#);
    });
}

#[test]
fn connections_are_counted_exactly_and_by_app() {
    on_shards_with(&Config::standard(), |server| {
        let mut http = Http::connect(server);
        get(&mut http, &A, "connections", &[]).expect_ok(r#"{"connections":0}"#);
        let clients: Vec<_> = (0..10).map(|_| Client::connect(server)).collect();
        let _other = Client::connect_to(server, B);
        get(&mut http, &A, "connections", &[]).expect_ok(r#"{"connections":10}"#);
        get(&mut http, &B, "connections", &[]).expect_ok(r#"{"connections":1}"#);
        drop(clients);
        let deadline = Instant::now() + WAIT;
        while get(&mut http, &A, "connections", &[]).text() != r#"{"connections":0}"# {
            assert!(Instant::now() < deadline, "still counted");
            thread::sleep(Duration::from_millis(10));
        }
    });
}
