//! What may be published and what is not (HTTP spec 4.1; cases K): every row of the table of
//! fields, at its bounds, over the wire.
//!
//! A refusal must name the field and publish nothing; what is accepted must arrive. Which counts
//! an answer has and in which order events arrive is in `http_info` and `http_publish_order`.

mod support;

use serde_json::{Value, json};

use support::http::{Http, OK, Request};
use support::{A, B, Client, Config, Response, Server, on_shards, unique};

/// The answer to a publish of app A.
fn post(server: &Server, body: impl ToString) -> Response {
    Http::connect(server).ask(Request::events(&A, body.to_string()).bytes())
}

/// A good body for a channel, with members added or replaced; `null` stays as it is.
fn body(channel: &str, members: Value) -> Value {
    let mut body = json!({"name": "e", "channel": channel, "data": "d"});
    for (name, value) in members.as_object().expect("members") {
        body[name] = value.clone();
    }
    body
}

/// The same without a member.
fn without(channel: &str, member: &str) -> Value {
    let mut body = body(channel, json!({}));
    body.as_object_mut().expect("members").remove(member);
    body
}

#[test]
fn one_event_goes_to_every_subscriber_of_every_channel() {
    // Case 135.
    on_shards(|server| {
        let channels: Vec<_> = (0..3).map(|_| unique("events-")).collect();
        let mut clients: Vec<_> = channels
            .iter()
            .flat_map(|channel| [channel, channel])
            .map(|channel| {
                let mut client = Client::connect(server);
                client.subscribe(channel);
                (client, channel)
            })
            .collect();
        let mut other = Client::connect_to(server, B);
        other.subscribe(&channels[0]);
        let members = json!({"channels": channels, "channel": "ignored beside channels"});
        post(server, body("", members)).expect_ok(OK);
        for (client, channel) in &mut clients {
            client.expect_event(channel, "e", "d");
            client.sync();
        }
        // Case 150: a channel of another app is another channel.
        other.sync();
    });
}

#[test]
fn the_connection_of_socket_id_is_left_out_on_all_channels() {
    // Case 136.
    on_shards(|server| {
        let channels: Vec<_> = (0..5).map(|_| unique("events-")).collect();
        let mut sender = Client::connect(server);
        let mut others: Vec<_> = (0..6).map(|_| Client::connect(server)).collect();
        for channel in &channels {
            sender.subscribe(channel);
        }
        for client in &mut others {
            client.subscribe(&channels[0]);
        }
        let members = json!({"channels": channels, "socket_id": sender.socket_id});
        for _ in 0..3 {
            post(server, body("", members.clone())).expect_ok(OK);
        }
        for client in &mut others {
            for _ in 0..3 {
                client.expect_event(&channels[0], "e", "d");
            }
            client.sync();
        }
        post(
            server,
            body("", json!({"channels": channels, "data": "to all"})),
        )
        .expect_ok(OK);
        for _ in 0..5 {
            assert_eq!(sender.expect("e").text(), "to all");
        }
        sender.sync();
    });
}

#[test]
fn a_socket_id_is_two_numbers_of_anybody() {
    // Case 137; peers 16: what is no id is refused, not hashed into one.
    on_shards(|server| {
        let channel = unique("events-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        for id in [
            json!("1.1"),
            json!("123456789.987654321"),
            json!("0.0"),
            json!(null),
        ] {
            post(server, body(&channel, json!({"socket_id": id}))).expect_ok(OK);
            client.expect_event(&channel, "e", "d");
        }
        let long = format!("{}.1", "9".repeat(40));
        post(server, body(&channel, json!({"socket_id": long}))).expect_ok(OK);
        client.expect_event(&channel, "e", "d");
        for id in [
            json!("abc"),
            json!("1"),
            json!("1.2.3"),
            json!(""),
            json!("."),
            json!("1."),
            json!(".1"),
            json!(" 1.1"),
            json!("1.1\n"),
            json!("-1.1"),
            json!("1,1"),
            json!("\u{661}.1"),
            json!(5),
            json!(1.1),
            json!(["1.1"]),
            json!({}),
            json!(true),
        ] {
            let answer = post(server, body(&channel, json!({"socket_id": id})));
            let text = answer.expect_error(400, "invalid_input");
            assert!(text.contains("socket_id"), "{id}: {text}");
        }
        client.sync();
    });
}

