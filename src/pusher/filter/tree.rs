//! The JSON of a filter into a tree in its one form.
//!
//! Negation is pushed down to the leaves while reading, so only `and`, `or` and tests are left. A
//! branch takes up children of its own kind, sorts them, drops repetitions and, where one child is
//! left, is that child. What this recurses into is at most [`DEPTH_MAX`] levels deep.

use std::borrow::Cow;

use crate::pusher::json::{self, Kind, Token};
use crate::pusher::rest::{TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX};

use super::{
    DEPTH_MAX, EVENT_NAME_BYTES_MAX, EVENTS_MAX, Error, NODES_MAX, Number, Order, READ_BYTES_MAX,
    VALUES_MAX,
};

/// A part of a filter. The order of the variants is the order of evaluation within a branch: the
/// cheap ones first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node<'a> {
    /// The name of the event is one of these, which are sorted and distinct.
    Event(Vec<Cow<'a, str>>),
    Leaf(Leaf<'a>),
    Branch {
        /// `or`; else `and`.
        any: bool,
        /// Two or more, sorted and distinct, none a branch of the same kind.
        nodes: Vec<Self>,
    },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leaf<'a> {
    pub(super) test: Test<'a>,
    pub(super) key: Cow<'a, str>,
    pub(super) negated: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Test<'a> {
    Present,
    /// Sorted and distinct.
    OneOf(Vec<Cow<'a, str>>),
    StartsWith(Cow<'a, str>),
    EndsWith(Cow<'a, str>),
    Contains(Cow<'a, str>),
    Compares(Order, Number),
}

/// Reads a tree or a compound, and a list of events beside it.
pub(super) fn parse<'a>(
    filter: Option<Token<'a>>,
    events: Option<Token<'a>>,
) -> Result<Option<Node<'a>>, Error> {
    let (inner, tree) = match filter {
        Some(filter) => parts(filter)?,
        None => (None, None),
    };
    let mut all = Vec::new();
    for events in [events, inner].into_iter().flatten() {
        all.extend(event_names(events)?);
    }
    if let Some(tree) = tree {
        all.push(Reader::default().node(tree, 1, false)?);
    }
    Ok((!all.is_empty()).then(|| branch(false, all)))
}

/// The list of events and the tree of a compound; anything else is a tree. What could be both is
/// refused: to read half of it would be to send more than was asked for.
fn parts<'a>(filter: Token<'a>) -> Result<(Option<Token<'a>>, Option<Token<'a>>), Error> {
    let [op, key, events, tags] = fields(filter, &["op", "key", "events", "tags"])?;
    match (op.or(key), events.or(tags)) {
        (None, Some(_)) => Ok((events, tags)),
        (_, None) => Ok((None, Some(filter))),
        (Some(_), Some(_)) => Err(Error::Shape),
    }
}

/// The test of a list of names; an empty list asks for nothing, as Sockudo's clients mean it.
fn event_names<'a>(list: Token<'a>) -> Result<Option<Node<'a>>, Error> {
    let name = |token: Token<'a>| {
        let name = token.decode()?;
        (1..=EVENT_NAME_BYTES_MAX)
            .contains(&name.len())
            .then_some(name)
    };
    let names = set(list, EVENTS_MAX, name).ok_or(Error::Events)?;
    Ok((!names.is_empty()).then_some(Node::Event(names)))
}

/// Counts the nodes that it reads, and their bytes.
#[derive(Default)]
struct Reader {
    nodes: usize,
    bytes: usize,
}

impl Reader {
    /// A node at this level, or its opposite.
    fn node<'a>(
        &mut self,
        token: Token<'a>,
        level: usize,
        negated: bool,
    ) -> Result<Node<'a>, Error> {
        if level > DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Error::TooManyNodes);
        }
        self.bytes += token.raw().len();
        if self.bytes > READ_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let names = ["op", "nodes", "key", "cmp", "val", "vals"];
        let [op, nodes, key, cmp, val, vals] = fields(token, &names)?;
        match (op, key.or(cmp)) {
            (Some(op), _) => self.branch(op, nodes, level, negated),
            (None, Some(_)) => leaf(key, cmp, val, vals, negated).map(Node::Leaf),
            (None, None) => Err(Error::Shape),
        }
    }

    fn branch<'a>(
        &mut self,
        op: Token<'a>,
        nodes: Option<Token<'a>>,
        level: usize,
        negated: bool,
    ) -> Result<Node<'a>, Error> {
        let op = op.decode().ok_or(Error::Op)?;
        let is_not = op == "not";
        // By De Morgan, the opposite of an `and` is the `or` of opposites.
        let (any, negated) = match &*op {
            "and" => (negated, negated),
            "or" => (!negated, negated),
            "not" => (false, !negated),
            _ => return Err(Error::Op),
        };
        let wrong = if is_not {
            Error::NotNodes
        } else {
            Error::Nodes
        };
        let mut read = Vec::new();
        for node in nodes.ok_or(wrong)?.elements().map_err(|_| wrong)? {
            if is_not && read.len() == 1 {
                return Err(wrong);
            }
            read.push(self.node(node.map_err(|_| wrong)?, level + 1, negated)?);
        }
        match read.is_empty() {
            true => Err(wrong),
            false => Ok(branch(any, read)),
        }
    }
}

