//! Order: frames of a connection take effect as they came, publishes arrive as they were answered.
//!
//! Where a subscribe has to ask its channel's home, what the connection sent behind it waits; with
//! one shard the home is here, with five it mostly is not, and a client can tell neither.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use support::frame::{CLOSE, FIN, PING, PONG, TEXT};
use support::{A, Client, Config, Event, Publisher};
use support::{client_frame, on_shards, on_shards_with, text_frame, unique};

/// Client events as often as a test likes.
fn without_rate() -> Config {
    Config::only(&A, "client_events_per_sec = 1000000")
}

fn signed_subscribe(client: &Client, channel: &str, user: Option<&str>) -> String {
    let channel_data = user.map(|id| json!({"user_id": id}).to_string());
    let auth = A.auth(&client.socket_id, channel, channel_data.as_deref());
    let mut data = json!({"auth": auth, "channel": channel});
    if let Some(channel_data) = channel_data {
        data["channel_data"] = channel_data.into();
    }
    json!({"event": "pusher:subscribe", "data": data}).to_string()
}

fn client_event(channel: &str, data: &str) -> String {
    json!({"event": "client-x", "channel": channel, "data": data}).to_string()
}

fn unsubscribe(channel: &str) -> String {
    json!({"event": "pusher:unsubscribe", "data": {"channel": channel}}).to_string()
}

const PUSHER_PING: &str = r#"{"event":"pusher:ping"}"#;

// Spec 3.2, decisions 12: wherever the segment is cut.
#[test]
fn what_is_sent_behind_a_subscribe_that_waits_finds_it_subscribed() {
    on_shards_with(&without_rate(), |server| {
        let channel = "presence-cut";
        let mut observer = Client::connect(server);
        observer.subscribe_presence(channel, &json!({"user_id": "observer"}));
        let mut client = Client::connect(server);
        let segment: Vec<u8> = [
            signed_subscribe(&client, channel, Some("u1")),
            client_event(channel, "behind"),
            unsubscribe(channel),
            PUSHER_PING.to_owned(),
        ]
        .iter()
        .flat_map(|text| text_frame(text))
        .collect();
        for at in 0..segment.len() {
            client.tcp.send_cut(&segment, at);
            let roster = client.expect_roster(channel);
            assert_eq!(roster["ids"], json!(["observer", "u1"]), "cut at {at}");
            client.expect("pusher:pong");
            observer.expect("pusher_internal:member_added");
            let event = observer.expect("client-x");
            let (data, user) = (event.text(), event.user_id.as_deref());
            assert_eq!((data, user), ("behind", Some("u1")), "cut at {at}");
            observer.expect("pusher_internal:member_removed");
        }
        client.expect_nothing();
    });
}

// 3.2: answers keep the order of what they answer, whoever has to be asked for them.
#[test]
fn answers_come_in_the_order_of_the_messages() {
    on_shards(|server| {
        for _ in 0..20 {
            let mut client = Client::connect(server);
            let [cache, presence] = [unique("cache-mixed-"), unique("presence-mixed-")];
            let [plain, private] = [unique("mixed-"), unique("private-mixed-")];
            let subscribe = |channel: &str| {
                json!({"event": "pusher:subscribe", "data": {"channel": channel}}).to_string()
            };
            let texts = [
                subscribe(&cache),
                subscribe(&plain),
                signed_subscribe(&client, &presence, Some("u1")),
                subscribe(&cache),
                "garbage".into(),
                signed_subscribe(&client, &private, None),
                PUSHER_PING.into(),
                unsubscribe(&cache),
                subscribe(&cache),
                unsubscribe(&presence),
                unsubscribe(&presence),
                PUSHER_PING.into(),
            ];
            let bytes: Vec<u8> = texts.iter().flat_map(|text| text_frame(text)).collect();
            client.tcp.send(bytes);
            client.expect_subscribed(&cache);
            client.expect("pusher:cache_miss");
            client.expect_subscribed(&plain);
            client.expect_roster(&presence);
            assert!(
                client
                    .expect_error(None)
                    .starts_with("Existing subscription")
            );
            assert_eq!(client.expect_error(None), "Invalid message format");
            client.expect_subscribed(&private);
            client.expect("pusher:pong");
            client.expect_subscribed(&cache);
            client.expect("pusher:cache_miss");
            assert!(
                client
                    .expect_error(None)
                    .starts_with("No current subscription")
            );
            client.expect("pusher:pong");
        }
    });
}

