//! Reads the configuration, starts one worker per core, waits for a signal, drains, exits.

fn main() {}
