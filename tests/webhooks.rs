//! What back ends are told, and what not: each kind of event, its members, its delay (webhooks 4
//! and 5). The receiver checks headers, signature and members of everything that comes.
//!
//! Endpoints take one request at a time here, so that what comes is in order.

mod support;

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use support::presence::user;
use support::receiver::ALL;
use support::{A, Client, Config, Posted, Publisher, Receiver, on_shards_with_receiver};

const DELAY: Duration = Duration::from_secs(2);
/// Longer than that, and what may follow it.
const AFTER_DELAY: Duration = Duration::from_millis(2_500);

fn config(receiver: &Receiver) -> Config {
    let endpoint = receiver.endpoint(&ALL, "parallel_max = 1");
    Config::only(&A, &endpoint).set("webhook_delay_ms", DELAY.as_millis())
}

fn occupied(channel: &str) -> Value {
    json!({"name": "channel_occupied", "channel": channel})
}

fn vacated(channel: &str) -> Value {
    json!({"name": "channel_vacated", "channel": channel})
}

fn added(channel: &str, user_id: &str) -> Value {
    json!({"name": "member_added", "channel": channel, "user_id": user_id})
}

fn removed(channel: &str, user_id: &str) -> Value {
    json!({"name": "member_removed", "channel": channel, "user_id": user_id})
}

/// Channels whose occupation says that all homes have told what happened before. So many that
/// hardly a home has none of them.
const MARKERS: usize = 48;

/// All events up to those of subscriptions that come now, without these: what was caused before
/// has come.
fn events_until_now(receiver: &Receiver, client: &mut Client) -> Vec<Value> {
    let prefix = support::unique("marker-");
    for n in 0..MARKERS {
        client.subscribe(&format!("{prefix}-{n}"));
    }
    let is_marker = |event: &Value| event["channel"].as_str().unwrap().starts_with("marker-");
    let all =
        |posted: &[Posted]| -> Vec<Value> { posted.iter().flat_map(|p| p.events(&A)).collect() };
    let posted = receiver.wait(|posted| {
        let has_come = |n| all(posted).contains(&occupied(&format!("{prefix}-{n}")));
        (0..MARKERS).all(has_come)
    });
    for n in 0..MARKERS {
        client.unsubscribe(&format!("{prefix}-{n}"));
    }
    all(&posted)
        .into_iter()
        .filter(|event| !is_marker(event))
        .collect()
}

/// At least the delay; a shard's time is that of its turn, a little before what it handles.
#[track_caller]
fn assert_delayed(waited_ms: u64) {
    assert!(waited_ms + 100 >= DELAY.as_millis() as u64, "{waited_ms}");
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}

// Case 168.
#[test]
fn the_first_subscriber_of_a_channel_is_one_request() {
    on_shards_with_receiver(config, |server, receiver| {
        let before = now_ms();
        let mut client = Client::connect(server);
        client.subscribe("news");
        let posted = receiver.wait(|posted| !posted.is_empty());
        let [posted] = &posted[..] else {
            panic!("{posted:#?}");
        };
        assert!(posted.head.starts_with("POST /hook HTTP/1.1\r\n"));
        assert_eq!(posted.events(&A), [occupied("news")]);
        let time_ms = posted.json()["time_ms"].as_u64().unwrap();
        assert!((before..=posted.unix_ms).contains(&time_ms));
        let body = format!(
            r#"{{"time_ms":{time_ms},"events":[{{"name":"channel_occupied","channel":"news"}}]}}"#
        );
        assert_eq!(posted.body, body.as_bytes());
        receiver.expect_silence(Duration::from_millis(300));
    });
}

// Case 169.
#[test]
fn a_channel_is_vacated_when_its_last_subscriber_has_been_gone_for_a_while() {
    on_shards_with_receiver(config, |server, receiver| {
        let [mut first, mut second] = [(); 2].map(|()| Client::connect(server));
        first.subscribe("room");
        second.subscribe("room");
        first.unsubscribe("room");
        first.sync();
        assert_eq!(events_until_now(receiver, &mut first), [occupied("room")]);
        let left_ms = now_ms();
        // An unsubscribe and a lost connection are alike: here it is lost.
        drop(second);
        let told = |posted: &Posted| posted.events(&A).contains(&vacated("room"));
        let posted = receiver.wait(|posted| posted.iter().any(told));
        let came_ms = posted.iter().find(|p| told(p)).unwrap().unix_ms;
        assert_delayed(came_ms - left_ms);
        assert_eq!(
            events_until_now(receiver, &mut first),
            [occupied("room"), vacated("room")]
        );
        // And occupied again.
        first.subscribe("room");
        first.unsubscribe("room");
        thread::sleep(AFTER_DELAY);
        let twice = [occupied("room"), vacated("room")];
        assert_eq!(
            events_until_now(receiver, &mut first),
            [&twice[..], &twice].concat()
        );
    });
}

