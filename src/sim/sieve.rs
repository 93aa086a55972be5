//! Tags of events and filters of subscribers, as the model has them: a tree that is evaluated by
//! walking it, and the JSON text that says the same to the server.

use crate::seed::Seed;

/// The keys that events have tags of, and the values of each.
const KEYS: [&str; 2] = ["market", "asset"];
const VALUES: [[&str; 2]; 2] = [["spot", "perp"], ["BTC", "ETH"]];

/// The value of each key, where the event has that tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tags([Option<&'static str>; 2]);

impl Tags {
    /// None at all, or any of each.
    pub(super) fn some(chance: &mut Seed) -> Self {
        let mut tags = Self::default();
        if chance.below(3) > 0 {
            for (tag, values) in tags.0.iter_mut().zip(VALUES) {
                *tag = [None, Some(values[0]), Some(values[1])][chance.below(3)];
            }
        }
        tags
    }

    /// Keys and values, as a publisher gives them.
    pub(super) fn pairs(self) -> Vec<(&'static str, &'static str)> {
        let pairs = KEYS.into_iter().zip(self.0);
        pairs
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }
}

/// What a subscriber lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sieve {
    Is(usize, &'static str),
    Has(usize),
    Named(&'static str),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

impl Sieve {
    /// Small, and often the same as somebody else's.
    pub(super) fn some(chance: &mut Seed, names: [&'static str; 2]) -> Self {
        match chance.below(4) {
            0 => Self::Named(names[chance.below(2)]),
            _ => Self::of_tags(chance, 2),
        }
    }

    fn of_tags(chance: &mut Seed, depth: usize) -> Self {
        let key = chance.below(KEYS.len());
        match chance.below(if depth == 0 { 3 } else { 6 }) {
            0 | 1 => Self::Is(key, VALUES[key][chance.below(2)]),
            2 => Self::Has(key),
            3 => Self::Not(Box::new(Self::of_tags(chance, depth - 1))),
            4 => Self::All((0..2).map(|_| Self::of_tags(chance, depth - 1)).collect()),
            _ => Self::Any((0..2).map(|_| Self::of_tags(chance, depth - 1)).collect()),
        }
    }

    /// Whether an event of this name with these tags comes through.
    pub(super) fn passes(&self, name: &str, tags: Tags) -> bool {
        match self {
            Self::Is(key, value) => tags.0[*key] == Some(value),
            Self::Has(key) => tags.0[*key].is_some(),
            Self::Named(wanted) => *wanted == name,
            Self::Not(inner) => !inner.passes(name, tags),
            Self::All(inner) => inner.iter().all(|sieve| sieve.passes(name, tags)),
            Self::Any(inner) => inner.iter().any(|sieve| sieve.passes(name, tags)),
        }
    }

    /// The member of `data` that says it.
    pub(super) fn member(&self) -> String {
        match self {
            Self::Named(name) => format!(r#""events":["{name}"]"#),
            tree => format!(r#""filter":{}"#, tree.node()),
        }
    }

    fn node(&self) -> String {
        let branch = |op: &str, nodes: &[Self]| {
            let nodes: Vec<String> = nodes.iter().map(Self::node).collect();
            format!(r#"{{"op":"{op}","nodes":[{}]}}"#, nodes.join(","))
        };
        match self {
            Self::Is(key, value) => {
                format!(r#"{{"key":"{}","cmp":"eq","val":"{value}"}}"#, KEYS[*key])
            }
            Self::Has(key) => format!(r#"{{"key":"{}","cmp":"ex"}}"#, KEYS[*key]),
            Self::Named(name) => panic!("{name} is no node"),
            Self::Not(inner) => branch("not", std::slice::from_ref(inner)),
            Self::All(inner) => branch("and", inner),
            Self::Any(inner) => branch("or", inner),
        }
    }
}
