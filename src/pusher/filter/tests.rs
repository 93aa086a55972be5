use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use super::*;
use crate::pusher::json::{document, sample};
use crate::seed::Seed;

fn parse(filter: &str) -> Result<Option<Filter>, Error> {
    Filter::parse(Some(document(filter).expect("JSON")), None)
}

fn filter(text: &str) -> Filter {
    match parse(text) {
        Ok(Some(filter)) => filter,
        other => panic!("{text}: {other:?}"),
    }
}

fn hash(filter: &Filter) -> u64 {
    let mut hasher = DefaultHasher::new();
    filter.hash(&mut hasher);
    hasher.finish()
}

/// The table of extensions spec 2.2, read from top to bottom: what defines [`Filter::matches`].
fn obvious(node: &Value, event: &str, tags: &[(&str, &str)]) -> bool {
    if let Some(op) = node["op"].as_str() {
        let mut nodes = node["nodes"].as_array().expect("nodes").iter();
        return match op {
            "and" => nodes.all(|node| obvious(node, event, tags)),
            "or" => nodes.any(|node| obvious(node, event, tags)),
            _ => !obvious(&node["nodes"][0], event, tags),
        };
    }
    if node["key"].is_null() {
        let named = node["events"].as_array();
        return named.is_none_or(|names| names.contains(&json!(event)))
            && (node["tags"].is_null() || obvious(&node["tags"], event, tags));
    }
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let val = text(&node["val"]);
    let is_one = |tag: &str| {
        let vals = node["vals"].as_array().expect("vals");
        vals.iter().any(|value| text(value) == tag)
    };
    let compares = |tag: &str, by: fn(&f64, &f64) -> bool| {
        let [Ok(tag), Ok(val)] = [tag.parse::<f64>(), val.parse::<f64>()] else {
            return false;
        };
        tag.is_finite() && val.is_finite() && by(&tag, &val)
    };
    let tag = tags.iter().find(|(key, _)| node["key"] == *key);
    match (
        node["cmp"].as_str().expect("cmp"),
        tag.map(|(_, value)| *value),
    ) {
        ("neq" | "nin" | "nex", None) => true,
        (_, None) => false,
        ("eq", Some(tag)) => tag == val,
        ("neq", Some(tag)) => tag != val,
        ("in", Some(tag)) => is_one(tag),
        ("nin", Some(tag)) => !is_one(tag),
        ("ex", Some(_)) => true,
        ("nex", Some(_)) => false,
        ("sw", Some(tag)) => tag.starts_with(&val),
        ("ew", Some(tag)) => tag.ends_with(&val),
        ("ct", Some(tag)) => tag.contains(&val),
        ("gt", Some(tag)) => compares(tag, f64::gt),
        ("gte", Some(tag)) => compares(tag, f64::ge),
        ("lt", Some(tag)) => compares(tag, f64::lt),
        ("lte", Some(tag)) => compares(tag, f64::le),
        other => panic!("{other:?}"),
    }
}

const KEYS: [&str; 4] = ["a", "b", "market", "é"];
const VALUES: [&str; 14] = [
    "", "spot", "spots", "pot", "x", "1", "1.0", "-1e0", "0", "-0", "1e400", "inf", "NaN", "é",
];
const EVENTS: [&str; 3] = ["tick", "trade", "x"];
const COMPARISONS: [&str; 13] = [
    "eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "gt", "gte", "lt", "lte",
];

fn pick<'a>(random: &mut Seed, from: &[&'a str]) -> &'a str {
    from[random.below(from.len())]
}

fn any_value(random: &mut Seed) -> Value {
    match random.below(6) {
        0 => json!(random.below(3)),
        1 => json!(random.below(2) == 0),
        _ => json!(pick(random, &VALUES)),
    }
}

fn any_node(random: &mut Seed, levels: usize) -> Value {
    if levels > 0 && random.below(3) > 0 {
        let op = pick(random, &["and", "or", "not"]);
        let count = if op == "not" { 1 } else { 1 + random.below(3) };
        let nodes: Vec<_> = (0..count).map(|_| any_node(random, levels - 1)).collect();
        return json!({"op": op, "nodes": nodes});
    }
    let (key, cmp) = (pick(random, &KEYS), pick(random, &COMPARISONS));
    let vals: Vec<_> = (0..1 + random.below(4))
        .map(|_| any_value(random))
        .collect();
    match cmp {
        "in" | "nin" => json!({"key": key, "cmp": cmp, "vals": vals}),
        "ex" | "nex" => json!({"key": key, "cmp": cmp}),
        _ => json!({"key": key, "cmp": cmp, "val": vals[0]}),
    }
}

