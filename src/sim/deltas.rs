//! Deltas as a client sees them: texts are put together again with the plain decoder, from the bases
//! that Sockudo's client would keep, and then have to be what everybody else gets.

use std::collections::{BTreeMap, VecDeque};

use crate::app::delta::Preference;
use crate::app::{AppSettings, DeltaPolicies, DeltaPolicy};
use crate::pusher::delta::Algorithm;
use crate::pusher::delta::apply::apply;
use crate::seed::Seed;

/// Bases that a client keeps of a conflation key.
const BASES_MAX: usize = 30;

/// What a subscribe says of deltas: JSON, whether it turns them on or off, and by which algorithm.
pub(super) const WISHES: [Wish; 6] = [
    Wish("true", Some(true), None),
    Wish("false", Some(false), None),
    Wish(r#""fossil""#, Some(true), Some(Algorithm::Fossil)),
    Wish(
        r#"{"enabled":true,"algorithm":"vcdiff"}"#,
        Some(true),
        Some(Algorithm::Xdelta3),
    ),
    Wish(r#""none""#, Some(false), None),
    Wish(r#"{"algorithm":"xdelta3"}"#, None, Some(Algorithm::Xdelta3)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish(
    pub(super) &'static str,
    pub(super) Option<bool>,
    Option<Algorithm>,
);

impl Wish {
    /// The algorithm of a subscription with this wish, or with none, on a connection and a channel.
    pub(super) fn algorithm(
        wish: Option<Self>,
        connection: Option<Algorithm>,
        settings: &AppSettings,
        channel: &str,
    ) -> Option<Algorithm> {
        let Self(_, enabled, own) = wish.unwrap_or(Self("", None, None));
        if !settings.delta_compression || !enabled.unwrap_or_else(|| connection.is_some()) {
            return None;
        }
        let policy = settings.delta_channels.find(channel);
        let preferred = match policy.map(|policy| policy.preference) {
            Some(Preference::Algorithm(algorithm)) => Some(algorithm),
            _ => None,
        };
        own.or(connection).or(preferred).or(Some(Algorithm::Fossil))
    }
}

/// The answer to a wish.
pub(super) fn confirmation(channel: Option<&str>, algorithm: Option<Algorithm>) -> String {
    let channel = channel.map_or(String::new(), |name| format!(r#","channel":"{name}""#));
    let data = match algorithm {
        Some(algorithm) => format!(r#""enabled":true,"algorithm":"{}""#, algorithm.name()),
        None => r#""enabled":false"#.to_owned(),
    };
    format!(r#"{{"event":"pusher:delta_compression_enabled"{channel},"data":{{{data}{channel}}}}}"#)
}

/// Settings of an app, often with few deltas and few keys.
pub(super) fn settings(chance: &mut Seed) -> AppSettings {
    const ENTRIES: [&str; 5] = [
        "news conflation_key=k keys_max=2",
        "private-* algorithm=xdelta3 conflation_key=k",
        "presence-lobby algorithm=none",
        "cache-price conflation_key=k keys_max=1 algorithm=xdelta3",
        "presence-* conflation_key=k.x",
    ];
    let entries = ENTRIES.iter().filter(|_| chance.below(2) == 0);
    let policies = entries.map(|entry| DeltaPolicy::parse(entry).expect("an entry"));
    let delta_channels = DeltaPolicies::new(policies.collect());
    AppSettings {
        delta_channels,
        delta_compression: chance.below(8) > 0,
        delta_message_bytes_min: [0, 0, 100][chance.below(3)],
        delta_full_interval: [1, 3, 10][chance.below(3)],
        ..AppSettings::default()
    }
}

/// What a client keeps of one channel to put its events together.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The last text with a number.
    last: Option<(u64, String)>,
    /// The last texts of each key.
    keyed: BTreeMap<String, VecDeque<(u64, String)>>,
}

/// A text as its publisher meant it, and whether it came as a delta; `None` where it has no place
/// in a stream.
pub(super) struct Decoded {
    pub(super) text: String,
    pub(super) is_delta: bool,
}

impl Decoder {
    /// An event of the channel that this is for.
    pub(super) fn decode(&mut self, text: &str) -> Option<Decoded> {
        if text.starts_with(r#"{"event":"pusher:delta","#) {
            let text = self.apply(text);
            return Some(Decoded {
                text,
                is_delta: true,
            });
        }
        let (before, place) = text.rsplit_once(r#","__delta_seq":"#)?;
        let place = place.strip_suffix('}').expect("the place comes last");
        let (seq, key) = match place.split_once(r#","__conflation_key":"#) {
            Some((seq, key)) => (seq, Some(key.trim_matches('"'))),
            None => (place, None),
        };
        let text = format!("{before}}}");
        self.keep(seq.parse().expect("a number"), key, &text);
        Some(Decoded {
            text,
            is_delta: false,
        })
    }

    fn apply(&mut self, text: &str) -> String {
        let event: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let data = &event["data"];
        let number = |name: &str| data[name].as_u64().expect("a number");
        let (seq, base_seq) = (number("seq"), number("base_index"));
        let key = data["conflation_key"].as_str();
        let base = match key {
            Some(key) => self.keyed.get(key).and_then(|texts| {
                let is_it = |(seq, _): &&(u64, String)| *seq == base_seq;
                texts.iter().find(is_it)
            }),
            // Such a client looks at no number, and has the last one only.
            None => self.last.as_ref().filter(|(seq, _)| *seq == base_seq),
        };
        let (_, base) = base.unwrap_or_else(|| panic!("no base for {text}: {self:?}"));
        let algorithm = data["algorithm"].as_str().and_then(Algorithm::parse);
        let delta = base64(data["delta"].as_str().expect("a delta"));
        let target = apply(algorithm.expect("an algorithm"), base.as_bytes(), &delta);
        let target = target.unwrap_or_else(|| panic!("{text} cannot be applied to {base}"));
        let target = String::from_utf8(target).expect("texts are UTF-8");
        let parsed: serde_json::Value = serde_json::from_str(&target).expect("JSON");
        assert_eq!(
            (&parsed["event"], &parsed["channel"]),
            (&data["event"], &event["channel"])
        );
        self.keep(seq, key, &target);
        target
    }

    fn keep(&mut self, seq: u64, key: Option<&str>, text: &str) {
        let Some(key) = key else {
            let last = self.last.replace((seq, text.to_owned()));
            assert!(
                last.is_none_or(|(last, _)| last < seq),
                "numbers go backwards: {text}"
            );
            return;
        };
        let texts = self.keyed.entry(key.to_owned()).or_default();
        let last = texts.back().map_or(0, |(seq, _)| *seq);
        assert!(last < seq, "numbers of {key} go backwards: {text}");
        texts.push_back((seq, text.to_owned()));
        if texts.len() > BASES_MAX {
            texts.pop_front();
        }
    }
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    engine.decode(text).expect("padded base64")
}