#[test]
fn a_publish_has_1_to_100_channels_and_each_gets_it_once() {
    // Case 138; peers 3.
    on_shards(|server| {
        let channel = unique("events-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let many = |count: usize| -> Vec<_> {
            (1..count)
                .map(|n| format!("{channel}-{n}"))
                .chain([channel.clone()])
                .collect()
        };
        for channels in [
            json!([channel]),
            json!(many(100)),
            json!(vec![&channel; 100]),
        ] {
            post(server, body("", json!({"channels": channels}))).expect_ok(OK);
            client.expect_event(&channel, "e", "d");
            client.sync();
        }
        post(server, body(&channel, json!({"channels": null}))).expect_ok(OK);
        client.expect_event(&channel, "e", "d");
        for channels in [json!([]), json!(many(101)), json!(vec![&channel; 101])] {
            let answer = post(server, body(&channel, json!({"channels": channels})));
            let text = answer.expect_error(400, "limit_exceeded");
            assert!(text.contains("channels") && text.contains("100"), "{text}");
        }
        for channels in [
            json!(channel),
            json!(5),
            json!({}),
            json!([5]),
            json!([null]),
            json!([[channel]]),
            json!(true),
        ] {
            let answer = post(server, body(&channel, json!({"channels": channels})));
            let text = answer.expect_error(400, "invalid_input");
            assert!(text.contains("channels"), "{channels}: {text}");
        }
        for one in [json!(5), json!([channel]), json!({})] {
            let answer = post(server, body("", json!({"channel": one})));
            let text = answer.expect_error(400, "invalid_input");
            assert!(text.contains("'channel'"), "{one}: {text}");
        }
        for none in [without("", "channel"), body("", json!({"channel": null}))] {
            let text = post(server, none).expect_error(400, "invalid_input");
            assert!(text.contains("channel"), "{text}");
        }
        client.sync();
    });
}

#[test]
fn one_bad_name_among_many_channels_publishes_nothing() {
    // Case 139; peers 15.
    on_shards(|server| {
        let good: Vec<_> = (0..20).map(|_| unique("events-")).collect();
        let mut client = Client::connect(server);
        for channel in &good {
            client.subscribe(channel);
        }
        let long = "c".repeat(201);
        for bad in [
            "",
            " ",
            "a b",
            "a/b",
            "a:b",
            "a*",
            "a%20",
            "caf\u{e9}",
            "\u{65e5}",
            "a\nb",
            "a\0",
            "a#b",
            &long,
        ] {
            for place in [0, 10, 20] {
                let mut channels = good.clone();
                channels.insert(place, bad.into());
                let answer = post(server, body("", json!({"channels": channels})));
                answer.expect_error(400, "invalid_input");
            }
            post(server, body(bad, json!({}))).expect_error(400, "invalid_input");
        }
        // Names of a reserved type are forbidden rather than wrong.
        for bad in ["#x", "#", "#server-to-user-", "#server-to-users-1"] {
            let mut channels = good.clone();
            channels.push(bad.into());
            let answer = post(server, body("", json!({"channels": channels})));
            let code = if answer.status == 403 {
                "forbidden"
            } else {
                "invalid_input"
            };
            answer.expect_error(answer.status, code);
            assert!(
                matches!(answer.status, 400 | 403),
                "{bad}: {}",
                answer.text()
            );
        }
        post(server, body("#x", json!({}))).expect_error(403, "forbidden");
        client.sync();
        let all = "aZ0_-=@,.;".to_owned() + &"c".repeat(190);
        post(server, body(&all, json!({}))).expect_ok(OK);
        post(server, body("#server-to-user-somebody", json!({}))).expect_ok(OK);
    });
}