/// A branch of at least one child in its one form.
fn branch(any: bool, children: Vec<Node<'_>>) -> Node<'_> {
    let mut nodes = Vec::with_capacity(children.len());
    for child in children {
        match child {
            // The children of a branch are none of its own kind, so one level is all.
            Node::Branch {
                any: kind,
                nodes: inner,
            } if kind == any => nodes.extend(inner),
            child => nodes.push(child),
        }
    }
    nodes.sort_unstable();
    nodes.dedup();
    match nodes.len() {
        1 => nodes.swap_remove(0),
        _ => Node::Branch { any, nodes },
    }
}

fn leaf<'a>(
    key: Option<Token<'a>>,
    cmp: Option<Token<'a>>,
    val: Option<Token<'a>>,
    vals: Option<Token<'a>>,
    negated: bool,
) -> Result<Leaf<'a>, Error> {
    let key = key.and_then(|key| key.decode()).ok_or(Error::Key)?;
    if key.is_empty() || key.len() > TAG_KEY_BYTES_MAX {
        return Err(Error::Key);
    }
    let cmp = cmp.and_then(|cmp| cmp.decode()).ok_or(Error::Cmp)?;
    let one = || val.and_then(value).ok_or(Error::Value);
    let some = || {
        vals.and_then(|vals| set(vals, VALUES_MAX, value))
            .filter(|vals| !vals.is_empty())
            .ok_or(Error::Values)
    };
    let number = || one().map(|text| Number::parse(&text));
    let (test, opposite) = match &*cmp {
        "eq" => (Test::OneOf(vec![one()?]), false),
        "neq" => (Test::OneOf(vec![one()?]), true),
        "in" => (Test::OneOf(some()?), false),
        "nin" => (Test::OneOf(some()?), true),
        "ex" => (Test::Present, false),
        "nex" => (Test::Present, true),
        "sw" => (Test::StartsWith(one()?), false),
        "ew" => (Test::EndsWith(one()?), false),
        "ct" => (Test::Contains(one()?), false),
        "gt" => (Test::Compares(Order::Greater, number()?), false),
        "gte" => (Test::Compares(Order::GreaterOrEqual, number()?), false),
        "lt" => (Test::Compares(Order::Less, number()?), false),
        "lte" => (Test::Compares(Order::LessOrEqual, number()?), false),
        _ => return Err(Error::Cmp),
    };
    Ok(Leaf {
        test,
        key,
        negated: negated != opposite,
    })
}

/// A string decoded, a number or boolean as its JSON text.
fn value(token: Token<'_>) -> Option<Cow<'_, str>> {
    let text = match token.kind() {
        Kind::String => token.decode()?,
        Kind::Number | Kind::Bool => Cow::Borrowed(token.raw()),
        Kind::Null | Kind::Object | Kind::Array => return None,
    };
    (text.len() <= TAG_VALUE_BYTES_MAX).then_some(text)
}

/// The elements of an array of at most `max` of them, sorted and distinct.
fn set<'a>(
    list: Token<'a>,
    max: usize,
    read: impl Fn(Token<'a>) -> Option<Cow<'a, str>>,
) -> Option<Vec<Cow<'a, str>>> {
    let mut found = Vec::new();
    for element in list.elements().ok()? {
        if found.len() == max {
            return None;
        }
        found.push(read(element.ok()?)?);
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

/// Members of a node; `null` is absence.
fn fields<'a, const N: usize>(
    node: Token<'a>,
    names: &[&str; N],
) -> Result<[Option<Token<'a>>; N], Error> {
    let mut found = json::fields(node.raw(), names).map_err(|_| Error::NotAnObject)?;
    json::drop_nulls(&mut found);
    Ok(found)
}
