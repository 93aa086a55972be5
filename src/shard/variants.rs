//! `Variants`: what one event is made into for the groups of a channel here, each form once.
//!
//! Translated, with tags, in full with its place in a stream, and as its difference from bases that
//! the home does not know. The last is work that subscribers cause by their filters, so it has a
//! bound for each event: over it a group is sent the full form.

use std::iter;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::pusher::delta::{Algorithm, Encoder, TEXT_BYTES_MAX};
use crate::pusher::dialect::Dialect;

use super::groups::Form;
use super::message::Frame;
use super::stream::{Deltas, Held, Job, Step};

/// Bytes of texts that are compared for one event here, whatever its subscribers filter; enough for
/// any one pair.
const COMPARED_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX;

/// See the module.
pub(super) struct Variants {
    frame: Arc<Frame>,
    step: Option<Arc<Step>>,
    /// Whether those who filter are sent its tags.
    shows_tags: bool,
    translated: Option<Arc<Frame>>,
    tagged: Option<Arc<Frame>>,
    /// With its place in the stream, without and with tags.
    full: [Option<Arc<Frame>>; 2],
    of_home: Deltas,
    /// Deltas that are made here.
    own: SmallVec<[Own; 1]>,
    /// Bytes of the texts that were compared for those.
    compared: usize,
    left: u64,
}

/// The delta against one base by one algorithm; nothing where there is none to be sent.
struct Own {
    base_seq: u64,
    algorithm: Algorithm,
    made: Option<Arc<Frame>>,
    translated: Option<Arc<Frame>>,
}

impl Variants {
    pub(super) fn new(frame: Arc<Frame>, step: Option<Arc<Step>>, shows_tags: bool) -> Self {
        Self {
            frame,
            step,
            shows_tags,
            translated: None,
            tagged: None,
            full: Default::default(),
            of_home: Deltas::default(),
            own: SmallVec::new(),
            compared: 0,
            left: 0,
        }
    }

    /// The event as it came.
    pub(super) fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    /// What the home says of it, where the channel has a stream.
    pub(super) fn step(&self) -> Option<&Arc<Step>> {
        self.step.as_ref()
    }

    pub(super) fn shows_tags(&self) -> bool {
        self.shows_tags
    }

    /// Deltas that were made here.
    pub(super) fn encoded(&self) -> u64 {
        self.own.iter().filter(|own| own.made.is_some()).count() as u64
    }

    /// Deltas that were not, because enough had been compared.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// An event of the platform.
    pub(super) fn platform(&mut self, form: Form) -> Arc<Frame> {
        in_dialect(&self.frame, &mut self.translated, form.dialect)
    }

    /// The event as it is without deltas.
    pub(super) fn ordinary(&mut self, form: Form) -> Arc<Frame> {
        if !self.shows_tags || !form.is_filtered() {
            return Arc::clone(&self.frame);
        }
        Arc::clone(self.tagged.get_or_insert_with(|| self.frame.with_tags()))
    }

    /// The event for somebody who gets deltas and has no base.
    pub(super) fn full(&mut self, form: Form) -> Arc<Frame> {
        let ordinary = self.ordinary(form);
        let Some(step) = &self.step else {
            return ordinary;
        };
        let shows_tags = self.shows_tags && form.is_filtered();
        let full = &mut self.full[usize::from(shows_tags)];
        Arc::clone(full.get_or_insert_with(|| step.full(&ordinary)))
    }

    /// The delta that the home has made.
    pub(super) fn of_home(
        &mut self,
        step: &Step,
        algorithm: Algorithm,
        dialect: Dialect,
    ) -> Option<Arc<Frame>> {
        let at = algorithm.index();
        let delta = step.deltas[at].as_ref()?;
        Some(in_dialect(delta, &mut self.of_home[at], dialect))
    }

    /// The delta against a base that the home does not know, for a group that filters. It is looked
    /// for once, also where there is none.
    pub(super) fn own(
        &mut self,
        channel: &str,
        held: &Held,
        form: Form,
        encoder: &mut Encoder,
    ) -> Option<Arc<Frame>> {
        let algorithm = form.delta?;
        let is_it = |own: &Own| own.base_seq == held.seq && own.algorithm == algorithm;
        let at = match self.own.iter().position(is_it) {
            Some(at) => at,
            None => {
                let made = self.encode(channel, held, form, algorithm, encoder);
                self.own.push(Own {
                    base_seq: held.seq,
                    algorithm,
                    made,
                    translated: None,
                });
                self.own.len() - 1
            }
        };
        let Own {
            made, translated, ..
        } = &mut self.own[at];
        Some(in_dialect(made.as_ref()?, translated, form.dialect))
    }