// Case 169; webhooks 5.2.
#[test]
fn who_leaves_and_returns_within_the_delay_is_not_reported() {
    on_shards_with_receiver(config, |server, receiver| {
        let mut client = Client::connect(server);
        client.subscribe("room");
        for _ in 0..3 {
            client.unsubscribe("room");
            client.subscribe("room");
        }
        // Another one takes its place.
        let mut other = Client::connect(server);
        client.unsubscribe("room");
        client.sync();
        other.subscribe("room");
        thread::sleep(AFTER_DELAY);
        assert_eq!(events_until_now(receiver, &mut client), [occupied("room")]);
    });
}

// Case 170.
#[test]
fn a_user_is_added_and_removed_once_however_many_connections_it_has() {
    on_shards_with_receiver(config, |server, receiver| {
        let channel = "presence-room";
        let [mut first, mut second, mut third] = [(); 3].map(|()| Client::connect(server));
        first.subscribe_presence(channel, &user("ann"));
        second.subscribe_presence(channel, &user("ann"));
        third.subscribe_presence(channel, &user("bob"));
        let come = [
            occupied(channel),
            added(channel, "ann"),
            added(channel, "bob"),
        ];
        let mut watcher = Client::connect(server);
        assert_eq!(events_until_now(receiver, &mut watcher), come);
        drop(first);
        thread::sleep(AFTER_DELAY);
        assert_eq!(events_until_now(receiver, &mut watcher), come);
        // Clients see it at once, back ends after the delay.
        let left_ms = now_ms();
        drop(second);
        third.events_through("pusher_internal:member_removed");
        let told = |posted: &Posted| posted.events(&A).contains(&removed(channel, "ann"));
        let posted = receiver.wait(|posted| posted.iter().any(told));
        let came_ms = posted.iter().find(|p| told(p)).unwrap().unix_ms;
        assert_delayed(came_ms - left_ms);
        // Gone and back within the delay is nothing, on the same connection and on another.
        third.unsubscribe(channel);
        third.subscribe_presence(channel, &user("bob"));
        drop(third);
        let mut back = Client::connect(server);
        back.subscribe_presence_amid_events(channel, &user("bob"));
        thread::sleep(AFTER_DELAY);
        let mut expected = come.to_vec();
        expected.push(removed(channel, "ann"));
        assert_eq!(events_until_now(receiver, &mut watcher), expected);
        drop(back);
        receiver.events_through(&A, &vacated(channel));
        expected.extend([removed(channel, "bob"), vacated(channel)]);
        assert_eq!(events_until_now(receiver, &mut watcher), expected);
    });
}

// Case 171.
#[test]
fn accepted_client_events_are_told_with_their_data_as_a_string() {
    on_shards_with_receiver(config, |server, receiver| {
        let (private, presence) = ("private-chat", "presence-chat");
        let mut client = Client::connect(server);
        client.subscribe_private(private);
        client.subscribe_presence(presence, &user("ann"));
        let socket_id = client.socket_id.clone();
        let send = |client: &mut Client, channel: &str, event: &str, data: Value| {
            client.send(&json!({"event": event, "channel": channel, "data": data}));
        };
        send(&mut client, private, "client-a", json!({"on": true}));
        send(
            &mut client,
            presence,
            "client-b",
            json!("text \"and\" \u{1f600}"),
        );
        // Refused: a name without prefix, a channel that is not subscribed.
        send(&mut client, private, "typing", json!("x"));
        client.expect_error(None);
        send(&mut client, "private-other", "client-c", json!("x"));
        client.expect("pusher:error");
        // What the API publishes is no client event, whatever its name.
        let mut publisher = Publisher::connect(server);
        publisher.publish_json(&json!({"name": "client-x", "channel": private, "data": "d"}));
        client.expect_event(private, "client-x", "d");
        let mut events = events_until_now(receiver, &mut client);
        events.retain(|event| event["name"] == "client_event");
        // Two channels have two homes.
        events.sort_by_key(|event| event["event"].to_string());
        let expected = [
            json!({
                "name": "client_event", "channel": private, "event": "client-a",
                "data": "{\"on\":true}", "socket_id": socket_id
            }),
            json!({
                "name": "client_event", "channel": presence, "event": "client-b",
                "data": "text \"and\" \u{1f600}", "socket_id": socket_id, "user_id": "ann"
            }),
        ];
        assert_eq!(events, expected);
    });
}

// Case 172.
#[test]
fn a_cache_miss_is_told_once_for_all_who_arrive_together() {
    on_shards_with_receiver(config, |server, receiver| {
        let miss = json!({"name": "cache_miss", "channel": "cache-x"});
        let mut clients: Vec<_> = (0..20).map(|_| Client::connect(server)).collect();
        for client in &mut clients {
            client.send_subscribe("cache-x");
        }
        for client in &mut clients {
            client.expect_subscribed("cache-x");
            client.expect("pusher:cache_miss");
        }
        let told = events_until_now(receiver, &mut clients[0]);
        assert_eq!(told, [occupied("cache-x"), miss]);
        // With something in the cache there is none.
        let mut publisher = Publisher::connect(server);
        publisher.publish_json(&json!({"name": "e", "channel": "cache-x", "data": "d"}));
        let mut late = Client::connect(server);
        late.subscribe("cache-x");
        late.expect_event("cache-x", "e", "d");
        assert_eq!(events_until_now(receiver, &mut late), told);
    });
}

