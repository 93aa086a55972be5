//! The order of what is published, and the counts in the answers (HTTP spec 4.2, 4.3; decisions 1,
//! 16, 28).
//!
//! Order is per channel and is that of the answers: who publishes after an answer has come is
//! behind it, on whichever connection and shard.

mod support;

use std::{slice, thread};

use serde_json::{Value, json};

use support::http::{Http, OK, Request};
use support::{A, App, B, Client, Config, Publisher, Server, on_shards, on_shards_with, unique};

/// Clients on every shard, mostly.
fn subscribers(server: &Server, channels: &[String]) -> Vec<Client> {
    (0..2 * server.shards + 1)
        .map(|_| {
            let mut client = Client::connect(server);
            for channel in channels {
                client.subscribe(channel);
            }
            client
        })
        .collect()
}

#[test]
fn a_thousand_publishes_arrive_in_their_order() {
    // Case 147. Peers 20: on one connection.
    on_shards(|server| {
        let channel = unique("order-");
        let mut clients = subscribers(server, slice::from_ref(&channel));
        let mut publisher = Publisher::connect(server);
        for n in 0..1_000 {
            publisher.publish(&channel, "e", &n.to_string());
        }
        for client in &mut clients {
            for n in 0..1_000 {
                client.expect_event(&channel, "e", &n.to_string());
            }
            client.sync();
        }
    });
}

#[test]
fn pipelined_publishes_arrive_in_their_order() {
    on_shards(|server| {
        let channel = unique("order-");
        let mut clients = subscribers(server, slice::from_ref(&channel));
        let mut http = Http::connect(server);
        let bytes: Vec<u8> = (0..300)
            .flat_map(|n: u32| Request::publish(&A, &channel, "e", &n.to_string()).bytes())
            .collect();
        http.send(bytes);
        for _ in 0..300 {
            http.answer().expect_ok(OK);
        }
        for client in &mut clients {
            for n in 0..300 {
                client.expect_event(&channel, "e", &n.to_string());
            }
            client.sync();
        }
    });
}

#[test]
fn an_answer_orders_publishes_of_several_connections() {
    // HTTP spec 4.2; decisions 1: the home may be any shard, also that of the second publisher.
    on_shards(|server| {
        let channels: Vec<_> = (0..4).map(|_| unique("order-")).collect();
        let mut clients = subscribers(server, &channels);
        let mut publishers: Vec<_> = (0..6).map(|_| Publisher::connect(server)).collect();
        for n in 0..100 {
            for (turn, channel) in channels.iter().enumerate() {
                let publisher = &mut publishers[(n + turn) % 6];
                publisher.publish(channel, "e", &n.to_string());
            }
        }
        for client in &mut clients {
            let mut next = vec![0; channels.len()];
            for _ in 0..100 * channels.len() {
                let event = client.expect("e");
                let nth = channels
                    .iter()
                    .position(|channel| Some(channel) == event.channel.as_ref());
                let next = &mut next[nth.expect("one of ours")];
                assert_eq!(event.text(), next.to_string());
                *next += 1;
            }
            client.sync();
        }
    });
}

#[test]
fn a_publish_to_100_channels_reaches_all_of_them() {
    on_shards(|server| {
        let channels: Vec<_> = (0..100).map(|_| unique("order-")).collect();
        let mut clients = subscribers(server, &channels);
        let mut publisher = Publisher::connect(server);
        for round in 0..3 {
            let data = round.to_string();
            publisher.publish_json(&json!({"name": "e", "channels": channels, "data": data}));
        }
        for client in &mut clients {
            let mut seen = vec![0; 100];
            for _ in 0..300 {
                let event = client.expect("e");
                let nth = channels
                    .iter()
                    .position(|channel| Some(channel) == event.channel.as_ref());
                let seen = &mut seen[nth.expect("one of ours")];
                assert_eq!(event.text(), seen.to_string(), "in order, once");
                *seen += 1;
            }
            client.sync();
        }
    });
}

#[test]
fn publishers_at_the_same_time_are_each_in_order() {
    on_shards(|server| {
        let channel = unique("order-");
        let mut clients = subscribers(server, slice::from_ref(&channel));
        thread::scope(|scope| {
            for publisher in 0..4 {
                let channel = &channel;
                scope.spawn(move || {
                    let mut http = Publisher::connect(server);
                    for n in 0..100 {
                        http.publish(channel, &format!("from-{publisher}"), &n.to_string());
                    }
                });
            }
        });
        let mut order: Option<Vec<(String, String)>> = None;
        for client in &mut clients {
            let mut next = [0; 4];
            let seen: Vec<_> = (0..400)
                .map(|_| {
                    let event = client.event();
                    let from: usize = event.event["from-".len()..].parse().expect("a number");
                    assert_eq!(event.text(), next[from].to_string());
                    next[from] += 1;
                    (event.event.clone(), event.text().to_owned())
                })
                .collect();
            // And everybody sees the same order.
            assert_eq!(order.get_or_insert_with(|| seen.clone()), &seen);
            client.sync();
        }
    });
}

