//! Which of a channel's streams an event belongs to: the value at a path in its data.
//!
//! Looks, and judges nothing: data that is no object, a path that leads nowhere or a value that is
//! no key give the key `""`, which is a stream like any other (extensions spec 3.4).

use crate::pusher::json::{self, Kind, Token};

/// Names of one path. A longer path leads nowhere.
pub const PATH_NAMES_MAX: usize = 16;
/// Of a key. A longer value is none.
pub const KEY_BYTES_MAX: usize = 256;

/// The key of an event, put into `key`: what stands at `path`, names joined by dots, in `data`,
/// which is an object or a string that holds the JSON text of one. `text` is for the latter.
pub fn key(data: Token<'_>, path: &str, text: &mut String, key: &mut String) {
    key.clear();
    let object = match data.kind() {
        Kind::String => {
            text.clear();
            data.decode_into(text);
            text.as_str()
        }
        _ => data.raw(),
    };
    let Some(value) = find(object, path) else {
        return;
    };
    match value.kind() {
        Kind::String if value.delivered_bytes() <= KEY_BYTES_MAX => value.decode_into(key),
        Kind::Number | Kind::Bool if value.raw().len() <= KEY_BYTES_MAX => {
            key.push_str(value.raw())
        }
        _ => {}
    }
}

fn find<'a>(object: &'a str, path: &str) -> Option<Token<'a>> {
    let mut names = path.splitn(PATH_NAMES_MAX + 1, '.');
    let member = |object: &'a str, name: &str| {
        let [value] = json::fields(object, &[name]).ok()?;
        value
    };
    let mut value = member(object, names.next()?)?;
    for (index, name) in names.enumerate() {
        if index + 1 == PATH_NAMES_MAX || value.kind() != Kind::Object {
            return None;
        }
        value = member(value.raw(), name)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn key_of(data: &str, path: &str) -> String {
        let (mut text, mut found) = ("before".to_owned(), "before".to_owned());
        key(
            json::document(data).expect("JSON"),
            path,
            &mut text,
            &mut found,
        );
        found
    }

    #[test]
    fn a_key_is_found_in_an_object_and_in_the_text_of_one() {
        for (object, path, expected) in [
            (r#"{"symbol":"BTC"}"#, "symbol", "BTC"),
            (r#" {"symbol":"B\"TC"} "#, "symbol", "B\"TC"),
            (r#"{"a":{"b":{"c":12.50}}}"#, "a.b.c", "12.50"),
            (r#"{"a":1,"a":true}"#, "a", "true"),
            (r#"{"":{"":"x"}}"#, ".", "x"),
            (r#"{"é":"日本"}"#, "é", "日本"),
            (r#"{"a":null}"#, "a", ""),
            (r#"{"a":{}}"#, "a", ""),
            (r#"{"a":[1]}"#, "a", ""),
            (r#"{"a":[1]}"#, "a.0", ""),
            (r#"{"a":"x"}"#, "a.b", ""),
            (r#"{"a.b":"x"}"#, "a.b", ""),
            (r#"{"a":"x"}"#, "", ""),
            (r#"{"b":"x"}"#, "a", ""),
        ] {
            assert_eq!(key_of(object, path), expected, "{object} {path}");
            let text = serde_json::Value::from(object).to_string();
            assert_eq!(key_of(&text, path), expected, "{text} {path}");
        }
        for data in ["5", "null", "[]", "\"\"", r#""x""#, r#""{\"a\":""#] {
            assert_eq!(key_of(data, "a"), "", "{data}");
        }
    }

    #[test]
    fn paths_and_keys_have_bounds() {
        let nested = |levels| {
            let object = format!("{}\"k\"{}", "{\"a\":".repeat(levels), "}".repeat(levels));
            key_of(&object, &vec!["a"; levels].join("."))
        };
        assert_eq!(
            (nested(PATH_NAMES_MAX), nested(PATH_NAMES_MAX + 1)),
            ("k".into(), "".into())
        );
        let long = |bytes| key_of(&format!(r#"{{"a":"{}"}}"#, "k".repeat(bytes)), "a").len();
        assert_eq!(
            (long(KEY_BYTES_MAX), long(KEY_BYTES_MAX + 1)),
            (KEY_BYTES_MAX, 0)
        );
        let digits = |count| key_of(&format!(r#"{{"a":{}}}"#, "1".repeat(count)), "a").len();
        assert_eq!(
            (digits(KEY_BYTES_MAX), digits(KEY_BYTES_MAX + 1)),
            (KEY_BYTES_MAX, 0)
        );
    }

    #[test]
    fn agrees_with_serde_json_on_seeded_objects() {
        let mut random = Seed::new(76);
        let mut found = 0;
        for _ in 0..4_000 {
            let object = json::sample::json(&mut random, 3);
            let Ok(object) = String::from_utf8(object) else {
                continue;
            };
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&object) else {
                continue;
            };
            for path in ["a", "data", "a.data", "name.a", "", "data.a.name"] {
                let mut at = Some(&value);
                for name in path.split('.') {
                    at = at.and_then(|value| value.as_object()?.get(name));
                }
                let ours = key_of(&object, path);
                match at {
                    Some(serde_json::Value::String(text)) => assert_eq!(&ours, text),
                    Some(serde_json::Value::Bool(on)) => assert_eq!(ours, on.to_string()),
                    Some(serde_json::Value::Number(_)) => assert!(!ours.is_empty()),
                    _ => assert_eq!(ours, ""),
                }
                found += usize::from(!ours.is_empty());
            }
        }
        assert!(found > 100, "{found}");
    }
}
