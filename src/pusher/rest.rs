//! What a server may publish: the bodies of `events` and `batch_events` into checked values.
//!
//! All or nothing: a value of [`Publish`] has passed every rule of HTTP spec 4.1 that the body
//! alone can decide, and a body with any fault gives the first one, by the rows of that table from
//! top to bottom. Signatures, rates and what a publish does are other modules' business.
//!
//! Invariant: the body is left untouched. Names and data stay tokens of it, so that a frame is
//! built by copying them, and an ordinary `events` body is read without an allocation.

mod error;
mod fields;
mod info;
mod tags;

use std::borrow::Cow;

use smallvec::SmallVec;

use super::json::{self, Kind, Malformed, StringSource};
use super::socket_id::SocketId;

use fields::Fields;

pub use error::Error;
pub use info::Info;
pub use tags::{TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX, Tags};

/// An idempotency key has 1 to this many characters (extensions spec, section 4).
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// The limits of what an app may publish (WebSocket spec 18.1).
#[derive(Clone, Copy, Debug)]
pub struct PublishLimits {
    pub event_name_chars_max: u32,
    pub channel_name_chars_max: u32,
    /// Channels of one event, counted as sent.
    pub channels_per_event_max: u32,
    /// UTF-8 of the delivered `data` of one event; exactly this many are accepted.
    pub event_data_bytes_max: u32,
    pub batch_events_max: u32,
    pub tags_max: u32,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            event_name_chars_max: 200,
            channel_name_chars_max: 200,
            channels_per_event_max: 100,
            event_data_bytes_max: 100 << 10,
            batch_events_max: 10,
            tags_max: 32,
        }
    }
}

/// One event to publish, every field checked.
#[derive(Debug)]
pub struct Publish<'a> {
    pub name: Cow<'a, str>,
    /// The name as it is written into frames.
    pub name_source: StringSource<'a>,
    pub data: StringSource<'a>,
    /// UTF-8 of the string that is delivered.
    pub data_bytes: usize,
    pub channels: Channels<'a>,
    /// The connection to leave out; `None` also where the id is one that nobody can have.
    pub except: Option<SocketId>,
    /// Present even if it asks for nothing: then the answer has the long form (HTTP spec 4.3).
    pub info: Option<Info>,
    pub tags: Tags<'a>,
    /// Wish for or against delta compression (extensions spec 3.3).
    pub delta: Option<bool>,
    /// Always `None` for the events of a batch.
    pub idempotency_key: Option<Cow<'a, str>>,
}

/// Names that [`ChannelName::parse`](super::channel::ChannelName::parse) accepts, in the order sent, each once, at least one.
pub type Channels<'a> = SmallVec<[Cow<'a, str>; 1]>;

/// The fields of a publish whose body is empty, as the query gives them (HTTP spec 4.1, end).
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryFields<'a> {
    pub name: Option<&'a str>,
    pub data: Option<&'a str>,
    /// The values of `channels[]`; where there are any, `channel` is ignored.
    pub channels: &'a [&'a str],
    pub channel: Option<&'a str>,
    pub socket_id: Option<&'a str>,
    pub info: Option<&'a str>,
}