// 3.2: protocol pings and Close are answered out of turn.
#[test]
fn a_protocol_ping_does_not_wait_and_a_close_ends_what_waits() {
    on_shards(|server| {
        let channel = unique("presence-close-");
        let mut watcher = Client::connect(server);
        watcher.subscribe_presence(&channel, &json!({"user_id": "watcher"}));
        for round in 0..20 {
            let mut client = Client::connect(server);
            let mut bytes = text_frame(&signed_subscribe(&client, &channel, Some("u1")));
            bytes.extend(client_frame(FIN | PING, b"now"));
            bytes.extend(text_frame(PUSHER_PING));
            client.tcp.send(&bytes);
            let frames = [client.frame(), client.frame(), client.frame()];
            let pongs = frames.iter().filter(|frame| frame.opcode == PONG);
            assert_eq!(
                pongs.map(|frame| &*frame.payload).collect::<Vec<_>>(),
                [b"now"]
            );
            let texts: Vec<_> = frames
                .iter()
                .filter(|frame| frame.opcode == TEXT)
                .map(|frame| Event::parse(String::from_utf8(frame.payload.clone()).unwrap()).event)
                .collect();
            assert_eq!(
                texts,
                ["pusher_internal:subscription_succeeded", "pusher:pong"]
            );
            watcher.expect("pusher_internal:member_added");
            drop(client);
            watcher.expect("pusher_internal:member_removed");
            // The subscribe may have been answered before the Close was read, or not.
            let mut client = Client::connect(server);
            let mut bytes = text_frame(&signed_subscribe(&client, &channel, Some("u2")));
            bytes.extend(client_frame(FIN | CLOSE, &[3, 232]));
            client.tcp.send_cut(&bytes, (round * 7) % bytes.len());
            loop {
                let frame = client.frame();
                if frame.opcode == CLOSE {
                    assert_eq!(frame.close().0, Some(1000));
                    break;
                }
            }
            client.tcp.expect_end();
            // Whether it was ever a member or not, nobody is left behind.
            let mut publisher = Publisher::connect(server);
            while publisher.user_count(&channel) != 1 {}
            let announced: Vec<_> = watcher
                .events_through("counted")
                .into_iter()
                .filter(|event| event.event != "counted")
                .map(|event| event.event)
                .collect();
            assert!(
                announced.is_empty()
                    || announced
                        == [
                            "pusher_internal:member_added",
                            "pusher_internal:member_removed"
                        ],
                "{announced:?}"
            );
            watcher.sync_amid_events();
        }
    });
}

// 7.3: the success frame is the commit point, for whoever publishes wherever.
#[test]
fn what_is_published_after_the_success_frame_arrives() {
    on_shards(|server| {
        let mut publishers = [(); 4].map(|()| Publisher::connect(server));
        for prefix in ["plain-", "cache-", "private-", "presence-"] {
            for round in 0..40 {
                let channel = unique(prefix);
                let mut client = Client::connect(server);
                match prefix {
                    "private-" => client.subscribe_private(&channel),
                    "presence-" => {
                        client.subscribe_presence(&channel, &json!({"user_id": "u"}));
                    }
                    _ => client.subscribe(&channel),
                }
                if prefix == "cache-" {
                    client.expect("pusher:cache_miss");
                }
                publishers[round % 4].publish(&channel, "e", "x");
                client.expect_event(&channel, "e", "x");
            }
        }
    });
}

// Decisions 1; 13: an answered publish is in front of every later subscribe.
#[test]
fn a_subscribe_behind_an_answered_publish_never_misses_it() {
    on_shards(|server| {
        let mut publishers = [(); 4].map(|()| Publisher::connect(server));
        let mut clients = [(); 4].map(|()| Client::connect(server));
        for round in 0..150 {
            let channel = unique("cache-answered-");
            publishers[round % 4].publish(&channel, "e", "x");
            let client = &mut clients[(round / 4) % 4];
            client.subscribe(&channel);
            client.expect_event(&channel, "e", "x");
        }
    });
}

