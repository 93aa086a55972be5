//! Tag filters: who gets which event, and what a bad filter is answered (extensions spec 2).

mod support;

use serde_json::{Value, json};

use support::websocket::WebSocket;
use support::{A, Client, Config, Publisher, Server, on_shards, on_shards_with, unique};

/// Sends the subscribe of a channel, signed, with more members of `data`.
fn send_subscribe(client: &mut Client, channel: &str, members: &Value) {
    let mut data = members.clone();
    data["channel"] = channel.into();
    data["auth"] = client.app.auth(&client.socket_id, channel, None).into();
    client.send(&json!({"event": "pusher:subscribe", "data": data}));
}

/// A new client of app A, subscribed with these members.
fn subscribed(server: &Server, channel: &str, members: &Value) -> Client {
    let mut client = Client::connect(server);
    send_subscribe(&mut client, channel, members);
    client.expect_subscribed(channel);
    client
}

fn publish(publisher: &mut Publisher, channel: &str, event: &str, data: &str, tags: &Value) {
    let body = json!({"name": event, "channel": channel, "data": data, "tags": tags});
    publisher.publish_json(&body);
}

fn eq(key: &str, value: &str) -> Value {
    json!({"key": key, "cmp": "eq", "val": value})
}

// Peers 23: filters of clients of Pusher's protocol take effect.
#[test]
fn a_subscriber_with_a_filter_gets_what_passes_and_others_get_everything() {
    on_shards(|server| {
        let channel = unique("ticker-");
        let mut plain = Client::connect(server);
        plain.subscribe(&channel);
        let both = json!({"op": "and", "nodes": [
            eq("market", "spot"),
            {"key": "asset", "cmp": "in", "vals": ["BTC", "ETH"]},
        ]});
        let mut filtered: Vec<Client> = (0..3)
            .map(|_| subscribed(server, &channel, &json!({"filter": both})))
            .collect();
        let not = json!({"tags_filter": {"op": "not", "nodes": [eq("market", "spot")]}});
        let mut others = subscribed(server, &channel, &not);
        let mut publisher = Publisher::connect(server);
        let spot = |asset: &str| json!({"market": "spot", "asset": asset});
        publish(&mut publisher, &channel, "tick", "1", &spot("BTC"));
        publish(&mut publisher, &channel, "tick", "2", &spot("XRP"));
        publish(
            &mut publisher,
            &channel,
            "tick",
            "3",
            &json!({"market": "perp"}),
        );
        publisher.publish(&channel, "tick", "4");
        publish(&mut publisher, &channel, "tick", "5", &spot("ETH"));
        let text =
            |data: &str| format!(r#"{{"event":"tick","channel":"{channel}","data":"{data}"}}"#);
        for data in ["1", "2", "3", "4", "5"] {
            assert_eq!(plain.text(), text(data));
        }
        for client in &mut filtered {
            for data in ["1", "5"] {
                assert_eq!(client.text(), text(data));
            }
            client.sync();
        }
        for data in ["3", "4"] {
            assert_eq!(others.text(), text(data));
        }
        others.sync();
        plain.sync();
    });
}

#[test]
fn a_list_of_names_filters_beside_a_tree_or_without_one() {
    on_shards(|server| {
        let channel = unique("names-");
        let names = json!(["tick", "trade"]);
        let compound = json!({"events": names, "tags": eq("market", "spot")});
        let mut clients = [
            subscribed(server, &channel, &json!({"filter": compound})),
            subscribed(
                server,
                &channel,
                &json!({"filter": eq("market", "spot"), "events": names}),
            ),
        ];
        let mut by_name = subscribed(server, &channel, &json!({"events": names}));
        let mut publisher = Publisher::connect(server);
        let spot = json!({"market": "spot"});
        publish(&mut publisher, &channel, "tick", "1", &spot);
        publish(&mut publisher, &channel, "book", "2", &spot);
        publish(&mut publisher, &channel, "trade", "3", &json!({}));
        publish(&mut publisher, &channel, "tr\u{61}de", "4", &spot);
        for client in &mut clients {
            client.expect_event(&channel, "tick", "1");
            client.expect_event(&channel, "trade", "4");
            client.sync();
        }
        by_name.expect_event(&channel, "tick", "1");
        by_name.expect_event(&channel, "trade", "3");
        by_name.expect_event(&channel, "trade", "4");
        by_name.sync();
    });
}

#[test]
fn every_event_of_a_batch_has_its_own_tags() {
    on_shards(|server| {
        let channel = unique("batch-");
        let mut client = subscribed(server, &channel, &json!({"filter": eq("n", "1")}));
        let event = |data: &str, tags: Value| json!({"name": "e", "channel": channel, "data": data, "tags": tags});
        let batch = json!({"batch": [
            event("a", json!({"n": 1})), event("b", json!({"n": 2})), event("c", json!({"n": "1"})),
        ]});
        let mut publisher = Publisher::connect(server);
        let response = publisher.post("batch_events", batch.to_string().as_bytes());
        assert_eq!(response.status, 200, "{}", response.text());
        client.expect_event(&channel, "e", "a");
        client.expect_event(&channel, "e", "c");
        client.sync();
    });
}

#[test]
fn a_bad_filter_is_refused_and_subscribes_to_nothing() {
    on_shards(|server| {
        let channel = unique("bad-");
        let mut client = Client::connect(server);
        let deep = (0..20).fold(
            eq("a", "b"),
            |node, _| json!({"op": "not", "nodes": [node]}),
        );
        let wide = json!({"op": "or", "nodes": vec![eq("a", "b"); 200]});
        for filter in [
            json!({}),
            json!({"key": "a", "cmp": "like", "val": "b"}),
            json!({"op": "and", "nodes": []}),
            json!({"op": "not", "nodes": [eq("a", "b"), eq("a", "c")]}),
            eq("", "b"),
            eq("a", &"x".repeat(257)),
            deep,
            wide,
            json!("market = spot"),
        ] {
            send_subscribe(&mut client, &channel, &json!({"filter": filter}));
            let message = client.expect_refused(&channel, None, "InvalidFilter", 400);
            assert!(message.starts_with("Invalid filter: "), "{message}");
        }
        send_subscribe(&mut client, &channel, &json!({"events": "tick"}));
        client.expect_refused(&channel, None, "InvalidFilter", 400);
        assert_eq!(Publisher::connect(server).subscription_count(&channel), 0);
        client.sync();
        // Authorisation is checked first: nobody learns about filters of what is not theirs.
        let channel = unique("private-bad-");
        client.send(&json!({"event": "pusher:subscribe", "data": {
            "channel": channel, "auth": "x:y", "filter": {},
        }}));
        client.expect_refused(&channel, 4009, "AuthError", 401);
        client.sync();
    });
}

// Peers 23: where filtering is off a filter is refused, not ignored.
#[test]
fn where_filtering_is_off_a_filter_is_refused_and_tags_are_checked() {
    let config = Config::default().set("tag_filtering", false).app(&A, "");
    on_shards_with(&config, |server| {
        let channel = unique("off-");
        let mut client = Client::connect(server);
        for members in [json!({"filter": eq("a", "b")}), json!({"events": ["tick"]})] {
            send_subscribe(&mut client, &channel, &members);
            client.expect_refused(&channel, None, "InvalidFilter", 400);
        }
        client.subscribe(&channel);
        let mut publisher = Publisher::connect(server);
        publish(&mut publisher, &channel, "tick", "1", &json!({"a": "c"}));
        client.expect_event(&channel, "tick", "1");
        let body = json!({"name": "tick", "channel": channel, "data": "2", "tags": 5});
        let response = publisher.post("events", body.to_string().as_bytes());
        assert_eq!(response.status, 400);
        client.sync();
    });
}

#[test]
fn client_events_are_filtered_as_events_without_tags() {
    on_shards(|server| {
        let channel = unique("private-client-");
        let mut sender = Client::connect(server);
        sender.subscribe_private(&channel);
        let mut by_name = subscribed(server, &channel, &json!({"events": ["client-x"]}));
        let absent = json!({"filter": {"key": "market", "cmp": "nex"}});
        let mut absent = subscribed(server, &channel, &absent);
        let mut present = subscribed(server, &channel, &json!({"filter": eq("market", "spot")}));
        for event in ["client-x", "client-y"] {
            sender.send(&json!({"event": event, "channel": channel, "data": "1"}));
        }
        by_name.expect_event(&channel, "client-x", "1");
        absent.expect_event(&channel, "client-x", "1");
        absent.expect_event(&channel, "client-y", "1");
        for client in [&mut by_name, &mut absent, &mut present] {
            sender.sync();
            client.sync();
        }
    });
}

#[test]
fn a_cached_event_is_offered_to_the_filter_with_its_tags() {
    on_shards(|server| {
        let channel = unique("cache-tagged-");
        let mut publisher = Publisher::connect(server);
        publish(
            &mut publisher,
            &channel,
            "tick",
            "1",
            &json!({"market": "spot"}),
        );
        let mut hit = subscribed(server, &channel, &json!({"filter": eq("market", "spot")}));
        hit.expect_event(&channel, "tick", "1");
        hit.sync();
        let mut miss = subscribed(server, &channel, &json!({"filter": eq("market", "perp")}));
        let missed = miss.expect("pusher:cache_miss");
        assert_eq!(missed.channel.as_deref(), Some(&*channel));
        miss.sync();
    });
}

#[test]
fn platform_events_are_not_filtered() {
    on_shards(|server| {
        let channel = unique("presence-tagged-");
        let mut first = Client::connect(server);
        let data = json!({"user_id": "u1"}).to_string();
        let auth = A.auth(&first.socket_id, &channel, Some(&data));
        first.send(&json!({"event": "pusher:subscribe", "data": {
            "channel": channel, "auth": auth, "channel_data": data, "events": ["nothing"],
        }}));
        first.expect_roster(&channel);
        let mut second = Client::connect(server);
        second.subscribe_presence(&channel, &json!({"user_id": "u2"}));
        first.expect("pusher_internal:member_added");
        Publisher::connect(server).publish(&channel, "tick", "1");
        second.expect_event(&channel, "tick", "1");
        drop(second);
        first.expect("pusher_internal:member_removed");
        first.sync();
    });
}

#[test]
fn the_publisher_is_left_out_whatever_its_filter() {
    on_shards(|server| {
        let channel = unique("except-");
        let mut one = subscribed(server, &channel, &json!({"filter": eq("n", "1")}));
        let mut two = subscribed(server, &channel, &json!({"filter": eq("n", "1")}));
        let mut plain = Client::connect(server);
        plain.subscribe(&channel);
        let mut publisher = Publisher::connect(server);
        for (data, socket_id) in [("a", &one.socket_id), ("b", &plain.socket_id)] {
            publisher.publish_json(&json!({
                "name": "e", "channel": channel, "data": data, "tags": {"n": 1},
                "socket_id": socket_id,
            }));
        }
        one.expect_event(&channel, "e", "b");
        two.expect_event(&channel, "e", "a");
        two.expect_event(&channel, "e", "b");
        plain.expect_event(&channel, "e", "a");
        for client in [&mut one, &mut two, &mut plain] {
            client.sync();
        }
    });
}

#[test]
fn whoever_subscribes_anew_has_the_filter_of_the_new_subscription() {
    on_shards(|server| {
        let channel = unique("again-");
        let mut client = subscribed(server, &channel, &json!({"filter": eq("n", "1")}));
        let mut publisher = Publisher::connect(server);
        for (filter, data) in [(json!({"filter": eq("n", "2")}), "2"), (json!({}), "3")] {
            client.unsubscribe(&channel);
            send_subscribe(&mut client, &channel, &filter);
            client.expect_subscribed(&channel);
            publish(&mut publisher, &channel, "e", data, &json!({"n": data}));
            client.expect_event(&channel, "e", data);
        }
        client.sync();
    });
}

#[test]
fn tags_are_shown_to_those_who_filter_where_the_app_wants_it() {
    let config = Config::only(&A, "tags_in_messages = true\n");
    on_shards_with(&config, |server| {
        let channel = unique("cache-shown-");
        let mut plain = Client::connect(server);
        plain.subscribe(&channel);
        plain.expect("pusher:cache_miss");
        let mut filtered = subscribed(server, &channel, &json!({"events": ["e"]}));
        filtered.expect("pusher:cache_miss");
        let mut publisher = Publisher::connect(server);
        publish(
            &mut publisher,
            &channel,
            "e",
            "1",
            &json!({"a": 2, "b": "\""}),
        );
        let text = format!(r#"{{"event":"e","channel":"{channel}","data":"1"}}"#);
        assert_eq!(plain.text(), text);
        let tagged = format!(
            r#"{{"event":"e","channel":"{channel}","data":"1","tags":{{"a":"2","b":"\""}}}}"#
        );
        assert_eq!(filtered.text(), tagged);
        // The cached event too.
        let mut late = Client::connect(server);
        send_subscribe(&mut late, &channel, &json!({"events": ["e"]}));
        late.expect_subscribed(&channel);
        assert_eq!(late.text(), tagged);
        // What has no tags has no such member.
        publisher.publish(&channel, "e", "2");
        let text = format!(r#"{{"event":"e","channel":"{channel}","data":"2"}}"#);
        for client in [&mut plain, &mut filtered, &mut late] {
            assert_eq!(client.text(), text);
        }
    });
}

#[test]
fn different_filters_of_a_channel_have_a_bound() {
    let config = Config::default().set("filters_channel_max", 2).app(&A, "");
    let server = &Server::start(&config, 1);
    let channel = unique("many-");
    let with = |n: &str| json!({"filter": eq("n", n)});
    let one = subscribed(server, &channel, &with("1"));
    let _two = subscribed(server, &channel, &with("2"));
    // One that is known costs nothing; nor does none at all.
    let _also_two = subscribed(server, &channel, &with("2"));
    Client::connect(server).subscribe(&channel);
    let mut client = Client::connect(server);
    send_subscribe(&mut client, &channel, &with("3"));
    client.expect_refused(&channel, 4100, "LimitReached", 4100);
    send_subscribe(&mut client, &unique("many-"), &with("3"));
    client.expect("pusher_internal:subscription_succeeded");
    one.into_socket().close(1000);
    send_subscribe(&mut client, &channel, &with("3"));
    client.expect_subscribed(&channel);
}

// A publish asks all filters of a channel, so they may not have all that a shard has.
#[test]
fn the_filters_of_a_channel_have_a_bound_in_bytes() {
    let config = Config::default()
        .set("filters_shard_bytes_max", 65_536)
        .app(&A, "");
    let server = &Server::start(&config, 1);
    let channel = unique("long-");
    let with = |n: &str| {
        let values: Vec<String> = (0..10)
            .map(|nth| n.repeat(250) + &nth.to_string())
            .collect();
        json!({"filter": {"key": "n", "cmp": "in", "vals": values}})
    };
    let _one = subscribed(server, &channel, &with("1"));
    let mut client = Client::connect(server);
    send_subscribe(&mut client, &channel, &with("2"));
    client.expect_refused(&channel, 4100, "LimitReached", 4100);
    // One that is known, and another channel.
    send_subscribe(&mut client, &channel, &with("1"));
    client.expect_subscribed(&channel);
    send_subscribe(&mut client, &unique("long-"), &with("2"));
    client.expect("pusher_internal:subscription_succeeded");
}

// Extensions spec 1: the same for clients of protocol 2.
#[test]
fn clients_of_protocol_2_filter_likewise() {
    on_shards(|server| {
        let channel = unique("two-");
        let mut socket = WebSocket::open(server, &A.target_with("protocol=2"));
        socket.text();
        let data = json!({"channel": channel, "tags_filter": eq("n", "1")});
        socket.send_text(&json!({"event": "sockudo:subscribe", "data": data}).to_string());
        socket.text();
        let mut publisher = Publisher::connect(server);
        for n in ["2", "1"] {
            publish(&mut publisher, &channel, "e", n, &json!({"n": n}));
        }
        assert_eq!(
            socket.text(),
            format!(r#"{{"event":"e","channel":"{channel}","data":"1"}}"#)
        );
    });
}
