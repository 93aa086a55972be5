//! What does it cost to subscribe to a public channel and to leave it again? In ns for both, from
//! the texts to the last send, by how many others the channel and the connection have.
//!
//! The slow twin reads with serde_json, keeps subscribers in hash sets by name, and formats the
//! answer.

mod measure;
mod stand;

use std::collections::{HashMap, HashSet};
use std::hint::black_box;

use stand::Stand;

fn main() {
    for (label, others, held) in [
        ("alone", 0, 0),
        ("beside 1 000 others", 1_000, 0),
        ("with 100 other channels", 0, 100),
    ] {
        round(label, others, held);
    }
}

fn round(label: &str, others: u32, held: u32) {
    let (subscribe, unsubscribe) = (stand::subscribe("news"), stand::unsubscribe("news"));
    let mut stand = Stand::new();
    stand.subscribe(others, "news");
    let slot = stand.connect(1)[0];
    for n in 0..held {
        stand.text(slot, &stand::subscribe(&format!("held-{n}")));
    }
    stand.turn();
    let mut channels: HashMap<String, HashSet<u32>> = HashMap::new();
    channels.insert("news".to_owned(), (1..=others).collect());
    measure::compare_each(
        label,
        1,
        "round",
        || {
            stand.text(slot, black_box(&subscribe));
            stand.text(slot, black_box(&unsubscribe));
            assert_eq!(stand.turn(), 1);
        },
        || {
            let mut channel = String::new();
            for text in [&subscribe, &unsubscribe] {
                let value: serde_json::Value =
                    serde_json::from_str(black_box(text)).expect("it is JSON");
                channel = value["data"]["channel"]
                    .as_str()
                    .expect("a string")
                    .to_owned();
                match value["event"].as_str() {
                    Some("pusher:subscribe") => {
                        channels.entry(channel.clone()).or_default().insert(0)
                    }
                    _ => channels.get_mut(&channel).is_some_and(|all| all.remove(&0)),
                };
            }
            black_box(format!(
                r#"{{"event":"pusher_internal:subscription_succeeded","channel":"{channel}","data":"{{}}"}}"#
            ));
        },
    );
}
