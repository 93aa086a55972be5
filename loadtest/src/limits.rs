//! The descriptor limit, and how many processes a number of connections takes because of it.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that are no connection of the crowd: probes, publishers, pipes.
pub(crate) const RESERVED: u64 = 128;

/// Raises this process's limit as far as it may; the limit then.
pub(crate) fn raise() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(limit.current.unwrap_or(u64::MAX))
}

/// Processes that `connections` take if each may have `limit` descriptors.
pub(crate) fn processes(connections: u64, limit: u64) -> u64 {
    let each = limit.saturating_sub(RESERVED).max(1);
    connections.div_ceil(each).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_processes_as_the_limit_asks_for() {
        for (connections, limit, expected) in [
            (0, 1024, 1),
            (896, 1024, 1),
            (897, 1024, 2),
            (1_000_000, 20_000, 51),
            (10, 0, 10),
            (1_000_000, u64::MAX, 1),
        ] {
            assert_eq!(
                processes(connections, limit),
                expected,
                "{connections} in {limit}"
            );
        }
    }
}
