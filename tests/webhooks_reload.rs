//! Webhooks across a reload: endpoints that come, go and stay, and keys that change, while events
//! wait (webhooks 1 and 6).

mod support;

use serde_json::{Value, json};

use support::metrics::Scrape;
use support::server::{for_shards_at_once, with_shown_log};
use support::{A, App, Client, Config, Receiver, Reply, Server};

const OCCUPIED: &[&str] = &["channel_occupied"];
const RELOADED: &str = " reloaded ";

fn occupied(channel: &str) -> Value {
    json!({"name": "channel_occupied", "channel": channel})
}

fn sent(scrape: &Scrape) -> f64 {
    scrape.sum("shardcast_webhook_events_sent_total", &[])
}

fn config(endpoints: &str) -> Config {
    Config::only(&A, endpoints).set("metrics_port", 0)
}

#[test]
fn endpoints_come_and_go_and_what_waits_for_one_that_stays_is_kept() {
    for_shards_at_once(|shards| {
        let (first, second) = (Receiver::start(), Receiver::start());
        let dead = Receiver::start_with(|_, _| Reply::Nothing);
        // It stays, fails until then, and its pause becomes short.
        let stays = Receiver::start_with(|n, _| Reply::Status(if n == 0 { 500 } else { 200 }));
        let slowly = "parallel_max = 1\nretry_first_ms = 1000\nretry_jitter_percent = 0";
        let before = [
            first.endpoint(OCCUPIED, ""),
            dead.endpoint(OCCUPIED, ""),
            stays.endpoint(OCCUPIED, slowly),
        ];
        let server = Server::start(&config(&before.concat()), shards);
        with_shown_log(&server, |server| {
            let mut client = Client::connect(server);
            client.subscribe("a");
            assert_eq!(first.events(&A, 1), [occupied("a")]);
            stays.wait(|posted| !posted.is_empty());
            dead.wait(|posted| !posted.is_empty());
            // Else the one that it has taken would count as gone with it.
            Scrape::until(server, |scrape| sent(scrape) == 1.0);
            let after = [
                second.endpoint(OCCUPIED, ""),
                stays.endpoint(OCCUPIED, "channel_prefix = \"b\""),
            ];
            server.reload(&config(&after.concat()).toml(), RELOADED);
            for channel in ["b", "c"] {
                client.subscribe(channel);
            }
            let mut events = second.events(&A, 2);
            events.sort_by_key(Value::to_string);
            assert_eq!(events, [occupied("b"), occupied("c")]);
            // The failed one is sent again, as it was, and what is new by the new filter.
            let posted = stays.wait(|posted| posted.len() == 3);
            assert!(posted[1..].iter().any(|again| again.body == posted[0].body));
            let mut events: Vec<_> = posted[1..].iter().flat_map(|p| p.events(&A)).collect();
            events.sort_by_key(Value::to_string);
            assert_eq!(events, [occupied("a"), occupied("b")]);
            assert_eq!(first.posted().len(), 1);
            assert_eq!(dead.posted().len(), 1);
            let gone = [r#"reason="gone""#];
            let scrape = Scrape::until(server, |scrape| {
                scrape.sum("shardcast_webhook_events_pending", &[]) == 0.0
            });
            assert_eq!(
                scrape.sum("shardcast_webhook_events_dropped_total", &gone),
                1.0
            );
            assert_eq!(sent(&scrape), 5.0);
        });
    });
}

#[test]
fn a_retry_keeps_its_signature_and_what_is_new_is_signed_with_the_new_key() {
    const YOUNGER: App = App {
        key: "younger",
        secret: "s3cret",
        ..A
    };
    let receiver = Receiver::start_with(|n, _| Reply::Status(if n == 0 { 500 } else { 200 }));
    let endpoint = receiver.endpoint(OCCUPIED, "retry_first_ms = 1000");
    let server = Server::start(&config(&endpoint), 2);
    let mut client = Client::connect(&server);
    client.subscribe("a");
    receiver.wait(|posted| !posted.is_empty());
    let toml = Config::only(&YOUNGER, &endpoint)
        .set("metrics_port", 0)
        .toml();
    server.reload(&toml, RELOADED);
    let mut client = Client::connect_to(&server, YOUNGER);
    client.subscribe("b");
    let posted = receiver.wait(|posted| posted.len() == 3);
    let [first, ..] = &posted[..] else {
        unreachable!("there are three");
    };
    let again = posted[1..]
        .iter()
        .find(|p| p.body == first.body)
        .expect("the retry");
    assert_eq!(again.head, first.head);
    assert_eq!(again.events(&A), [occupied("a")]);
    let new = posted[1..]
        .iter()
        .find(|p| p.body != first.body)
        .expect("the new one");
    assert_eq!(new.events(&YOUNGER), [occupied("b")]);
}
