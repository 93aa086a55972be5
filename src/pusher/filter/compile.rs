//! A tree laid out flat: its tests in the order of evaluation, each with its two ways on.
//!
//! Equal trees give equal filters, because nothing but the tree decides the layout.

use std::borrow::Cow;

use super::tree::{self, Node};
use super::{FALSE, Filter, Span, Step, TRUE, Test, Values, tags};

pub(super) fn compile(tree: &Node<'_>) -> Filter {
    let mut layout = Layout::default();
    layout.node(tree, TRUE, FALSE);
    Filter {
        text: layout.text.into_boxed_str(),
        values: layout.values.into_boxed_slice(),
        steps: layout.steps.into_boxed_slice(),
    }
}

/// Offsets fit their 32 bits: the strings are those of one message.
#[derive(Default)]
struct Layout {
    text: String,
    values: Vec<Span>,
    steps: Vec<Step>,
}

impl Layout {
    /// Appends the tests of a node that goes on to `if_true` or `if_false`.
    fn node(&mut self, node: &Node<'_>, if_true: u8, if_false: u8) {
        match node {
            Node::Event(names) => {
                let test = Test::Event(self.values(names));
                self.step("", test, false, if_true, if_false);
            }
            Node::Leaf(leaf) => {
                let test = self.test(&leaf.test);
                self.step(&leaf.key, test, leaf.negated, if_true, if_false);
            }
            Node::Branch { any, nodes } => {
                let mut next = self.steps.len();
                for (index, node) in nodes.iter().enumerate() {
                    next += tests(node);
                    // Below TRUE, as the number of tests is.
                    let next = next as u8;
                    match (index + 1 == nodes.len(), any) {
                        (true, _) => self.node(node, if_true, if_false),
                        (false, true) => self.node(node, if_true, next),
                        (false, false) => self.node(node, next, if_false),
                    }
                }
            }
        }
    }

    fn step(&mut self, key: &str, test: Test, negated: bool, if_true: u8, if_false: u8) {
        let step = Step {
            key: self.span(key),
            mark: tags::mark(key),
            test,
            if_true,
            if_false,
            negated,
        };
        self.steps.push(step);
    }

    fn test(&mut self, test: &tree::Test<'_>) -> Test {
        match test {
            tree::Test::Present => Test::Present,
            tree::Test::OneOf(values) => match &values[..] {
                [value] => Test::Equals(self.span(value)),
                values => Test::OneOf(self.values(values)),
            },
            tree::Test::StartsWith(text) => Test::StartsWith(self.span(text)),
            tree::Test::EndsWith(text) => Test::EndsWith(self.span(text)),
            tree::Test::Contains(text) => Test::Contains(self.span(text)),
            tree::Test::Compares(order, number) => Test::Compares(*order, *number),
        }
    }

    fn values(&mut self, texts: &[Cow<'_, str>]) -> Values {
        let start = self.values.len() as u32;
        for text in texts {
            let span = self.span(text);
            self.values.push(span);
        }
        Values {
            start,
            end: self.values.len() as u32,
        }
    }

    fn span(&mut self, text: &str) -> Span {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Span {
            start,
            end: self.text.len() as u32,
        }
    }
}

fn tests(node: &Node<'_>) -> usize {
    match node {
        Node::Event(_) | Node::Leaf(_) => 1,
        Node::Branch { nodes, .. } => nodes.iter().map(tests).sum(),
    }
}