    fn encode(
        &mut self,
        channel: &str,
        held: &Held,
        form: Form,
        algorithm: Algorithm,
        encoder: &mut Encoder,
    ) -> Option<Arc<Frame>> {
        let (base, target) = (held.as_sent(), self.ordinary(form));
        let compared = self.compared + base.payload().len() + target.payload().len();
        if compared > COMPARED_BYTES_MAX {
            self.left += 1;
            return None;
        }
        self.compared = compared;
        let step = self.step.as_ref()?;
        let job = Job {
            channel,
            base: &base,
            base_seq: held.seq,
            target: &target,
            seq: step.seq,
            key: step.key.as_deref(),
            choice: step.choice,
        };
        let made = job.encode(encoder, iter::once(algorithm));
        made.into_iter().nth(algorithm.index()).flatten()
    }
}

/// A frame in a dialect, translated once.
fn in_dialect(
    frame: &Arc<Frame>,
    translated: &mut Option<Arc<Frame>>,
    dialect: Dialect,
) -> Arc<Frame> {
    match dialect {
        Dialect::Pusher => Arc::clone(frame),
        dialect => Arc::clone(translated.get_or_insert_with(|| frame.translated(dialect))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pusher::filter::Filter;
    use crate::pusher::json::{self, StringSource};
    use crate::pusher::outbound;
    use crate::seed::Seed;
    use crate::shard::groups::{Groups, Wanted};
    use crate::shard::stream::Choice;

    /// What the subscribers of a group are sent who filter and get deltas.
    fn form(algorithm: Algorithm) -> Form {
        let token = json::document(r#"{"key":"a","cmp":"ex"}"#).expect("JSON");
        let filter = Filter::parse(Some(token), None).expect("a filter");
        let mut groups = Groups::default();
        groups.find_or_insert(&Wanted {
            filter: filter.map(Arc::new),
            delta: Some(algorithm),
            ..Wanted::default()
        });
        groups.all()[0].1
    }

    fn frame(data: &str) -> Arc<Frame> {
        Frame::text(|out| {
            let (name, data) = (StringSource::Text("tick"), StringSource::Text(data));
            outbound::event(out, name, "c", data, None);
        })
    }

    /// An event of this data at place 100 of its stream.
    fn variants(data: &str, choice: Choice) -> Variants {
        let step = Step {
            key: None,
            keys_max: 1,
            seq: 100,
            base: Some(99),
            choice,
            deltas: Deltas::default(),
        };
        Variants::new(frame(data), Some(Arc::new(step)), false)
    }

    fn held(seq: u64, data: &str) -> Held {
        Held {
            delivered: seq,
            seq,
            frame: frame(data),
            name: "tick".into(),
            shows_tags: false,
        }
    }

    /// A text that has nothing in common with another.
    fn noise(random: &mut Seed, chars: usize) -> String {
        let letters = random.bytes(chars).into_iter();
        letters.map(|byte| char::from(b'0' + byte % 64)).collect()
    }

    #[test]
    fn a_base_is_compared_once_by_each_algorithm_also_where_nothing_comes_of_it() {
        let mut random = Seed::new(81);
        let [base, target] = [(); 2].map(|()| noise(&mut random, 1000));
        let mut variants = variants(&target, Choice::Smaller);
        let held = held(98, &base);
        // As many groups as filters have chosen the same base.
        for _ in 0..1_000 {
            for algorithm in Algorithm::ALL {
                let delta = variants.own("c", &held, form(algorithm), &mut Encoder::default());
                assert!(delta.is_none());
            }
        }
        let once = held.frame.payload().len() + variants.frame.payload().len();
        assert_eq!(variants.compared, once * Algorithm::ALL.len());
        assert_eq!((variants.encoded(), variants.left()), (0, 0));
    }

    #[test]
    fn what_is_compared_for_one_event_has_a_bound_and_behind_it_the_full_form_is_sent() {
        let text = "much in common ".repeat(TEXT_BYTES_MAX / 15 - 10);
        let mut variants = variants(&text, Choice::Always);
        let form = form(Algorithm::Fossil);
        let mut encoder = Encoder::default();
        let mut deltas = [90, 91, 92].map(|seq| {
            let held = held(seq, &format!("{seq}{text}"));
            variants.own("c", &held, form, &mut encoder).is_some()
        });
        assert_eq!(deltas, [true, false, false]);
        assert_eq!((variants.encoded(), variants.left()), (1, 2));
        assert!(variants.compared <= COMPARED_BYTES_MAX);
        // What is small still fits; what has been made is there.
        deltas = [90, 91, 92].map(|seq| {
            let held = held(seq, "");
            variants.own("c", &held, form, &mut encoder).is_some()
        });
        assert_eq!(deltas, [true, false, false]);
    }
}
