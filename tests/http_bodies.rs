//! What may be published (HTTP spec 4.1; cases K): every field at its bounds, and the bodies that
//! are none.
//!
//! A refusal must name the field and publish nothing; what is accepted must arrive.

mod support;

use serde_json::{Value, json};

use support::http::{Http, OK, Request, event_with, event_without, post_event};
use support::{A, Client, Config, Server, on_shards, unique};

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
            post_event(server, event_with(&channel, json!({"name": name}))).expect_ok(OK);
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
            let answer = post_event(server, event_with(&channel, json!({"name": name})));
            let text = answer.expect_error(400, "invalid_input");
            assert!(text.contains("'name'"), "{name}: {text}");
        }
        let text =
            post_event(server, event_without(&channel, "name")).expect_error(400, "invalid_input");
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
            post_event(server, event_with(&channel, json!({"data": data}))).expect_ok(OK);
            client.expect_event(&channel, "e", data);
        }
        // Every byte written as an escape is still the byte that it is.
        let escaped = r#"{"name":"e","channel":"CHANNEL","data":"DATA"}"#
            .replace("CHANNEL", &channel)
            .replace("DATA", &"\\u0064".repeat(10_240));
        post_event(server, escaped).expect_ok(OK);
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
            post_event(server, body).expect_ok(OK);
            client.expect_event(&channel, "e", delivered);
        }
        let over = format!("{wide}x");
        let nested = json!(vec!["x"; 2_561]);
        for data in [json!("d".repeat(10_241)), json!(over), nested] {
            let answer = post_event(server, event_with(&channel, json!({"data": data})));
            let text = answer.expect_error(413, "payload_too_large");
            assert_eq!(text, "Payload too large. Maximum size is 10KB.");
            assert!(!answer.closes(), "the body has been read");
        }
        let text =
            post_event(server, event_without(&channel, "data")).expect_error(400, "invalid_input");
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
            let answer = post_event(server, body);
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
        let answer = post_event(
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
            post_event(server, event_with(&channel, members)).expect_ok(OK);
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
            let answer = post_event(server, event_with(&channel, members));
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
            let answer = post_event(server, &body);
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
        assert_eq!(post_event(server, &body).status, 200);
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
    post_event(&server, event_with("c", json!({}))).expect_ok("{}");
    post_event(&server, event_with("c", json!({"info": ""}))).expect_ok(r#"{"channels":{"c":{}}}"#);
    let batch = Http::connect(&server).ask(Request::batch(&A, r#"{"batch":[]}"#).bytes());
    batch.expect_ok("{}");
}
