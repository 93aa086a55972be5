//! Several events in one request (HTTP spec 5; cases L): in order, all or none, each with its own
//! fields, and one object per event in the answer.

mod support;

use serde_json::{Value, json};

use support::http::{Http, Request};
use support::{A, Client, Response, Server, on_shards, unique};

fn post(server: &Server, events: &Value) -> Response {
    let body = json!({"batch": events}).to_string();
    Http::connect(server).ask(Request::batch(&A, body).bytes())
}

fn event(channel: &str, data: &str) -> Value {
    json!({"channel": channel, "name": "e", "data": data})
}

#[test]
fn events_arrive_in_the_order_of_the_batch() {
    // Case 151.
    on_shards(|server| {
        let (one, two) = (unique("batch-"), unique("batch-"));
        let mut client = Client::connect(server);
        client.subscribe(&one);
        let mut other = Client::connect(server);
        other.subscribe(&two);
        for _ in 0..20 {
            let events: Vec<_> = (0..10)
                .map(|n| event(if n % 3 == 0 { &two } else { &one }, &n.to_string()))
                .collect();
            post(server, &json!(events)).expect_ok("{}");
            for n in [1, 2, 4, 5, 7, 8] {
                client.expect_event(&one, "e", &n.to_string());
            }
            for n in [0, 3, 6, 9] {
                other.expect_event(&two, "e", &n.to_string());
            }
        }
        client.sync();
        other.sync();
    });
}

