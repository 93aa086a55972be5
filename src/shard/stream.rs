//! `Stream`: a channel's messages in the order of their numbers, for those who get deltas
//! (extensions spec 3.4).
//!
//! The home keeps one *head* for each conflation key: the number and the text of the last message,
//! against which the next one is encoded. A shard whose subscribers also filter keeps a [`Ring`] of
//! the last few texts, since the last message that passed a filter may be an earlier one. Which
//! subscriber has got what is not known here: see `groups`.
//!
//! Instead of the last K texts at the home (extensions spec 3.4) it has one: nobody but a shard can
//! know another base, and that shard has the texts that it could use.
//!
//! Invariant: numbers of a key only grow while the channel lives, also where the key is dropped or
//! the stream ends and begins again: clients find a base by its number, and events of the stream
//! before may still be under way to a new subscriber. `bytes` is the sum over the texts.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::pusher::delta::{Algorithm, Encoder, TEXT_BYTES_MAX};
use crate::pusher::json::StringSource;
use crate::pusher::outbound::{self, DeltaEvent};

use super::message::Frame;

/// What a home says of an event to those who get deltas, beside the event itself.
#[derive(Debug)]
pub struct Step {
    /// The conflation key, on channels that have them.
    pub key: Option<Arc<str>>,
    /// Keys that the channel may have.
    pub keys_max: usize,
    /// The number of the message among those of its key.
    pub seq: u64,
    /// The number of the `Deliver` of the message before it, against which `deltas` are: whoever
    /// has got that may get these.
    pub base: Option<u64>,
    pub choice: Choice,
    /// By [`Algorithm::index`], those that somebody gets and that the choice allows.
    pub deltas: Deltas,
}

/// Frames of one delta, by [`Algorithm::index`].
pub type Deltas = [Option<Arc<Frame>>; Algorithm::ALL.len()];

/// When a delta is sent to those who have a base (extensions spec 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Never: everybody gets the full form.
    Full,
    /// Where its frame is smaller than the full form.
    Smaller,
    /// Always: the publisher wishes it.
    Always,
}

impl Step {
    /// The key under which texts are kept: `""` on channels without keys.
    pub fn kept_key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    /// The full form of an event: its text with its place in the stream.
    pub fn full(&self, frame: &Frame) -> Arc<Frame> {
        Frame::text_of(frame.accepted(), |out| {
            outbound::event_in_stream(out, frame.payload(), self.seq, self.key.as_deref());
        })
    }

    /// Bytes of the frames that it brings.
    pub fn bytes(&self) -> usize {
        self.deltas
            .iter()
            .flatten()
            .map(|frame| frame.bytes().len())
            .sum()
    }
}

/// One message as its difference from another.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    pub channel: &'a str,
    pub base: &'a Frame,
    pub base_seq: u64,
    pub target: &'a Frame,
    pub seq: u64,
    pub key: Option<&'a str>,
    pub choice: Choice,
}

impl Job<'_> {
    /// Encodes by each of `algorithms`; both formats come from one comparison.
    pub fn encode(
        &self,
        encoder: &mut Encoder,
        algorithms: impl Iterator<Item = Algorithm>,
    ) -> Deltas {
        let mut deltas = Deltas::default();
        let (base, target) = (self.base.payload(), self.target.payload());
        let bytes_max = match self.choice {
            Choice::Full => return deltas,
            // Base64 makes four bytes of three.
            Choice::Smaller => target.len() / 4 * 3,
            Choice::Always => TEXT_BYTES_MAX,
        };
        let name = outbound::event_name(target).map(|name| name.raw());
        let (Some(name), Some(mut difference)) = (name, encoder.compare(base, target, bytes_max))
        else {
            return deltas;
        };
        let mut delta = Vec::new();
        for algorithm in algorithms {
            delta.clear();
            if !difference.write(algorithm, &mut delta) {
                continue;
            }
            let event = DeltaEvent {
                name: StringSource::Token(name),
                channel: self.channel,
                delta: &delta,
                seq: self.seq,
                base: self.base_seq,
                algorithm,
                conflation_key: self.key,
            };
            let frame = Frame::text_of(self.target.accepted(), |out| outbound::delta(out, &event));
            let is_smaller = frame.payload().len() < self.full_bytes();
            deltas[algorithm.index()] =
                (is_smaller || self.choice == Choice::Always).then_some(frame);
        }
        deltas
    }

    /// Bytes of the text of the full form.
    fn full_bytes(&self) -> usize {
        const EMPTY: &[u8] = b"{}";
        let mut place = Vec::new();
        outbound::event_in_stream(&mut place, EMPTY, self.seq, self.key);
        self.target.payload().len() + place.len() - EMPTY.len()
    }
}

