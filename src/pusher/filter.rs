//! Tag filters: what a subscriber wants of a channel, decided per publish (extensions spec 2).
//!
//! [`Filter::parse`] checks every bound while it reads, brings the tree into one form and lays it
//! out flat: a list of tests, each with the test to go on with. So there is nothing to recurse into
//! when an event comes, nothing to allocate, and two filters that were written differently but say
//! the same (order, repetitions, nested branches of one kind, double negation) are equal and hash
//! alike, which is what a channel needs to keep each of them once. It does not look for deeper
//! equivalences, and it knows neither subscribers nor whether the app has filtering on.
//!
//! Invariant: every test leads to a later one or to an outcome, so an evaluation ends after at most
//! as many tests as there are; and every span lies in `text`, on character boundaries.

mod compile;
mod error;
mod tags;
mod tree;

use crate::pusher::json::Token;

pub use error::Error;
pub use tags::TagSet;

/// Leaves and branches of one filter.
pub const NODES_MAX: usize = 128;
/// Levels of nodes, the outermost included.
pub const DEPTH_MAX: usize = 16;
/// Values of one `vals`.
pub const VALUES_MAX: usize = 128;
/// Bytes of all nodes, those within a node counted again: what is looked through to read them. A
/// whole message of the usual length may be four levels deep, one of a quarter sixteen.
pub const READ_BYTES_MAX: usize = 256 << 10;
/// Names of one list of events.
pub const EVENTS_MAX: usize = 50;
/// Of a name in such a list. No event has a longer one: 200 characters of 4 bytes by default.
pub const EVENT_NAME_BYTES_MAX: usize = 1024;

/// A compiled filter. Its size is that of its strings and some 30 bytes a test.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Keys and values, one after the other.
    text: Box<str>,
    /// The values of tests that have several, sorted within each.
    values: Box<[Span]>,
    /// At least one.
    steps: Box<[Step]>,
}

/// One test and what its outcome leads to: the index of a later step, [`TRUE`] or [`FALSE`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct Step {
    key: Span,
    /// [`tags::mark`] of the key.
    mark: u32,
    test: Test,
    if_true: u8,
    if_false: u8,
    negated: bool,
}

const TRUE: u8 = 254;
const FALSE: u8 = 255;
// Two lists of events may stand beside the tree.
const _: () = assert!(NODES_MAX + 2 <= TRUE as usize);

/// What is asked of the value of a tag; of an absent tag none of it is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Test {
    Present,
    Equals(Span),
    OneOf(Values),
    StartsWith(Span),
    EndsWith(Span),
    Contains(Span),
    Compares(Order, Number),
    /// Not of a tag: the name of the event is one of these.
    Event(Values),
}

/// Where a string lies in `text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Span {
    start: u32,
    end: u32,
}

/// Where a list lies in `values`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Values {
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A finite number or none at all, in a form that is equal to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Number(u64);

impl Number {
    /// NaN where the text is no finite number: it compares as nothing.
    fn parse(text: &str) -> Self {
        // Adding zero makes the negative zero an ordinary one.
        Self((finite(text).unwrap_or(f64::NAN) + 0.0).to_bits())
    }

    fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

impl Filter {
    /// Reads `data.filter` (a tree, or the compound of names and tree) and `data.events` of a
    /// subscription; `None` where there is neither.
    pub fn parse(
        filter: Option<Token<'_>>,
        events: Option<Token<'_>>,
    ) -> Result<Option<Self>, Error> {
        Ok(tree::parse(filter, events)?.map(|tree| compile::compile(&tree)))
    }

    /// Whether an event of this name with these tags is wanted.
    pub fn matches(&self, event: &str, tags: &TagSet) -> bool {
        let mut at = 0;
        loop {
            let step = &self.steps[usize::from(at)];
            at = match self.holds(step, event, tags) != step.negated {
                true => step.if_true,
                false => step.if_false,
            };
            match at {
                TRUE => return true,
                FALSE => return false,
                _ => {}
            }
        }
    }

    /// Bytes that it takes, for whoever bounds them.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + size_of_val(&*self.values) + size_of_val(&*self.steps)
    }

    #[inline]
    fn holds(&self, step: &Step, event: &str, tags: &TagSet) -> bool {
        if let Test::Event(names) = step.test {
            return self.is_one_of(names, event);
        }
        let Some(value) = tags.find(step.mark, self.str(step.key)) else {
            return false;
        };
        match step.test {
            Test::Present => true,
            Test::Equals(span) => value == self.str(span),
            Test::OneOf(values) => self.is_one_of(values, value),
            Test::StartsWith(span) => value.starts_with(self.str(span)),
            Test::EndsWith(span) => value.ends_with(self.str(span)),
            Test::Contains(span) => value.contains(self.str(span)),
            Test::Compares(order, number) => finite(value).is_some_and(|value| match order {
                Order::Greater => value > number.value(),
                Order::GreaterOrEqual => value >= number.value(),
                Order::Less => value < number.value(),
                Order::LessOrEqual => value <= number.value(),
            }),
            Test::Event(_) => false,
        }
    }

    fn is_one_of(&self, values: Values, text: &str) -> bool {
        self.values[values.start as usize..values.end as usize]
            .binary_search_by(|span| self.str(*span).cmp(text))
            .is_ok()
    }

    fn str(&self, span: Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }
}

#[cfg(test)]
mod tests;