// 9.3 and decisions 1: the order of a channel is the order of the answers, whoever gave them.
#[test]
fn publishes_over_several_connections_arrive_in_the_order_of_their_answers() {
    on_shards(|server| {
        let channel = unique("order-");
        let mut clients: Vec<_> = (0..6).map(|_| Client::connect(server)).collect();
        for client in &mut clients {
            client.subscribe(&channel);
        }
        let mut publishers: Vec<_> = (0..5).map(|_| Publisher::connect(server)).collect();
        for n in 0..200 {
            publishers[n % 5].publish(&channel, "e", &n.to_string());
        }
        for client in &mut clients {
            for n in 0..200 {
                client.expect_event(&channel, "e", &n.to_string());
            }
        }
    });
}

// 9.3: likewise the events of one client.
#[test]
fn client_events_arrive_in_the_order_in_which_they_were_sent() {
    on_shards_with(&without_rate(), |server| {
        let channel = "private-order";
        let mut others: Vec<_> = (0..5).map(|_| Client::connect(server)).collect();
        for other in &mut others {
            other.subscribe_private(channel);
        }
        let mut sender = Client::connect(server);
        sender.subscribe_private(channel);
        let bytes: Vec<u8> = (0..300)
            .flat_map(|n| text_frame(&client_event(channel, &n.to_string())))
            .collect();
        sender.tcp.send(bytes);
        for other in &mut others {
            for n in 0..300 {
                assert_eq!(other.expect("client-x").text(), n.to_string());
            }
        }
        sender.sync();
    });
}

// Decisions 1 and 9.3: what one connection did before, in either way, is before.
#[test]
fn a_client_event_is_in_front_of_a_publish_that_its_pong_has_triggered() {
    on_shards_with(&without_rate(), |server| {
        let channel = "private-trigger";
        let mut observer = Client::connect(server);
        observer.subscribe_private(channel);
        let mut sender = Client::connect(server);
        sender.subscribe_private(channel);
        let mut publisher = Publisher::connect(server);
        for n in 0..100 {
            sender.send_text(&client_event(channel, &n.to_string()));
            sender.sync_amid_events();
            publisher.publish(channel, "api", &n.to_string());
            assert_eq!(observer.expect("client-x").text(), n.to_string());
            assert_eq!(observer.expect("api").text(), n.to_string());
        }
    });
}

// Case 149; 8: from the pong on, nothing of the channel is enqueued.
#[test]
fn after_the_pong_behind_an_unsubscribe_nothing_of_the_channel_comes() {
    on_shards(|server| {
        let channel = unique("leaving-");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut publisher = Publisher::connect(server);
                while !stop.load(Ordering::Relaxed) {
                    publisher.publish(&channel, "e", "x");
                }
            });
            let stops = StopsAtEnd(&stop);
            let mut client = Client::connect(server);
            for _ in 0..100 {
                client.subscribe(&channel);
                client.expect_event(&channel, "e", "x");
                client.unsubscribe(&channel);
                client.sync_amid_events();
                // Only the pong of this ping comes.
                client.sync();
            }
            drop(stops);
        });
    });
}

/// Also where the test fails, which would else wait for its flood for ever.
struct StopsAtEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// 9.3: one connection's frames are in order although it is subscribed on all shards' channels.
#[test]
fn each_of_many_channels_keeps_its_own_order() {
    on_shards(|server| {
        let channels: Vec<_> = (0..8).map(|_| unique("many-")).collect();
        let mut client = Client::connect(server);
        for channel in &channels {
            client.subscribe(channel);
        }
        thread::scope(|scope| {
            for some in channels.chunks(2) {
                scope.spawn(move || {
                    let mut publisher = Publisher::connect(server);
                    for n in 0..50 {
                        let body = json!({"name": "e", "channels": some, "data": n.to_string()});
                        publisher.publish_json(&body);
                    }
                });
            }
        });
        let mut next = vec![0; channels.len()];
        for _ in 0..8 * 50 {
            let event = client.expect("e");
            let channel = event.channel.clone().unwrap();
            let index = channels.iter().position(|c| *c == channel).unwrap();
            assert_eq!(event.text(), next[index].to_string(), "{channel}");
            next[index] += 1;
        }
        client.sync();
    });
}