impl<'a> Publish<'a> {
    /// Reads the body of `events`.
    pub fn parse(body: &'a [u8], limits: &PublishLimits) -> Result<Self, Error<'a>> {
        let event = Fields::of(text(body)?)?;
        let mut publish = event.check(limits)?;
        publish.idempotency_key = event.idempotency_key()?;
        Ok(publish)
    }

    /// Reads the query of a request to `events` whose body is empty.
    pub fn from_query(query: &QueryFields<'a>, limits: &PublishLimits) -> Result<Self, Error<'a>> {
        let name = query.name.ok_or(Error::Required("name"))?;
        fields::check_name(name, limits)?;
        let data = query.data.ok_or(Error::Required("data"))?;
        fields::check_data(data.len(), limits)?;
        let channels = match (query.channels, query.channel) {
            ([], None) => return Err(Error::Required("channels")),
            ([], Some(channel)) => Channels::from_iter([Cow::Borrowed(channel)]),
            (list, _) => {
                fields::check_count(list.len(), limits)?;
                list.iter().map(|channel| Cow::Borrowed(*channel)).collect()
            }
        };
        Ok(Self {
            name: Cow::Borrowed(name),
            name_source: StringSource::Text(name),
            data: StringSource::Text(data),
            data_bytes: data.len(),
            channels: fields::check_channels(channels, limits)?,
            except: query
                .socket_id
                .map(fields::socket_id)
                .transpose()?
                .flatten(),
            info: query.info.map(Info::parse),
            tags: Tags::new(),
            delta: None,
            idempotency_key: None,
        })
    }
}

/// Reads the body of `batch_events`: all of its events in order, or the first fault. An
/// `idempotency_key` inside an event is ignored, whatever it is (extensions spec, section 4).
pub fn parse_batch<'a>(
    body: &'a [u8],
    limits: &PublishLimits,
) -> Result<Vec<Publish<'a>>, Error<'a>> {
    let [batch] = json::fields(text(body)?, &["batch"])?;
    let batch = batch.filter(|batch| !batch.is_null());
    let batch = batch.ok_or(Error::Required("batch"))?;
    let wrong = Error::Type {
        field: "batch",
        expected: "an array of objects",
    };
    if batch.kind() != Kind::Array {
        return Err(wrong);
    }
    let count = batch.elements()?.count();
    if count > limits.batch_events_max as usize {
        return Err(Error::BatchTooLong {
            events_max: limits.batch_events_max,
        });
    }
    let mut events = Vec::with_capacity(count);
    for event in batch.elements()? {
        let event = event?;
        if event.kind() != Kind::Object {
            return Err(wrong);
        }
        events.push(Fields::of(event.raw())?.check(limits)?);
    }
    Ok(events)
}

fn text(body: &[u8]) -> Result<&str, Malformed> {
    simdutf8::basic::from_utf8(body).map_err(|_| Malformed)
}

/// No body panics, what is accepted is within every limit, and the data delivered is the value
/// that serde_json reads there.
#[cfg(test)]
pub fn fuzz_publish(data: &[u8]) {
    let limits = PublishLimits {
        event_name_chars_max: 12,
        channels_per_event_max: 3,
        event_data_bytes_max: 40,
        batch_events_max: 3,
        ..PublishLimits::default()
    };
    let batch = parse_batch(data, &limits).unwrap_or_default();
    let single = Publish::parse(data, &limits);
    if let Err(error) = single {
        assert!(error.to_string().ends_with('.') && matches!(error.status(), 400 | 403 | 413));
    }
    assert!(batch.len() <= 3);
    let value = serde_json::from_slice::<serde_json::Value>(data).unwrap_or_default();
    for (event, value) in batch
        .iter()
        .zip(value["batch"].as_array().into_iter().flatten())
    {
        check_publish(event, value);
    }
    if let (Ok(event), true) = (&single, value.is_object()) {
        check_publish(event, &value);
    }
}

#[cfg(test)]
fn check_publish(event: &Publish<'_>, value: &serde_json::Value) {
    let delivered = match event.data {
        StringSource::Token(token) => serde_json::from_str(token).expect("a string"),
        StringSource::Text(text) => text.to_owned(),
    };
    match &value["data"] {
        serde_json::Value::String(data) => assert_eq!(data, &delivered),
        data => assert_eq!(serde_json::from_str(&delivered).ok().as_ref(), Some(data)),
    }
    assert_eq!(event.data_bytes, delivered.len());
    assert!(event.data_bytes <= 40);
    assert_eq!(value["name"].as_str(), Some(&*event.name));
    assert!((1..=12).contains(&event.name.chars().count()));
    assert!((1..=3).contains(&event.channels.len()));
    for (index, channel) in event.channels.iter().enumerate() {
        assert!(super::channel::ChannelName::parse(channel, 200).is_ok());
        assert!(!event.channels[..index].contains(channel));
    }
    assert_eq!(event.info.is_some(), !value["info"].is_null());
    assert_eq!(event.delta, value["delta"].as_bool());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::json::sample;
    use crate::seed::Seed;

    fn parse(body: &str) -> Result<Publish<'_>, Error<'_>> {
        Publish::parse(body.as_bytes(), &PublishLimits::default())
    }

    #[test]
    fn the_documented_example_is_read() {
        let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let publish = parse(body).expect("valid");
        assert_eq!(publish.name, "foo");
        assert_eq!(publish.name_source, StringSource::Token(r#""foo""#));
        assert_eq!(
            publish.data,
            StringSource::Token(r#""{\"some\":\"data\"}""#)
        );
        assert_eq!(publish.data_bytes, r#"{"some":"data"}"#.len());
        assert_eq!(*publish.channels, ["project-3"]);
        assert!(publish.except.is_none() && publish.info.is_none() && publish.delta.is_none());
        assert!(publish.tags.is_empty() && publish.idempotency_key.is_none());
    }

    #[test]
    fn data_is_delivered_as_it_was_written() {
        let quotes = "\\\"".repeat(10 * 1024);
        for (data, source, bytes) in [
            (r#""hello""#, StringSource::Token(r#""hello""#), 5),
            (r#""""#, StringSource::Token(r#""""#), 0),
            (r#""null""#, StringSource::Token(r#""null""#), 4),
            (r#""\u0000""#, StringSource::Token(r#""\u0000""#), 1),
            (
                r#""\ud83d\ude00""#,
                StringSource::Token(r#""\ud83d\ude00""#),
                4,
            ),
            ("\"\u{2028}\"", StringSource::Token("\"\u{2028}\""), 3),
            (
                &format!("\"{quotes}\""),
                StringSource::Token(&format!("\"{quotes}\"")),
                10 * 1024,
            ),
            ("5", StringSource::Text("5"), 1),
            ("false", StringSource::Text("false"), 5),
            ("null", StringSource::Text("null"), 4),
            ("1e400", StringSource::Text("1e400"), 5),
            (
                r#"{"n":1.0,"big":12345678901234567890}"#,
                StringSource::Text(r#"{"n":1.0,"big":12345678901234567890}"#),
                36,
            ),
            (
                r#"[ 1, "\u00e9" ]"#,
                StringSource::Text(r#"[ 1, "\u00e9" ]"#),
                15,
            ),
        ] {
            let body = format!(r#"{{"channel":"c","data":{data},"name":"e"}}"#);
            let publish = parse(&body).expect("valid");
            assert_eq!((publish.data, publish.data_bytes), (source, bytes));
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_malformed() {
        for body in [
            "",
            "[]",
            "5",
            "{",
            r#"{"name":"e","data":"d","channel":"c""#,
            r#"{"name":"e","data":"d","channel":"c"} x"#,
            "\u{feff}{\"name\":\"e\",\"data\":\"d\",\"channel\":\"c\"}",
            r#"{"name":"e","data":"\ud800","channel":"c"}"#,
            r#"{"name":"e","data":01,"channel":"c"}"#,
        ] {
            assert_eq!(parse(body).map(drop), Err(Error::Malformed), "{body}");
            let batch = parse_batch(body.as_bytes(), &PublishLimits::default());
            assert_eq!(batch.map(drop), Err(Error::Malformed), "{body}");
        }
        let not_utf8 = b"{\"name\":\"e\",\"data\":\"\xc3\x28\",\"channel\":\"c\"}";
        let publish = Publish::parse(not_utf8, &PublishLimits::default());
        assert_eq!(publish.map(drop), Err(Error::Malformed));
        let nested = |levels| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!(r#"{{"name":"e","channel":"c","data":{open}{close}}}"#)
        };
        assert!(parse(&nested(127)).is_ok());
        assert_eq!(parse(&nested(128)).map(drop), Err(Error::Malformed));
    }

    #[test]
    fn every_prefix_of_a_body_is_malformed() {
        let body =
            r#"{"name":"e","channels":["a","b"],"data":{"x":"\u00e9"},"tags":{"k":"v"},"info":""}"#;
        assert!(parse(body).is_ok());
        let batch = format!(r#"{{"batch":[{body},{body}]}}"#);
        let limits = PublishLimits::default();
        assert!(parse_batch(batch.as_bytes(), &limits).is_ok());
        for end in 0..body.len() {
            let publish = Publish::parse(&body.as_bytes()[..end], &limits);
            assert_eq!(publish.map(drop), Err(Error::Malformed));
        }
        for end in 0..batch.len() {
            let events = parse_batch(&batch.as_bytes()[..end], &limits);
            assert_eq!(events.map(drop), Err(Error::Malformed));
        }
    }

    #[test]
    fn a_batch_is_all_of_its_events_or_the_first_fault() {
        let limits = PublishLimits::default();
        let event = |name: &str| format!(r#"{{"channel":"c","name":"{name}","data":"d"}}"#);
        let batch = |events: &[String]| format!(r#"{{"batch":[{}]}}"#, events.join(","));
        let read = |body: &str| {
            parse_batch(body.as_bytes(), &limits)
                .map(|events| events.iter().map(|event| event.name.to_string()).collect())
                .map_err(|error| (error.status(), error.to_string()))
        };
        let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("e{n}")).collect() };
        let events = |count| {
            names(count)
                .iter()
                .map(|name| event(name))
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&batch(&[])), Ok(vec![]));
        assert_eq!(read(&batch(&events(10))), Ok(names(10)));
        assert!(read(&batch(&events(11))).is_err_and(|(status, _)| status == 400));
        for body in [
            "{}",
            r#"{"batch":null}"#,
            r#"{"batch":{}}"#,
            r#"{"batch":"[]"}"#,
            r#"{"batch":[5]}"#,
            r#"{"batch":[[]]}"#,
        ] {
            let (status, text) = read(body).expect_err("no batch");
            assert!(status == 400 && text.contains("'batch'"), "{body}: {text}");
        }
        let large = format!(
            r#"{{"channel":"c","name":"l","data":"{}"}}"#,
            "x".repeat(102_401)
        );
        let bad = r#"{"channel":"b c","name":"b","data":"d"}"#.to_owned();
        let status = |events: &[String]| read(&batch(events)).map_err(|(status, _)| status);
        assert_eq!(status(&[event("a"), large.clone(), bad.clone()]), Err(413));
        assert_eq!(status(&[event("a"), bad, large]), Err(400));
    }

    #[test]
    fn events_of_a_batch_stand_for_themselves() {
        let body = r#"{"batch":[
            {"channel":"a","name":"e1","data":"1","socket_id":"1.2"},
            {"channels":["b","c"],"name":"e2","data":{"x":2},"info":"user_count"},
            {"channel":"d","name":"e3","data":"3","idempotency_key":5}
        ]}"#;
        let events = parse_batch(body.as_bytes(), &PublishLimits::default()).expect("valid");
        assert_eq!(
            events[0].except.map(|id| id.text().as_str().to_owned()),
            Some("1.2".into())
        );
        assert!(events[0].info.is_none() && events[1].except.is_none());
        assert_eq!(*events[1].channels, ["b", "c"]);
        assert_eq!(events[1].data, StringSource::Text(r#"{"x":2}"#));
        assert!(events[1].info.is_some_and(|info| info.user_count));
        // The key of an event in a batch is ignored, whatever it is.
        assert!(events[2].idempotency_key.is_none());
    }

    #[test]
    fn an_empty_body_is_read_from_the_query() {
        let limits = PublishLimits::default();
        let query = QueryFields {
            name: Some("e\"1"),
            data: Some("{\"a\":1}\n"),
            channel: Some("c"),
            socket_id: Some("1.2"),
            info: Some("user_count"),
            ..QueryFields::default()
        };
        let publish = Publish::from_query(&query, &limits).expect("valid");
        assert_eq!(publish.name_source, StringSource::Text("e\"1"));
        assert_eq!(publish.data, StringSource::Text("{\"a\":1}\n"));
        assert_eq!(publish.data_bytes, 8);
        assert_eq!(*publish.channels, ["c"]);
        assert!(publish.except.is_some() && publish.info.is_some_and(|info| info.user_count));
        let many = QueryFields {
            channels: &["a", "b", "a"],
            ..query
        };
        assert_eq!(
            *Publish::from_query(&many, &limits).expect("valid").channels,
            ["a", "b"]
        );

        let fault = |query: QueryFields<'static>| Publish::from_query(&query, &limits).err();
        assert_eq!(fault(QueryFields::default()), Some(Error::Required("name")));
        assert_eq!(
            fault(QueryFields {
                data: None,
                ..query
            }),
            Some(Error::Required("data"))
        );
        let no_channel = QueryFields {
            channel: None,
            ..query
        };
        assert_eq!(fault(no_channel), Some(Error::Required("channels")));
        let reserved = QueryFields {
            name: Some("pusher:x"),
            ..query
        };
        assert_eq!(fault(reserved), Some(Error::NameReserved));
        let socket_id = QueryFields {
            socket_id: Some("x"),
            ..query
        };
        assert_eq!(fault(socket_id), Some(Error::SocketId));
    }

    #[test]
    fn seeded_bodies_never_panic_and_agree_with_serde_json() {
        const MEMBERS: [&str; 6] = ["info", "socket_id", "tags", "delta", "channels", "name"];
        let mut random = Seed::new(45);
        let mut accepted = 0;
        for round in 0..6_000 {
            let mut event = br#"{"name":"ev","channel":"c","data":"#.to_vec();
            event.extend(sample::json(&mut random, round % 3));
            if random.below(2) == 0 {
                event.extend(format!(",\"{}\":", MEMBERS[random.below(6)]).as_bytes());
                event.extend(sample::json(&mut random, round % 2));
            }
            event.push(b'}');
            accepted += usize::from(Publish::parse(&event, &PublishLimits::default()).is_ok());
            fuzz_publish(&event);
            fuzz_publish(&[b"{\"batch\":[", &event[..], b",", &event[..], b"]}"].concat());
            fuzz_publish(&sample::json(&mut random, 3));
        }
        assert!((600..5_400).contains(&accepted), "{accepted}");
    }
}
