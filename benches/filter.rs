//! What does it cost to ask whether a subscriber wants an event? Once per distinct filter of a channel
//! and publish (extensions spec 2.4).
//!
//! The slow twin reads the filter as it was sent, a JSON value, and the tags as a map.

mod measure;

use std::collections::HashMap;
use std::hint::black_box;

use serde_json::Value;
use shardcast::pusher::filter::{Filter, TagSet};
use shardcast::pusher::json::document;

const TWO_LEAVES: &str = r#"{"op":"and","nodes":[{"key":"market","cmp":"eq","val":"spot"},
    {"key":"asset","cmp":"in","vals":["BTC","ETH"]}]}"#;
const RANGE: &str = r#"{"op":"and","nodes":[{"key":"size","cmp":"gte","val":0.5},
    {"key":"size","cmp":"lt","val":"20"}]}"#;
const TEXT: &str = r#"{"op":"or","nodes":[{"key":"venue","cmp":"sw","val":"xet"},
    {"key":"venue","cmp":"ct","val":"tra"}]}"#;

fn main() {
    let usual = [
        ("market", "spot"),
        ("asset", "ETH"),
        ("size", "12.5"),
        ("venue", "xetra"),
    ];
    let unwanted = [("market", "futures"), ("asset", "ETH")];
    let many: Vec<_> = (0..28)
        .map(|nth| (format!("tag-{nth}"), "x".to_owned()))
        .collect();
    let many: Vec<_> = many.iter().map(|(key, value)| (&**key, &**value)).collect();
    let many = [&many, &usual[..]].concat();
    for (label, filter, tags) in [
        ("two leaves, wanted", TWO_LEAVES, &usual[..]),
        ("two leaves, not wanted", TWO_LEAVES, &unwanted),
        ("two leaves, no tags", TWO_LEAVES, &[]),
        ("two leaves, 32 tags", TWO_LEAVES, &many),
        ("a range of numbers", RANGE, &usual),
        ("parts of a text", TEXT, &usual),
    ] {
        let token = document(filter).expect("JSON");
        let compiled = Filter::parse(Some(token), None);
        let compiled = compiled.expect("a lawful filter").expect("a filter");
        let set = TagSet::new(tags);
        let value: Value = serde_json::from_str(filter).expect("JSON");
        let map: HashMap<&str, &str> = tags.iter().copied().collect();
        assert_eq!(
            compiled.matches("tick", &set),
            wants(&value, &map),
            "{label}"
        );
        measure::compare_each(
            label,
            1,
            "filter",
            || {
                black_box(black_box(&compiled).matches("tick", black_box(&set)));
            },
            || {
                black_box(wants(black_box(&value), black_box(&map)));
            },
        );
    }
    wide(&usual);
}

/// The largest filter there may be, whose every test is made.
fn wide(tags: &[(&str, &str)]) {
    let leaf = |nth: usize| format!(r#"{{"key":"asset","cmp":"eq","val":"A{nth}"}}"#);
    let leaves: Vec<_> = (0..127).map(leaf).collect();
    let filter = format!(r#"{{"op":"or","nodes":[{}]}}"#, leaves.join(","));
    let token = document(&filter).expect("JSON");
    let compiled = Filter::parse(Some(token), None);
    let compiled = compiled.expect("a lawful filter").expect("a filter");
    let set = TagSet::new(tags);
    let value: Value = serde_json::from_str(&filter).expect("JSON");
    let map: HashMap<&str, &str> = tags.iter().copied().collect();
    measure::compare_each(
        "127 leaves",
        127,
        "leaf",
        || {
            black_box(black_box(&compiled).matches("tick", black_box(&set)));
        },
        || {
            black_box(wants(black_box(&value), black_box(&map)));
        },
    );
}

fn wants(node: &Value, tags: &HashMap<&str, &str>) -> bool {
    let mut nodes = node["nodes"].as_array().into_iter().flatten();
    match node["op"].as_str() {
        Some("and") => return nodes.all(|node| wants(node, tags)),
        Some(_) => return nodes.any(|node| wants(node, tags)),
        None => {}
    }
    let Some(tag) = node["key"].as_str().and_then(|key| tags.get(key)) else {
        return false;
    };
    let val = match &node["val"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
    match node["cmp"].as_str() {
        Some("eq") => *tag == val,
        Some("in") => node["vals"]
            .as_array()
            .is_some_and(|vals| vals.iter().any(|val| val == tag)),
        Some("gte") => number(tag) >= number(&val),
        Some("lt") => number(tag) < number(&val),
        Some("sw") => tag.starts_with(&val),
        _ => tag.contains(&val),
    }
}
