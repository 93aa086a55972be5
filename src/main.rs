//! Reads the configuration, starts one worker per core, waits for a signal, drains, exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    match shardcast::cli::run() {
        Ok(_loaded) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}
