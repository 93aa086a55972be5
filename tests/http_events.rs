//! To whom an event goes (HTTP spec 4.1, 4.2; cases K): its channels, all or none of them, and the
//! one connection that is left out.
//!
//! Its other fields are in `http_bodies`, batches in `http_batch`, order and counts in
//! `http_publish_order`.

mod support;

use serde_json::json;

use support::http::{OK, event_with, event_without, post_event};
use support::{B, Client, on_shards, unique};

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
        post_event(server, event_with("", members)).expect_ok(OK);
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
            post_event(server, event_with("", members.clone())).expect_ok(OK);
        }
        for client in &mut others {
            for _ in 0..3 {
                client.expect_event(&channels[0], "e", "d");
            }
            client.sync();
        }
        post_event(
            server,
            event_with("", json!({"channels": channels, "data": "to all"})),
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
            post_event(server, event_with(&channel, json!({"socket_id": id}))).expect_ok(OK);
            client.expect_event(&channel, "e", "d");
        }
        let long = format!("{}.1", "9".repeat(40));
        post_event(server, event_with(&channel, json!({"socket_id": long}))).expect_ok(OK);
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
            let answer = post_event(server, event_with(&channel, json!({"socket_id": id})));
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
            post_event(server, event_with("", json!({"channels": channels}))).expect_ok(OK);
            client.expect_event(&channel, "e", "d");
            client.sync();
        }
        post_event(server, event_with(&channel, json!({"channels": null}))).expect_ok(OK);
        client.expect_event(&channel, "e", "d");
        for channels in [json!([]), json!(many(101)), json!(vec![&channel; 101])] {
            let answer = post_event(server, event_with(&channel, json!({"channels": channels})));
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
            let answer = post_event(server, event_with(&channel, json!({"channels": channels})));
            let text = answer.expect_error(400, "invalid_input");
            assert!(text.contains("channels"), "{channels}: {text}");
        }
        for one in [json!(5), json!([channel]), json!({})] {
            let answer = post_event(server, event_with("", json!({"channel": one})));
            let text = answer.expect_error(400, "invalid_input");
            assert!(text.contains("'channel'"), "{one}: {text}");
        }
        for none in [
            event_without("", "channel"),
            event_with("", json!({"channel": null})),
        ] {
            let text = post_event(server, none).expect_error(400, "invalid_input");
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
                let answer = post_event(server, event_with("", json!({"channels": channels})));
                answer.expect_error(400, "invalid_input");
            }
            post_event(server, event_with(bad, json!({}))).expect_error(400, "invalid_input");
        }
        // Names of a reserved type are forbidden rather than wrong.
        for bad in ["#x", "#", "#server-to-user-", "#server-to-users-1"] {
            let mut channels = good.clone();
            channels.push(bad.into());
            let answer = post_event(server, event_with("", json!({"channels": channels})));
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
        post_event(server, event_with("#x", json!({}))).expect_error(403, "forbidden");
        client.sync();
        let all = "aZ0_-=@,.;".to_owned() + &"c".repeat(190);
        post_event(server, event_with(&all, json!({}))).expect_ok(OK);
        post_event(server, event_with("#server-to-user-somebody", json!({}))).expect_ok(OK);
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
            let answer = post_event(server, event_with("", json!({"channels": channels})));
            answer.expect_error(400, "invalid_input");
        }
        client.sync();
        let sealed = r#"{"nonce":"bm9uY2U=","ciphertext":"Y2lwaGVy"}"#;
        for members in [
            json!({"channels": [encrypted], "data": sealed}),
            json!({"channels": [encrypted, encrypted], "data": sealed}),
        ] {
            post_event(server, event_with("", members)).expect_ok(OK);
            client.expect_event(&encrypted, "e", sealed);
        }
        client.sync();
    });
}