/// Keys that a new one takes the place of, at most, where a channel has more than it may: it has
/// after its policy has changed, and comes down to its bound key by key.
const KEYS_DROPPED_MAX: usize = 2;

/// The last message of a conflation key, at the home.
#[derive(Debug)]
struct Head {
    seq: u64,
    /// The number of its `Deliver`: also how recently the key was used.
    delivered: u64,
    text: Arc<Frame>,
    /// Deltas since the last message that everybody got in full.
    deltas: u32,
}

/// Bytes that a kept text takes, with what is kept beside it; the key is a part of the text.
pub fn kept_bytes(frame: &Frame) -> u64 {
    (size_of::<Frame>() + size_of::<Head>().max(size_of::<Held>()) + frame.held_bytes()) as u64
}

/// The stream of a channel at its home.
#[derive(Debug, Default)]
pub struct Stream {
    heads: HashMap<Arc<str>, Head>,
    /// Nothing before the stream, and no key that was dropped, had a higher number.
    floor: u64,
    bytes: u64,
}

/// A message that enters a stream.
#[derive(Clone, Copy, Debug)]
pub struct Entering<'a> {
    pub channel: &'a str,
    pub frame: &'a Arc<Frame>,
    /// The number of its `Deliver`.
    pub delivered: u64,
    /// `""` where the channel has none.
    pub key: &'a str,
    pub has_keys: bool,
    /// How many keys may be kept, at least 1.
    pub keys_max: usize,
    /// What is chosen where nothing speaks for the full form.
    pub choice: Choice,
    /// Deltas after which everybody gets the full form.
    pub full_interval: u32,
    /// Whether shards send deltas against other messages than the last.
    pub is_filtered: bool,
    /// Whether its text may be kept for the next one. Without it nothing of its key is.
    pub has_room: bool,
}

impl Stream {
    /// A stream that begins behind the `Deliver` of this number. It numbers no faster than those, so
    /// that one which comes after it begins behind it.
    pub fn beginning(delivered: u64) -> Self {
        Self {
            floor: delivered,
            ..Self::default()
        }
    }

    /// Bytes of the texts that it keeps.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next message, encoded by each of `algorithms` against the last of its key.
    pub fn enter(
        &mut self,
        entering: &Entering<'_>,
        encoder: &mut Encoder,
        algorithms: impl Iterator<Item = Algorithm>,
    ) -> Step {
        let Entering {
            frame,
            delivered,
            key,
            ..
        } = *entering;
        let (name, before) = self.take(key, entering.keys_max);
        let last = before.as_ref();
        let seq = last.map_or(self.floor, |last| last.seq) + 1;
        let in_a_row = last.map_or(0, |last| last.deltas);
        let is_due = in_a_row >= entering.full_interval && entering.choice == Choice::Smaller;
        let choice = if is_due {
            Choice::Full
        } else {
            entering.choice
        };
        let job = last.map(|last| Job {
            channel: entering.channel,
            base: &last.text,
            base_seq: last.seq,
            target: frame,
            seq,
            key: entering.has_keys.then_some(key),
            choice,
        });
        let deltas = job.map_or_else(Deltas::default, |job| job.encode(encoder, algorithms));
        let may_be_delta = entering.is_filtered && last.is_some() && choice != Choice::Full;
        let head = Head {
            seq,
            delivered,
            text: Arc::clone(frame),
            deltas: match may_be_delta || deltas.iter().any(Option::is_some) {
                true => in_a_row + 1,
                false => 0,
            },
        };
        match entering.has_room {
            true => self.put(&name, head),
            false => self.floor = self.floor.max(seq),
        }
        Step {
            key: entering.has_keys.then_some(name),
            keys_max: entering.keys_max,
            seq,
            base: before.map(|before| before.delivered),
            choice,
            deltas,
        }
    }