#[test]
fn an_encrypted_channel_must_be_the_only_one() {
    // Case 146.
    on_shards(|server| {
        let plain = unique("events-");
        let encrypted = unique("private-encrypted-");
        let mut client = Client::connect(server);
        client.subscribe(&plain);
        client.subscribe_private(&encrypted);
        for channels in [
            json!([plain, encrypted]),
            json!([encrypted, plain]),
            json!([encrypted, format!("{encrypted}-other")]),
        ] {
            let answer = post(server, body("", json!({"channels": channels})));
            answer.expect_error(400, "invalid_input");
        }
        client.sync();
        let sealed = r#"{"nonce":"bm9uY2U=","ciphertext":"Y2lwaGVy"}"#;
        for members in [
            json!({"channels": [encrypted], "data": sealed}),
            json!({"channels": [encrypted, encrypted], "data": sealed}),
        ] {
            post(server, body("", members)).expect_ok(OK);
            client.expect_event(&encrypted, "e", sealed);
        }
        client.sync();
    });
}

#[test]
fn an_event_name_has_1_to_200_characters_and_is_nobodys_own() {
    // Case 140.
    on_shards(|server| {
        let channel = unique("events-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let (longest, wide) = ("n".repeat(200), "\u{1f600}".repeat(200));
        for name in [
            "e",
            &longest,
            &wide,
            "client-x",
            "pusher",
            "pusherx:",
            "Pusher:x",
            " ",
            "a\"\\\n\u{2028}",
        ] {
            post(server, body(&channel, json!({"name": name}))).expect_ok(OK);
            client.expect_event(&channel, name, "d");
        }
        let too_long = "n".repeat(201);
        for name in [
            json!(""),
            json!(too_long),
            json!(5),
            json!(["e"]),
            json!({}),
            json!(false),
            json!(null),
            json!("pusher:x"),
            json!("pusher:"),
            json!("pusher_internal:x"),
        ] {
            let answer = post(server, body(&channel, json!({"name": name})));
            let text = answer.expect_error(400, "invalid_input");
            assert!(text.contains("'name'"), "{name}: {text}");
        }
        let text = post(server, without(&channel, "name")).expect_error(400, "invalid_input");
        assert_eq!(text, "Invalid request: 'name' field is required.");
        client.sync();
    });
}

#[test]
fn data_is_any_json_of_at_most_the_limit_in_delivered_bytes() {
    // Case 141 (the limit of app A is 10 KiB); peers 3 and 18.
    on_shards(|server| {
        let channel = unique("events-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let (most, wide) = ("d".repeat(10_240), "\u{e9}".repeat(5_120));
        for data in [
            "",
            "d",
            "null",
            "{\"a\":1}",
            "\u{0}\u{1f600}\u{2028}",
            &most,
            &wide,
        ] {
            post(server, body(&channel, json!({"data": data}))).expect_ok(OK);
            client.expect_event(&channel, "e", data);
        }
        // Every byte written as an escape is still the byte that it is.
        let escaped = r#"{"name":"e","channel":"CHANNEL","data":"DATA"}"#
            .replace("CHANNEL", &channel)
            .replace("DATA", &"\\u0064".repeat(10_240));
        post(server, escaped).expect_ok(OK);
        client.expect_event(&channel, "e", &most);
        for (data, delivered) in [
            ("null", "null"),
            ("5", "5"),
            ("1.0", "1.0"),
            ("1e400", "1e400"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("false", "false"),
            (r#"{"a":[1,{"b":"\u00e9"}]}"#, r#"{"a":[1,{"b":"\u00e9"}]}"#),
            ("[]", "[]"),
        ] {
            let body = format!(r#"{{"name":"e","channel":"{channel}","data":{data}}}"#);
            post(server, body).expect_ok(OK);
            client.expect_event(&channel, "e", delivered);
        }
        let over = format!("{wide}x");
        let nested = json!(vec!["x"; 2_561]);
        for data in [json!("d".repeat(10_241)), json!(over), nested] {
            let answer = post(server, body(&channel, json!({"data": data})));
            let text = answer.expect_error(413, "payload_too_large");
            assert_eq!(text, "Payload too large. Maximum size is 10KB.");
            assert!(!answer.closes(), "the body has been read");
        }
        let text = post(server, without(&channel, "data")).expect_error(400, "invalid_input");
        assert_eq!(text, "Invalid request: 'data' field is required.");
        client.sync();
    });
}

#[test]
fn what_is_no_json_object_is_400_in_the_form_of_every_error() {
    // Case 143; peers 21.
    on_shards(|server| {
        let deep = "[".repeat(10_000);
        let deep_data = format!(r#"{{"name":"e","channel":"c","data":{deep}"#);
        for body in [
            "",
            " ",
            "{",
            "}",
            "null",
            "5",
            "\"x\"",
            "[]",
            "[{}]",
            "hello",
            "{}x",
            "{'name':'e'}",
            r#"{"name":"e","channel":"c","data":"d",}"#,
            r#"{"name":"e","channel":"c","data":"d"} {}"#,
            r#"{"name":"e","channel":"c","data":tru}"#,
            r#"{"name":"e","channel":"c","data":01}"#,
            "{\"name\":\"e\",\"channel\":\"c\",\"data\":\"\n\"}",
            r#"{"name":"e","channel":"c","data":"\x"}"#,
            &deep,
            &deep_data,
        ] {
            let answer = post(server, body);
            answer.expect_error(400, "invalid_input");
            assert!(!answer.closes());
        }
        let invalid_utf8 = b"{\"name\":\"e\",\"channel\":\"c\",\"data\":\"\xff\"}";
        let answer = Http::connect(server).ask(Request::events(&A, invalid_utf8).bytes());
        answer.expect_error(400, "invalid_input");
        // What libraries send as Content-Type does not matter; nor does what comes before a key.
        for (line, body) in [
            (
                "Content-Type: text/plain",
                r#"{"name":"e","channel":"c","data":"d"}"#,
            ),
            (
                "Content-Type: application/x-www-form-urlencoded",
                r#"{"name":"e","channel":"c","data":"d"}"#,
            ),
            (
                "X-Other: 1",
                " \n\t{ \"name\" : \"e\" , \"channel\":\"c\",\"data\":\"d\" } \r\n",
            ),
            (
                "X-Other: 1",
                r#"{"name":"first","name":"e","channel":"c","data":"d"}"#,
            ),
            (
                "X-Other: 1",
                r#"{"n\u0061me":"e","channel":"c","data":"d","message_id":5,"extras":{}}"#,
            ),
        ] {
            let request = Request::events(&A, body).field(line);
            Http::connect(server).ask(request.bytes()).expect_ok(OK);
        }
        let answer = post(
            server,
            "\u{feff}{\"name\":\"e\",\"channel\":\"c\",\"data\":\"d\"}",
        );
        assert!(matches!(answer.status, 200 | 400), "{}", answer.text());
    });
}

#[test]
fn tags_and_delta_are_checked_and_leave_the_frame_as_it_is() {
    // Case 145.
    on_shards(|server| {
        let channel = unique("events-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        for members in [
            json!({"tags": {"a": "b", "n": 5, "t": true}}),
            json!({"tags": {}}),
            json!({"tags": null, "delta": null}),
            json!({"delta": true}),
            json!({"delta": false, "unknown": [1, 2]}),
        ] {
            post(server, body(&channel, members)).expect_ok(OK);
            let event = client.expect("e");
            let plain = json!({"event": "e", "channel": channel, "data": "d"});
            assert_eq!(
                serde_json::from_str::<Value>(&event.raw).expect("JSON"),
                plain
            );
        }
        for (field, members) in [
            ("tags", json!({"tags": 5})),
            ("tags", json!({"tags": ["a"]})),
            ("tags", json!({"tags": "a"})),
            ("tags", json!({"tags": {"a": {}}})),
            ("delta", json!({"delta": "yes"})),
            ("delta", json!({"delta": 1})),
        ] {
            let answer = post(server, body(&channel, members));
            let text = answer.expect_error(400, "invalid_input");
            assert!(text.contains(field), "{text}");
        }
        client.sync();
    });
}

#[test]
fn of_several_faults_the_first_row_of_the_table_is_told() {
    // HTTP spec 1.3, last rules.
    on_shards(|server| {
        let mut body = json!({
            "name": "", "data": "d".repeat(10_241), "channels": ["a b"], "socket_id": "x",
            "info": 5, "tags": 5, "delta": 5,
        });
        for (field, status, mended) in [
            ("name", 400, json!("e")),
            ("size", 413, json!("d")),
            ("channel", 400, json!(["c"])),
            ("socket_id", 400, json!("1.1")),
            ("info", 400, json!("")),
            ("tags", 400, json!({})),
            ("delta", 400, json!(true)),
        ] {
            let answer = post(server, &body);
            let text = answer.json()["error"].as_str().expect("a text").to_owned();
            assert_eq!(answer.status, status, "{text}");
            assert!(text.contains(field), "{field}: {text}");
            let member = match field {
                "size" => "data",
                "channel" => "channels",
                field => field,
            };
            body[member] = mended;
        }
        assert_eq!(post(server, &body).status, 200);
    });
}

#[test]
fn with_an_empty_body_the_query_has_the_fields() {
    // HTTP spec 4.1, end.
    on_shards(|server| {
        let (one, two) = (unique("events-"), unique("events-"));
        let mut client = Client::connect(server);
        client.subscribe(&one);
        client.subscribe(&two);
        let form = |pairs: &[&str]| {
            let request = Request::events(&A, "");
            let request = pairs
                .iter()
                .fold(request, |request, pair| request.with(pair));
            Http::connect(server).ask(request.bytes())
        };
        let pair = |name: &str, value: &str| format!("{name}={value}");
        let (channel, list) = (
            pair("channel", &one),
            [pair("channels[]", &one), pair("channels[]", &two)],
        );
        form(&["name=e", "data=", &channel]).expect_ok(OK);
        client.expect_event(&one, "e", "");
        form(&["name=e", "data=d", &list[0], &list[1], "channel=a/b"]).expect_ok(OK);
        // In any order: two channels have two homes.
        let came = [client.expect("e").channel, client.expect("e").channel];
        assert!(came.contains(&Some(one.clone())) && came.contains(&Some(two.clone())));
        let but_me = pair("socket_id", &client.socket_id);
        form(&["name=e", "data=d", &channel, &but_me]).expect_ok(OK);
        let counted = form(&["name=e", "data=d", &channel, "info=subscription_count"]);
        counted.expect_ok(&format!(
            r#"{{"channels":{{"{one}":{{"subscription_count":1}}}}}}"#
        ));
        client.expect_event(&one, "e", "d");
        for pairs in [
            &["data=d", &*channel][..],
            &["name=e", &channel],
            &["name=e", "data=d"],
            &["name=pusher:e", "data=d", &channel],
            &["name=e", "data=d", "channel=a/b"],
            &["name=e", "data=d", &channel, "socket_id=x"],
        ] {
            form(pairs).expect_error(400, "invalid_input");
        }
        // With a body the query is only signed.
        let request = Request::publish(&A, &one, "e", "body")
            .with("data=query")
            .with("name=n");
        Http::connect(server).ask(request.bytes()).expect_ok(OK);
        client.expect_event(&one, "e", "body");
        client.sync();
    });
}

#[test]
fn the_answer_can_be_configured_to_be_that_of_pusher() {
    let config = Config::standard().set("events_response", "\"empty\"");
    let server = Server::start(&config, 1);
    post(&server, body("c", json!({}))).expect_ok("{}");
    post(&server, body("c", json!({"info": ""}))).expect_ok(r#"{"channels":{"c":{}}}"#);
    let batch = Http::connect(&server).ask(Request::batch(&A, r#"{"batch":[]}"#).bytes());
    batch.expect_ok("{}");
}