fn any_filter(random: &mut Seed) -> Value {
    if random.below(4) > 0 {
        return any_node(random, 4);
    }
    let names: Vec<_> = (0..1 + random.below(2))
        .map(|_| pick(random, &EVENTS))
        .collect();
    match random.below(3) {
        0 => json!({"events": names}),
        1 => json!({"tags": any_node(random, 3)}),
        _ => json!({"events": names, "tags": any_node(random, 3)}),
    }
}

fn any_tags(random: &mut Seed) -> Vec<(&'static str, &'static str)> {
    let keys = KEYS.into_iter().filter(|_| random.below(3) > 0);
    let keys: Vec<_> = keys.collect();
    keys.into_iter()
        .map(|key| (key, pick(random, &VALUES)))
        .collect()
}

/// The same filter written in another way.
fn rewritten(random: &mut Seed, node: &Value) -> Value {
    let Some(op) = node["op"].as_str() else {
        let is = |cmp: &str| node["cmp"] == *cmp;
        return match random.below(4) {
            0 if is("eq") => json!({"key": node["key"], "cmp": "in", "vals": [node["val"]]}),
            0 if is("neq") => json!({"op": "not", "nodes": [
                {"key": node["key"], "cmp": "eq", "val": node["val"]}]}),
            0 if is("nex") => json!({"op": "not", "nodes": [{"key": node["key"], "cmp": "ex"}]}),
            0 if is("nin") => json!({"op": "not", "nodes": [
                {"key": node["key"], "cmp": "in", "vals": node["vals"]}]}),
            1 => json!({"op": "not", "nodes": [{"op": "not", "nodes": [node]}]}),
            2 => json!({"op": pick(random, &["and", "or"]), "nodes": [node, node]}),
            _ => node.clone(),
        };
    };
    let nodes = node["nodes"].as_array().expect("nodes");
    let mut nodes: Vec<_> = nodes.iter().map(|node| rewritten(random, node)).collect();
    if op == "not" {
        return json!({"op": "not", "nodes": nodes});
    }
    let other = nodes.len() - 1;
    nodes.swap(0, random.below(other + 1));
    nodes.push(nodes[random.below(other + 1)].clone());
    let last = nodes.len() - 1;
    match random.below(3) {
        0 => {
            let inner = nodes.split_off(random.below(last + 1));
            nodes.push(json!({"op": op, "nodes": inner}));
            json!({"op": op, "nodes": nodes})
        }
        1 => {
            let opposite = if op == "and" { "or" } else { "and" };
            let opposites = nodes
                .iter()
                .map(|node| json!({"op": "not", "nodes": [node]}));
            let opposites: Vec<_> = opposites.collect();
            json!({"op": "not", "nodes": [{"op": opposite, "nodes": opposites}]})
        }
        _ => json!({"op": op, "nodes": nodes}),
    }
}

#[test]
fn filters_decide_as_the_obvious_evaluator_does() {
    let mut random = Seed::new(71);
    let (mut wanted, mut asked) = (0, 0);
    for _ in 0..3_000 {
        let tree = any_filter(&mut random);
        let filter = filter(&tree.to_string());
        for _ in 0..20 {
            let (event, tags) = (pick(&mut random, &EVENTS), any_tags(&mut random));
            let expected = obvious(&tree, event, &tags);
            let matches = filter.matches(event, &TagSet::new(&tags));
            assert_eq!(matches, expected, "{tree} of {event} {tags:?}");
            wanted += usize::from(matches);
            asked += 1;
        }
    }
    assert!(
        (asked / 4..asked * 3 / 4).contains(&wanted),
        "{wanted} of {asked}"
    );
}