// Case 172.
#[test]
fn the_number_of_subscribers_is_told_as_a_number() {
    let counted = |receiver: &Receiver| {
        let endpoint = receiver.endpoint(&["subscription_count"], "parallel_max = 1");
        Config::only(&A, &format!("subscription_count = \"on\"\n{endpoint}"))
    };
    on_shards_with_receiver(counted, |server, receiver| {
        let count = |count: u32| json!({"name": "subscription_count", "channel": "news", "subscription_count": count});
        let [mut first, mut second] = [(); 2].map(|()| Client::connect(server));
        first.send_subscribe("news");
        receiver.events_through(&A, &count(1));
        second.send_subscribe("news");
        receiver.events_through(&A, &count(2));
        // Not of presence channels, which have members.
        first.send_signed("presence-x", Some(&user("ann").to_string()));
        first.unsubscribe("news");
        second.unsubscribe("news");
        let events = receiver.events_through(&A, &count(0));
        assert_eq!(events, [1, 2, 1, 0].map(count));
    });
}

// Case 173; soketi posts the unfiltered payload with the signature of the filtered one, or the other
// way round. The receiver checks the signature over what has come.
#[test]
fn an_endpoint_is_sent_what_it_asked_for_and_nothing_else() {
    let others = |receiver: &Receiver| {
        let kind = receiver.endpoint(&["channel_vacated"], "parallel_max = 1");
        let begin = receiver
            .endpoint(&ALL, "channel_prefix = \"private-\"\nparallel_max = 1")
            .replace("/hook", "/prefix");
        let end = receiver
            .endpoint(&ALL, "channel_suffix = \"-eu\"\nparallel_max = 1")
            .replace("/hook", "/suffix");
        Config::only(&A, &format!("{kind}{begin}{end}")).set("webhook_delay_ms", 0)
    };
    on_shards_with_receiver(others, |server, receiver| {
        let mut client = Client::connect(server);
        client.subscribe("a-us");
        client.subscribe("a-eu");
        client.subscribe_private("private-a");
        client.subscribe_private("private-b-eu");
        for channel in ["a-us", "a-eu", "private-a", "private-b-eu"] {
            client.unsubscribe(channel);
        }
        let of = |path: &str, posted: &[Posted]| -> Vec<Value> {
            let posted = posted.iter().filter(|p| p.head.contains(path));
            posted.flat_map(|p| p.events(&A)).collect()
        };
        let posted = receiver.wait(|posted| {
            let paths = ["/hook", "/prefix", "/suffix"];
            paths.iter().all(|path| of(path, posted).len() == 4)
        });
        let by_channel = |mut events: Vec<Value>| {
            events.sort_by_key(|event| event["channel"].to_string());
            events
        };
        let all = ["a-eu", "a-us", "private-a", "private-b-eu"];
        assert_eq!(by_channel(of("/hook", &posted)), all.map(vacated));
        let both = |channels: [&'static str; 2]| {
            channels
                .map(|channel| [occupied(channel), vacated(channel)])
                .concat()
        };
        assert_eq!(
            by_channel(of("/prefix", &posted)),
            both(["private-a", "private-b-eu"])
        );
        assert_eq!(
            by_channel(of("/suffix", &posted)),
            both(["a-eu", "private-b-eu"])
        );
        receiver.expect_silence(Duration::from_millis(200));
    });
}

// Case 176.
#[test]
fn channels_of_users_are_not_told_of() {
    let user_config = |receiver: &Receiver| {
        let endpoint = receiver.endpoint(&ALL, "parallel_max = 1");
        Config::only(&A, &format!("user_authentication = true\n{endpoint}"))
            .set("webhook_delay_ms", 0)
    };
    on_shards_with_receiver(user_config, |server, receiver| {
        let mut client = Client::connect(server);
        let user_data = json!({"id": "ann"}).to_string();
        let signed = format!("{}::user::{user_data}", client.socket_id);
        let auth = format!("{}:{}", A.key, A.sign(&signed));
        let data = json!({"auth": auth, "user_data": user_data});
        client.send(&json!({"event": "pusher:signin", "data": data}));
        client.expect("pusher:signin_success");
        client.subscribe("#server-to-user-ann");
        let mut publisher = Publisher::connect(server);
        let channel = "#server-to-user-ann";
        publisher.publish_json(&json!({"name": "e", "channel": channel, "data": "d"}));
        client.expect_event(channel, "e", "d");
        client.unsubscribe(channel);
        client.sync();
        let mut other = Client::connect(server);
        drop(client);
        assert_eq!(events_until_now(receiver, &mut other), Vec::<Value>::new());
    });
}