#[test]
fn info_tells_what_applies_to_each_channel() {
    // Case 144.
    on_shards(|server| {
        let (public, presence) = (unique("order-"), unique("presence-order-"));
        let private = unique("private-order-");
        let mut clients = subscribers(server, slice::from_ref(&public));
        let connections = clients.len();
        for (n, client) in clients.iter_mut().enumerate() {
            // Two users, on many connections.
            let user = json!({"user_id": (n % 2).to_string()});
            client.subscribe_presence(&presence, &user);
        }
        let mut publisher = Publisher::connect(server);
        let mut ask = |channels: Value, info: Value| {
            let body = json!({"name": "e", "channels": channels, "data": "", "info": info});
            publisher.publish_json(&body)
        };
        let all = json!([presence, public, private, "#server-to-user-1", presence]);
        let (public, presence, private) = (public.as_str(), presence.as_str(), private.as_str());
        let both = json!({"channels": {
            presence: {"user_count": 2, "subscription_count": connections},
            public: {"subscription_count": connections},
            private: {"subscription_count": 0},
            "#server-to-user-1": {},
        }});
        for info in [
            json!("user_count,subscription_count"),
            json!("subscription_count, user_count ,,unknown,cache"),
            json!(["user_count", "subscription_count"]),
        ] {
            assert_eq!(ask(all.clone(), info), both);
        }
        let users = ask(json!([public, presence]), json!("user_count"));
        assert_eq!(
            users,
            json!({"channels": {public: {}, presence: {"user_count": 2}}})
        );
        for info in [json!(""), json!("unknown"), json!([]), json!("cache")] {
            let answer = ask(json!([public, presence]), info);
            assert_eq!(answer, json!({"channels": {public: {}, presence: {}}}));
        }
        assert_eq!(ask(json!([public]), json!(null)), json!({"ok": true}));
        let mut http = Http::connect(server);
        for info in [json!(5), json!({}), json!([5]), json!(true)] {
            let body = json!({"name": "e", "channel": "c", "data": "", "info": info}).to_string();
            let answer = http.ask(Request::events(&A, body).bytes());
            let text = answer.expect_error(400, "invalid_input");
            assert!(text.contains("info"), "{text}");
        }
    });
}

#[test]
fn a_confirmed_subscription_is_counted_and_one_that_ended_is_not() {
    // Design section 3: counts are asked of the home, behind what its shards have told it.
    on_shards(|server| {
        let channel = unique("order-");
        let mut publisher = Publisher::connect(server);
        let mut clients = Vec::new();
        for count in 1..=8 {
            let mut client = Client::connect(server);
            client.subscribe(&channel);
            clients.push(client);
            assert_eq!(publisher.subscription_count(&channel), count);
        }
        for client in &mut clients {
            client.unsubscribe(&channel);
            // The events of the questions come first.
            client.send_text(r#"{"event":"pusher:ping","data":{}}"#);
            while client.event().event != "pusher:pong" {}
        }
        assert_eq!(publisher.subscription_count(&channel), 0);
    });
}

#[test]
fn counts_are_left_out_where_the_app_does_not_tell_them() {
    let app = App {
        settings: "subscription_count = \"off\"\n",
        ..B
    };
    let server = Server::start(&Config::only(&app, ""), 2);
    let body = json!({
        "name": "e", "channels": ["presence-c", "c"], "data": "",
        "info": "user_count,subscription_count",
    });
    let answer = Publisher::connect_to(&server, app).publish_json(&body);
    assert_eq!(
        answer,
        json!({"channels": {"presence-c": {"user_count": 0}, "c": {}}})
    );
}

#[test]
fn a_publish_that_is_refused_for_overload_reaches_nobody_and_any_other_everybody() {
    // Decisions 28: 503 with Retry-After, and all channels or none.
    let config = Config::standard().set("inbox_depth_max", 16);
    on_shards_with(&config, |server| {
        let channels: Vec<_> = (0..100).map(|_| unique("order-")).collect();
        let mut client = Client::connect(server);
        for channel in &channels {
            client.subscribe(channel);
        }
        let publish = |n: usize| {
            let body = json!({"name": "e", "channels": channels, "data": n.to_string()});
            Request::events(&A, body.to_string()).bytes()
        };
        let bytes: Vec<u8> = (0..50).flat_map(publish).collect();
        let mut http = Http::connect(server);
        http.send(bytes);
        let mut accepted = Vec::new();
        for n in 0..50 {
            let answer = http.answer();
            if answer.status == 200 {
                answer.expect_ok(OK);
                accepted.push(n.to_string());
                continue;
            }
            answer.expect_error(503, "service_unavailable");
            assert_eq!(answer.header("Retry-After"), Some("1"));
            assert!(!answer.closes());
        }
        assert!(!accepted.is_empty() && accepted.len() < 50, "{accepted:?}");
        let mut seen = vec![0; channels.len()];
        for _ in 0..accepted.len() * channels.len() {
            let event = client.expect("e");
            let nth = channels
                .iter()
                .position(|channel| Some(channel) == event.channel.as_ref())
                .expect("one of ours");
            assert_eq!(event.text(), accepted[seen[nth]], "in order, once");
            seen[nth] += 1;
        }
        client.sync();
    });
}