#[test]
fn the_same_filter_written_differently_is_equal_and_hashes_alike() {
    let mut random = Seed::new(72);
    for _ in 0..2_000 {
        let tree = any_node(&mut random, 3);
        let other = rewritten(&mut random, &tree);
        let (ours, theirs) = (parse(&tree.to_string()), parse(&other.to_string()));
        // The other form may be over a bound.
        let (Ok(Some(ours)), Ok(Some(theirs))) = (ours, theirs) else {
            continue;
        };
        assert_eq!(ours, theirs, "{tree} and {other}");
        assert_eq!(hash(&ours), hash(&theirs));
    }
    for (one, other) in [
        (
            r#"{"key":"a","cmp":"in","vals":["x","y","x"]}"#,
            r#"{"cmp":"in","vals":["y","x"],"key":"\u0061","val":null}"#,
        ),
        (
            r#"{"key":"a","cmp":"gt","val":10}"#,
            r#"{"key":"a","cmp":"gt","val":"1e1"}"#,
        ),
        (
            r#"{"key":"a","cmp":"lt","val":"x"}"#,
            r#"{"key":"a","cmp":"lt","val":true}"#,
        ),
        (
            r#"{"events":["b","a"],"tags":{"key":"a","cmp":"ex"}}"#,
            r#"{"tags":{"op":"not","nodes":[{"key":"a","cmp":"nex"}]},"events":["a","b","a"]}"#,
        ),
    ] {
        assert_eq!(filter(one), filter(other));
    }
}

#[test]
fn filters_that_are_equal_decide_alike() {
    let mut random = Seed::new(73);
    let mut equal = 0;
    for _ in 0..20_000 {
        let [one, other] = [(); 2].map(|()| any_node(&mut random, 1));
        if filter(&one.to_string()) == filter(&other.to_string()) {
            equal += 1;
            for _ in 0..10 {
                let tags = any_tags(&mut random);
                assert_eq!(obvious(&one, "x", &tags), obvious(&other, "x", &tags));
            }
        }
    }
    assert!(equal > 50, "{equal}");
}