    /// What is kept of a key, taken out. One that is new takes the place of the least recently used
    /// where there are enough.
    fn take(&mut self, key: &str, keys_max: usize) -> (Arc<str>, Option<Head>) {
        if let Some((name, head)) = self.heads.remove_entry(key) {
            self.bytes -= kept_bytes(&head.text);
            return (name, Some(head));
        }
        for _ in 0..KEYS_DROPPED_MAX {
            if self.heads.len() < keys_max.max(1) {
                break;
            }
            // Numbers of `Deliver` are given once, so there is one oldest, whatever the order here.
            let oldest = self.heads.iter().min_by_key(|(_, head)| head.delivered);
            let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) else {
                break;
            };
            if let Some(head) = self.heads.remove(&oldest) {
                self.floor = self.floor.max(head.seq);
                self.bytes -= kept_bytes(&head.text);
            }
        }
        (key.into(), None)
    }

    fn put(&mut self, name: &Arc<str>, head: Head) {
        self.bytes += kept_bytes(&head.text);
        self.heads.insert(Arc::clone(name), head);
    }
}

/// A message that subscribers of a shard may have got.
#[derive(Clone, Debug)]
pub struct Held {
    /// The number of its `Deliver`.
    pub delivered: u64,
    pub seq: u64,
    pub frame: Arc<Frame>,
    /// The name of the event: filters ask for it again and again.
    pub name: Arc<str>,
    /// Whether those who filter were sent its tags.
    pub shows_tags: bool,
}

impl Held {
    /// The event as those who filter got it.
    pub fn as_sent(&self) -> Arc<Frame> {
        match self.shows_tags {
            true => self.frame.with_tags(),
            false => Arc::clone(&self.frame),
        }
    }
}

/// The last messages of a channel that some filter here has let through, by conflation key.
#[derive(Debug, Default)]
pub struct Ring {
    /// Oldest first; none is empty.
    held: HashMap<Arc<str>, VecDeque<Held>>,
    bytes: u64,
}

impl Ring {
    /// Bytes of the texts that it keeps.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The newest message of a key that is `wanted`.
    pub fn newest(&self, key: &str, wanted: impl Fn(&Held) -> bool) -> Option<&Held> {
        self.held.get(key)?.iter().rev().find(|held| wanted(held))
    }

    /// Takes a message, and forgets what is then too much. `has_room` says whether its text may be
    /// kept: without it nothing of its key is, because a base must not be older than what a
    /// subscriber has got last.
    pub fn push(&mut self, step: &Step, held: Held, texts_max: usize, has_room: bool) {
        let key = step.kept_key();
        if !has_room {
            return self.forget(key);
        }
        self.bytes += kept_bytes(&held.frame);
        let texts = match self.held.get_mut(key) {
            Some(texts) => texts,
            None => {
                self.make_room(step.keys_max);
                let name = step.key.clone().unwrap_or_else(|| key.into());
                self.held.entry(name).or_default()
            }
        };
        texts.push_back(held);
        while texts.len() > texts_max.max(1) {
            let gone = texts.pop_front();
            self.bytes -= gone.map_or(0, |held| kept_bytes(&held.frame));
        }
    }

