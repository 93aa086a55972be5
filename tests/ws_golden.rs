//! The rule above all of extensions.md: a client that did not ask for an extension never sees a
//! trace of it. The transcript of stock clients, byte by byte, is the same whether those around them
//! use filters, deltas and the other protocol or nothing of it.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use support::websocket::WebSocket;
use support::{A, App, Client, Config, Event, Publisher, Server};

/// What the others around a stock client do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Stock,
    Extended,
}

const CHANNELS: [&str; 4] = ["news", "cache-price", "private-room", "presence-lobby"];

/// One of the others: on all channels, and never the last to be there.
fn other(server: &Server, crowd: Crowd, nth: usize) -> WebSocket {
    let is_extended = crowd == Crowd::Extended;
    let prefix = if is_extended && nth.is_multiple_of(2) {
        "sockudo"
    } else {
        "pusher"
    };
    let protocol = if prefix == "sockudo" { 2 } else { 7 };
    let mut socket = WebSocket::open(server, &A.target_with(&format!("protocol={protocol}")));
    let greeting: Value = serde_json::from_str(&socket.text()).unwrap();
    let data: Value = serde_json::from_str(greeting["data"].as_str().unwrap()).unwrap();
    let socket_id = data["socket_id"].as_str().unwrap();
    if is_extended {
        let algorithm = ["fossil", "xdelta3"][nth / 2 % 2];
        let algorithms = json!({"algorithms": [algorithm]});
        let event = format!("{prefix}:enable_delta_compression");
        socket.send_text(&json!({"event": event, "data": algorithms}).to_string());
    }
    for channel in CHANNELS {
        let member = format!(r#"{{"user_id":"u{nth}"}}"#);
        let member = channel.starts_with("presence-").then_some(&*member);
        let auth = A.auth(socket_id, channel, member);
        let mut data = json!({"channel": channel, "auth": auth, "channel_data": member});
        if is_extended {
            data["delta"] = [json!(true), Value::Null, json!(false)][nth % 3].clone();
            data["filter"] = match nth % 4 {
                0 => Value::Null,
                n => json!({"key": "n", "cmp": "neq", "val": n.to_string()}),
            };
        }
        let event = format!("{prefix}:subscribe");
        socket.send_text(&json!({"event": event, "data": data}).to_string());
    }
    socket.send_text(&json!({"event": format!("{prefix}:ping")}).to_string());
    while !socket.text().contains(":pong") {}
    socket
}

/// What a stock client gets: by channel, since between channels there is no order, and under `""`
/// what is of none.
type Transcript = BTreeMap<(usize, String), Vec<String>>;

/// Two stock clients on all channels amid a crowd, the events of a while, and what they hear.
fn transcript(server: &Server, crowd: Crowd) -> Transcript {
    let mut others: Vec<WebSocket> = (0..4).map(|nth| other(server, crowd, nth)).collect();
    let mut publisher = Publisher::connect(server);
    publish(&mut publisher, 0, "cache-price", None);
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(server)).collect();
    let mut transcript = Transcript::new();
    for (nth, client) in clients.iter_mut().enumerate() {
        for channel in CHANNELS {
            let member = format!(r#"{{"user_id":"stock{nth}","user_info":{{"n":{nth}}}}}"#);
            let member = channel.starts_with("presence-").then_some(&*member);
            client.send_signed(channel, member);
        }
        client.send_signed("private-other", None);
        client.send(&json!({"event": "pusher:nothing", "data": {}}));
        client.unsubscribe("private-other");
        hear(client, nth, &mut transcript);
    }
    let first = clients[0].socket_id.clone();
    for number in 1..12 {
        for channel in CHANNELS {
            publish(
                &mut publisher,
                number,
                channel,
                (number % 5 == 0).then_some(&*first),
            );
        }
        let data = json!({"on": number});
        let event = json!({"event": "client-typing", "channel": "presence-lobby", "data": data});
        clients[1].send(&event);
        hear(&mut clients[1], 1, &mut transcript);
    }
    // Somebody leaves.
    drop(others.remove(0));
    for (nth, client) in clients.iter_mut().enumerate() {
        for event in client.events_through("pusher_internal:member_removed") {
            note(event, nth, &mut transcript);
        }
        hear(client, nth, &mut transcript);
    }
    transcript
}

/// Something that filters let through or not, and that is worth a delta.
fn publish(publisher: &mut Publisher, number: usize, channel: &str, except: Option<&str>) {
    let text = "all work and no play makes a dull stream. ".repeat(10);
    let delta = [Value::Null, json!(true), json!(false)][number % 3].take();
    publisher.publish_json(&json!({
        "name": "tick", "channel": channel, "data": format!("{text}{number}"),
        "tags": {"n": number % 4}, "delta": delta, "socket_id": except,
    }));
}

/// Everything up to the answer to a ping.
fn hear(client: &mut Client, nth: usize, transcript: &mut Transcript) {
    client.send_text(r#"{"event":"pusher:ping","data":{}}"#);
    for event in client.events_through("pusher:pong") {
        note(event, nth, transcript);
    }
}

fn note(event: Event, nth: usize, transcript: &mut Transcript) {
    let channel = event.channel.unwrap_or_default();
    transcript
        .entry((nth, channel))
        .or_default()
        .push(event.raw);
}

#[test]
fn a_stock_client_gets_the_same_bytes_whatever_others_use() {
    for shards in [1, 2, 5] {
        let app = App {
            settings: "client_events = true\n",
            ..A
        };
        let config = Config::only(&app, "");
        let of = |crowd| transcript(&Server::start(&config, shards), crowd);
        let (stock, extended) = (of(Crowd::Stock), of(Crowd::Extended));
        let texts: Vec<&String> = stock.values().flatten().collect();
        assert!(texts.len() > 80, "{}", texts.len());
        let is_stock = |text: &&String| !text.contains("sockudo") && !text.contains("delta");
        assert!(texts.iter().all(is_stock));
        assert_eq!(stock, extended, "with {shards} shards");
    }
}