#[test]
fn an_event_without_tags_is_one_whose_every_tag_is_absent() {
    let none = TagSet::default();
    for (cmp, rest, absent) in [
        ("eq", r#","val":"x""#, false),
        ("neq", r#","val":"x""#, true),
        ("in", r#","vals":["x"]"#, false),
        ("nin", r#","vals":["x","y"]"#, true),
        ("ex", "", false),
        ("nex", "", true),
        ("sw", r#","val":"""#, false),
        ("ew", r#","val":"""#, false),
        ("ct", r#","val":"""#, false),
        ("gt", r#","val":0"#, false),
        ("gte", r#","val":0"#, false),
        ("lt", r#","val":0"#, false),
        ("lte", r#","val":0"#, false),
    ] {
        let leaf = format!(r#"{{"key":"a","cmp":"{cmp}"{rest}}}"#);
        assert_eq!(filter(&leaf).matches("e", &none), absent, "{cmp}");
        let not = format!(r#"{{"op":"not","nodes":[{leaf}]}}"#);
        assert_eq!(filter(&not).matches("e", &none), !absent, "not {cmp}");
    }
}

#[test]
fn names_of_events_are_asked_beside_the_tree_and_beside_each_other() {
    let tree = r#"{"events":["tick","trade"],"tags":{"key":"a","cmp":"ex"}}"#;
    let tags = TagSet::new(&[("a", "1")]);
    assert!(filter(tree).matches("tick", &tags) && filter(tree).matches("trade", &tags));
    assert!(
        !filter(tree).matches("tic", &tags) && !filter(tree).matches("tick", &TagSet::default())
    );
    let list = document(r#"["trade","x"]"#).expect("JSON");
    let both = Filter::parse(Some(document(tree).expect("JSON")), Some(list));
    let both = both.expect("valid").expect("a filter");
    assert!(both.matches("trade", &tags) && !both.matches("tick", &tags));
    assert!(!both.matches("x", &tags));
    let alone = Filter::parse(None, Some(list))
        .expect("valid")
        .expect("a filter");
    assert!(alone.matches("x", &TagSet::default()) && !alone.matches("tick", &tags));
    assert_eq!(Filter::parse(None, None), Ok(None));
    // An empty list of names asks for nothing.
    let none = document("[]").expect("JSON");
    assert_eq!(Filter::parse(None, Some(none)), Ok(None));
    assert_eq!(parse(r#"{"events":[]}"#), Ok(None));
    let beside = Filter::parse(Some(document(tree).expect("JSON")), Some(none));
    assert_eq!(beside, Ok(Some(filter(tree))));
}

fn nested(levels: usize) -> String {
    let (open, close) = (r#"{"op":"not","nodes":["#, "]}");
    let leaf = r#"{"key":"a","cmp":"ex"}"#;
    [&open.repeat(levels - 1), leaf, &close.repeat(levels - 1)].concat()
}

fn many(count: usize, element: impl Fn(usize) -> String) -> String {
    let elements: Vec<_> = (0..count).map(element).collect();
    format!("[{}]", elements.join(","))
}

#[test]
fn every_bound_holds_to_the_last_one() {
    let leaf = |index: usize| format!(r#"{{"key":"{index}","cmp":"ex"}}"#);
    let wide = |leaves| format!(r#"{{"op":"or","nodes":{}}}"#, many(leaves, leaf));
    assert!(parse(&wide(NODES_MAX - 1)).is_ok());
    assert_eq!(parse(&wide(NODES_MAX)), Err(Error::TooManyNodes));
    assert!(parse(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(parse(&nested(DEPTH_MAX + 1)), Err(Error::TooDeep));

    let string = |_| "\"x\"".to_owned();
    let vals = |count| format!(r#"{{"key":"a","cmp":"in","vals":{}}}"#, many(count, string));
    assert!(parse(&vals(VALUES_MAX)).is_ok());
    assert_eq!(parse(&vals(VALUES_MAX + 1)), Err(Error::Values));
    assert_eq!(parse(&vals(0)), Err(Error::Values));
    let events = |count| format!(r#"{{"events":{}}}"#, many(count, string));
    assert!(parse(&events(EVENTS_MAX)).is_ok());
    assert_eq!(parse(&events(EVENTS_MAX + 1)), Err(Error::Events));

    let key = |bytes: usize| format!(r#"{{"key":"{}","cmp":"ex"}}"#, "k".repeat(bytes));
    assert!(parse(&key(64)).is_ok());
    assert_eq!(
        (parse(&key(65)), parse(&key(0))),
        (Err(Error::Key), Err(Error::Key))
    );
    let val = |chars: usize| format!(r#"{{"key":"a","cmp":"eq","val":"{}"}}"#, "é".repeat(chars));
    assert!(parse(&val(128)).is_ok() && parse(&val(0)).is_ok());
    assert_eq!(parse(&val(129)), Err(Error::Value));
}

#[test]
fn what_is_long_and_deep_is_refused_before_it_is_read_many_times() {
    let padded = |bytes: usize, levels: usize| {
        let leaf = format!(r#"{{"key":"a","cmp":"ex","x":"{}"}}"#, "x".repeat(bytes));
        let (open, close) = (r#"{"op":"not","nodes":["#, "]}");
        [&open.repeat(levels), &*leaf, &close.repeat(levels)].concat()
    };
    // 64 KiB in a few levels, and 15 KiB in as many as there may be.
    assert!(parse(&padded(64 << 10, 2)).is_ok());
    assert!(parse(&padded(15 << 10, DEPTH_MAX - 1)).is_ok());
    let long_and_deep = padded(64 << 10, DEPTH_MAX - 1);
    assert_eq!(parse(&long_and_deep), Err(Error::TooLong));
}

#[test]
fn what_is_no_filter_says_why() {
    for (text, error) in [
        ("5", Error::NotAnObject),
        ("[]", Error::NotAnObject),
        (r#""{}""#, Error::NotAnObject),
        ("{}", Error::Shape),
        (r#"{"nodes":[]}"#, Error::Shape),
        (r#"{"op":null,"events":null}"#, Error::Shape),
        (
            r#"{"op":"and","nodes":[{"key":"a","cmp":"ex"}],"events":["x"]}"#,
            Error::Shape,
        ),
        (r#"{"events":["x"],"tags":{}}"#, Error::Shape),
        (r#"{"events":["x"],"tags":5}"#, Error::NotAnObject),
        (r#"{"events":["x"],"tags":{"events":["x"]}}"#, Error::Shape),
        (r#"{"events":"x"}"#, Error::Events),
        (r#"{"events":["x",5]}"#, Error::Events),
        (r#"{"events":["x",""]}"#, Error::Events),
        (r#"{"op":"xor","nodes":[]}"#, Error::Op),
        (r#"{"op":5,"nodes":[]}"#, Error::Op),
        (r#"{"op":"and"}"#, Error::Nodes),
        (r#"{"op":"and","nodes":[]}"#, Error::Nodes),
        (r#"{"op":"or","nodes":{}}"#, Error::Nodes),
        (r#"{"op":"or","nodes":[null]}"#, Error::NotAnObject),
        (r#"{"op":"not","nodes":[]}"#, Error::NotNodes),
        (
            r#"{"op":"not","nodes":[{"key":"a","cmp":"ex"},{"key":"a","cmp":"ex"}]}"#,
            Error::NotNodes,
        ),
        (r#"{"cmp":"eq","val":"x"}"#, Error::Key),
        (r#"{"key":5,"cmp":"ex"}"#, Error::Key),
        (r#"{"key":"a"}"#, Error::Cmp),
        (r#"{"key":"a","cmp":"like","val":"x"}"#, Error::Cmp),
        (r#"{"key":"a","cmp":"eq"}"#, Error::Value),
        (r#"{"key":"a","cmp":"eq","val":null}"#, Error::Value),
        (r#"{"key":"a","cmp":"eq","val":[]}"#, Error::Value),
        (r#"{"key":"a","cmp":"gt","vals":["1"]}"#, Error::Value),
        (r#"{"key":"a","cmp":"in","val":"x"}"#, Error::Values),
        (r#"{"key":"a","cmp":"in","vals":["x",null]}"#, Error::Values),
        (r#"{"key":"a","cmp":"nin","vals":{}}"#, Error::Values),
    ] {
        assert_eq!(parse(text), Err(error), "{text}: {error}");
    }
}

#[test]
fn bombs_are_refused_at_their_bound_and_what_is_kept_is_about_what_was_sent() {
    // Twice as many nodes with each level.
    let mut deep = r#"{"key":"a","cmp":"ex"}"#.to_owned();
    for _ in 0..15 {
        deep = format!(r#"{{"op":"or","nodes":{}}}"#, many(2, |_| deep.clone()));
        if deep.len() > 1 << 13 {
            break;
        }
    }
    assert_eq!(parse(&deep), Err(Error::TooManyNodes));
    let longer = format!(r#"{{"op":"or","nodes":{}}}"#, many(100, |_| deep.clone()));
    assert_eq!(parse(&longer), Err(Error::TooLong));
    assert_eq!(parse(&format!("[{deep}]")), Err(Error::NotAnObject));

    let value = |index: usize| format!("\"{index:x}\"");
    let leaf = |index: usize| {
        let vals = many(VALUES_MAX, |value_index| {
            value(index * VALUES_MAX + value_index)
        });
        format!(r#"{{"key":"{index}","cmp":"in","vals":{vals}}}"#)
    };
    let large = format!(r#"{{"op":"and","nodes":{}}}"#, many(NODES_MAX - 1, leaf));
    let kept = filter(&large);
    assert!(
        kept.bytes() < 3 * large.len(),
        "{} of {}",
        kept.bytes(),
        large.len()
    );
}

/// No text panics; what is accepted is within its bounds and ends.
pub(crate) fn fuzz_filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(token) = document(text) else {
        return;
    };
    let tags = TagSet::new(&[("a", "1"), ("name", "é"), ("", "x")]);
    for parsed in [
        Filter::parse(Some(token), None),
        Filter::parse(None, Some(token)),
        Filter::parse(Some(token), Some(token)),
    ] {
        match parsed {
            Ok(Some(filter)) => {
                assert!(filter.steps.len() <= NODES_MAX + 2);
                let ways = |step: &Step| [step.if_true, step.if_false];
                for (index, step) in filter.steps.iter().enumerate() {
                    assert!(
                        ways(step)
                            .iter()
                            .all(|way| *way >= TRUE || usize::from(*way) > index)
                    );
                }
                let _ = filter.matches("a", &tags);
                let _ = filter.matches("", &TagSet::default());
            }
            Ok(None) => assert!(text.contains('['), "{text}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn seeded_texts_never_panic() {
    let mut random = Seed::new(74);
    let vocabulary = concat!(
        r#"{"op":"and","nodes":[{"key":"a","cmp":"eq","val":"x"},{"key":"name","cmp":"in","#,
        r#""vals":["1",2,true]},{"op":"not","nodes":[{"key":"a","cmp":"ct","val":""}]}],"#,
        r#""events":["a","b"],"tags":{"op":"or"}}"#
    );
    for round in 0..6_000 {
        let mut text = any_filter(&mut random).to_string().into_bytes();
        fuzz_filter(&text);
        random.mutate(&mut text, vocabulary.as_bytes());
        fuzz_filter(&text);
        fuzz_filter(&sample::json(&mut random, round % 4));
        fuzz_filter(&random.mixture(vocabulary.as_bytes(), 200));
    }
}