    fn make_room(&mut self, keys_max: usize) {
        let used = |texts: &VecDeque<Held>| texts.back().map_or(0, |held| held.delivered);
        for _ in 0..KEYS_DROPPED_MAX {
            if self.held.len() < keys_max.max(1) {
                return;
            }
            let oldest = self.held.iter().min_by_key(|(_, texts)| used(texts));
            let Some(oldest) = oldest.map(|(name, _)| Arc::clone(name)) else {
                return;
            };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, key: &str) {
        for held in self.held.remove(key).into_iter().flatten() {
            self.bytes -= kept_bytes(&held.frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::delta::apply::apply;

    const ROOM: usize = 10;

    fn frame(text: &str) -> Arc<Frame> {
        Frame::text(|out| {
            let (name, data) = (StringSource::Text("tick"), StringSource::Text(text));
            outbound::event(out, name, "c", data, None);
        })
    }

    /// A text that has much in common with its like.
    fn long(number: u64) -> String {
        format!("{}{number}", "much in common ".repeat(20))
    }

    fn entering<'a>(frame: &'a Arc<Frame>, delivered: u64, key: &'a str) -> Entering<'a> {
        Entering {
            channel: "c",
            frame,
            delivered,
            key,
            has_keys: !key.is_empty(),
            keys_max: ROOM,
            choice: Choice::Smaller,
            full_interval: 3,
            is_filtered: false,
            has_room: true,
        }
    }

    fn enter(stream: &mut Stream, entering: &Entering<'_>) -> Step {
        let algorithms = Algorithm::ALL.into_iter();
        stream.enter(entering, &mut Encoder::default(), algorithms)
    }

    /// What a delta frame makes of a text.
    fn applied(base: &Frame, delta: &Frame, algorithm: Algorithm) -> Vec<u8> {
        use base64::Engine as _;
        let event: serde_json::Value = serde_json::from_slice(delta.payload()).expect("JSON");
        assert_eq!(event["data"]["algorithm"], algorithm.name());
        let delta = event["data"]["delta"].as_str().expect("a delta");
        let engine = base64::engine::general_purpose::STANDARD;
        let delta = engine.decode(delta).expect("base64");
        apply(algorithm, base.payload(), &delta).expect("a delta of this base")
    }

    #[test]
    fn each_event_is_encoded_against_the_one_before_and_every_so_often_not() {
        let mut stream = Stream::default();
        let frames: Vec<_> = (1..=9).map(|number| frame(&long(number))).collect();
        for (frame, number) in frames.iter().zip(1..) {
            let step = enter(&mut stream, &entering(frame, number * 10, ""));
            assert_eq!((step.seq, step.key.as_deref()), (number, None));
            assert_eq!(step.base, (number > 1).then(|| number * 10 - 10));
            // The first, and one behind three deltas.
            let is_full = number % 4 == 1;
            for algorithm in Algorithm::ALL {
                let delta = &step.deltas[algorithm.index()];
                assert_eq!(delta.is_none(), is_full, "{number}");
                if let Some(delta) = delta {
                    let base = &frames[number as usize - 2];
                    assert_eq!(applied(base, delta, algorithm), frame.payload());
                }
            }
        }
        assert_eq!(stream.bytes(), kept_bytes(&frames[8]));
    }

    #[test]
    fn a_delta_that_is_not_smaller_is_sent_only_where_it_is_wished_for() {
        let (one, two) = (frame("1"), frame("2"));
        for choice in [Choice::Full, Choice::Smaller, Choice::Always] {
            let mut stream = Stream::default();
            enter(&mut stream, &entering(&one, 1, ""));
            let entering = Entering {
                choice,
                ..entering(&two, 2, "")
            };
            let step = enter(&mut stream, &entering);
            assert_eq!(step.deltas[0].is_some(), choice == Choice::Always);
        }
    }

    #[test]
    fn the_full_form_is_as_long_as_it_is_taken_to_be() {
        for key in [None, Some(""), Some("é\"\\")] {
            let frame = frame("text");
            let job = Job {
                channel: "c",
                base: &frame,
                base_seq: 8,
                target: &frame,
                seq: 9,
                key,
                choice: Choice::Smaller,
            };
            let step = Step {
                key: key.map(Into::into),
                keys_max: ROOM,
                seq: 9,
                base: None,
                choice: Choice::Smaller,
                deltas: Deltas::default(),
            };
            assert_eq!(step.full(&frame).payload().len(), job.full_bytes());
        }
    }

    #[test]
    fn keys_have_streams_of_their_own_and_the_least_recent_one_goes() {
        let mut stream = Stream::beginning(100);
        let mut seq = |key: &str, delivered| {
            let frame = frame(&long(delivered));
            let entering = Entering {
                keys_max: 2,
                ..entering(&frame, delivered, key)
            };
            let step = enter(&mut stream, &entering);
            assert_eq!(step.key.as_deref(), Some(key));
            (step.seq, step.base)
        };
        assert_eq!(seq("a", 201), (101, None));
        assert_eq!(seq("b", 202), (101, None));
        assert_eq!(seq("a", 203), (102, Some(201)));
        // In place of b, and above every number that was given to it.
        assert_eq!(seq("c", 204), (102, None));
        assert_eq!(seq("b", 205), (103, None));
        assert_eq!(seq("c", 206), (103, Some(204)));
    }

    #[test]
    fn without_room_nothing_is_kept_and_the_next_event_has_no_base() {
        let mut stream = Stream::default();
        let frame = frame(&long(1));
        for (delivered, has_room, base) in [(1, true, None), (2, false, Some(1)), (3, true, None)] {
            let entering = Entering {
                has_room,
                ..entering(&frame, delivered, "")
            };
            assert_eq!(enter(&mut stream, &entering).base, base);
        }
        assert_eq!(stream.bytes(), kept_bytes(&frame));
    }

    #[test]
    fn without_room_no_key_is_kept_and_numbers_go_on() {
        let mut stream = Stream::beginning(10);
        let frame = frame("text");
        for number in 0..50 {
            let key = format!("key-{number}");
            let entering = Entering {
                keys_max: 100,
                has_room: false,
                ..entering(&frame, 11 + number, &key)
            };
            assert_eq!(enter(&mut stream, &entering).seq, 11 + number);
        }
        assert_eq!((stream.heads.len(), stream.bytes()), (0, 0));
    }

    #[test]
    fn where_fewer_keys_are_allowed_than_there_are_each_new_one_drops_some() {
        let mut stream = Stream::default();
        let frame = frame("text");
        let mut keys = |number: u64, keys_max| {
            let key = format!("key-{number}");
            let entering = Entering {
                keys_max,
                ..entering(&frame, number, &key)
            };
            enter(&mut stream, &entering);
            stream.heads.len()
        };
        assert_eq!((1..=100).map(|number| keys(number, 100)).max(), Some(100));
        // One comes and two go, until there are so many.
        assert_eq!(keys(101, 10), 99);
        assert_eq!((102..=200).map(|number| keys(number, 10)).last(), Some(10));
        assert_eq!(stream.bytes(), 10 * kept_bytes(&frame));
    }

    #[test]
    fn deltas_that_shards_make_count_for_the_interval() {
        let mut stream = Stream::default();
        let choices = (1..=9).map(|number| {
            let frame = frame(&long(number));
            let entering = Entering {
                is_filtered: true,
                ..entering(&frame, number, "")
            };
            // Nobody is sent what the home makes.
            let none = std::iter::empty();
            stream
                .enter(&entering, &mut Encoder::default(), none)
                .choice
        });
        let is_full: Vec<bool> = choices.map(|choice| choice == Choice::Full).collect();
        let [no, yes] = [false, true];
        assert_eq!(is_full, [no, no, no, no, yes, no, no, no, yes]);
    }

    /// What a home says of the event that [`held`] makes.
    fn step(key: &str, seq: u64, base: Option<u64>) -> Step {
        Step {
            key: Some(key.into()),
            keys_max: 2,
            seq,
            base,
            choice: Choice::Smaller,
            deltas: Deltas::default(),
        }
    }

    fn held(seq: u64) -> Held {
        Held {
            delivered: seq * 10,
            seq,
            frame: frame(&long(seq)),
            name: "tick".into(),
            shows_tags: false,
        }
    }

    #[test]
    fn a_ring_finds_the_newest_of_the_last_few_texts_of_a_key() {
        let mut ring = Ring::default();
        for seq in 1..=5 {
            ring.push(&step("a", seq, Some(seq * 10 - 10)), held(seq), 3, true);
        }
        let newest = |ring: &Ring, key: &str, below: u64| {
            let held = ring.newest(key, |held| held.seq < below);
            held.map(|held| held.seq)
        };
        assert_eq!(newest(&ring, "a", 9), Some(5));
        assert_eq!(newest(&ring, "a", 5), Some(4));
        assert_eq!(newest(&ring, "a", 3), None);
        assert_eq!(newest(&ring, "b", 9), None);
        // The home has no text of the one before; numbers go on all the same.
        ring.push(&step("a", 6, None), held(6), 3, true);
        assert_eq!(newest(&ring, "a", 6), Some(5));
        // No room: what is there must not be taken for the newest.
        ring.push(&step("a", 7, Some(60)), held(7), 3, false);
        assert_eq!((newest(&ring, "a", 9), ring.bytes()), (None, 0));
    }

    #[test]
    fn a_ring_keeps_as_many_keys_as_the_channel_may_have() {
        let mut ring = Ring::default();
        for (key, seq) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            ring.push(&step(key, seq, Some(1)), held(seq), 3, true);
        }
        let keys: Vec<bool> = ["a", "b", "c"]
            .map(|key| ring.held.contains_key(key))
            .into();
        assert_eq!(keys, [true, false, true]);
        let bytes = ring
            .held
            .values()
            .flatten()
            .map(|held| kept_bytes(&held.frame));
        assert_eq!(ring.bytes(), bytes.sum::<u64>());
    }
}