#[test]
fn a_batch_has_up_to_10_events_or_none() {
    // Cases 151, 154; peers 3.
    on_shards(|server| {
        let channel = unique("batch-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        post(server, &json!([])).expect_ok("{}");
        post(server, &json!(vec![event(&channel, "d"); 10])).expect_ok("{}");
        for _ in 0..10 {
            client.expect_event(&channel, "e", "d");
        }
        let text = post(server, &json!(vec![event(&channel, "d"); 11]))
            .expect_error(400, "limit_exceeded");
        assert!(text.contains("10"), "{text}");
        for batch in [
            json!({}),
            json!(event(&channel, "d")),
            json!("[]"),
            json!(5),
            json!(null),
            json!([5]),
            json!([null]),
            json!([[event(&channel, "d")]]),
        ] {
            let text = post(server, &batch).expect_error(400, "invalid_input");
            assert!(text.contains("'batch'"), "{batch}: {text}");
        }
        for body in ["{}", "[]", "", "{", r#"{"events":[]}"#] {
            let answer = Http::connect(server).ask(Request::batch(&A, body).bytes());
            answer.expect_error(400, "invalid_input");
        }
        client.sync();
    });
}

#[test]
fn one_bad_event_publishes_none() {
    // Case 153.
    on_shards(|server| {
        let channel = unique("batch-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let good = event(&channel, "d");
        let bad = |name: &str, value: Value| {
            let mut event = good.clone();
            event[name] = value;
            event
        };
        let too_large = bad("data", json!("d".repeat(10_241)));
        let forbidden = bad("channel", json!("#x"));
        for (fault, status, code) in [
            (bad("name", json!("")), 400, "invalid_input"),
            (bad("name", json!(null)), 400, "invalid_input"),
            (bad("name", json!("pusher:x")), 400, "invalid_input"),
            (bad("channel", json!("a b")), 400, "invalid_input"),
            (bad("channel", json!(null)), 400, "invalid_input"),
            (bad("channels", json!([])), 400, "limit_exceeded"),
            (bad("socket_id", json!("x")), 400, "invalid_input"),
            (bad("info", json!(5)), 400, "invalid_input"),
            (bad("tags", json!(5)), 400, "invalid_input"),
            (bad("delta", json!("yes")), 400, "invalid_input"),
            (too_large.clone(), 413, "payload_too_large"),
            (forbidden.clone(), 403, "forbidden"),
        ] {
            for place in [0, 2, 4] {
                let mut events = vec![good.clone(); 4];
                events.insert(place, fault.clone());
                post(server, &json!(events)).expect_error(status, code);
            }
        }
        // The first event that has a fault decides.
        let name = bad("name", json!(""));
        for (events, status) in [
            (json!([good, too_large, forbidden, name]), 413),
            (json!([forbidden, too_large]), 403),
            (json!([name, too_large]), 400),
        ] {
            assert_eq!(post(server, &events).status, status);
        }
        client.sync();
    });
}

#[test]
fn an_answer_has_an_object_for_every_event_if_one_asks() {
    // Case 152; HTTP spec 5 and 13.
    on_shards(|server| {
        let (public, presence) = (unique("batch-"), unique("presence-batch-"));
        let mut client = Client::connect(server);
        client.subscribe(&public);
        client.subscribe_presence(&presence, &json!({"user_id": "1"}));
        let asking = |channel: &str, info: Value| {
            let mut event = event(channel, "d");
            event["info"] = info;
            event
        };
        let both = "user_count,subscription_count";
        let rows = [
            (
                json!([
                    event(&public, "d"),
                    asking(&presence, json!(both)),
                    event(&public, "d")
                ]),
                json!([{}, {"user_count": 1, "subscription_count": 1}, {}]),
            ),
            (
                json!([
                    asking(&public, json!(both)),
                    asking(&public, json!("user_count"))
                ]),
                json!([{"subscription_count": 1}, {}]),
            ),
            (json!([asking(&public, json!(""))]), json!([{}])),
            (
                json!([asking("batch-empty", json!(["subscription_count"]))]),
                json!([{"subscription_count": 0}]),
            ),
            (
                json!([
                    asking(&presence, json!(both)),
                    asking(&presence, json!(both))
                ]),
                json!([{"user_count": 1, "subscription_count": 1},
                    {"user_count": 1, "subscription_count": 1}]),
            ),
        ];
        for (events, expected) in rows {
            let answer = post(server, &events);
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json(), json!({"batch": expected}), "{events}");
        }
        post(server, &json!([asking(&public, json!(null))])).expect_ok("{}");
        // Several channels are tolerated; then `info` is of the first.
        let several =
            json!([{"channels": [presence, public], "name": "e", "data": "", "info": both}]);
        let expected = json!({"batch": [{"user_count": 1, "subscription_count": 1}]});
        assert_eq!(post(server, &several).json(), expected);
    });
}

#[test]
fn every_event_leaves_out_its_own_connection() {
    // Case 154.
    on_shards(|server| {
        let channel = unique("batch-");
        let mut clients: Vec<_> = (0..3).map(|_| Client::connect(server)).collect();
        for client in &mut clients {
            client.subscribe(&channel);
        }
        let events: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(n, client)| {
                let mut event = event(&channel, &n.to_string());
                event["socket_id"] = client.socket_id.as_str().into();
                event
            })
            .collect();
        post(server, &json!(events)).expect_ok("{}");
        for (own, client) in clients.iter_mut().enumerate() {
            for n in (0..3).filter(|&n| n != own) {
                client.expect_event(&channel, "e", &n.to_string());
            }
            client.sync();
        }
    });
}

#[test]
fn a_batch_may_be_as_long_as_ten_of_the_longest_events() {
    // HTTP spec 1.3: the limit of the endpoint grows with the batch.
    on_shards(|server| {
        let channel = unique("batch-");
        let mut client = Client::connect(server);
        client.subscribe(&channel);
        let data = "\u{1}".repeat(10 << 10);
        let body = json!({"batch": vec![event(&channel, &data); 10]}).to_string();
        assert!(body.len() > 600_000, "every byte is an escape of six");
        let answer = Http::connect(server).ask(Request::batch(&A, body).bytes());
        answer.expect_ok("{}");
        for _ in 0..10 {
            client.expect_event(&channel, "e", &data);
        }
        client.sync();
    });
}
