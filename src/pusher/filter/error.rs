//! Why a filter was refused. The texts follow "Invalid filter: " (extensions spec 2.2).

use std::fmt;

use crate::pusher::rest::{TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX};

use super::{DEPTH_MAX, EVENT_NAME_BYTES_MAX, EVENTS_MAX, NODES_MAX, READ_BYTES_MAX, VALUES_MAX};

/// The first fault of a filter. Holds nothing of it, so refusing one allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The app has filtering off: a client that asked for less must not be sent everything.
    Disabled,
    NotAnObject,
    /// An object that is neither leaf nor branch nor compound.
    Shape,
    Op,
    Cmp,
    /// The children of `and` and `or`.
    Nodes,
    /// The children of `not`.
    NotNodes,
    Key,
    Value,
    Values,
    Events,
    TooManyNodes,
    TooDeep,
    /// Long and deep, so that reading it would take much longer than its length.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("tag filtering is not enabled for this app"),
            Self::NotAnObject => f.write_str("a node must be an object"),
            Self::Shape => f.write_str("a node must have 'op' and 'nodes', or 'key' and 'cmp'"),
            Self::Op => f.write_str("'op' must be one of and, or, not"),
            Self::Cmp => f.write_str(
                "'cmp' must be one of eq, neq, in, nin, ex, nex, sw, ew, ct, gt, gte, lt, lte",
            ),
            Self::Nodes => f.write_str("'nodes' must be an array of at least one node"),
            Self::NotNodes => f.write_str("'nodes' of 'not' must be an array of exactly one node"),
            Self::Key => write!(
                f,
                "'key' must be a string of 1 to {TAG_KEY_BYTES_MAX} bytes"
            ),
            Self::Value => write!(
                f,
                "'val' must be a string, number or boolean of at most {TAG_VALUE_BYTES_MAX} bytes"
            ),
            Self::Values => write!(
                f,
                "'vals' must be an array of 1 to {VALUES_MAX} strings, numbers or booleans of at \
                 most {TAG_VALUE_BYTES_MAX} bytes"
            ),
            Self::Events => write!(
                f,
                "'events' must be an array of at most {EVENTS_MAX} strings of 1 to \
                 {EVENT_NAME_BYTES_MAX} bytes"
            ),
            Self::TooManyNodes => write!(f, "it must not have more than {NODES_MAX} nodes"),
            Self::TooDeep => write!(f, "it must not have more than {DEPTH_MAX} levels of nodes"),
            Self::TooLong => write!(
                f,
                "its nodes must not have more than {READ_BYTES_MAX} bytes, those within a node \
                 counted again"
            ),
        }
    }
}
